//! The plan: a configuration that was checked, with every default filled in and every reference
//! resolved. Nothing downstream of this file ever asks "is it set?" or "does it exist?".

pub mod compress;
mod inheritable;
pub mod limits;
mod matcher;
pub mod policy;

pub use matcher::{HeaderMatch, HostPattern, Match, PathPattern, PathRegex, ValueMatch};

use crate::geo::Geo;
use crate::limit::{ClientPrefix, Rate};
use crate::networks::{NamedNetworks, Networks};
use crate::sticky::StickyKeys;
use crate::units::{Address, Factor, Percent, Weight};
use http::{HeaderName, Method};
use policy::{NamedPolicy, PolicyPlan, Redirect, Respond};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A name from the configuration: cheap to clone, shared by snapshots, metrics and logs.
pub type Name = Arc<str>;

/// A whole configuration, ready to become a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub process: ProcessPlan,
    pub admin: AdminPlan,
    pub log: Log,
    /// `None` when `access_log: off`.
    pub access_log: Option<AccessLogPlan>,
    pub events: EventsPlan,
    /// Where certificates come from that are not in files.
    pub acme: Option<AcmePlan>,
    /// How host names are looked up.
    pub dns: DnsPlan,
    /// Those that have a name.
    pub networks: Vec<Arc<NamedNetworks>>,
    /// Which databases say where clients are.
    pub geo: Arc<Geo>,
    /// Shared, as these are: a plan in which one pool is another has all else in common with the one before.
    pub listeners: Vec<Arc<ListenerPlan>>,
    pub policies: Vec<Arc<NamedPolicy>>,
    pub routes: Vec<Arc<RoutesPlan>>,
    pub pools: Vec<Arc<PoolPlan>>,
}

impl Plan {
    /// What is said for a rule's requests, later ones above those before: by the listener that they come in by, by the policy
    /// that the rule names, and by the rule.
    pub fn layers<'a>(
        &'a self,
        listener: Option<&ListenerPlan>,
        rule: &'a RulePlan,
    ) -> impl Iterator<Item = &'a PolicyPlan> {
        let named = [listener.and_then(|listener| listener.policy), rule.policy].into_iter().flatten();
        named.map(|place| &self.policies[place].policy).chain([&rule.own_policy])
    }

    /// Whether anybody's requests are counted or kept out.
    pub fn has_limits(&self) -> bool {
        let of_policies = self.policies.iter().map(|named| &named.policy);
        let of_rules = self.routes.iter().flat_map(|routes| &routes.rules).map(|rule| &rule.own_policy);
        of_policies.chain(of_rules).any(|policy| policy.limits != limits::LimitsPlan::default())
    }
}

/// Limits of the whole process.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessPlan {
    /// How much of an address stands for a client of limits.
    pub client_prefix: ClientPrefix,
    /// Clients that limits remember at once.
    pub limit_keys: u32,
    /// Requests that are held back at once to be refused.
    pub max_tarpits: u32,
    /// Responses that each core compresses at once.
    pub compressors: u32,
    /// Worker threads, one accept loop each; `None` is one per core.
    pub threads: Option<usize>,
    /// Client connections over all listeners; more wait in the kernel's queue.
    pub max_connections: u32,
    /// How long a graceful stop waits for what is in flight.
    pub shutdown_timeout: Duration,
}

/// How operators and Prometheus reach the process.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminPlan {
    /// The unix socket of the commands; `None` is none.
    pub socket: Option<PathBuf>,
    /// `None` switches the endpoint off (`address: null`).
    pub address: Option<SocketAddr>,
    /// Holds what a request over TCP must show to change something.
    pub token_file: Option<PathBuf>,
    /// Where operators' states outlive a restart.
    pub state_file: Option<PathBuf>,
}

/// The health ledger: what became of servers, pools and the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct EventsPlan {
    /// Where each is appended as a line of JSON, too.
    pub path: Option<PathBuf>,
    /// How many are kept in memory.
    pub keep: u32,
}

/// The process's own log, on standard error.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// One record per exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogPlan {
    pub path: AccessLogPath,
    pub format: AccessLogFormat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogPath {
    Stdout,
    File(PathBuf),
}

impl std::fmt::Display for AccessLogPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    Json,
    Combined,
}

/// An authority that gives certificates (RFC 8555), and how it is dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmePlan {
    /// An `https` URL.
    pub directory: String,
    /// `mailto:` URLs, to which the authority may write.
    pub contact: Vec<String>,
    pub challenge: AcmeChallenge,
    /// What several nodes share.
    pub storage: PathBuf,
    /// Whom the authority's own certificate must come from; `None` is the machine's authorities.
    pub ca: Option<PathBuf>,
    pub external_account: Option<ExternalAccount>,
}

/// How the authority sees that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// A handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// A request on port 80 (RFC 8555 section 8.3).
    Http01,
}

/// An account elsewhere that the one at the authority is bound to (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    pub key_id: String,
    pub hmac_key_file: PathBuf,
}

/// How host names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsPlan {
    /// `None` is the machine's own, as `/etc/resolv.conf` has them.
    pub resolvers: Option<Vec<SocketAddr>>,
    /// How long one resolver is waited for.
    pub timeout: Duration,
    /// TTLs are taken to be within these.
    pub min_refresh: Duration,
    pub max_refresh: Duration,
}

impl Default for DnsPlan {
    fn default() -> Self {
        Self {
            resolvers: None,
            timeout: Duration::from_secs(1),
            min_refresh: Duration::from_secs(1),
            max_refresh: Duration::from_secs(60),
        }
    }
}

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

