//! Phones, tablets, desktops and bots have responses of their own, and servers are told which of them asks.

use super::{app, get, shop, with_rules};
use crate::support::wait_until;
use crate::support::ways::{Asked, Way};

const IPHONE: (&str, &str) =
    ("user-agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Mobile/15E148 Safari/604.1");
const ANDROID: (&str, &str) =
    ("user-agent", "Mozilla/5.0 (Linux; Android 10; K) Chrome/126.0 Mobile Safari/537.36");
const IPAD: (&str, &str) = ("user-agent", "Mozilla/5.0 (iPad; CPU OS 12_5_7 like Mac OS X) Mobile/15E148");
const WINDOWS: (&str, &str) =
    ("user-agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0 Safari/537.36");
const GOOGLEBOT: (&str, &str) = (
    "user-agent",
    "Mozilla/5.0 (Linux; Android 6.0.1) Mobile (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
);

/// A page whose server says that it goes by the device.
const PAGE: &str = "/with/cache-control:max-age=60&vary:Accept-Language,X-Device&x-device:seen";

#[test]
fn each_kind_has_its_own_page_and_clients_see_nothing_of_it() {
    let app = app();
    let shop = shop(&app, "{ key: { device: true } }");
    for (asking, device, body) in [
        (&[IPHONE][..], "phone", "answer 1"),
        (&[IPAD], "tablet", "answer 2"),
        (&[WINDOWS], "desktop", "answer 3"),
        (&[GOOGLEBOT], "bot", "answer 4"),
    ] {
        for way in [Way::Http11, Way::H2] {
            let response = shop.ask(way, get(PAGE, asking));
            assert_eq!(response.text(), body, "{device} {way:?}");
            assert_eq!(app.last().field("x-device"), device, "{way:?}");
            let seen = ["vary", "x-device"].map(|name| response.field(name));
            assert_eq!(seen, ["Accept-Language", ""], "{device} {way:?}");
        }
    }
    // Others of a kind have what is there.
    for (asking, body) in
        [(&[ANDROID][..], "answer 1"), (&[], "answer 3"), (&[("user-agent", "")], "answer 3")]
    {
        shop.each(get(PAGE, asking), |way, response| {
            if !matches!(way, Way::Http11Tls | Way::H2Tls) {
                assert_eq!(response.text(), body, "{asking:?} {way:?}");
            }
        });
    }
    assert_eq!(app.hits(), 6, "and two over TLS");
    // Without another name nothing is left of Vary.
    let alone = "/with/cache-control:max-age=60&vary:x-device";
    for _ in 0..2 {
        assert_eq!(shop.ask(Way::H2, get(alone, &[IPHONE])).field("vary"), "");
    }
    // A purge is of all kinds.
    let before = app.hits();
    let url = format!("http://shop.example{PAGE}");
    assert_eq!(shop.balancer.command(&["purge", &url, "--hard"]).0, Some(0));
    for asking in [IPHONE, IPAD, WINDOWS, GOOGLEBOT] {
        shop.ask(Way::Http11, get(PAGE, &[asking]));
    }
    assert_eq!(app.hits(), before + 4);
}

#[test]
fn nobody_says_for_itself_what_it_is() {
    let app = app();
    let rules = "    - { name: mobile, match: { path: /m/* }, cache: { key: { device: true }, bypass: { headers: [X-No] } }, pool: app }\n\
                 \x20   - { name: all, cache: {}, pool: app }\n";
    let shop = with_rules(&app, rules);
    let page = format!("/m{PAGE}");
    let forged = [IPHONE, ("x-device", "bot"), ("X_Device", "bot"), ("x.DEVICE", "bot"), ("x-no", "1")];
    for (fields, method, body) in [
        (&forged[..4], "GET", &b""[..]),
        // What is not for the cache is for the same templates.
        (&forged, "GET", b""),
        (&forged[..4], "POST", b"x"),
    ] {
        for way in [Way::Http11, Way::H2] {
            shop.ask(way, Asked { method, body, ..get(&page, fields) });
            let asked = app.last();
            let told: Vec<_> = asked.fields.iter().filter(|(name, _)| name.ends_with("device")).collect();
            assert_eq!(told, [&("x-device".to_owned(), "phone".to_owned())], "{method} {way:?}");
        }
    }
    // Where it is not on a field is anybody's, and what goes by it has variants.
    shop.ask(Way::Http11, get(PAGE, &[IPHONE, ("x-device", "mine")]));
    assert_eq!(app.last().field("x-device"), "mine");
    let other = shop.ask(Way::Http11, get(PAGE, &[IPHONE]));
    assert_eq!((app.last().has("x-device"), other.field("x-device")), (false, "seen".to_owned()));
    assert!(other.field("vary").contains("X-Device"));
}

