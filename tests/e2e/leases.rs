//! However an exchange ends, its lease is given back: `evenkeel_server_in_flight` is 0 again.

use crate::support::app::{App, Latch, Refusing, Silent, Then, say, send, wait_for_the_end};
use crate::support::balancer::{Balancer, outcome, plain};
use crate::support::{h2, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Waits until the app server has seen so many requests.
fn arrived(app: &App, n: usize) {
    wait_until(&format!("{n} requests at the app server"), || app.hits() >= n);
}

#[test]
fn when_the_client_leaves_before_the_response() {
    for how in ["closes", "resets"] {
        let app = App::new(|_, stream| wait_for_the_end(stream));
        let balancer = Balancer::start(&plain(&[app.address], "", ""));
        let mut client = balancer.client();
        client.send("GET /gone HTTP/1.1\r\nHost: a\r\n\r\n");
        arrived(&app, 1);
        balancer.wait_for_in_flight(1.0);
        if how == "resets" {
            client.reset()
        } else {
            drop(client)
        }
        balancer.wait_for_in_flight(0.0);
        assert_eq!(balancer.outcome("/gone"), (499, "client_aborted".to_owned()), "{how}");
        balancer.wait_for_failures("client_aborted", 1.0);
    }
}

#[test]
fn when_the_client_leaves_during_the_response() {
    for how in ["closes", "resets"] {
        let app = App::new(|_, stream| {
            // A client that closes may only have closed its half: what it does not take tells.
            send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            while send(stream, "half") == Then::Keep {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Then::Close
        });
        let balancer = Balancer::start(&plain(&[app.address], "", ""));
        let mut client = balancer.client();
        client.send("GET /gone HTTP/1.1\r\nHost: a\r\n\r\n");
        client.response_to_head();
        assert_eq!(client.bytes(4), b"half");
        balancer.wait_for_in_flight(1.0);
        if how == "resets" {
            client.reset()
        } else {
            drop(client)
        }
        balancer.wait_for_in_flight(0.0);
        assert_eq!(balancer.outcome("/gone"), (200, "client_aborted".to_owned()), "{how}");
    }
}

#[test]
fn when_the_client_leaves_in_the_middle_of_its_body() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send("POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf");
    balancer.wait_for_in_flight(1.0);
    drop(client);
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.outcome("/gone"), (499, "client_aborted".to_owned()));
}

#[test]
fn when_the_response_takes_too_long() {
    for (timeouts, why) in
        [("response_header: 200ms", "response_header_timeout"), ("request: 200ms", "request_timeout")]
    {
        let app = App::new(|_, stream| wait_for_the_end(stream));
        let timeouts = format!("timeouts: {{ {timeouts} }}");
        let balancer = Balancer::start(&plain(&[app.address], "", &timeouts));
        assert_eq!(balancer.get("/slow").status, 504, "{why}");
        assert_eq!(balancer.client().post("/post", "body").status, 504, "{why}");
        balancer.wait_for_in_flight(0.0);
        assert_eq!(balancer.outcome("/slow"), (504, why.to_owned()));
        assert_eq!(balancer.outcome("/post"), (504, why.to_owned()));
        balancer.wait_for_failures(why, 2.0);
    }
}

#[test]
fn when_the_response_stands_still() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        wait_for_the_end(stream)
    });
    let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { stream_idle: 200ms }"));
    let mut client = balancer.client();
    assert!(!client.get("/still").complete);
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.outcome("/still"), (200, "stream_idle".to_owned()));
}

#[test]
fn when_the_client_stops_reading() {
    let app = App::new(|_, stream| say(stream, &"x".repeat(30_000_000)));
    let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { stream_idle: 300ms }"));
    let mut client = balancer.client();
    client.send("GET /unread HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response_to_head();
    balancer.wait_for_in_flight(1.0);
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.outcome("/unread"), (200, "stream_idle".to_owned()));
}

#[test]
fn when_connecting_fails_and_another_server_is_tried() {
    let (refusing, good) = (Refusing::new(), App::saying("good"));
    let balancer = Balancer::start(&plain(&[refusing.address, good.address], "", ""));
    let mut client = balancer.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").status, 200);
    }
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn when_no_server_can_be_connected_to() {
    let (refusing, silent) = (Refusing::new(), Silent::new());
    for (address, status, why) in
        [(refusing.address, 502, "connect_failed"), (silent.address, 504, "connect_timeout")]
    {
        let balancer = Balancer::start(&plain(&[address], "", "timeouts: { connect: 200ms }"));
        let mut client = balancer.client();
        assert_eq!(client.get("/one").status, status, "{why}");
        balancer.wait_for_in_flight(0.0);
        assert_eq!(balancer.outcome("/one"), (status.into(), why.to_owned()));
        balancer.wait_for_failures(why, 1.0);
    }
}

