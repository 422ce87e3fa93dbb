//! Looks at a pool's servers from time to time, and says what has changed.

use super::judge::{self, Meanwhile, Reason, Seen};
use super::onset::{Onset, is_failing};
use super::record::{FailureShare, TIME_STEPS, Times, median};
use super::slices::Slices;
use super::standing::{Ejection, TrialState};
use super::trial::{TrialProgress, owed_for_one};
use crate::config::plan::OutlierPlan;
use crate::pool::{HealthState, Member, Membership, Operator, Pool, Server};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After so long without a request that may be repeated, any request tries a server out.
const PICKY: Duration = Duration::from_secs(10);
/// Such a part of a window the others have to show that they do not fail, where they have little to do.
const WAIT: u32 = 5;

/// So many windows together may have a server's few times to the first byte; what came before is no news.
const MOST_SPARSE: u32 = 9;

/// So many of the others' last tries say whether they fail as well.
const LATELY: u32 = 20;

/// What has become of a server.
#[derive(Clone, Debug)]
pub enum OutlierChange {
    Ejected {
        server: Arc<Server>,
        ejection: Ejection,
        strikes: u32,
    },
    /// It should be, but too few others are left: so many of so many may be down or ejected, and are.
    Prevented {
        server: Arc<Server>,
        reason: Reason,
        evidence: String,
        allowed: usize,
        of: usize,
    },
    /// It is tried out from now on.
    OnTrial {
        server: Arc<Server>,
    },
    /// It is back, by its trial or for another reason.
    Back {
        server: Arc<Server>,
        why: &'static str,
        by_trial: bool,
    },
}

/// What was noted of one pool's servers.
#[derive(Debug, Default)]
pub struct OutlierWatch {
    servers: HashMap<u32, Observed>,
    slices: Slices,
    /// Times to the first byte are compared window by window.
    window_began: Option<Instant>,
}

#[derive(Debug, Default)]
struct Observed {
    /// Times to the first byte when this window began, or the first of those that it takes to have some.
    times: Option<Box<Times>>,
    /// So many windows together had too few of them.
    sparse_windows: u32,
    /// It was slow in the last window, and what that was told from.
    slow: Option<String>,
    /// The windows in a row that it was slow in.
    slow_windows: u32,
    /// Since when it fails.
    onset: Option<Onset>,
    /// It was told that it is not ejected only for want of others.
    is_prevented: bool,
}

impl Observed {
    /// What has come to these times since its window began; the next one begins, unless this had too few.
    fn times_within(&mut self, times: Times, is_first: bool) -> Option<Times> {
        let Some(before) = self.times.as_deref().filter(|_| !is_first) else {
            self.times = Some(Box::new(times));
            return None;
        };
        let within: Times = std::array::from_fn(|step| times[step].saturating_sub(before[step]));
        let has_few = within.iter().sum::<u64>() < judge::FEWEST_TIMES;
        if has_few && self.sparse_windows < MOST_SPARSE {
            self.sparse_windows += 1;
        } else {
            self.sparse_windows = 0;
            self.times = Some(Box::new(times));
        }
        Some(within)
    }
}

impl OutlierWatch {
    /// Looks at all servers of a pool whose settings are these. `chance` is 0 to 1.
    pub fn look(
        &mut self,
        pool: &Pool,
        plan: &OutlierPlan,
        now: Instant,
        chance: &mut dyn FnMut() -> f64,
    ) -> Vec<OutlierChange> {
        self.servers.retain(|id, _| pool.members.iter().any(|member| member.server.id() == *id));
        self.note(pool, plan, now);
        let mut changes = Vec::new();
        for member in &pool.members {
            if member.server.state().health != HealthState::Up {
                // Once its probes pass again, it is not to be compared by how it failed with others that have come back sooner.
                member.server.outlier().record.forget();
                self.forget(&member.server);
            }
            self.advance(pool, member, plan, now, chance, &mut changes);
        }
        self.note_onsets(pool, now);
        self.compare_times(pool, plan, now);
        self.eject(pool, plan, now, chance, &mut changes);
        release_the_last(pool, now, &mut changes);
        changes
    }

