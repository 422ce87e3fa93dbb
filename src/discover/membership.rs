//! What an answer does to a pool's servers: whoever is named joins at once; whoever is missing goes only once that is
//! certain, for an answer may be short, empty or wrong, and the server it leaves out may work.

use super::found::FoundServer;
use crate::config::plan::{DiscoveryRules, WhenEmpty};
use std::cmp::Ordering;
use std::time::{Duration, Instant};

/// How long after the first answer that takes many servers away another one must say the same.
const LARGE_CHANGE_AFTER: Duration = Duration::from_secs(5);

/// What a source said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceReply {
    /// The full set; empty if the source knows that there is none.
    Servers(Vec<FoundServer>),
    /// Nothing that can be relied on.
    Failed,
}

/// Why the set in force is not what the source says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Held {
    /// It says nothing: the last set stays.
    Stale,
    /// It says that there are none.
    Empty,
    /// It takes away so many that another answer must say so too.
    LargeChange,
    /// It names more than `max_servers`.
    TooMany,
}

impl Held {
    pub const ALL: [Self; 4] = [Self::Stale, Self::Empty, Self::LargeChange, Self::TooMany];

    /// As metrics and `status` have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Empty => "empty",
            Self::LargeChange => "large_change",
            Self::TooMany => "too_many",
        }
    }
}

/// What came of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The set to put in force, if it is another one.
    pub set: Option<Vec<FoundServer>>,
    pub held: Option<Held>,
    /// After what time another reply could let servers go.
    pub ask_within: Option<Duration>,
}

/// Where a set comes from that is in force before its source has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdoptedFrom {
    /// The same source said it earlier.
    SameSource,
    /// Another source did, which the configuration no longer has: the first answer takes its place.
    OtherSource,
}

/// The set in force of one source, and what speaks against it.
#[derive(Clone, Debug)]
pub struct Membership {
    rules: DiscoveryRules,
    /// Sorted by name.
    members: Vec<KnownMember>,
    /// When the source last said something that could be used; until then when it was first asked.
    answered: Instant,
    /// The last answer has left many out.
    is_large: bool,
    is_of_other_source: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KnownMember {
    server: FoundServer,
    absence: Option<Absence>,
}

/// Answers in a row in which a server is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Absence {
    since: Instant,
    answers: u32,
}

impl Membership {
    pub fn new(rules: DiscoveryRules, now: Instant) -> Self {
        Self { rules, members: Vec::new(), answered: now, is_large: false, is_of_other_source: false }
    }

