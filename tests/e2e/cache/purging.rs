//! What was purged is asked about before it is used again.

use super::{app, get, sections};
use crate::support::app::{App, Latch, send};
use crate::support::wait_for;
use crate::support::ways::{Asked, Way, Ways};
use serde_json::json;

const TAGGED: &str = "/shop/with/cache-control:max-age=60&surrogate-key:p1+p2&etag:%22x%22";

fn shop(app: &App, store: &str, cache: &str) -> Ways {
    let rules = format!("    - {{ name: all, cache: {cache}, pool: app }}\n");
    Ways::start("routes: shop", &format!("cache: {{ {store} }}\n{}", sections(app, &rules)))
}

#[test]
fn what_was_purged_is_asked_about_and_nothing_else() {
    let url = format!("http://shop.example{TAGGED}?b=1&utm_a=2&a=2");
    for (arguments, is_purged) in [
        (&["--tag", "p2"][..], true),
        (&["--tag", "p3", "--tag", "p1"], true),
        (&["--tag", "p"], false),
        (&[url.as_str()], true),
        (&["http://shop.example/shop"], false),
        (&["--prefix", "shop.example/shop/"], true),
        (&["--prefix", "http://SHOP.example:80/sh"], true),
        (&["--prefix", "other.example/"], false),
        (&["--all"], true),
    ] {
        for hard in [false, true] {
            let app = app();
            let shop = shop(&app, "memory: 64MiB", "{}");
            let target = format!("{TAGGED}?a=2&b=1");
            let ask = || shop.ask(Way::Http11, Asked::get(&target));
            assert_eq!([ask(), ask()].map(|response| response.text()), ["answer 1", "answer 1"]);
            assert!(ask().field("surrogate-key").is_empty(), "they are for the cache");
            let more: &[&str] = if hard { &["--hard"] } else { &[] };
            let (code, said, _) = shop.balancer.command(&[&["purge"], arguments, more].concat());
            assert_eq!((code, said.starts_with("purged")), (Some(0), true), "{arguments:?}");
            let response = ask();
            // What is asked about still holds; what is gone is fetched.
            let body = if hard && is_purged { "answer 2" } else { "answer 1" };
            assert_eq!(response.text(), body, "{arguments:?} {hard}");
            if hard && is_purged {
                assert_eq!(response.field("cache-status"), "evenkeel; fwd=uri-miss; stored", "{arguments:?}");
            }
            assert_eq!(app.hits(), if is_purged { 2 } else { 1 }, "{arguments:?} {hard}");
            assert_eq!(app.last().has("if-none-match"), is_purged && !hard, "{arguments:?} {hard}");
            ask();
            assert_eq!(app.hits(), if is_purged { 2 } else { 1 }, "it is good again");
        }
    }
}

#[test]
fn a_miss_is_of_the_url_where_nothing_is_kept_and_of_a_variant_else() {
    let app = app();
    let shop = shop(&app, "memory: 64MiB", "{}");
    let target = "/with/cache-control:max-age=60&vary:X-A";
    let said = |fields| shop.ask(Way::Http11, get(target, fields)).field("cache-status");
    for _ in 0..2 {
        assert_eq!(said(&[("x-a", "1")]), "evenkeel; fwd=uri-miss; stored");
        assert_eq!(said(&[("x-a", "2")]), "evenkeel; fwd=vary-miss; stored");
        assert_eq!(
            said(&[("x-a", "2"), ("authorization", "x")]),
            "evenkeel; fwd=request; detail=\"authorization\""
        );
        assert_eq!(shop.balancer.command(&["purge", "--hard", "--all"]).0, Some(0));
    }
    // Another variant than the one that is asked for has gone as well.
    assert_eq!(said(&[("x-a", "3")]), "evenkeel; fwd=uri-miss; stored");
}

