//! The process itself: how it is reached, what it logs, its limits, its authority for certificates and its resolver.

use crate::limit::ClientPrefix;
use crate::units::Address;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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

impl AdminPlan {
    /// Whether this is one of its own entrances.
    pub fn is_at(&self, address: &Address) -> bool {
        match address {
            Address::Unix(path) => self.socket.as_ref() == Some(path),
            Address::Inet(other) => self.address.is_some_and(|own| {
                // Every address of this machine is its loopback address, too.
                let is_here = own.ip().is_unspecified() && other.ip().is_loopback();
                own == *other || is_here && own.port() == other.port()
            }),
        }
    }
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
