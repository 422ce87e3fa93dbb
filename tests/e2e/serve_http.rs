//! What clients and servers see of each other through the real binary: bytes, fields, order, retries.

use crate::support::app::{App, Latch, Refusing, Then, say, send, status, wait_for_the_end};
use crate::support::balancer::{Balancer, plain};
use crate::support::client::Client;
use crate::support::{h2, wait_until};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// One core, so that there is one set of connections to servers.
const ONE_CORE: &str = "process: { threads: 1 }\n";

#[test]
fn a_request_reaches_its_server_as_it_was_sent() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send("GET /a%20b?q=1&r=%2F HTTP/1.1\r\nHost: Shop.Example:8443\r\nX-Odd: a;b=c\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    let request = app.last();
    assert_eq!(request.target, "/a%20b?q=1&r=%2F");
    assert_eq!(request.field("host"), "Shop.Example:8443");
    assert_eq!(request.field("x-odd"), "a;b=c");
    let record = balancer.record("/a%20b?q=1&r=%2F");
    assert_eq!(record["status"], 200);
    assert_eq!(record["why"], "ok");
    assert_eq!(record["host"], "Shop.Example:8443");
    assert_eq!((record["pool"].as_str(), record["server"].as_str()), (Some("app"), Some("s1")));
    assert_eq!(record["tries"], 1);
    assert_eq!(record["bytes_out"], 5);
}

#[test]
fn an_untrusted_clients_forwarding_fields_are_replaced() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\nForwarded: for=9.9.9.9;proto=https\r\n\
         X-Request-Id: mine-1\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let request = app.last();
    assert_eq!(request.field("x-forwarded-for"), "127.0.0.1");
    assert_eq!(request.field("x-forwarded-proto"), "http");
    assert_eq!(request.field("x-forwarded-host"), "shop.example");
    assert_eq!(request.field("forwarded"), "for=127.0.0.1;host=shop.example;proto=http");
    assert_eq!(request.field("x-request-id"), "mine-1");
    assert_eq!(balancer.record("/")["client"], "127.0.0.1");
}

/// As strangers send them, and what is left of them.
const CLAIMS: [&str; 12] = [
    "X_Forwarded_For",
    "x-forwarded_for",
    "X_FORWARDED_PROTO",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Scheme",
    "X-Real-IP",
    "X_Real_IP",
    "Client_Cert",
    "X_Request_Id",
];

#[test]
fn what_a_stranger_says_of_itself_reaches_no_server_in_any_spelling() {
    let app = App::saying("hello");
    let claims: String = CLAIMS.iter().map(|name| format!("{name}: 6.6.6.6\r\n")).collect();
    let ask = |balancer: &Balancer, version: &str| {
        let mut client = balancer.client();
        client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n{claims}X-End: 1\r\n\r\n"));
        assert_eq!(client.response().status, 200);
    };
    let said = |what: &str| {
        let request = app.last();
        assert!(request.has("x-end"), "{what}");
        let left = request.fields.into_iter().filter(|(_, value)| value.contains("6.6.6.6"));
        left.map(|(name, _)| name).collect::<Vec<_>>()
    };
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    for version in ["1.1", "1.0"] {
        ask(&balancer, version);
        assert_eq!(said(version), [""; 0], "{version}");
    }
    let mut connection = h2::Connection::new(balancer.address("web"));
    let names = CLAIMS.map(str::to_ascii_lowercase);
    let mut fields =
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("x-end", "1")];
    fields.extend(names.iter().map(|name| (name.as_str(), "6.6.6.6")));
    connection.fields(1, &fields, true);
    assert_eq!(connection.response(1).0, 200);
    assert_eq!(said("2"), [""; 0]);
    // A trusted proxy may speak for others, but not so that it could be mistaken.
    let balancer = Balancer::start(&plain(&[app.address], "trusted_proxies: [127.0.0.0/8]", ""));
    ask(&balancer, "1.1");
    let expected = ["port", "prefix", "server", "ssl", "scheme"].map(|name| format!("x-forwarded-{name}"));
    assert_eq!(said("trusted"), [&expected[..], &["x-real-ip".to_owned()]].concat());
}

