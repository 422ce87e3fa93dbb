//! HTTP/2 from clients: what a connection may have and for how long, what honest clients do a lot of, and what servers
//! see of it.

use crate::support::app::{App, Latch, Silent, say, wait_for_the_end};
use crate::support::balancer::{Balancer, outcome, plain};
use crate::support::client::Client;
use crate::support::h2::{self, Connection, END_HEADERS, END_STREAM, block, frame};
use crate::support::tls::{Certificate, Shop, Speaker};
use crate::support::wait_until;
use std::time::{Duration, Instant};

const PRIORITY_UPDATE: u8 = 0x10;

fn get(stream: u32) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    frame(h2::HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
}

fn reset(stream: u32) -> Vec<u8> {
    frame(h2::RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

fn no_abuse(balancer: &Balancer) {
    assert_eq!(balancer.metric("evenkeel_http2_abuse_total", &[]), 0.0);
}

/// The values that the other side's first SETTINGS frame has.
fn settings(connection: &mut Connection) -> Vec<(u16, u32)> {
    let frame = connection.any().expect("SETTINGS come first");
    assert_eq!((frame.kind, frame.flags), (h2::SETTINGS, 0));
    let value = |entry: &[u8]| {
        let (name, value) = entry.split_at(2);
        (u16::from_be_bytes([name[0], name[1]]), u32::from_be_bytes([value[0], value[1], value[2], value[3]]))
    };
    frame.payload.chunks(6).map(value).collect()
}

#[test]
fn the_configured_limits_are_said() {
    let app = App::saying("hello");
    let listener =
        "http2: { max_concurrent_streams: 7, stream_window: 32KiB }, limits: { request_headers: 8KiB }";
    let balancer = Balancer::start(&plain(&[app.address], listener, ""));
    let mut connection = Connection::new(balancer.address("web"));
    let said = settings(&mut connection);
    // RFC 9113 section 6.5.2.
    // So much is read of a head at least, to answer 431.
    for setting in [(3, 7), (4, 32 << 10), (6, 64 << 10)] {
        assert!(said.contains(&setting), "{setting:?} in {said:?}");
    }
}

#[test]
fn a_stream_beyond_the_limit_is_refused_and_the_others_go_on() {
    const REFUSED_STREAM: u8 = 7;
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |_, stream| {
        held.wait();
        say(stream, "late")
    });
    let balancer = Balancer::start(&plain(&[app.address], "http2: { max_concurrent_streams: 2 }", ""));
    let mut connection = Connection::new(balancer.address("web"));
    connection.send(&[1, 3, 5].map(get).concat());
    let refused = connection.next().expect("an answer");
    assert_eq!((refused.kind, refused.stream, refused.payload[3]), (h2::RST_STREAM, 5, REFUSED_STREAM));
    latch.open();
    let mut answered: Vec<_> = [(); 2]
        .map(|()| {
            std::iter::from_fn(|| connection.next()).find(|frame| frame.kind == h2::HEADERS).map(|f| f.stream)
        })
        .into();
    answered.sort_unstable();
    assert_eq!(answered, [Some(1), Some(3)]);
    no_abuse(&balancer);
    assert!(balancer.records().iter().all(|record| record["why"] == "ok"), "a refused stream is no request");
}

#[test]
fn after_max_requests_the_client_goes_elsewhere_and_has_its_answers() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |_, stream| {
        held.wait();
        say(stream, "late")
    });
    let balancer = Balancer::start(&plain(&[app.address], "http2: { max_requests: 3 }", ""));
    let mut connection = Connection::new(balancer.address("web"));
    connection.send(&[1, 3, 5].map(get).concat());
    let goaway = connection.next().expect("a frame");
    assert_eq!((goaway.kind, &goaway.payload[4..8]), (h2::GOAWAY, &[0, 0, 0, 0][..]), "no error");
    latch.open();
    let mut ended = 0;
    while let Some(frame) = connection.next() {
        ended += u32::from(frame.ends_stream());
    }
    assert_eq!(ended, 3);
    let mut another = Connection::new(balancer.address("web"));
    another.request(1, "GET", "/", true);
    assert_eq!(another.response(1).0, 200);
    no_abuse(&balancer);
}

