//! One response on the disk, as the index in memory knows it: where its file is, whom it is for once its head was read, who reads it now,
//! and whether it has gone.

use super::format::selected_hash;
use crate::cache::Vary;
use crate::store::StoredResponse;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Nobody finds it any more.
const DEAD: u32 = 1 << 31;
/// Its file is there under its name, or was.
const WRITTEN: u32 = 1 << 30;
/// Its file has no name any more.
const UNLINKED: u32 = 1 << 29;
const READERS: u32 = UNLINKED - 1;
/// As often as it is worth remembering.
const MOST_USES: u8 = 3;

/// One of them.
#[derive(Debug)]
pub(super) struct Entry {
    /// Later ones have greater numbers, over restarts too.
    pub(super) id: u64,
    pub(super) key: u128,
    /// Bytes that it takes on the disk.
    size: AtomicU32,
    state: AtomicU32,
    uses: AtomicU8,
    /// Known once its head was read or written.
    selects: OnceLock<Selects>,
    /// What is being written.
    coming: Mutex<Option<Arc<StoredResponse>>>,
    /// One at a time reads its head or writes another.
    head: Mutex<()>,
}

/// For which requests a response is.
#[derive(Debug)]
pub(super) struct Selects {
    pub(super) vary: Vary,
    pub(super) selected: u64,
}

impl Selects {
    pub(super) fn of(response: &StoredResponse) -> Self {
        Self { vary: response.terms.vary.clone(), selected: selected_hash(&response.selected) }
    }

    /// Whether another is for the same requests.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.selected == other.selected && self.vary == other.vary
    }
}

/// Files take whole blocks.
const BLOCK: u64 = 4096;

/// Bytes that a file of this length takes.
pub(super) fn on_disk(length: u64) -> u64 {
    length.next_multiple_of(BLOCK)
}

impl Entry {
    /// One that is to be written.
    pub(super) fn coming(id: u64, key: u128, response: &Arc<StoredResponse>) -> Self {
        let selects = OnceLock::from(Selects::of(response));
        Self { selects, coming: Mutex::new(Some(Arc::clone(response))), ..Self::new(id, key, 0) }
    }

    /// One whose file was found.
    pub(super) fn found(id: u64, key: u128, length: u64) -> Self {
        let entry = Self::new(id, key, WRITTEN);
        entry.takes(on_disk(length));
        entry
    }

    fn new(id: u64, key: u128, state: u32) -> Self {
        Self {
            id,
            key,
            size: AtomicU32::new(0),
            state: AtomicU32::new(state),
            uses: AtomicU8::new(0),
            selects: OnceLock::new(),
            coming: Mutex::default(),
            head: Mutex::default(),
        }
    }

    /// Bytes on the disk.
    pub(super) fn size(&self) -> u64 {
        u64::from(self.size.load(Relaxed)) * BLOCK
    }

    pub(super) fn takes(&self, size: u64) {
        self.size.store(u32::try_from(size / BLOCK).unwrap_or(u32::MAX), Relaxed);
    }

    pub(super) fn selects(&self) -> Option<&Selects> {
        self.selects.get()
    }

    pub(super) fn is_for(&self, selects: Selects) {
        let _ = self.selects.set(selects);
    }

    /// What is being written, which is in memory as long.
    pub(super) fn being_written(&self) -> Option<Arc<StoredResponse>> {
        self.lock_coming().clone()
    }

    fn lock_coming(&self) -> MutexGuard<'_, Option<Arc<StoredResponse>>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody else reads or writes its head meanwhile.
    pub(super) fn lock_head(&self) -> MutexGuard<'_, ()> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that it was asked for.
    pub(super) fn used(&self) {
        let uses = self.uses.load(Relaxed);
        if uses < MOST_USES {
            self.uses.store(uses + 1, Relaxed);
        }
    }

    /// Whether it was since; each such use counts once.
    pub(super) fn spend_use(&self) -> bool {
        self.uses.fetch_update(Relaxed, Relaxed, |uses| uses.checked_sub(1)).is_ok()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state.load(Acquire) & DEAD != 0
    }

    pub(super) fn is_read(&self) -> bool {
        self.state.load(Acquire) & READERS != 0
    }

    /// Begins to read it, which keeps its bytes on the disk until [`Self::unpin`]; not if it has gone.
    pub(super) fn pin(&self) -> bool {
        let pinned = |state: u32| (state & DEAD == 0).then_some(state + 1);
        self.state.fetch_update(AcqRel, Acquire, pinned).is_ok()
    }

    /// The same for somebody who reads it already.
    pub(super) fn pin_again(&self) {
        self.state.fetch_add(1, AcqRel);
    }

    /// Has read it. Whether its bytes are free by that.
    #[must_use]
    pub(super) fn unpin(&self) -> bool {
        let before = self.state.fetch_sub(1, AcqRel);
        before & UNLINKED != 0 && before & READERS == 1
    }

    /// Nobody is to find it from now on. Whether its file is there to be removed, and not for its writer to do.
    #[must_use]
    pub(super) fn die(&self) -> bool {
        let before = self.state.fetch_or(DEAD, AcqRel);
        *self.lock_coming() = None;
        before & (DEAD | WRITTEN) == WRITTEN
    }

    /// Its file is there. Whether it has died meanwhile, so that its writer has to remove it.
    #[must_use]
    pub(super) fn written(&self) -> bool {
        let before = self.state.fetch_or(WRITTEN, AcqRel);
        *self.lock_coming() = None;
        before & DEAD != 0
    }

    /// Its file has gone. Whether its bytes are free by that.
    #[must_use]
    pub(super) fn unlinked(&self) -> bool {
        let before = self.state.fetch_or(UNLINKED, AcqRel);
        before & UNLINKED == 0 && before & READERS == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_free_once_when_the_file_has_gone_and_the_last_reader_too() {
        let entry = Entry::found(1, 2, 5000);
        assert_eq!(entry.size(), 8192);
        assert!(entry.pin() && entry.pin());
        assert!(!entry.unpin());
        assert!(entry.die() && !entry.die(), "one removes it");
        assert!(!entry.pin() && !entry.unlinked() && entry.unpin() && !entry.unlinked());
        let unread = Entry::found(1, 2, 1);
        assert!(unread.die() && unread.unlinked() && !unread.unlinked());
    }
}
