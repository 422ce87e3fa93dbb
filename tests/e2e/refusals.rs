//! What is recorded of requests that were refused, or that broke off before they were whole.

use crate::support::app::{App, Latch};
use crate::support::balancer::{Balancer, plain};
use crate::support::h2::{self, Connection};
use crate::support::wait_until;
use serde_json::Value;
use std::net::TcpStream;

const LIMITED: &str = "limits: { request_headers: 4KiB }";

/// Records, without those of a request that tells that all before it is there.
#[track_caller]
fn records_before(balancer: &Balancer, mark: &str) -> Vec<Value> {
    let _ = balancer.get(mark);
    let _ = balancer.record(mark);
    balancer.records().into_iter().filter(|record| record["path"] != mark).collect()
}

fn told(record: &Value) -> (u64, &str, &str) {
    let text = |name: &str| record[name].as_str().unwrap_or_default();
    (record["status"].as_u64().unwrap_or_default(), text("why"), text("detail"))
}

/// Fields of so many bytes, in frames that are as long as they may be.
fn long_block(stream: u32, head: &[u8], bytes: usize) -> Vec<u8> {
    let value = "~".repeat(1000);
    let fields: Vec<_> = (0..bytes / 1000).map(|n| (format!("x{n}"), value.clone())).collect();
    let block = [head, &h2::block(&fields)].concat();
    let parts: Vec<_> = block.chunks(16_000).collect();
    let last = parts.len() - 1;
    let frame = |(n, part): (usize, &&[u8])| match n {
        0 => {
            h2::frame(h2::HEADERS, h2::END_STREAM | if last == 0 { h2::END_HEADERS } else { 0 }, stream, part)
        }
        n => h2::frame(h2::CONTINUATION, if n == last { h2::END_HEADERS } else { 0 }, stream, part),
    };
    parts.iter().enumerate().flat_map(frame).collect()
}

#[test]
fn a_request_that_broke_off_in_its_head_is_recorded() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    for begun in
        ["GET /half HTTP/1.1\r\nHost: a\r\n", "GE", "\r\nGET /half HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM"]
    {
        let before = balancer.records().len();
        let mut client = balancer.client();
        client.send(begun);
        client.finish_sending();
        assert!(client.is_closed(), "{begun:?}");
        wait_until("it is recorded", || balancer.records().len() > before);
        let record = balancer.records().pop().expect("a record");
        assert_eq!(told(&record), (499, "client_aborted", "head incomplete"), "{begun:?}");
        assert_eq!(record["request_id"], Value::Null, "{begun:?}");
    }
    assert_eq!(balancer.record("/half")["method"], "GET");
    // The second request of a connection.
    let before = balancer.records().len();
    let mut client = balancer.client();
    assert_eq!(client.get("/whole").status, 200);
    client.send("POST /second HTTP/1.1\r\n");
    client.finish_sending();
    assert!(client.is_closed());
    wait_until("both are recorded", || balancer.records().len() == before + 2);
    assert_eq!(told(&balancer.record("/second")).1, "client_aborted");
    balancer.wait_for_failures("client_aborted", 5.0);
}

#[test]
fn a_client_that_leaves_without_a_word_is_no_event() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    for sent in ["", "\r\n"] {
        let mut client = balancer.client();
        client.send(sent);
        client.finish_sending();
        assert!(client.is_closed());
    }
    let mut client = balancer.client();
    assert_eq!(client.get("/kept").status, 200);
    client.finish_sending();
    assert!(client.is_closed());
    drop(Connection::new(balancer.address("web")));
    let mut client = Connection::new(balancer.address("web"));
    client.request(1, "GET", "/kept-too", true);
    assert_eq!(client.response(1).0, 200);
    drop(client);
    let records = records_before(&balancer, "/mark");
    assert_eq!(records.iter().filter(|record| record["why"] != "ok").count(), 0, "{records:?}");
    assert_eq!(records.len(), 2, "{records:?}");
}