#[test]
fn trailers_of_a_request_reach_no_server_that_could_take_them_for_fields() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    let seen = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("a connection");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n0\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a request");
            bytes.push(byte[0]);
        }
        say(&mut stream, "ok");
        String::from_utf8(bytes).expect("text")
    });
    let balancer = Balancer::start(&plain(&[address], "", ""));
    let mut client = balancer.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n");
    for part in ["X-Forwarded-For: 6.6.6.6\r\n", "Client-Cert", ": x\r\nX-Sum: 1\r\n", "\r\n"] {
        client.send(part);
    }
    assert_eq!(client.response().text(), "ok");
    let request = seen.join().expect("a request");
    assert!(request.ends_with("\r\n\r\n4\r\nbody\r\n0\r\n\r\n"), "{request}");
}

#[test]
fn a_trusted_proxy_that_speaks_rfc_7239_alone_is_believed() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "trusted_proxies: [127.0.0.0/8]", ""));
    let mut client = balancer.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: shop.example\r\n\
         Forwarded: for=\"192.0.2.7:4711\";proto=https;host=outer.example\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let request = app.last();
    assert_eq!(request.field("x-forwarded-for"), "192.0.2.7, 127.0.0.1");
    assert_eq!(request.field("x-forwarded-proto"), "https");
    assert_eq!(request.field("x-forwarded-host"), "outer.example");
    assert_eq!(balancer.record("/")["client"], "192.0.2.7");
}

#[test]
fn a_trusted_proxys_forwarding_fields_are_kept_and_added_to() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "trusted_proxies: [127.0.0.0/8]", ""));
    let mut client = balancer.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: outer.example\r\nForwarded: for=192.0.2.7;proto=https\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let request = app.last();
    assert_eq!(request.field("x-forwarded-for"), "192.0.2.7, 127.0.0.1");
    assert_eq!(request.field("x-forwarded-proto"), "https");
    assert_eq!(request.field("x-forwarded-host"), "outer.example");
    let forwarded = "for=192.0.2.7;proto=https, for=127.0.0.1;host=shop.example;proto=http";
    assert_eq!(request.field("forwarded"), forwarded);
    assert_eq!(balancer.record("/")["client"], "192.0.2.7");
}

#[test]
fn a_request_without_an_id_gets_one_of_its_own() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    for path in ["/1", "/2"] {
        client.get(path);
        let id = app.last().field("x-request-id");
        assert_eq!(id.len(), 32, "{id:?}");
        assert_eq!(balancer.record(path)["request_id"], id.as_str());
    }
    assert_ne!(app.requests()[0].field("x-request-id"), app.requests()[1].field("x-request-id"));
}

#[test]
fn fields_for_one_hop_go_no_further() {
    let app = App::new(|_, stream| {
        send(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, X-Server-Hop\r\nX-Server-Hop: 1\r\n\
             Keep-Alive: timeout=30\r\nX-End: 1\r\n\r\n",
        )
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, X-Client-Hop\r\nX-Client-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nTE: trailers\r\nProxy-Authorization: Basic abc\r\nProxy-Connection: keep-alive\r\n\
         Trailer: X-T\r\nUpgrade: h2c\r\nX-End: 1\r\n\r\n",
    );
    let response = client.response();
    let request = app.last();
    for name in ["x-client-hop", "keep-alive", "proxy-authorization", "proxy-connection", "upgrade"] {
        assert!(!request.has(name), "{name} went to the server: {:?}", request.field(name));
    }
    assert_eq!(request.field("x-end"), "1");
    for name in ["x-server-hop", "keep-alive"] {
        assert_eq!(response.field(name), "", "{name} went to the client");
    }
    assert_eq!(response.field("x-end"), "1");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let app = App::new(|request, stream| say(stream, &request.target));
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    let requests: String = (0..20)
        .map(|n| match n % 3 {
            0 => format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
            1 => format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
            _ => format!(
                "POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
            ),
        })
        .collect();
    client.send(requests);
    for n in 0..20 {
        assert_eq!(client.response().text(), format!("/{n}"));
    }
    let bodies: Vec<_> = app.requests().iter().map(|request| request.body.len()).collect();
    assert_eq!(bodies, (0..20).map(|n| [3, 0, 2][n % 3]).collect::<Vec<_>>());
}

#[test]
fn half_a_preface_does_not_outlive_the_head_deadline() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "timeouts: { request_header: 300ms }", ""));
    let mut client = balancer.client();
    client.send(&h2::PREFACE[..18]);
    let since = Instant::now();
    let answer = client.try_response();
    assert!(answer.is_none_or(|answer| answer.status == 408 || answer.status == 400));
    assert!(client.is_closed());
    assert!(since.elapsed() < Duration::from_secs(5), "took {:?}", since.elapsed());
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_and_then_the_answer() {
    let app = App::new(|request, stream| say(stream, &String::from_utf8_lossy(&request.body)));
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response_to_head().status, 100);
    client.send("body");
    assert_eq!(client.response().text(), "body");
}