#[test]
fn what_is_over_is_asked_about_for_its_own_kind() {
    let app = app();
    let shop = shop(&app, "{ key: { device: true } }");
    let target = "/with/cache-control:no-cache&etag:%22x%22&vary:X-Device";
    for (asking, device) in [(IPHONE, "phone"), (WINDOWS, "desktop")] {
        let before = app.hits();
        let first = shop.ask(Way::Http11, get(target, &[asking])).text();
        for (way, asked) in [(Way::Http11, before + 2), (Way::H2, before + 3)] {
            let response = shop.ask(way, get(target, &[asking]));
            assert_eq!((response.text(), response.field("vary")), (first.clone(), String::new()), "{way:?}");
            let last = app.last();
            let told = ["x-device", "if-none-match"].map(|name| last.field(name));
            assert_eq!((told, app.hits()), ([device.to_owned(), "\"x\"".to_owned()], asked), "{way:?}");
        }
        // Its own copy, too.
        let same = shop.ask(Way::H2, get(target, &[asking, ("if-none-match", "\"x\"")]));
        assert_eq!((same.status, same.field("vary")), (304, String::new()));
    }
}

#[test]
fn what_is_renewed_beside_its_use_is_of_the_same_kind() {
    let app = app();
    let shop = shop(&app, "{ key: { device: true } }");
    let target = "/with/cache-control:max-age=0,stale-while-revalidate=60&vary:X-Device";
    for (way, asking, device) in [(Way::Http11, IPHONE, "phone"), (Way::H2, IPAD, "tablet")] {
        let first = shop.ask(way, get(target, &[asking])).text();
        let before = app.hits();
        assert_eq!(shop.ask(way, get(target, &[asking])).text(), first);
        wait_until("it is fetched anew", || app.hits() == before + 1);
        assert_eq!(app.last().field("x-device"), device);
    }
}

#[test]
fn the_kind_is_told_of_a_request_and_a_plan_knows_what_it_changes() {
    let app = app();
    let shop = shop(&app, "{ key: { device: true }, bypass: { cookies: [sid] } }");
    shop.ask(Way::Http11, get(PAGE, &[IPHONE]));
    let explained = |agent: &str, more: &[&str]| {
        let (url, agent) = (format!("http://shop.example{PAGE}"), format!("User-Agent: {agent}"));
        shop.balancer.command_json(&[&["explain", &url, "--listener", "web", "-H", &agent], more].concat())
    };
    for (agent, key, result) in [
        (IPHONE.1, ", device phone", "hit"),
        (IPAD.1, ", device tablet", "miss"),
        ("curl/8.5.0", ", device desktop", "miss"),
    ] {
        let report = explained(agent, &[]);
        let (told, kept) = (report["cache"]["key"].as_str(), report["cache"]["result"].as_str());
        assert!(told.is_some_and(|told| told.ends_with(key)) && kept == Some(result), "{agent}: {report}");
    }
    let report = explained(GOOGLEBOT.1, &["-H", "Cookie: sid=1"]).to_string();
    assert!(
        report.contains("goes past the cache (bypass.cookies), and tells the server that a bot asks"),
        "{report}"
    );
}
