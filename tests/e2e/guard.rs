//! Guarded reloads: every way in which a pool can become worse is seen and taken back, and strangers cannot do it.

use crate::support::app::{App, Refusing, Silent, Then, say, send, status, wait_for_the_end};
use crate::support::balancer::{Balancer, Next, plain};
use crate::support::client::Client;
use crate::support::{h2, tcp, udp, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// A pool as its listener and itself are configured, and what its clients do once, whatever comes of it.
struct Kind {
    listener: &'static str,
    pool: &'static str,
    call: Call,
}

type Call = fn(SocketAddr);

const HTTP: Kind = Kind { listener: "", pool: "retries: { on: [] }", call: get };
const GRPC: Kind = Kind { listener: "", pool: "protocol: h2", call: call_grpc };
const TCP: Kind = Kind { listener: "protocol: tcp", pool: "", call: talk };
const UDP: Kind = Kind { listener: "protocol: udp, timeouts: { idle: 300ms }", pool: "", call: ask };

fn get(address: SocketAddr) {
    let mut client = Client::connect(address);
    let _ = client.try_get("/");
}

/// Leaves after a while without an answer.
fn get_impatiently(address: SocketAddr) {
    get_within(address, "/", Duration::from_millis(1200));
}

/// Leaves so soon that nobody could call it a failure.
fn get_hastily(address: SocketAddr) {
    get_within(address, "/", Duration::from_millis(200));
}

fn get_within(address: SocketAddr, path: &str, patience: Duration) {
    let mut client = Client::connect(address);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let socket = client.socket().try_clone().expect("a socket has handles");
    socket.set_read_timeout(Some(patience)).expect("a socket takes its options");
    let _ = (&socket).read(&mut [0; 1024]);
}

fn call_grpc(address: SocketAddr) {
    let mut client = h2::Connection::new(address);
    let path = [(":method", "POST"), (":scheme", "http"), (":path", "/shop.Cart/Get"), (":authority", "a")];
    let kind = [("content-type", "application/grpc"), ("te", "trailers")];
    client.fields(1, &[&path[..], &kind].concat(), true);
    while client.next().is_some_and(|frame| !frame.ends_stream() && frame.kind != h2::RST_STREAM) {}
}

/// A call whose client gives it up after so long.
fn call_within(address: SocketAddr, timeout: &str) {
    let mut client = h2::Connection::new(address);
    client.fields(1, &call_of(timeout), true);
    while client.next().is_some_and(|frame| !frame.ends_stream() && frame.kind != h2::RST_STREAM) {}
}

fn call_hastily(address: SocketAddr) {
    call_within(address, "200m");
}

/// The head of a call with this deadline.
fn call_of(timeout: &str) -> [(&str, &str); 7] {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/shop.Cart/Get"),
        (":authority", "a"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", timeout),
    ]
}

/// A gRPC server whose calls all end with this status.
fn ending(status: &'static str) -> tcp::Server {
    ending_after(Duration::ZERO, status)
}

/// The same, but not at once.
fn ending_after(delay: Duration, status: &'static str) -> tcp::Server {
    tcp::Server::new(move |mut stream| {
        let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)];
        let _ = stream.read_exact(&mut [0; h2::PREFACE.len()]);
        let _ = stream.write_all(&h2::frame(h2::SETTINGS, 0, 0, &[]));
        let mut head = [0; 9];
        while stream.read_exact(&mut head).is_ok() {
            let [_, a, b, kind, _, stream_id @ ..] = head;
            let length = u16::from_be_bytes([a, b]);
            let _ = stream.read_exact(&mut vec![0; length.into()]);
            if kind != h2::HEADERS {
                continue;
            }
            let flags = h2::END_HEADERS | h2::END_STREAM;
            let id = u32::from_be_bytes(stream_id);
            let answer = h2::frame(h2::HEADERS, flags, id, &h2::block(&fields));
            let mut stream = stream.try_clone().expect("a socket has handles");
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                let _ = stream.write_all(&answer);
            });
        }
    })
}

fn talk(address: SocketAddr) {
    let mut stream = tcp::connect(address);
    let _ = stream.write_all(b"hello");
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket takes its options");
    let _ = stream.read(&mut [0; 64]);
}

fn ask(address: SocketAddr) {
    let client = udp::Client::new(address);
    // A closed port answers the first datagram by ending the session; the second opens another.
    client.tell(b"one");
    let _ = client.hear(Duration::from_millis(100));
}

/// Says something more after a while, by which a port may be closed.
fn ask_twice(address: SocketAddr) {
    let client = udp::Client::new(address);
    client.tell(b"one");
    let _ = client.hear(HELD);
    client.tell(b"two");
}

/// Ends the clients of a test, also when it fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// What comes of a guarded reload from one configuration to another, while eight clients use the listener.
#[track_caller]
fn reload_in_use(call: Call, [before, after]: [&str; 2], limits: &[&str]) -> (Option<i32>, String, String) {
    let balancer = Balancer::start(before);
    let (address, stop) = (balancer.address("web"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    call(address);
                }
            });
        }
        wait_until("the history has traffic", || points(&balancer) > 20);
        balancer.write(after);
        balancer.command(&[&["reload", "--guard", "8s", "--min-requests", "4"], limits].concat())
    })
}

