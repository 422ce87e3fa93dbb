//! Notes what is purged and changed, so that what lies on the disk does not come back after a restart. Who purges waits until the disk has it;
//! several purges are written at once.

use super::record::{self, Record};
use super::{DiskFault, DiskTier, State};
use crate::config::plan::cache::KeyPlan;
use crate::store::{Epochs, OwnedPurge, Purge, PurgeRecord, Purged, Store};
use futures_channel::oneshot;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// As long who purges waits for that.
pub(crate) const NOTED_WITHIN: Duration = Duration::from_secs(2);
/// Beyond so many the log is written anew, with those that still count.
const MOST_RECORDS: usize = 300_000;

/// The log.
#[derive(Debug, Default)]
pub(super) struct PurgeLog {
    pending: Mutex<Pending>,
    /// Keys that are not in the file yet.
    unwritten_keys: AtomicUsize,
    file: Mutex<LogFile>,
}

#[derive(Debug, Default)]
struct Pending {
    records: Vec<Record>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.waiting.is_empty()
    }
}

/// The log's file, once the folder is ours.
#[derive(Debug, Default)]
struct LogFile {
    file: Option<File>,
    records: usize,
    bytes: u64,
}

impl PurgeLog {
    /// Whether something may be kept by keys of which the file has nothing yet.
    pub(super) fn lacks_keys(&self) -> bool {
        self.unwritten_keys.load(Acquire) > 0
    }

    /// Notes nothing more.
    pub(super) fn close(&self) {
        self.lock_file().file = None;
    }

    fn lock_file(&self) -> MutexGuard<'_, LogFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskTier {
    /// Notes purges that are in force. What comes says when they are on the disk.
    pub(crate) fn note_purges(
        self: &Arc<Self>,
        purges: impl Iterator<Item = (OwnedPurge, u64)>,
        purged: Purged,
    ) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let record = |(what, epoch)| Record::Purge(PurgeRecord { what, purged, epoch });
        let mut pending = self.log.lock_pending();
        // Who has come before has it written with theirs, be the disk as slow as it may.
        let is_first = pending.is_empty();
        pending.records.extend(purges.map(record));
        pending.waiting.push(sender);
        drop(pending);
        if is_first {
            self.write_pending();
        }
        receiver
    }

    /// Something may be kept by these keys from now on. Nothing is written meanwhile: a process after this one, with other keys, has to know
    /// by which of them purges find what lies here.
    pub(crate) fn note_keys(self: &Arc<Self>, keys: Vec<KeyPlan>) {
        let mut pending = self.log.lock_pending();
        let is_first = pending.is_empty();
        self.log.unwritten_keys.fetch_add(keys.len(), Release);
        pending.records.extend(keys.into_iter().map(Record::Key));
        drop(pending);
        if is_first {
            self.write_pending();
        }
    }

    /// What lies behind a URL has changed, at this count: notes it, if anything lies on the disk that this is about.
    pub(crate) fn note_change(self: &Arc<Self>, url: u64, epoch: u64) {
        let place = Epochs::place_of(url);
        if self.places.take(place) {
            let mut pending = self.log.lock_pending();
            let is_first = pending.is_empty();
            pending.records.push(Record::Change { place, epoch });
            drop(pending);
            if is_first {
                self.write_pending();
            }
        }
    }

    fn write_pending(self: &Arc<Self>) {
        let tier = Arc::clone(self);
        self.threads.tidy(move || {
            if let Err(error) = tier.write_log() {
                tier.fail(DiskFault::Write, &error);
                // One that is begun anew begins with what was purged.
                if !matches!(tier.state(), State::Released | State::Opening) {
                    tier.forget();
                }
            }
        });
    }

    fn write_log(&self) -> io::Result<()> {
        let mut log = self.log.lock_file();
        let Pending { records, waiting } = std::mem::take(&mut *self.log.lock_pending());
        let keys = records.iter().filter(|record| matches!(record, Record::Key(_))).count();
        let appended = self.append(&mut log, &records, keys > 0 || !waiting.is_empty());
        // If that has failed nobody goes by this log any more.
        self.log.unwritten_keys.fetch_sub(keys, Release);
        appended?;
        if log.file.is_none() && self.is_off() {
            self.forget();
        }
        drop(log);
        waiting.into_iter().for_each(|sender| _ = sender.send(()));
        self.shrink();
        Ok(())
    }

    fn append(&self, log: &mut LogFile, records: &[Record], is_awaited: bool) -> io::Result<()> {
        // What comes before the folder is ours is in the log that is written then.
        let (Some(file), false) = (log.file.as_mut(), records.is_empty()) else { return Ok(()) };
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.append_to(&mut bytes));
        file.write_all(&bytes)?;
        if is_awaited {
            file.sync_data()?;
            if file.metadata()?.nlink() == 0 {
                return Err(ErrorKind::NotFound.into());
            }
        }
        log.records += records.len();
        log.bytes += bytes.len() as u64;
        self.index.take_found(bytes.len() as u64);
        if log.records > MOST_RECORDS { self.rewrite(log) } else { Ok(()) }
    }

    /// Writes the log anew, with all that is known.
    pub(super) fn begin_log(&self) -> io::Result<()> {
        self.rewrite(&mut self.log.lock_file())
    }

    fn rewrite(&self, log: &mut LogFile) -> io::Result<()> {
        let mut bytes = record::beginning();
        let keys = self.store.url_keys.known();
        let keys = keys.iter().cloned().map(Record::Key);
        let purges = self.store.purges.records().into_iter().map(Record::Purge);
        let changes = self.store.epochs.records().map(|(place, epoch)| Record::Change { place, epoch });
        let mut records = 0;
        for record in keys.chain(purges).chain(changes) {
            record.append_to(&mut bytes);
            records += 1;
        }
        self.folder.replace_log(&bytes)?;
        self.index.give_back(log.bytes);
        self.index.take_found(bytes.len() as u64);
        *log = LogFile { file: Some(self.folder.append_to_log()?), records, bytes: bytes.len() as u64 };
        Ok(())
    }
}

/// Has what a store keeps purged, on its disk too. What comes says when that has it noted.
pub(crate) fn purge(
    store: &Store,
    disk: Option<&Arc<DiskTier>>,
    purges: &[Purge<'_>],
    purged: Purged,
) -> Option<oneshot::Receiver<()>> {
    let done: Vec<_> =
        purges.iter().map(|purge| (OwnedPurge::from(*purge), store.purges.purge(*purge, purged))).collect();
    Some(disk?.note_purges(done.into_iter(), purged))
}
