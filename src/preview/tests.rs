//! What is told of a reload, against what a reload does.

use super::{ReloadPreview, render, report, settings};
use crate::config::{keys, parse};
use crate::pool::success::SuccessStanding;
use crate::pool::{Query, Tried};
use crate::snapshot::Snapshot;
use std::time::Instant;

fn snapshot(text: &str) -> Snapshot {
    let (plan, _) = parse(text).expect("a good configuration");
    Snapshot::empty().evolve(plan, Instant::now()).0
}

fn after(in_force: &Snapshot, text: &str) -> ReloadPreview {
    let (plan, _) = parse(text).expect("a good configuration");
    let (next, delta) = in_force.evolve(plan, Instant::now());
    report(in_force, &next, &delta, 20_000)
}

/// A file with one pool of these servers, such as `a b=50 c/8` (by weight, and with the most that it takes at once), and these
/// further keys.
fn file(servers: &str, pool: &str) -> String {
    let server = |text: &str| {
        let (text, limit) = match text.split_once('/') {
            Some((text, limit)) => (text, format!(", max_connections: {limit}")),
            None => (text, String::new()),
        };
        let (name, weight) = text.split_once('=').unwrap_or((text, "100"));
        let port = 9000 + u16::from(name.as_bytes()[0]);
        format!("{{ name: {name}, address: 127.0.0.1:{port}, weight: {weight}{limit} }}")
    };
    let servers: Vec<_> = servers.split(' ').map(server).collect();
    format!(
        "listeners:\n  web: {{ address: 127.0.0.1:8080, pool: app }}\npools:\n  app:\n    servers: [{}]\n{pool}",
        servers.join(", ")
    )
}

const HASH: &str = "    balance: { consistent_hash: { key: { header: X-Key } } }\n";

fn churn(old: &str, new: &str) -> (f64, f64) {
    let report = after(&snapshot(&file(old, HASH)), &file(new, HASH));
    let churn = report.pools.changed[0].churn.clone().expect("the pool hashes before and after");
    (churn.share, churn.minimum)
}

#[test]
fn the_same_file_changes_nothing() {
    let text = file("a b c", HASH);
    let report = after(&snapshot(&text), &text);
    assert!(!report.changes && report.warnings.is_empty(), "{report:?}");
    assert!(render(&report).starts_with("nothing changes\n"));
}

#[test]
fn keys_that_move_are_near_the_least_that_must() {
    for (old, new, minimum) in [
        ("a b c d", "a b c", 0.25),
        ("a b c d", "a b c d e", 0.2),
        ("a b c d", "a b c d=200", 0.15),
        ("a b c d", "d c b a", 0.0),
    ] {
        let (share, least) = churn(old, new);
        assert!((least - minimum).abs() < 1e-9, "{old} to {new}: {least}");
        assert!((share - minimum).abs() < 0.05, "{old} to {new}: {share}");
    }
}

#[test]
fn a_server_at_another_address_is_another_one() {
    let old = file("a b", HASH);
    let report = after(&snapshot(&old), &old.replace("9097", "9999"));
    let pool = &report.pools.changed[0];
    assert_eq!((pool.servers.added.len(), pool.servers.removed.len()), (1, 1));
    let churn = pool.churn.as_ref().expect("it hashes");
    assert_eq!(churn.minimum, 0.5);
    assert!((churn.share - 0.5).abs() < 0.1, "{churn:?}");
}

#[test]
fn drains_and_health_are_those_of_the_delta() {
    let http = "    health: { http: /healthz }\n    drain_timeout: 5s\n";
    let in_force = snapshot(&file("a b c", http));
    let report = after(&in_force, &file("b c=50 d", http));
    let pool = &report.pools.changed[0];
    assert_eq!(pool.servers.removed[0].drains_within.as_deref(), Some("5s"));
    assert_eq!(pool.servers.kept, ["b"]);
    assert_eq!(pool.servers.changed[0].keys[0].new.as_deref(), Some("50"));
    assert_eq!(pool.health.kept, ["b", "c"]);
    assert_eq!(pool.health.probing, ["d"]);
    let report = after(&in_force, &file("a b c", "    health: { tcp: {} }\n    drain_timeout: 5s\n"));
    assert_eq!(report.pools.changed[0].health.counts_reset, ["a", "b", "c"]);
    let report = after(&in_force, &file("a b c", "    drain_timeout: 5s\n"));
    assert_eq!(report.pools.changed[0].health.assumed_up, ["a", "b", "c"]);
}

