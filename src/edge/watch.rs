//! One coarse clock and one watchdog per core, in place of a timer per read.
//!
//! Each connection (and each HTTP/2 stream) has a [`Watch`]: a deadline, an allowed silence, and
//! the server it is leased to. The watchdog looks at all of its core's watches every [`TICK`] and
//! interrupts those that are due. Setting a deadline is then one store, where a timer is a wheel
//! insertion and a removal; the price is that timeouts fire up to one tick late.

use crate::access_log::Why;
use atomic_waker::AtomicWaker;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How often the watchdog looks.
pub(crate) const TICK: Duration = Duration::from_millis(25);

const NEVER: u64 = u64::MAX;
const NOT_INTERRUPTED: u8 = u8::MAX;
const NO_SERVER: u32 = u32::MAX;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static WATCHES: RefCell<Vec<Option<Arc<Watch>>>> = const { RefCell::new(Vec::new()) };
    static FREE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Milliseconds since the process began, as of this core's last tick.
pub(super) fn now() -> u64 {
    NOW.get()
}

/// The same as a moment: for what may be early by a tick, and must not be late.
pub(crate) fn last_tick() -> Instant {
    *EPOCH + Duration::from_millis(now())
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(NEVER)
}

/// What a connection or stream is waiting for, and who wants to know when it takes too long.
#[derive(Debug)]
pub(crate) struct Watch {
    deadline: AtomicU64,
    at_deadline: AtomicU8,
    quiet_limit: AtomicU64,
    at_quiet: AtomicU8,
    active: AtomicU64,
    /// The id of the server whose lease is held, or `NO_SERVER`.
    server: AtomicU32,
    /// Waiting for a request: may be closed at once when the listener goes.
    idle: AtomicBool,
    listener: u32,
    interrupted: AtomicU8,
    waker: AtomicWaker,
}

impl Watch {
    pub(crate) fn new(listener: u32) -> Self {
        Self {
            deadline: AtomicU64::new(NEVER),
            at_deadline: AtomicU8::new(0),
            quiet_limit: AtomicU64::new(NEVER),
            at_quiet: AtomicU8::new(0),
            active: AtomicU64::new(0),
            server: AtomicU32::new(NO_SERVER),
            idle: AtomicBool::new(false),
            listener,
            interrupted: AtomicU8::new(NOT_INTERRUPTED),
            waker: AtomicWaker::new(),
        }
    }

    /// Interrupts with `why` once `within` has passed; replaces the deadline before.
    pub(crate) fn deadline(&self, within: Duration, why: Why) {
        self.at_deadline.store(why as u8, Relaxed);
        self.deadline.store(now().saturating_add(millis(within)), Relaxed);
    }

    /// The same at a moment that is known.
    pub(crate) fn deadline_at(&self, due: Instant, why: Why) {
        self.at_deadline.store(why as u8, Relaxed);
        self.deadline.store(millis(due.saturating_duration_since(*EPOCH)), Relaxed);
    }

    pub(crate) fn no_deadline(&self) {
        self.deadline.store(NEVER, Relaxed);
    }

    /// Interrupts with `why` once nothing moved for `limit`.
    pub(crate) fn quiet(&self, limit: Duration, why: Why) {
        self.at_quiet.store(why as u8, Relaxed);
        self.touch();
        self.quiet_limit.store(millis(limit), Relaxed);
    }

    /// Nothing need move for now.
    pub(crate) fn may_be_quiet(&self) {
        self.quiet_limit.store(NEVER, Relaxed);
    }

    /// Something moved.
    pub(crate) fn touch(&self) {
        self.active.store(now(), Relaxed);
    }

    /// For how long nothing has moved, as of this core's last tick.
    pub(crate) fn quiet_for(&self) -> Duration {
        Duration::from_millis(now().saturating_sub(self.active.load(Relaxed)))
    }

    /// Waits for a request now, for at most `within`.
    pub(crate) fn rest(&self, within: Duration) {
        self.quiet_limit.store(NEVER, Relaxed);
        self.server.store(NO_SERVER, Relaxed);
        // Nothing was asked for that could fail.
        self.deadline(within, Why::Ok);
        self.idle.store(true, Relaxed);
    }

