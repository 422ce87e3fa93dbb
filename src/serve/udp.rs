//! Leads UDP clients to servers: asks the core where to, opens a socket to the server, and keeps the account.

use super::passthrough::Passthrough;
use super::tcp::RawService;
use super::tries::{or_fallback, query_of_client};
use crate::access_log::Why;
use crate::control::Live;
use crate::dial::own_resource;
use crate::edge::ConnectionTask;
use crate::edge::udp::{self, DatagramSession, NewSession, ServeUdp, SessionTarget};
use crate::metrics::{Routed, UdpSeries};
use crate::pool::{NextTry, Outcome, Pool, RetryReason, Tries};
use crate::snapshot::ListenerTarget;
use crate::units::Address;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::UdpSocket;
use tracing::debug;

impl ServeUdp for RawService {
    fn open_session(&self, new: NewSession) -> Option<(Arc<DatagramSession>, ConnectionTask)> {
        let mut passthrough = Passthrough::new(&self.0, &new.client);
        let found = destination(&self.0, &mut passthrough)
            .and_then(|pool| open(&mut passthrough, &pool).map(|connected| (pool, connected)));
        let (pool, (socket, server, address)) = match found {
            Ok(found) => found,
            Err(why) => {
                passthrough.end(why);
                return None;
            }
        };
        let drain_timeout = pool.plan.drain_timeout;
        let led = SessionTarget { socket, server, address, series: passthrough.series(), drain_timeout };
        let session = DatagramSession::new(new, led);
        let mut open = OpenSession { session: Arc::clone(&session), passthrough };
        let carried = Box::pin(async move {
            let why = open.session.run().await;
            open.end(why);
        });
        Some((session, carried))
    }
}

/// The pool that the listener leads to.
fn destination(live: &Live, passthrough: &mut Passthrough<UdpSeries>) -> Result<Arc<Pool>, Why> {
    let snapshot = live.snapshot();
    (passthrough.generation, passthrough.edition) = (snapshot.generation, snapshot.edition);
    let id = passthrough.client.listener;
    let listener = snapshot.listener(id).or_else(|| snapshot.parting_listener(id)).ok_or(Why::Shutdown)?;
    let ListenerTarget::Pool(pool) = &listener.target else { return Err(Why::NoRoute) };
    let (pool, fallback_from) = or_fallback(live, pool);
    (passthrough.pool, passthrough.fallback_from) = (Some(pool.name.clone()), fallback_from);
    passthrough.routed = Routed::Pool;
    Ok(pool)
}

/// Opens a socket to a server that is leased, to the next one if there is no way to it. A datagram waits for nothing.
fn open(
    passthrough: &mut Passthrough<UdpSeries>,
    pool: &Arc<Pool>,
) -> Result<(UdpSocket, u32, SocketAddr), Why> {
    let query = query_of_client(pool, &passthrough.client.text);
    let mut tries = Tries::new(Arc::clone(pool), query).avoiding(&udp::refused_lately());
    let mut server = Arc::clone(tries.begin(&mut passthrough.attempt, Instant::now())?);
    loop {
        let Address::Inet(address) = *server.address() else { return Err(Why::Internal) };
        // Nobody knows whether what is sent there arrives.
        passthrough.attempt.is_no_evidence();
        let error = match udp::connect(address) {
            Ok(socket) => return Ok((socket, server.id(), address)),
            Err(error) => error,
        };
        let lacking = own_resource(&error);
        let why = if lacking.is_some() { Why::OwnResources } else { Why::ConnectFailed };
        let outcome = Outcome::of(why.result());
        let next = tries.again(&mut passthrough.attempt, RetryReason::Connect, &outcome, Instant::now());
        let is_retried = matches!(next, NextTry::At(_));
        debug!(pool = %pool.name, server = %server.name(), %error, retry = is_retried, "cannot open a socket to it");
        match next {
            NextTry::At(next) => server = Arc::clone(next),
            NextTry::None | NextTry::Waits => {
                passthrough.attempt.end(&outcome);
                passthrough.detail = lacking;
                return Err(why);
            }
        }
    }
}

/// A session and its account.
struct OpenSession {
    session: Arc<DatagramSession>,
    passthrough: Passthrough<UdpSeries>,
}

impl OpenSession {
    fn end(&mut self, why: Why) {
        self.passthrough.passed = self.session.passed();
        self.passthrough.end(why);
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.passthrough.passed = self.session.passed();
    }
}
