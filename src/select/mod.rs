//! The algorithms, one file each. To add one: a file with its build, behaviour and tests, and a line in `build`.

pub mod consistent_hash;
pub mod least_connections;
pub mod random_two;
pub mod round_robin;

pub use crate::pool::choose::{Candidates, Query, Selector};
pub use consistent_hash::hash;

use crate::config::plan;
use crate::pool::Pool;
use std::sync::Arc;

/// The algorithm a plan asks for. Where the previous pool's servers and weights are the same, what it has
/// built and where it stands are kept.
pub fn build(pool: &plan::Pool, previous: Option<&Pool>) -> Arc<dyn Selector> {
    let _ = previous;
    match &pool.balance {
        plan::Balance::RoundRobin => Arc::new(round_robin::RoundRobin::new(&weights(pool))),
        plan::Balance::LeastConnections => Arc::new(least_connections::LeastConnections::new(&weights(pool))),
        plan::Balance::RandomTwo => Arc::new(random_two::RandomTwo),
        plan::Balance::ConsistentHash { bounded_load, .. } => {
            Arc::new(consistent_hash::ConsistentHash::new(&pool.servers, *bounded_load))
        }
    }
}

fn weights(pool: &plan::Pool) -> Vec<u32> {
    pool.servers.iter().map(|server| u32::from(server.weight.get())).collect()
}
