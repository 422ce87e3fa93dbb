//! Redirects that lead clients round in a circle: followed from rule to rule and from listener to listener, as far as schemes, hosts and
//! paths alone tell.

use super::place::At;
use super::plan::policy::{Canonical, NamedPolicy};
use super::plan::{
    HostPattern, ListenerPlan, Match, PathPattern, Protocol, RoutesPlan, RulePlan, RuleTargetPlan, TargetPlan,
};
use super::problem::Fault;
use crate::units::Address;
use http::Method;
use std::collections::HashSet;

/// Longer ways are not followed.
const MOST_STEPS: usize = 20;

/// Where a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The listener that it asks, by its place among them.
    listener: usize,
    host: String,
    path: String,
}

/// A rule, by the places of its list and of itself.
type RulePlace = (usize, usize);

/// All that sends clients elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    pub(super) listeners: &'a [ListenerPlan],
    pub(super) routes: &'a [RoutesPlan],
    pub(super) policies: &'a [NamedPolicy],
}

impl Site<'_> {
    /// Reports rules whose redirects come back to them. One that leads to itself by a path is reported where it is read.
    pub(super) fn warn_of_circles<'a, 'b: 'a>(&self, lists: impl Iterator<Item = &'a At<'b>>) {
        let mut told: HashSet<RulePlace> = HashSet::new();
        for (list, at) in lists.enumerate() {
            for (start, item) in at.items().into_iter().flatten().enumerate() {
                if told.contains(&(list, start)) {
                    continue;
                }
                let users = (0..self.listeners.len()).filter(|listener| self.leads_to(*listener, list));
                let Some(way) = users.filter_map(|listener| self.circle(listener, (list, start))).next()
                else {
                    continue;
                };
                let others = way.iter().filter(|rule| **rule != (list, start));
                let by: Vec<_> = others
                    .map(|(list, rule)| format!("`{}`", self.routes[*list].rules[*rule].name))
                    .collect();
                let by = if by.is_empty() { String::new() } else { format!(" by way of {}", by.join(", ")) };
                let place = item.below("redirect").or_else(|| item.below("canonical"));
                place.unwrap_or(item).warn(Fault::new(
                    format!("leads to where this rule applies again{by}"),
                    "clients would go round in a circle",
                ));
                told.extend(way);
            }
        }
    }

    fn leads_to(&self, listener: usize, list: usize) -> bool {
        let listener = &self.listeners[listener];
        listener.protocol == Protocol::Http
            && matches!(listener.target, TargetPlan::Routes(place) if place == list)
    }

    /// The rules of a circle that begins with this one, each once; those of another begin elsewhere.
    fn circle(&self, listener: usize, (list, start): RulePlace) -> Option<Vec<RulePlace>> {
        let rule = self.routes.get(list)?.rules.get(start)?;
        let first = sample(listener, &rule.matcher)?;
        let mut place = first.clone();
        let mut way = Vec::new();
        for step in 0..MOST_STEPS {
            let (by, next) = self.next(&place)?;
            if step == 0 && by != Some((list, start)) {
                return None;
            }
            way.extend(by);
            place = next;
            if place == first {
                return (step > 0 || !is_told_elsewhere(&rule.target)).then_some(way);
            }
        }
        None
    }

    /// Where a client is sent from there, and by which rule; `None` if nowhere, or if that cannot be told.
    fn next(&self, from: &Place) -> Option<(Option<RulePlace>, Place)> {
        let listener = self.listeners.get(from.listener)?;
        let policy = |place: Option<usize>| place.map(|place| &self.policies[place].policy.canonical);
        match listener.target {
            TargetPlan::RedirectToHttps => Some((None, self.at(from, true, &from.host, &from.path)?)),
            TargetPlan::Pool(_) => {
                let canonical = policy(listener.policy)?.get()?.clone();
                Some((None, self.canonical(&canonical, from)??))
            }
            TargetPlan::Routes(list) => {
                let rules = &self.routes.get(list)?.rules;
                let found = find(rules, from)?;
                let rule = &rules[found];
                let said = [policy(listener.policy), policy(rule.policy), Some(&rule.own_policy.canonical)];
                let said = said.into_iter().flatten().cloned().reduce(|before, own| own.after(&before));
                let canonical = said.as_ref().and_then(|said| said.get());
                // Whatever the rule does comes after it.
                let moved = match canonical {
                    Some(canonical) => self.canonical(canonical, from)?,
                    None => None,
                };
                if let Some(place) = moved {
                    return Some((Some((list, found)), place));
                }
                let RuleTargetPlan::Redirect(redirect) = &rule.target else { return None };
                Some((Some((list, found)), self.redirected(redirect.to.source(), from)?))
            }
        }
    }

    /// Where the one form of a URL is; `Some(None)` is here.
    fn canonical(&self, canonical: &Canonical, from: &Place) -> Option<Option<Place>> {
        let (host, path) = (canonical.host(&from.host), canonical.path(&from.path));
        if canonical.https && !self.is_secure(from.listener)? {
            return Some(Some(self.at(from, true, &host, &path)?));
        }
        let place = Place { host, path, ..from.clone() };
        Some((place != *from).then_some(place))
    }

    /// Where a redirect leads from there.
    fn redirected(&self, to: &str, from: &Place) -> Option<Place> {
        let to = to.replace("{host}", &from.host).replace("{path}", &from.path);
        let to = to.split(['?', '#']).next()?;
        if to.contains('{') && !to.starts_with("{scheme}://") {
            return None;
        }
        if to.starts_with('/') {
            return Some(Place { path: to.to_owned(), ..from.clone() });
        }
        let (scheme, rest) = to.split_once("://")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path };
        let host = host.to_ascii_lowercase();
        match scheme {
            "{scheme}" => Some(Place { host, path: path.to_owned(), ..from.clone() }),
            "http" => self.at(from, false, &host, path),
            "https" => self.at(from, true, &host, path),
            _ => None,
        }
    }

    /// Where a URL of this scheme leads, whose host may have a port.
    fn at(&self, from: &Place, is_secure: bool, host: &str, path: &str) -> Option<Place> {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !host.ends_with(']') => (name, Some(port.parse::<u16>().ok()?)),
            _ => (host, None),
        };
        let is_such = |listener: &usize| {
            self.listeners[*listener].protocol == Protocol::Http
                && self.is_secure(*listener) == Some(is_secure)
        };
        let has = |listener: &usize, wanted: u16| {
            let mut addresses = self.listeners[*listener].addresses.iter();
            addresses.any(|address| matches!(address, Address::Inet(address) if address.port() == wanted))
        };
        let all = || (0..self.listeners.len()).filter(is_such);
        let usual = port.unwrap_or(if is_secure { 443 } else { 80 });
        let listener = match port {
            // Outside it may have another port than here.
            None if is_such(&from.listener) => from.listener,
            _ => {
                let only = || all().next().filter(|_| port.is_none() && all().count() == 1);
                all().find(|listener| has(listener, usual)).or_else(only)?
            }
        };
        Some(Place { listener, host: name.to_owned(), path: path.to_owned() })
    }

    /// Whether clients have come to it by TLS; `None` where a proxy before it says so of each.
    fn is_secure(&self, listener: usize) -> Option<bool> {
        let listener = self.listeners.get(listener)?;
        (listener.tls.is_some() || listener.trusted_proxies.is_empty()).then_some(listener.tls.is_some())
    }
}

