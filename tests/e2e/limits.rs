//! Errors, limits and deadlines: what the client is told, what the log says, and what is counted.

use crate::support::app::{App, Latch, Refusing, Then, say, status, wait_for_the_end};
use crate::support::balancer::{Balancer, Reloaded, outcome, plain};
use crate::support::client::Client;
use crate::support::{h2, wait_until};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Counted under its reason and its class.
fn counted(balancer: &Balancer, why: &str, class: &str) {
    balancer.wait_for_failures(why, 1.0);
    assert_eq!(balancer.metric("evenkeel_http_requests_total", &[("code", class)]), 1.0, "{why}");
}

#[test]
fn no_route_is_404() {
    let app = App::saying("hello");
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: r }}\n\
         routes:\n  r:\n    - {{ match: {{ path: /app/* }}, pool: app }}\n\
         pools:\n  app: {{ servers: [{}] }}\n",
        app.address
    );
    let balancer = Balancer::start(&text);
    let mut client = balancer.client();
    assert_eq!(client.get("/elsewhere").status, 404);
    assert_eq!(client.get("/app/x").status, 200, "the connection goes on");
    assert_eq!(balancer.outcome("/elsewhere"), (404, "no_route".to_owned()));
    counted(&balancer, "no_route", "4xx");
}

#[test]
fn all_down_is_503_if_the_pool_refuses() {
    let app = App::new(|_, stream| status(stream, "500 Down", ""));
    let pool = "health: { http: /, interval: 50ms, timeout: 1s, fall: 1 }, when_all_unhealthy: refuse";
    let balancer = Balancer::start(&plain(&[app.address], "", pool));
    balancer.wait_for_metric("evenkeel_pool_servers", &[("state", "down")], 1.0);
    let response = balancer.get("/x");
    assert_eq!(response.status, 503);
    assert_ne!(response.field("retry-after"), "");
    assert_eq!(balancer.outcome("/x"), (503, "all_unhealthy".to_owned()));
    counted(&balancer, "all_unhealthy", "5xx");
}

#[test]
fn all_full_is_503_without_a_queue() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |_, stream| {
        held.wait();
        say(stream, "done")
    });
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\n\
         pools:\n  app: {{ servers: [{{ address: {}, max_connections: 1 }}], queue: null }}\n",
        app.address
    );
    let balancer = Balancer::start(&text);
    let mut client = balancer.client();
    client.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    let response = balancer.get("/second");
    assert_eq!(response.status, 503);
    assert_ne!(response.field("retry-after"), "");
    assert_eq!(balancer.outcome("/second"), (503, "all_full".to_owned()));
    balancer.wait_for_failures("all_full", 1.0);
    latch.open();
    assert_eq!(client.response().status, 200);
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.get("/third").status, 200);
}

#[test]
fn all_drained_is_503() {
    let app = App::saying("hello");
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\n\
         pools:\n  app: {{ servers: [{{ address: {}, drain: true }}] }}\n",
        app.address
    );
    let balancer = Balancer::start(&text);
    assert_eq!(balancer.get("/x").status, 503);
    assert_eq!(balancer.outcome("/x"), (503, "none_ready".to_owned()));
}

#[test]
fn a_body_that_is_too_large_is_413() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "limits: { request_body: 1KiB }", ""));
    let large = "x".repeat(100_000);
    let mut client = balancer.client();
    client.send(format!("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", large.len()));
    let _ = client.try_send(&large);
    assert_eq!(client.response().status, 413);
    assert_eq!(balancer.outcome("/length"), (413, "body_too_large".to_owned()));
    let mut client = balancer.client();
    client.send("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let _ = client.try_send(format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len()));
    assert_eq!(client.response().status, 413);
    assert_eq!(balancer.outcome("/chunks"), (413, "body_too_large".to_owned()));
    balancer.wait_for_failures("body_too_large", 2.0);
    assert_eq!(balancer.client().post("/fits", &"x".repeat(1024)).status, 200);
    assert_eq!(app.requests().iter().filter(|request| request.body.len() > 1024).count(), 0);
}

#[test]
fn a_body_that_is_too_large_is_413_over_h2() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "limits: { request_body: 1KiB }", ""));
    let mut connection = h2::Connection::new(balancer.address("web"));
    connection.request(1, "POST", "/x", false);
    connection.data(1, &[b'x'; 4000], false);
    assert_eq!(connection.response(1).0, 413);
    assert_eq!(outcome(&balancer.record("/x")).1, "body_too_large");
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "limits: { request_headers: 2KiB }", ""));
    let mut client = balancer.client();
    client.send(format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n", "x".repeat(3000)));
    assert_eq!(client.response().status, 431);
    assert!(client.is_closed());
    assert_eq!(balancer.outcome("/x"), (431, "headers_too_large".to_owned()));
    counted(&balancer, "headers_too_large", "4xx");
    let mut client = balancer.client();
    client.send(format!("GET /fits HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n", "x".repeat(1900)));
    assert_eq!(client.response().status, 200);
}

#[test]
fn what_is_not_http_is_refused_logged_and_counted() {
    const TABLE: &[(&str, u16)] = &[
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a:port\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GE T /x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\x07 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nbody", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nbody", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -4\r\n\r\nbody", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 501),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03", 400),
        ("hello\r\n\r\n", 400),
    ];
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "timeouts: { request_header: 2s }", ""));
    for (n, (bytes, expected)) in TABLE.iter().enumerate() {
        let mut client = balancer.client();
        client.send(bytes);
        let response = client.try_response();
        assert_eq!(response.as_ref().map(|response| response.status), Some(*expected), "{bytes:?}");
        assert!(client.is_closed(), "{bytes:?} left the connection open");
        wait_until("a record", || balancer.records().len() == n + 1);
        let record = balancer.records().pop().expect("a record");
        assert_eq!(outcome(&record), (u64::from(*expected), "malformed".to_owned()), "{bytes:?}");
    }
    balancer.wait_for_failures("malformed", TABLE.len() as f64);
    assert_eq!(app.requests().iter().filter(|request| request.method != "POST").count(), 0);
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.get("/").status, 200);
}

#[test]
fn a_head_has_one_deadline_however_it_trickles() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "timeouts: { request_header: 500ms }", ""));
    let mut client = balancer.client();
    let since = Instant::now();
    client.send("GET /trickle HTTP/1.1\r\nHost: a\r\nX: ");
    // A byte every now and then keeps a deadline for each read from ever passing.
    let mut sent = 0;
    let sending = client.socket().try_clone().expect("a socket can be cloned");
    while since.elapsed() < Duration::from_secs(10) {
        if std::io::Write::write_all(&mut &sending, b"x").is_err() || !balancer.records().is_empty() {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(since.elapsed() < Duration::from_secs(5), "{sent} bytes in {:?}", since.elapsed());
    assert_eq!(client.response().status, 408);
    assert_eq!(balancer.outcome("/trickle"), (408, "request_header_timeout".to_owned()));
    counted(&balancer, "request_header_timeout", "4xx");
}

#[test]
fn a_connection_that_never_says_anything_is_closed() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "timeouts: { request_header: 200ms }", ""));
    let mut client = balancer.client();
    assert!(client.is_closed());
    balancer.wait_for_metric("evenkeel_connections", &[("listener", "web")], 0.0);
}

#[test]
fn a_body_that_stops_coming_is_408() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "timeouts: { request_body: 200ms }", ""));
    for (path, rest) in [
        ("/length", "Content-Length: 10\r\n\r\nhalf"),
        ("/chunks", "Transfer-Encoding: chunked\r\n\r\n4\r\nha"),
    ] {
        let mut client = balancer.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{rest}"));
        assert_eq!(client.response().status, 408, "{path}");
        assert_eq!(balancer.outcome(path), (408, "request_body_timeout".to_owned()));
    }
    balancer.wait_for_failures("request_body_timeout", 2.0);
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn a_body_that_stops_coming_ends_its_h2_stream() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "timeouts: { request_body: 200ms }", ""));
    let mut connection = h2::Connection::new(balancer.address("web"));
    connection.request(1, "POST", "/half", false);
    connection.data(1, b"half", false);
    assert!(matches!(connection.response(1).0, 408 | 0));
    assert_eq!(balancer.outcome("/half").1, "request_body_timeout");
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn an_idle_connection_is_closed_without_a_record() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "timeouts: { idle: 300ms }", ""));
    let mut client = balancer.client();
    client.get("/");
    let since = Instant::now();
    assert!(client.is_closed());
    assert!(since.elapsed() >= Duration::from_millis(250), "closed after {:?}", since.elapsed());
    let mut connection = h2::Connection::new(balancer.address("web"));
    connection.request(1, "GET", "/h2", true);
    assert_eq!(connection.response(1).0, 200);
    while connection.next().is_some() {}
    balancer.wait_for_metric("evenkeel_connections", &[("listener", "web")], 0.0);
    assert_eq!(balancer.records().len(), 2);
}

#[test]
fn beyond_a_listeners_limit_the_next_waits_and_is_served_when_one_leaves() {
    for limit in ["listener", "process"] {
        let app = App::saying("hello");
        // One core, so that one connection waits in the accept loop and not one for each core.
        let text = match limit {
            "listener" => plain(&[app.address], "limits: { connections: 2 }", ""),
            _ => plain(&[app.address], "", ""),
        };
        let most = if limit == "process" { ", max_connections: 2" } else { "" };
        let balancer = Balancer::start(&format!("process: {{ threads: 1{most} }}\n{text}"));
        let (mut one, mut two) = (balancer.client(), balancer.client());
        assert_eq!((one.get("/").status, two.get("/").status), (200, 200));
        let mut three = balancer.client();
        three.send("GET /three HTTP/1.1\r\nHost: a\r\n\r\n");
        if limit == "listener" {
            balancer.wait_for_metric("evenkeel_connection_limit_waits_total", &[("listener", "web")], 1.0);
        }
        // Those inside are served all the while.
        for _ in 0..20 {
            assert_eq!((one.get("/").status, two.get("/").status), (200, 200));
        }
        assert_eq!(balancer.records().iter().filter(|record| record["path"] == "/three").count(), 0);
        drop(one);
        assert_eq!(three.response().status, 200, "{limit}");
    }
}

#[test]
fn beyond_a_clients_limit_its_connections_are_closed() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "limits: { connections_per_client: 2 }", ""));
    let (mut one, mut two) = (balancer.client(), balancer.client());
    assert_eq!((one.get("/").status, two.get("/").status), (200, 200));
    assert!(balancer.client().is_closed());
    balancer.wait_for_metric("evenkeel_connections_refused_total", &[("listener", "web")], 1.0);
    let record = balancer.record_where("who was refused", |record| record["why"] == "client_limit");
    assert_eq!((&record["client"], &record["status"]), (&"127.0.0.1".into(), &0.into()));
    balancer.wait_for_failures("client_limit", 1.0);
    // Another client of the same network has its own count.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let other: SocketAddr = (IpAddr::from([127, 0, 0, 2]), 0).into();
    socket.bind(&other.into()).expect("loopback has many addresses");
    socket.connect(&balancer.address("web").into()).expect("the listener takes connections");
    let mut other = Client::over(socket.into());
    assert_eq!(other.get("/").status, 200);
    drop(one);
    wait_until("there is room again", || balancer.client().try_get("/").is_some());
}

#[test]
fn a_client_that_opens_connections_too_fast_has_them_closed() {
    let app = App::saying("hello");
    let limits = "limits: { new_connections_per_client: 2/h }";
    let balancer = Balancer::start(&plain(&[app.address], limits, ""));
    // In a burst as many as come in a second, so one.
    let mut one = balancer.client();
    assert_eq!(one.get("/").status, 200);
    assert!(balancer.client().is_closed());
    assert_eq!(one.get("/").status, 200, "what is open goes on");
    let record = balancer.record_where("who was refused", |record| record["why"] == "client_limit");
    assert_eq!(record["detail"], "limits.new_connections_per_client");
    balancer.wait_for_metric("evenkeel_connections_refused_total", &[("listener", "web")], 1.0);
    assert_eq!(balancer.reload(&plain(&[app.address], "", "")), Reloaded::Taken);
    assert_eq!(balancer.client().get("/").status, 200);
}

#[test]
fn ipv6_and_unix_sockets_are_listened_on() {
    let app = App::saying("hello");
    let text = format!(
        "listeners:\n  six: {{ address: \"[::1]:0\", pool: app }}\n  \
         local: {{ address: \"unix:DIR/web.sock\", pool: app }}\n\
         pools:\n  app: {{ servers: [{}] }}\n",
        app.address
    );
    let mut balancer = Balancer::start(&text);
    assert_eq!(Client::connect(balancer.address("six")).get("/six").status, 200);
    assert_eq!(balancer.record("/six")["client"], "::1");
    assert_eq!(app.last().field("x-forwarded-for"), "::1");
    assert_eq!(app.last().field("forwarded"), "for=\"[::1]\";host=test;proto=http");
    let socket = balancer.path("web.sock");
    assert_eq!(Client::connect_unix(&socket).get("/local").status, 200);
    assert_eq!(balancer.record("/local")["client"], "unix");
    balancer.signal(rustix::process::Signal::TERM);
    assert!(balancer.wait_for_exit().success());
    assert!(!socket.exists(), "the socket's file is still there");
}

#[test]
fn a_unix_socket_goes_with_its_listener() {
    let app = App::saying("hello");
    let with = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\n  \
         local: {{ address: \"unix:DIR/web.sock\", pool: app }}\n\
         pools:\n  app: {{ servers: [{}] }}\n",
        app.address
    );
    let balancer = Balancer::start(&with);
    let socket = balancer.path("web.sock");
    assert!(socket.exists());
    assert_eq!(balancer.reload(&plain(&[app.address], "", "")), Reloaded::Taken);
    wait_until("the file is gone", || !socket.exists());
    assert_eq!(balancer.reload(&with), Reloaded::Taken);
    assert_eq!(Client::connect_unix(&socket).get("/again").status, 200);
}

#[test]
fn servers_on_unix_sockets_are_reached() {
    let directory = crate::support::balancer::Directory::new();
    let path = directory.0.join("app.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a unix socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\npools:\n  app: {{ servers: [\"unix:{}\"] }}\n",
        path.display()
    );
    let balancer = Balancer::start(&text);
    assert_eq!(balancer.get("/").text(), "ok");
}

#[test]
fn tried_servers_that_all_fail_give_the_last_ones_error() {
    let (one, two) = (Refusing::new(), Refusing::new());
    let balancer = Balancer::start(&plain(&[one.address, two.address], "", "retries: { max: 5 }"));
    assert_eq!(balancer.get("/x").status, 502);
    let record = balancer.record("/x");
    assert_eq!(record["tries"], 2);
    assert_eq!(record["why"], "connect_failed");
}

#[test]
fn a_timeout_reaches_the_server_as_the_end_of_its_connection() {
    let ended = Latch::default();
    let tell = ended.clone();
    let app = App::new(move |_, stream| {
        wait_for_the_end(stream);
        tell.open();
        Then::Close
    });
    let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { response_header: 100ms }"));
    assert_eq!(balancer.get("/").status, 504);
    ended.wait();
    assert_eq!(app.hits(), 1);
}
