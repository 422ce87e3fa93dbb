//! Probes decide who gets requests: when servers turn, what counts as a pass, and what happens to those in
//! flight.

use crate::support::app::{App, Latch, Refusing, Silent, Then, say, send, status, wait_for_the_end};
use crate::support::balancer::{Balancer, Reloaded, outcome, plain};
use crate::support::{DEADLINE, wait_until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// An app server whose health is whatever status it is told.
struct Patient {
    app: App,
    health: Arc<AtomicU16>,
}

impl Patient {
    fn new(name: &'static str) -> Self {
        let health = Arc::new(AtomicU16::new(200));
        let its = Arc::clone(&health);
        let app = App::new(move |request, stream| match request.target.as_str() {
            "/healthz" => {
                status(stream, &format!("{} Health", its.load(SeqCst)), "");
                Then::Close
            }
            _ => say(stream, name),
        });
        Self { app, health }
    }

    fn turn(&self, status: u16) {
        self.health.store(status, SeqCst);
    }
}

fn state(balancer: &Balancer, server: &str) -> &'static str {
    let is = |state: &&str| {
        balancer.metric("evenkeel_server_state", &[("server", server), ("state", state)]) == 1.0
    };
    ["up", "down", "probing", "drain", "leaving"].into_iter().find(is).unwrap_or("none")
}

#[track_caller]
fn turns(balancer: &Balancer, server: &str, expected: &str) {
    wait_until(&format!("{server} to be {expected}"), || state(balancer, server) == expected);
}

#[test]
fn a_refused_connection_brings_the_next_probe_forward() {
    let (good, gone) = (Patient::new("good"), Patient::new("gone"));
    let pool = "balance: round_robin, health: { http: /healthz, interval: 1h, fall: 1 }";
    let balancer = Balancer::start(&plain(&[good.app.address, gone.app.address], "", pool));
    turns(&balancer, "s2", "up");
    drop(gone);
    let mut client = balancer.client();
    wait_until("it is found down", || {
        assert_eq!(client.get("/").text(), "good", "tried elsewhere");
        state(&balancer, "s2") == "down"
    });
    assert!(balancer.metric("evenkeel_probes_total", &[("server", "s2"), ("result", "connect")]) >= 1.0);
}

#[test]
fn a_server_turns_after_as_many_results_in_a_row_as_it_says() {
    // Passes and failures, then a probe without an answer, so that nothing changes any more.
    for (probes, fall, rise, expected, to_down) in [
        ("p", 3, 2, "up", 0.0),
        ("pff", 3, 2, "up", 0.0),
        ("pffpffpff", 3, 2, "up", 0.0),
        ("pfff", 3, 2, "down", 1.0),
        ("pfffp", 3, 2, "down", 1.0),
        ("pfffpfp", 3, 2, "down", 1.0),
        ("pfffpp", 3, 2, "up", 1.0),
        ("pfffppff", 3, 2, "up", 1.0),
        ("pfffppfff", 3, 2, "down", 2.0),
        ("pf", 1, 1, "down", 1.0),
        ("pfp", 1, 1, "up", 1.0),
        ("pfppp", 1, 4, "down", 1.0),
        ("pfpppp", 1, 4, "up", 1.0),
        // From the unknown, one pass is enough and failures count as ever.
        ("ff", 3, 2, "probing", 0.0),
        ("fff", 3, 2, "down", 1.0),
        ("ffp", 3, 2, "up", 0.0),
    ] {
        let n = Arc::new(AtomicUsize::new(0));
        let app = App::new(move |_, stream| match probes.as_bytes().get(n.fetch_add(1, SeqCst)) {
            Some(b'p') => say(stream, ""),
            Some(_) => status(stream, "500 Bad", ""),
            None => wait_for_the_end(stream),
        });
        let pool = format!("health: {{ http: /, interval: 10ms, timeout: 60s, fall: {fall}, rise: {rise} }}");
        let other = App::saying("other");
        let balancer = Balancer::start(&plain(&[other.address], "", ""));
        assert_eq!(balancer.reload(&plain(&[app.address], "", &pool)), Reloaded::Taken);
        wait_until("the last probe", || app.hits() > probes.len());
        assert_eq!(state(&balancer, "s1"), expected, "{probes} with fall {fall} and rise {rise}");
        let turned = balancer.metric("evenkeel_health_transitions_total", &[("to", "down")]);
        assert_eq!(turned, to_down, "{probes} with fall {fall} and rise {rise}");
    }
}

