//! Receives what was accepted: finds out who the client is, holds it to its limit, and hands the connection to what
//! speaks the listener's protocol.

use super::conn::Conn;
use super::connection_limit::{ClientPermit, ConnectionPermit};
use super::h1::serve_connection;
use super::listener_state::ListenerState;
use super::plain_socket::PlainSocket;
use super::preface;
use super::raw::{RawConnection, ServeRaw};
use super::request_state::{Client, ConnectionServers, RequestState};
use super::socket::Socket;
use super::tls_handshake::{self, CompletedHandshake};
use super::watch::{Watch, Watched};
use super::{ConnectionTask, EdgeAnswer, EdgeObserver, Rejection, Serve, lingering_close};
use crate::access_log::Why;
use crate::client_hello::Hello;
use crate::config::plan::Protocol;
use crate::fields::FieldList;
use crate::metrics::Handshake;
use crate::proxy_header::Origin;
use crate::tls::{ClientIdentity, Termination};
use pingora::server::ShutdownWatch;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use tokio_util::task::TaskTracker;

/// Takes one listener's connections in, on one core.
pub(super) struct ConnectionAcceptor<S> {
    pub(super) listener_state: Arc<ListenerState>,
    pub(super) service: Arc<S>,
    pub(super) observer: Arc<dyn EdgeObserver>,
    pub(super) raw_service: Arc<dyn ServeRaw>,
    pub(super) tracker: TaskTracker,
    pub(super) goaway: ShutdownWatch,
}

impl<S> Clone for ConnectionAcceptor<S> {
    fn clone(&self) -> Self {
        Self {
            listener_state: Arc::clone(&self.listener_state),
            service: Arc::clone(&self.service),
            observer: Arc::clone(&self.observer),
            raw_service: Arc::clone(&self.raw_service),
            tracker: self.tracker.clone(),
            goaway: self.goaway.clone(),
        }
    }
}

/// A connection of which it is known whose it is.
struct AcceptedConnection {
    watch: Watched,
    /// `None` for a unix socket.
    source: Option<SocketAddr>,
    /// As a PROXY header has it.
    destination: Option<SocketAddr>,
    /// Read of it already.
    first: Vec<u8>,
    hello: Option<Hello>,
    /// By its certificate.
    identity: Option<Arc<ClientIdentity>>,
}

impl<S: Serve> ConnectionAcceptor<S> {
    /// Takes one connection in.
    pub(super) fn accept(
        &self,
        socket: PlainSocket,
        peer: Option<SocketAddr>,
        permits: (ConnectionPermit, ConnectionPermit),
    ) {
        self.listener_state.accepted.fetch_add(1, Relaxed);
        let watch = Watched::new(Watch::new(self.listener_state.id));
        let plan = self.listener_state.plan.load();
        let is_proxy = peer.is_some_and(|peer| {
            let ip = peer.ip().to_canonical();
            plan.proxies.contains(ip)
        });
        let first = Vec::new();
        let accepted =
            AcceptedConnection { watch, source: peer, destination: None, first, hello: None, identity: None };
        let is_tls = plan.protocol == Protocol::TlsPassthrough;
        let tls = self.listener_state.tls.load_full().filter(|_| plan.protocol == Protocol::Http);
        if !is_proxy && !is_tls && tls.is_none() {
            if let Some(permit) = self.admit(&accepted) {
                let served = self.serve(accepted, socket.into());
                self.tracker.spawn(async move {
                    let _passes = (permits, permit);
                    served.await;
                });
            }
            return;
        }
        accepted.watch.deadline(plan.timeouts.tls_handshake, Why::HandshakeTimeout);
        // Boxed, so that its room is given back before the connection is served.
        let handed_on = Box::pin(self.clone().read_what_comes_first(accepted, socket, is_proxy, is_tls, tls));
        self.tracker.spawn(async move {
            let _passes = permits;
            let handed_on = handed_on.await;
            if let Some((served, _pass)) = handed_on {
                served.await;
            }
        });
    }

