//! Changes that pass through have what is kept asked about.

use super::{app, sections, with_rules};
use crate::support::app::{App, Latch, send};
use crate::support::balancer::{Balancer, Next};
use crate::support::wait_until;
use crate::support::ways::{Asked, Way};
use rustix::process::Signal;

#[test]
fn what_has_changed_is_asked_for_anew() {
    let page = "/with/cache-control:max-age=60&x:1";
    let ok = "/done/with/location:/with/cache-control:max-age=60%26x:1";
    for (method, target, is_asked) in [
        ("POST", page, true),
        ("PUT", page, true),
        ("DELETE", page, true),
        ("M-SEARCH", page, true),
        ("OPTIONS", page, false),
        ("POST", "/with/cache-control:max-age=60&x:2", false),
        ("POST", "/with/status:500+Oh", false),
        ("POST", ok, false),
    ] {
        let app = app();
        // Whichever rule it is that takes the change.
        let shop = with_rules(
            &app,
            "    - { name: pages, match: { methods: [GET, HEAD] }, cache: {}, pool: app }\n    - { name: rest, pool: app }\n",
        );
        for way in [Way::Http11, Way::H2] {
            assert_eq!(shop.ask(way, Asked::get(page)).text(), "answer 1");
        }
        shop.ask(Way::H2, Asked { method, body: b"x", ..Asked::get(target) });
        let body = if is_asked { "answer 3" } else { "answer 1" };
        for way in [Way::Http11, Way::H2] {
            assert_eq!(shop.ask(way, Asked::get(page)).text(), body, "{method} {target}");
        }
    }
}

#[test]
fn a_change_that_fails_changes_nothing_and_one_that_names_another_changes_that() {
    for (answer, is_asked) in [
        ("status:500+Oh", false),
        ("status:404+Gone", false),
        ("status:303+Other&location:/page", true),
        ("location:http://shop.example/page", true),
        ("location:https://shop.example/page", true),
        ("location:http://shop.example:8080/page", true),
        ("content-location:/page", true),
        ("location:http://other.example/page", false),
        ("location:../../page", true),
        ("content-location:../../other/../page", true),
        ("location:page", false),
    ] {
        let app = app();
        let shop = with_rules(&app, "    - { name: all, cache: { ttl: 1h }, pool: app }\n");
        assert_eq!(shop.ask(Way::Http11, Asked::get("/page")).text(), "answer 1");
        let target = format!("/form/with/{answer}");
        shop.ask(Way::Http11, Asked { method: "POST", body: b"x", ..Asked::get(&target) });
        let body = if is_asked { "answer 3" } else { "answer 1" };
        assert_eq!(shop.ask(Way::Http11, Asked::get("/page")).text(), body, "{answer}");
    }
}

#[test]
fn a_reference_in_a_change_is_from_where_that_was() {
    for (page, location) in [("/form/with/item", "item"), ("/form/with/location:%3Fa=1?a=1", "?a=1")] {
        let app = app();
        let shop = with_rules(&app, "    - { name: all, cache: { ttl: 1h }, pool: app }\n");
        let ask = || shop.ask(Way::Http11, Asked::get(page)).text();
        assert_eq!(ask(), "answer 1");
        let target = format!("/form/with/location:{}", location.replace('?', "%3F"));
        shop.ask(Way::Http11, Asked { method: "POST", body: b"x", ..Asked::get(&target) });
        assert_eq!(ask(), "answer 3", "{location}");
    }
}

#[test]
fn a_change_reaches_what_is_kept_by_other_keys_than_its_own_rule_has() {
    for (key, target, is_asked) in [
        ("host: false", "/page", true),
        ("query: [a]", "/page?a=1&b=2", true),
        ("ignore_query: [b]", "/page?a=1&b=2", true),
        ("sort_query: false", "/page?b=2&a=1", true),
        ("query: []", "/other?a=1", false),
    ] {
        for rest in ["pool: app", "cache: {}, pool: app"] {
            let app = app();
            let rules = format!(
                "    - {{ match: {{ methods: [GET] }}, cache: {{ ttl: 1h, key: {{ {key} }} }}, pool: app }}\n    - {{ {rest} }}\n"
            );
            let shop = with_rules(&app, &rules);
            let ask = || shop.ask(Way::Http11, Asked::get(if is_asked { target } else { "/page" })).text();
            assert_eq!(ask(), "answer 1");
            shop.ask(Way::Http11, Asked { method: "POST", body: b"x", ..Asked::get(target) });
            assert_eq!(ask(), if is_asked { "answer 3" } else { "answer 1" }, "{key} {rest}");
        }
    }
}

#[test]
fn a_change_that_ends_in_the_process_before_reaches_what_the_next_one_keeps() {
    for disk in ["", "disk: { path: DIR/cache, size: 8MiB, min_object: 1B }"] {
        let latch = Latch::default();
        let held = latch.clone();
        let app = App::new(move |request, stream| {
            if request.method == "POST" {
                held.wait();
                let location = "Location: /named\r\nContent-Length: 0";
                return send(stream, &format!("HTTP/1.1 303 See Other\r\n{location}\r\n\r\n"));
            }
            send(stream, "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 4\r\n\r\npage")
        });
        let rules = sections(&app, "    - { name: all, cache: {}, pool: app }\n");
        let mut balancer = Balancer::start(&format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, routes: shop }} }}\ncache: {{ {disk} }}\n{rules}"
        ));
        let is_hit = |target: &str| {
            let mut client = balancer.client();
            client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
            client.response().field("cache-status").starts_with("evenkeel; hit")
        };
        let targets = ["/page", "/named", "/other"];
        if !disk.is_empty() {
            balancer.wait_for_metric("evenkeel_cache_disk_up", &[], 1.0);
        }
        let _ = targets.map(is_hit);
        let mut change = balancer.client();
        change.send("POST /page HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n\r\n");
        wait_until("the change is on its way", || app.hits() == 4);
        balancer.signal(Signal::USR2);
        let next = Next::of(&balancer);
        balancer.log.wait_for("stopping: finishing what is in flight");
        for target in targets {
            wait_until("the next process keeps it", || is_hit(target) && is_hit(target));
        }
        latch.open();
        assert_eq!(change.response().status, 303);
        for target in ["/page", "/named"] {
            wait_until("what has changed is asked about", || !is_hit(target));
        }
        assert!(is_hit("/page") && is_hit("/other"), "{disk}");
        drop(change);
        balancer.wait_for_exit();
        next.end();
    }
}