#[test]
fn a_turn_is_logged_with_its_evidence() {
    let patient = Patient::new("one");
    let pool = "health: { http: /healthz, interval: 20ms, timeout: 5s, fall: 2 }";
    let balancer = Balancer::start(&plain(&[patient.app.address], "", pool));
    patient.turn(500);
    let line = balancer.log.wait_for("server down");
    assert!(line.contains("pool=app") && line.contains("server=s1"), "{line}");
    assert!(line.contains("status 500, expected 200-299"), "{line}");
    patient.turn(204);
    balancer.log.wait_for("server up");
}

#[test]
fn a_new_server_waits_for_its_first_pass_unless_it_is_said_to_be_up() {
    for (initial, before) in [("probing", 503), ("up", 200)] {
        let latch = Latch::default();
        let held = latch.clone();
        let app = App::new(move |request, stream| {
            if request.target == "/healthz" {
                held.wait();
            }
            say(stream, "hello")
        });
        let pool = format!(
            "health: {{ http: /healthz, interval: 50ms, timeout: 20s, fall: 100, initial: {initial} }}, \
             when_all_unhealthy: refuse"
        );
        // Started with another server, so that start-up does not wait for the slow probe.
        let other = App::saying("other");
        let balancer = Balancer::start(&plain(&[other.address], "", ""));
        assert_eq!(balancer.reload(&plain(&[app.address], "", &pool)), Reloaded::Taken);
        assert_eq!(balancer.get("/").status, before, "{initial}");
        assert_eq!(state(&balancer, "s1"), initial);
        latch.open();
        turns(&balancer, "s1", "up");
        assert_eq!(balancer.get("/").status, 200);
    }
}

#[test]
fn nobody_meets_a_pool_that_does_not_know_its_servers_yet() {
    // The first server does not even listen: the first request must not find that out.
    let (dead, alive) = (Refusing::new(), Patient::new("alive"));
    let pool = "health: { http: /healthz, interval: 10s, fall: 1 }, retries: { max: 0 }";
    let balancer = Balancer::start(&plain(&[dead.address, alive.app.address], "", pool));
    for _ in 0..4 {
        assert_eq!(balancer.get("/").text(), "alive");
    }
}

