//! From a request's head to the rule that serves it.

use crate::client_hello::Hello;
use crate::config::plan::policy::{Redirect, Respond};
use crate::config::plan::{HeaderMatch, HostPattern, Match, Name, PathPattern, Priority};
use crate::fields::Fields;
use crate::host::Spelling;
use crate::pool::Pool;
use http::Method;
use std::collections::HashMap;
use std::sync::Arc;

/// What of a request decides its route.
#[derive(Debug)]
pub struct RouteRequest<'a, F> {
    /// The authority as it came; a port, a trailing dot and the case make no difference.
    pub host: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub method: &'a Method,
    pub headers: &'a F,
}

/// One rule of a table.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// The `route` label of metrics and logs.
    pub name: Name,
    pub matcher: Match,
    pub target: RuleTarget,
    /// What a connection may switch to; `None` is WebSocket alone.
    pub upgrades: Option<Arc<[String]>>,
    /// Who is served first of those that wait for the pool.
    pub priority: Priority,
}

impl RouteRule {
    /// The pool that its requests go to, if it has one.
    pub fn pool(&self) -> Option<&Arc<Pool>> {
        match &self.target {
            RuleTarget::Pool(pool) => Some(pool),
            RuleTarget::Redirect(_) | RuleTarget::Respond(_) => None,
        }
    }

    fn leads_to(&self, wanted: &Arc<Pool>) -> bool {
        self.pool().is_some_and(|pool| Arc::ptr_eq(pool, wanted))
    }
}

/// What becomes of a rule's requests.
#[derive(Clone, Debug)]
pub enum RuleTarget {
    Pool(Arc<Pool>),
    Redirect(Arc<Redirect>),
    Respond(Arc<Respond>),
}

/// A rule that matches, and its place in its table.
#[derive(Clone, Copy, Debug)]
pub struct RouteMatch<'a> {
    pub place: u32,
    pub rule: &'a RouteRule,
}

/// A named list of rules; the first that matches wins.
#[derive(Clone, Debug)]
pub struct RouteTable {
    pub name: Name,
    pub rules: Vec<RouteRule>,
    /// Places in `rules`, in order, by the exact host they ask for.
    exact: HashMap<Box<str>, Vec<usize>>,
    /// The same by host suffix (`.shop.example`).
    suffix: HashMap<Box<str>, Vec<usize>>,
    /// Rules for any host.
    any: Vec<usize>,
}

impl RouteTable {
    pub fn new(name: Name, rules: Vec<RouteRule>) -> Self {
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

    /// Whether some of its rules lead to this very pool.
    pub fn leads_to(&self, pool: &Arc<Pool>) -> bool {
        self.rules.iter().any(|rule| rule.leads_to(pool))
    }

    /// The same with `new` where `old` is.
    pub fn with_pool(&self, old: &Arc<Pool>, new: &Arc<Pool>) -> Self {
        let mut table = self.clone();
        for rule in table.rules.iter_mut().filter(|rule| rule.leads_to(old)) {
            rule.target = RuleTarget::Pool(Arc::clone(new));
        }
        table
    }

    /// The first rule that matches.
    pub fn find<F: Fields>(&self, request: &RouteRequest<'_, F>) -> Option<RouteMatch<'_>> {
        self.first(request.host, |matcher| matches(matcher, request))
    }

    /// The first rule that matches a TLS client's hello. One that asks for no name matches rules for any host.
    pub fn find_tls(&self, hello: &Hello) -> Option<RouteMatch<'_>> {
        self.first(hello.name.as_deref().unwrap_or_default(), |matcher| misfit_tls(matcher, hello).is_none())
    }

    /// What of each rule does not fit a request, in order; for whoever wants to know why, not for requests.
    pub fn misfits<F: Fields>(&self, request: &RouteRequest<'_, F>) -> Vec<Option<Misfit>> {
        self.judged(request.host, |matcher| misfit(matcher, request))
    }

    /// The same for a TLS client's hello.
    pub fn misfits_tls(&self, hello: &Hello) -> Vec<Option<Misfit>> {
        self.judged(hello.name.as_deref().unwrap_or_default(), |matcher| misfit_tls(matcher, hello))
    }

    fn judged(&self, host: &str, misfit: impl Fn(&Match) -> Option<Misfit>) -> Vec<Option<Misfit>> {
        let judge = |rule: &RouteRule| match fits_host(&rule.matcher, host) {
            true => misfit(&rule.matcher),
            false => Some(Misfit::Host),
        };
        self.rules.iter().map(judge).collect()
    }

    /// The first rule for this host that fits.
    fn first(&self, host: &str, fits: impl Fn(&Match) -> bool) -> Option<RouteMatch<'_>> {
        let mut spelling = Spelling::default();
        let host = spelling.of(host);
        let exact = self.exact.get(host).map(Vec::as_slice).unwrap_or_default();
        // `*.shop.example` asks for one label or more before the dot.
        let dots =
            host.match_indices('.').map(|(dot, _)| dot).filter(|dot| *dot > 0 && !self.suffix.is_empty());
        let suffixes = dots.filter_map(|dot| self.suffix.get(&host[dot..]).map(Vec::as_slice));

        let mut first = self.rules.len();
        for places in suffixes.chain([exact, &self.any]) {
            let mut earlier = places.iter().copied().take_while(|place| *place < first);
            first = earlier.find(|place| fits(&self.rules[*place].matcher)).unwrap_or(first);
        }
        self.rules.get(first).map(|rule| RouteMatch { place: first as u32, rule })
    }
}