/// Whether a guarded reload that leads the pool from `good` to `bad` is taken back.
#[track_caller]
fn is_taken_back(kind: &Kind, good: SocketAddr, bad: SocketAddr) -> Result<(), String> {
    let text = |server| format!("access_log: off\n{}", plain(&[server], kind.listener, kind.pool));
    let (code, out, err) = reload_in_use(kind.call, [&text(good), &text(bad)], &[]);
    match code {
        Some(1) if err.contains("rolled back: pools.app: ") => Ok(()),
        _ => Err(format!("{code:?}: {out}{err}")),
    }
}

/// Whether a guarded reload that adds a server to a healthy pool of two is taken back for that one.
#[track_caller]
fn is_addition_taken_back(kind: &Kind, good: [SocketAddr; 2], added: SocketAddr) -> Result<(), String> {
    let pool = format!("balance: round_robin, {}", kind.pool);
    let text = |servers: &[_]| format!("access_log: off\n{}", plain(servers, kind.listener, &pool));
    let (before, after) = (text(&good), text(&[good[0], good[1], added]));
    // The pool's own share is not to tell.
    let (code, out, err) = reload_in_use(kind.call, [&before, &after], &["--max-error-rise", "90"]);
    match code {
        Some(1) if err.contains("rolled back: pools.app: s3: ") => Ok(()),
        _ => Err(format!("{code:?}: {out}{err}")),
    }
}

#[test]
fn a_server_that_serves_nothing_is_seen_among_others_that_serve() {
    let silent = || App::new(|_, stream| wait_for_the_end(stream));
    let stalling = || {
        App::new(|_, stream| {
            send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nhi");
            wait_for_the_end(stream)
        })
    };
    type Case = (&'static str, Call, fn() -> App);
    let calls: [Case; 6] = [
        ("waiting", get, silent),
        ("leaving", get_hastily, silent),
        ("uploading", post_hastily, silent),
        ("stalling", |address| read_within(address, Duration::from_millis(300), true), stalling),
        ("stalling, by a FIN", |address| read_within(address, Duration::from_millis(300), false), stalling),
        ("failing", get, || App::new(|_, stream| status(stream, "500 Internal Server Error", "never"))),
    ];
    let app = App::saying("well");
    std::thread::scope(|scope| {
        for (what, call, added) in calls {
            let good = [app.address; 2];
            scope.spawn(move || {
                let added = added();
                let taken_back = is_addition_taken_back(&Kind { call, ..HTTP }, good, added.address);
                assert_eq!(taken_back, Ok(()), "{what}");
            });
        }
    });
}

/// A request with a body, whose client leaves soon.
fn post_hastily(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    let socket = client.socket().try_clone().expect("a socket has handles");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket takes its options");
    let _ = (&socket).read(&mut [0; 1024]);
}

#[test]
fn a_server_that_passes_nothing_on_is_seen_among_others_that_do() {
    let good = tcp::Server::echo("well");
    let closes = tcp::Server::new(|mut stream| drop(stream.read(&mut [0; 16])));
    assert_eq!(is_addition_taken_back(&TCP, [good.address; 2], closes.address), Ok(()));
    let good = udp::Server::echo("well");
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| {
        let address = socket.local_addr();
        address.map(|address| (socket, address))
    });
    let (_socket, deaf) = deaf.expect("the kernel has a port");
    assert_eq!(is_addition_taken_back(&UDP, [good.address; 2], deaf), Ok(()));
}

#[test]
fn a_good_server_is_kept_whose_clients_often_leave_as_those_of_the_others_do() {
    let app = || {
        App::new(|request, stream| match request.target.as_str() {
            "/slow" => wait_for_the_end(stream),
            _ => say(stream, "well"),
        })
    };
    let apps = [app(), app(), app()];
    let addresses = apps.each_ref().map(|app| app.address);
    let text = |servers: &[_]| format!("access_log: off\n{}", plain(servers, "", "balance: round_robin"));
    let balancer = Balancer::start(&text(&addresses[..2]));
    let (address, stop) = (balancer.address("web"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    get_within(address, "/slow", Duration::from_millis(200));
                    for _ in 0..2 {
                        get(address);
                    }
                }
            });
        }
        wait_until("the history has traffic", || points(&balancer) > 20);
        balancer.write(&text(&addresses));
        let (code, out, err) = balancer.command(&["reload", "--guard", "5s", "--min-requests", "4"]);
        assert_eq!(code, Some(0), "{out}{err}");
    });
    assert!(apps[2].hits() > 20, "it had clients");
}

const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Asks for a WebSocket, and reads what comes of it to its end.
fn open_websocket(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let _ = client.read_to_end();
}

