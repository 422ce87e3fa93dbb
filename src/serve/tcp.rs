//! Carries connections that are not HTTP: asks the core where to, opens the connection to the server, and lets the
//! bytes pass.

use super::call::Call;
use super::dial::dial;
use super::tries;
use crate::access_log::Why;
use crate::client_hello::Hello;
use crate::control::Live;
use crate::edge::{ConnectionTask, RawConnection, RawRelay, ServeRaw, Socket, Watched};
use crate::metrics::Routed;
use crate::pool::{Outcome, Pool, RetryReason, Tries};
use crate::proxy_header::{self, ProxyHeader};
use crate::snapshot::ListenerTarget;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tracing::debug;

/// Takes connections over from the edge.
pub(crate) struct RawService(pub(crate) Arc<Live>);

impl ServeRaw for RawService {
    fn serve_raw(&self, connection: RawConnection) -> ConnectionTask {
        let call = Call::new(&self.0, &connection.client);
        Box::pin(RawTask::Opening(Box::pin(open(Arc::clone(&self.0), call, connection))))
    }
}

/// A connection's two phases, each with room of its own that is given back when it is over: there may be thousands
/// of open connections that say nothing.
enum RawTask {
    Opening(Pin<Box<dyn Future<Output = Option<Box<Line>>> + Send>>),
    Open(Box<Line>),
}

impl Future for RawTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Self::Opening(opening) = this {
            match ready!(opening.as_mut().poll(cx)) {
                Some(line) => *this = Self::Open(line),
                None => return Poll::Ready(()),
            }
        }
        let Self::Open(line) = this else { return Poll::Ready(()) };
        let why = ready!(line.relay.poll(cx));
        line.end(why);
        Poll::Ready(())
    }
}

/// Finds the pool and opens a connection to one of its servers.
async fn open(live: Arc<Live>, mut call: Call, connection: RawConnection) -> Option<Box<Line>> {
    let RawConnection { socket, watch, source, destination, first, hello, .. } = connection;
    call.protocol = if hello.is_some() { "TLS" } else { "TCP" };
    let connected = match find_pool(&live, &mut call, hello) {
        Ok(pool) => {
            let introduction = pool.plan.proxy_protocol.map(|version| {
                let about = ProxyHeader::client(source, destination.or_else(|| socket.local_address()));
                proxy_header::write(version, about)
            });
            let server = connect(&live, &mut call, &pool, &watch, introduction.as_deref()).await;
            server.map(|server| (pool, server, introduction))
        }
        Err(why) => Err(why),
    };
    let (pool, server, introduction) = match connected {
        Ok(connected) => connected,
        Err(why) => {
            call.end(why);
            return None;
        }
    };
    watch.quiet(pool.plan.timeouts.tunnel_idle, Why::TunnelIdle);
    let read = first.len() as u64;
    let first = match introduction {
        Some(mut begin) if server.is_plain() => {
            begin.extend(first);
            begin
        }
        _ => first,
    };
    let series = call.series();
    let relay = RawRelay::new((socket, server), (first, read), watch, series);
    Some(Box::new(Line { relay, call }))
}

/// The pool that the listener, or the name the client asks for, leads to.
fn find_pool(live: &Live, call: &mut Call, hello: Option<Hello>) -> Result<Arc<Pool>, Why> {
    let snapshot = live.snapshot();
    (call.generation, call.edition) = (snapshot.generation, snapshot.edition);
    let id = call.client.listener;
    let listener = snapshot.listener(id).or_else(|| snapshot.parting_listener(id)).ok_or(Why::Shutdown)?;
    let found = match (&listener.target, &hello) {
        (ListenerTarget::Pool(pool), _) => Some((pool, None, Routed::Pool)),
        (ListenerTarget::Routes(table), Some(hello)) => {
            let found = table.find_tls(hello);
            found.map(|found| (&found.rule.pool, Some(found.rule.name.clone()), Routed::Rule(found.place)))
        }
        // A reload has made another kind of listener of it since.
        (ListenerTarget::Routes(_), None) | (ListenerTarget::RedirectToHttps, _) => None,
    };
    call.name = hello.and_then(|hello| hello.name);
    let Some((pool, route, routed)) = found else {
        call.detail = call.name.is_none().then_some("no server name");
        return Err(Why::NoRoute);
    };
    call.route = route;
    call.routed = routed;
    call.pool = Some(pool.name.clone());
    Ok(Arc::clone(pool))
}

/// Opens a connection to one server after the other, as the pool allows. None has seen a byte, so none of this
/// is charged to the retry budget.
async fn connect(
    live: &Live,
    call: &mut Call,
    pool: &Arc<Pool>,
    watch: &Watched,
    introduction: Option<&[u8]>,
) -> Result<Socket, Why> {
    let mut tries = Tries::new(Arc::clone(pool), tries::query_of_client(pool, &call.client.text));
    let mut server = Arc::clone(tries::begin(&mut tries, &mut call.attempt, watch).await?);
    loop {
        let secured = pool.origination.load_full().map(|origination| {
            (
                Arc::clone(&origination.raw),
                origination.server_name(server.address(), server.host().map(|host| &**host)),
            )
        });
        // Before TLS it goes in plain text; otherwise it goes with the client's first bytes.
        let introduction = introduction.filter(|_| secured.is_some());
        let connecting = dial(live, server.address(), pool.plan.timeouts.connect, introduction, secured);
        let connected = watch.heed(connecting).await?;
        let took = call.attempt.elapsed(Instant::now());
        let error = match connected {
            Ok(socket) => {
                call.connect = Some(took);
                return Ok(socket);
            }
            Err(error) => error,
        };
        let outcome = Outcome::of(error.why().result()).after(took);
        let next = tries::again(&mut tries, &mut call.attempt, watch, RetryReason::Connect, &outcome).await;
        debug!(pool = %pool.name, server = %server.name(), %error, retry = next.is_some(), "cannot connect");
        match next {
            Some(next) => server = Arc::clone(next),
            None => {
                call.attempt.end(&outcome);
                call.detail = error.detail();
                return Err(error.why());
            }
        }
    }
}

/// An open connection between a client and a server.
struct Line {
    relay: RawRelay,
    call: Call,
}

impl Line {
    fn end(&mut self, why: Why) {
        self.call.passed = self.relay.passed();
        self.call.end(why);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.call.passed = self.relay.passed();
    }
}
