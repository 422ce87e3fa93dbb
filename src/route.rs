//! From a request's head to the rule that serves it.

use crate::config::plan::{HostPattern, Match, Name, PathPattern};
use crate::pool::Pool;
use http::{HeaderMap, Method};
use std::collections::HashMap;
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
    /// Places in `rules`, in order, by the exact host they ask for.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// The same by host suffix (`.shop.example`).
    suffix: HashMap<Box<str>, Vec<usize>>,
    /// Rules for any host.
    any: Vec<usize>,
}

impl Table {
    pub fn new(name: Name, rules: Vec<Rule>) -> Self {
        let mut table = Self { name, rules, exact: HashMap::new(), suffix: HashMap::new(), any: Vec::new() };
        for (place, rule) in table.rules.iter().enumerate() {
            match &rule.matcher.host {
                Some(HostPattern::Exact(host)) => table.exact.entry(host.as_str().into()).or_default(),
                Some(HostPattern::Suffix(suffix)) => table.suffix.entry(suffix.as_str().into()).or_default(),
                None => &mut table.any,
            }
            .push(place);
        }
        table
    }

    /// The first rule that matches.
    pub fn find(&self, request: &Request<'_>) -> Option<&Rule> {
        let mut buffer = [0; LONGEST_HOST];
        let host = normal(request.host, &mut buffer);
        let exact = self.exact.get(host).map(Vec::as_slice).unwrap_or_default();
        // `*.shop.example` asks for one label or more before the dot.
        let dots =
            host.match_indices('.').map(|(dot, _)| dot).filter(|dot| *dot > 0 && !self.suffix.is_empty());
        let suffixes = dots.filter_map(|dot| self.suffix.get(&host[dot..]).map(Vec::as_slice));

        let mut first = self.rules.len();
        for places in suffixes.chain([exact, &self.any]) {
            let earlier = places.iter().copied().take_while(|place| *place < first);
            first = earlier
                .into_iter()
                .find(|place| matches(&self.rules[*place].matcher, request))
                .unwrap_or(first);
        }
        self.rules.get(first)
    }
}

/// A DNS name is no longer than 253 bytes (RFC 1035, section 2.3.4), so a longer host is nobody's.
const LONGEST_HOST: usize = 253;

/// The host in lower case, without port and trailing dot; empty if it is too long.
fn normal<'a>(host: &str, buffer: &'a mut [u8; LONGEST_HOST]) -> &'a str {
    let end = match host.starts_with('[') {
        true => host.find(']').map_or(host.len(), |bracket| bracket + 1),
        false => host.find(':').unwrap_or(host.len()),
    };
    let host = &host[..end];
    let host = host.strip_suffix('.').unwrap_or(host);
    let Some(lower) = buffer.get_mut(..host.len()) else {
        return "";
    };
    lower.copy_from_slice(host.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).expect("ASCII lower case keeps UTF-8 as it is")
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
