//! What is purged and changed in a process that hands over: the one that takes over may have the same kept by then, from the disk or from
//! servers, and is told of it.

use super::Live;
use crate::api::cache::PurgeWish;
use crate::cache::{named_prefix, named_url, prefix, tag_number, url_numbers};
use crate::disk;
use crate::purge_nodes::Backlog;
use crate::store::{Purge, Purged};
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What the next process has not been told of, once there is one that may keep something.
#[derive(Debug, Default)]
pub(crate) struct PurgesForNext {
    /// Whether there is a backlog.
    is_awaited: AtomicBool,
    backlog: Mutex<Option<Backlog>>,
    come: Notify,
}

impl PurgesForNext {
    pub(crate) fn is_awaited(&self) -> bool {
        self.is_awaited.load(Acquire)
    }

    /// Something is purged or has changed.
    pub(crate) fn add(&self, wish: impl FnOnce() -> PurgeWish) {
        if self.is_awaited()
            && let Some(backlog) = &mut *self.lock()
        {
            backlog.add(&wish());
            self.come.notify_one();
        }
    }

    /// What comes from now on is for the next process as well.
    pub(super) fn begin(&self) {
        self.lock().get_or_insert_default();
        self.is_awaited.store(true, Release);
    }

    /// There is none after all.
    pub(super) fn give_up(&self) {
        self.is_awaited.store(false, Release);
        *self.lock() = None;
    }

    /// Takes what it is to be told, as soon as there is something.
    pub(super) async fn next(&self) -> Vec<PurgeWish> {
        loop {
            let wishes = self.take();
            if !wishes.is_empty() {
                return wishes;
            }
            self.come.notified().await;
        }
    }

    pub(super) fn take(&self) -> Vec<PurgeWish> {
        self.lock().as_mut().map(Backlog::take).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Backlog>> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Has purged what the process before this one says, and the next one told, if there is one already.
    pub(super) fn purge_too(&self, wish: &PurgeWish) {
        self.purges_for_next.add(|| wish.clone());
        let Some(store) = self.store() else { return };
        let keys = store.url_keys.known();
        let urls = wish.urls.iter().filter_map(|url| named_url(url));
        let urls = urls.flat_map(|named| url_numbers(&keys, named.host, &named.rest)).map(Purge::Url);
        let named = wish.prefixes.iter().filter_map(|text| named_prefix(text));
        let prefixes: Vec<_> = named
            .flat_map(|named| {
                keys.iter().map(move |key| prefix(key, named.host, &named.rest)).collect::<Vec<_>>()
            })
            .collect();
        let tags = wish.tags.iter().map(|tag| Purge::Tag(tag_number(tag.as_bytes())));
        let prefixes = prefixes.iter().map(|prefix| Purge::Prefix(prefix));
        let purges: Vec<_> = urls.chain(tags).chain(prefixes).chain(wish.all.then_some(Purge::All)).collect();
        let purged = if wish.hard { Purged::Hard } else { Purged::Soft };
        // Nobody waits until the disk has it.
        let _ = disk::purge(&store, self.disk().as_ref(), &purges, purged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_purged_is_for_the_next_process_once_it_may_keep_something() {
        let purges = PurgesForNext::default();
        let add = |url: &str| {
            purges.add(|| PurgeWish { urls: vec![url.to_owned()], ..PurgeWish::default() });
        };
        let taken = || purges.take().into_iter().flat_map(|wish| wish.urls).collect::<Vec<_>>();
        add("a");
        purges.begin();
        assert!(taken().is_empty());
        add("b");
        purges.begin();
        add("c");
        assert_eq!((taken(), taken()), (vec!["b".to_owned(), "c".to_owned()], Vec::new()));
        add("d");
        purges.give_up();
        purges.begin();
        assert!(taken().is_empty());
    }
}
