//! A pool: servers that serve the same thing, and the one way to get a lease on one of them.

pub mod bound;
pub mod choose;
mod deadline;
pub mod early_probe;
pub mod explain;
pub mod health;
pub mod learned;
mod lease;
mod likelihood;
mod meanwhile;
mod member;
pub mod outcome;
pub mod outlier;
pub mod queue;
mod ramp;
pub mod retry;
#[cfg(test)]
pub(crate) mod sample;
pub mod server;
mod silence;
pub mod slot;
pub mod slot_table;
mod slow_start;
pub mod source;
pub mod stats;
pub mod success;
pub mod success_watch;
pub mod tried;
pub mod tries;
mod uploads;
pub mod wilson;

pub use bound::{Bound, BoundPick};
pub use choose::{Candidates, Query, Reasons, Selector};
pub use health::{Health, HealthState, HealthThresholds, Transition};
pub use lease::{InFlightElsewhere, Lease};
pub use member::Member;
pub use outcome::{Outcome, TryResult, TryVerdict};
pub use outlier::{OutlierSignals, OutlierWatch};
pub use queue::{Queue, QueueResult, Refusal};
pub use retry::RetryBudget;
pub use server::{Membership, Operator, Server, ServerState};
pub use source::{JudgedBy, Source};
pub use stats::{Histogram, PoolStats, RetryReason, StickyResult};
pub use tried::Tried;
pub use tries::{Attempt, NextTry, Patience, Tries};
pub use uploads::{ComingUpload, Uploads};

use crate::config::plan::{self, Name};
use crate::origination::SharedOrigination;
use crate::sticky::StickyTable;
use outlier::{TrialResult, Watched};
use slot::{Flags, SlotBlock};
use slot_table::SlotTable;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

/// The atomics of `slot`, named in one place so that a test can put loom's in theirs.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

/// Why no server can take the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoServer {
    #[error("every ready server is down, and the pool refuses then")]
    AllUnhealthy,
    /// Some are new, and may be up any moment.
    #[error("no probe has passed yet, and the pool refuses then")]
    Unproven,
    #[error("every server is at its max_connections")]
    AllFull,
    #[error("every server was tried")]
    AllTried,
    #[error("every server is drained, in maintenance or leaving")]
    NoneReady,
    #[error("the pool has no server")]
    NoServers,
}

/// How many servers are in which state; each is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub up: usize,
    pub down: usize,
    pub probing: usize,
    pub ejected: usize,
    /// By the configuration or the operator, whatever the health.
    pub drain: usize,
    pub maint: usize,
}

/// Servers that serve the same thing, in one snapshot.
#[derive(Debug)]
pub struct Pool {
    pub name: Name,
    /// The settings: timeouts, retries, health and the rest.
    pub plan: plan::PoolPlan,
    /// In the order of the plan.
    pub members: Box<[Member]>,
    pub stats: Arc<PoolStats>,
    pub budget: Arc<RetryBudget>,
    /// Who waits while every usable server is full.
    pub queue: Arc<Queue>,
    /// How connections to its servers are secured.
    pub origination: SharedOrigination,
    /// Which server cookies mean, if clients are bound to theirs.
    sticky: Option<StickyTable>,
    /// The cookies of ours that its requests may carry: its own, and those of pools that serve in its place, or in whose place it does.
    pub cookies: Arc<[(Name, plan::StickyMode)]>,
    slots: SlotTable,
    selector: Arc<dyn Selector>,
    /// What bars servers from a choice, the highest standard first.
    standards: &'static [Flags],
    /// Whether its algorithm goes by what becomes of tries.
    learns: bool,
    /// What is noted of tries, where servers are judged by them.
    watched: Option<Watched>,
    outliers: Arc<OutlierSignals>,
}

/// What bars a server while something healthy is left.
const STRICT: Flags = Flags::NOT_READY.with(Flags::UNHEALTHY);

/// What bars it while something is left that probes call healthy, however it does.
const PROBED: Flags = Flags::NOT_READY.with(Flags::DOWN).with(Flags::PROBING);