    /// Brings all servers of a pool back that has no such settings any more.
    pub fn release_all(pool: &Pool, now: Instant) -> Vec<OutlierChange> {
        let ejected = pool.members.iter().filter(|member| member.server.is_ejected());
        ejected.filter_map(|member| back(&member.server, now, "the pool ejects nobody any more")).collect()
    }

    /// Notes how much was counted of each server.
    fn note(&mut self, pool: &Pool, plan: &OutlierPlan, now: Instant) {
        let servers = pool.members.iter().map(|member| &member.server);
        let totals: Vec<_> = servers.map(|server| (server.id(), server.outlier().record.total())).collect();
        self.slices.note(&totals, plan.window, now);
        totals.iter().for_each(|(id, _)| _ = self.servers.entry(*id).or_default());
    }

    fn forget(&mut self, server: &Server) {
        self.servers.insert(server.id(), Observed::default());
        self.slices.forget(server.id());
    }

    /// Notes who begins to fail, and what the others have done by then.
    fn note_onsets(&mut self, pool: &Pool, now: Instant) {
        let all = total(pool);
        for server in pool.members.iter().map(|member| &member.server) {
            let Some(observed) = self.servers.get_mut(&server.id()) else { continue };
            let record = &server.outlier().record;
            let is_failing = is_failing(record, observed.onset.is_some());
            let onset = observed.onset.unwrap_or_else(|| Onset::new(now, all.minus(record.total())));
            observed.onset = is_failing.then_some(onset);
        }
    }

    /// What the others have done since a server fails; `None` while that is too little to tell them apart from it.
    fn others_since(
        &self,
        server: &Server,
        all: FailureShare,
        plan: &OutlierPlan,
        now: Instant,
    ) -> Option<FailureShare> {
        let onset = self.servers.get(&server.id())?.onset?;
        onset.since(all.minus(server.outlier().record.total()), now, plan.window / WAIT)
    }

    /// What time and its trial make of a server. One that is not wanted, as it stands by, is down or was taken out of use, is not
    /// tried out meanwhile; one that fails as the others do is not the worse for it.
    fn advance(
        &mut self,
        pool: &Pool,
        member: &Member,
        plan: &OutlierPlan,
        now: Instant,
        chance: &mut dyn FnMut() -> f64,
        changes: &mut Vec<OutlierChange>,
    ) {
        let server = &member.server;
        let mut standing = server.outlier().standing();
        let Some(ejection) = &mut standing.ejection else {
            // A time as long as the first ejection, served well, is one strike lived down.
            if standing.strikes > 0 && now.saturating_duration_since(standing.since) >= plan.base_ejection {
                standing.strikes -= 1;
                standing.since = now;
                server.outlier().set_standing(standing);
            }
            return;
        };
        let is_in_use = counts(member) && server.state().health == HealthState::Up;
        let stands_by = member.backup && pool.members.iter().any(|other| !other.backup && serves(other));
        let is_wanted = is_in_use && !stands_by;
        let Some(trial) = &mut ejection.trial else {
            if is_wanted && now >= ejection.until {
                ejection.trial = Some(TrialState { moved: now, passed: 0 });
                server.outlier().set_standing(standing);
                server.outlier().open_trial();
                changes.push(OutlierChange::OnTrial { server: Arc::clone(server) });
            }
            return;
        };
        match server.outlier().trial.progress() {
            TrialProgress::Passed => {
                let three = "three requests in a row that tried it out went well";
                changes.extend(back(server, now, three).map(OutlierChange::by_trial));
            }
            TrialProgress::Failed { missing } => {
                let [others, longer] = [LATELY, u32::MAX].map(|tries| others_lately(pool, server, tries));
                // A few tell of an outage sooner, many tell of a share more surely.
                let share = [others, longer].into_iter().filter_map(share_of).reduce(f64::max);
                let owed = share.and_then(|share| owed_for_one(missing, share));
                if owed.is_some_and(|owed| server.outlier().trial.go_on(owed)) {
                    trial.moved = now;
                    server.outlier().set_standing(standing);
                    return;
                }
                if others.failed * 2 >= others.of {
                    standing.strikes = standing.strikes.saturating_sub(1);
                    server.outlier().set_standing(standing);
                }
                let evidence = "a request that tried it out failed".to_owned();
                changes.push(self.eject_one(server, plan, (Reason::Trial, evidence), now, chance()));
            }
            TrialProgress::TooSlow => {
                let limit = server.outlier().slow_limit().unwrap_or_default();
                let evidence = format!("two requests that tried it out took longer than {limit:?}");
                changes.push(self.eject_one(server, plan, (Reason::Trial, evidence), now, chance()));
            }
            TrialProgress::Open(_) | TrialProgress::Closed if !is_wanted => {
                ejection.trial = None;
                server.outlier().set_standing(standing);
                server.outlier().close_trial();
            }
            TrialProgress::Open(passed) if passed != trial.passed => {
                *trial = TrialState { moved: now, passed };
                server.outlier().set_standing(standing);
            }
            TrialProgress::Open(_) if now.saturating_duration_since(trial.moved) >= PICKY => {
                server.outlier().trial.open_to_any();
            }
            TrialProgress::Open(_) => {}
            // It was opened by a process before this one.
            TrialProgress::Closed => server.outlier().open_trial(),
        }
    }

