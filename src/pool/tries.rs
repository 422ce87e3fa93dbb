//! The tries of one request, connection or session: which server is next, whether there may be one more after a failure,
//! and what is counted of it.

use super::queue::{Granted, QueuePlace, Refusal, WaitTerms};
use super::stats::RetryReason;
use super::{Lease, NoServer, Outcome, Pool, Query, Server, Tried, TryResult};
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
    tried: Tried,
    /// What was tried before the present try.
    tried_before: Tried,
    /// Passed over while others are left.
    avoided: Option<Box<Tried>>,
    was_stale: bool,
    /// Who waits when every server is full, and in which class.
    priority: Option<Priority>,
    /// When a server was first asked for.
    arrived: Option<Instant>,
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
        let (tried, tried_before) = (Tried::new(), Tried::new());
        Self {
            pool,
            query,
            tried,
            tried_before,
            avoided: None,
            was_stale: false,
            priority: None,
            arrived: None,
        }
    }

    /// The same for what waits while every usable server is full, if the pool lets it.
    pub fn waiting_as(self, priority: Priority) -> Self {
        Self { priority: Some(priority), ..self }
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

    /// Whether every server being full is no end: it can `enter` the queue.
    pub fn may_wait(&self) -> bool {
        self.priority.is_some() && self.pool.plan.queue.is_some()
    }

    /// Whether others wait, who were there before.
    fn is_behind_others(&self) -> bool {
        self.pool.queue.waiting() > 0 && self.may_wait()
    }

    /// Leases a server that was not tried yet. If there is none, everything stays as it is.
    pub fn begin<'a>(&mut self, attempt: &'a mut Attempt, now: Instant) -> Result<&'a Arc<Server>, NoServer> {
        self.arrived.get_or_insert(now);
        if self.is_behind_others() {
            return Err(NoServer::AllFull);
        }
        let (lease, tried) = self.pick(&self.tried, self.avoided.as_deref())?;
        self.tried_before = std::mem::replace(&mut self.tried, tried);
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
        if is_ours || attempt.number > retries.max || !reason.is_among(&retries.on) {
            return NextTry::None;
        }
        if is_charged && (retries.budget.0 == 0 || self.pool.budget.is_spent()) {
            return NextTry::None;
        }
        let before = match reason == RetryReason::Stale {
            true => {
                // The server closed an idle connection just as we wrote to it (RFC 9112 section 9.3.1):
                // no fault of its own, so it may be chosen again, and must not be full of ourselves then.
                self.was_stale = true;
                attempt.end(outcome);
                self.tried_before.clone()
            }
            false => self.tried.clone(),
        };
        // What no server has seen waits; of what one has seen, this may be the answer.
        let may_wait = !is_charged && self.may_wait();
        if may_wait && self.is_behind_others() {
            return NextTry::Waits;
        }
        let (lease, tried) = match self.pick(&before, self.avoided_again().as_ref()) {
            Ok(picked) => picked,
            Err(NoServer::AllFull) if may_wait => return NextTry::Waits,
            Err(_) => return NextTry::None,
        };
        // It is paid for only when there is a server to send it to.
        if is_charged && !self.pool.budget.withdraw() {
            lease.finish(&Outcome::of(TryResult::NotServersFault));
            return NextTry::None;
        }
        (self.tried_before, self.tried) = (before, tried);
        self.pool.stats.count_retry(reason);
        attempt.end(outcome);
        NextTry::At(attempt.begin(lease, now))
    }

    /// Waits in the pool's queue, after every usable server was full; a place there, and for how long it may be kept. No
    /// try is under way meanwhile.
    pub fn enter(&mut self, now: Instant) -> Result<(QueuePlace, Duration), Refusal> {
        let (Some(priority), Some(settings)) = (self.priority, &self.pool.plan.queue) else {
            return Err(NoServer::AllFull.into());
        };
        let arrived = *self.arrived.get_or_insert(now);
        let id = |index: usize| self.pool.members[index].server.id();
        let tried = self.tried.indexes().map(id).collect();
        let terms = WaitTerms { query: self.query, priority, arrived, tried };
        Ok((self.pool.queue.enter(terms, settings, now)?, settings.timeout))
    }

    /// Takes the server that waiting has brought, in the pool that is in force by now.
    pub fn take<'a>(&mut self, granted: Granted, attempt: &'a mut Attempt, now: Instant) -> &'a Arc<Server> {
        let Granted { pool, lease, tried } = granted;
        (self.pool, self.avoided) = (pool, None);
        self.tried = tried.clone();
        self.tried.insert(lease.index());
        self.tried_before = tried;
        if attempt.number > 0 {
            self.pool.stats.count_retry(RetryReason::Connect);
        }
        attempt.begin(lease, now)
    }

    /// After a failure, also the servers that sources no longer name: what has failed may be gone with them.
    fn avoided_again(&self) -> Option<Tried> {
        let mut avoided = self.avoided.as_deref().cloned().unwrap_or_else(Tried::new);
        let members = self.pool.members.iter().enumerate();
        let missing = members.filter(|(_, member)| member.server.is_missing());
        missing.for_each(|(index, _)| avoided.insert(index));
        Some(avoided).filter(|avoided| !avoided.is_empty())
    }

    /// A server that is not among `tried`, and what is tried with it; one of those avoided only if there is no other.
    fn pick(&self, tried: &Tried, avoided: Option<&Tried>) -> Result<(Lease, Tried), NoServer> {
        if let Some(avoided) = avoided {
            let mut passed_over = avoided.clone();
            tried.indexes().for_each(|index| passed_over.insert(index));
            if let Ok(lease) = self.pool.pick(&self.query, &mut passed_over) {
                let mut tried = tried.clone();
                tried.insert(lease.index());
                return Ok((lease, tried));
            }
        }
        let mut tried = tried.clone();
        self.pool.pick(&self.query, &mut tried).map(|lease| (lease, tried))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{Balance, RetryOn};
    use crate::pool::sample::{live, member, pool, set_down};
    use crate::pool::{RetryBudget, TryVerdict};
    use crate::units::Percent;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    const FAILED: Outcome = Outcome { result: TryResult::Reset, waited: None };

    fn with_retries(servers: &str, max: u32, budget: u32) -> Arc<Pool> {
        let mut plan = pool(Balance::RoundRobin, servers);
        (plan.retries.max, plan.retries.budget) = (max, Percent(budget));
        live(plan)
    }

    fn begun(pool: &Arc<Pool>) -> (Tries, Attempt) {
        let mut begun = (Tries::new(Arc::clone(pool), Query::default()), Attempt::default());
        begun.0.begin(&mut begun.1, Instant::now()).expect("a server is ready");
        begun
    }

    fn again((tries, attempt): &mut (Tries, Attempt), reason: RetryReason) -> bool {
        matches!(tries.again(attempt, reason, &FAILED, Instant::now()), NextTry::At(_))
    }

    #[test]
    fn there_are_as_many_tries_as_the_pool_allows_each_on_another_server() {
        let pool = with_retries("a b c d", 2, 20);
        let mut request = begun(&pool);
        let mut seen = vec![request.1.server().cloned()];
        while again(&mut request, RetryReason::Connect) {
            seen.push(request.1.server().cloned());
        }
        seen.iter().flatten().for_each(|server| {
            assert_eq!(seen.iter().flatten().filter(|other| Arc::ptr_eq(server, other)).count(), 1);
        });
        assert_eq!((seen.len(), request.1.number(), pool.stats.retries(RetryReason::Connect)), (3, 3, 2));
        assert!(request.1.is_under_way(), "the last one's answer may be passed on");
    }

    #[test]
    fn a_failed_try_is_followed_by_one_at_a_server_that_is_not_missing() {
        let pool = with_retries("a b c d e f", 1, 20);
        pool.members[1..]
            .iter()
            .for_each(|member| member.server.set_missing(member.server.name().as_ref() != "e"));
        for _ in 0..12 {
            let mut request = begun(&pool);
            let first = request.1.server().expect("it has begun").name().to_string();
            assert!(again(&mut request, RetryReason::Connect));
            let next = request.1.server().expect("it goes on").name().to_string();
            assert!(["a", "e"].contains(&next.as_str()) && next != first, "{first}, then {next}");
        }
        pool.members[0].server.set_missing(true);
        pool.members[4].server.set_missing(true);
        assert!(again(&mut begun(&pool), RetryReason::Connect), "a missing one is better than none");
    }

    #[test]
    fn what_is_not_to_be_retried_is_not() {
        let mut plan = pool(Balance::RoundRobin, "a b c");
        plan.retries.on = RetryOn { connect: true, reset: false, statuses: vec![502, 504] };
        let pool = live(plan);
        for (reason, is_retried) in [
            (RetryReason::Connect, true),
            (RetryReason::Reset, false),
            (RetryReason::Stale, false),
            (RetryReason::BadGateway, true),
            (RetryReason::Unavailable, false),
            (RetryReason::GatewayTimeout, true),
        ] {
            assert_eq!(again(&mut begun(&pool), reason), is_retried, "{reason:?}");
        }
        let (mut tries, mut attempt) = begun(&pool);
        let ours = Outcome::of(TryResult::NotServersFault);
        let next = tries.again(&mut attempt, RetryReason::Connect, &ours, Instant::now());
        assert!(matches!(next, NextTry::None));
    }

    #[test]
    fn the_budget_is_for_what_gave_a_server_work() {
        let pool = with_retries("a b", 1, 20);
        for spent in 0..=RetryBudget::START {
            assert_eq!(again(&mut begun(&pool), RetryReason::Reset), spent < RetryBudget::START);
        }
        assert!(again(&mut begun(&pool), RetryReason::Connect));
        let without = with_retries("a b", 1, 0);
        assert!(!again(&mut begun(&without), RetryReason::Reset));
        assert!(again(&mut begun(&without), RetryReason::Connect));
    }

    #[test]
    fn no_budget_is_spent_without_a_server_to_send_to() {
        let pool = with_retries("a", 1, 20);
        for _ in 0..RetryBudget::START * 2 {
            assert!(!again(&mut begun(&pool), RetryReason::Reset));
        }
        assert!(pool.budget.withdraw());
    }

    #[test]
    fn a_stale_connection_lets_the_same_server_be_chosen_once_though_it_is_full() {
        let mut plan = pool(Balance::RoundRobin, "a");
        plan.servers[0].max_connections = NonZeroU32::new(1);
        plan.retries.max = 5;
        let pool = live(plan);
        let mut request = begun(&pool);
        assert_eq!(request.0.reason_after_reset(false), RetryReason::Reset);
        assert_eq!(request.0.reason_after_reset(true), RetryReason::Stale);
        assert!(again(&mut request, RetryReason::Stale));
        assert!(request.0.was_stale());
        assert_eq!(member(&pool, "a").in_flight(), 1);
        assert_eq!(request.0.reason_after_reset(true), RetryReason::Reset, "the second time");
        assert!(!again(&mut request, RetryReason::Reset), "there is no other server");
        assert_eq!(pool.stats.retries(RetryReason::Stale), 1);
    }

    #[test]
    fn who_is_avoided_is_chosen_when_nobody_else_is_left() {
        let pool = with_retries("a b c", 9, 20);
        let ids = ["a", "b"].map(|name| member(&pool, name).id());
        for _ in 0..9 {
            let mut tries = Tries::new(Arc::clone(&pool), Query::default()).avoiding(&ids);
            let mut attempt = Attempt::default();
            tries.begin(&mut attempt, Instant::now()).expect("c is ready");
            assert_eq!(attempt.server().map(|server| &**server.name()), Some("c"));
            let mut request = (tries, attempt);
            assert!(again(&mut request, RetryReason::Connect));
            assert!(again(&mut request, RetryReason::Connect));
            assert!(!again(&mut request, RetryReason::Connect), "each once");
        }
        set_down(&pool, "c");
        let mut tries = Tries::new(Arc::clone(&pool), Query::default()).avoiding(&ids);
        assert!(tries.begin(&mut Attempt::default(), Instant::now()).is_ok());
    }

    proptest! {
        /// Whatever fails and however often: as many tries as allowed, every one ends with one outcome, nothing stays leased.
        #[test]
        fn every_try_is_counted_once(
            max in 0u32..5,
            budget in 0u32..3,
            limit in 0u32..3,
            requests in prop::collection::vec(prop::collection::vec(0..RetryReason::ALL.len(), 0..8), 1..30),
        ) {
            let mut plan = pool(Balance::RoundRobin, "a b c");
            plan.servers.iter_mut().for_each(|server| server.max_connections = NonZeroU32::new(limit));
            (plan.retries.max, plan.retries.budget) = (max, Percent(budget));
            let pool = live(plan);
            let mut tried = 0;
            let mut charged = 0;
            for failures in &requests {
                let mut request = begun(&pool);
                for failure in failures {
                    let (server, number) = (request.1.server().cloned(), request.1.number());
                    let reason = RetryReason::ALL[*failure];
                    match again(&mut request, reason) {
                        true => {
                            charged += u64::from(reason != RetryReason::Connect);
                            prop_assert_eq!(request.1.number(), number + 1);
                        }
                        false => {
                            prop_assert_eq!(request.1.number(), number);
                            let same = request.1.server().zip(server.as_ref());
                            prop_assert!(same.is_some_and(|(now, before)| Arc::ptr_eq(now, before)));
                        }
                    }
                }
                prop_assert!(request.1.number() <= max + 1);
                tried += u64::from(request.1.number());
                request.1.end(&Outcome::of(TryResult::Answered { status: 200 }));
            }
            prop_assert!(charged <= RetryBudget::START, "nobody has paid in");
            let of = |verdict| pool.members.iter().map(|member| member.server.tries().of(verdict)).sum::<u64>();
            prop_assert_eq!(of(TryVerdict::Served) + of(TryVerdict::Failed), tried);
            prop_assert_eq!(of(TryVerdict::Unknown) + of(TryVerdict::Neutral), 0);
            prop_assert!(pool.members.iter().all(|member| member.server.in_flight() == 0));
        }
    }
}
