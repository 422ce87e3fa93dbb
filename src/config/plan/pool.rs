//! Servers that serve the same thing, how they are picked, and what becomes of tries that fail.

use super::{HealthPlan, Name, SourcePlan};
use crate::sticky::StickyKeys;
use crate::units::{Address, Factor, Percent, Weight};
use http::HeaderName;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Servers that serve the same thing.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolPlan {
    pub name: Name,
    pub balance: Balance,
    /// Names are unique within the pool. Those that the configuration lists; in a snapshot's plan those that the sources
    /// have found as well. Empty only if there are sources.
    pub servers: Vec<ServerPlan>,
    /// Where further servers come from.
    pub sources: Vec<Arc<SourcePlan>>,
    /// `None` is no probing: servers are taken to be up.
    pub health: Option<HealthPlan>,
    pub when_all_unhealthy: WhenAllUnhealthy,
    /// The limit of each server that has none of its own; it is in their `max_connections` already.
    pub max_connections: Option<NonZeroU32>,
    /// `None` refuses what finds every usable server full.
    pub queue: Option<QueuePlan>,
    /// `None` gives servers that come back, and new ones, their full share at once.
    pub slow_start: Option<SlowStart>,
    /// The pool that is used while this one has nothing usable. They lead in no circle.
    pub fallback: Option<Name>,
    /// `None` ejects nobody.
    pub outlier: Option<OutlierPlan>,
    /// `None` binds no client to a server.
    pub sticky: Option<StickyPlan>,
    pub retries: Retries,
    pub timeouts: PoolTimeouts,
    /// How long in-flight requests of a down or removed server may still run.
    pub drain_timeout: Duration,
    /// How each connection to a server begins, if with a PROXY header.
    pub proxy_protocol: Option<ProxyVersion>,
    /// `None` is plain text.
    pub tls: Option<ServerTls>,
    pub protocol: ServerProtocol,
}

impl PoolPlan {
    /// Whether servers have to prove to be the hosts whose names have led to them.
    pub fn is_secured_by_host(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.server_name.is_none())
    }

    /// Whether an `http` probe asks by HTTP/2, as requests go. What is at a port of its own may be another thing.
    pub fn is_probed_by_h2(&self) -> bool {
        self.protocol == ServerProtocol::H2
            && self.health.as_ref().is_some_and(|health| health.port.is_none())
    }
}

/// What HTTP requests go to servers as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerProtocol {
    #[default]
    Http1,
    /// With TLS by ALPN, without by prior knowledge.
    H2,
    /// What each server agrees on by ALPN; so only with TLS.
    Auto,
}

/// TLS towards a pool's servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Whom a server must prove to be, and what it is asked for by; `None` is its address, which is not sent.
    pub server_name: Option<String>,
    /// Who signs servers' certificates; `None` is the machine's own authorities.
    pub ca: Option<PathBuf>,
    /// A certificate to show, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    pub verify: bool,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Balance {
    RoundRobin,
    LeastConnections,
    RandomTwo,
    PeakEwma,
    ConsistentHash { key: HashKey, bounded_load: Option<Percent> },
    Maglev { key: HashKey },
    SuccessRate(SuccessRatePlan),
}

/// Servers that succeed less often than the best are used less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessRatePlan {
    /// So many outcomes of each server are looked at.
    pub window: NonZeroU32,
    /// The share of picks that those have together that are provably worse than the best.
    pub explore: Percent,
    /// What says whether an answer is a success; `None` is its status.
    pub outcome: Option<OutcomeHeader>,
}

/// A field of responses that says how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeHeader {
    pub name: HeaderName,
    /// The values that say success, and those that say failure. Without them the status decides.
    pub success: Vec<String>,
    pub failure: Vec<String>,
}

impl OutcomeHeader {
    /// What a value of the field says.
    pub fn says(&self, value: &[u8]) -> Option<bool> {
        let is_among = |values: &[String]| values.iter().any(|listed| listed.as_bytes() == value);
        match (is_among(&self.success), is_among(&self.failure)) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }
}

