//! Servers that do worse with real traffic than the others are left out, and come back by it.

use crate::support::app::{App, say, status};
use crate::support::balancer::{Balancer, Next, Reloaded, plain};
use crate::support::tcp;
use crate::support::wait_until;
use rustix::process::Signal;
use serde_json::Value;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Says its name, or answers with a status that can be set.
struct Moody {
    app: App,
    status: Arc<AtomicU16>,
}

fn moody(name: &'static str) -> Moody {
    let code = Arc::new(AtomicU16::new(200));
    let says = Arc::clone(&code);
    let app = App::new(move |_, stream| match says.load(SeqCst) {
        200 => say(stream, name),
        code => status(stream, &format!("{code} Moody"), name),
    });
    Moody { app, status: code }
}

const EJECTING: &str = "balance: round_robin, retries: { max: 0 }";

fn text(servers: &[&Moody], outlier: &str) -> String {
    let addresses: Vec<_> = servers.iter().map(|server| server.app.address).collect();
    plain(&addresses, "", &format!("{EJECTING}, outlier: {outlier}"))
}

/// Sends requests until one of the servers, by its place, is ejected; its name.
fn until_ejected(balancer: &Balancer, place: usize) -> Value {
    let mut client = balancer.client();
    wait_until("the server is ejected", || {
        (0..20).for_each(|_| drop(client.get("/")));
        server(balancer, place)["state"] == "ejected"
    });
    server(balancer, place)
}

fn server(balancer: &Balancer, place: usize) -> Value {
    balancer.command_json(&["status"])["pools"][0]["servers"][place].clone()
}

/// Who answers so many requests.
fn answers(balancer: &Balancer, count: usize) -> Vec<String> {
    let mut client = balancer.client();
    (0..count).map(|_| client.get("/").text()).collect()
}

#[test]
fn a_server_that_fails_is_left_out_and_comes_back_once_requests_go_well() {
    let (a, b, c) = (moody("a"), moody("b"), moody("c"));
    let balancer = Balancer::start(&text(&[&a, &b, &c], "{ base_ejection: 500ms }"));
    answers(&balancer, 90);
    b.status.store(500, SeqCst);
    let ejected = until_ejected(&balancer, 1);
    assert_eq!(ejected["ejection"]["reason"], "worse_by", "{ejected}");
    assert_eq!(ejected["health"], "up");
    let name = ejected["name"].as_str().expect("a name").to_owned();
    let labels = [("pool", "app"), ("server", name.as_str())];
    assert_eq!(balancer.metric("evenkeel_server_ejected", &labels), 1.0);
    let reason = [labels[0], labels[1], ("reason", "worse_by")];
    assert_eq!(balancer.metric("evenkeel_ejections_total", &reason), 1.0);
    let (_, told, _) = balancer.command(&["status"]);
    assert!(told.contains("(worse_by): ") && told.contains("tries failed"), "{told}");
    let (_, told, _) = balancer.command(&["explain", "GET", "http://a/"]);
    assert!(told.contains("ejected"), "{told}");
    b.status.store(200, SeqCst);
    let mut client = balancer.client();
    wait_until("it is back", || {
        (0..10).for_each(|_| drop(client.get("/")));
        server(&balancer, 1)["state"] == "up"
    });
    assert!(answers(&balancer, 12).iter().any(|answer| answer == "b"));
    let (_, events, _) = balancer.command(&["events", "--kind", "ejection"]);
    for part in ["up -> ejected", "ejected -> trial", "trial -> up"] {
        assert!(events.contains(part), "{part} in {events}");
    }
    let passed = [labels[0], labels[1], ("result", "passed")];
    assert!(balancer.metric("evenkeel_trials_total", &passed) >= 3.0);
}

#[test]
fn an_operator_brings_a_server_back_and_a_reload_does_not() {
    let (a, b) = (moody("a"), moody("b"));
    let configured = text(&[&a, &b], "{ base_ejection: 1h, max_ejection: 1h }");
    let balancer = Balancer::start(&configured);
    answers(&balancer, 90);
    b.status.store(503, SeqCst);
    let ejected = until_ejected(&balancer, 1);
    assert!(answers(&balancer, 20).iter().all(|answer| answer == "a"));
    let as_before = configured.replace("max: 0", "max: 1");
    assert!(matches!(balancer.reload(&as_before), Reloaded::Taken));
    assert_eq!(server(&balancer, 1)["state"], "ejected", "a reload is no reason");
    b.status.store(200, SeqCst);
    let target = format!("app/{}", ejected["name"].as_str().expect("a name"));
    let (_, _, said) = balancer.command(&["ready", &target]);
    assert!(said.contains("it stays ejected for") && said.contains("ready --force"), "{said}");
    assert_eq!(server(&balancer, 1)["state"], "ejected");
    let (code, ..) = balancer.command(&["ready", &target, "--force"]);
    assert_eq!((code, server(&balancer, 1)["state"].as_str()), (Some(0), Some("up")));
    assert!(answers(&balancer, 20).iter().any(|answer| answer == "b"));
    b.status.store(503, SeqCst);
    until_ejected(&balancer, 1);
    // Another pool begins to eject at the same time.
    let without = plain(&[a.app.address, b.app.address], "", EJECTING);
    let other = format!("  other: {{ servers: [{}, {}], outlier: {{}} }}\n", a.app.address, b.app.address);
    let without = without + &other;
    assert!(matches!(balancer.reload(&without), Reloaded::Taken));
    wait_until("nobody is ejected without `outlier`", || server(&balancer, 1)["state"] == "up");
}

