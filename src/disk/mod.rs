//! Responses that are kept on a disk, beside those in memory: they are more, and outlive the process. An index in memory knows where each
//! is; a look-up that finds it there has one of the disk's own threads read it, and nobody waits for a disk that hangs. A disk that fails
//! takes no part until the next reload; requests do not notice.

mod advice;
mod arrived;
mod check;
mod entry;
mod folder;
mod format;
mod index;
mod opening;
mod order;
mod places;
mod purge_log;
mod reading;
mod record;
mod repeated;
mod streaming;
mod threads;
mod writing;

pub(crate) use check::check;
pub(crate) use purge_log::{NOTED_WITHIN, purge};
pub(crate) use reading::Look;
pub(crate) use streaming::DiskWriter;

use crate::config::plan::cache::DiskPlan;
use crate::store::{self, Store};
use entry::Entry;
use folder::Folder;
use index::Index;
use places::Places;
use purge_log::PurgeLog;
use repeated::{Repeated, Saying};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Instant;
use threads::Threads;
use tracing::{error, warn};

/// What the tier is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// It waits for the folder, or looks what is in it.
    Opening,
    Ready,
    /// The disk has failed.
    Off,
    /// The folder is another's.
    Released,
}

/// What has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskFault {
    Open,
    Read,
    Write,
    /// What was read is not what was written.
    Broken,
    /// Somebody else has removed it.
    Gone,
}

impl DiskFault {
    /// As metrics have them.
    pub(crate) const LABELS: [&'static str; 5] = ["open", "read", "write", "broken", "gone"];
}

/// What is amiss with files.
#[derive(Clone, Copy, Debug)]
enum Amiss {
    Broken,
    Missing,
}

/// What would keep files from going by themselves.
const KEEP_OUT: &str = "keep others out of the folder, cleaners of temporary files too; `evenkeel purge --all --hard` empties the cache";

/// What is on the disk, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// It is in use: it has its folder, and has not failed.
    pub is_up: bool,
    pub bytes: u64,
    pub objects: u64,
    pub evictions: u64,
    /// By what has failed.
    pub errors: [u64; DiskFault::LABELS.len()],
    /// What was not read or not written because too much was to be.
    pub skipped: [u64; 2],
}

/// How the folder is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// The next process goes on with it, or this one does.
    Keep,
    /// What is purged from now on is not noted there: what lies in it is not to be used again.
    Forget,
}

/// Bytes that were taken for a file, and are given back unless it comes to be there.
#[derive(Debug)]
struct TakenBytes {
    tier: Arc<DiskTier>,
    bytes: u64,
}

impl TakenBytes {
    /// The file is there: they are given back with it.
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for TakenBytes {
    fn drop(&mut self) {
        self.tier.index.give_back(self.bytes);
    }
}

/// The tier.
#[derive(Debug)]
pub(crate) struct DiskTier {
    folder: Folder,
    index: Index,
    threads: Arc<Threads>,
    state: AtomicU8,
    /// Nothing is kept in memory: what would be too brief for a disk is written all the same.
    is_sole: AtomicBool,
    min_object: AtomicU64,
    waiting: AtomicU64,
    lock: Mutex<Option<File>>,
    log: PurgeLog,
    places: Places,
    store: Arc<Store>,
    next_id: AtomicU64,
    errors: [AtomicU64; DiskFault::LABELS.len()],
    skipped: [AtomicU64; 2],
    said: [Mutex<Repeated>; 2],
    own: Weak<Self>,
}

impl DiskTier {
    /// Begins to use a folder, for what is kept in `store`, which has so much memory.
    pub(crate) fn start(plan: &DiskPlan, store: &Arc<Store>, memory: u64) -> Arc<Self> {
        let (threads, failed) = match Threads::start() {
            Ok(threads) => (threads, None),
            Err(error) => (Threads::none(), Some(error)),
        };
        let tier = Arc::new_cyclic(|own| Self {
            folder: Folder::new(&plan.path),
            index: Index::new(plan.size),
            threads,
            state: AtomicU8::new(State::Opening as u8),
            is_sole: AtomicBool::default(),
            min_object: AtomicU64::default(),
            waiting: AtomicU64::default(),
            lock: Mutex::default(),
            log: PurgeLog::default(),
            places: Places::default(),
            store: Arc::clone(store),
            next_id: AtomicU64::new(1),
            errors: Default::default(),
            skipped: Default::default(),
            said: Default::default(),
            own: Weak::clone(own),
        });
        tier.fit(plan, memory);
        if let Some(error) = failed.or(begin_opening(Arc::clone(&tier)).err()) {
            tier.turn_off(DiskFault::Open, &error);
            // Nobody is there to note what is purged from now on.
            tier.forget();
        }
        tier
    }

