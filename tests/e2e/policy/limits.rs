//! Who may ask, how often and how much at once: the same by every way of HTTP.

use crate::support::app::{App, Latch, say};
use crate::support::balancer::{Directory, Next};
use crate::support::client::Response;
use crate::support::wait_until;
use crate::support::ways::{Asked, Way, Ways};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A listener whose own policy this is.
fn limited(app: &App, policy: &str) -> Ways {
    let rest = format!(
        "networks: {{ here: [127.0.0.0/8], elsewhere: [192.0.2.0/24] }}\n\
         policies: {{ all: {{ {policy}, response_headers: {{ set: {{ X-Mark: \"1\" }} }} }} }}\n\
         pools: {{ app: {{ servers: ['{}'] }} }}\n",
        app.address
    );
    Ways::start("pool: app, policy: all", &rest)
}

/// The statuses of so many requests, one after the other.
fn statuses(ways: &Ways, way: Way, asked: Asked<'_>, n: usize) -> Vec<u16> {
    (0..n).map(|_| ways.ask(way, asked).status).collect()
}

#[test]
fn a_rate_lets_in_a_burst_and_says_when_to_come_again() {
    for way in Way::ALL {
        let app = App::saying("hello");
        let ways = limited(&app, "rate_limit: [{ requests: 1/h, burst: 2, fields: true }]");
        let first = ways.ask(way, Asked::get("/"));
        assert_eq!(
            (first.status, first.field("ratelimit-policy")),
            (200, "\"all[1]\";q=2;w=7200".to_owned())
        );
        assert_eq!(first.field("ratelimit"), "\"all[1]\";r=1;t=3600", "{way:?}");
        assert_eq!(ways.ask(way, Asked::get("/")).status, 200);
        for _ in 0..3 {
            let refused = ways.ask(way, Asked::get("/over"));
            let seconds: u64 = refused.field("retry-after").parse().expect("whole seconds");
            assert!(refused.status == 429 && (3590..=3600).contains(&seconds), "{way:?} {seconds}");
            assert_eq!(refused.field("x-mark"), "1", "{way:?}");
        }
        assert_eq!(app.hits(), 2, "{way:?}");
        let record = ways.balancer.record("/over");
        assert_eq!((&record["why"], &record["limit"]), (&"rate_limited".into(), &"all[1]".into()), "{way:?}");
        let labels = [("route", ""), ("limit", "all[1]"), ("action", "reject")];
        assert_eq!(ways.balancer.metric("evenkeel_rate_limited_total", &labels), 3.0, "{way:?}");
        assert_eq!(ways.balancer.metric("evenkeel_limit_keys", &[]), 1.0, "{way:?}");
    }
}

#[test]
fn what_is_counted_apart_has_a_count_of_its_own() {
    let app = App::saying("hello");
    let ways = limited(
        &app,
        "rate_limit: [{ per: [{ header: X-Key }, { query: k }, { cookie: id }], requests: 1/h }]",
    );
    for way in Way::ALL {
        let word = format!("{way:?}");
        let fields = [("X-Key", word.as_str()), ("Cookie", "id=1")];
        for (target, fields, expected) in [
            ("/?k=1", &fields[..], [200, 429]),
            ("/?k=2", &fields[..], [200, 429]),
            ("/?k=1", &fields[..], [429, 429]),
            ("/?k=1", &[("X-Key", word.as_str()), ("Cookie", "id=2")][..], [200, 429]),
        ] {
            let asked = Asked { fields, ..Asked::get(target) };
            assert_eq!(statuses(&ways, way, asked, 2), expected, "{way:?} {target}");
        }
    }
}

