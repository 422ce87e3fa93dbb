//! Which places of changed URLs anything on the disk may lie behind: a change of all others need not be noted there.

use crate::store::Epochs;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const WORDS: usize = 1024;

/// One bit for each place.
#[derive(Debug)]
pub(super) struct Places(Box<[AtomicU64]>);

impl Default for Places {
    fn default() -> Self {
        Self((0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Places {
    /// Something may lie behind any of them.
    pub(super) fn fill(&self) {
        self.0.iter().for_each(|word| word.store(u64::MAX, SeqCst));
    }

    /// Something is about to lie behind this URL's. Whether it has changed meanwhile is to be asked after this.
    pub(super) fn set(&self, url: u64) {
        let (word, bit) = self.bit(Epochs::place_of(url));
        if word.load(SeqCst) & bit == 0 {
            word.fetch_or(bit, SeqCst);
        }
    }

    /// Whether something lies behind it; what does is older than what is noted now.
    pub(super) fn take(&self, place: u16) -> bool {
        let (word, bit) = self.bit(place);
        word.load(SeqCst) & bit != 0 && word.fetch_and(!bit, SeqCst) & bit != 0
    }

    fn bit(&self, place: u16) -> (&AtomicU64, u64) {
        (&self.0[usize::from(place) / 64], 1 << (place % 64))
    }
}
