use super::*;
use crate::config::plan::{Balance, HeaderMatch, PathPattern};
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
        methods: parts[0].split('|').filter(|part| *part != "-").map(|part| part.parse().unwrap()).collect(),
        host: Some(parts[1]).filter(|part| *part != "-").map(host),
        path: Some(parts[2]).filter(|part| *part != "-").map(path),
        ..Match::default()
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
    let (path, query) = parts[2].split_once('?').unwrap_or((parts[2], ""));
    let request = RouteRequest {
        method: &method,
        host: parts[1],
        path,
        query,
        headers: &headers,
        client: None,
        location: Location::default(),
    };
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
    for same in ["shop.example", "SHOP.Example", "shop.example:8443", "shop.example.", "shop.example.:80"] {
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
        table
            .find_tls(&hello, (None, Location::default()))
            .map_or(0, |found| found.rule.name.parse().unwrap())
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
    let both =
        Match { headers: vec![header("x-beta", None), header("x-tier", Some("gold"))], ..Match::default() };
    let table = table([both]);
    let meets = |fields: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        table
            .find(&RouteRequest {
                host: "h",
                path: "/",
                query: "",
                method: &Method::GET,
                headers: &headers,
                client: None,
                location: Location::default(),
            })
            .is_some()
    };
    assert!(meets(&[("x-beta", ""), ("x-tier", "silver"), ("x-tier", "gold")]));
    assert!(!meets(&[("x-beta", "1"), ("x-tier", "Gold")]));
    assert!(!meets(&[("x-tier", "gold")]));
}
