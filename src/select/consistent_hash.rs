//! Consistent hash: a ring of points placed by the servers' names, so that the same key finds the same
//! server on every node and through every reload.

use super::{Candidates, Query, Selector};
use crate::config::plan::{self, Name};
use crate::units::Percent;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The hash of a key or a name: the same in all versions and on all machines.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, 0)
}

/// Points on the ring of a server of weight 100, as in ketama. More make shares more even.
const POINTS: u32 = 160;

/// The points of a set of names and weights. It depends on nothing else: not on the order in the file, not
/// on addresses, and a server's points not on the other servers.
pub struct Ring {
    /// Names in order, with their weights.
    servers: Box<[(Name, u32)]>,
    points: Box<[u64]>,
    /// Whose point it is: a place in `servers`.
    owners: Box<[u32]>,
    /// Where the points of each stretch of the ring begin. Points are evenly spread, so a key's place is
    /// known but for a few steps.
    starts: Box<[u32]>,
}

impl Ring {
    fn new(servers: Box<[(Name, u32)]>) -> Self {
        let n_points: usize = servers.iter().map(|(_, weight)| points(*weight) as usize).sum();
        // Some eight points to a stretch: few enough to search, and the table stays in the cache.
        let stretches = (n_points / 8).next_power_of_two().max(2);
        let placed = || {
            servers.iter().enumerate().flat_map(|(owner, (name, weight))| {
                let base = hash(name.as_bytes());
                (1..=u64::from(points(*weight))).map(move |point| {
                    (super::mix(base.wrapping_add(point.wrapping_mul(super::GOLDEN))), owner)
                })
            })
        };
        // A counting sort by stretch; then each stretch is put in order.
        let mut starts = vec![0u32; stretches + 1];
        placed().for_each(|(point, _)| starts[stretch(point, stretches) + 1] += 1);
        (0..stretches).for_each(|stretch| starts[stretch + 1] += starts[stretch]);
        let mut next = starts.clone();
        let mut sorted = vec![(0, 0); n_points];
        for (point, owner) in placed() {
            let place = &mut next[stretch(point, stretches)];
            sorted[*place as usize] = (point, owner as u32);
            *place += 1;
        }
        for bounds in starts.windows(2) {
            sorted[bounds[0] as usize..bounds[1] as usize].sort_unstable();
        }
        let (points, owners): (Vec<u64>, Vec<u32>) = sorted.into_iter().unzip();
        Self { points: points.into(), owners: owners.into(), starts: starts.into(), servers }
    }

    /// The owners from the first point at or after `key` on, all the way round.
    fn walk(&self, key: u64) -> impl Iterator<Item = u32> + '_ {
        let mut start = self.starts[stretch(key, self.starts.len() - 1)] as usize;
        while self.points.get(start).is_some_and(|point| *point < key) {
            start += 1;
        }
        let (before, after) = self.owners.split_at(start);
        after.iter().chain(before).copied()
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring of {} points, {} servers", self.points.len(), self.servers.len())
    }
}

/// A server's points follow from its own weight alone, so that a new weight adds or takes away points of
/// this server and moves no other's.
fn points(weight: u32) -> u32 {
    (weight * POINTS).div_ceil(100)
}

/// Which of `stretches` (a power of two, at least two) equal parts of the ring a point lies in.
fn stretch(point: u64, stretches: usize) -> usize {
    (point >> (64 - stretches.trailing_zeros())) as usize
}

#[derive(Debug)]
pub struct ConsistentHash {
    ring: Arc<Ring>,
    /// The pool's index of each of the ring's servers.
    indexes: Box<[u32]>,
    bounded_load: Option<Percent>,
}

impl ConsistentHash {
    /// The previous ring is used again if names and weights are the same.
    pub fn new(servers: &[plan::Server], bounded_load: Option<Percent>, previous: Option<&Self>) -> Self {
        let mut indexes: Box<[u32]> = (0..servers.len() as u32).collect();
        indexes.sort_unstable_by_key(|index| &servers[*index as usize].name);
        let in_order = indexes.iter().map(|index| &servers[*index as usize]);
        let named = in_order.map(|server| (server.name.clone(), u32::from(server.weight.get()))).collect();
        let ring = match previous {
            Some(previous) if previous.ring.servers == named => previous.ring.clone(),
            _ => Arc::new(Ring::new(named)),
        };
        Self { ring, indexes, bounded_load }
    }

    /// The points, to see whether a reload kept them.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }
}

/// Points passed over before it is worth asking whether any server is eligible.
const PATIENCE: usize = 1_000;

impl Selector for ConsistentHash {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        // A request without the key is spread by chance.
        let key = query.key.unwrap_or(query.entropy);
        let owners = || self.ring.walk(key).map(|owner| self.indexes[owner as usize] as usize);
        let first = owners().take(PATIENCE).find(|index| among.is_eligible(*index));
        let first = match first {
            Some(first) => first,
            None if (0..among.len()).any(|index| among.is_eligible(index)) => {
                owners().find(|index| among.is_eligible(*index))?
            }
            None => return None,
        };
        match self.bounded_load {
            Some(factor) if among.in_flight(first) > 0 => {
                let bound = Bound::new(factor, among);
                // The mean is below the bound, so some server is; if it filled up just now, stay at home.
                let below = |index: &usize| among.is_eligible(*index) && bound.allows(*index, among);
                Some(owners().find(below).unwrap_or(first))
            }
            // The bound of a server at rest is one request at least.
            _ => Some(first),
        }
    }
}

/// No server above the factor times its share of the load, this request included. (Mirrokni, Thorup,
/// Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016.)
struct Bound {
    factor: u64,
    leases: u64,
    weights: u64,
}

impl Bound {
    fn new(factor: Percent, among: &Candidates<'_>) -> Self {
        let (leases, weights) = among.totals();
        Self { factor: u64::from(factor.0), leases: leases + 1, weights: weights.max(1) }
    }

    fn allows(&self, index: usize, among: &Candidates<'_>) -> bool {
        let share = self.factor * self.leases * u64::from(among.weight(index));
        u64::from(among.in_flight(index)) < share.div_ceil(100 * self.weights)
    }
}
