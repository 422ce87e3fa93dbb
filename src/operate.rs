//! What operators have said of servers, beside what the configuration says; and whether a pool can do without one.

use crate::api::status::{OperatorOverride, ReportedState};
use crate::config::plan::{self, Name, Plan, WhenAllUnhealthy};
use crate::pool::{HealthState, Membership, Operator, Pool, Server};
use crate::sticky::Secret;
use crate::units::Weight;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Pool and name. Another address under the name is another server to probes and counts, but the operator's word is about
/// the name.
type OverrideKey = (String, String);

/// What operators have said, by server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides(BTreeMap<OverrideKey, ServerOverride>);

/// What operators have said of one server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerOverride {
    /// `drain` or `maint`; none is ready.
    pub state: Option<OperatorOverride>,
    pub weight: Option<Weight>,
    /// Since when the pool's sources do not name it.
    absent_since: Option<OffsetDateTime>,
}

/// How long what was said of a server is remembered that no source names any more: a name that is gone for an hour must
/// not bring back a server that is in maintenance.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

impl ServerOverride {
    /// Since when nobody names the server that it is about, if nobody does.
    pub fn absent_since(&self) -> Option<OffsetDateTime> {
        self.absent_since
    }

    fn says_nothing(&self) -> bool {
        self.state.is_none() && self.weight.is_none()
    }

    /// Takes note of whether the server is there; false once it has not been for too long.
    fn is_remembered(&mut self, is_there: bool, now: OffsetDateTime) -> bool {
        if is_there {
            self.absent_since = None;
            return true;
        }
        now - *self.absent_since.get_or_insert(now) < REMEMBERED
    }
}

/// One server's line in the state file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OverrideLine {
    pool: String,
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<OperatorOverride>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    absent_since: Option<OffsetDateTime>,
}

/// What the state file holds.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    servers: Vec<OverrideLine>,
    /// Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sticky_key: Option<String>,
}

/// The only format so far. (Files of earlier programs have addresses as well, which say nothing.)
const VERSION: u32 = 1;

impl Overrides {
    pub fn of(&self, server: &Server) -> Option<&ServerOverride> {
        self.0.get(&identity(server))
    }

    /// The state that operators want of a server.
    pub fn operator(&self, server: &Server) -> Operator {
        match self.of(server).and_then(|word| word.state.as_ref()).map(|said| said.state) {
            Some(ReportedState::Drain) => Operator::Drain,
            Some(ReportedState::Maint) => Operator::Maint,
            _ => Operator::Ready,
        }
    }

    pub fn set_operator(&mut self, server: &Server, operator: Operator, actor: &str, at: OffsetDateTime) {
        let said = |state| Some(OperatorOverride { state, actor: actor.to_owned(), at });
        let state = match operator {
            Operator::Ready => None,
            Operator::Drain => said(ReportedState::Drain),
            Operator::Maint => said(ReportedState::Maint),
        };
        self.change(server, |word| word.state = state);
    }

    /// `None` gives the weight back to the configuration.
    pub fn set_weight(&mut self, server: &Server, weight: Option<Weight>) {
        self.change(server, |word| word.weight = weight);
    }

    /// What is said of servers of a pool that are not among those that `is_there` knows.
    pub fn of_absent(&self, pool: &str, is_there: impl Fn(&str) -> bool) -> Vec<(&str, &ServerOverride)> {
        let absent = self.of_pool(pool).filter(|(server, _)| !is_there(server));
        absent.collect()
    }

    /// By the servers' names.
    fn of_pool(&self, pool: &str) -> impl Iterator<Item = (&str, &ServerOverride)> {
        let of_pool = self.0.range((pool.to_owned(), String::new())..);
        let of_pool = of_pool.take_while(move |((name, _), _)| *name == pool);
        of_pool.map(|((_, server), word)| (&**server, word))
    }