#[test]
fn after_max_age_the_client_goes_elsewhere_and_has_its_answers() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |_, stream| {
        held.wait();
        say(stream, "late")
    });
    let balancer = Balancer::start(&plain(&[app.address], "http2: { max_age: 1s }", ""));
    let mut connection = Connection::new(balancer.address("web"));
    connection.request(1, "GET", "/", true);
    let goaway = connection.next().expect("a frame");
    assert_eq!((goaway.kind, &goaway.payload[4..8]), (h2::GOAWAY, &[0, 0, 0, 0][..]), "no error");
    latch.open();
    assert_eq!(connection.response(1), (200, b"late".to_vec()));
    while connection.next().is_some() {}
}

#[test]
fn pings_do_not_keep_an_idle_connection() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "timeouts: { idle: 300ms }", ""));
    let mut connection = Connection::new(balancer.address("web"));
    connection.request(1, "GET", "/", true);
    assert_eq!(connection.response(1).0, 200);
    let since = Instant::now();
    while connection.is_alive() {
        assert!(since.elapsed() < crate::support::DEADLINE, "it is kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(connection);
    balancer.wait_for_metric("evenkeel_connections", &[("listener", "web")], 0.0);
    no_abuse(&balancer);
}

/// What browsers, gRPC and cancelling clients do, a lot of it, on one connection.
#[test]
fn honest_clients_are_not_cut_off() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/held" => wait_for_the_end(stream),
        _ => say(stream, &"x".repeat(200)),
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut connection = Connection::new(balancer.address("web"));
    let mut stream = 1_u32;
    // A PING, two window updates and a priority beside each of many requests.
    for _ in 0..1500 {
        connection.frame(PRIORITY_UPDATE, 0, 0, &[&stream.to_be_bytes()[..], b"u=1"].concat());
        connection.send(&get(stream));
        assert_eq!(connection.response(stream).0, 200);
        connection.frame(h2::PING, 0, 0, b"how far?");
        connection.frame(h2::WINDOW_UPDATE, 0, 0, &200_u32.to_be_bytes());
        connection.frame(h2::WINDOW_UPDATE, 0, stream, &200_u32.to_be_bytes());
        stream += 2;
    }
    // Everything that may be open, given up at once, a few times.
    for wave in 1..=4 {
        let streams: Vec<_> = (0..128).map(|n| stream + 2 * n).collect();
        connection.send(&streams.iter().flat_map(|stream| held(*stream)).collect::<Vec<_>>());
        wait_until("the wave has arrived", || {
            app.requests().iter().filter(|request| request.target == "/held").count() == 128 * wave
        });
        connection.send(&streams.iter().flat_map(|stream| reset(*stream)).collect::<Vec<_>>());
        balancer.wait_for_in_flight(0.0);
        stream += 256;
    }
    // A stream of small messages, sent together.
    connection.request(stream, "POST", "/messages", false);
    let messages: Vec<_> = (0..2000).flat_map(|_| frame(h2::DATA, 0, stream, b"\0\0\0\0\x03msg")).collect();
    connection.send(&messages);
    connection.data(stream, b"", true);
    assert_eq!(connection.response(stream).0, 200);
    assert_eq!(app.last().body.len(), 2000 * 8);
    assert!(connection.is_alive());
    no_abuse(&balancer);
}

fn held(stream: u32) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/held")];
    frame(h2::HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
}