    /// At the end of each window: who was slow beside the others.
    fn compare_times(&mut self, pool: &Pool, plan: &OutlierPlan, now: Instant) {
        if plan.slower_than.is_none() {
            self.window_began = None;
            pool.members.iter().for_each(|member| member.server.outlier().set_slow_limit(None));
            return;
        }
        let began = *self.window_began.get_or_insert(now);
        let is_first = began == now;
        if !is_first && now.saturating_duration_since(began) < plan.window {
            return;
        }
        self.window_began = Some(now);
        let mut all = [0; TIME_STEPS];
        let mut own = Vec::new();
        for member in pool.members.iter().filter(|member| serves(member)) {
            let Some(observed) = self.servers.get_mut(&member.server.id()) else { continue };
            let times = member.server.outlier().record.all_times().unwrap_or([0; TIME_STEPS]);
            let Some(within) = observed.times_within(times, is_first) else { continue };
            all.iter_mut().zip(within).for_each(|(sum, count)| *sum += count);
            own.push((member.server.id(), within));
        }
        own.retain(|(_, within)| within.iter().sum::<u64>() >= judge::FEWEST_TIMES);
        let mut slow = Vec::new();
        for (id, own) in own {
            let others: Times = std::array::from_fn(|step| all[step] - own[step]);
            let observed = self.servers.entry(id).or_default();
            observed.slow = told_slow(&own, &others, plan);
            slow.extend(observed.slow.is_some().then_some((id, judge::slow_limit(&others, plan))));
            observed.slow_windows = observed.slow.as_ref().map_or(0, |_| observed.slow_windows + 1);
        }
        for server in pool.members.iter().map(|member| &member.server) {
            let state = server.outlier();
            let limit = slow.iter().find(|(id, _)| *id == server.id()).and_then(|(_, limit)| *limit);
            // What the others take by now is what it is tried out by.
            let was_slow = || state.slow_limit().is_some() || is_ejected_for(server, Reason::SlowerThan);
            match server.is_ejected() && was_slow() {
                true => state.set_slow_limit(judge::slow_limit(&all, plan).or(state.slow_limit())),
                false => state.set_slow_limit(limit),
            }
        }
    }