#[test]
fn what_is_in_flight_is_told_and_left_alone() {
    let in_force = snapshot(&file("a", ""));
    let lease = in_force.pools()[0].pick(&Query::default(), &mut Tried::new());
    let second = in_force.pools()[0].pick(&Query::default(), &mut Tried::new());
    let limited = file("a", "").replace("weight: 100", "max_connections: 1");
    let report = after(&in_force, &limited);
    assert!(
        report.warnings[0].contains("a has 2 in flight, above its new max_connections of 1"),
        "{report:?}"
    );
    let report = after(&in_force, &file("b", ""));
    let gone = &report.pools.changed[0].servers.removed[0];
    assert_eq!((gone.in_flight, gone.drains), (2, true));
    assert!(lease.is_ok() && second.is_ok());
    assert_eq!(in_force.pools()[0].members[0].server.state().membership, crate::pool::Membership::Present);
}

fn warns(old: &str, new: &str, part: &str) {
    let report = after(&snapshot(old), new);
    assert!(report.warnings.iter().any(|warning| warning.contains(part)), "{part:?}: {:?}", report.warnings);
}

#[test]
fn what_may_surprise_is_warned_of() {
    let old = file("a b", HASH);
    warns(&old, &old.replace("weight: 100", "drain: true"), "every server is drained");
    warns(&old, &file("c d", HASH), "all servers are replaced at once, and none of them is probed");
    let probed = "    health: { http: / }\n    when_all_unhealthy: refuse\n";
    warns(&file("a b", probed), &file("c d", probed), "so requests wait until a probe has passed");
    let unqueued = format!("{probed}    queue: null\n");
    warns(&file("a b", &unqueued), &file("c d", &unqueued), "503 until a probe has passed");
    warns(&old, &old.replace("header: X-Key", "cookie: sid"), "from {header: x-key} to {cookie: sid}");
    // A server's points follow from its own weight, so a common factor is not without effect.
    warns(&file("a b c=50", HASH), &file("a=50 b=50 c=25", HASH), "though only 0.0% must");
    warns(&old, &file("a b", ""), "no longer stay with their server");
    warns(&old, &format!("log: {{ level: debug }}\n{old}"), "log.level takes effect at the next start");
    let limit = |n: u32| old.replace("weight: 100", &format!("max_connections: {n}"));
    warns(&limit(20), &limit(15), "can take 30 requests at once; before, 40");
}

#[test]
fn rules_are_compared_by_what_they_say() {
    let text = |rules: &str| {
        format!(
            "listeners:\n  web: {{ address: 127.0.0.1:8080, routes: shop }}\nroutes:\n  shop:\n{rules}\
             pools:\n  app: {{ servers: [127.0.0.1:9001] }}\n"
        )
    };
    let (first, second) =
        ("    - { match: { path: /a/* }, pool: app }\n", "    - { match: { methods: [GET] }, pool: app }\n");
    let last = "    - { pool: app }\n";
    let old = snapshot(&text(&format!("{first}{last}")));
    let routes = |rules: String| after(&old, &text(&rules)).routes.changed[0].clone();
    let inserted = routes(format!("{second}{first}{last}"));
    assert_eq!((inserted.added.as_slice(), inserted.reordered), (&["GET -> app".to_owned()][..], false));
    assert!(inserted.removed.is_empty());
    assert_eq!(routes(last.to_owned()).removed, ["/a/* -> app"]);
    let old = snapshot(&text(&format!("{first}{second}{last}")));
    assert!(after(&old, &text(&format!("{second}{first}{last}"))).routes.changed[0].reordered);
}

