//! What a rule's policy makes of a request.

use super::asked::RequestParts;
use super::report::{ExplainedPhase, Explanation};
use super::{ExplainRequest, cache, limits};
use crate::compress::acceptable;
use crate::config::keys::spell_size;
use crate::config::plan::ListenerLimits;
use crate::config::plan::policy::{Bandwidth, BandwidthPer, ErrorPage, FieldChange};
use crate::geo::Country;
use crate::policy::{self, FieldEdit, Misshapen, Policy, Variables};
use crate::pool::Pool;
use crate::route::{RouteRule, RuleTarget};
use crate::template::Template;
use crate::wire::request::RequestView;
use http::{HeaderMap, Request, Uri, header, request};
use std::net::IpAddr;

/// Where a rule leads, in words.
pub(super) fn target(rule: &RouteRule) -> String {
    match &rule.target {
        RuleTarget::Pool(pool) => pool.name.to_string(),
        RuleTarget::Redirect(redirect) => format!("redirect to {}", redirect.to.source()),
        RuleTarget::Respond(respond) => format!("respond {}", respond.status),
    }
}

/// The answer of a rule that leads to no pool.
pub(super) fn answer(
    report: &mut Explanation,
    rule: &RouteRule,
    asked: &RequestParts<'_>,
    request: &ExplainRequest,
) {
    let (head, client) = (head(asked), request.client.to_string());
    let variables = variables((&head, asked), &client, Some(rule));
    match &rule.target {
        RuleTarget::Redirect(redirect) => match policy::redirect(redirect, asked.method, &variables) {
            Some(reply) => {
                let location = reply.fields.get("location").and_then(|place| place.to_str().ok());
                report.redirect = location.map(str::to_owned);
                report.rule = format!("the rule {} answers with {}", rule.name, reply.status.as_u16());
            }
            None => report.rule = "what it would be sent to is no URL: the answer is 400".to_owned(),
        },
        RuleTarget::Respond(respond) => {
            report.respond = Some(format!("{}", respond.status));
            report.rule = format!("the rule {} has an answer of its own", rule.name);
        }
        RuleTarget::Pool(_) => {}
    }
}

/// What a policy does with the request before a server has it, and with the response after.
pub(super) fn tell(
    report: &mut Explanation,
    (policy, rule, pool): (Option<&Policy>, Option<&RouteRule>, Option<&Pool>),
    asked: &RequestParts<'_>,
    request: &ExplainRequest,
) {
    let Some(policy) = policy else { return };
    let (head, client) = (head(asked), request.client.to_string());
    let variables = variables((&head, asked), &client, rule);
    let (cached, told) =
        cache::explain(policy, pool, &variables, (asked.kept, asked.may_purge), (asked.passing, &asked.from))
            .unzip();
    report.policy.extend(phases(policy, asked, (request.client, &variables), cached));
    report.cache = told;
    report.policy.extend(fields("request_headers", &policy.request_fields, &variables));
    // What the server and its response bring is not known before.
    report.policy.extend(of_responses(policy, &RequestView::of_parts(&head, false)));
    report.policy.extend(fields("response_headers", &policy.response_fields, &variables));
    report.policy.extend(policy.bandwidth.as_ref().map(|(_, plan)| bandwidth(plan)));
    report.policy.extend(compression(policy, &RequestView::of_parts(&head, false)));
}

/// What happens on a response's way back, but for its fields.
fn of_responses(policy: &Policy, request: &RequestView<'_>) -> Vec<ExplainedPhase> {
    let plan = &policy.plan;
    let phase = |phase: &str, does: String| ExplainedPhase { phase: phase.to_owned(), does, decides: false };
    let hints = plan.early_hints.get().filter(|hints| !hints.pass);
    let hints = hints.map(|_| phase("early_hints", "keeps 103 responses from the client".to_owned()));
    let errors = plan.errors.get().map(|errors| {
        let pages: Vec<_> = errors.pages.iter().map(ErrorPage::label).collect();
        let intercepted: Vec<_> = errors.intercept.iter().map(ToString::to_string).collect();
        let servers = match intercepted.is_empty() {
            true => String::new(),
            false => format!(", the servers' own {} too", intercepted.join(", ")),
        };
        phase("errors", format!("has pages for {}{servers}", pages.join(", ")))
    });
    let security = plan.security_headers.get();
    let security = security.map(|_| phase("security_headers", "adds the standard fields".to_owned()));
    let origin = request.fields.text(&header::ORIGIN);
    let cors = plan.cors.get().zip(origin).map(|(cors, origin)| {
        let is_allowed = cors.allows_any() || cors.allows(origin.as_bytes());
        let does = if is_allowed { "lets" } else { "does not let" };
        phase("cors", format!("{does} pages of {origin} read the response"))
    });
    hints.into_iter().chain(errors).chain(security).chain(cors).collect()
}

