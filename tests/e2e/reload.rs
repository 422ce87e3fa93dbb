//! A reload takes over a whole configuration or none of it, and touches nothing that it does not change.

use crate::support::app::{App, Latch, Then, say, send, status};
use crate::support::balancer::{Balancer, Next, Reloaded, outcome, plain};
use crate::support::client::{self, Client};
use crate::support::{h2, udp, wait_until};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// Listeners with these lines, each leading to the pool `app` of one server.
fn listeners(lines: &[&str], server: SocketAddr) -> String {
    let lines: String =
        lines.iter().map(|line| line.replace("app", "pool: app")).map(|line| format!("  {line}\n")).collect();
    format!("listeners:\n{lines}pools:\n  app: {{ servers: [{server}] }}\n")
}

/// An address for a listener that must know its port: free, and on a loopback address of the test's own.
fn own_address() -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let n = u8::try_from(NEXT.fetch_add(1, SeqCst)).expect("few tests");
    let held =
        TcpListener::bind(SocketAddr::from(([127, 91, n, 1], 0))).expect("loopback has many addresses");
    held.local_addr().expect("a bound socket has an address")
}

/// Ends the threads beside a test, also when it fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn holding(latch: &Latch) -> App {
    let held = latch.clone();
    App::new(move |request, stream| {
        if request.target.starts_with("/slow") {
            held.wait();
        }
        say(stream, "done")
    })
}

#[test]
fn a_broken_file_changes_nothing_and_says_where() {
    let app = App::saying("hello");
    let good = plain(&[app.address], "", "");
    let balancer = Balancer::start(&good);
    let mut client = balancer.client();
    assert_eq!(client.get("/1").status, 200);
    let broken = good.replace("pools:\n", "pools:\n  web: { servers: [nonsense] }\n");
    assert_eq!(balancer.reload(&broken), Reloaded::Refused);
    assert_eq!(balancer.generation(), 1.0);
    assert_eq!(balancer.metric("evenkeel_config_last_reload_successful", &[]), 0.0);
    assert_eq!(balancer.metric("evenkeel_config_reloads_total", &[("result", "refused")]), 1.0);
    let line = balancer.log.wait_for("nonsense");
    assert!(line.contains("evenkeel.yaml:5:20: pools.web.servers[0]"), "{line}");
    assert!(line.contains("ERROR"), "{line}");
    balancer.log.wait_for("reload refused");
    assert_eq!(client.get("/2").status, 200, "the connection is as it was");
    assert_eq!(balancer.get("/3").status, 200);
    assert_eq!(balancer.reload(&good), Reloaded::Taken);
    assert_eq!(balancer.metric("evenkeel_config_last_reload_successful", &[]), 1.0);
    assert_eq!(balancer.generation(), 2.0);
    assert_eq!(client.get("/4").status, 200);
}

#[test]
fn a_file_that_is_gone_changes_nothing() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    std::fs::remove_file(balancer.path("evenkeel.yaml")).expect("the file is there");
    balancer.signal(Signal::HUP);
    balancer.wait_for_metric("evenkeel_config_reloads_total", &[("result", "refused")], 1.0);
    balancer.log.wait_for("cannot be read");
    assert_eq!(balancer.get("/").status, 200);
}

#[test]
fn an_address_in_use_is_refused_and_the_old_listeners_go_on() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&listeners(&["web: { address: 127.0.0.1:0, app }"], app.address));
    let mut client = balancer.client();
    assert_eq!(client.get("/").status, 200);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken_address = taken.local_addr().expect("an address");
    let more = format!("more: {{ address: {taken_address}, app }}");
    let text = listeners(
        &["web: { address: 127.0.0.1:0, app }", "new: { address: 127.0.0.1:0, app }", &more],
        app.address,
    );
    assert_eq!(balancer.reload(&text), Reloaded::Refused);
    let line = balancer.log.wait_for("cannot listen on");
    assert!(line.contains("listeners.more") && line.contains(&taken_address.to_string()), "{line}");
    assert_eq!(client.get("/").status, 200);
    assert_eq!(balancer.get("/").status, 200);
    assert!(balancer.addresses("new").is_empty(), "half of a refused reload is in force");
    drop(taken);
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    assert_eq!(client::get(taken_address, "/").status, 200);
}