#[test]
fn only_answers_that_cost_use_up_a_limit_by_status() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/bad" => crate::support::app::status(stream, "401 Unauthorized", "no"),
        _ => say(stream, "hello"),
    });
    for way in Way::ALL {
        let ways = limited(&app, "rate_limit: [{ requests: 2/h, burst: 2, count: { status: [401] } }]");
        assert_eq!(statuses(&ways, way, Asked::get("/"), 4), [200; 4], "{way:?}");
        assert_eq!(statuses(&ways, way, Asked::get("/bad"), 3), [401, 401, 429], "{way:?}");
        assert_eq!(statuses(&ways, way, Asked::get("/"), 1), [429], "{way:?}");
    }
}

#[test]
fn a_dry_run_tells_and_a_delay_spreads() {
    let app = App::saying("hello");
    let spread = |way: Way| {
        // A second apart: no machine is so slow that one of them comes when it may anyway.
        let ways = limited(
            &app,
            "rate_limit: [{ requests: 1/h, over: log }, { requests: 60/m, burst: 1, over: { delay: 30s } }]",
        );
        let since = Instant::now();
        assert_eq!(statuses(&ways, way, Asked::get("/"), 4), [200; 4], "{way:?}");
        assert!(since.elapsed() >= Duration::from_millis(2990), "{way:?} {:?}", since.elapsed());
        for (limit, action) in [("all[1]", "log"), ("all[2]", "delay")] {
            let labels = [("route", ""), ("limit", limit), ("action", action)];
            assert_eq!(ways.balancer.metric("evenkeel_rate_limited_total", &labels), 3.0, "{way:?} {limit}");
        }
    };
    std::thread::scope(|scope| Way::ALL.iter().for_each(|way| drop(scope.spawn(|| spread(*way)))));
}

#[test]
fn clients_are_let_in_by_networks() {
    let app = App::saying("hello");
    for (access, status, reason) in [
        ("{ allow: [here] }", 200, ""),
        ("{ allow: [elsewhere] }", 403, "allow"),
        ("{ deny: [elsewhere] }", 200, ""),
        ("{ deny: [127.0.0.1], answer: 404 }", 404, "deny"),
        ("{ allow: [here], deny: [here] }", 403, "deny"),
        ("{ deny: [here], answer: { tarpit: 50ms } }", 403, "deny"),
    ] {
        let ways = limited(&app, &format!("access: {access}"));
        for way in Way::ALL {
            let response = ways.ask(way, Asked::get("/"));
            assert_eq!(
                (response.status, response.field("x-mark")),
                (status, "1".to_owned()),
                "{way:?} {access}"
            );
        }
        if !reason.is_empty() {
            let labels = [("listener", "web"), ("reason", reason)];
            assert!(ways.balancer.metric("evenkeel_access_denied_total", &labels) >= 1.0, "{access}");
        }
    }
    assert_eq!(app.hits(), 2 * Way::ALL.len());
}

/// A listener with a page for every error and a rate whose fields tell of it, and rules that keep clients out, which have a policy
/// of their own.
fn with_pages(app: &App, files: &Directory) -> Ways {
    for (name, text) in [("all.html", "all {status}"), ("own.html", "own {status}")] {
        std::fs::write(files.0.join(name), text).expect("it can be written");
    }
    let at = files.0.display();
    let own = format!(
        "errors: {{ 400-599: {{ html: {at}/own.html }} }}, response_headers: {{ set: {{ X-Own: '1' }} }}, pool: app"
    );
    let rest = format!(
        "policies:\n  all: {{ errors: {{ 400-599: {{ html: {at}/all.html }} }}, response_headers: {{ set: {{ X-Route: 'r={{route}}' }} }},\n    \
         rate_limit: [{{ requests: 100/h, burst: 100, fields: true, per: [{{ header: X-Key }}] }}] }}\n\
         routes:\n  shop:\n    \
         - {{ match: {{ path: /a403 }}, access: {{ deny: [127.0.0.1] }}, {own} }}\n    \
         - {{ match: {{ path: /a401 }}, access: {{ deny: [127.0.0.1], answer: 401 }}, {own} }}\n    \
         - {{ match: {{ path: /a404 }}, access: {{ deny: [127.0.0.1], answer: 404 }}, {own} }}\n    \
         - {{ match: {{ path: /fault }}, fault: {{ share: 100%, status: 502, only_with: null }}, {own} }}\n\
         pools: {{ app: {{ servers: ['{}'] }} }}\n",
        app.address
    );
    Ways::start("routes: shop, policy: all", &rest)
}