#[test]
fn a_response_to_head_has_no_body() {
    let app = App::new(|request, stream| match request.method.as_str() {
        "HEAD" => send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        _ => say(stream, "hello"),
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to_head().field("content-length"), "5");
    assert_eq!(client.get("/").text(), "hello");
}

#[test]
fn bodies_pass_whole_in_both_directions() {
    let app = App::new(|request, stream| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let half = body.len() / 2;
        let (first, rest) = body.split_at(half);
        let chunks = format!("{:x}\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", first.len(), rest.len());
        send(stream, &format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"))
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    for size in [2, 1000, 8192, 65_536, 3_000_000] {
        let body = "0123456789".repeat(size / 10 + 1);
        let length = body.len();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"));
        let response = client.response();
        assert!(response.complete);
        assert!(response.body == body.as_bytes(), "{size} bytes with a length came back different");
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for part in body.as_bytes().chunks(5000) {
            client.send(format!("{:x}\r\n", part.len()));
            client.send(part);
            client.send("\r\n");
        }
        client.send("0\r\n\r\n");
        let response = client.response();
        assert!(response.body == body.as_bytes(), "{size} bytes in chunks came back different");
    }
}

#[test]
fn an_empty_last_data_frame_leaves_the_servers_connection_usable() {
    let app = App::new(|request, stream| say(stream, &format!("{} {}", request.target, request.body.len())));
    let balancer = Balancer::start(&format!("{ONE_CORE}{}", plain(&[app.address], "", "")));
    let mut connection = h2::Connection::new(balancer.address("web"));
    for n in 0..5 {
        let stream = 1 + 4 * n;
        connection.request(stream, "POST", "/post", false);
        connection.data(stream, b"four", false);
        connection.data(stream, b"", true);
        assert_eq!(connection.response(stream), (200, b"/post 4".to_vec()));
        connection.request(stream + 2, "GET", "/get", true);
        assert_eq!(connection.response(stream + 2), (200, b"/get 0".to_vec()));
    }
    assert_eq!(app.hits(), 10);
    assert_eq!(app.connections(), 1, "the connection to the server was not kept");
}

#[test]
fn h2_streams_run_beside_each_other() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |request, stream| {
        if request.target == "/slow" {
            held.wait();
        }
        say(stream, &request.target)
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut connection = h2::Connection::new(balancer.address("web"));
    connection.request(1, "GET", "/slow", true);
    connection.request(3, "GET", "/quick", true);
    assert_eq!(connection.response(3), (200, b"/quick".to_vec()));
    latch.open();
    assert_eq!(connection.response(1), (200, b"/slow".to_vec()));
    assert_eq!(balancer.record("/quick")["protocol"], "HTTP/2.0");
    assert_eq!(app.last().field("host"), "test");
}

#[test]
fn an_interim_response_is_passed_on_and_the_final_one_follows() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        say(stream, "hello")
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut response = client.response();
    while response.status < 200 {
        assert_eq!((response.status, response.field("link").as_str()), (103, "</a.css>"));
        response = client.response();
    }
    assert_eq!(response.text(), "hello");
    assert_eq!(client.get("/").status, 103);
}

#[test]
fn trailers_of_a_response_do_not_spoil_the_connection() {
    let app = App::new(|_, stream| {
        send(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
        )
    });
    let balancer = Balancer::start(&format!("{ONE_CORE}{}", plain(&[app.address], "", "")));
    let mut client = balancer.client();
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, "abc"));
        assert!(response.complete);
    }
}

