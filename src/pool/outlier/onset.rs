//! Since when a server fails, and what the others have done since. Whoever has most of the requests is the first to meet what
//! all have in common, while the others' last tries are from better days: these say nothing of whether it is alone.

use super::record::{FailureShare, TryRecord};
use std::time::{Duration, Instant};

/// So many tries that the others have served since are a comparison.
const ENOUGH: u64 = 5;
/// Of a server's last so many tries,
const LAST: u32 = 20;
/// so many failures are the beginning of something,
const MANY: u64 = 4;
/// and so few its end.
const FEW: u64 = 1;

/// When a server's failing began, and what all had done by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Onset {
    began: Instant,
    others: FailureShare,
}

impl Onset {
    pub(super) fn new(began: Instant, others: FailureShare) -> Self {
        Self { began, others }
    }

    /// What the others have done since, of what they have done by now; `None` while it is too little, and it may yet be more.
    pub(super) fn since(&self, others: FailureShare, now: Instant, wait: Duration) -> Option<FailureShare> {
        let since = others.minus(self.others);
        let is_over = now.saturating_duration_since(self.began) >= wait;
        (is_over || since.of - since.failed >= ENOUGH).then_some(since)
    }
}

/// Whether a server that did, or did not, fail before now does, if only by chance.
pub(super) fn is_failing(record: &TryRecord, did: bool) -> bool {
    let failed = record.recent_of(LAST).failed;
    record.run() > 0 || failed >= MANY || did && failed > FEW
}
