//! Responses that are kept in memory, found by their keys. It is bounded by bytes, everything that belongs to a response
//! counted in, and so is what is still on its way into it.

mod blocks;
mod body;
mod coded;
mod epochs;
mod fetches;
mod index;
mod purges;
mod standing;
mod stored;
mod url_keys;
mod weight;

pub(crate) use blocks::Blocks;
pub(crate) use body::BodyWriter;
pub use coded::CodedResult;
pub(crate) use coded::{Coded, CodedBody};
pub(crate) use epochs::Epochs;
pub(crate) use fetches::{Fetched, Fetching, Part as FetchPart};
pub(crate) use purges::{OwnedPurge, Purge, PurgeRecord, Purged, Purges};
pub(crate) use standing::Standing;
pub(crate) use stored::{BodySource, BrokenOff, StoredBody, StoredResponse};
pub(crate) use url_keys::{NewKeys, UrlKeys};

use crate::cache::{Moment, NotStored, Vary};
use crate::config::plan::cache::{KeyPlan, StorePlan};
use crate::config::plan::compress::Encoding;
use body::Room;
use fetches::Fetches;
use index::Index;
pub(crate) use index::{Mark, Slot};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The share of the memory that is for responses on their way.
const ON_THE_WAY: u64 = 8;
/// Without memory for responses as many of the longest may be on their way.
const LONGEST_ON_THE_WAY: u64 = 4;
/// And so many bytes are for what is known of keys.
const KEYS: u64 = 1 << 20;

/// The share of the memory that is for what waits to be written to a disk. As much again is for what is read from it: what its threads
/// free they have for themselves.
const FOR_DISK: u64 = 16;
/// And so many bytes at least.
const LEAST_FOR_DISK: u64 = 1 << 20;

/// How large a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreSize {
    /// For all that is kept; with none responses are kept elsewhere only.
    pub(crate) memory: u64,
    /// For one body.
    pub(crate) max_object: u64,
    /// It is written to a disk, too.
    pub(crate) has_disk: bool,
}

/// Bytes of a memory of this size that are for what waits to be written to a disk.
pub(crate) fn for_disk(memory: u64) -> u64 {
    (memory / FOR_DISK).max(LEAST_FOR_DISK)
}

impl StoreSize {
    pub(crate) fn of(plan: &StorePlan) -> Self {
        Self { memory: plan.memory, max_object: plan.max_object, has_disk: plan.disk.is_some() }
    }

    /// For bodies on their way.
    fn filling(self) -> u64 {
        match self.memory {
            0 => self.max_object.saturating_mul(LONGEST_ON_THE_WAY),
            memory => memory / ON_THE_WAY,
        }
    }

    /// Bytes for what is kept.
    pub(crate) fn kept(self) -> u64 {
        if self.memory == 0 { 0 } else { self.index() }
    }

    fn index(self) -> u64 {
        match self.memory {
            0 => KEYS,
            memory if self.has_disk => memory - self.filling() - 2 * (memory / FOR_DISK),
            memory => memory - self.filling(),
        }
    }

    fn most(self) -> u64 {
        self.max_object.min(self.filling())
    }
}

/// The store.
#[derive(Debug)]
pub(crate) struct Store {
    index: Index,
    /// Whether responses are kept here.
    keeps: AtomicBool,
    pub(crate) epochs: Epochs,
    pub(crate) purges: Purges,
    /// By what purges and changes find what they are of.
    pub(crate) url_keys: UrlKeys,
    /// Where the counts of both have begun.
    began: u64,
    fetches: Arc<Fetches>,
    room: Arc<Room>,
    pub(crate) blocks: Arc<Blocks>,
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
    /// One of this size. Counts of purges and changes go on from `epoch`, which is to be greater than any before.
    pub(crate) fn new(size: StoreSize, epoch: u64) -> Self {
        Self {
            index: Index::new(size.index(), size.most()),
            keeps: AtomicBool::new(size.memory > 0),
            epochs: Epochs::after(epoch),
            purges: Purges::after(epoch),
            url_keys: UrlKeys::default(),
            began: epoch,
            fetches: Arc::default(),
            room: Arc::new(Room::new(size.filling(), size.max_object)),
            blocks: Blocks::new(size.memory),
        }
    }

    /// Has it keep to another size from now on.
    pub(crate) fn resize(&self, size: StoreSize) {
        self.keeps.store(size.memory > 0, Relaxed);
        self.room.resize(size.filling(), size.max_object);
        self.blocks.resize(size.memory);
        self.index.resize(size.index());
    }

