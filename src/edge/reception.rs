//! Receives what was accepted: finds out who the client is, holds it to its limit, and hands the connection to what
//! speaks the listener's protocol.

use super::carry::{Caller, Carry};
use super::conn::{Client, Conn, Seat};
use super::conversation::converse;
use super::door::Door;
use super::gate::{ClientPass, Pass};
use super::preface;
use super::secure::{self, Shaken};
use super::socket::Socket;
use super::watch::{Watch, Watched};
use super::{Serve, Tell, Trouble};
use crate::access_log::Why;
use crate::client_hello::Hello;
use crate::config::plan::Protocol;
use crate::metrics::Handshake;
use crate::proxy_header::Origin;
use crate::tls::{Identity, Termination};
use pingora::server::ShutdownWatch;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio_util::task::TaskTracker;

/// One listener's reception on one core.
pub(super) struct Reception<S> {
    pub(super) door: Arc<Door>,
    pub(super) service: Arc<S>,
    pub(super) tell: Arc<dyn Tell>,
    pub(super) carry: Arc<dyn Carry>,
    pub(super) tracker: TaskTracker,
    pub(super) goaway: ShutdownWatch,
}

impl<S> Clone for Reception<S> {
    fn clone(&self) -> Self {
        Self {
            door: Arc::clone(&self.door),
            service: Arc::clone(&self.service),
            tell: Arc::clone(&self.tell),
            carry: Arc::clone(&self.carry),
            tracker: self.tracker.clone(),
            goaway: self.goaway.clone(),
        }
    }
}

/// A connection of which it is known whose it is.
struct Guest {
    socket: Socket,
    watch: Watched,
    /// `None` for a unix socket.
    source: Option<SocketAddr>,
    /// As a PROXY header has it.
    destination: Option<SocketAddr>,
    /// Read of it already.
    first: Vec<u8>,
    hello: Option<Hello>,
    /// By its certificate.
    identity: Option<Arc<Identity>>,
}

