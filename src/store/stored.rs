//! One response that is kept.

use super::coded::Coded;
use super::weight::{PIECE, pieces};
use crate::cache::Terms;
use bytes::Bytes;
use futures_channel::oneshot;
use http::{HeaderMap, StatusCode};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a response takes beside its bytes: itself, its pointers, its place in the index.
const OWN: usize = 512 + size_of::<Coded>();
/// What a field of a head takes beside its name and its value.
const FIELD: usize = 128;
/// Where a body lies.
#[derive(Clone, Debug)]
pub(crate) enum StoredBody {
    Memory(Arc<[Bytes]>),
    /// It is read piece by piece as it is sent.
    Elsewhere(Arc<dyn BodySource>),
}

/// Why no more of a body comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BrokenOff {
    /// The number of a reason that whoever fetches it has; `None` is a fault of our own.
    pub(crate) why: Option<u8>,
    pub(crate) detail: Option<&'static str>,
}

/// A body that is not in memory.
pub(crate) trait BodySource: Debug + Send + Sync {
    /// Has what stands from this place on read, as much as is read at once; nothing comes of it if that cannot be.
    fn read(&self, from: u64) -> oneshot::Receiver<Bytes>;

    /// So many bytes of it are there at least, and may be read without waiting for its server.
    fn has_come(&self) -> u64;

    /// Whether what is read lies in memory in any case, so that much of it may be held at once.
    fn is_in_memory(&self) -> bool;

    /// Why nothing came of reading.
    fn broken_off(&self) -> BrokenOff;
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
    /// The same body, compressed.
    pub(crate) coded: Arc<Coded>,
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
            StoredBody::Memory(body) => pieces(body),
            StoredBody::Elsewhere(_) => PIECE,
        };
        (OWN + fields + vary + names + self.selected.len()) as u64 + body + self.coded.weight()
    }

    /// The same with another body.
    pub(crate) fn with_body(&self, body: StoredBody) -> Self {
        self.with(self.fields.clone(), body, Arc::default())
    }

    /// The same with other fields.
    pub(crate) fn with_fields(&self, fields: HeaderMap) -> Self {
        self.with(fields, self.body.clone(), Arc::clone(&self.coded))
    }

    fn with(&self, fields: HeaderMap, body: StoredBody, coded: Arc<Coded>) -> Self {
        Self {
            status: self.status,
            fields,
            body,
            length: self.length,
            coded,
            terms: self.terms.clone(),
            selected: self.selected.clone(),
            epoch: self.epoch,
            url: self.url,
            place: self.place.clone(),
            tags: self.tags.clone(),
            purge_epoch: self.purge_epoch,
            unpurged_at: AtomicU64::new(self.purge_epoch),
        }
    }

    /// Whether a place of its body is there to be read, or the next that comes.
    pub(crate) fn has_come(&self, place: u64) -> bool {
        match &self.body {
            StoredBody::Memory(_) => true,
            StoredBody::Elsewhere(source) => place <= source.has_come(),
        }
    }

    /// Whether another is for the same requests.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.terms.vary == other.terms.vary && self.selected == other.selected
    }
}
