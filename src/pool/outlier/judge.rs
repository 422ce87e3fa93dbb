//! Whether a server does so much worse than the others that it is better left out. Comparing is all there is: where
//! everybody fails, nobody is an outlier, so neither a broken database nor a hostile client empties a pool.

use super::record::{FailureShare, Times, Watched, longer_than, median};
use crate::config::plan::OutlierPlan;
use crate::pool::{likelihood, wilson};
use crate::units::Percent;
use std::time::Duration;

/// Standard deviations for a run of failures beside the others' last tries: 95 %.
const Z_RUN: f64 = 1.96;
/// A run that is as unlikely at the others' share of failures is no chance. There are many runs: what comes about once in 100,000
/// tries has some pool lose a server every day (`where_all_fail_alike_nobody_is_ejected`).
const BY_CHANCE: f64 = 1e-7;
/// The likelihood ratio of shares that are too far apart for chance: the square of six standard deviations, once in 1,000,000,000 times,
/// for servers are looked at again and again.
const NO_CHANCE: f64 = 36.0;
/// Standard deviations for the others' share since a run began, or at its time, of which little is known as yet: 68 %.
const Z_SINCE: f64 = 1.0;
/// Standard deviations for how far shares are apart at least: 99 %. That they are apart at all must be surer than that (`NO_CHANCE`).
const Z_SHARE: f64 = 2.58;
/// Fewer tries than this say nothing of a share.
const FEWEST_TRIES: u64 = 20;
/// Fewer times of the others than this say nothing of a median.
const ENOUGH: u64 = 20;

/// For what a server is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    ConsecutiveErrors,
    WorseBy,
    SlowerThan,
    /// What tried it out has failed.
    Trial,
}

impl Reason {
    pub const ALL: [Self; 4] = [Self::ConsecutiveErrors, Self::WorseBy, Self::SlowerThan, Self::Trial];

    /// The `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::ConsecutiveErrors => "consecutive_errors",
            Self::WorseBy => "worse_by",
            Self::SlowerThan => "slower_than",
            Self::Trial => "trial",
        }
    }

    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.label() == label)
    }
}

/// What was seen of one server, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Tries in a row that found it unavailable.
    pub run: u32,
    /// The last tries, as many as `consecutive_errors`, and those of them that found it unavailable.
    pub unavailable: FailureShare,
    /// The last tries, and those of them that failed in whatever way.
    pub recent: FailureShare,
    /// The same within the window.
    pub window: FailureShare,
}

impl Seen {
    /// These servers together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            run: 0,
            unavailable: self.unavailable.plus(other.unavailable),
            recent: self.recent.plus(other.recent),
            window: self.window.plus(other.window),
        }
    }

    /// Of those together the others.
    pub fn minus(self, own: Self) -> Self {
        Self {
            run: 0,
            unavailable: self.unavailable.minus(own.unavailable),
            recent: self.recent.minus(own.recent),
            window: self.window.minus(own.window),
        }
    }
}

/// What the others did while a server had the tries that it is judged by: the last ones of its run, of those that are remembered
/// and of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meanwhile {
    /// Since it began to fail.
    pub since: FailureShare,
    pub run: FailureShare,
    pub recent: FailureShare,
    pub window: FailureShare,
}

/// What to note of servers' tries under these settings.
pub fn watched(plan: &OutlierPlan) -> Watched {
    let run = plan.consecutive_errors.map_or(u32::MAX, u32::from);
    Watched { run, shares: plan.worse_by.is_some(), times: plan.slower_than.is_some() }
}

/// How many servers of `count` may be down or ejected for one of them to be ejected: the share, at least one, and never all.
pub fn allowance(count: usize, max_ejected: Percent) -> usize {
    let share = usize::try_from(max_ejected.of(count as u64)).unwrap_or(usize::MAX);
    if count < 2 { 0 } else { share.clamp(1, count - 1) }
}

/// How many of so many may be down or ejected, in words.
pub fn told_allowance(allowed: usize, of: usize) -> String {
    format!("at most {allowed} of {of} may be down or ejected for one to be ejected")
}

