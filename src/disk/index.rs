//! What is on the disk, as it is known in memory: found by the numbers of keys, and never more bytes than there may be. Bytes are taken
//! before anything is written, and given back when a file has gone and nobody reads it any more.

use super::entry::{Entry, Selects};
use super::order::Order;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 64;
/// Variants of one key; beyond it the oldest goes.
const MOST_VARIANTS: usize = 32;

type Shard = HashMap<u128, Vec<Arc<Entry>>>;

/// The index.
#[derive(Debug)]
pub(super) struct Index {
    shards: Box<[Mutex<Shard>]>,
    order: Mutex<Order>,
    size: AtomicU64,
    taken: AtomicU64,
    objects: AtomicU64,
    evictions: AtomicU64,
}

impl Index {
    pub(super) fn new(size: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            order: Mutex::default(),
            size: AtomicU64::new(size),
            taken: AtomicU64::new(0),
            objects: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    pub(super) fn resize(&self, size: u64) {
        self.size.store(size, Relaxed);
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Relaxed)
    }

    /// Bytes on the disk, and those that are about to be.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    pub(super) fn objects(&self) -> u64 {
        self.objects.load(Relaxed)
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }

    /// Takes bytes, if there are so many.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let size = self.size();
        let add = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= size);
        self.taken.fetch_update(Relaxed, Relaxed, add).is_ok()
    }

    /// Takes bytes that are there already, whether they may be or not.
    pub(super) fn take_found(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Relaxed);
    }

    pub(super) fn is_over_full(&self) -> bool {
        self.taken() > self.size()
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Relaxed);
    }

    /// Which has to go for others; its file is for the caller to remove.
    pub(super) fn evict(&self) -> Option<Arc<Entry>> {
        loop {
            let entry = self.lock_order().next(self.size())?;
            self.leave(&entry);
            if entry.die() {
                self.evictions.fetch_add(1, Relaxed);
                return Some(entry);
            }
        }
    }

    /// What lies under a key, the newest first.
    pub(super) fn find(&self, key: u128) -> Vec<Arc<Entry>> {
        let shard = self.shard(key);
        shard.get(&key).map(|entries| entries.iter().rev().map(Arc::clone).collect()).unwrap_or_default()
    }

    /// Adds what is about to be written in place of its like. Whoever goes for it is for the caller to remove.
    pub(super) fn add(&self, entry: &Arc<Entry>) -> Vec<Arc<Entry>> {
        let mut shard = self.shard(entry.key);
        let entries = shard.entry(entry.key).or_default();
        let mut gone = entry.selects().map(|selects| take_like(entries, selects)).unwrap_or_default();
        entries.push(Arc::clone(entry));
        let surplus = entries.len().saturating_sub(MOST_VARIANTS);
        gone.extend(entries.drain(..surplus));
        self.objects.fetch_add(1, Relaxed);
        self.objects.fetch_sub(gone.len() as u64, Relaxed);
        drop(shard);
        gone.retain(|entry| entry.die());
        gone
    }

    /// Adds what was found on the disk.
    pub(super) fn add_found(&self, entry: Arc<Entry>) {
        self.shard(entry.key).entry(entry.key).or_default().push(Arc::clone(&entry));
        self.objects.fetch_add(1, Relaxed);
        self.lock_order().add_old(entry);
    }

    /// Has it go when its turn comes.
    pub(super) fn is_written(&self, entry: &Arc<Entry>) {
        let mut order = self.lock_order();
        order.add(Arc::clone(entry));
        // What has gone by other ways than by its turn stays in the queues until then.
        if order.len() as u64 > self.objects() * 2 + 1024 {
            order.sweep();
        }
    }

    /// Takes out what is for the same requests; their files are for the caller to remove.
    pub(super) fn remove_like(&self, key: u128, selects: &Selects) -> Vec<Arc<Entry>> {
        let mut shard = self.shard(key);
        let Some(entries) = shard.get_mut(&key) else { return Vec::new() };
        let mut gone = take_like(entries, selects);
        if entries.is_empty() {
            shard.remove(&key);
        }
        self.objects.fetch_sub(gone.len() as u64, Relaxed);
        drop(shard);
        gone.retain(|entry| entry.die());
        gone
    }

    /// Takes one out. Whether its file is for the caller to remove.
    pub(super) fn remove(&self, entry: &Arc<Entry>) -> bool {
        self.leave(entry);
        entry.die()
    }

    /// Takes all out: their files have gone.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let gone = std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            for entry in gone.into_values().flatten() {
                self.objects.fetch_sub(1, Relaxed);
                if entry.die() && entry.unlinked() {
                    self.give_back(entry.size());
                }
            }
        }
        self.lock_order().sweep();
    }

    fn leave(&self, entry: &Arc<Entry>) {
        let mut shard = self.shard(entry.key);
        let Some(entries) = shard.get_mut(&entry.key) else { return };
        let before = entries.len();
        entries.retain(|other| !Arc::ptr_eq(other, entry));
        self.objects.fetch_sub((before - entries.len()) as u64, Relaxed);
        if entries.is_empty() {
            shard.remove(&entry.key);
        }
    }

    fn shard(&self, key: u128) -> MutexGuard<'_, Shard> {
        self.shards[(key >> 64) as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes those out that are for the same requests, as far as that is known.
fn take_like(entries: &mut Vec<Arc<Entry>>, selects: &Selects) -> Vec<Arc<Entry>> {
    let is_same = |entry: &mut Arc<Entry>| entry.selects().is_some_and(|other| other.is_same(selects));
    entries.extract_if(.., is_same).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is done to the index.
    #[derive(Clone, Debug)]
    enum Act {
        /// A response of so many blocks comes under one of some keys.
        Write(u8, u16),
        Remove(u8),
        Read(u8),
        /// The longest reader has read.
        Done,
        Resize(u16),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (any::<u8>(), 0..40_u16).prop_map(|(key, blocks)| Act::Write(key, blocks)),
            1 => any::<u8>().prop_map(Act::Remove),
            2 => any::<u8>().prop_map(Act::Read),
            1 => Just(Act::Done),
            1 => (30..60_u16).prop_map(Act::Resize),
        ]
    }

    /// The files that there would be, and the bytes of those that are still read.
    #[derive(Default)]
    struct Disk {
        index_taken_by: HashMap<u64, u64>,
    }

    impl Disk {
        fn remove(&mut self, index: &Index, entry: &Entry) {
            if entry.unlinked() {
                index.give_back(entry.size());
                self.index_taken_by.remove(&entry.id);
            }
        }
    }

    proptest! {
        #[test]
        fn there_are_never_more_bytes_than_there_may_be(acts in prop::collection::vec(act(), 1..300)) {
            let index = Index::new(40 * 4096);
            let (mut disk, mut readers, mut next) = (Disk::default(), Vec::new(), 0);
            for act in acts {
                match act {
                    Act::Write(key, blocks) => {
                        let size = u64::from(blocks) * 4096 + 4096;
                        let entry = Arc::new(Entry::found(next, u128::from(key) << 64, 0));
                        next += 1;
                        entry.is_for(Selects { vary: Default::default(), selected: 0 });
                        for gone in index.add(&entry) {
                            disk.remove(&index, &gone);
                        }
                        let mut has_room = index.take(size);
                        while !has_room {
                            let Some(gone) = index.evict() else { break };
                            disk.remove(&index, &gone);
                            has_room = index.take(size);
                        }
                        if !has_room {
                            let _ = index.remove(&entry);
                            continue;
                        }
                        entry.takes(size);
                        disk.index_taken_by.insert(entry.id, size);
                        index.is_written(&entry);
                    }
                    Act::Remove(key) => {
                        for gone in index.find(u128::from(key) << 64) {
                            if index.remove(&gone) {
                                disk.remove(&index, &gone);
                            }
                        }
                    }
                    Act::Read(key) => {
                        readers.extend(index.find(u128::from(key) << 64).pop().filter(|entry| entry.pin()));
                    }
                    Act::Done if !readers.is_empty() => {
                        let entry = readers.remove(0);
                        if entry.unpin() {
                            index.give_back(entry.size());
                            disk.index_taken_by.remove(&entry.id);
                        }
                        while index.is_over_full() {
                            let Some(gone) = index.evict() else { break };
                            disk.remove(&index, &gone);
                        }
                    }
                    Act::Done => {}
                    Act::Resize(blocks) => {
                        index.resize(u64::from(blocks) * 4096);
                        while index.is_over_full() {
                            let Some(gone) = index.evict() else { break };
                            disk.remove(&index, &gone);
                        }
                    }
                }
                prop_assert_eq!(index.taken(), disk.index_taken_by.values().sum::<u64>());
                let read: u64 = readers.iter().map(|entry| entry.size()).sum();
                prop_assert!(index.taken() <= index.size().max(read), "{} of {}", index.taken(), index.size());
            }
        }
    }
}