/// An answer without what differs each time.
fn told(response: &Response) -> (u16, Vec<(String, String)>, String) {
    let is_time = |name: &str| name.eq_ignore_ascii_case("date");
    let fields = response.fields.iter().filter(|(name, _)| !is_time(name)).cloned().collect();
    (response.status, fields, response.text())
}

#[test]
fn whoever_is_to_find_nothing_is_answered_as_where_nothing_is() {
    let (app, files) = (App::saying("hello"), Directory::new());
    let ways = with_pages(&app, &files);
    let kinds = [
        ("text/plain", ["absent", "hidden"]),
        ("application/grpc", ["absent-call", "hidden-call"]),
        ("application/grpc-web+proto", ["absent-web", "hidden-web"]),
    ];
    for (kind, keys) in kinds {
        for way in Way::ALL {
            for method in ["GET", "HEAD", "POST"] {
                let ask = |target, key| {
                    let key = format!("{key} {method} {way:?}");
                    let fields = [("content-type", kind), ("te", "trailers"), ("x-key", key.as_str())];
                    told(&ways.ask(way, Asked { method, fields: &fields, ..Asked::get(target) }))
                };
                let [absent, hidden] = [ask("/absent", keys[0]), ask("/a404", keys[1])];
                assert_eq!(absent, hidden, "{kind} {way:?} {method}");
                let is_call = matches!(absent.1.iter().find(|(name, _)| name == "grpc-status"), Some((_, status)) if status == "12");
                assert_eq!((absent.0, is_call), if is_call { (200, true) } else { (404, false) });
                let speaks_grpc = kind != "text/plain" && (way.is_http2() || kind.contains("web"));
                assert_eq!(is_call, speaks_grpc, "{kind} {way:?}");
            }
        }
    }
    let record = ways.balancer.record("/a404");
    assert_eq!((&record["why"], &record["route"]), (&"denied".into(), &"shop/3".into()));
    // It counts as well, or how long it is answered so would tell.
    let key = [("x-key", "often")];
    let often = |target| statuses(&ways, Way::Http11, Asked { fields: &key, ..Asked::get(target) }, 1)[0];
    for n in 0..100 {
        assert_eq!(often(if n % 2 == 0 { "/absent" } else { "/a404" }), 404, "{n}");
    }
    assert_eq!(["/absent", "/a404"].map(often), [429, 429]);
}

#[test]
fn every_status_that_refuses_has_its_page() {
    let (app, files) = (App::saying("hello"), Directory::new());
    let ways = with_pages(&app, &files);
    for (target, status, grpc) in [("/a403", 403, "7"), ("/a401", 401, "16"), ("/fault", 502, "14")] {
        ways.each(Asked::get(target), |way, response| {
            assert_eq!(
                (response.status, response.text()),
                (status, format!("own {status}")),
                "{target} {way:?}"
            );
            assert_eq!(response.field("x-own"), "1", "{target} {way:?}");
        });
        let call = [("content-type", "application/grpc"), ("te", "trailers")];
        let call = Asked { method: "POST", fields: &call, ..Asked::get(target) };
        let told = ways.ask(Way::H2, call);
        assert_eq!((told.status, told.field("grpc-status")), (200, grpc.to_owned()), "{target}");
        // By HTTP/1.1 there are no such calls.
        assert_eq!(ways.ask(Way::Http11, call).status, status, "{target}");
    }
}

