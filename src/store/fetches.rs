//! Who fetches what, and who waits for that: of requests that would ask a server for the same one does, and the others have what
//! comes of it.

use super::stored::StoredResponse;
use futures_channel::oneshot;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 64;

type Waiting = Vec<oneshot::Sender<Fetched>>;
/// Who waits for what, by its key.
type Shard = HashMap<Arc<[u8]>, Fetch>;

/// What is being fetched under a key.
#[derive(Debug, Default)]
struct Fetch {
    waiting: Waiting,
    /// It has begun to come, and whoever comes can have it as it comes.
    coming: Option<Arc<StoredResponse>>,
}

/// What has become of a fetch; dropped without a word, it has come to nothing, and somebody else may fetch.
#[derive(Clone, Debug)]
pub(crate) enum Fetched {
    Stored(Arc<StoredResponse>),
    /// The response is for one alone: nobody is to wait for another.
    NotStored,
}

/// What is being fetched.
#[derive(Debug)]
pub(super) struct Fetches {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

impl Default for Fetches {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

/// A request's part in a fetch.
#[derive(Debug)]
pub(crate) enum Part {
    Fetches(Fetching),
    Waits(oneshot::Receiver<Fetched>),
    /// It has begun to come.
    Follows(Arc<StoredResponse>),
}

impl Fetches {
    /// Begins to fetch what lies under a key, or to wait for whoever does. What comes and is outdated goes on to those who have it, and
    /// whoever comes now fetches in its place.
    pub(super) fn join(
        self: &Arc<Self>,
        key: &[u8],
        is_outdated: impl FnOnce(&StoredResponse) -> bool,
    ) -> Part {
        let mut shard = self.shard(key);
        let coming = shard.get(key).and_then(|fetch| fetch.coming.clone());
        match coming {
            Some(coming) if is_outdated(&coming) => _ = shard.remove(key),
            Some(coming) => return Part::Follows(coming),
            None => {}
        }
        if let Some(Fetch { waiting, .. }) = shard.get_mut(key) {
            // Those who have left take no room. Looked for only before more is taken, or each who comes would look at all.
            if waiting.len() == waiting.capacity() {
                waiting.retain(|sender| !sender.is_canceled());
            }
            let (sender, receiver) = oneshot::channel();
            waiting.push(sender);
            return Part::Waits(receiver);
        }
        let key: Arc<[u8]> = key.into();
        shard.insert(Arc::clone(&key), Fetch::default());
        Part::Fetches(Fetching { fetches: Arc::clone(self), key: Some(key) })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).len() as u64).sum()
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }

    fn end(&self, key: &Arc<[u8]>) -> Waiting {
        match self.shard(key).entry(Arc::clone(key)) {
            // Another may be in its place.
            Entry::Occupied(entry) if Arc::ptr_eq(entry.key(), key) => entry.remove().waiting,
            Entry::Occupied(_) | Entry::Vacant(_) => Vec::new(),
        }
    }
}

fn own<'a>(shard: &'a mut Shard, key: &Arc<[u8]>) -> Option<&'a mut Fetch> {
    let is_own = shard.get_key_value(key).is_some_and(|(found, _)| Arc::ptr_eq(found, key));
    if is_own { shard.get_mut(key) } else { None }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That somebody fetches. Those who wait are told when it ends; if that is by being dropped, one of them fetches.
#[derive(Debug)]
pub(crate) struct Fetching {
    fetches: Arc<Fetches>,
    /// The same bytes in memory as those it is found by, unless another is in its place.
    key: Option<Arc<[u8]>>,
}

impl Fetching {
    /// Has those who wait, and those who come, have it as it comes.
    pub(crate) fn begin(&self, response: Arc<StoredResponse>) {
        let Some(key) = &self.key else { return };
        let mut shard = self.fetches.shard(key);
        let Some(fetch) = own(&mut shard, key) else { return };
        fetch.coming = Some(Arc::clone(&response));
        let waiting = std::mem::take(&mut fetch.waiting);
        drop(shard);
        for sender in waiting {
            let _ = sender.send(Fetched::Stored(Arc::clone(&response)));
        }
    }

    /// Tells everybody at once.
    pub(crate) fn end(mut self, fetched: &Fetched) {
        let Some(key) = self.key.take() else { return };
        for sender in self.fetches.end(&key) {
            // Who has left needs no word.
            let _ = sender.send(fetched.clone());
        }
    }

    /// Whether anybody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        let Some(key) = &self.key else { return false };
        let mut shard = self.fetches.shard(key);
        own(&mut shard, key).is_some_and(|fetch| fetch.waiting.iter().any(|sender| !sender.is_canceled()))
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            drop(self.fetches.end(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tagged;
    use super::*;

    fn join(fetches: &Arc<Fetches>) -> Part {
        fetches.join(b"a", |_| false)
    }

    #[test]
    fn one_fetches_all_others_wait_and_those_who_leave_take_no_room() {
        let fetches = Arc::new(Fetches::default());
        let Part::Fetches(fetching) = join(&fetches) else { panic!("nobody else does") };
        for _ in 0..1000 {
            assert!(matches!(join(&fetches), Part::Waits(_)));
        }
        assert!(!fetching.is_awaited(), "all have left");
        assert!(fetches.shard(b"a")[&b"a"[..]].waiting.len() < 10);
        let Part::Waits(mut waits) = join(&fetches) else { panic!("somebody fetches it") };
        assert!(fetching.is_awaited());
        fetching.end(&Fetched::NotStored);
        assert!(matches!(waits.try_recv(), Ok(Some(Fetched::NotStored))));
        let Part::Fetches(fetching) = join(&fetches) else { panic!("it has ended") };
        let Part::Waits(mut waits) = join(&fetches) else { panic!("somebody fetches it") };
        fetching.begin(Arc::new(tagged(1, &[], "a", 0)));
        assert!(matches!(waits.try_recv(), Ok(Some(Fetched::Stored(_)))));
        assert!(matches!(join(&fetches), Part::Follows(_)));
        drop(fetching);
        assert!(matches!(join(&fetches), Part::Fetches(_)));
    }

    #[test]
    fn what_comes_and_is_outdated_is_fetched_once_more_by_one() {
        let fetches = Arc::new(Fetches::default());
        let Part::Fetches(before) = join(&fetches) else { panic!("nobody else does") };
        before.begin(Arc::new(tagged(1, &[], "a", 0)));
        let Part::Fetches(after) = fetches.join(b"a", |_| true) else { panic!("it is no use") };
        let Part::Waits(mut waits) = fetches.join(b"a", |_| true) else { panic!("somebody fetches it") };
        assert!(after.is_awaited() && !before.is_awaited());
        // What becomes of the one before makes no difference.
        before.begin(Arc::new(tagged(1, &[], "a", 0)));
        before.end(&Fetched::NotStored);
        assert!(matches!(waits.try_recv(), Ok(None)) && fetches.count() == 1);
        after.begin(Arc::new(tagged(2, &[], "a", 0)));
        assert!(matches!(waits.try_recv(), Ok(Some(Fetched::Stored(_)))));
        assert!(matches!(join(&fetches), Part::Follows(_)));
        drop(after);
        assert_eq!(fetches.count(), 0);
    }
}
