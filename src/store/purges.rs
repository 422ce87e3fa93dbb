//! What was purged, and when: a log of tags, URLs and beginnings of URLs, each with the count of purges at which that was. A response
//! looks it up only when it is older than the newest purge, so that a purge takes as long whether it is of one response or of all.

use super::stored::StoredResponse;
use crate::cache::ANY_TAG;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// So many are told apart; beyond it all that is kept until then is purged.
const MOST: usize = 100_000;
/// Each is compared with each response that looks.
const MOST_PREFIXES: usize = 1000;

/// What is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purge<'a> {
    /// By its number.
    Url(u64),
    Tag(u64),
    /// A host and the beginning of a path.
    Prefix(&'a str),
    All,
}

impl Purge<'_> {
    /// As metrics have them.
    pub(crate) const KINDS: [&'static str; 4] = ["url", "tag", "prefix", "all"];

    fn kind(self) -> usize {
        match self {
            Self::Url(_) => 0,
            Self::Tag(_) => 1,
            Self::Prefix(_) => 2,
            Self::All => 3,
        }
    }
}

/// The same, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnedPurge {
    Url(u64),
    Tag(u64),
    Prefix(Box<str>),
    All,
}

impl From<Purge<'_>> for OwnedPurge {
    fn from(purge: Purge<'_>) -> Self {
        match purge {
            Purge::Url(url) => Self::Url(url),
            Purge::Tag(tag) => Self::Tag(tag),
            Purge::Prefix(prefix) => Self::Prefix(prefix.into()),
            Purge::All => Self::All,
        }
    }
}

/// A purge that was, as it outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PurgeRecord {
    pub(crate) what: OwnedPurge,
    pub(crate) purged: Purged,
    pub(crate) epoch: u64,
}

/// What a purge has made of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purged {
    /// Its server is asked about it, and it is still good if that fails.
    Soft,
    /// It is gone.
    Hard,
}

#[derive(Clone, Copy, Debug)]
struct PurgeMark {
    epoch: u64,
    purged: Purged,
}

impl PurgeMark {
    /// Both: of what is purged either way the stricter holds.
    fn with(self, other: Option<Self>) -> Self {
        let is_hard = self.purged == Purged::Hard || other.is_some_and(|other| other.purged == Purged::Hard);
        Self { purged: if is_hard { Purged::Hard } else { Purged::Soft }, ..self }
    }

    /// Both, whichever was the later.
    fn join(&mut self, other: Self) {
        *self = Self { epoch: self.epoch.max(other.epoch), ..self.with(Some(other)) };
    }
}

#[derive(Debug, Default)]
struct Log {
    urls: HashMap<u64, PurgeMark>,
    tags: HashMap<u64, PurgeMark>,
    /// The newest of them, for responses of which it is not known which they have.
    any_tag: Option<PurgeMark>,
    prefixes: Vec<(Box<str>, PurgeMark)>,
    /// All that is older.
    floor: Option<PurgeMark>,
}

/// The log.
#[derive(Debug, Default)]
pub(crate) struct Purges {
    count: AtomicU64,
    log: RwLock<Log>,
    counted: [AtomicU64; Purge::KINDS.len()],
}

impl Purges {
    /// The count, for what is asked for now: a purge that comes while it is fetched is newer.
    pub(crate) fn now(&self) -> u64 {
        self.count.load(Acquire)
    }

    /// How many there were of each kind.
    pub(crate) fn counted(&self) -> [u64; Purge::KINDS.len()] {
        self.counted.each_ref().map(|count| count.load(Relaxed))
    }

    /// A log that goes on from this count.
    pub(super) fn after(count: u64) -> Self {
        Self { count: AtomicU64::new(count), ..Self::default() }
    }

    /// Purges, and says at which count.
    pub(crate) fn purge(&self, what: Purge<'_>, purged: Purged) -> u64 {
        self.counted[what.kind()].fetch_add(1, Relaxed);
        let mut log = self.log.write().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.count.load(Relaxed) + 1;
        let mark = PurgeMark { epoch, purged };
        match what {
            Purge::Url(url) => {
                let before = log.urls.get(&url).copied();
                log.urls.insert(url, mark.with(before));
            }
            Purge::Tag(tag) => {
                let before = log.tags.get(&tag).copied();
                log.tags.insert(tag, mark.with(before));
                log.any_tag = Some(mark.with(log.any_tag));
            }
            Purge::Prefix(prefix) => match log.prefixes.iter_mut().find(|(known, _)| **known == *prefix) {
                Some((_, known)) => *known = mark.with(Some(*known)),
                None => log.prefixes.push((prefix.into(), mark)),
            },
            Purge::All => log.raise(mark),
        }
        log.fit(mark);
        self.count.store(epoch, Release);
        epoch
    }

    /// Takes over what was purged before, by this process or another.
    pub(crate) fn recall(&self, records: impl Iterator<Item = PurgeRecord>) {
        let mut log = self.log.write().unwrap_or_else(PoisonError::into_inner);
        for PurgeRecord { what, purged, epoch } in records {
            let old = PurgeMark { epoch, purged };
            match what {
                OwnedPurge::Url(url) => log.urls.entry(url).or_insert(old).join(old),
                OwnedPurge::Tag(tag) => {
                    log.tags.entry(tag).or_insert(old).join(old);
                    log.any_tag.get_or_insert(old).join(old);
                }
                OwnedPurge::Prefix(prefix) => {
                    match log.prefixes.iter_mut().find(|(known, _)| *known == prefix) {
                        Some((_, known)) => known.join(old),
                        None => log.prefixes.push((prefix, old)),
                    }
                }
                OwnedPurge::All => log.floor.get_or_insert(old).join(old),
            }
            log.fit(old);
        }
    }