/// Serves a connection to its end.
type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<S: Serve> Reception<S> {
    /// Takes one connection in.
    pub(super) fn welcome(&self, socket: Socket, peer: Option<SocketAddr>, passes: (Pass, Pass)) {
        self.door.accepted.fetch_add(1, Relaxed);
        let watch = Watched::new(Watch::new(self.door.id));
        let plan = self.door.plan.load();
        let is_proxy = peer.is_some_and(|peer| {
            let ip = peer.ip().to_canonical();
            plan.proxies.iter().any(|network| network.contains(&ip))
        });
        let first = Vec::new();
        let guest =
            Guest { socket, watch, source: peer, destination: None, first, hello: None, identity: None };
        let is_tls = plan.protocol == Protocol::TlsPassthrough;
        let tls = self.door.tls.load_full().filter(|_| plan.protocol == Protocol::Http);
        if !is_proxy && !is_tls && tls.is_none() {
            if let Some(pass) = self.admit(&guest) {
                let served = self.serve(guest);
                self.tracker.spawn(async move {
                    let _passes = (passes, pass);
                    served.await;
                });
            }
            return;
        }
        guest.watch.deadline(plan.timeouts.tls_handshake, Why::HandshakeTimeout);
        // Boxed, so that its room is given back before the connection is served.
        let introduced = Box::pin(self.clone().introduce(guest, is_proxy, is_tls, tls));
        self.tracker.spawn(async move {
            let _passes = passes;
            let introduced = introduced.await;
            if let Some((served, _pass)) = introduced {
                served.await;
            }
        });
    }

    /// Reads what comes before the protocol, and begins to serve.
    async fn introduce(
        self,
        mut guest: Guest,
        is_proxy: bool,
        is_tls: bool,
        tls: Option<Arc<Termination>>,
    ) -> Option<(Served, Option<ClientPass>)> {
        if is_proxy {
            let header = preface::header(&mut guest.socket, &guest.watch, &mut guest.first).await;
            match header {
                Ok(Origin::Own) => {}
                Ok(Origin::Unix) => guest.source = None,
                Ok(Origin::Inet { source, destination }) => {
                    (guest.source, guest.destination) = (Some(source), Some(destination));
                }
                Err(trouble) => return self.turn_away(&guest, trouble),
            }
        }
        let pass = self.admit(&guest)?;
        if is_tls {
            let hello = preface::hello(&mut guest.socket, &guest.watch, &mut guest.first).await;
            match hello {
                Ok(hello) => guest.hello = Some(hello),
                Err(trouble) => return self.turn_away(&guest, trouble),
            }
        }
        if let Some(tls) = tls {
            guest = self.shake_hands(guest, &tls).await?;
        }
        guest.watch.no_deadline();
        Some((self.serve(guest), pass))
    }

    async fn shake_hands(&self, guest: Guest, tls: &Termination) -> Option<Guest> {
        let Guest { socket, watch, source, destination, mut first, hello, .. } = guest;
        let shaken = secure::handshake(socket, &watch, &mut first, tls, &self.door.turns).await;
        let counts = &self.door.handshakes;
        match shaken {
            Ok(Shaken { mut socket, is_resumed, identity }) => {
                counts.count(if is_resumed { Handshake::Resumed } else { Handshake::Full });
                if let Some(secure) = socket.secure_mut()
                    && secure.is_challenge()
                {
                    secure.say_the_end();
                    return None;
                }
                Some(Guest { socket, watch, source, destination, first: Vec::new(), hello, identity })
            }
            Err(trouble) => {
                // Who left without a word did not try.
                let trouble = trouble?;
                counts.count(match trouble.why {
                    Why::ClientCertificate => Handshake::ClientCertificate,
                    _ => Handshake::Failed,
                });
                let client = self.client(source);
                match trouble.status {
                    0 => self.tell.turned_away(&client, trouble),
                    // It was a request, in plain text.
                    _ => self.tell.refused(&client, &first, trouble),
                }
                None
            }
        }
    }

    fn turn_away<T>(&self, guest: &Guest, trouble: Option<Trouble>) -> Option<T> {
        if let Some(trouble) = trouble {
            self.tell.turned_away(&self.client(guest.source), trouble);
        }
        None
    }

    fn client(&self, source: Option<SocketAddr>) -> Client {
        let ip = source.map(|source| source.ip().to_canonical());
        let text = ip.map_or_else(|| "unix".to_owned(), |ip| ip.to_string());
        let door = Arc::clone(&self.door);
        Client { listener: self.door.id, door, ip, text, tls: None, identity: None }
    }

    /// `None` when the client has too many connections open already.
    fn admit(&self, guest: &Guest) -> Option<Option<ClientPass>> {
        let ip = guest.source.map(|source| source.ip().to_canonical());
        let limit = self.door.plan.load().limits.connections_per_client;
        let (Some(ip), Some(limit)) = (ip, limit) else { return Some(None) };
        let pass = self.door.clients.enter(ip, limit.get());
        if pass.is_none() {
            self.door.refused.fetch_add(1, Relaxed);
            // Nobody answers an HTTP client here.
            let why = Why::ClientLimit;
            let status = if self.door.plan.load().protocol == Protocol::Http { 0 } else { why.status() };
            self.tell.turned_away(&self.client(guest.source), Trouble { status, why, detail: None });
        }
        pass.map(Some)
    }

    /// Begins to serve.
    fn serve(&self, guest: Guest) -> Served {
        let tls = guest.socket.tls();
        let Guest { socket, watch, source, destination, first, hello, identity } = guest;
        let client = Arc::new(Client { tls, identity, ..self.client(source) });
        let protocol = self.door.plan.load().protocol;
        match protocol {
            // What waited to be accepted when a reload made a listener one of datagrams.
            Protocol::Tcp | Protocol::TlsPassthrough | Protocol::Udp => {
                self.carry.carry(Caller { socket, client, watch, source, destination, first, hello })
            }
            Protocol::Http => {
                let mut conn = Conn::new(socket, Arc::new(Seat::new(client, watch)), source);
                conn.begin_with(first, destination);
                Box::pin(converse(
                    Box::new(conn),
                    Arc::clone(&self.door),
                    Arc::clone(&self.service),
                    Arc::clone(&self.tell),
                    self.goaway.clone(),
                ))
            }
        }
    }
}
