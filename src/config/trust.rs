//! What it comes to that everybody is believed: whoever may say to be any client is kept out by nothing that goes by who a client is.

use super::networks::everybody;
use super::place::At;
use super::plan::policy::{NamedPolicy, PolicyPlan};
use super::plan::{ListenerPlan, Match, RoutesPlan, TargetPlan};
use super::problem::Fault;
use crate::networks::Networks;
use crate::units::Address;

/// Reports proxies that are believed and may be anybody, where what they say decides anything.
pub(super) fn warn_of_anybody(
    at: &At<'_>,
    listener: &ListenerPlan,
    (routes, policies): (&[RoutesPlan], &[NamedPolicy]),
    purge_from: &Networks,
) {
    // Of a unix socket's clients the proxies are not asked for.
    if listener.addresses.iter().all(|address| matches!(address, Address::Unix(_))) {
        return;
    }
    let mut heed = heeded(listener, (routes, policies), purge_from);
    let warn = |item: At<'_>, heed: &[&str]| {
        let decide = if heed.len() == 1 { "decides" } else { "decide" };
        item.warn(Fault::new(
            format!(
                "{} {decide} by the client's address, and here anybody can claim to be any client",
                listed(heed)
            ),
            "name the proxies alone, like `10.0.0.0/24`",
        ));
    };
    if let Some(at) = at.below("trusted_proxies").filter(|_| !heed.is_empty()) {
        everybody(&at, &listener.trusted_proxies).for_each(|item| warn(item, &heed));
    }
    // Connections are counted by it, too.
    let limits = [
        ("limits.connections_per_client", listener.limits.connections_per_client.is_some()),
        ("limits.new_connections_per_client", listener.limits.new_connections.is_some()),
    ];
    heed.extend(limits.iter().filter(|(_, is_said)| *is_said).map(|(key, _)| *key));
    let proxies = at.below("proxy_protocol");
    if let Some(at) = proxies.as_ref().and_then(|at| at.below("from")).filter(|_| !heed.is_empty()) {
        everybody(&at, &listener.proxies).for_each(|item| warn(item, &heed));
    }
}

/// `access`, `ban` and `match`
fn listed(keys: &[&str]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    match &keys[..] {
        [others @ .., last] if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        all => all.join(", "),
    }
}

/// Whether a policy has a key by which clients are told apart.
type SaysOfClients = fn(&PolicyPlan) -> bool;

/// The keys that say something of the listener's clients one by one.
fn heeded(
    listener: &ListenerPlan,
    (routes, policies): (&[RoutesPlan], &[NamedPolicy]),
    purge_from: &Networks,
) -> Vec<&'static str> {
    let rules = match listener.target {
        TargetPlan::Routes(list) => routes.get(list).map_or(&[][..], |routes| &routes.rules),
        TargetPlan::Pool(_) | TargetPlan::RedirectToHttps => &[],
    };
    let places = rules.iter().map(|rule| rule.policy).chain([listener.policy]).flatten();
    let named = places.filter_map(|place| policies.get(place)).map(|named| &named.policy);
    let said: Vec<_> = named.chain(rules.iter().map(|rule| &rule.own_policy)).collect();
    let keys: [(&str, SaysOfClients); 5] = [
        ("access", |policy| policy.limits.access.get().is_some()),
        ("rate_limit", |policy| policy.limits.rates_are_by_client()),
        ("concurrency", |policy| policy.limits.concurrency_is_by_client()),
        ("ban", |policy| policy.limits.ban.get().is_some()),
        ("maintenance.except", |policy| {
            policy.maintenance.get().is_some_and(|maintenance| !maintenance.except.is_empty())
        }),
    ];
    let of_policies = keys.into_iter().filter(|(_, is_said)| said.iter().any(|policy| is_said(policy)));
    let of_rules = rules.iter().any(|rule| asks_who(&rule.matcher)).then_some("match");
    // Who may purge what the listener's rules keep.
    let has_cache = said.iter().any(|policy| policy.cache.get().is_some());
    let of_cache = (has_cache && !purge_from.is_empty()).then_some("cache.purge_from");
    of_policies.map(|(key, _)| key).chain(of_rules).chain(of_cache).collect()
}

/// Whether only some clients fit.
fn asks_who(matcher: &Match) -> bool {
    !matcher.client.is_empty()
        || !matcher.country.is_empty()
        || !matcher.asn.is_empty()
        || matcher.not.as_deref().is_some_and(asks_who)
        || matcher.any.iter().any(asks_who)
}