#[test]
fn what_passes_and_what_does_not() {
    let open = TcpListener::bind("127.0.0.1:0").expect("a port");
    let open_port = open.local_addr().expect("an address").port();
    let refusing = Refusing::new();
    let closed_port = refusing.address.port();
    let answers = |answer: &str| {
        let answer = answer.to_owned();
        App::new(move |_, stream| {
            send(stream, &answer);
            Then::Close
        })
    };
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nall systems go";
    let early = format!("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n{ok}");
    let continued = format!("HTTP/1.1 100 Continue\r\n\r\n{ok}");
    let endless = format!("{}{ok}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(100));
    let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: tcp\r\nConnection: upgrade\r\n\r\nabc";
    for (health, answer, expected, result) in [
        ("http: /", ok, "up", "pass"),
        ("http: /", "HTTP/1.1 204 None\r\n\r\n", "up", "pass"),
        ("http: /", "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n", "down", "status"),
        (
            "http: { path: /, expect_status: 301 }",
            "HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n",
            "up",
            "pass",
        ),
        ("http: { path: /, expect_status: 301 }", ok, "down", "status"),
        ("http: { path: /, expect_body: systems }", ok, "up", "pass"),
        ("http: { path: /, expect_body: stop }", ok, "down", "body"),
        ("http: { path: /, method: HEAD }", "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n", "up", "pass"),
        ("http: /", "SSH-2.0-OpenSSH\r\n\r\n", "down", "protocol"),
        ("http: /", "", "down", "protocol"),
        // Interim responses are none, however many statuses are expected (RFC 9110 section 15.2).
        ("http: /", &early, "up", "pass"),
        ("http: /", &continued, "up", "pass"),
        ("http: { path: /, expect_status: 100-299, expect_body: systems }", &early, "up", "pass"),
        ("http: { path: /, expect_status: 100-299, expect_body: systems }", &continued, "up", "pass"),
        ("http: { path: /, expect_status: 100-299 }", "HTTP/1.1 103 Early\r\n\r\n", "down", "protocol"),
        ("http: { path: /, expect_status: 100-299 }", &endless, "down", "protocol"),
        ("http: { path: /, expect_status: 100-299, expect_body: a }", switched, "down", "protocol"),
        ("tcp: {}", "", "up", "pass"),
        ("tcp: {}, port: OPEN", "", "up", "pass"),
        ("tcp: {}, port: CLOSED", "", "down", "connect"),
        ("http: /, port: CLOSED", ok, "down", "connect"),
    ] {
        let health =
            health.replace("OPEN", &open_port.to_string()).replace("CLOSED", &closed_port.to_string());
        let app = answers(answer);
        let pool = format!("health: {{ {health}, interval: 20ms, timeout: 5s, fall: 1, rise: 1 }}");
        let balancer = Balancer::start(&plain(&[app.address], "", &pool));
        turns(&balancer, "s1", expected);
        assert!(
            balancer.metric("evenkeel_probes_total", &[("result", result)]) > 0.0,
            "{health} did not end in {result}"
        );
    }
}

#[test]
fn a_probe_that_takes_too_long_fails() {
    let silent = Silent::new();
    let hanging = App::new(|_, stream| wait_for_the_end(stream));
    let pool = "health: { http: /, interval: 20ms, timeout: 100ms, fall: 1 }";
    let balancer = Balancer::start(&plain(&[silent.address, hanging.address], "", pool));
    turns(&balancer, "s1", "down");
    turns(&balancer, "s2", "down");
    for server in ["s1", "s2"] {
        let labels = [("server", server), ("result", "timeout")];
        assert!(balancer.metric("evenkeel_probes_total", &labels) > 0.0);
    }
}

#[test]
fn a_probe_says_who_it_is_and_asks_what_it_was_told_to() {
    let app = App::new(|_, stream| {
        say(stream, "");
        Then::Close
    });
    let pool = "health: { http: { path: /deep?x=1, method: GET, host: shop.example }, interval: 50ms }";
    let balancer = Balancer::start(&plain(&[app.address], "", pool));
    turns(&balancer, "s1", "up");
    let probe = app.last();
    assert_eq!((probe.method.as_str(), probe.target.as_str()), ("GET", "/deep?x=1"));
    assert_eq!(probe.field("host"), "shop.example");
    assert!(probe.field("user-agent").starts_with("evenkeel/"), "{probe:?}");
}

#[test]
fn a_down_server_gets_nothing_new_and_finishes_what_it_has() {
    let latch = Latch::default();
    let held = latch.clone();
    let well = Arc::new(AtomicBool::new(true));
    let health = Arc::clone(&well);
    let first = App::new(move |request, stream| match request.target.as_str() {
        "/healthz" if health.load(SeqCst) => say(stream, ""),
        "/healthz" => status(stream, "500 Bad", ""),
        "/slow" => {
            held.wait();
            say(stream, "slow but sure")
        }
        _ => say(stream, "first"),
    });
    let second = Patient::new("second");
    let pool = "health: { http: /healthz, interval: 50ms, timeout: 5s, fall: 1 }, balance: round_robin";
    let balancer = Balancer::start(&plain(&[first.address, second.app.address], "", pool));
    // Whichever the first choice is, one of two goes to each.
    let mut clients: Vec<_> = (0..2).map(|_| balancer.client()).collect();
    second.turn(500);
    turns(&balancer, "s2", "down");
    clients[0].send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    second.turn(200);
    turns(&balancer, "s2", "up");
    well.store(false, SeqCst);
    turns(&balancer, "s1", "down");
    for _ in 0..6 {
        assert_eq!(clients[1].get("/").text(), "second");
    }
    assert_eq!(balancer.metric("evenkeel_server_in_flight", &[("server", "s1")]), 1.0);
    latch.open();
    assert_eq!(clients[0].response().text(), "slow but sure");
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn a_down_servers_request_is_cut_after_the_drain_timeout() {
    let well = Arc::new(AtomicBool::new(true));
    let health = Arc::clone(&well);
    let first = App::new(move |request, stream| match request.target.as_str() {
        "/healthz" if health.load(SeqCst) => say(stream, ""),
        "/healthz" => status(stream, "500 Bad", ""),
        _ => wait_for_the_end(stream),
    });
    let pool = "health: { http: /healthz, interval: 50ms, timeout: 5s, fall: 1 }, drain_timeout: 300ms, \
                when_all_unhealthy: refuse";
    let balancer = Balancer::start(&plain(&[first.address], "", pool));
    let mut client = balancer.client();
    client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    well.store(false, SeqCst);
    assert_eq!(client.response().status, 502);
    assert_eq!(outcome(&balancer.record("/long")), (502, "drained".to_owned()));
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn with_nothing_healthy_a_pool_sends_to_all_and_says_so() {
    let (one, two) = (Patient::new("one"), Patient::new("two"));
    let pool =
        "health: { http: /healthz, interval: 50ms, timeout: 5s, fall: 1, rise: 1 }, balance: round_robin";
    let balancer = Balancer::start(&plain(&[one.app.address, two.app.address], "", pool));
    assert_eq!(balancer.metric("evenkeel_pool_fail_open", &[("pool", "app")]), 0.0);
    one.turn(500);
    two.turn(500);
    balancer.wait_for_metric("evenkeel_pool_servers", &[("state", "down")], 2.0);
    balancer.wait_for_metric("evenkeel_pool_fail_open", &[("pool", "app")], 1.0);
    balancer.log.wait_for("no healthy server left");
    let mut client = balancer.client();
    let mut answers: Vec<_> = (0..4).map(|_| client.get("/").text()).collect();
    answers.sort();
    assert_eq!(answers, ["one", "one", "two", "two"]);
    two.turn(200);
    balancer.wait_for_metric("evenkeel_pool_fail_open", &[("pool", "app")], 0.0);
    balancer.log.wait_for("a healthy server is back");
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "two");
    }
}

#[test]
fn a_drained_server_is_not_used_even_when_nothing_is_healthy() {
    let (one, two) = (Patient::new("one"), Patient::new("two"));
    one.turn(500);
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\npools:\n  app:\n    \
         servers: [{}, {{ address: {}, drain: true }}]\n    \
         health: {{ http: /healthz, interval: 50ms, fall: 1 }}\n",
        one.app.address, two.app.address
    );
    let balancer = Balancer::start(&text);
    balancer.wait_for_metric("evenkeel_pool_fail_open", &[("pool", "app")], 1.0);
    for _ in 0..4 {
        assert_eq!(balancer.get("/").text(), "one");
    }
}

