//! Purges by the method PURGE that never come to a rule with a cache, for its rule is for other methods.

use super::matcher::covers;
use super::place::At;
use super::plan::policy::NamedPolicy;
use super::plan::{ListenerPlan, Match, PathPattern, RoutesPlan, RulePlan, TargetPlan};
use super::problem::Fault;
use http::Method;

/// Reports rules of a list, the `place`th, whose responses are kept and which PURGE of their URLs does not come to.
pub(super) fn warn_of_unmet(
    at: &At<'_>,
    place: usize,
    (listeners, routes, policies): (&[ListenerPlan], &[RoutesPlan], &[NamedPolicy]),
) {
    let Some(list) = routes.get(place) else { return };
    let Some(purge) = Method::from_bytes(b"PURGE").ok() else { return };
    // What a listener's policy says of the cache holds where a rule says nothing.
    let below: Vec<_> = listeners
        .iter()
        .filter(|listener| matches!(listener.target, TargetPlan::Routes(list) if list == place))
        .map(|listener| listener.policy)
        .collect();
    let policy =
        |place: Option<usize>| place.and_then(|place| policies.get(place)).map(|named| &named.policy);
    let has_cache = |rule: &RulePlan| {
        rule.pool().is_some()
            && below.iter().any(|below| {
                let layers = [policy(*below), policy(rule.policy), Some(&rule.own_policy)];
                let said = layers.into_iter().flatten().map(|layer| &layer.cache);
                said.cloned()
                    .reduce(|before, after| after.after(&before))
                    .is_some_and(|all| all.get().is_some())
            })
    };
    let is_for_its_purges = |rule: &RulePlan, other: &RulePlan| {
        other.matcher.methods.contains(&purge)
            && may_overlap(rule.matcher.path.as_ref(), other.matcher.path.as_ref())
            && has_cache(other)
    };
    let items = at.items().into_iter().flatten();
    for (rule, item) in list.rules.iter().zip(items) {
        let keeps = takes(&rule.matcher, &Method::GET) && has_cache(rule);
        if !keeps
            || takes(&rule.matcher, &purge)
            || list.rules.iter().any(|other| is_for_its_purges(rule, other))
        {
            continue;
        }
        let asked = Match { methods: vec![purge.clone()], ..rule.matcher.clone() };
        let mut others = list.rules.iter().filter(|other| !std::ptr::eq(*other, rule));
        let goes = match others.find(|other| covers(&other.matcher, &asked)) {
            Some(other) if has_cache(other) => continue,
            Some(other) => format!("it goes to `{}`, which has no cache", other.name),
            None => "it goes to another rule, or is answered with 404".to_owned(),
        };
        let matched = item.below("match");
        let (place, help) = match matched.as_ref().and_then(|at| at.below("methods")) {
            Some(at) => (Some(at), "add `PURGE`"),
            None => (matched, "let `PURGE` through"),
        };
        place.unwrap_or(item).warn(Fault::new(
            format!("a PURGE of what this rule keeps does not come here: {goes}"),
            format!("{help}; only clients in `cache.purge_from` may"),
        ));
    }
}

/// Whether some request with this method fits, as far as methods go. Who has written a method below `not` knows what comes of it.
fn takes(matcher: &Match, method: &Method) -> bool {
    let is_named = matcher.methods.is_empty() || matcher.methods.contains(method);
    is_named && (matcher.any.is_empty() || matcher.any.iter().any(|one| takes(one, method)))
}

/// Whether some path may fit both.
fn may_overlap(one: Option<&PathPattern>, other: Option<&PathPattern>) -> bool {
    match (one, other) {
        (None, _) | (_, None) => true,
        (Some(PathPattern::Prefix(one)), Some(PathPattern::Prefix(other))) => {
            one.starts_with(&**other) || other.starts_with(&**one)
        }
        (Some(PathPattern::Exact(path)), Some(pattern)) | (Some(pattern), Some(PathPattern::Exact(path))) => {
            pattern.matches(path)
        }
    }
}
