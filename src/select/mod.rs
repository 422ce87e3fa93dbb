//! The algorithms, one file each. To add one: a file with its build, behaviour and tests, and a line in `build`.

pub mod consistent_hash;
mod draw;
pub mod key;
pub mod least_connections;
pub mod maglev;
pub mod peak_ewma;
pub mod random_two;
pub mod round_robin;
pub mod success_rate;

pub use crate::pool::choose::{Candidates, Query, Reasons, Selector};
pub use consistent_hash::hash;

use crate::config::plan::{self, Balance, Name};
use crate::pool::Pool;
use std::any::Any;
use std::sync::Arc;

/// The algorithm a plan asks for. Where the previous pool's servers and weights are the same, what it has
/// built and where it stands are kept.
pub fn build(pool: &plan::PoolPlan, previous: Option<&Pool>) -> Arc<dyn Selector> {
    if let Some(previous) = previous
        && previous.plan.balance == pool.balance
        && same_servers(&previous.plan.servers, &pool.servers)
    {
        return previous.selector().clone();
    }
    let previous = previous.map(|previous| &**previous.selector() as &dyn Any);
    match &pool.balance {
        Balance::RoundRobin => Arc::new(round_robin::RoundRobin::new(&weights(pool))),
        Balance::LeastConnections => Arc::new(least_connections::LeastConnections::new(&weights(pool))),
        Balance::RandomTwo => Arc::new(random_two::RandomTwo::new(&weights(pool))),
        Balance::PeakEwma => Arc::new(peak_ewma::PeakEwma::new(&weights(pool))),
        Balance::SuccessRate(plan) => Arc::new(success_rate::SuccessRate::new(plan.explore)),
        Balance::ConsistentHash { bounded_load, .. } => {
            // The ring does not mind the order of the servers, nor a new key or bound.
            let previous = previous.and_then(<dyn Any>::downcast_ref);
            Arc::new(consistent_hash::ConsistentHash::new(&pool.servers, *bounded_load, previous))
        }
        Balance::Maglev { .. } => {
            let previous = previous.and_then(<dyn Any>::downcast_ref);
            Arc::new(maglev::Maglev::new(&pool.servers, previous))
        }
    }
}

/// Whether the same names stand in the same order with the same weights.
fn same_servers(old: &[plan::ServerPlan], new: &[plan::ServerPlan]) -> bool {
    old.len() == new.len()
        && old.iter().zip(new).all(|(old, new)| old.name == new.name && old.weight == new.weight)
}

/// A pool's servers in the order of their names, so that what is placed by it does not mind the order in the file.
#[derive(Debug, PartialEq, Eq)]
struct ByName {
    weights: Box<[(Name, u32)]>,
}

impl ByName {
    /// Beside them, the pool's index of each.
    fn new(servers: &[plan::ServerPlan]) -> (Self, Box<[u32]>) {
        let mut indexes: Box<[u32]> = (0..servers.len() as u32).collect();
        indexes.sort_unstable_by_key(|index| &servers[*index as usize].name);
        let in_order = indexes.iter().map(|index| &servers[*index as usize]);
        let weights = in_order.map(|server| (server.name.clone(), u32::from(server.weight.get()))).collect();
        (Self { weights }, indexes)
    }
}

/// The score of algorithms that look at loads: `in_flight / weight`; none where a server is out.
fn loads(among: &Candidates<'_>) -> Vec<Option<String>> {
    let load = |index| Some(among.load(index)).filter(|load| *load < f64::INFINITY);
    (0..among.len()).map(|index| load(index).map(|load| format!("load {load:.4}"))).collect()
}

fn weights(pool: &plan::PoolPlan) -> Vec<u32> {
    pool.servers.iter().map(|server| u32::from(server.weight.get())).collect()
}

/// 2^64 divided by the golden ratio: the step of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finish (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