#[test]
fn websockets_that_are_closed_without_a_word_are_seen() {
    let good = App::new(|_, stream| {
        send(stream, SWITCHING);
        let _ = stream.write_all(&evenkeel::websocket::close(1000, "", None));
        Then::Close
    });
    for then in [Then::Close, Then::Reset] {
        let bad = App::new(move |_, stream| {
            send(stream, SWITCHING);
            then
        });
        check(&Kind { call: open_websocket, ..HTTP }, good.address, bad.address);
    }
}

/// Requests of the pool in the seconds that are remembered.
fn points(balancer: &Balancer) -> u64 {
    let admin = balancer.admin_address();
    let mut client = Client::connect(admin);
    client.send(format!("GET /api/v1/history HTTP/1.1\r\nHost: {admin}\r\n\r\n"));
    let history: Value = serde_json::from_str(&client.response().text()).expect("the API answers in JSON");
    let points = history["pools"]["app"]["points"].as_array().cloned().unwrap_or_default();
    points.iter().filter_map(|point| point["requests"].as_u64()).sum()
}

#[track_caller]
fn check(kind: &Kind, good: SocketAddr, bad: SocketAddr) {
    assert_eq!(is_taken_back(kind, good, bad), Ok(()));
}

#[test]
fn responses_that_are_cut_short_are_failures() {
    let good = App::saying("well");
    let bad = App::new(|_, stream| {
        send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all of it");
        Then::Close
    });
    check(&HTTP, good.address, bad.address);
}

#[test]
fn clients_that_leave_because_nothing_comes_are_failures() {
    let good = App::saying("well");
    let bad = App::new(|_, stream| wait_for_the_end(stream));
    for call in [get_impatiently, get_hastily] {
        check(&Kind { call, ..HTTP }, good.address, bad.address);
    }
}

/// Reads what there is of a response, and leaves when nothing has come for so long: by a FIN, or by a reset.
fn read_within(address: SocketAddr, patience: Duration, resets: bool) {
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let socket = client.socket().try_clone().expect("a socket has handles");
    socket.set_read_timeout(Some(patience)).expect("a socket takes its options");
    let mut read = Vec::new();
    let mut piece = [0; 1024];
    while !read.ends_with(b"well")
        && let Ok(n @ 1..) = (&socket).read(&mut piece)
    {
        read.extend_from_slice(&piece[..n]);
    }
    drop(socket);
    if resets {
        client.reset();
    }
}

#[test]
fn responses_that_stall_in_their_middle_are_seen_though_each_has_begun() {
    let good = App::saying("well");
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ] {
        let bad = App::new(move |_, stream| {
            send(stream, head);
            wait_for_the_end(stream)
        });
        let calls: [fn(SocketAddr); 3] = [
            |address| read_within(address, Duration::from_millis(1200), false),
            |address| read_within(address, Duration::from_millis(1200), true),
            |address| read_within(address, Duration::from_millis(200), true),
        ];
        for call in calls {
            check(&Kind { call, ..HTTP }, good.address, bad.address);
        }
    }
}