#[test]
fn an_empty_line_behind_a_request_is_no_beginning_of_another() {
    let app = App::saying("hello");
    // What rests for so long would else be over with 408 much sooner.
    let timeouts = "timeouts: { request_header: 50ms, idle: 400ms }";
    let balancer = Balancer::start(&plain(&[app.address], timeouts, ""));
    for empty in ["\r", "\r\n"] {
        let mut client = balancer.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab{empty}"));
        assert_eq!(client.response().status, 200);
        let (rest, _) = client.read_to_end();
        assert_eq!(rest, "", "{empty:?}");
        let mut client = balancer.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab{empty}"));
        assert_eq!(client.response().status, 200);
        client.send(format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", &"\r\n"[empty.len()..]));
        assert_eq!(client.response().status, 200, "{empty:?}");
    }
    wait_until("six records", || balancer.records().len() == 6);
    assert!(balancer.records().iter().all(|record| record["why"] == "ok"), "{:?}", balancer.records());
}

#[test]
fn a_head_that_is_refused_has_no_body_where_head_was_asked() {
    let app = App::saying("hello");
    let text = plain(&[app.address], "timeouts: { request_header: 300ms }", "");
    let balancer = Balancer::start(&text);
    for (head, status) in [
        ("HEAD / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), 400),
        (format!("\r\nHEAD / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70_000)), 431),
        ("HEAD / HTTP/2.5\r\nHost: a\r\n\r\n".to_owned(), 505),
        ("HEAD / HTTP/1.1\r\nHo".to_owned(), 408),
    ] {
        let mut client = balancer.client();
        client.send(head);
        let (answer, _) = client.read_to_end();
        let (answer, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\ncontent-length: "), "{answer}");
        assert_eq!(body, "", "{status}");
        let record = balancer.record_where("of it", |record| record["status"] == status);
        assert_eq!(record["bytes_out"], 0, "{record}");
    }
}

#[test]
fn half_a_header_block_is_a_request_once_and_not_one_that_is_too_long() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let head =
        h2::block(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/in-two")]);
    let frame = h2::frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &head);
    let (first, rest) = frame.split_at(30);
    let mut client = Connection::new(balancer.address("web"));
    client.send(first);
    // What is answered has been read, and what came before it.
    let mut other = Connection::new(balancer.address("web"));
    assert!(other.is_alive());
    client.send(rest);
    assert_eq!(client.response(1).0, 200);
    let socket = TcpStream::connect(balancer.address("web")).expect("the listener takes connections");
    let mut leaving = Connection::over(socket.try_clone().expect("a socket can be shared"));
    leaving.send(first);
    socket.shutdown(std::net::Shutdown::Write).expect("it was open");
    while leaving.any().is_some() {}
    let record = balancer.record_where("of half a head", |record| record["why"] == "client_aborted");
    assert_eq!(told(&record), (499, "client_aborted", "head incomplete"));
    let records = records_before(&balancer, "/mark");
    assert_eq!(records.len(), 2, "{records:?}");
}

#[test]
fn the_answers_to_refused_heads_are_counted() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], LIMITED, ""));
    let long = "x".repeat(5000);
    for (n, (fields, status)) in [("X : 1", 400), (&*format!("X: {long}"), 431)].into_iter().enumerate() {
        let mut client = balancer.client();
        client.send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.status, status);
        let record = balancer.record(&format!("/{n}"));
        assert_eq!(record["bytes_out"].as_u64(), Some(response.body.len() as u64), "{status}");
        assert!(record["request_id"].is_string());
    }
    for (n, (method, field, status)) in
        [("GET", ("x", " 1"), 400), ("GET", ("x", &*long), 431), ("HEAD", ("x", " 1"), 400)]
            .into_iter()
            .enumerate()
    {
        let path = format!("/h2-{n}");
        let mut client = Connection::new(balancer.address("web"));
        let fields = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", &path), field];
        client.fields(1, &fields, true);
        let (got, body) = client.response(1);
        assert_eq!((got, body.is_empty()), (status, method == "HEAD"));
        assert_eq!(balancer.record(&path)["bytes_out"].as_u64(), Some(body.len() as u64), "{path}");
    }
}

#[test]
fn a_head_that_nobody_can_read_is_none_that_is_too_long() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    for (block, count) in [(&b"\xff\xff\xff\xff\x0f"[..], 1), (b"\x00\x05x", 2), (b"\xc6", 3)] {
        let mut client = Connection::new(balancer.address("web"));
        client.request(1, "POST", "/neighbour", false);
        client.data(1, b"body", false);
        assert!(client.is_alive());
        client.frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 3, block);
        while client.any().is_some() {}
        wait_until("both are recorded", || balancer.records().len() >= 2 * count);
    }
    let (neighbours, records): (Vec<_>, Vec<_>) =
        records_before(&balancer, "/mark").into_iter().partition(|record| record["path"] == "/neighbour");
    let broken = (444, "malformed", "the client broke HTTP/2 on the connection");
    assert!(neighbours.iter().all(|record| told(record) == broken), "{neighbours:?}");
    assert!(records.iter().all(|record| told(record) == (0, "malformed", "protocol")), "{records:?}");
    assert_eq!(records.len(), 3, "{records:?}");
    assert_eq!(balancer.metric("evenkeel_http2_abuse_total", &[("kind", "protocol")]), 3.0);
}

