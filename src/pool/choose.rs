//! What an algorithm sees of a pool, and what it is asked: nothing else decides a choice.

use super::seats::{Lowest, Seats};
use super::slot::{Flags, in_flight};
use std::any::Any;
use std::fmt::Debug;

/// A way of choosing. Pure: the same candidates, query and cursor give the same answer.
///
/// On the request path: no lock, no allocation, no look-up by name. (`Any` lets a reload carry what an
/// algorithm has built.)
pub trait Selector: Any + Debug + Send + Sync {
    /// The index of an eligible server, or `None` if there is none.
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize>;

    /// What `select` would answer now, without taking a turn. An algorithm with a cursor runs the same code on a copy.
    fn look(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        self.select(among, query)
    }

    /// Why it chose this one.
    fn reasons(&self, among: &Candidates<'_>, query: &Query, chosen: usize) -> Reasons;
}

/// A choice in words. Made when somebody asks, never for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reasons {
    pub rule: String,
    /// What speaks for each server, by index; none if nothing can be said.
    pub scores: Vec<Option<String>>,
}

/// What a request brings to the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The hash of the pool's `key`, if it has one.
    pub key: Option<u64>,
    /// Chance, drawn by the caller.
    pub entropy: u64,
}

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

/// A pool's servers as one request may choose among them.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    seats: &'a Seats,
    tried: &'a Tried,
    /// A server with one of these flags is out.
    mask: Flags,
}

/// Two loads closer than this are the same: with weights up to 256, different ones are at least
/// 1/65,536 apart.
pub const SAME_LOAD: f64 = 1.0 / 262_144.0;

impl<'a> Candidates<'a> {
    pub(super) fn new(seats: &'a Seats, tried: &'a Tried, mask: Flags) -> Self {
        Self { seats, tried, mask }
    }

    /// All servers of the pool, eligible or not; indexes run below it.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Whether this request may be sent there: ready, healthy (or failing open), below its limit, and
    /// not tried yet.
    pub fn is_eligible(&self, index: usize) -> bool {
        self.load(index) < f64::INFINITY
    }

    /// `in_flight / weight`; infinite if the server is not eligible.
    pub fn load(&self, index: usize) -> f64 {
        if !self.tried.is_empty() && self.tried.contains(index) {
            return f64::INFINITY;
        }
        self.seats.load(index, self.mask)
    }

    pub fn in_flight(&self, index: usize) -> u32 {
        in_flight(self.seats.word(index))
    }

    pub fn weight(&self, index: usize) -> u32 {
        self.seats.weight(index)
    }

    /// Whether this request may be sent there and nothing is in flight there: no load can be lower.
    pub fn is_at_rest(&self, index: usize) -> bool {
        self.load(index) <= SAME_LOAD
    }

    /// The lowest load of all; the search begins at a place that `start` decides.
    pub fn lowest(&self, start: u64) -> Option<Lowest> {
        self.seats.lowest(start, self.mask, self.tried)
    }

    /// A server with the lowest load; of several in reach, `start` decides.
    pub fn holder(&self, lowest: &Lowest, start: u64) -> Option<usize> {
        self.seats.holder(lowest, start, self.mask, self.tried)
    }

    /// Leases and weights of the eligible servers, added up.
    pub fn totals(&self) -> (u64, u64) {
        self.seats.totals(self.mask, self.tried)
    }
}