    /// Reads what comes before the protocol, and begins to serve.
    async fn read_what_comes_first(
        self,
        mut accepted: AcceptedConnection,
        mut socket: PlainSocket,
        is_proxy: bool,
        is_tls: bool,
        tls: Option<Arc<Termination>>,
    ) -> Option<(ConnectionTask, Option<ClientPermit>)> {
        if is_proxy {
            let header = preface::header(&mut socket, &accepted.watch, &mut accepted.first).await;
            match header {
                Ok(Origin::Own) => {}
                Ok(Origin::Unix) => accepted.source = None,
                Ok(Origin::Inet { source, destination }) => {
                    (accepted.source, accepted.destination) = (Some(source), Some(destination));
                }
                Err(rejection) => return self.turn_away(&accepted, rejection),
            }
        }
        let permit = self.admit(&accepted)?;
        if is_tls {
            let hello = preface::hello(&mut socket, &accepted.watch, &mut accepted.first).await;
            match hello {
                Ok(hello) => accepted.hello = Some(hello),
                Err(rejection) => return self.turn_away(&accepted, rejection),
            }
        }
        let socket = match tls {
            Some(tls) => self.shake_hands(&mut accepted, socket, &tls).await?,
            None => socket.into(),
        };
        accepted.watch.no_deadline();
        Some((self.serve(accepted, socket), permit))
    }

    async fn shake_hands(
        &self,
        accepted: &mut AcceptedConnection,
        socket: PlainSocket,
        tls: &Termination,
    ) -> Option<Socket> {
        let (watch, mut first) = (&accepted.watch, std::mem::take(&mut accepted.first));
        let limit = &self.listener_state.handshake_limit;
        let shaken = tls_handshake::accept(socket, watch, &mut first, tls, limit).await;
        let counts = &self.listener_state.handshakes;
        match shaken {
            Ok(CompletedHandshake { mut secure, is_resumed, identity }) => {
                counts.count(if is_resumed { Handshake::Resumed } else { Handshake::Full });
                if secure.is_challenge() {
                    secure.say_the_end();
                    return None;
                }
                accepted.identity = identity;
                Some(secure.into())
            }
            Err(rejection) => {
                // Who left without a word did not try.
                let rejection = rejection?;
                counts.count(match rejection.why {
                    Why::ClientCertificate => Handshake::ClientCertificate,
                    _ => Handshake::Failed,
                });
                let client = self.client(accepted.source);
                match rejection.status {
                    0 => self.observer.turned_away(&client, rejection),
                    // It was a request, in plain text.
                    _ => {
                        let body_bytes = lingering_close::PLAIN_HTTP.len() as u64;
                        let answer = EdgeAnswer { body_bytes, ..EdgeAnswer::default() };
                        self.observer.refused(&client, (&first, FieldList::NONE), rejection, answer);
                    }
                }
                None
            }
        }
    }

    fn turn_away<T>(&self, accepted: &AcceptedConnection, rejection: Option<Rejection>) -> Option<T> {
        if let Some(rejection) = rejection {
            self.observer.turned_away(&self.client(accepted.source), rejection);
        }
        None
    }

    fn client(&self, source: Option<SocketAddr>) -> Client {
        let ip = source.map(|source| source.ip().to_canonical());
        let text = ip.map_or_else(|| "unix".to_owned(), |ip| ip.to_string());
        let listener_state = Arc::clone(&self.listener_state);
        let (tls, identity, servers) = (None, None, ConnectionServers::default());
        Client { listener: self.listener_state.id, listener_state, ip, text, tls, identity, servers }
    }

    /// `None` when the client has too many connections open already, or opens them too fast.
    fn admit(&self, accepted: &AcceptedConnection) -> Option<Option<ClientPermit>> {
        let ip = accepted.source.map(|source| source.ip().to_canonical());
        let Some(ip) = ip else { return Some(None) };
        match self.listener_state.admit(ip, Instant::now()) {
            Ok(permit) => Some(permit),
            Err(limit) => {
                self.listener_state.refused.fetch_add(1, Relaxed);
                let why = Why::ClientLimit;
                let rejection = Rejection { status: why.status(), why, detail: Some(limit) };
                self.observer.turned_away(&self.client(accepted.source), rejection);
                None
            }
        }
    }

    /// Begins to serve.
    fn serve(&self, accepted: AcceptedConnection, socket: Socket) -> ConnectionTask {
        let tls = socket.tls();
        let AcceptedConnection { watch, source, destination, first, hello, identity } = accepted;
        let client = Arc::new(Client { tls, identity, ..self.client(source) });
        let protocol = self.listener_state.plan.load().protocol;
        match protocol {
            // What waited to be accepted when a reload made a listener one of datagrams.
            Protocol::Tcp | Protocol::TlsPassthrough | Protocol::Udp => self
                .raw_service
                .serve_raw(RawConnection { socket, client, watch, source, destination, first, hello }),
            Protocol::Http => {
                let mut conn = Conn::new(socket, Arc::new(RequestState::new(client, watch)), source);
                conn.begin_with(first, destination);
                Box::pin(serve_connection(
                    Box::new(conn),
                    Arc::clone(&self.listener_state),
                    Arc::clone(&self.service),
                    Arc::clone(&self.observer),
                    self.goaway.clone(),
                ))
            }
        }
    }
}
