//! What an algorithm sees of a pool, and what it is asked: nothing else decides a choice.

use super::learned::Learned;
use super::member::Member;
use super::slot::{Flags, in_flight};
use super::slot_table::{LoadTotals, LowestLoad, SlotTable};
use super::success::SuccessRecord;
use super::tried::{SAME_LOAD, Tried};
use std::any::Any;
use std::fmt::Debug;
use std::time::Instant;

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
    /// When; for algorithms that learn, whose knowledge grows old.
    pub now: Option<Instant>,
    /// Whether it may be sent once more if it fails, and is at hand for that.
    pub may_be_repeated: bool,
}

/// A pool's servers as one request may choose among them.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    slots: &'a SlotTable,
    members: &'a [Member],
    tried: &'a Tried,
    /// A server with one of these flags is out.
    mask: Flags,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(slots: &'a SlotTable, members: &'a [Member], tried: &'a Tried, mask: Flags) -> Self {
        Self { slots, members, tried, mask }
    }

    /// All servers of the pool, eligible or not; indexes run below it.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
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
        self.slots.load(index, self.mask)
    }

    pub fn in_flight(&self, index: usize) -> u32 {
        in_flight(self.slots.word(index))
    }

    pub fn weight(&self, index: usize) -> u32 {
        self.slots.weight(index)
    }

    /// How its tries have ended.
    pub fn success(&self, index: usize) -> &SuccessRecord {
        self.members[index].server.success()
    }

    /// What its tries have taught.
    pub fn learned(&self, index: usize) -> &Learned {
        self.members[index].server.learned()
    }

    /// Whether this request may be sent there and nothing is in flight there: no load can be lower.
    pub fn is_at_rest(&self, index: usize) -> bool {
        self.load(index) <= SAME_LOAD
    }

    /// The lowest load of all; the search begins at a place that `start` decides.
    pub fn lowest(&self, start: u64) -> Option<LowestLoad> {
        self.slots.lowest(start, self.mask, self.tried)
    }

    /// A server with the lowest load; of several in reach, `start` decides.
    pub fn holder(&self, lowest: &LowestLoad, start: u64) -> Option<usize> {
        self.slots.holder(lowest, start, self.mask, self.tried)
    }

    /// Leases and weights of the eligible servers, added up.
    pub fn totals(&self) -> LoadTotals {
        self.slots.totals(self.mask, self.tried)
    }
}
