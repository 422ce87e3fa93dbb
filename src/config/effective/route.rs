//! Rules and what they match, as they are written.

use super::super::plan::{
    HostPattern, Match, PathPattern, Plan, RoutesPlan, RulePlan, RuleTargetPlan, ValueMatch,
};
use super::super::tree::Scalar;
use super::super::{keys, names, route};
use super::policy::{self, say};
use super::writer::SectionWriter;
use super::{named, texts, word};
use serde_yaml::Value;

pub(super) fn routes(plan: &Plan, routes: &RoutesPlan) -> Value {
    routes.rules.iter().map(|one| rule(plan, one)).collect()
}

fn rule(plan: &Plan, rule: &RulePlan) -> Value {
    let upgrades = rule.upgrades.as_ref().map_or_else(|| texts(["websocket"]), texts);
    let (redirect, respond) = match &rule.target {
        RuleTargetPlan::Pool(_) => (None, None),
        RuleTargetPlan::Redirect(redirect) => (Some(policy::redirect(redirect)), None),
        RuleTargetPlan::Respond(respond) => (None, Some(policy::respond(respond))),
    };
    let written = SectionWriter::new(keys::RULE)
        .set_if_any("name", written_name(&rule.name))
        .set("match", matcher(&rule.matcher))
        .set_if_any("pool", rule.pool().map(|pool| &*plan.pools[pool].name))
        .set_or_null("redirect", redirect)
        .set_or_null("respond", respond)
        .set("upgrades", upgrades)
        .set("priority", word(&route::PRIORITIES, &rule.priority))
        .set_or_null("policy", rule.policy.map(|policy| &*plan.policies[policy].name));
    say(&rule.own_policy, written).end()
}

/// A name, unless it is one that only comes about by default: those can be longer than what can be written, and of other
/// characters.
pub(super) fn written_name(name: &str) -> Option<&str> {
    names::word(&Scalar::plain(name)).is_ok().then_some(name)
}

fn matcher(matcher: &Match) -> Value {
    let below = |matcher: &Match| conditions(SectionWriter::new(keys::MATCH_BELOW), matcher).end();
    conditions(SectionWriter::new(keys::MATCH), matcher)
        .set_or_null("not", matcher.not.as_deref().map(below))
        .set("any", matcher.any.iter().map(below).collect::<Vec<_>>())
        .set("alpn", texts(&matcher.alpn))
        .end()
}

fn conditions(section: SectionWriter, matcher: &Match) -> SectionWriter {
    let host = |host: &HostPattern| match host {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Suffix(suffix) => format!("*{suffix}"),
    };
    let path = |path: &PathPattern| match path {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(prefix) => format!("{prefix}*"),
    };
    let headers = matcher.headers.iter();
    let headers = headers.map(|header| (header.name.as_str(), header.value.as_deref().unwrap_or("*").into()));
    section
        .set_or_null("host", matcher.host.as_ref().map(host))
        .set_or_null("path", matcher.path.as_ref().map(path))
        .set_or_null("path_regex", matcher.path_regex.as_ref().map(|regex| regex.0.as_str()))
        .set("methods", texts(&matcher.methods))
        .set("headers", named(headers))
        .set("query", values(&matcher.query))
        .set("cookies", values(&matcher.cookies))
        .set("client", texts(matcher.client.items()))
        .set("country", texts(&matcher.country))
        .set("asn", texts(&matcher.asn))
}

fn values(values: &[ValueMatch]) -> Value {
    named(values.iter().map(|one| (&*one.name, one.value.as_deref().unwrap_or("*").into())))
}