    /// Why a body of so many bytes is not for memory, if it is not.
    pub(crate) fn forbids(&self, length: u64) -> Option<NotStored> {
        self.room.forbids(length)
    }

    /// A writer for a body of so many bytes, if that is known.
    pub(crate) fn writer(&self, length: Option<u64>) -> BodyWriter {
        BodyWriter::new(&self.room, &self.blocks, length)
    }

    /// Whether what lies behind a response's URL has changed since it was asked for, or it was purged.
    pub(crate) fn is_outdated(&self, response: &StoredResponse) -> bool {
        self.epochs.has_changed(response.url, response.epoch) || self.purges.judge(response).is_some()
    }

    /// Something was kept by these before, here or by another process. The purge that this calls for, if it does: what was purged and changed
    /// meanwhile has not reached what was kept by those that are new.
    pub(crate) fn recall_keys(&self, before: Vec<KeyPlan>) -> Option<PurgeRecord> {
        let NewKeys { keys, has_forgotten } = self.url_keys.recall(before);
        let epoch = self.purges.now();
        let has_missed = !keys.is_empty() && epoch.max(self.epochs.now()) > self.began;
        let is_hard =
            has_forgotten || self.purges.records().iter().any(|record| record.purged == Purged::Hard);
        let purged = if is_hard { Purged::Hard } else { Purged::Soft };
        (has_missed || has_forgotten).then_some(PurgeRecord { what: OwnedPurge::All, purged, epoch })
    }

    /// What is kept under a key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Arc<Slot>> {
        self.index.find(key)
    }

    /// The same for whoever only looks: it does not count as use.
    pub(crate) fn peek(&self, key: &[u8]) -> Option<Arc<Slot>> {
        self.index.peek(key)
    }

    /// Goes over all keys that responses are kept under, with the number of those.
    pub(crate) fn each_key(&self, mut each: impl FnMut(&[u8], u64)) {
        self.index.each(|key, slot| {
            if !slot.variants.is_empty() {
                each(key, slot.variants.len() as u64);
            }
        });
    }

    /// Keeps a response under a key, in place of its like, which may be newer if it is outdated itself; one that is not for memory only has
    /// those gone.
    pub(crate) fn put(&self, key: &[u8], response: Arc<StoredResponse>) {
        match self.is_for_memory(&response) {
            true if self.is_outdated(&response) => self.index.change(key, |slot| slot.with_older(response)),
            true => self.index.change(key, |slot| slot.with(response)),
            false if self.index.find(key).is_some() => {
                self.index.change(key, |slot| slot.without_like(&response))
            }
            false => {}
        }
    }

    /// Keeps what was kept elsewhere, unless another has come meanwhile or `is_gone`.
    pub(crate) fn recall(&self, key: &[u8], response: Arc<StoredResponse>, is_gone: impl FnOnce() -> bool) {
        if self.is_for_memory(&response) {
            self.index.change(key, |slot| match is_gone() {
                false => slot.with_older(response),
                true => slot.clone(),
            });
        }
    }

    /// Drops what is for the same requests as a response that is kept elsewhere.
    pub(crate) fn remove_like(&self, key: &[u8], response: &StoredResponse) {
        if self.index.peek(key).is_some() {
            self.index.change(key, |slot| slot.without_like(response));
        }
    }

    fn is_for_memory(&self, response: &StoredResponse) -> bool {
        self.keeps.load(Relaxed) && matches!(response.body, StoredBody::Memory(_))
    }

    /// Drops a response.
    pub(crate) fn remove(&self, key: &[u8], response: &Arc<StoredResponse>) {
        self.index.change(key, |slot| slot.without(response));
    }

    /// Keeps a response in place of one that it is the same as but for its head: what was compressed of that is so of this.
    pub(crate) fn renew(&self, key: &[u8], before: &Arc<StoredResponse>, fresh: Arc<StoredResponse>) {
        match self.is_for_memory(&fresh) {
            true => self.index.change(key, |slot| slot.without(before).with(fresh)),
            false => self.index.change(key, |slot| slot.without(before).without_like(&fresh)),
        }
    }

    /// Keeps a compressed form of what lies under a key, if that still does; whether it does.
    pub(crate) fn keep_coded(
        &self,
        key: &[u8],
        (coded, encoding): (&Arc<Coded>, Encoding),
        body: CodedBody,
    ) -> bool {
        let mut is_there = false;
        self.index.change(key, |slot| {
            is_there = slot.variants.iter().any(|variant| Arc::ptr_eq(&variant.coded, coded));
            if is_there {
                coded.keep(encoding, body);
            }
            slot.clone()
        });
        is_there
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
        self.fetches.join(key, |coming| self.is_outdated(coming))
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