/// What leads to itself by a path.
fn is_told_elsewhere(target: &RuleTargetPlan) -> bool {
    let RuleTargetPlan::Redirect(redirect) = target else { return false };
    let to = redirect.to.source();
    to.starts_with('/') || to.starts_with("{scheme}://{host}")
}

/// A place that a rule is about.
fn sample(listener: usize, matcher: &Match) -> Option<Place> {
    let host = match &matcher.host {
        Some(HostPattern::Exact(host)) => host.clone(),
        Some(HostPattern::Suffix(suffix)) => format!("x{suffix}"),
        None => "x.example".to_owned(),
    };
    let path = match &matcher.path {
        Some(PathPattern::Exact(path)) => path.clone(),
        Some(PathPattern::Prefix(prefix)) => format!("{prefix}x"),
        None => "/x".to_owned(),
    };
    is_plain(matcher).then_some(Place { listener, host, path })
}

/// Whether a rule asks for a host and a path alone.
fn is_plain(matcher: &Match) -> bool {
    let rest = Match { host: None, path: None, methods: Vec::new(), ..matcher.clone() };
    (matcher.methods.is_empty() || matcher.methods.contains(&Method::GET)) && rest == Match::default()
}

/// The first rule for that place; `None` if another may be it, too.
fn find(rules: &[RulePlan], place: &Place) -> Option<usize> {
    let fits = |matcher: &Match| {
        let host = match &matcher.host {
            Some(HostPattern::Exact(host)) => *host == place.host,
            Some(HostPattern::Suffix(suffix)) => place.host.ends_with(suffix.as_str()),
            None => true,
        };
        host && matcher.path.as_ref().is_none_or(|path| path.matches(&place.path))
    };
    let found = rules.iter().position(|rule| fits(&rule.matcher))?;
    is_plain(&rules[found].matcher).then_some(found)
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn redirects_that_come_back_are_told_of_once() {
        let own = "{ match: { path: /a }, redirect: /b }";
        for (tls, rules, told) in [
            (false, format!("{own}, {{ match: {{ path: /b }}, redirect: /a }}"), 1),
            (
                false,
                format!(
                    "{own}, {{ match: {{ path: /b }}, redirect: /c }}, {{ match: {{ path: /c }}, redirect: /a }}"
                ),
                1,
            ),
            (false, format!("{own}, {{ match: {{ path: /b }}, redirect: /c }}"), 0),
            (false, format!("{own}, {{ match: {{ path: /b, query: {{ x: y }} }}, redirect: /a }}"), 0),
            (false, format!("{own}, {{ match: {{ path: /b }}, redirect: \"https://other.example/a\" }}"), 0),
            (true, "{ match: { host: h.example }, redirect: \"https://h.example{path}\" }".to_owned(), 1),
            (false, "{ match: { host: h.example }, redirect: \"https://h.example{path}\" }".to_owned(), 0),
            (true, "{ match: { host: h.example }, redirect: \"https://www.h.example{path}\" }".to_owned(), 0),
            (
                true,
                "{ match: { host: h.example }, redirect: \"https://www.h.example{path}\" }, \
                 { match: { host: www.h.example }, redirect: \"https://h.example{path}\" }"
                    .to_owned(),
                1,
            ),
            (false, "{ match: { host: h.example }, redirect: \"http://h.example{path}\" }".to_owned(), 1),
            (false, "{ match: { host: h.example }, redirect: \"{scheme}://{host}{path}\" }".to_owned(), 1),
            (
                false,
                "{ match: { host: www.h.example }, redirect: \"http://h.example{path}\" }, \
                 { match: { host: h.example }, redirect: \"http://www.h.example{path}\" }"
                    .to_owned(),
                1,
            ),
            (
                true,
                "{ match: { host: www.h.example }, canonical: { www: remove }, pool: app }, \
                 { match: { host: h.example }, canonical: { www: add }, pool: app }"
                    .to_owned(),
                1,
            ),
            (
                false,
                "{ match: { path: /a/ }, redirect: /a }, \
                 { match: { path: /a }, canonical: { trailing_slash: add }, pool: app }"
                    .to_owned(),
                1,
            ),
            (
                false,
                "{ match: { path: /a/ }, canonical: { trailing_slash: remove }, pool: app }, \
                 { match: { path: /a }, canonical: { trailing_slash: add }, pool: app }"
                    .to_owned(),
                1,
            ),
            (
                false,
                "{ match: { path: /a/ }, canonical: { trailing_slash: remove }, pool: app }, \
                 { match: { path: /a }, pool: app }"
                    .to_owned(),
                0,
            ),
        ] {
            let tls = if tls { ", tls: { certificates: [{ cert: a.pem, key: a.key }] }" } else { "" };
            let text = format!(
                "listeners: {{ web: {{ address: 127.0.0.1:80, routes: r{tls} }} }}\n\
                 routes: {{ r: [{rules}, {{ pool: app }}] }}\npools: {{ app: {{ servers: [127.0.0.1:1] }} }}\n"
            );
            let (_, warnings) = parse(&text).unwrap_or_else(|_| panic!("{text}"));
            let said = warnings.render("test.yaml", &text, false);
            assert_eq!(said.matches("applies again").count(), told, "{text}{said}");
        }
    }

    #[test]
    fn redirects_from_listener_to_listener_are_followed() {
        let (clear, tls) = (
            "address: 127.0.0.1:80",
            "address: 127.0.0.1:443, tls: { certificates: [{ cert: a.pem, key: a.key }] }",
        );
        let back = "{ redirect: \"http://{host}{path}\" }";
        let there = "{ redirect: \"https://{host}{path}\" }";
        for (clear, tls, rules, told) in [
            (format!("{clear}, redirect_to_https: true"), tls.to_owned(), ["{ pool: app }", back], 1),
            (format!("{clear}, routes: one"), tls.to_owned(), [there, back], 1),
            (
                format!("{clear}, routes: one"),
                tls.to_owned(),
                ["{ pool: app, canonical: { https: true } }", back],
                1,
            ),
            (
                format!("{clear}, routes: one"),
                tls.to_owned(),
                ["{ redirect: \"https://{host}:8443{path}\" }", back],
                0,
            ),
            (format!("{clear}, routes: one"), tls.to_owned(), [there, "{ pool: app }"], 0),
            // Who asks it for http and who for https, the proxy before it knows.
            (format!("{clear}, routes: one, trusted_proxies: [192.0.2.1]"), tls.to_owned(), [there, back], 0),
        ] {
            let text = format!(
                "listeners:\n  clear: {{ {clear} }}\n  secure: {{ {tls}, routes: two }}\n\
                 routes:\n  one: [{}]\n  two: [{}]\npools: {{ app: {{ servers: [127.0.0.1:1] }} }}\n",
                rules[0], rules[1]
            );
            let (_, warnings) = parse(&text)
                .unwrap_or_else(|error| panic!("{text}{}", error.render("test.yaml", &text, false)));
            let said = warnings.render("test.yaml", &text, false);
            assert_eq!(said.matches("applies again").count(), told, "{text}{said}");
        }
    }
}