/// Whether everything but the host is as asked.
fn matches<F: Fields>(matcher: &Match, request: &RouteRequest<'_, F>) -> bool {
    misfit(matcher, request).is_none()
}

/// The first thing of a rule that a request does not fit; the places are those of the rule's own lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    Host,
    Path,
    Method,
    Header(usize),
    Alpn,
}

/// What of everything but the host is not as asked.
fn misfit<F: Fields>(matcher: &Match, request: &RouteRequest<'_, F>) -> Option<Misfit> {
    let path = matcher.path.as_ref().is_none_or(|pattern| match pattern {
        PathPattern::Exact(path) => request.path == path,
        PathPattern::Prefix(prefix) => {
            request.path.starts_with(prefix.as_str()) || prefix.strip_suffix('/') == Some(request.path)
        }
    });
    if !path {
        return Some(Misfit::Path);
    }
    if !matcher.methods.is_empty() && !matcher.methods.contains(request.method) {
        return Some(Misfit::Method);
    }
    let is_missing = |wanted: &HeaderMatch| match &wanted.value {
        None => request.headers.first(&wanted.name).is_none(),
        Some(value) => !request.headers.all(&wanted.name).any(|have| have == value.as_bytes()),
    };
    matcher.headers.iter().position(is_missing).map(Misfit::Header)
}

fn misfit_tls(matcher: &Match, hello: &Hello) -> Option<Misfit> {
    let offers = |protocol: &String| hello.alpn.iter().any(|offered| offered == protocol.as_bytes());
    (!matcher.alpn.is_empty() && !matcher.alpn.iter().any(offers)).then_some(Misfit::Alpn)
}

