//! Where clients are: matched, kept out, told to servers and in the log.

use crate::support::app::App;
use crate::support::balancer::{Balancer, Directory, evenkeel};
use crate::support::client::{Client, Response};
use crate::support::ways::{Asked, Way, Ways};
use crate::support::{mmdb, wait_until};
use std::path::PathBuf;

fn file(directory: &Directory, name: &str, bytes: &[u8]) -> PathBuf {
    let (path, new) = (directory.0.join(name), directory.0.join("new"));
    std::fs::write(&new, bytes).expect("there is room");
    std::fs::rename(&new, &path).expect("it can be put in place");
    path
}

const WHERE: [(&str, &str); 3] = [("192.0.2.0/24", "DE"), ("198.51.100.0/24", "no"), ("2001:db8::/32", "AT")];

/// A shop that takes the client from X-Forwarded-For.
fn shop(app: &App, directory: &Directory, rules: &str) -> Ways {
    let country = file(directory, "country.mmdb", &mmdb::countries(&WHERE));
    let asn =
        file(directory, "asn.mmdb", &mmdb::systems(&[("192.0.2.0/25", 64500), ("203.0.113.0/24", 64501)]));
    let rest = format!(
        "geo: {{ country: {}, asn: {} }}\nroutes:\n  shop:\n{rules}\n\
         pools: {{ app: {{ servers: [{}] }} }}\n",
        country.display(),
        asn.display(),
        app.address
    );
    Ways::start("routes: shop, trusted_proxies: [127.0.0.1]", &rest)
}

#[test]
fn where_a_client_is_decides_its_rule_and_is_told() {
    let (app, directory) = (App::saying("hello"), Directory::new());
    let shop = shop(
        &app,
        &directory,
        "    - { match: { path: /own, country: [no, AT] }, respond: { body: north } }\n    \
         - { match: { path: /own, asn: [AS64501] }, respond: { body: system } }\n    \
         - { match: { path: /shut }, access: { countries: { allow: [DE] } }, pool: app }\n    \
         - { match: { path: /bad }, access: { countries: { deny: [DE] }, asns: { deny: [64501] } }, pool: app }\n    \
         - { request_headers: { set: { X-Country: \"{country}\" } }, pool: app }",
    );
    for (target, client, status, body) in [
        ("/own", "192.0.2.1", 200, "hello"),
        ("/own", "198.51.100.9", 200, "north"),
        ("/own", "2001:db8::7", 200, "north"),
        ("/own", "203.0.113.5", 200, "system"),
        ("/own", "10.0.0.1", 200, "hello"),
        ("/shut", "192.0.2.1", 200, "hello"),
        ("/shut", "198.51.100.9", 403, ""),
        ("/shut", "10.0.0.1", 403, ""),
        ("/bad", "192.0.2.1", 403, ""),
        ("/bad", "203.0.113.5", 403, ""),
        ("/bad", "10.0.0.1", 200, "hello"),
    ] {
        let fields = [("x-forwarded-for", client)];
        shop.each(Asked { fields: &fields, ..Asked::get(target) }, |way, response| {
            assert_eq!(response.status, status, "{target} {client} {way:?}");
            assert!(response.text().starts_with(body), "{target} {client} {way:?}: {}", response.text());
        });
    }
    for (client, country) in [("192.0.2.200", "DE"), ("198.51.100.9", "NO"), ("10.0.0.1", "")] {
        let fields = [("x-forwarded-for", client)];
        shop.each(Asked { fields: &fields, ..Asked::get("/told") }, |way, _| {
            assert_eq!(app.last().field("x-country"), country, "{client} {way:?}");
        });
    }
    let ask = |target: &str, client: &str| {
        let fields = [("x-forwarded-for", client)];
        shop.ask(Way::H2, Asked { fields: &fields, ..Asked::get(target) });
        let record = shop.balancer.record(target);
        (record["country"].clone(), record["asn"].clone())
    };
    assert_eq!(ask("/logged", "192.0.2.1"), ("DE".into(), 64500.into()));
    assert_eq!(ask("/unknown", "10.0.0.1"), (serde_json::Value::Null, serde_json::Value::Null));
    let denied =
        |reason| shop.balancer.series("evenkeel_access_denied_total", &[("reason", reason)]).iter().sum();
    let counts: [f64; 2] = ["country", "asn"].map(denied);
    assert!(counts[0] > counts[1] && counts[1] > 0.0, "{counts:?}");
    let told =
        |client: &str| shop.balancer.command(&["explain", "http://shop.example/own", "--client", client]).1;
    let text = told("192.0.2.1");
    assert!(text.contains("in DE, AS64500") && text.contains("is in DE, not in NO or AT"), "{text}");
    assert!(told("10.0.0.1").contains("is in no known country"), "{}", told("10.0.0.1"));
}

fn country(balancer: &Balancer) -> String {
    let mut client = Client::connect(balancer.address("web"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response: Response = client.response();
    response.text()
}

#[test]
fn a_database_is_followed_and_a_bad_one_changes_nothing() {
    let directory = Directory::new();
    let path = file(&directory, "country.mmdb", &mmdb::countries(&[("127.0.0.0/8", "DE")]));
    let text = |path: &PathBuf| {
        format!(
            "geo: {{ country: {} }}\nlisteners: {{ web: {{ address: 127.0.0.1:0, routes: shop }} }}\n\
             routes: {{ shop: [{{ match: {{ country: [DE] }}, respond: {{ body: de }} }}, {{ respond: {{ body: other }} }}] }}\n\
             pools: {{ app: {{ servers: [127.0.0.1:1] }} }}\n",
            path.display()
        )
    };
    let balancer = Balancer::start(&text(&path));
    assert_eq!(country(&balancer), "de");
    let up = || balancer.metric("evenkeel_geo_up", &[("database", "country")]);
    assert_eq!(up(), 1.0);
    assert_eq!(
        balancer.metric("evenkeel_geo_build_timestamp_seconds", &[("database", "country")]),
        1_764_000_000.0
    );

    let whole = mmdb::flat_countries(&[("127.0.0.0/8", "FR")]);
    file(&directory, "country.mmdb", &whole[..whole.len() / 2]);
    wait_until("the torn file is found", || up() == 0.0);
    assert_eq!(country(&balancer), "de", "what was read before stays in use");
    let events = balancer.command(&["events", "--kind", "geo"]).1;
    assert!(events.contains("is no whole database"), "{events}");
    file(&directory, "country.mmdb", &whole);
    wait_until("the new one is in use", || country(&balancer) == "other");
    assert_eq!(up(), 1.0);

    let systems = file(&directory, "asn.mmdb", &mmdb::systems(&[("127.0.0.0/8", 64500)]));
    for (file, says) in [
        (&systems, "is a database of Test-ASN, which has no countries"),
        (&directory.0.join("none.mmdb"), "cannot be read"),
        (&directory.0.clone(), "cannot be read"),
    ] {
        balancer.write(&text(file));
        let (code, out, err) = balancer.command(&["reload"]);
        assert!(code == Some(1) && (out.clone() + &err).contains(says), "{says}: {out}{err}");
    }
    assert_eq!(country(&balancer), "other");
    drop(balancer);
    let configuration = directory.0.join("c.yaml");
    std::fs::write(&configuration, text(&path)).expect("there is room");
    let asked =
        evenkeel().args(["explain", "http://x/", "-c"]).arg(&configuration).output().expect("it runs");
    let told = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(told.contains("in FR"), "{told}");
}