/// A named list of rules; the first that matches wins.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutesPlan {
    pub name: Name,
    pub rules: Vec<RulePlan>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RulePlan {
    /// The `route` label of metrics and logs: the rule's own `name`, or `ROUTES/INDEX` from 1.
    pub name: Name,
    pub matcher: Match,
    pub target: RuleTargetPlan,
    /// What a connection may switch to; `None` is WebSocket alone.
    pub upgrades: Option<Vec<String>>,
    pub priority: Priority,
    /// Indexes `Plan::policies`.
    pub policy: Option<usize>,
    /// What it says itself, above the policy that it names.
    pub own_policy: PolicyPlan,
    /// What an operator says of its maintenance; no file has it.
    pub maintenance: Option<bool>,
}

impl RulePlan {
    /// The pool that its requests go to, by its place in `Plan::pools`.
    pub fn pool(&self) -> Option<usize> {
        match self.target {
            RuleTargetPlan::Pool(pool) => Some(pool),
            RuleTargetPlan::Redirect(_) | RuleTargetPlan::Respond(_) => None,
        }
    }
}

/// What becomes of a rule's requests.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleTargetPlan {
    /// Indexes `Plan::pools`.
    Pool(usize),
    /// Clients are sent elsewhere.
    Redirect(Arc<Redirect>),
    /// Clients have an answer of our own.
    Respond(Arc<Respond>),
}

/// Who is served first of those that wait for a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

impl Priority {
    /// The first served first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// As it is written.
    pub fn label(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

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

/// Where some of a pool's servers come from.
#[derive(Clone, Debug, PartialEq)]
pub struct SourcePlan {
    pub kind: SourceKind,
    pub rules: DiscoveryRules,
    /// How long the process is not ready for want of the first answer.
    pub start_wait: Duration,
    /// What all of its servers have.
    pub template: ServerTemplate,
    /// It is a host name in `servers`, and not the pool's `discover`.
    pub is_entry: bool,
}

impl SourcePlan {
    /// As metrics and `status` call it.
    pub fn label(&self) -> String {
        match &self.kind {
            SourceKind::Dns(dns) => format!("dns:{}:{}", dns.name, dns.port),
            SourceKind::DnsSrv(name) => format!("dns_srv:{name}"),
            SourceKind::File(path) => format!("file:{}", path.display()),
            SourceKind::Http(http) => format!("http:{}", http.url),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    Dns(DnsSourcePlan),
    /// A service's name.
    DnsSrv(Name),
    File(PathBuf),
    Http(HttpSourcePlan),
}

/// A web server that says who the servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSourcePlan {
    /// `http` or `https`.
    pub url: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Whom the web server must have its certificate from; `None` is the machine's authorities.
    pub ca: Option<PathBuf>,
    /// Holds what the web server is shown (RFC 6750).
    pub token_file: Option<PathBuf>,
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSourcePlan {
    /// In lower case, without a dot at its end.
    pub name: Name,
    pub port: u16,
    pub family: AddressFamily,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    Any,
    Ipv4,
    Ipv6,
}

/// What an answer may do to a pool's servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryRules {
    pub when_empty: WhenEmpty,
    /// How long the last set stays while its source says nothing; `None` is for ever.
    pub keep_stale: Option<Duration>,
    /// How long a server must be missing, and in two answers, before it goes. Without it one answer is enough.
    pub leave_after: Duration,
    /// Where more than this share would go another answer must say so.
    pub large_change: Option<Percent>,
    /// An answer with more is refused whole.
    pub max_servers: u32,
}

/// What becomes of a pool's servers when their source says that there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenEmpty {
    Keep,
    Remove,
}

/// What the configuration says of servers that it does not list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTemplate {
    pub weight: Weight,
    pub max_connections: Option<NonZeroU32>,
    pub drain: bool,
    pub backup: bool,
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

/// Probes of one pool under way at once. At start and after a reload all are due together; more would only be a burst of
/// open files and of connections.
pub const PROBES_AT_ONCE: usize = 256;

/// How a pool's servers are probed.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthPlan {
    pub probe: ProbePlan,
    /// Another port than the server's own.
    pub port: Option<u16>,
    pub interval: Duration,
    pub timeout: Duration,
    pub fall: NonZeroU32,
    pub rise: NonZeroU32,
    /// Up to this share of the interval is added or taken away by chance.
    pub jitter: Percent,
    pub initial: Initial,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ProbePlan {
    Http(HttpProbe),
    Tcp(TcpProbe),
    Tls(TlsProbe),
    Grpc(GrpcProbe),
    Udp(UdpProbe),
}

/// A connection that opens is a pass, unless more is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TcpProbe {
    /// Never without `expect`.
    pub send: Option<String>,
    /// A text that the first 64 KiB of the reply must contain.
    pub expect: Option<String>,
}

/// The standard health service must say SERVING.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcProbe {
    /// `None` asks about the whole server.
    pub service: Option<String>,
}

/// A handshake that completes is a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsProbe {
    /// `None` is the server's address, which is not sent.
    pub server_name: Option<String>,
    /// Whether the certificate must be good for that name, by the machine's own authorities.
    pub verify: bool,
}

/// A datagram, and what its answer must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpProbe {
    pub send: Vec<u8>,
    /// Bytes that the answer must contain; `None` is any answer.
    pub expect: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    pub path: String,
    pub method: Method,
    /// The Host field; `None` is the server's address.
    pub host: Option<String>,
    /// Never empty.
    pub expect_status: Vec<RangeInclusive<u16>>,
    /// A text that the first 64 KiB of the body must contain.
    pub expect_body: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Not used until the first pass.
    Probing,
    Up,
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