#[test]
fn of_a_rule_that_changes_only_the_keys_that_do_are_told() {
    let text = |cache: &str, name: &str, path: &str| {
        format!(
            "listeners:\n  web: {{ address: 127.0.0.1:8080, routes: shop }}\nroutes:\n  shop:\n\
             \x20   - {{ {name}match: {{ path: {path} }}, cache: {cache}, pool: app }}\n    - {{ pool: app }}\n\
             pools:\n  app: {{ servers: [127.0.0.1:9001] }}\n"
        )
    };
    let old = snapshot(&text("{ ttl: 10s }", "", "/a/*"));
    let routes = |text: &str| after(&old, text).routes.changed[0].clone();
    let other = routes(&text("{ ttl: 20s, key: { device: true } }", "", "/a/*"));
    let keys: Vec<_> = other.changed[0].keys.iter().map(|change| &*change.key).collect();
    assert_eq!((other.changed.len(), &*other.changed[0].rule), (1, "/a/*"));
    assert_eq!(keys, ["cache.key.device", "cache.ttl"]);
    assert_eq!((other.removed.len(), other.added.len()), (1, 1), "programs see both whole");
    let page = render(&after(&old, &text("{ ttl: 20s }", "", "/a/*")));
    assert!(page.contains("      ~ /a/*\n        cache.ttl: 10s -> 20s\n"), "{page}");
    assert!(!page.contains("coalesce"), "{page}");
    // Without a name of its own it is another rule that matches something else; with one it is the same.
    assert!(routes(&text("{ ttl: 10s }", "", "/b/*")).changed.is_empty());
    let named = snapshot(&text("{ ttl: 10s }", "name: pages, ", "/a/*"));
    let told = after(&named, &text("{ ttl: 10s }", "name: pages, ", "/b/*")).routes.changed[0].clone();
    assert_eq!(told.changed[0].rule, "pages: /b/*");
    assert_eq!(told.changed[0].keys[0].key, "match");
}