#[test]
fn whoever_is_told_nothing_is_logged_as_such() {
    let app = App::saying("hello");
    let ways = limited(&app, "access: { deny: [here], answer: close }");
    let mut client = ways.balancer.client();
    client.send("GET /quiet HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(client.read_to_end().0, "", "not a byte");
    let record = ways.balancer.record("/quiet");
    assert_eq!((&record["status"], &record["why"]), (&444.into(), &"denied".into()));
    assert_eq!(app.hits(), 0);
}

#[test]
fn who_is_in_debt_is_told_with_what_is_counted_by() {
    let app = App::saying("hello");
    let ways = limited(&app, "rate_limit: [{ requests: 1/h, per: [client, { header: X-Key }] }]");
    let keyed = Asked { fields: &[("x-key", "secret")], ..Asked::get("/") };
    assert_eq!(statuses(&ways, Way::Http11, keyed, 2), [200, 429]);
    let (_, told, _) = ways.balancer.command(&["limits"]);
    assert!(told.contains("all[1], by client and value of x-key") && !told.contains("secret"), "{told}");
}

#[test]
fn a_path_is_kept_shut_by_whatever_spelling() {
    let app = App::saying("hello");
    let rest = format!(
        "routes:\n  shop:\n    - {{ match: {{ path: /admin/* }}, access: {{ deny: [127.0.0.0/8] }}, pool: app }}\n    - pool: app\n\
         pools: {{ app: {{ servers: ['{}'] }} }}\n",
        app.address
    );
    let ways = Ways::start("routes: shop", &rest);
    for target in ["/admin", "/admin/x", "/a/../admin", "//admin", "/%61dmin/", "/./admin/x"] {
        ways.each(Asked::get(target), |way, response| assert_eq!(response.status, 403, "{target} {way:?}"));
    }
    assert_eq!(app.hits(), 0);
    for target in ["/admin", "//admin"] {
        let url = format!("http://shop.example{target}");
        let (_, told, _) = ways.balancer.command(&["explain", "GET", &url]);
        assert!(told.contains("policy    access: ") && !told.contains("winner"), "{told}");
    }
    assert_eq!(ways.ask(Way::H2, Asked::get("/administrator")).status, 200);
}

#[test]
fn heads_have_the_shape_that_their_listener_has() {
    let app = App::saying("hello");
    let rest = format!("pools: {{ app: {{ servers: ['{}'] }} }}\n", app.address);
    let limits = "limits: { uri: 100B, header_count: 10, header_line: 200B, encoded_slash: refuse }";
    let ways = Ways::start(&format!("pool: app, {limits}"), &rest);
    let (long, value) = (format!("/?{}", "x".repeat(100)), "v".repeat(200));
    let names: Vec<_> = (0..12).map(|n| format!("X-{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    for (target, fields, status) in [
        ("/a", &[][..], 200),
        (long.as_str(), &[], 414),
        ("/a", &[("X-Long", value.as_str())], 431),
        ("/a", &many[..], 431),
        ("/a%2Fb", &[], 400),
        ("/a%5cb", &[], 400),
        ("/a?b=%2F", &[], 200),
    ] {
        let asked = Asked { fields, ..Asked::get(target) };
        ways.each(asked, |way, response| assert_eq!(response.status, status, "{target} {way:?}"));
    }
    let why = ways.balancer.record("/a%5cb");
    assert_eq!(why["why"], "malformed");
}

#[test]
fn operators_ban_and_unban() {
    let app = App::saying("hello");
    let ways = limited(&app, "rate_limit: [{ requests: 1/h }]");
    assert_eq!(statuses(&ways, Way::Http11, Asked::get("/"), 2), [200, 429]);
    assert!(ways.balancer.command(&["limits"]).1.contains("all[1]"));
    assert_eq!(ways.balancer.command(&["ban", "127.0.0.1", "--for", "1h"]).0, Some(0));
    for way in Way::ALL {
        assert_eq!(ways.ask(way, Asked::get("/")).status, 403, "{way:?}");
    }
    assert!(ways.balancer.command(&["bans"]).1.contains("127.0.0.1"));
    assert!(ways.balancer.command(&["unban", "127.0.0.1"]).1.contains("may ask again"));
    assert_eq!(ways.ask(Way::Http11, Asked::get("/")).status, 429);
    assert!(ways.balancer.command(&["bans"]).1.contains("nobody"));
}

#[test]
fn an_upgrade_gives_nobody_a_fresh_burst_and_ends_no_ban() {
    let app = App::saying("hello");
    let mut ways =
        limited(&app, "rate_limit: [{ requests: 1/h }], ban: { after: 2/1h, status: [429], for: 1h }");
    assert_eq!(statuses(&ways, Way::Http11, Asked::get("/"), 3), [200, 429, 429]);
    assert_eq!(ways.balancer.command(&["ban", "192.0.2.7", "--for", "1h"]).0, Some(0));
    ways.balancer.signal(Signal::USR2);
    let next = Next::of(&ways.balancer);
    assert_eq!(ways.balancer.wait_for_exit().code(), Some(0));
    assert_eq!(statuses(&ways, Way::Http11, Asked::get("/"), 1), [403], "it is banned for the 429");
    let listed = ways.balancer.command(&["bans"]).1;
    assert!(listed.contains("192.0.2.7") && listed.contains("127.0.0.1"), "{listed}");
    assert!(ways.balancer.command(&["unban", "127.0.0.1"]).1.contains("may ask again"));
    assert_eq!(statuses(&ways, Way::Http11, Asked::get("/"), 1), [429], "it owes what it owed");
    next.end();
}

#[test]
fn no_client_has_more_at_once_than_it_may() {
    let latch = Latch::default();
    let app = App::holding("held", &latch);
    let ways = limited(&app, "concurrency: { requests: 1 }");
    let mut first = ways.balancer.client();
    first.send("GET /held HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    wait_until("it is with the server", || app.hits() == 1);
    for way in Way::ALL {
        assert_eq!(ways.ask(way, Asked::get("/")).status, 429, "{way:?}");
    }
    latch.open();
    assert_eq!(first.response().status, 200);
    for way in Way::ALL {
        wait_until("its place is free", || ways.ask(way, Asked::get("/")).status == 200);
    }
}

#[test]
fn who_has_had_too_many_bad_answers_is_kept_out() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/bad" => crate::support::app::status(stream, "401 Unauthorized", "no"),
        _ => say(stream, "hello"),
    });
    for way in Way::ALL {
        let ways = limited(&app, "ban: { after: 3/1h, for: 10m }");
        assert_eq!(statuses(&ways, way, Asked::get("/bad"), 2), [401, 401], "{way:?}");
        assert_eq!(statuses(&ways, way, Asked::get("/"), 1), [200], "{way:?}");
        assert_eq!(statuses(&ways, way, Asked::get("/bad"), 1), [401], "{way:?}");
        let refused = ways.ask(way, Asked::get("/"));
        let seconds: u64 = refused.field("retry-after").parse().expect("whole seconds");
        assert!(refused.status == 403 && (590..=600).contains(&seconds), "{way:?} {seconds}");
        assert_eq!(ways.balancer.metric("evenkeel_bans", &[]), 1.0);
    }
}

