//! A table of numbers by key, of a fixed size: sets of eight places each, two cache lines. Nothing is ever lost of it but what
//! equals nothing: a number counts as absent once its owner says so (a debt that is over, a count of none), and only such a
//! place is given to another key. Where a set has none, newcomers share its least number with whoever has it.
//!
//! What is there is changed by a compare-and-swap. Only who comes new takes the set's latch, so that no key gets two places; it
//! is held for some dozen instructions. Who finds it taken for long lets the thread go on that has it, if that has lost its core in
//! their midst; and shares one place, always the same, if even that does not help.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const PLACES: usize = 8;

/// A word has the number below and a part of the key above: a place that has got another owner meanwhile is another word.
const NUMBER_BITS: u32 = 52;
/// The largest number that a place can have.
pub(super) const MOST: u64 = (1 << NUMBER_BITS) - 1;

/// How often the latch is looked at before another thread is let have the core.
const SPINS: usize = 200;
/// And how often that is done before one shares.
const YIELDS: usize = 500;

#[repr(align(128))]
#[derive(Debug, Default)]
struct Set {
    keys: [AtomicU64; PLACES],
    words: [AtomicU64; PLACES],
}

/// Numbers by key.
#[derive(Debug)]
pub(super) struct SlotTable {
    sets: Box<[Set]>,
    latches: Box<[AtomicBool]>,
    shared: AtomicU64,
}

/// A place, as long as its number is none that counts as absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotPlace {
    set: usize,
    index: usize,
}

/// What becomes of a number, and what is to be told of that.
pub(super) struct Change<R> {
    /// `None` leaves it.
    pub(super) to: Option<u64>,
    pub(super) result: R,
}

/// Whose number a change was made to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Changed {
    Nothing,
    At(SlotPlace),
}

fn number(word: u64) -> u64 {
    word & MOST
}

fn word(key: u64, number: u64) -> u64 {
    tag(key) | number.min(MOST)
}

/// Of the key's low bits, since its high ones choose the set.
fn tag(key: u64) -> u64 {
    key << NUMBER_BITS
}

impl SlotTable {
    pub(super) fn new(keys: usize) -> Self {
        let n_sets = keys.div_ceil(PLACES).max(1);
        Self {
            sets: (0..n_sets).map(|_| Set::default()).collect(),
            latches: (0..n_sets).map(|_| AtomicBool::new(false)).collect(),
            shared: AtomicU64::new(0),
        }
    }

