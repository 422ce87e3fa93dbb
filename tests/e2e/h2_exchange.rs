//! What becomes of a request where either side speaks HTTP/2: the connections it uses, the failures it meets, what is said
//! before the response and after it.

use crate::support::app::{App, Latch, Then, say, send};
use crate::support::balancer::{Balancer, plain};
use crate::support::h2::{self, Connection};
use crate::support::tls::{Certificate, Shop};
use crate::support::{DEADLINE, wait_until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A server that speaks both protocols over TLS, and the pool's settings that lead to it.
fn secure(app: &App) -> (Balancer, Shop, String) {
    let files = Shop::new(&[("server", &Certificate::named(&["app.internal"]))]);
    let server = Balancer::start(&plain(&[app.address], &files.tls(&["server"], ""), ""));
    let tls = format!("tls: {{ server_name: app.internal, ca: {} }}", files.path("server.pem").display());
    (server, files, tls)
}

#[test]
fn connections_over_tls_are_used_again() {
    for protocol in ["http1", "h2", "auto"] {
        let app = App::echo();
        let (server, _files, tls) = secure(&app);
        let text = plain(&[server.address("web")], "", &format!("protocol: {protocol}, {tls}"));
        let balancer = Balancer::start(&text);
        let mut h2 = Connection::new(balancer.address("web"));
        let mut h1 = balancer.client();
        for n in 0..10 {
            h2.request(2 * n + 1, "GET", "/h2", true);
            assert_eq!(h2.response(2 * n + 1), (200, b"GET /h2 ".to_vec()));
            assert_eq!(h1.get("/h1").text(), "GET /h1 ");
            assert_eq!(h1.post("/h1", "it").text(), "POST /h1 it");
        }
        let connections = server.metric("evenkeel_connections_total", &[]);
        assert!(connections <= 2.0, "{connections} of {protocol} for two clients, of a core each at most");
    }
}

#[test]
fn requests_at_once_share_a_connection() {
    const AT_ONCE: u32 = 20;
    let latch = Latch::default();
    let app = App::holding("held", &latch);
    let server = Balancer::start(&plain(&[app.address], "", ""));
    let balancer = Balancer::start(&plain(&[server.address("web")], "", "protocol: h2"));
    let mut client = Connection::new(balancer.address("web"));
    for n in 0..AT_ONCE {
        client.request(2 * n + 1, "GET", "/held", true);
    }
    wait_until("all of them are with the app", || app.hits() == AT_ONCE as usize);
    assert_eq!(server.metric("evenkeel_connections_total", &[]), 1.0);
    latch.open();
    // They come in any order.
    let mut ended = 0;
    while ended < AT_ONCE {
        let frame = client.next().expect("the connection goes on");
        assert_ne!(frame.kind, h2::RST_STREAM);
        ended += u32::from(frame.ends_stream());
    }
    balancer.wait_for_in_flight(0.0);
}

/// A server of HTTP/2 by hand. `answer` gets each request's stream, and what was asked on its connection before.
pub(super) fn by_hand(
    answer: impl Fn(&mut TcpStream, u32, usize) + Send + Sync + Clone + 'static,
) -> SocketAddr {
    with_settings(&[], answer)
}

/// The same, with these SETTINGS.
fn with_settings(
    settings: &'static [u8],
    answer: impl Fn(&mut TcpStream, u32, usize) + Send + Sync + Clone + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut preface = [0; h2::PREFACE.len()];
                if stream.read_exact(&mut preface).is_err() {
                    return;
                }
                let _ = stream.write_all(&h2::frame(h2::SETTINGS, 0, 0, settings));
                let mut before = 0;
                loop {
                    let mut head = [0; 9];
                    if stream.read_exact(&mut head).is_err() {
                        return;
                    }
                    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                    if stream.read_exact(&mut payload).is_err() {
                        return;
                    }
                    if head[3] == h2::HEADERS {
                        answer(&mut stream, u32::from_be_bytes([head[5], head[6], head[7], head[8]]), before);
                        before += 1;
                    }
                }
            });
        }
    });
    address
}

fn ok(stream: &mut TcpStream, id: u32) {
    let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x5, id, &h2::block(&[(":status", "200")])));
}

