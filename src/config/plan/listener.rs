//! What clients connect to, and what they may do there.

use super::Name;
use crate::limit::{ClientPrefix, Rate};
use crate::networks::Networks;
use crate::units::Address;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// An address (or several) that clients connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerPlan {
    pub name: Name,
    /// Never empty.
    pub addresses: Vec<Address>,
    pub protocol: Protocol,
    pub target: TargetPlan,
    /// `None` is plain text, or TLS that ends at the server.
    pub tls: Option<Tls>,
    /// Proxies that begin each connection with a PROXY header, which says who the client is; empty is none.
    pub proxies: Networks,
    /// Clients whose forwarding headers are believed and appended to.
    pub trusted_proxies: Networks,
    /// Indexes `Plan::policies`: what holds for all of its requests, as far as rules say nothing else.
    pub policy: Option<usize>,
    pub client_fin: ClientFin,
    pub http2: Http2Plan,
    pub limits: ListenerLimits,
    pub timeouts: ListenerTimeouts,
}

/// What becomes of a request whose client says that it sends nothing more (FIN) before its response has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFin {
    /// The client is taken to have left.
    Cancel,
    /// It may only have closed its own half, and gets its response.
    Serve,
    /// The client has left, also in the middle of a response.
    Close,
}

/// What clients speak on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2; each request is balanced by itself.
    Http,
    /// Anything; each connection is balanced by itself, and its bytes are passed on as they are.
    Tcp,
    /// The same for TLS, which ends at the server; the pool is chosen by the name the client asks for.
    TlsPassthrough,
    /// Datagrams; each client's are passed on to one server.
    Udp,
}

/// What a listener opens: the same address can be opened once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Stream,
    Datagram,
}

impl Protocol {
    /// What is below it.
    pub fn transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Datagram,
            _ => Transport::Stream,
        }
    }
}

/// Where a listener's requests go; the numbers index `Plan::pools` and `Plan::routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetPlan {
    Pool(usize),
    Routes(usize),
    /// Back to the client, which is to ask again over TLS.
    RedirectToHttps,
}

/// How TLS ends at a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The first is for clients that ask for no name or for an unknown one. Empty only if there are names for `acme`.
    pub certificates: Vec<Certificate>,
    /// Names whose certificates come from the plan's authority, each its own; in lower case.
    pub acme: Vec<Name>,
    pub min_version: TlsVersion,
    /// `None` asks clients for no certificate.
    pub client_ca: Option<ClientCa>,
    /// The value of the Strict-Transport-Security field in responses, if they are to have one.
    pub hsts: Option<String>,
}

/// Whose certificates clients show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCa {
    /// The authorities' certificates, as written.
    pub file: PathBuf,
    /// Who shows none is refused.
    pub is_required: bool,
}

/// Where a certificate and its key are, as written: a relative path begins at the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// The staple that goes with it.
    pub ocsp: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Plan {
    pub max_concurrent_streams: u32,
    /// Bytes of a request's body that may be on their way, for each stream and in all.
    pub stream_window: u64,
    pub connection_window: u64,
    /// How long a connection takes requests.
    pub max_age: Option<Duration>,
    /// How many it takes.
    pub max_requests: Option<NonZeroU32>,
}

/// How fast one client may open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewConnectionLimit {
    pub rate: Rate,
    /// `process.client_prefix`.
    pub prefix: ClientPrefix,
}

/// Limits of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Connections open at once on this listener; beyond it new ones wait in the kernel's queue.
    pub connections: Option<NonZeroU32>,
    /// Connections open at once from one client address; beyond it new ones are closed at once.
    pub connections_per_client: Option<NonZeroU32>,
    /// How fast one client address may open them; beyond it new ones are closed at once.
    pub new_connections: Option<NewConnectionLimit>,
    /// TLS handshakes under way at once; beyond it they wait for their turn.
    pub handshakes: Option<NonZeroU32>,
    /// Bytes of a request's head (request line and fields); beyond it 431.
    pub request_headers: u64,
    /// Bytes of a request's body; beyond it 413.
    pub request_body: u64,
    /// Bytes of a request's path and query; beyond it 414.
    pub uri: u64,
    /// Fields of a request's head; beyond it 431.
    pub header_count: u32,
    /// Bytes of one field, name and value; beyond it 431.
    pub header_line: u64,
    pub encoded_slash: EncodedSlash,
}

/// What becomes of a path with `%2F` or `%5C` in it, which servers may take for a slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedSlash {
    Keep,
    /// 400.
    Refuse,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTimeouts {
    /// From a request's first byte (or the connection's opening) to the end of its head, in all.
    pub request_header: Duration,
    /// Between two reads of a request's body.
    pub request_body: Duration,
    /// Between two requests of a kept-alive connection; without a datagram either way in a UDP session.
    pub idle: Duration,
    /// From the connection's opening to the end of what comes before the protocol itself.
    pub tls_handshake: Duration,
}
