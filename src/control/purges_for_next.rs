//! What is purged and changed in a process that hands over: the one that takes over may have the same kept by then, from the disk or from
//! servers, and is told of it.

use crate::api::cache::PurgeWish;
use crate::purge_nodes::Backlog;
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
