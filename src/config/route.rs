//! Routes: which requests a rule matches, and rules that can never match because of one before them.

use super::matcher;
use super::names::{Names, Once, check_section_name, word};
use super::networks::NamedLists;
use super::place::At;
use super::plan::limits::LimitOwner;
use super::plan::policy::{NamedPolicy, PolicyPlan, Wanted};
use super::plan::{Match, PoolPlan, Priority, RoutesPlan, RulePlan, RuleTargetPlan};
use super::problem::{Fault, quoted};
use super::section::Section;
use super::tree::Scalar;
use super::{keys, plan::Name, policy, rule_target};
use crate::template::{Template, Variable};
use http::Method;
use regex::Regex;

/// What a connection may switch to if nothing is said.
const WEBSOCKET: &str = "websocket";

pub(super) const PRIORITIES: [(&str, Priority); 3] =
    [("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];

/// What rules may name.
pub(super) struct RuleNames<'a> {
    pub(super) pools: &'a Names<'a>,
    pub(super) policies: &'a Names<'a>,
    pub(super) networks: &'a NamedLists<'a>,
    pub(super) planned_policies: &'a [NamedPolicy],
}

/// Reports variables that stand for groups which the rule's expression has not.
fn refuse_unknown_groups<'t>(
    at: &At<'_>,
    (key, regex): (&str, Option<&Regex>),
    templates: impl Iterator<Item = &'t Template>,
) {
    let has_group =
        |name: &str| regex.is_some_and(|regex| regex.capture_names().flatten().any(|group| group == name));
    for variable in templates.flat_map(Template::variables) {
        if let Variable::Capture(name) = variable
            && !has_group(name)
        {
            at.refuse_key(Fault::new(
                format!("`{{path.{name}}}` stands for nothing: `{key}` has no group of this name"),
                format!("name one there, like `^/item/(?P<{name}>[^/]+)`, or use `{{path}}`"),
            ));
        }
    }
}

/// Reads one list of rules. `taken` are the rule names of the lists before it: they are one metric label.
pub(super) fn routes(
    name: &str,
    at: &At<'_>,
    names: &RuleNames<'_>,
    taken: &mut Once<Name>,
) -> Option<RoutesPlan> {
    check_section_name(name, at);
    let items = at.items()?;
    if items.len() == 0 {
        at.refuse_key(Fault::new("has no rules", "add at least `- pool: NAME`, which takes every request"));
    }
    let mut rules = Vec::with_capacity(items.len());
    for (index, item) in items.enumerate() {
        let errors = item.errors();
        let Some(section) = item.section(keys::RULE) else { continue };
        let rule = rule(name, index, &section, names, taken);
        // What a broken rule would match is not known.
        if let Some(rule) = rule.filter(|_| section.at.errors() == errors) {
            warn_if_covered(&rule, &rules, &section.at);
            rules.push((rule, section.at.line()));
        }
    }
    Some(RoutesPlan { name: name.into(), rules: rules.into_iter().map(|(rule, _)| rule).collect() })
}

/// Reports rules that let some wait before others where nobody ever waits.
pub(super) fn warn_of_idle_priorities(at: &At<'_>, routes: &RoutesPlan, pools: &[PoolPlan]) {
    let is_idle = |rule: &RulePlan| {
        let pool = rule.pool().and_then(|pool| pools.get(pool));
        rule.priority != Priority::Normal && pool.is_some_and(|pool| !ever_waits(pool))
    };
    let items = at.items().into_iter().flatten();
    for (_, item) in routes.rules.iter().zip(items).filter(|(rule, _)| is_idle(rule)) {
        item.below("priority").unwrap_or(item).warn(Fault::new(
            "nobody ever waits for a server of this pool",
            "give the pool a `queue` and `max_connections`, or remove it",
        ));
    }
}

/// Whether the pool, or what serves in its place, may have anybody wait.
fn ever_waits(pool: &PoolPlan) -> bool {
    let limits = pool.servers.iter().map(|server| server.max_connections);
    let mut limits = limits.chain(pool.sources.iter().map(|source| source.template.max_connections));
    pool.fallback.is_some() || pool.queue.is_some() && limits.any(|limit| limit.is_some())
}

