//! A body on its way into the store. All such together have room of their own, which is part of the store's memory. Whoever waits for
//! it can have what has come of it as it comes.

use super::blocks::{BLOCK, Block, Blocks};
use super::stored::{BodySource, BrokenOff};
use crate::cache::NotStored;
use bytes::Bytes;
use futures_channel::oneshot;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The room for bodies on their way.
#[derive(Debug)]
pub(super) struct Room {
    size: AtomicU64,
    taken: AtomicU64,
    /// Bytes that one may have, if there are so many.
    max_object: AtomicU64,
}

impl Room {
    pub(super) fn new(size: u64, max_object: u64) -> Self {
        Self { size: AtomicU64::new(size), taken: AtomicU64::new(0), max_object: AtomicU64::new(max_object) }
    }

    pub(super) fn resize(&self, size: u64, max_object: u64) {
        self.size.store(size, Relaxed);
        self.max_object.store(max_object, Relaxed);
    }

    /// What forbids a body of so many bytes, if anything does.
    pub(super) fn forbids(&self, length: u64) -> Option<NotStored> {
        match length {
            _ if length > self.max_object.load(Relaxed) => Some(NotStored::TooLarge),
            _ if length > self.size.load(Relaxed) => Some(NotStored::TooLargeForMemory),
            _ => None,
        }
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let size = self.size.load(Relaxed);
        let add = |taken: u64| Some(taken + bytes).filter(|taken| *taken <= size);
        self.taken.fetch_update(Relaxed, Relaxed, add).is_ok()
    }
}

/// What has come of a body, for whoever reads it meanwhile.
#[derive(Debug, Default)]
struct Growing(Mutex<Grown>);

#[derive(Debug, Default)]
struct Grown {
    /// Each of them a whole block.
    chunks: Vec<Bytes>,
    tail: Block,
    length: u64,
    /// As long it is said to become.
    expected: Option<u64>,
    /// Who waits for what comes from this place on.
    waiting: Vec<(u64, oneshot::Sender<Bytes>)>,
    /// It is whole.
    whole: Option<Arc<[Bytes]>>,
    /// It never will be.
    broken: Option<BrokenOff>,
}

impl Growing {
    fn lock(&self) -> MutexGuard<'_, Grown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BodySource for Growing {
    fn read(&self, from: u64) -> oneshot::Receiver<Bytes> {
        let (sender, receiver) = oneshot::channel();
        let mut grown = self.lock();
        match grown.from(from) {
            Some(bytes) => _ = sender.send(bytes),
            // Dropped, it says that no more comes.
            None if grown.broken.is_some() || grown.whole.is_some() => {}
            None => grown.waiting.push((from, sender)),
        }
        receiver
    }

    fn has_come(&self) -> u64 {
        let grown = self.lock();
        if grown.whole.is_some() { u64::MAX } else { grown.length }
    }

    fn is_in_memory(&self) -> bool {
        true
    }

    fn broken_off(&self) -> BrokenOff {
        self.lock().broken.unwrap_or_default()
    }
}

impl Grown {
    /// What is there from this place on, as much as lies in one piece.
    fn from(&self, from: u64) -> Option<Bytes> {
        let chunks = self.whole.as_deref().unwrap_or(&self.chunks);
        let from = usize::try_from(from).ok()?;
        let (place, within) = (from / BLOCK, from % BLOCK);
        match chunks.get(place) {
            Some(chunk) => Some(chunk.slice(within.min(chunk.len())..)).filter(|bytes| !bytes.is_empty()),
            None if place == chunks.len() && self.broken.is_none() => {
                let rest = self.tail.data().get(within..).filter(|rest| !rest.is_empty())?;
                Some(Bytes::copy_from_slice(rest))
            }
            None => None,
        }
    }

