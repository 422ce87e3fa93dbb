//! What policies do beside fields, the same by every version of HTTP.

use crate::support::app::{App, send, status};
use crate::support::balancer::Directory;
use crate::support::ways::{Asked, Way, Ways};
use std::time::{Duration, Instant};

/// A shop of one server, `app`, and a pool `dead` without any that works.
fn shop(app: &App, rules: &str) -> Ways {
    let rest = format!(
        "routes:\n  shop:\n{rules}\n    - {{ pool: app }}\n\
         pools:\n  app: {{ servers: [{{ name: s1, address: {} }}], retries: {{ max: 0 }} }}\n  \
         dead: {{ servers: [{{ address: 127.0.0.1:1, drain: true }}] }}\n",
        app.address
    );
    Ways::start("routes: shop", &rest)
}

#[test]
fn a_server_gets_another_path_and_another_host() {
    let app = App::saying("hello");
    let shop = shop(
        &app,
        r#"    - { match: { path: /api/* }, rewrite: { strip_prefix: /api, host: "api.internal:81" }, pool: app }
    - { match: { path: /v/* }, rewrite: { add_prefix: /v1 }, pool: app }
    - { match: { path_regex: "^/item/(?P<id>[0-9]+)" }, rewrite: { to: "/shop?id={path.id}&from={host}" }, pool: app }"#,
    );
    for (target, host, got) in [
        ("/api/x?y=1", "api.internal:81", "/x?y=1"),
        ("/api", "api.internal:81", "/"),
        ("/v/x", "shop.example", "/v1/v/x"),
        ("/item/42?z", "shop.example", "/shop?id=42&from=shop.example&z"),
        ("/apis?y", "shop.example", "/apis?y"),
    ] {
        shop.each(Asked::get(target), |way, response| {
            assert_eq!(response.status, 200, "{target} {way:?}");
            let seen = app.last();
            assert_eq!((seen.target.as_str(), seen.field("host").as_str()), (got, host), "{target} {way:?}");
            assert_eq!(seen.field("x-forwarded-host"), "shop.example", "{target} {way:?}");
        });
        assert_eq!(shop.balancer.record(target)["path"], target, "the log has it as it came");
    }
}

#[test]
fn a_rewrite_leads_nobody_past_the_rules() {
    let app = App::saying("hello");
    let shop = shop(
        &app,
        r#"    - { match: { path_regex: "(?i)^/(app|admin)/" }, respond: { status: 403 } }
    - { match: { path: /api/v1/* }, rewrite: { strip_prefix: /api/v1 }, pool: app }
    - { match: { path: /both/* }, rewrite: { strip_prefix: /both, add_prefix: /v1 }, pool: app }
    - { match: { path: /add/* }, rewrite: { add_prefix: /v1 }, pool: app }
    - { match: { path: /own/* }, rewrite: { regex: "^/own/(?P<rest>.*)$", to: "/x/{path.rest}" }, pool: app }
    - { match: { path: /way/* }, rewrite: { to: "/{header.X-Way}{path}" }, pool: app }
    - { match: { path: /host/* }, rewrite: { host: "b.internal" }, pool: app }
    - { match: { path_regex: "^/static/version[0-9]+/(?P<file>.+)$" }, rewrite: { to: "/static/{path.file}" }, pool: app }"#,
    );
    let parents =
        ["../", "%2e%2e/", ".%2E/", "..%2f", "..%5C", "..;/", "..;x=1/", "./../", "/../", "y/../../", "./"];
    for prefix in ["/static/version17/", "/api/v1/", "/both/", "/own/", "/way/"] {
        for parent in parents {
            let target = format!("{prefix}{parent}app/x?y=1");
            shop.each(Asked::get(&target), |way, response| {
                // Where its cleaned form is kept out, it is that rule's.
                assert!([400, 403].contains(&response.status), "{target} {way:?}: {}", response.status);
            });
        }
    }
    let bad = Asked { fields: &[("x-way", "../app")], ..Asked::get("/way/x") };
    shop.each(bad, |way, response| assert_eq!(response.status, 400, "{way:?}"));
    shop.each(Asked::get("/add/a/../x"), |way, response| assert_eq!(response.status, 400, "{way:?}"));
    assert_eq!(app.hits(), 0);
    let record = shop.balancer.record("/api/v1/../app/x?y=1");
    assert_eq!((&record["status"], &record["why"]), (&400.into(), &"malformed".into()));
    assert_eq!(record["detail"], "a path that would have dot segments once it is rewritten");

    let url = format!("http://{}/api/v1/../app/x", shop.balancer.address("web"));
    let told = shop.balancer.command_json(&["explain", &url, "--listener", "web"]);
    let phases = told["policy"].as_array().expect("the policy's phases");
    let refusal = phases.iter().find(|phase| phase["phase"] == "rewrite").expect("it is told");
    assert_eq!(refusal["does"], "a path that would have dot segments once it is rewritten: 400");
    assert_eq!(refusal["decides"], true);

    for (target, got) in [
        ("/static/version17/a/x.min.js?v=..", "/static/a/x.min.js?v=.."),
        ("/api/v1/.well-known/..a/a../x", "/.well-known/..a/a../x"),
        ("/api/v1/group%2Fcaf%C3%A9;v=1//x", "/group%2Fcaf%C3%A9;v=1//x"),
        ("/api/v1/%252e%252e/x", "/%252e%252e/x"),
        ("/both/x", "/v1/x"),
        ("/own/a.b", "/x/a.b"),
        // What no rewrite changes goes on as it came.
        ("/host/a/../x", "/host/a/../x"),
        ("/none/a/%2e%2e/x", "/none/a/%2e%2e/x"),
    ] {
        shop.each(Asked::get(target), |way, response| {
            assert_eq!((response.status, app.last().target.as_str()), (200, got), "{target} {way:?}");
        });
    }
}

#[test]
fn one_redirect_leads_to_the_one_form_of_a_url() {
    let app = App::saying("hello");
    let shop = shop(
        &app,
        "    - { match: { host: shop.example }, canonical: { https: true, www: add, trailing_slash: remove }, pool: app }",
    );
    for (target, location) in
        [("/a/", "https://www.shop.example/a"), ("/a?x", "https://www.shop.example/a?x")]
    {
        shop.each(Asked::get(target), |way, response| {
            assert_eq!(
                (response.status, response.field("location")),
                (301, location.to_owned()),
                "{target} {way:?}"
            );
        });
        let post = Asked { method: "POST", ..Asked::get(target) };
        shop.each(post, |way, response| assert_eq!(response.status, 308, "{target} {way:?}"));
    }
    assert_eq!(app.hits(), 0);
    let other = Asked { host: "www.shop.example", ..Asked::get("/a/") };
    shop.each(other, |way, response| assert_eq!(response.status, 200, "it is no rule's: {way:?}"));
}

#[test]
fn maintenance_keeps_clients_out_and_lets_some_in() {
    let app = App::saying("hello");
    let directory = Directory::new();
    let page = directory.0.join("soon.html");
    std::fs::write(&page, "<p>{status} {request_id}").expect("it can be written");
    let shop = shop(
        &app,
        &format!(
            "    - {{ name: shut, match: {{ path: /shut }}, maintenance: {{ enabled: true, retry_after: 90s, file: {} }}, pool: app }}\n    \
             - {{ match: {{ path: /let-in }}, maintenance: {{ enabled: true, except: [127.0.0.1] }}, pool: app }}\n    \
             - {{ match: {{ path: /open }}, maintenance: {{}}, pool: app }}",
            page.display()
        ),
    );
    let id = [("x-request-id", "r<1>")];
    shop.each(Asked { fields: &id, ..Asked::get("/shut") }, |way, response| {
        let told = (response.status, response.field("retry-after"), response.text());
        assert_eq!(told, (503, "90".to_owned(), "<p>503 r&#60;1&#62;".to_owned()), "{way:?}");
        assert_eq!(response.field("content-type"), "text/html; charset=utf-8", "{way:?}");
    });
    assert_eq!(shop.balancer.outcome("/shut"), (503, "maintenance".to_owned()));
    assert_eq!(shop.balancer.metric("evenkeel_http_requests_failed_total", &[]), 0.0);
    for target in ["/let-in", "/open"] {
        shop.each(Asked::get(target), |way, response| assert_eq!(response.status, 200, "{target} {way:?}"));
    }
    let call = [("content-type", "application/grpc"), ("te", "trailers")];
    let told = shop.ask(Way::H2, Asked { method: "POST", fields: &call, ..Asked::get("/shut") });
    assert_eq!(
        (told.status, told.field("grpc-status"), told.field("grpc-retry-pushback-ms")),
        (200, "14".to_owned(), "90000".to_owned())
    );
}

#[test]
fn errors_have_the_page_that_the_client_likes() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/teapot" => status(stream, "418 Teapot", "theirs"),
        "/broken" => status(stream, "502 Bad Gateway", "theirs"),
        "/login" => send(
            stream,
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nX-Own: 1\r\nContent-Length: 6\r\n\r\ntheirs",
        ),
        _ => status(stream, "404 Not Found", "theirs"),
    });
    let directory = Directory::new();
    for (name, text) in [("e.html", "<p>{status}"), ("e.json", "{\"status\": {status}}")] {
        std::fs::write(directory.0.join(name), text).expect("it can be written");
    }
    let at = directory.0.display();
    let errors = format!(
        "errors: {{ \"404\": {{ html: {at}/e.html }}, \"401\": {{ html: {at}/e.html }}, \"500-599\": {{ html: {at}/e.html, json: {at}/e.json }}, intercept: [401, 404, 502] }}"
    );
    let shop = shop(
        &app,
        &format!(
            "    - {{ name: dead, match: {{ path: /dead }}, {errors}, pool: dead }}\n    - {{ name: all, {errors}, pool: app }}"
        ),
    );
    let json: &[(&str, &str)] = &[("accept", "application/json")];
    for (target, fields, status, body) in [
        ("/dead", &[][..], 503, "<p>503"),
        ("/dead", json, 503, "{\"status\": 503}"),
        ("/broken", &[][..], 502, "<p>502"),
        ("/broken", json, 502, "{\"status\": 502}"),
        ("/none", json, 404, "<p>404"),
        ("/teapot", &[][..], 418, "theirs"),
    ] {
        shop.each(Asked { fields, ..Asked::get(target) }, |way, response| {
            assert_eq!((response.status, response.text().as_str()), (status, body), "{target} {way:?}");
        });
    }
    // Without it nobody could be let in.
    shop.each(Asked::get("/login"), |way, response| {
        let told = (response.status, response.field("www-authenticate"), response.field("x-own"));
        assert_eq!(told, (401, "Basic realm=\"a\"".to_owned(), String::new()), "{way:?}");
        assert_eq!(response.text(), "<p>401");
    });
    // What is intercepted costs no connection.
    let connections = app.connections();
    for _ in 0..5 {
        assert_eq!(shop.ask(Way::Http11, Asked::get("/broken")).status, 502);
    }
    assert_eq!(app.connections(), connections);
    let record = shop.balancer.record("/broken");
    assert_eq!(
        (&record["status"], &record["why"], &record["action"]),
        (&502.into(), &"ok".into(), &"error_page".into())
    );
    assert_eq!(record["server"], "s1");
    // The last may be counted after its client has it.
    let pages = [("route", "all"), ("kind", "error_page")];
    let expected = (4 * Way::ALL.len() + 5) as f64;
    shop.balancer.wait_for_metric("evenkeel_responses_generated_total", &pages, expected);
}

#[test]
fn pages_of_other_origins_may_read_what_they_may() {
    let app = App::saying("hello");
    let shop = shop(
        &app,
        r#"    - { match: { path: /api }, cors: { origins: ["https://a.example", "https://*.b.example"], methods: [GET, PUT], headers: [X-Token], credentials: true, max_age: 60s }, pool: app }
    - { match: { path: /any }, cors: { origins: ["*"], headers: ["*"] }, pool: app }
    - { match: { path: /dead }, cors: { origins: ["https://a.example"] }, pool: dead }"#,
    );
    let preflight = |origin, method, headers| {
        [
            ("origin", origin),
            ("access-control-request-method", method),
            ("access-control-request-headers", headers),
        ]
    };
    for (target, origin, method, headers, status, allowed) in [
        ("/api", "https://a.example", "PUT", "x-token", 204, "https://a.example"),
        ("/api", "https://a.example", "HEAD", "x-token", 204, "https://a.example"),
        ("/api", "https://a.example", "POST", "x-token", 403, "https://a.example"),
        ("/any", "https://c.example", "HEAD", "x-one", 204, "*"),
        ("/api", "https://x.b.example", "GET", "accept, X-TOKEN", 204, "https://x.b.example"),
        ("/api", "https://b.example", "GET", "x-token", 403, ""),
        ("/api", "https://a.example", "DELETE", "x-token", 403, "https://a.example"),
        ("/api", "https://a.example", "PUT", "x-other", 403, "https://a.example"),
        ("/api", "https://evil.example/.b.example", "GET", "x-token", 403, ""),
        ("/any", "https://c.example", "GET", "x-one, x-two", 204, "*"),
    ] {
        let fields = preflight(origin, method, headers);
        shop.each(Asked { method: "OPTIONS", fields: &fields, ..Asked::get(target) }, |way, response| {
            let told = (response.status, response.field("access-control-allow-origin"));
            assert_eq!(told, (status, allowed.to_owned()), "{target} {origin} {method} {way:?}");
            assert_eq!(response.field("vary").to_lowercase(), "origin", "{target} {origin} {way:?}");
        });
    }
    assert_eq!(app.hits(), 0, "servers see no preflight");
    let fields = preflight("https://a.example", "PUT", "x-token");
    let told = shop.ask(Way::H2Tls, Asked { method: "OPTIONS", fields: &fields, ..Asked::get("/api") });
    let field = |name: &str| told.field(&format!("access-control-{name}"));
    assert_eq!((field("allow-methods").as_str(), field("allow-headers").as_str()), ("GET, PUT", "x-token"));
    assert_eq!((field("max-age").as_str(), field("allow-credentials").as_str()), ("60", "true"));
    for (target, origin, status, allowed) in [
        ("/api", "https://a.example", 200, "https://a.example"),
        ("/api", "https://evil.example", 200, ""),
        ("/any", "https://evil.example", 200, "*"),
        // Errors of our own may be read, too.
        ("/dead", "https://a.example", 503, "https://a.example"),
    ] {
        let fields = [("origin", origin)];
        shop.each(Asked { fields: &fields, ..Asked::get(target) }, |way, response| {
            let told = (response.status, response.field("access-control-allow-origin"));
            assert_eq!(told, (status, allowed.to_owned()), "{target} {origin} {way:?}");
            assert_eq!(response.field("vary").to_lowercase(), "origin", "{target} {way:?}");
        });
    }
}

#[test]
fn browsers_are_kept_from_guessing_unless_the_server_says_otherwise() {
    let app = App::new(|request, stream| {
        let own = if request.target == "/own" { "X-Frame-Options: DENY\r\n" } else { "" };
        crate::support::app::send(
            stream,
            &format!("HTTP/1.1 200 OK\r\nX-Powered-By: PHP\r\n{own}Content-Length: 2\r\n\r\nok"),
        )
    });
    let shop = shop(&app, "    - { security_headers: standard, pool: app }");
    for (target, frames) in [("/", "SAMEORIGIN"), ("/own", "DENY")] {
        shop.each(Asked::get(target), |way, response| {
            assert_eq!(response.field("x-frame-options"), frames, "{way:?}");
            assert_eq!(response.field("x-content-type-options"), "nosniff", "{way:?}");
            assert_eq!(response.field("referrer-policy"), "strict-origin-when-cross-origin", "{way:?}");
            assert_eq!(response.field("x-powered-by"), "", "{way:?}");
        });
    }
}

#[test]
fn a_fault_is_made_of_the_requests_that_are_marked() {
    let app = App::saying("hello");
    let shop = shop(
        &app,
        "    - { name: bad, match: { path: /bad }, fault: { share: 100%, status: 504 }, pool: app }\n    \
         - { name: slow, match: { path: /slow }, fault: { share: 100%, delay: 300ms, only_with: null }, pool: app }",
    );
    let marked = [("x-fault", "1")];
    shop.each(Asked { fields: &marked, ..Asked::get("/bad") }, |way, response| {
        assert_eq!(response.status, 504, "{way:?}");
    });
    shop.each(Asked::get("/bad"), |way, response| assert_eq!(response.status, 200, "{way:?}"));
    let began = Instant::now();
    assert_eq!(shop.ask(Way::Http11, Asked::get("/slow")).status, 200);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(shop.balancer.outcome("/bad"), (504, "fault".to_owned()));
    let faults = |route| shop.balancer.metric("evenkeel_faults_total", &[("route", route)]);
    assert_eq!((faults("bad"), faults("slow")), (Way::ALL.len() as f64, 1.0));
}

#[test]
fn early_hints_pass_unless_they_are_not_to() {
    let app = App::new(|_, stream| {
        crate::support::app::send(
            stream,
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    let shop = shop(&app, "    - { match: { path: /none }, early_hints: { pass: false }, pool: app }");
    for (target, first) in [("/", 103), ("/none", 200)] {
        let mut client = shop.balancer.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().status, first, "{target}");
    }
}

#[test]
fn explain_tells_each_phase_and_which_one_decides() {
    let app = App::saying("hello");
    let shop = shop(
        &app,
        r#"    - { match: { path: /shut }, maintenance: { enabled: true }, pool: app }
    - { match: { path: /api/* }, rewrite: { strip_prefix: /api }, fault: { delay: 1s, only_with: null }, request_headers: { set: { X-A: "{client}" } }, pool: app }
    - { match: { path: /old }, redirect: "/new?from={host}" }
    - { match: { path: /gone }, maintenance: { enabled: true }, redirect: /elsewhere }
    - { match: { path: /.git/* }, respond: { status: 404 } }"#,
    );
    let explain = |url: &str| shop.balancer.command(&["explain", "GET", url]).1;
    let told = explain("http://shop.example/shut");
    assert!(told.contains("policy    maintenance: answers with 503") && !told.contains("winner"), "{told}");
    let told = explain("http://shop.example/api/x?y");
    for said in [
        "fault: holds 1% of requests, after 1s",
        "rewrite: the server gets /x?y",
        "sets x-a: 127.0.0.1",
        "winner    s1",
    ] {
        assert!(told.contains(said), "{told}");
    }
    let told = explain("http://shop.example/gone");
    assert!(
        told.contains("maintenance: answers with 503") && !told.contains("redirect  /elsewhere"),
        "{told}"
    );
    let told = explain("http://shop.example//.git/config");
    assert!(told.contains("> shop/5 -> respond 404: matches") && told.contains("respond   404"), "{told}");
    let told = explain("http://shop.example/old?z");
    assert!(told.contains("redirect  /new?from=shop.example&z"), "{told}");
}

#[test]
fn an_upload_is_held_until_it_is_whole_and_no_longer_than_it_may_be() {
    let app = App::new(|request, stream| crate::support::app::say(stream, &request.body.len().to_string()));
    let shop = shop(
        &app,
        "    - { match: { path: /held }, buffer: { request: 64KiB }, pool: app }\n    \
         - { match: { path: /some }, buffer: { request: 1KiB }, pool: app }",
    );
    let body = vec![b'x'; 50_000];
    for target in ["/held", "/some", "/none"] {
        let asked = Asked { method: "POST", body: &body, ..Asked::get(target) };
        shop.each(asked, |way, response| assert_eq!(response.text(), "50000", "{target} {way:?}"));
    }
    let hits = app.hits();
    for (head, end) in [
        ("Content-Length: 10\r\n\r\nhello", "world"),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "5\r\nworld\r\n0\r\n\r\n"),
    ] {
        let mut client = shop.balancer.client();
        client.send(format!("POST /held HTTP/1.1\r\nHost: a\r\n{head}"));
        // The server hears of it when all is there: meanwhile others are served, and nothing is leased.
        assert_eq!(shop.balancer.get("/none").text(), "0");
        assert_eq!(shop.balancer.metric("evenkeel_server_in_flight", &[]), 0.0);
        client.send(end);
        assert_eq!(client.response().text(), "10");
    }
    assert_eq!(app.hits(), hits + 4);
    let mut client = shop.balancer.client();
    client.send("POST /held HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client.send("ok");
    let mut response = client.response();
    // The server may say so, too.
    while response.status == 100 {
        response = client.response();
    }
    assert_eq!(response.text(), "2");
}
