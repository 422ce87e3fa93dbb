//! Finds and reads what lies on the disk: the small with all their bytes, which memory keeps then; of others the head, and their bodies
//! piece by piece as clients take them.

use super::entry::{Entry, Selects};
use super::format::{self, FIXED, FileHead, Fixed, PIECE, Unreadable};
use super::{DiskFault, DiskTier};
use crate::cache::Moment;
use crate::store::{BodySource, BrokenOff, Selecting, StoredBody, StoredResponse};
use bytes::{Bytes, BytesMut};
use futures_channel::oneshot;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

/// Responses up to this are read as a whole, and kept in memory.
pub(super) const WHOLE: u64 = 256 << 10;
/// Most heads are read with the fixed part.
const BEGINNING: usize = 4096;

/// What a record says of a body that ends in the middle.
pub(super) const NOT_READ: BrokenOff =
    BrokenOff { why: None, detail: Some("the rest of it could not be read from the cache's disk") };

/// What may lie on the disk for a request.
#[derive(Debug)]
pub(crate) enum Look {
    Nothing,
    /// It is being written.
    Here(Arc<StoredResponse>),
    /// It is read; it may turn out to be for other requests, which is known from then on.
    Reads(oneshot::Receiver<Loaded>),
}

/// What has come of reading.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) response: Arc<StoredResponse>,
    entry: Arc<Entry>,
}

impl Loaded {
    /// Whether another has taken its place meanwhile, or it was removed.
    pub(crate) fn is_gone(&self) -> bool {
        self.entry.is_dead()
    }
}

/// Why nothing was read.
#[derive(Debug)]
pub(super) enum NotRead {
    /// It is of use to nobody.
    Useless,
    /// Its file is not there.
    Missing,
    /// What is there is not what was written, and in what way.
    Broken(&'static str),
    Failed(io::Error),
}

impl From<io::Error> for NotRead {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::UnexpectedEof => Self::Broken("it ends too early"),
            _ => Self::Failed(error),
        }
    }
}

impl From<Unreadable> for NotRead {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Foreign => Self::Useless,
            Unreadable::Broken => Self::Broken("its head is not what was written"),
        }
    }
}

impl DiskTier {
    /// Looks for what lies under a key, for a request that has this of what responses vary by.
    pub(crate) fn look(self: &Arc<Self>, key: &[u8], selecting: &mut Selecting<'_>) -> Look {
        if !self.is_ready() {
            return Look::Nothing;
        }
        let Some(entry) = self.find(key, selecting) else { return Look::Nothing };
        if let Some(response) = entry.being_written() {
            return Look::Here(response);
        }
        let (sender, receiver) = oneshot::channel();
        let (tier, key) = (Arc::clone(self), key.to_vec());
        let load = move || {
            // Who has not waited for it asks a server.
            if !sender.is_canceled()
                && let Some(response) = tier.load(&entry, &key)
            {
                let _ = sender.send(Loaded { response: Arc::new(response), entry });
            }
        };
        if self.threads.read(load) {
            return Look::Reads(receiver);
        }
        self.skipped[0].fetch_add(1, Relaxed);
        Look::Nothing
    }

    /// Whether something may lie there for such a request; it is not read.
    pub(crate) fn may_have(&self, key: &[u8], selecting: &mut Selecting<'_>) -> bool {
        self.is_ready() && self.find(key, selecting).is_some()
    }

    fn find(&self, key: &[u8], selecting: &mut Selecting<'_>) -> Option<Arc<Entry>> {
        let mut is_for = |entry: &Arc<Entry>| {
            entry
                .selects()
                .is_none_or(|selects| format::selected_hash(&selecting(&selects.vary)) == selects.selected)
        };
        self.index.find(format::key_hash(key)).into_iter().find(|entry| is_for(entry))
    }

    fn load(self: &Arc<Self>, entry: &Arc<Entry>, key: &[u8]) -> Option<StoredResponse> {
        let pin = Pin::new(self, entry)?;
        match self.read_response(pin, key) {
            Ok(response) => {
                entry.used();
                Some(response)
            }
            Err(not_read) => {
                self.not_read(entry, not_read);
                None
            }
        }
    }

    pub(super) fn not_read(&self, entry: &Arc<Entry>, not_read: NotRead) {
        match not_read {
            NotRead::Useless => {}
            // Who has died was removed by us.
            NotRead::Missing if entry.is_dead() => return,
            NotRead::Missing => self.found_missing(&self.folder.file(entry.id, entry.key)),
            NotRead::Broken(what) => self.found_broken((entry.id, entry.key), what),
            NotRead::Failed(error) => return self.fail(DiskFault::Read, &error),
        }
        if self.index.remove(entry) {
            self.unlink(entry);
        }
    }

    fn read_response(self: &Arc<Self>, pin: Pin, key: &[u8]) -> Result<StoredResponse, NotRead> {
        let file = self.folder.open(pin.entry.id, pin.entry.key)?;
        let (fixed, head) = {
            let _one = pin.entry.lock_head();
            read_head(&file, &pin.entry)?
        };
        let FileHead { key: own, mut response, sums } = head;
        // Another key with the same number, or a clock that was ahead: neither is of use to anybody.
        if own != key || response.terms.received > now() {
            return Err(NotRead::Useless);
        }
        pin.entry.is_for(Selects::of(&response));
        if fixed.body <= WHOLE {
            let mut pieces = Vec::new();
            for place in 0..fixed.body.div_ceil(PIECE) {
                let piece = read_piece(&file, &fixed, &sums, place)?;
                pieces.extend(self.store.blocks.copy(&piece));
            }
            response.body = StoredBody::Memory(pieces.into());
            return Ok(response);
        }
        let first = read_piece(&file, &fixed, &sums, 0)?;
        let body = OpenBody { file: Some(Arc::new(file)), fixed, sums: sums.into(), first: Some(first), pin };
        response.body = StoredBody::Elsewhere(Arc::new(SharedBody(Arc::new(body))));
        Ok(response)
    }
}

