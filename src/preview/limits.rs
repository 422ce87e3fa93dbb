//! Limits that begin to count anew: what they count is another.

use crate::config::plan::Name;
use crate::policy::{LimitId, Policy};
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, HashSet};

/// Of each limit that both have, under its name, and that is not the same any more.
pub(super) fn anew(in_force: &Snapshot, next: &Snapshot) -> Vec<String> {
    let (before, after) = (numbers(in_force), numbers(next));
    // Of rules without names another one has the place, once some have come or gone; what it counts goes on.
    let known: HashSet<_> = before.values().collect();
    let is_other = |(name, number): &(&&Name, &u64)| before.contains_key(**name) && !known.contains(number);
    let told = |(name, _): (&&Name, &u64)| match name.ends_with(".ban") {
        true => format!("limit {name} counts something else: the bans that it has made end"),
        false => format!(
            "limit {name} counts something else: its counts and debts begin anew, or go on from when it counted this before"
        ),
    };
    after.iter().filter(is_other).map(told).collect()
}

/// By what limits know their counts.
fn numbers(snapshot: &Snapshot) -> BTreeMap<&Name, u64> {
    let policies = snapshot
        .listeners()
        .iter()
        .flat_map(|listener| listener.policies.own.iter().chain(listener.policies.rules.iter().flatten()));
    policies.flat_map(ids).map(|id| (&id.name, id.number)).collect()
}

fn ids(policy: &Policy) -> impl Iterator<Item = &LimitId> {
    policy.limits.iter().flat_map(|limits| {
        let rates = limits.rates.iter().map(|limit| &limit.id);
        let concurrency = limits.concurrency.iter().map(|limit| &limit.id);
        rates.chain(concurrency).chain(limits.ban.iter().map(|limit| &limit.id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn snapshot(limits: &str) -> Snapshot {
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:80, pool: app, policy: site }} }}\n\
             policies: {{ site: {{ {limits} }} }}\npools: {{ app: {{ servers: [127.0.0.1:1] }} }}\n"
        );
        let (plan, _) = crate::config::parse(&text).expect("it is good");
        Snapshot::empty().evolve(plan, Instant::now()).0
    }

    #[test]
    fn limits_count_anew_where_they_count_something_else() {
        let before = "rate_limit: [{ requests: 5/s }, { requests: 9/m, per: route }], ban: { after: 9/1m }";
        for (after, told) in [
            (before, &[][..]),
            (
                "rate_limit: [{ requests: 5/s, over: log }, { requests: 9/m, per: route, fields: true }], ban: { after: 9/1m, for: 1h }",
                &[],
            ),
            (
                "rate_limit: [{ requests: 6/s }, { requests: 9/m, per: route }], ban: { after: 9/1m }",
                &["site[1] counts something else: its"],
            ),
            (
                "rate_limit: [{ requests: 5/s }, { requests: 9/m }], ban: { after: 8/1m }",
                &["site.ban counts something else: the bans", "site[2]"],
            ),
            // The same rate in other words, and another burst.
            (
                "rate_limit: [{ requests: 300/m, burst: 9 }, { requests: 9/m, per: route, burst: 3 }], ban: { after: 9/1m }",
                &[],
            ),
            ("rate_limit: [{ requests: 5/s }]", &[]),
            ("", &[]),
        ] {
            let is = anew(&snapshot(before), &snapshot(after));
            assert_eq!(is.len(), told.len(), "{after}: {is:?}");
            assert!(is.iter().zip(told).all(|(is, told)| is.contains(told)), "{after}: {is:?}");
        }
    }

    #[test]
    fn rules_without_names_keep_their_limits_as_others_come_and_go() {
        let snapshot = |rules: &str| {
            let text = format!(
                "listeners: {{ web: {{ address: 127.0.0.1:80, routes: shop }} }}\n\
                 routes: {{ shop: [{rules}{{ pool: app }}] }}\npools: {{ app: {{ servers: [127.0.0.1:1] }} }}\n"
            );
            let (plan, _) = crate::config::parse(&text).expect("it is good");
            Snapshot::empty().evolve(plan, Instant::now()).0
        };
        let numbers = |snapshot: &Snapshot| {
            numbers(snapshot).into_iter().map(|(name, number)| (name.to_string(), number)).collect::<Vec<_>>()
        };
        let rule = |path: &str| {
            format!("{{ match: {{ path: {path} }}, rate_limit: [{{ requests: 1/h }}], pool: app }}, ")
        };
        let both = numbers(&snapshot(&[rule("/a"), rule("/b")].concat()));
        let alone = numbers(&snapshot(&rule("/b")));
        assert_eq!((&*both[1].0, &*alone[0].0), ("shop/2[1]", "shop/1[1]"));
        assert_eq!(both[1].1, alone[0].1, "it is the limit of /b");
        assert_ne!(both[0].1, alone[0].1);
    }
}
