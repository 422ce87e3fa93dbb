//! Tells of pools that have no healthy server left and use all that are not drained, and when that is over.

use super::{Control, LedgerEntry};
use crate::api::EventKind;
use crate::pool::HealthState;
use std::sync::Arc;
use std::time::Instant;
use tracing::{error, info};

impl Control {
    /// Looks at all pools.
    pub(super) fn look_for_failing_open(&mut self) {
        let now = Instant::now();
        let snapshot = self.live.snapshot();
        self.failing_open.retain(|name| snapshot.pool(name).is_some());
        for pool in snapshot.pools() {
            // While some have not had their first result, there is nothing to be alarmed about.
            let fails = pool.failing_open() && pool.counts().probing == 0;
            if fails && self.failing_open.insert(pool.name.clone()) {
                error!(pool = %pool.name, "no healthy server left: sending to all that are not drained");
                let cause = "no healthy server is left: requests go to every server that is not drained";
                self.live.record(
                    LedgerEntry::new(EventKind::FailOpen, "probe", cause)
                        .of_pool(&pool.name)
                        .change("off", "on"),
                );
            } else if !fails && self.failing_open.remove(&pool.name) {
                info!(pool = %pool.name, "a healthy server is back: no longer sending to unhealthy ones");
                let cause = "a healthy server is back";
                self.live.record(
                    LedgerEntry::new(EventKind::FailOpen, "probe", cause)
                        .of_pool(&pool.name)
                        .change("on", "off"),
                );
                // What the others were given meanwhile has its full time to finish.
                for member in &pool.members {
                    if member.server.state().health != HealthState::Up {
                        member.server.set_close_at(Some(now + pool.plan.drain_timeout));
                        self.keep_closing(Arc::clone(&member.server));
                    }
                }
            }
        }
    }
}
