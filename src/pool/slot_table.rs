//! Where a pool's servers sit in memory: blocks of words shared by all generations, and beside them,
//! for one snapshot, what each slot may carry. This is what a scan for the least loaded walks.

use super::slot::{Flags, SLOTS, Slot, SlotBlock, in_flight};
use super::tried::{SAME_LOAD, Tried};
use crate::config::plan;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A server's slot for as long as the server exists; dropping it frees the slot.
pub struct OwnedSlot {
    block: Arc<SlotBlock>,
    offset: usize,
}

impl OwnedSlot {
    pub fn slot(&self) -> &Slot {
        &self.block.slots()[self.offset]
    }

    pub fn set_ramping(&self, is_ramping: bool) {
        self.block.set_ramping(self.offset, is_ramping);
    }
}

impl Drop for OwnedSlot {
    fn drop(&mut self) {
        self.set_ramping(false);
        self.slot().vacate();
    }
}

impl fmt::Debug for OwnedSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.slot().fmt(f)
    }
}

/// Finds free slots for new servers, in the blocks the pool has before it adds blocks.
#[derive(Debug, Default)]
pub struct SlotAllocator {
    blocks: Vec<Arc<SlotBlock>>,
    /// Blocks before this one are full.
    next: usize,
}

impl SlotAllocator {
    pub fn new(blocks: &[Arc<SlotBlock>]) -> Self {
        Self { blocks: blocks.to_vec(), next: 0 }
    }

    /// A slot for a server that starts out with these flags.
    pub fn claim(&mut self, flags: Flags) -> OwnedSlot {
        loop {
            if self.next == self.blocks.len() {
                self.blocks.push(Arc::new(SlotBlock::new()));
            }
            let block = &self.blocks[self.next];
            if let Some(offset) = block.claim(flags) {
                return OwnedSlot { block: block.clone(), offset };
            }
            self.next += 1;
        }
    }
}

/// What the servers that may be chosen have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadTotals {
    pub leases: u64,
    pub weights: u64,
}

/// No server of this snapshot sits here.
const VACANT: u32 = u32::MAX;

/// The slots of one pool in one snapshot. An index counts servers in the order of the configuration,
/// a position counts slots in memory.
#[derive(Debug)]
pub struct SlotTable {
    blocks: Box<[Arc<SlotBlock>]>,
    positions: Box<[u32]>,
    occupants: Box<[u32]>,
    /// By position; 0 where nothing may be sent, because the slot is vacant or the configuration drains it.
    weights: Box<[u32]>,
    /// 1/weight by position, and so infinite where nothing may be sent.
    reciprocals: Box<[f64]>,
    /// Leases at most, by position; infinite if unlimited.
    limits: Box<[f64]>,
    /// Slots of each block that a scan has to look at, rounded up to whole steps.
    used: Box<[usize]>,
    any_limit: bool,
}

/// Slots that a scan looks at in one step, each with a minimum of its own, so that no comparison waits for
/// the one before.
const STEP: usize = 4;

/// What a server at rest carries, so that the product with an infinite reciprocal is one: far less than makes a difference.
const AT_REST: f64 = 1e-9;

/// A load this high is not one: a flag is up. (A server of weight 1 would need 16 million leases.)
const BARRED: f64 = (1u64 << 24) as f64;

