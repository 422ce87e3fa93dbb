//! What a response says of itself, whichever protocol client and server speak: its end, its connection's end, its date.

use crate::support::app::{App, Latch, Then, say, send};
use crate::support::balancer::{Balancer, plain};
use crate::support::h2::{self, Connection};
use crate::support::wait_until;
use std::io::Read;
use std::net::TcpListener;

fn each_kind(app: &App, check: impl Fn(&Balancer, &str)) {
    check(&Balancer::start(&plain(&[app.address], "", "")), "http1");
    let second = Balancer::start(&plain(&[app.address], "", ""));
    check(&Balancer::start(&plain(&[second.address("web")], "", "protocol: h2")), "h2");
}

#[test]
fn a_response_without_a_body_has_no_framing() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/length" => send(stream, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        "/chunked" => send(stream, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        _ => send(stream, "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    });
    each_kind(&app, |balancer, kind| {
        let mut client = balancer.client();
        for path in ["/length", "/chunked", "/not-modified"] {
            let response = client.get(path);
            let framing = (response.field("content-length"), response.field("transfer-encoding"));
            assert_eq!(framing, (String::new(), String::new()), "{kind} {path}");
        }
    });
}

#[test]
fn a_request_field_in_a_response_spoils_it_for_nobody() {
    let app = App::new(|_, stream| send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTE: x\r\n\r\nok"));
    each_kind(&app, |balancer, kind| {
        let mut client = Connection::new(balancer.address("web"));
        client.request(1, "GET", "/", true);
        assert_eq!(client.response(1), (200, b"ok".to_vec()), "{kind}");
        let response = balancer.get("/");
        assert_eq!((response.text(), response.field("te")), ("ok".to_owned(), String::new()), "{kind}");
    });
}

#[test]
fn a_response_before_the_end_of_its_request_says_that_its_connection_ends() {
    let done = Latch::default();
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    let held = done.clone();
    std::thread::spawn(move || {
        for stream in server.incoming().take(2) {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            send(&mut stream, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
            let held = held.clone();
            std::thread::spawn(move || {
                held.wait();
                drop(stream);
            });
        }
    });
    let balancer = Balancer::start(&plain(&[address], "", ""));
    for head in ["Content-Length: 10000000", "Transfer-Encoding: chunked"] {
        let mut client = balancer.client();
        client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.field("connection").as_str()), (403, "close"), "{head}");
        assert!(client.is_closed(), "{head}");
    }
    done.open();
}

#[test]
fn a_response_to_a_whole_request_leaves_its_connection_open() {
    let app = App::saying("hello");
    each_kind(&app, |balancer, kind| {
        let mut client = balancer.client();
        for _ in 0..3 {
            assert_eq!(client.post("/x", "body").field("connection"), "", "{kind}");
        }
    });
}

#[test]
fn an_upgrade_that_is_required_is_named_and_no_other() {
    let app = App::new(|request, stream| {
        let status = &request.target[1..];
        send(
            stream,
            &format!(
                "HTTP/1.1 {status} X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"
            ),
        )
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    let response = client.get("/426");
    assert_eq!(
        (response.field("upgrade"), response.field("connection")),
        ("websocket".into(), "Upgrade".into())
    );
    let response = client.get("/200");
    assert_eq!((response.field("upgrade"), response.field("connection")), (String::new(), String::new()));
}

#[test]
fn every_response_has_a_date_and_a_servers_own_stays() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/own" => send(stream, "HTTP/1.1 200 OK\r\nDate: yesterday\r\nContent-Length: 0\r\n\r\n"),
        _ => say(stream, "hello"),
    });
    each_kind(&app, |balancer, kind| {
        let mut client = balancer.client();
        assert_eq!(client.get("/own").field("date"), "yesterday", "{kind}");
        let date = client.get("/").field("date");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{kind}: {date:?}");
        let mut client = balancer.client();
        client.send("GET / HTTP/1.1\r\n\r\n");
        let refused = client.response();
        assert_eq!((refused.status, refused.field("date").len()), (400, 29), "{kind}");
        let mut connection = Connection::new(balancer.address("web"));
        connection.request(1, "GET", "/", true);
        assert_eq!(connection.response(1).0, 200, "{kind}");
    });
}

/// They stand for 5xx (RFC 9110 section 15), and there are servers that use them.
#[test]
fn a_status_beyond_those_of_http_is_passed_on() {
    let app = App::new(|request, stream| {
        send(stream, &format!("HTTP/1.1 {} Odd\r\nContent-Length: 2\r\n\r\nno", &request.target[1..]));
        Then::Keep
    });
    each_kind(&app, |balancer, kind| {
        let mut client = balancer.client();
        for (path, status) in [("/600", 600), ("/999", 999)] {
            let response = client.get(path);
            assert_eq!((response.status, response.text().as_str()), (status, "no"), "{kind}");
        }
        balancer.wait_for_metric("evenkeel_http_requests_total", &[("code", "5xx")], 2.0);
    });
}