/// What speaks for ejecting a server, in words as well; `meanwhile` is of the others.
pub fn reason(
    own: &Seen,
    others: &Seen,
    meanwhile: &Meanwhile,
    plan: &OutlierPlan,
) -> Option<(Reason, String)> {
    // What it did before it fell silent is no news.
    if own.window.of == 0 {
        return None;
    }
    by_run(own, others, meanwhile, plan).or_else(|| by_share(own, others, meanwhile, plan))
}

fn by_run(own: &Seen, others: &Seen, meanwhile: &Meanwhile, plan: &OutlierPlan) -> Option<(Reason, String)> {
    let enough = plan.consecutive_errors?.get();
    let run = u64::from(own.run);
    // Whoever fails since a moment ago has others beside him that fail as well, if it is not he.
    let is_alone = lower(FailureShare { failed: run, of: run }, Z_RUN) > upper(others.unavailable, Z_RUN);
    // And a run that the others' share would make one day is nobody's fault.
    let is_no_chance = |share, z| upper(share, z).powf(run as f64) < BY_CHANCE;
    let is_worse = own.run >= enough
        && is_alone
        && is_no_chance(others.recent, Z_RUN)
        && [meanwhile.since, meanwhile.run].iter().all(|then| is_no_chance(*then, Z_SINCE));
    let FailureShare { failed, of } = others.unavailable;
    let told = || format!("{run} tries in a row failed; of the others' last {of} {failed} did");
    is_worse.then(|| (Reason::ConsecutiveErrors, told()))
}

fn by_share(
    own: &Seen,
    others: &Seen,
    meanwhile: &Meanwhile,
    plan: &OutlierPlan,
) -> Option<(Reason, String)> {
    let worse_by = f64::from(plan.worse_by?.0) / 100.0;
    let is_worse = |own: FailureShare, others: FailureShare, then: FailureShare| {
        let (own_least, most) = (lower(own, Z_SHARE), |share| upper(share, Z_SHARE));
        let is_alone = own_least > most(meanwhile.since) && own_least > upper(then, Z_SINCE);
        let is_no_chance = likelihood::ratio((own.failed, own.of), (others.failed, others.of)) > NO_CHANCE;
        own.of >= FEWEST_TRIES && own_least > most(others) + worse_by && is_no_chance && is_alone
    };
    let told = |own: FailureShare, others: FailureShare, when: &str| {
        let text = format!(
            "{} of {} tries failed{when}; of the others' {} {} did",
            own.failed, own.of, others.of, others.failed
        );
        (Reason::WorseBy, text)
    };
    if is_worse(own.window, others.window, meanwhile.window) {
        return Some(told(own.window, others.window, &format!(" within {:?}", plan.window)));
    }
    // A busy server has turned long before its window shows it.
    is_worse(own.recent, others.recent, meanwhile.recent)
        .then(|| told(own.recent, others.recent, ", the last ones"))
}

fn lower(share: FailureShare, z: f64) -> f64 {
    wilson::bounds(share.failed, share.of, z).0
}

fn upper(share: FailureShare, z: f64) -> f64 {
    wilson::bounds(share.failed, share.of, z).1
}

/// Fewer of a server's times to the first byte decide nothing, however long they are.
pub const FEWEST_TIMES: u64 = 7;

/// Whether one server's median time to the first byte is that much above the others': so many of its times are longer than that
/// limit that most of all it would serve must be. Whoever is very slow serves few.
pub fn is_slow(own: &Times, others: &Times, plan: &OutlierPlan) -> bool {
    let Some(limit) = slow_limit(others, plan) else { return false };
    let longer = longer_than(own, limit);
    let longer = FailureShare { failed: longer, of: own.iter().sum() };
    longer.of >= FEWEST_TIMES && others.iter().sum::<u64>() >= ENOUGH && lower(longer, Z_SHARE) > 0.5
}

/// Beyond this a time to the first byte is a slow server's, beside these of others.
pub fn slow_limit(others: &Times, plan: &OutlierPlan) -> Option<Duration> {
    Some(median(others)?.mul_f64(plan.slower_than?.get()))
}

/// How long an ejection lasts after so many before it, give or take a tenth by `chance`, 0 to 1.
pub fn duration(plan: &OutlierPlan, strikes: u32, chance: f64) -> Duration {
    let doubled = plan.base_ejection.saturating_mul(1u32.checked_shl(strikes).unwrap_or(u32::MAX));
    doubled.min(plan.max_ejection).mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0))
}
