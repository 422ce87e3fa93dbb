//! What is counted against a server for as long as it is worked for.

use super::learned::LearnedTime;
use super::outcome::{Outcome, TryResult, TryVerdict};
use super::outlier::{TrialTurn, Watched};
use super::server::Server;
use super::slot::Flags;
use std::sync::Arc;
use std::time::Instant;

/// One request or connection counted against a server. It gives itself back when dropped, on every
/// path: end, abort, timeout, retry, panic. `finish` says what the server made of it; without, that stays unknown.
#[must_use = "a lease that is dropped is given back"]
#[derive(Debug)]
pub struct Lease {
    server: Arc<Server>,
    index: u32,
    is_finished: bool,
    /// What the pool's algorithm is to learn of it, if it goes by what becomes of it.
    observation: Option<Observation>,
    /// What is noted of it by whoever judges servers by their work; `None` is nothing, or nothing more.
    watched: Option<Watched>,
    /// The turn that it has in trying the server out.
    trial: Option<TrialTurn>,
}

/// A try that something is learned from.
#[derive(Clone, Copy, Debug)]
struct Observation {
    /// When it began.
    from: LearnedTime,
    /// It is counted among those that the server is to answer.
    is_waited_for: bool,
}

impl Lease {
    /// A lease on a server with fewer than `max` out and no flag of `mask`.
    #[inline]
    pub(super) fn take(
        server: &Arc<Server>,
        index: usize,
        max: u32,
        mask: Flags,
        watched: Option<Watched>,
    ) -> Option<Self> {
        let index = u32::try_from(index).expect("a pool has far fewer servers");
        server.slot().acquire(max, mask).then(|| Self {
            server: server.clone(),
            index,
            is_finished: false,
            observation: None,
            watched,
            trial: None,
        })
    }

    /// The same where its end teaches the pool's algorithm something of the server.
    pub(super) fn taught(mut self, now: Instant) -> Self {
        self.observation = Some(Observation { from: self.server.learned().time(now), is_waited_for: false });
        self
    }

    /// The server has all of the request, and is to answer from now on.
    pub fn expects_answer(&mut self, now: Instant) {
        if let Some(observation) = &mut self.observation
            && !std::mem::replace(&mut observation.is_waited_for, true)
        {
            self.server.learned().waits(now);
        }
    }

    /// The head of its response is there; what it comes to may be known much later.
    pub fn answered(&mut self, now: Instant) {
        if let Some(observation) = &mut self.observation
            && std::mem::take(&mut observation.is_waited_for)
        {
            self.server.learned().answered(now);
        }
    }

    /// The same where it tries the server out by this turn.
    pub(super) fn trying_out(mut self, turn: TrialTurn) -> Self {
        self.trial = Some(turn);
        self
    }

    /// Gives it back with what has become of it.
    pub fn finish(mut self, outcome: &Outcome) {
        self.judge(outcome);
        if outcome.result == TryResult::ConnectFailed {
            self.server.early_probe().want();
        }
        self.server.tries().count(outcome.result.verdict());
        self.is_finished = true;
    }

    /// Has the server judged by what is known by now; what comes later is not held against it.
    pub fn judge(&mut self, outcome: &Outcome) {
        if self.observation.is_some() || self.watched.is_some() {
            self.teach(outcome);
        }
    }

    fn teach(&mut self, outcome: &Outcome) {
        if let Some(Observation { from, is_waited_for }) = self.observation.take() {
            if is_waited_for {
                self.server.learned().given_up();
            }
            self.server.learned().note(outcome, from);
            self.server.success().note(outcome);
        }
        if let Some(watched) = self.watched.take() {
            self.server.outlier().judge(outcome, watched, self.trial.take());
        }
    }

    /// However it ends, it says nothing of the server.
    pub fn is_no_evidence(&mut self) {
        self.judge(&Outcome::default());
    }

    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Which member of the pool it was.
    pub fn index(&self) -> usize {
        self.index as usize
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_finished {
            self.is_no_evidence();
            self.server.tries().count(TryVerdict::Unknown);
        }
        self.server.release();
    }
}

/// Leases that another process has out on the same server, counted here as well for as long as this value lives.
#[derive(Debug)]
pub struct InFlightElsewhere {
    server: Arc<Server>,
    count: u32,
}

impl InFlightElsewhere {
    /// None so far.
    pub fn new(server: &Arc<Server>) -> Self {
        Self { server: Arc::clone(server), count: 0 }
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    /// So many are out there now, whatever the limits are here.
    pub fn set(&mut self, count: u32) {
        while self.count < count && self.server.slot().acquire(u32::MAX, Flags::NONE) {
            self.count += 1;
        }
        while self.count > count {
            self.server.release();
            self.count -= 1;
        }
    }
}

impl Drop for InFlightElsewhere {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Balance;
    use crate::pool::sample::{live, member, pool};
    use crate::pool::{Operator, Query, Tried};

    #[test]
    fn a_lease_ends_with_its_outcome_or_nobody_knows() {
        let pool = live(pool(Balance::RoundRobin, "a"));
        let lease = || pool.pick(&Query::default(), &mut Tried::new()).expect("a is ready");
        for result in [
            TryResult::answered(500),
            TryResult::Connected,
            TryResult::Reset,
            TryResult::TimedOut,
            TryResult::ConnectFailed,
            TryResult::NotServersFault,
        ] {
            lease().finish(&Outcome::of(result));
        }
        drop(lease());
        let server = member(&pool, "a");
        let counts = [TryVerdict::Served, TryVerdict::Failed, TryVerdict::Neutral, TryVerdict::Unknown];
        assert_eq!(counts.map(|verdict| server.tries().of(verdict)), [2, 3, 1, 1]);
        assert_eq!(server.in_flight(), 0);
    }

    #[test]
    fn leases_of_another_process_count_as_long_as_it_has_them() {
        let pool = live(pool(Balance::RoundRobin, "a"));
        let server = member(&pool, "a");
        server.set_operator(Operator::Drain);
        let mut elsewhere = InFlightElsewhere::new(server);
        for count in [3, 5, 2] {
            elsewhere.set(count);
            assert_eq!((server.in_flight(), elsewhere.count()), (count, count));
        }
        drop(elsewhere);
        assert_eq!(server.in_flight(), 0);
    }
}
