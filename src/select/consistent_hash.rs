//! Consistent hash: a ring of points placed by the servers' names, so that the same key finds the same
//! server on every node and through every reload.

use super::{Candidates, Query, Selector};
use crate::config::plan;
use crate::units::Percent;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The hash of a key or a name: fixed for all versions and machines.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, 0)
}

#[derive(Debug)]
pub struct ConsistentHash {
    points: Vec<(u64, u32)>,
    bounded_load: Option<Percent>,
}

impl ConsistentHash {
    pub fn new(servers: &[plan::Server], bounded_load: Option<Percent>) -> Self {
        let mut points: Vec<(u64, u32)> = Vec::new();
        for (index, server) in servers.iter().enumerate() {
            let n = u64::from(server.weight.get()) * 160 / 100;
            points.extend(
                (0..n.max(1)).map(|i| (xxh3_64_with_seed(server.name.as_bytes(), i + 1), index as u32)),
            );
        }
        points.sort_unstable();
        Self { points, bounded_load }
    }
}

impl Selector for ConsistentHash {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        let _ = self.bounded_load;
        let key = query.key.unwrap_or(query.entropy);
        let start = self.points.partition_point(|(point, _)| *point < key);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).map(|(_, index)| *index as usize).find(|index| among.is_eligible(*index))
    }
}
