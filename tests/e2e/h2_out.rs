//! HTTP/2 towards servers, which are evenkeel's own listeners here: who speaks what to whom, and what a reload changes.

use crate::support::app::{App, status};
use crate::support::balancer::{Balancer, Reloaded, plain};
use crate::support::tls::{Certificate, Shop};
use crate::support::{client, h2, wait_until};

/// In front of a server that speaks both, with these further keys of the pool.
fn front(server: &Balancer, pool: &str) -> String {
    plain(&[server.address("web")], "", pool)
}

#[test]
fn requests_of_every_client_go_to_servers_by_http2() {
    let app = App::echo();
    let server = Balancer::start(&plain(&[app.address], "", ""));
    let balancer = Balancer::start(&front(&server, "protocol: h2"));
    let mut h2 = h2::Connection::new(balancer.address("web"));
    h2.request(1, "GET", "/h2?q=1", true);
    assert_eq!(h2.response(1), (200, b"GET /h2?q=1 ".to_vec()));
    h2.request(3, "POST", "/body", false);
    h2.data(3, b"all of", false);
    h2.data(3, b" it", true);
    assert_eq!(h2.response(3), (200, b"POST /body all of it".to_vec()));
    let mut client = balancer.client();
    for n in 0..3 {
        assert_eq!(client.get(&format!("/h1-{n}")).text(), format!("GET /h1-{n} "));
        assert_eq!(server.protocol(&format!("/h1-{n}")), "HTTP/2.0");
    }
    client.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().text(), "POST /post hello");
    client.send(
        "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert_eq!(client.response().text(), "POST /chunks hello");
    assert_eq!(app.last().field("x-forwarded-proto"), "http");
    assert_eq!(server.protocol("/h2?q=1"), "HTTP/2.0");
    assert_eq!(server.protocol("/chunks"), "HTTP/2.0");
    assert_eq!(balancer.outcome("/post"), (200, "ok".to_owned()));
    balancer.wait_for_in_flight(0.0);
    let connections = server.metric("evenkeel_connections_total", &[]);
    assert!(connections <= 4.0, "{connections} connections for eight requests on two cores at most");
}

