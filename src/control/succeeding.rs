//! Looks, each second, at how often the servers of pools succeed that are balanced by it.

use super::Control;
use crate::config::plan::Balance;
use std::time::Instant;
use tracing::{info, warn};

impl Control {
    pub(super) fn look_at_successes(&mut self) {
        let (now, snapshot) = (Instant::now(), self.live.snapshot());
        self.succeeding.retain(|name, _| snapshot.pool(name).is_some());
        for pool in snapshot.pools() {
            let Balance::SuccessRate(plan) = &pool.plan.balance else { continue };
            let watch = self.succeeding.entry(pool.name.clone()).or_default();
            for change in watch.look(pool, plan, now) {
                let (server, standing) = (pool.members[change.index].server.name(), change.standing);
                let (low, high) = (standing.low, standing.high);
                match standing.is_worse {
                    true => {
                        warn!(pool = %pool.name, %server, low, high, outcomes = standing.n, share = standing.share,
                        "succeeds provably less often than the best")
                    }
                    false => {
                        info!(pool = %pool.name, %server, low, high, outcomes = standing.n, share = standing.share,
                        "succeeds as often as the best again")
                    }
                }
            }
        }
    }
}
