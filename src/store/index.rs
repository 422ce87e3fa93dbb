//! Finds what is kept by its key, and lets go of what is asked for least (S3-FIFO, by `quick_cache`): one shard's lock for a
//! look-up, shared by all who look.

use super::stored::StoredResponse;
use crate::cache::{Moment, NotStored};
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Variants of one key; beyond it the oldest goes.
const MOST_VARIANTS: usize = 32;
/// What a key takes beside its bytes.
pub(super) const OWN: u64 = 256;
/// A response is small beside the shard that it lies in.
const SHARE: u64 = 4;
const MOST_SHARDS: u64 = 256;
/// About how large responses are: how many there are need not be known.
const USUAL: u64 = 16 << 10;
const WRITERS: usize = 64;

/// What lies under one key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// The oldest first.
    pub(crate) variants: Vec<Arc<StoredResponse>>,
    /// What came last was not kept.
    pub(crate) mark: Option<Mark>,
    /// Requests for what was not there.
    pub(super) uses: u32,
    /// Bytes that its variants took when it was put here. What they take may change only together with this.
    pub(super) weight: u64,
}

/// That a response was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) reason: NotStored,
    /// As long the next will hardly be another.
    pub(crate) until: Moment,
}

impl Slot {
    /// The same with a response in place of those that are for the same requests.
    pub(super) fn with(&self, response: Arc<StoredResponse>) -> Self {
        let mut variants = self.unlike(&response);
        variants.push(response);
        let surplus = variants.len().saturating_sub(MOST_VARIANTS);
        variants.drain(..surplus);
        Self { variants, mark: None, ..self.clone() }
    }

    /// The same with what was kept elsewhere, unless another has come meanwhile. It is older than those that are here.
    pub(super) fn with_older(&self, response: Arc<StoredResponse>) -> Self {
        let mut slot = self.clone();
        if slot.variants.len() < MOST_VARIANTS && slot.variants.iter().all(|other| !other.is_like(&response))
        {
            slot.variants.insert(0, response);
        }
        slot
    }

    /// The same without those that are for the same requests, and without a mark: what came last is kept elsewhere.
    pub(super) fn without_like(&self, response: &StoredResponse) -> Self {
        Self { variants: self.unlike(response), mark: None, ..self.clone() }
    }

    fn unlike(&self, response: &StoredResponse) -> Vec<Arc<StoredResponse>> {
        self.variants.iter().filter(|other| !other.is_like(response)).map(Arc::clone).collect()
    }

    /// The same without a response.
    pub(super) fn without(&self, response: &Arc<StoredResponse>) -> Self {
        let others = self.variants.iter().filter(|other| !Arc::ptr_eq(other, response));
        Self { variants: others.map(Arc::clone).collect(), ..self.clone() }
    }

    fn is_empty(&self) -> bool {
        self.variants.is_empty() && self.mark.is_none() && self.uses == 0
    }
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Arc<[u8]>, Arc<Slot>> for Weight {
    fn weight(&self, key: &Arc<[u8]>, slot: &Arc<Slot>) -> u64 {
        OWN + key.len() as u64 + slot.weight
    }
}

/// Counts what has to go.
#[derive(Clone, Debug, Default)]
struct Evictions(Arc<AtomicU64>);

/// What goes in one change, to be dropped when the lock is open again.
#[derive(Debug, Default)]
struct Gone {
    /// What another takes the place of; that is no eviction.
    replaced: Option<Arc<Slot>>,
    slots: Vec<Arc<Slot>>,
}

impl Lifecycle<Arc<[u8]>, Arc<Slot>> for Evictions {
    type RequestState = Gone;

    fn on_evict(&self, gone: &mut Gone, _: Arc<[u8]>, slot: Arc<Slot>) {
        if !gone.replaced.as_ref().is_some_and(|replaced| Arc::ptr_eq(replaced, &slot)) {
            self.0.fetch_add(slot.variants.len() as u64, Relaxed);
        }
        gone.slots.push(slot);
    }
}

/// The index.
pub(super) struct Index {
    slots: Cache<Arc<[u8]>, Arc<Slot>, Weight, DefaultHashBuilder, Evictions>,
    evictions: Evictions,
    /// Those who change what lies under one key do so one after the other.
    writers: Box<[Mutex<()>]>,
    hasher: DefaultHashBuilder,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("keys", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Index {
    pub(super) fn new(size: u64, most: u64) -> Self {
        let shards = (size / (most.max(1) * SHARE)).clamp(1, MOST_SHARDS);
        // A power of two, and not more than was reckoned with.
        let shards = 1_usize << shards.ilog2();
        let options = OptionsBuilder::new()
            .weight_capacity(size)
            .estimated_items_capacity(usize::try_from(size / USUAL).unwrap_or(usize::MAX).max(shards))
            .shards(shards)
            .build()
            .expect("both capacities are given");
        let (evictions, hasher) = (Evictions::default(), DefaultHashBuilder::default());
        Self {
            slots: Cache::with_options(options, Weight, hasher.clone(), evictions.clone()),
            evictions,
            writers: (0..WRITERS).map(|_| Mutex::default()).collect(),
            hasher,
        }
    }

    pub(super) fn resize(&self, size: u64) {
        if self.slots.capacity() != size {
            self.slots.set_capacity(size);
        }
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Arc<Slot>> {
        self.slots.get(key)
    }

    pub(super) fn peek(&self, key: &[u8]) -> Option<Arc<Slot>> {
        self.slots.peek(key)
    }

    pub(super) fn each(&self, mut each: impl FnMut(&[u8], &Slot)) {
        self.slots.iter().for_each(|(key, slot)| each(&key, &slot));
    }

    /// Has something else under a key than is there.
    pub(super) fn change(&self, key: &[u8], change: impl FnOnce(&Slot) -> Slot) {
        let writer = &self.writers[self.hasher.hash_one(key) as usize % WRITERS];
        let _one = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.peek(key).unwrap_or_default();
        let mut slot = change(&before);
        slot.weight = slot.variants.iter().map(|variant| variant.weight()).sum();
        match slot.is_empty() {
            true => _ = self.slots.remove(key),
            false => {
                let mut gone = Gone { replaced: Some(before), slots: Vec::new() };
                self.slots.insert_with_lifecycle(key.into(), Arc::new(slot), &mut gone);
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.slots.weight()
    }

    /// Keys that something is kept under.
    pub(super) fn objects(&self) -> u64 {
        self.slots.len() as u64
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.0.load(Relaxed)
    }
}
