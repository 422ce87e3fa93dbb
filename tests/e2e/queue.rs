//! Requests and connections that wait for a server with room: who is next, who leaves, and who is told what.

use crate::support::app::{App, Latch, say};
use crate::support::balancer::{Balancer, Next, Reloaded, outcome};
use crate::support::client::Client;
use crate::support::tcp::{self, Server};
use crate::support::{h2, wait_until};
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// Servers with room for one request each, each held until its latch opens for it.
fn text(servers: &[SocketAddr], pool: &str) -> String {
    let servers: Vec<_> =
        (1..).zip(servers).map(|(n, server)| format!("{{ name: s{n}, address: {server} }}")).collect();
    format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: r }}\n\
         routes:\n  r:\n\
         \x20   - {{ match: {{ path: /high/* }}, pool: app, priority: high }}\n\
         \x20   - {{ match: {{ path: /low/* }}, pool: app, priority: low }}\n\
         \x20   - pool: app\n\
         pools:\n  app: {{ servers: [{}], max_connections: 1, {pool} }}\n",
        servers.join(", ")
    )
}

/// Says which paths it was asked for, and answers one after the other as it is let.
struct Turns {
    app: App,
    next: std::sync::mpsc::Sender<()>,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Turns {
    fn new() -> Self {
        let (next, turns) = std::sync::mpsc::channel();
        let (paths, turns) = (Arc::new(Mutex::new(Vec::new())), Mutex::new(turns));
        let seen = Arc::clone(&paths);
        let app = App::new(move |request, stream| {
            seen.lock().expect("no test thread panics with it").push(request.target.clone());
            let _ = turns.lock().expect("no test thread panics with it").recv();
            say(stream, "done")
        });
        Self { app, next, paths }
    }

    /// Lets one request more end.
    fn let_one(&self) {
        self.next.send(()).expect("somebody waits for it");
    }

    fn paths(&self) -> Vec<String> {
        self.paths.lock().expect("no test thread panics with it").clone()
    }
}

/// Says its name once the latch is open.
fn holding(name: &'static str, latch: &Latch) -> App {
    let latch = latch.clone();
    App::new(move |_, stream| {
        latch.wait();
        say(stream, name)
    })
}

fn ask(balancer: &Balancer, path: &str) -> Client {
    let mut client = balancer.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

/// So many wait.
fn wait_for_line(balancer: &Balancer, length: f64) {
    balancer.wait_for_metric("evenkeel_pool_queue_length", &[("pool", "app")], length);
}

fn ended(balancer: &Balancer, result: &str) -> f64 {
    balancer.metric("evenkeel_pool_queue_total", &[("pool", "app"), ("result", result)])
}

#[test]
fn requests_wait_for_room_and_are_served_by_class() {
    let turns = Turns::new();
    let balancer = Balancer::start(&text(&[turns.app.address], "queue: { order: fifo }"));
    let mut clients = vec![ask(&balancer, "/first")];
    balancer.wait_for_in_flight(1.0);
    for (n, path) in (1..).zip(["/low/a", "/b", "/high/c", "/d"]) {
        clients.push(ask(&balancer, path));
        wait_for_line(&balancer, f64::from(n));
    }
    let status = balancer.command_json(&["status"]);
    assert_eq!(status["pools"][0]["waiting"], 4, "{status}");
    let (_, said, _) = balancer.command(&["status"]);
    assert!(said.contains(", 4 waiting"), "{said}");
    let explained = balancer.command_json(&["explain", "GET", "http://a/"]);
    let rule = "every server is at its max_connections: it waits behind 4 others, up to 5s";
    assert_eq!(explained["rule"], rule, "{explained}");
    for _ in 0..5 {
        turns.let_one();
    }
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    assert_eq!(turns.paths(), ["/first", "/high/c", "/b", "/d", "/low/a"]);
    let record = balancer.record("/b");
    assert_eq!((outcome(&record), &record["queue_position"]), ((200, "ok".to_owned()), &Value::from(1)));
    assert!(
        record["queue_ms"].as_f64() > Some(0.0)
            && record["duration_ms"].as_f64() >= record["queue_ms"].as_f64()
    );
    assert_eq!(balancer.record("/d")["queue_position"], 3);
    assert_eq!(balancer.record("/first").get("queue_ms"), None);
    assert_eq!(ended(&balancer, "served"), 4.0);
    assert_eq!(balancer.metric("evenkeel_pool_queue_wait_seconds_count", &[("pool", "app")]), 4.0);
    assert_eq!(balancer.metric("evenkeel_server_limit", &[("server", "s1")]), 1.0);
    wait_for_line(&balancer, 0.0);
}

#[test]
fn who_waits_in_the_process_before_an_upgrade_is_counted() {
    let turns = Turns::new();
    let balancer = Balancer::start(&text(&[turns.app.address], "queue: { timeout: 60s }"));
    let mut clients = vec![ask(&balancer, "/first")];
    balancer.wait_for_in_flight(1.0);
    clients.push(ask(&balancer, "/second"));
    wait_for_line(&balancer, 1.0);
    assert_eq!(balancer.command(&["upgrade"]).0, Some(0));
    let next = Next::of(&balancer);
    wait_until("the old process tells who waits there", || {
        balancer.command_json(&["status"])["pools"][0]["waiting"] == 1
    });
    (0..2).for_each(|_| turns.let_one());
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    wait_until("nobody waits any more", || balancer.command_json(&["status"])["pools"][0]["waiting"] == 0);
    next.end();
}

#[test]
fn a_line_that_is_full_refuses_or_sheds_and_says_when_to_come_back() {
    let turns = Turns::new();
    let balancer = Balancer::start(&text(&[turns.app.address], "queue: { max: 1 }"));
    let mut first = ask(&balancer, "/first");
    balancer.wait_for_in_flight(1.0);
    let mut low = ask(&balancer, "/low/a");
    wait_for_line(&balancer, 1.0);
    let refused = balancer.get("/low/b");
    assert_eq!((refused.status, refused.text()), (503, "503 Service Unavailable\n".to_owned()));
    let seconds: u32 = refused.field("retry-after").parse().expect("a number");
    assert!((24..=36).contains(&seconds), "nothing has moved: {seconds}");
    assert_eq!(balancer.outcome("/low/b"), (503, "queue_full".to_owned()));

    let mut normal = ask(&balancer, "/c");
    assert_eq!(low.response().status, 503);
    assert_eq!(balancer.outcome("/low/a"), (503, "queue_shed".to_owned()));
    assert_eq!(balancer.get("/d").status, 503);
    (0..2).for_each(|_| turns.let_one());
    assert_eq!([&mut first, &mut normal].map(|client| client.response().status), [200, 200]);
    assert_eq!(["served", "full", "shed"].map(|result| ended(&balancer, result)), [1.0, 2.0, 1.0]);
    balancer.wait_for_failures("queue_full", 2.0);
}

#[test]
fn who_waits_for_too_long_is_told() {
    let latch = Latch::default();
    let app = holding("a", &latch);
    let balancer = Balancer::start(&text(&[app.address], "queue: { timeout: 100ms }"));
    let mut first = ask(&balancer, "/first");
    balancer.wait_for_in_flight(1.0);
    assert_eq!(balancer.get("/second").status, 503);
    let record = balancer.record("/second");
    assert_eq!(outcome(&record), (503, "queue_timeout".to_owned()));
    assert!(record["queue_ms"].as_f64() >= Some(100.0), "{record}");
    assert_eq!(record["tries"], 0);
    latch.open();
    assert_eq!(first.response().status, 200);
    assert_eq!((ended(&balancer, "timeout"), app.hits()), (1.0, 1));
}

#[test]
fn the_requests_own_limit_includes_the_wait() {
    let latch = Latch::default();
    let app = holding("a", &latch);
    let balancer = Balancer::start(&text(
        &[app.address],
        "timeouts: { request: 200ms, response_header: 30s }, queue: { timeout: 150ms }",
    ));
    // It has what is left of 200 ms once it is served.
    let held = text(&[app.address], "timeouts: { request: 200ms }");
    assert_eq!(balancer.reload(&held), Reloaded::Taken);
    let _first = ask(&balancer, "/first");
    balancer.wait_for_in_flight(1.0);
    assert_eq!(balancer.get("/second").status, 504);
    let record = balancer.record("/second");
    assert!(outcome(&record).1 == "request_timeout", "{record}");
    latch.open();
}

#[test]
fn who_leaves_is_out_of_the_line_and_reaches_no_server() {
    let turns = Turns::new();
    let balancer = Balancer::start(&text(&[turns.app.address], ""));
    let mut first = ask(&balancer, "/first");
    balancer.wait_for_in_flight(1.0);
    let leaving = ask(&balancer, "/fin");
    let resetting = ask(&balancer, "/reset");
    let mut posting = balancer.client();
    posting.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    let mut over_h2 = h2::Connection::new(balancer.address("web"));
    over_h2.request(1, "GET", "/stream", true);
    wait_for_line(&balancer, 4.0);
    leaving.finish_sending();
    wait_for_line(&balancer, 3.0);
    resetting.reset();
    wait_for_line(&balancer, 2.0);
    over_h2.reset(1);
    wait_for_line(&balancer, 1.0);
    posting.finish_sending();
    wait_for_line(&balancer, 0.0);
    for path in ["/fin", "/reset", "/stream", "/body"] {
        assert_eq!(balancer.outcome(path), (499, "client_aborted".to_owned()), "{path}");
        let record = balancer.record(path);
        assert!(record["queue_ms"].as_f64() > Some(0.0), "{record}");
    }
    turns.let_one();
    assert_eq!(first.response().status, 200);
    balancer.wait_for_in_flight(0.0);
    assert_eq!((turns.paths(), ended(&balancer, "left")), (vec!["/first".to_owned()], 4.0));
}

#[test]
fn whose_turn_comes_just_after_he_left_reaches_no_server() {
    let turns = Turns::new();
    let balancer = Balancer::start(&text(&[turns.app.address], "queue: { max: 1000, order: fifo }"));
    for round in 0..30 {
        let mut first = ask(&balancer, &format!("/first/{round}"));
        balancer.wait_for_in_flight(1.0);
        let leaving: Vec<_> = (0..20).map(|_| ask(&balancer, "/left")).collect();
        wait_for_line(&balancer, 20.0);
        leaving.iter().for_each(Client::finish_sending);
        turns.let_one();
        assert_eq!(first.response().status, 200);
        wait_for_line(&balancer, 0.0);
        balancer.wait_for_in_flight(0.0);
    }
    let paths = turns.paths();
    assert_eq!(paths.iter().filter(|path| *path == "/left").count(), 0);
}

#[test]
fn who_leaves_behind_a_body_that_nobody_reads_yet_is_out_of_the_line() {
    let turns = Turns::new();
    let balancer = Balancer::start(&text(&[turns.app.address], ""));
    let mut first = ask(&balancer, "/first");
    balancer.wait_for_in_flight(1.0);
    let post = |path: &str, length: usize| {
        let mut client = balancer.client();
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        client.send(head + &"x".repeat(length));
        wait_for_line(&balancer, 1.0);
        client
    };
    let leaving = post("/fin", 100_000);
    leaving.finish_sending();
    wait_for_line(&balancer, 0.0);
    post("/reset", 200_000).reset();
    wait_for_line(&balancer, 0.0);
    for path in ["/fin", "/reset"] {
        assert_eq!(balancer.outcome(path), (499, "client_aborted".to_owned()), "{path}");
    }
    turns.let_one();
    assert_eq!(first.response().status, 200);
    balancer.wait_for_in_flight(0.0);
    assert_eq!((turns.paths(), ended(&balancer, "left")), (vec!["/first".to_owned()], 2.0));
}

#[test]
fn a_client_that_only_says_no_more_waits_on_where_that_is_allowed() {
    let turns = Turns::new();
    let text = text(&[turns.app.address], "").replace("routes: r }", "routes: r, client_fin: serve }");
    let balancer = Balancer::start(&text);
    let mut first = ask(&balancer, "/first");
    balancer.wait_for_in_flight(1.0);
    let mut posting = balancer.client();
    posting.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    posting.finish_sending();
    wait_for_line(&balancer, 1.0);
    (0..2).for_each(|_| turns.let_one());
    assert_eq!([&mut first, &mut posting].map(|client| client.response().status), [200, 200]);
    assert_eq!(turns.app.last().body, b"abc");
}

#[test]
fn a_client_that_says_no_more_leaves_where_that_is_leaving_at_any_time() {
    let turns = Turns::new();
    let text = text(&[turns.app.address], "").replace("routes: r }", "routes: r, client_fin: close }");
    let balancer = Balancer::start(&text);
    let mut first = ask(&balancer, "/first");
    balancer.wait_for_in_flight(1.0);
    let leaving = ask(&balancer, "/leaving");
    wait_for_line(&balancer, 1.0);
    leaving.finish_sending();
    wait_for_line(&balancer, 0.0);
    assert_eq!(balancer.outcome("/leaving"), (499, "client_aborted".to_owned()));
    turns.let_one();
    assert_eq!(first.response().status, 200);
}

#[test]
fn a_retry_that_waits_ends_with_the_requests_own_limit() {
    let turns = Turns::new();
    let refusing = crate::support::app::Refusing::new();
    let pool = "balance: round_robin, retries: { max: 3 }, timeouts: { request: 1s }, queue: { timeout: 1h }";
    let balancer = Balancer::start(&text(&[turns.app.address, refusing.address], pool));
    let mut first = ask(&balancer, "/first");
    wait_until("the server has it", || turns.app.hits() == 1);
    let mut second = ask(&balancer, "/second");
    wait_for_line(&balancer, 1.0);
    assert_eq!(second.response().status, 504);
    assert_eq!(balancer.outcome("/second"), (504, "request_timeout".to_owned()));
    turns.let_one();
    let _ = first.try_response();
}

#[test]
fn the_body_and_100_continue_come_after_the_wait() {
    let turns = Turns::new();
    let balancer = Balancer::start(&text(&[turns.app.address], ""));
    let mut first = ask(&balancer, "/first");
    balancer.wait_for_in_flight(1.0);
    let mut client = balancer.client();
    client.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    wait_for_line(&balancer, 1.0);
    client.socket().set_nonblocking(true).expect("it is ours");
    let nothing = client.socket().peek(&mut [0]).map_err(|error| error.kind());
    assert_eq!(nothing, Err(std::io::ErrorKind::WouldBlock));
    client.socket().set_nonblocking(false).expect("it is ours");
    turns.let_one();
    assert_eq!(first.response().status, 200);
    assert_eq!(client.head().map(|head| head.status), Some(100));
    client.send("abc");
    turns.let_one();
    assert_eq!(client.response().status, 200);
}

#[test]
fn whatever_makes_room_serves_the_line_at_once() {
    let latch = Latch::default();
    let [one, two] = ["a", "b"].map(|name| holding(name, &latch));
    let balancer =
        Balancer::start(&text(&[one.address], "queue: { timeout: 1h }, timeouts: { request: 2h }"));
    let mut clients = vec![ask(&balancer, "/1")];
    balancer.wait_for_in_flight(1.0);
    clients.extend(["/2", "/3", "/4"].map(|path| ask(&balancer, path)));
    wait_for_line(&balancer, 3.0);
    let settings = "queue: { timeout: 1h }, timeouts: { request: 2h }";
    assert_eq!(balancer.reload(&text(&[one.address, two.address], settings)), Reloaded::Taken);
    wait_for_line(&balancer, 2.0);
    let higher =
        text(&[one.address, two.address], settings).replace("max_connections: 1", "max_connections: 2");
    assert_eq!(balancer.reload(&higher), Reloaded::Taken);
    wait_for_line(&balancer, 0.0);
    balancer.wait_for_in_flight(4.0);
    latch.open();
    assert!(clients.iter_mut().all(|client| client.response().status == 200));
    assert_eq!((one.hits(), two.hits()), (2, 2));
}

#[test]
fn a_reload_that_replaces_all_servers_has_requests_wait_for_the_first_probe() {
    let (held, proven) = (Latch::default(), Latch::default());
    let old = holding("old", &held);
    let is_proven = proven.clone();
    let new = App::new(move |request, stream| {
        if request.target == "/healthz" {
            is_proven.wait();
        }
        say(stream, "new")
    });
    let settings = "when_all_unhealthy: refuse, health: { http: /healthz, interval: 50ms, timeout: 10s }, queue: { timeout: 1h }, timeouts: { request: 2h }";
    let balancer = Balancer::start(&text(&[old.address], &settings.replace("http: /healthz", "tcp: {}")));
    let mut first = ask(&balancer, "/first");
    balancer.wait_for_in_flight(1.0);
    let mut waiting = ask(&balancer, "/waiting");
    wait_for_line(&balancer, 1.0);
    assert_eq!(balancer.reload(&text(&[new.address], settings)), Reloaded::Taken);
    let mut later = ask(&balancer, "/later");
    wait_for_line(&balancer, 2.0);
    proven.open();
    assert_eq!((waiting.response().text(), later.response().text()), ("new".into(), "new".into()));
    held.open();
    assert_eq!(first.response().text(), "old");
}

#[test]
fn those_that_wait_for_nothing_are_told_at_once() {
    let latch = Latch::default();
    let app = holding("a", &latch);
    let balancer =
        Balancer::start(&text(&[app.address], "queue: { timeout: 1h }, timeouts: { request: 2h }"));
    let mut first = ask(&balancer, "/first");
    balancer.wait_for_in_flight(1.0);
    let mut waiting = ask(&balancer, "/waiting");
    wait_for_line(&balancer, 1.0);
    let (code, _, said) = balancer.command(&["drain", "app/s1", "--force"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(waiting.response().status, 503);
    assert_eq!(balancer.outcome("/waiting"), (503, "none_ready".to_owned()));
    latch.open();
    assert_eq!(first.response().status, 200);
}

#[test]
fn a_try_that_found_no_connection_waits_for_a_server_that_has_room() {
    let turns = Turns::new();
    let refusing = crate::support::app::Refusing::new();
    let balancer = Balancer::start(&text(
        &[turns.app.address, refusing.address],
        "balance: round_robin, retries: { max: 3 }",
    ));
    let mut first = ask(&balancer, "/first");
    wait_until("the server has it", || turns.app.hits() == 1);
    let mut second = ask(&balancer, "/second");
    wait_for_line(&balancer, 1.0);
    (0..2).for_each(|_| turns.let_one());
    assert_eq!([&mut first, &mut second].map(|client| client.response().status), [200, 200]);
    let record = balancer.record("/second");
    assert_eq!((outcome(&record), &record["tries"]), ((200, "ok".to_owned()), &Value::from(2)));
    assert!(balancer.metric("evenkeel_retries_total", &[("reason", "connect")]) >= 1.0);
}

#[test]
fn tcp_clients_wait_before_their_server_is_connected_to() {
    let server = Server::echo("hello");
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, protocol: tcp, pool: app }}\n\
         pools:\n  app: {{ servers: [{{ address: {} }}], max_connections: 1 }}\n",
        server.address
    );
    let balancer = Balancer::start(&text);
    let web = balancer.address("web");
    let mut first = tcp::connect(web);
    assert_eq!(tcp::bytes(&mut first, 5), b"hello");
    let mut second = tcp::connect(web);
    second.write_all(b"early").expect("taken");
    wait_for_line(&balancer, 1.0);
    let silent = tcp::connect(web);
    wait_for_line(&balancer, 2.0);
    drop(silent);
    wait_for_line(&balancer, 1.0);
    let third = tcp::connect(web);
    wait_for_line(&balancer, 2.0);
    tcp::reset(third);
    wait_for_line(&balancer, 1.0);
    assert_eq!(server.accepted(), 1);
    drop(first);
    assert_eq!(tcp::bytes(&mut second, 10), b"helloearly");
    let record = balancer.record_where("it has waited", |record| {
        record["why"] == "ok" && !record["queue_ms"].is_null() || record["queue_ms"].is_number()
    });
    assert_eq!(record["protocol"], "TCP");
    assert_eq!(["served", "left"].map(|result| ended(&balancer, result)), [1.0, 2.0]);
}

#[test]
fn who_waits_for_a_pool_that_a_reload_renames_goes_where_its_listener_leads_now() {
    let (server, other) = (Server::echo("one"), Server::echo("two"));
    let text = |pool: &str, address: SocketAddr| {
        format!(
            "listeners:\n  web: {{ address: 127.0.0.1:0, protocol: tcp, pool: {pool} }}\n\
             pools:\n  {pool}: {{ servers: [{{ address: {address} }}], max_connections: 1 }}\n"
        )
    };
    let balancer = Balancer::start(&text("app", server.address));
    let mut first = tcp::connect(balancer.address("web"));
    assert_eq!(tcp::bytes(&mut first, 3), b"one");
    let mut waiting = tcp::connect(balancer.address("web"));
    waiting.write_all(b"early").expect("taken");
    wait_for_line(&balancer, 1.0);
    assert_eq!(balancer.reload(&text("new", other.address)), Reloaded::Taken);
    assert_eq!(tcp::bytes(&mut waiting, 8), b"twoearly");
    drop((first, waiting));
    let record = balancer.record_where("it has waited", |record| record["queue_ms"].is_number());
    assert_eq!((&record["pool"], &record["why"]), (&Value::from("new"), &Value::from("ok")));
}

#[test]
fn who_waits_goes_on_to_where_a_reload_has_nobody_wait_any_more() {
    let turns = Turns::new();
    let balancer =
        Balancer::start(&text(&[turns.app.address], "queue: { timeout: 1h }, timeouts: { request: 2h }"));
    let mut first = ask(&balancer, "/first");
    wait_until("the server has it", || turns.app.hits() == 1);
    let mut waiting = ask(&balancer, "/waiting");
    wait_for_line(&balancer, 1.0);
    let ends = text(&[turns.app.address], "queue: null, timeouts: { request: 2h }");
    assert_eq!(balancer.reload(&ends), Reloaded::Taken);
    assert_eq!(ask(&balancer, "/new").response().status, 503);
    (0..2).for_each(|_| turns.let_one());
    assert_eq!([&mut first, &mut waiting].map(|client| client.response().status), [200, 200]);
}

#[test]
fn a_call_is_told_in_its_own_words_when_to_come_back() {
    let latch = Latch::default();
    let app = holding("a", &latch);
    let balancer = Balancer::start(&text(&[app.address], "queue: { timeout: 50ms }"));
    let _first = ask(&balancer, "/first");
    balancer.wait_for_in_flight(1.0);
    let mut connection = h2::Connection::new(balancer.address("web"));
    let call = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/call"),
        (":authority", "a"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    connection.fields(1, &call, true);
    let record = balancer.record("/call");
    assert_eq!((&record["why"], &record["grpc_status"]), (&"queue_timeout".into(), &14.into()));
    latch.open();
}

/// A server with one worker, which has one connection for as long as its client keeps it, as a prefork server does.
fn prefork() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = std::io::BufReader::new(stream.try_clone().expect("it is ours"));
            while crate::support::app::read_head(&mut reader).is_some() {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if stream.write_all(answer).is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn an_idle_connection_on_another_core_does_not_hold_a_servers_only_worker() {
    let text = format!(
        "process: {{ threads: 4 }}\n\
         listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\n\
         pools:\n  app: {{ servers: [{}], max_connections: 1, retries: {{ max: 0 }}, \
         timeouts: {{ response_header: 3s, keepalive: 1h }} }}\n",
        prefork()
    );
    let balancer = Balancer::start(&text);
    // Each comes to some core, and finds the connection at rest on another one, or a new one.
    let mut clients: Vec<_> = (0..24).map(|_| balancer.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.get(&format!("/{n}")).status, 200, "{n}");
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.get(&format!("/again/{n}")).status, 200, "{n}");
    }
}

#[test]
fn those_who_wait_are_served_as_a_ramp_raises_a_limit() {
    let latch = Latch::default();
    let (one, two) = (App::holding("one", &latch), App::holding("two", &latch));
    let balancer = Balancer::start(&format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, pool: app }} }}\npools:\n  app:\n    queue: {{ timeout: 60s }}\n    \
         slow_start: {{ over: 2s, from: 10% }}\n    servers:\n      - {{ name: one, address: {}, max_connections: 1 }}\n      \
         - {{ name: two, address: {}, max_connections: 4 }}\n",
        one.address, two.address
    ));
    assert_eq!(balancer.command(&["maint", "app/two"]).0, Some(0));
    assert_eq!(balancer.command(&["ready", "app/two"]).0, Some(0));
    let mut clients: Vec<_> = (0..5).map(|_| balancer.client()).collect();
    clients.iter_mut().for_each(|client| client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n"));
    // No request ends, and no other comes.
    balancer.wait_for_in_flight(5.0);
    latch.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
}