impl SlotTable {
    /// Places the servers of a plan, in its order.
    pub fn new<'a>(servers: impl Iterator<Item = (&'a plan::ServerPlan, &'a OwnedSlot)> + Clone) -> Self {
        let mut blocks = Vec::new();
        let mut known = HashMap::new();
        for (_, slot) in servers.clone() {
            known.entry(Arc::as_ptr(&slot.block)).or_insert_with(|| {
                blocks.push(slot.block.clone());
                blocks.len() - 1
            });
        }
        let room = blocks.len() * SLOTS;
        let mut table = Self {
            blocks: blocks.into(),
            positions: Box::default(),
            occupants: vec![VACANT; room].into(),
            weights: vec![0; room].into(),
            reciprocals: vec![f64::INFINITY; room].into(),
            limits: vec![f64::INFINITY; room].into(),
            used: Box::default(),
            any_limit: servers.clone().any(|(server, _)| server.max_connections.is_some()),
        };
        table.positions = servers
            .enumerate()
            .map(|(index, (server, slot))| {
                let position = known[&Arc::as_ptr(&slot.block)] * SLOTS + slot.offset;
                table.occupants[position] = u32::try_from(index).expect("a pool has far fewer servers");
                if !server.drain {
                    let weight = u32::from(server.weight.get());
                    table.weights[position] = weight;
                    table.reciprocals[position] = 1.0 / f64::from(weight);
                }
                if let Some(limit) = server.max_connections {
                    table.limits[position] = f64::from(limit.get());
                }
                u32::try_from(position).expect("a pool has far fewer slots")
            })
            .collect();
        table.used = table
            .occupants
            .chunks_exact(SLOTS)
            .map(|block| {
                let last = block.iter().rposition(|occupant| *occupant != VACANT);
                last.map_or(0, |last| (last + 1).next_multiple_of(STEP))
            })
            .collect();
        table
    }

    /// Whether some server has a limit.
    pub(super) fn any_limit(&self) -> bool {
        self.any_limit
    }

    /// Whether some server is coming back.
    pub(super) fn has_ramps(&self) -> bool {
        self.blocks.iter().any(|block| block.has_ramps())
    }

    pub fn blocks(&self) -> &[Arc<SlotBlock>] {
        &self.blocks
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// 0 if the configuration drains it.
    pub fn weight(&self, index: usize) -> u32 {
        self.weights[self.positions[index] as usize]
    }

    pub(super) fn word(&self, index: usize) -> u64 {
        let position = self.positions[index] as usize;
        self.blocks[position / SLOTS].slots()[position % SLOTS].word()
    }

    /// `in_flight / weight`, or infinity if a flag of `mask` is up, the slot is full, or the
    /// configuration drains it.
    pub(super) fn load(&self, index: usize, mask: Flags) -> f64 {
        self.load_at(self.positions[index] as usize, mask)
    }

    fn load_at(&self, position: usize, mask: Flags) -> f64 {
        let word = self.blocks[position / SLOTS].slots()[position % SLOTS].word();
        let count = f64::from(in_flight(word));
        if word & mask.in_word() != 0 || count >= self.limits[position] {
            return f64::INFINITY;
        }
        (count + AT_REST) * self.reciprocals[position]
    }

    /// Whether the configuration lets requests go there and no flag of `mask` is up, be it full or not.
    pub(super) fn is_usable(&self, index: usize, mask: Flags) -> bool {
        self.word(index) & mask.in_word() == 0 && self.weight(index) > 0
    }

    /// Leases and weights of the servers that may be chosen, added up.
    pub(super) fn totals(&self, mask: Flags, tried: &Tried) -> LoadTotals {
        let bars = mask.in_word();
        let mut totals = LoadTotals::default();
        for (block, slots) in self.scan() {
            let limits = &self.limits[slots.clone()];
            for ((slot, weight), limit) in block.slots().iter().zip(&self.weights[slots]).zip(limits) {
                let word = slot.word();
                let count = in_flight(word);
                let counts = word & bars == 0 && *weight > 0 && f64::from(count) < *limit;
                totals.leases += if counts { u64::from(count) } else { 0 };
                totals.weights += if counts { u64::from(*weight) } else { 0 };
            }
        }
        for index in tried.indexes().filter(|index| self.load(*index, mask) < f64::INFINITY) {
            totals.leases = totals.leases.saturating_sub(u64::from(in_flight(self.word(index))));
            totals.weights -= u64::from(self.weight(index));
        }
        totals
    }

    /// The lowest load, and where it was seen. The search begins at a place that `start` decides.
    pub(super) fn lowest(&self, start: u64, mask: Flags, tried: &Tried) -> Option<LowestLoad> {
        let mut lowest = LowestLoad { load: BARRED, block: 0 };
        let n = self.blocks.len();
        let first = (start % n.max(1) as u64) as usize;
        for block in (first..n).chain(0..first) {
            let load = match tried.is_empty() {
                true => self.least(block, mask),
                false => self.least_untried(block, mask, tried),
            };
            if load < lowest.load {
                lowest = LowestLoad { load, block };
            }
        }
        (lowest.load < BARRED).then_some(lowest)
    }

    /// A server with this load, or if leases have come and gone since, the least of its block as it is now.
    pub(super) fn holder(
        &self,
        lowest: &LowestLoad,
        start: u64,
        mask: Flags,
        tried: &Tried,
    ) -> Option<usize> {
        let first = lowest.block * SLOTS;
        let used = self.used[lowest.block];
        let turn = (start >> 32) as usize % used;
        let mut found = (f64::INFINITY, None);
        for position in (turn..used).chain(0..turn).map(|offset| first + offset) {
            let load = self.load_at(position, mask);
            if load < found.0 && !tried.contains(self.occupants[position] as usize) {
                found = (load, Some(self.occupants[position] as usize));
                if load <= lowest.load + SAME_LOAD {
                    break;
                }
            }
        }
        found.1
    }

    /// Each block with the positions of those of its slots that are worth a look.
    fn scan(&self) -> impl Iterator<Item = (&SlotBlock, Range<usize>)> {
        let starts = (0..).step_by(SLOTS);
        self.blocks
            .iter()
            .zip(&self.used)
            .zip(starts)
            .map(|((block, used), start)| (&**block, start..start + used))
    }

    /// The lowest load in a block.
    fn least(&self, block: usize, mask: Flags) -> f64 {
        let range = block * SLOTS..block * SLOTS + self.used[block];
        let slots = self.blocks[block].slots()[..self.used[block]].chunks_exact(STEP);
        let reciprocals = self.reciprocals[range.clone()].chunks_exact(STEP);
        let keep = mask.in_word() | u64::from(u32::MAX);
        let mut least = [f64::INFINITY; STEP];
        // The same loop twice: most pools have no limit at all, and then it is half the work.
        if self.any_limit {
            let limits = self.limits[range].chunks_exact(STEP);
            for ((slots, reciprocals), limits) in slots.zip(reciprocals).zip(limits) {
                let words: [u64; STEP] = std::array::from_fn(|lane| slots[lane].word());
                for lane in 0..STEP {
                    let count = count(words[lane] & keep);
                    let is_full = count >= limits[lane];
                    let load = if is_full { f64::INFINITY } else { (count + AT_REST) * reciprocals[lane] };
                    least[lane] = lower(load, least[lane]);
                }
            }
        } else {
            for (slots, reciprocals) in slots.zip(reciprocals) {
                let words: [u64; STEP] = std::array::from_fn(|lane| slots[lane].word());
                for lane in 0..STEP {
                    let count = count(words[lane] & keep);
                    least[lane] = lower((count + AT_REST) * reciprocals[lane], least[lane]);
                }
            }
        }
        least.into_iter().fold(f64::INFINITY, lower)
    }

    /// The same for a retry, which is rare: one by one.
    fn least_untried(&self, block: usize, mask: Flags, tried: &Tried) -> f64 {
        (block * SLOTS..block * SLOTS + self.used[block])
            .filter(|position| !tried.contains(self.occupants[*position] as usize))
            .map(|position| self.load_at(position, mask))
            .fold(f64::INFINITY, lower)
    }
}