#[test]
fn a_purge_reaches_what_is_kept_however_its_url_is_written() {
    let target = "/caf%c3%a9/%7Eme/with/cache-control:max-age=60?q=%C3%A9";
    for (host, arguments) in [
        (
            "shop.example",
            &["http://shop.example/caf\u{e9}/~me/with/cache-control:max-age=60?q=\u{e9}#top"][..],
        ),
        (
            "shop.example",
            &["https://me:secret@SHOP.example/caf%C3%A9/~me/with/cache-control:max-age=60?q=%c3%a9"],
        ),
        ("shop.example:8080", &["http://shop.example/caf%C3%A9/~me/with/cache-control:max-age=60?q=%c3%a9"]),
        (
            "shop.example",
            &["http://shop.example.:8080/caf%c3%a9/%7eme/with/cache-control:max-age=60?q=%c3%a9"],
        ),
        ("shop.example", &["--prefix", "shop.example/caf\u{e9}/"]),
        ("shop.example:8080", &["--prefix", "http://shop.example/caf%C3%A9/*"]),
    ] {
        let app = app();
        let shop = shop(&app, "memory: 64MiB", "{}");
        let ask = || shop.ask(Way::Http11, Asked { host, ..Asked::get(target) }).text();
        assert_eq!(ask(), "answer 1");
        let (code, said, _) = shop.balancer.command(&[&["purge", "--hard"], arguments].concat());
        assert_eq!((code, said.lines().count()), (Some(0), 1), "{arguments:?}: {said}");
        assert_eq!(ask(), "answer 2", "{arguments:?}");
    }
    let app = app();
    let shop = shop(&app, "memory: 64MiB", "{}");
    for arguments in [&["ftp://shop.example/a"][..], &["--prefix", "ftp://shop.example/a"]] {
        let (code, _, told) = shop.balancer.command(&[&["purge"], arguments].concat());
        assert!(code == Some(1) && told.contains("of the web"), "{told}");
    }
    let (_, said, _) = shop.balancer.command(&["purge", "http://shop.example/caf*"]);
    assert!(
        said.starts_with("purged: what was kept") && said.contains("--prefix shop.example/caf"),
        "{said}"
    );
}

#[test]
fn what_a_purge_reaches_is_not_called_out_of_reach() {
    let kept = "cache-control:max-age=60";
    for (target, arguments) in [
        ("/%6Cive/with/", &["http://shop.example/live/with/cache-control:max-age=60"][..]),
        ("/%6Cive/with/", &["--prefix", "shop.example/live/"]),
        ("/%6Fne/with/", &["http://shop.example/one/with/cache-control:max-age=60"]),
        ("/a/with/", &["http://shop.example/a/with/cache-control:max-age=60?a=1*"]),
        ("/a*/with/", &["--prefix", "shop.example/a*/with"]),
    ] {
        let app = app();
        let rules = "    - { match: { path: /live/* }, pool: app }\n\
                     \x20   - { match: { path: /one/with/cache-control:max-age=60 }, pool: app }\n\
                     \x20   - { cache: {}, pool: app }\n";
        let shop = Ways::start("routes: shop", &sections(&app, rules));
        let query = if arguments[0].ends_with("?a=1*") { "?a=1*" } else { "" };
        let target = format!("{target}{kept}{query}");
        let ask = || shop.ask(Way::Http11, Asked { host: "shop.example", ..Asked::get(&target) }).text();
        assert_eq!([ask(), ask()], ["answer 1"; 2], "{target}");
        let told = shop.balancer.command_json(&[&["purge", "--hard"], arguments].concat());
        assert_eq!(ask(), "answer 2", "{target}");
        assert!(told.get("unreached").is_none(), "{target}: {told}");
        assert!(told["hints"][0]["hint"].is_string(), "{target}: {told}");
    }
}

#[test]
fn what_a_trusted_proxy_has_asked_for_is_purged_by_the_host_that_clients_name() {
    let page = "/with/cache-control:max-age=60";
    let named: &[(&str, &str)] = &[("x-forwarded-host", "shop.example"), ("x-forwarded-proto", "https")];
    let forwarded: &[(&str, &str)] = &[("forwarded", "for=192.0.2.7;host=shop.example;proto=https")];
    for fields in [named, forwarded] {
        let rules = "    - { match: { host: internal.example }, cache: {}, pool: app }\n";
        for method in ["", "PURGE", "DIRECT", "POST", "LOCATION"] {
            let app = app();
            let text = format!("cache: {{ purge_from: [127.0.0.1, 192.0.2.7] }}\n{}", sections(&app, rules));
            let shop = Ways::start("routes: shop, trusted_proxies: [127.0.0.1]", &text);
            let through = |method, target| {
                shop.ask(Way::Http11, Asked { method, host: "internal.example", ..get(target, fields) })
            };
            assert_eq!(through("GET", page).text(), "answer 1");
            match method {
                "" => {
                    let url = format!("https://shop.example{page}");
                    let (code, said, _) =
                        shop.balancer.command(&["purge", &url, "--prefix", "shop.example/with/"]);
                    assert_eq!((code, said.lines().count()), (Some(0), 1), "{said}");
                }
                "DIRECT" => {
                    let told = shop.ask(
                        Way::Http11,
                        Asked {
                            method: "PURGE",
                            host: "internal.example",
                            ..get(page, &[("x-forwarded-host", "shop.example")])
                        },
                    );
                    assert_eq!((told.status, told.text().contains("unreached")), (200, false));
                }
                "LOCATION" => {
                    through("POST", "/form/with/location:https://shop.example/with/cache-control:max-age=60");
                }
                method => assert_eq!(through(method, page).status, 200, "{method}"),
            }
            let before = app.hits();
            through("GET", page);
            assert_eq!(app.hits(), before + 1, "{method} {fields:?}");
        }
    }
}

