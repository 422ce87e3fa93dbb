//! How many requests a client has at once.

use super::slots::{Change, Changed, SlotPlace, SlotTable};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Requests under way by key.
#[derive(Debug)]
pub struct ConcurrencyTable(SlotTable);

/// A request's place, which comes free when this is dropped.
#[derive(Debug)]
#[must_use = "the place comes free when this is dropped"]
pub struct ConcurrencyPermit {
    table: Arc<ConcurrencyTable>,
    place: SlotPlace,
}

fn is_none(count: u64) -> bool {
    count == 0
}

impl ConcurrencyTable {
    /// For so many clients with requests under way.
    pub fn new(keys: usize) -> Arc<Self> {
        Arc::new(Self(SlotTable::new(keys)))
    }

    /// A place for a request of a key that may have so many; `None` if it has as many already.
    pub fn enter(self: &Arc<Self>, key: u64, most: NonZeroU32) -> Option<ConcurrencyPermit> {
        let enter =
            |count: u64| Change { to: (count < u64::from(most.get())).then_some(count + 1), result: () };
        match self.0.update(key, is_none, enter).0 {
            Changed::At(place) => Some(ConcurrencyPermit { table: Arc::clone(self), place }),
            Changed::Nothing => None,
        }
    }

    /// How many keys have requests under way.
    pub fn keys(&self) -> usize {
        self.0.count(is_none)
    }

    /// How often somebody had to share another's count, for want of room.
    pub fn shared(&self) -> u64 {
        self.0.shared()
    }
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        // A count that is not none stays at its place.
        self.table.0.change_at(self.place, |count| count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_as_many_requests_as_it_may_and_places_come_back() {
        let table = ConcurrencyTable::new(64);
        let most = NonZeroU32::new(2).unwrap();
        let first = table.enter(7, most).unwrap();
        let second = table.enter(7, most).unwrap();
        assert!(table.enter(7, most).is_none());
        assert!(table.enter(8, most).is_some(), "another's are not its own");
        drop(first);
        let third = table.enter(7, most).unwrap();
        assert!(table.enter(7, most).is_none());
        drop((second, third));
        assert_eq!(table.keys(), 0);
    }

    #[test]
    fn who_shares_gives_back_what_it_shared() {
        let table = ConcurrencyTable::new(8);
        let most = NonZeroU32::new(5).unwrap();
        let held: Vec<_> = (1..=8).map(|key| table.enter(key, most).unwrap()).collect();
        let shares: Vec<_> = (10..14).map(|key| table.enter(key, most).unwrap()).collect();
        assert_eq!(table.shared(), 4);
        drop(held);
        drop(shares);
        assert_eq!(table.keys(), 0);
    }

    #[test]
    fn counts_end_at_none_after_many_at_once() {
        let table = ConcurrencyTable::new(16);
        let most = NonZeroU32::new(3).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let table = &table;
                scope.spawn(move || {
                    for turn in 0..5_000u64 {
                        let _held = (table.enter(turn % 20, most), table.enter(turn * thread % 7, most));
                    }
                });
            }
        });
        assert_eq!(table.keys(), 0);
    }
}