#[test]
fn an_access_log_that_cannot_be_opened_is_refused() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let text = format!("access_log: {{ path: DIR/none/access.log }}\n{}", plain(&[app.address], "", ""));
    assert_eq!(balancer.reload(&text), Reloaded::Refused);
    assert_eq!(balancer.get("/here").status, 200);
    assert_eq!(balancer.record("/here")["generation"], 1);
}

#[test]
fn listeners_come_and_go_without_touching_each_other() {
    let app = App::saying("hello");
    let (kept, gone) = ("kept: { address: 127.0.0.1:0, app }", "gone: { address: 127.0.0.1:0, app }");
    let balancer = Balancer::start(&listeners(&[kept, gone], app.address));
    let mut idle = Client::connect(balancer.address("kept"));
    let mut leaving = Client::connect(balancer.address("gone"));
    assert_eq!((idle.get("/").status, leaving.get("/").status), (200, 200));
    let new = "new: { address: 127.0.0.1:0, app }";
    assert_eq!(balancer.reload(&listeners(&[kept, new], app.address)), Reloaded::Taken);
    assert_eq!(idle.get("/").status, 200, "an idle connection of another listener was touched");
    assert!(leaving.is_closed(), "an idle connection of the listener that is gone is still open");
    assert_eq!(client::get(balancer.address("new"), "/").status, 200);
    let gone_address = balancer.address("gone");
    wait_until("the port is closed", || TcpStream::connect(gone_address).is_err());
    assert!(balancer.series("evenkeel_connections", &[("listener", "gone")]).is_empty());
    assert_eq!(balancer.addresses("kept").len(), 1, "the kept listener was opened anew");
}

#[test]
fn a_request_in_flight_on_a_listener_that_goes_is_finished_and_told_to_close() {
    let latch = Latch::default();
    let app = holding(&latch);
    let (kept, gone) = ("kept: { address: 127.0.0.1:0, app }", "gone: { address: 127.0.0.1:0, app }");
    let balancer = Balancer::start(&listeners(&[kept, gone], app.address));
    let mut client = Client::connect(balancer.address("gone"));
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    assert_eq!(balancer.reload(&listeners(&[kept], app.address)), Reloaded::Taken);
    latch.open();
    let response = client.response();
    assert_eq!((response.status, response.field("connection").as_str()), (200, "close"));
    assert!(client.is_closed());
}

#[test]
fn an_h2_connection_of_a_listener_that_goes_is_told_so() {
    let latch = Latch::default();
    let app = holding(&latch);
    let (kept, gone) = ("kept: { address: 127.0.0.1:0, app }", "gone: { address: 127.0.0.1:0, app }");
    let balancer = Balancer::start(&listeners(&[kept, gone], app.address));
    let mut connection = h2::Connection::new(balancer.address("gone"));
    connection.request(1, "GET", "/slow", true);
    balancer.wait_for_in_flight(1.0);
    assert_eq!(balancer.reload(&listeners(&[kept], app.address)), Reloaded::Taken);
    assert!(connection.next().is_some_and(|frame| frame.kind == h2::GOAWAY));
    latch.open();
    assert_eq!(connection.response(1), (200, b"done".to_vec()));
}