    /// All that is known of purges.
    pub(crate) fn records(&self) -> Vec<PurgeRecord> {
        let log = self.read();
        let record = |what, mark: &PurgeMark| PurgeRecord { what, purged: mark.purged, epoch: mark.epoch };
        let urls = log.urls.iter().map(|(url, mark)| record(OwnedPurge::Url(*url), mark));
        let tags = log.tags.iter().map(|(tag, mark)| record(OwnedPurge::Tag(*tag), mark));
        let prefixes = log.prefixes.iter().map(|(prefix, mark)| {
            let prefix: &str = prefix;
            record(OwnedPurge::Prefix(prefix.into()), mark)
        });
        let floor = log.floor.iter().map(|mark| record(OwnedPurge::All, mark));
        floor.chain(urls).chain(tags).chain(prefixes).collect()
    }

    /// What purges have made of a response.
    pub(crate) fn judge(&self, stored: &StoredResponse) -> Option<Purged> {
        let newest = self.now();
        if newest <= stored.unpurged_at.load(Relaxed) {
            return None;
        }
        let purged = self.read().judge(stored);
        if purged.is_none() {
            stored.unpurged_at.fetch_max(newest, Relaxed);
        }
        purged
    }

    fn read(&self) -> RwLockReadGuard<'_, Log> {
        self.log.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Raises the floor where there are more than are told apart.
    fn fit(&mut self, mark: PurgeMark) {
        if self.urls.len() + self.tags.len() > MOST || self.prefixes.len() > MOST_PREFIXES {
            let all = self.urls.values().chain(self.tags.values()).chain(&self.floor);
            let newest = all.map(|mark| mark.epoch).max().unwrap_or(0).max(mark.epoch);
            self.raise(PurgeMark { epoch: newest, ..mark });
        }
    }

    /// Forgets what stands behind a floor.
    fn raise(&mut self, mark: PurgeMark) {
        let all =
            self.urls.values().chain(self.tags.values()).chain(self.prefixes.iter().map(|(_, mark)| mark));
        let hard = all.chain(&self.floor).find(|mark| mark.purged == Purged::Hard).copied();
        *self = Self { floor: Some(mark.with(hard)), ..Self::default() };
    }

    fn judge(&self, stored: &StoredResponse) -> Option<Purged> {
        let any_tag = self.any_tag.iter().filter(|_| *stored.tags == [ANY_TAG]);
        let tags = stored.tags.iter().filter_map(|tag| self.tags.get(tag)).chain(any_tag);
        let prefixes = self.prefixes.iter().filter(|(prefix, _)| stored.place.starts_with(&**prefix));
        let marks = self.floor.iter().chain(self.urls.get(&stored.url)).chain(tags);
        let marks = marks.chain(prefixes.map(|(_, mark)| mark));
        let newer = marks.filter(|mark| mark.epoch > stored.purge_epoch);
        newer.fold(None, |purged, mark| match purged {
            Some(Purged::Hard) => purged,
            _ => Some(mark.purged),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tagged;
    use super::*;

    #[test]
    fn what_is_older_than_its_purge_is_purged_and_nothing_else() {
        let purges = Purges::default();
        let old = tagged(1, &[7, 8], "a.example/shop/x", purges.now());
        let others = [
            tagged(2, &[9], "a.example/shop", purges.now()),
            tagged(3, &[], "b.example/shop/x", purges.now()),
        ];
        let of = |stored: &StoredResponse| purges.judge(stored);
        assert_eq!(of(&old), None);
        for (what, purged) in [
            (Purge::Tag(8), Purged::Soft),
            (Purge::Url(1), Purged::Soft),
            (Purge::Prefix("a.example/shop/"), Purged::Hard),
        ] {
            let before = tagged(1, &[7, 8], "a.example/shop/x", purges.now());
            assert_eq!(of(&before), None, "{what:?}");
            purges.purge(what, purged);
            let after = tagged(1, &[7, 8], "a.example/shop/x", purges.now());
            assert_eq!((of(&before), of(&after)), (Some(purged), None), "{what:?}");
            assert!(others.iter().all(|other| of(other).is_none()), "{what:?}");
        }
        purges.purge(Purge::All, Purged::Soft);
        assert!(others.iter().all(|other| of(other).is_some()));
        assert_eq!(of(&tagged(1, &[7], "a", purges.now())), None);
        assert_eq!(purges.counted(), [1, 1, 1, 1]);
    }

    #[test]
    fn a_response_with_too_many_tags_is_purged_by_any() {
        let purges = Purges::default();
        let stored = || tagged(1, &[ANY_TAG], "a", purges.now());
        let old = stored();
        purges.purge(Purge::Url(2), Purged::Hard);
        assert_eq!(purges.judge(&old), None);
        purges.purge(Purge::Tag(7), Purged::Soft);
        assert_eq!((purges.judge(&old), purges.judge(&stored())), (Some(Purged::Soft), None));
        let again = Purges::default();
        again.recall(purges.records().into_iter());
        assert_eq!(again.read().judge(&old), Some(Purged::Soft));
    }

    #[test]
    fn a_full_log_purges_all_that_is_older() {
        let purges = Purges::default();
        let old = tagged(1, &[1], "a", purges.now());
        for tag in 10..10 + MOST as u64 {
            purges.purge(Purge::Tag(tag), Purged::Soft);
        }
        assert_eq!(purges.judge(&old), None);
        purges.purge(Purge::Tag(1_000_000), Purged::Soft);
        assert_eq!(purges.judge(&old), Some(Purged::Soft));
        assert!(purges.read().tags.is_empty());
        assert_eq!(purges.judge(&tagged(1, &[10], "a", purges.now())), None);
    }
}
