//! Which servers of a pool succeed provably less often than its best: decided once a second from what their tries have come
//! to, never for a request.

use super::meanwhile::Standardized;
use super::success::SuccessStanding;
use super::{HealthState, Member, Membership, Operator, Pool, Server, wilson};
use crate::config::plan::SuccessRatePlan;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// 99 % of what is normally distributed lies within so many standard deviations.
const Z: f64 = 2.58;

/// The same of what two did at the same times, by which it is only to be told whether both suffered: 68 %.
const Z_THEN: f64 = 1.0;

/// Beside the whole window so many outcomes are looked at, for a server that fails all of a sudden.
const SUDDEN: u64 = 20;

/// With fewer nothing is said of a server.
pub(crate) const FEWEST: u32 = 10;

/// So many outcomes, since it was found to be worse, bring a server back if their mean is as good.
const TO_RETURN: u64 = 30;

/// How far below the best's mean is as good.
const AS_GOOD: f64 = 0.02;

/// Nothing older is looked at.
const OLDEST: Duration = Duration::from_secs(3600);

/// What one pool's servers have come to.
#[derive(Debug, Default)]
pub struct SuccessWatch {
    servers: HashMap<u32, History>,
    /// As it was at the last look, if there was one.
    window: Option<u64>,
}

/// A server that is found to be worse than the best now, or no longer.
#[derive(Clone, Debug, PartialEq)]
pub struct SuccessChange {
    /// Its place in the pool.
    pub index: usize,
    pub standing: SuccessStanding,
}

#[derive(Debug, Default)]
struct History {
    /// What was counted by the last look, good and bad.
    counted: (u64, u64),
    /// The newest last; as far back as the window of any server of the pool, for what all did at one time is held together.
    looks: VecDeque<Look>,
    worse_since: Option<Instant>,
}

/// What came between two looks.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    good: f64,
    n: f64,
}

impl Tally {
    fn bounds(self) -> (f64, f64) {
        self.bounds_at(Z)
    }

    fn bounds_at(self, z: f64) -> (f64, f64) {
        wilson::bounds(self.good.round() as u64, self.n.round() as u64, z)
    }

    fn plus(self, other: Self) -> Self {
        Self { good: self.good + other.good, n: self.n + other.n }
    }

    fn times(self, part: f64) -> Self {
        Self { good: self.good * part, n: self.n * part }
    }

    fn mean(self) -> f64 {
        if self.n > 0.0 { self.good / self.n } else { 1.0 }
    }

    fn has(self, n: u64) -> bool {
        self.n.round() as u64 >= n
    }
}

impl History {
    fn take(&mut self, (good, bad): (u64, u64), now: Instant) {
        let (new_good, new_bad) = (good.saturating_sub(self.counted.0), bad.saturating_sub(self.counted.1));
        self.counted = (good, bad);
        if new_good + new_bad > 0 {
            let tally = Tally { good: new_good as f64, n: (new_good + new_bad) as f64 };
            self.looks.push_back(Look { at: now, tally });
        }
    }

    /// The looks that have the last so many outcomes, the newest first.
    fn newest(&self, n: u64) -> impl Iterator<Item = &Look> {
        let mut left = n as f64;
        self.looks.iter().rev().take_while(move |look| {
            let is_needed = left > 0.0;
            left -= look.tally.n;
            is_needed
        })
    }

    /// Forgets what came before.
    fn keep_since(&mut self, since: Instant) {
        while self.looks.front().is_some_and(|look| look.at < since) {
            self.looks.pop_front();
        }
    }

    /// Only the last so many outcomes are looked at from now on.
    fn keep_last(&mut self, n: u64) {
        let mut left = n as f64;
        self.looks = self
            .looks
            .iter()
            .rev()
            .map_while(|look| {
                let part = (left / look.tally.n).clamp(0.0, 1.0);
                left -= look.tally.n * part;
                (part > 0.0).then(|| Look { at: look.at, tally: look.tally.times(part) })
            })
            .collect();
        self.looks.make_contiguous().reverse();
    }

