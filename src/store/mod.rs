//! Responses that are kept in memory, found by their keys. It is bounded by bytes, everything that belongs to a response
//! counted in, and so is what is still on its way into it.

mod body;
mod epochs;
mod fetches;
mod index;
mod purges;
mod standing;
mod stored;

pub(crate) use body::BodyWriter;
pub(crate) use fetches::{Fetched, Fetching, Part as FetchPart};
pub(crate) use purges::{Purge, Purged};
pub(crate) use standing::Standing;
pub(crate) use stored::StoredResponse;

use crate::cache::{Moment, NotStored, Vary};
use body::Room;
use epochs::Epochs;
use fetches::Fetches;
use index::Index;
pub(crate) use index::{Mark, Slot};
use purges::Purges;
use std::sync::Arc;

/// The share of the memory that is for responses on their way.
const ON_THE_WAY: u64 = 8;

/// The store.
#[derive(Debug)]
pub(crate) struct Store {
    index: Index,
    pub(crate) epochs: Epochs,
    pub(crate) purges: Purges,
    fetches: Arc<Fetches>,
    room: Arc<Room>,
}

/// What is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUse {
    /// Of what is kept and of what is on its way.
    pub bytes: u64,
    /// Of those the ones on their way.
    pub filling: u64,
    /// Keys.
    pub objects: u64,
    pub evictions: u64,
    /// Fetches under way.
    pub fetches: u64,
    /// Purges so far, by URL, tag, prefix, and of all.
    pub purges: [u64; 4],
}

impl Store {
    /// One with so many bytes of memory, for bodies of so many.
    pub(crate) fn new(memory: u64, max_object: u64) -> Self {
        let filling = memory / ON_THE_WAY;
        Self {
            index: Index::new(memory - filling, max_object.min(filling)),
            epochs: Epochs::default(),
            purges: Purges::default(),
            fetches: Arc::default(),
            room: Arc::new(Room::new(filling, max_object.min(filling))),
        }
    }

    /// Has it keep to another size from now on.
    pub(crate) fn resize(&self, memory: u64, max_object: u64) {
        let filling = memory / ON_THE_WAY;
        self.room.resize(filling, max_object.min(filling));
        self.index.resize(memory - filling);
    }

    /// Bytes that a body may have.
    pub(crate) fn most(&self) -> u64 {
        self.room.most()
    }

    /// A writer for a body of so many bytes, if that is known.
    pub(crate) fn writer(&self, length: Option<u64>) -> BodyWriter {
        BodyWriter::new(&self.room, length)
    }

    /// What is kept under a key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Arc<Slot>> {
        self.index.find(key)
    }

    /// The same for whoever only looks: it does not count as use.
    pub(crate) fn peek(&self, key: &[u8]) -> Option<Arc<Slot>> {
        self.index.peek(key)
    }

    /// Keeps a response under a key, in place of its like.
    pub(crate) fn put(&self, key: &[u8], response: Arc<StoredResponse>) {
        self.index.change(key, |slot| slot.with(response));
    }

    /// Drops a response.
    pub(crate) fn remove(&self, key: &[u8], response: &Arc<StoredResponse>) {
        self.index.change(key, |slot| slot.without(response));
    }

    /// Notes that what lies under a key is not kept, and until when nobody is to wait for it.
    pub(crate) fn mark(&self, key: &[u8], reason: NotStored, until: Moment) {
        self.index.change(key, |slot| Slot { mark: Some(Mark { reason, until }), ..slot.clone() });
    }

    /// Counts a request for what is not kept; how many there were.
    pub(crate) fn count_use(&self, key: &[u8]) -> u32 {
        let mut uses = 0;
        self.index.change(key, |slot| {
            uses = slot.uses.saturating_add(1);
            Slot { uses, ..slot.clone() }
        });
        uses
    }

    /// Begins to fetch what lies under a key, or to wait for whoever does.
    pub(crate) fn join(&self, key: &[u8]) -> FetchPart {
        self.fetches.join(key)
    }

    /// What is in it now.
    pub(crate) fn in_use(&self) -> StoreUse {
        let filling = self.room.taken();
        StoreUse {
            bytes: self.index.bytes() + filling,
            filling,
            objects: self.index.objects(),
            evictions: self.index.evictions(),
            fetches: self.fetches.count(),
            purges: self.purges.counted(),
        }
    }
}

/// What the requests for a response have in common, by what it varies by.
pub(crate) type Selecting<'a> = dyn FnMut(&Vary) -> Vec<u8> + 'a;

impl Slot {
    /// The variant for a request: the last one that came, of several.
    pub(crate) fn variant(&self, selecting: &mut Selecting<'_>) -> Option<&Arc<StoredResponse>> {
        let mut known: Option<(&Vary, Vec<u8>)> = None;
        self.variants.iter().rev().find(|variant| {
            let vary = &variant.terms.vary;
            if known.as_ref().is_none_or(|(last, _)| *last != vary) {
                known = Some((vary, selecting(vary)));
            }
            known.as_ref().is_some_and(|(_, selected)| **selected == *variant.selected)
        })
    }
}

#[cfg(test)]
mod tests;