fn bandwidth(plan: &Bandwidth) -> ExplainedPhase {
    let per = match plan.per {
        BandwidthPer::Response => "each response",
        BandwidthPer::Client => "all that a client has together",
    };
    let (rate, after) = (spell_size(plan.rate), spell_size(plan.after));
    let does = format!("lets {per} leave with {rate} a second, after {after} of each");
    ExplainedPhase { phase: "bandwidth".to_owned(), does, decides: false }
}

/// What becomes of responses that may be compressed, for whoever asks so.
fn compression(policy: &Policy, request: &RequestView<'_>) -> Option<ExplainedPhase> {
    let plan = policy.plan.compress.get()?;
    let types: Vec<_> = plan.types.iter().map(ToString::to_string).collect();
    let with = match acceptable(&plan.encodings, request.fields).first() {
        _ if request.fields.has(&header::RANGE) => "nothing: the request is for a part".to_owned(),
        Some(encoding) => format!("{} with {}", types.join(", "), encoding.label()),
        None => "nothing: the client takes no coding that is listed (Accept-Encoding)".to_owned(),
    };
    Some(ExplainedPhase { phase: "compress".to_owned(), does: format!("compresses {with}"), decides: false })
}

/// What a listener's policy does with a request that no rule matches: it has the limits and the response's fields.
pub(super) fn tell_unmatched(
    report: &mut Explanation,
    policy: Option<&Policy>,
    asked: &RequestParts<'_>,
    request: &ExplainRequest,
) {
    let Some(policy) = policy else { return };
    let (head, client) = (head(asked), request.client.to_string());
    let variables = variables((&head, asked), &client, None);
    report.policy.extend(limits(policy, asked, request.client, &variables));
    report.policy.extend(fields("response_headers", &policy.response_fields, &variables));
}

/// What the rule's limits do that servers may take the request's path for.
pub(super) fn tell_other(
    report: &mut Explanation,
    policy: Option<&Policy>,
    rule: &RouteRule,
    asked: &RequestParts<'_>,
    request: &ExplainRequest,
) {
    let Some(policy) = policy else { return };
    let (head, client) = (head(asked), request.client.to_string());
    let variables = variables((&head, asked), &client, Some(rule));
    let phases = limits(policy, asked, request.client, &variables);
    let phases = phases.into_iter().chain(maintenance(policy, request.client));
    report.policy.extend(phases.map(|phase| {
        let does = format!("{} (by the rule {}, which its path may be taken for)", phase.does, rule.name);
        ExplainedPhase { does, ..phase }
    }));
}

/// That a listener does not take a head of this shape.
pub(super) fn tell_shape(report: &mut Explanation, limits: &ListenerLimits, asked: &RequestParts<'_>) {
    let head = head(asked);
    let has_body = head.headers.contains_key(header::CONTENT_LENGTH);
    let Some(misshapen) = Misshapen::of(&RequestView::of_parts(&head, has_body), limits) else { return };
    let status = match misshapen {
        Misshapen::Body => 413,
        Misshapen::Uri => 414,
        Misshapen::FieldCount | Misshapen::FieldLine => 431,
        Misshapen::EncodedSlash => 400,
    };
    let does = format!("{}: {status}", misshapen.detail());
    report.policy.push(ExplainedPhase { phase: "limits".to_owned(), does, decides: true });
}

fn limits(
    policy: &Policy,
    asked: &RequestParts<'_>,
    client: IpAddr,
    variables: &Variables<'_>,
) -> Vec<ExplainedPhase> {
    let Some((limits, view)) = policy.limits.as_ref().zip(variables.request) else { return Vec::new() };
    limits::phases(limits, asked, (client, variables.route, &view))
}

