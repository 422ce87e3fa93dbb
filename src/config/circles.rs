//! Redirects that lead clients round in a circle: followed from rule to rule, as far as hosts and paths alone tell.

use super::place::At;
use super::plan::{HostPattern, Match, PathPattern, RoutesPlan, RulePlan, RuleTargetPlan};
use super::problem::Fault;
use http::Method;

/// Where a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    path: String,
}

/// Reports rules whose redirects come back to them: by way of others or, where all comes by TLS anyway, at once. One that leads to itself
/// by a path is reported where it is read.
pub(super) fn warn_of_circles(at: &At<'_>, routes: &RoutesPlan, comes_by_tls: bool) {
    let items = at.items().into_iter().flatten();
    for (start, item) in items.enumerate() {
        let Some(way) = circle(&routes.rules, start, comes_by_tls) else { continue };
        let by: Vec<_> = way[1..].iter().map(|rule| format!("`{}`", routes.rules[*rule].name)).collect();
        let by = if by.is_empty() { String::new() } else { format!(" by way of {}", by.join(", ")) };
        item.below("redirect").unwrap_or(item).warn(Fault::new(
            format!("leads to where this rule applies again{by}"),
            "clients would go round in a circle",
        ));
    }
}

/// The rules of a circle, each once, told of at the first of them.
fn circle(rules: &[RulePlan], start: usize, comes_by_tls: bool) -> Option<Vec<usize>> {
    let mut place = sample(&rules.get(start)?.matcher)?;
    let mut way = vec![start];
    loop {
        let RuleTargetPlan::Redirect(redirect) = &rules[*way.last()?].target else { return None };
        let is_absolute = !redirect.to.source().starts_with('/');
        place = next(redirect.to.source(), &place, comes_by_tls)?;
        let found = find(rules, &place)?;
        if found == start {
            return (way.len() > 1 || is_absolute).then_some(way);
        }
        if found < start || way.contains(&found) {
            return None;
        }
        way.push(found);
    }
}

/// A place that a rule is about.
fn sample(matcher: &Match) -> Option<Place> {
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
    is_plain(matcher).then_some(Place { host, path })
}

/// Whether a rule asks for a host and a path alone.
fn is_plain(matcher: &Match) -> bool {
    let rest = Match { host: None, path: None, methods: Vec::new(), ..matcher.clone() };
    (matcher.methods.is_empty() || matcher.methods.contains(&Method::GET)) && rest == Match::default()
}

/// Where a redirect leads from there, if that is to the same listener.
fn next(to: &str, from: &Place, comes_by_tls: bool) -> Option<Place> {
    let to = to.replace("{host}", &from.host).replace("{path}", &from.path);
    let to = to.split(['?', '#']).next()?;
    if to.contains('{') && !to.starts_with("{scheme}://") {
        return None;
    }
    if to.starts_with('/') {
        return Some(Place { path: to.to_owned(), ..from.clone() });
    }
    let rest = to.strip_prefix("{scheme}://");
    let rest = rest.or_else(|| to.strip_prefix("https://").filter(|_| comes_by_tls))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    Some(Place { host: host.to_ascii_lowercase(), path: path.to_owned() })
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
}
