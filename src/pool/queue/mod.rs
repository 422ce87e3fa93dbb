//! A pool's queue: requests and connections that wait because every usable server is full.
//!
//! It belongs to the pool's name and outlives reloads, as servers do: who waits is served by the pool that is in force when
//! its turn comes. Every lease that ends, every change of a server's state and every reload serves it at once
//! ([`Queue::freed`]), on the thread where that happens.

pub mod handoff;
pub mod line;
pub mod rate;

use super::server::RoomListener;
use super::stats::Histogram;
use super::tried::Tried;
use super::{Bound, BoundPick, Lease, NoServer, Pool, Query};
use crate::config::plan::{Priority, QueueOrder, QueuePlan};
use futures_channel::oneshot;
use handoff::Handoff;
use line::{Lane, Line, LineRules, Offer, Ticket};
use rate::ServiceRate;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// The atomics of `handoff`, named in one place so that a test can put loom's in theirs.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
    pub(super) use std::sync::{Mutex, MutexGuard};
}

/// The queue of the pools of one name.
#[derive(Debug)]
pub struct Queue {
    line: Handoff<Waiters>,
    /// How many go to any server.
    waiting_for_any: Arc<AtomicUsize>,
    stats: QueueStats,
}

#[derive(Debug)]
struct Waiters {
    line: Line<Waiter>,
    waiting_for_any: Arc<AtomicUsize>,
    /// Who serves them: none before a snapshot is in force, or once the pool is gone.
    pool: Weak<Pool>,
    /// The pool is gone: nobody need wait.
    is_closed: bool,
    /// `None` as long as nobody has.
    clock: Option<Clock>,
    /// When somebody last entered.
    entered: Instant,
    /// As the last pool had them that lets anybody wait: who waits does so on where the next one lets nobody.
    rules: LineRules,
    rate: ServiceRate,
}

/// What tells the time to those that serve, on whichever thread that is.
pub type Clock = fn() -> Instant;

/// One that waits.
#[derive(Debug)]
struct Waiter {
    query: Query,
    /// Servers that it has tried, by their ids: the pool may be another one by then.
    tried: Box<[u32]>,
    /// The server that it would rather have.
    bound: Option<Bound>,
    /// Gone once it has it.
    answer: Option<oneshot::Sender<Answer>>,
}

/// What becomes of one that waits.
pub type Answer = Result<Granted, Refusal>;

/// A server, and the pool whose settings go for what is done there.
#[derive(Debug)]
pub struct Granted {
    pub pool: Arc<Pool>,
    pub lease: Lease,
    /// What was tried before.
    pub tried: Tried,
}

/// Why there is no server for a request, after it has waited or because it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    None(NoServer),
    /// As many wait already as may.
    QueueFull,
    /// It had to leave for one of a higher class.
    QueueShed,
    QueueTimeout,
}

impl From<NoServer> for Refusal {
    fn from(none: NoServer) -> Self {
        Self::None(none)
    }
}

/// How waiting has ended, or why it never began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueResult {
    Served,
    Full,
    Shed,
    Timeout,
    /// The client left, or its own deadline or the request's passed.
    Left,
    /// There was no server left that could be waited for.
    NoServer,
}

impl QueueResult {
    pub const ALL: [Self; 6] =
        [Self::Served, Self::Full, Self::Shed, Self::Timeout, Self::Left, Self::NoServer];

    /// The `result` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Full => "full",
            Self::Shed => "shed",
            Self::Timeout => "timeout",
            Self::Left => "left",
            Self::NoServer => "no_server",
        }
    }
}

/// What a queue has seen.
#[derive(Debug, Default)]
pub struct QueueStats {
    results: [AtomicU64; QueueResult::ALL.len()],
    /// How long those waited that did, however it ended.
    pub wait: Histogram,
}

impl QueueStats {
    pub fn of(&self, result: QueueResult) -> u64 {
        self.results[result as usize].load(Ordering::Relaxed)
    }