#[test]
fn what_a_server_has_not_touched_is_sent_elsewhere_whatever_the_method() {
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    let refusing = by_hand(|stream, id, _| {
        let _ = stream.write_all(&h2::frame(h2::RST_STREAM, 0, id, &REFUSED_STREAM));
    });
    // It goes, and says that it has not begun with the request that has just come.
    let going = by_hand(|stream, id, before| {
        if before == 0 {
            return ok(stream, id);
        }
        let last = (id - 2).to_be_bytes();
        let _ = stream.write_all(&h2::frame(h2::GOAWAY, 0, 0, &[last, [0; 4]].concat()));
        let _ = stream.shutdown(std::net::Shutdown::Write);
    });
    let good = by_hand(|stream, id, _| ok(stream, id));
    for (name, bad) in [("refusing", refusing), ("going", going)] {
        let text = plain(&[bad, good], "", "protocol: h2, balance: round_robin");
        let balancer = Balancer::start(&text);
        let mut client = Connection::new(balancer.address("web"));
        for n in 0..6 {
            let id = 2 * n + 1;
            client.request(id, "POST", "/order", false);
            client.data(id, b"one bicycle", true);
            assert_eq!(client.response(id).0, 200, "request {n}, {name}");
        }
        balancer.wait_for_in_flight(0.0);
    }
}

#[test]
fn a_server_gets_no_more_streams_than_it_allows() {
    // SETTINGS_MAX_CONCURRENT_STREAMS is 2.
    let (seen, asked) = std::sync::mpsc::channel();
    let server = with_settings(&[0, 3, 0, 0, 0, 2], move |stream, id, before| {
        let _ = seen.send((stream.peer_addr().expect("connected").port(), before));
        if before == 0 {
            ok(stream, id);
        }
    });
    let balancer = Balancer::start(&plain(&[server], "", "protocol: h2"));
    let mut client = Connection::new(balancer.address("web"));
    // The first tells how many there may be; the others are not answered.
    client.request(1, "GET", "/0", true);
    assert_eq!(client.response(1).0, 200);
    let (first, _) = asked.recv_timeout(DEADLINE).expect("the first is asked");
    for n in 1..4 {
        client.request(2 * n + 1, "GET", "/held", true);
    }
    let mut ports = Vec::new();
    for _ in 1..4 {
        ports.push(asked.recv_timeout(DEADLINE).expect("all are asked at once"));
    }
    ports.sort_by_key(|(port, before)| (*port != first, *before));
    let on_first: Vec<_> =
        ports.iter().filter(|(port, _)| *port == first).map(|(_, before)| *before).collect();
    assert_eq!(on_first, [1, 2], "{ports:?}");
    assert_eq!(ports[2].1, 0, "the third has another connection: {ports:?}");
}

#[test]
fn a_server_that_answers_too_late_is_answered_for() {
    let latch = Latch::default();
    let app = App::holding("late", &latch);
    for protocol in ["http1", "h2"] {
        let server = Balancer::start(&plain(&[app.address], "", ""));
        let pool = format!("protocol: {protocol}, timeouts: {{ response_header: 100ms }}");
        let balancer = Balancer::start(&plain(&[server.address("web")], "", &pool));
        let mut client = Connection::new(balancer.address("web"));
        client.request(1, "GET", "/held", true);
        assert_eq!(client.response(1), (504, b"504 Gateway Timeout\n".to_vec()), "{protocol}");
        assert_eq!(balancer.outcome("/held"), (504, "response_header_timeout".to_owned()));
        client.request(3, "GET", "/other", true);
        assert_eq!(client.response(3), (200, b"late".to_vec()), "the connection goes on");
    }
    latch.open();
}

#[test]
fn a_connection_that_brings_nothing_is_given_up_and_one_that_is_slow_is_not() {
    for is_alive in [true, false] {
        let (seen, asked) = std::sync::mpsc::channel();
        let server = by_hand(move |stream, id, before| {
            let _ = seen.send(stream.peer_addr().expect("connected").port());
            if before != 1 {
                ok(stream, id);
            }
        });
        let pool = "protocol: h2, timeouts: { response_header: 400ms }";
        let balancer = Balancer::start(&plain(&[server], "", pool));
        let mut client = Connection::new(balancer.address("web"));
        client.request(1, "GET", "/first", true);
        assert_eq!(client.response(1).0, 200);
        client.request(3, "GET", "/held", true);
        if is_alive {
            client.request(5, "GET", "/beside", true);
            assert_eq!(client.response(5).0, 200);
        }
        assert_eq!(client.response(3).0, 504);
        client.request(7, "GET", "/next", true);
        assert_eq!(client.response(7).0, 200);
        let ports: Vec<_> = asked.try_iter().collect();
        assert_eq!(ports.first() == ports.last(), is_alive, "{ports:?}");
    }
}

