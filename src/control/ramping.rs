//! Servers that come back slowly: their ramps end here, and are suspended where nobody is left to spare them.

use super::Control;
use std::time::Instant;
use tracing::warn;

impl Control {
    pub(super) fn look_at_ramps(&self) {
        let now = Instant::now();
        for pool in self.live.snapshot().pools() {
            let suspended = pool.settle_ramps(now);
            if suspended > 0 && pool.plan.slow_start.is_some() {
                warn!(pool = %pool.name, servers = suspended,
                    "slow start suspended: more than half of the weight that is up would ramp");
            }
        }
    }
}
