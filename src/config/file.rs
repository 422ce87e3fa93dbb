//! The file as a whole: its sections in the order in which references between them can be resolved.

use super::acme;
use super::circles::Site;
use super::discover;
use super::fallback;
use super::geo::{self, GeoReader};
use super::keys;
use super::known::Known;
use super::listener::listener;
use super::made_for_one;
use super::names::{Names, Once};
use super::networks::NamedLists;
use super::place::At;
use super::plan::policy::NamedPolicy;
use super::plan::{ListenerPlan, Plan, PoolPlan, RoutesPlan, Transport};
use super::pool::pool;
use super::problem::Fault;
use super::process::{access_log, admin, events, log, process};
use super::route::{RuleNames, routes, warn_of_idle_priorities};
use super::section::Section;
use super::{cache, policy, purges, sticky, trust};
use crate::networks::Networks;
use crate::units::Address;
use std::sync::Arc;

/// What a section holds under the names that the operator chose; `None` when it is missing or wrong.
type Named<'a> = Option<Vec<(&'a str, At<'a>)>>;

fn all_at<'a>(named: &Named<'a>) -> Vec<At<'a>> {
    named.iter().flatten().map(|(_, at)| *at).collect()
}

/// Reads everything there is to read. The plan is only good if no error was reported.
pub(super) fn plan(root: At<'_>) -> Option<Plan> {
    let file = root.section(keys::FILE)?;
    let process = file.section("process", process);
    let admin = file.section("admin", admin);
    let log = file.section("log", log);
    let access_log = access_log(&file);
    let events = file.section("events", events);
    let acme = acme::acme(&file);
    let dns = file.section("dns", discover::dns);

    let places = (file.get("listeners"), file.get("routes"), file.get("pools"));
    let policies_at = file.get("policies");
    let policies = policies_at.as_ref().map_or(Some(Vec::new()), named);
    let policy_names = Names::new("policy", names(&policies));
    let listeners = needed(&file, "listeners", places.0.as_ref(), "web: { address: 0.0.0.0:80, pool: app }");
    let routes = places.1.as_ref().map_or(Some(Vec::new()), named);
    let pools = needed(&file, "pools", places.2.as_ref(), "app: { servers: [10.0.0.11:8080] }");
    let route_names = Names::new("routes", names(&routes));
    let pool_names = Names::new("pool", names(&pools));

    let networks_at = file.get("networks");
    let networks = networks_at.as_ref().map_or(Some(Vec::new()), named);
    let geo = file.section("geo", |section| geo::geo(&section)).unwrap_or_default();
    let reader = GeoReader { has_country: geo.country.is_some(), has_asn: geo.asn.is_some() };
    let named_lists = NamedLists::read(networks.as_deref(), reader);
    let cache = file.section("cache", |section| cache::store(&section, &named_lists, admin.as_ref()));

    let planned_pools = read_pools(&pools, &pool_names);
    fallback::check(pools.iter().flatten().map(|(name, at)| (*name, *at)), &planned_pools);
    let planned_policies = read_policies(&policies, &named_lists);
    let rule_names = RuleNames {
        pools: &pool_names,
        policies: &policy_names,
        networks: &named_lists,
        planned_policies: &planned_policies,
    };
    let planned_routes = read_routes(&routes, &rule_names);
    // Line 0 is the default, which stands nowhere.
    let line = file.get("admin").map_or(0, |at| at.line());
    let taken: Vec<_> = admin
        .iter()
        .flat_map(|admin| [admin.address.map(Address::Inet), admin.socket.clone().map(Address::Unix)])
        .flatten()
        .map(|address| (address, line))
        .collect();
    let names = (&pool_names, &route_names, &policy_names);
    let prefix = process.as_ref().map(|process| process.client_prefix).unwrap_or_default();
    let known = Known::new(names, (&named_lists, prefix), &planned_pools, &planned_routes);
    let planned_listeners = read_listeners(&listeners, &known, taken);
    acme::check(&file, acme.as_ref(), &planned_listeners);
    // In a broken file what looks unused is mostly what a broken line meant.
    if root.errors() == 0 {
        let nobody = Networks::default();
        let purge_from = cache.as_ref().map_or(&nobody, |cache| &cache.purge_from);
        let at = pools.iter().flatten().map(|(name, at)| (*name, *at));
        for ((_, at), listener) in listeners.iter().flatten().zip(&planned_listeners) {
            let planned = (&planned_routes[..], &planned_policies[..]);
            trust::warn_of_anybody(at, listener, planned, purge_from);
        }
        sticky::check(
            at,
            &planned_pools,
            (&planned_listeners, &planned_routes, &planned_policies),
            admin.as_ref(),
        );
        for ((_, at), routes) in routes.iter().flatten().zip(&planned_routes) {
            warn_of_idle_priorities(at, routes, &planned_pools);
        }
        if !purge_from.is_empty() {
            for (place, (_, at)) in routes.iter().flatten().enumerate() {
                let planned = (&planned_listeners[..], &planned_routes[..], &planned_policies[..]);
                purges::warn_of_unmet(at, place, planned);
            }
        }
        made_for_one::warn_of_fields(
            (&all_at(&policies), &all_at(&routes)),
            (&planned_listeners, &planned_routes, &planned_policies),
        );
        let site =
            Site { listeners: &planned_listeners, routes: &planned_routes, policies: &planned_policies };
        site.warn_of_circles(routes.iter().flatten().map(|(_, at)| at));
        let mut of_rules =
            planned_routes.iter().flat_map(|routes| &routes.rules).map(|rule| &rule.own_policy);
        let has_cache = planned_policies.iter().any(|named| named.policy.cache.get().is_some())
            || of_rules.any(|policy| policy.cache.get().is_some());
        if let Some(at) = file.get("cache").filter(|_| !has_cache) {
            at.warn(Fault::new(
                "nothing is kept: no rule and no policy has a `cache`",
                "add `cache: {}` to the rules whose responses are to be kept, or remove this section",
            ));
        }
        warn_of_unused(&pools, &pool_names, "no listener and no rule sends requests to this pool");
        warn_of_unused(&routes, &route_names, "no listener uses these routes");
        warn_of_unused(&networks, named_lists.names(), "nothing names these networks");
        warn_of_unused(&policies, &policy_names, "no listener and no rule has this policy");
    }
    Some(Plan {
        process: process?,
        admin: admin?,
        log: log?,
        access_log,
        events: events?,
        acme,
        dns: dns?,
        cache: cache?,
        networks: named_lists.into_plan(),
        geo: Arc::new(geo),
        listeners: shared(planned_listeners),
        policies: shared(planned_policies),
        routes: shared(planned_routes),
        pools: shared(planned_pools),
    })
}