    /// Ejects those that there is reason to, the worst first, as far as enough others are left.
    fn eject(
        &mut self,
        pool: &Pool,
        plan: &OutlierPlan,
        now: Instant,
        chance: &mut dyn FnMut() -> f64,
        changes: &mut Vec<OutlierChange>,
    ) {
        loop {
            let serving: Vec<(&Member, Seen)> = pool
                .members
                .iter()
                .filter(|member| serves(member))
                .map(|member| (member, self.seen(&member.server, plan, now)))
                .collect();
            let ever = total(pool);
            let all = serving.iter().filter(|(_, seen)| seen.window.of > 0);
            let all = all.fold(Seen::default(), |sum, (_, seen)| sum.plus(*seen));
            let mut outliers: Vec<_> = serving
                .iter()
                .filter_map(|(member, seen)| {
                    let others = all.minus(*seen);
                    let told = self.others_since(&member.server, ever, plan, now).and_then(|since| {
                        let meanwhile = self.meanwhile(&member.server, seen, since);
                        judge::reason(seen, &others, &meanwhile, plan)
                    });
                    Some((member, seen, told.or_else(|| self.slow(member.server.id()))?))
                })
                .collect();
            outliers.sort_by(|(_, a, _), (_, b, _)| share(b).total_cmp(&share(a)));
            for (member, ..) in &serving {
                member.server.outlier().record.looked_at();
                let is_outlier =
                    outliers.iter().any(|(outlier, ..)| Arc::ptr_eq(&outlier.server, &member.server));
                if let Some(observed) = self.servers.get_mut(&member.server.id()) {
                    observed.is_prevented &= is_outlier;
                }
            }
            let (allowed, of) = ceiling(pool, plan);
            let used = pool.members.iter().filter(|member| counts(member) && !serves(member)).count();
            if used < allowed && serving.len() > 1 {
                let Some((member, _, told)) = outliers.into_iter().next() else { return };
                let server = Arc::clone(&member.server);
                let change = self.eject_one(&server, plan, told, now, chance());
                changes.push(change);
                continue;
            }
            for (member, _, (reason, evidence)) in outliers {
                let Some(observed) = self.servers.get_mut(&member.server.id()) else { continue };
                if !std::mem::replace(&mut observed.is_prevented, true) {
                    let server = Arc::clone(&member.server);
                    server.outlier().count_prevented();
                    changes.push(OutlierChange::Prevented { server, reason, evidence, allowed, of });
                }
            }
            return;
        }
    }

    /// What the others did while a server had those tries that it is judged by.
    fn meanwhile(&self, server: &Server, seen: &Seen, since: FailureShare) -> Meanwhile {
        let others = |tries| self.slices.others_meanwhile(server.id(), tries);
        Meanwhile {
            since,
            run: others(u64::from(seen.run)),
            recent: others(seen.recent.of),
            window: others(seen.window.of),
        }
    }

    fn slow(&self, id: u32) -> Option<(Reason, String)> {
        let observed = self.servers.get(&id).filter(|observed| observed.slow_windows >= 2)?;
        Some((Reason::SlowerThan, observed.slow.clone()?))
    }

    fn seen(&self, server: &Server, plan: &OutlierPlan, now: Instant) -> Seen {
        let record = &server.outlier().record;
        // What is so old that nobody knows what the others did then is no news.
        let known = u32::try_from(self.slices.known(server.id())).unwrap_or(u32::MAX);
        Seen {
            run: record.run().min(known),
            unavailable: record.unavailable(plan.consecutive_errors.map_or(0, u32::from)),
            recent: record.recent_of(known),
            window: self.slices.within(server.id(), plan.window, now),
        }
    }

    fn eject_one(
        &mut self,
        server: &Arc<Server>,
        plan: &OutlierPlan,
        (reason, evidence): (Reason, String),
        now: Instant,
        chance: f64,
    ) -> OutlierChange {
        let mut standing = server.outlier().standing();
        let until = now + judge::duration(plan, standing.strikes, chance);
        standing.strikes += 1;
        let since = standing.ejection.as_ref().map_or(now, |ejection| ejection.since);
        let ejection = Ejection { reason, evidence, since, began: now, until, trial: None };
        standing.ejection = Some(ejection.clone());
        let strikes = standing.strikes;
        server.outlier().set_standing(standing);
        server.outlier().close_trial();
        server.outlier().record.forget();
        server.set_ejected(true);
        // What it did before is no reason to eject it once it is back.
        self.forget(server);
        server.outlier().count_ejection(reason);
        OutlierChange::Ejected { server: Arc::clone(server), ejection, strikes }
    }
}

