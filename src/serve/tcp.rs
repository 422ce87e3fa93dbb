//! Carries connections that are not HTTP: asks the core where to, opens the connection to the server, and lets the
//! bytes pass.

use super::dial::dial;
use super::passthrough::Passthrough;
use super::tries;
use crate::access_log::Why;
use crate::client_hello::Hello;
use crate::control::Live;
use crate::edge::{
    ClientClose, ConnectionTask, RawConnection, RawRelay, ServeRaw, Socket, Watched, close_of,
};
use crate::metrics::Routed;
use crate::pool::{Outcome, Pool, RetryReason, Tries, TryResult};
use crate::proxy_header::{self, ProxyHeader};
use crate::snapshot::ListenerTarget;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::ReadBuf;
use tracing::debug;

/// Takes connections over from the edge.
pub(crate) struct RawService(pub(crate) Arc<Live>);

impl ServeRaw for RawService {
    fn serve_raw(&self, connection: RawConnection) -> ConnectionTask {
        let passthrough = Passthrough::new(&self.0, &connection.client);
        Box::pin(RawTask::Opening(Box::pin(open(Arc::clone(&self.0), passthrough, connection))))
    }
}

/// A connection's two phases, each with room of its own that is given back when it is over: there may be thousands
/// of open connections that say nothing.
enum RawTask {
    Opening(Pin<Box<dyn Future<Output = Option<Box<OpenConnection>>> + Send>>),
    Open(Box<OpenConnection>),
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
async fn open(
    live: Arc<Live>,
    mut passthrough: Passthrough,
    connection: RawConnection,
) -> Option<Box<OpenConnection>> {
    let RawConnection { mut socket, watch, source, destination, mut first, hello, .. } = connection;
    passthrough.protocol = if hello.is_some() { "TLS" } else { "TCP" };
    let about = ProxyHeader::client(source, destination.or_else(|| socket.local_address()));
    let mut client = WaitingClient { socket: &mut socket, first: &mut first };
    let mut connected = find(&live, &mut passthrough, hello.as_ref(), &watch, &mut client, &about).await;
    if let Err(why) = connected
        && may_go_elsewhere(&live, &passthrough, why)
        && watch.interrupted().is_none()
    {
        connected = find(&live, &mut passthrough, hello.as_ref(), &watch, &mut client, &about).await;
    }
    let (pool, server, proxy_header) = match connected {
        Ok(connected) => connected,
        Err(why) => {
            passthrough.end(why);
            return None;
        }
    };
    watch.quiet(pool.plan.timeouts.tunnel_idle, Why::TunnelIdle);
    let read = first.len() as u64;
    let first = match proxy_header {
        Some(mut begin) if server.is_plain() => {
            begin.extend(first);
            begin
        }
        _ => first,
    };
    let series = passthrough.series();
    let relay = RawRelay::new((socket, server), (first, read), watch, series);
    Some(Box::new(OpenConnection { relay, passthrough }))
}

/// Finds the pool, and a server of it that takes the connection.
async fn find(
    live: &Live,
    passthrough: &mut Passthrough,
    hello: Option<&Hello>,
    watch: &Watched,
    client: &mut WaitingClient<'_>,
    about: &ProxyHeader,
) -> Result<(Arc<Pool>, Socket, Option<Vec<u8>>), Why> {
    let pool = find_pool(live, passthrough, hello)?;
    let proxy_header = pool.plan.proxy_protocol.map(|version| proxy_header::write(version, *about));
    let server = connect(live, passthrough, &pool, watch, client, proxy_header.as_deref()).await?;
    Ok((pool, server, proxy_header))
}

/// Whether what no server has been tried for may have one by now: a reload has come, or its pool has a fallback and has lost all
/// servers while it waited. Who has waited in vain does not begin again.
fn may_go_elsewhere(live: &Live, passthrough: &Passthrough, why: Why) -> bool {
    let snapshot = live.snapshot();
    let is_empty = matches!(why, Why::AllUnhealthy | Why::NoneReady | Why::NoServers);
    let has_fallback = || {
        let pool = passthrough.pool.as_deref().and_then(|pool| snapshot.pool(pool));
        is_empty && pool.is_some_and(|pool| pool.plan.fallback.is_some())
    };
    // A client that has left goes nowhere.
    let is_untried = passthrough.attempt.number() == 0 && (is_empty || why == Why::AllFull);
    is_untried && (snapshot.edition != passthrough.edition || has_fallback())
}

/// The pool that the listener, or the name the client asks for, leads to.
fn find_pool(live: &Live, passthrough: &mut Passthrough, hello: Option<&Hello>) -> Result<Arc<Pool>, Why> {
    let snapshot = live.snapshot();
    (passthrough.generation, passthrough.edition) = (snapshot.generation, snapshot.edition);
    let id = passthrough.client.listener;
    let listener = snapshot.listener(id).or_else(|| snapshot.parting_listener(id)).ok_or(Why::Shutdown)?;
    passthrough.location = listener.geo.as_ref().map(|geo| geo.locate(passthrough.client.ip));
    let found = match (&listener.target, hello) {
        (ListenerTarget::Pool(pool), _) => Some((pool, None, Routed::Pool)),
        (ListenerTarget::Routes(table), Some(hello)) => {
            let found =
                table.find_tls(hello, (passthrough.client.ip, passthrough.location.unwrap_or_default()));
            found.and_then(|found| {
                passthrough.priority = found.rule.priority;
                Some((found.rule.pool()?, Some(found.rule.name.clone()), Routed::Rule(found.place)))
            })
        }
        // A reload has made another kind of listener of it since.
        (ListenerTarget::Routes(_), None) | (ListenerTarget::RedirectToHttps, _) => None,
    };
    passthrough.name = hello.and_then(|hello| hello.name.clone());
    let Some((pool, route, routed)) = found else {
        passthrough.detail = passthrough.name.is_none().then_some("no server name");
        return Err(Why::NoRoute);
    };
    passthrough.route = route;
    passthrough.routed = routed;
    let (pool, fallback_from) = tries::or_fallback(live, pool);
    (passthrough.pool, passthrough.fallback_from) = (Some(pool.name.clone()), fallback_from);
    Ok(pool)
}

/// Opens a connection to one server after the other, as the pool allows. None has seen a byte, so none of this
/// is charged to the retry budget.
async fn connect(
    live: &Live,
    passthrough: &mut Passthrough,
    pool: &Arc<Pool>,
    watch: &Watched,
    client: &mut WaitingClient<'_>,
    proxy_header: Option<&[u8]>,
) -> Result<Socket, Why> {
    let query = tries::query_of_client(pool, &passthrough.client.text);
    let mut tries = Tries::new(Arc::clone(pool), query).waiting_as(passthrough.priority);
    let Passthrough { attempt, queued, .. } = passthrough;
    let begun = tries::begin(&mut tries, attempt, watch, queued, None);
    let mut server = client.unless_left(begun).await?;
    loop {
        // A reload while it waited may have brought other settings.
        let pool = Arc::clone(tries.pool());
        let secured = pool.origination.load_full().map(|origination| {
            (
                Arc::clone(&origination.raw),
                origination.server_name(server.address(), server.host().as_deref()),
            )
        });
        // Before TLS it goes in plain text; otherwise it goes with the client's first bytes.
        let proxy_header = proxy_header.filter(|_| secured.is_some());
        let connecting =
            dial(live, server.address(), pool.plan.timeouts.connect, proxy_header, (None, secured));
        let connected = watch.heed(connecting).await?;
        let took = passthrough.attempt.elapsed(Instant::now());
        let error = match connected {
            Ok(socket) => {
                passthrough.connect = Some(took);
                // What goes on over it is no business of ours.
                passthrough.attempt.judge(&Outcome::of(TryResult::Connected).after(took));
                return Ok(socket);
            }
            Err(error) => error,
        };
        let outcome = Outcome::of(error.why().result()).after(took);
        let Passthrough { attempt, queued, .. } = passthrough;
        let again = tries::again(&mut tries, attempt, watch, queued, RetryReason::Connect, &outcome);
        let next = client.unless_left(again).await?;
        debug!(pool = %pool.name, server = %server.name(), %error, retry = next.is_some(), "cannot connect");
        match next {
            Some(next) => {
                server = next;
                if passthrough.is_earlier(error.why()) {
                    pool.stats.count_earlier_connect_retry();
                }
            }
            None => {
                passthrough.attempt.end(&outcome);
                passthrough.detail = error.detail();
                return Err(error.why());
            }
        }
    }
}

/// What a client may send ahead while it waits for a server.
const AHEAD: usize = 64 * 1024;

/// A client that has no server yet, and what it has sent so far.
struct WaitingClient<'a> {
    socket: &'a mut Socket,
    first: &'a mut Vec<u8>,
}

