//! The tries of one request, connection or session: which server is next, whether there may be one more after a failure,
//! and what is counted of it.

use super::queue::{Granted, QueuePlace, Refusal, WaitTerms};
use super::stats::RetryReason;
use super::{Bound, BoundPick, Lease, NoServer, Outcome, Pool, Query, Server, Tried, TryResult};
use crate::config::plan::Priority;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The present try, or the last one. It keeps nothing of the pool, so it may last as long as a connection does.
#[derive(Debug, Default)]
pub struct Attempt {
    lease: Option<Lease>,
    server: Option<Arc<Server>>,
    number: u32,
    started: Option<Instant>,
}

impl Attempt {
    /// Whether a server has the work now.
    pub fn is_under_way(&self) -> bool {
        self.lease.is_some()
    }

    /// The server of the last try, which may be over.
    pub fn server(&self) -> Option<&Arc<Server>> {
        self.server.as_ref()
    }

    /// The place of its server in the pool of the tries that it is one of, as long as it has the work.
    pub fn place(&self) -> Option<usize> {
        self.lease.as_ref().map(Lease::index)
    }

    /// How many tries there were, with this one.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// How long ago this try began.
    pub fn elapsed(&self, now: Instant) -> Duration {
        self.started.map_or(Duration::ZERO, |started| now.saturating_duration_since(started))
    }

    /// Gives the lease back, if there is one: the server has nothing more to do.
    pub fn end(&mut self, outcome: &Outcome) {
        if let Some(lease) = self.lease.take() {
            lease.finish(outcome);
        }
    }

    /// Has the server judged by what is known by now; what comes later is not held against it.
    pub fn judge(&mut self, outcome: &Outcome) {
        if let Some(lease) = &mut self.lease {
            lease.judge(outcome);
        }
    }

    /// The server has all of it, and is to answer from now on.
    pub fn expects_answer(&mut self, now: Instant) {
        if let Some(lease) = &mut self.lease {
            lease.expects_answer(now);
        }
    }

    /// The head of its response is there.
    pub fn answered(&mut self, now: Instant) {
        if let Some(lease) = &mut self.lease {
            lease.answered(now);
        }
    }

    /// However it ends, it says nothing of the server.
    pub fn is_no_evidence(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.is_no_evidence();
        }
    }

    fn begin(&mut self, lease: Lease, now: Instant) -> &Arc<Server> {
        self.number += 1;
        self.started = Some(now);
        let server = self.server.insert(Arc::clone(lease.server()));
        self.lease = Some(lease);
        server
    }
}

/// Where the next try may go. It lasts for one request, or until a connection is open.
#[derive(Debug)]
pub struct Tries {
    pool: Arc<Pool>,
    query: Query,
    /// In order: the present try is the last.
    tried: Tried,
    /// The server that its client has a session at.
    bound: Option<Bound>,
    /// Passed over while others are left.
    avoided: Option<Box<Tried>>,
    was_stale: bool,
    /// What a stale connection had brought to the server that its client has a session at went there once more: no other has seen
    /// it, so that is no try of those that a pool allows.
    was_repeated_there: bool,
    /// Who waits when every server is full, and in which class.
    priority: Option<Priority>,
    /// When a server was first asked for.
    arrived: Option<Instant>,
}

/// How long one waits in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the server that it is bound to, if it is; then for any.
    pub bound: Option<Duration>,
    pub whole: Duration,
}

/// What comes of a try that failed.
#[derive(Debug)]
pub enum NextTry<'a> {
    /// There is one more, there.
    At(&'a Arc<Server>),
    /// There may be one more once a server has room.
    Waits,
    /// There is none.
    None,
}

impl Tries {
    pub fn new(pool: Arc<Pool>, query: Query) -> Self {
        Self {
            pool,
            query,
            tried: Tried::new(),
            bound: None,
            avoided: None,
            was_stale: false,
            was_repeated_there: false,
            priority: None,
            arrived: None,
        }
    }

    /// The same for what waits while every usable server is full, if the pool lets it.
    pub fn waiting_as(self, priority: Priority) -> Self {
        Self { priority: Some(priority), ..self }
    }

    /// The same for a client that has a session at a server: that one, if it can be had.
    pub fn bound_to(self, bound: Bound) -> Self {
        Self { bound: Some(bound), ..self }
    }

