//! How a server's tries have ended: counted where they end, judged once a second by `success_watch`, and read where a server
//! is chosen.

use super::outcome::{Outcome, TryResult};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// One server's successes and failures, and what was last made of them.
#[derive(Debug, Default)]
pub struct SuccessRecord {
    good: AtomicU64,
    bad: AtomicU64,
    is_worse: AtomicBool,
    /// Two values of 32 bits each.
    bounds: AtomicU64,
    mean_and_share: AtomicU64,
    n: AtomicU64,
}

/// What is known of a server's successes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SuccessStanding {
    /// Outcomes that were looked at.
    pub n: u64,
    pub mean: f32,
    /// Between these the share of successes lies, in all likelihood.
    pub low: f32,
    pub high: f32,
    /// Provably worse than the best.
    pub is_worse: bool,
    /// Of the pool's picks.
    pub share: f32,
}

impl SuccessRecord {
    /// Takes note of a try.
    pub fn note(&self, outcome: &Outcome) {
        match outcome.success() {
            Some(true) => _ = self.good.fetch_add(1, Relaxed),
            Some(false) => _ = self.bad.fetch_add(1, Relaxed),
            None => {}
        }
    }

    /// All that there were, good and bad.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.good.load(Relaxed), self.bad.load(Relaxed))
    }

    pub fn is_worse(&self) -> bool {
        self.is_worse.load(Relaxed)
    }

    pub fn standing(&self) -> SuccessStanding {
        let (low, high) = apart(self.bounds.load(Relaxed));
        let (mean, share) = apart(self.mean_and_share.load(Relaxed));
        SuccessStanding { n: self.n.load(Relaxed), mean, low, high, is_worse: self.is_worse(), share }
    }

    pub(crate) fn set_standing(&self, standing: &SuccessStanding) {
        self.is_worse.store(standing.is_worse, Relaxed);
        self.n.store(standing.n, Relaxed);
        self.bounds.store(together(standing.low, standing.high), Relaxed);
        self.mean_and_share.store(together(standing.mean, standing.share), Relaxed);
    }
}

fn together(one: f32, other: f32) -> u64 {
    u64::from(one.to_bits()) << 32 | u64::from(other.to_bits())
}

fn apart(word: u64) -> (f32, f32) {
    (f32::from_bits((word >> 32) as u32), f32::from_bits(word as u32))
}

impl Outcome {
    /// Whether the try was a success, as the pool's `outcome` has it, or else as can be told by its result; `None` says nothing
    /// of the server. A 4xx is the client's, but for 429, by which a server keeps clients away.
    pub fn success(&self) -> Option<bool> {
        self.declared.or(match self.result {
            TryResult::Answered { grpc_status: Some(status), .. } => match status {
                0 => Some(true),
                // UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
                2 | 4 | 8 | 13 | 14 | 15 => Some(false),
                _ => None,
            },
            TryResult::Answered { status: 429 | 500.., .. } => Some(false),
            TryResult::Answered { status: 400.., .. } => None,
            TryResult::Answered { .. } | TryResult::Connected => Some(true),
            TryResult::ConnectFailed | TryResult::TimedOut | TryResult::Reset => Some(false),
            TryResult::NotServersFault | TryResult::Unknown => None,
        })
    }
}
