//! What a scan for a server goes by besides the servers themselves: those that a request has tried, and which loads are
//! the same.

/// Two loads closer than this are the same: with weights up to 256, different ones are at least
/// 1/65,536 apart.
pub const SAME_LOAD: f64 = 1.0 / 262_144.0;

/// Places in a pool, a bit each.
#[derive(Clone, Debug, Default)]
pub struct IndexSet(Vec<u64>);

impl IndexSet {
    pub fn insert(&mut self, index: usize) {
        if self.0.len() <= index / 64 {
            self.0.resize(index / 64 + 1, 0);
        }
        self.0[index / 64] |= 1 << (index % 64);
    }

    pub fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 64).filter(|index| self.contains(*index))
    }
}

/// The servers a request has tried; none is tried twice.
///
/// The first `INLINE` tries need no allocation. The indexes are those of one snapshot's pool.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    first: [u32; Tried::INLINE],
    n_first: u32,
    /// What few requests have, so that the others carry little.
    rest: Option<Box<Rest>>,
}

#[derive(Clone, Debug, Default)]
struct Rest {
    tried: Vec<u32>,
    /// Not tried, and passed over all the same.
    held_back: IndexSet,
}

impl Tried {
    pub const INLINE: usize = 8;

    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.n_first as usize + self.rest.as_ref().map_or(0, |rest| rest.tried.len())
    }

    pub fn is_empty(&self) -> bool {
        self.n_first == 0 && self.rest.as_ref().is_none_or(|rest| rest.held_back.is_empty())
    }

    pub fn contains(&self, index: usize) -> bool {
        self.tried().any(|tried| tried == index) || self.is_held_back(index)
    }

    /// Those that are held back too, once each.
    pub fn indexes(&self) -> impl Iterator<Item = usize> + '_ {
        let held_back = self.rest.iter().flat_map(|rest| rest.held_back.iter());
        held_back.chain(self.tried().filter(|index| !self.is_held_back(*index)))
    }

    /// The same where these are passed over as well.
    #[must_use]
    pub fn with_held_back(mut self, held_back: IndexSet) -> Self {
        self.rest.get_or_insert_default().held_back = held_back;
        self
    }

    /// Has the server passed over.
    #[inline]
    pub fn insert(&mut self, index: usize) {
        let index = u32::try_from(index).expect("a pool has far fewer servers");
        if let Some(place) = self.first.get_mut(self.n_first as usize) {
            *place = index;
            self.n_first += 1;
        } else {
            self.rest.get_or_insert_default().tried.push(index);
        }
    }

    /// The last one was not tried after all.
    pub fn forget_last(&mut self) {
        let last_of_many = self.rest.as_mut().and_then(|rest| rest.tried.pop());
        if last_of_many.is_none() {
            self.n_first = self.n_first.saturating_sub(1);
        }
    }

    fn tried(&self) -> impl Iterator<Item = usize> + '_ {
        let more = self.rest.as_ref().map_or(&[][..], |rest| &rest.tried);
        self.first[..self.n_first as usize].iter().chain(more).map(|index| *index as usize)
    }

    fn is_held_back(&self, index: usize) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.held_back.contains(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_few_and_of_many_can_be_forgotten() {
        for n in 1..2 * Tried::INLINE {
            let mut tried = Tried::new();
            (0..n).for_each(|index| tried.insert(index));
            tried.forget_last();
            assert_eq!((tried.len(), tried.contains(n - 1)), (n - 1, false));
            assert!((0..n - 1).all(|index| tried.contains(index)));
            tried.insert(n);
            assert_eq!(tried.indexes().collect::<Vec<_>>(), (0..n - 1).chain([n]).collect::<Vec<_>>());
        }
        let mut none = Tried::new();
        none.forget_last();
        assert!(none.is_empty());
    }

    #[test]
    fn what_is_held_back_is_passed_over_and_listed_once() {
        let mut held = IndexSet::default();
        [1, 70].into_iter().for_each(|index| held.insert(index));
        let mut tried = Tried::new().with_held_back(held);
        assert!(!tried.is_empty() && tried.contains(70) && !tried.contains(2));
        [1, 2].into_iter().for_each(|index| tried.insert(index));
        assert_eq!(tried.indexes().collect::<Vec<_>>(), [1, 70, 2]);
        assert!(tried.with_held_back(IndexSet::default()).contains(1), "it was tried too");
        assert!(Tried::new().with_held_back(IndexSet::default()).is_empty());
    }
}