#[test]
fn changed_limits_hold_for_the_next_request_of_an_open_connection() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let (mut large_head, mut large_body) = (balancer.client(), balancer.client());
    assert_eq!((large_head.get("/").status, large_body.get("/").status), (200, 200));
    let limits = "limits: { request_body: 1KiB, request_headers: 1KiB }";
    assert_eq!(balancer.reload(&plain(&[app.address], limits, "")), Reloaded::Taken);
    large_head.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2000)));
    assert_eq!(large_head.response().status, 431);
    assert_eq!(large_body.post("/", &"x".repeat(2000)).status, 413);
    assert_eq!(balancer.addresses("web").len(), 1, "the listener was opened anew");
}

#[test]
fn a_raised_limit_lets_in_who_waits() {
    let app = App::saying("hello");
    let limited = |n| plain(&[app.address], &format!("limits: {{ connections: {n} }}"), "");
    let balancer = Balancer::start(&limited(1));
    let mut one = balancer.client();
    assert_eq!(one.get("/").status, 200);
    let mut two = balancer.client();
    two.send("GET /two HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_metric("evenkeel_connection_limit_waits_total", &[("listener", "web")], 1.0);
    assert_eq!(balancer.reload(&limited(2)), Reloaded::Taken);
    assert_eq!(two.response().status, 200);
    assert_eq!(one.get("/").status, 200);
}

#[test]
fn a_removed_server_finishes_its_request_and_gets_no_other() {
    let latch = Latch::default();
    let (leaving, staying) = (holding(&latch), App::saying("staying"));
    let balancer = Balancer::start(&plain(&[leaving.address], "", ""));
    let mut client = balancer.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    let text = plain(&[leaving.address], "", "").replace("name: s1", "name: s2");
    let text = text.replace(&leaving.address.to_string(), &staying.address.to_string());
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    let labels = [("server", "s1"), ("state", "leaving")];
    assert_eq!(balancer.metric("evenkeel_server_state", &labels), 1.0);
    assert_eq!(balancer.metric("evenkeel_server_in_flight", &[("server", "s1")]), 1.0);
    for _ in 0..5 {
        assert_eq!(balancer.get("/").text(), "staying");
    }
    latch.open();
    assert_eq!(client.response().text(), "done");
    assert_eq!(leaving.hits(), 1);
    assert_eq!(client.get("/").text(), "staying", "the client's connection goes on");
    wait_until("the server's series are gone", || {
        balancer.series("evenkeel_server_in_flight", &[("server", "s1")]).is_empty()
    });
}

#[test]
fn a_removed_server_is_cut_after_the_drain_timeout() {
    let (leaving, staying) = (
        App::new(|_, stream| {
            send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            crate::support::app::wait_for_the_end(stream)
        }),
        App::saying("staying"),
    );
    let pool = "drain_timeout: 300ms";
    let balancer = Balancer::start(&plain(&[leaving.address], "", pool));
    let mut client = balancer.client();
    client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response_to_head();
    let text = plain(&[staying.address], "", pool);
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    assert_eq!(client.bytes(4), b"half");
    assert!(client.is_closed());
    assert_eq!(outcome(&balancer.record("/cut")), (200, "drained".to_owned()));
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn a_removed_pool_serves_its_requests_read_to_end() {
    let latch = Latch::default();
    let (old, new) = (holding(&latch), App::saying("new"));
    let text = |pool: &str, server| {
        format!(
            "listeners:\n  web: {{ address: 127.0.0.1:0, routes: r }}\nroutes:\n  r:\n    - {{ pool: {pool} }}\n\
             pools:\n  {pool}: {{ servers: [{server}] }}\n"
        )
    };
    let balancer = Balancer::start(&text("old", old.address));
    let mut client = balancer.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    assert_eq!(balancer.reload(&text("new", new.address)), Reloaded::Taken);
    assert_eq!(balancer.get("/").text(), "new");
    latch.open();
    assert_eq!(client.response().text(), "done");
    let record = balancer.record("/slow");
    assert_eq!((record["pool"].as_str(), record["generation"].as_u64()), (Some("old"), Some(1)));
    assert_eq!(client.get("/after").text(), "new");
    assert_eq!(balancer.record("/after")["generation"], 2);
}

#[test]
fn leases_are_counted_through_reloads_and_returns() {
    let latch = Latch::default();
    let (one, two) = (holding(&latch), App::saying("two"));
    let balancer = Balancer::start(&plain(&[one.address], "", ""));
    let mut client = balancer.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    let weighted =
        plain(&[one.address], "", "balance: random_two").replace("name: s1", "name: s1, weight: 7");
    assert_eq!(balancer.reload(&weighted), Reloaded::Taken);
    balancer.wait_for_in_flight(1.0);
    // It goes, and comes back while its request still runs.
    let without = plain(&[two.address], "", "").replace("name: s1", "name: s2");
    assert_eq!(balancer.reload(&without), Reloaded::Taken);
    assert_eq!(balancer.reload(&weighted), Reloaded::Taken);
    assert_eq!(balancer.metric("evenkeel_server_in_flight", &[("server", "s1")]), 1.0);
    assert_eq!(balancer.metric("evenkeel_server_state", &[("server", "s1"), ("state", "up")]), 1.0);
    latch.open();
    assert_eq!(client.response().status, 200);
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn health_is_kept_through_a_reload() {
    let (up, down) = (App::saying("up"), App::new(|_, stream| status(stream, "500 Down", "")));
    // With `rise` so high, a server that started anew would be up after one pass and never return from down.
    let health = "health: { http: /, interval: 50ms, timeout: 2s, fall: 2, rise: 100 }";
    let text = |more: &str| plain(&[up.address, down.address], "", &format!("{health}{more}"));
    let balancer = Balancer::start(&text(""));
    let states =
        || ["up", "down", "probing"].map(|s| balancer.metric("evenkeel_pool_servers", &[("state", s)]));
    wait_until("one is up and one is down", || states() == [1.0, 1.0, 0.0]);
    for more in [", balance: random_two", ", timeouts: { connect: 1s }", ", drain_timeout: 7s"] {
        assert_eq!(balancer.reload(&text(more)), Reloaded::Taken);
        assert_eq!(states(), [1.0, 1.0, 0.0], "{more}");
        assert_eq!(balancer.get("/").text(), "up");
    }
    let transitions = balancer.metric("evenkeel_health_transitions_total", &[]);
    assert_eq!(transitions, 2.0, "a reload is no change of health");
}

#[test]
fn many_signals_at_once_are_few_reloads_and_the_last_file_holds() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    for n in 1..=100 {
        if n % 10 == 0 {
            balancer.write(&plain(&[app.address], "", &format!("timeouts: {{ connect: {n}s }}")));
        }
        balancer.signal(Signal::HUP);
        if n % 10 == 0 {
            assert_eq!(client.get("/").status, 200);
        }
    }
    let last = App::saying("last");
    assert_eq!(balancer.reload(&plain(&[last.address], "", "")), Reloaded::Taken);
    wait_until("the last file is in force", || client.get("/").text() == "last");
    let refused = balancer.metric("evenkeel_config_reloads_total", &[("result", "refused")]);
    assert!(refused <= 10.0, "a file that was just being written may be refused, not more: {refused}");
}

#[test]
fn an_address_moves_between_listeners_without_a_refused_connection() {
    let (one, two) = (App::saying("one"), App::saying("two"));
    let address = own_address();
    let text = |name: &str, pool: &str| {
        format!(
            "listeners:\n  {name}: {{ address: \"{address}\", pool: {pool} }}\n\
             pools:\n  one: {{ servers: [{}] }}\n  two: {{ servers: [{}] }}\n",
            one.address, two.address
        )
    };
    let balancer = Balancer::start(&text("a", "one"));
    let done = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                let mut client = Client::over(TcpStream::connect(address).expect("the port is open"));
                let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                client.send(request);
                let response = client.try_response();
                assert_eq!(response.map(|response| response.status), Some(200));
                served.fetch_add(1, SeqCst);
            }
        });
        let _done = SetOnDrop(&done);
        for n in 0..10 {
            let before = served.load(SeqCst);
            let (name, pool) = [("b", "two"), ("a", "one")][n % 2];
            assert_eq!(balancer.reload(&text(name, pool)), Reloaded::Taken);
            // Each core takes its order in its own time.
            wait_until("the other listener answers", || client::get(address, "/").text() == pool);
            wait_until("requests between two moves", || served.load(SeqCst) > before + 5);
        }
    });
}

