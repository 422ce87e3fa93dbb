//! Serves requests and connections: the pure core's decisions carried out. HTTP by one relay between a client's side and a
//! server's (`client`, `server`, `relay`), what is not HTTP from socket to socket (`tcp`, `udp`).

mod client;
mod compressors;
mod dial;
mod exchange;
pub(crate) mod fuzzed;
mod grpc;
mod kept;
mod passthrough;
mod piece;
mod recoding;
mod refused;
mod relay;
mod server;
mod session;
mod shared;
mod tcp;
mod time_slices;
mod tries;
mod udp;

pub(crate) use refused::Reporter;
pub(crate) use tcp::RawService;

use crate::config::plan::{self, ClientFin, PoolTimeouts, ProbePlan};
use crate::control::Live;
use crate::edge::{Addresses, AfterRequest, Client, Conn, RequestState, Serve, Stream};
use crate::filter::forwarding::Peer;
use crate::pool::Server;
use crate::units::Address;
use crate::wire::request::RequestView;
use crate::wire::request_head::Head;
use client::ClientSide as _;
use exchange::Exchange;
use relay::Relay;
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
        let exchange = Exchange::begin(&self.live, &conn.state);
        let client_fin = exchange.listener.as_ref().map_or(ClientFin::Cancel, |l| l.plan.client_fin);
        let (state, addresses) = (Arc::clone(&conn.state), conn.addresses());
        let client = client::Http1::new(conn, &head, client_fin);
        let mut relay = Relay::new(exchange, state, addresses, RequestView::from(&head), client);
        relay.run().await;
        relay.client.after()
    }

    async fn serve_stream(&self, state: Arc<RequestState>, stream: Stream, addresses: Addresses) {
        let exchange = Exchange::begin(&self.live, &state);
        let most_trailers = exchange.listener.as_ref().map_or(0, |l| l.plan.limits.request_headers);
        let most_trailers = usize::try_from(most_trailers).unwrap_or(usize::MAX);
        let (client, head) = client::Http2::new(stream, most_trailers);
        let request = RequestView::of_parts(&head, client.has_body());
        Relay::new(exchange, state, addresses, request, client).run().await;
    }
}

/// A client as forwarding fields speak of it.
fn peer(client: &Client) -> Peer<'_> {
    Peer {
        ip: client.ip,
        text: &client.text,
        is_secure: client.tls.is_some(),
        identity: client.identity.as_deref(),
    }
}

/// The Host of a request that names none (HTTP/1.0): what the pool's HTTP probe asks for, or else the server's address.
fn own_host(pool: &plan::PoolPlan, server: &Server) -> String {
    let probed = match pool.health.as_ref().map(|health| &health.probe) {
        Some(ProbePlan::Http(probe)) => probe.host.clone(),
        _ => None,
    };
    probed.unwrap_or_else(|| match (server.address(), server.host()) {
        (Address::Inet(address), Some(host)) => format!("{host}:{}", address.port()),
        (Address::Inet(address), None) => address.to_string(),
        (Address::Unix(_), _) => "localhost".to_owned(),
    })
}

/// How long an idle connection to a server is kept: its own idea of that (`Keep-Alive: timeout=5`), less what a
/// request takes to get there, if it is shorter than ours.
fn keepalive(timeouts: &PoolTimeouts, server: &Server) -> Duration {
    match server.keepalive_hint.load(Relaxed) {
        0 => timeouts.keepalive,
        hint => timeouts.keepalive.min(Duration::from_secs(u64::from(hint)) - Duration::from_millis(500)),
    }
}