    fn count(&self, result: QueueResult) {
        self.results[result as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// What one brings that is to wait.
#[derive(Debug)]
pub struct WaitTerms {
    pub query: Query,
    pub priority: Priority,
    /// When it first came.
    pub arrived: Instant,
    pub tried: Box<[u32]>,
    /// The only server that it waits for at first.
    pub bound: Option<Bound>,
}

impl Queue {
    pub fn new(now: Instant) -> Arc<Self> {
        let (pool, rate) = (Weak::new(), ServiceRate::new(now));
        let (line, waiting_for_any) = (Line::default(), Arc::<AtomicUsize>::default());
        let for_any = Arc::clone(&waiting_for_any);
        // Of an empty line.
        let rules = LineRules { order: QueueOrder::Fifo, timeout: Duration::ZERO };
        let waiters =
            Waiters { line, waiting_for_any, pool, is_closed: false, clock: None, entered: now, rules, rate };
        let line = Handoff::new(waiters);
        Arc::new(Self { line, waiting_for_any: for_any, stats: QueueStats::default() })
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.line.waiting()
    }

    /// How many of them go to any server: as long as one does, every usable server is full.
    pub fn waiting_for_any(&self) -> usize {
        self.waiting_for_any.load(Ordering::Relaxed)
    }

    pub fn stats(&self) -> &QueueStats {
        &self.stats
    }

    /// Enters the line. Whoever may go at once has its answer when this returns.
    pub fn enter(
        self: &Arc<Self>,
        terms: WaitTerms,
        settings: &QueuePlan,
        now: Instant,
    ) -> Result<QueuePlace, Refusal> {
        let (sender, answer) = oneshot::channel();
        let WaitTerms { query, priority, arrived, tried, bound } = terms;
        let lane = bound.map_or(Lane::AnyServer, |bound| Lane::Server(bound.server()));
        let waiter = Waiter { query, tried, bound, answer: Some(sender) };
        let max = settings.max.get() as usize;
        let entered = self.line.change(
            |waiters| {
                waiters.entered = now;
                waiters.rules = LineRules::of(settings);
                let entered = waiters.line.enter(waiter, (priority, lane), arrived, max);
                (entered, waiters.count())
            },
            Waiters::serve,
        );
        let Ok(entered) = entered else {
            self.stats.count(QueueResult::Full);
            return Err(Refusal::QueueFull);
        };
        if let Some(mut shed) = entered.shed {
            shed.answer(Err(Refusal::QueueShed));
        }
        Ok(QueuePlace {
            queue: Arc::clone(self),
            ticket: entered.ticket,
            position: entered.position,
            began: now,
            answer,
            is_over: false,
        })
    }

    /// From now on this pool serves it.
    pub fn serve_by(&self, pool: &Arc<Pool>, clock: Clock) {
        self.serve_with(Arc::downgrade(pool), Some(clock));
    }

    /// There may be more room than there was.
    pub fn serve_again(&self) {
        self.freed();
    }

    /// The pool is gone, and no other of its name is there: whoever waits, or comes from now on, is told.
    pub fn close(&self) {
        self.serve_with(Weak::new(), None);
    }

    /// By this clock, or by none that is new where there is no pool.
    fn serve_with(&self, pool: Weak<Pool>, clock: Option<Clock>) {
        let replace = |waiters: &mut Waiters| {
            waiters.is_closed = clock.is_none();
            waiters.clock = clock.or(waiters.clock);
            waiters.pool = pool;
            ((), waiters.count())
        };
        self.line.change(replace, Waiters::serve);
    }

    /// After how many seconds a client that was refused may ask again.
    pub fn retry_after(&self, now: Instant, entropy: u64) -> u32 {
        let answer = |waiters: &mut Waiters| {
            (waiters.rate.retry_after(waiters.line.len(), now, entropy), waiters.count())
        };
        self.line.change(answer, Waiters::serve)
    }
}

impl RoomListener for Queue {
    fn freed(&self) {
        self.line.freed(Waiters::serve);
    }
}

impl Waiters {
    fn now(&self) -> Instant {
        self.clock.map_or(self.entered, |clock| clock())
    }

    /// How many wait.
    fn count(&self) -> usize {
        self.waiting_for_any.store(self.line.waiting_for_any(), Ordering::Relaxed);
        self.line.len()
    }

    /// Gives those that wait what there is, and says how many still do.
    fn serve(&mut self) -> usize {
        if !self.line.is_empty() {
            self.offer();
        }
        self.count()
    }

    fn offer(&mut self) {
        if self.is_closed {
            return self.refuse_all(NoServer::NoneReady);
        }
        let now = self.now();
        let Some(pool) = self.pool.upgrade() else { return };
        self.rules = pool.plan.queue.as_ref().map_or(self.rules, LineRules::of);
        let rate = &mut self.rate;
        self.line.serve(self.rules, now, |waiter, lane| {
            if waiter.is_leaving() {
                return Offer::Declined;
            }
            let picked = match lane {
                Lane::AnyServer => waiter.pick(&pool, now),
                Lane::Server(_) => match waiter.pick_bound(&pool, now) {
                    Ok(granted) => Ok(granted),
                    Err(offer) => return offer,
                },
            };
            match picked {
                Ok(granted) => {
                    rate.served(now);
                    waiter.answer(Ok(granted));
                    Offer::Taken
                }
                // Who has tried none may go wherever there is room.
                Err(NoServer::AllFull | NoServer::Unproven) if waiter.tried.is_empty() => Offer::Exhausted,
                Err(NoServer::AllFull | NoServer::Unproven) => Offer::Declined,
                Err(none) => {
                    waiter.answer(Err(none.into()));
                    Offer::Taken
                }
            }
        });
    }

    fn refuse_all(&mut self, none: NoServer) {
        for mut waiter in self.line.clear() {
            waiter.answer(Err(none.into()));
        }
    }
}

impl Waiter {
    /// Whether nobody hears its answer any more: it is about to leave the line.
    fn is_leaving(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_canceled)
    }

    fn pick(&self, pool: &Arc<Pool>, now: Instant) -> Result<Granted, NoServer> {
        let tried = pool.tried(&self.tried);
        // Nobody waits whom a server has seen.
        let lease = pool.pick_unseen(&Query { now: Some(now), ..self.query }, &mut tried.clone())?;
        Ok(Granted { pool: Arc::clone(pool), lease, tried })
    }

    /// The server that it is bound to; if not now, what becomes of it.
    fn pick_bound(&self, pool: &Arc<Pool>, now: Instant) -> Result<Granted, Offer> {
        let tried = pool.tried(&self.tried);
        let Some(bound) = &self.bound else { return Err(Offer::Unbound) };
        match pool.pick_bound(bound, &mut tried.clone(), now) {
            BoundPick::Leased(lease) => Ok(Granted { pool: Arc::clone(pool), lease, tried }),
            BoundPick::Full => Err(Offer::Exhausted),
            BoundPick::Gone => Err(Offer::Unbound),
        }
    }

    /// Who does not hear it any more gives back what it holds.
    fn answer(&mut self, answer: Answer) {
        if let Some(sender) = self.answer.take() {
            let _ = sender.send(answer);
        }
    }
}

/// A place in the line; given up when dropped, at once.
#[must_use = "who lets go of its place waits no longer"]
#[derive(Debug)]
pub struct QueuePlace {
    queue: Arc<Queue>,
    ticket: Ticket,
    position: usize,
    began: Instant,
    answer: oneshot::Receiver<Answer>,
    is_over: bool,
}

impl QueuePlace {
    /// How many turns it was from being served when it entered, with its own.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Takes any server from now on, with the seniority that it has.
    pub fn unbind(&self) {
        let unbind = |waiters: &mut Waiters| {
            waiters.line.unbind(&self.ticket);
            ((), waiters.count())
        };
        self.queue.line.change(unbind, Waiters::serve);
    }

    /// Waits no longer. An answer that has come by now is one all the same.
    pub fn time_out(mut self) -> Answer {
        self.leave();
        // Nobody else can answer any more.
        match self.answer.try_recv() {
            Ok(Some(answer)) => self.end(answer),
            Ok(None) | Err(oneshot::Canceled) => self.end(Err(Refusal::QueueTimeout)),
        }
    }

    /// Gives up the place, and says when.
    fn leave(&self) -> Instant {
        let leave = |waiters: &mut Waiters| {
            let left = waiters.line.leave(&self.ticket);
            ((left, waiters.now()), waiters.count())
        };
        self.queue.line.change(leave, Waiters::serve).1
    }

    fn end(&mut self, answer: Answer) -> Answer {
        self.is_over = true;
        let result = match &answer {
            Ok(_) => QueueResult::Served,
            Err(Refusal::None(_)) => QueueResult::NoServer,
            Err(Refusal::QueueFull) => QueueResult::Full,
            Err(Refusal::QueueShed) => QueueResult::Shed,
            Err(Refusal::QueueTimeout) => QueueResult::Timeout,
        };
        self.count(result, self.queue.line.look(Waiters::now));
        answer
    }

    fn count(&self, result: QueueResult, now: Instant) {
        self.queue.stats.count(result);
        self.queue.stats.wait.record(now.saturating_duration_since(self.began));
    }
}

/// Ready with what has become of it.
impl Future for QueuePlace {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        // Whoever is in a line is answered before it goes.
        Poll::Ready(self.end(answer.unwrap_or(Err(Refusal::None(NoServer::NoneReady)))))
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        if !self.is_over {
            let now = self.leave();
            self.count(QueueResult::Left, now);
        }
    }
}

#[cfg(test)]
mod tests;