#[test]
fn a_purge_by_its_method_reaches_what_other_rules_keep() {
    let app = app();
    let rules = "    - { match: { methods: [GET] }, cache: { key: { host: false, query: [a] } }, pool: app }\n    - { cache: {}, pool: app }\n";
    let text = format!("cache: {{ purge_from: [127.0.0.1] }}\n{}", sections(&app, rules));
    let shop = Ways::start("routes: shop", &text);
    let target = format!("{TAGGED}?a=1&b=2");
    shop.ask(Way::Http11, Asked::get(&target));
    let told = shop.ask(Way::Http11, Asked { method: "PURGE", host: "other.example", ..Asked::get(&target) });
    assert!(told.text().contains("\"purges\":1"), "{}", told.text());
    shop.ask(Way::Http11, Asked::get(&target));
    assert_eq!(app.hits(), 2);
}

#[test]
fn what_all_hosts_share_is_purged_whichever_of_them_is_named() {
    for (arguments, is_purged) in [
        (&["http://other.example/shop/with/cache-control:max-age=60"][..], true),
        (&["https://shop.example/shop/with/cache-control:max-age=60"], true),
        (&["http://other.example/shop"], false),
        (&["--prefix", "other.example/shop/"], true),
        (&["--prefix", "other.example"], true),
        (&["--prefix", "other.example/own/"], false),
    ] {
        let app = app();
        let rules = "    - { match: { path: /own/* }, cache: {}, pool: app }\n    - { cache: { key: { host: false } }, pool: app }\n";
        let shop = Ways::start("routes: shop", &sections(&app, rules));
        let ask = |host, path| {
            let target = format!("{path}/with/cache-control:max-age=60");
            shop.ask(Way::Http11, Asked { host, ..Asked::get(&target) }).text()
        };
        let answers =
            [ask("shop.example", "/shop"), ask("third.example", "/shop"), ask("shop.example", "/own")];
        assert_eq!(answers, ["answer 1", "answer 1", "answer 2"]);
        let (code, _, _) = shop.balancer.command(&[&["purge", "--hard"], arguments].concat());
        assert_eq!(code, Some(0), "{arguments:?}");
        assert_eq!(ask("shop.example", "/own"), "answer 2", "{arguments:?}");
        let answer = if is_purged { "answer 3" } else { "answer 1" };
        assert_eq!(ask("third.example", "/shop"), answer, "{arguments:?}");
    }
    // A purge by a method of its own, and a change.
    for method in ["PURGE", "POST"] {
        let app = app();
        let shop = shop(&app, "purge_from: [127.0.0.1]", "{ key: { host: false } }");
        let ask = |method, host| shop.ask(Way::Http11, Asked { method, host, ..Asked::get(TAGGED) });
        ask("GET", "shop.example");
        ask(method, "other.example");
        let before = app.hits();
        ask("GET", "shop.example");
        assert_eq!(app.hits(), before + 1, "{method}");
    }
}

#[test]
fn a_purge_wins_over_what_is_on_its_way() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |request, stream| {
        if request.has("x-wait") {
            held.wait();
        }
        send(
            stream,
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nCache-Tag: a,b\r\nContent-Length: 4\r\n\r\npage",
        )
    });
    let shop = shop(&app, "memory: 64MiB", "{ tags: { send: true } }");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| shop.ask(Way::Http11, get("/", &[("x-wait", "1")])));
        wait_for("the fetch", || (app.hits() == 1).then_some(()));
        assert_eq!(shop.balancer.command(&["purge", "--tag", "b"]).0, Some(0));
        latch.open();
        let first = first.join().expect("it is answered");
        assert_eq!((first.text(), first.field("cache-tag")), ("page".to_owned(), "a,b".to_owned()));
    });
    for hits in [2, 2] {
        assert_eq!(shop.ask(Way::Http11, Asked::get("/")).text(), "page");
        assert_eq!(app.hits(), hits);
    }
    assert_eq!(shop.balancer.metric("evenkeel_cache_purges_total", &[("kind", "tag")]), 1.0);
}

