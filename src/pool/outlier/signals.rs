//! What the ends of tries, and picks, have to know of outliers without asking anybody.

use super::clients::ServedClients;
use atomic_waker::AtomicWaker;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

/// One for all pools of a process.
#[derive(Debug, Default)]
pub struct OutlierSignals {
    /// Some server should be looked at now.
    is_suspected: AtomicBool,
    waker: AtomicWaker,
    /// Servers that are being tried out.
    trials: AtomicUsize,
    /// Who has served which client of late, of pools whose requests gather at the quickest.
    pub(super) clients: ServedClients,
}

impl OutlierSignals {
    /// Asks for a look at all servers. Called where a try ends, so it waits for nothing.
    pub fn suspect(&self) {
        if !self.is_suspected.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Ready once somebody has asked for a look since the last time. For one listener.
    pub async fn suspected(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            match self.is_suspected.swap(false, Ordering::AcqRel) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Whether some server is being tried out.
    pub fn has_trials(&self) -> bool {
        self.trials.load(Ordering::Relaxed) > 0
    }
}

/// A server that is being tried out, counted as long as this value lives.
#[derive(Debug)]
pub struct OpenTrial(Arc<OutlierSignals>);

impl OpenTrial {
    pub fn new(signals: &Arc<OutlierSignals>) -> Self {
        signals.trials.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(signals))
    }
}

impl Drop for OpenTrial {
    fn drop(&mut self) {
        self.0.trials.fetch_sub(1, Ordering::Relaxed);
    }
}