    /// Forgets one thing that was said of a server, which need not be there. `None` if it was not said.
    pub fn take_back<T>(
        &mut self,
        pool: &str,
        server: &str,
        what: impl FnOnce(&mut ServerOverride) -> Option<T>,
    ) -> Option<T> {
        let identity = (pool.to_owned(), server.to_owned());
        let word = self.0.get_mut(&identity)?;
        let said = what(word);
        if word.says_nothing() {
            self.0.remove(&identity);
        }
        said
    }

    fn change(&mut self, server: &Server, change: impl FnOnce(&mut ServerOverride)) {
        let identity = identity(server);
        let word = self.0.entry(identity.clone()).or_default();
        change(word);
        if word.says_nothing() {
            self.0.remove(&identity);
        }
    }

    /// Puts operators' weights in the place of the plan's.
    pub fn weigh(&self, plan: &mut Plan) {
        for pool in &mut plan.pools {
            let weights = self.weights_in(&pool.name);
            let of = |server: &plan::ServerPlan| weights.get(&*server.name).copied().unwrap_or(server.weight);
            if pool.servers.iter().any(|server| server.weight != of(server)) {
                self.weigh_pool(Arc::make_mut(pool));
            }
        }
    }

    /// The same in one pool.
    pub fn weigh_pool(&self, pool: &mut plan::PoolPlan) {
        let weights = self.weights_in(&pool.name);
        for server in &mut pool.servers {
            server.weight = weights.get(&*server.name).copied().unwrap_or(server.weight);
        }
    }

    /// By the servers' names.
    fn weights_in(&self, pool: &str) -> HashMap<&str, Weight> {
        self.of_pool(pool).filter_map(|(server, word)| Some((server, word.weight?))).collect()
    }

    /// What is left of it with this plan, and what goes with its servers. Servers that sources may name again are
    /// remembered for a while.
    pub fn kept_by(&self, plan: &Plan, now: OffsetDateTime) -> (Self, Self) {
        let pools: HashMap<&str, &plan::PoolPlan> =
            plan.pools.iter().map(|pool| (&*pool.name, &**pool)).collect();
        let (mut kept, mut gone) = (Self::default(), Self::default());
        for (identity, word) in &self.0 {
            let (pool, server) = identity;
            let mut word = word.clone();
            let is_kept = pools.get(&**pool).is_some_and(|pool| {
                let is_there = pool.servers.iter().any(|planned| *planned.name == **server);
                let may_return = !pool.sources.is_empty();
                (is_there || may_return) && word.is_remembered(is_there, now)
            });
            let into = if is_kept { &mut kept } else { &mut gone };
            into.0.insert(identity.clone(), word);
        }
        (kept, gone)
    }

    /// The same of one pool whose servers have changed; `None` if nothing is said of any.
    pub fn noting_presence(&self, pool: &plan::PoolPlan, now: OffsetDateTime) -> Option<Self> {
        let own: Vec<&OverrideKey> = self.0.keys().filter(|(name, _)| **name == *pool.name).collect();
        if own.is_empty() {
            return None;
        }
        let there: HashSet<&str> = pool.servers.iter().map(|server| &*server.name).collect();
        let mut noted = self.clone();
        noted.0.retain(|(name, server), word| {
            **name != *pool.name || word.is_remembered(there.contains(&**server), now)
        });
        (noted != *self).then_some(noted)
    }

