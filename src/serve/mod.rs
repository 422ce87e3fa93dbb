//! Serves requests and connections: the pure core's decisions carried out, for plain HTTP/1.1 by ourselves (`h1`),
//! for other HTTP through Pingora's hooks (`http`), for what is not HTTP from socket to socket (`tcp`, `udp`).

mod answer;
mod asked;
mod call;
mod engine;
mod exchange;
mod forwarding;
mod h1;
mod http;
mod introduction;
mod refused;
mod response;
mod tcp;
mod udp;

pub(crate) use http::Proxy;
pub(crate) use refused::Reporter;
pub(crate) use tcp::Carrier;

use crate::config::plan::{PoolTimeouts, ServerProtocol};
use crate::control::Live;
use crate::edge::{Conn, Head, Next, Seat, Serve};
use crate::pool::Server;
use crate::snapshot::Entry;
use asked::Asked;
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

    /// Where servers speak HTTP/2, or may. The engine carries no upgrade over that, so where servers may choose, upgrades
    /// are for us, who offer HTTP/1.1 only.
    fn is_for_engine(&self, seat: &Seat, head: &Head) -> bool {
        let snapshot = self.live.snapshot();
        let id = seat.client.listener;
        let Some(listener) = snapshot.listener(id).filter(|listener| listener.has_h2) else { return false };
        let pool = match &listener.entry {
            Entry::Pool(pool) => Some(pool),
            Entry::Routes(table) => table.find(&Asked::from(head).for_route()).map(|rule| &rule.pool),
            Entry::RedirectToHttps => None,
        };
        match pool.map(|pool| pool.plan.protocol) {
            None | Some(ServerProtocol::Http1) => false,
            Some(ServerProtocol::H2) => true,
            Some(ServerProtocol::Auto) => !head.asks_for_websocket(),
        }
    }

    async fn serve(&self, conn: &mut Conn, head: Head) -> Next {
        h1::serve(&self.live, conn, &head).await
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