/// Each is for when nothing that meets the one before works: better a server that does worse than others than none.
const STANDARDS: [Flags; 4] = [STRICT.with(Flags::BACKUP), STRICT, PROBED, Flags::NOT_READY];

/// Those that a pool goes by: without servers that stand by the first two are one, and not every pool makes do with
/// servers that are not healthy.
fn standards(plan: &plan::PoolPlan) -> &'static [Flags] {
    let has_backup = plan.servers.iter().any(|server| server.backup);
    let uses_all = plan.when_all_unhealthy == plan::WhenAllUnhealthy::UseAll;
    &STANDARDS[usize::from(!has_backup)..if uses_all { 4 } else { 3 }]
}

/// How often a choice is made again because the chosen server changed between look and lease.
const ATTEMPTS: usize = 4;

impl Pool {
    /// A pool of `servers`, one for each of the plan's and in its order.
    pub fn new(
        plan: plan::PoolPlan,
        servers: Vec<Arc<Server>>,
        selector: Arc<dyn Selector>,
        stats: Arc<PoolStats>,
        budget: Arc<RetryBudget>,
        queue: Arc<Queue>,
        outliers: Arc<OutlierSignals>,
    ) -> Self {
        let slots = SlotTable::new(plan.servers.iter().zip(servers.iter().map(|server| server.owned_slot())));
        let sticky = plan.sticky.as_ref().map(|sticky| {
            StickyTable::new(&sticky.keys, &plan.name, plan.servers.iter().map(|server| &*server.name))
        });
        let standards = standards(&plan);
        let members = plan
            .servers
            .iter()
            .zip(servers)
            .map(|(planned, server)| Member {
                server,
                weight: planned.weight,
                max_connections: planned.max_connections,
                drain: planned.drain,
                backup: planned.backup,
            })
            .collect();
        let origination = SharedOrigination::default();
        let learns = matches!(plan.balance, plan::Balance::PeakEwma | plan::Balance::SuccessRate(_));
        let watched = plan.outlier.as_ref().map(outlier::judge::watched);
        Self {
            name: plan.name.clone(),
            plan,
            members,
            stats,
            budget,
            queue,
            origination,
            sticky,
            cookies: Arc::default(),
            slots,
            selector,
            standards,
            learns,
            watched,
            outliers,
        }
    }

    /// Chooses a server and counts the request against it. The server is marked as tried: within one
    /// request none is chosen twice.
    pub fn pick(&self, query: &Query, tried: &mut Tried) -> Result<Lease, NoServer> {
        if self.may_have_trials()
            && let Some(lease) = self.try_out(query, tried)
        {
            return Ok(lease);
        }
        self.by_standard(tried, |mask, tried| self.attempt(mask, query, tried))
    }

    /// The same for what no server has seen, after connections that could not be opened: when every other server was
    /// tried, one that was ejected and passes its probes is better than none.
    pub(super) fn pick_unseen(&self, query: &Query, tried: &mut Tried) -> Result<Lease, NoServer> {
        match self.pick(query, tried) {
            Err(NoServer::AllTried) => {
                self.attempt(PROBED, query, tried).ok_or_else(|| self.full_or_tried(PROBED, tried))
            }
            picked => picked,
        }
    }

    /// Leases a server that was ejected and is being tried out, if it is this request's turn.
    fn try_out(&self, query: &Query, tried: &mut Tried) -> Option<Lease> {
        (0..self.members.len()).find_map(|index| {
            if !self.may_try_out(index, query, tried) {
                return None;
            }
            let outlier = self.members[index].server.outlier();
            let turn = outlier.trial.take(query.may_be_repeated)?;
            let Some(lease) = self.lease(index, PROBED, query.now) else {
                outlier.trial.end(turn, TrialResult::Inconclusive);
                return None;
            };
            tried.insert(index);
            Some(lease.trying_out(turn))
        })
    }

    fn may_have_trials(&self) -> bool {
        self.watched.is_some() && self.outliers.has_trials()
    }