    /// The servers that it is about, as `pool/server`.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().map(|(pool, server)| format!("{pool}/{server}")).collect()
    }

    /// These, and of servers that they say nothing of what `others` say.
    pub fn or(&self, others: &Self) -> Self {
        let mut all = others.0.clone();
        all.extend(self.0.clone());
        Self(all)
    }

    /// As the state file has it, with the key beside.
    pub fn to_json(&self, sticky_key: Option<&Secret>) -> String {
        let line = |((pool, server), word): (&OverrideKey, &ServerOverride)| OverrideLine {
            pool: pool.clone(),
            server: server.clone(),
            said: word.state.clone(),
            weight: word.weight.map(Weight::get),
            absent_since: word.absent_since,
        };
        let servers = self.0.iter().map(line).collect();
        let sticky_key = sticky_key.map(|key| key.text().to_owned());
        let file = File { version: VERSION, servers, sticky_key };
        serde_json::to_string_pretty(&file).map(|text| text + "\n").unwrap_or_default()
    }

    fn of_lines(lines: Vec<OverrideLine>) -> Result<Self, String> {
        let mut overrides = BTreeMap::new();
        for line in lines {
            let weight = match line.weight {
                None => None,
                Some(weight) => Some(Weight::new(weight.into()).ok_or_else(|| {
                    format!("{}/{}: weight {weight} is out of range", line.pool, line.server)
                })?),
            };
            let word = ServerOverride { state: line.said, weight, absent_since: line.absent_since };
            if !word.says_nothing() {
                overrides.insert((line.pool, line.server), word);
            }
        }
        Ok(Self(overrides))
    }
}

/// What a process leaves in its state file.
#[derive(Debug, Default)]
pub struct KeptState {
    pub overrides: Overrides,
    /// What sticky cookies are signed by.
    pub sticky_key: Option<Secret>,
}

impl KeptState {
    /// Reads a state file.
    ///
    /// # Errors
    /// What is wrong with it; a damaged file is nobody's word.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if file.version != VERSION {
            return Err(format!("it has version {}, and this program reads version {VERSION}", file.version));
        }
        let key = |text: &String| Secret::new(text).ok_or("sticky_key is no key");
        let sticky_key = file.sticky_key.as_ref().map(key).transpose()?;
        Ok(Self { overrides: Overrides::of_lines(file.servers)?, sticky_key })
    }
}

fn identity(server: &Server) -> OverrideKey {
    (server.pool().to_string(), server.name().to_string())
}

/// Why a pool cannot do without a server now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotSpare {
    #[error("{server} is the last server of pool {pool} that takes requests; nothing would be left")]
    Last { pool: Name, server: Name },
    #[error("{server} is the last healthy server of pool {pool}; without it the pool would {then}")]
    LastHealthy { pool: Name, server: Name, then: &'static str },
    #[error(
        "pool {pool} has {in_flight} in flight now, and without {server} there is room for {room} by max_connections \
         (healthy servers left: {servers})"
    )]
    TooLittleRoom { pool: Name, server: Name, in_flight: u64, servers: usize, room: u64 },
}