    /// Begins with a set that is in force already; `age` is how long ago its source said it.
    pub fn adopt(&mut self, mut set: Vec<FoundServer>, from: AdoptedFrom, age: Duration, now: Instant) {
        sort(&mut set);
        self.members = set.into_iter().map(KnownMember::from).collect();
        self.answered = now.checked_sub(age).unwrap_or(now);
        self.is_of_other_source = from == AdoptedFrom::OtherSource;
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// When the source last said something that could be used; before that, when what it began with was said.
    pub fn answered(&self) -> Instant {
        self.answered
    }

    /// Whether the set is still what another source has named.
    pub fn from(&self) -> AdoptedFrom {
        match self.is_of_other_source {
            true => AdoptedFrom::OtherSource,
            false => AdoptedFrom::SameSource,
        }
    }

    /// Sorted by name.
    pub fn servers(&self) -> impl Iterator<Item = &FoundServer> {
        self.members.iter().map(|member| &member.server)
    }

    /// Each server, and whether the last answer left it out. Sorted by name.
    pub fn absences(&self) -> impl Iterator<Item = (&FoundServer, bool)> {
        self.members.iter().map(|member| (&member.server, member.absence.is_some()))
    }

    /// Servers that the last answer did not name and that are not yet let go.
    pub fn n_missing(&self) -> usize {
        self.members.iter().filter(|member| member.absence.is_some()).count()
    }

    /// Takes a reply into account.
    pub fn observe(&mut self, reply: SourceReply, now: Instant) -> Verdict {
        let mut named = match reply {
            SourceReply::Failed => return self.go_without(now),
            SourceReply::Servers(named) => named,
        };
        if named.len() > self.rules.max_servers as usize {
            // It is there, and has not said that anybody is gone.
            self.answered = now;
            return Verdict { held: Some(Held::TooMany), ..Verdict::default() };
        }
        self.answered = now;
        if named.is_empty() && self.rules.when_empty == WhenEmpty::Keep {
            let held = (!self.members.is_empty()).then_some(Held::Empty);
            return Verdict { held, ..Verdict::default() };
        }
        sort(&mut named);
        let is_first_of_source = std::mem::take(&mut self.is_of_other_source);
        if !is_first_of_source && self.says_the_same(&named) {
            self.is_large = false;
            return Verdict::default();
        }
        let before = std::mem::take(&mut self.members);
        let mut base = before.clone();
        if is_first_of_source {
            base.retain(|member| named.iter().any(|server| server.name == member.server.name));
        }
        let mut next = merge(named, &base, now);
        let held = self.let_go(&mut next, base.len(), now);
        let has_changed = next.len() != before.len()
            || next.iter().zip(&before).any(|(next, before)| next.server != before.server);
        self.members = next;
        Verdict {
            set: has_changed.then(|| self.servers().cloned().collect()),
            held,
            ask_within: self.ask_within(now),
        }
    }

    /// The same of a reply that a part of the source has said nothing to. Whom another source had named may be in that part, and
    /// stays until a whole one.
    pub fn observe_part(&mut self, reply: SourceReply, now: Instant) -> Verdict {
        let SourceReply::Servers(mut named) = reply else { return self.observe(reply, now) };
        if self.is_of_other_source {
            let others = self.servers().filter(|known| named.iter().all(|server| server.name != known.name));
            named.extend(others.cloned().collect::<Vec<_>>());
        }
        let is_of_other_source = self.is_of_other_source;
        let verdict = self.observe(SourceReply::Servers(named), now);
        self.is_of_other_source = is_of_other_source;
        verdict
    }

    fn says_the_same(&self, named: &[FoundServer]) -> bool {
        self.members.len() == named.len()
            && self
                .members
                .iter()
                .zip(named)
                .all(|(member, named)| member.absence.is_none() && member.server == *named)
    }

    /// Removes who has been missing for long enough; says what holds that back. Where many are missing together, each must have
    /// been for a while: another answer has left it out as well.
    fn let_go(&mut self, members: &mut Vec<KnownMember>, n_before: usize, now: Instant) -> Option<Held> {
        let n_missing = members.iter().filter(|member| member.absence.is_some()).count();
        let most = self.rules.large_change.map_or(u64::MAX, |share| share.of(n_before as u64));
        self.is_large = n_missing as u64 > most;
        let is_certain = |absence: Absence| absence.is_certain(self.rules.leave_after, now);
        let is_held = |absence: Absence| self.is_large && !absence.is_confirmed(LARGE_CHANGE_AFTER, now);
        let is_due = |member: &KnownMember| member.absence.is_some_and(is_certain);
        let holds = |member: &KnownMember| is_due(member) && member.absence.is_some_and(is_held);
        let held = members.iter().any(holds).then_some(Held::LargeChange);
        members.retain(|member| !is_due(member) || holds(member));
        held
    }

    fn ask_within(&self, now: Instant) -> Option<Duration> {
        // Before a large change may be made, asking is in vain.
        let least = if self.is_large { LARGE_CHANGE_AFTER } else { Duration::ZERO };
        let certain_at =
            |member: &KnownMember| Some(member.absence?.since + self.rules.leave_after.max(least));
        let at = self.members.iter().filter_map(certain_at).min()?;
        Some(at.saturating_duration_since(now))
    }

    /// What is to be said of an answer that names more servers than may be.
    pub fn too_many(&self, summary: &str) -> String {
        format!(
            "{summary}: more than `max_servers: {}` allows, and nothing of it is used",
            self.rules.max_servers
        )
    }

    /// The source says nothing of use.
    fn go_without(&mut self, now: Instant) -> Verdict {
        if self.members.is_empty() {
            return Verdict::default();
        }
        let left = self.rules.keep_stale.map(|keep| keep.saturating_sub(now.duration_since(self.answered)));
        if left == Some(Duration::ZERO) && self.rules.when_empty == WhenEmpty::Remove {
            self.members.clear();
            self.is_large = false;
            return Verdict { set: Some(Vec::new()), ..Verdict::default() };
        }
        let ask_within = left.filter(|left| !left.is_zero());
        Verdict { set: None, held: Some(Held::Stale), ask_within }
    }
}

impl From<FoundServer> for KnownMember {
    fn from(server: FoundServer) -> Self {
        Self { server, absence: None }
    }
}

impl KnownMember {
    fn missing(&self, now: Instant) -> Self {
        let absence = self.absence.unwrap_or(Absence { since: now, answers: 0 });
        let absence = Absence { answers: absence.answers.saturating_add(1), ..absence };
        Self { server: self.server.clone(), absence: Some(absence) }
    }
}

impl Absence {
    /// One answer can be wrong, or older than the one before it.
    fn is_certain(self, leave_after: Duration, now: Instant) -> bool {
        leave_after.is_zero() || self.is_confirmed(leave_after, now)
    }

    /// Whether another answer has said it so long after the first.
    fn is_confirmed(self, after: Duration, now: Instant) -> bool {
        self.answers >= 2 && now.duration_since(self.since) >= after
    }
}

/// Both are sorted by name.
fn merge(named: Vec<FoundServer>, before: &[KnownMember], now: Instant) -> Vec<KnownMember> {
    let mut next = Vec::with_capacity(named.len().max(before.len()));
    let mut named = named.into_iter().peekable();
    for member in before {
        while let Some(joins) = named.next_if(|named| named.name < member.server.name) {
            next.push(KnownMember::from(joins));
        }
        match named.next_if(|named| named.name == member.server.name) {
            Some(server) => next.push(KnownMember::from(server)),
            None => next.push(member.missing(now)),
        }
    }
    next.extend(named.map(KnownMember::from));
    next
}

/// By name; of several with one name the first counts.
fn sort(servers: &mut Vec<FoundServer>) {
    let by_name = |one: &FoundServer, other: &FoundServer| -> Ordering { one.name.cmp(&other.name) };
    if !servers.is_sorted_by(|one, other| by_name(one, other) == Ordering::Less) {
        servers.sort_by(by_name);
        servers.dedup_by(|one, other| one.name == other.name);
    }
}

#[cfg(test)]
mod tests;
