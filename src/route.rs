//! From a request's head to the rule that serves it.

use crate::config::plan::{HostPattern, Match, Name, PathPattern};
use crate::pool::Pool;
use http::{HeaderMap, Method};
use std::sync::Arc;

/// What of a request decides its route.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The authority as it came; a port, a trailing dot and the case make no difference.
    pub host: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
}

/// One rule of a table.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The `route` label of metrics and logs.
    pub name: Name,
    pub matcher: Match,
    pub pool: Arc<Pool>,
}

/// A named list of rules; the first that matches wins.
#[derive(Debug)]
pub struct Table {
    pub name: Name,
    pub rules: Vec<Rule>,
}

impl Table {
    pub fn new(name: Name, rules: Vec<Rule>) -> Self {
        Self { name, rules }
    }

    /// The first rule that matches.
    pub fn find(&self, request: &Request<'_>) -> Option<&Rule> {
        let host = normal(request.host).to_ascii_lowercase();
        self.rules.iter().find(|rule| {
            rule.matcher.host.as_ref().is_none_or(|pattern| match pattern {
                HostPattern::Exact(exact) => *exact == host,
                HostPattern::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            }) && matches(&rule.matcher, request)
        })
    }
}

/// The host without port and trailing dot.
fn normal(host: &str) -> &str {
    let end = match host.starts_with('[') {
        true => host.find(']').map_or(host.len(), |bracket| bracket + 1),
        false => host.find(':').unwrap_or(host.len()),
    };
    let host = &host[..end];
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether everything but the host is as asked.
fn matches(matcher: &Match, request: &Request<'_>) -> bool {
    let path = matcher.path.as_ref().is_none_or(|pattern| match pattern {
        PathPattern::Exact(path) => request.path == path,
        PathPattern::Prefix(prefix) => {
            request.path.starts_with(prefix.as_str()) || prefix.strip_suffix('/') == Some(request.path)
        }
    });
    path && (matcher.methods.is_empty() || matcher.methods.contains(request.method))
        && matcher.headers.iter().all(|wanted| match &wanted.value {
            None => request.headers.contains_key(&wanted.name),
            Some(value) => request.headers.get_all(&wanted.name).iter().any(|have| have == value.as_str()),
        })
}
