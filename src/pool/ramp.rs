//! Slow start: how far a server is on its way back to its full share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

/// One server's ramp, if it has one: since when, and whether the next time that it is of use begins one.
#[derive(Debug)]
pub(super) struct Ramp {
    origin: Instant,
    /// Nanoseconds after `origin`.
    began: AtomicU64,
    is_due: AtomicBool,
}

impl Ramp {
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, began: AtomicU64::new(0), is_due: AtomicBool::new(false) }
    }

    /// It was of no use, or is new in its pool: once it is of use it begins slowly.
    pub(super) fn is_due(&self) {
        self.is_due.store(true, Relaxed);
    }

    /// Begins now, if it is due.
    pub(super) fn begin_if_due(&self, now: Instant) -> bool {
        if !self.is_due.load(Relaxed) {
            return false;
        }
        let began = now.saturating_duration_since(self.origin).as_nanos();
        self.began.store(u64::try_from(began).unwrap_or(u64::MAX), Relaxed);
        self.is_due.store(false, Relaxed);
        true
    }

    /// The share of picks that it takes part in by then, of a ramp that begins with `from` and lasts for `over`.
    pub(super) fn share(&self, over: Duration, from: f64, now: Instant) -> f64 {
        let began = self.origin + Duration::from_nanos(self.began.load(Relaxed));
        let passed = now.saturating_duration_since(began).as_secs_f64() / over.as_secs_f64();
        (from + (1.0 - from) * passed).min(1.0)
    }
}

/// Whether a server with this share takes part in a pick of this chance: whoever does at one share does at every higher one,
/// and each server in picks of its own.
pub(super) fn takes_part(server: &str, chance: u64, share: f64) -> bool {
    let drawn = xxh3_64(&(chance ^ xxh3_64(server.as_bytes())).to_le_bytes());
    (drawn as f64) < share * 2f64.powi(64)
}
