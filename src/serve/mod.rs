//! Serves requests and connections: the pure core's decisions carried out, from HTTP/1.1 to HTTP/1.1
//! (`h1`), where a side speaks HTTP/2 or may (`h2`), for what is not HTTP from socket to socket (`tcp`, `udp`).

mod answer;
mod asked;
mod call;
mod dial;
mod exchange;
mod forwarded;
mod forwarding;
mod grpc;
mod h1;
mod h2;
mod introduction;
mod kept;
mod refused;
mod shared;
mod tcp;
mod tries;
mod udp;

pub(crate) use h1::fuzzed;
pub(crate) use refused::Reporter;
pub(crate) use tcp::RawService;

use crate::config::plan::{self, ClientFin, PoolTimeouts, ProbePlan, ServerProtocol};
use crate::control::Live;
use crate::edge::{Addresses, AfterRequest, ClientClose, Conn, RequestState, Serve, Stream};
use crate::pool::Server;
use crate::units::Address;
use crate::wire::request_head::Head;
use asked::Asked;
use exchange::Exchange;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What one core serves requests with.
pub(crate) struct Service {
    live: Arc<Live>,
}

impl Service {
    pub(crate) fn new(live: &Arc<Live>) -> Self {
        Self { live: Arc::clone(live) }
    }
}

impl Serve for Service {
    async fn serve(&self, conn: &mut Conn, head: Head) -> AfterRequest {
        let mut exchange = Exchange::begin(&self.live, &conn.state);
        let admitted = exchange.admit(&Asked::from(&head));
        let may_be_h2 = exchange.pool().is_some_and(|pool| match pool.plan.protocol {
            ServerProtocol::Http1 => false,
            ServerProtocol::H2 => true,
            // Upgrades are for HTTP/1.1, which is offered alone then.
            ServerProtocol::Auto => exchange.upgrade(&head).is_none(),
        });
        // Boxed: most requests need less than this.
        match may_be_h2 {
            true => Box::pin(h2::serve_h1(exchange, admitted, conn, &head)).await,
            false => h1::serve(exchange, admitted, conn, &head).await,
        }
    }

    async fn serve_stream(&self, state: Arc<RequestState>, stream: Stream, addresses: Addresses) {
        h2::serve(&self.live, state, stream, addresses).await;
    }
}

/// The Host of a request that names none (HTTP/1.0): what the pool's HTTP probe asks for, or else the server's address.
fn own_host(pool: &plan::PoolPlan, address: &Address) -> String {
    let probed = match pool.health.as_ref().map(|health| &health.probe) {
        Some(ProbePlan::Http(probe)) => probe.host.clone(),
        _ => None,
    };
    probed.unwrap_or_else(|| match address {
        Address::Inet(address) => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    })
}

/// Whether a request ends with its client: a FIN once the response has begun says nothing about that.
fn is_cancelled_by(departure: ClientClose, client_fin: ClientFin, has_begun: bool) -> bool {
    match departure {
        ClientClose::Reset => true,
        ClientClose::Fin => !has_begun && client_fin == ClientFin::Cancel,
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
