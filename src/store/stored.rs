//! One response that is kept.

use crate::cache::Terms;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a response takes beside its bytes: itself, its pointers, its place in the index.
const OWN: usize = 512;
/// What a field of a head takes beside its name and its value.
const FIELD: usize = 128;
/// What a piece of a body takes beside its bytes.
const CHUNK: usize = 96;

/// A response.
#[derive(Debug)]
pub(crate) struct StoredResponse {
    pub(crate) status: StatusCode,
    /// Without what is about one connection.
    pub(crate) fields: HeaderMap,
    pub(crate) body: Arc<[Bytes]>,
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
        (OWN + fields + vary + names + self.selected.len() + self.body.len() * CHUNK) as u64 + self.length
    }
}