#[test]
fn a_response_that_its_server_leaves_in_the_middle_is_a_failure_and_one_that_its_client_leaves_is_none() {
    let part = App::new(|request, stream| {
        send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nhi");
        if request.target == "/much" {
            let _ = stream.write_all(&vec![b'x'; 90_000_000]);
        }
        wait_for_the_end(stream)
    });
    let timeouts = "timeouts: { stream_idle: 1500ms }";
    let balancer = Balancer::start(&plain(&[part.address], "", timeouts));
    let address = balancer.address("web");
    let failed = || balancer.metric("evenkeel_http_requests_failed_total", &[("pool", "app")]);
    // One who leaves at once has changed its mind.
    read_within(address, Duration::from_millis(200), true);
    balancer.wait_for_in_flight(0.0);
    assert_eq!(failed(), 0.0);
    // One who does not read is not the server's fault.
    let mut client = Client::connect(address);
    client.send("GET /much HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(balancer.outcome("/much"), (200, "stream_idle".to_owned()));
    assert_eq!(failed(), 0.0);
    read_within(address, Duration::from_millis(1100), true);
    balancer.wait_for_metric("evenkeel_http_requests_failed_total", &[("pool", "app")], 1.0);
    let mut client = Client::connect(address);
    client.send("GET /idle HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(balancer.outcome("/idle"), (200, "stream_idle".to_owned()));
    balancer.wait_for_metric("evenkeel_http_requests_failed_total", &[("pool", "app")], 2.0);
}

#[test]
fn requests_that_wait_in_vain_are_seen_before_they_end() {
    let good = App::saying("well");
    let bad = App::new(|_, stream| wait_for_the_end(stream));
    check(&HTTP, good.address, bad.address);
}

#[test]
fn grpc_calls_that_reach_nobody_are_failures() {
    check(&GRPC, ending("0").address, Refusing::new().address);
}

#[test]
fn grpc_calls_that_the_server_fails_are_failures_whatever_the_status_of_http() {
    for status in ["13", "14"] {
        let (good, bad) = (ending("0"), ending(status));
        check(&GRPC, good.address, bad.address);
    }
}

#[test]
fn tcp_connections_that_the_server_closes_without_a_word_are_seen() {
    let good = tcp::Server::echo("well");
    let bad = tcp::Server::new(|mut stream| drop(stream.read(&mut [0; 16])));
    check(&TCP, good.address, bad.address);
}

#[test]
fn tcp_connections_on_which_nothing_comes_are_seen() {
    let good = tcp::Server::echo("well");
    let bad = tcp::Server::new(|mut stream| while let Ok(1..) = stream.read(&mut [0; 16]) {});
    check(&TCP, good.address, bad.address);
}

#[test]
fn tcp_connections_that_reach_nobody_are_failures() {
    check(&TCP, tcp::Server::echo("well").address, Refusing::new().address);
}

#[test]
fn datagrams_that_nobody_answers_are_seen() {
    let good = udp::Server::echo("well");
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    check(&UDP, good.address, closed.expect("the kernel has a port"));
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").expect("the kernel has a port");
    check(&UDP, good.address, deaf.local_addr().expect("a bound socket has an address"));
}

/// How long what is held takes until it ends badly.
const HELD: Duration = Duration::from_secs(2);

/// Has clients be held one after the other, so that they end one after the other, and a reload in between lead the pool from
/// `old` to a good server: it must be kept.
#[track_caller]
fn check_kept(kind: &Kind, old: &[SocketAddr], good: SocketAddr) {
    let text = |servers: &[_]| format!("access_log: off\n{}", plain(servers, kind.listener, kind.pool));
    let balancer = Balancer::start(&text(old));
    let address = balancer.address("web");
    let in_flight = || balancer.metric("evenkeel_server_in_flight", &[]);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(40));
                scope.spawn(|| (kind.call)(address))
            })
            .collect();
        wait_until("clients are held", || in_flight() > 4.0);
        balancer.write(&text(&[good]));
        let (code, out, err) = balancer.command(&["reload", "--guard", "4s", "--min-requests", "4"]);
        assert!(code == Some(0) && out.contains("nothing has become worse"), "{code:?}: {out}{err}");
        let is_over = |client: &std::thread::ScopedJoinHandle<'_, ()>| client.is_finished();
        assert!(clients.iter().all(is_over), "none ended in time to be judged by");
    });
}

/// A server whose connections end with a reset after a while.
fn stalling() -> tcp::Server {
    tcp::Server::new(|mut stream| {
        let _ = stream.read(&mut [0; 16]);
        std::thread::sleep(HELD);
        tcp::reset(stream);
    })
}

#[test]
fn requests_that_began_before_a_reload_say_nothing_of_it() {
    check_kept(&HTTP, &[stalling().address], App::saying("well").address);
}

#[test]
fn clients_that_began_to_wait_before_a_reload_say_nothing_of_it() {
    let stalls = App::new(|_, stream| wait_for_the_end(stream));
    check_kept(&Kind { call: get_impatiently, ..HTTP }, &[stalls.address], App::saying("well").address);
}

#[test]
fn connections_that_were_being_opened_before_a_reload_say_nothing_of_it() {
    let silent = Silent::new();
    let pool = "timeouts: { connect: 2s }, retries: { max: 2 }";
    check_kept(&Kind { pool, ..HTTP }, &[silent.address], App::saying("well").address);
    let good = tcp::Server::echo("well");
    check_kept(&Kind { pool, ..TCP }, &[silent.address], good.address);
    // Those that another server has saved are told of apart.
    let pool = "timeouts: { connect: 2s }, retries: { max: 2 }, balance: round_robin";
    check_kept(&Kind { pool, ..TCP }, &[silent.address, good.address], good.address);
}

#[test]
fn calls_that_began_before_a_reload_say_nothing_of_it() {
    check_kept(&GRPC, &[stalling().address], ending("0").address);
}

#[test]
fn tcp_connections_that_began_before_a_reload_say_nothing_of_it() {
    check_kept(&TCP, &[stalling().address], tcp::Server::echo("well").address);
}

#[test]
fn sessions_that_began_before_a_reload_say_nothing_of_it() {
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").expect("the kernel has a port");
    let old = closed.local_addr().expect("a bound socket has an address");
    // It is gone before the clients speak again.
    let closing = std::thread::spawn(move || {
        std::thread::sleep(HELD / 2);
        drop(closed);
    });
    let listener = "protocol: udp, timeouts: { idle: 60s }";
    check_kept(&Kind { call: ask_twice, listener, ..UDP }, &[old], udp::Server::echo("well").address);
    closing.join().expect("it closed");
}

/// A configuration whose only rule cuts a prefix.
fn cutting(server: SocketAddr) -> String {
    format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: all }}\n\
         routes:\n  all:\n    - {{ rewrite: {{ strip_prefix: /api }}, pool: app }}\n\
         pools:\n  app: {{ servers: [{{ name: s1, address: {server} }}] }}\n"
    )
}