    /// The last so many outcomes, as far as the other had some as well, and what the other's came to at the same times.
    fn beside(&self, other: &Self, n: u64) -> (Tally, Tally) {
        let (mut left, mut others) = (n as f64, other.looks.iter().rev().peekable());
        let (mut all, mut standardized) = (Tally::default(), Standardized::default());
        let (mut own, mut theirs) = (Tally::default(), Tally::default());
        for look in self.newest(n) {
            let part = look.tally.times((left / look.tally.n).clamp(0.0, 1.0));
            left -= part.n;
            own = own.plus(part);
            while let Some(other) = others.next_if(|other| other.at >= look.at) {
                theirs = theirs.plus(other.tally);
            }
            // Where the other had none, those before tell.
            if theirs.n > 0.0 {
                standardized.add(own.n, theirs.good, theirs.n);
                all = all.plus(own);
                (own, theirs) = (Tally::default(), Tally::default());
            }
        }
        let (share, of) = standardized.share().unwrap_or_default();
        (all, Tally { good: share * of, n: of })
    }

    /// The last so many outcomes after `since`. Of what came between two looks nobody knows the order, so a part of it counts
    /// as the whole.
    fn last(&self, n: u64, since: Option<Instant>) -> Tally {
        let mut tally = Tally::default();
        for look in self.looks.iter().rev().take_while(|look| since.is_none_or(|since| look.at > since)) {
            let part = look.tally.times(((n as f64 - tally.n) / look.tally.n).clamp(0.0, 1.0));
            tally = tally.plus(part);
            if tally.n >= n as f64 {
                break;
            }
        }
        tally
    }

    /// Of a server that was found to be worse, how many outcomes since are as good as the best's, if they are enough: all of them,
    /// or the last ones if they are provably better than those before, as it has been mended meanwhile.
    fn as_good_again(&self, best: Tally, window: u64) -> Option<u64> {
        let since = Some(self.worse_since?);
        let all = self.last(window, since);
        let lengths = std::iter::successors(Some(TO_RETURN), |n| Some(n * 2)).take_while(|n| *n < window);
        let is_as_good = |n: &u64| {
            let last = self.last(*n, since);
            let before = Tally { good: all.good - last.good, n: all.n - last.n };
            let is_mended = !before.has(1) || last.bounds().0 > before.bounds().1;
            last.has(TO_RETURN) && last.mean() >= best.mean() - AS_GOOD && is_mended
        };
        let n = lengths.chain([window]).filter(is_as_good).last()?;
        Some(n.min(self.last(n, since).n.round() as u64))
    }
}

/// What is known of one server: when it was looked at, how many were good then, of how many.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownOutcomes {
    pub looks: Vec<(Instant, f64, f64)>,
    /// It is provably worse than the best since then.
    pub worse_since: Option<Instant>,
}

impl SuccessWatch {
    /// What there is to go on with of the server with this id, once it was looked at.
    pub fn known(&self, id: u32) -> Option<KnownOutcomes> {
        let history = self.servers.get(&id)?;
        // Before the first look, what was recalled is all there is.
        let looks = history.newest(self.window.unwrap_or(u64::MAX));
        let mut looks: Vec<_> = looks.map(|look| (look.at, look.tally.good, look.tally.n)).collect();
        looks.reverse();
        Some(KnownOutcomes { looks, worse_since: history.worse_since })
    }

    /// Goes on with what was known of this server before anybody looked.
    pub fn recall(&mut self, server: &Server, known: &KnownOutcomes) {
        let look =
            |(at, good, n): &(Instant, f64, f64)| Look { at: *at, tally: Tally { good: *good, n: *n } };
        let looks: VecDeque<_> = known.looks.iter().map(look).collect();
        let history = History { counted: server.success().counts(), looks, worse_since: known.worse_since };
        self.servers.insert(server.id(), history);
        let is_worse = known.worse_since.is_some();
        server.success().set_standing(&SuccessStanding { is_worse, ..SuccessStanding::default() });
    }

    /// Keeps what the windows of all servers need, within bounds.
    fn forget_old(&mut self, window: u64, now: Instant) {
        let begins = |history: &History| Some(history.newest(window).last()?.at);
        let oldest = self.servers.values().filter_map(begins).min();
        let Some(oldest) = oldest.max(now.checked_sub(OLDEST)) else { return };
        self.servers.values_mut().for_each(|history| history.keep_since(oldest));
    }