#[test]
fn probing_ends_and_begins_with_the_configuration() {
    let patient = Patient::new("one");
    let probed = "health: { http: /healthz, interval: 20ms, timeout: 5s, fall: 1 }";
    let balancer = Balancer::start(&plain(&[patient.app.address], "", probed));
    patient.turn(500);
    turns(&balancer, "s1", "down");
    assert_eq!(balancer.reload(&plain(&[patient.app.address], "", "")), Reloaded::Taken);
    turns(&balancer, "s1", "up");
    // Asking for something else until two answers are in proves that no probe is under way.
    let probes = patient.app.hits();
    for _ in 0..20 {
        balancer.get("/");
    }
    assert!(patient.app.hits() <= probes + 21, "probes go on");
    assert_eq!(balancer.reload(&plain(&[patient.app.address], "", probed)), Reloaded::Taken);
    turns(&balancer, "s1", "down");
}

/// Answers probes on every loopback address, and knows how many it had open at once.
struct Crowd {
    port: u16,
    most: Arc<AtomicUsize>,
    probes: Arc<AtomicUsize>,
}

impl Crowd {
    fn new() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (open, most, probes) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (crowd_most, crowd_probes) = (Arc::clone(&most), Arc::clone(&probes));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
                let (open, probes) = (Arc::clone(&open), Arc::clone(&probes));
                std::thread::spawn(move || {
                    answer_one(stream);
                    probes.fetch_add(1, SeqCst);
                    open.fetch_sub(1, SeqCst);
                });
            }
        });
        Self { port, most: crowd_most, probes: crowd_probes }
    }
}