#[test]
fn failures_without_a_server_are_the_pools_whoever_came_first() {
    let app = App::saying("well");
    let ways = [
        (plain(&[app.address], "", ""), "GET / HTTP/1.1\r\n\r\n"),
        // What has met the pool's own rule is not the pool's either.
        (cutting(app.address), "GET /api/../x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (plain(&[app.address], "", "protocol: h2"), "GET /<x> HTTP/1.1\r\nHost: a\r\n\r\n"),
    ];
    for (text, stranger, strangers_first) in
        ways.iter().flat_map(|(text, stranger)| [(text, stranger, true), (text, stranger, false)])
    {
        let balancer = Balancer::start(text);
        let strangers = || {
            for _ in 0..30 {
                let mut client = balancer.client();
                client.send(stranger);
                assert_eq!(client.response().status, 400, "{stranger}");
            }
        };
        let (code, _, err) = balancer.command(&["drain", "app/s1", "--force"]);
        assert_eq!(code, Some(0), "{err}");
        if strangers_first {
            strangers();
        }
        for _ in 0..100 {
            assert_eq!(balancer.get("/").status, 503);
        }
        if !strangers_first {
            strangers();
        }
        // A request is counted when its answer has gone out.
        let counted = |name, labels: &[_], expected| balancer.wait_for_metric(name, labels, expected);
        counted("evenkeel_http_requests_total", &[("pool", "app"), ("code", "5xx")], 100.0);
        counted("evenkeel_http_requests_total", &[("pool", ""), ("code", "4xx")], 30.0);
        counted("evenkeel_http_requests_failed_total", &[("pool", "app")], 100.0);
        counted("evenkeel_http_failures_total", &[("pool", "app"), ("why", "none_ready")], 100.0);
        counted("evenkeel_http_failures_total", &[("pool", ""), ("why", "malformed")], 30.0);
    }
}

#[test]
fn strangers_do_not_take_a_good_reload_back_and_a_drained_pool_does() {
    let app = App::saying("well");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let (address, stop) = (balancer.address("web"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for request in ["GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    let mut client = Client::connect(address);
                    client.send(request);
                    let _ = client.try_response();
                }
            });
        }
        wait_until("the history has traffic", || points(&balancer) > 20);
        balancer.write(&plain(&[app.address], "", "drain_timeout: 59s"));
        let kept = balancer.command(&["reload", "--guard", "1s"]);
        let drained = plain(&[app.address], "", "").replace(" }], ", ", drain: true }], ");
        balancer.write(&drained);
        let taken_back = balancer.command(&["reload", "--guard", "30s"]);
        assert_eq!(kept.0, Some(0), "{kept:?}");
        assert_eq!(taken_back.0, Some(1), "{taken_back:?}");
        assert!(taken_back.2.contains("rolled back: pools.app: "), "{taken_back:?}");
    });
}

#[test]
fn grpc_failures_of_ours_are_no_successes_in_metrics_and_status() {
    let balancer = Balancer::start(&plain(&[Refusing::new().address], "", "protocol: h2"));
    for _ in 0..3 {
        call_grpc(balancer.address("web"));
    }
    let labels = |code| [("pool", "app"), ("code", code)];
    balancer.wait_for_metric("evenkeel_http_requests_total", &labels("5xx"), 3.0);
    assert_eq!(balancer.metric("evenkeel_http_requests_total", &labels("2xx")), 0.0);
    wait_until("status tells", || {
        call_grpc(balancer.address("web"));
        balancer.command_json(&["status"])["pools"][0]["figures"]["error_ratio"].as_f64() == Some(1.0)
    });
}

