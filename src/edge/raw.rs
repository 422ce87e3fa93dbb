//! Connections whose bytes are passed on as they are: what the edge knows of one, and who takes it from there.

use super::ConnectionTask;
use super::request_state::Client;
use super::socket::Socket;
use super::udp::ServeUdp;
use super::watch::Watched;
use crate::client_hello::Hello;
use std::net::SocketAddr;
use std::sync::Arc;

/// A connection whose bytes are to be passed on to a server as they are.
#[derive(Debug)]
pub(crate) struct RawConnection {
    pub(crate) socket: Socket,
    pub(crate) client: Arc<Client>,
    pub(crate) watch: Watched,
    /// Where it comes from; with a PROXY header, what that says.
    pub(crate) source: Option<SocketAddr>,
    /// Where it went, if a PROXY header says so; otherwise the socket knows.
    pub(crate) destination: Option<SocketAddr>,
    /// Read of it already; the server gets it first.
    pub(crate) first: Vec<u8>,
    /// What it begins with, if the listener has TLS passed on.
    pub(crate) hello: Option<Hello>,
}

/// Takes connections over.
pub(crate) trait ServeRaw: ServeUdp {
    /// Carries one to its end.
    fn serve_raw(&self, connection: RawConnection) -> ConnectionTask;
}
