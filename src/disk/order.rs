//! Which response goes first (S3-FIFO): what came lately and was asked for once goes before what was asked for again, so that a crawler
//! does not empty the disk. Whose time has come and who is read meanwhile stays.

use super::entry::Entry;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// The share of the bytes for what has come lately.
const LATELY: u64 = 10;
/// As many that have gone are remembered at least.
const LEAST_GHOSTS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Order {
    lately: VecDeque<Arc<Entry>>,
    lately_bytes: u64,
    main: VecDeque<Arc<Entry>>,
    /// Keys of what has gone of those that came lately.
    ghosts: VecDeque<u128>,
    known_ghosts: HashSet<u128>,
}

impl Order {
    /// One that has been written.
    pub(super) fn add(&mut self, entry: Arc<Entry>) {
        if self.known_ghosts.remove(&entry.key) {
            return self.main.push_back(entry);
        }
        self.lately_bytes += entry.size();
        self.lately.push_back(entry);
    }

    /// One that was there before this process, whose uses nobody knows.
    pub(super) fn add_old(&mut self, entry: Arc<Entry>) {
        self.main.push_back(entry);
    }

    /// Which goes now, of so many bytes that there may be; none if all are read.
    pub(super) fn next(&mut self, size: u64) -> Option<Arc<Entry>> {
        // Each has at most three uses, so that three rounds find one.
        let mut left = (self.lately.len() + self.main.len()) * 5 + 1;
        // Of the main ones those that are known to be read, whom there is no use in going round.
        let mut read = 0;
        while left > 0 {
            left -= 1;
            let is_lately =
                !self.lately.is_empty() && (self.lately_bytes > size / LATELY || read >= self.main.len());
            let entry = if is_lately { self.lately.pop_front() } else { self.main.pop_front() }?;
            if is_lately {
                self.lately_bytes = self.lately_bytes.saturating_sub(entry.size());
            }
            if entry.is_dead() {
                continue;
            }
            if entry.is_read() || entry.spend_use() {
                read += usize::from(entry.is_read());
                self.main.push_back(entry);
                continue;
            }
            if is_lately {
                self.remember(entry.key);
            }
            return Some(entry);
        }
        None
    }

    fn remember(&mut self, key: u128) {
        if self.known_ghosts.insert(key) {
            self.ghosts.push_back(key);
        }
        while self.ghosts.len() > self.main.len().max(LEAST_GHOSTS) {
            if let Some(gone) = self.ghosts.pop_front() {
                self.known_ghosts.remove(&gone);
            }
        }
    }

    /// Forgets those that have gone by other ways, so that they take no memory.
    pub(super) fn sweep(&mut self) {
        self.main.retain(|entry| !entry.is_dead());
        self.lately.retain(|entry| !entry.is_dead());
        self.lately_bytes = self.lately.iter().map(|entry| entry.size()).sum();
    }

    pub(super) fn len(&self) -> usize {
        self.main.len() + self.lately.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64) -> Arc<Entry> {
        Arc::new(Entry::found(id, u128::from(id), 4096))
    }

    #[test]
    fn what_was_asked_for_again_stays_longer_and_what_is_read_stays() {
        let mut order = Order::default();
        let entries: Vec<_> = (0..4).map(entry).collect();
        entries.iter().for_each(|entry| order.add(Arc::clone(entry)));
        entries[0].used();
        assert!(entries[1].pin());
        let mut next = || order.next(8192).map(|entry| entry.id);
        assert_eq!([next(), next(), next()], [Some(2), Some(3), Some(0)]);
        assert_eq!(next(), None, "the one left is read");
        assert!(!entries[1].unpin());
        assert_eq!(order.next(8192).map(|entry| entry.id), Some(1));
        assert_eq!(order.len(), 0);
        // Nor does one that is read keep those from going that have come lately.
        let (large, small) = (Arc::new(Entry::found(8, 8, 35 * 4096)), entry(9));
        assert!(large.pin());
        order.add(large);
        order.add(small);
        assert_eq!(order.next(30 * 4096).map(|entry| entry.id), Some(9));
    }
}
