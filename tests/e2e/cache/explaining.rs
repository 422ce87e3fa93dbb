//! Why a request is answered by what is kept, or is not.

use super::{app, sections, shop};
use crate::support::client::Client;
use crate::support::wait_for;
use crate::support::ways::{Asked, Way, Ways};
use serde_json::Value;

fn explained(shop: &Ways, target: &str, more: &[&str]) -> Value {
    let url = format!("http://shop.example{target}");
    shop.balancer.command_json(&[&["explain", &url, "--listener", "web"], more].concat())
}

/// Result, reason, and what the phase says.
fn in_short(report: &Value) -> (String, String, String) {
    let phase =
        report["policy"].as_array().and_then(|phases| phases.iter().find(|phase| phase["phase"] == "cache"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let cache = &report["cache"];
    (text(&cache["result"]), text(&cache["reason"]), text(&phase.expect("there is a cache")["does"]))
}

#[test]
fn what_is_kept_is_told_with_its_variants_ages_and_tags() {
    let app = app();
    let shop = shop(&app, "{ stale_if_error: 60s, bypass: { cookies: [sid] } }");
    let target = "/with/cache-control:max-age=60&vary:accept-language&surrogate-key:p1+p2&etag:%22x%22";
    let (result, _, does) = in_short(&explained(&shop, target, &[]));
    assert_eq!((&*result, does.contains("has nothing")), ("miss", true), "{does}");
    for language in ["de", "fr"] {
        shop.ask(Way::Http11, Asked { fields: &[("accept-language", language)], ..Asked::get(target) });
    }
    let report = explained(&shop, target, &["-H", "Accept-Language: de"]);
    let (result, _, does) = in_short(&report);
    assert!(result == "hit" && does.contains("fresh for another"), "{does}");
    assert_eq!(report["winner"], Value::Null, "no server is asked");
    let stored = report["cache"]["stored"].as_array().expect("a list");
    let told: Vec<_> = stored.iter().map(|one| (&one["varies"][0], &one["chosen"], &one["tags"])).collect();
    let tags = serde_json::json!(["p1", "p2"]);
    assert_eq!(told[0], (&"accept-language: fr".into(), &false.into(), &tags));
    assert_eq!(told[1], (&"accept-language: de".into(), &true.into(), &tags));
    // Asking is no use of it, and no request.
    assert_eq!(app.hits(), 2);

    let (result, _, does) = in_short(&explained(&shop, target, &["-H", "Accept-Language: en"]));
    assert_eq!((&*result, does.contains("only other variants")), ("miss", true), "{does}");
    let (result, reason, _) = in_short(&explained(&shop, target, &["-H", "Cookie: sid=1"]));
    assert_eq!((&*result, &*reason), ("bypass", "bypass.cookies"));
    assert_eq!(shop.balancer.command(&["purge", "--tag", "p1"]).0, Some(0));
    let report = explained(&shop, target, &["-H", "Accept-Language: de"]);
    let (result, _, does) = in_short(&report);
    assert!(result == "validate" && does.ends_with("purged (used if servers fail)"), "{does}");
    assert_eq!(report["winner"]["name"], "s1");
    let only = explained(&shop, target, &["-H", "Cache-Control: only-if-cached"]);
    assert!(in_short(&only).2.ends_with("504") && only["winner"].is_null());

    shop.ask(Way::Http11, Asked { fields: &[("accept-language", "de")], ..Asked::get(target) });
    let authorized = ["-H", "Accept-Language: de", "-H", "Authorization: x"];
    let (result, _, does) = in_short(&explained(&shop, target, &authorized));
    assert_eq!((&*result, does.contains("not for requests with Authorization")), ("miss", true), "{does}");
    assert_eq!(shop.balancer.command(&["purge", "--all", "--hard"]).0, Some(0));
    for language in ["de", "en"] {
        let field = format!("Accept-Language: {language}");
        let (result, _, does) = in_short(&explained(&shop, target, &["-H", &field]));
        assert_eq!((&*result, does.contains("is purged, hard")), ("miss", true), "{does}");
    }
}

#[test]
fn a_purge_is_told_of_as_what_it_is() {
    let app = app();
    let rules = "    - { cache: {}, pool: app }\n";
    let text = format!("cache: {{ purge_from: [192.0.2.0/24] }}\n{}", sections(&app, rules));
    let shop = Ways::start("routes: shop", &text);
    for (client, status) in [("192.0.2.7", "200"), ("127.0.0.1", "405")] {
        let asked = ["explain", "PURGE", "http://shop.example/a", "--listener", "web", "--client", client];
        let report = shop.balancer.command_json(&asked);
        let (result, reason, does) = in_short(&report);
        assert_eq!((&*result, &*reason, does.ends_with(status)), ("purge", "", true), "{does}");
        assert!(
            report["winner"].is_null()
                && report["respond"].as_str().is_some_and(|said| said.contains(status)),
            "{report}"
        );
    }
}

#[test]
fn what_forbade_storing_is_told() {
    let app = app();
    let shop = shop(&app, "{}");
    for (target, reason) in [
        ("/with/cache-control:no-store", "no-store"),
        ("/with/cache-control:private", "private"),
        ("/with/cache-control:max-age=9&set-cookie:a=b", "set-cookie"),
        ("/with/cache-control:max-age=9&vary:*", "vary"),
        ("/with/x-nothing:said", "no lifetime"),
    ] {
        shop.ask(Way::Http11, Asked::get(target));
        let report = explained(&shop, target, &[]);
        let (result, said, does) = in_short(&report);
        assert_eq!((&*result, &*said), ("miss", reason), "{target}");
        assert!(does.contains(&format!("not kept ({reason})")) && does.contains("nobody waits"), "{does}");
        assert_eq!(report["winner"]["name"], "s1");
    }
}

#[test]
fn what_the_cache_spares_servers_is_told_everywhere() {
    let app = app();
    let shop = shop(&app, "{}");
    let target = "/with/cache-control:max-age=60";
    let status = wait_for("the hit ratio of the last seconds", || {
        shop.ask(Way::Http11, Asked::get(target));
        let status = shop.balancer.command_json(&["status"]);
        let ratio = status["cache"]["rules"][0]["hit_ratio"].as_f64();
        ratio.is_some_and(|ratio| ratio > 0.5).then_some(status)
    });
    let (cache, rule) = (&status["cache"], &status["cache"]["rules"][0]);
    assert_eq!((&rule["route"], &rule["results"]["miss"]), (&"all".into(), &1.into()));
    let memory = &cache["tiers"][0];
    assert_eq!((&memory["tier"], &memory["limit"]), (&"memory".into(), &(256_u64 << 20).into()));
    assert!(memory["bytes"].as_u64() > Some(500) && memory["objects"] == 1, "{memory}");
    let (_, told, _) = shop.balancer.command(&["status"]);
    let admin = shop.balancer.admin_address();
    let mut client = Client::connect(admin);
    client.send(format!("GET /page HTTP/1.1\r\nHost: {admin}\r\n\r\n"));
    let page = client.response().text();
    for text in [told, page] {
        assert!(text.contains("from the cache; memory") && text.contains("miss 1"), "{text}");
    }
    let without = Ways::start("routes: shop", &sections(&app, "    - { name: all, pool: app }\n"));
    assert_eq!(without.balancer.command_json(&["status"])["cache"], Value::Null);
}

#[test]
fn what_is_kept_for_a_trusted_proxys_clients_is_found() {
    let app = app();
    let rules = "    - { name: all, cache: { key: { headers: [X-Group] } }, request_headers: { set: { X-Group: \"{cookie.group}\" } }, pool: app }\n";
    let text = sections(&app, rules);
    let shop = Ways::start("routes: shop, trusted_proxies: [127.0.0.1]", &text);
    let target = "/with/cache-control:max-age=60&vary:X-Forwarded-For";
    let fields: &[(&str, &str)] = &[
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-host", "public.example"),
        ("x-forwarded-proto", "https"),
        ("cookie", "group=a"),
    ];
    shop.ask(Way::Http11, Asked { fields, ..Asked::get(target) });
    let said: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let result = |client: &str, fields: &[String]| {
        let more = fields.iter().flat_map(|field| ["-H", field]).chain(["--client", client]);
        in_short(&explained(&shop, target, &more.collect::<Vec<_>>()))
    };
    let (found, _, does) = result("127.0.0.1", &said);
    assert!(found == "hit" && does.contains("what proxies say"), "{found} {does}");
    // Another proxy's request, one of a stranger who says the same, one for others, one of another group.
    assert_eq!(result("127.0.0.2", &said).0, "miss");
    assert_eq!(result("192.0.2.7", &said).0, "miss");
    assert_eq!(result("127.0.0.1", &said[..3]).0, "miss");
    let stranger = Ways::start("routes: shop", &text);
    stranger.ask(Way::Http11, Asked { fields: &[("cookie", "group=a")], ..Asked::get(target) });
    let report =
        explained(&stranger, target, &["-H", "Cookie: group=a", "-H", "X-Forwarded-Host: evil.example"]);
    assert_eq!(in_short(&report).0, "hit", "nobody's word is taken");
}