#[test]
fn a_body_that_is_broken_from_the_start_is_answered_for_and_recorded_so() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
        crate::support::app::wait_for_the_end(stream)
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    for version in ["1.1", "1.0"] {
        let mut client = balancer.client();
        client.send(format!("GET /{version} HTTP/{version}\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.complete), (502, true), "{version}");
        let record = balancer.record(&format!("/{version}"));
        assert_eq!(
            (&record["status"], &record["why"]),
            (&502.into(), &"server_malformed".into()),
            "{version}"
        );
        assert_eq!(
            (&record["detail"], &record["bytes_out"]),
            (&"broken chunk".into(), &16.into()),
            "{version}"
        );
    }
    let mut connection = Connection::new(balancer.address("web"));
    connection.request(1, "GET", "/h2", true);
    assert_eq!(connection.response(1).0, 502);
    assert_eq!(balancer.outcome("/h2"), (502, "server_malformed".to_owned()));
}

/// What a server has sent before it breaks off, its client gets, and the record says so.
#[test]
fn a_response_cut_over_http2_is_recorded_as_the_client_has_it() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |_, stream| {
        send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789");
        held.wait();
        Then::Close
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    for (n, waits) in [(0, true), (1, false)] {
        let mut connection = Connection::new(balancer.address("web"));
        let path = format!("/{n}");
        connection.request(1, "GET", &path, true);
        let mut got = (0, 0, false);
        loop {
            let frame = connection.next().expect("the connection goes on");
            match frame.kind {
                h2::HEADERS => got.0 = h2::status(&frame.payload),
                h2::DATA => {
                    got.1 += frame.payload.len();
                    if waits {
                        latch.open();
                    }
                }
                h2::RST_STREAM => {
                    got.2 = true;
                    break;
                }
                _ => {}
            }
        }
        let record = balancer.record(&path);
        let told = (record["status"].as_u64().unwrap_or(0), record["bytes_out"].as_u64().unwrap_or(0));
        assert_eq!(record["why"], "server_reset");
        if got.0 == 200 {
            assert_eq!(told, (200, got.1 as u64), "{n}");
        } else {
            assert_eq!((told.0, got.1), (502, 0), "{n}");
        }
    }
}

#[test]
fn an_http2_request_without_a_body_says_so_to_a_server_that_might_wait_for_one() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut connection = Connection::new(balancer.address("web"));
    for (stream, method, length) in [(1, "POST", "0"), (3, "PUT", "0"), (5, "GET", ""), (7, "DELETE", "")] {
        connection.request(stream, method, "/x", true);
        assert_eq!(connection.response(stream).0, 200);
        assert_eq!(app.last().field("content-length"), length, "{method}");
    }
}

#[test]
fn a_call_by_grpc_web_is_told_of_our_errors_in_its_words() {
    let app = App::saying("hello");
    let drained = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\n\
         pools:\n  app: {{ servers: [{{ address: {}, drain: true }}], PROTOCOL }}\n",
        app.address
    );
    for protocol in ["protocol: http1", "protocol: h2"] {
        let balancer = Balancer::start(&drained.replace("PROTOCOL", protocol));
        for kind in ["application/grpc-web+proto", "application/grpc-web-text"] {
            let mut client = balancer.client();
            for _ in 0..2 {
                client.send(format!(
                    "POST /shop.Cart/Get HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: 4\r\n\r\nbody"
                ));
                let response = client.response();
                assert_eq!((response.status, response.text().as_str()), (200, ""), "{protocol}");
                assert_eq!(response.field("content-type"), kind, "{protocol}");
                assert_eq!(response.field("grpc-status"), "14", "{protocol}");
                assert_eq!(response.field("grpc-message"), "evenkeel: none_ready", "{protocol}");
            }
            let mut connection = Connection::new(balancer.address("web"));
            let fields = [
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/h2"),
                ("content-type", kind),
            ];
            connection.fields(1, &fields, true);
            assert_eq!(connection.response(1), (200, Vec::new()), "{protocol}");
        }
        let record = balancer.record("/shop.Cart/Get");
        assert_eq!(
            (&record["why"], &record["grpc_status"]),
            (&"none_ready".into(), &14.into()),
            "{protocol}"
        );
        let counted = |code| balancer.metric("evenkeel_http_requests_total", &[("code", code)]);
        // The last may be counted after its client has it.
        wait_until("all are counted", || counted("5xx") == 6.0);
        assert_eq!(counted("2xx"), 0.0, "{protocol}");
    }
}
