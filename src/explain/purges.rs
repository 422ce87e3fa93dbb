//! What of a purge can reach nothing, whatever is kept: who purges so has mistaken a name, or the configuration.

use crate::api::cache::{PurgeWish, Unreached};
use crate::config::plan::cache::CachePlan;
use crate::config::plan::{Match, PathPattern};
use crate::route::{may_fit, takes_all};
use crate::snapshot::{Listener, ListenerTarget, Snapshot};
use http::Uri;

/// What can reach nothing, and why. Of what may have something nothing is said.
pub(crate) fn unreached(snapshot: &Snapshot, wish: &PurgeWish) -> Vec<Unreached> {
    let told = |what: &String, why: Option<String>| why.map(|why| Unreached { what: what.clone(), why });
    let urls = wish.urls.iter().filter_map(|url| told(url, of_url(snapshot, url)));
    let tags = wish.tags.iter().filter_map(|tag| told(tag, of_tag(snapshot, tag)));
    let prefixes = wish.prefixes.iter().filter_map(|prefix| told(prefix, of_prefix(snapshot, prefix)));
    urls.chain(tags).chain(prefixes).collect()
}

fn of_tag(snapshot: &Snapshot, tag: &str) -> Option<String> {
    if tag.is_empty() {
        return Some("no response has an empty tag".to_owned());
    }
    if tag.contains([',', ' ', '\t']) {
        let why =
            "no response has such a tag, for fields are parted at commas and blanks; name each by itself";
        return Some(why.to_owned());
    }
    if tag.contains(char::is_control) {
        return Some("no response has such a tag, for no field may have control characters".to_owned());
    }
    let reads_tags = |plan: &CachePlan| !plan.tags.fields.is_empty();
    let is_read = snapshot.plan.cache_plans().any(reads_tags);
    (!is_read).then(|| "no rule reads tags: `cache.tags.fields` is empty".to_owned())
}

fn of_url(snapshot: &Snapshot, url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (host, path) = (uri.authority()?.as_str(), uri.path());
    let fits = |pattern: &PathPattern| pattern.matches(path);
    judge(snapshot, host, &PurgedPaths { path: Some(path), fits: &fits })
}

fn of_prefix(snapshot: &Snapshot, prefix: &str) -> Option<String> {
    let rest = prefix.split_once("://").map_or(prefix, |(_, rest)| rest);
    let (host, beginning) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if beginning.contains(['?', '#']) {
        return Some(
            "a prefix is of paths, which have no query; leave that out, or purge the URL".to_owned(),
        );
    }
    if host.is_empty() {
        return Some("it has no host; write it like `shop.example/static/`".to_owned());
    }
    let fits = |pattern: &PathPattern| match pattern {
        PathPattern::Exact(path) => path.starts_with(beginning),
        PathPattern::Prefix(path) => path.starts_with(beginning) || beginning.starts_with(&**path),
    };
    // Without a path it may be the beginning of a host.
    match beginning {
        "" => None,
        _ => judge(snapshot, host, &PurgedPaths { path: None, fits: &fits }),
    }
}

/// Paths that are asked about.
struct PurgedPaths<'a> {
    /// The only one.
    path: Option<&'a str>,
    fits: &'a dyn Fn(&PathPattern) -> bool,
}

/// How near a rule comes to keeping something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    #[default]
    NoCache,
    Host,
    /// No rule of this host, or another before.
    Path,
    Bypass,
    Kept,
}

fn judge(snapshot: &Snapshot, host: &str, asked: &PurgedPaths<'_>) -> Option<String> {
    let nearest = snapshot.listeners().iter().map(|listener| of_listener(listener, host, asked)).max();
    let why = match nearest.unwrap_or_default() {
        Nearness::Kept => return None,
        Nearness::NoCache => "no rule that leads to a pool has a cache".to_owned(),
        Nearness::Host => format!("no rule with a cache is for the host {host}"),
        Nearness::Path => format!("the rules with a cache for the host {host} do not get this path"),
        Nearness::Bypass => "`bypass.paths` leaves it out".to_owned(),
    };
    Some(why)
}

fn of_listener(listener: &Listener, host: &str, asked: &PurgedPaths<'_>) -> Nearness {
    let plan_of = |place| listener.policy(place).and_then(|policy| policy.plan.cache.get());
    match &listener.target {
        ListenerTarget::RedirectToHttps => Nearness::NoCache,
        ListenerTarget::Pool(_) => {
            plan_of(None).map_or(Nearness::NoCache, |plan| of_rule(&Match::default(), plan, host, asked))
        }
        ListenerTarget::Routes(table) => {
            let (mut nearest, mut is_taken) = (Nearness::NoCache, false);
            for (place, rule) in (0..).zip(&table.rules) {
                match plan_of(Some(place)).filter(|_| rule.pool().is_some()) {
                    // What hosts share may come by another.
                    Some(plan) if is_taken && plan.key.host => {}
                    Some(plan) => nearest = nearest.max(of_rule(&rule.matcher, plan, host, asked)),
                    None => is_taken |= asked.path.is_some_and(|path| takes_all(&rule.matcher, host, path)),
                }
            }
            // Rules that come too late have a cache all the same.
            let has_cache = (0..).zip(&table.rules).any(|(place, _)| plan_of(Some(place)).is_some());
            if has_cache { nearest.max(Nearness::Host) } else { nearest }
        }
    }
}

