//! What of a purge can reach nothing, whatever is kept: who purges so has mistaken a name, or the configuration.

use crate::api::cache::{PurgeWish, Unreached};
use crate::cache::{named_prefix, named_url};
use crate::config::plan::cache::CachePlan;
use crate::config::plan::{HostPattern, Match, PathPattern};
use crate::host::without_port;
use crate::route::normal_path::normal;
use crate::route::{may_fit, takes_all};
use crate::snapshot::{Listener, ListenerTarget, Snapshot};
use crate::units::Address;
use http::Method;

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
    let named = named_url(url)?;
    let path = named.rest.split('?').next().unwrap_or_default();
    if let Some(beginning) = url.strip_suffix('*') {
        let beginning = beginning.split_once("://").map_or(beginning, |(_, rest)| rest);
        return Some(format!(
            "a `*` in a URL stands for itself alone; what begins so is a prefix: `--prefix {beginning}`"
        ));
    }
    let fits = |pattern: &PathPattern| pattern.matches(path);
    let is_below = |pattern: &PathPattern| pattern.matches(path);
    judge(snapshot, named.host, &PurgedPaths { path: Some(path), fits: &fits, is_below: &is_below })
}

fn of_prefix(snapshot: &Snapshot, prefix: &str) -> Option<String> {
    let named = named_prefix(prefix)?;
    let (host, beginning) = (named.host, &*named.rest);
    if beginning.contains(['?', '#']) {
        return Some(
            "a prefix is of paths, which have no query; leave that out, or purge the URL".to_owned(),
        );
    }
    if host.contains('*') || beginning.contains('*') {
        return Some(
            "a `*` stands for itself alone; a prefix is one host with the beginning of a path".to_owned(),
        );
    }
    let shares_hosts = || snapshot.plan.cache_plans().any(|plan| !plan.key.host);
    if host.is_empty() && !shares_hosts() {
        return Some("it has no host; write it like `shop.example/static/`".to_owned());
    }
    let fits = |pattern: &PathPattern| match pattern {
        PathPattern::Exact(path) => path.starts_with(beginning),
        PathPattern::Prefix(path) => path.starts_with(beginning) || beginning.starts_with(&**path),
    };
    let is_below = |pattern: &PathPattern| match pattern {
        PathPattern::Exact(_) => false,
        PathPattern::Prefix(path) => beginning.starts_with(&**path),
    };
    match beginning {
        // It may be the beginning of a host.
        "" => (!may_begin_a_host(snapshot, host)).then(|| of_no_host(host)),
        _ => judge(snapshot, host, &PurgedPaths { path: None, fits: &fits, is_below: &is_below }),
    }
}

/// Whether some rule with a cache may be for a host that begins so.
fn may_begin_a_host(snapshot: &Snapshot, beginning: &str) -> bool {
    let beginning = without_port(beginning).to_ascii_lowercase();
    let begins = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(host) => host.starts_with(&beginning),
        HostPattern::Suffix(_) => true,
    };
    snapshot.listeners().iter().any(|listener| match &listener.target {
        ListenerTarget::RedirectToHttps => false,
        ListenerTarget::Pool(_) => plan_of(listener, None).is_some(),
        ListenerTarget::Routes(table) => (0..).zip(&table.rules).any(|(place, rule)| {
            let is_any = |plan: &CachePlan| !plan.key.host || hears_of_hosts(listener);
            let is_for = |plan: &CachePlan| is_any(plan) || may_be_for(&rule.matcher, &begins);
            rule.pool().is_some() && plan_of(listener, Some(place)).is_some_and(is_for)
        }),
    })
}

fn may_be_for(matcher: &Match, fits: &dyn Fn(&HostPattern) -> bool) -> bool {
    matcher.host.as_ref().is_none_or(fits)
        && (matcher.any.is_empty() || matcher.any.iter().any(|below| may_be_for(below, fits)))
}

/// Whether its proxies may say that clients have named another host than its rules see.
fn hears_of_hosts(listener: &Listener) -> bool {
    !listener.plan.trusted_proxies.is_empty()
        || listener.plan.addresses.iter().any(|address| matches!(address, Address::Unix(_)))
}

fn of_no_host(host: &str) -> String {
    format!("no rule with a cache is for the host {host}")
}

/// Paths that are asked about.
struct PurgedPaths<'a> {
    /// The only one.
    path: Option<&'a str>,
    /// Whether any of them fits a pattern, and whether all do.
    fits: &'a dyn Fn(&PathPattern) -> bool,
    is_below: &'a dyn Fn(&PathPattern) -> bool,
}

/// How near a rule comes to keeping something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness<'a> {
    #[default]
    NoCache,
    Host,
    /// No rule of this host gets the path.
    Path,
    /// A rule of this name, which has no cache, gets it before.
    Taken(&'a str),
    Bypass,
    Kept,
}

fn judge(snapshot: &Snapshot, host: &str, asked: &PurgedPaths<'_>) -> Option<String> {
    let nearest = snapshot.listeners().iter().map(|listener| of_listener(listener, host, asked)).max();
    let what = if asked.path.is_some() { "this path" } else { "paths that begin so" };
    let why = match nearest.unwrap_or_default() {
        Nearness::Kept => return None,
        Nearness::NoCache => "no rule that leads to a pool has a cache".to_owned(),
        Nearness::Host => of_no_host(host),
        Nearness::Path => format!("no rule with a cache for the host {host} gets {what}"),
        Nearness::Taken(name) => format!("the rule `{name}`, which has no cache, gets {what} before"),
        Nearness::Bypass => format!("`bypass.paths` leaves {what} out"),
    };
    Some(why)
}

