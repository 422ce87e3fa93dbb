//! Trailers of requests and responses, whichever versions of HTTP meet: what passes, what does not, and what they must not have.

use crate::h2_exchange::by_hand;
use crate::support::app::{App, send};
use crate::support::balancer::{Balancer, plain};
use crate::support::h2::{self, Connection};
use std::io::{Read, Write};
use std::net::TcpListener;

/// A server of HTTP/2 that answers with these header blocks, and a body between the last two if there are more than one; the last ends
/// the stream.
fn answering(blocks: &[&[u8]]) -> std::net::SocketAddr {
    let blocks: Vec<_> = blocks.iter().map(|block| block.to_vec()).collect();
    by_hand(move |stream, id, _| {
        let (last, before) = blocks.split_last().expect("there is one");
        for (n, block) in before.iter().enumerate() {
            let _ = stream.write_all(&h2::frame(h2::HEADERS, h2::END_HEADERS, id, block));
            if n + 1 == before.len() {
                let _ = stream.write_all(&h2::frame(h2::DATA, 0, id, b"body"));
            }
        }
        let flags = h2::END_HEADERS | h2::END_STREAM;
        let _ = stream.write_all(&h2::frame(h2::HEADERS, flags, id, last));
    })
}

/// The code of the reset that a stream of the connection ends with, if it does.
fn reset_of(client: &mut Connection) -> Option<u32> {
    loop {
        let frame = client.next().expect("the connection goes on");
        match frame.kind {
            h2::RST_STREAM => {
                return Some(u32::from_be_bytes(frame.payload[..].try_into().expect("a code")));
            }
            _ if frame.ends_stream() => return None,
            _ => {}
        }
    }
}