impl Balance {
    /// As it is written in the file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastConnections => "least_connections",
            Self::RandomTwo => "random_two",
            Self::PeakEwma => "peak_ewma",
            Self::ConsistentHash { .. } => "consistent_hash",
            Self::Maglev { .. } => "maglev",
            Self::SuccessRate(_) => "success_rate",
        }
    }

    /// What of a request it hashes, if it does.
    pub fn hash_key(&self) -> Option<&HashKey> {
        match self {
            Self::ConsistentHash { key, .. } | Self::Maglev { key } => Some(key),
            Self::RoundRobin
            | Self::LeastConnections
            | Self::RandomTwo
            | Self::PeakEwma
            | Self::SuccessRate(_) => None,
        }
    }
}

/// What of a request is hashed. A request without it is hashed by the client's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    ClientIp,
    Path,
    Uri,
    Header(HeaderName),
    Cookie(String),
    Query(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ServerPlan {
    /// Its own name, or its address as written.
    pub name: Name,
    pub address: Address,
    pub weight: Weight,
    pub max_connections: Option<NonZeroU32>,
    pub drain: bool,
    /// Used only while no other one is.
    pub backup: bool,
    /// The host name that led to its address.
    pub host: Option<Name>,
}

/// How requests wait for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePlan {
    /// As many wait at most.
    pub max: NonZeroU32,
    pub timeout: Duration,
    pub order: QueueOrder,
}

/// How servers that come back, and new ones, get to their full share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    /// Never zero.
    pub over: Duration,
    /// What they begin with.
    pub from: Percent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOrder {
    /// The oldest first, until it has waited for a tenth of `timeout`; then the newest first until nobody waits.
    Adaptive,
    Fifo,
}

/// When a server that does worse than the others is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierPlan {
    /// Tries in a row that failed, while the others do better.
    pub consecutive_errors: Option<NonZeroU32>,
    /// By so much its share of errors is above that of the others.
    pub worse_by: Option<Percent>,
    /// By so much its median time to the first byte is above that of the others.
    pub slower_than: Option<Factor>,
    /// What is looked at for the latter two.
    pub window: Duration,
    /// The first ejection's length; each further one doubles it.
    pub base_ejection: Duration,
    pub max_ejection: Duration,
    /// Servers that are down or ejected at most, for another to be ejected.
    pub max_ejected: Percent,
}

/// How clients stay with the server that has their session.
#[derive(Clone, Debug, PartialEq)]
pub struct StickyPlan {
    pub cookie: Name,
    pub mode: StickyMode,
    /// How long a request waits for its client's server while that is full.
    pub wait: Duration,
    /// How long browsers keep the cookie; `None` is until they are closed.
    pub max_age: Option<Duration>,
    /// After how long a client is given a server anew.
    pub max_life: Option<Duration>,
    /// Holds the keys; `None` is one of this process, which its state file keeps.
    pub key_file: Option<PathBuf>,
    pub same_site: SameSite,
    pub domain: Option<String>,
    pub path: String,
    /// Filled in from `key_file`, or by whoever knows the process's own, before a plan is put in force.
    pub keys: StickyKeys,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickyMode {
    /// A cookie of ours.
    Insert,
    /// Behind the value of the application's.
    Suffix,
}

impl StickyMode {
    /// As the configuration has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Suffix => "suffix",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Lax,
    Strict,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAllUnhealthy {
    UseAll,
    Refuse,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// Tries after the first one; each goes to another server.
    pub max: u32,
    /// Retries may be at most this share of requests.
    pub budget: Percent,
    pub on: RetryOn,
    /// How long a try may take until its response's head, while there may be another one.
    pub per_try: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection, so nothing was sent: any method.
    pub connect: bool,
    /// Reset or closed before a response head: idempotent methods only.
    pub reset: bool,
    /// No response's head in time: idempotent methods only.
    pub timeout: bool,
    /// Of 502, 503 and 504: idempotent methods only.
    pub statuses: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolTimeouts {
    /// To open a connection to a server.
    pub connect: Duration,
    /// From the request's last byte sent to the response head, per try.
    pub response_header: Duration,
    /// Without a byte either way once the response has begun.
    pub stream_idle: Duration,
    /// Without a byte either way in a WebSocket.
    pub tunnel_idle: Duration,
    /// From the request's last byte to the response's head, over all tries.
    pub request: Duration,
    /// How long an idle connection to a server is kept.
    pub keepalive: Duration,
}