#[test]
fn a_removed_address_of_a_kept_listener_is_closed_and_the_other_stays() {
    let app = App::saying("hello");
    let (first, second) = (own_address(), own_address());
    let text = |addresses: &str| {
        format!(
            "listeners:\n  web: {{ addresses: [{addresses}], pool: app }}\npools:\n  app: {{ servers: [{}] }}\n",
            app.address
        )
    };
    let balancer = Balancer::start(&text(&format!("\"{first}\", \"{second}\"")));
    let mut kept = Client::connect(first);
    assert_eq!((kept.get("/").status, client::get(second, "/").status), (200, 200));
    assert_eq!(balancer.reload(&text(&format!("\"{first}\""))), Reloaded::Taken);
    wait_until("the second port is closed", || TcpStream::connect(second).is_err());
    assert_eq!(kept.get("/").status, 200);
    assert_eq!(client::get(first, "/").status, 200);
    // And back again.
    assert_eq!(balancer.reload(&text(&format!("\"{first}\", \"{second}\""))), Reloaded::Taken);
    assert_eq!(client::get(second, "/").status, 200);
}

#[test]
fn idle_clients_a_websocket_and_a_download_survive_many_reloads() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |request, stream| match request.target.as_str() {
        "/ws" => {
            send(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            let mut bytes = [0; 100];
            while let Ok(n @ 1..) = stream.read(&mut bytes) {
                let _ = stream.write_all(&bytes[..n]);
            }
            Then::Close
        }
        "/download" => {
            send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
            held.wait();
            send(stream, "done")
        }
        _ => say(stream, "hello"),
    });
    let spare = App::saying("spare");
    let text = |n: usize| {
        let pool = format!("drain_timeout: {}s", n + 1);
        let text = plain(&[app.address], "", &pool);
        match n % 3 {
            0 => text,
            // Another listener, and another server.
            1 => text.replace("pools:\n", "  more: { address: 127.0.0.1:0, pool: app }\npools:\n"),
            _ => text
                .replace("] ", &format!(", {{ name: spare, address: {} }}] ", spare.address))
                .replace("],", &format!(", {{ name: spare, address: {}, drain: true }}],", spare.address)),
        }
    };
    let balancer = Balancer::start(&text(0));
    let (mut idle, mut websocket, mut download) = (balancer.client(), balancer.client(), balancer.client());
    let mut h2 = h2::Connection::new(balancer.address("web"));
    assert_eq!(idle.get("/").status, 200);
    websocket.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(websocket.response_to_head().status, 101);
    download.send("GET /download HTTP/1.1\r\nHost: a\r\n\r\n");
    download.response_to_head();
    for n in 1..=20 {
        assert_eq!(balancer.reload(&text(n)), Reloaded::Taken);
        assert_eq!(idle.get("/").status, 200, "after {n} reloads");
        let stream = u32::try_from(2 * n - 1).expect("few reloads");
        h2.request(stream, "GET", "/", true);
        assert_eq!(h2.response(stream).0, 200, "after {n} reloads");
        websocket.send("ping");
        assert_eq!(websocket.bytes(4), b"ping");
    }
    assert_eq!(balancer.metric("evenkeel_server_in_flight", &[("server", "s1")]), 2.0);
    latch.open();
    assert_eq!(download.bytes(8), b"halfdone");
    assert_eq!(balancer.generation(), 21.0);
}

