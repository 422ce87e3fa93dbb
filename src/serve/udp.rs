//! Leads UDP clients to servers: asks the core where to, opens a socket to the server, and keeps the account.

use super::call::Call;
use super::tcp::RawService;
use crate::access_log::Why;
use crate::control::Live;
use crate::dial::own_resource;
use crate::edge::ConnectionTask;
use crate::edge::udp::{self, NewSession, ServeUdp, Session, SessionTarget};
use crate::metrics::{Routed, UdpSeries};
use crate::pool::{Lease, Outcome, Pool, Query, RetryReason, Tried};
use crate::select::consistent_hash::hash;
use crate::snapshot::Entry;
use crate::units::Address;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tracing::debug;

impl ServeUdp for RawService {
    fn open_session(&self, new: NewSession) -> Option<(Arc<Session>, ConnectionTask)> {
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
        let session = Session::new(new, led);
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
    let Entry::Pool(pool) = &listener.entry else { return Err(Why::NoRoute) };
    call.pool = Some(pool.name.clone());
    call.routed = Routed::Pool;
    Ok(Arc::clone(pool))
}

/// Opens a socket to a server that is leased, to the next one if there is no way to it.
fn open(call: &mut Call<UdpSeries>, pool: &Pool) -> Result<(UdpSocket, u32, SocketAddr), Why> {
    let query =
        Query { key: pool.hash_key().map(|_| hash(call.client.text.as_bytes())), entropy: fastrand::u64(..) };
    let mut tried = Tried::new();
    let refused = udp::refused_lately();
    let mut willing = Tried::new();
    let members = pool.members.iter().enumerate().filter(|(_, member)| refused.contains(&member.server.id()));
    // Mostly none; otherwise the pool is looked through once.
    if !refused.is_empty() {
        members.for_each(|(index, _)| willing.insert(index));
    }
    let mut failed = None;
    loop {
        let lease = match pick(pool, &query, &mut tried, &mut willing) {
            Ok(lease) => lease,
            Err(why) => return Err(failed.unwrap_or(why)),
        };
        if failed.is_some() {
            pool.stats.count_retry(RetryReason::Connect);
        }
        let server = Arc::clone(lease.server());
        call.begin_try(lease);
        let Address::Inet(address) = *server.address() else { return Err(Why::Internal) };
        let error = match udp::connect(address) {
            Ok(socket) => return Ok((socket, server.id(), address)),
            Err(error) => error,
        };
        // What we lack ourselves no other server has.
        if let Some(what) = own_resource(&error) {
            call.detail = Some(what);
            call.end_try(&Outcome::of(Why::OwnResources.result()));
            return Err(Why::OwnResources);
        }
        let retry = pool.plan.retries.on.connect && call.tries <= pool.plan.retries.max;
        debug!(pool = %pool.name, server = %server.name(), %error, retry, "cannot open a socket to it");
        call.end_try(&Outcome::of(Why::ConnectFailed.result()));
        if !retry {
            return Err(Why::ConnectFailed);
        }
        failed = Some(Why::ConnectFailed);
    }
}

/// Of the servers that have not refused lately, and if that leaves none, of all.
fn pick(pool: &Pool, query: &Query, tried: &mut Tried, willing: &mut Tried) -> Result<Lease, Why> {
    if willing.len() > tried.len()
        && let Ok(lease) = pool.pick(query, willing)
    {
        tried.insert(lease.index());
        return Ok(lease);
    }
    let lease = pool.pick(query, tried).map_err(Why::from)?;
    willing.insert(lease.index());
    Ok(lease)
}

/// A session and its account.
struct Line {
    session: Arc<Session>,
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