#[test]
fn clients_that_may_purge_by_a_method_of_its_own() {
    let magento = "((^|,)p9(,|$))|((^|,)p1(,|$))";
    for (fields, status, is_purged) in [
        (&[][..], 200, true),
        (&[("surrogate-key", "p7 p2")], 200, true),
        (&[("cache-tag", "p7")], 200, false),
        (&[("x-magento-tags-pattern", magento)], 200, true),
        (&[("x-magento-tags-pattern", ".*")], 200, true),
        (&[("x-magento-tags-pattern", "p.*")], 400, false),
    ] {
        for way in [Way::Http11, Way::H2] {
            let app = app();
            let shop = shop(&app, "purge_from: [127.0.0.1]", "{}");
            shop.ask(way, Asked::get(TAGGED));
            let purged = shop.ask(way, Asked { method: "PURGE", ..get(TAGGED, fields) });
            assert_eq!((purged.status, app.hits()), (status, 1), "{fields:?} {way:?}");
            shop.ask(way, Asked::get(TAGGED));
            assert_eq!(app.hits(), if is_purged { 2 } else { 1 }, "{fields:?} {way:?}");
            assert_eq!(
                shop.balancer.record_where("it", |record| record["method"] == "PURGE")["why"],
                "purge"
            );
        }
    }
    let app = app();
    let shop = shop(&app, "purge_from: [192.0.2.0/24]", "{}");
    shop.ask(Way::Http11, Asked::get(TAGGED));
    shop.each(Asked { method: "PURGE", ..Asked::get(TAGGED) }, |way, response| {
        assert_eq!(response.status, 405, "{way:?}");
    });
    assert_eq!(shop.ask(Way::Http11, Asked::get(TAGGED)).text(), "answer 1");
    assert_eq!(app.hits(), 1);
}

#[test]
fn what_cannot_be_purged_is_told() {
    let app = app();
    let shop = shop(&app, "memory: 64MiB", "{}");
    assert_eq!(shop.balancer.command(&["purge"]).0, Some(2));
    let (code, _, told) = shop.balancer.command(&["purge", "page"]);
    assert!(code == Some(1) && told.contains("is not a URL"), "{told}");
    let told = shop.balancer.command_json(&["purge", "--all", "--hard"]);
    assert_eq!(told, json!({ "purges": 1, "hard": true, "nodes": [] }));
    let rules = "    - { match: { host: shop.example }, cache: {}, pool: app }\n    - { pool: app }\n";
    let text = format!("cache: {{ purge_from: [127.0.0.1] }}\n{}", sections(&app, rules));
    let narrow = Ways::start("routes: shop", &text);
    let (code, told, _) = narrow.balancer.command(&["purge", "http://other.example/a", "--tag", "p1"]);
    assert_eq!(code, Some(0));
    assert!(told.starts_with("purged: what was kept"), "{told}");
    assert!(
        told.contains("http://other.example/a can reach nothing: no rule with a cache is for the host"),
        "{told}"
    );
    let (code, told, _) = narrow.balancer.command(&["purge", "--tag", "a b"]);
    assert!(code == Some(0) && told.starts_with("purged: what was kept"), "{told}");
    assert!(told.contains("\na b: no response has such a tag"), "{told}");
    let (code, told, _) = narrow.balancer.command(&["purge", "--prefix", "other.example/x"]);
    assert!(code == Some(0) && told.starts_with("purged nothing here\nother.example/x can reach"), "{told}");
    for blank in [["--tag", ""], ["--tag", " "], ["--prefix", ""]] {
        let (code, _, told) = narrow.balancer.command(&["purge", "http://shop.example/", blank[0], blank[1]]);
        assert!(code == Some(1) && told.contains("a tag or a prefix is empty"), "{told}");
    }
    let told = narrow.balancer.command_json(&["purge", "--prefix", "other.example/x"]);
    assert_eq!(told["unreached"][0]["what"], "other.example/x");
    let purged = narrow.ask(Way::Http11, Asked { method: "PURGE", ..Asked::get("/a") });
    assert_eq!((purged.status, purged.text().contains("unreached")), (200, false));
    let none = Ways::start("routes: shop", &format!("cache: {{ memory: 0B }}\n{}", sections(&app, rules)));
    let (code, _, told) = none.balancer.command(&["purge", "--all"]);
    assert!(code == Some(1) && told.contains("neither memory nor a disk"), "{told}");
    let tagless = self::shop(&app, "purge_from: [127.0.0.1]", "{ tags: { fields: [] } }");
    let purged = tagless.ask(Way::Http11, Asked { method: "PURGE", ..get("/a", &[("cache-tag", "p1")]) });
    assert!(purged.status == 200 && purged.text().contains("no rule reads tags"), "{}", purged.text());
    let without = Ways::start("routes: shop", &sections(&app, "    - { name: all, pool: app }\n"));
    let (code, _, told) = without.balancer.command(&["purge", "--all"]);
    assert!(code == Some(1) && told.contains("no rule has a cache"), "{told}");
}