fn lines(path: &std::path::Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn an_access_logs_path_and_format_change_with_a_reload() {
    let app = App::saying("hello");
    let text = |log: &str| format!("access_log: {log}\n{}", plain(&[app.address], "", ""));
    let balancer = Balancer::start(&text("{ path: DIR/a.log }"));
    balancer.get("/one");
    wait_until("a line in the first file", || lines(&balancer.path("a.log")).len() == 1);
    assert_eq!(balancer.reload(&text("{ path: DIR/b.log, format: combined }")), Reloaded::Taken);
    let mut client = balancer.client();
    client.send("GET /two HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nReferer: http://a/\r\n\r\n");
    client.response();
    wait_until("a line in the second file", || lines(&balancer.path("b.log")).len() == 1);
    let line = lines(&balancer.path("b.log")).remove(0);
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.ends_with("] \"GET /two HTTP/1.1\" 200 5 \"http://a/\" \"me\""), "{line}");
    assert_eq!(balancer.reload(&text("off")), Reloaded::Taken);
    balancer.get("/three");
    assert_eq!(balancer.reload(&text("{ path: stdout }")), Reloaded::Taken);
    balancer.get("/four");
    assert_eq!(balancer.record("/four")["status"], 200);
    assert_eq!((lines(&balancer.path("a.log")).len(), lines(&balancer.path("b.log")).len()), (1, 1));
}