impl OutlierChange {
    fn by_trial(self) -> Self {
        match self {
            Self::Back { server, why, .. } => Self::Back { server, why, by_trial: true },
            other => other,
        }
    }
}

/// Brings a server back, if it is ejected.
pub fn back(server: &Arc<Server>, now: Instant, why: &'static str) -> Option<OutlierChange> {
    let mut standing = server.outlier().standing();
    standing.ejection.take()?;
    standing.since = now;
    server.outlier().set_standing(standing);
    server.outlier().close_trial();
    server.outlier().set_slow_limit(None);
    server.outlier().record.forget();
    server.set_ejected(false);
    Some(OutlierChange::Back { server: Arc::clone(server), why, by_trial: false })
}

fn is_ejected_for(server: &Server, reason: Reason) -> bool {
    server.outlier().standing().ejection.is_some_and(|ejection| ejection.reason == reason)
}

/// A pool whose last server that was not ejected has gone down is served by the others again.
fn release_the_last(pool: &Pool, now: Instant, changes: &mut Vec<OutlierChange>) {
    if pool.members.iter().any(serves) {
        return;
    }
    let works = |member: &&Member| counts(member) && member.server.state().health == HealthState::Up;
    let since = |member: &&Member| member.server.outlier().standing().ejection.map(|ejection| ejection.since);
    let longest =
        pool.members.iter().filter(works).filter(|member| since(member).is_some()).min_by_key(since);
    let why = "no other server that works is left";
    changes.extend(longest.and_then(|member| back(&member.server, now, why)));
}

/// All tries of all servers.
fn total(pool: &Pool) -> FailureShare {
    let totals = pool.members.iter().map(|member| member.server.outlier().record.total());
    totals.fold(FailureShare::default(), FailureShare::plus)
}

/// What each of the others' last so many tries have come to; of none if none of them serves.
fn others_lately(pool: &Pool, server: &Arc<Server>, tries: u32) -> FailureShare {
    let others = pool.members.iter().filter(|member| serves(member) && !Arc::ptr_eq(&member.server, server));
    others.fold(FailureShare::default(), |sum, member| {
        sum.plus(member.server.outlier().record.recent_of(tries))
    })
}

/// How many of how many servers may be down or ejected for one of them to be ejected: of those that nobody has taken out of use.
pub fn ceiling(pool: &Pool, plan: &OutlierPlan) -> (usize, usize) {
    let of = pool.members.iter().filter(|member| counts(member)).count();
    (judge::allowance(of, plan.max_ejected), of)
}

/// Whether a server is one of those that there are to choose from: nobody has taken it out of use.
fn counts(member: &Member) -> bool {
    let state = member.server.state();
    state.membership == Membership::Present && state.admin == Operator::Ready && !member.drain
}

/// Whether it works and is not ejected.
fn serves(member: &Member) -> bool {
    counts(member) && member.server.state().health == HealthState::Up && !member.server.is_ejected()
}

fn share(seen: &Seen) -> f64 {
    [seen.window, seen.recent].into_iter().filter_map(share_of).fold(0.0, f64::max)
}

fn share_of(share: FailureShare) -> Option<f64> {
    (share.of > 0).then(|| share.failed as f64 / share.of as f64)
}

fn told_slow(own: &Times, others: &Times, plan: &OutlierPlan) -> Option<String> {
    if !judge::is_slow(own, others, plan) {
        return None;
    }
    let (own, others) = (median(own)?, median(others)?);
    Some(format!("a median of {own:?} to the first byte, twice in a row; the others' is {others:?}"))
}
