//! What a reload changes, as a value: `--json` prints it as it is.

use serde::Serialize;

/// Everything that a reload changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReloadPreview {
    /// Whether there is anything.
    pub changes: bool,
    /// Settings of the process, with their full path.
    pub settings: Vec<KeyChange>,
    /// Of those, the ones that wait for the next start.
    pub at_next_start: Vec<String>,
    pub listeners: Sorted<ListenerPreview>,
    pub routes: Sorted<RoutesPreview>,
    pub pools: Sorted<PoolPreview>,
    /// What becomes of what the process keeps of responses; `null` of files, and where nothing is kept.
    pub cache: Option<CachePreview>,
    /// What changed probes say of the servers now, if they were asked to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<PreviewedProbe>,
    /// What an operator may not expect.
    pub warnings: Vec<String>,
}

/// One probe of the new configuration, run once against a server as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreviewedProbe {
    pub pool: String,
    pub server: String,
    pub address: String,
    /// Whether the server is up now, by the probe in force; `null` if it is new.
    pub is_up: Option<bool>,
    pub passed: bool,
    pub failure: Option<String>,
    pub took_ms: f64,
}

/// What is kept of responses, and what of it will be of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CachePreview {
    /// In memory.
    pub responses: u64,
    /// Those of them that no request will find any more.
    pub unreachable: u64,
    pub memory: RoomPreview,
    pub disk: RoomPreview,
}

/// Bytes that are kept at a place, and those of them that have no room there any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RoomPreview {
    pub bytes: u64,
    pub over: u64,
}

/// Things of one kind by what becomes of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sorted<T> {
    pub added: Vec<T>,
    pub removed: Vec<T>,
    pub changed: Vec<T>,
    /// Their names.
    pub kept: Vec<String>,
}

/// A key with another value; `null` where it is not set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    pub key: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerPreview {
    pub name: String,
    pub addresses: Vec<String>,
    pub keys: Vec<KeyChange>,
}

/// A list of routes; rules as text, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoutesPreview {
    pub name: String,
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Of those, each pair that is one rule, before and after.
    pub changed: Vec<RulePreview>,
    /// Rules that stay come in another order.
    pub reordered: bool,
}

/// A rule with other settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RulePreview {
    /// Its name if it has one of its own, and what it matches.
    pub rule: String,
    /// As it stands under `removed` and `added`.
    pub old: String,
    pub new: String,
    pub keys: Vec<KeyChange>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoolPreview {
    pub name: String,
    pub keys: Vec<KeyChange>,
    /// What that means for those who wait, who come back and who are ejected.
    pub notes: Vec<String>,
    pub servers: Sorted<ServerPreview>,
    pub health: HealthPreview,
    /// Of a pool that hashes the same part of requests before and after.
    pub churn: Option<Churn>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerPreview {
    pub name: String,
    pub address: String,
    pub weight: u16,
    /// Requests and connections that it has now.
    pub in_flight: u32,
    pub keys: Vec<KeyChange>,
    /// It gets nothing new.
    pub drains: bool,
    /// How long what is in flight may run on; `null` is to its end.
    pub drains_within: Option<String>,
}

/// What becomes of what probes have found; names of servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HealthPreview {
    /// State and counts stay.
    pub kept: Vec<String>,
    /// The probe is another one: the state stays, counts start anew.
    pub counts_reset: Vec<String>,
    /// Probed no longer, and so taken to be up.
    pub assumed_up: Vec<String>,
    /// New, and without requests until the first probe passes.
    pub probing: Vec<String>,
}

/// How many keys another server has afterwards, while all servers are up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Churn {
    /// The keys `0` to `keys - 1` were looked up.
    pub keys: u32,
    pub moved: u32,
    pub share: f64,
    /// The share that must move under any placement by weight.
    pub minimum: f64,
    /// Servers whose share is another one.
    pub servers: Vec<Share>,
}

/// A server's share of the sampled keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    pub server: String,
    pub address: String,
    pub before: f64,
    pub after: f64,
}
