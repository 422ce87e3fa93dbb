//! The live side of a listener: its limits, its counters, and who is inside. It outlives reloads,
//! as long as the listener keeps its name.

use super::arrivals::Arrivals;
use super::connection_limit::{ClientPermit, Clients, ConnectionLimit};
use super::handshake_limit::HandshakeLimit;
use crate::config::plan;
use crate::limit::SoleClient;
use crate::metrics::{Abuses, Drops, Handshakes};
use crate::tls::Termination;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// The live side of a listener.
#[derive(Debug)]
pub(crate) struct ListenerState {
    /// The listener's stable id in snapshots.
    pub(crate) id: u32,
    pub(crate) name: plan::Name,
    /// Limits and timeouts in force; a reload replaces them under open connections.
    pub(crate) plan: ArcSwap<plan::ListenerPlan>,
    /// How TLS ends here, if it does; a reload replaces it for the connections to come.
    pub(crate) tls: ArcSwapOption<Termination>,
    pub(crate) handshakes: Handshakes,
    pub(crate) handshake_limit: HandshakeLimit,
    /// HTTP/2 connections that were cut off.
    pub(crate) abuse: Abuses,
    pub(crate) connection_limit: Arc<ConnectionLimit>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) arrivals: Arrivals,
    /// Of those whom limits count one by one.
    pub(crate) sole_client: SoleClient,
    pub(crate) accepted: AtomicU64,
    /// Connections closed because their client had too many, or opened them too fast.
    pub(crate) refused: AtomicU64,
    /// Datagrams that were not passed on.
    pub(crate) drops: Drops,
    /// The listener was removed or the process stops: no further requests on open connections.
    closing: AtomicBool,
}

impl ListenerState {
    pub(crate) fn new(id: u32, plan: plan::ListenerPlan, tls: Option<Arc<Termination>>) -> Arc<Self> {
        Arc::new(Self {
            tls: ArcSwapOption::new(tls),
            handshakes: Handshakes::default(),
            handshake_limit: HandshakeLimit::new(plan.limits.handshakes),
            abuse: Abuses::default(),
            id,
            name: plan.name.clone(),
            connection_limit: ConnectionLimit::new(limit(&plan)),
            clients: Arc::default(),
            arrivals: Arrivals::default(),
            sole_client: SoleClient::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            drops: Drops::default(),
            closing: AtomicBool::new(false),
            plan: ArcSwap::from_pointee(plan),
        })
    }

    /// Puts a reload's limits, timeouts and certificates in force.
    pub(crate) fn change(&self, plan: plan::ListenerPlan, tls: Option<Arc<Termination>>) {
        self.tls.store(tls);
        self.connection_limit.set_limit(limit(&plan));
        self.handshake_limit.set_limit(plan.limits.handshakes);
        self.plan.store(Arc::new(plan));
    }

    /// Whether a client may open another connection: so soon, and beside those that it has.
    pub(crate) fn admit(&self, client: IpAddr, now: Instant) -> Result<Option<ClientPermit>, &'static str> {
        let plan = self.plan.load();
        let limits = &plan.limits;
        if limits.new_connections.is_some_and(|limit| !self.arrivals.admit(client, limit, now)) {
            return Err("limits.new_connections_per_client");
        }
        let limit = limits.connections_per_client.map(NonZeroU32::get);
        let permit = limit.map(|limit| self.clients.acquire(client, limit));
        permit.map_or(Ok(None), |permit| permit.map(Some).ok_or("limits.connections_per_client"))
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }
}

fn limit(plan: &plan::ListenerPlan) -> u32 {
    plan.limits.connections.map_or(u32::MAX, NonZeroU32::get)
}