#[test]
fn a_response_that_pauses_is_passed_on_as_it_comes() {
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked", "X-Until: the end"] {
        let latch = Latch::default();
        let held = latch.clone();
        let app = App::new(move |_, stream| {
            let (first, rest) = match head {
                "Transfer-Encoding: chunked" => ("5\r\nfirst\r\n", "5\r\nafter\r\n0\r\n\r\n"),
                _ => ("first", "after"),
            };
            send(stream, &format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{first}"));
            held.wait();
            send(stream, rest);
            Then::Close
        });
        let balancer = Balancer::start(&plain(&[app.address], "", ""));
        let mut client = balancer.client();
        // As of HTTP/1.0, so that the body comes as it is.
        client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        assert_eq!(client.response_to_head().status, 200);
        assert_eq!(client.bytes(5), b"first", "{head}");
        latch.open();
        assert_eq!(client.bytes(5), b"after", "{head}");
    }
}

#[test]
fn a_failing_servers_own_page_is_passed_on_when_no_other_is_left() {
    let app = App::new(|_, stream| status(stream, "503 Back Soon", "maintenance"));
    let balancer = Balancer::start(&plain(&[app.address], "", "retries: { max: 3 }"));
    let response = balancer.get("/");
    assert_eq!((response.status, response.text().as_str()), (503, "maintenance"));
    assert_eq!(app.hits(), 1);
    assert_eq!(balancer.outcome("/"), (503, "ok".to_owned()));
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn a_websocket_carries_bytes_both_ways() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let mut bytes = [0; 100];
        while let Ok(n @ 1..) = stream.read(&mut bytes) {
            let _ = stream.write_all(&bytes[..n]);
        }
        Then::Close
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst");
    let response = client.response_to_head();
    assert_eq!(response.status, 101);
    assert_eq!(response.field("upgrade").to_ascii_lowercase(), "websocket");
    assert_eq!(client.bytes(5), b"first");
    for text in ["one", "two", "three"] {
        client.send(text);
        assert_eq!(client.bytes(text.len()), text.as_bytes());
    }
    balancer.wait_for_in_flight(1.0);
    drop(client);
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.outcome("/ws"), (101, "ok".to_owned()));
}

#[test]
fn connection_close_is_honoured_on_both_sides() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/server-closes" => {
            send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            Then::Close
        }
        _ => say(stream, "ok"),
    });
    let balancer = Balancer::start(&format!("{ONE_CORE}{}", plain(&[app.address], "", "")));
    let mut client = balancer.client();
    assert_eq!(client.get("/server-closes").status, 200);
    assert_eq!(client.get("/a").status, 200, "the client's connection is its own");
    assert_eq!(client.get("/b").status, 200);
    assert_eq!(app.connections(), 2, "a closed connection is not used again, an open one is");
    client.send("GET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().field("connection"), "close");
    assert!(client.is_closed());
}

#[test]
fn a_body_that_ends_with_the_connection_is_passed_on_whole() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 200 OK\r\n\r\nuntil the end");
        Then::Close
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    let response = client.get("/");
    assert_eq!(response.text(), "until the end");
    assert!(response.complete);
    assert_eq!(balancer.outcome("/"), (200, "ok".to_owned()));
}

/// Answers as the path says: `/reset` breaks the connection, `/503` is that status.
fn failing() -> App {
    App::new(|request, stream| match request.target.as_str() {
        "/reset" => Then::Reset,
        "/close" => Then::Close,
        "/half" => {
            send(stream, "HTTP/1.1 200 OK\r\nContent-Le");
            Then::Close
        }
        path => status(stream, &format!("{} Told So", &path[1..]), "failed"),
    })
}