impl WaitingClient<'_> {
    /// Does what may take long, unless the client leaves meanwhile.
    async fn unless_left<T>(&mut self, work: impl Future<Output = Result<T, Why>>) -> Result<T, Why> {
        let mut work = pin!(work);
        let mut has_waited = false;
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Pending => {
                has_waited = true;
                self.poll_left(cx).map(|()| Err(Why::ClientAborted))
            }
            // Its turn may come just after it has left.
            Poll::Ready(Ok(_)) if has_waited && self.has_left(cx) => Poll::Ready(Err(Why::ClientAborted)),
            done => done,
        })
        .await
    }

    /// Whether it has, though nothing has told us yet.
    fn has_left(&mut self, cx: &mut Context<'_>) -> bool {
        match close_of(&*self.socket) {
            // What it has said before may be there to be read.
            Some(ClientClose::Fin) => self.poll_left(cx).is_ready(),
            close => close.is_some(),
        }
    }

    /// Ready when it has left: by a reset, or by an end before it has said anything. One that has may await its answer
    /// behind it.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 4096];
        while self.first.len() < AHEAD {
            let mut read = ReadBuf::new(&mut bytes);
            match ready!(self.socket.poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => self.first.extend_from_slice(read.filled()),
                Ok(()) if !self.first.is_empty() => break,
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

/// An open connection between a client and a server.
struct OpenConnection {
    relay: RawRelay,
    passthrough: Passthrough,
}

impl OpenConnection {
    fn end(&mut self, why: Why) {
        self.passthrough.passed = self.relay.passed();
        self.passthrough.end(why);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.passthrough.passed = self.relay.passed();
    }
}
