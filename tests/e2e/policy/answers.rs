//! Rules that lead to no pool: clients are sent elsewhere, or have an answer of our own.

use crate::support::app::App;
use crate::support::balancer::Directory;
use crate::support::ways::{Asked, Way, Ways};

fn shop(app: &App, rules: &str) -> Ways {
    let rest = format!(
        "policies: {{ all: {{ response_headers: {{ set: {{ X-Mark: \"1\" }} }} }} }}\n\
         routes:\n  shop:\n{rules}\n    - {{ match: {{ path: /app }}, pool: app }}\n\
         pools: {{ app: {{ servers: ['{}'] }} }}\n",
        app.address
    );
    Ways::start("routes: shop, policy: all", &rest)
}

#[test]
fn a_redirect_sends_clients_where_it_says() {
    let app = App::saying("hello");
    let shop = shop(
        &app,
        r#"    - { name: old, match: { host: shop.example, path: /old/* }, redirect: { to: "https://{host}/new{path}", status: 301 } }
    - { match: { path: /bare }, redirect: /there }
    - { match: { path: /lost }, redirect: { to: /found, keep_query: false, status: 303 } }
    - { match: { path: /up/* }, redirect: "{scheme}://www.shop.example{path}" }"#,
    );
    for (method, target, status, location) in [
        ("GET", "/old/a?x=1", 301, "https://shop.example/new/old/a?x=1"),
        ("HEAD", "/old/a", 301, "https://shop.example/new/old/a"),
        ("POST", "/old/a", 308, "https://shop.example/new/old/a"),
        ("GET", "/bare?q", 308, "/there?q"),
        ("POST", "/lost?q", 303, "/found"),
        ("GET", "/up/x", 308, "SCHEME://www.shop.example/up/x"),
    ] {
        shop.each(Asked { method, ..Asked::get(target) }, |way, response| {
            let location = location.replace("SCHEME", way.scheme());
            let told = (response.status, response.field("location"), response.field("x-mark"));
            assert_eq!(told, (status, location, "1".to_owned()), "{method} {target} {way:?}");
        });
    }
    assert_eq!(app.hits(), 0, "nothing of it is for servers");
    let record = shop.balancer.record("/old/a?x=1");
    assert_eq!(
        (&record["why"], &record["route"], &record["pool"]),
        (&"redirect".into(), &"old".into(), &().into())
    );
    let sent =
        shop.balancer.metric("evenkeel_responses_generated_total", &[("route", "old"), ("kind", "redirect")]);
    assert_eq!(sent, (3 * Way::ALL.len()) as f64);
}

#[test]
fn a_rule_may_have_an_answer_of_its_own() {
    let app = App::saying("hello");
    let directory = crate::support::balancer::Directory::new();
    let page = directory.0.join("closed.html");
    std::fs::write(&page, "<h1>closed</h1>").expect("it can be written");
    let shop = shop(
        &app,
        &format!(
            r#"    - {{ match: {{ path: /robots.txt }}, respond: {{ body: "User-agent: *\n", headers: {{ X-Robots-Tag: "{{host}}" }} }} }}
    - {{ name: git, match: {{ path: /.git/* }}, respond: {{ status: 404 }} }}
    - {{ match: {{ path: /empty }}, respond: {{ status: 204 }} }}
    - {{ match: {{ path: /closed }}, respond: {{ status: 410, file: {} }} }}"#,
            page.display()
        ),
    );
    for (target, status, kind, body) in [
        ("/robots.txt", 200, "text/plain", "User-agent: *\n"),
        ("/.git/config", 404, "text/plain", "404 Not Found\n"),
        ("/empty", 204, "", ""),
        ("/closed", 410, "text/html; charset=utf-8", "<h1>closed</h1>"),
    ] {
        shop.each(Asked::get(target), |way, response| {
            let told = (response.status, response.field("content-type"), response.text());
            assert_eq!(told, (status, kind.to_owned(), body.to_owned()), "{target} {way:?}");
            assert_eq!(response.field("x-mark"), "1", "{target} {way:?}");
        });
        let head = Asked { method: "HEAD", ..Asked::get(target) };
        shop.each(head, |way, response| {
            assert_eq!((response.status, response.text()), (status, String::new()), "{target} {way:?}");
        });
    }
    assert_eq!(shop.ask(Way::H2, Asked::get("/robots.txt")).field("x-robots-tag"), "shop.example");
    assert_eq!(shop.balancer.outcome("/.git/config"), (404, "respond".to_owned()));
    assert_eq!(app.hits(), 0);
    // A body that is not read keeps no connection from serving the next request.
    let mut client = shop.balancer.client();
    client.send("POST /closed HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response().status, 410);
    client.send("GET /app HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn what_is_refused_by_its_head_is_answered_as_the_listeners_policy_has_it() {
    let (app, directory) = (App::saying("hello"), Directory::new());
    // More than a socket takes at once.
    let page = format!("<h1>{{status}}</h1>{{request_id}}{}", "-".repeat(200 << 10));
    std::fs::write(directory.0.join("4xx.html"), &page).expect("it can be written");
    let rest = format!(
        "policies: {{ all: {{ response_headers: {{ set: {{ X-Mark: \"{{client}}\" }} }}, security_headers: standard, \
         errors: {{ \"400-499\": {{ html: '{}' }} }} }} }}\n\
         pools: {{ app: {{ servers: ['{}'] }} }}\n",
        directory.0.join("4xx.html").display(),
        app.address
    );
    let ways = Ways::start("pool: app, policy: all, limits: { request_headers: 4KiB }", &rest);
    let long = "x".repeat(5000);
    let fields = [("X-Long", long.as_str())];
    ways.each(Asked { fields: &fields, ..Asked::get("/long") }, |way, response| {
        let told = (response.status, response.field("x-mark"), response.field("x-content-type-options"));
        assert_eq!(told, (431, "127.0.0.1".to_owned(), "nosniff".to_owned()), "{way:?}");
        let record = ways.balancer.record_where("of this request", |record| {
            let id = record["request_id"].as_str().unwrap_or_default();
            !id.is_empty() && response.text() == page.replace("{status}", "431").replace("{request_id}", id)
        });
        assert_eq!(
            (&record["path"], &record["why"]),
            (&"/long".into(), &"headers_too_large".into()),
            "{way:?}"
        );
    });
    let mut client = ways.balancer.client();
    client.send("GET /malformed HTTP/1.1\r\nHost: a b\r\n\r\n");
    let (status, text) = {
        let response = client.response();
        (response.status, response.text())
    };
    let record = ways.balancer.record("/malformed");
    let id = record["request_id"].as_str().expect("it has one");
    assert_eq!((status, id.len()), (400, 32));
    assert_eq!(text, page.replace("{status}", "400").replace("{request_id}", id));
    // Where its fields can be read it is the client's own.
    let named = Asked { fields: &[("x-request-id", "mine"), ("x-long", &long)], ..Asked::get("/named") };
    let told = ways.ask(Way::H2, named);
    assert_eq!((told.status, told.text().contains("</h1>mine-")), (431, true));
    let record = ways.balancer.record("/long");
    assert_eq!((&record["why"], &record["action"]), (&"headers_too_large".into(), &"error_page".into()));
    let pages =
        ways.balancer.metric("evenkeel_responses_generated_total", &[("route", ""), ("kind", "error_page")]);
    assert_eq!(pages, Way::ALL.len() as f64 + 2.0);
    assert_eq!(app.hits(), 0);
}

/// Whoever makes a call reads no page and no other status.
#[test]
fn a_call_whose_head_is_refused_is_told_in_its_own_words() {
    let app = App::saying("hello");
    let rest = format!("pools: {{ app: {{ servers: ['{}'] }} }}\n", app.address);
    let ways = Ways::start("pool: app, limits: { request_headers: 4KiB }", &rest);
    let long = "x".repeat(5000);
    for (path, kind, field, why) in [
        ("/1", "application/grpc", ("x-long", long.as_str()), "headers_too_large"),
        ("/2", "application/grpc+proto", ("host", "b"), "malformed"),
        ("/3", "application/grpc-web+proto", ("x-long", long.as_str()), "headers_too_large"),
        ("/4", "application/grpc-web-text", ("host", "b"), "malformed"),
        ("/5", "application/json", ("host", "b"), "malformed"),
    ] {
        for way in [Way::H2, Way::H2Tls] {
            let fields = [("content-type", kind), field];
            let response = ways.ask(way, Asked { method: "POST", fields: &fields, ..Asked::get(path) });
            let record = ways.balancer.record_where("of this request", |record| {
                record["path"] == path && record["tls"].is_null() == (way == Way::H2)
            });
            assert_eq!(record["why"], why, "{record}");
            if kind == "application/json" {
                assert_eq!((response.status, response.text()), (400, "400 Bad Request\n".to_owned()));
                assert!(record["status"] == 400 && record.get("grpc_status").is_none(), "{record}");
                continue;
            }
            let answered_as = if kind.contains("web") { kind } else { "application/grpc" };
            let told = ["content-type", "grpc-status", "grpc-message"].map(|name| response.field(name));
            assert_eq!(
                told,
                [answered_as.to_owned(), "13".to_owned(), format!("evenkeel: {why}")],
                "{way:?}"
            );
            assert_eq!((response.status, response.body.len()), (200, 0), "{way:?}");
            assert_eq!((&record["status"], &record["grpc_status"]), (&200.into(), &13.into()), "{record}");
        }
    }
    // They count as what they stand for.
    ways.balancer.wait_for_metric("evenkeel_http_requests_total", &[("code", "4xx")], 10.0);
    assert_eq!(ways.balancer.metric("evenkeel_http_requests_failed_total", &[]), 0.0);
    assert_eq!(app.hits(), 0);
}