#[test]
fn a_response_head_beyond_256_kib_ends_its_own_stream_only() {
    const LIMIT: usize = 256 << 10;
    const SIZES: [usize; 3] = [LIMIT - 1, LIMIT, LIMIT + 1];
    let address = by_hand(|stream, id, before| {
        if before == 0 {
            // Answered once all others have been.
            return;
        }
        // As HTTP/2 counts, without the status.
        let large = "x".repeat(SIZES[before - 1] - "x-large".len() - 32);
        let block = h2::block(&[(":status", "200"), ("x-large", large.as_str())]);
        let pieces: Vec<_> = block.chunks(16_000).collect();
        for (n, piece) in pieces.iter().enumerate() {
            let kind = if n == 0 { h2::HEADERS } else { h2::CONTINUATION };
            let flags = u8::from(n == 0) | if n + 1 == pieces.len() { 4 } else { 0 };
            let _ = stream.write_all(&h2::frame(kind, flags, id, piece));
        }
        if before == SIZES.len() {
            ok(stream, id - 2 * SIZES.len() as u32);
        }
    });
    let text = format!("process: {{ threads: 1 }}\n{}", plain(&[address], "", "protocol: h2"));
    let balancer = Balancer::start(&text);
    let mut neighbour = balancer.client();
    neighbour.send("GET /neighbour HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    assert_eq!(SIZES.map(|size| balancer.get(&format!("/{size}")).status), [200, 200, 502]);
    assert_eq!(neighbour.response().status, 200);
    let record = balancer.record(&format!("/{}", LIMIT + 1));
    assert_eq!(
        (&record["why"], &record["detail"]),
        (&"server_malformed".into(), &"response head longer than 256 KiB".into())
    );
    assert_eq!(record["tries"], 1);
}

#[test]
fn interim_responses_are_passed_on() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        say(stream, "hello")
    });
    let server = Balancer::start(&plain(&[app.address], "", ""));
    for (address, protocol) in [(app.address, "http1"), (server.address("web"), "h2")] {
        let balancer = Balancer::start(&plain(&[address], "", &format!("protocol: {protocol}")));
        let mut client = Connection::new(balancer.address("web"));
        client.request(1, "GET", "/", true);
        let heads: Vec<_> = std::iter::from_fn(|| client.next().filter(|frame| !frame.ends_stream()))
            .filter(|frame| frame.kind == h2::HEADERS)
            .collect();
        assert_eq!(h2::status(&heads[0].payload), 103, "{protocol}");
        assert_eq!(h2::status(&heads[1].payload), 200, "{protocol}");
        let mut client = balancer.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let hint = client.head().expect("a head");
        assert_eq!((hint.status, hint.field("link")), (103, "</a.css>".to_owned()), "{protocol}");
        assert_eq!(client.response().text(), "hello");
    }
}

/// A call of gRPC that its client gives up after this.
fn call(client: &mut Connection, timeout: &str) {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/shop.Cart/Get"),
        (":authority", "a"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", timeout),
    ];
    client.fields(1, &fields, true);
}

#[test]
fn a_calls_deadline_is_kept() {
    // It never answers; and it begins to, and does not go on.
    let silent = by_hand(|_, _, _| {});
    let stalled = by_hand(|stream, id, _| {
        let fields = [(":status", "200"), ("content-type", "application/grpc")];
        let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x4, id, &h2::block(&fields)));
    });
    for (address, heads) in [(silent, 1), (stalled, 2)] {
        let balancer = Balancer::start(&plain(&[address], "", "protocol: h2"));
        let mut client = Connection::new(balancer.address("web"));
        call(&mut client, "100m");
        let mut seen = 0;
        loop {
            let frame = client.next().expect("the connection goes on");
            assert_eq!(frame.kind, h2::HEADERS);
            seen += 1;
            if frame.ends_stream() {
                break;
            }
        }
        assert_eq!(seen, heads);
        let record = balancer.record("/shop.Cart/Get");
        assert_eq!((record["why"].as_str(), record["status"].as_u64()), (Some("request_timeout"), Some(200)));
        assert_eq!(balancer.metric("evenkeel_grpc_requests_total", &[("status", "deadline_exceeded")]), 1.0);
        balancer.wait_for_in_flight(0.0);
    }
}