#[test]
fn a_server_is_ejected_for_what_several_of_its_clients_meet_and_not_for_one() {
    let (a, b) = (moody("a"), moody("b"));
    let addresses = [a.app.address, b.app.address];
    let pool =
        "balance: consistent_hash, retries: { max: 0 }, outlier: { base_ejection: 1h, max_ejection: 1h }";
    let balancer = Balancer::start(&plain(&addresses, "trusted_proxies: [127.0.0.0/8]", pool));
    let mut connection = balancer.client();
    let mut ask = |client: u8| {
        connection.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.{client}\r\n\r\n"));
        connection.response().text()
    };
    let all: Vec<(u8, String)> = (1..=40).map(|client| (client, ask(client))).collect();
    let of_b = all.iter().find(|(_, server)| server == "b").expect("b has clients").0;
    let others: Vec<u8> = all.iter().filter(|(_, server)| server == "a").map(|(client, _)| *client).collect();
    b.status.store(500, SeqCst);
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        ask(of_b);
        others.iter().take(3).for_each(|other| drop(ask(*other)));
    }
    assert_eq!(server(&balancer, 1)["state"], "up", "one client alone");
    wait_until("it is ejected", || {
        (1..=40).for_each(|client| drop(ask(client)));
        server(&balancer, 1)["state"] == "ejected"
    });
}

#[test]
fn an_operator_is_told_that_an_ejected_server_is_tried_out() {
    let (a, b) = (moody("a"), moody("b"));
    let balancer = Balancer::start(&text(&[&a, &b], "{ base_ejection: 100ms }"));
    answers(&balancer, 90);
    b.status.store(503, SeqCst);
    let ejected = until_ejected(&balancer, 1);
    wait_until("it is tried out", || !server(&balancer, 1)["ejection"]["trial"].is_null());
    let target = format!("app/{}", ejected["name"].as_str().expect("a name"));
    let (_, _, said) = balancer.command(&["ready", &target]);
    assert!(said.contains("requests try it out now") && !said.contains("stays ejected"), "{said}");
}

#[test]
fn an_upgrade_keeps_who_is_ejected() {
    let (a, b) = (moody("a"), moody("b"));
    let balancer = Balancer::start(&text(&[&a, &b], "{ base_ejection: 1h, max_ejection: 1h }"));
    answers(&balancer, 90);
    b.status.store(503, SeqCst);
    let before = until_ejected(&balancer, 1)["ejection"].clone();
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    let after = server(&balancer, 1)["ejection"].clone();
    for part in ["reason", "evidence", "strikes"] {
        assert_eq!(after[part], before[part], "{after}");
    }
    assert!(answers(&balancer, 20).iter().all(|answer| answer == "a"));
    next.end();
}

#[test]
fn where_too_few_are_left_nobody_is_ejected_and_it_is_said() {
    let (a, b, c) = (moody("a"), moody("b"), moody("c"));
    let balancer = Balancer::start(&text(&[&a, &b, &c], "{ base_ejection: 1h, max_ejection: 1h }"));
    answers(&balancer, 90);
    b.status.store(500, SeqCst);
    until_ejected(&balancer, 1);
    c.status.store(500, SeqCst);
    let prevented = || balancer.series("evenkeel_ejections_prevented_total", &[]).iter().sum::<f64>();
    wait_until("another one would be ejected", || {
        answers(&balancer, 20);
        prevented() > 0.0
    });
    assert_eq!(server(&balancer, 2)["state"], "up");
    let (_, events, _) = balancer.command(&["events", "--kind", "ejection"]);
    assert!(events.contains("for 1 of 3 may be down or ejected"), "{events}");
}

#[test]
fn a_tcp_server_that_refuses_connections_is_left_out_and_what_it_has_goes_on() {
    let (good, bad) = (tcp::Server::echo("good"), tcp::Server::echo("evil"));
    let text = format!(
        "listeners: {{ db: {{ address: 127.0.0.1:0, protocol: tcp, pool: db }} }}\n\
         pools: {{ db: {{ balance: round_robin, servers: [{}, {}], outlier: {{ base_ejection: 1h, max_ejection: 1h }} }} }}\n",
        good.address, bad.address
    );
    let balancer = Balancer::start(&text);
    let address = balancer.address("db");
    let echoes = |stream: &mut TcpStream| {
        stream.write_all(b"ping").expect("it is open");
        tcp::bytes(stream, 4) == b"ping"
    };
    let begin = || {
        let mut stream = tcp::connect(address);
        let name = tcp::bytes(&mut stream, 4);
        (stream, name)
    };
    let mut open: Vec<_> = (0..20).map(|_| begin()).collect();
    assert!(open.iter().any(|(_, name)| name == b"evil"));
    drop(bad);
    wait_until("it is ejected", || {
        (0..4).for_each(|_| assert_eq!(begin().1, b"good", "tried at the other one"));
        server(&balancer, 1)["state"] == "ejected"
    });
    assert!(open.iter_mut().all(|(stream, _)| echoes(stream)), "what is open goes on");
}
