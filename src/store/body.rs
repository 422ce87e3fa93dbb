//! A body on its way into the store. All such together have room of their own, which is part of the store's memory.

use crate::cache::NotStored;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// As much of a body lies in one piece.
const CHUNK: usize = 1 << 20;
/// What a body begins with whose length nobody has said.
const FIRST: usize = 16 << 10;

/// The room for bodies on their way.
#[derive(Debug)]
pub(super) struct Room {
    size: AtomicU64,
    taken: AtomicU64,
    /// Bytes that one may have.
    most: AtomicU64,
}

impl Room {
    pub(super) fn new(size: u64, most: u64) -> Self {
        Self { size: AtomicU64::new(size), taken: AtomicU64::new(0), most: AtomicU64::new(most) }
    }

    pub(super) fn resize(&self, size: u64, most: u64) {
        self.size.store(size, Relaxed);
        self.most.store(most, Relaxed);
    }

    pub(super) fn most(&self) -> u64 {
        self.most.load(Relaxed)
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

/// A body that is being collected. What it has of the room it gives back.
#[derive(Debug)]
pub(crate) struct BodyWriter {
    room: Arc<Room>,
    taken: u64,
    chunks: Vec<Bytes>,
    tail: BytesMut,
    length: u64,
}

impl BodyWriter {
    pub(super) fn new(room: &Arc<Room>, length: Option<u64>) -> Self {
        let first = length.map_or(FIRST, |length| usize::try_from(length).unwrap_or(CHUNK).min(CHUNK));
        Self {
            room: Arc::clone(room),
            taken: 0,
            chunks: Vec::new(),
            tail: BytesMut::with_capacity(first),
            length: 0,
        }
    }

    /// Adds what has come, if there is room.
    pub(crate) fn push(&mut self, mut data: &[u8]) -> Result<(), NotStored> {
        let bytes = data.len() as u64;
        if self.length + bytes > self.room.most() {
            return Err(NotStored::TooLarge);
        }
        if !self.room.take(bytes) {
            return Err(NotStored::NoRoom);
        }
        self.taken += bytes;
        self.length += bytes;
        while !data.is_empty() {
            if self.tail.len() == CHUNK {
                self.chunks.push(std::mem::take(&mut self.tail).freeze());
            }
            let (now, later) = data.split_at(data.len().min(CHUNK - self.tail.len()));
            self.tail.extend_from_slice(now);
            data = later;
        }
        Ok(())
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// All that has come, in as much memory as it needs.
    pub(crate) fn finish(mut self) -> Arc<[Bytes]> {
        let mut chunks = std::mem::take(&mut self.chunks);
        let tail = std::mem::take(&mut self.tail);
        if !tail.is_empty() {
            let is_loose = tail.capacity() - tail.len() > tail.len() / 16;
            chunks.push(if is_loose { Bytes::copy_from_slice(&tail) } else { tail.freeze() });
        }
        chunks.into()
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.taken, Relaxed);
    }
}