/// The result of a scan.
#[derive(Clone, Copy, Debug)]
pub struct LowestLoad {
    pub load: f64,
    /// A block with a server that carries it.
    block: usize,
}

/// The in-flight count, without a branch: the word becomes the mantissa of a double, where a flag weighs 2^32 leases
/// and more.
fn count(word: u64) -> f64 {
    const TWO_TO_52: f64 = (1u64 << 52) as f64;
    f64::from_bits(TWO_TO_52.to_bits() | word) - TWO_TO_52
}

/// `f64::min` looks after NaN, which does not occur here and costs.
fn lower(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use crate::config::plan::Balance;
    use crate::pool::sample::{live, plan, pool};
    use crate::pool::{Lease, Query, Tried};
    use crate::snapshot::Snapshot;
    use proptest::prelude::*;
    use std::num::NonZeroU32;
    use std::time::Instant;

    #[test]
    fn a_slot_is_free_again_when_its_server_is_gone() {
        let now = Instant::now();
        let next = |snapshot: &Snapshot, servers: &str| {
            let (next, delta) = snapshot.evolve(plan(vec![pool(Balance::LeastConnections, servers)]), now);
            delta.settle(now, Instant::now);
            next
        };
        let pick = |snapshot: &Snapshot| {
            snapshot.pools()[0].pick(&Query::default(), &mut Tried::new()).expect("a server is ready")
        };
        let mut snapshot = next(&Snapshot::empty(), "a b");
        let held = pick(&snapshot);
        // Each time both servers are replaced; what the held lease sits on is not used again.
        for round in 0..200 {
            snapshot = next(&snapshot, &format!("c{round} d{round}"));
            assert_eq!(snapshot.pools()[0].members[0].server.in_flight(), 0);
            assert_eq!(held.server().in_flight(), 1);
            assert_eq!(snapshot.pools()[0].blocks().len(), 1, "free slots are used before new blocks");
        }
        drop(held);
        let _both = [pick(&snapshot), pick(&snapshot)];
        assert!(snapshot.pools()[0].members.iter().all(|member| member.server.in_flight() == 1));
    }

    proptest! {
        /// Over several blocks, with every weight, limits and drains, the scan finds what a plain search does.
        #[test]
        fn the_scan_finds_the_lowest_load(
            servers in prop::collection::vec((1u32..=256, 0u32..5, 0u32..9, any::<bool>()), 1..150),
            entropy: u64,
            retries in 0usize..3,
        ) {
            let names: Vec<String> =
                servers.iter().enumerate().map(|(index, (weight, ..))| format!("s{index}={weight}")).collect();
            let mut plan = pool(Balance::LeastConnections, &names.join(" "));
            for (server, (_, limit, _, drain)) in plan.servers.iter_mut().zip(&servers) {
                server.max_connections = NonZeroU32::new(*limit);
                server.drain = *drain;
            }
            let pool = live(plan);
            let take = |(index, (_, limit, leases, _)): (usize, &(u32, u32, u32, bool))| {
                let leases = if *limit == 0 { *leases } else { *leases.min(limit) };
                let server = &pool.members[index].server;
                let lease = || Lease::take(server, index, u32::MAX, super::Flags::NONE, None);
                (0..leases).map(|_| lease()).collect()
            };
            let _leases: Vec<Vec<Option<Lease>>> = servers.iter().enumerate().map(take).collect();
            let mut tried = Tried::new();
            for _ in 0..=retries {
                let eligible: Vec<usize> = (0..servers.len())
                    .filter(|index| !pool.members[*index].drain && !tried.contains(*index))
                    .filter(|index| {
                        let limit = pool.members[*index].max_connections;
                        limit.is_none_or(|limit| pool.members[*index].server.in_flight() < limit.get())
                    })
                    .collect();
                let leases: Vec<u64> =
                    pool.members.iter().map(|member| u64::from(member.server.in_flight())).collect();
                let weight = |index: usize| u64::from(pool.members[index].weight.get());
                match pool.pick(&Query { key: None, entropy, ..Query::default() }, &mut tried) {
                    Err(_) => prop_assert!(eligible.is_empty()),
                    Ok(lease) => {
                        prop_assert!(eligible.contains(&lease.index()));
                        // Whole numbers: compared without a rounding.
                        let chosen = lease.index();
                        for other in eligible {
                            prop_assert!(leases[chosen] * weight(other) <= leases[other] * weight(chosen));
                        }
                    }
                }
            }
        }
    }
}
