//! Writes a response as it comes whose body is too long for memory: a part at a time, in whichever order the threads come to them, and its
//! head last, which has their checksums. Nobody finds it before all of it is there under its name; but whoever waits for it can have what
//! has come of it as it comes: from memory what is still on its way to the disk, and from the file what is there.

use super::arrived::{Arrived, BodyPart, PART};
use super::entry::{Entry, Selects, on_disk};
use super::format::{self, Fixed, PIECE};
use super::reading::{NOT_READ, NotRead, OpenBody, Pin, read_checked};
use super::writing::Waited;
use super::{DiskFault, DiskTier, State, TakenBytes};
use crate::cache::NotStored;
use crate::store::{BodySource, BodyWriter, BrokenOff, StoredBody, StoredResponse};
use bytes::Bytes;
use futures_channel::oneshot;
use std::fs::File;
use std::io;
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

/// That a part is being written. However that ends, others go on.
struct WritingPart<'a> {
    writing: &'a Writing,
    /// Where it stands in the body.
    from: u64,
    written: Result<(), NotStored>,
}

impl Drop for WritingPart<'_> {
    fn drop(&mut self) {
        let writing = self.writing;
        let mut progress = writing.lock();
        progress.parts -= 1;
        progress.broken = progress.broken.or(self.written.err());
        progress.arrived.written(self.from);
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
    /// Parts that wait or are being written.
    parts: usize,
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
        let writing = Writing {
            tier: Arc::clone(self),
            id: self.next_id.fetch_add(1, Relaxed),
            key: key.into(),
            hash: format::key_hash(key),
            response,
            body_at,
            file: Mutex::default(),
            found: OnceLock::new(),
            progress: Mutex::new(Progress { sums, ..Progress::default() }),
        };
        Ok(DiskWriter { writing: Arc::new(writing), is_ended: false, _room: room })
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

    /// The response as it comes, for those who do not wait for all of it.
    pub(crate) fn coming(&self) -> StoredResponse {
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
        let mut progress = self.writing.lock();
        if progress.parts < MOST_PARTS || progress.broken.is_some() {
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
        let part = {
            let mut progress = writing.lock();
            if let Some(reason) = progress.broken {
                return Err(reason);
            }
            progress.parts += 1;
            progress.end = end;
            progress.arrived.take()
        };
        let (tier, length, own) = (Arc::clone(&writing.tier), part.length(), Arc::clone(&writing));
        let write = move || {
            let _waited = Waited { tier: &own.tier, bytes: length };
            own.write(&part);
        };
        if tier.threads.write(length, tier.waiting.load(Relaxed), write) {
            return Ok(());
        }
        tier.skipped[1].fetch_add(1, Relaxed);
        let mut progress = writing.lock();
        progress.parts -= 1;
        progress.broken = Some(NotStored::DiskBehind);
        Err(NotStored::DiskBehind)
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

    /// Writes a part, and ends it all if it was the last.
    fn write(&self, part: &BodyPart) {
        let mut writing = WritingPart { writing: self, from: part.from, written: Err(NotStored::DiskOff) };
        writing.written = self.write_part(part);
    }

    fn write_part(&self, part: &BodyPart) -> Result<(), NotStored> {
        if let Some(reason) = self.lock().broken {
            return Err(reason);
        }
        let file = match self.file() {
            Ok(Some(file)) => file,
            Ok(None) => {
                self.tier.skipped[1].fetch_add(1, Relaxed);
                return Err(if self.tier.is_ready() { NotStored::DiskFull } else { NotStored::DiskOff });
            }
            Err(error) => {
                self.tier.fail(DiskFault::Write, &error);
                return Err(NotStored::DiskOff);
            }
        };
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

    /// The file, made with the first part if there is room for all of it. One thread makes it, and others wait for that.
    fn file(&self) -> io::Result<Option<Arc<File>>> {
        let mut made = self.lock_file();
        if let Some(made) = &*made {
            return Ok(Some(Arc::clone(&made.file)));
        }
        if self.lock().broken.is_some() || !self.tier.is_ready() {
            return Ok(None);
        }
        let Some(taken) = self.tier.make_room(self.size()) else { return Ok(None) };
        let file = Arc::new(self.tier.folder.begin(self.id, self.hash)?);
        *made = Some(Unfinished { file: Arc::clone(&file), taken });
        Ok(Some(file))
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
        if tier.store.is_outdated(response) || !tier.is_ready() {
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

/// A body as it comes, for those who follow it.
#[derive(Debug)]
struct ComingBody(Arc<Writing>);

impl BodySource for ComingBody {
    fn read(&self, from: u64) -> oneshot::Receiver<Bytes> {
        let (sender, receiver) = oneshot::channel();
        let mut progress = self.0.lock();
        if progress.broken.is_some() || progress.broken_off.is_some() {
            return receiver;
        }
        let on_disk = progress.arrived.read(from, sender);
        let awaited = if progress.arrived.is_awaited() { progress.awaited.take() } else { None };
        drop(progress);
        if let Some(waker) = awaited {
            waker.wake();
        }
        if let Some(sender) = on_disk {
            let writing = Arc::clone(&self.0);
            self.0.tier.threads.read_on(move || {
                if !sender.is_canceled()
                    && let Some(bytes) = writing.read(from)
                {
                    let _ = sender.send(bytes);
                }
            });
        }
        receiver
    }

    /// Not all of it: a piece at a time is held for each who follows it.
    fn is_in_memory(&self) -> bool {
        false
    }

    fn broken_off(&self) -> BrokenOff {
        self.0.lock().broken_off.unwrap_or(NOT_READ)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Place, body, end, found, response, start, store, whole, written};
    use super::*;
    use crate::cache::{Moment, Terms};
    use crate::store::{Purge, Purged, Store, StoredBody};
    use std::sync::mpsc::{Receiver, channel};

    /// A response without its body.
    fn head(number: u64, length: usize, selected: &str) -> StoredResponse {
        let one = Arc::into_inner(response(number, length, selected)).expect("nobody else has it");
        StoredResponse { body: StoredBody::Memory(Arc::from([])), ..one }
    }

    /// Writes one in parts of this length; what comes says when it is there, or that it will not be.
    fn write(tier: &Arc<DiskTier>, key: &str, (number, length): (u64, usize), step: usize) -> Receiver<()> {
        let (sender, receiver) = channel();
        let mut writer = tier.begin(key.as_bytes(), head(number, length, "")).expect("it is for the disk");
        body(number, length).chunks(step).for_each(|data| writer.push(data).expect("it goes on"));
        let _ = writer.finish(move || _ = sender.send(()));
        receiver
    }

    #[test]
    fn what_was_written_as_it_came_is_found_by_this_process_and_the_next() {
        let place = Place::new();
        let lengths = [1, PART - 1, PART, PART + 1, 3 * PART, 3_000_007];
        {
            let store = store(1 << 30);
            let tier = start(&place, &store, 64 << 20);
            for (number, length) in (1..).zip(lengths) {
                let length = length.max(100);
                for step in [70_001, PART, 7 * PART + 5] {
                    write(&tier, &format!("k{number}"), (number, length), step)
                        .recv()
                        .expect("it is written");
                    let there = found(&tier, &format!("k{number}"), "").expect("it is found");
                    assert!(
                        whole(&there).is_some_and(|bytes| bytes == body(number, length)),
                        "{length} {step}"
                    );
                }
            }
            written(&tier, lengths.len() as u64);
            assert_eq!(place.files().len(), lengths.len(), "each in the place of the one before");
            assert!(tier.index.taken() >= place.files().len() as u64 * 4096);
            assert_eq!(store.in_use().filling, 0);
            end(tier);
        }
        let store = store(2 << 30);
        let tier = start(&place, &store, 64 << 20);
        for (number, length) in (1..).zip(lengths) {
            let there = found(&tier, &format!("k{number}"), "").expect("it is found");
            assert!(whole(&there).is_some_and(|bytes| bytes == body(number, length.max(100))), "{length}");
            assert_eq!(there.fields, response(number, length.max(100), "").fields);
        }
        end(tier);
    }

    #[test]
    fn what_does_not_come_to_its_end_leaves_nothing() {
        let (place, store) = (Place::new(), store(1 << 30));
        let tier = start(&place, &store, 64 << 20);
        let without = tier.index.taken();
        for pushed in [0, 10, PART, 3 * PART + 10] {
            let length = 4 * PART;
            let (sender, receiver) = channel();
            for is_finished in [false, true] {
                let mut writer = tier.begin(b"k", head(1, length, "")).expect("it is for the disk");
                writer.push(&body(1, length)[..pushed]).expect("it goes on");
                let sender = sender.clone();
                match is_finished {
                    true => _ = writer.finish(move || _ = sender.send(())),
                    false => drop(writer),
                }
            }
            drop(sender);
            assert!(receiver.recv().is_err(), "nobody is told that it is there: {pushed}");
            written(&tier, 0);
            assert_eq!(
                (place.files().len(), tier.index.taken(), store.in_use().filling),
                (0, without, 0),
                "{pushed}"
            );
        }
        end(tier);
    }

    #[test]
    fn what_was_purged_or_changed_meanwhile_and_what_has_no_room_is_not_there() {
        let (place, store) = (Place::new(), store(1 << 30));
        let tier = start(&place, &store, 8 << 20);
        let without = tier.index.taken();
        let begin = |head| tier.begin(b"k", head).err();
        assert_eq!(begin(head(1, 3 << 20, "")), Some(NotStored::TooLargeForDisk));
        assert_eq!(begin(head(1, 99, "")), Some(NotStored::TooSmallForDisk));
        let brief = StoredResponse { terms: Terms::for_tests(Moment(7), 4), ..head(1, 999, "") };
        assert_eq!(begin(brief), Some(NotStored::TooBrief));
        let changes: [fn(&Store); 2] =
            [|store| _ = store.epochs.change(1), |store| _ = store.purges.purge(Purge::Tag(9), Purged::Soft)];
        for change in changes {
            let (sender, receiver) = channel();
            let mut writer = tier.begin(b"k", head(1, 2 * PART, "")).expect("it is for the disk");
            writer.push(&body(1, 2 * PART)).expect("it goes on");
            change(&store);
            let _ = writer.finish(move || sender.send(()).expect("the test waits for it"));
            assert!(receiver.recv().is_err());
            written(&tier, 0);
        }
        assert_eq!((place.files().len(), tier.index.taken()), (0, without));
        end(tier);
    }

    #[test]
    fn a_write_that_panics_gives_back_what_it_had_and_others_go_on() {
        let (place, store) = (Place::new(), store(1 << 30));
        let tier = start(&place, &store, 64 << 20);
        let without = tier.index.taken();
        for length in [PART, 3 * PART + 10] {
            tier.folder.panics.store(true, Relaxed);
            let (sender, receiver) = channel();
            let mut writer = tier.begin(b"k", head(1, length, "")).expect("it is for the disk");
            let _ = writer.push(&body(1, length));
            let _ = writer.finish(move || _ = sender.send(()));
            assert!(receiver.recv().is_err(), "nobody is told that it is there");
            tier.keep(b"short", &response(2, 1000, ""));
            written(&tier, 0);
            assert_eq!((tier.index.taken(), store.in_use().filling), (without, 0), "{length}");
            assert_eq!((place.files().len(), tier.is_ready()), (0, true));
            tier.folder.panics.store(false, Relaxed);
            write(&tier, "k", (1, length), 1000).recv().expect("it is written");
            assert!(found(&tier, "k", "").and_then(|there| whole(&there)).is_some());
            tier.remove(b"k", &response(1, length, ""));
            written(&tier, 0);
        }
        end(tier);
    }

    /// Reads on where it was, as far as there is more.
    fn follow(source: &Arc<dyn BodySource>, read: &mut Vec<u8>, until: usize) -> bool {
        while read.len() < until {
            let mut receiver = source.read(read.len() as u64);
            let bytes = loop {
                match receiver.try_recv() {
                    Ok(Some(bytes)) => break bytes,
                    Ok(None) => std::thread::yield_now(),
                    Err(_) => return false,
                }
            };
            assert!(!bytes.is_empty() && bytes.len() <= PIECE as usize);
            read.extend_from_slice(&bytes);
        }
        true
    }

    #[test]
    fn who_follows_what_is_written_has_what_has_come_of_it_wherever_it_is() {
        let (place, store) = (Place::new(), store(1 << 30));
        let tier = start(&place, &store, 64 << 20);
        let length = 5 * PART + 12_345;
        let bytes = body(1, length);
        let mut writer = tier.begin(b"k", head(1, length, "")).expect("it is for the disk");
        let coming = writer.coming();
        let StoredBody::Elsewhere(source) = &coming.body else { panic!("it is read as it comes") };
        let (mut at_once, mut later, mut last) = (Vec::new(), Vec::new(), Vec::new());
        let mut came = 0;
        for data in bytes.chunks(40_000) {
            writer.push(data).expect("it goes on");
            came += data.len();
            assert!(follow(source, &mut at_once, came));
            if came > length / 2 {
                assert!(follow(source, &mut later, came / 3));
            }
        }
        let (sender, receiver) = channel();
        let _ = writer.finish(move || _ = sender.send(()));
        receiver.recv().expect("it is written");
        assert!(follow(source, &mut later, length) && at_once == bytes && later == bytes);
        // It goes for others, and stays as long as it is followed.
        let taken = tier.index.taken();
        tier.remove(b"k", &response(1, length, ""));
        written(&tier, 0);
        assert_eq!((place.files().len(), tier.index.taken()), (0, taken));
        assert!(follow(source, &mut last, length) && last == bytes);
        drop(coming);
        written(&tier, 0);
        assert!(tier.index.taken() < 65_536, "{}", tier.index.taken());
        end(tier);
    }

    #[test]
    fn who_follows_what_breaks_off_is_told_so_wherever_they_are() {
        let (place, store) = (Place::new(), store(1 << 30));
        let tier = start(&place, &store, 64 << 20);
        let without = tier.index.taken();
        let told = BrokenOff { why: Some(7), detail: None };
        for (pushed, is_told) in [(0, true), (10, true), (3 * PART + 10, true), (3 * PART + 10, false)] {
            let length = 4 * PART;
            let mut writer = tier.begin(b"k", head(1, length, "")).expect("it is for the disk");
            let coming = writer.coming();
            let StoredBody::Elsewhere(source) = &coming.body else { panic!("it is read as it comes") };
            let mut waits = source.read(pushed as u64);
            writer.push(&body(1, length)[..pushed]).expect("it goes on");
            assert!(waits.try_recv().is_ok_and(|came| came.is_none()), "it has come so far");
            match is_told {
                true => writer.break_off(told),
                false => drop(writer),
            }
            assert!(waits.try_recv().is_err());
            assert!(!follow(source, &mut Vec::new(), 1), "nothing more is read of it");
            assert_eq!(source.broken_off(), if is_told { told } else { BrokenOff::default() });
            drop(coming);
            written(&tier, 0);
            assert_eq!((place.files().len(), tier.index.taken()), (0, without), "{pushed}");
        }
        end(tier);
    }
}