/// Reads and checks a file's head.
pub(super) fn read_head(file: &File, entry: &Entry) -> Result<(Fixed, FileHead), NotRead> {
    let length = file.metadata()?.len();
    let mut beginning = vec![0; usize::try_from(length).unwrap_or(BEGINNING).min(BEGINNING)];
    file.read_exact_at(&mut beginning, 0)?;
    let fixed = Fixed::parse(&beginning)?;
    if fixed.length() != length {
        return Err(NotRead::Broken("it is not as long as its head says"));
    }
    if fixed.key != entry.key {
        return Err(NotRead::Broken("its head is another file's"));
    }
    let end = FIXED + fixed.head as usize;
    let read = beginning.len().min(end);
    beginning.resize(end, 0);
    file.read_exact_at(&mut beginning[read..], read as u64)?;
    Ok((fixed, FileHead::parse(&fixed, &beginning[FIXED..])?))
}

/// One piece of a body, checked.
fn read_piece(file: &File, fixed: &Fixed, sums: &[u64], place: u64) -> Result<Bytes, NotRead> {
    let sum = usize::try_from(place).ok().and_then(|place| sums.get(place)).ok_or(Unreadable::Broken)?;
    let left = fixed.body.saturating_sub(place * PIECE);
    read_checked(file, fixed.body_at(), (fixed.key, place), (left, *sum))
}

/// A piece of a body that begins there, which has as many bytes as are left and this checksum.
pub(super) fn read_checked(
    file: &File,
    body_at: u64,
    (key, place): (u128, u64),
    (left, sum): (u64, u64),
) -> Result<Bytes, NotRead> {
    let mut piece = BytesMut::zeroed(usize::try_from(left.min(PIECE)).unwrap_or_default());
    file.read_exact_at(&mut piece, body_at + place * PIECE)?;
    match format::is_piece(key, place, &piece, sum) {
        true => Ok(piece.freeze()),
        false => Err(NotRead::Broken("a piece of its body is not what was written")),
    }
}

fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// That somebody reads a response: its bytes stay on the disk.
#[derive(Debug)]
pub(super) struct Pin {
    tier: Arc<DiskTier>,
    entry: Arc<Entry>,
}

impl Pin {
    pub(super) fn new(tier: &Arc<DiskTier>, entry: &Arc<Entry>) -> Option<Self> {
        entry.pin().then(|| Self { tier: Arc::clone(tier), entry: Arc::clone(entry) })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.entry.unpin() {
            self.tier.index.give_back(self.entry.size());
        }
        // What was read could not go when there was to be less.
        if self.tier.index.is_over_full() && self.tier.is_ready() {
            let tier = Arc::clone(&self.tier);
            self.tier.threads.tidy(move || tier.shrink());
        }
    }
}

/// A body of which no more is in memory than what clients are about to take.
#[derive(Debug)]
pub(super) struct OpenBody {
    pub(super) file: Option<Arc<File>>,
    pub(super) fixed: Fixed,
    pub(super) sums: Box<[u64]>,
    /// The first piece, if it was read before, and was good.
    pub(super) first: Option<Bytes>,
    pub(super) pin: Pin,
}

impl OpenBody {
    /// What stands there, as far as its piece goes.
    pub(super) fn read(&self, from: u64) -> Option<Bytes> {
        let skipped = usize::try_from(from % PIECE).unwrap_or_default();
        match read_piece(self.file.as_ref()?, &self.fixed, &self.sums, from / PIECE) {
            Ok(piece) => Some(piece.slice(skipped.min(piece.len())..)),
            Err(not_read) => {
                self.pin.tier.not_read(&self.pin.entry, not_read);
                None
            }
        }
    }
}

/// The same, for all who read it.
#[derive(Debug)]
struct SharedBody(Arc<OpenBody>);

impl BodySource for SharedBody {
    fn read(&self, from: u64) -> oneshot::Receiver<Bytes> {
        let (sender, receiver) = oneshot::channel();
        if let Some(first) = self.0.first.as_ref().filter(|_| from < PIECE) {
            let skipped = usize::try_from(from).unwrap_or_default();
            let _ = sender.send(first.slice(skipped.min(first.len())..));
            return receiver;
        }
        let body = Arc::clone(&self.0);
        self.0.pin.tier.threads.read_on(move || {
            if !sender.is_canceled()
                && let Some(bytes) = body.read(from)
            {
                let _ = sender.send(bytes);
            }
        });
        receiver
    }

    fn has_come(&self) -> u64 {
        u64::MAX
    }

    fn is_in_memory(&self) -> bool {
        false
    }

    fn broken_off(&self) -> BrokenOff {
        NOT_READ
    }
}

impl Drop for OpenBody {
    /// The last who closes a file that has no name any more has its bytes freed by the file system, which may take its time.
    fn drop(&mut self) {
        let file = self.file.take();
        if self.pin.entry.is_dead() {
            let Pin { tier, entry } = &self.pin;
            // Its bytes count until then.
            entry.pin_again();
            let pin = Pin { tier: Arc::clone(tier), entry: Arc::clone(entry) };
            self.pin.tier.threads.tidy(move || drop((file, pin)));
        }
    }
}