fn rule(
    routes: &str,
    index: usize,
    section: &Section<'_>,
    names: &RuleNames<'_>,
    taken: &mut Once<Name>,
) -> Option<RulePlan> {
    let name: Name = match section.given("name", word) {
        Some(name) => name.into(),
        None => format!("{routes}/{}", index + 1).into(),
    };
    let place = section.get("name").unwrap_or(section.at);
    if let Some(line) = taken.seen(name.clone(), place.line()) {
        place.refuse(Fault::new(
            format!("another rule is named {}", quoted(&name)),
            format!("see line {line}; rule names label metrics and logs, so use each once"),
        ));
    }
    let matcher = section.section("match", |section| matcher::matcher(&section, names.networks));
    let target = rule_target::target(section, matcher.as_ref().unwrap_or(&Match::default()), names.pools);
    let upgrades = section.get("upgrades").map(|at| upgrades(&at));
    let upgrades = upgrades.filter(|upgrades| upgrades[..] != [WEBSOCKET]);
    let priority = section.choice("priority", &PRIORITIES);
    let policy = policy::reference(section, names.policies);
    let has_own_name = *name != *format!("{routes}/{}", index + 1);
    let owner = match &matcher {
        // Without a name of its own, a rule is known by what it matches: its place says another one once rules are added.
        Some(matcher) if !has_own_name => {
            LimitOwner::Unnamed { place: name.clone(), matches: matcher.fingerprint().into() }
        }
        _ => LimitOwner::Rule(name.clone()),
    };
    let own_policy = policy::policy(section, names.networks, &owner);
    if let Some(matcher) = &matcher {
        warn_of_any_host(section, matcher, &own_policy);
    }
    if let Some(at) = section.get("cache").filter(|_| own_policy.cache.get().is_some()) {
        warn_of_idle_cache(&at, matcher.as_ref(), target.as_ref());
    }
    if let (Some(matcher), Some(target)) = (&matcher, &target) {
        let named = policy.and_then(|place| names.planned_policies.get(place)).map(|named| &named.policy);
        names.networks.geo.check(&section.at, rule_target::templates(target));
        let of_rule = ("match.path_regex", matcher.path_regex.as_ref().map(|regex| &regex.0));
        refuse_unknown_groups(&section.at, of_rule, rule_target::templates(target));
        for policy in [Some(&own_policy), named].into_iter().flatten() {
            let rewrite = policy.rewrite.get();
            let own = rewrite.and_then(|rewrite| rewrite.regex.as_ref());
            let to = rewrite.and_then(|rewrite| rewrite.to.as_ref());
            let is_rewritten = |template: &&Template| to.is_some_and(|to| std::ptr::eq(*template, to));
            let others = policy.templates().filter(|template| !is_rewritten(template));
            refuse_unknown_groups(&section.at, of_rule, others);
            // `regex` has groups for `to`, and where there is one it alone counts.
            let of_rewrite = own.map_or(of_rule, |own| ("rewrite.regex", Some(own)));
            refuse_unknown_groups(&section.at, of_rewrite, to.into_iter());
        }
    }
    Some(RulePlan {
        name,
        matcher: matcher?,
        target: target?,
        upgrades,
        priority,
        policy,
        own_policy,
        maintenance: None,
    })
}

/// Reports a cache that never has anything to keep.
fn warn_of_idle_cache(at: &At<'_>, matcher: Option<&Match>, target: Option<&RuleTargetPlan>) {
    let fault = match target {
        Some(RuleTargetPlan::Redirect(_) | RuleTargetPlan::Respond(_)) => Fault::new(
            "this rule answers by itself, and what is kept is what servers have answered",
            "remove it; browsers keep such answers if `response_headers` sets `Cache-Control`",
        ),
        _ => {
            let methods = matcher.map_or(&[][..], |matcher| &matcher.methods);
            // A rule for PURGE is how purges come in.
            let is_kept = |method: &Method| matches!(method.as_str(), "GET" | "HEAD" | "PURGE");
            if methods.is_empty() || methods.iter().any(is_kept) {
                return;
            }
            let all: Vec<_> = methods.iter().map(Method::as_str).collect();
            Fault::new(
                format!(
                    "nothing is kept: this rule is for {} alone, and responses to GET are what is kept",
                    all.join(", ")
                ),
                "remove it, or add `GET` to `match.methods`",
            )
        }
    };
    at.warn(fault);
}

/// RFC 9110 section 7.8: `name` or `name/version`.
fn upgrades(at: &At<'_>) -> Vec<String> {
    let Some(items) = at.items() else { return Vec::new() };
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let protocol = |scalar: &Scalar<'_>| {
        let text = &scalar.text;
        if text.eq_ignore_ascii_case("h2c") {
            return Err(Fault::new(
                "HTTP/2 inside an upgraded connection would pass every rule and limit by",
                "clients speak HTTP/2 to a listener at once; remove it",
            ));
        }
        let (name, version) = text.split_once('/').unwrap_or((text, "1"));
        match is_token(name) && is_token(version) {
            true => Ok(text.to_string()),
            false => Err(Fault::new(
                format!("{} is not the name of a protocol", quoted(text)),
                "write it as clients do in `Upgrade`, like `websocket` or `SPDY/3.1`",
            )),
        }
    };
    items.filter_map(|item| item.scalar(&"a protocol like `websocket`", protocol)).collect()
}

/// Names that clients make up would be led to others that nobody has.
fn warn_of_any_host(section: &Section<'_>, matcher: &Match, policy: &PolicyPlan) {
    let adds_www = policy.canonical.get().is_some_and(|canonical| canonical.www == Some(Wanted::Add));
    if let Some(at) = section.get("canonical").filter(|_| adds_www && !matcher.asks_for_host()) {
        at.warn(Fault::new(
            "`www: add` holds for every host that clients name, those of other sites too (`api.shop.example`)",
            "give the rule the hosts that have a `www.`, like `match: { host: shop.example }`",
        ));
    }
}

/// Comparing each rule with all before it is quadratic; a list this long is generated, not read.
const MOST_COMPARED: usize = 1000;

fn warn_if_covered(rule: &RulePlan, before: &[(RulePlan, usize)], at: &At<'_>) {
    let covering = before
        .iter()
        .take(MOST_COMPARED)
        .find(|(earlier, _)| matcher::covers(&earlier.matcher, &rule.matcher));
    if let Some((earlier, line)) = covering {
        at.warn(Fault::new(
            format!("this rule can never match: `{}` on line {line} takes all of its requests", earlier.name),
            "move this rule before that one, or remove it",
        ));
    }
}
