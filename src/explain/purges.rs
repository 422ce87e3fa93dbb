//! What of a purge can reach nothing, whatever is kept, and what of it may be meant otherwise: who purges so has mistaken a name, or the
//! configuration.

use crate::api::cache::{PurgeHint, PurgeWish, Unreached};
use crate::cache::{named_prefix, named_url, spelled};
use crate::config::plan::cache::CachePlan;
use crate::config::plan::{HostPattern, Match, PathPattern};
use crate::host::without_port;
use crate::route::normal_path::normal;
use crate::route::{may_fit, takes_all};
use crate::snapshot::{Listener, ListenerTarget, Snapshot};
use crate::units::Address;
use http::Method;
use std::borrow::Cow;

/// What is to be told of a purge; of what may have something nothing is.
#[derive(Debug, Default)]
pub(crate) struct PurgeAdvice {
    pub(crate) unreached: Vec<Unreached>,
    pub(crate) hints: Vec<PurgeHint>,
}

impl PurgeAdvice {
    pub(crate) fn new(snapshot: &Snapshot, wish: &PurgeWish) -> Self {
        let mut advice = Self::default();
        wish.urls.iter().for_each(|url| advice.of_url(snapshot, url));
        wish.tags.iter().for_each(|tag| advice.of_tag(snapshot, tag));
        wish.prefixes.iter().for_each(|prefix| advice.of_prefix(snapshot, prefix));
        advice
    }

    fn in_vain(&mut self, what: &str, why: String) {
        self.unreached.push(Unreached { what: what.to_owned(), why });
    }

    fn hint(&mut self, what: &str, hint: String) {
        self.hints.push(PurgeHint { what: what.to_owned(), hint });
    }

    /// Responses with too many tags are purged by any, so that none is in vain.
    fn of_tag(&mut self, snapshot: &Snapshot, tag: &str) {
        let reads_tags = |plan: &CachePlan| !plan.tags.fields.is_empty();
        let hint = if tag.contains([',', ' ', '\t']) {
            "no response has such a tag, for fields are parted at commas and blanks; name each by itself"
        } else if tag.contains(char::is_control) {
            "no response has such a tag, for no field may have control characters"
        } else if !snapshot.plan.cache_plans().any(reads_tags) {
            "no rule reads tags: `cache.tags.fields` is empty"
        } else {
            return;
        };
        self.hint(tag, hint.to_owned());
    }

    fn of_url(&mut self, snapshot: &Snapshot, url: &str) {
        let Some(named) = named_url(url) else { return };
        let path = named.rest.split('?').next().unwrap_or_default();
        let written = url.split('#').next().unwrap_or_default();
        if let Some(beginning) = written.strip_suffix('*') {
            let beginning = beginning.split_once("://").map_or(beginning, |(_, rest)| rest);
            let hint = match beginning.split_once('?') {
                None => format!("for all that begins so use `--prefix {beginning}`"),
                Some((path, _)) => {
                    format!("`--prefix {path}` is for all paths that begin so, with each of their queries")
                }
            };
            self.hint(url, format!("`*` stands for itself in a URL; {hint}"));
        }
        let what = PurgedPaths {
            path: Some(path),
            may_fit: &|literal, is_whole| if is_whole { literal == path } else { path.starts_with(literal) },
            are_below: &|pattern| pattern.matches(path),
        };
        self.judge(url, snapshot, named.host, &what);
    }

    fn of_prefix(&mut self, snapshot: &Snapshot, prefix: &str) {
        let Some(named) = named_prefix(prefix) else { return };
        let (host, beginning) = (named.host, &*named.rest);
        if beginning.contains(['?', '#']) {
            let why = "a prefix is of paths, which have no query; leave that out, or purge the URL";
            return self.in_vain(prefix, why.to_owned());
        }
        if host.contains('*') || beginning.contains('*') {
            let hint = "`*` stands for itself in a prefix, which is one host with the beginning of a path";
            self.hint(prefix, hint.to_owned());
        }
        if host.is_empty() && snapshot.plan.cache_plans().all(|plan| plan.key.host) {
            let hint =
                "it has no host, as only requests without one have; write it like `shop.example/static/`";
            return self.hint(prefix, hint.to_owned());
        }
        if beginning.is_empty() {
            // It may be the beginning of a host.
            if !may_begin_a_host(snapshot, host) {
                self.in_vain(prefix, of_no_host(host));
            }
            return;
        }
        let may_fit = |literal: &str, is_whole: bool| {
            literal.starts_with(beginning) || !is_whole && beginning.starts_with(literal)
        };
        let are_below = |pattern: &PathPattern| match pattern {
            PathPattern::Exact(_) => false,
            PathPattern::Prefix(literal) => beginning.starts_with(&**literal),
        };
        let what = PurgedPaths { path: None, may_fit: &may_fit, are_below: &are_below };
        self.judge(prefix, snapshot, host, &what);
    }