#[test]
fn a_rotated_access_log_is_opened_anew_on_sigusr1() {
    let app = App::saying("hello");
    let balancer =
        Balancer::start(&format!("access_log: {{ path: DIR/a.log }}\n{}", plain(&[app.address], "", "")));
    let (log, rotated) = (balancer.path("a.log"), balancer.path("a.log.1"));
    balancer.get("/one");
    wait_until("the first line", || lines(&log).len() == 1);
    std::fs::rename(&log, &rotated).expect("the log is there");
    balancer.get("/two");
    wait_until("the second line goes to the renamed file", || lines(&rotated).len() == 2);
    balancer.signal(Signal::USR1);
    balancer.log.wait_for("log files reopened");
    balancer.get("/three");
    wait_until("the third line goes to the new file", || lines(&log).len() == 1);
    assert_eq!(lines(&rotated).len(), 2);
}

#[test]
fn a_change_that_needs_a_restart_says_so() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let text =
        format!("log: {{ level: warn }}\nprocess: {{ threads: 3 }}\n{}", plain(&[app.address], "", ""));
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    balancer.log.wait_for("process.threads has changed");
    balancer.log.wait_for("log has changed");
}

#[test]
fn a_pool_whose_servers_are_all_replaced_loses_no_request() {
    let apps: Vec<_> = (0..4).map(|_| App::saying("hello")).collect();
    let text = |n: usize| {
        let two: Vec<_> = apps.iter().skip(n % 2 * 2).take(2).map(|app| app.address).collect();
        plain(&two, "", "")
    };
    let balancer = Balancer::start(&text(0));
    let address = balancer.address("web");
    let done = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while !done.load(SeqCst) {
                    assert_eq!(client.post("/", "body").text(), "hello");
                    served.fetch_add(1, SeqCst);
                }
            });
        }
        let _done = SetOnDrop(&done);
        for n in 1..=60 {
            let before = served.load(SeqCst);
            assert_eq!(balancer.reload(&text(n)), Reloaded::Taken);
            wait_until("requests between two reloads", || served.load(SeqCst) > before + 6);
        }
    });
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn requests_in_flight_never_notice_reloads() {
    let apps: Vec<_> = (0..4).map(|_| App::saying("hello")).collect();
    let text = |n: usize| {
        let servers: Vec<_> =
            (0..4).filter(|at| !(n + at).is_multiple_of(4) || n == 0).map(|at| apps[at].address).collect();
        let balance = ["round_robin", "least_connections", "random_two"][n % 3];
        plain(&servers, "", &format!("balance: {balance}"))
    };
    let balancer = Balancer::start(&text(0));
    let address = balancer.address("web");
    let done = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while !done.load(SeqCst) {
                    assert_eq!(client.get("/").text(), "hello");
                    assert_eq!(client.post("/", "body").text(), "hello");
                    served.fetch_add(1, SeqCst);
                }
            });
        }
        let _done = SetOnDrop(&done);
        for n in 1..=20 {
            let before = served.load(SeqCst);
            assert_eq!(balancer.reload(&text(n)), Reloaded::Taken);
            wait_until("requests between two reloads", || served.load(SeqCst) > before + 20);
        }
    });
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.series("evenkeel_http_failures_total", &[]), Vec::<f64>::new());
}