#[test]
fn strangers_whose_requests_have_no_form_in_http2_do_not_take_a_good_reload_back() {
    let app = App::saying("well");
    let servers = [(); 2].map(|()| Balancer::start(&plain(&[app.address], "", "")));
    let addresses = servers.each_ref().map(|server| server.address("web"));
    let balancer = Balancer::start(&plain(&addresses, "", "protocol: h2"));
    let (address, stop) = (balancer.address("web"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let ask = |request: &'static str| {
            let stop = &stop;
            move || {
                while !stop.load(SeqCst) {
                    let mut client = Client::connect(address);
                    client.send(request);
                    let _ = client.try_response();
                }
            }
        };
        scope.spawn(ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        wait_until("the history has traffic", || points(&balancer) > 20);
        balancer.write(&plain(&addresses, "", "protocol: h2, drain_timeout: 59s"));
        // They come with the reload.
        scope.spawn(ask("GET /?q=\"x\" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        let kept = balancer.command(&["reload", "--guard", "2s"]);
        assert_eq!(kept.0, Some(0), "{kept:?}");
    });
    assert!(balancer.failures("malformed") > 20.0);
    assert_eq!(balancer.metric("evenkeel_http_failures_total", &[("pool", "app")]), 0.0);
}

#[test]
fn calls_that_are_refused_are_no_failures_whatever_they_are_told() {
    let app = App::saying("well");
    let listener = "limits: { request_body: 1KiB, header_count: 8 }";
    let balancer = Balancer::start(&plain(&[app.address], listener, ""));
    let mut client = h2::Connection::new(balancer.address("web"));
    let call = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/shop.Cart/Get"),
        (":authority", "a"),
        ("content-type", "application/grpc"),
    ];
    // Refused as it comes, by its shape, and for its length.
    client.fields(1, &[&call[..], &[("x", " 1")]].concat(), true);
    client.fields(3, &[&call[..], &[("x", "1"); 8]].concat(), true);
    client.fields(5, &[&call[..], &[("content-length", "2000")]].concat(), false);
    for stream in [1, 3, 5] {
        assert_eq!(client.response(stream).0, 200);
    }
    balancer.wait_for_metric("evenkeel_http_requests_total", &[("code", "4xx")], 3.0);
    assert_eq!(balancer.metric("evenkeel_http_requests_total", &[]), 3.0);
    assert_eq!(balancer.metric("evenkeel_http_requests_failed_total", &[]), 0.0);
}

/// A server that reads whatever comes, and says nothing.
fn listening() -> tcp::Server {
    tcp::Server::new(|mut stream| {
        let _ = stream.write_all(&h2::frame(h2::SETTINGS, 0, 0, b""));
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    })
}

/// Until a request is whole its server has nothing to answer.
#[test]
fn what_a_client_has_not_sent_is_not_waited_for_in_vain() {
    const PATIENCE: Duration = Duration::from_millis(1200);
    let server = tcp::Server::new(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
    let balancer = Balancer::start(&plain(&[server.address], "", "retries: { on: [] }"));
    let address = balancer.address("web");
    let length = "Content-Length: 10\r\n\r\nhello";
    std::thread::scope(|scope| {
        for rest in [length, "Content-Length: 10\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
        {
            scope.spawn(move || {
                let mut client = Client::connect(address);
                client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}"));
                std::thread::sleep(PATIENCE);
            });
        }
        scope.spawn(move || {
            let mut client = h2::Connection::new(address);
            client.request(1, "POST", "/", false);
            client.data(1, b"hello", false);
            std::thread::sleep(PATIENCE);
        });
        // Slow, and gone soon after the end.
        scope.spawn(move || {
            let mut client = Client::connect(address);
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{length}"));
            std::thread::sleep(PATIENCE);
            client.send("world");
            std::thread::sleep(Duration::from_millis(50));
        });
    });
    balancer.wait_for_failures("client_aborted", 5.0);
    assert_eq!(balancer.metric("evenkeel_http_requests_failed_total", &[]), 0.0);
    let mut client = Client::connect(address);
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{length}world"));
    std::thread::sleep(PATIENCE);
    drop(client);
    balancer.wait_for_failures("client_aborted", 6.0);
    assert_eq!(balancer.metric("evenkeel_http_requests_failed_total", &[]), 1.0);
}

/// Nor has one that none is asked for yet.
#[test]
fn an_upload_that_breaks_off_while_it_is_held_is_no_failure() {
    let app = App::saying("well");
    let text = plain(&[app.address], "", "").replace("pool: app,", "routes: shop,")
        + "routes: { shop: [{ buffer: { request: 1MiB }, pool: app }] }\n";
    let balancer = Balancer::start(&text);
    let mut client = Client::connect(balancer.address("web"));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    std::thread::sleep(Duration::from_millis(1200));
    drop(client);
    balancer.wait_for_failures("client_aborted", 1.0);
    assert_eq!(balancer.metric("evenkeel_http_requests_failed_total", &[]), 0.0);
}

/// Like a client that leaves: it has given up only after a second.
#[test]
fn calls_that_have_no_time_are_no_failures() {
    let server = listening();
    let balancer = Balancer::start(&plain(&[server.address], "", "protocol: h2, retries: { on: [] }"));
    for (calls, timeout, failed) in [(1.0, "1m", 0.0), (2.0, "200m", 0.0), (3.0, "1200m", 1.0)] {
        let mut client = h2::Connection::new(balancer.address("web"));
        let call = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/shop.Cart/Get"),
            (":authority", "a"),
            ("content-type", "application/grpc"),
            ("grpc-timeout", timeout),
        ];
        client.fields(1, &call, true);
        assert_eq!(client.response(1).0, 200, "{timeout}");
        balancer.wait_for_metric("evenkeel_grpc_requests_total", &[("status", "deadline_exceeded")], calls);
        assert_eq!(balancer.metric("evenkeel_http_requests_failed_total", &[]), failed, "{timeout}");
    }
}

/// The server ends calls itself when their time is over, as gRPC's own servers do: by then nobody waits any more.
#[test]
fn calls_whose_short_deadlines_their_server_keeps_are_no_failures() {
    for (calls, delay, timeout, failed) in [
        (1.0, Duration::from_millis(190), "200m", 0.0),
        // What is told at once has another cause, and what is waited for longer is the server's.
        (1.0, Duration::ZERO, "900m", 1.0),
        (1.0, Duration::from_millis(1190), "1200m", 1.0),
    ] {
        let server = ending_after(delay, "4");
        let balancer = Balancer::start(&plain(&[server.address], "", "protocol: h2, retries: { on: [] }"));
        call_within(balancer.address("web"), timeout);
        balancer.wait_for_metric("evenkeel_grpc_requests_total", &[("status", "deadline_exceeded")], calls);
        let all_failed = balancer.metric("evenkeel_http_requests_failed_total", &[]);
        assert_eq!(all_failed, failed, "{delay:?} of {timeout}");
    }
}

/// Servers that keep such deadlines themselves answer, but say nothing.
#[test]
fn calls_whose_short_deadlines_pass_in_vain_are_seen() {
    let good = ending("0");
    let bad: [fn() -> tcp::Server; 2] = [listening, || ending_after(Duration::from_millis(190), "4")];
    std::thread::scope(|scope| {
        for bad in bad {
            let kind = Kind { call: call_hastily, ..GRPC };
            let address = good.address;
            scope.spawn(move || {
                check(&Kind { call: call_hastily, ..GRPC }, address, bad().address);
                assert_eq!(is_addition_taken_back(&kind, [address; 2], bad().address), Ok(()));
            });
        }
        let kind = Kind { call: |address| call_within(address, "900m"), ..GRPC };
        let address = good.address;
        scope.spawn(move || check(&kind, address, listening().address));
    });
}

/// Waits in the middle of a request's body, and then leaves, or sends the rest.
fn upload_slowly(address: SocketAddr, how: Upload) {
    let head = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello";
    let (wait, ends) = match how {
        Upload::BrokenOff(wait) => (wait, false),
        Upload::Whole(wait) => (wait, true),
        Upload::OfHttp2(wait) => {
            let mut client = h2::Connection::new(address);
            client.request(1, "POST", "/upload", false);
            client.data(1, b"hello", false);
            std::thread::sleep(wait);
            client.reset(1);
            return std::thread::sleep(Duration::from_millis(100));
        }
    };
    let mut client = Client::connect(address);
    client.send(head);
    std::thread::sleep(wait);
    if ends {
        client.send("world");
    }
    // Its time may be over.
    if ends || wait > Duration::from_secs(3) {
        let _ = client.try_response();
    }
}

#[derive(Clone, Copy, Debug)]
enum Upload {
    BrokenOff(Duration),
    Whole(Duration),
    OfHttp2(Duration),
}

/// Whether a guarded reload that changes nothing much is kept in a quiet pool, while these uploads are under way.
#[track_caller]
fn check_uploads_kept(uploads: &[Upload], listener: &str, pool: &str) {
    let app = App::saying("well");
    let text =
        |more| format!("access_log: off\n{}", plain(&[app.address], listener, &format!("{pool}{more}")));
    let balancer = Balancer::start(&text(""));
    let address = balancer.address("web");
    let few = |how: Upload| {
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(move || upload_slowly(address, how));
            }
        });
    };
    few(Upload::Whole(Duration::ZERO));
    balancer.write(&text("drain_timeout: 59s"));
    std::thread::scope(|scope| {
        let guarded = scope.spawn(|| {
            balancer.command(&["reload", "--guard", "5s", "--min-requests", "8", "--max-error-rise", "90"])
        });
        wait_until("the reload is in force", || balancer.generation() > 1.0);
        for how in uploads {
            scope.spawn(move || few(*how));
        }
        let (code, out, err) = guarded.join().expect("it ended");
        assert_eq!(code, Some(0), "{uploads:?}: {out}{err}");
    });
}