/// A stream that is reset gives its place to another, but its exchange may still be connecting.
#[test]
fn exchanges_whose_streams_were_reset_keep_their_places() {
    const LIMIT: u32 = 4;
    let silent = Silent::new();
    let listener = format!("http2: {{ max_concurrent_streams: {LIMIT} }}");
    let pool = "timeouts: { connect: 1s }, retries: { max: 0 }";
    let balancer = Balancer::start(&plain(&[silent.address], &listener, pool));
    let mut connection = Connection::new(balancer.address("web"));
    let first: Vec<_> = (0..LIMIT).map(|n| 2 * n + 1).collect();
    connection.send(&first.iter().flat_map(|stream| get(*stream)).collect::<Vec<_>>());
    balancer.wait_for_in_flight(f64::from(LIMIT));
    connection.send(&first.iter().flat_map(|stream| reset(*stream)).collect::<Vec<_>>());
    let second: Vec<_> = (LIMIT..2 * LIMIT).map(|n| 2 * n + 1).collect();
    connection.send(&second.iter().flat_map(|stream| get(*stream)).collect::<Vec<_>>());
    let mut most = 0.0_f64;
    wait_until("all have ended", || {
        most = most.max(balancer.metric("evenkeel_server_in_flight", &[]));
        balancer.records().len() == 2 * LIMIT as usize
    });
    assert!(most <= f64::from(LIMIT), "{most} at once");
    let timed_out = balancer.records().iter().filter(|record| record["why"] == "connect_timeout").count();
    assert!(timed_out >= LIMIT as usize, "the second wave had its turn");
    balancer.wait_for_in_flight(0.0);
    no_abuse(&balancer);
}

#[test]
fn several_cookies_reach_the_server_as_one() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut connection = Connection::new(balancer.address("web"));
    let base = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
    let cookies = [("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("cookie", "c=3"), ("te", "trailers")];
    connection.fields(1, &[&base[..], &cookies].concat(), true);
    assert_eq!(connection.response(1).0, 200);
    let request = app.last();
    assert_eq!((request.field("cookie").as_str(), request.field("host").as_str()), ("a=1; b=2; c=3", "a"));
    assert!(!request.has("te"), "it is for one hop (RFC 9110 section 7.6.1)");
}

#[test]
fn refused_requests_have_a_record() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "limits: { request_headers: 2KiB }", ""));
    let mut connection = Connection::new(balancer.address("web"));
    let base = [(":method", "GET"), (":scheme", "http"), (":authority", "a")];
    let large = "x".repeat(3000);
    let huge = "x".repeat(15_000);
    let more: [(&str, &[(&str, &str)]); 5] = [
        ("value begins", &[(":path", "/padded"), ("x", " 1")]),
        ("disagree", &[(":path", "/user"), ("host", "u@a")]),
        ("codec", &[(":path", "/close"), ("connection", "close")]),
        ("longer than limits.request_headers", &[(":path", "/large"), ("x", &large)]),
        ("longer than", &[(":path", "/huge"), ("x", &huge)]),
    ];
    for (n, (what, fields)) in more.into_iter().enumerate() {
        let stream = 2 * n as u32 + 1;
        connection.fields(stream, &[&base[..], fields].concat(), true);
        let (status, _) = connection.response(stream);
        wait_until("a record", || balancer.records().len() > n);
        let record = balancer.records().pop().expect("a record");
        assert!(record["detail"].as_str().is_some_and(|detail| detail.contains(what)), "{record}");
        let why = if what.contains("longer") { "headers_too_large" } else { "malformed" };
        assert_eq!(outcome(&record), (u64::from(status), why.to_owned()), "{what}");
        assert_eq!(balancer.records().len(), n + 1, "{what}");
    }
    assert_eq!(balancer.record("/padded")["protocol"], "HTTP/2.0");
    balancer.wait_for_failures("malformed", 3.0);
    assert_eq!(balancer.record("/large")["status"], 431);
    balancer.wait_for_failures("headers_too_large", 2.0);
    assert!(app.requests().is_empty());
    no_abuse(&balancer);
}

