//! Leads UDP clients to servers: asks the core where to, opens a socket to the server, and keeps the account.

use super::call::Call;
use super::tcp::RawService;
use super::tries::query_of_client;
use crate::access_log::Why;
use crate::control::Live;
use crate::dial::own_resource;
use crate::edge::ConnectionTask;
use crate::edge::udp::{self, DatagramSession, NewSession, ServeUdp, SessionTarget};
use crate::metrics::{Routed, UdpSeries};
use crate::pool::{Outcome, Pool, RetryReason, Tries};
use crate::snapshot::ListenerTarget;
use crate::units::Address;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::UdpSocket;
use tracing::debug;

impl ServeUdp for RawService {
    fn open_session(&self, new: NewSession) -> Option<(Arc<DatagramSession>, ConnectionTask)> {
        let mut call = Call::new(&self.0, &new.client);
        let found = destination(&self.0, &mut call)
            .and_then(|pool| open(&mut call, &pool).map(|connected| (pool, connected)));
        let (pool, (socket, server, address)) = match found {
            Ok(found) => found,
            Err(why) => {
                call.end(why);
                return None;
            }
        };
        let drain_timeout = pool.plan.drain_timeout;
        let led = SessionTarget { socket, server, address, series: call.series(), drain_timeout };
        let session = DatagramSession::new(new, led);
        let mut line = Line { session: Arc::clone(&session), call };
        let carried = Box::pin(async move {
            let why = line.session.run().await;
            line.end(why);
        });
        Some((session, carried))
    }
}

/// The pool that the listener leads to.
fn destination(live: &Live, call: &mut Call<UdpSeries>) -> Result<Arc<Pool>, Why> {
    let snapshot = live.snapshot();
    (call.generation, call.edition) = (snapshot.generation, snapshot.edition);
    let id = call.client.listener;
    let listener = snapshot.listener(id).or_else(|| snapshot.parting_listener(id)).ok_or(Why::Shutdown)?;
    let ListenerTarget::Pool(pool) = &listener.target else { return Err(Why::NoRoute) };
    call.pool = Some(pool.name.clone());
    call.routed = Routed::Pool;
    Ok(Arc::clone(pool))
}

/// Opens a socket to a server that is leased, to the next one if there is no way to it. A datagram waits for nothing.
fn open(call: &mut Call<UdpSeries>, pool: &Arc<Pool>) -> Result<(UdpSocket, u32, SocketAddr), Why> {
    let query = query_of_client(pool, &call.client.text);
    let mut tries = Tries::new(Arc::clone(pool), query).avoiding(&udp::refused_lately());
    let mut server = Arc::clone(tries.begin(&mut call.attempt, Instant::now())?);
    loop {
        let Address::Inet(address) = *server.address() else { return Err(Why::Internal) };
        let error = match udp::connect(address) {
            Ok(socket) => return Ok((socket, server.id(), address)),
            Err(error) => error,
        };
        let lacking = own_resource(&error);
        let why = if lacking.is_some() { Why::OwnResources } else { Why::ConnectFailed };
        let outcome = Outcome::of(why.result());
        let next = tries.again(&mut call.attempt, RetryReason::Connect, &outcome, Instant::now());
        debug!(pool = %pool.name, server = %server.name(), %error, retry = next.is_some(), "cannot open a socket to it");
        match next {
            Some(next) => server = Arc::clone(next),
            None => {
                call.attempt.end(&outcome);
                call.detail = lacking;
                return Err(why);
            }
        }
    }
}

/// A session and its account.
struct Line {
    session: Arc<DatagramSession>,
    call: Call<UdpSeries>,
}

impl Line {
    fn end(&mut self, why: Why) {
        self.call.passed = self.session.passed();
        self.call.end(why);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.call.passed = self.session.passed();
    }
}