#[test]
fn debts_outlive_reloads_while_their_limit_stays() {
    let app = App::saying("hello");
    let text = |requests: &str| {
        format!(
            "policies: {{ all: {{ rate_limit: [{{ requests: {requests} }}] }} }}\n{}",
            crate::support::balancer::plain(&[app.address], "policy: all", "")
        )
    };
    let balancer = crate::support::balancer::Balancer::start(&text("1/h"));
    assert_eq!(balancer.get("/").status, 200);
    assert_eq!(balancer.get("/").status, 429);
    balancer.reload(&text("1/h").replace("policy: all", "policy: all, client_fin: serve"));
    assert_eq!(balancer.get("/").status, 429, "the same limit");
    balancer.reload(&text("2/h"));
    assert_eq!(balancer.get("/").status, 200, "another rate begins anew");
}

#[test]
fn a_rate_counts_whatever_spelling_its_path_has() {
    let app = App::new(|_, stream| crate::support::app::status(stream, "401 Unauthorized", "no"));
    let rest = format!(
        "policies: {{ all: {{ rate_limit: [{{ requests: 1000/h, burst: 1000 }}] }} }}\n\
         routes:\n  shop:\n    - {{ name: login, match: {{ path: /login }}, rate_limit: [{{ requests: 1/h, burst: 2 }}], pool: app }}\n    \
         - {{ name: reset, match: {{ path: /reset }}, rate_limit: [{{ requests: 1/h, burst: 2, count: {{ status: [401] }} }}], pool: app }}\n    \
         - {{ name: rest, pool: app }}\n\
         pools: {{ app: {{ servers: ['{}'] }} }}\n",
        app.address
    );
    let ways = Ways::start("routes: shop, policy: all", &rest);
    for path in ["login", "reset"] {
        let spellings =
            [format!("/{path}"), format!("//{path}"), format!("/x/../{path}"), format!("/{path};x")];
        let told: Vec<_> =
            spellings.iter().map(|target| ways.ask(Way::H2, Asked::get(target)).status).collect();
        assert_eq!(told, [401, 401, 429, 429], "{path}");
        assert_eq!(ways.ask(Way::H2, Asked::get(&format!("/{path}s"))).status, 401);
    }
}

