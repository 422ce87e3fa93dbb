//! What a scan for a server goes by besides the servers themselves: those that a request has tried, and which loads are
//! the same.

/// Two loads closer than this are the same: with weights up to 256, different ones are at least
/// 1/65,536 apart.
pub const SAME_LOAD: f64 = 1.0 / 262_144.0;

/// The servers a request has tried; none is tried twice.
///
/// The first `INLINE` tries need no allocation. The indexes are those of one snapshot's pool.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    first: [u32; Tried::INLINE],
    n_first: usize,
    more: Vec<u32>,
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
        self.n_first == 0
    }

    pub fn contains(&self, index: usize) -> bool {
        self.indexes().any(|tried| tried == index)
    }

    pub fn indexes(&self) -> impl Iterator<Item = usize> + '_ {
        self.first[..self.n_first].iter().chain(&self.more).map(|index| *index as usize)
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
