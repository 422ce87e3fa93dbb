//! How many TLS handshakes a listener has under way at once. They cost far more than what follows, so a crowd that comes
//! all at once, as after a restart, is served in the order it came rather than all of it too late.

use arc_swap::ArcSwap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A limit that can change while it holds, and those who wait for their turn.
#[derive(Debug)]
pub(crate) struct HandshakeLimit {
    queue: ArcSwap<Queue>,
    /// How often someone had to wait.
    waits: AtomicU64,
}

#[derive(Debug)]
struct Queue {
    limit: Option<NonZeroU32>,
    /// It lets in whom it has kept waiting longest, and nobody past them.
    semaphore: Arc<Semaphore>,
}

impl Queue {
    fn new(limit: Option<NonZeroU32>) -> Self {
        let permits = limit.map_or(Semaphore::MAX_PERMITS, |limit| limit.get() as usize);
        Self { limit, semaphore: Arc::new(Semaphore::new(permits)) }
    }
}

/// One handshake under way; its turn is over when this is dropped.
#[derive(Debug)]
pub(crate) struct HandshakePermit(
    #[allow(dead_code, reason = "it is there to be dropped")] OwnedSemaphorePermit,
);

impl HandshakeLimit {
    pub(crate) fn new(limit: Option<NonZeroU32>) -> Self {
        Self { queue: ArcSwap::from_pointee(Queue::new(limit)), waits: AtomicU64::new(0) }
    }

    /// Those under way and those in the queue go on as they were told; it takes them a few seconds at most.
    pub(crate) fn set_limit(&self, limit: Option<NonZeroU32>) {
        if self.queue.load().limit != limit {
            self.queue.store(Arc::new(Queue::new(limit)));
        }
    }

    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Relaxed)
    }

    /// Waits for a turn. `None` is never: nobody closes the queue.
    pub(crate) async fn take(&self) -> Option<HandshakePermit> {
        let semaphore = Arc::clone(&self.queue.load().semaphore);
        if let Ok(permit) = Arc::clone(&semaphore).try_acquire_owned() {
            return Some(HandshakePermit(permit));
        }
        self.waits.fetch_add(1, Relaxed);
        semaphore.acquire_owned().await.ok().map(HandshakePermit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn turns_are_taken_in_the_order_of_coming() {
        let handshake_limit = HandshakeLimit::new(NonZeroU32::new(1));
        let mut cx = Context::from_waker(Waker::noop());
        let (mut one, mut two, mut three) =
            (pin!(handshake_limit.take()), pin!(handshake_limit.take()), pin!(handshake_limit.take()));
        let Poll::Ready(Some(first)) = one.as_mut().poll(&mut cx) else { panic!("there is room") };
        assert!(two.as_mut().poll(&mut cx).is_pending());
        assert!(three.as_mut().poll(&mut cx).is_pending());
        drop(first);
        // Who comes now is behind those who wait, whoever asks first.
        let mut late = pin!(handshake_limit.take());
        assert!(late.as_mut().poll(&mut cx).is_pending());
        assert!(three.as_mut().poll(&mut cx).is_pending());
        let Poll::Ready(Some(second)) = two.as_mut().poll(&mut cx) else { panic!("it is its turn") };
        drop(second);
        assert!(late.as_mut().poll(&mut cx).is_pending());
        assert!(three.as_mut().poll(&mut cx).is_ready());
        assert_eq!(handshake_limit.waits(), 3);
    }

    #[test]
    fn a_limit_changes_for_those_who_come() {
        let handshake_limit = HandshakeLimit::new(NonZeroU32::new(1));
        let mut cx = Context::from_waker(Waker::noop());
        let mut ready = || match pin!(handshake_limit.take()).poll(&mut cx) {
            Poll::Ready(turn) => turn,
            Poll::Pending => None,
        };
        let first = ready();
        assert!(first.is_some() && ready().is_none());
        handshake_limit.set_limit(NonZeroU32::new(1));
        assert!(ready().is_none(), "the same limit");
        handshake_limit.set_limit(NonZeroU32::new(2));
        let (second, third) = (ready(), ready());
        assert!(second.is_some() && third.is_some() && ready().is_none());
        handshake_limit.set_limit(None);
        assert!((0..10_000).map(|_| ready()).all(|turn| turn.is_some()));
    }
}