#[test]
fn a_rate_by_route_counts_a_path_for_the_route_that_it_may_be_taken_for() {
    let app = App::saying("hello");
    let rest = format!(
        "policies: {{ all: {{ rate_limit: [{{ per: route, requests: 1/h, burst: 2 }}] }} }}\n\
         routes:\n  shop:\n    - {{ name: login, match: {{ path: /login }}, pool: app }}\n    - {{ name: rest, pool: app }}\n\
         pools: {{ app: {{ servers: ['{}'] }} }}\n",
        app.address
    );
    let ways = Ways::start("routes: shop, policy: all", &rest);
    let ask = |target: &str| ways.ask(Way::H2, Asked::get(target)).status;
    // By both routes, since its server may take it for either.
    assert_eq!(["//login", "/login", "/login", "/a", "/b"].map(ask), [200, 200, 429, 200, 429]);
}

#[test]
fn what_no_rule_matches_is_kept_from_strangers_and_counted_too() {
    let app = App::saying("hello");
    let rest = |policy: &str| {
        format!(
            "policies: {{ all: {{ {policy} }} }}\n\
             routes: {{ shop: [{{ match: {{ path: /a }}, pool: app }}] }}\npools: {{ app: {{ servers: ['{}'] }} }}\n",
            app.address
        )
    };
    let shut = Ways::start("routes: shop, policy: all", &rest("access: { deny: [127.0.0.0/8] }"));
    shut.each(Asked::get("/none"), |way, response| assert_eq!(response.status, 403, "{way:?}"));
    let told = shut.balancer.command(&["explain", "http://shop.example/none", "--listener", "web"]).1;
    assert!(told.contains("keeps 127.0.0.1 out") && !told.contains("404"), "{told}");
    for way in Way::ALL {
        let limited =
            Ways::start("routes: shop, policy: all", &rest("rate_limit: [{ requests: 1/h, burst: 2 }]"));
        assert_eq!(statuses(&limited, way, Asked::get("/none"), 3), [404, 404, 429], "{way:?}");
    }
    let banning =
        Ways::start("routes: shop, policy: all", &rest("ban: { after: 2/1m, status: [404], for: 1h }"));
    assert_eq!(statuses(&banning, Way::Http11, Asked::get("/none"), 3), [404, 404, 403]);
    assert_eq!(banning.ask(Way::Http11, Asked::get("/a")).status, 403);
}