/// Each is sent to one of two servers that fail alike, then perhaps to the other.
const SENT: [(&str, &str, usize, u16); 17] = [
    ("GET", "/reset", 2, 502),
    ("GET", "/close", 2, 502),
    ("HEAD", "/reset", 2, 502),
    ("PUT", "/reset", 2, 502),
    ("DELETE", "/reset", 2, 502),
    ("POST", "/reset", 1, 502),
    ("POST", "/close", 1, 502),
    ("PATCH", "/reset", 1, 502),
    ("POST", "/half", 1, 502),
    ("GET", "/502", 2, 502),
    ("GET", "/503", 2, 503),
    ("GET", "/504", 2, 504),
    ("POST", "/502", 1, 502),
    ("POST", "/503", 1, 503),
    ("POST", "/504", 1, 504),
    ("GET", "/500", 1, 500),
    ("GET", "/429", 1, 429),
];

fn what_is_sent_again(version: &str) {
    for (method, path, sent, answer) in SENT {
        let (one, two) = (failing(), failing());
        let balancer = Balancer::start(&plain(&[one.address, two.address], "", ""));
        let mut client = balancer.client();
        let body = if matches!(method, "POST" | "PUT" | "PATCH") { "body" } else { "" };
        let length = body.len();
        let length = if length > 0 { format!("Content-Length: {length}\r\n") } else { String::new() };
        client.send(format!("{method} {path} {version}\r\nHost: a\r\n{length}\r\n{body}"));
        let response = client.response_to_head();
        let hits = (one.hits(), two.hits());
        let seen = [one.requests(), two.requests()];
        assert_eq!((hits.0 + hits.1, response.status), (sent, answer), "{method} {path}: {seen:#?}");
        assert!(hits.0 < 2 && hits.1 < 2, "{method} {path} went to one server twice");
        assert_eq!(balancer.record(path)["tries"], sent, "{method} {path}");
    }
}

#[test]
fn what_is_sent_again_and_what_is_not() {
    what_is_sent_again("HTTP/1.1");
}

#[test]
fn what_is_sent_again_for_an_http_1_0_client() {
    what_is_sent_again("HTTP/1.0");
}

#[test]
fn a_get_survives_a_server_that_resets_it() {
    let (bad, good) = (App::new(|_, _| Then::Reset), App::saying("good"));
    let balancer = Balancer::start(&plain(&[bad.address, good.address], "", ""));
    let mut client = balancer.client();
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert!(bad.hits() > 0);
    let retries = balancer.metric("evenkeel_retries_total", &[("reason", "reset")]);
    assert_eq!(retries, bad.hits() as f64);
}

#[test]
fn any_request_survives_a_server_that_takes_no_connection() {
    let (bad, good) = (Refusing::new(), App::saying("good"));
    let balancer = Balancer::start(&plain(&[bad.address, good.address], "", ""));
    let mut client = balancer.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "good");
        assert_eq!(client.post("/", "body").text(), "good");
    }
    assert!(good.requests().iter().all(|r| r.method == "GET" || r.body == b"body"));
    assert!(balancer.metric("evenkeel_retries_total", &[("reason", "connect")]) >= 2.0);
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_fails_no_get() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&format!("{ONE_CORE}{}", plain(&[app.address], "", "")));
    let mut client = balancer.client();
    for n in 1..20 {
        assert_eq!(client.get("/").status, 200);
        assert_eq!(app.hits(), n);
        app.close_connections();
    }
    assert!(balancer.records().iter().all(|record| record["why"] == "ok"));
}

/// A server that answers the first request of each connection, and breaks the connection at the second.
fn forgetful() -> App {
    let seen = std::sync::Mutex::new(std::collections::HashSet::new());
    App::new(move |request, stream| match seen.lock().expect("no panic").insert(request.connection) {
        true => say(stream, "hello"),
        false => Then::Reset,
    })
}

