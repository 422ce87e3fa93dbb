//! An instant that many may read while one sets it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Deadline {
    origin: Instant,
    /// Nanoseconds after `origin`.
    nanos: AtomicU64,
}

impl Deadline {
    const NEVER: u64 = u64::MAX;

    pub(super) fn never(origin: Instant) -> Self {
        Self { origin, nanos: AtomicU64::new(Self::NEVER) }
    }

    pub(super) fn set(&self, at: Option<Instant>) {
        let nanos = at.map_or(Self::NEVER, |at| nanos(at.saturating_duration_since(self.origin)));
        self.nanos.store(nanos, Ordering::Release);
    }

    /// Whether there is one that is still to come.
    pub(super) fn is_ahead(&self, now: Instant) -> bool {
        let deadline = self.nanos.load(Ordering::Acquire);
        deadline != Self::NEVER && nanos(now.saturating_duration_since(self.origin)) < deadline
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        match self.nanos.load(Ordering::Acquire) {
            Self::NEVER => false,
            deadline => nanos(now.saturating_duration_since(self.origin)) >= deadline,
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX - 1)
}