#[test]
fn a_responses_trailers_have_no_pseudo_fields() {
    const INTERNAL_ERROR: u32 = 2;
    for (blocks, is_malformed) in [
        (&[&b"\x88"[..], b"\x88"][..], true),
        (&[b"\x88", b"\x00\x07:status\x03200"], true),
        (&[b"\x88", b"\x82"], true),
        (&[b"\x88", b"\x00\x0aconnection\x05close"], true),
        // By its place in the table of the connection.
        (&[b"\x48\x03201", b"\xbe"], true),
        (&[b"\x48\x03103", b"\x88\x40\x01x\x011", b"\xbf"], true),
        (&[b"\x48\x03103", b"\x88\x40\x01x\x011", b"\xbe"], false),
        (&[b"\x88", b""], false),
        (&[b"\x88", b"\x00\x05x-sum\x011"], false),
    ] {
        let balancer = Balancer::start(&plain(&[answering(blocks)], "", "protocol: h2"));
        let mut client = Connection::new(balancer.address("web"));
        client.request(1, "GET", "/h2", true);
        let expected = is_malformed.then_some(INTERNAL_ERROR);
        assert_eq!(reset_of(&mut client), expected, "{blocks:02x?}");
        let mut h1 = balancer.client();
        h1.send("GET /h1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let (said, _) = h1.read_to_end();
        assert_eq!(said.ends_with("\r\n0\r\n\r\n"), !is_malformed, "{blocks:02x?}: {said}");
        for path in ["/h1", "/h2"] {
            let record = balancer.record(path);
            let told = if is_malformed { "server_malformed" } else { "ok" };
            assert_eq!(record["why"], told, "{blocks:02x?} {path}");
        }
    }
}

#[test]
fn a_responses_head_has_no_pseudo_field_of_a_request() {
    for (blocks, is_malformed) in [
        (&[&b"\x88\x84"[..]][..], true),
        (&[b"\x88\x04\x02/a", b""], true),
        (&[b"\x48\x03103\x82", b"\x88", b""], true),
        (&[b"\x48\x03103", b"\x88\x82", b""], true),
        (&[b"\x48\x03103", b"\x88", b""], false),
        // A call that has failed is answered by a head alone.
        (&[b"\x88\x00\x0bgrpc-status\x0212"], false),
    ] {
        let retries = "protocol: h2, retries: { max: 0 }";
        let balancer = Balancer::start(&plain(&[answering(blocks)], "", retries));
        let mut client = Connection::new(balancer.address("web"));
        let fields = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/a")];
        client.fields(1, &fields, true);
        let _ = reset_of(&mut client);
        let record = balancer.record("/a");
        let expected = if is_malformed { (502, "server_malformed") } else { (200, "ok") };
        assert_eq!(
            (record["status"].as_u64(), &record["why"]),
            (Some(expected.0), &expected.1.into()),
            "{blocks:02x?}"
        );
    }
}

#[test]
fn a_malformed_response_harms_no_neighbour_and_is_not_asked_for_again() {
    let capital = "a capital letter in a field's name";
    let control = "a control character in a field's value";
    let others = "a response with a request's pseudo-fields";
    let trailers = "trailers with pseudo-fields";
    let unknown = "an unknown pseudo-field";
    let status = "a status of other than three digits";
    // `X-Cap: 1` and `x: a\0b` in Huffman's code.
    let coded_name = &b"\x88\x00\x84\xfc\x5a\xf0\xeb\x011"[..];
    let coded_value = &b"\x88\x00\x01x\x83\x1f\xfe\x23"[..];
    for (blocks, detail) in [
        (&[&b"\x88\x00\x05X-Cap\x011"[..]][..], capital),
        (&[b"\x88\x40\x05X-Cap\x011"], capital),
        (&[coded_name], capital),
        (&[b"\x88\x00\x03a b\x011"], "a character that no field's name may have"),
        (&[b"\x88\x00\x01x\x03a\0b"], control),
        (&[b"\x88\x0f\x0a\x03a\r\n"], control),
        (&[coded_value], control),
        (&[b"\x88\x00\x04:foo\x011"], unknown),
        (&[b"\x88\x00\x01x\x011\x00\x04:foo\x011"], unknown),
        (&[b"\x88\x04\x02/\xff"], others),
        (&[b"\x48\x03099"], status),
        (&[b"\x48\x032xx"], status),
        (&[b"\x48\x03101", b""], "an upgrade nobody asked for"),
        (&[b"\x48\x03103\x00\x01X\x011", b"\x88", b""], capital),
        (&[b"\x48\x03103\x0f\x0d\x015", b"\x88", b""], "an interim response with Content-Length"),
        (&[b"\x88", b"\x00\x05X-Cap\x011"], capital),
        (&[b"\x88", b"\x00\x01x\x03a\0b"], control),
        (&[b"\x88", b"\x00\x04:foo\x011"], unknown),
        (&[b"\x88", b"\x04\x01/"], trailers),
    ] {
        let blocks: Vec<_> = blocks.iter().map(|block| block.to_vec()).collect();
        let (asked, is_asked) = std::sync::mpsc::channel();
        let address = by_hand(move |stream, id, _| {
            let _ = asked.send(id);
            if id == 1 {
                let _ = stream.write_all(&h2::frame(h2::HEADERS, h2::END_HEADERS, 1, b"\x88"));
                return;
            }
            let (last, before) = blocks.split_last().expect("there is one");
            for (n, block) in before.iter().enumerate() {
                let _ = stream.write_all(&h2::frame(h2::HEADERS, h2::END_HEADERS, id, block));
                if n + 1 == before.len() {
                    let _ = stream.write_all(&h2::frame(h2::DATA, 0, id, b"body"));
                }
            }
            let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x5, id, last));
            let _ = stream.write_all(&h2::frame(h2::DATA, h2::END_STREAM, 1, b"whole"));
        });
        let pool = "protocol: h2, retries: { max: 2 }";
        let one_core = format!("process: {{ threads: 1 }}\n{}", plain(&[address], "", pool));
        let balancer = Balancer::start(&one_core);
        let mut client = Connection::new(balancer.address("web"));
        client.request(1, "GET", "/neighbour", true);
        assert_eq!(is_asked.recv(), Ok(1));
        client.request(3, "GET", "/bad", true);
        let record = balancer.record("/bad");
        let told = (&record["why"], &record["detail"], &record["tries"]);
        assert_eq!(told, (&"server_malformed".into(), &detail.into(), &1.into()), "{detail}");
        let record = balancer.record("/neighbour");
        assert_eq!((&record["why"], &record["bytes_out"]), (&"ok".into(), &5.into()), "{detail}");
        assert_eq!(is_asked.try_iter().count(), 1, "{detail}");
    }
}

