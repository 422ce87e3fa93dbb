//! Writes a response as it comes whose body is too long for memory: a part at a time, in whichever order the threads come to them, and its
//! head last, which has their checksums. Nobody finds it before all of it is there under its name; but whoever waits for it can have what
//! has come of it as it comes: from memory what is still on its way to the disk, and from the file what is there.

mod coming;

use self::coming::ComingBody;
use super::arrived::{Arrived, BodyPart, PART};
use super::entry::{Entry, Selects, on_disk};
use super::format::{self, Fixed, PIECE};
use super::reading::{NOT_READ, NotRead, OpenBody, Pin, read_checked};
use super::writing::Waited;
use super::{DiskFault, DiskTier, State, TakenBytes};
use crate::cache::NotStored;
use crate::store::{BodySource, BodyWriter, BrokenOff, StoredBody, StoredResponse};
use bytes::Bytes;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

/// As many parts of one body wait or are being written before its server waits for the disk.
const MOST_PARTS: usize = 2;

type Done = Box<dyn FnOnce() + Send>;

/// A body on its way to the disk. Dropped, it leaves nothing there.
#[derive(Debug)]
pub(crate) struct DiskWriter {
    writing: Arc<Writing>,
    is_ended: bool,
    /// Of what is on its way into the cache: the room for a part.
    _room: BodyWriter,
}

/// What is written.
#[derive(Debug)]
struct Writing {
    tier: Arc<DiskTier>,
    id: u64,
    key: Box<[u8]>,
    hash: u128,
    /// With its length, and without its body.
    response: StoredResponse,
    /// Bytes before the body.
    body_at: u64,
    /// For the disk's threads alone: who makes it waits for the disk.
    file: Mutex<Option<Unfinished>>,
    /// The same once it is found under its name, for those who have followed it so far.
    found: OnceLock<Arc<OpenBody>>,
    progress: Mutex<Progress>,
}

impl Drop for Writing {
    /// The last who closes a file that has no name has its bytes freed by the file system, which may take its time.
    fn drop(&mut self) {
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(unfinished) = file.take() {
            self.tier.threads.tidy(move || drop(unfinished));
        }
    }
}

/// The file, under its other name, and the bytes that were taken for it.
#[derive(Debug)]
struct Unfinished {
    file: Arc<File>,
    taken: TakenBytes,
}

/// That a part is being written, or the file made. However that ends, others go on.
struct WritingPart<'a> {
    writing: &'a Writing,
    /// Where the part stands in the body.
    from: Option<u64>,
    written: Result<(), NotStored>,
}

impl Drop for WritingPart<'_> {
    fn drop(&mut self) {
        let writing = self.writing;
        let mut progress = writing.lock();
        progress.parts -= 1;
        progress.broken = progress.broken.or(self.written.err());
        if let Some(from) = self.from {
            progress.arrived.written(from);
        }
        if let Some(waker) = progress.waker.take() {
            waker.wake();
        }
        let is_last = progress.parts == 0;
        let Some(end) = progress.end.take_if(|_| is_last) else { return };
        let is_broken = progress.broken.is_some();
        drop(progress);
        match end {
            End::Whole(done) if !is_broken && writing.complete() => done(),
            End::Whole(_) | End::GivenUp => writing.discard(),
        }
    }
}

#[derive(Default)]
struct Progress {
    arrived: Arrived,
    /// Of the pieces that are written.
    sums: Vec<u64>,
    /// Parts that wait or are being written, and the file that is to be made.
    parts: usize,
    /// The file is there, and has room for all of it.
    is_made: bool,
    /// Others have what comes: it goes on without its place on the disk.
    is_shared: bool,
    /// Why it comes to nothing.
    broken: Option<NotStored>,
    /// Why no more comes, for those who follow it.
    broken_off: Option<BrokenOff>,
    end: Option<End>,
    /// Who waits until there are fewer.
    waker: Option<Waker>,
    /// Who is to know when somebody waits for more of it.
    awaited: Option<Waker>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("parts", &self.parts).finish_non_exhaustive()
    }
}

/// That no more parts come.
enum End {
    /// All have, and somebody is to be told when they are written.
    Whole(Done),
    GivenUp,
}

