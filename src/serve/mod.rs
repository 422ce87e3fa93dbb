//! Serves requests and connections: the pure core's decisions carried out, from HTTP/1.1 to HTTP/1.1
//! (`h1`), where a side speaks HTTP/2 or may (`h2`), for HTTP/1.0 through Pingora's hooks (`http`), for what is not HTTP
//! from socket to socket (`tcp`, `udp`).

mod answer;
mod asked;
mod call;
mod engine;
mod exchange;
mod forwarding;
mod grpc;
mod h1;
mod h2;
mod http;
mod introduction;
mod kept;
mod refused;
mod response;
mod shared;
mod tcp;
mod udp;

pub(crate) use http::Proxy;
pub(crate) use refused::Reporter;
pub(crate) use tcp::Carrier;

use crate::config::plan::{PoolTimeouts, ServerProtocol};
use crate::control::Live;
use crate::edge::{Addresses, Conn, Head, Next, Seat, Serve, Stream};
use crate::pool::Server;
use crate::snapshot::Entry;
use asked::Asked;
use exchange::Exchange;
use pingora::proxy::HttpProxy;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What one core serves requests with.
pub(crate) struct Service {
    live: Arc<Live>,
    engine: Arc<HttpProxy<Proxy>>,
}

impl Service {
    pub(crate) fn new(live: &Arc<Live>, engine: HttpProxy<Proxy>) -> Self {
        Self { live: Arc::clone(live), engine: Arc::new(engine) }
    }
}

impl Serve for Service {
    type Hooks = Proxy;

    fn engine(&self) -> &Arc<HttpProxy<Proxy>> {
        &self.engine
    }

    /// HTTP/1.0, whose responses have no chunks, unless servers speak HTTP/2.
    fn is_for_engine(&self, seat: &Seat, head: &Head) -> bool {
        if head.is_http_11() {
            return false;
        }
        let snapshot = self.live.snapshot();
        let id = seat.client.listener;
        let Some(listener) = snapshot.listener(id).filter(|listener| listener.has_h2) else { return true };
        let pool = match &listener.entry {
            Entry::Pool(pool) => Some(pool),
            Entry::Routes(table) => table.find(&Asked::from(head).for_route()).map(|found| &found.rule.pool),
            Entry::RedirectToHttps => None,
        };
        pool.is_none_or(|pool| pool.plan.protocol == ServerProtocol::Http1)
    }

    async fn serve(&self, conn: &mut Conn, head: Head) -> Next {
        let mut exchange = Exchange::begin(&self.live, &conn.seat);
        let admitted = exchange.admit(&Asked::from(&head));
        let may_be_h2 = exchange.pool().is_some_and(|pool| match pool.plan.protocol {
            ServerProtocol::Http1 => false,
            ServerProtocol::H2 => true,
            // Upgrades are for HTTP/1.1, which is offered alone then.
            ServerProtocol::Auto => !head.asks_for_websocket(),
        });
        // Boxed: most requests need less than this.
        match may_be_h2 || !head.is_http_11() {
            true => Box::pin(h2::serve_h1(exchange, admitted, conn, &head)).await,
            false => h1::serve(exchange, admitted, conn, &head).await,
        }
    }

    async fn serve_stream(&self, seat: Arc<Seat>, stream: Stream, addresses: Addresses) {
        h2::serve(&self.live, seat, stream, addresses).await;
    }
}

/// How long an idle connection to a server is kept: its own idea of that (`Keep-Alive: timeout=5`), less what a
/// request takes to get there, if it is shorter than ours.
fn keepalive(timeouts: &PoolTimeouts, server: &Server) -> Duration {
    match server.keepalive_hint.load(Relaxed) {
        0 => timeouts.keepalive,
        hint => timeouts.keepalive.min(Duration::from_secs(u64::from(hint)) - Duration::from_millis(500)),
    }
}
