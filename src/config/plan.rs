//! The plan: a configuration that was checked, with every default filled in and every reference
//! resolved. Nothing downstream of this file ever asks "is it set?" or "does it exist?".

pub mod cache;
pub mod compress;
mod health;
mod inheritable;
pub mod limits;
mod listener;
mod matcher;
pub mod policy;
mod pool;
mod process;
mod route;
mod source;

pub use health::{
    GrpcProbe, HealthPlan, HttpProbe, Initial, PROBES_AT_ONCE, ProbePlan, TcpProbe, TlsProbe, UdpProbe,
};
pub use listener::{
    Certificate, ClientCa, ClientFin, EncodedSlash, Http2Plan, ListenerLimits, ListenerPlan,
    ListenerTimeouts, NewConnectionLimit, Protocol, TargetPlan, Tls, TlsVersion, Transport,
};
pub use matcher::{HeaderMatch, HostPattern, Match, PathPattern, PathRegex, ValueMatch};
pub use pool::{
    Balance, HashKey, OutcomeHeader, OutlierPlan, PoolPlan, PoolTimeouts, ProxyVersion, QueueOrder,
    QueuePlan, Retries, RetryOn, SameSite, ServerPlan, ServerProtocol, ServerTls, SlowStart, StickyMode,
    StickyPlan, SuccessRatePlan, WhenAllUnhealthy,
};
pub use process::{
    AccessLogFormat, AccessLogPath, AccessLogPlan, AcmeChallenge, AcmePlan, AdminPlan, DnsPlan, EventsPlan,
    ExternalAccount, Log, LogFormat, LogLevel, ProcessPlan,
};
pub use route::{Priority, RoutesPlan, RulePlan, RuleTargetPlan};
pub use source::{
    AddressFamily, DiscoveryRules, DnsSourcePlan, HttpSourcePlan, ServerTemplate, SourceKind, SourcePlan,
    WhenEmpty,
};

use crate::geo::Geo;
use crate::networks::NamedNetworks;
use policy::{NamedPolicy, PolicyPlan};
use std::sync::Arc;

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
    /// Where responses are kept.
    pub cache: cache::StorePlan,
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

    /// What rules and policies say of what is kept.
    pub fn cache_plans(&self) -> impl Iterator<Item = &cache::CachePlan> {
        let of_policies = self.policies.iter().map(|named| &named.policy);
        let of_rules = self.routes.iter().flat_map(|routes| &routes.rules).map(|rule| &rule.own_policy);
        of_policies.chain(of_rules).filter_map(|policy| policy.cache.get())
    }

    /// Whether any responses are kept.
    pub fn has_cache(&self) -> bool {
        (self.cache.memory > 0 || self.cache.disk.is_some()) && self.cache_plans().next().is_some()
    }

    /// Whether anybody's requests are counted or kept out.
    pub fn has_limits(&self) -> bool {
        let of_policies = self.policies.iter().map(|named| &named.policy);
        let of_rules = self.routes.iter().flat_map(|routes| &routes.rules).map(|rule| &rule.own_policy);
        of_policies.chain(of_rules).any(|policy| policy.limits != limits::LimitsPlan::default())
    }
}
