//! What is kept of servers' responses, and for how long.

use super::PathPattern;
use crate::networks::Networks;
use crate::units::{Address, Percent};
use http::HeaderName;
use std::path::PathBuf;
use std::time::Duration;

/// Where responses are kept, for all rules together.
#[derive(Clone, Debug, PartialEq)]
pub struct StorePlan {
    /// Bytes of memory, all that belongs to a response counted in; 0 keeps nothing.
    pub memory: u64,
    /// What outlives the process; `None` keeps all in memory.
    pub disk: Option<DiskPlan>,
    /// Bytes of a response's body that is kept, at most.
    pub max_object: u64,
    /// Who may send PURGE.
    pub purge_from: Networks,
    /// Which other nodes are told what is purged here.
    pub purge_nodes: Vec<PurgeNodePlan>,
}

/// Another node that has a cache of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeNodePlan {
    /// Its admin endpoint.
    pub address: Address,
    /// Holds what it wants to be shown over TCP; `None` is this process's own token.
    pub token_file: Option<PathBuf>,
}

/// A disk that responses are kept on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlan {
    /// A folder, which is this process's alone.
    pub path: PathBuf,
    /// Bytes that they may take there.
    pub size: u64,
    /// Responses with a shorter body stay in memory alone.
    pub min_object: u64,
}

/// What one policy says of the responses to its requests.
#[derive(Clone, Debug, PartialEq)]
pub struct CachePlan {
    /// How long responses are fresh that say nothing of it; `None` keeps none of them.
    pub ttl: Option<Duration>,
    /// The same for some statuses.
    pub ttl_by_status: Vec<(u16, Duration)>,
    /// How long they are fresh whatever they say.
    pub force_ttl: Option<Duration>,
    /// The share of the time since their last change, for responses that say nothing else.
    pub heuristic: Option<Percent>,
    /// How long responses that say nothing of it are used beyond their time while others are fetched.
    pub stale_while_revalidate: Duration,
    /// The same while servers fail.
    pub stale_if_error: Duration,
    /// Whether requests may say what they want.
    pub obey_client: bool,
    /// Fields that go before Cache-Control, in their order (RFC 9213).
    pub targeted: Vec<HeaderName>,
    pub key: KeyPlan,
    pub bypass: Bypass,
    /// Responses are kept without their Set-Cookie; else those that have one are not kept.
    pub drop_set_cookie: bool,
    pub tags: TagsPlan,
    /// How long a request waits for another that fetches the same; none does if that is zero.
    pub coalesce: Duration,
    /// How long nobody waits for a response like one that was not kept.
    pub uncacheable_for: Duration,
    /// Requests for a response before it is kept.
    pub min_uses: u32,
    /// Whether responses say what the cache has done (RFC 9211).
    pub status_field: bool,
}

/// What tells one response from another, beside its URL's path and its scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlan {
    pub host: bool,
    pub query: QueryKey,
    /// Parameters that make no difference; one that ends with `*` is a beginning.
    pub ignore_query: Vec<String>,
    /// The order of parameters makes no difference.
    pub sort_query: bool,
    pub headers: Vec<HeaderName>,
    pub cookies: Vec<String>,
    /// Phones, tablets, desktops and bots have responses of their own; servers are told which of them asks.
    pub device: bool,
    pub methods: Vec<http::Method>,
}

impl KeyPlan {
    /// What tells no URLs apart but by path and query, and one URL's responses not at all.
    pub(crate) fn of_urls() -> Self {
        Self {
            host: false,
            query: QueryKey::All,
            ignore_query: Vec::new(),
            sort_query: false,
            headers: Vec::new(),
            cookies: Vec::new(),
            device: false,
            methods: Vec::new(),
        }
    }
}

/// Which parameters of a query make a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryKey {
    All,
    /// Only these.
    Some(Vec<String>),
}

/// Requests that are not for the cache.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bypass {
    /// With one of these cookies; one that ends with `*` is a beginning.
    pub cookies: Vec<String>,
    /// With one of these fields.
    pub headers: Vec<HeaderName>,
    pub paths: Vec<PathPattern>,
}

/// By what several responses are purged together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagsPlan {
    /// Fields of responses that name tags.
    pub fields: Vec<HeaderName>,
    /// Whether clients get them, too.
    pub send: bool,
}
