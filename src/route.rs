//! From a request's head to the rule that serves it.

mod matching;
pub mod normal_path;

pub use matching::Misfit;
pub(crate) use matching::{may_fit, takes_all};

use crate::client_hello::Hello;
use crate::config::plan::policy::{Redirect, Respond};
use crate::config::plan::{HostPattern, Match, Name, Priority};
use crate::fields::Fields;
use crate::geo::Location;
use crate::host::Spelling;
use crate::pool::Pool;
use http::Method;
use matching::{fits_host, misfit, misfit_tls};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What of a request decides its route.
#[derive(Debug)]
pub struct RouteRequest<'a, F> {
    /// The authority as it came; a port, a trailing dot and the case make no difference.
    pub host: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// Without its question mark.
    pub query: &'a str,
    pub method: &'a Method,
    pub headers: &'a F,
    /// The real client; `None` is one behind a unix socket.
    pub client: Option<IpAddr>,
    /// Where that is.
    pub location: Location,
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

    /// Whether it keeps clients out by its answer: whoever is kept out by one spelling of a path is by every other.
    fn refuses(&self) -> bool {
        matches!(&self.target, RuleTarget::Respond(respond) if respond.status >= 400)
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

/// The rules that a request meets.
#[derive(Clone, Copy, Debug)]
pub struct RulesMet<'a> {
    /// Where it goes.
    pub found: RouteMatch<'a>,
    /// Who must let it pass, too: the rule of what servers may take its path for.
    pub taken_for: Option<RouteMatch<'a>>,
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
        self.first(request.host, |matcher| misfit(matcher, request).is_none())
    }

    /// The rule that a request meets. If some rules keep clients out, the path that servers may take its path for counts as well.
    pub fn meet<F: Fields>(&self, request: &RouteRequest<'_, F>, keep_out: bool) -> Option<RulesMet<'_>> {
        let found = self.find(request)?;
        let other = match keep_out {
            true => normal_path::normal(request.path).and_then(|path| {
                let other = self.find(&RouteRequest { path: &path, ..*request })?;
                (other.place != found.place).then_some(other)
            }),
            false => None,
        };
        Some(match other {
            Some(other) if other.rule.refuses() => RulesMet { found: other, taken_for: None },
            taken_for => RulesMet { found, taken_for },
        })
    }

    /// The first rule that matches a TLS client's hello. One that asks for no name matches rules for any host.
    pub fn find_tls(&self, hello: &Hello, client: (Option<IpAddr>, Location)) -> Option<RouteMatch<'_>> {
        let fits = |matcher: &Match| misfit_tls(matcher, hello, client).is_none();
        self.first(hello.name.as_deref().unwrap_or_default(), fits)
    }

    /// What of each rule does not fit a request, in order; for whoever wants to know why, not for requests.
    pub fn misfits<F: Fields>(&self, request: &RouteRequest<'_, F>) -> Vec<Option<Misfit>> {
        self.judged(request.host, |matcher| misfit(matcher, request))
    }

    /// The same for a TLS client's hello.
    pub fn misfits_tls(&self, hello: &Hello, client: (Option<IpAddr>, Location)) -> Vec<Option<Misfit>> {
        let misfit = |matcher: &Match| misfit_tls(matcher, hello, client);
        self.judged(hello.name.as_deref().unwrap_or_default(), misfit)
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

#[cfg(test)]
mod tests;
