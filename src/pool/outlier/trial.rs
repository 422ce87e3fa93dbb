//! How a server that was ejected comes back: by requests that try it out, one at a time.

use super::record::Mark;
use crate::pool::outcome::TryResult;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// So many that go well bring it back.
pub const SUCCESSES: u64 = 3;

/// Whether there is a trial, and what it has come to.
#[derive(Debug, Default)]
pub struct Trial(AtomicU64);

/// A request's turn in a trial, by the trial's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialTurn(NonZeroU32);

/// What one request of a trial has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialResult {
    Passed,
    Failed,
    /// Nothing that says anything of the server.
    Inconclusive,
    /// It went well, and took longer than a server may that was ejected for that.
    Slow,
}

/// How far a trial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialProgress {
    /// There is none.
    Closed,
    /// So many have passed.
    Open(u64),
    Passed,
    /// One has failed, while so many quarters of one would still have to pass.
    Failed {
        missing: u64,
    },
    /// Two were slow.
    TooSlow,
}

const OPEN: u64 = 1;
const BUSY: u64 = 1 << 1;
/// Any request will do, not only one that may be repeated.
const ANY: u64 = 1 << 2;
const FAILED: u64 = 1 << 3;
/// One was slow; with `FAILED` two were.
const SLOW: u64 = 1 << 4;
const ONE_PASSED: u64 = 1 << 5;
/// A quarter of one that has to pass beyond `SUCCESSES`, for what has failed.
const ONE_OWED: u64 = 1 << 12;
/// Each trial has a number, so that what is left of the last one says nothing of the next.
const ONE_TRIAL: u64 = 1 << 20;
const MOST_PASSED: u64 = ONE_OWED / ONE_PASSED - 1;
const MOST_OWED: u64 = ONE_TRIAL / ONE_OWED - 1;
const QUARTERS: u64 = 4;

/// A server that is so many quarters short of passing is more likely by twenty to one to fail more than the others.
const MOST_MISSING: u64 = 7 * QUARTERS;

/// How many quarters of one must pass for one that has failed where so large a share of the others' tries fails, on top of what is
/// missing; `None` if nothing makes up for it. (Wald's sequential test of the others' share against one that leaves half of what
/// they serve: by each that passes the former is twice as likely, by each that fails so many doublings less.)
pub fn owed_for_one(missing: u64, others_share: f64) -> Option<u64> {
    let failing = f64::midpoint(1.0, others_share);
    let doublings = (failing / others_share).log2();
    let owed = (doublings * QUARTERS as f64).round().max(1.0) as u64;
    (others_share > 0.0 && missing + owed <= MOST_MISSING).then_some(owed)
}

/// The number of a trial that was opened.
fn number(word: u64) -> Option<TrialTurn> {
    NonZeroU32::new((word / ONE_TRIAL) as u32).map(TrialTurn)
}

impl Trial {
    /// Begins one.
    pub fn open(&self) {
        self.update(|word| OPEN | ((word / ONE_TRIAL + 1) * ONE_TRIAL));
    }

    pub fn close(&self) {
        self.update(|word| word / ONE_TRIAL * ONE_TRIAL);
    }

    /// From now on any request is one of it.
    pub fn open_to_any(&self) {
        self.update(|word| if word & OPEN != 0 { word | ANY } else { word });
    }

    pub fn progress(&self) -> TrialProgress {
        match self.0.load(Relaxed) {
            word if word & OPEN == 0 => TrialProgress::Closed,
            word if word & (FAILED | SLOW) == FAILED | SLOW => TrialProgress::TooSlow,
            word if word & FAILED != 0 => TrialProgress::Failed { missing: missing(word) },
            word if missing(word) == 0 => TrialProgress::Passed,
            word => TrialProgress::Open(passed(word)),
        }
    }

    /// What has failed is made up for by so many quarters more that pass. False if that is too long a trial.
    pub fn go_on(&self, owed: u64) -> bool {
        let may = |word: u64| word & FAILED != 0 && word % ONE_TRIAL / ONE_OWED + owed <= MOST_OWED;
        let with = |word: u64| may(word).then_some((word & !FAILED) + owed * ONE_OWED);
        self.0.fetch_update(Relaxed, Relaxed, with).is_ok()
    }

    /// Takes the turn of a request that may be repeated, or of any other; if there is one to take.
    pub fn take(&self, may_be_repeated: bool) -> Option<TrialTurn> {
        let take = |word: u64| is_free_for(word, may_be_repeated).then_some(word | BUSY);
        number(self.0.fetch_update(Relaxed, Relaxed, take).ok()?)
    }

    /// Whether `take` would find a turn.
    pub fn is_free_for(&self, may_be_repeated: bool) -> bool {
        is_free_for(self.0.load(Relaxed), may_be_repeated)
    }

    /// The request that had this turn is over. True if that decides the trial.
    pub fn end(&self, turn: TrialTurn, result: TrialResult) -> bool {
        let after = |word: u64| {
            let word = word & !BUSY;
            match result {
                TrialResult::Passed if passed(word) < MOST_PASSED => word + ONE_PASSED,
                TrialResult::Passed => word,
                TrialResult::Failed => word & !SLOW | FAILED,
                TrialResult::Slow if word & SLOW != 0 => word | FAILED,
                TrialResult::Slow => (word | SLOW) + ONE_PASSED,
                TrialResult::Inconclusive => word,
            }
        };
        let is_same = |word: u64| number(word) == Some(turn) && word & OPEN != 0;
        let ended = self.0.fetch_update(Relaxed, Relaxed, |word| is_same(word).then(|| after(word)));
        ended.is_ok_and(|word| {
            let word = after(word);
            word & FAILED != 0 || missing(word) == 0
        })
    }