#[test]
fn routes_decide_which_requests_go_by_http2() {
    let app = App::echo();
    let server = Balancer::start(&plain(&[app.address], "", ""));
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: r }}\n\
         routes:\n  r:\n    - {{ match: {{ path: /new/* }}, pool: new }}\n    - {{ pool: old }}\n\
         pools:\n  new: {{ servers: [{0}], protocol: h2 }}\n  old: {{ servers: [{0}] }}\n",
        server.address("web")
    );
    let balancer = Balancer::start(&text);
    let mut client = balancer.client();
    for path in ["/old/1", "/new/1", "/old/2", "/new/2"] {
        assert_eq!(client.get(path).status, 200);
        let expected = if path.starts_with("/new") { "HTTP/2.0" } else { "HTTP/1.1" };
        assert_eq!(server.protocol(path), expected, "{path}");
    }
}

#[test]
fn a_reload_changes_the_protocol_of_the_next_request() {
    let app = App::echo();
    let server = Balancer::start(&plain(&[app.address], "", ""));
    let balancer = Balancer::start(&front(&server, "protocol: http1"));
    let mut client = balancer.client();
    for (pool, path, expected) in
        [("protocol: http1", "/1", "HTTP/1.1"), ("protocol: h2", "/2", "HTTP/2.0"), ("", "/3", "HTTP/1.1")]
    {
        assert_eq!(balancer.reload(&front(&server, pool)), Reloaded::Taken);
        assert_eq!(client.get(path).status, 200);
        assert_eq!(server.protocol(path), expected);
    }
}

#[test]
fn http2_over_tls_is_agreed_on_or_nothing_is_sent() {
    let app = App::echo();
    let files = Shop::new(&[("server", &Certificate::named(&["app.internal"]))]);
    let server = Balancer::start(&plain(&[app.address], &files.tls(&["server"], ""), ""));
    let tls = format!(
        "protocol: h2, tls: {{ server_name: app.internal, ca: {} }}",
        files.path("server.pem").display()
    );
    let balancer = Balancer::start(&front(&server, &tls));
    assert_eq!(balancer.get("/h1").status, 200);
    assert_eq!(server.protocol("/h1"), "HTTP/2.0");
    // A TLS server that knows of no protocols.
    let mute = Certificate::named(&["app.internal"]);
    mute.write(&files.files.0, "mute");
    let running = mute.serve();
    let text = plain(&[running.address], "", &tls.replace("server.pem", "mute.pem"));
    let balancer = Balancer::start(&text);
    assert_eq!(balancer.get("/mute").status, 502);
    assert_eq!(balancer.outcome("/mute"), (502, "server_tls".to_owned()));
}

#[test]
fn failures_are_told_and_tried_elsewhere() {
    let (bad, good) =
        (App::new(|_, stream| status(stream, "503 Service Unavailable", "not now")), App::echo());
    let [bad_server, good_server] = [&bad, &good].map(|app| Balancer::start(&plain(&[app.address], "", "")));
    let addresses = [bad_server.address("web"), good_server.address("web")];
    let balancer = Balancer::start(&plain(
        &addresses,
        "",
        "protocol: h2, balance: round_robin, retries: { budget: 100% }",
    ));
    for n in 0..4 {
        assert_eq!(client::get(balancer.address("web"), &format!("/{n}")).status, 200);
    }
    assert!(balancer.metric("evenkeel_retries_total", &[("reason", "503")]) >= 1.0);
    // Nobody there at all.
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let balancer = Balancer::start(&plain(&[nobody], "", "protocol: h2"));
    assert_eq!(balancer.get("/nobody").status, 502);
    assert_eq!(balancer.outcome("/nobody"), (502, "connect_failed".to_owned()));
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn a_server_that_stops_is_left_without_a_failure() {
    let app = App::echo();
    let mut first = Balancer::start(&plain(&[app.address], "", ""));
    let second = Balancer::start(&plain(&[app.address], "", ""));
    let addresses = [first.address("web"), second.address("web")];
    let balancer = Balancer::start(&plain(&addresses, "", "protocol: h2, balance: round_robin"));
    let mut client = balancer.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").status, 200);
    }
    first.signal(rustix::process::Signal::TERM);
    assert_eq!(first.wait_for_exit().code(), Some(0));
    for _ in 0..8 {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn a_grpc_answer_of_a_head_alone_ends_with_it() {
    let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "5")];
    let address = h2::answering(h2::frame(h2::HEADERS, 0x5, 1, &h2::block(&fields)));
    let balancer = Balancer::start(&plain(&[address], "", "protocol: h2"));
    let mut client = h2::Connection::new(balancer.address("web"));
    client.fields(
        1,
        &[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/shop.Cart/Get"),
            (":authority", "a"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ],
        true,
    );
    let head = std::iter::from_fn(|| client.next()).find(|frame| frame.kind == h2::HEADERS).expect("a head");
    assert!(
        head.ends_stream(),
        "its clients take fields that are not the last for the beginning of an answer"
    );
    assert_eq!(balancer.record("/shop.Cart/Get")["grpc_status"], 5);
    assert_eq!(balancer.metric("evenkeel_grpc_requests_total", &[("status", "not_found")]), 1.0);
}

#[test]
fn what_goes_wrong_is_told_to_grpc_clients_in_their_words() {
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let balancer = Balancer::start(&plain(&[nobody], "", "protocol: h2"));
    for (kind, expected) in
        [("application/grpc+proto", 200), ("application/grpc-web", 200), ("text/plain", 502)]
    {
        // Anew for each: what reads heads here knows no table of fields that were sent before.
        let mut client = h2::Connection::new(balancer.address("web"));
        client.fields(
            1,
            &[
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/call"),
                (":authority", "a"),
                ("content-type", kind),
            ],
            true,
        );
        let head =
            std::iter::from_fn(|| client.next()).find(|frame| frame.kind == h2::HEADERS).expect("a head");
        assert_eq!(h2::status(&head.payload), expected, "{kind}");
        assert_eq!(head.ends_stream(), expected == 200, "{kind}");
    }
    balancer.wait_for_failures("connect_failed", 3.0);
}

#[test]
fn servers_are_asked_by_grpcs_health_protocol() {
    let answer = |health| h2::answering(h2::health(health));
    let pool = "protocol: h2, health: { grpc: { service: shop.Cart }, interval: 50ms, rise: 1, fall: 1 }";
    let balancer = Balancer::start(&plain(&[answer(1), answer(2)], "", pool));
    balancer.wait_for_metric("evenkeel_server_up", &[("server", "s1")], 1.0);
    balancer.wait_for_metric("evenkeel_server_up", &[("server", "s2")], 0.0);
    balancer.log.wait_for("gRPC: NOT_SERVING, expected SERVING");
    assert!(balancer.metric("evenkeel_probes_total", &[("server", "s2"), ("result", "grpc")]) >= 1.0);
}

#[test]
fn the_http_probe_asks_as_requests_go() {
    let answer = |status: &str, body: &[u8]| {
        let head = h2::frame(h2::HEADERS, 0x4, 1, &h2::block(&[(":status", status)]));
        h2::answering([head, h2::frame(h2::DATA, 0x1, 1, body)].concat())
    };
    let servers = [answer("200", b"fine"), answer("200", b"ill"), answer("503", b"")];
    let pool = "protocol: h2, health: { http: { path: /healthz, expect_body: fine }, interval: 50ms, rise: 1, fall: 1 }";
    let balancer = Balancer::start(&plain(&servers, "", pool));
    for (server, up) in [("s1", 1.0), ("s2", 0.0), ("s3", 0.0)] {
        balancer.wait_for_metric("evenkeel_server_up", &[("server", server)], up);
    }
    balancer.log.wait_for("body does not contain \\\"fine\\\"; it begins \\\"ill\\\"");
    balancer.log.wait_for("status 503, expected 200");
    // Over TLS, and when a reload changes how requests go.
    let app = App::echo();
    let files = Shop::new(&[("server", &Certificate::named(&["app.internal"]))]);
    let server = Balancer::start(&plain(&[app.address], &files.tls(&["server"], ""), ""));
    let text = |protocol| {
        let keys = "tls: { verify: false }, health: { http: /healthz, interval: 50ms, rise: 1, fall: 1 }";
        plain(&[server.address("web")], "", &format!("protocol: {protocol}, {keys}"))
    };
    let balancer = Balancer::start(&text("h2"));
    let last = || server.records().pop().map_or(String::new(), |record| record["protocol"].to_string());
    wait_until("it is asked by HTTP/2", || last() == "\"HTTP/2.0\"");
    assert_eq!(balancer.reload(&text("http1")), Reloaded::Taken);
    wait_until("it is asked by HTTP/1.1", || last() == "\"HTTP/1.1\"");
    balancer.wait_for_metric("evenkeel_server_up", &[("server", "s1")], 1.0);
}

/// Heads that a listener lets pass, HTTP/1.1 has a place for, and HTTP/2 has none.
const WITHOUT_FORM: [(&str, &str); 6] = [
    ("GET /<x> HTTP/1.1\r\nHost: a\r\n\r\n", "target has bytes"),
    ("GET /`x HTTP/1.1\r\nHost: a\r\n\r\n", "target has bytes"),
    ("GET /?q=\"x\" HTTP/1.1\r\nHost: a\r\n\r\n", "target has bytes"),
    ("GET http://a/?q=<x HTTP/1.0\r\n\r\n", "target has bytes"),
    ("GET / HTTP/1.1\r\nHost: a%41\r\n\r\n", "host that HTTP/2"),
    ("POST / HTTP/1.1\r\nHost: [1:2:3:4:5:6:7:8:9:a]\r\nContent-Length: 2\r\n\r\nhi", "host that HTTP/2"),
];

#[test]
fn a_head_that_http2_has_no_form_for_is_its_clients_fault() {
    let app = App::echo();
    let servers = [(); 2].map(|()| Balancer::start(&plain(&[app.address], "", "")));
    let addresses = servers.each_ref().map(|server| server.address("web"));
    let balancer = Balancer::start(&plain(&addresses, "", "protocol: h2, balance: round_robin"));
    for (n, (head, detail)) in WITHOUT_FORM.into_iter().enumerate() {
        let mut client = balancer.client();
        client.send(head);
        let response = client.response();
        assert_eq!((response.status, response.field("connection").as_str()), (400, "close"), "{head}");
        assert!(client.is_closed(), "{head}");
        wait_until("a record", || balancer.records().len() == n + 1);
        let record = balancer.records().pop().expect("a record");
        assert_eq!((&record["why"], &record["tries"]), (&"malformed".into(), &0.into()), "{record}");
        assert!(record["pool"].is_null() && record["server"].is_null(), "{record}");
        assert!(record["detail"].as_str().is_some_and(|text| text.starts_with(detail)), "{record}");
    }
    let mut client = h2::Connection::new(balancer.address("web"));
    client.fields(1, &[(":method", "GET"), (":scheme", "http"), (":path", "/h2"), ("host", "a%41")], true);
    assert_eq!(client.response(1).0, 400);
    assert_eq!(balancer.outcome("/h2"), (400, "malformed".to_owned()));
    let all = WITHOUT_FORM.len() as f64 + 1.0;
    balancer.wait_for_metric("evenkeel_http_failures_total", &[("pool", ""), ("why", "malformed")], all);
    assert_eq!(balancer.metric("evenkeel_http_failures_total", &[]), all);
    for none in ["evenkeel_http_requests_failed_total", "evenkeel_retries_total"] {
        assert_eq!(balancer.metric(none, &[]), 0.0, "{none}");
    }
    assert_eq!(app.hits(), 0);
    assert_eq!(balancer.get("/%3Cx%3E?q=%22x%22|{}").text(), "GET /%3Cx%3E?q=%22x%22|{} ");
    balancer.wait_for_in_flight(0.0);

    // Servers of HTTP/1.1 get them as they came.
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    for (head, _) in WITHOUT_FORM {
        let mut client = balancer.client();
        client.send(head);
        assert_eq!(client.response().status, 200, "{head}");
        let target = head.split(' ').nth(1).expect("a target").trim_start_matches("http://a");
        assert_eq!(app.last().target, target);
    }
}

#[test]
fn what_the_cache_takes_out_of_a_target_needs_no_form() {
    let app = App::echo();
    let server = Balancer::start(&plain(&[app.address], "", ""));
    let balancer = Balancer::start(&format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, routes: shop }} }}\n\
         routes: {{ shop: [{{ match: {{ path: /some }}, cache: {{ key: {{ query: [a] }} }}, pool: app }}, {{ cache: {{}}, pool: app }}] }}\n\
         pools: {{ app: {{ servers: ['{}'], protocol: h2 }} }}\n",
        server.address("web")
    ));
    for (target, sent) in [
        ("/x?utm_source=\"y\"", "/x"),
        ("/x?utm_source=<y>&k=1", "/x?k=1"),
        ("/some?a=1&b=\"x\"", "/some?a=1"),
    ] {
        let mut client = balancer.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, app.last().target.as_str()), (200, sent), "{target}");
    }
    let mut client = balancer.client();
    client.send("GET /some?a=\"x\" HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 400, "what is left has none");
}

#[test]
fn a_target_that_is_too_long_for_http2_is_told_so() {
    let app = App::echo();
    let limits = "limits: { request_headers: 256KiB, uri: 256KiB }";
    let server = Balancer::start(&plain(&[app.address], limits, ""));
    let balancer = Balancer::start(&plain(&[server.address("web")], limits, "protocol: h2"));
    for (length, status) in [(65_534, 200), (65_535, 414)] {
        let path = format!("/{}", "x".repeat(length - 1));
        assert_eq!(balancer.get(&path).status, status, "{length}");
    }
    let record = balancer.record_where("of the longer", |record| record["status"] == 414);
    assert_eq!((&record["why"], &record["pool"]), (&"uri_too_long".into(), &serde_json::Value::Null));
}