    /// Whether a server is being tried out and this request may be the next that does.
    fn may_try_out(&self, index: usize, query: &Query, tried: &Tried) -> bool {
        self.members[index].server.outlier().trial.is_free_for(query.may_be_repeated)
            && self.slots.is_usable(index, PROBED)
            && self.has_room(index)
            && !tried.contains(index)
            && self.is_at_home(index, query, tried)
    }

    /// Whether a request may go to this server at all as far as its key is concerned: another server may not know its
    /// session.
    fn is_at_home(&self, index: usize, query: &Query, tried: &Tried) -> bool {
        let home = || self.selector.look(&self.among(tried, PROBED), query);
        self.hash_key().is_none() || home() == Some(index)
    }

    /// Makes an attempt among healthy servers, and among all ready ones if none is healthy and the pool wants that.
    fn by_standard<T>(
        &self,
        tried: &mut Tried,
        attempt: impl Fn(Flags, &mut Tried) -> Option<T>,
    ) -> Result<T, NoServer> {
        if self.members.is_empty() {
            return Err(NoServer::NoServers);
        }
        for mask in self.standards {
            if let Some(made) = attempt(*mask, tried) {
                return Ok(made);
            }
            if self.any_usable(*mask) {
                match self.full_or_tried(*mask, tried) {
                    // Those that stand by are for when the others do not work, not for when they are busy.
                    NoServer::AllTried if mask.has_any(Flags::BACKUP) => {}
                    none => return Err(none),
                }
            }
        }
        Err(match () {
            () if self.any_usable(Flags::NOT_READY.with(Flags::DOWN)) => NoServer::Unproven,
            () if self.any_usable(Flags::NOT_READY) => NoServer::AllUnhealthy,
            () => NoServer::NoneReady,
        })
    }

    /// Whether some server would be used now, be it full or not.
    pub fn has_usable(&self) -> bool {
        self.any_usable(PROBED) || self.failing_open()
    }

    /// Whether servers that stand by serve now, for no other works.
    pub fn backups_serve(&self) -> bool {
        self.standards[0].has_any(Flags::BACKUP) && !self.any_usable(self.standards[0]) && self.has_usable()
    }

    /// Whether a server that may be used was not tried yet.
    pub(super) fn has_untried(&self, tried: &Tried) -> bool {
        self.any_usable(STRICT) && self.full_or_tried(STRICT, tried) == NoServer::AllFull
    }

    /// Whether nothing ready is healthy and requests go to every ready server all the same.
    pub fn failing_open(&self) -> bool {
        self.plan.when_all_unhealthy == plan::WhenAllUnhealthy::UseAll
            && !self.any_usable(PROBED)
            && self.any_usable(Flags::NOT_READY)
    }

    /// A member's limit, if it is one and has any.
    pub fn max_connections_of(&self, server: &Arc<Server>) -> Option<NonZeroU32> {
        if !self.slots.any_limit() {
            return None;
        }
        self.members.iter().find(|member| Arc::ptr_eq(&member.server, server))?.max_connections
    }

    /// The servers with these ids, as tried.
    pub fn tried(&self, ids: &[u32]) -> Tried {
        let mut tried = Tried::new();
        // Mostly none; otherwise the pool is looked through once.
        if !ids.is_empty() {
            let members = self.members.iter().enumerate();
            let named = members.filter(|(_, member)| ids.contains(&member.server.id()));
            named.for_each(|(index, _)| tried.insert(index));
        }
        tried
    }

