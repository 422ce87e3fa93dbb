//! Where a pool's servers sit in memory: blocks of words shared by all generations, and beside them,
//! for one snapshot, what each seat may carry. This is what a scan for the least loaded walks.

use super::choose::{SAME_LOAD, Tried};
use super::slot::{Block, Flags, SLOTS, Slot, in_flight};
use crate::config::plan;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A server's slot for as long as the server exists; dropping it frees the slot.
pub struct Seat {
    block: Arc<Block>,
    offset: usize,
}

impl Seat {
    pub fn slot(&self) -> &Slot {
        &self.block.slots()[self.offset]
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.slot().vacate();
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.slot().fmt(f)
    }
}

/// Finds free slots for new servers, in the blocks the pool has before it adds blocks.
#[derive(Debug, Default)]
pub struct Allocator {
    blocks: Vec<Arc<Block>>,
    /// Blocks before this one are full.
    next: usize,
}

impl Allocator {
    pub fn new(blocks: &[Arc<Block>]) -> Self {
        Self { blocks: blocks.to_vec(), next: 0 }
    }

    /// A seat for a server that starts out with these flags.
    pub fn seat(&mut self, flags: Flags) -> Seat {
        loop {
            if self.next == self.blocks.len() {
                self.blocks.push(Arc::new(Block::new()));
            }
            let block = &self.blocks[self.next];
            if let Some(offset) = block.claim(flags) {
                return Seat { block: block.clone(), offset };
            }
            self.next += 1;
        }
    }
}

/// No server of this snapshot sits here.
const VACANT: u32 = u32::MAX;

/// The seats of one pool in one snapshot. An index counts servers in the order of the configuration,
/// a position counts slots in memory.
#[derive(Debug)]
pub struct Seats {
    blocks: Box<[Arc<Block>]>,
    positions: Box<[u32]>,
    occupants: Box<[u32]>,
    /// 1/weight by position: infinite where nothing may be sent, because the seat is vacant or the
    /// configuration drains it.
    reciprocals: Box<[f64]>,
    /// Leases at most, by position; infinite if unlimited.
    limits: Box<[f64]>,
    weights: Box<[u32]>,
    /// Slots of each block that a scan has to look at, rounded up to whole steps.
    used: Box<[usize]>,
    any_limit: bool,
    heaviest: u32,
}

/// Seats that a scan looks at in one step: as many as keep the processor's vector registers busy.
const STEP: usize = 4;

/// A load this high is not one: a flag is up. (A server of weight 1 would need 16 million leases.)
const BARRED: f64 = (1u64 << 24) as f64;