#[test]
fn a_head_that_is_too_large_has_one_answer_although_its_body_is_still_to_come() {
    let app = App::saying("hello");
    let certificate = Certificate::named(&["a.example"]);
    let shop = Shop::new(&[("a", &certificate)]);
    let tls = shop.tls(&["a"], "hsts: 1d");
    let listener = format!("limits: {{ request_headers: 2KiB }}, {tls}");
    let balancer = Balancer::start(&plain(&[app.address], &listener, ""));
    let speaker = Speaker::new().offering(&["h2"]);
    let stream = speaker.connect(balancer.address("web"), "a.example").expect("a handshake");
    let mut connection = Connection::over(stream);
    let large = "x".repeat(3000);
    let fields =
        [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/large"), ("x", &large)];
    connection.fields(1, &fields, false);
    let head = connection.next().expect("an answer");
    assert_eq!((head.kind, h2::status(&head.payload)), (h2::HEADERS, 431));
    // Strict-Transport-Security is entry 56 of the static table (RFC 7541 appendix A).
    assert!(head.payload.windows(2).any(|two| two == [0x0f, 56 - 15]), "{:?}", head.payload);
    connection.data(1, b"late", true);
    loop {
        match connection.next() {
            Some(frame) if frame.kind == h2::RST_STREAM => {
                assert_eq!(frame.payload, 0_u32.to_be_bytes(), "NO_ERROR");
                break;
            }
            Some(frame) if frame.kind == h2::DATA => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(connection.is_alive());
    assert_eq!(balancer.outcome("/large"), (431, "headers_too_large".to_owned()));
    assert_eq!(balancer.records().len(), 1);
    no_abuse(&balancer);
}

#[test]
fn uploads_to_a_server_that_does_not_read_hold_up_no_others() {
    let (silent, app) = (Silent::new(), App::echo());
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: all }}\nroutes:\n  all:\n    \
         - {{ match: {{ path: /stuck }}, pool: stuck }}\n    - {{ pool: app }}\n\
         pools:\n  stuck: {{ servers: [{}], timeouts: {{ connect: 1m }} }}\n  app: {{ servers: [{}] }}\n",
        silent.address, app.address
    );
    let balancer = Balancer::start(&text);
    let mut connection = Connection::new(balancer.address("web"));
    while connection.any().expect("the connection's window").kind != h2::WINDOW_UPDATE {}
    for n in 0..40 {
        let stream = 2 * n + 1;
        connection.request(stream, "POST", "/stuck", false);
        // As much as its window takes before SETTINGS are acknowledged.
        for n in [16_384, 16_384, 16_384, 16_383] {
            connection.data(stream, &vec![b'x'; n], false);
        }
    }
    connection.request(101, "POST", "/x", false);
    connection.data(101, b"body", true);
    assert_eq!(connection.response(101), (200, b"POST /x body".to_vec()));
}

#[test]
fn an_authority_is_a_host_to_rules_keys_and_servers() {
    let apps = [App::saying("by-host"), App::saying("rest")];
    let [by_host, rest] = [apps[0].address, apps[1].address];
    let hash = "balance: { consistent_hash: { key: { header: Host } } }";
    let hashed: Vec<App> = ["a", "b"].map(App::saying).into();
    let balancer = Balancer::start(&format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: shop }}\n  hash: {{ address: 127.0.0.1:0, pool: hash }}\n\
         routes:\n  shop:\n    - {{ match: {{ headers: {{ Host: shop.example }} }}, pool: host }}\n    - {{ pool: rest }}\n\
         pools:\n  host: {{ servers: [{by_host}] }}\n  rest: {{ servers: [{rest}] }}\n  \
         hash: {{ {hash}, servers: [{{ name: a, address: {} }}, {{ name: b, address: {} }}] }}\n",
        hashed[0].address, hashed[1].address
    ));
    let ask = |listener: &str, host: &str| {
        let mut connection = Connection::new(balancer.address(listener));
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", "/")];
        connection.fields(1, &fields, true);
        String::from_utf8(connection.response(1).1).expect("text")
    };
    assert_eq!([ask("web", "shop.example"), ask("web", "other.example")], ["by-host", "rest"]);
    let seen = apps[0].last();
    assert_eq!(
        (seen.field("host"), seen.field("x-forwarded-host")),
        ("shop.example".into(), "shop.example".into())
    );
    assert!(seen.field("forwarded").contains("host=shop.example"), "{}", seen.field("forwarded"));
    // Both protocols place a key alike.
    for n in 0..12 {
        let host = format!("s{n}.example");
        let mut client = Client::connect(balancer.address("hash"));
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(ask("hash", &host), client.response().text(), "{host}");
    }
}