    /// How often somebody had to share another's number.
    pub(super) fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }

    /// All keys with their numbers, as they are found.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        let places = self.sets.iter().flat_map(|set| set.keys.iter().zip(&set.words));
        places.filter_map(|(key, word)| {
            let (key, word) = (key.load(Ordering::Acquire), word.load(Ordering::Acquire));
            (word & !MOST == tag(key)).then_some((key, number(word)))
        })
    }

    /// How many numbers there are that do not count as absent.
    pub(super) fn count(&self, is_absent: impl Fn(u64) -> bool) -> usize {
        let words = self.sets.iter().flat_map(|set| &set.words);
        words.filter(|word| !is_absent(number(word.load(Ordering::Relaxed)))).count()
    }

    fn set_of(&self, key: u64) -> usize {
        ((u128::from(key) * self.sets.len() as u128) >> 64) as usize
    }

    /// A key's place and word, if it has one.
    fn find(&self, key: u64) -> Option<(SlotPlace, u64)> {
        let set = self.set_of(key);
        let Set { keys, words } = &self.sets[set];
        let places = keys.iter().zip(words).enumerate();
        places.into_iter().find_map(|(index, (owner, word))| {
            if owner.load(Ordering::Acquire) != key {
                return None;
            }
            let word = word.load(Ordering::Acquire);
            (word >> NUMBER_BITS == tag(key) >> NUMBER_BITS).then_some((SlotPlace { set, index }, word))
        })
    }

    /// A key's number, if it has one of its own.
    pub(super) fn get(&self, key: u64) -> Option<u64> {
        self.find(key).map(|(_, word)| number(word))
    }

    /// The number that a key would be judged by: its own, none, or that which it would share.
    pub(super) fn look(&self, key: u64, is_absent: impl Fn(u64) -> bool) -> u64 {
        self.get(key).unwrap_or_else(|| {
            let words = &self.sets[self.set_of(key)].words;
            let least = words.iter().map(|word| number(word.load(Ordering::Acquire))).min().unwrap_or(0);
            if is_absent(least) { 0 } else { least }
        })
    }

    fn word_at(&self, place: SlotPlace) -> &AtomicU64 {
        &self.sets[place.set].words[place.index]
    }

    /// Changes a key's number; 0 stands for none. Where it has none and there is no room for it, that which it shares.
    pub(super) fn update<R>(
        &self,
        key: u64,
        is_absent: impl Fn(u64) -> bool,
        change: impl Fn(u64) -> Change<R>,
    ) -> (Changed, R) {
        let mut patience = Patience::default();
        loop {
            if let Some((place, before)) = self.find(key) {
                let Change { to, result } = change(number(before));
                let Some(to) = to else { return (Changed::Nothing, result) };
                if self.swap(place, before, word(key, to)) {
                    return (Changed::At(place), result);
                }
                continue;
            }
            let Change { to, result } = change(0);
            let Some(to) = to else { return (Changed::Nothing, result) };
            match self.place(key, to, &is_absent) {
                Placed::At(place) => return (Changed::At(place), result),
                Placed::NoRoom => return self.share(self.set_of(key), None, change),
                Placed::Changing if patience.wait() => {}
                Placed::Changing => return self.share(self.set_of(key), Some(key as usize % PLACES), change),
            }
        }
    }

    /// Gives a key a number, in place of any that it has; false if there is no room.
    pub(super) fn put(&self, key: u64, to: u64, is_absent: impl Fn(u64) -> bool) -> bool {
        let mut patience = Patience::default();
        loop {
            if let Some((place, before)) = self.find(key) {
                if self.swap(place, before, word(key, to)) {
                    return true;
                }
                continue;
            }
            match self.place(key, to, &is_absent) {
                Placed::At(_) => return true,
                Placed::NoRoom => return false,
                Placed::Changing if patience.wait() => {}
                Placed::Changing => return false,
            }
        }
    }

    /// Changes what is at a place whoever else changes it.
    pub(super) fn change_at(&self, place: SlotPlace, change: impl Fn(u64) -> u64) {
        let word = self.word_at(place);
        let apply = |before: u64| before & !MOST | change(number(before)).min(MOST);
        let mut before = word.load(Ordering::Acquire);
        while let Err(now) =
            word.compare_exchange_weak(before, apply(before), Ordering::AcqRel, Ordering::Acquire)
        {
            before = now;
        }
    }

    fn swap(&self, place: SlotPlace, before: u64, after: u64) -> bool {
        self.word_at(place).compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Finds a place for a key that has none.
    fn place(&self, key: u64, to: u64, is_absent: &impl Fn(u64) -> bool) -> Placed {
        let set = self.set_of(key);
        let latch = &self.latches[set];
        if latch.swap(true, Ordering::Acquire) {
            return Placed::Changing;
        }
        let placed = match self.find(key) {
            // It has come meanwhile.
            Some(_) => Placed::Changing,
            None => (0..PLACES)
                .find_map(|index| self.claim(SlotPlace { set, index }, key, to, is_absent))
                .unwrap_or(Placed::NoRoom),
        };
        latch.store(false, Ordering::Release);
        placed
    }

    /// Under the latch. Who has had the place sees by the word that it is another's, before the key says so.
    fn claim(&self, place: SlotPlace, key: u64, to: u64, is_absent: &impl Fn(u64) -> bool) -> Option<Placed> {
        let before = self.word_at(place).load(Ordering::Acquire);
        if !is_absent(number(before)) || !self.swap(place, before, word(key, to)) {
            return None;
        }
        self.sets[place.set].keys[place.index].store(key, Ordering::Release);
        Some(Placed::At(place))
    }

    /// Changes the number at a place of a set, or the least of one that has no room.
    fn share<R>(&self, set: usize, place: Option<usize>, change: impl Fn(u64) -> Change<R>) -> (Changed, R) {
        self.shared.fetch_add(1, Ordering::Relaxed);
        loop {
            let words = self.sets[set].words.iter().map(|word| word.load(Ordering::Acquire)).enumerate();
            let among = words.filter(|(index, _)| place.is_none_or(|place| place == *index));
            let (index, before) = among.min_by_key(|(_, word)| number(*word)).expect("a set has places");
            let Change { to, result } = change(number(before));
            let Some(to) = to else { return (Changed::Nothing, result) };
            let place = SlotPlace { set, index };
            if self.swap(place, before, before & !MOST | to.min(MOST)) {
                return (Changed::At(place), result);
            }
        }
    }
}

