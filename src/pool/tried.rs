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
    n_first: usize,
    more: Vec<u32>,
    /// Not tried, and passed over all the same.
    held_back: IndexSet,
}

impl Tried {
    pub const INLINE: usize = 8;

    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.n_first + self.more.len()
    }

    pub fn is_empty(&self) -> bool {
        self.n_first == 0 && self.held_back.is_empty()
    }

    pub fn contains(&self, index: usize) -> bool {
        self.first[..self.n_first].iter().chain(&self.more).any(|tried| *tried as usize == index)
            || self.held_back.contains(index)
    }

    /// Those that are held back too, once each.
    pub fn indexes(&self) -> impl Iterator<Item = usize> + '_ {
        let tried = self.first[..self.n_first].iter().chain(&self.more).map(|index| *index as usize);
        tried.filter(|index| !self.held_back.contains(*index)).chain(self.held_back.iter())
    }

    /// The same where these are passed over as well.
    #[must_use]
    pub fn with_held_back(self, held_back: IndexSet) -> Self {
        Self { held_back, ..self }
    }

    /// Has the server passed over.
    pub fn insert(&mut self, index: usize) {
        let index = u32::try_from(index).expect("a pool has far fewer servers");
        if let Some(place) = self.first.get_mut(self.n_first) {
            *place = index;
            self.n_first += 1;
        } else {
            self.more.push(index);
        }
    }
}