#[test]
fn a_listener_may_take_every_address_of_its_port_and_give_them_up_again() {
    let app = App::saying("hello");
    let server = udp::Server::echo("a");
    let port = |socket: std::net::SocketAddr| socket.port();
    let tcp =
        port(std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port"));
    let dns =
        port(std::net::UdpSocket::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port"));
    let text = |ip: &str| {
        format!(
            "listeners:\n  web: {{ address: \"{ip}:{tcp}\", pool: app }}\n  \
             dns: {{ address: \"{ip}:{dns}\", protocol: udp, pool: dns }}\n\
             pools:\n  app: {{ servers: [{}] }}\n  dns: {{ servers: [{}] }}\n",
            app.address, server.address
        )
    };
    let balancer = Balancer::start(&text("127.0.0.1"));
    let here = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let asking = udp::Client::new(here(dns));
    for ip in ["0.0.0.0", "127.0.0.1", "0.0.0.0"] {
        balancer.write(&text(ip));
        let (_, plan, err) = balancer.command(&["plan"]);
        assert!(plan.contains(&format!("{ip}:{tcp} takes the place of")), "{plan}{err}");
        assert_eq!(balancer.reload(&text(ip)), Reloaded::Taken, "{:?}", balancer.log.all());
        for _ in 0..20 {
            assert_eq!(client::get(here(tcp), "/").status, 200);
        }
        assert_eq!(asking.ask(b"q"), b"a");
        assert_eq!(udp::Client::new(here(dns)).ask(b"q"), b"a");
        // What is taken by somebody else is still found out.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let other = taken.local_addr().expect("an address").port();
        let refused = text(ip).replace(&format!("{ip}:{tcp}"), &format!("0.0.0.0:{other}"));
        assert_eq!(balancer.reload(&refused), Reloaded::Refused);
        assert_eq!(balancer.reload(&text(ip)), Reloaded::Taken);
    }
    // The next process finds other addresses in the file than it is passed.
    balancer.write(&text("127.0.0.1"));
    let (code, out, err) = balancer.command(&["upgrade"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let next = Next::of(&balancer);
    balancer.log.wait_for("stopped: everything finished");
    assert_eq!(client::get(here(tcp), "/").status, 200);
    assert_eq!(udp::Client::new(here(dns)).ask(b"q"), b"a");
    next.end();
}

/// A UDP listener at this address and port, led to a server.
fn datagrams(ip: &str, port: u16, server: std::net::SocketAddr) -> String {
    format!(
        "listeners:\n  dns: {{ address: \"{ip}:{port}\", protocol: udp, pool: dns }}\n\
         pools:\n  dns: {{ servers: [{server}] }}\n"
    )
}

fn free_port() -> u16 {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("an address").port()
}

#[test]
fn datagrams_that_are_under_way_while_their_listener_takes_more_or_fewer_addresses_are_answered() {
    let latch = Latch::default();
    let held = latch.clone();
    let server = udp::Server::answering("127.0.0.1:0", move |question| {
        if question == b"late" {
            held.wait();
        }
        question.to_vec()
    });
    let port = free_port();
    let text = |ip| datagrams(ip, port, server.address);
    let balancer = Balancer::start(&text("127.0.0.1"));
    let client = udp::Client::new(([127, 0, 0, 1], port).into());
    for (n, ip) in ["0.0.0.0", "127.0.0.1", "0.0.0.0"].into_iter().enumerate() {
        latch.close();
        client.tell(b"late");
        wait_until("the server has it", || server.received() > 2 * n);
        assert_eq!(balancer.reload(&text(ip)), Reloaded::Taken);
        balancer.log.wait_for(&format!("listening listener=dns address={ip}:{port}"));
        latch.open();
        assert_eq!(client.hear(crate::support::DEADLINE).as_deref(), Some(&b"late"[..]), "to {ip}");
        client.tell(b"next");
        assert_eq!(client.hear(crate::support::DEADLINE).as_deref(), Some(&b"next"[..]), "at {ip}");
    }
}

#[test]
fn busy_clients_lose_no_datagram_while_their_listener_takes_more_or_fewer_addresses() {
    let server = udp::Server::answering("127.0.0.1:0", <[u8]>::to_vec);
    let port = free_port();
    let text = |ip| datagrams(ip, port, server.address);
    let balancer = Balancer::start(&text("127.0.0.1"));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ask = || {
            let client = udp::Client::new(([127, 0, 0, 1], port).into());
            let mut asked = 0_u32;
            while !is_over.load(SeqCst) {
                asked += 1;
                client.tell(&asked.to_be_bytes());
                // Nobody asks again here.
                match client.hear(crate::support::DEADLINE) {
                    Some(answer) if answer == asked.to_be_bytes() => {}
                    other => return Err(format!("question {asked}: {other:?}")),
                }
            }
            Ok(asked)
        };
        let clients: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        let over = SetOnDrop(&is_over);
        for ip in ["0.0.0.0", "127.0.0.1"].into_iter().cycle().take(10) {
            let before = server.received();
            assert_eq!(balancer.reload(&text(ip)), Reloaded::Taken);
            wait_until("clients go on", || server.received() > before + 100);
        }
        drop(over);
        for client in clients {
            let asked = client.join().expect("no client panics");
            assert!(asked.is_ok(), "{asked:?}");
        }
    });
}

#[test]
fn a_receipt_tells_of_the_processs_settings_and_a_weight_is_no_generation() {
    let app = App::saying("hello");
    let text = plain(&[app.address], "", "");
    let balancer = Balancer::start(&text);
    let changed = format!(
        "process: {{ shutdown_timeout: 7s }}\naccess_log: {{ format: combined }}\nevents: {{ path: DIR/e.jsonl }}\n{text}"
    );
    balancer.write(&changed);
    let receipt = balancer.command_json(&["reload"]);
    let settings = receipt["settings"].to_string();
    for part in [
        "process.shutdown_timeout: 60s -> 7s",
        "access_log.format: json -> combined",
        "events.path: none -> ",
    ] {
        assert!(settings.contains(part), "{settings}");
    }
    let (_, events, _) = balancer.command(&["events", "--kind", "reload"]);
    assert!(events.contains("shutdown_timeout"), "{events}");
    let (_, out, _) = balancer.command(&["reload"]);
    assert!(!out.contains("settings"), "nothing has changed: {out}");
    assert_eq!(balancer.generation(), 3.0);
    for weight in ["7", "8", "default"] {
        assert_eq!(balancer.command(&["weight", "app/s1", weight]).0, Some(0));
        assert_eq!(balancer.get("/").status, 200);
    }
    assert_eq!(balancer.generation(), 3.0, "a weight is no configuration");
    // A request is counted once its client has the response.
    balancer.wait_for_metric("evenkeel_http_requests_total", &[("server", "s1"), ("code", "2xx")], 3.0);
}