fn plan_of(listener: &Listener, place: Option<u32>) -> Option<&CachePlan> {
    listener.policy(place).and_then(|policy| policy.plan.cache.get())
}

fn of_listener<'a>(listener: &'a Listener, host: &str, asked: &PurgedPaths<'_>) -> Nearness<'a> {
    let host = Some(host).filter(|_| !hears_of_hosts(listener));
    match &listener.target {
        ListenerTarget::RedirectToHttps => Nearness::NoCache,
        ListenerTarget::Pool(_) => plan_of(listener, None)
            .map_or(Nearness::NoCache, |plan| of_rule(&Match::default(), plan, host, asked)),
        ListenerTarget::Routes(table) => {
            let mut nearest = Nearness::NoCache;
            // By this host, and by any.
            let (mut taken, mut taken_of_all) = (None, None);
            for (place, rule) in (0..).zip(&table.rules) {
                match plan_of(listener, Some(place)).filter(|_| rule.pool().is_some()) {
                    Some(plan) => {
                        let own = of_rule(&rule.matcher, plan, host, asked);
                        // What hosts share may come by another.
                        let taken = if plan.key.host { taken } else { taken_of_all };
                        let own = match taken {
                            Some(name) if own > Nearness::Path => Nearness::Taken(name),
                            _ => own,
                        };
                        nearest = nearest.max(own);
                    }
                    None => {
                        let takes = |host| takes_all(&rule.matcher, host, asked.path, asked.is_below);
                        let name = Some(&*rule.name);
                        taken = taken.or(name.filter(|_| takes(host)));
                        taken_of_all = taken_of_all.or(name.filter(|_| takes(None)));
                    }
                }
            }
            nearest
        }
    }
}

fn of_rule<'a>(
    matcher: &Match,
    plan: &CachePlan,
    host: Option<&str>,
    asked: &PurgedPaths<'_>,
) -> Nearness<'a> {
    // Where hosts share what is kept, the rule's own host is what it is kept by.
    let host = host.filter(|_| plan.key.host);
    // Whichever way it is spelled.
    let is_left_out = |pattern: &PathPattern| {
        let other = asked.path.and_then(normal);
        (asked.is_below)(pattern) || other.is_some_and(|path| pattern.matches(&path))
    };
    if !matcher.methods.is_empty() && !matcher.methods.contains(&Method::GET) {
        Nearness::NoCache
    } else if !may_fit(matcher, host, None, &|_| true) {
        Nearness::Host
    } else if !may_fit(matcher, host, asked.path, asked.fits) {
        Nearness::Path
    } else if plan.bypass.paths.iter().any(is_left_out) {
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
    - { match: { host: shop.example, path: /post, methods: [POST] }, cache: {}, pool: app }
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
            ("http://shop.example/other", "no rule with a cache for the host shop.example gets this path"),
            ("http://a.shop.example/img/12", ""),
            ("http://a.shop.example/img/x", "gets this path"),
            ("http://other.example/live/a", "host other.example"),
            ("http://bare.example/live/a", "the rule `shop/1`, which has no cache, gets this path before"),
            ("http://bare.example/bare/a", "`shop/5`"),
            ("http://shop.example/static/%6Fwn/a", "`bypass.paths`"),
            ("http://me@shop.example/static/\u{e9}#a", ""),
            ("http://shop.example/static/*", "`--prefix shop.example/static/`"),
            ("http://shop.example/post", "gets this path"),
            ("http://bare.example/a", ""),
        ] {
            // What all hosts share may be reached by any.
            let text = SHOP.replace("key: { host: false }", "ttl: 1s");
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
            ("SHOP.example:8080", ""),
            ("shop.example/images/", "gets paths that begin so"),
            ("shop.example/static/*", ""),
            ("shop.example/static/own/a", "`bypass.paths` leaves paths that begin so out"),
            ("shop.example/static/own", ""),
            ("shop.example/live/a", "gets paths that begin so"),
            ("bare.example/live/a", "`shop/1`, which has no cache"),
            ("bare.example/bare/", "`shop/5`"),
            ("bare.example/bare", ""),
            ("shop.example/*/a", "stands for itself"),
            ("*.shop.example/a", "stands for itself"),
            ("other.example/", "host other.example"),
            ("/static/", "has no host"),
            ("shop.example/static/?a", "no query"),
        ] {
            check(&text, PurgeWish { prefixes: vec![prefix.to_owned()], ..PurgeWish::default() }, expected);
        }
        let exact = text.replace("*.shop.example", "a.example");
        let wish = PurgeWish { prefixes: vec!["shop.exmaple".to_owned()], ..PurgeWish::default() };
        check(&exact, wish, "host shop.exmaple");
        // What all hosts share lies under no host, and what proxies have named may lie under any.
        check(SHOP, PurgeWish { prefixes: vec!["/static/".to_owned()], ..PurgeWish::default() }, "");
        check(SHOP, PurgeWish { prefixes: vec!["/live/".to_owned()], ..PurgeWish::default() }, "`shop/1`");
        let behind = text.replace("routes: shop", "routes: shop, trusted_proxies: [10.0.0.1]");
        for (prefix, expected) in
            [("public.example", ""), ("public.example/static/", ""), ("a/live/", "`shop/1`")]
        {
            check(&behind, PurgeWish { prefixes: vec![prefix.to_owned()], ..PurgeWish::default() }, expected);
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