/// A connection that breaks all the same is no fault of those who share it.
#[test]
fn who_shares_a_connection_that_breaks_is_told_so() {
    let (asked, is_asked) = std::sync::mpsc::channel();
    let address = by_hand(move |stream, id, _| {
        let _ = asked.send(id);
        if id == 3 {
            // A field without a name: nothing can stand in its place.
            let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x5, 3, b"\x88\x00\x00\x011"));
        }
    });
    let pool = "protocol: h2, retries: { max: 0 }";
    let balancer = Balancer::start(&format!("process: {{ threads: 1 }}\n{}", plain(&[address], "", pool)));
    let mut client = Connection::new(balancer.address("web"));
    client.request(1, "POST", "/neighbour", true);
    assert_eq!(is_asked.recv(), Ok(1));
    client.request(3, "GET", "/bad", true);
    let record = balancer.record("/bad");
    let told = (&record["why"], &record["detail"], &record["tries"]);
    assert_eq!(told, (&"server_malformed".into(), &"a field without a name".into(), &1.into()));
    let record = balancer.record("/neighbour");
    let told = (&record["why"], &record["detail"]);
    assert_eq!(told, (&"server_reset".into(), &"the server broke HTTP/2 on the connection".into()));
}

/// What no request is answered with, no server is healthy by.
#[test]
fn probes_by_http2_take_for_malformed_what_requests_are_not_answered_with() {
    const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
    let (others, trailers) = ("a response with a request's pseudo-fields", "trailers with pseudo-fields");
    let end = &b"\x00\x0bgrpc-status\x010"[..];
    let mut endless = vec![&b"\x48\x03103"[..]; 65];
    endless.extend([&b"\x88"[..], end]);
    for (blocks, expected) in [
        (&[&b"\x88"[..], end][..], None),
        (&[b"\x48\x03103", b"\x88", end], None),
        (&[b"\x88\x84", end], Some(others)),
        (&[b"\x48\x03103\x82", b"\x88", end], Some(others)),
        (&[b"\x48\x03103", b"\x88\x82", end], Some(others)),
        (&[b"\x48\x03101", b"\x88", end], Some("an upgrade nobody asked for")),
        (&[b"\x88\x0f\x0d\x017\x0f\x0d\x017", end], Some("more than one Content-Length")),
        (&[b"\x48\x03103\x0f\x0d\x017", b"\x88", end], Some("an interim response with Content-Length")),
        (&[b"\x88\x00\x01X\x011", end], Some("a capital letter in a field's name")),
        (&[b"\x48\x03099", end], Some("a status of other than three digits")),
        (&endless[..], Some("more than 64 interim responses")),
        (&[b"\x88", b"\x88\x00\x0bgrpc-status\x010"], Some(trailers)),
        (&[b"\x88", b"\x82\x00\x0bgrpc-status\x010"], Some(trailers)),
    ] {
        let (last, before) = blocks.split_last().expect("there is one");
        let headers = |flags, block: &[u8]| h2::frame(h2::HEADERS, h2::END_HEADERS | flags, 1, block);
        let mut frames: Vec<u8> = before.iter().flat_map(|block| headers(0, block)).collect();
        frames.extend(h2::frame(h2::DATA, 0, 1, SERVING));
        frames.extend(headers(h2::END_STREAM, last));
        let server = h2::answering(frames);
        for probe in ["http: /", "grpc: {}"] {
            let pool = format!("protocol: h2, health: {{ {probe}, interval: 20ms, fall: 1, rise: 1 }}");
            let balancer = Balancer::start(&plain(&[server], "", &pool));
            // An `http` probe goes by the head.
            let expected = expected.filter(|_| probe != "http: /" || expected != Some(trailers));
            let report = balancer.command(&["probe", "app/s1", "--json"]);
            assert_eq!(report.0, Some(i32::from(expected.is_some())), "{blocks:02x?}: {report:?}");
            if let Some(expected) = expected {
                assert!(report.1.contains(expected), "{blocks:02x?}: {report:?}");
            }
        }
    }
}

/// What a server says behind its body, and what a client gets of it.
const LINES: &str = "X-Secret: t\r\nContent-Length: 9\r\nTRANSFER-ENCODING: chunked\r\nX-Sum: 1\r\nSet_Cookie: e=1\r\n\
                     x.secret: t\r\nX-Set: theirs\r\nServer-Timing: a\r\nLocation: /b\r\nx-sum: 2\r\n";