    /// A purge is of each spelling of its paths, while rules match one alone.
    fn judge(&mut self, what: &str, snapshot: &Snapshot, host: &str, asked: &PurgedPaths<'_>) {
        if let Some(why) = why_not(snapshot, host, &AskedPaths { asked, spelling: Spellings::Any }) {
            return self.in_vain(what, why);
        }
        if let Some(why) = why_not(snapshot, host, &AskedPaths { asked, spelling: Spellings::Written }) {
            self.hint(what, format!("{why}, as it is written here; other spellings of it may be kept"));
        }
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

/// Paths that are purged, in the spelling that purges go by.
struct PurgedPaths<'a> {
    /// The only one.
    path: Option<&'a str>,
    /// Whether any of them is one, or begins with one if it is not the whole.
    may_fit: &'a dyn Fn(&str, bool) -> bool,
    /// Whether all of them fit a pattern.
    are_below: &'a dyn Fn(&PathPattern) -> bool,
}

/// How requests may write their paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spellings {
    Written,
    Any,
}

struct AskedPaths<'a> {
    asked: &'a PurgedPaths<'a>,
    spelling: Spellings,
}

impl<'a> AskedPaths<'a> {
    /// What expressions see, where that is known.
    fn seen(&self) -> Option<&'a str> {
        self.asked.path.filter(|_| self.spelling == Spellings::Written)
    }

    fn may_fit(&self, pattern: &PathPattern) -> bool {
        let (literal, is_whole) = literal(pattern);
        match self.spelling {
            Spellings::Written => (self.asked.may_fit)(literal, is_whole),
            // It may end amid what encodes a letter.
            Spellings::Any => literal.contains('%') || (self.asked.may_fit)(&spelled(literal), is_whole),
        }
    }

    fn are_below(&self, pattern: &PathPattern) -> bool {
        (self.spelling == Spellings::Written || has_one_spelling(literal(pattern).0))
            && (self.asked.are_below)(pattern)
    }

    /// `bypass.paths` goes by what servers may take a path for, too.
    fn are_left_out(&self, pattern: &PathPattern) -> bool {
        let meant = self.asked.path.map(|path| normal(path).map_or(Cow::Borrowed(path), Cow::Owned));
        self.are_below(pattern) || meant.is_some_and(|path| pattern.matches(&path))
    }
}

/// What paths are or begin with, and whether that is all.
fn literal(pattern: &PathPattern) -> (&str, bool) {
    match pattern {
        PathPattern::Exact(literal) => (literal, true),
        PathPattern::Prefix(literal) => (literal, false),
    }
}