#[test]
fn a_get_is_sent_again_once_when_a_kept_connection_breaks_under_it() {
    for (retries, sent) in
        [("", 2), ("max: 3", 2), ("max: 0", 1), ("on: []", 1), ("on: [connect, 502]", 1), ("budget: 0%", 1)]
    {
        let app = forgetful();
        let pool = format!("retries: {{ {retries} }}");
        let balancer = Balancer::start(&format!("{ONE_CORE}{}", plain(&[app.address], "", &pool)));
        let mut client = balancer.client();
        assert_eq!(client.get("/first").status, 200);
        client.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n");
        let expected = if sent == 2 { 200 } else { 502 };
        assert_eq!(client.response().status, expected, "{retries}");
        assert_eq!(app.hits(), 1 + sent, "{retries}");
        let stale = balancer.metric("evenkeel_retries_total", &[("reason", "stale")]);
        assert_eq!(stale, (sent - 1) as f64, "{retries}");
        assert_eq!(balancer.record("/again")["tries"], sent, "{retries}");
        let second = Balancer::start(&format!("{ONE_CORE}{}", plain(&[app.address], "", &pool)));
        let mut connection = h2::Connection::new(second.address("web"));
        let before = app.hits();
        for (stream, status) in [(1, 200), (3, expected)] {
            connection.request(stream, "GET", "/h2", true);
            assert_eq!(connection.response(stream).0, status, "{retries} over HTTP/2");
        }
        assert_eq!(app.hits(), before + 1 + sent, "{retries} over HTTP/2");
    }
}

#[test]
fn a_server_that_breaks_a_new_connection_too_is_not_asked_a_third_time() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/first" => say(stream, "hello"),
        _ => Then::Reset,
    });
    let balancer =
        Balancer::start(&format!("{ONE_CORE}{}", plain(&[app.address], "", "retries: { max: 3 }")));
    let mut client = balancer.client();
    assert_eq!(client.get("/first").status, 200);
    assert_eq!(client.get("/again").status, 502);
    assert_eq!(app.hits(), 3);
}

#[test]
fn the_budget_is_for_servers_that_there_are() {
    let app = failing();
    let balancer = Balancer::start(&plain(&[app.address], "", "retries: { max: 3, budget: 1% }"));
    let mut client = balancer.client();
    for _ in 0..20 {
        assert_eq!(client.get("/503").status, 503);
    }
    // All ten retries are still in hand.
    let (one, two) = (app, failing());
    let text = plain(&[one.address, two.address], "", "retries: { max: 1, budget: 1% }");
    balancer.reload(&text);
    let before = one.hits();
    let mut client = balancer.client();
    for _ in 0..10 {
        assert_eq!(client.get("/503").status, 503);
    }
    assert_eq!(one.hits() - before + two.hits(), 20);
}

#[test]
fn a_post_on_a_kept_connection_that_breaks_is_not_sent_again() {
    let app = App::new(|request, stream| match request.method.as_str() {
        "GET" => say(stream, "hello"),
        _ => Then::Reset,
    });
    let balancer = Balancer::start(&format!("{ONE_CORE}{}", plain(&[app.address], "", "")));
    let mut client = balancer.client();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.post("/order", "one book").status, 502);
    assert_eq!(app.requests().iter().filter(|request| request.method == "POST").count(), 1);
    assert_eq!(balancer.outcome("/order"), (502, "server_reset".to_owned()));
}

#[test]
fn retries_stay_within_their_budget() {
    let (one, two) = (failing(), failing());
    let balancer = Balancer::start(&plain(&[one.address, two.address], "", "retries: { budget: 10% }"));
    let mut client = balancer.client();
    const REQUESTS: usize = 200;
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/503").status, 503);
    }
    let retries = one.hits() + two.hits() - REQUESTS;
    // Ten in hand at the start, and one for each ten requests.
    assert!((10..=30).contains(&retries), "{retries} retries of {REQUESTS} requests");
}

#[test]
fn a_servers_nonsense_is_not_passed_on() {
    for nonsense in [
        "not HTTP at all\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\nuryyb",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot-hex\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let app = App::new(move |_, stream| {
            send(stream, nonsense);
            wait_for_the_end(stream)
        });
        let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { response_header: 1s }"));
        let mut client = balancer.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.try_response();
        let refused = response.as_ref().is_none_or(|response| response.status == 502 || !response.complete);
        assert!(refused, "{nonsense:?} came through as {response:?}");
        balancer.wait_for_in_flight(0.0);
        assert_eq!(balancer.record("/")["why"], "server_malformed", "{nonsense:?}");
    }
}