#[test]
fn a_calls_server_is_told_what_is_left_of_its_deadline() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = Connection::new(balancer.address("web"));
    call(&mut client, "10S");
    assert_eq!(client.response(1).0, 200);
    let told = app.last().field("grpc-timeout");
    let micros: u64 = told.strip_suffix('u').expect("in microseconds").parse().expect("a number");
    assert!((1..10_000_000).contains(&micros), "{told}");
}

#[test]
fn a_responses_trailers_frame_and_route_nothing() {
    let address = by_hand(|stream, id, _| {
        let head = h2::block(&[(":status", "200")]);
        let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x4, id, &head));
        let _ = stream.write_all(&h2::frame(h2::DATA, 0, id, b"body"));
        let trailers = h2::block(&[("content-length", "9"), ("host", "b"), ("x-sum", "1")]);
        let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x5, id, &trailers));
    });
    let balancer = Balancer::start(&plain(&[address], "", "protocol: h2"));
    let mut client = Connection::new(balancer.address("web"));
    client.request(1, "GET", "/", true);
    let last = std::iter::from_fn(|| client.next()).find(h2::Frame::ends_stream).expect("the response ends");
    // One field with a name of its own (`x-sum`, `1`) has so many bytes at most; with the others there would be more.
    assert!(last.kind == h2::HEADERS && last.payload.len() <= 9, "{:?}", last.payload);
}

#[test]
fn trailers_come_behind_a_compressed_body_but_not_a_digest_of_the_plain_one() {
    let address = by_hand(|stream, id, _| {
        let head = h2::block(&[(":status", "200"), ("content-type", "text/html")]);
        let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x4, id, &head));
        let _ = stream.write_all(&h2::frame(h2::DATA, 0, id, &[b'a'; 10_000]));
        let trailers = h2::block(&[("content-digest", "sha-256=:x:"), ("x-sum", "1")]);
        let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x5, id, &trailers));
    });
    let policy = "policies: { all: { compress: {} } }\n";
    let text = plain(&[address], "policy: all", "protocol: h2");
    let balancer = Balancer::start(&(text + policy));
    let mut client = Connection::new(balancer.address("web"));
    let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    fields.push(("accept-encoding", "gzip"));
    client.fields(1, &fields, true);
    let (mut body, mut last) = (Vec::new(), Vec::new());
    while let Some(frame) = client.next() {
        match frame.kind {
            h2::DATA => body.extend_from_slice(&frame.payload),
            _ => last = frame.payload.clone(),
        }
        if frame.ends_stream() {
            break;
        }
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).expect("gzip");
    assert_eq!(plain, [b'a'; 10_000]);
    assert!(!last.is_empty() && last.len() <= 9, "{last:?}");
}

#[test]
fn a_call_that_does_not_say_how_it_ended_has_failed() {
    let address = by_hand(|stream, id, _| {
        let fields = [(":status", "200"), ("content-type", "application/grpc")];
        let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x4, id, &h2::block(&fields)));
        let _ = stream.write_all(&h2::frame(h2::DATA, 0x1, id, b"\0\0\0\0\0"));
    });
    let balancer = Balancer::start(&plain(&[address], "", "protocol: h2"));
    let mut client = Connection::new(balancer.address("web"));
    call(&mut client, "10S");
    assert_eq!(client.response(1), (200, vec![0; 5]));
    let record = balancer.record("/shop.Cart/Get");
    assert_eq!((record["why"].as_str(), record["grpc_status"].as_u64()), (Some("ok"), Some(2)));
    assert_eq!(record["detail"], "the call ended without grpc-status");
    assert_eq!(balancer.metric("evenkeel_grpc_requests_total", &[("status", "unknown")]), 1.0);
}

#[test]
fn what_has_no_body_reaches_no_client_with_one() {
    for (status, method) in [("204", "GET"), ("304", "GET"), ("200", "HEAD")] {
        let address = by_hand(move |stream, id, _| {
            let _ = stream.write_all(&h2::frame(h2::HEADERS, 0x4, id, &h2::block(&[(":status", status)])));
            let _ = stream.write_all(&h2::frame(h2::DATA, 0x1, id, b"abc"));
        });
        let balancer = Balancer::start(&plain(&[address], "", "protocol: h2"));
        let mut client = Connection::new(balancer.address("web"));
        client.request(1, method, "/", true);
        let (answered, body) = client.response(1);
        assert_eq!(body, b"", "{status} {method} {answered}");
    }
}