    /// Passes over the servers with these ids as long as others can be had.
    pub fn avoiding(mut self, ids: &[u32]) -> Self {
        let avoided = self.pool.tried(ids);
        self.avoided = (!avoided.is_empty()).then(|| Box::new(avoided));
        self
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Whether a kept connection was found closed: the next is to be a new one.
    pub fn was_stale(&self) -> bool {
        self.was_stale
    }

    /// What a reset before any response calls for, on a connection that may have been closed while it was idle. That is
    /// believed once.
    pub fn reason_after_reset(&self, may_be_stale: bool) -> RetryReason {
        if may_be_stale && !self.was_stale { RetryReason::Stale } else { RetryReason::Reset }
    }

    /// How soon a server that has closed an idle connection says so: it has the request for no longer than that takes.
    pub const STALE_WITHIN: Duration = Duration::from_millis(100);

    /// Whether every server being full is no end: it can `enter` the queue.
    pub fn may_wait(&self) -> bool {
        self.priority.is_some() && self.pool.plan.queue.is_some()
    }

    /// Whether others wait, who were there before.
    fn is_behind_others(&self) -> bool {
        self.pool.queue.waiting_for_any() > 0 && self.may_wait()
    }

    /// Leases a server that was not tried yet. If there is none, everything stays as it is.
    pub fn begin<'a>(&mut self, attempt: &'a mut Attempt, now: Instant) -> Result<&'a Arc<Server>, NoServer> {
        self.arrived.get_or_insert(now);
        if self.is_behind_others() {
            return Err(NoServer::AllFull);
        }
        self.query.now = Some(now);
        let lease = match self.pick_bound(now)? {
            Some(lease) => lease,
            None => pick(&self.pool, &self.query, &mut self.tried, self.avoided.as_deref())?,
        };
        Ok(attempt.begin(lease, now))
    }

    /// After a try that failed like this, and may be repeated: leases a server for one more, if the pool's settings allow
    /// it and there is one. If not, the attempt stays as it is, for what it has brought may be the answer; but for that on a
    /// stale connection, which ends first.
    ///
    /// A connection that could not be opened gave nobody work. Any other try more doubles the work of servers that may be
    /// failing under it, which is what the budget is for.
    pub fn again<'a>(
        &mut self,
        attempt: &'a mut Attempt,
        reason: RetryReason,
        outcome: &Outcome,
        now: Instant,
    ) -> NextTry<'a> {
        let retries = &self.pool.plan.retries;
        let is_charged = reason != RetryReason::Connect;
        // What we lack ourselves no other server has.
        let is_ours = !is_charged && outcome.result == TryResult::NotServersFault;
        if is_ours || !self.may_follow(attempt) || !reason.is_among(&retries.on) {
            return NextTry::None;
        }
        let at_its_server = self
            .bound
            .is_some_and(|bound| attempt.server.as_ref().is_some_and(|server| server.id() == bound.server()));
        if at_its_server && (reason.is_of_status() || reason == RetryReason::Timeout) {
            // Elsewhere its client is a stranger: that page would be no better.
            return NextTry::None;
        }
        if is_charged && (retries.budget.0 == 0 || self.pool.budget.is_spent()) {
            return NextTry::None;
        }
        let stale_at = attempt.place().filter(|_| reason == RetryReason::Stale);
        if reason == RetryReason::Stale {
            // The server closed an idle connection just as we wrote to it (RFC 9112 section 9.3.1): no fault of its own, so
            // it may be chosen again, and must not be full of ourselves then. But one that has died looks the same, so
            // others come first.
            self.was_stale = true;
            self.tried.forget_last();
            attempt.end(outcome);
        } else {
            self.bound = self.bound.filter(|_| !at_its_server);
        }
        // What no server has seen waits; of what one has seen, this may be the answer.
        let may_wait = !is_charged && self.may_wait();
        if may_wait && self.is_behind_others() {
            return NextTry::Waits;
        }
        self.query.now = Some(now);
        let picked = match self.pick_bound(now) {
            Ok(Some(lease)) => Ok(lease),
            Ok(None) => {
                let mut avoided = self.avoided_again();
                if let Some(place) = stale_at {
                    avoided.get_or_insert_default().insert(place);
                }
                match pick(&self.pool, &self.query, &mut self.tried, avoided.as_ref()) {
                    Err(NoServer::AllTried) if !is_charged => {
                        self.pool.pick_unseen(&self.query, &mut self.tried)
                    }
                    picked => picked,
                }
            }
            Err(none) => Err(none),
        };
        let lease = match picked {
            Ok(lease) => lease,
            Err(NoServer::AllFull) if may_wait => return NextTry::Waits,
            Err(_) => return NextTry::None,
        };
        let is_there_again = stale_at == Some(lease.index()) && at_its_server;
        // It is paid for only when there is a server to send it to.
        if is_charged && !self.pool.budget.withdraw() {
            self.tried.forget_last();
            lease.finish(&Outcome::of(TryResult::NotServersFault));
            return NextTry::None;
        }
        self.was_repeated_there |= is_there_again;
        self.pool.stats.count_retry(reason);
        attempt.end(outcome);
        NextTry::At(attempt.begin(lease, now))
    }

    /// The present try has come to nothing that its server knows of: the next is as if it had not been, and passes over the servers
    /// with these ids as long as others can be had.
    pub fn take_back(&mut self, attempt: &mut Attempt, ids: &[u32]) {
        attempt.end(&Outcome::of(TryResult::NotServersFault));
        attempt.number = attempt.number.saturating_sub(1);
        self.tried.forget_last();
        let avoided = self.pool.tried(ids);
        self.avoided = (!avoided.is_empty()).then(|| Box::new(avoided));
    }

    /// Whether the pool allows one try more than there were.
    fn may_follow(&self, attempt: &Attempt) -> bool {
        let max = self.pool.plan.retries.max;
        // Who wants nothing sent twice has nothing sent twice.
        attempt.number <= max + u32::from(self.was_repeated_there && max > 0)
    }

    /// How long the present try may take until its response's head, where another one would follow: the request may be sent
    /// again, and there is a server that it was not sent to. The last try has all the time that there is.
    pub fn patience(&self, attempt: &Attempt) -> Option<Duration> {
        let retries = &self.pool.plan.retries;
        let per_try = retries.per_try.filter(|_| retries.on.timeout && self.may_follow(attempt))?;
        let is_paid_for = retries.budget.0 > 0 && !self.pool.budget.is_spent();
        let is_free = self.bound.is_none() && self.pool.has_untried(&self.tried);
        (is_paid_for && is_free).then_some(per_try)
    }

    /// Waits in the pool's queue, after every usable server was full; a place there, and for how long it may be kept. No
    /// try is under way meanwhile.
    pub fn enter(&mut self, now: Instant) -> Result<(QueuePlace, Patience), Refusal> {
        let (Some(priority), Some(settings)) = (self.priority, &self.pool.plan.queue) else {
            return Err(NoServer::AllFull.into());
        };
        let arrived = *self.arrived.get_or_insert(now);
        let id = |index: usize| self.pool.members[index].server.id();
        let tried = self.tried.indexes().map(id).collect();
        let terms = WaitTerms { query: self.query, priority, arrived, tried, bound: self.bound };
        let patience = Patience { bound: self.bound.map(|bound| bound.wait()), whole: settings.timeout };
        Ok((self.pool.queue.enter(terms, settings, now)?, patience))
    }

    /// Takes the server that waiting has brought, in the pool that is in force by now.
    pub fn take<'a>(&mut self, granted: Granted, attempt: &'a mut Attempt, now: Instant) -> &'a Arc<Server> {
        let Granted { pool, lease, tried } = granted;
        (self.pool, self.avoided) = (pool, None);
        // Whoever has waited for its own server in vain belongs to none.
        self.bound = self.bound.filter(|bound| bound.server() == lease.server().id());
        self.tried = tried;
        self.tried.insert(lease.index());
        if attempt.number > 0 {
            self.pool.stats.count_retry(RetryReason::Connect);
        }
        attempt.begin(lease, now)
    }

    /// Whether it has a place in the line until the server that it is bound to has room.
    fn may_wait_for(&self, bound: &Bound) -> bool {
        let settings = self.pool.plan.queue.as_ref().filter(|_| self.may_wait() && !bound.wait().is_zero());
        settings.is_some_and(|queue| self.pool.queue.waiting() < queue.max.get() as usize)
    }

    /// The server that it is bound to, if that can be had; `None` if it goes anywhere.
    ///
    /// # Errors
    /// It is full, and may be waited for.
    fn pick_bound(&mut self, now: Instant) -> Result<Option<Lease>, NoServer> {
        let Some(bound) = self.bound else { return Ok(None) };
        match self.pool.pick_bound(&bound, &mut self.tried, now) {
            BoundPick::Leased(lease) => return Ok(Some(lease)),
            BoundPick::Full if self.may_wait_for(&bound) => return Err(NoServer::AllFull),
            BoundPick::Full | BoundPick::Gone => self.bound = None,
        }
        Ok(None)
    }

    /// After a failure, also the servers that sources no longer name: what has failed may be gone with them.
    fn avoided_again(&self) -> Option<Tried> {
        let mut avoided = self.avoided.as_deref().cloned().unwrap_or_default();
        let members = self.pool.members.iter().enumerate();
        let missing = members.filter(|(_, member)| member.server.is_missing());
        missing.for_each(|(index, _)| avoided.insert(index));
        Some(avoided).filter(|avoided| !avoided.is_empty())
    }
}

/// A server that is not among those tried, which it is then; one of those avoided only if there is no other.
fn pick(pool: &Pool, query: &Query, tried: &mut Tried, avoided: Option<&Tried>) -> Result<Lease, NoServer> {
    if let Some(avoided) = avoided {
        let mut passed_over = avoided.clone();
        tried.indexes().for_each(|index| passed_over.insert(index));
        if let Ok(lease) = pool.pick(query, &mut passed_over) {
            tried.insert(lease.index());
            return Ok(lease);
        }
    }
    pool.pick(query, tried)
}

#[cfg(test)]
mod tests;