impl Seats {
    /// Seats the servers of a plan, in its order.
    pub fn new<'a>(servers: impl Iterator<Item = (&'a plan::Server, &'a Seat)> + Clone) -> Self {
        let mut blocks = Vec::new();
        let mut known = HashMap::new();
        for (_, seat) in servers.clone() {
            known.entry(Arc::as_ptr(&seat.block)).or_insert_with(|| {
                blocks.push(seat.block.clone());
                blocks.len() - 1
            });
        }
        let room = blocks.len() * SLOTS;
        let mut seats = Self {
            blocks: blocks.into(),
            positions: Box::default(),
            occupants: vec![VACANT; room].into(),
            reciprocals: vec![f64::INFINITY; room].into(),
            limits: vec![f64::INFINITY; room].into(),
            weights: servers.clone().map(|(server, _)| u32::from(server.weight.get())).collect(),
            used: Box::default(),
            any_limit: servers.clone().any(|(server, _)| server.max_connections.is_some()),
            heaviest: servers.clone().map(|(server, _)| u32::from(server.weight.get())).max().unwrap_or(1),
        };
        seats.positions = servers
            .enumerate()
            .map(|(index, (server, seat))| {
                let position = known[&Arc::as_ptr(&seat.block)] * SLOTS + seat.offset;
                seats.occupants[position] = u32::try_from(index).expect("a pool has far fewer servers");
                if !server.drain {
                    seats.reciprocals[position] = 1.0 / f64::from(server.weight.get());
                }
                if let Some(limit) = server.max_connections {
                    seats.limits[position] = f64::from(limit.get());
                }
                u32::try_from(position).expect("a pool has far fewer slots")
            })
            .collect();
        seats.used = seats
            .occupants
            .chunks_exact(SLOTS)
            .map(|block| {
                let last = block.iter().rposition(|occupant| *occupant != VACANT);
                last.map_or(0, |last| (last + 1).next_multiple_of(STEP))
            })
            .collect();
        seats
    }

    pub fn blocks(&self) -> &[Arc<Block>] {
        &self.blocks
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub fn weight(&self, index: usize) -> u32 {
        self.weights[index]
    }

    /// The largest weight: 1 divided by it is the lowest load there can be.
    pub fn heaviest(&self) -> u32 {
        self.heaviest
    }

    pub(super) fn word(&self, index: usize) -> u64 {
        let position = self.positions[index] as usize;
        self.blocks[position / SLOTS].slots()[position % SLOTS].word()
    }

    /// `(in_flight + 1) / weight`, or infinity if a flag of `mask` is up, the seat is full, or the
    /// configuration drains it.
    pub(super) fn load(&self, index: usize, mask: Flags) -> f64 {
        let position = self.positions[index] as usize;
        let word = self.blocks[position / SLOTS].slots()[position % SLOTS].word();
        let count = f64::from(in_flight(word));
        if word & mask.in_word() != 0 || count >= self.limits[position] {
            return f64::INFINITY;
        }
        (count + 1.0) * self.reciprocals[position]
    }

    /// Whether the configuration lets requests go there and no flag of `mask` is up, be it full or not.
    pub(super) fn is_usable(&self, index: usize, mask: Flags) -> bool {
        self.word(index) & mask.in_word() == 0 && self.reciprocals[self.positions[index] as usize].is_finite()
    }

    /// Leases and weights of the servers that may be chosen, added up.
    pub(super) fn totals(&self, mask: Flags, tried: &Tried) -> (u64, u64) {
        (0..self.len())
            .filter(|index| self.load(*index, mask) < f64::INFINITY && !tried.contains(*index))
            .fold((0, 0), |(leases, weights), index| {
                (leases + u64::from(in_flight(self.word(index))), weights + u64::from(self.weights[index]))
            })
    }

    /// The lowest load and a server that carries it. Of several, `start` decides where the search begins.
    pub(super) fn lowest(&self, start: u64, mask: Flags, tried: &Tried) -> Option<(usize, f64)> {
        let n = self.blocks.len();
        let first = (start % n.max(1) as u64) as usize;
        let mut lowest = BARRED;
        let mut place = None;
        for block in (first..n).chain(0..first) {
            let words = self.words(block, tried);
            let least = self.least(block, &words, mask);
            if least < lowest {
                lowest = least;
                place = Some((block, words));
            }
        }
        let (block, words) = place?;
        let used = self.used[block];
        let turn = (start >> 32) as usize % used;
        let position = (turn..used).chain(0..turn).find(|offset| {
            let position = block * SLOTS + offset;
            load(words[*offset], self.reciprocals[position], self.limits[position], keep(mask))
                <= lowest + SAME_LOAD
        })?;
        Some((self.occupants[block * SLOTS + position] as usize, lowest))
    }

    /// Copies a block's words, so that what follows can work on several at once. A server that was tried
    /// looks barred.
    fn words(&self, block: usize, tried: &Tried) -> [u64; SLOTS] {
        let mut words = [0; SLOTS];
        let used = self.used[block];
        for (word, slot) in words[..used].iter_mut().zip(self.blocks[block].slots()) {
            *word = slot.word();
        }
        for index in tried.indexes() {
            let position = self.positions[index] as usize;
            if position / SLOTS == block {
                words[position % SLOTS] = u64::MAX;
            }
        }
        words
    }

    /// The lowest load in a block.
    fn least(&self, block: usize, words: &[u64; SLOTS], mask: Flags) -> f64 {
        let seats = block * SLOTS..block * SLOTS + self.used[block];
        let words = words[..self.used[block]].chunks_exact(STEP);
        let reciprocals = self.reciprocals[seats.clone()].chunks_exact(STEP);
        let keep = keep(mask);
        let mut least = [f64::INFINITY; STEP];
        // The same loop twice: most pools have no limit at all, and then it is half the work.
        if self.any_limit {
            let limits = self.limits[seats].chunks_exact(STEP);
            for ((words, reciprocals), limits) in words.zip(reciprocals).zip(limits) {
                for lane in 0..STEP {
                    least[lane] =
                        lower(load(words[lane], reciprocals[lane], limits[lane], keep), least[lane]);
                }
            }
        } else {
            for (words, reciprocals) in words.zip(reciprocals) {
                for lane in 0..STEP {
                    least[lane] =
                        lower(load(words[lane], reciprocals[lane], f64::INFINITY, keep), least[lane]);
                }
            }
        }
        least.into_iter().fold(f64::INFINITY, lower)
    }
}

/// The bits of a word that bar a server or count its leases.
fn keep(mask: Flags) -> u64 {
    mask.in_word() | u64::from(u32::MAX)
}

/// A load without a branch: the kept bits of the word become the mantissa of a double, where a flag
/// weighs 2^32 leases and more.
fn load(word: u64, reciprocal: f64, limit: f64, keep: u64) -> f64 {
    const TWO_TO_52: f64 = (1u64 << 52) as f64;
    let count = f64::from_bits(TWO_TO_52.to_bits() | (word & keep)) - TWO_TO_52;
    let load = (count + 1.0) * reciprocal;
    if count < limit { load } else { f64::INFINITY }
}

/// `f64::min` looks after NaN, which does not occur here and costs.
fn lower(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}
