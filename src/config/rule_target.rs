//! What becomes of a rule's requests: a pool has them, or clients get an answer of our own.

use super::names::Names;
use super::plan::policy::{FieldRule, Page, PageFile, Redirect, Respond};
use super::plan::{Match, PathPattern, RuleTargetPlan};
use super::policy::set_rules;
use super::problem::{Fault, quoted};
use super::section::Section;
use super::text::template;
use super::tree::Scalar;
use crate::template::{Template, Variable};
use bytes::Bytes;
use std::sync::Arc;

/// Reads the one target of a rule.
pub(super) fn target(section: &Section<'_>, matcher: &Match, pools: &Names<'_>) -> Option<RuleTargetPlan> {
    let targets = ["pool", "redirect", "respond"].map(|name| section.get(name).filter(|at| !at.is_null()));
    let given: Vec<_> = targets.iter().flatten().collect();
    match given[..] {
        [] => section.at.refuse(Fault::new(
            "leads nowhere",
            "add `pool: NAME`, `redirect: { to: URL }` or `respond: { status: 404 }`",
        )),
        [_] => {}
        [_, second, ..] => second.refuse_key(Fault::new(
            "the rule has another target, too",
            "keep one of `pool`, `redirect` and `respond`",
        )),
    }
    let pool = section.given("pool", |scalar| pools.resolve(scalar));
    if let Some(at) = &targets[1] {
        let redirect = match at.is_scalar() {
            true => at.scalar(&"where to", location).map(|to| Redirect { to, status: 308, keep_query: true }),
            false => section.section("redirect", |section| redirect(&section)).flatten(),
        }?;
        if let Some(fault) = open_redirect(&redirect, matcher).or_else(|| loops(&redirect, matcher)) {
            at.warn(fault);
        }
        return Some(RuleTargetPlan::Redirect(Arc::new(redirect)));
    }
    if targets[2].is_some() {
        let respond = section.section("respond", |section| respond(&section))?;
        return Some(RuleTargetPlan::Respond(Arc::new(respond)));
    }
    pool.map(RuleTargetPlan::Pool)
}

/// The texts with variables that a target has.
pub(super) fn templates(target: &RuleTargetPlan) -> impl Iterator<Item = &Template> {
    let (to, fields) = match target {
        RuleTargetPlan::Pool(_) => (None, &[][..]),
        RuleTargetPlan::Redirect(redirect) => (Some(&redirect.to), &[][..]),
        RuleTargetPlan::Respond(respond) => (None, &respond.fields[..]),
    };
    to.into_iter().chain(fields.iter().filter_map(FieldRule::value))
}

fn redirect(section: &Section<'_>) -> Option<Redirect> {
    let to = section.required("to", location);
    let status = section.choice("status", &STATUSES);
    Some(Redirect { status, keep_query: section.flag("keep_query"), to: to? })
}

pub(super) const STATUSES: [(&str, u16); 5] =
    [("301", 301), ("302", 302), ("303", 303), ("307", 307), ("308", 308)];

/// A URL of the web, or a path.
fn location(scalar: &Scalar<'_>) -> Result<Template, Fault> {
    let to = template(scalar)?;
    let text = &*scalar.text;
    let example = "write a URL like `https://shop.example{path}`, or a path like `/new{path}`";
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::new(format!("{} has characters that no URL has", quoted(text)), example));
    }
    let is_path = text.starts_with('/') && !text.starts_with("//");
    if !is_path && authority(text).is_none() {
        return Err(Fault::new(format!("{} is neither a URL of the web nor a path", quoted(text)), example));
    }
    let is_strangers = |variable: &&Variable| {
        matches!(
            variable,
            Variable::Header(_)
                | Variable::Cookie(_)
                | Variable::Query
                | Variable::Path
                | Variable::Capture(_)
        )
    };
    if let Some(authority) = authority(text)
        && let Ok(authority) = Template::parse(authority)
        && authority.variables().any(|variable| is_strangers(&variable))
    {
        return Err(Fault::new(
            format!("{} lets whoever makes a link send clients anywhere", quoted(text)),
            "write the host, or `{host}` where the rule names its hosts",
        ));
    }
    Ok(to)
}

/// What stands for the host in a URL of the web.
fn authority(text: &str) -> Option<&str> {
    let rest = ["https://", "http://", "{scheme}://"].iter().find_map(|scheme| text.strip_prefix(scheme))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A path begins with a slash; what else follows a host may become a part of it.
    let rest = match rest.find("{path}") {
        Some(at) if at < end => &rest[..at],
        _ => &rest[..end],
    };
    (!rest.is_empty()).then_some(rest)
}

fn open_redirect(redirect: &Redirect, matcher: &Match) -> Option<Fault> {
    let authority = Template::parse(authority(redirect.to.source())?).ok()?;
    let is_open = matcher.host.is_none() && authority.variables().any(|variable| *variable == Variable::Host);
    is_open.then(|| {
        Fault::new(
            "sends clients to whatever host they have asked for, which may be a stranger's",
            "give the rule a `match` with its `host`, or write the host here",
        )
    })
}

/// Whether what is redirected is redirected again: as far as that can be told from a path of the rule's own.
fn loops(redirect: &Redirect, matcher: &Match) -> Option<Fault> {
    let sample = match &matcher.path {
        Some(PathPattern::Exact(path)) => path.clone(),
        Some(PathPattern::Prefix(prefix)) => format!("{prefix}x"),
        None => "/x".to_owned(),
    };
    let to = redirect.to.source();
    let loses_query = !redirect.keep_query && !to.contains(['?', '{']);
    // What the rule asks for beside the path, and the next request may not have: that it has it cannot be told from here.
    let asks_more =
        matcher.not.is_some() || !matcher.any.is_empty() || loses_query && !matcher.query.is_empty();
    if asks_more {
        return None;
    }
    let to = to.strip_prefix("{scheme}://{host}").unwrap_or(to).replace("{path}", &sample);
    let to = to.split(['?', '#']).next().unwrap_or_default();
    let again = to.starts_with('/')
        && match &matcher.path {
            Some(PathPattern::Exact(path)) => path == to,
            Some(PathPattern::Prefix(prefix)) => {
                to.starts_with(prefix.as_str()) || prefix.strip_suffix('/') == Some(to)
            }
            None => true,
        }
        && matcher.path_regex.as_ref().is_none_or(|regex| regex.0.is_match(to));
    again.then(|| Fault::new("leads to where this rule applies again", "clients would go round in a circle"))
}

fn respond(section: &Section<'_>) -> Respond {
    let status = section.count("status") as u16;
    let body = section.nullable("body", |scalar| Ok(scalar.text.to_string()));
    let file = section.nullable("file", super::process::file_path);
    let page = match (body, file) {
        (Some(_), Some(_)) => {
            if let Some(at) = section.get("file") {
                at.refuse_key(Fault::new("there is a `body`, too", "keep one of them"));
            }
            Page::Status
        }
        (Some(text), None) => Page::Text(text),
        (None, Some(path)) => Page::File(PageFile { path, content: Bytes::new() }),
        (None, None) => Page::Status,
    };
    if matches!(status, 204 | 205 | 304)
        && page != Page::Status
        && let Some(at) = section.get("body").or(section.get("file"))
    {
        at.refuse_key(Fault::new(format!("a response with status {status} has no body"), "remove it"));
    }
    let fields = set_rules(section, "headers");
    Respond { status, page, fields }
}