#[test]
fn an_answer_without_a_length_reaches_every_kind_of_client() {
    let app = App::new(|request, stream| {
        if request.target == "/chunks" {
            send(
                stream,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
            );
            return Then::Keep;
        }
        send(stream, "HTTP/1.1 200 OK\r\n\r\nabcd");
        Then::Close
    });
    let server = Balancer::start(&plain(&[app.address], "", ""));
    for (address, protocol) in [(app.address, "http1"), (server.address("web"), "h2")] {
        let balancer = Balancer::start(&plain(&[address], "", &format!("protocol: {protocol}")));
        for path in ["/chunks", "/until-close"] {
            let mut client = Connection::new(balancer.address("web"));
            client.request(1, "GET", path, true);
            assert_eq!(client.response(1), (200, b"abcd".to_vec()), "{protocol} {path}");
            assert_eq!(balancer.get(path).text(), "abcd", "{protocol} {path}");
            let mut old = balancer.client();
            old.send(format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n"));
            let response = old.response();
            assert!(response.field("transfer-encoding").is_empty());
            assert_eq!(response.text(), "abcd", "{protocol} {path}");
            assert!(old.is_closed());
        }
    }
}

#[test]
fn a_response_that_breaks_off_does_not_look_whole() {
    for protocol in ["http1", "h2"] {
        for is_h2 in [true, false] {
            let latch = Latch::default();
            let seen = latch.clone();
            let app = App::new(move |_, stream| {
                send(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
                seen.wait();
                Then::Close
            });
            let server = Balancer::start(&plain(&[app.address], "", ""));
            let address = if protocol == "h2" { server.address("web") } else { app.address };
            let balancer = Balancer::start(&plain(&[address], "", &format!("protocol: {protocol}")));
            if is_h2 {
                let mut client = Connection::new(balancer.address("web"));
                client.request(1, "GET", "/", true);
                let frames = std::iter::from_fn(|| client.next());
                let data = frames.into_iter().find(|frame| frame.kind == h2::DATA).expect("data");
                assert_eq!((&data.payload[..], data.ends_stream()), (&b"abc"[..], false));
                latch.open();
                assert_eq!(client.next().expect("the connection goes on").kind, h2::RST_STREAM);
            } else {
                let mut client = TcpStream::connect(balancer.address("web")).expect("accepted");
                client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("taken");
                let mut bytes = Vec::new();
                while !bytes.ends_with(b"abc\r\n") {
                    let mut byte = [0];
                    client.read_exact(&mut byte).expect("more comes");
                    bytes.extend(byte);
                }
                latch.open();
                let mut rest = Vec::new();
                let _ = client.read_to_end(&mut rest);
                assert_eq!(rest, b"", "{protocol}");
            }
            assert_eq!(balancer.outcome("/"), (200, "server_reset".to_owned()), "{protocol}");
        }
    }
}

#[test]
fn a_call_passes_with_its_trailers_to_servers_that_may_choose() {
    let app = by_hand(|stream, id, _| {
        let head = [(":status", "200"), ("content-type", "application/grpc")];
        let frames = [
            h2::frame(h2::HEADERS, 0x4, id, &h2::block(&head)),
            h2::frame(h2::DATA, 0, id, b"\0\0\0\0\x02hi"),
            h2::frame(h2::HEADERS, 0x5, id, &h2::block(&[("grpc-status", "0")])),
        ];
        let _ = stream.write_all(&frames.concat());
    });
    let files = Shop::new(&[("server", &Certificate::named(&["app.internal"]))]);
    let server = Balancer::start(&plain(&[app], &files.tls(&["server"], ""), "protocol: h2"));
    let pool = "protocol: auto, tls: { verify: false }";
    let balancer = Balancer::start(&plain(&[server.address("web")], "", pool));
    let mut client = Connection::new(balancer.address("web"));
    call(&mut client, "10S");
    let frames: Vec<_> = std::iter::from_fn(|| client.next()).take(3).collect();
    let kinds: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.ends_stream())).collect();
    assert_eq!(kinds, [(h2::HEADERS, false), (h2::DATA, false), (h2::HEADERS, true)]);
    assert_eq!(frames[1].payload, b"\0\0\0\0\x02hi");
    assert_eq!(balancer.record("/shop.Cart/Get")["grpc_status"], 0);
    assert_eq!(server.protocol("/shop.Cart/Get"), "HTTP/2.0");
}
