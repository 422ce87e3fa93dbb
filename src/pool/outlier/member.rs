//! What one server keeps of how it does beside the others.

use super::clients::PoolClient;
use super::judge::Reason;
use super::record::{Mark, TryRecord, Watched};
use super::signals::{OpenTrial, OutlierSignals};
use super::standing::Standing;
use super::trial::{Trial, TrialCounts, TrialResult, TrialTurn};
use crate::config::plan::Name;
use crate::pool::outcome::{Outcome, TryResult};
use crate::pool::source::LastSources;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One server's part.
#[derive(Debug)]
pub struct OutlierState {
    server: u32,
    /// Its pool, among pools.
    pool: u32,
    pub record: TryRecord,
    pub trial: Trial,
    pub trials: TrialCounts,
    /// A server that was ejected as it was slow is too slow still beyond so many microseconds; 0 is any other server.
    slow_limit: AtomicU64,
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
    /// That of the server with this number, of this pool.
    pub fn new(server: u32, pool: &Name, signals: &Arc<OutlierSignals>, now: Instant) -> Self {
        Self {
            server,
            pool: BuildHasherDefault::<DefaultHasher>::default().hash_one(pool) as u32,
            record: TryRecord::default(),
            trial: Trial::default(),
            trials: TrialCounts::default(),
            slow_limit: AtomicU64::new(0),
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
            let result = match TrialResult::of(outcome.result) {
                TrialResult::Passed if self.is_too_slow(outcome) => TrialResult::Slow,
                result => result,
            };
            self.trials.count(result);
            self.trial.end(turn, result)
        });
        if self.record.note(outcome, watched) || is_decided {
            self.signals.suspect();
        }
    }

    /// What a try may take of a server that is, or was ejected for being, slow.
    pub(super) fn slow_limit(&self) -> Option<Duration> {
        Some(self.slow_limit.load(Relaxed)).filter(|limit| *limit > 0).map(Duration::from_micros)
    }

    pub(super) fn set_slow_limit(&self, limit: Option<Duration>) {
        let micros = limit.map_or(0, |limit| u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1));
        self.slow_limit.store(micros, Relaxed);
    }

    fn is_too_slow(&self, outcome: &Outcome) -> bool {
        self.slow_limit().zip(outcome.waited).is_some_and(|(limit, waited)| waited > limit)
    }

    /// Whether it took as long as its client may have seen to, whose time was taken before. Where any server may serve it, one
    /// client's times are as good as another's.
    fn times_the_same(&self, outcome: &Outcome) -> bool {
        let has_time = outcome.waited.is_some() && Mark::of(outcome.result) == Some(Mark::Good);
        let bound = outcome.source.filter(|source| source.anywhere().is_none());
        has_time && bound.is_some_and(|source| self.timed.knows(source))
    }

    /// Whether a failure is one that its client may have brought about, and has before, and that no other server gives the lie to.
    fn fails_the_same(&self, outcome: &Outcome) -> bool {
        let Some(source) = outcome.source else { return false };
        let client = source.anywhere().map(|client| PoolClient::new(client, self.pool));
        match (outcome.result, Mark::of(outcome.result)) {
            // No request keeps a connection from being opened.
            (TryResult::ConnectFailed, _) | (_, None) => false,
            (_, Some(Mark::Good)) => {
                client.iter().for_each(|client| self.signals.clients.served(*client, self.server));
                false
            }
            (_, Some(Mark::Error | Mark::Unavailable)) => {
                let is_known = self.failing.knows(source);
                let is_alone = client.is_some_and(|client| self.signals.clients.failed(client, self.server));
                is_known && !is_alone
            }
        }
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
