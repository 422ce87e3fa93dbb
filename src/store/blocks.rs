//! Memory for bodies, in blocks of one size, which are used again by whoever needs one next: what a thread frees the allocator keeps for
//! the thread that had allocated it, and between several threads that take turns a tenth more lies idle than is kept.

use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Bytes of a block. Of larger ones, and of many sizes, more lies idle between those that have gone (`tests/acceptance/cache-bounds`):
/// 1.9 times what is kept with pieces of 1 MiB, 1.46 with 256 KiB, 1.16 with 64 KiB, 1.0 with these.
pub(crate) const BLOCK: usize = 16 << 10;
/// The share of a store's memory that may wait to be used again.
const FREE: u64 = 64;
/// As many blocks may in any case.
const LEAST_FREE: usize = 16;

/// Blocks that wait to be used again.
#[derive(Debug)]
pub(crate) struct Blocks {
    free: Mutex<Vec<Vec<u8>>>,
    most: AtomicUsize,
}

impl Blocks {
    /// For a store of so many bytes.
    pub(super) fn new(memory: u64) -> Arc<Self> {
        let blocks = Self { free: Mutex::default(), most: AtomicUsize::default() };
        blocks.resize(memory);
        Arc::new(blocks)
    }

    pub(super) fn resize(&self, memory: u64) {
        let most = usize::try_from(memory / FREE).unwrap_or(usize::MAX) / BLOCK;
        self.most.store(most.max(LEAST_FREE), Relaxed);
    }

    /// An empty one with room for so many bytes, or for a whole block if they are more or nobody knows.
    pub(super) fn take(self: &Arc<Self>, length: Option<usize>) -> Block {
        if let Some(length) = length.filter(|length| *length < BLOCK) {
            return Block { data: Vec::with_capacity(length), home: None };
        }
        // Nobody waits for another who is at it.
        let free = self.free.try_lock().ok().and_then(|mut free| free.pop());
        let data = free.unwrap_or_else(|| Vec::with_capacity(BLOCK));
        Block { data, home: Some(Arc::clone(self)) }
    }

    /// The same bytes in blocks.
    pub(crate) fn copy<'a>(self: &'a Arc<Self>, bytes: &'a [u8]) -> impl Iterator<Item = Bytes> + 'a {
        bytes.chunks(BLOCK).map(|bytes| {
            let mut block = self.take(Some(bytes.len()));
            block.data.extend_from_slice(bytes);
            block.freeze()
        })
    }

    fn give(&self, mut data: Vec<u8>) {
        data.clear();
        if let Ok(mut free) = self.free.try_lock()
            && free.len() < self.most.load(Relaxed)
        {
            free.push(data);
        }
    }
}

/// Bytes that come one after the other.
#[derive(Debug, Default)]
pub(super) struct Block {
    data: Vec<u8>,
    /// Where it goes in the end.
    home: Option<Arc<Blocks>>,
}

impl Block {
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn is_full(&self) -> bool {
        self.data.len() == self.data.capacity()
    }

    /// Takes as many as there is room for; returns the others.
    pub(super) fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let room = self.data.capacity() - self.data.len();
        let (now, later) = bytes.split_at(bytes.len().min(room));
        self.data.extend_from_slice(now);
        later
    }

    /// Nothing more comes.
    pub(super) fn freeze(mut self) -> Bytes {
        let is_loose = self.data.capacity() - self.data.len() > self.data.len() / 16;
        match (is_loose, &self.home) {
            (true, _) => Bytes::copy_from_slice(&self.data),
            (false, None) => Bytes::from(std::mem::take(&mut self.data)),
            (false, Some(_)) => Bytes::from_owner(self),
        }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give(std::mem::take(&mut self.data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_again_and_a_bounded_number_waits() {
        let blocks = Blocks::new(0);
        let body = vec![7; BLOCK * 20 + 5];
        let copied: Vec<Bytes> = blocks.copy(&body).collect();
        assert!(copied.concat() == body && copied.len() == 21);
        assert_eq!(copied[20].len(), 5);
        let first = copied[0].as_ptr();
        let part = copied[0].slice(1..3);
        drop(copied);
        assert_eq!(
            blocks.free.lock().expect("nobody panicked").len(),
            LEAST_FREE,
            "whole ones, as many as may"
        );
        drop(part);
        let waits = |at: &*const u8| {
            blocks.free.lock().expect("nobody panicked").iter().any(|block| block.as_ptr() == *at)
        };
        assert!(!waits(&first), "there was no room for one more");
        blocks.resize(100 << 20);
        let block = blocks.copy(&body[..BLOCK]).next().expect("one");
        let at = block.as_ptr();
        drop(block);
        assert!(waits(&at));
    }

    #[test]
    fn what_is_loose_takes_no_block() {
        let blocks = Blocks::new(0);
        let mut block = blocks.take(None);
        assert_eq!(block.push(b"abc"), b"");
        assert!(!block.is_full());
        assert_eq!(block.freeze(), &b"abc"[..]);
        assert_eq!(blocks.free.lock().expect("nobody panicked").len(), 1);
        let mut block = blocks.take(Some(2));
        assert_eq!(block.push(b"abc"), b"c");
        assert!(block.is_full());
        assert_eq!(block.freeze(), &b"ab"[..]);
        assert_eq!(blocks.free.lock().expect("nobody panicked").len(), 1);
    }
}