    /// A request has begun to arrive.
    pub(crate) fn rouse(&self, within: Duration) {
        self.idle.store(false, Relaxed);
        self.deadline(within, Why::RequestHeaderTimeout);
    }

    /// No server has it any more.
    pub(crate) fn lease_ended(&self) {
        self.server.store(NO_SERVER, Relaxed);
    }

    /// The request is leased to this server.
    pub(crate) fn leased_to(&self, server: u32) {
        self.server.store(server, Relaxed);
    }

    /// Ends whatever is waited for. The first reason stands.
    pub(crate) fn interrupt(&self, why: Why) {
        let first = self.interrupted.compare_exchange(NOT_INTERRUPTED, why as u8, Relaxed, Relaxed);
        if first.is_ok() {
            self.waker.wake();
        }
    }

    /// Goes on after an interruption for this reason, if it is that which stands.
    pub(crate) fn resume_after(&self, why: Why) -> bool {
        self.interrupted.compare_exchange(why as u8, NOT_INTERRUPTED, Relaxed, Relaxed).is_ok()
    }

    pub(crate) fn interrupted(&self) -> Option<Why> {
        match self.interrupted.load(Relaxed) {
            NOT_INTERRUPTED => None,
            why => Some(Why::from_u8(why)),
        }
    }

    /// Does `work` unless it is interrupted.
    pub(crate) async fn heed<T>(&self, work: impl Future<Output = T>) -> Result<T, Why> {
        let mut work = pin!(work);
        poll_fn(|cx| match self.heed_now(cx) {
            Err(why) => Poll::Ready(Err(why)),
            Ok(()) => work.as_mut().poll(cx).map(Ok),
        })
        .await
    }

    /// To be called at each poll: fails once interrupted, and has that wake the task.
    pub(crate) fn heed_now(&self, cx: &mut Context<'_>) -> Result<(), Why> {
        self.wake_by(cx.waker());
        self.interrupted().map_or(Ok(()), Err)
    }

    /// Has `waker` called at an interruption.
    pub(crate) fn wake_by(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    fn look(&self, now: u64) {
        if now >= self.deadline.load(Relaxed) {
            self.no_deadline();
            self.interrupt(Why::from_u8(self.at_deadline.load(Relaxed)));
        } else if now.saturating_sub(self.active.load(Relaxed)) > self.quiet_limit.load(Relaxed) {
            self.quiet_limit.store(NEVER, Relaxed);
            self.interrupt(Why::from_u8(self.at_quiet.load(Relaxed)));
        }
    }
}

/// A watch on this core's list, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Watched {
    watch: Arc<Watch>,
    place: usize,
}

impl Watched {
    pub(crate) fn new(watch: Watch) -> Self {
        let watch = Arc::new(watch);
        let place = FREE.with_borrow_mut(Vec::pop);
        let place = WATCHES.with_borrow_mut(|watches| match place {
            Some(place) => {
                watches[place] = Some(Arc::clone(&watch));
                place
            }
            None => {
                watches.push(Some(Arc::clone(&watch)));
                watches.len() - 1
            }
        });
        Self { watch, place }
    }
}

impl std::ops::Deref for Watched {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.watch
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Tasks never leave the core they were made on; only a thread that is ending has lost its list.
        let _ = WATCHES.try_with(|watches| {
            if let Some(place) = watches.borrow_mut().get_mut(self.place) {
                *place = None;
            }
        });
        let _ = FREE.try_with(|free| free.borrow_mut().push(self.place));
    }
}

/// Sets this core's clock and interrupts what is due.
pub(crate) fn tick() {
    let now = millis(EPOCH.elapsed());
    NOW.set(now);
    each(|watch| watch.look(now));
}

/// Closes what waits for a request on `listener`, or on all of them.
pub(crate) fn close_idle(listener: Option<u32>) {
    each(|watch| {
        if watch.idle.load(Relaxed) && listener.is_none_or(|listener| listener == watch.listener) {
            watch.interrupt(Why::Ok);
        }
    });
}