fn answer_one(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(DEADLINE));
    let mut head = [0; 1024];
    let _ = stream.read(&mut head);
    // An app server's work: without it, one probe would be over before the next has begun.
    std::thread::sleep(Duration::from_millis(20));
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

#[test]
fn thousands_of_servers_are_not_probed_all_at_once() {
    const SERVERS: usize = 2000;
    let crowd = Crowd::new();
    let servers: Vec<SocketAddr> = (0..SERVERS)
        .map(|n| {
            let [high, low] = u16::try_from(n).expect("few servers").to_be_bytes();
            SocketAddr::from(([127, 1, high, low], crowd.port))
        })
        .collect();
    let pool = "health: { http: /healthz, interval: 1s, timeout: 10s }";
    let balancer = Balancer::start(&plain(&servers, "", pool));
    balancer.wait_for_metric("evenkeel_pool_servers", &[("state", "up")], SERVERS as f64);
    wait_until("a second round of probes", || crowd.probes.load(SeqCst) > 2 * SERVERS);
    let most = crowd.most.load(SeqCst);
    // A connection that evenkeel has closed may still be open for our slower side.
    assert!(most <= 256 + 64, "{most} at once");
    assert_eq!(balancer.get("/").status, 200);
}

#[test]
fn servers_that_say_nothing_delay_no_other_pools_probes() {
    let (silent, good) = (Silent::new(), App::saying("well"));
    let servers: Vec<_> =
        (0..600).map(|n| format!("{{ name: d{n}, address: {} }}", silent.address)).collect();
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: good }}\npools:\n  \
         dead: {{ servers: [{}], health: {{ tcp: {{}}, timeout: 400ms, interval: 500ms }} }}\n  \
         good: {{ servers: [{}], health: {{ http: /healthz, timeout: 400ms, interval: 500ms }} }}\n",
        servers.join(", "),
        good.address
    );
    let balancer = Balancer::start(&text);
    assert_eq!(balancer.get("/").status, 200, "the pool is known as soon as evenkeel is ready");
    let said = balancer.log.wait_for("accepting before the first probes of some servers have ended");
    assert!(said.contains("pool=dead"), "{said}");
    let waits = |pool| balancer.metric("evenkeel_probe_wait_seconds_sum", &[("pool", pool)]);
    wait_until("the dead pool's probes have waited", || waits("dead") > 100.0);
    assert!(waits("good") < 1.0, "{}", waits("good"));
}