impl DiskTier {
    /// Begins to write a response under a key as its body comes, which is as long as it says.
    ///
    /// # Errors
    /// It is not for the disk, or there is no room for it.
    pub(crate) fn begin(
        self: &Arc<Self>,
        key: &[u8],
        response: StoredResponse,
    ) -> Result<DiskWriter, NotStored> {
        if !self.is_ready() {
            return Err(NotStored::DiskOff);
        }
        self.judge(&response)?;
        let mut room = self.store.writer(Some(0));
        if !room.claim(PART as u64) {
            self.skipped[1].fetch_add(1, Relaxed);
            return Err(NotStored::NoRoom);
        }
        // Of the length that it will have.
        let pieces = usize::try_from(response.length.div_ceil(PIECE));
        let sums = vec![0; pieces.map_err(|_| NotStored::TooLargeForDisk)?];
        let beginning = format::begin_with(key, &response, &sums).ok_or(NotStored::TooLargeForDisk)?;
        let body_at = beginning.len() as u64;
        let writing = Arc::new(Writing {
            tier: Arc::clone(self),
            id: self.next_id.fetch_add(1, Relaxed),
            key: key.into(),
            hash: format::key_hash(key),
            response,
            body_at,
            file: Mutex::default(),
            found: OnceLock::new(),
            progress: Mutex::new(Progress { sums, parts: 1, ..Progress::default() }),
        });
        let own = Arc::clone(&writing);
        if !self.threads.write(0, self.waiting.load(Relaxed), move || own.make()) {
            self.skipped[1].fetch_add(1, Relaxed);
            return Err(NotStored::DiskBehind);
        }
        Ok(DiskWriter { writing, is_ended: false, _room: room })
    }
}

impl DiskWriter {
    /// Adds what has come.
    ///
    /// # Errors
    /// The disk has failed or too much waits for it: it is no use to go on.
    pub(crate) fn push(&mut self, mut data: &[u8]) -> Result<(), NotStored> {
        loop {
            let is_part = {
                let mut progress = self.writing.lock();
                if let Some(reason) = progress.broken {
                    return Err(reason);
                }
                data = progress.arrived.push(data);
                progress.arrived.is_part()
            };
            if is_part {
                self.give(None)?;
            }
            if data.is_empty() {
                return Ok(());
            }
        }
    }

