//! How a folder is begun with: its lock, which the process before us may still have; what was purged; and what lies in it.

use super::entry::Entry;
use super::folder::FoundFile;
use super::format::{FIXED, Unreadable};
use super::record::{self, Record, Recorded};
use super::{DiskFault, DiskTier, State};
use crate::files;
use crate::store::{OwnedPurge, PurgeRecord, Purged};
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// How often we look whether another process still has the folder.
const EVERY: Duration = Duration::from_millis(100);

impl DiskTier {
    /// Opens the folder; ends when the tier is in use, or is not to be any more.
    pub(super) fn open(&self) {
        self.recall_keys();
        match self.wait_for_lock().and_then(|is_ours| if is_ours { self.look_through() } else { Ok(()) }) {
            Ok(()) => {}
            Err(error) => self.fail(DiskFault::Open, &error),
        }
    }

    fn is_opening(&self) -> bool {
        self.state() == State::Opening
    }

    /// Waits until the folder is ours, unless it is not to be.
    fn wait_for_lock(&self) -> io::Result<bool> {
        self.folder.make()?;
        let mut has_said = false;
        while self.is_opening() {
            if let Some(lock) = self.folder.lock()? {
                let mut own = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
                // Who has released it meanwhile looks for it under this lock.
                if self.is_opening() {
                    *own = Some(lock);
                    return Ok(true);
                }
                return Ok(false);
            }
            if !has_said {
                info!(path = %self.path().display(), "the cache's disk is another process's; waiting for it");
                has_said = true;
            }
            thread::sleep(EVERY);
        }
        Ok(false)
    }

    fn look_through(&self) -> io::Result<()> {
        let found = self.folder.files(|| self.is_opening())?;
        let is_usable = self.recall(!found.is_empty())?;
        let mut bytes = 0;
        for file in &found {
            let FoundFile { id, key, length } = *file;
            self.next_id.fetch_max(id + 1, Relaxed);
            if is_usable && length < FIXED as u64 {
                self.found_broken((id, key), "it ends too early");
            }
            if !is_usable || length < FIXED as u64 {
                self.folder.remove(id, key)?;
                continue;
            }
            let entry = Arc::new(Entry::found(id, key, length));
            bytes += entry.size();
            self.index.take_found(entry.size());
            self.index.add_found(entry);
        }
        self.begin_log()?;
        if self.index.objects() > 0 {
            self.places.fill();
        }
        self.shrink();
        let room = self.folder.room()?.saturating_add(bytes);
        if room < self.index.size() {
            warn!(
                path = %self.path().display(), size = self.index.size(), room,
                "the cache's disk has less room than its size: it will be full, and then in use no more"
            );
        }
        if self.turn(State::Opening, State::Ready) {
            info!(
                path = %self.path().display(), responses = self.index.objects(), bytes = self.index.taken(),
                "the cache's disk is in use"
            );
        }
        Ok(())
    }

    /// Has purges and changes reach what lies there before the folder is ours and looked through, as far as it can be read: what is purged
    /// until then would not.
    fn recall_keys(&self) {
        let Ok(Ok(recorded)) = files::read(&self.folder.log()).map(|log| record::parse(&log)) else { return };
        let key = |record| if let Record::Key(key) = record { Some(key) } else { None };
        let keys = recorded.records.into_iter().filter_map(key).collect();
        self.store.purges.recall(self.store.recall_keys(keys).into_iter());
    }

    /// Takes over what was purged. Whether what lies there may be used.
    fn recall(&self, is_there: bool) -> io::Result<bool> {
        let path = self.path().display();
        let recorded = match files::read(&self.folder.log()).map(|log| record::parse(&log)) {
            Ok(Ok(recorded)) => recorded,
            Ok(Err(Unreadable::Foreign)) => {
                warn!(%path, "the cache's disk was written by another version: it begins with nothing");
                return Ok(false);
            }
            Ok(Err(Unreadable::Broken)) => {
                warn!(%path, "what was purged on the cache's disk cannot be read: it begins with nothing");
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if is_there {
                    info!(%path, "what lies on the cache's disk may have been purged since: it begins with nothing");
                }
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let Recorded { records, is_torn } = recorded;
        let (purges, changes) = (&self.store.purges, &self.store.epochs);
        let is_later = |record: &Record| match record {
            Record::Purge(purge) => purge.epoch > purges.now(),
            Record::Change { epoch, .. } => *epoch > changes.now(),
            Record::Key(_) => false,
        };
        if records.iter().any(is_later) {
            warn!(%path, "the clock is behind what lies on the cache's disk: it begins with nothing");
            return Ok(false);
        }
        let (mut purged, mut keys) = (Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Purge(purge) => purged.push(purge),
                Record::Change { place, epoch } => changes.recall(place, epoch),
                Record::Key(key) => keys.push(key),
            }
        }
        if let Some(missed) = self.store.recall_keys(keys) {
            warn!(%path, "what was purged and changed since the start may be of what lies on the cache's disk by other keys: servers are asked about it");
            purged.push(missed);
        }
        if is_torn {
            warn!(%path, "the end of what was purged on the cache's disk is lost: servers are asked about what lies there");
            purged.push(PurgeRecord { what: OwnedPurge::All, purged: Purged::Soft, epoch: purges.now() });
        }
        purges.recall(purged.into_iter());
        Ok(true)
    }
}