/// Whether the rest of a pool can carry what the pool carries now.
pub fn can_spare(pool: &Pool, server: &Server) -> Result<(), CannotSpare> {
    let is_ready = |member: &crate::pool::Member| {
        let state = member.server.state();
        !member.drain && state.admin == Operator::Ready && state.membership == Membership::Present
    };
    let is_healthy = |member: &crate::pool::Member| {
        member.server.state().health == HealthState::Up && !member.server.is_ejected()
    };
    let others =
        || pool.members.iter().filter(|member| member.server.id() != server.id() && is_ready(member));
    let Some(own) = pool.members.iter().find(|member| member.server.id() == server.id()) else {
        return Ok(());
    };
    let (name, pool_name) = (server.name().clone(), pool.name.clone());
    if !is_ready(own) {
        return Ok(());
    }
    if others().next().is_none() {
        return Err(CannotSpare::Last { pool: pool_name, server: name });
    }
    if !is_healthy(own) {
        return Ok(());
    }
    let healthy: Vec<_> = others().filter(|member| is_healthy(member)).collect();
    if healthy.is_empty() {
        let then = match pool.plan.when_all_unhealthy {
            WhenAllUnhealthy::UseAll => "send requests to unhealthy ones (when_all_unhealthy: use_all)",
            WhenAllUnhealthy::Refuse => "answer 503 (when_all_unhealthy: refuse)",
        };
        return Err(CannotSpare::LastHealthy { pool: pool_name, server: name, then });
    }
    let in_flight = pool.members.iter().map(|member| u64::from(member.server.in_flight())).sum();
    let room: Option<u64> =
        healthy.iter().map(|member| member.max_connections.map(|most| u64::from(most.get()))).sum();
    match room {
        Some(room) if in_flight > room => {
            let servers = healthy.len();
            Err(CannotSpare::TooLittleRoom { pool: pool_name, server: name, in_flight, servers, room })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Balance;
    use crate::pool::sample::{live, member, pool, set_down};
    use crate::pool::{Query, Tried};
    use std::num::NonZeroU32;

    fn at() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_000_000).unwrap()
    }

    #[test]
    fn the_state_file_brings_back_what_was_said() {
        let pool = live(pool(Balance::RoundRobin, "a b c"));
        let mut overrides = Overrides::default();
        overrides.set_operator(member(&pool, "a"), Operator::Drain, "alice", at());
        overrides.set_operator(member(&pool, "b"), Operator::Maint, "bob", at());
        overrides.set_weight(member(&pool, "b"), Weight::new(7));
        overrides.set_operator(member(&pool, "c"), Operator::Maint, "bob", at());
        overrides.set_operator(member(&pool, "c"), Operator::Ready, "bob", at());
        let back = read(&overrides.to_json(None)).unwrap();
        assert_eq!(back, overrides);
        let states = ["a", "b", "c"].map(|name| back.operator(member(&pool, name)));
        assert_eq!(states, [Operator::Drain, Operator::Maint, Operator::Ready]);
        assert_eq!(back.of(member(&pool, "c")), None, "ready is nothing to remember");
    }

    fn read(text: &str) -> Result<Overrides, String> {
        KeptState::from_json(text).map(|kept| kept.overrides)
    }

    #[test]
    fn the_key_of_cookies_is_kept_beside_what_operators_have_said() {
        let key = Secret::new(&"k".repeat(32)).expect("a key");
        let text = Overrides::default().to_json(Some(&key));
        let kept = KeptState::from_json(&text).expect("it is whole");
        assert_eq!(kept.sticky_key.as_ref().map(Secret::text), Some(key.text()));
        assert!(!Overrides::default().to_json(None).contains("sticky_key"));
        assert!(KeptState::from_json(&text.replace("kkk", "k k")).is_err());
    }

    #[test]
    fn a_damaged_state_file_is_refused() {
        for text in ["", "{", "[]", r#"{"version":2,"servers":[]}"#, r#"{"version":1}"#] {
            assert!(read(text).is_err(), "{text}");
        }
        let heavy =
            r#"{"version":1,"servers":[{"pool":"p","server":"s","address":"1.2.3.4:5","weight":999}]}"#;
        assert_eq!(read(heavy).unwrap_err(), "p/s: weight 999 is out of range");
    }

    #[test]
    fn what_was_said_of_a_server_ends_with_it() {
        let before = live(pool(Balance::RoundRobin, "a b"));
        let mut overrides = Overrides::default();
        overrides.set_operator(member(&before, "a"), Operator::Drain, "alice", at());
        overrides.set_weight(member(&before, "b"), Weight::new(7));
        let mut plan = crate::snapshot::Snapshot::empty().plan.as_ref().clone();
        plan.pools = vec![pool(Balance::RoundRobin, "b c").into()];
        let (kept, gone) = overrides.kept_by(&plan, at());
        assert_eq!(gone.names(), [format!("{}/a", before.name)]);
        assert_eq!(kept.or(&gone), overrides);
        kept.weigh(&mut plan);
        let weights: Vec<_> = plan.pools[0].servers.iter().map(|server| server.weight.get()).collect();
        assert_eq!(weights[0], 7);
        assert_ne!(weights[1], 7);
    }

    #[test]
    fn what_was_said_of_a_server_survives_a_day_without_its_source_naming_it() {
        let before = live(pool(Balance::RoundRobin, "a b"));
        let mut overrides = Overrides::default();
        overrides.set_operator(member(&before, "a"), Operator::Maint, "alice", at());
        let source = plan::SourcePlan {
            kind: plan::SourceKind::DnsSrv("app.internal".into()),
            rules: plan::DiscoveryRules {
                when_empty: plan::WhenEmpty::Keep,
                keep_stale: None,
                leave_after: Duration::ZERO,
                large_change: None,
                max_servers: 9,
            },
            start_wait: Duration::ZERO,
            template: plan::ServerTemplate::default(),
            is_entry: false,
        };
        let with = |servers| plan::PoolPlan {
            sources: vec![Arc::new(source.clone())],
            ..pool(Balance::RoundRobin, servers)
        };
        let hours = |hours: u64| at() + Duration::from_secs(hours * 3600);
        let gone = overrides.noting_presence(&with("b"), hours(1)).expect("it is noted");
        assert_eq!(gone.noting_presence(&with("b"), hours(20)), None, "nothing new");
        let stored = read(&gone.to_json(None)).unwrap();
        assert_eq!(stored, gone);
        let reloaded = |at, servers| {
            let mut plan = crate::snapshot::Snapshot::empty().plan.as_ref().clone();
            plan.pools = vec![with(servers).into()];
            stored.kept_by(&plan, at).0.operator(member(&before, "a"))
        };
        assert_eq!(reloaded(hours(24), "b"), Operator::Maint);
        assert_eq!(reloaded(hours(26), "b"), Operator::Ready);
        assert_eq!(reloaded(hours(26), "a b"), Operator::Maint, "it is there again");
        let back = gone.noting_presence(&with("a b"), hours(3)).expect("it is noted");
        assert_eq!(back, overrides);
        assert_eq!(gone.noting_presence(&with("b"), hours(26)), Some(Overrides::default()));
    }

    #[test]
    fn the_last_one_that_works_cannot_be_spared() {
        let pool = live(pool(Balance::RoundRobin, "a b"));
        let (a, b) = (member(&pool, "a"), member(&pool, "b"));
        assert_eq!(can_spare(&pool, a), Ok(()));
        set_down(&pool, "b");
        assert!(matches!(can_spare(&pool, a), Err(CannotSpare::LastHealthy { .. })));
        assert_eq!(can_spare(&pool, b), Ok(()), "a server that is down is no loss");
        b.set_operator(Operator::Maint);
        assert!(matches!(can_spare(&pool, a), Err(CannotSpare::Last { .. })));
        assert_eq!(can_spare(&pool, b), Ok(()), "it takes nothing already");
    }

    #[test]
    fn a_server_cannot_be_spared_if_the_rest_has_no_room_for_what_is_in_flight() {
        let mut plan = pool(Balance::RoundRobin, "a b c");
        for server in &mut plan.servers {
            server.max_connections = NonZeroU32::new(2);
        }
        let pool = live(plan.clone());
        let query = Query { key: None, entropy: 1, ..Query::default() };
        let leases: Vec<_> = (0..5).map(|_| pool.pick(&query, &mut Tried::new()).unwrap()).collect();
        let refused = can_spare(&pool, member(&pool, "a")).unwrap_err();
        assert_eq!(
            refused,
            CannotSpare::TooLittleRoom {
                pool: pool.name.clone(),
                server: "a".into(),
                in_flight: 5,
                servers: 2,
                room: 4
            }
        );
        drop(leases);
        assert_eq!(can_spare(&pool, member(&pool, "a")), Ok(()));
        plan.servers[1].max_connections = None;
        let pool = live(plan);
        let _leases: Vec<_> = (0..9).map(|_| pool.pick(&query, &mut Tried::new()).unwrap()).collect();
        assert_eq!(can_spare(&pool, member(&pool, "a")), Ok(()), "b takes any number");
    }
}
