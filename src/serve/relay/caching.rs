//! What the cache has to do with a request, from its look-up to its end.

use crate::access_log::{CacheRecord, CacheResult, Why};
use crate::cache::{CacheStatus, Moment, NotStored, Terms};
use crate::config::plan::cache::CachePlan;
use crate::disk::{DiskTier, DiskWriter};
use crate::filter::cache::Validators;
use crate::serve::exchange::moment;
use crate::serve::server::Failure;
use crate::store::{BodyWriter, BrokenOff, Fetched, Fetching, Store, StoredBody, StoredResponse};
use http::{HeaderMap, StatusCode};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// As long a disk is waited for before a request goes on without it.
pub(super) const DISK_PATIENCE: Duration = Duration::from_millis(500);

/// What the cache has to do with a request that is for it.
#[derive(Debug)]
pub(super) struct Caching {
    pub(super) store: Arc<Store>,
    pub(super) disk: Option<Arc<DiskTier>>,
    pub(super) plan: Arc<CachePlan>,
    pub(super) key: Vec<u8>,
    /// What servers get in place of the request's own target.
    pub(super) target: Option<String>,
    pub(super) url: u64,
    /// Its response may be kept.
    pub(super) is_fill: bool,
    /// The one before was not.
    pub(super) is_marked: bool,
    /// Of its URL so far, this one counted once, however often it is sent.
    pub(super) uses: Option<u32>,
    /// What its server is asked; without, the request goes on as it came.
    pub(super) validators: Option<Validators>,
    /// What is kept and its server is asked about.
    pub(super) stored: Option<Arc<StoredResponse>>,
    /// What is kept and not there any more by what its server sends: it goes once that is whole, or is not to be kept.
    pub(super) replaced: Option<Arc<StoredResponse>>,
    pub(super) status: CacheStatus,
    /// When its server was asked, and what had changed by then.
    pub(super) asked: Moment,
    pub(super) epoch: u64,
    pub(super) purge_epoch: u64,
    /// Its host and path.
    pub(super) place: String,
    /// The response, as it comes.
    pub(super) filling: Option<Filling>,
    /// That others may wait for it.
    pub(super) fetching: Option<Fetching>,
}

impl Caching {
    /// Has the request go as it came: its response is not for the store.
    pub(super) fn pass(&mut self) {
        (self.validators, self.filling, self.stored) = (None, None, None);
    }

    /// A response to its request, as it is kept.
    pub(super) fn stored_as(
        &self,
        status: StatusCode,
        (fields, terms, tags): (HeaderMap, Terms, Box<[u64]>),
        (body, length): (StoredBody, u64),
        selected: Box<[u8]>,
    ) -> StoredResponse {
        StoredResponse {
            status,
            fields,
            body,
            length,
            coded: Arc::default(),
            terms,
            selected,
            epoch: self.epoch,
            url: self.url,
            place: self.place.as_str().into(),
            tags,
            purge_epoch: self.purge_epoch,
            unpurged_at: AtomicU64::new(self.purge_epoch),
        }
    }

    /// Keeps a response, in memory and on the disk.
    pub(super) fn put(&self, response: &Arc<StoredResponse>) {
        self.store.put(&self.key, Arc::clone(response));
        if let Some(disk) = &self.disk {
            disk.keep(&self.key, response);
        }
    }

    /// Keeps what is the same as before but for its head.
    pub(super) fn renew(&self, before: &Arc<StoredResponse>, fresh: &Arc<StoredResponse>) {
        self.store.renew(&self.key, before, Arc::clone(fresh));
        let Some(disk) = &self.disk else { return };
        match before.is_like(fresh) {
            true => disk.renew(&self.key, fresh),
            false => {
                disk.remove(&self.key, before);
                disk.keep(&self.key, fresh);
            }
        }
    }

    /// Keeps a response no more.
    pub(super) fn remove(&self, response: &Arc<StoredResponse>) {
        if let Some(disk) = &self.disk {
            disk.remove(&self.key, response);
        }
        self.store.remove(&self.key, response);
    }

    /// Keeps no more what another response has taken the place of.
    pub(super) fn remove_replaced(&mut self) {
        if let Some(replaced) = self.replaced.take() {
            self.remove(&replaced);
        }
    }

    /// Has nobody wait for the next, if that will hardly be kept either.
    pub(super) fn mark(&self, reason: NotStored) {
        if reason.lasts() && !self.is_marked && !self.plan.uncacheable_for.is_zero() {
            self.store.mark(&self.key, reason, moment().after(self.plan.uncacheable_for));
        }
    }

    /// Tells those who wait, if any do, what has come of it.
    pub(super) fn tell(&mut self, fetched: &Fetched) {
        if let Some(fetching) = self.fetching.take() {
            fetching.end(fetched);
        }
    }
}

/// Why a response that has begun to be kept is not.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unkept {
    NotStored(NotStored),
    /// It has not come to its end.
    BrokenOff(Failure),
}

impl Unkept {
    /// What its record says.
    pub(super) fn record(self) -> CacheRecord {
        let (result, reason) = match self {
            Self::NotStored(reason) => (CacheResult::Uncacheable, reason.label()),
            Self::BrokenOff(failure) => (CacheResult::Miss, failure.why.as_str()),
        };
        CacheRecord { reason: Some(reason), ..result.into() }
    }

    /// What those are told who have it as it comes.
    pub(super) fn told(self) -> BrokenOff {
        match self {
            Self::NotStored(reason) => {
                BrokenOff { why: Some(Why::OwnResources as u8), detail: Some(reason.label()) }
            }
            Self::BrokenOff(failure) => failure.into(),
        }
    }
}

/// A response that is being kept.
#[derive(Debug)]
pub(super) enum Filling {
    Memory(Box<MemoryFill>),
    /// It is too long for memory.
    Disk(DiskFill),
}

impl Filling {
    /// Whether it is known how long the body is going to be.
    pub(super) fn has_length(&self) -> bool {
        match self {
            Self::Memory(fill) => fill.length.is_some() || fill.status == StatusCode::NO_CONTENT,
            Self::Disk(_) => true,
        }
    }

    /// Adds what has come of the body.
    ///
    /// # Errors
    /// There is no room for it: it is not kept.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<(), NotStored> {
        match self {
            Self::Memory(fill) => fill.body.push(data),
            Self::Disk(fill) => fill.writer.push(data),
        }
    }
}

/// One that goes to the disk.
#[derive(Debug)]
pub(super) struct DiskFill {
    pub(super) writer: DiskWriter,
    /// Those who wait for it have it as it comes.
    pub(super) is_shared: bool,
    /// Until when the disk is waited for, which is behind.
    patience: Option<Pin<Box<Sleep>>>,
}

impl DiskFill {
    pub(super) fn new(writer: DiskWriter) -> Self {
        Self { writer, is_shared: false, patience: None }
    }

    /// Ready when it may be given more (true), or when the disk was waited for in vain.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.writer.poll_ready(cx).is_ready() {
            self.patience = None;
            return Poll::Ready(true);
        }
        let wait = || Box::pin(tokio::time::sleep(DISK_PATIENCE));
        self.patience.get_or_insert_with(wait).as_mut().poll(cx).map(|()| false)
    }
}

/// One that comes into memory.
#[derive(Debug)]
pub(super) struct MemoryFill {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    pub(super) terms: Terms,
    pub(super) tags: Box<[u64]>,
    pub(super) body: BodyWriter,
    /// Of the body, if its server has said it.
    pub(super) length: Option<u64>,
}