fn shared<T>(parts: Vec<T>) -> Vec<Arc<T>> {
    parts.into_iter().map(Arc::new).collect()
}

fn needed<'a>(file: &Section<'_>, name: &str, at: Option<&'a At<'a>>, example: &str) -> Named<'a> {
    let Some(at) = at else {
        let help = format!("add it, like `{name}: {{ {example} }}`");
        file.at.refuse_key(Fault::new(format!("`{name}` is missing"), help));
        return None;
    };
    let named = named(at)?;
    if named.is_empty() {
        at.refuse_key(Fault::new("is empty", format!("write at least one, like `{example}`")));
        return None;
    }
    Some(named)
}

fn named<'a>(at: &'a At<'a>) -> Named<'a> {
    Some(at.names()?.collect())
}

fn names<'a>(named: &Named<'a>) -> Option<Vec<&'a str>> {
    named.as_ref().map(|named| named.iter().map(|(name, _)| *name).collect())
}

fn read_pools(pools: &Named<'_>, names: &Names<'_>) -> Vec<PoolPlan> {
    let read = |(name, at): &(&str, At<'_>)| pool(name, &at.section(keys::POOL)?, names);
    pools.iter().flatten().filter_map(read).collect()
}

fn read_policies(policies: &Named<'_>, networks: &NamedLists<'_>) -> Vec<NamedPolicy> {
    let read = |(name, at): &(&str, At<'_>)| Some(policy::named(name, &at.section(keys::POLICY)?, networks));
    policies.iter().flatten().filter_map(read).collect()
}

fn read_routes(lists: &Named<'_>, known: &RuleNames<'_>) -> Vec<RoutesPlan> {
    let mut taken = Once::default();
    lists.iter().flatten().filter_map(|(name, at)| routes(name, at, known, &mut taken)).collect()
}

fn read_listeners(
    listeners: &Named<'_>,
    known: &Known<'_>,
    admin: Vec<(Address, usize)>,
) -> Vec<ListenerPlan> {
    let mut taken = Once::default();
    for (address, line) in admin {
        taken.seen((Transport::Stream, address), line);
    }
    let mut read =
        |(name, at): &(&str, At<'_>)| listener(name, &at.section(keys::LISTENER)?, known, &mut taken);
    listeners.iter().flatten().filter_map(&mut read).collect()
}

fn warn_of_unused(named: &Named<'_>, names: &Names<'_>, message: &str) {
    for (index, (_, at)) in named.iter().flatten().enumerate() {
        if !names.is_used(index) {
            at.warn(Fault::new(message, "remove it, or name it where it is needed"));
        }
    }
}