/// Whether what is no letter is all there is, so that nobody can write it otherwise.
fn has_one_spelling(literal: &str) -> bool {
    let has_others =
        |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii_graphic() || b"-._~%<>\"".contains(&byte);
    !literal.bytes().any(has_others)
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

/// Why nothing is kept of paths.
fn why_not(snapshot: &Snapshot, host: &str, asked: &AskedPaths<'_>) -> Option<String> {
    let nearest = snapshot.listeners().iter().map(|listener| of_listener(listener, host, asked)).max();
    let what = if asked.asked.path.is_some() { "this path" } else { "paths that begin so" };
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

fn of_listener<'a>(listener: &'a Listener, host: &str, asked: &AskedPaths<'_>) -> Nearness<'a> {
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
                        let are_below = |pattern: &PathPattern| asked.are_below(pattern);
                        let takes = |host| takes_all(&rule.matcher, host, asked.seen(), &are_below);
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
    asked: &AskedPaths<'_>,
) -> Nearness<'a> {
    // Where hosts share what is kept, the rule's own host is what it is kept by.
    let host = host.filter(|_| plan.key.host);
    if !matcher.methods.is_empty() && !matcher.methods.contains(&Method::GET) {
        Nearness::NoCache
    } else if !may_fit(matcher, host, None, &|_| true) {
        Nearness::Host
    } else if !may_fit(matcher, host, asked.seen(), &|pattern| asked.may_fit(pattern)) {
        Nearness::Path
    } else if plan.bypass.paths.iter().any(|pattern| asked.are_left_out(pattern)) {
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

    fn advice(text: &str, wish: &PurgeWish) -> PurgeAdvice {
        let (plan, _) = crate::config::parse(text).unwrap_or_else(|_| panic!("{text}"));
        let (snapshot, _) = Snapshot::empty().evolve(plan, std::time::Instant::now());
        PurgeAdvice::new(&snapshot, wish)
    }

    /// What is expected of what is reached is a hint, which begins with a question mark.
    fn check(text: &str, wish: PurgeWish, expected: &str) {
        let PurgeAdvice { unreached, hints } = advice(text, &wish);
        let hints = hints.into_iter().map(|one| format!("?{}", one.hint));
        let told: Vec<_> = unreached.into_iter().map(|one| one.why).chain(hints).collect();
        let parts: Vec<_> = expected.split("..").filter(|part| !part.is_empty()).collect();
        assert_eq!(told.len(), usize::from(!expected.is_empty()), "{wish:?}: {told:?}");
        let is_hint = told.iter().any(|one| one.starts_with('?'));
        assert_eq!(is_hint, expected.starts_with('?'), "{wish:?}: {told:?}");
        let has = |part: &&str| told[0].contains(part.trim_start_matches('?'));
        assert!(parts.iter().all(has), "{wish:?}: {told:?} {expected}");
    }

    #[test]
    fn a_url_that_no_rule_keeps_anything_of_is_told() {
        for (url, expected) in [
            ("http://shop.example/static/a?b=1", ""),
            ("http://SHOP.example.:8080/static/a", ""),
            ("http://shop.example/static/own/a", "`bypass.paths`"),
            ("http://shop.example/other", "no rule with a cache for the host shop.example gets this path"),
            ("http://a.shop.example/img/12", ""),
            ("http://a.shop.example/img/x", "?gets this path, as it is written here"),
            ("http://other.example/live/a", "host other.example"),
            (
                "http://bare.example/live/a",
                "?the rule `shop/1`, which has no cache, gets this path before, as it is written",
            ),
            ("http://bare.example/bare/a", "?`shop/5`"),
            ("http://shop.example/static/%6Fwn/a", "`bypass.paths`"),
            ("http://me@shop.example/static/\u{e9}#a", ""),
            (
                "http://shop.example/static/*",
                "?itself in a URL; for all that begins so use `--prefix shop.example/static/`",
            ),
            ("https://shop.example/static/?a=1*", "?`--prefix shop.example/static/` is for"),
            ("http://shop.example/static/?*#a", "?`--prefix shop.example/static/` is for"),
            ("http://shop.example/static/a#*", ""),
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
            ("shop.example/static/own/a", "?`bypass.paths` leaves paths that begin so out, as"),
            ("shop.example/static/own", ""),
            ("shop.example/live/a", "gets paths that begin so"),
            ("bare.example/live/a", "?`shop/1`, which has no cache"),
            ("bare.example/bare/", "?`shop/5`"),
            ("bare.example/bare", ""),
            ("bare.example/*/a", "?stands for itself"),
            ("other.example/", "host other.example"),
            ("/static/", "?has no host"),
            ("shop.example/static/?a", "no query"),
        ] {
            check(&text, PurgeWish { prefixes: vec![prefix.to_owned()], ..PurgeWish::default() }, expected);
        }
        let exact = text.replace("*.shop.example", "a.example");
        let wish = PurgeWish { prefixes: vec!["shop.exmaple".to_owned()], ..PurgeWish::default() };
        check(&exact, wish, "host shop.exmaple");
        // What all hosts share lies under no host, and what proxies have named may lie under any.
        check(SHOP, PurgeWish { prefixes: vec!["/static/".to_owned()], ..PurgeWish::default() }, "");
        check(SHOP, PurgeWish { prefixes: vec!["/live/".to_owned()], ..PurgeWish::default() }, "?`shop/1`");
        let behind = text.replace("routes: shop", "routes: shop, trusted_proxies: [10.0.0.1]");
        for (prefix, expected) in
            [("public.example", ""), ("public.example/static/", ""), ("a/live/", "?`shop/1`")]
        {
            check(&behind, PurgeWish { prefixes: vec![prefix.to_owned()], ..PurgeWish::default() }, expected);
        }
        for (tag, expected) in [
            ("p1", ""),
            ("ü", ""),
            ("a b", "?commas and blanks"),
            ("a,b", "?commas and blanks"),
            ("a\n", "?control"),
        ] {
            check(&text, PurgeWish { tags: vec![tag.to_owned()], ..PurgeWish::default() }, expected);
        }
        let tagless = "listeners: { web: { address: 127.0.0.1:80, policy: c, pool: app } }\n\
                       policies: { c: { cache: { tags: { fields: [] } } } }\npools: { app: { servers: [127.0.0.1:1] } }\n";
        check(
            tagless,
            PurgeWish { tags: vec!["p1".to_owned()], ..PurgeWish::default() },
            "?no rule reads tags",
        );
        check(
            tagless,
            PurgeWish { urls: vec!["http://any.example/".to_owned()], all: true, ..PurgeWish::default() },
            "",
        );
    }

    #[test]
    fn what_another_spelling_of_a_path_may_have_is_not_in_vain() {
        let rules = |first: &str, second: &str| {
            format!(
                "listeners: {{ web: {{ address: 127.0.0.1:80, routes: shop }} }}\nroutes:\n  shop:\n\
                 \x20   - {{ match: {{ {first} }}, pool: app }}\n    - {{ {second}cache: {{ bypass: {{ paths: [/own/*] }} }}, \
                 pool: app }}\npools: {{ app: {{ servers: [127.0.0.1:1] }} }}\n"
            )
        };
        let url = |url: &str| PurgeWish { urls: vec![url.to_owned()], ..PurgeWish::default() };
        let prefix = |prefix: &str| PurgeWish { prefixes: vec![prefix.to_owned()], ..PurgeWish::default() };
        let before = "the rule `shop/1`, which has no cache, gets ";
        let (hint, in_vain) = (format!("?{before}"), before.to_owned());
        for (first, second, wish, expected) in [
            ("path: /live/*", "", url("http://a/live/x"), &*hint),
            ("path: /live/*", "", url("http://a/%6Cive/x"), &hint),
            ("path: /live/*", "", prefix("a/live/"), &hint),
            ("path: /one", "", url("http://a/one"), &hint),
            ("path: /%6Cive/*", "", url("http://a/live/x"), ""),
            ("path_regex: ^/live/", "", url("http://a/live/x"), &hint),
            // Nobody can write these otherwise.
            ("path: /*", "", url("http://a/live/x"), &in_vain),
            ("path: /*", "", prefix("a/live/"), &in_vain),
            ("path: /, host: a", "", url("http://a"), &in_vain),
            ("path: '/!/*'", "", prefix("a/!/x"), &in_vain),
            // Nor can it be for this rule in another spelling.
            ("path: /live/*", "match: { path: /shop/* }, ", url("http://a/page"), "gets this path"),
            ("path: /live/*", "match: { path: /%73hop/* }, ", url("http://a/shop/x"), "?gets this path, as"),
            (
                "path: /live/*",
                "match: { path_regex: '^/.{4}$' }, ",
                url("http://a/ab"),
                "?gets this path, as",
            ),
            // `bypass.paths` is for each spelling, but for what has dots in others than the one that is written.
            ("path: /live/*", "", url("http://a/%6Fwn/x"), "`bypass.paths`"),
            ("path: /live/*", "", url("http://a/own/../x"), "?`bypass.paths`"),
            ("path: /live/*", "", prefix("a/own/x"), "?`bypass.paths`"),
        ] {
            check(&rules(first, second), wish, expected);
        }
    }

    #[test]
    fn what_ends_with_an_asterisk_may_be_kept() {
        let wish = PurgeWish {
            urls: vec!["http://bare.example/a*".to_owned(), "http://bare.example/x?a=1*".to_owned()],
            prefixes: vec!["bare.example/star/*/y".to_owned()],
            ..PurgeWish::default()
        };
        let PurgeAdvice { unreached, hints } = advice(SHOP, &wish);
        assert_eq!(unreached, []);
        assert_eq!(hints.len(), 3, "{hints:?}");
        assert!(hints.iter().all(|one| one.hint.starts_with("`*` stands for itself")), "{hints:?}");
    }
}
