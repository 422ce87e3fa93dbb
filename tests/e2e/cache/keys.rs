//! What is kept, for whom, and what is not.

use super::{app, get, sections, shop, with_rules};
use crate::support::balancer::Reloaded;
use crate::support::wait_until;
use crate::support::ways::{Asked, Way, Ways};

const FRESH: &str = "/with/cache-control:max-age=60&x-a:1";

#[test]
fn what_is_kept_is_served_to_everybody_by_every_version_of_http() {
    let app = app();
    let shop = shop(&app, "{}");
    for first in [Way::Http10, Way::Http11Tls] {
        let miss = shop.ask(first, Asked::get(FRESH));
        assert_eq!(miss.field("cache-status"), "evenkeel; fwd=uri-miss; stored");
        assert_eq!(miss.field("age"), "");
    }
    shop.each(Asked::get(FRESH), |way, response| {
        // Each scheme has its own.
        let body = if matches!(way, Way::Http11Tls | Way::H2Tls) { "answer 2" } else { "answer 1" };
        assert_eq!(
            (response.status, response.text(), response.complete),
            (200, body.to_owned(), true),
            "{way:?}"
        );
        assert_eq!(
            (response.field("x-a"), response.field("content-length")),
            ("1".into(), "8".into()),
            "{way:?}"
        );
        assert!(response.field("cache-status").starts_with("evenkeel; hit; ttl="), "{way:?}");
        let age: u64 = response.field("age").parse().expect("a number");
        assert!(age < 30 && !response.field("date").is_empty(), "{way:?}");
    });
    shop.each(Asked { method: "HEAD", ..Asked::get(FRESH) }, |way, response| {
        assert_eq!(
            (response.status, response.text(), response.field("content-length")),
            (200, String::new(), "8".into()),
            "{way:?}"
        );
    });
    assert_eq!(app.hits(), 2);
    let balancer = &shop.balancer;
    let counted =
        |result| balancer.metric("evenkeel_cache_requests_total", &[("route", "all"), ("result", result)]);
    wait_until("all are counted", || (counted("miss"), counted("hit")) == (2.0, 10.0));
    assert_eq!(balancer.metric("evenkeel_cache_objects", &[("tier", "memory")]), 2.0);
    assert!(balancer.metric("evenkeel_cache_bytes", &[("tier", "memory")]) > 100.0);
    let record = balancer.record_where("a hit", |record| record["cache"] == "hit");
    assert!(record["cache_age_s"].as_u64().is_some() && record["server"].is_null(), "{record}");
    // A connection goes on behind it.
    let mut client = balancer.client();
    for _ in 0..3 {
        client.send(format!("GET {FRESH} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
        assert_eq!(client.response().text(), "answer 1");
    }
}

#[test]
fn what_is_for_one_client_alone_is_asked_for_each_time() {
    let app = app();
    let shop = shop(&app, "{}");
    for (fields, asked, reason) in [
        ("x:1", &[][..], "no lifetime"),
        ("cache-control:no-store,max-age=60", &[], "no-store"),
        ("cache-control:private,max-age=60", &[], "private"),
        ("cache-control:max-age=60&set-cookie:a=b", &[], "set-cookie"),
        ("cache-control:max-age=60&vary:*", &[], "vary"),
        ("cache-control:max-age=60", &[("authorization", "Basic x")], "authorization"),
        ("cache-control:max-age=60&cdn-cache-control:no-store", &[], "no-store"),
        ("cache-control:max-age=0", &[], "expired"),
        ("cache-control:max-age=60&age:60", &[], "expired"),
    ] {
        let target = format!("/with/{fields}");
        for way in [Way::Http11, Way::H2, Way::Http11] {
            let before = app.hits();
            let response = shop.ask(way, get(&target, asked));
            assert_eq!(app.hits(), before + 1, "{fields}");
            let status = response.field("cache-status");
            assert_eq!(status, format!("evenkeel; fwd=uri-miss; detail=\"{reason}\""), "{fields}");
        }
        let record = shop.balancer.record_where("it", |record| record["path"] == target.as_str());
        assert_eq!(
            (&record["cache"], &record["cache_reason"]),
            (&"uncacheable".into(), &reason.into()),
            "{fields}"
        );
    }
    // Who says who it is gets nothing that was made for others, unless that may be.
    for (control, hits) in [("max-age=60", 2), ("max-age=60,public", 1)] {
        let target = format!("/with/cache-control:{control}&x:2");
        let before = app.hits();
        shop.ask(Way::Http11, Asked::get(&target));
        shop.ask(Way::Http11, get(&target, &[("authorization", "Basic x")]));
        assert_eq!(app.hits() - before, hits, "{control}");
    }
}

#[test]
fn requests_that_are_not_for_the_cache_go_to_servers_as_they_came() {
    let app = app();
    let cache = "{ bypass: { cookies: [sid, wp_in_*], headers: [X-No], paths: [/admin/*] }, key: { methods: [GET] } }";
    let shop = shop(&app, cache);
    let target = format!("{FRESH}?b=1&utm_a=2&a=3");
    shop.ask(Way::Http11, Asked::get(&target));
    assert_eq!(app.last().target, format!("{FRESH}?a=3&b=1"), "what is not in the key does not go along");
    let admin = format!("/admin{FRESH}");
    for (asked, reason) in [
        (get(&target, &[("cookie", "a=1; sid=2")]), "bypass.cookies"),
        (get(&target, &[("cookie", "a=1; wp_in_7f=")]), "bypass.cookies"),
        (get(&target, &[("cookie", "sid =2")]), "bypass.cookies"),
        (get(&target, &[("cookie", "a=1; sid")]), "bypass.cookies"),
        (get(&target, &[("cookie", "wp.in_7=1")]), "bypass.cookies"),
        (get(&target, &[("cookie", "a=1; sid[]=9")]), "bypass.cookies"),
        (get(&target, &[("cookie", "sid[a]=9")]), "bypass.cookies"),
        (get(&target, &[("cookie", "\"sid\"=9; a=1")]), "bypass.cookies"),
        (get(&target, &[("cookie", "a=1,sid=9")]), "bypass.cookies"),
        (get(&target, &[("cookie", "a=1 sid=9")]), "bypass.cookies"),
        (get(&target, &[("cookie", "SID=9")]), "bypass.cookies"),
        (get(&target, &[("cookie", "%73id=9")]), "bypass.cookies"),
        (get(&target, &[("x-no", "")]), "bypass.headers"),
        (get(&target, &[("x_no", "")]), "bypass.headers"),
        (get(&admin, &[]), "bypass.paths"),
        (Asked { method: "HEAD", ..Asked::get(&target) }, "method"),
        (Asked { body: b"x", ..Asked::get(&target) }, "request body"),
        (get(&target, &[("if-match", "\"a\"")]), "condition"),
    ] {
        for way in [Way::Http11, Way::H2] {
            let before = app.hits();
            let response = shop.ask(way, asked);
            assert_eq!(
                (app.hits(), app.last().target.as_str()),
                (before + 1, asked.target),
                "{reason} {way:?}"
            );
            let forwarded = if reason == "method" { "method" } else { "bypass" };
            assert_eq!(response.field("cache-status"), format!("evenkeel; fwd={forwarded}"), "{reason}");
        }
        shop.balancer.record_where(reason, |record| record["cache_reason"] == reason);
    }
    let before = app.hits();
    shop.ask(Way::Http11, Asked::get(&format!("{FRESH}?a=3&gclid=z&b=1")));
    shop.ask(Way::Http11, get(&target, &[("cookie", "sid2=1; wp_in=1; a=wp_in_7")]));
    assert_eq!(app.hits(), before, "these are");
}

#[test]
fn what_makes_a_difference_has_responses_of_its_own() {
    let app = app();
    let cache = "{ key: { query: [page], headers: [Store], cookies: [group] } }";
    let shop = shop(&app, cache);
    let vary = "/with/cache-control:max-age=60&vary:Foo,Accept-Encoding";
    let others: &[(Asked<'_>, &str)] = &[
        (get(FRESH, &[]), "answer 1"),
        (get(FRESH, &[("store", "de")]), "answer 2"),
        (get(FRESH, &[("store", "")]), "answer 3"),
        (get(FRESH, &[("cookie", "group=a; sid=1")]), "answer 4"),
        (get(FRESH, &[("cookie", "group=b")]), "answer 5"),
        (Asked { host: "other.example", ..Asked::get(FRESH) }, "answer 6"),
        (get("/with/cache-control:max-age=60&x-a:1?page=2", &[]), "answer 7"),
        (get("/With/with/cache-control:max-age=60&x-a:1", &[]), "answer 8"),
        (get(vary, &[("foo", "1, 2"), ("accept-encoding", "gzip, br")]), "answer 9"),
        (get(vary, &[("foo", "1"), ("accept-encoding", "gzip, br")]), "answer 10"),
        (get(vary, &[("accept-encoding", "gzip, br")]), "answer 11"),
        (get(vary, &[("foo", "1, 2")]), "answer 12"),
    ];
    for round in 0..2 {
        for (asked, body) in others {
            assert_eq!(shop.ask(Way::Http11, *asked).text(), *body, "round {round}: {asked:?}");
        }
    }
    let same: &[(Asked<'_>, &str)] = &[
        (get(FRESH, &[("cookie", "sid=2; group=a")]), "answer 4"),
        (Asked { host: "SHOP.example:80", ..Asked::get(FRESH) }, "answer 1"),
        (get("/with/cache-control:max-age=60&x-a:1?x=1&page=2&y", &[]), "answer 7"),
        (get(vary, &[("accept-encoding", "br;q=0.5,gzip"), ("foo", "1"), ("foo", "2")]), "answer 9"),
    ];
    for (asked, body) in same {
        assert_eq!(shop.ask(Way::H2, *asked).text(), *body, "{asked:?}");
    }
    let miss = shop.ask(Way::Http11, get(vary, &[("foo", "7")]));
    assert_eq!(miss.field("cache-status"), "evenkeel; fwd=vary-miss; stored");
}

#[test]
fn what_proxies_say_of_host_port_scheme_and_prefix_has_responses_of_its_own() {
    let app = app();
    let rules = "    - { name: bare, match: { path: /bare/* }, cache: { key: { host: false } }, request_headers: { remove: [X-Forwarded-Prefix] }, pool: app }\n\
                 \x20   - { name: all, cache: {}, pool: app }\n";
    let text = sections(&app, rules);
    let behind = Ways::start("routes: shop, trusted_proxies: [127.0.0.1]", &text);
    let bare = format!("/bare{FRESH}");
    let others: &[(Asked<'_>, &str)] = &[
        (get(FRESH, &[]), "answer 1"),
        (get(FRESH, &[("x-forwarded-host", "evil.example")]), "answer 2"),
        (get(FRESH, &[("x-forwarded-port", "8443")]), "answer 3"),
        (get(FRESH, &[("x-forwarded-prefix", "/de")]), "answer 4"),
        (get(FRESH, &[("x-forwarded-prefix", "/fr")]), "answer 5"),
        (get(FRESH, &[("x-forwarded-proto", "https")]), "answer 6"),
        (get(FRESH, &[("x-forwarded-proto", "HTTPS,http")]), "answer 7"),
        (get(FRESH, &[("x-forwarded-ssl", "on")]), "answer 8"),
        (get(FRESH, &[("x-forwarded-user", "anna")]), "answer 9"),
        (get(FRESH, &[("forwarded", "for=192.0.2.7;host=evil.example")]), "answer 10"),
        (get(FRESH, &[("forwarded", "for=192.0.2.7;proto=https")]), "answer 11"),
        (get(FRESH, &[("forwarded", "host")]), "answer 12"),
        (get(FRESH, &[("forwarded", "for=192.0.2.7;host=evil.example;host=shop.example")]), "answer 13"),
        (get(FRESH, &[("forwarded", "for=192.0.2.7;host=\"evil\\.example\"")]), "answer 14"),
        (get(&bare, &[]), "answer 15"),
        (get(&bare, &[("x-forwarded-port", "81")]), "answer 16"),
    ];
    for round in 0..2 {
        for (asked, body) in others {
            assert_eq!(behind.ask(Way::Http11, *asked).text(), *body, "round {round}: {asked:?}");
        }
    }
    let same: &[(Asked<'_>, &str)] = &[
        (get(FRESH, &[("x-forwarded-for", "192.0.2.7"), ("x-forwarded-server", "edge-1")]), "answer 1"),
        (get(FRESH, &[("x-forwarded-host", "Shop.example"), ("x-forwarded-proto", "http")]), "answer 1"),
        (get(FRESH, &[("forwarded", "for=192.0.2.7;proto=http;host=shop.example")]), "answer 1"),
        (get(FRESH, &[("x-forwarded-for", "192.0.2.8"), ("x-forwarded-prefix", "/de")]), "answer 4"),
        (get(FRESH, &[("x-forwarded-prefix", "/de"), ("connection", "x-forwarded-prefix")]), "answer 1"),
        (get(&bare, &[("x-forwarded-prefix", "/de"), ("x-forwarded-host", "evil.example")]), "answer 15"),
    ];
    for (asked, body) in same {
        assert_eq!(behind.ask(Way::Http11, *asked).text(), *body, "{asked:?}");
    }
    // Of strangers no server gets such a word.
    let open = Ways::start("routes: shop", &text);
    open.ask(Way::Http11, Asked::get(FRESH));
    let before = app.hits();
    for (asked, _) in &others[..14] {
        open.ask(Way::Http11, *asked);
    }
    assert_eq!(app.hits(), before);
}

#[test]
fn what_anybody_can_lead_an_application_elsewhere_by_has_responses_of_its_own() {
    let app = app();
    let shop = shop(&app, "{}");
    for (field, body) in [
        (("x-other", "1"), "answer 1"),
        (("x-original-url", "/admin"), "answer 2"),
        (("x_original_url", "/admin"), "answer 2"),
        (("x-rewrite-url", "/admin"), "answer 3"),
        (("x-host", "evil.example"), "answer 4"),
        (("x-http-method-override", "POST"), "answer 5"),
        (("x-other", "2"), "answer 1"),
    ] {
        assert_eq!(shop.ask(Way::Http11, get(FRESH, &[field])).text(), body, "{field:?}");
    }
}

#[test]
fn a_field_in_the_key_is_as_servers_get_it() {
    let app = app();
    let rules = "    - { name: all, cache: { key: { host: false, headers: [X-Group, X-Forwarded-Host] } }, request_headers: { set: { X-Group: \"{cookie.group}\" } }, pool: app }\n";
    let shop = with_rules(&app, rules);
    let other = |asked| Asked { host: "other.example", ..asked };
    for (asked, body) in [
        (get(FRESH, &[("cookie", "group=a")]), "answer 1"),
        (get(FRESH, &[("cookie", "group=b")]), "answer 2"),
        (get(FRESH, &[("cookie", "group=b"), ("x-group", "a")]), "answer 2"),
        (other(get(FRESH, &[("cookie", "group=a")])), "answer 3"),
        (other(get(FRESH, &[("cookie", "group=a"), ("x-forwarded-host", "shop.example")])), "answer 3"),
        (get(FRESH, &[("cookie", "group=a")]), "answer 1"),
    ] {
        assert_eq!(shop.ask(Way::Http11, asked).text(), body, "{asked:?}");
    }
}

#[test]
fn what_servers_take_for_a_part_of_the_key_has_responses_of_its_own() {
    let app = app();
    let cache = "{ key: { headers: [X-Store], cookies: [my_group] } }";
    let shop = shop(&app, cache);
    let vary = "/with/cache-control:max-age=60&vary:X-Lang";
    let asked: &[(Asked<'_>, &str)] = &[
        (get(FRESH, &[]), "answer 1"),
        (get(FRESH, &[("x_store", "de")]), "answer 2"),
        (get(FRESH, &[("cookie", "my_group =a")]), "answer 3"),
        (get(FRESH, &[("cookie", "my_group=a; my_group=b")]), "answer 4"),
        // Not every server reads these as the cookie, nor any as none.
        (get(FRESH, &[("cookie", "my.group=a")]), "answer 5"),
        (get(FRESH, &[("cookie", "my_group=a")]), "answer 6"),
        (get(FRESH, &[("cookie", "sid=1; my_group[a]=b")]), "answer 7"),
        (get(FRESH, &[("cookie", "sid=2; my_group[]=b")]), "answer 8"),
        (get(FRESH, &[("cookie", "my_group; sid=1")]), "answer 9"),
        (get(FRESH, &[("cookie", "\"my_group\"=a")]), "answer 10"),
        (get(FRESH, &[("cookie", "x=1,my_group=a")]), "answer 11"),
        (get(FRESH, &[("cookie", "x=1 my_group=a")]), "answer 12"),
        (get(FRESH, &[("cookie", "My_Group=a")]), "answer 13"),
        (get(FRESH, &[("cookie", "my%5Fgroup=a")]), "answer 14"),
        (get(FRESH, &[("cookie", "x=\"1; my_group=a\"")]), "answer 15"),
        (get(vary, &[]), "answer 16"),
        (get(vary, &[("x_lang", "de")]), "answer 17"),
        (get(vary, &[]), "answer 16"),
        (get(FRESH, &[("cookie", "y=\"1,2\"; my_group=a; sid=3")]), "answer 6"),
        (get(FRESH, &[("cookie", "x=my_group=a")]), "answer 1"),
        (get(FRESH, &[]), "answer 1"),
    ];
    for (asked, body) in asked {
        for way in [Way::Http11, Way::H2] {
            assert_eq!(shop.ask(way, *asked).text(), *body, "{asked:?}");
        }
    }
}

#[test]
fn servers_know_of_codings_what_tells_variants_apart() {
    let app = app();
    let shop = shop(&app, "{ bypass: { headers: [X-No] } }");
    let vary = "/with/cache-control:max-age=60&vary:Accept-Encoding";
    for (accepted, sent, body) in [
        ("gzip, dcb", "gzip", "answer 1"),
        ("gzip", "gzip", "answer 1"),
        ("foo", "identity", "answer 2"),
        ("identity", "identity", "answer 2"),
        ("br;q=0, foo", "br;q=0", "answer 3"),
        ("*, foo;q=0, br", "br", "answer 4"),
        ("*", "*", "answer 5"),
    ] {
        for way in [Way::Http11, Way::H2] {
            let before = app.hits();
            let fields = [("accept-encoding", accepted)];
            assert_eq!(shop.ask(way, get(vary, &fields)).text(), body, "{accepted}");
            if app.hits() > before {
                assert_eq!(app.last().field("accept-encoding"), sent, "{accepted}");
            }
        }
    }
    shop.ask(Way::Http11, get(vary, &[("accept-encoding", "gzip, dcb"), ("x-no", "1")]));
    assert_eq!(app.last().field("accept-encoding"), "gzip, dcb", "what is not for the cache goes as it came");
}

#[test]
fn rules_that_send_servers_something_else_have_responses_of_their_own() {
    let app = app();
    let rules = "    - { name: staff, match: { headers: { X-Staff: \"*\" } }, cache: {}, request_headers: { set: { X-Tier: staff } }, pool: app }\n\
                 \x20   - { name: old, match: { headers: { X-Old: \"*\" } }, cache: {}, rewrite: { host: old.example }, pool: app }\n\
                 \x20   - { name: same, match: { headers: { X-Same: \"*\" } }, cache: { status_field: false }, pool: app }\n\
                 \x20   - { name: all, cache: {}, pool: app }\n";
    let shop = with_rules(&app, rules);
    for (fields, body) in [
        (&[][..], "answer 1"),
        (&[("x-staff", "1")], "answer 2"),
        (&[("x-old", "1")], "answer 3"),
        (&[("x-same", "1")], "answer 1"),
        (&[("x-staff", "1")], "answer 2"),
    ] {
        let response = shop.ask(Way::Http11, get(FRESH, fields));
        assert_eq!(response.text(), body, "{fields:?}");
        assert_eq!(response.field("cache-status").is_empty(), fields == [("x-same", "1")], "{fields:?}");
    }
    // What a rule's fields make a server vary by is what the server gets, not what clients send.
    let vary = "/with/cache-control:max-age=60&vary:X-Tier";
    let answers: Vec<_> = ["a", "b"]
        .map(|tier| shop.ask(Way::Http11, get(vary, &[("x-staff", "1"), ("x-tier", tier)])).text())
        .into();
    assert_eq!(answers, ["answer 4", "answer 4"]);
}

#[test]
fn rules_with_other_parts_in_their_keys_have_responses_of_their_own() {
    let app = app();
    let cache = |part: &str| format!("cache: {{ key: {{ {part} }} }}, pool: app");
    let rules = format!(
        "    - {{ match: {{ headers: {{ X-Rule: a }} }}, {} }}\n    - {{ match: {{ headers: {{ X-Rule: b }} }}, {} }}\n    - {{ {} }}\n",
        cache("headers: [Store]"),
        cache("headers: [Lang]"),
        cache("cookies: [lang]")
    );
    let shop = with_rules(&app, &rules);
    // The same value by three names.
    for (fields, body) in [
        (&[("x-rule", "a"), ("store", "de")][..], "answer 1"),
        (&[("x-rule", "b"), ("lang", "de")], "answer 2"),
        (&[("cookie", "lang=de")], "answer 3"),
        (&[("x-rule", "a"), ("store", "de")], "answer 1"),
    ] {
        assert_eq!(shop.ask(Way::Http11, get(FRESH, fields)).text(), body, "{fields:?}");
    }
}

#[test]
fn a_plan_says_what_of_the_cache_is_found_no_more() {
    let app = app();
    let text = |before: &str, cache: &str, pool: &str| {
        let rules = format!("{before}    - {{ name: all, cache: {cache}, pool: {pool} }}\n");
        sections(&app, &rules).replace("pools:\n  app:", &format!("pools:\n  {pool}:"))
    };
    let shop = shop(&app, "{}");
    for query in ["?a=1", "?a=1&b=2", "?b=2", ""] {
        shop.ask(Way::Http11, Asked::get(&format!("{FRESH}{query}")));
    }
    for (before, cache, pool, unreachable) in [
        ("", "{ ttl: 9s }", "app", 0),
        ("", "{ key: { ignore_query: [b] } }", "app", 2),
        ("", "{ key: { query: [] } }", "app", 3),
        ("", "{ key: { cookies: [group] } }", "app", 4),
        ("", "{ key: { host: false } }", "app", 4),
        ("", "{ key: { device: true } }", "app", 4),
        ("", "{}", "other", 4),
        // Which rule gets them counts as well.
        ("match: { path: /with/* }, cache: { key: { query: [a] } }", "{}", "app", 2),
        ("match: { path: /with/*, headers: { X-A: b } }, cache: { key: { query: [a] } }", "{}", "app", 0),
        ("match: { path: /with/*, methods: [POST] }", "{}", "app", 0),
        ("match: { path: /with/* }", "{}", "app", 4),
        ("match: { host: other.example }", "{}", "app", 0),
        ("match: { path: /in/* }, cache: { key: { query: [a] } }", "{}", "app", 0),
    ] {
        let before = match before {
            "" => String::new(),
            before => format!("    - {{ {before}, pool: {pool} }}\n"),
        };
        let new = shop.configuration("routes: shop", &text(&before, cache, pool));
        let file = shop.balancer.path("new.yaml");
        std::fs::write(&file, new).expect("it can be written");
        let file = file.display().to_string();
        let (_, told, _) = shop.balancer.command(&["plan", &file, "--json"]);
        let told: serde_json::Value = serde_json::from_str(&told).expect("it is JSON");
        let counts = ["responses", "unreachable"].map(|count| told["cache"][count].as_u64());
        assert_eq!(counts, [Some(4), Some(unreachable)], "{before} {cache} {pool}");
        let (_, told, _) = shop.balancer.command(&["plan", &file]);
        assert_eq!(told.contains("will be found by no request"), unreachable > 0, "{told}");
    }
}

#[test]
fn the_configuration_says_how_long_where_responses_do_not() {
    let app = app();
    let rules = "    - { name: forced, match: { path: /forced/* }, cache: { force_ttl: 1h, drop_set_cookie: true }, pool: app }\n\
                 \x20   - { name: all, cache: { ttl: 1h, ttl_by_status: { '404': 1h } }, pool: app }\n";
    let shop = with_rules(&app, rules);
    for (target, hits) in [
        ("/with/x:1", 1),
        ("/with/status:404+Not+Found", 1),
        ("/with/status:500+Internal+Server+Error", 3),
        ("/with/cache-control:no-store", 3),
        ("/forced/with/cache-control:no-store&set-cookie:a=b", 1),
    ] {
        let before = app.hits();
        let responses = [0; 3].map(|_| shop.ask(Way::Http11, Asked::get(target)));
        assert_eq!(app.hits() - before, hits, "{target}");
        // Whoever has caused it gets it; what is kept has it not.
        let cookies = responses.map(|response| response.field("set-cookie"));
        let first = if target.starts_with("/forced") { "a=b" } else { "" };
        assert_eq!(cookies, [first, "", ""], "{target}");
    }
}

#[test]
fn a_reload_keeps_what_is_kept_and_may_end_it() {
    let app = app();
    let rules = "    - { name: all, cache: {}, pool: app }\n";
    let shop = with_rules(&app, rules);
    let body = || shop.ask(Way::Http11, Asked::get(FRESH)).text();
    assert_eq!([body(), body()], ["answer 1", "answer 1"]);
    let reload = |more: &str, rules: &str| {
        let text = shop.configuration("routes: shop", &format!("{more}{}", sections(&app, rules)));
        assert_eq!(shop.balancer.reload(&text), Reloaded::Taken, "{more}");
    };
    reload("cache: { memory: 64MiB }\n", "    - { name: renamed, cache: { ttl: 1s }, pool: app }\n");
    assert_eq!(body(), "answer 1");
    reload("cache: { memory: 0B }\n", rules);
    assert_eq!([body(), body()], ["answer 2", "answer 3"]);
    reload("", rules);
    assert_eq!([body(), body()], ["answer 4", "answer 4"]);
}

#[test]
fn what_is_compressed_is_compressed_from_what_is_kept() {
    let app = app();
    let shop = with_rules(&app, "    - { name: all, cache: {}, compress: { min: 0B }, pool: app }\n");
    let target = "/with/cache-control:max-age=60&content-type:text/plain&etag:%22x%22";
    for accept in ["gzip", "br", "identity", "gzip"] {
        shop.each(get(target, &[("accept-encoding", accept)]), |way, response| {
            let encoding = response.field("content-encoding");
            assert_eq!(encoding, if accept == "identity" { "" } else { accept }, "{way:?} {accept}");
            assert!(response.complete, "{way:?} {accept}");
        });
    }
    assert_eq!(app.hits(), 2, "one for each scheme");
    let weak = [("accept-encoding", "gzip"), ("if-none-match", "W/\"x\"")];
    shop.each(get(target, &weak), |way, response| assert_eq!(response.status, 304, "{way:?}"));
}

/// A 304 and a part say by what the whole varies (RFC 9110 sections 15.3.7 and 15.4.5), and nothing else.
#[test]
fn what_stands_for_the_whole_says_by_what_that_varies() {
    let app = app();
    let rules = |cache: &str| format!("    - {{ name: all, {cache}compress: {{ min: 0B }}, pool: app }}\n");
    let old = "last-modified:Sun,+06+Nov+1994+08:49:37+GMT";
    for (kind, by_coding) in [("text/plain", true), ("image/png", false)] {
        let target =
            format!("/with/cache-control:max-age=60&content-type:{kind}&etag:%22x%22&{old}&vary:Foo");
        let shop = with_rules(&app, &rules("cache: {}, "));
        for (fields, status) in [
            (&[][..], 200),
            (&[("if-none-match", "\"x\"")], 304),
            (&[("if-none-match", "W/\"x\""), ("accept-encoding", "gzip")], 304),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], 304),
            (&[("range", "bytes=0-1")], 206),
            (&[("range", "bytes=0-1,4-5")], 206),
        ] {
            shop.each(get(&target, fields), |way, response| {
                let vary = response.field("vary").replace("|", ", ").to_ascii_lowercase();
                assert_eq!(response.status, status, "{way:?} {fields:?}");
                let expected = if by_coding { "foo, accept-encoding" } else { "foo" };
                assert_eq!(vary, expected, "{way:?} {kind} {fields:?}");
            });
        }
    }
    // A server's own 304 does not show of what it is.
    let bare = with_rules(&app, &rules(""));
    let asked = [("if-none-match", "\"x\"")];
    bare.each(get("/with/etag:%22x%22", &asked), |way, response| {
        assert_eq!((response.status, response.field("vary")), (304, "Accept-Encoding".into()), "{way:?}");
    });
}

#[test]
fn a_server_gets_a_path_where_the_cache_leaves_nothing_of_the_target() {
    let app = app();
    let shop = shop(&app, "{ key: { query: [] } }");
    let mut client = shop.balancer.client();
    client.send("GET http://shop.example?utm_source=a HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert_eq!(app.last().target, "/");
}