    /// Has it keep to another plan of the same folder.
    pub(crate) fn resize(self: &Arc<Self>, plan: &DiskPlan, memory: u64) {
        self.fit(plan, memory);
        if self.index.is_over_full() && self.is_ready() {
            let tier = Arc::clone(self);
            self.threads.tidy(move || tier.shrink());
        }
    }

    fn fit(&self, plan: &DiskPlan, memory: u64) {
        self.index.resize(plan.size);
        self.min_object.store(plan.min_object, Relaxed);
        self.is_sole.store(memory == 0, Relaxed);
        self.waiting.store(store::for_disk(memory), Relaxed);
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the disk has failed.
    pub(crate) fn is_off(&self) -> bool {
        self.state() == State::Off
    }

    fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    /// Whether what is written now is found by a purge for as long as it lies there.
    fn may_keep(&self) -> bool {
        self.is_ready() && !self.log.lacks_keys()
    }

    fn state(&self) -> State {
        match self.state.load(Relaxed) {
            0 => State::Opening,
            1 => State::Ready,
            2 => State::Off,
            _ => State::Released,
        }
    }

    /// Goes from one state to another, unless it is in a third.
    fn turn(&self, from: State, to: State) -> bool {
        self.state.compare_exchange(from as u8, to as u8, Relaxed, Relaxed).is_ok()
    }

    /// Gives the folder up once nobody writes any more. What is being sent goes on.
    pub(crate) fn release(self: &Arc<Self>, leaving: Leaving) {
        self.state.store(State::Released as u8, Relaxed);
        let tier = Arc::clone(self);
        let release = move || {
            tier.threads.stop_writing();
            let mut lock = tier.lock.lock().unwrap_or_else(PoisonError::into_inner);
            tier.log.close();
            if leaving == Leaving::Forget && lock.is_some() {
                tier.forget();
            }
            *lock = None;
        };
        // Without a thread the end of the process gives it up.
        if let Err(error) = thread::Builder::new().name("cache-disk-close".to_owned()).spawn(release) {
            warn!(%error, "the cache's folder stays locked until this process ends");
        }
    }

    /// What lies in the folder is not to be used again.
    fn forget(&self) {
        if let Err(error) = self.folder.forget() {
            error!(
                path = %self.path().display(), %error,
                "what is in the cache's folder may have been purged since: empty it before it is used again"
            );
        }
    }

    /// What is in it now.
    pub(crate) fn in_use(&self) -> DiskUse {
        DiskUse {
            is_up: self.is_ready(),
            bytes: self.index.taken(),
            objects: self.index.objects(),
            evictions: self.index.evictions(),
            errors: self.errors.each_ref().map(|count| count.load(Relaxed)),
            skipped: self.skipped.each_ref().map(|count| count.load(Relaxed)),
        }
    }

    /// A file is not what was written, in this way: it is not used.
    fn found_broken(&self, (id, key): (u64, u128), what: &'static str) {
        self.count(DiskFault::Broken);
        if self.is_to_be_said(Amiss::Broken) {
            warn!(
                file = %self.folder.file(id, key).display(), what,
                help = "nothing of what is wrong in it was served, and it is removed; if there are more, look into the kernel's log for \
                        errors of the disk, and keep others out of the folder",
                "a file of the cache's disk is broken"
            );
        }
    }

    /// Whether this is to be said each time that it happens: else it is in the sum that is said later.
    fn is_to_be_said(&self, amiss: Amiss) -> bool {
        let now = Instant::now();
        let said = self.lock_said(amiss).note(now);
        if let Saying::Later(at) = said {
            let own = Weak::clone(&self.own);
            self.threads.at(at, move || {
                if let Some(tier) = own.upgrade() {
                    tier.say_sum(amiss);
                }
            });
        }
        said == Saying::Now
    }

    fn say_sum(&self, amiss: Amiss) {
        let count = self.lock_said(amiss).take(Instant::now());
        let path = self.path().display();
        match amiss {
            Amiss::Broken => warn!(%path, count, "more files of the cache's disk are broken"),
            Amiss::Missing => warn!(%path, count, "somebody else has removed more of the cache's disk"),
        }
    }

    fn lock_said(&self, amiss: Amiss) -> MutexGuard<'_, Repeated> {
        self.said[amiss as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, fault: DiskFault) {
        self.errors[fault as usize].fetch_add(1, Relaxed);
    }

    /// The disk has failed: it is in use no more, until a reload tries again.
    fn fail(&self, fault: DiskFault, error: &io::Error) {
        match error.kind() {
            _ if is_passing(error) => self.count(fault),
            ErrorKind::NotFound if fault != DiskFault::Open => self.found_missing(self.path()),
            _ => self.turn_off(fault, error),
        }
    }

    /// Something is not where it was put. If all of the folder has gone it is begun anew, with nothing.
    fn found_missing(&self, what: &Path) {
        self.count(DiskFault::Gone);
        if !self.is_ready() {
            return;
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let is_lost = lock.as_ref().is_some_and(|lock| !self.folder.is_own(lock));
        if !is_lost {
            drop(lock);
            if self.is_to_be_said(Amiss::Missing) {
                warn!(
                    file = %what.display(), help = KEEP_OUT,
                    "somebody else has removed something of the cache's disk"
                );
            }
            return;
        }
        // Whoever finds out next finds it begun.
        if !self.turn(State::Ready, State::Opening) {
            return;
        }
        *lock = None;
        drop(lock);
        error!(
            path = %self.path().display(), help = KEEP_OUT,
            "the cache's folder was removed or emptied by somebody else: it is begun anew with nothing"
        );
        self.log.close();
        self.index.clear();
        if let Some(own) = self.own.upgrade()
            && let Err(error) = begin_opening(own)
        {
            self.turn_off(DiskFault::Open, &error);
        }
    }

    fn turn_off(&self, fault: DiskFault, error: &io::Error) {
        self.count(fault);
        if self.turn(State::Ready, State::Off) || self.turn(State::Opening, State::Off) {
            // Of one that has failed otherwise it might not come back.
            let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            let room = is_full.then(|| self.folder.room().ok()).flatten();
            error!(
                path = %self.path().display(), %error, doing = DiskFault::LABELS[fault as usize],
                help = advice::advice(fault, error, room, self.index.size()),
                "the cache's disk has failed: nothing is kept on it or read from it until the next reload"
            );
        }
    }

    /// Has the files of these removed.
    fn remove_files(self: &Arc<Self>, gone: Vec<Arc<Entry>>) {
        if gone.is_empty() {
            return;
        }
        let tier = Arc::clone(self);
        self.threads.tidy(move || gone.iter().for_each(|entry| tier.unlink(entry)));
    }

    /// Removes a file; its bytes are free when nobody reads them any more.
    fn unlink(&self, entry: &Entry) {
        if self.state() == State::Released {
            return;
        }
        match self.folder.remove(entry.id, entry.key) {
            Ok(()) if entry.unlinked() => self.index.give_back(entry.size()),
            Ok(()) => {}
            Err(error) => self.fail(DiskFault::Write, &error),
        }
    }

    /// Takes so many bytes, for which others may have to go.
    fn make_room(self: &Arc<Self>, bytes: u64) -> Option<TakenBytes> {
        while !self.index.take(bytes) {
            let gone = self.index.evict()?;
            self.unlink(&gone);
        }
        Some(TakenBytes { tier: Arc::clone(self), bytes })
    }

    /// Has as many go as there are too many.
    fn shrink(&self) {
        while self.index.is_over_full() {
            match self.index.evict() {
                Some(entry) => self.unlink(&entry),
                None => return,
            }
        }
    }
}

/// Has a thread of its own open the folder.
fn begin_opening(tier: Arc<DiskTier>) -> io::Result<()> {
    thread::Builder::new().name("cache-disk-open".to_owned()).spawn(move || tier.open()).map(drop)
}

impl Drop for DiskTier {
    fn drop(&mut self) {
        self.threads.end();
    }
}

/// Whether it says nothing of the disk.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN, Errno::STALE];
    error.raw_os_error().is_some_and(|code| passing.iter().any(|known| known.raw_os_error() == code))
}

#[cfg(test)]
mod tests;