/// Until a request is whole nobody waits for its server.
#[test]
fn uploads_that_are_slow_or_break_off_are_no_silence_of_servers() {
    let ms = Duration::from_millis;
    let cases: [(&[Upload], &str); 5] = [
        (&[Upload::BrokenOff(ms(50)), Upload::OfHttp2(ms(50))], ""),
        (&[Upload::BrokenOff(ms(500)), Upload::OfHttp2(ms(500))], ""),
        (&[Upload::BrokenOff(ms(3000)), Upload::OfHttp2(ms(3000))], ""),
        (&[Upload::Whole(ms(2000)); 2], ""),
        // With 408.
        (&[Upload::BrokenOff(ms(3500))], "timeouts: { request_body: 1s }"),
    ];
    std::thread::scope(|scope| {
        for (uploads, listener) in cases {
            scope.spawn(move || check_uploads_kept(uploads, listener, ""));
        }
    });
}

/// Sends more than anybody holds, and leaves when nobody takes it.
fn upload_much(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000000\r\n\r\n");
    let mut socket = client.socket().try_clone().expect("a socket has handles");
    socket.set_write_timeout(Some(Duration::from_millis(300))).expect("a socket takes its options");
    if socket.write_all(&vec![b'x'; 40_000_000]).is_ok() {
        let _ = client.try_response();
    }
}