#[test]
fn fields_below_the_documented_bound_end_their_stream_and_not_the_connection() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], LIMITED, ""));
    let post =
        h2::block(&[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/trailers")]);
    for bytes in [10_000, 40_000, 60_000, 64_000] {
        let mut client = Connection::new(balancer.address("web"));
        let head =
            h2::block(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/head")]);
        client.send(&long_block(1, &head, bytes));
        assert_eq!(client.response(1).0, 431, "{bytes} of a head");
        client.frame(h2::HEADERS, h2::END_HEADERS, 3, &post);
        client.data(3, b"body", false);
        client.send(&long_block(3, b"", bytes));
        assert!(matches!(client.response(3).0, 0 | 431), "{bytes} of trailers");
        client.request(5, "GET", "/neighbour", true);
        assert_eq!(client.response(5).0, 200, "{bytes}");
    }
    assert_eq!(balancer.metric("evenkeel_http2_abuse_total", &[]), 0.0);
    assert_eq!(app.hits(), 4);
}

/// The head of a POST of `/a` with a body.
const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/a")];

#[test]
fn a_request_with_malformed_trailers_is_malformed_whenever_they_come() {
    let app = App::saying("hello");
    let server = Balancer::start(&plain(&[app.address], "", ""));
    for (address, protocol) in [(server.address("web"), "h2"), (app.address, "http1")] {
        for (block, detail) in [
            (&b"\x00\x0aconnection\x01x"[..], "reset by the HTTP/2 codec"),
            (b"\x00\x05:path\x02/x", "trailers with pseudo-fields"),
            (b"\x84", "trailers with pseudo-fields"),
            (b"\x00\x04:foo\x01x", "an unknown pseudo-field"),
            (b"\x00\x01X\x011", "a capital letter in a field's name"),
            (b"\x00\x01x\x02a\0", "a control character in a field's value"),
        ] {
            for together in 0..3 {
                if together == 2 && detail.starts_with("reset") {
                    // The codec never hands it out.
                    continue;
                }
                // Nothing is kept: the connection to the server is opened while the trailers come.
                let balancer = Balancer::start(&plain(&[address], "", &format!("protocol: {protocol}")));
                let mut client = Connection::new(balancer.address("web"));
                assert!(client.is_alive());
                let parts = [
                    h2::frame(h2::HEADERS, h2::END_HEADERS, 1, &h2::block(&POST)),
                    h2::frame(h2::DATA, 0, 1, b"body"),
                    h2::frame(h2::HEADERS, 0x5, 1, block),
                ];
                let (alone, rest) = parts.split_at(2 - together);
                for part in alone {
                    client.send(part);
                    assert!(client.is_alive(), "what came before is with its exchange");
                }
                client.send(&rest.concat());
                assert_eq!(client.response(1).0, 0, "{protocol} {together} {detail}");
                let record = balancer.record("/a");
                assert_eq!(told(&record), (444, "malformed", detail), "{protocol} {together}");
                assert!(client.is_alive(), "others go on");
            }
        }
    }
}

#[test]
fn a_request_with_a_malformed_head_is_reset_and_recorded_as_itself() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = Connection::new(balancer.address("web"));
    let faults = [
        (&b"\x00\x01X\x011"[..], "a capital letter in a field's name"),
        (b"\x00\x03a b\x011", "a character that no field's name may have"),
        (b"\x00\x01x\x02a\0", "a control character in a field's value"),
        (b"\x00\x84\xfc\x5a\xf0\xeb\x011", "a capital letter in a field's name"),
    ];
    for (n, (field, detail)) in faults.into_iter().enumerate() {
        let (stream, path) = (1 + 2 * n as u32, format!("/{n}"));
        let head = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", &*path)];
        client.frame(h2::HEADERS, 0x5, stream, &[&h2::block(&head), field].concat());
        assert_eq!(client.response(stream).0, 0, "{detail}");
        assert_eq!(told(&balancer.record(&path)), (444, "malformed", detail));
    }
    assert!(client.is_alive() && app.requests().is_empty());
}

#[test]
fn who_breaks_http2_on_a_connection_has_not_left() {
    let latch = Latch::default();
    let app = App::holding("late", &latch);
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = Connection::new(balancer.address("web"));
    client.request(1, "GET", "/held", true);
    client.fields(3, &POST, false);
    client.data(3, b"body", false);
    assert!(client.is_alive());
    wait_until("both are on their way", || app.connections() == 2);
    // An index that nothing has.
    client.frame(h2::HEADERS, 0x5, 3, b"\xff\xff\xff\x0f");
    for path in ["/held", "/a"] {
        let record = balancer.record(path);
        assert_eq!(told(&record), (444, "malformed", "the client broke HTTP/2 on the connection"), "{path}");
    }
    latch.open();
}