fn fits_host(matcher: &Match, host: &str) -> bool {
    let mut spelling = Spelling::default();
    let host = spelling.of(host);
    match &matcher.host {
        None => true,
        Some(HostPattern::Exact(wanted)) => wanted == host,
        Some(HostPattern::Suffix(suffix)) => {
            host.strip_suffix(suffix.as_str()).is_some_and(|name| !name.is_empty())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Balance;
    use crate::pool::sample::{live, pool};
    use http::HeaderMap;

    /// A rule such as `GET shop.example /static/*`, any part of which may be `-`.
    fn matcher(text: &str) -> Match {
        let parts: Vec<&str> = text.split(' ').collect();
        let host = |host: &str| match host.strip_prefix('*') {
            Some(suffix) => HostPattern::Suffix(suffix.into()),
            None => HostPattern::Exact(host.into()),
        };
        let path = |path: &str| match path.strip_suffix('*') {
            Some(prefix) => PathPattern::Prefix(prefix.into()),
            None => PathPattern::Exact(path.into()),
        };
        Match {
            methods: parts[0]
                .split('|')
                .filter(|part| *part != "-")
                .map(|part| part.parse().unwrap())
                .collect(),
            host: Some(parts[1]).filter(|part| *part != "-").map(host),
            path: Some(parts[2]).filter(|part| *part != "-").map(path),
            headers: Vec::new(),
            alpn: Vec::new(),
        }
    }

    fn table(matchers: impl IntoIterator<Item = Match>) -> RouteTable {
        let pool = live(pool(Balance::RoundRobin, "a"));
        let rule = |(index, matcher): (usize, Match)| RouteRule {
            name: (index + 1).to_string().into(),
            matcher,
            target: RuleTarget::Pool(pool.clone()),
            upgrades: None,
            priority: Priority::Normal,
        };
        RouteTable::new("shop".into(), matchers.into_iter().enumerate().map(rule).collect())
    }

    /// The number of the rule that a request such as `GET shop.example /` meets, from 1; 0 is none.
    fn check(rules: &[&str], request: &str, expected: usize) {
        let parts: Vec<&str> = request.split(' ').collect();
        let (method, headers) = (parts[0].parse().unwrap(), HeaderMap::new());
        let request = RouteRequest { method: &method, host: parts[1], path: parts[2], headers: &headers };
        let table = table(rules.iter().copied().map(matcher));
        let found = table.find(&request).map_or(0, |found| found.rule.name.parse().unwrap());
        // Whoever asks why is told the same.
        let told = table.misfits(&request).iter().position(Option::is_none).map_or(0, |place| place + 1);
        assert_eq!(told, found, "{parts:?} among {rules:?}");
        assert_eq!(found, expected, "{parts:?} among {rules:?}");
    }

    #[test]
    fn the_first_rule_that_matches_wins_whatever_it_asks_for() {
        let rules = [
            "- secure.example /pay/*",
            "- *.example /static/*",
            "GET|HEAD - /status",
            "- secure.example -",
            "- *.eu.example -",
            "- *.example -",
            "POST - -",
        ];
        check(&rules, "GET secure.example /pay/card", 1);
        check(&rules, "GET secure.example /static/app.css", 2);
        check(&rules, "GET secure.example /status", 3);
        check(&rules, "POST secure.example /status", 4);
        check(&rules, "GET shop.eu.example /", 5);
        check(&rules, "GET eu.example /", 6);
        check(&rules, "POST example /", 7);
        check(&rules, "GET example /", 0);
    }

    #[test]
    fn a_host_matches_without_regard_to_case_port_and_final_dot() {
        for same in ["shop.example", "SHOP.Example", "shop.example:8443", "shop.example.", "shop.example.:80"]
        {
            check(&["- shop.example -"], &format!("GET {same} /"), 1);
        }
        for other in ["shop.example.org", "www.shop.example", "xshop.example", "shop.example..", ":80", "."] {
            check(&["- shop.example -"], &format!("GET {other} /"), 0);
        }
        check(&["- [::1] -"], "GET [::1]:8080 /", 1);
        check(&["- [2001:db8::1] -"], "GET [2001:DB8:0::0:1] /", 1);
        check(&["- shop.example -", "- - -"], &format!("GET {}.example /", "x".repeat(300)), 2);
    }

    #[test]
    fn a_wildcard_asks_for_one_label_or_more() {
        for (host, expected) in
            [("www.shop.example", 1), ("a.b.shop.example:80", 1), ("shop.example", 0), (".shop.example", 0)]
        {
            check(&["- *.shop.example -"], &format!("GET {host} /"), expected);
        }
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        for (path, expected) in
            [("/static", 1), ("/static/", 1), ("/static/a/b", 1), ("/staticx", 0), ("/stati", 0), ("/", 0)]
        {
            check(&["- - /static/*"], &format!("GET h {path}"), expected);
        }
        check(&["- - /*"], "GET h /anything", 1);
        check(&["- - /login"], "GET h /login/", 0);
    }

    #[test]
    fn a_tls_client_is_routed_by_what_its_hello_shows() {
        let alpn = |matcher: Match, alpn: &[&str]| Match {
            alpn: alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
            ..matcher
        };
        let rules = [
            alpn(matcher("- db.example -"), &["postgresql", "mysql"]),
            matcher("- db.example -"),
            matcher("- *.example -"),
            alpn(matcher("- - -"), &["h2"]),
        ];
        let table = table(rules);
        let meets = |name: Option<&str>, alpn: &[&str]| {
            let alpn = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
            let hello = Hello { name: name.map(str::to_owned), alpn };
            table.find_tls(&hello).map_or(0, |found| found.rule.name.parse().unwrap())
        };
        for (name, alpn, expected) in [
            (Some("DB.example"), &["h2", "mysql"][..], 1),
            (Some("db.example."), &["h2"], 2),
            (Some("www.example"), &[], 3),
            (Some("example"), &["h2"], 4),
            (None, &["http/1.1", "h2"], 4),
            (None, &["http/1.1"], 0),
            (None, &[], 0),
        ] {
            assert_eq!(meets(name, alpn), expected, "{name:?} {alpn:?}");
        }
    }

    #[test]
    fn every_header_asked_for_must_be_there() {
        let header = |name: &'static str, value: Option<&str>| HeaderMatch {
            name: http::HeaderName::from_static(name),
            value: value.map(Into::into),
        };
        let both = Match {
            headers: vec![header("x-beta", None), header("x-tier", Some("gold"))],
            ..Match::default()
        };
        let table = table([both]);
        let meets = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            table
                .find(&RouteRequest { host: "h", path: "/", method: &Method::GET, headers: &headers })
                .is_some()
        };
        assert!(meets(&[("x-beta", ""), ("x-tier", "silver"), ("x-tier", "gold")]));
        assert!(!meets(&[("x-beta", "1"), ("x-tier", "Gold")]));
        assert!(!meets(&[("x-tier", "gold")]));
    }
}
