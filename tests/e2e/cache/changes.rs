//! Changes that pass through have what is kept asked about.

use super::{app, with_rules};
use crate::support::ways::{Asked, Way};

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
