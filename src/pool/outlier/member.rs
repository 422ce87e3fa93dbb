//! What one server keeps of how it does beside the others.

use super::judge::Reason;
use super::record::{Mark, TryRecord, Watched};
use super::signals::{OpenTrial, OutlierSignals};
use super::standing::Standing;
use super::trial::{Trial, TrialCounts, TrialResult, TrialTurn};
use crate::pool::outcome::{Outcome, TryResult};
use crate::pool::source::LastSources;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One server's part.
#[derive(Debug)]
pub struct OutlierState {
    pub record: TryRecord,
    pub trial: Trial,
    pub trials: TrialCounts,
    failing: LastSources,
    timed: LastSources,
    standing: Mutex<Standing>,
    open_trial: Mutex<Option<OpenTrial>>,
    ejections: [AtomicU64; Reason::ALL.len()],
    /// It was to be ejected, and too few others were left.
    prevented: AtomicU64,
    signals: Arc<OutlierSignals>,
}

impl OutlierState {
    pub fn new(signals: &Arc<OutlierSignals>, now: Instant) -> Self {
        Self {
            record: TryRecord::default(),
            trial: Trial::default(),
            trials: TrialCounts::default(),
            failing: LastSources::default(),
            timed: LastSources::default(),
            standing: Mutex::new(Standing::new(now)),
            open_trial: Mutex::default(),
            ejections: Default::default(),
            prevented: AtomicU64::new(0),
            signals: Arc::clone(signals),
        }
    }

    pub fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    pub fn set_standing(&self, standing: Standing) {
        *lock(&self.standing) = standing;
    }

    /// Has requests try it out.
    pub fn open_trial(&self) {
        self.trial.open();
        lock(&self.open_trial).get_or_insert_with(|| OpenTrial::new(&self.signals));
    }

    pub fn close_trial(&self) {
        self.trial.close();
        *lock(&self.open_trial) = None;
    }

    /// Takes note of a try, and of what it says where it tried the server out.
    pub fn judge(&self, outcome: &Outcome, watched: Watched, turn: Option<TrialTurn>) {
        let outcome = &match outcome {
            _ if self.fails_the_same(outcome) => Outcome::of(TryResult::NotServersFault),
            _ if watched.times && self.times_the_same(outcome) => Outcome { waited: None, ..*outcome },
            _ => *outcome,
        };
        let is_decided = turn.is_some_and(|turn| {
            let result = TrialResult::of(outcome.result);
            self.trials.count(result);
            self.trial.end(turn, result)
        });
        if self.record.note(outcome, watched) || is_decided {
            self.signals.suspect();
        }
    }

    /// Whether it took as long as its client may have seen to, whose time was taken before.
    fn times_the_same(&self, outcome: &Outcome) -> bool {
        let has_time = outcome.waited.is_some() && Mark::of(outcome.result) == Some(Mark::Good);
        has_time && outcome.source.is_some_and(|source| self.timed.knows(source))
    }

    /// Whether a failure is one that its client may have brought about, and has before.
    fn fails_the_same(&self, outcome: &Outcome) -> bool {
        let has_failed = !matches!(Mark::of(outcome.result), None | Some(Mark::Good));
        // No request keeps a connection from being opened.
        let may_be_its_doing = has_failed && outcome.result != TryResult::ConnectFailed;
        may_be_its_doing && outcome.source.is_some_and(|source| self.failing.knows(source))
    }

    pub fn count_ejection(&self, reason: Reason) {
        self.ejections[reason as usize].fetch_add(1, Relaxed);
    }

    pub fn ejections(&self, reason: Reason) -> u64 {
        self.ejections[reason as usize].load(Relaxed)
    }

    pub fn count_prevented(&self) {
        self.prevented.fetch_add(1, Relaxed);
    }

    pub fn prevented(&self) -> u64 {
        self.prevented.load(Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