    /// Looks at what has come since the last look, and tells the servers what is made of it.
    pub fn look(&mut self, pool: &Pool, plan: &SuccessRatePlan, now: Instant) -> Vec<SuccessChange> {
        let window = u64::from(plan.window.get());
        self.window = Some(window);
        self.servers.retain(|id, _| pool.members.iter().any(|member| member.server.id() == *id));
        for member in &pool.members {
            let counts = member.server.success().counts();
            let history = self.servers.entry(member.server.id()).or_insert_with(|| History {
                // What came before anybody looked has no time.
                counted: counts,
                ..History::default()
            });
            history.take(counts, now);
        }
        self.forget_old(window, now);
        let history = |member: &Member| &self.servers[&member.server.id()];
        let tallies: Vec<Tally> =
            pool.members.iter().map(|member| history(member).last(window, None)).collect();
        let judged = tallies.iter().enumerate().filter(|(_, tally)| tally.has(FEWEST.into()));
        let lowest = |(_, tally): &(usize, &Tally)| tally.bounds().0;
        let best = judged.max_by(|one, other| lowest(one).total_cmp(&lowest(other)));
        let best_history = best.map(|(index, _)| history(&pool.members[index]));
        let best = best.map(|(_, tally)| *tally);
        let mut worse: Vec<bool> = pool
            .members
            .iter()
            .zip(&tallies)
            .map(|(member, tally)| {
                let best = best.zip(best_history);
                best.is_some_and(|best| is_worse(history(member), *tally, best, window))
            })
            .collect();
        // Where nobody does well it is none of them: they may all ask one other.
        if pool.members.iter().zip(&worse).all(|(member, worse)| *worse || !serves(member)) {
            worse.fill(false);
        }
        let shares = shares(pool, &worse, f64::from(plan.explore.0) / 100.0);
        let mut changes = Vec::new();
        for (index, member) in pool.members.iter().enumerate() {
            let (low, high) = tallies[index].bounds();
            let standing = SuccessStanding {
                n: tallies[index].n.round() as u64,
                mean: tallies[index].mean() as f32,
                low: low as f32,
                high: high as f32,
                is_worse: worse[index],
                share: shares[index] as f32,
            };
            let record = member.server.success();
            if record.is_worse() != worse[index] {
                let history = self.servers.get_mut(&member.server.id()).expect("it was just looked at");
                let as_good = best.and_then(|best| history.as_good_again(best, window));
                // What it did before it was mended is no reason to take it for worse once more.
                as_good.into_iter().for_each(|n| history.keep_last(n));
                history.worse_since = worse[index].then_some(now);
                changes.push(SuccessChange { index, standing });
            }
            record.set_standing(&standing);
        }
        changes
    }
}

/// Whether a server is provably worse than the best, in its own time and at the same times; one that was stays so until it has shown that it is as good.
fn is_worse(history: &History, tally: Tally, (best, best_history): (Tally, &History), window: u64) -> bool {
    let is_below = |tally: Tally| tally.has(FEWEST.into()) && tally.bounds().1 < best.bounds().0;
    // What both suffered at one time is no difference between them.
    let is_then_too = |n: u64| {
        let (own, theirs) = history.beside(best_history, n);
        own.has(FEWEST.into()) && own.bounds_at(Z_THEN).1 < theirs.bounds_at(Z_THEN).0
    };
    match history.worse_since {
        None => {
            let is_sudden = is_below(history.last(SUDDEN, None)) && is_then_too(SUDDEN);
            is_sudden || is_below(tally) && is_then_too(window)
        }
        Some(_) => history.as_good_again(best, window).is_none(),
    }
}

fn serves(member: &Member) -> bool {
    let state = member.server.state();
    !member.drain
        && !member.backup
        && !member.server.is_ejected()
        && (state.health, state.admin, state.membership)
            == (HealthState::Up, Operator::Ready, Membership::Present)
}

/// Each server's share of picks: by weight, but for `explore`, which those that are worse share by weight.
fn shares(pool: &Pool, worse: &[bool], explore: f64) -> Vec<f64> {
    let weight = |member: &Member| if serves(member) { f64::from(member.weight.get()) } else { 0.0 };
    let sum = |wanted: bool| {
        let those = pool.members.iter().zip(worse).filter(|(_, worse)| **worse == wanted);
        those.map(|(member, _)| weight(member)).sum::<f64>()
    };
    let (good, bad) = (sum(false), sum(true));
    let for_worse = match (good > 0.0, bad > 0.0) {
        (true, true) => explore,
        (false, true) => 1.0,
        _ => 0.0,
    };
    let share = |(member, worse): (&Member, &bool)| match worse {
        true if bad > 0.0 => for_worse * weight(member) / bad,
        false if good > 0.0 => (1.0 - for_worse) * weight(member) / good,
        _ => 0.0,
    };
    pool.members.iter().zip(worse).map(share).collect()
}

#[cfg(test)]
mod tests;
