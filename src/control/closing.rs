//! Looks after what servers still have that are down or leaving, and cuts it once their deadline is over.

use super::{Control, LedgerEntry};
use crate::access_log::Why;
use crate::api::EventKind;
use crate::edge::WorkerCommand;
use crate::pool::{HealthState, Membership, Operator, Server};
use std::sync::Arc;
use std::time::Instant;
use tracing::info;

/// A server that may have requests past its deadline.
#[derive(Debug)]
pub(super) struct ClosingServer {
    server: Arc<Server>,
    /// Who has removed it, if it is that.
    by: &'static str,
}

impl Control {
    /// Looks after what a server still has, once: one that has turned may be removed too.
    pub(super) fn keep_closing(&mut self, server: Arc<Server>) {
        if !self.closing.iter().any(|closing| Arc::ptr_eq(&closing.server, &server)) {
            self.closing.push(ClosingServer { server, by: "reload" });
        }
    }

    /// The same for one that was removed, and by whom.
    pub(super) fn keep_leaving(&mut self, server: &Arc<Server>, by: &'static str) {
        self.closing.retain(|closing| !Arc::ptr_eq(&closing.server, server));
        self.closing.push(ClosingServer { server: Arc::clone(server), by });
    }

    /// Cuts what still runs on servers past their deadline.
    pub(super) fn reap(&mut self) {
        self.lingering.retain(|_, bound| Arc::strong_count(&bound.held) > 1);
        self.moved_away.retain(|(_, held)| Arc::strong_count(held) > 1);
        if self.closing.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut gone = false;
        let (workers, failing_open, live) = (&self.workers, &self.failing_open, &self.live);
        let before = &self.before;
        self.closing.retain(|closing| {
            let server = &closing.server;
            let (state, in_flight) = (server.state(), server.in_flight());
            let leaving = state.membership == Membership::Leaving;
            if in_flight == 0 {
                gone |= leaving;
                if leaving {
                    live.record(
                        LedgerEntry::new(EventKind::Membership, closing.by, "nothing is in flight any more")
                            .of(server.pool(), server.name())
                            .change("leaving", "gone"),
                    );
                }
                return false;
            }
            // Failing open, a down server is in use on purpose.
            let is_used = state.admin != Operator::Maint && failing_open.contains(server.pool());
            // What the process before us has there is not ours to close.
            let has_own = before.as_ref().is_none_or(|before| before.has_on(server.id()) < in_flight);
            if has_own && server.must_close(now) && (leaving || !is_used) {
                let (server_id, why) = (server.id(), Why::Drained);
                info!(pool = %server.pool(), server = %server.name(), in_flight,
                    "drain timeout passed; closing what is left");
                workers.tell_all(|| WorkerCommand::CloseLeased { server: server_id, why });
            }
            leaving || state.health != HealthState::Up || state.admin == Operator::Maint
        });
        if gone {
            self.live.metrics.forget(&self.live.snapshot());
        }
    }
}