#[test]
fn no_bytes_of_one_response_end_up_in_another() {
    // More than was announced: the rest must not answer the next request.
    let app = App::new(|request, stream| match request.target.as_str() {
        "/more" => send(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        ),
        _ => say(stream, "clean"),
    });
    let balancer = Balancer::start(&format!("{ONE_CORE}{}", plain(&[app.address], "", "")));
    for _ in 0..5 {
        assert_eq!(balancer.get("/more").text(), "ok");
        assert_eq!(balancer.get("/next").text(), "clean");
    }
}

#[test]
fn a_response_that_breaks_off_is_cut_and_never_completed() {
    let app = App::new(|request, stream| {
        match request.target.as_str() {
            "/length" => send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
            _ => send(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        };
        Then::Close
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    for path in ["/length", "/chunks"] {
        let response = balancer.get(path);
        assert!(!response.complete, "{path} looks complete");
        assert_eq!(balancer.outcome(path), (200, "server_reset".to_owned()), "{path}");
    }
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn an_early_answer_to_a_large_body_reaches_the_client() {
    let balancer_free = Latch::default();
    let app = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = app.local_addr().expect("an address");
    let done = balancer_free.clone();
    std::thread::spawn(move || {
        let (mut stream, _) = app.accept().expect("a connection");
        let mut some = [0; 1024];
        let _ = stream.read(&mut some);
        send(&mut stream, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        done.wait();
    });
    let balancer = Balancer::start(&plain(&[address], "", ""));
    let mut client = balancer.client();
    client.send("POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
    client.send("x".repeat(10_000));
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    balancer_free.open();
}

#[test]
fn routes_lead_by_host_path_and_method() {
    let (app, checkout, files) = (App::saying("app"), App::saying("checkout"), App::saying("files"));
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: shop }}\nroutes:\n  shop:\n    \
         - {{ match: {{ host: secure.shop.example }}, pool: checkout }}\n    \
         - {{ match: {{ path: /static/*, methods: [GET] }}, pool: files }}\n    \
         - {{ match: {{ host: \"*.shop.example\" }}, pool: app }}\n\
         pools:\n  app: {{ servers: [{}] }}\n  checkout: {{ servers: [{}] }}\n  files: {{ servers: [{}] }}\n",
        app.address, checkout.address, files.address
    );
    let balancer = Balancer::start(&text);
    let mut client = balancer.client();
    for (request, answer) in [
        ("GET / HTTP/1.1\r\nHost: secure.shop.example", "checkout"),
        ("GET / HTTP/1.1\r\nHost: SECURE.shop.example:8080", "checkout"),
        ("GET http://secure.shop.example/ HTTP/1.1\r\nHost: secure.shop.example", "checkout"),
        ("GET /static/a.css HTTP/1.1\r\nHost: www.shop.example", "files"),
        ("DELETE /static/a.css HTTP/1.1\r\nHost: www.shop.example", "app"),
        ("GET / HTTP/1.1\r\nHost: www.shop.example", "app"),
        ("GET / HTTP/1.1\r\nHost: elsewhere.example", "404 Not Found\n"),
    ] {
        client.send(format!("{request}\r\n\r\n"));
        assert_eq!(client.response().text(), answer, "{request}");
    }
}

#[test]
fn a_slow_reader_gets_everything() {
    // More than the sockets' buffers hold.
    let body = "0123456789abcdef".repeat(2_000_000);
    let sent = body.clone();
    let app = App::new(move |_, stream| say(stream, &sent));
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = Client::connect(balancer.address("web"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // The server has written what the buffers hold, and waits for us.
    wait_until("the request is in flight", || balancer.metric("evenkeel_server_in_flight", &[]) == 1.0);
    let response = client.response();
    assert!(response.complete && response.body == body.as_bytes());
}