/// What a server does not take waits for it, whole or not.
#[test]
fn servers_that_do_not_read_uploads_are_silent() {
    let good = App::saying("well");
    let deaf = tcp::Server::new(|mut stream| {
        let _ = stream.read(&mut [0; 16]);
        std::thread::sleep(Duration::from_secs(20));
    });
    let listener = "limits: { request_body: 1GiB }";
    check(&Kind { call: upload_much, listener, ..HTTP }, good.address, deaf.address);
}

/// Asks whether its body may come, and leaves if nobody says so.
fn upload_expectantly(address: SocketAddr) {
    let mut client = Client::connect(address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let mut socket = client.socket().try_clone().expect("a socket has handles");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket takes its options");
    if let Ok(1..) = socket.read(&mut [0; 1024]) {
        let _ = socket.write_all(b"hello");
        let _ = socket.read(&mut [0; 1024]);
    }
}

/// Such a client is to send more, and is not to do it.
#[test]
fn servers_that_never_say_that_a_body_may_come_are_silent() {
    let good = tcp::Server::new(|mut stream| {
        let head = |stream: &mut std::net::TcpStream| {
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).ok()?;
                read.extend(byte);
            }
            Some(())
        };
        while head(&mut stream).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            let _ = stream.read_exact(&mut [0; 5]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell");
        }
    });
    let silent = tcp::Server::new(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
    check(&Kind { call: upload_expectantly, ..HTTP }, good.address, silent.address);
}

/// Whoever begins to wait at the moment of a look has not waited.
#[test]
fn requests_that_come_all_at_once_are_no_silence() {
    let app = App::new(|_, stream| {
        std::thread::sleep(Duration::from_millis(450));
        say(stream, "well")
    });
    let text = |more| format!("access_log: off\n{}", plain(&[app.address], "", more));
    let balancer = Balancer::start(&text(""));
    let address = balancer.address("web");
    get(address);
    balancer.write(&text("drain_timeout: 59s"));
    std::thread::scope(|scope| {
        let guarded = scope.spawn(|| balancer.command(&["reload", "--guard", "3s", "--min-requests", "8"]));
        wait_until("the reload is in force", || balancer.generation() > 1.0);
        std::thread::sleep(Duration::from_secs(2));
        for _ in 0..16 {
            scope.spawn(move || get(address));
        }
        let (code, out, err) = guarded.join().expect("it ended");
        assert_eq!(code, Some(0), "{out}{err}");
    });
}

/// While it is held, whatever for, no server has it.
#[test]
fn a_call_ends_at_its_deadline_while_it_is_held_and_blames_nobody() {
    let app = App::saying("well");
    for (policy, is_whole, before) in [
        ("buffer: { request: 1MiB }", false, 0),
        ("fault: { share: 100%, delay: 20s, only_with: null }", true, 0),
        ("rate_limit: [{ requests: 3/m, burst: 1, over: { delay: 60s } }]", true, 1),
    ] {
        let text = plain(&[app.address], "", "").replace("pool: app,", "routes: shop,")
            + &format!("routes: {{ shop: [{{ {policy}, pool: app }}] }}\n");
        let balancer = Balancer::start(&text);
        let address = balancer.address("web");
        for _ in 0..before {
            get(address);
        }
        let hits = app.hits();
        for (calls, timeout) in [(1.0, "300m"), (2.0, "1200m")] {
            let mut client = h2::Connection::new(address);
            client.fields(1, &call_of(timeout), is_whole);
            assert_eq!(client.response(1).0, 200, "{policy}");
            balancer.wait_for_failures("request_timeout", calls);
            assert_eq!(
                balancer.metric("evenkeel_http_requests_failed_total", &[]),
                0.0,
                "{policy}: {timeout}"
            );
            let record = balancer.record("/shop.Cart/Get");
            assert_eq!(record["grpc_status"].as_u64(), Some(4), "{policy}: {record}");
        }
        assert_eq!(app.hits(), hits, "{policy}");
    }
}

#[test]
fn a_reload_after_an_upgrade_is_judged_by_what_was_before_that() {
    let asked = AtomicUsize::new(0);
    let app = App::new(move |_, stream| match asked.fetch_add(1, SeqCst) % 2 {
        0 => say(stream, "well"),
        _ => status(stream, "500 Internal Server Error", "as ever"),
    });
    let text = |more: &str| plain(&[app.address], "", &format!("retries: {{ on: [] }}{more}"));
    let balancer = Balancer::start(&text(""));
    let (address, stop) = (balancer.address("web"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(SeqCst) {
                get(address);
            }
        });
        wait_until("the history has traffic", || points(&balancer) > 100);
        balancer.signal(Signal::USR2);
        let next = Next::of(&balancer);
        wait_until("the new process has it", || {
            balancer.command_json(&["status"])["process"]["pid"] == next.0.as_raw_nonzero().get()
        });
        assert!(points(&balancer) > 100);
        balancer.write(&text(", drain_timeout: 59s"));
        let kept = balancer.command(&["reload", "--guard", "2s"]);
        assert_eq!(kept.0, Some(0), "{kept:?}");
        next
    })
    .end();
}