#[test]
fn no_spelling_of_a_path_gets_by_a_rate_or_maintenance() {
    let app = App::saying("hello");
    let rest = format!(
        "routes:\n  r:\n    - {{ match: {{ path: /cl/* }}, rate_limit: [{{ requests: 1/h }}], pool: app }}\n    \
         - {{ match: {{ path: /once/* }}, concurrency: {{ requests: 1 }}, pool: app }}\n    \
         - {{ match: {{ path: /mt/* }}, maintenance: {{ enabled: true, retry_after: 7s }}, pool: app }}\n    \
         - {{ pool: app }}\npools: {{ app: {{ servers: ['{}'] }} }}\n",
        app.address
    );
    let ways = Ways::start("routes: r", &rest);
    assert_eq!(statuses(&ways, Way::Http11, Asked::get("//cl"), 2), [200, 429], "it pays, too");
    for spelling in ["/cl", "//cl", "/%63l", "/x/../cl", "/cl;x", "/./cl", "/x%2f..%2fcl"] {
        ways.each(Asked::get(spelling), |way, response| {
            assert_eq!(response.status, 429, "{spelling} {way:?}")
        });
    }
    for spelling in ["/mt", "//mt", "/mt;x", "/%6dt", "/a/../mt/b"] {
        ways.each(Asked::get(spelling), |way, response| {
            let told = (response.status, response.field("retry-after"));
            assert_eq!(told, (503, "7".to_owned()), "{spelling} {way:?}");
        });
    }
    assert_eq!(app.hits(), 1);
    assert_eq!(ways.ask(Way::Http11, Asked::get("/else")).status, 200);
}

/// Whoever reads along needs one rule: after what is malformed or has too many fields, a connection of HTTP/1.1 is over, whether the
/// head was whole or not.
#[test]
fn a_connection_ends_with_the_answer_to_what_is_malformed() {
    let app = App::saying("hello");
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: all, limits: {{ header_count: 10, uri: 1KiB, encoded_slash: refuse }} }}\n  \
         secure: {{ address: 127.0.0.1:0, redirect_to_https: true }}\n\
         routes:\n  all:\n    - {{ match: {{ path: /api/* }}, rewrite: {{ strip_prefix: /api }}, pool: app }}\n    \
         - {{ match: {{ path: /h2/* }}, pool: h2 }}\n    - {{ match: {{ path: /off }}, respond: {{ status: 404 }} }}\n    \
         - {{ match: {{ methods: [OPTIONS] }}, redirect: \"https://shop.example{{path}}\" }}\n    - {{ pool: app }}\n\
         pools:\n  app: {{ servers: ['{0}'] }}\n  h2: {{ protocol: h2, servers: ['{0}'] }}\n",
        app.address
    );
    let balancer = crate::support::balancer::Balancer::start(&text);
    let many: String = (0..12).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "x".repeat(2000));
    for (listener, head, status, closes) in [
        ("web", "GET /a%2Fb HTTP/1.1\r\nHost: a\r\n", 400, true),
        ("web", "GET /api/../x HTTP/1.1\r\nHost: a\r\n", 400, true),
        ("web", "GET /h2/<x> HTTP/1.1\r\nHost: a\r\n", 400, true),
        ("web", "OPTIONS * HTTP/1.1\r\nHost: a\r\n", 400, true),
        ("secure", "GET / HTTP/1.1\r\nHost: a%41\r\n", 400, true),
        ("secure", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n", 400, true),
        ("web", &format!("GET / HTTP/1.1\r\nHost: a\r\n{many}"), 431, true),
        ("web", &long, 414, false),
        ("web", "GET /off HTTP/1.1\r\nHost: a\r\n", 404, false),
        ("web", "GET / HTTP/1.1\r\nHost: a\r\n", 200, false),
    ] {
        let mut client = crate::support::client::Client::connect(balancer.address(listener));
        client.send(format!("{head}\r\n"));
        let response = client.response();
        let says = response.field("connection") == "close";
        assert_eq!((response.status, says), (status, closes), "{head}");
        if closes {
            assert!(client.is_closed(), "{head}");
        } else {
            assert_eq!(client.get("/").status, 200, "{head}");
        }
    }
}
