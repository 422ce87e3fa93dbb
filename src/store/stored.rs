//! One response that is kept.

use crate::cache::Terms;
use bytes::Bytes;
use futures_channel::oneshot;
use http::{HeaderMap, StatusCode};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a response takes beside its bytes: itself, its pointers, its place in the index.
const OWN: usize = 512;
/// What a field of a head takes beside its name and its value.
const FIELD: usize = 128;
/// What a piece of a body takes beside its bytes.
const PIECE: u64 = 96;

/// What an allocation of so many bytes takes: the allocator has four sizes between a power of two and the next.
fn allocated(bytes: u64) -> u64 {
    match bytes.checked_sub(1).and_then(u64::checked_ilog2) {
        Some(bits @ 2..) => bytes.next_multiple_of(1 << (bits - 2)),
        _ => bytes,
    }
}

/// Where a body lies.
#[derive(Clone, Debug)]
pub(crate) enum StoredBody {
    Memory(Arc<[Bytes]>),
    /// It is read piece by piece as it is sent.
    Elsewhere(Arc<dyn BodySource>),
}

/// A body that is not in memory.
pub(crate) trait BodySource: Debug + Send + Sync {
    /// Has what stands from this place on read, as much as is read at once; nothing comes of it if that cannot be.
    fn read(&self, from: u64) -> oneshot::Receiver<Bytes>;

    /// Whether what is read lies in memory in any case, so that much of it may be held at once.
    fn is_in_memory(&self) -> bool;
}

/// A response.
#[derive(Debug)]
pub(crate) struct StoredResponse {
    pub(crate) status: StatusCode,
    /// Without what is about one connection.
    pub(crate) fields: HeaderMap,
    pub(crate) body: StoredBody,
    /// Bytes of the body.
    pub(crate) length: u64,
    pub(crate) terms: Terms,
    /// What requests have that it is for.
    pub(crate) selected: Box<[u8]>,
    /// What had been invalidated when it was asked for.
    pub(crate) epoch: u64,
    /// The URL that it was asked by, whatever of it is in the key.
    pub(crate) url: u64,
    /// Its host and path.
    pub(crate) place: Box<str>,
    /// The numbers of its tags.
    pub(crate) tags: Box<[u64]>,
    /// What had been purged when it was asked for.
    pub(crate) purge_epoch: u64,
    /// What had been when it was last found not to be.
    pub(crate) unpurged_at: AtomicU64,
}

impl StoredResponse {
    /// The bytes that it takes.
    pub(super) fn weight(&self) -> u64 {
        let fields: usize =
            self.fields.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD).sum();
        let vary: usize = self.terms.vary.0.iter().map(|name| name.as_str().len() + 32).sum();
        let names = self.place.len() + self.tags.len() * size_of::<u64>();
        let body = match &self.body {
            StoredBody::Memory(pieces) => {
                pieces.iter().map(|piece| PIECE + allocated(piece.len() as u64)).sum()
            }
            StoredBody::Elsewhere(_) => PIECE,
        };
        (OWN + fields + vary + names + self.selected.len()) as u64 + body
    }

    /// Whether another is for the same requests.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.terms.vary == other.terms.vary && self.selected == other.selected
    }
}

#[cfg(test)]
mod tests {
    use super::allocated;

    #[test]
    fn what_is_allocated_is_a_quarter_more_at_most() {
        for (bytes, taken) in [
            (0, 0),
            (1, 1),
            (5, 5),
            (8, 8),
            (9, 10),
            (17, 20),
            (100, 112),
            (16_384, 16_384),
            (16_385, 20_480),
            (20_481, 24_576),
        ] {
            assert_eq!(allocated(bytes), taken, "{bytes}");
        }
        for bytes in 8..100_000 {
            let taken = allocated(bytes);
            assert!(taken >= bytes && taken <= bytes + bytes / 4 + 1, "{bytes}: {taken}");
        }
    }
}
