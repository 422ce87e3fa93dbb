//! Fields that tell servers who asks, where what they make of it is kept for everybody.

use super::place::At;
use super::plan::cache::{CachePlan, QueryKey};
use super::plan::policy::{FieldRule, NamedPolicy, PolicyPlan};
use super::plan::{ListenerPlan, RoutesPlan, TargetPlan};
use super::problem::Fault;
use crate::fields::is_respelt;
use crate::template::Variable;
use http::HeaderName;
use std::collections::HashSet;

/// Those that every server gets anyway, or that say the same: pages are not made of them.
const OF_EACH_REQUEST: [&str; 6] =
    ["x-forwarded-for", "x-real-ip", "x-client-ip", "x-request-id", "x-correlation-id", "traceparent"];

/// Where a policy is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Layer {
    Named(usize),
    Rule { list: usize, place: usize },
}

/// Reports fields in `request_headers` that differ among those who are given the same from the cache.
pub(super) fn warn_of_fields(
    (policy_places, list_places): (&[At<'_>], &[At<'_>]),
    (listeners, lists, policies): (&[ListenerPlan], &[RoutesPlan], &[NamedPolicy]),
) {
    let named = |place: Option<usize>| {
        let place = place?;
        Some((Layer::Named(place), &policies.get(place)?.policy))
    };
    let mut told = HashSet::new();
    let mut judge = |layers: &[(Layer, &PolicyPlan)]| {
        let all = layers.iter().fold(PolicyPlan::default(), |below, (_, layer)| layer.after(&below));
        let Some(cache) = all.cache.get() else { return };
        for rule in all.request_headers.rules.iter().filter(|rule| is_of_one(rule, cache)) {
            let says = |(_, layer): &&(Layer, &PolicyPlan)| layer.request_headers.rules.contains(rule);
            let Some((layer, _)) = layers.iter().rev().find(says) else { continue };
            if told.insert((*layer, rule.name.clone())) {
                match layer {
                    Layer::Named(place) => {
                        policy_places.get(*place).into_iter().for_each(|at| warn(at, rule))
                    }
                    Layer::Rule { list, place } => {
                        let items = list_places.get(*list).and_then(At::items);
                        items.and_then(|mut items| items.nth(*place)).iter().for_each(|at| warn(at, rule));
                    }
                }
            }
        }
    };
    for listener in listeners {
        let below = named(listener.policy);
        match &listener.target {
            TargetPlan::Routes(list) => {
                for (place, rule) in lists.get(*list).iter().flat_map(|list| &list.rules).enumerate() {
                    if rule.pool().is_some() {
                        let own = (Layer::Rule { list: *list, place }, &rule.own_policy);
                        let layers: Vec<_> =
                            below.into_iter().chain(named(rule.policy)).chain([own]).collect();
                        judge(&layers);
                    }
                }
            }
            _ => below.iter().for_each(|below| judge(&[*below])),
        }
    }
}

fn warn(at: &At<'_>, rule: &FieldRule) {
    let Some(value) = rule.value() else { return };
    let fault = Fault::new(
        format!(
            "`{}` is not the same for all who ask for a page, and what servers make of it for one is kept for others",
            value.source()
        ),
        format!(
            "name `{}` under `cache.key.headers`, or have servers say it in `Vary` wherever they go by it",
            rule.title
        ),
    );
    let fields = at.below("request_headers");
    let changes = ["set", "add", "default"].into_iter();
    let own = fields.iter().flat_map(|at| changes.clone().filter_map(|change| at.below(change)));
    let mut own = own.filter_map(|at| at.below(&rule.title).map(|at| at.warn(fault.clone())));
    if own.next().is_none() {
        at.warn(fault.clone());
    }
}

fn is_of_one(rule: &FieldRule, cache: &CachePlan) -> bool {
    let is_keyed = |name: &HeaderName| {
        cache.key.headers.iter().any(|key| is_respelt(name.as_str().as_bytes(), key.as_str()))
    };
    let mut variables = rule.value().into_iter().flat_map(|value| value.variables());
    !is_keyed(&rule.name)
        && !OF_EACH_REQUEST.contains(&rule.name.as_str())
        && variables.any(|variable| differs(variable, cache))
}

/// Whether a variable may have several values among requests of one key.
fn differs(variable: &Variable, CachePlan { key, bypass, .. }: &CachePlan) -> bool {
    match variable {
        Variable::Client | Variable::RequestId | Variable::Country => true,
        Variable::Host => !key.host,
        Variable::Query => key.query != QueryKey::All || !key.ignore_query.is_empty() || key.sort_query,
        // Who has one of `bypass` has a page of its own.
        Variable::Header(name) => !key.headers.contains(name) && !bypass.headers.contains(name),
        Variable::Cookie(name) => !key.cookies.contains(name) && !bypass.cookies.contains(name),
        Variable::Path
        | Variable::Scheme
        | Variable::Method
        | Variable::Route
        | Variable::Pool
        | Variable::Server
        | Variable::Capture(_) => false,
    }
}