/// The phases before the request's fields, in their order, as far as this request is one for them.
fn phases(
    policy: &Policy,
    parts: &RequestParts<'_>,
    (client, variables): (IpAddr, &Variables<'_>),
    cached: Option<ExplainedPhase>,
) -> Vec<ExplainedPhase> {
    let plan = &policy.plan;
    let mut phases = limits(policy, parts, client, variables);
    let mut add = |phase: &str, does: String, decides: bool| {
        phases.push(ExplainedPhase { phase: phase.to_owned(), does, decides });
    };
    let Some(asked) = variables.request else { return phases };
    if let Some(reply) = plan.cors.get().and_then(|cors| policy::preflight(cors, &asked)) {
        add("cors", format!("answers the preflight with {}", reply.status.as_u16()), true);
    }
    if let Some(phase) = maintenance(policy, client) {
        add(&phase.phase, phase.does, phase.decides);
    }
    if let Some(reply) = plan.canonical.get().and_then(|canonical| policy::canonical(canonical, variables)) {
        let location = reply.fields.get("location").and_then(|place| place.to_str().ok()).unwrap_or_default();
        add("canonical", format!("sends to {location} with {}", reply.status.as_u16()), true);
    }
    if plan.rewrite.get().is_some_and(|rewrite| policy::leads_astray(rewrite, &asked, variables)) {
        add("rewrite", format!("{}: 400", policy::ASTRAY), true);
        return phases;
    }
    if let Some(fault) = plan.fault.get()
        && fault.only_with.as_ref().is_none_or(|name| asked.fields.has(name))
    {
        let delay = if fault.delay.is_zero() { String::new() } else { format!(", after {:?}", fault.delay) };
        let does = match fault.status {
            Some(status) => format!("answers {} of requests with {status}{delay}", fault.share),
            None => format!("holds {} of requests{delay}", fault.share),
        };
        add("fault", does, fault.status.is_some() && fault.share.0 >= 100);
    }
    phases.extend(cached);
    let mut add = |phase: &str, does: String, decides: bool| {
        phases.push(ExplainedPhase { phase: phase.to_owned(), does, decides });
    };
    if let Some(buffer) = plan.buffer.get().filter(|buffer| buffer.request > 0) {
        add("buffer", format!("holds a body until {} of it have come", spell_size(buffer.request)), false);
    }
    if let Some(rewrite) = plan.rewrite.get() {
        let rewritten = policy::rewrite(rewrite, &asked, variables);
        let target = rewritten.path_and_query.as_deref().unwrap_or(asked.path_and_query);
        let host = rewritten.host.as_ref().map_or_else(String::new, |host| format!(" at {host}"));
        add("rewrite", format!("the server gets {target}{host}"), false);
    }
    phases
}

fn maintenance(policy: &Policy, client: IpAddr) -> Option<ExplainedPhase> {
    let maintenance = policy.plan.maintenance.get().filter(|maintenance| maintenance.enabled)?;
    let decides = maintenance.keeps_out(Some(client));
    let does = match decides {
        true => "answers with 503".to_owned(),
        false => format!("lets {client} in (`except`)"),
    };
    Some(ExplainedPhase { phase: "maintenance".to_owned(), does, decides })
}

fn head(asked: &RequestParts<'_>) -> request::Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = asked.method.clone();
    head.uri = Uri::try_from(asked.path_and_query).unwrap_or_default();
    head.headers = HeaderMap::clone(&asked.headers);
    head
}

fn variables<'a>(
    (head, asked): (&'a request::Parts, &'a RequestParts<'_>),
    client: &'a str,
    rule: Option<&'a RouteRule>,
) -> Variables<'a> {
    Variables {
        request: Some(RequestView::of_parts(head, false)),
        client,
        is_secure: asked.is_secure,
        route: rule.map_or("", |rule| &rule.name),
        country: asked.location.country.as_ref().map_or("", Country::as_str),
        path_regex: rule.and_then(|rule| rule.matcher.path_regex.as_ref()),
        ..Variables::default()
    }
}

fn fields<'a>(
    phase: &'a str,
    edits: &'a [FieldEdit],
    variables: &'a Variables<'a>,
) -> impl Iterator<Item = ExplainedPhase> + 'a {
    edits.iter().map(move |edit| {
        let name = edit.name.name.as_str();
        let does = match &edit.change {
            FieldChange::Set(value) => format!("sets {name}: {}", shown(value, variables)),
            FieldChange::Add(value) => format!("adds {name}: {}", shown(value, variables)),
            FieldChange::Default(value) => format!("{name}: {} if it is missing", shown(value, variables)),
            FieldChange::Remove | FieldChange::Nothing => format!("removes {name}"),
        };
        ExplainedPhase { phase: phase.to_owned(), does, decides: false }
    })
}

/// A text with its values as far as they are known, or else as it is written.
fn shown(value: &Template, variables: &Variables<'_>) -> String {
    match String::from_utf8_lossy(&value.render(variables)).into_owned() {
        nothing if nothing.is_empty() => value.source().to_owned(),
        text => text,
    }
}