/// Interrupts what is leased to a server.
pub(crate) fn close_leased(server: u32, why: Why) {
    each(|watch| {
        if watch.server.load(Relaxed) == server {
            watch.interrupt(why);
        }
    });
}

/// Interrupts everything.
pub(crate) fn close_all(why: Why) {
    each(|watch| watch.interrupt(why));
}

/// A waker may run code that drops a watch, so the list is not borrowed while it is called.
fn each(mut visit: impl FnMut(&Watch)) {
    let mut place = 0;
    while let Some(watch) = WATCHES.with_borrow(|watches| watches.get(place).cloned()) {
        if let Some(watch) = watch {
            visit(&watch);
        }
        place += 1;
    }
}

/// Gives back the list's memory after a burst of connections; whether there was one.
pub(crate) fn shrink() -> bool {
    WATCHES.with_borrow_mut(|watches| {
        FREE.with_borrow_mut(|free| {
            while watches.last().is_some_and(Option::is_none) {
                watches.pop();
            }
            free.retain(|&place| place < watches.len());
            let burst = watches.capacity() > 4 * watches.len().max(64);
            if burst {
                watches.shrink_to(2 * watches.len());
                free.shrink_to(2 * free.len());
            }
            burst
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_interrupted_goes_on_after_that_reason_and_no_other() {
        let watch = Watched::new(Watch::new(1));
        watch.interrupt(Why::ResponseHeaderTimeout);
        watch.interrupt(Why::Drained);
        assert!(!watch.resume_after(Why::RequestTimeout));
        assert!(watch.resume_after(Why::ResponseHeaderTimeout));
        assert_eq!(watch.interrupted(), None);
        watch.interrupt(Why::Drained);
        assert!(!watch.resume_after(Why::ResponseHeaderTimeout));
    }

    #[test]
    fn a_deadline_interrupts_once_with_its_reason() {
        let watch = Watched::new(Watch::new(1));
        watch.deadline(Duration::from_millis(100), Why::RequestTimeout);
        watch.look(now() + 99);
        assert_eq!(watch.interrupted(), None);
        watch.look(now() + 100);
        assert_eq!(watch.interrupted(), Some(Why::RequestTimeout));
        watch.interrupt(Why::Shutdown);
        assert_eq!(watch.interrupted(), Some(Why::RequestTimeout));
    }

    #[test]
    fn a_deadline_at_a_moment_is_none_before_it() {
        let watch = Watched::new(Watch::new(1));
        watch.deadline_at(*EPOCH + Duration::from_millis(7_100), Why::RequestTimeout);
        watch.look(7_099);
        assert_eq!(watch.interrupted(), None);
        watch.look(7_100);
        assert_eq!(watch.interrupted(), Some(Why::RequestTimeout));
    }

    #[test]
    fn silence_is_counted_from_the_last_move() {
        let watch = Watched::new(Watch::new(1));
        watch.quiet(Duration::from_millis(50), Why::StreamIdle);
        watch.look(now() + 50);
        assert_eq!(watch.interrupted(), None);
        watch.look(now() + 51);
        assert_eq!(watch.interrupted(), Some(Why::StreamIdle));
    }

    #[test]
    fn only_the_idle_of_one_listener_are_closed() {
        let [busy, idle, other] = [1, 1, 2].map(|listener| Watched::new(Watch::new(listener)));
        idle.rest(Duration::from_secs(1));
        other.rest(Duration::from_secs(1));
        close_idle(Some(1));
        assert_eq!([&busy, &idle, &other].map(|watch| watch.interrupted().is_some()), [false, true, false]);
        busy.leased_to(7);
        close_leased(8, Why::Drained);
        assert_eq!(busy.interrupted(), None);
        close_leased(7, Why::Drained);
        assert_eq!(busy.interrupted(), Some(Why::Drained));
    }

    #[test]
    fn places_are_used_again_and_given_back() {
        let kept = Watched::new(Watch::new(1));
        drop((0..1000).map(|_| Watched::new(Watch::new(1))).collect::<Vec<_>>());
        assert!(shrink());
        assert!(!shrink());
        assert_eq!(WATCHES.with_borrow(Vec::len), kept.place + 1);
        assert!(FREE.with_borrow(Vec::is_empty));
    }
}
