//! What was invalidated, and when: by changes that passed through here (RFC 9111 section 4.4).
//!
//! Responses to one URL may lie under many keys, of which nobody has a list. So each URL has a place in a table of fixed size,
//! where the count of changes stands at which it was changed last; URLs that share a place are asked about once more than needed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

const PLACES: usize = 1 << 16;

/// The table.
#[derive(Debug)]
pub(crate) struct Epochs {
    /// How many changes there were.
    count: AtomicU64,
    changed: Box<[AtomicU64]>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self::after(0)
    }
}

impl Epochs {
    /// A table that goes on from this count.
    pub(super) fn after(count: u64) -> Self {
        Self { count: AtomicU64::new(count), changed: (0..PLACES).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The count, for what is asked for now.
    pub(crate) fn now(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// What lies behind this URL has changed; at which count that is.
    pub(crate) fn change(&self, url: u64) -> u64 {
        let epoch = self.count.fetch_add(1, Relaxed) + 1;
        self.place(url).fetch_max(epoch, SeqCst);
        epoch
    }

    /// Takes over what a process before this one knew of a place.
    pub(crate) fn recall(&self, place: u16, epoch: u64) {
        self.changed[usize::from(place)].fetch_max(epoch, Relaxed);
    }

    /// What is known of all places where something has changed.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u16, u64)> {
        let epochs = self.changed.iter().map(|epoch| epoch.load(Relaxed));
        (0..=u16::MAX).zip(epochs).filter(|(_, epoch)| *epoch > 0)
    }

    /// A URL's place.
    pub(crate) fn place_of(url: u64) -> u16 {
        (url % PLACES as u64) as u16
    }

    /// Whether that was so after what was asked for at `epoch`.
    pub(crate) fn has_changed(&self, url: u64, epoch: u64) -> bool {
        self.place(url).load(SeqCst) > epoch
    }

    fn place(&self, url: u64) -> &AtomicU64 {
        &self.changed[url as usize % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_before_a_change_is_not_good_after_it() {
        let epochs = Epochs::default();
        let before = epochs.now();
        epochs.change(7);
        let after = epochs.now();
        assert!(epochs.has_changed(7, before) && !epochs.has_changed(7, after));
        assert!(!epochs.has_changed(8, before));
        assert!(epochs.has_changed(7 + PLACES as u64, before), "it shares the place");
    }
}