/// What has become of a key that had no place.
enum Placed {
    At(SlotPlace),
    NoRoom,
    /// Somebody else comes new just now, maybe the same.
    Changing,
}

/// How long somebody has waited for the latch.
#[derive(Debug, Default)]
struct Patience(usize);

impl Patience {
    /// False if it has been long enough.
    fn wait(&mut self) -> bool {
        self.0 += 1;
        match self.0 {
            ..=SPINS => spin_loop(),
            _ => std::thread::yield_now(),
        }
        self.0 <= SPINS + YIELDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn add_one(number: u64) -> Change<u64> {
        Change { to: Some(number + 1), result: number + 1 }
    }

    fn is_none(number: u64) -> bool {
        number == 0
    }

    #[test]
    fn a_full_set_is_shared_and_loses_nothing() {
        let table = SlotTable::new(8);
        for key in 1..=8 {
            assert_eq!(table.update(key, is_none, add_one).1, 1);
            assert_eq!(table.update(key, is_none, add_one).1, 2);
        }
        assert_eq!(table.update(3, is_none, |_| Change { to: Some(1), result: 1 }).1, 1);
        assert_eq!(table.update(9, is_none, add_one).1, 2, "it is added to the least");
        assert_eq!(table.shared(), 1);
        assert_eq!(table.get(3), Some(2));
        assert_eq!((1..=8).filter_map(|key| table.get(key)).collect::<Vec<_>>(), [2; 8]);
        assert_eq!(table.get(9), None);
        assert!(!table.put(9, 1, is_none));
        table.update(5, is_none, |_| Change { to: Some(0), result: () });
        assert_eq!(table.update(9, is_none, add_one).1, 1, "what is over makes room");
        assert_eq!((table.get(5), table.get(9)), (None, Some(1)));
    }

    #[test]
    fn no_key_has_two_places_however_many_come_at_once() {
        const EACH: u64 = 2_000;
        for round in 0..20 {
            let table = SlotTable::new(8);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for turn in 0..EACH {
                            table.update(1 + turn % 3, is_none, add_one);
                        }
                    });
                }
            });
            let sum: u64 = (1..=3).filter_map(|key| table.get(key)).sum();
            assert_eq!(sum, 4 * EACH, "round {round}");
            assert_eq!(table.count(is_none), 3);
        }
    }

    #[test]
    fn who_does_not_get_the_latch_shares_one_place_and_not_one_after_the_other() {
        let table = SlotTable::new(8);
        table.latches[0].store(true, Ordering::Relaxed);
        let counts: Vec<u64> = (0..20).map(|_| table.update(5, is_none, add_one).1).collect();
        assert_eq!(counts, (1..=20).collect::<Vec<_>>());
        assert!(!table.put(5, 1, is_none));
        table.latches[0].store(false, Ordering::Relaxed);
        assert_eq!(table.shared(), 20);
        assert_eq!(table.update(5, is_none, add_one).1, 1, "it has a place of its own from then on");
    }
}
