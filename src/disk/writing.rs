//! Writes what is kept: as a whole, when all of it has come and lies in memory, and again only its head, when its server has said that it
//! is still good.

use super::entry::{Entry, Selects, on_disk};
use super::format;
use super::reading::read_head;
use super::{DiskFault, DiskTier};
use crate::cache::NotStored;
use crate::store::{StoredBody, StoredResponse};
use bytes::Bytes;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// No response has more than this share of the disk.
const SHARE: u64 = 4;
/// What is good for less time, in milliseconds, stays in memory alone: it would be written again and again.
const BRIEF: u64 = 5000;

/// Bytes in memory that wait to be written.
pub(super) struct Waited<'a> {
    pub(super) tier: &'a DiskTier,
    pub(super) bytes: u64,
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        self.tier.threads.wrote(self.bytes);
    }
}

/// What is being written, which nobody is to find if it does not come to be there.
struct Coming<'a> {
    tier: &'a DiskTier,
    entry: &'a Arc<Entry>,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let _ = self.tier.index.remove(self.entry);
    }
}

impl DiskTier {
    /// Keeps a response under a key, in place of its like; one that is not for the disk only has those gone.
    pub(crate) fn keep(self: &Arc<Self>, key: &[u8], response: &Arc<StoredResponse>) {
        // What is there may be newer than what is outdated.
        if !self.is_ready() || self.store.is_outdated(response) {
            return;
        }
        let hash = format::key_hash(key);
        let StoredBody::Memory(body) = &response.body else { return };
        if self.judge(response).is_err() {
            return self.remove_files(self.index.remove_like(hash, &Selects::of(response)));
        }
        let entry = Arc::new(Entry::coming(self.next_id.fetch_add(1, Relaxed), hash, response));
        self.remove_files(self.index.add(&entry));
        self.places.set(response.url);
        let (tier, own, body, length) =
            (Arc::clone(self), Arc::clone(&entry), Arc::clone(body), response.length);
        let key = key.to_vec();
        let write = move || {
            // Whatever becomes of it, others have its room then.
            let _waited = Waited { tier: &tier, bytes: length };
            if !own.is_dead() {
                tier.write(&own, &key, &body);
            }
            drop(body);
        };
        if !self.threads.write(length, self.waiting.load(Relaxed), write) {
            self.skipped[1].fetch_add(1, Relaxed);
            let _ = self.index.remove(&entry);
        }
    }

    /// Whether a response is for the disk, or why it is not.
    pub(super) fn judge(&self, response: &StoredResponse) -> Result<(), NotStored> {
        let terms = &response.terms;
        let stale = terms.stale_if_error.max(terms.stale_while_revalidate);
        let is_brief = terms.lifetime.saturating_add(stale) < terms.initial_age.saturating_add(BRIEF)
            && !terms.is_always_validated;
        match () {
            () if response.length < self.min_object.load(Relaxed) => Err(NotStored::TooSmallForDisk),
            () if !format::is_within(response, self.index.size() / SHARE) => Err(NotStored::TooLargeForDisk),
            () if is_brief && !self.is_sole.load(Relaxed) => Err(NotStored::TooBrief),
            () => Ok(()),
        }
    }

    fn write(self: &Arc<Self>, entry: &Arc<Entry>, key: &[u8], body: &[Bytes]) {
        let Some(response) = entry.being_written() else { return };
        let coming = Coming { tier: self, entry };
        // Whoever changes it from here on finds its place noted.
        let is_old = self.store.is_outdated(&response);
        let block = if is_old || !self.may_keep() { None } else { format::begin(key, &response, body) };
        let Some(block) = block else { return };
        let size = on_disk(block.len() as u64 + response.length);
        drop(response);
        let taken = if size > self.index.size() / SHARE { None } else { self.make_room(size) };
        let Some(taken) = taken else {
            self.skipped[1].fetch_add(1, Relaxed);
            return;
        };
        let written = self.folder.write((entry.id, entry.key), |file| {
            file.write_all(&block)?;
            body.iter().try_for_each(|chunk| file.write_all(chunk))
        });
        if let Err(error) = written {
            drop((coming, taken));
            return self.fail(DiskFault::Write, &error);
        }
        std::mem::forget(coming);
        entry.takes(size);
        taken.keep();
        if entry.written() {
            return self.unlink(entry);
        }
        self.index.is_written(entry);
        self.remove_unread_like(entry);
    }

    /// Of what was found on the disk nobody may have read yet for whom it is: what this response takes the place of goes.
    pub(super) fn remove_unread_like(&self, entry: &Arc<Entry>) {
        let Some(selects) = entry.selects() else { return };
        let unread = self.index.find(entry.key).into_iter().filter(|other| other.selects().is_none());
        for other in unread {
            let read = self.folder.open(other.id, other.key).map_err(Into::into);
            match read.and_then(|file| read_head(&file, &other)) {
                Ok((_, head)) => {
                    let own = Selects::of(&head.response);
                    if own.is_same(selects) && self.index.remove(&other) {
                        self.unlink(&other);
                    }
                    other.is_for(own);
                }
                Err(not_read) => self.not_read(&other, not_read),
            }
        }
    }

    /// Keeps what a server has said is still good, in place of the same response with another head.
    pub(crate) fn renew(self: &Arc<Self>, key: &[u8], response: &Arc<StoredResponse>) {
        // Its server is asked each time anyway, and says then what has become of its head.
        if !self.is_ready() || response.terms.is_always_validated {
            return;
        }
        let selects = Selects::of(response);
        let is_like = |entry: &Arc<Entry>| entry.selects().is_some_and(|own| own.is_same(&selects));
        let entry = self.index.find(format::key_hash(key)).into_iter().find(is_like);
        let Some(entry) = entry.filter(|entry| entry.being_written().is_none()) else {
            return self.keep(key, response);
        };
        self.places.set(response.url);
        let (tier, response, key) = (Arc::clone(self), Arc::clone(response), key.to_vec());
        let renew = move || {
            if !tier.write_head(&entry, &key, &response) {
                tier.keep(&key, &response);
            }
        };
        if !self.threads.write(0, u64::MAX, renew) {
            self.skipped[1].fetch_add(1, Relaxed);
        }
    }

    /// Whether another head has its place now, or nobody wants it any more. A half-written one is found out by its checksum.
    fn write_head(&self, entry: &Arc<Entry>, key: &[u8], response: &StoredResponse) -> bool {
        if entry.is_dead() || self.store.epochs.has_changed(response.url, response.epoch) {
            return true;
        }
        let Ok(file) = self.folder.open_to_change(entry.id, entry.key) else { return true };
        let _one = entry.lock_head();
        let (fixed, head) = match read_head(&file, entry) {
            Ok(read) => read,
            Err(not_read) => {
                self.not_read(entry, not_read);
                return true;
            }
        };
        let is_same = head.key == key && fixed.body == response.length;
        let block = format::begin_again(key, response, &head.sums, &fixed).filter(|_| is_same);
        let Some(block) = block else {
            if self.index.remove(entry) {
                self.unlink(entry);
            }
            return false;
        };
        if let Err(error) = file.write_all_at(&block, 0) {
            self.fail(DiskFault::Write, &error);
        }
        true
    }

    /// Removes what is kept for the same requests as a response.
    pub(crate) fn remove(self: &Arc<Self>, key: &[u8], response: &StoredResponse) {
        if self.is_ready() {
            let gone = self.index.remove_like(format::key_hash(key), &Selects::of(response));
            self.remove_files(gone);
        }
    }
}
