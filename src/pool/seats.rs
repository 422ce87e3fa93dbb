//! Where a pool's servers sit in memory: blocks of words shared by all generations, and beside them,
//! for one snapshot, what each seat may carry. This is what a scan for the least loaded walks.

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
    any_limit: bool,
    heaviest: u32,
}

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
}