    fn update(&self, next: impl Fn(u64) -> u64) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| Some(next(word)));
    }
}

fn is_free_for(word: u64, may_be_repeated: bool) -> bool {
    let has_turn = word & (OPEN | BUSY | FAILED) == OPEN && missing(word) > 0;
    has_turn && (may_be_repeated || word & ANY != 0)
}

fn passed(word: u64) -> u64 {
    word % ONE_OWED / ONE_PASSED
}

/// In quarters of one.
fn missing(word: u64) -> u64 {
    (SUCCESSES * QUARTERS + word % ONE_TRIAL / ONE_OWED).saturating_sub(passed(word) * QUARTERS)
}

/// What trials have come to, request by request.
#[derive(Debug, Default)]
pub struct TrialCounts([AtomicU64; TrialResult::ALL.len()]);

impl TrialCounts {
    pub fn count(&self, result: TrialResult) {
        self.0[result as usize].fetch_add(1, Relaxed);
    }

    pub fn of(&self, result: TrialResult) -> u64 {
        self.0[result as usize].load(Relaxed)
    }
}

impl TrialResult {
    /// What a try that tried a server out says of it.
    pub fn of(result: TryResult) -> Self {
        match Mark::of(result) {
            Some(Mark::Good) => Self::Passed,
            Some(Mark::Error | Mark::Unavailable) => Self::Failed,
            None => Self::Inconclusive,
        }
    }

    pub const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::Inconclusive, Self::Slow];

    /// The `result` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::Slow => "slow",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_at_a_time_and_three_that_go_well() {
        let trial = Trial::default();
        assert_eq!((trial.take(true), trial.progress()), (None, TrialProgress::Closed));
        trial.open();
        for passed in 1..=SUCCESSES {
            assert_eq!(trial.take(false), None, "only what may be repeated, at first");
            let turn = trial.take(true).expect("it is free");
            assert_eq!(trial.take(true), None, "one at a time");
            assert_eq!(trial.end(turn, TrialResult::Passed), passed == SUCCESSES);
        }
        assert_eq!((trial.progress(), trial.take(true)), (TrialProgress::Passed, None));
    }

    #[test]
    fn one_that_fails_ends_it_and_one_that_says_nothing_does_not() {
        let trial = Trial::default();
        trial.open();
        trial.open_to_any();
        let turn = trial.take(false).expect("anything will do");
        assert!(!trial.end(turn, TrialResult::Inconclusive));
        assert_eq!(trial.progress(), TrialProgress::Open(0));
        let turn = trial.take(true).expect("it is free again");
        assert!(trial.end(turn, TrialResult::Failed));
        assert_eq!(
            (trial.progress(), trial.take(true)),
            (TrialProgress::Failed { missing: 3 * QUARTERS }, None)
        );
    }

    #[test]
    fn what_has_failed_may_be_made_up_for() {
        let trial = Trial::default();
        let end = |result| trial.end(trial.take(true).expect("it is free"), result);
        trial.open();
        assert!(!end(TrialResult::Passed) && end(TrialResult::Failed));
        assert_eq!(trial.progress(), TrialProgress::Failed { missing: 2 * QUARTERS });
        assert!(trial.go_on(3) && !trial.go_on(3));
        assert_eq!(trial.progress(), TrialProgress::Open(1));
        assert!(!end(TrialResult::Passed) && !end(TrialResult::Passed) && end(TrialResult::Passed));
        assert_eq!((trial.progress(), trial.take(true)), (TrialProgress::Passed, None));
        trial.open();
        assert_eq!(trial.progress(), TrialProgress::Open(0), "the next one begins anew");
    }

    #[test]
    fn the_seldomer_others_fail_the_more_makes_up_for_one_that_does() {
        let owed = [0.0, 0.01, 0.03, 0.1, 0.3, 0.5, 1.0].map(|share| owed_for_one(3 * QUARTERS, share));
        assert_eq!(owed, [None, None, Some(16), Some(10), Some(4), Some(2), Some(1)]);
        assert_eq!([24, 25].map(|missing| owed_for_one(missing, 0.3)), [Some(4), None]);
    }

    #[test]
    fn one_that_is_slow_is_chance_and_two_are_not() {
        let trial = Trial::default();
        let end = |result| trial.end(trial.take(true).expect("it is free"), result);
        trial.open();
        assert!(!end(TrialResult::Slow) && !end(TrialResult::Passed) && end(TrialResult::Passed));
        assert_eq!(trial.progress(), TrialProgress::Passed);
        trial.open();
        assert!(!end(TrialResult::Slow) && !end(TrialResult::Passed) && end(TrialResult::Slow));
        assert_eq!((trial.progress(), trial.take(true)), (TrialProgress::TooSlow, None));
        trial.open();
        assert!(!end(TrialResult::Slow) && end(TrialResult::Failed));
        assert_eq!(trial.progress(), TrialProgress::Failed { missing: 2 * QUARTERS });
    }

    #[test]
    fn what_is_left_of_a_trial_says_nothing_of_the_next() {
        let trial = Trial::default();
        trial.open();
        let late = trial.take(true).expect("it is free");
        trial.close();
        assert!(!trial.end(late, TrialResult::Failed));
        trial.open();
        assert!(!trial.end(late, TrialResult::Failed));
        assert_eq!(trial.progress(), TrialProgress::Open(0));
        assert!(trial.take(true).is_some());
    }
}
