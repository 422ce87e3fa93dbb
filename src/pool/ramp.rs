//! Slow start: how far a server is on its way back to its full share.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

/// One pick, in the unit of `saved`.
const PICK: i64 = 1 << 24;
/// So much is saved for a server that is not chosen although it might be. Less would cost it its share where others are as good.
const MOST_SAVED: i64 = 8 * PICK;

/// One server's ramp, if it has one: since when, and whether the next time that it is of use begins one.
#[derive(Debug)]
pub(super) struct Ramp {
    origin: Instant,
    /// Nanoseconds after `origin`, or before it if another process saw it begin.
    began: AtomicI64,
    is_due: AtomicBool,
    /// Each pick of the pool brings its part, each that it gets takes one away.
    saved: AtomicI64,
}

impl Ramp {
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, began: AtomicI64::new(0), is_due: AtomicBool::new(false), saved: AtomicI64::new(0) }
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
        self.began.store(self.nanos(now), Relaxed);
        self.saved.store(0, Relaxed);
        self.is_due.store(false, Relaxed);
        true
    }

    /// It has begun so long ago.
    pub(super) fn go_on(&self, now: Instant, age: Duration) {
        let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        self.began.store(self.nanos(now).saturating_sub(age), Relaxed);
    }

    /// How long ago it began.
    pub(super) fn age(&self, now: Instant) -> Duration {
        let age = self.nanos(now).saturating_sub(self.began.load(Relaxed));
        Duration::from_nanos(u64::try_from(age).unwrap_or(0))
    }

    /// The share of picks that it takes part in by then, of a ramp that begins with `from` and lasts for `over`.
    pub(super) fn share(&self, over: Duration, from: f64, now: Instant) -> f64 {
        let passed = self.age(now).as_secs_f64() / over.as_secs_f64();
        (from + (1.0 - from) * passed).min(1.0)
    }

    fn nanos(&self, at: Instant) -> i64 {
        i64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(i64::MAX)
    }

    /// Whether a pick is saved for it.
    pub(super) fn has_pick(&self) -> bool {
        self.saved.load(Relaxed) >= PICK
    }

    /// A pick of the pool brings this part of one.
    pub(super) fn save(&self, part: f64) {
        self.settle(((part * PICK as f64) as i64).min(PICK));
    }

    /// It was chosen; it may owe one if that was for want of others.
    pub(super) fn spend(&self) {
        self.settle(-PICK);
    }

    fn settle(&self, change: i64) {
        let settled = |saved: i64| Some((saved + change).clamp(-PICK, MOST_SAVED));
        // It always has a new value.
        _ = self.saved.fetch_update(Relaxed, Relaxed, settled);
    }
}

/// Whether a server with this share takes part in picks for this key: whoever does at one share does at every higher one,
/// and each server with keys of its own.
pub(super) fn takes_part(server: &str, key: u64, share: f64) -> bool {
    let drawn = xxh3_64(&(key ^ xxh3_64(server.as_bytes())).to_le_bytes());
    (drawn as f64) < share * 2f64.powi(64)
}
