//! What ended after another generation than its own had come into force. It says nothing of that one, so a guard leaves it
//! out.

use super::Metrics;
use crate::access_log::Why;
use crate::history::Ended;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of such exchanges.
#[derive(Debug, Default)]
pub(super) struct EarlierEnded {
    requests: AtomicU64,
    errors: AtomicU64,
    unanswered: AtomicU64,
    left: AtomicU64,
    whole: AtomicU64,
    fine: AtomicU64,
    in_vain: AtomicU64,
}

impl EarlierEnded {
    pub(super) fn count(&self, one: &Ended) {
        let counted = [
            (&self.requests, one.requests),
            (&self.errors, one.errors),
            (&self.unanswered, one.unanswered),
            (&self.left, one.left),
            (&self.whole, one.whole),
            (&self.fine, one.fine),
            (&self.in_vain, one.in_vain),
        ];
        for (sum, more) in counted {
            sum.fetch_add(more, Relaxed);
        }
    }

    pub(super) fn read(&self) -> Ended {
        Ended {
            requests: self.requests.load(Relaxed),
            errors: self.errors.load(Relaxed),
            unanswered: self.unanswered.load(Relaxed),
            left: self.left.load(Relaxed),
            whole: self.whole.load(Relaxed),
            fine: self.fine.load(Relaxed),
            in_vain: self.in_vain.load(Relaxed),
            connect_failures: 0,
        }
    }
}

impl Metrics {
    /// This generation is in force now.
    pub fn generation_in_force(&self, generation: u64) {
        self.generation.store(generation, Relaxed);
    }

    /// Whether what began under this generation and ends now says nothing of the one in force. What that has cut short does.
    pub fn is_earlier(&self, generation: u64, why: Why) -> bool {
        generation < self.generation.load(Relaxed) && why != Why::Drained
    }
}
