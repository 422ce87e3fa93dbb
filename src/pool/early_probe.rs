//! Asks for a server's next probe before its time: a connection to it has just been refused.

use atomic_waker::AtomicWaker;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// One server's.
#[derive(Debug, Default)]
pub struct EarlyProbe {
    is_wanted: AtomicBool,
    waker: AtomicWaker,
}

impl EarlyProbe {
    /// Called where a try ends, so it waits for nothing.
    pub(super) fn want(&self) {
        if !self.is_wanted.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// A probe begins: what was wanted before it is done with it.
    pub fn begin(&self) {
        self.is_wanted.store(false, Ordering::Release);
    }

    /// Ready once one is wanted. For one listener.
    pub async fn wanted(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.is_wanted.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