#[test]
fn when_the_server_resets_before_or_during_its_response() {
    let app = App::new(|request, stream| {
        if request.target == "/during" {
            send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        }
        Then::Reset
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    assert_eq!(client.get("/before").status, 502);
    let mut client = balancer.client();
    assert!(!client.get("/during").complete);
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.outcome("/before"), (502, "server_reset".to_owned()));
    assert_eq!(outcome(&balancer.record("/during")).1, "server_reset");
}

fn websocket(stream: &mut TcpStream) {
    send(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Only a debug build, which this is, has the drill.
#[test]
fn when_serving_panics() {
    let app = App::new(|request, stream| {
        let drill = if request.target == "/drill" { "X-Evenkeel-Drill: 1\r\n" } else { "" };
        send(stream, &format!("HTTP/1.1 200 OK\r\n{drill}Content-Length: 2\r\n\r\nok"));
        Then::Keep
    });
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send("GET /drill HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_metric("evenkeel_panics_total", &[], 1.0);
    balancer.wait_for_in_flight(0.0);
    let record = balancer.record_where("the fault's record", |record| record["why"] == "internal");
    assert_eq!(record["status"], 500);
    assert_eq!(balancer.get("/after").status, 200, "the others do not notice");
    drop(client);
    balancer.wait_for_metric("evenkeel_connections", &[], 0.0);
}

#[test]
fn when_either_side_ends_a_websocket() {
    for how in ["client closes", "client resets", "server closes", "server resets"] {
        let latch = Latch::default();
        let held = latch.clone();
        let app = App::new(move |_, stream| {
            websocket(stream);
            match how {
                "server closes" | "server resets" => held.wait(),
                _ => drop(wait_for_the_end(stream)),
            }
            if how == "server resets" { Then::Reset } else { Then::Close }
        });
        let balancer = Balancer::start(&plain(&[app.address], "", ""));
        let mut client = balancer.client();
        client.send(UPGRADE);
        assert_eq!(client.response_to_head().status, 101);
        balancer.wait_for_in_flight(1.0);
        match how {
            "client closes" => drop(client),
            "client resets" => client.reset(),
            _ => {
                latch.open();
                assert!(client.is_closed(), "{how}");
            }
        }
        balancer.wait_for_in_flight(0.0);
        assert_eq!(balancer.record("/ws")["status"], 101, "{how}");
    }
}

#[test]
fn when_a_websocket_is_silent_for_too_long() {
    let app = App::new(|_, stream| {
        websocket(stream);
        wait_for_the_end(stream)
    });
    let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { tunnel_idle: 1s }"));
    let mut client = balancer.client();
    client.send(UPGRADE);
    assert_eq!(client.response_to_head().status, 101);
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.outcome("/ws"), (101, "tunnel_idle".to_owned()));
}

#[test]
fn between_the_requests_of_a_kept_connection() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    for _ in 0..5 {
        client.get("/");
        balancer.wait_for_in_flight(0.0);
    }
    assert_eq!(balancer.metric("evenkeel_connections", &[("listener", "web")]), 1.0);
}

#[test]
fn when_an_h2_stream_is_reset() {
    for during in [false, true] {
        let app = App::new(move |_, stream| {
            if during {
                send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            }
            wait_for_the_end(stream)
        });
        let balancer = Balancer::start(&plain(&[app.address], "", ""));
        let mut connection = h2::Connection::new(balancer.address("web"));
        connection.request(1, "GET", "/gone", true);
        arrived(&app, 1);
        while during && connection.next().is_some_and(|frame| frame.kind != h2::DATA) {}
        balancer.wait_for_in_flight(1.0);
        connection.reset(1);
        balancer.wait_for_in_flight(0.0);
        assert_eq!(balancer.outcome("/gone").1, "client_aborted", "during the response: {during}");
    }
}

#[test]
fn when_an_h2_connection_breaks() {
    let app = App::new(|_, stream| wait_for_the_end(stream));
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut connection = h2::Connection::new(balancer.address("web"));
    for stream in [1, 3, 5] {
        connection.request(stream, "GET", "/gone", true);
    }
    balancer.wait_for_in_flight(3.0);
    drop(connection);
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn when_an_h2_stream_takes_too_long() {
    let app = App::new(|_, stream| wait_for_the_end(stream));
    let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { response_header: 200ms }"));
    let mut connection = h2::Connection::new(balancer.address("web"));
    connection.request(1, "GET", "/slow", true);
    // The stream may also be reset.
    assert!(matches!(connection.response(1).0, 504 | 0));
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.outcome("/slow"), (504, "response_header_timeout".to_owned()));
}

#[test]
fn when_a_refused_body_ends_the_exchange() {
    let app = App::new(|_, stream| wait_for_the_end(stream));
    let balancer = Balancer::start(&plain(&[app.address], "limits: { request_body: 10B }", ""));
    let mut client = balancer.client();
    client.send("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    balancer.wait_for_in_flight(1.0);
    client.send("10\r\n0123456789abcdef\r\n0\r\n\r\n");
    assert_eq!(client.response().status, 413);
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn when_many_exchanges_end_in_every_way_at_once() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/reset" => Then::Reset,
        "/hang" => wait_for_the_end(stream),
        "/half" => {
            send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            Then::Close
        }
        _ => say(stream, "ok"),
    });
    let balancer = Balancer::start(&plain(&[app.address], "", "timeouts: { response_header: 500ms }"));
    let address = balancer.address("web");
    std::thread::scope(|scope| {
        for worker in 0..8 {
            scope.spawn(move || {
                for n in 0..40 {
                    let path = ["/ok", "/reset", "/hang", "/half"][(worker + n) % 4];
                    let mut stream = TcpStream::connect(address).expect("the listener takes connections");
                    let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
                    if n % 3 > 0 {
                        let _ = stream.read(&mut [0; 64]);
                    }
                }
            });
        }
    });
    balancer.wait_for_in_flight(0.0);
    wait_until("a record for each", || balancer.records().len() == 320);
}
