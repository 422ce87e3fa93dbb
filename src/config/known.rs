//! What the file has under `pools` and `routes`, for listeners to refer to, and what a pool must be to stand behind
//! a listener that is not HTTP.

use super::names::Names;
use super::networks::NamedLists;
use super::place::At;
use super::plan::{HashKey, PoolPlan, RoutesPlan, RulePlan, TargetPlan};
use super::problem::{Fault, quoted};
use crate::limit::ClientPrefix;
use std::collections::HashMap;

/// The pools and routes that were read, by the index that a reference resolves to.
pub(super) struct Known<'a> {
    pub(super) pool_names: &'a Names<'a>,
    pub(super) route_names: &'a Names<'a>,
    pub(super) networks: &'a NamedLists<'a>,
    pub(super) policy_names: &'a Names<'a>,
    /// How much of an address stands for a client.
    pub(super) client_prefix: ClientPrefix,
    pools: HashMap<&'a str, &'a PoolPlan>,
    routes: HashMap<&'a str, &'a RoutesPlan>,
}

impl<'a> Known<'a> {
    pub(super) fn new(
        (pool_names, route_names, policy_names): (&'a Names<'a>, &'a Names<'a>, &'a Names<'a>),
        (networks, client_prefix): (&'a NamedLists<'a>, ClientPrefix),
        pools: &'a [PoolPlan],
        routes: &'a [RoutesPlan],
    ) -> Self {
        Self {
            pool_names,
            route_names,
            networks,
            policy_names,
            client_prefix,
            pools: pools.iter().map(|pool| (&*pool.name, pool)).collect(),
            routes: routes.iter().map(|routes| (&*routes.name, routes)).collect(),
        }
    }

    /// `None` for one that was refused: its problems are reported already.
    fn pool(&self, index: usize) -> Option<&'a PoolPlan> {
        self.pools.get(self.pool_names.name(index)?).copied()
    }

    fn routes(&self, index: usize) -> Option<&'a RoutesPlan> {
        self.routes.get(self.route_names.name(index)?).copied()
    }

    /// The rules that a listener's connections are held against.
    pub(super) fn rules(&self, entry: TargetPlan) -> &'a [RulePlan] {
        match entry {
            TargetPlan::Pool(_) | TargetPlan::RedirectToHttps => &[],
            TargetPlan::Routes(routes) => self.routes(routes).map_or(&[], |routes| &routes.rules),
        }
    }

    /// The pools that a listener's connections may go to, by way of others' `fallback` too.
    pub(super) fn behind(&self, entry: TargetPlan) -> Vec<&'a PoolPlan> {
        let mut pools: Vec<&PoolPlan> = match entry {
            TargetPlan::Pool(pool) => self.pool(pool).into_iter().collect(),
            TargetPlan::RedirectToHttps => Vec::new(),
            TargetPlan::Routes(_) => {
                self.rules(entry).iter().filter_map(|rule| self.pool(rule.pool()?)).collect()
            }
        };
        let mut reached = 0;
        while let Some(pool) = pools.get(reached) {
            let fallback = pool.fallback.as_ref().and_then(|name| self.pools.get(&**name));
            pools.extend(
                fallback.filter(|fallback| pools.iter().all(|known| !std::ptr::eq(*known, **fallback))),
            );
            reached += 1;
        }
        pools.dedup_by(|one, other| std::ptr::eq(*one, *other));
        pools
    }
}

/// A connection that is not HTTP has nothing to hash but its client's address.
pub(super) fn refuse_request_keys(at: &At<'_>, pools: &[&PoolPlan], protocol: &str) {
    for pool in pools {
        if pool.sticky.is_some() {
            at.refuse(Fault::new(
                format!(
                    "the pool {} is `sticky`, by cookies of HTTP, which `protocol: {protocol}` does not read",
                    quoted(&pool.name)
                ),
                "use `consistent_hash: { key: client_ip }` there, or another pool here",
            ));
        }
        if pool.balance.hash_key().is_some_and(|key| *key != HashKey::ClientIp) {
            at.refuse(Fault::new(
                format!(
                    "the pool {} hashes a part of HTTP requests, which `protocol: {protocol}` does not read",
                    quoted(&pool.name)
                ),
                "use `key: client_ip` there, or another pool here",
            ));
        }
    }
}

/// TLS that is passed on shows its server name and its protocols, HTTP everything but the latter. `foreign` is the
/// listener's protocol where it is not HTTP.
pub(super) fn refuse_foreign_match(at: &At<'_>, rule: &RulePlan, foreign: Option<&str>) {
    let matcher = &rule.matcher;
    let hidden = [
        ("path", foreign.is_some() && matcher.path.is_some()),
        ("path_regex", foreign.is_some() && matcher.path_regex.is_some()),
        ("query", foreign.is_some() && !matcher.query.is_empty()),
        ("cookies", foreign.is_some() && !matcher.cookies.is_empty()),
        ("not", foreign.is_some() && matcher.not.is_some()),
        ("any", foreign.is_some() && !matcher.any.is_empty()),
        ("methods", foreign.is_some() && !matcher.methods.is_empty()),
        ("headers", foreign.is_some() && !matcher.headers.is_empty()),
        ("alpn", foreign.is_none() && !matcher.alpn.is_empty()),
    ];
    if let Some(protocol) = foreign.filter(|_| rule.upgrades.is_some()) {
        at.refuse(Fault::new(
            format!(
                "the rule {} has `upgrades`, which are for HTTP, and this listener speaks `{protocol}`",
                quoted(&rule.name)
            ),
            "remove them there: `protocol: tls_passthrough` passes everything on",
        ));
    }
    if let Some(protocol) = foreign.filter(|_| rule.policy.is_some() || !rule.own_policy.is_silent()) {
        at.refuse(Fault::new(
            format!(
                "the rule {} has a policy about HTTP, and this listener speaks `{protocol}`",
                quoted(&rule.name)
            ),
            "remove it there: `protocol: tls_passthrough` passes everything on",
        ));
    }
    for (key, _) in hidden.into_iter().filter(|(_, is_hidden)| *is_hidden) {
        let protocol = foreign.unwrap_or("http");
        at.refuse(Fault::new(
            format!(
                "the rule {} matches by `{key}`, which `protocol: {protocol}` does not show",
                quoted(&rule.name)
            ),
            match foreign {
                Some(_) => {
                    "match by `host` (the TLS server name), `client`, `country`, `asn` and `alpn` there"
                }
                None => "remove it there, or use `protocol: tls_passthrough` here",
            },
        ));
    }
}