/// A key that is added to the configuration and not here would change without being told by name.
#[test]
fn every_key_of_listeners_pools_and_servers_is_told() {
    let text = "\
admin: { token_file: t }
events: { path: e.jsonl }
geo: { country: c.mmdb, asn: a.mmdb }
cache: { purge_from: [10.0.0.0/8], purge_nodes: [10.0.0.2:9900], disk: { path: /d } }
acme: { directory: \"https://ca.example/dir\", accept_terms: true, contact: [\"mailto:a@b.example\"], ca: ca.pem,
  external_account: { key_id: k, hmac_key_file: f } }
listeners:
  web:
    addresses: [127.0.0.1:8443]
    pool: app
    tls: { certificates: [{ cert: c.pem, key: k.pem, ocsp: o.der }], acme: { names: [a.example] }, client_ca: { file: x.pem, required: false },
      hsts: 1d }
    proxy_protocol: { from: [10.0.0.0/8] }
    trusted_proxies: [10.0.0.0/8]
    policy: all
    http2: { max_age: 1h, max_requests: 9 }
    limits: { connections_per_client: 5, new_connections_per_client: 9/m }
  plain: { address: 127.0.0.1:80, redirect_to_https: true }
policies: { all: {} }
pools:
  app:
    balance: { consistent_hash: { bounded_load: 125% } }
    slow_start: 30s
    fallback: spare
    servers: [{ address: 127.0.0.1:1, max_connections: 5 }]
    health: { http: { path: /, host: h, expect_body: b }, port: 81 }
    outlier: { slower_than: 5x }
    retries: { on: [timeout], per_try: 1s }
    proxy_protocol: v1
    sticky: { cookie: EK, max_age: 1d, max_life: 1h, key_file: k, domain: a.example }
    tls: { server_name: app.internal, ca: ca.pem, cert: a.pem, key: a.key }
    discover: { dns: \"app.internal:80\" }
  spare: { servers: [127.0.0.1:2] }
";
    let snapshot = snapshot(text);
    let told: Vec<String> = [
        settings::process(&snapshot.plan),
        settings::listener(&snapshot.plan, &snapshot.plan.listeners[0]),
        settings::listener(&snapshot.plan, &snapshot.plan.listeners[1]),
        settings::pool(&snapshot.plan.pools[0]),
        settings::server(&snapshot.plan.pools[0].servers[0]),
    ]
    .iter()
    .flat_map(|settings| settings::Settings::default().changes_to(settings))
    .map(|change| change.key)
    .collect();
    // Other forms of what is told: other probes, `pool` beside `routes`, parts that a value shows together.
    const OTHERWISE: [&str; 18] = [
        "balance.maglev",
        "balance.success_rate",
        "discover.dns_srv",
        "discover.file",
        "discover.http",
        "address",
        "addresses",
        "routes",
        "name",
        "accept_terms",
        "access_log",
        "tls.certificates",
        "hsts",
        "key",
        "health.tcp",
        "health.tls",
        "health.grpc",
        "health.udp",
    ];
    keys::each_section(&mut |section, keys| {
        let (prefix, is_ours) = match section {
            "listeners.NAME" | "pools.NAME" | "pools.NAME.servers[]" => (String::new(), true),
            _ => match section.split_once("NAME.") {
                Some((_, below)) => (format!("{below}."), !below.contains("[]")),
                None => (format!("{section}."), !section.is_empty() && !section.contains("[]")),
            },
        };
        if !is_ours
            || ["routes", "policies", "networks", "geo"].iter().any(|other| section.starts_with(other))
            || section.ends_with("hsts")
        {
            return;
        }
        for key in keys {
            let path = format!("{prefix}{}", key.name);
            let known = told.iter().any(|told| *told == path || told.starts_with(&format!("{path}.")));
            let otherwise = OTHERWISE
                .iter()
                .any(|other| path == *other || path.starts_with(&format!("{other}.")) || key.name == *other);
            let is_hash = path.starts_with("balance.consistent_hash.key.");
            assert!(
                known || otherwise || is_hash || path == "servers" || path == "discover",
                "{path} (of {section}) is not told"
            );
        }
    });
}

#[test]
fn what_becomes_of_those_who_wait_come_back_or_are_ejected_is_told() {
    let all = "    queue: { max: 5 }\n    slow_start: 30s\n    outlier: {}\n";
    let in_force = snapshot(&file("a b c d", all));
    in_force.pools()[0].members[1].server.set_ejected(true);
    let notes = |servers: &str, pool: &str| {
        let told = after(&in_force, &file(servers, pool));
        let shown = render(&told);
        told.pools.changed[0].notes.iter().for_each(|note| assert!(shown.contains(&note[..40]), "{shown}"));
        (told.pools.changed[0].notes.join("; "), shown)
    };
    let (told, shown) = notes("a b c d", "    queue: null\n");
    for part in
        ["nobody waits any more", "get their full share at once", "nobody is ejected any more: b serve"]
    {
        assert!(told.contains(part), "{told}");
    }
    assert!(!shown.contains("null -> null") && shown.contains("slow_start.over: 30s -> 0s"), "{shown}");
    let (told, _) = notes("a b", all);
    assert_eq!(told, "outlier: at most 1 of 2 may be down or ejected for one to be ejected; before, 2 of 4");
    let (told, _) = notes("a b c d=50", all);
    assert_eq!(told, "");
    let (told, _) = notes("a b c d", &all.replace("outlier: {}", "outlier: { base_ejection: 1m }"));
    let durations = "ejections last 1m and, one after the other, up to 5m from the next one on; who is ejected now keeps its time";
    assert_eq!(told, durations);
    in_force.pools()[0].members[2].server.set_ejected(true);
    let (told, _) = notes("a b c d", &all.replace("outlier: {}", "outlier: { max_ejected: 25% }"));
    assert!(
        told.ends_with("before, 2 of 4; 2 are ejected now, and stay so until they have been tried out"),
        "{told}"
    );
    let none = snapshot(&file("a b", "    queue: null\n"));
    let told = after(&none, &file("a b", "    queue: {}\n"));
    assert!(told.pools.changed[0].notes[0].starts_with("who finds every server full waits, up to 5s"));
}

#[test]
fn what_becomes_of_what_is_known_of_servers_and_of_who_joins_is_told() {
    let rate = |keys: &str| format!("    balance: {{ success_rate: {{ {keys} }} }}\n");
    let paid = rate("window: 100, outcome: { header: X-Paid, success: [yes], failure: [no] }");
    let (hundred, ewma) = (rate("window: 100"), "    balance: peak_ewma\n");
    let (sticky, slow) = ("    sticky: { cookie: EK, max_life: 1d }\n", "    slow_start: 30s\n");
    for ((servers, keys), (next_servers, next_keys), told) in [
        (
            ("a b", ""),
            ("a b", &*hundred),
            "how often servers succeed is counted from now on; none is worse than another before 10 outcomes say so",
        ),
        (
            ("a b", &hundred),
            ("a b", &rate("window: 50")),
            "only the last 50 outcomes of each server count from now on; before, 100",
        ),
        (
            ("a b", &hundred),
            ("a b", &rate("window: 200")),
            "the last 200 outcomes of each server count from now on, of which 100 are known at most",
        ),
        (
            ("a b", &hundred),
            ("a b", &paid),
            "what is a success is another thing from now on: up to 100 outcomes of each server were counted by what it was \
             before, until others have taken their place",
        ),
        (("a b", &hundred), ("a b", &rate("window: 100, explore: 5%")), ""),
        (
            ("a b", &hundred),
            ("a b", ""),
            "how often servers succeed has no say any more, and is forgotten: those that were worse (b) serve like the others at once",
        ),
        (("a b", ""), ("a b", ewma), "how long servers take is learned from now on"),
        (("a b", ewma), ("a b", ""), "how long servers take has no say any more"),
        (("a b", ewma), ("a b", ewma), ""),
        (
            ("a b", sticky),
            ("a c", sticky),
            "clients that are bound to b are bound to others with their next request",
        ),
        (("a b", sticky), ("a b", &sticky.replace("1d", "2d")), ""),
        (
            ("a b", sticky),
            ("a b", &sticky.replace("1d", "2h")),
            "clients that have been bound for 2h or longer are bound to servers anew with their next request",
        ),
        (
            ("a b", slow),
            ("a b c d", slow),
            "slow_start: c, d take 10% of their share once they are up, and all of it 30s later",
        ),
        (
            ("a b", "    queue: { timeout: 5s }\n"),
            ("a b", "    queue: { timeout: 2s }\n"),
            "who comes from now on waits up to 2s; who waits already, up to 5s as before",
        ),
        (
            ("a b c", "    queue: null\n"),
            ("a/8 b/8 c", "    queue: null\n"),
            "a, b had no limit and take 8 at once from now on; who finds every server full is answered with 503",
        ),
        (
            ("a b c", ""),
            ("a/8 b/9 c", ""),
            "a, b had no limit and take 8, 9 at once from now on; who finds every server full waits, up to 5s",
        ),
    ] {
        let in_force = snapshot(&file(servers, keys));
        if keys.contains("success_rate") {
            let worse = SuccessStanding { is_worse: true, ..SuccessStanding::default() };
            in_force.pools()[0].members[1].server.success().set_standing(&worse);
        }
        let preview = after(&in_force, &file(next_servers, next_keys));
        let notes = preview.pools.changed.first().map_or_else(String::new, |pool| pool.notes.join("; "));
        assert_eq!(notes, told, "{next_servers} {next_keys:?} after {servers} {keys:?}");
    }
}

#[test]
fn what_unbinds_clients_is_told() {
    let keys = |lines: &str| {
        let lines: Vec<_> = lines.split(' ').map(|line| line.repeat(32)).collect();
        crate::sticky::StickyKeys::parse(&lines.join("\n")).expect("good keys")
    };
    let with = |sticky: &str, lines: &str| {
        let (mut plan, _) = parse(&file("a b", sticky)).expect("a good configuration");
        if let Some(sticky) = &mut std::sync::Arc::make_mut(&mut plan.pools[0]).sticky {
            sticky.keys = keys(lines);
        }
        plan
    };
    let sticky = "    sticky: { cookie: EK, key_file: k }\n";
    let in_force = Snapshot::empty().evolve(with(sticky, "o"), Instant::now()).0;
    for (next, warning) in [
        (with(sticky, "o n"), None),
        (with(sticky, "n o"), None),
        (
            with(sticky, "n"),
            Some("a key is gone: clients whose cookies it has signed are bound to servers anew"),
        ),
        (with("", "o"), Some("clients are bound to their servers no longer")),
        (
            with("    sticky: { cookie: EL, key_file: k }\n", "o"),
            Some("cookies that clients have are of no use any more: they are bound to servers anew"),
        ),
    ] {
        let (next, delta) = in_force.evolve(next, Instant::now());
        let told = report(&in_force, &next, &delta, 0);
        let warning: Vec<_> = warning.into_iter().map(|warning| format!("pools.app: {warning}")).collect();
        assert_eq!(told.warnings, warning);
        assert!(told.changes, "another key is another setting");
    }
}