    /// Ready when there is room on the disk for all of it, so that others may have it as it comes; or when there is none.
    pub(crate) fn poll_made(&self, cx: &Context<'_>) -> Poll<Result<(), NotStored>> {
        let mut progress = self.writing.lock();
        match progress.broken {
            Some(reason) => Poll::Ready(Err(reason)),
            None if progress.is_made => Poll::Ready(Ok(())),
            None => {
                progress.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The response as it comes, for those who do not wait for all of it. From here on it goes on for them, whatever becomes of its place
    /// on the disk.
    pub(crate) fn coming(&self) -> StoredResponse {
        self.writing.lock().is_shared = true;
        self.writing.response.with_body(StoredBody::Elsewhere(self.source()))
    }

    fn source(&self) -> Arc<dyn BodySource> {
        Arc::new(ComingBody(Arc::clone(&self.writing)))
    }

    /// What has not come of it yet, and its length; ready when somebody waits for that.
    pub(crate) fn poll_awaited(&self, cx: &Context<'_>) -> Poll<(Arc<dyn BodySource>, Range<u64>)> {
        let mut progress = self.writing.lock();
        if progress.arrived.is_awaited() {
            return Poll::Ready((self.source(), progress.arrived.length()..self.writing.response.length));
        }
        progress.awaited = Some(cx.waker().clone());
        Poll::Pending
    }

    /// No more comes, for this reason, which those who follow it have as well.
    pub(crate) fn break_off(self, broken: BrokenOff) {
        self.writing.lock().broken_off = Some(broken);
    }

    /// Ready when it may be given more; else the disk is behind.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let tier = &self.writing.tier;
        let is_behind = tier.threads.has_more_than(tier.waiting.load(Relaxed));
        let mut progress = self.writing.lock();
        // What others follow is written in any case: beyond what may wait, a part at a time, for which it has room.
        let most = if progress.is_shared && is_behind { 1 } else { MOST_PARTS };
        if progress.parts < most || progress.broken.is_some() {
            return Poll::Ready(());
        }
        progress.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The disk was waited for as long as it may be: nothing more comes.
    pub(crate) fn give_up(&self) {
        self.writing.tier.skipped[1].fetch_add(1, Relaxed);
    }

    /// Whether what comes is no longer what is there.
    pub(crate) fn is_outdated(&self) -> bool {
        self.writing.tier.store.is_outdated(&self.writing.response)
    }

    /// All has come. `done` is called when it can be found on the disk, and dropped if it comes to nothing.
    ///
    /// # Errors
    /// It is known by now that it comes to nothing.
    pub(crate) fn finish(mut self, done: impl FnOnce() + Send + 'static) -> Result<(), NotStored> {
        let is_whole = self.writing.lock().arrived.length() == self.writing.response.length;
        let given = match is_whole {
            true => self.give(Some(End::Whole(Box::new(done)))),
            false => Err(NotStored::DiskOff),
        };
        self.is_ended = given.is_ok();
        if given.is_err() {
            self.writing.lock().broken_off = Some(NOT_READ);
        }
        given
    }

    /// Has a part written, if not too much waits; the last one says so.
    fn give(&mut self, end: Option<End>) -> Result<(), NotStored> {
        let writing = Arc::clone(&self.writing);
        let (part, is_shared) = {
            let mut progress = writing.lock();
            if let Some(reason) = progress.broken {
                return Err(reason);
            }
            progress.parts += 1;
            progress.end = end;
            (progress.arrived.take(), progress.is_shared)
        };
        let (tier, length, own) = (Arc::clone(&writing.tier), part.length(), Arc::clone(&writing));
        let write = move || {
            let _waited = Waited { tier: &own.tier, bytes: length };
            own.write(&part);
        };
        if is_shared {
            tier.threads.write_on(length, write);
            return Ok(());
        }
        if tier.threads.write(length, tier.waiting.load(Relaxed), write) {
            return Ok(());
        }
        tier.skipped[1].fetch_add(1, Relaxed);
        let reason = if tier.is_ready() { NotStored::DiskBehind } else { NotStored::DiskOff };
        let mut progress = writing.lock();
        progress.parts -= 1;
        progress.broken = Some(reason);
        Err(reason)
    }
}

impl Drop for DiskWriter {
    fn drop(&mut self) {
        if self.is_ended {
            return;
        }
        let mut progress = self.writing.lock();
        progress.broken_off.get_or_insert_default();
        progress.arrived.end();
        // Whoever writes the last part ends it.
        progress.end = Some(End::GivenUp);
        if progress.parts == 0 {
            drop(progress);
            let writing = Arc::clone(&self.writing);
            self.writing.tier.threads.tidy(move || writing.discard());
        }
    }
}

impl Writing {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_file(&self) -> MutexGuard<'_, Option<Unfinished>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file.
    fn make(&self) {
        let mut writing = WritingPart { writing: self, from: None, written: Err(NotStored::DiskOff) };
        writing.written = self.file().map(drop);
    }

    /// Writes a part, and ends it all if it was the last.
    fn write(&self, part: &BodyPart) {
        let (from, written) = (Some(part.from), Err(NotStored::DiskOff));
        let mut writing = WritingPart { writing: self, from, written };
        writing.written = self.write_part(part);
    }

    fn write_part(&self, part: &BodyPart) -> Result<(), NotStored> {
        if let Some(reason) = self.lock().broken {
            return Err(reason);
        }
        let file = self.file()?;
        for (place, piece) in (part.from / PIECE..).zip(&part.pieces) {
            let sum = format::piece_sum(self.hash, place, piece);
            if let Err(error) = file.write_all_at(piece, self.body_at + place * PIECE) {
                self.tier.fail(DiskFault::Write, &error);
                return Err(NotStored::DiskOff);
            }
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            if let Some(kept) = self.lock().sums.get_mut(place) {
                *kept = sum;
            }
        }
        Ok(())
    }

    /// What stands there of what is written.
    fn read(&self, from: u64) -> Option<Bytes> {
        if let Some(found) = self.found.get() {
            return found.read(from);
        }
        let file = self.lock_file().as_ref().map(|made| Arc::clone(&made.file))?;
        let place = from / PIECE;
        let sum = *self.lock().sums.get(usize::try_from(place).ok()?)?;
        let left = self.response.length.saturating_sub(place * PIECE);
        match read_checked(&file, self.body_at, (self.hash, place), (left, sum)) {
            Ok(piece) => Some(piece.slice(usize::try_from(from % PIECE).ok()?.min(piece.len())..)),
            Err(NotRead::Broken(what)) => {
                self.tier.found_broken((self.id, self.hash), what);
                None
            }
            Err(NotRead::Failed(error)) => {
                self.tier.fail(DiskFault::Read, &error);
                None
            }
            Err(NotRead::Missing | NotRead::Useless) => None,
        }
    }

    /// The file, made if there is room for all of it. One thread makes it, and others wait for that.
    fn file(&self) -> Result<Arc<File>, NotStored> {
        let (tier, mut made) = (&self.tier, self.lock_file());
        if let Some(made) = &*made {
            return Ok(Arc::clone(&made.file));
        }
        if let Some(reason) = self.lock().broken {
            return Err(reason);
        }
        let skip = |reason| {
            tier.skipped[1].fetch_add(1, Relaxed);
            reason
        };
        if !tier.is_ready() {
            return Err(skip(NotStored::DiskOff));
        }
        let taken = tier.make_room(self.size()).ok_or_else(|| skip(NotStored::DiskFull))?;
        let begun = tier.folder.begin_with_room((self.id, self.hash), self.body_at + self.response.length);
        let file = Arc::new(begun.map_err(|error| {
            tier.fail(DiskFault::Write, &error);
            NotStored::DiskOff
        })?);
        *made = Some(Unfinished { file: Arc::clone(&file), taken });
        self.lock().is_made = true;
        Ok(file)
    }

    /// Bytes that it takes on the disk.
    fn size(&self) -> u64 {
        on_disk(self.body_at + self.response.length)
    }

    /// Writes its head and puts it where it is found; false if nobody is to find it.
    fn complete(&self) -> bool {
        let Self { tier, response, key, .. } = self;
        // Whoever changes it from here on finds its place noted.
        tier.places.set(response.url);
        if tier.store.is_outdated(response) || !tier.may_keep() {
            return false;
        }
        let file = self.lock_file().as_ref().map(|made| Arc::clone(&made.file));
        let sums = self.lock().sums.clone();
        let head = format::begin_with(key, response, &sums).filter(|head| head.len() as u64 == self.body_at);
        let (Some(file), Some(head)) = (file, head) else { return false };
        let Ok(fixed) = Fixed::parse(&head) else { return false };
        let written = file.write_all_at(&head, 0).and_then(|()| tier.folder.finish(self.id, self.hash));
        if let Err(error) = written {
            tier.fail(DiskFault::Write, &error);
            return false;
        }
        let entry = Arc::new(Entry::found(self.id, self.hash, self.body_at + response.length));
        entry.is_for(Selects::of(response));
        // Who follows it reads on, and its bytes stay until then.
        if let Some(pin) = Pin::new(tier, &entry) {
            let body = OpenBody { file: Some(file), fixed, sums: sums.into(), first: None, pin };
            let _ = self.found.set(Arc::new(body));
        }
        if let Some(made) = self.lock_file().take() {
            made.taken.keep();
        }
        tier.remove_files(tier.index.add(&entry));
        tier.index.is_written(&entry);
        tier.remove_unread_like(&entry);
        // It has gone into the place of those.
        tier.store.remove_like(key, response);
        true
    }

    /// Leaves nothing of it, but for those who follow it and have it open.
    fn discard(&self) {
        // The next process removes what is not finished.
        if self.lock_file().is_some() && self.tier.state() != State::Released {
            self.tier.folder.discard(self.id, self.hash);
        }
    }
}

#[cfg(test)]
mod tests;
