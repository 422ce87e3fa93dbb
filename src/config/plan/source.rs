//! Where servers come from that are not listed.

use super::Name;
use crate::units::{Percent, Weight};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

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