const KEPT: &str = "X-Sum: 1\r\nServer-Timing: a\r\nx-sum: 2\r\n";

/// The rule's changes of what servers say.
const RULES: &str = "policies: { all: { response_headers: { remove: [X-Secret], set: { X-Set: ours } } } }\n";

#[test]
fn what_a_response_says_behind_its_chunks_frames_and_routes_nothing() {
    for (cut, body) in [(usize::MAX, "4\r\nbody\r\n0\r\n"), (1, "4\r\nbody\r\n0\r\n"), (7, "0\r\n")] {
        let app = App::new(move |_, stream| {
            let _ = stream.set_nodelay(true);
            send(stream, "HTTP/1.1 200 OK\r\nX-Secret: h\r\nTransfer-Encoding: chunked\r\n\r\n");
            let rest = format!("{body}{LINES}\r\n");
            let (first, rest) = rest.split_at(rest.len().saturating_sub(cut));
            for part in first.as_bytes().chunks(cut.max(16)) {
                send(stream, std::str::from_utf8(part).expect("text"));
            }
            send(stream, rest)
        });
        let text = plain(&[app.address], "policy: all", "") + RULES;
        let balancer = Balancer::start(&text);
        let mut client = balancer.client();
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
            let head = client.head().expect("a response");
            assert_eq!(
                (head.status, head.field("x-secret"), head.field("x-set")),
                (200, String::new(), "ours".to_owned())
            );
            let expected = format!("{body}{KEPT}\r\n");
            let got = String::from_utf8(client.bytes(expected.len())).expect("text");
            assert_eq!(got, expected, "cut at {cut}");
        }
    }
}

#[test]
fn what_is_taken_out_of_responses_is_taken_out_of_their_trailers_by_http2_too() {
    let address = by_hand(|stream, id, _| {
        let _ = stream.write_all(&h2::frame(h2::HEADERS, h2::END_HEADERS, id, b"\x88"));
        let _ = stream.write_all(&h2::frame(h2::DATA, 0, id, b"body"));
        let lines = LINES.to_ascii_lowercase();
        let fields: Vec<_> = lines
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| *name != "transfer-encoding")
            .collect();
        let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x5, id, &h2::block(&fields)));
    });
    let text = plain(&[address], "policy: all", "protocol: h2") + RULES;
    let balancer = Balancer::start(&text);
    let mut client = Connection::new(balancer.address("web"));
    client.request(1, "GET", "/", true);
    let last = std::iter::from_fn(|| client.next()).find(h2::Frame::ends_stream).expect("the response ends");
    // `x-sum` with its two values and `server-timing` have so many bytes at most; with any other there would be more.
    assert!(last.kind == h2::HEADERS && (10..=30).contains(&last.payload.len()), "{:?}", last.payload);
}

#[test]
fn a_requests_trailers_frame_route_and_modify_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let seen = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut preface = [0; h2::PREFACE.len()];
        stream.read_exact(&mut preface).expect("a preface");
        let _ = stream.write_all(&h2::frame(h2::SETTINGS, 0, 0, &[]));
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).expect("a frame");
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            stream.read_exact(&mut payload).expect("a frame");
            if matches!(head[3], h2::HEADERS | h2::DATA) && head[4] & h2::END_STREAM != 0 {
                let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x5, 1, b"\x88"));
                return (head[3], payload);
            }
        }
    });
    let balancer = Balancer::start(&plain(&[address], "", "protocol: h2"));
    let mut client = Connection::new(balancer.address("web"));
    client.request(1, "POST", "/", false);
    client.data(1, b"body", false);
    let names = ["content-type", "content-encoding", "range", "if-match", "cache-control", "set-cookie"];
    let more = ["www-authenticate", "location", "content_type", "if.match"];
    let mut fields: Vec<_> = names.into_iter().chain(more).map(|name| (name, "1")).collect();
    fields.push(("x-sum", "1"));
    client.fields(1, &fields, true);
    assert_eq!(client.response(1).0, 200);
    let (kind, payload) = seen.join().expect("a request");
    assert!(kind == h2::HEADERS && (2..=9).contains(&payload.len()), "{payload:?}");
}