    fn next_tail(&mut self, blocks: &Arc<Blocks>) {
        let left = self.expected.and_then(|expected| expected.checked_sub(self.length));
        let left = left.and_then(|left| usize::try_from(left).ok()).filter(|left| *left > 0);
        let full = std::mem::take(&mut self.tail);
        if full.data().len() == BLOCK {
            self.chunks.push(full.freeze());
            self.tail = blocks.take(left);
            return;
        }
        // More has come than was said: each piece but the last is a whole block all the same.
        self.tail = blocks.take(if full.data().is_empty() { left } else { None });
        self.tail.push(full.data());
    }

    fn push(&mut self, mut data: &[u8], blocks: &Arc<Blocks>) {
        while !data.is_empty() {
            if self.tail.is_full() {
                self.next_tail(blocks);
            }
            let later = self.tail.push(data);
            self.length += (data.len() - later.len()) as u64;
            data = later;
        }
        // Most wait for the same: what is copied is so once for all of them.
        let mut last: Option<(u64, Bytes)> = None;
        for (from, sender) in std::mem::take(&mut self.waiting) {
            let known = last.as_ref().filter(|(place, _)| *place == from).map(|(_, bytes)| bytes.clone());
            match known.or_else(|| self.from(from)) {
                Some(bytes) => {
                    last = Some((from, bytes.clone()));
                    let _ = sender.send(bytes);
                }
                None => self.waiting.push((from, sender)),
            }
        }
    }
}

/// A body that is being collected. What it has of the room it gives back.
#[derive(Debug)]
pub(crate) struct BodyWriter {
    room: Arc<Room>,
    blocks: Arc<Blocks>,
    /// Of the room.
    taken: u64,
    length: u64,
    body: Arc<Growing>,
}

impl BodyWriter {
    pub(super) fn new(room: &Arc<Room>, blocks: &Arc<Blocks>, length: Option<u64>) -> Self {
        let body = Growing::default();
        body.lock().expected = length;
        Self { room: Arc::clone(room), blocks: Arc::clone(blocks), taken: 0, length: 0, body: Arc::new(body) }
    }

    /// Adds what has come, if there is room.
    pub(crate) fn push(&mut self, data: &[u8]) -> Result<(), NotStored> {
        let bytes = data.len() as u64;
        // What there is room for already stays, if there is less to be had by now.
        if self.length + bytes > self.taken
            && let Some(reason) = self.room.forbids(self.length + bytes)
        {
            return Err(reason);
        }
        if !self.claim(self.length + bytes) {
            return Err(NotStored::NoRoom);
        }
        self.length += bytes;
        self.body.lock().push(data, &self.blocks);
        Ok(())
    }

    /// Takes the room for so many bytes in all, if there is as much.
    pub(crate) fn claim(&mut self, length: u64) -> bool {
        let more = length.saturating_sub(self.taken);
        let has_room = more == 0 || self.room.take(more);
        self.taken += if has_room { more } else { 0 };
        has_room
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The body as it comes, for those who do not wait for all of it.
    pub(crate) fn source(&self) -> Arc<dyn BodySource> {
        Arc::clone(&self.body) as Arc<dyn BodySource>
    }

    /// No more comes, for this reason, which those who read it have as well.
    pub(crate) fn break_off(self, broken: BrokenOff) {
        *self.body.lock() = Grown { broken: Some(broken), ..Grown::default() };
    }

    /// All that has come, in as much memory as it needs.
    pub(crate) fn finish(self) -> Arc<[Bytes]> {
        let mut grown = self.body.lock();
        let mut chunks = std::mem::take(&mut grown.chunks);
        let tail = std::mem::take(&mut grown.tail);
        if !tail.data().is_empty() {
            chunks.push(tail.freeze());
        }
        let whole: Arc<[Bytes]> = chunks.into();
        grown.whole = Some(Arc::clone(&whole));
        drop(grown);
        whole
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.taken, Relaxed);
        let mut grown = self.body.lock();
        if grown.whole.is_none() && grown.broken.is_none() {
            // Those who read it are told that it ends here, and not that it is whole.
            *grown = Grown { broken: Some(BrokenOff::default()), ..Grown::default() };
        }
    }
}
