//! Servers that come back slowly: their ramps end here, and are suspended where nobody is left to spare them.

use super::Control;
use std::time::Instant;
use tracing::warn;

impl Control {
    pub(super) fn look_at_ramps(&self) {
        let now = Instant::now();
        for pool in self.live.snapshot().pools() {
            let ramps = pool.has_ramps();
            let suspended = pool.settle_ramps(now);
            if ramps {
                // Their limits have grown, and no lease may end to tell those who wait.
                pool.queue.serve_again();
            }
            if suspended > 0 && pool.plan.slow_start.is_some() {
                warn!(pool = %pool.name, servers = suspended,
                    "slow start suspended: more than half of the weight that is up would ramp");
            }
        }
    }
}
