//! What the two ends of an exchange know of each other: who the client is, and how the exchange stands.

use super::listener_state::ListenerState;
use super::watch::Watched;
use crate::config::plan::Name;
use crate::tls::ClientIdentity;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who is at the other end; written once, shared by everything that serves the connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// The listener's stable id.
    pub(crate) listener: u32,
    pub(crate) listener_state: Arc<ListenerState>,
    /// `None` for a unix socket.
    pub(crate) ip: Option<IpAddr>,
    /// The address as logs and forwarding headers have it: `192.0.2.7`, or `unix`.
    pub(crate) text: String,
    /// The TLS version, if TLS ends here: `TLSv1.3`.
    pub(crate) tls: Option<&'static str>,
    /// Who it is by its certificate, if it has shown one.
    pub(crate) identity: Option<Arc<ClientIdentity>>,
    /// The servers that its first requests went to.
    pub(crate) servers: ConnectionServers,
}

/// The servers that a connection's first requests went to, by their pools: further ones follow, where clients are bound to
/// theirs.
#[derive(Debug, Default)]
pub(crate) struct ConnectionServers(Mutex<Vec<(Name, u32)>>);

impl ConnectionServers {
    /// By its id.
    pub(crate) fn of(&self, pool: &Name) -> Option<u32> {
        self.all().iter().find(|(known, _)| known == pool).map(|(_, server)| *server)
    }

    pub(crate) fn set(&self, pool: &Name, server: u32) {
        let mut all = self.all();
        match all.iter_mut().find(|(known, _)| known == pool) {
            Some((_, known)) => *known = server,
            None => all.push((Name::clone(pool), server)),
        }
    }

    /// All requests of a connection are served by its own core, so nobody is ever waited for.
    fn all(&self) -> MutexGuard<'_, Vec<(Name, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// What answers say in Strict-Transport-Security, over TLS only (RFC 6797 section 7.2).
    pub(crate) fn hsts(&self) -> Option<String> {
        self.tls?;
        self.listener_state.plan.load().tls.as_ref()?.hsts.clone()
    }
}

/// What the two ends of an exchange tell each other: the connection below, and what serves its requests above.
#[derive(Debug)]
pub(crate) struct RequestState {
    pub(crate) client: Arc<Client>,
    pub(crate) watch: Watched,
    /// The response's head is out, so an interruption can no longer be answered with a status.
    pub(crate) answered: AtomicBool,
    /// A request was taken over; what ends before that is logged by the edge.
    pub(crate) taken: AtomicBool,
    /// Its head is longer than others of its listener may be, as that of a PURGE is that may purge; no server gets it.
    pub(crate) has_long_head: AtomicBool,
}

impl RequestState {
    pub(crate) fn new(client: Arc<Client>, watch: Watched) -> Self {
        let flag = || AtomicBool::new(false);
        Self { client, watch, answered: flag(), taken: flag(), has_long_head: flag() }
    }

    /// Forgets the exchange before.
    pub(crate) fn renew(&self) {
        self.answered.store(false, Relaxed);
        self.taken.store(false, Relaxed);
    }
}