    /// Counts the servers by state. Looks at each: for gauges, not for requests.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for member in &self.members {
            let state = member.server.state();
            let place = match (state.admin, state.health) {
                (Operator::Maint, _) => &mut counts.maint,
                (Operator::Drain, _) => &mut counts.drain,
                _ if member.drain || state.membership == Membership::Leaving => &mut counts.drain,
                (Operator::Ready, HealthState::Up) if member.server.is_ejected() => &mut counts.ejected,
                (Operator::Ready, HealthState::Up) => &mut counts.up,
                (Operator::Ready, HealthState::Down) => &mut counts.down,
                (Operator::Ready, HealthState::Probing) => &mut counts.probing,
            };
            *place += 1;
        }
        counts
    }

    /// What has to be known of a try's source, if servers are judged by tries that may all be one client's: where clients are bound
    /// to servers, where requests gather at the server that is quickest, and where turns may have each of a client's go to one server.
    pub fn judged_by(&self) -> Option<JudgedBy> {
        self.watched?;
        let is_bound = self.sticky.is_some() || self.hash_key().is_some();
        match &self.plan.balance {
            _ if is_bound => Some(JudgedBy::Client),
            plan::Balance::PeakEwma | plan::Balance::RoundRobin => Some(JudgedBy::ClientElsewhere),
            _ => None,
        }
    }

    /// What of a request is hashed for `Query::key`; `None` if this pool does not hash.
    pub fn hash_key(&self) -> Option<&plan::HashKey> {
        self.plan.balance.hash_key()
    }

    /// Where a key belongs while every server that may be used is up, by the selector that serves. It looks
    /// and takes nothing; of a pool that does not hash it would be one choice of many.
    pub fn home(&self, key: u64) -> Option<&Arc<Server>> {
        let tried = Tried::new();
        // Whether a server leaves or joins is what a preview is about, so only the operator's word counts.
        let among = self.among(&tried, Flags::DRAIN.with(Flags::MAINT).with(Flags::BACKUP));
        let index =
            self.selector.select(&among, &Query { key: Some(key), entropy: key, ..Query::default() })?;
        Some(&self.members[index].server)
    }

    /// The algorithm, so that the next snapshot's pool can go on where this one is.
    pub fn selector(&self) -> &Arc<dyn Selector> {
        &self.selector
    }

    /// The memory of the servers' counts, so that the next snapshot's pool uses it too.
    pub fn blocks(&self) -> &[Arc<SlotBlock>] {
        self.slots.blocks()
    }

    fn among<'a>(&'a self, tried: &'a Tried, mask: Flags) -> Candidates<'a> {
        Candidates::new(&self.slots, &self.members, tried, mask)
    }

    fn attempt(&self, mask: Flags, query: &Query, tried: &mut Tried) -> Option<Lease> {
        let lease = self.past_ramps(query, tried, |passed_over| self.lease_past(mask, query, passed_over))?;
        self.save_for_ramps(query, mask, lease.index());
        tried.insert(lease.index());
        Some(lease)
    }

    fn lease_past(&self, mask: Flags, query: &Query, passed_over: &Tried) -> Option<Lease> {
        for _ in 0..ATTEMPTS {
            let index = self.selector.select(&self.among(passed_over, mask), query)?;
            if let Some(lease) = self.lease(index, mask, query.now) {
                return Some(lease);
            }
        }
        // Others were quicker every time: take whatever lets us in.
        (0..self.members.len()).find_map(|index| {
            let eligible = self.among(passed_over, mask).is_eligible(index);
            eligible.then(|| self.lease(index, mask, query.now)).flatten()
        })
    }

    #[inline]
    fn lease(&self, index: usize, mask: Flags, now: Option<Instant>) -> Option<Lease> {
        let member = &self.members[index];
        let max = member.max_connections.map_or(u32::MAX, NonZeroU32::get);
        let lease = Lease::take(&member.server, index, max, mask, self.watched)?;
        Some(match now {
            Some(now) if self.learns => lease.taught(now),
            _ => lease,
        })
    }

    fn any_usable(&self, mask: Flags) -> bool {
        (0..self.members.len()).any(|index| self.slots.is_usable(index, mask))
    }

    fn full_or_tried(&self, mask: Flags, tried: &Tried) -> NoServer {
        let untried = |index: &usize| !tried.contains(*index);
        match (0..self.members.len()).filter(untried).any(|index| self.slots.is_usable(index, mask)) {
            true => NoServer::AllFull,
            false => NoServer::AllTried,
        }
    }
}

#[cfg(test)]
mod tests;