fn of_rule(matcher: &Match, plan: &CachePlan, host: &str, asked: &PurgedPaths<'_>) -> Nearness {
    // Where hosts share what is kept, the rule's own host is what it is kept by.
    let host = Some(host).filter(|_| plan.key.host);
    if !may_fit(matcher, host, None, &|_| true) {
        Nearness::Host
    } else if !may_fit(matcher, host, asked.path, asked.fits) {
        Nearness::Path
    } else if asked.path.is_some_and(|path| plan.bypass.paths.iter().any(|pattern| pattern.matches(path))) {
        Nearness::Bypass
    } else {
        Nearness::Kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = "\
listeners: { web: { address: 127.0.0.1:80, routes: shop } }
routes:
  shop:
    - { match: { path: /live/* }, pool: app }
    - { match: { host: shop.example, path: /static/* }, cache: { bypass: { paths: [/static/own/*] } }, pool: app }
    - { match: { path_regex: '^/img/[0-9]+$', host: '*.shop.example' }, cache: {}, pool: app }
    - { match: { host: all.example }, cache: { key: { host: false } }, pool: app }
    - { match: { path: /bare/*, host: bare.example }, pool: app }
    - { match: { host: bare.example }, cache: {}, pool: app }
pools: { app: { servers: [127.0.0.1:1] } }
";

    fn check(text: &str, wish: PurgeWish, expected: &str) {
        let (plan, _) = crate::config::parse(text).unwrap_or_else(|_| panic!("{text}"));
        let (snapshot, _) = Snapshot::empty().evolve(plan, std::time::Instant::now());
        let told = unreached(&snapshot, &wish);
        let whys: Vec<_> = told.iter().map(|unreached| &*unreached.why).collect();
        match expected {
            "" => assert!(whys.is_empty(), "{wish:?}: {whys:?}"),
            _ => assert!(whys.len() == 1 && whys[0].contains(expected), "{wish:?}: {whys:?}"),
        }
    }

    #[test]
    fn a_url_that_no_rule_keeps_anything_of_is_told() {
        for (url, expected) in [
            ("http://shop.example/static/a?b=1", ""),
            ("http://SHOP.example.:8080/static/a", ""),
            ("http://shop.example/static/own/a", "`bypass.paths`"),
            ("http://shop.example/other", "do not get this path"),
            ("http://a.shop.example/img/12", ""),
            ("http://a.shop.example/img/x", "do not get this path"),
            ("http://other.example/live/a", "host other.example"),
            ("http://bare.example/live/a", "host bare.example"),
            ("http://bare.example/bare/a", "host bare.example"),
            ("http://bare.example/a", ""),
        ] {
            // What all hosts share may be reached by any.
            let text = SHOP.replace(
                "    - { match: { host: all.example }, cache: { key: { host: false } }, pool: app }\n",
                "",
            );
            check(&text, PurgeWish { urls: vec![url.to_owned()], ..PurgeWish::default() }, expected);
        }
        let url = "http://other.example/a".to_owned();
        check(SHOP, PurgeWish { urls: vec![url], ..PurgeWish::default() }, "");
    }

    #[test]
    fn a_tag_or_a_prefix_that_nothing_can_have_is_told() {
        let text = SHOP.replace("key: { host: false }", "ttl: 1s");
        for (prefix, expected) in [
            ("shop.example/static/", ""),
            ("shop.example/st", ""),
            ("http://shop.example/static/a/b", ""),
            ("shop.ex", ""),
            ("shop.example/images/", "do not get this path"),
            ("other.example/", "host other.example"),
            ("/static/", "has no host"),
            ("shop.example/static/?a", "no query"),
        ] {
            check(&text, PurgeWish { prefixes: vec![prefix.to_owned()], ..PurgeWish::default() }, expected);
        }
        for (tag, expected) in [
            ("p1", ""),
            ("ü", ""),
            ("", "empty"),
            ("a b", "commas and blanks"),
            ("a,b", "commas and blanks"),
            ("a\n", "control"),
        ] {
            check(&text, PurgeWish { tags: vec![tag.to_owned()], ..PurgeWish::default() }, expected);
        }
        let tagless = "listeners: { web: { address: 127.0.0.1:80, policy: c, pool: app } }\n\
                       policies: { c: { cache: { tags: { fields: [] } } } }\npools: { app: { servers: [127.0.0.1:1] } }\n";
        check(
            tagless,
            PurgeWish { tags: vec!["p1".to_owned()], ..PurgeWish::default() },
            "no rule reads tags",
        );
        check(
            tagless,
            PurgeWish { urls: vec!["http://any.example/".to_owned()], all: true, ..PurgeWish::default() },
            "",
        );
    }
}
