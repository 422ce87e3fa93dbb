//! `protocol: udp`: datagrams pass as they are, sessions are balanced, counted, kept, ended and logged.

use crate::support::balancer::{Balancer, Reloaded, outcome, plain};
use crate::support::udp::{Client, Server};
use crate::support::{wait_for, wait_until};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(100);

/// One listener `web` for datagrams and one pool of servers `s1`, `s2` and so on.
fn udp(servers: &[SocketAddr], listener: &str, pool: &str) -> String {
    plain(servers, &format!("protocol: udp, {listener}"), pool)
}

/// An address where nobody listens, for UDP.
fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("the kernel has a port")
}

fn dropped(balancer: &Balancer, why: &str) -> f64 {
    balancer.metric("evenkeel_udp_dropped_total", &[("listener", "web"), ("why", why)])
}

fn sessions(balancer: &Balancer) -> f64 {
    balancer.metric("evenkeel_connections", &[("listener", "web")])
}

#[test]
fn datagrams_of_every_size_pass_both_ways_as_they_are() {
    for (server, listen) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "\"[::1]:0\"")] {
        let server = Server::answering(server, <[u8]>::to_vec);
        let text = udp(&[server.address], "", "").replace("127.0.0.1:0, pool", &format!("{listen}, pool"));
        let text = text.replace(&server.address.to_string(), &format!("\"{}\"", server.address));
        let balancer = Balancer::start(&text);
        let client = Client::new(balancer.address("web"));
        for size in [0, 1, 512, 1472, 1473, 9000, 40_000, 65_507] {
            let question: Vec<u8> = (0..size).map(|at: usize| (at.wrapping_mul(31) >> 3) as u8).collect();
            let since = Instant::now();
            loop {
                client.tell(&question);
                if client.hear(Duration::from_millis(500)).is_some_and(|answer| answer == question) {
                    break;
                }
                assert!(since.elapsed() < crate::support::DEADLINE, "{size} bytes do not pass");
            }
        }
        assert_eq!(sessions(&balancer), 1.0);
        assert_eq!(balancer.metric("evenkeel_udp_dropped_total", &[]), 0.0);
    }
}

#[test]
fn datagrams_that_come_together_stay_apart() {
    const COUNT: usize = 40;
    let server = Server::echo("s");
    let balancer = Balancer::start(&udp(&[server.address], "", ""));
    let client = Client::new(balancer.address("web"));
    client.ask(b"first");
    // One system call, and for the kernel one packet up to us.
    let state = quinn_udp::UdpSocketState::new((&client.socket).into()).expect("a socket takes its options");
    client.socket.set_nonblocking(false).expect("a socket takes its options");
    let mut seen = BTreeSet::new();
    wait_until("each of them was answered", || {
        let mut contents = Vec::new();
        for number in 0..COUNT {
            let size = if number == COUNT - 1 { 700 } else { 1000 };
            contents.extend(std::iter::repeat_n(number as u8, size));
        }
        let transmit = quinn_udp::Transmit {
            destination: balancer.address("web"),
            ecn: None,
            contents: &contents,
            segment_size: Some(1000),
            src_ip: None,
        };
        state.try_send((&client.socket).into(), &transmit).expect("the kernel takes datagrams apart");
        client.socket.set_read_timeout(Some(SHORT)).expect("a socket takes its options");
        let mut buffers = vec![vec![0; 65_535]; 8];
        let mut meta = [quinn_udp::RecvMeta::default(); 8];
        loop {
            let mut slices: Vec<_> = buffers.iter_mut().map(|b| std::io::IoSliceMut::new(b)).collect();
            let Ok(received) = state.recv((&client.socket).into(), &mut slices, &mut meta) else { break };
            for (meta, buffer) in meta.iter().zip(&buffers).take(received) {
                for answer in buffer[..meta.len].chunks(meta.stride) {
                    if answer == b"sfirst" {
                        continue;
                    }
                    let number = answer[1];
                    assert_eq!(answer.len(), if usize::from(number) == COUNT - 1 { 701 } else { 1001 });
                    assert!(answer[0] == b's' && answer[1..].iter().all(|byte| *byte == number));
                    seen.insert(number);
                }
            }
        }
        seen.len() == COUNT
    });
    assert!(server.received() > COUNT);
    let datagrams = |direction| balancer.metric("evenkeel_udp_datagrams_total", &[("direction", direction)]);
    assert_eq!(datagrams("in"), server.received() as f64);
    wait_until("all answers are counted", || datagrams("out") == server.received() as f64);
}

#[test]
fn a_session_is_counted_and_has_one_record_at_its_end() {
    let server = Server::echo("");
    let balancer = Balancer::start(&udp(&[server.address], "timeouts: { idle: 400ms }", ""));
    let client = Client::new(balancer.address("web"));
    let since = Instant::now();
    let mut asked = 0;
    while since.elapsed() < Duration::from_millis(900) {
        client.ask(b"four");
        asked += 1;
    }
    assert_eq!(balancer.records().len(), 0, "it went on as long as there was something to pass");
    let record = balancer.record_where("of the session", |_| true);
    assert_eq!(outcome(&record), (200, "ok".to_owned()), "{record}");
    assert_eq!((&record["protocol"], &record["client"]), (&"UDP".into(), &"127.0.0.1".into()), "{record}");
    assert_eq!((&record["pool"], &record["server"]), (&"app".into(), &"s1".into()), "{record}");
    assert_eq!((&record["tries"], &record["generation"]), (&1.into(), &1.into()), "{record}");
    assert!(record["duration_ms"].as_f64() >= Some(1200.0), "{record}");
    let labels =
        |direction| [("listener", "web"), ("pool", "app"), ("server", "s1"), ("direction", direction)];
    for (direction, bytes) in [("in", "bytes_in"), ("out", "bytes_out")] {
        assert_eq!(balancer.metric("evenkeel_udp_bytes_total", &labels(direction)), record[bytes]);
        let datagrams = balancer.metric("evenkeel_udp_datagrams_total", &labels(direction));
        assert_eq!(record[bytes], datagrams * 4.0);
        assert!(datagrams >= f64::from(asked));
    }
    assert_eq!(balancer.metric("evenkeel_udp_sessions_total", &[("server", "s1"), ("why", "ok")]), 1.0);
    balancer.wait_for_in_flight(0.0);
    wait_until("nobody is inside", || sessions(&balancer) == 0.0);

    client.ask(b"again");
    assert_eq!(balancer.metric("evenkeel_connections_total", &[("listener", "web")]), 2.0);
    assert_eq!(server.senders(), 2, "a new session has a new socket");
}

#[test]
fn a_session_counts_as_load() {
    let (one, two) = (Server::echo("1"), Server::echo("2"));
    let balancer = Balancer::start(&udp(&[one.address, two.address], "", ""));
    let clients: Vec<_> = (0..10).map(|_| Client::new(balancer.address("web"))).collect();
    for client in &clients {
        client.ask(b"?");
    }
    for server in ["s1", "s2"] {
        assert_eq!(balancer.metric("evenkeel_server_in_flight", &[("server", server)]), 5.0);
    }
    assert_eq!(sessions(&balancer), 10.0);
    assert_eq!((one.senders(), two.senders()), (5, 5));
}

#[test]
fn a_client_address_keeps_its_server_when_hashed() {
    let servers = [Server::echo("1"), Server::echo("2"), Server::echo("3")];
    let addresses = servers.each_ref().map(|server| server.address);
    let balancer = Balancer::start(&udp(&addresses, "", "balance: consistent_hash"));
    let mut met = BTreeSet::new();
    for last in 1..=12 {
        let server = |_| Client::from([127, 0, 3, last], balancer.address("web")).ask(b"?");
        let [first, again, thrice] = [0, 1, 2].map(server);
        assert!(first == again && again == thrice, "127.0.3.{last}");
        met.insert(first);
    }
    assert!(met.len() > 1, "twelve clients and one server");
}

#[test]
fn sessions_stay_on_their_server_through_reloads_and_drains() {
    let (one, two) = (Server::echo("1"), Server::echo("2"));
    let text = |first: &str| {
        format!(
            "listeners:\n  web: {{ address: 127.0.0.1:0, protocol: udp, pool: app }}\n\
             pools:\n  app:\n    servers:\n      - {{ name: s1, address: {}{first} }}\n      \
             - {{ name: s2, address: {} }}\n",
            one.address, two.address
        )
    };
    let balancer = Balancer::start(&text(""));
    let clients: Vec<_> = (0..6).map(|_| Client::new(balancer.address("web"))).collect();
    let before: Vec<_> = clients.iter().map(|client| client.ask(b"?")).collect();
    for change in [", weight: 1", ", drain: true", ", weight: 256"] {
        assert_eq!(balancer.reload(&text(change)), Reloaded::Taken);
        let after: Vec<_> = clients.iter().map(|client| client.ask(b"?")).collect();
        assert_eq!(before, after, "{change}");
        if change.contains("drain") {
            assert_eq!(Client::new(balancer.address("web")).ask(b"?"), b"2");
        }
    }
    assert_eq!(balancer.records().len(), 0);
}

#[test]
fn what_is_left_on_a_removed_server_goes_elsewhere_at_the_drain_timeout() {
    let (gone, kept) = (Server::echo("1"), Server::echo("2"));
    let pool = "drain_timeout: 400ms";
    let balancer = Balancer::start(&udp(&[gone.address, kept.address], "", pool));
    let clients = [0, 1].map(|_| Client::new(balancer.address("web")));
    let mut names = clients.each_ref().map(|client| client.ask(b"?"));
    let at = usize::from(names[0] == b"2");
    let text = udp(&[kept.address], "", pool).replace("name: s1", "name: s2");
    let since = Instant::now();
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    wait_until("it is led to another server", || {
        names[at] = clients[at].ask(b"?");
        names[at] == b"2"
    });
    assert!(since.elapsed() >= Duration::from_millis(400), "it had its time");
    let record = balancer.record_where("of the session", |_| true);
    assert_eq!((outcome(&record), &record["server"]), ((502, "drained".to_owned()), &"s1".into()));
    assert_eq!(clients[1 - at].ask(b"?"), b"2");
    wait_until("its series are gone", || {
        balancer.series("evenkeel_udp_datagrams_total", &[("server", "s1")]).is_empty()
    });
}

#[test]
fn a_client_that_opens_sessions_too_fast_has_its_datagrams_dropped() {
    let server = Server::echo("x");
    let text = udp(&[server.address], "limits: { new_connections_per_client: 1/h }", "");
    let balancer = Balancer::start(&text);
    let (first, second) = (Client::new(balancer.address("web")), Client::new(balancer.address("web")));
    assert_eq!(first.ask(b"?"), b"x");
    second.tell(b"?");
    wait_until("a datagram is dropped", || dropped(&balancer, "client_limit") >= 1.0);
    assert_eq!(first.ask(b"!"), b"x", "what is open goes on");
    Client::from([127, 0, 0, 9], balancer.address("web")).ask(b"?");
}

#[test]
fn limits_drop_what_would_open_a_session_and_count_it() {
    let server = Server::echo("");
    let cases = [
        ("process: { max_connections: 2 }", "", "process_limit"),
        ("", "limits: { connections: 2 }", "listener_limit"),
        ("", "limits: { connections_per_client: 2 }", "client_limit"),
    ];
    for (process, listener, why) in cases {
        let idle = "timeouts: { idle: 1s }";
        let text = udp(&[server.address], &format!("{idle}, {listener}"), "");
        let balancer = Balancer::start(&format!("{process}\n{text}"));
        let clients = [0, 1].map(|_| Client::new(balancer.address("web")));
        let third = Client::new(balancer.address("web"));
        wait_until("two are inside", || {
            for client in &clients {
                client.ask(b"?");
            }
            sessions(&balancer) == 2.0
        });
        third.tell(b"?");
        wait_until("a datagram is dropped", || dropped(&balancer, why) >= 1.0);
        assert_eq!(third.hear(SHORT), None, "{why}");
        if why == "client_limit" {
            Client::from([127, 0, 0, 9], balancer.address("web")).ask(b"?");
        }
        // Once the others have been silent for long enough, there is room.
        third.ask(b"?");
    }
}

#[test]
fn a_full_pool_drops_and_says_so() {
    let server = Server::echo("");
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, protocol: udp, pool: app }}\n\
         pools:\n  app: {{ servers: [{{ address: {}, max_connections: 1 }}] }}\n",
        server.address
    );
    let balancer = Balancer::start(&text);
    let first = Client::new(balancer.address("web"));
    first.ask(b"?");
    let second = Client::new(balancer.address("web"));
    second.tell(b"?");
    let record = balancer.record_where("of the second", |_| true);
    assert_eq!(outcome(&record), (503, "all_full".to_owned()));
    assert_eq!(dropped(&balancer, "no_server"), 1.0);
    assert_eq!(balancer.metric("evenkeel_udp_sessions_total", &[("why", "all_full")]), 1.0);
    first.ask(b"?");
}

#[test]
fn after_a_closed_port_the_next_datagram_goes_elsewhere() {
    let server = Server::echo("2");
    for balance in ["round_robin", "consistent_hash"] {
        let pool = format!("balance: {balance}");
        let balancer = Balancer::start(&udp(&[free_address(), server.address], "", &pool));
        for last in 1..=8 {
            let client = Client::from([127, 0, 4, last], balancer.address("web"));
            assert_eq!(client.ask(b"?"), b"2", "{balance}");
        }
        let fault = |record: &serde_json::Value| record["why"] == "connect_failed";
        let record = balancer.record_where("of the closed port", fault);
        assert_eq!((&record["server"], &record["status"]), (&"s1".into(), &502.into()));
        // What one client found out spares the others: once for each core at most.
        let faults = balancer.records().iter().filter(|record| fault(record)).count();
        assert!(faults <= 3, "{faults} of 8 clients found the port closed");
    }
}

#[test]
fn a_server_that_goes_away_ends_its_sessions() {
    let (goes, stays) = (Server::echo("1"), Server::echo("2"));
    let pool = "balance: round_robin";
    let balancer = Balancer::start(&udp(&[goes.address, stays.address], "", pool));
    let clients: Vec<_> = (0..6).map(|_| Client::new(balancer.address("web"))).collect();
    let on_one = clients.iter().filter(|client| client.ask(b"?") == b"1").count();
    assert!(on_one > 0);
    drop(goes);
    for client in &clients {
        assert_eq!(client.ask(b"?"), b"2");
    }
    wait_until("each has its record", || {
        balancer.metric("evenkeel_udp_sessions_total", &[("why", "server_reset")]) == on_one as f64
    });
    balancer.wait_for_in_flight(6.0);
    assert!(balancer.records().iter().all(|record| record["server"] == "s1" && record["status"] == 502));
}

#[test]
fn answers_leave_from_the_address_that_was_written_to() {
    let server = Server::echo("");
    let text = udp(&[server.address], "", "").replace("127.0.0.1:0", "0.0.0.0:0");
    let balancer = Balancer::start(&text);
    let port = balancer.address("web").port();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("the kernel has a port");
    socket.set_read_timeout(Some(SHORT)).expect("a socket takes its options");
    for last in [1, 2, 77] {
        let to = SocketAddr::from(([127, 0, 0, last], port));
        let from = wait_for("an answer", || {
            socket.send_to(&[last], to).expect("there is a way");
            let mut byte = [0];
            let (_, from) = socket.recv_from(&mut byte).ok()?;
            (byte == [last]).then_some(from)
        });
        assert_eq!(from, to);
    }
    assert_eq!(sessions(&balancer), 3.0, "to the client these are three");
}

#[test]
fn every_core_keeps_its_clients() {
    let servers = [Server::echo("1"), Server::echo("2"), Server::echo("3")];
    let addresses = servers.each_ref().map(|server| server.address);
    let text = udp(&addresses, "limits: { connections_per_client: null }", "balance: round_robin");
    let balancer = Balancer::start(&format!("process: {{ threads: 3 }}\n{text}"));
    let clients: Vec<_> = (0..60).map(|_| Client::new(balancer.address("web"))).collect();
    let names: Vec<_> = clients.iter().map(|client| client.ask(b"?")).collect();
    for round in 0..5 {
        for (client, name) in clients.iter().zip(&names) {
            assert_eq!(client.ask(b"?"), *name, "round {round}");
        }
    }
    assert_eq!(sessions(&balancer), 60.0);
    let senders: usize = servers.iter().map(Server::senders).sum();
    assert_eq!(senders, 60);
    assert!(servers.iter().all(|server| server.senders() > 5));
}

#[test]
fn a_listener_comes_and_goes_and_its_sessions_have_their_time() {
    let server = Server::echo("");
    let address = free_address();
    let both = |first: &str| {
        format!(
            "listeners:\n{first}  other: {{ address: 127.0.0.1:0, protocol: udp, pool: app }}\n\
             pools:\n  app: {{ drain_timeout: 3s, servers: [{{ name: s1, address: {} }}] }}\n",
            server.address
        )
    };
    let with = |name: &str, keys: &str| {
        both(&format!("  {name}: {{ address: {address}, protocol: udp, pool: app, {keys} }}\n"))
    };
    let balancer = Balancer::start(&both(""));
    assert_eq!(balancer.reload(&with("web", "")), Reloaded::Taken);
    let old = Client::new(address);
    old.ask(b"?");
    assert_eq!(server.senders(), 1);

    // Gone: who is there stays, nobody else comes in.
    assert_eq!(balancer.reload(&both("")), Reloaded::Taken);
    old.ask(b"?");
    let new = Client::new(address);
    new.tell(b"?");
    assert_eq!(new.hear(SHORT), None);

    // Back under another name, and the same socket: the session goes on, and others can come.
    assert_eq!(balancer.reload(&with("again", "timeouts: { idle: 1h }")), Reloaded::Taken);
    new.ask(b"?");
    old.ask(b"?");
    assert_eq!(server.senders(), 2);
    assert_eq!(balancer.metric("evenkeel_connections", &[("listener", "again")]), 1.0);

    // Of a listener that has gone, sessions end at the pool's drain timeout however much they have to say.
    wait_until("the first session has ended", || {
        old.ask(b"?");
        balancer.records().iter().any(|record| record["why"] == "drained")
    });
    assert_eq!(balancer.reload(&both("")), Reloaded::Taken);
    wait_until("the address is free", || UdpSocket::bind(address).is_ok());
}

#[test]
fn an_address_that_moves_to_another_listener_is_never_closed() {
    let server = Server::echo("");
    let address = free_address();
    let text = |name: &str| {
        format!(
            "listeners:\n  {name}: {{ address: {address}, protocol: udp, pool: app }}\n\
             pools:\n  app: {{ servers: [{}] }}\n",
            server.address
        )
    };
    let balancer = Balancer::start(&text("a"));
    let client = Client::new(address);
    client.ask(b"?");
    for name in ["b", "c"] {
        assert_eq!(balancer.reload(&text(name)), Reloaded::Taken);
        client.ask(b"?");
        Client::new(address).ask(b"?");
    }
    assert_eq!(server.senders(), 3);
}

#[test]
fn an_address_in_use_is_refused_and_nothing_changes() {
    let server = Server::echo("");
    let text = |second: &str| {
        format!(
            "listeners:\n  web: {{ address: 127.0.0.1:0, protocol: udp, pool: app }}\n{second}\
             pools:\n  app: {{ servers: [{}] }}\n",
            server.address
        )
    };
    let balancer = Balancer::start(&text(""));
    let client = Client::new(balancer.address("web"));
    client.ask(b"?");
    let taken = UdpSocket::bind("127.0.0.1:0").expect("the kernel has a port");
    let address = taken.local_addr().expect("a bound socket has an address");
    let more = format!("  more: {{ address: {address}, protocol: udp, pool: app }}\n");
    assert_eq!(balancer.reload(&text(&more)), Reloaded::Refused);
    balancer.log.wait_for(&format!("listeners.more: cannot listen on {address}"));
    client.ask(b"?");
    drop(taken);
    assert_eq!(balancer.reload(&text(&more)), Reloaded::Taken);
    Client::new(address).ask(b"?");
}

#[test]
fn one_port_serves_udp_and_tcp() {
    let (udp, tcp) = (Server::echo("u"), crate::support::tcp::Server::echo("t"));
    let address = wait_for("a port that is free for both", || {
        let address = free_address();
        std::net::TcpListener::bind(address).ok().map(|_| address)
    });
    let text = |protocols: [&str; 2]| {
        let [one, other] = protocols;
        format!(
            "listeners:\n  one: {{ address: {address}, protocol: {one}, pool: {one} }}\n  \
             other: {{ address: {address}, protocol: {other}, pool: {other} }}\n\
             pools:\n  udp: {{ servers: [{}] }}\n  tcp: {{ servers: [{}] }}\n",
            udp.address, tcp.address
        )
    };
    let balancer = Balancer::start(&text(["udp", "tcp"]));
    let client = Client::new(address);
    for protocols in [["udp", "tcp"], ["tcp", "udp"], ["udp", "tcp"]] {
        assert_eq!(balancer.reload(&text(protocols)), Reloaded::Taken);
        assert_eq!(client.ask(b"?"), b"u");
        let mut stream = crate::support::tcp::connect(address);
        stream.write_all(b"?").expect("taken");
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"t?");
    }
    assert_eq!(udp.senders(), 1);
}

#[test]
fn a_probe_asks_by_datagram() {
    let good = Server::answering("127.0.0.1:0", |question| match question {
        b"\xab\xcdPING" => b"..\xab\xcdPONG..".to_vec(),
        other => [b"good", other].concat(),
    });
    let bad = Server::echo("bad");
    let health =
        |probe: &str| format!("health: {{ udp: {{ {probe} }}, interval: 50ms, timeout: 40ms, fall: 1 }}");
    let servers = [bad.address, good.address, free_address()];
    let hex = health("send_hex: \"abcd 50494e47\", expect_hex: \"abcd504f4e47\"");
    let balancer = Balancer::start(&udp(&servers, "", &hex));
    let up = |server| balancer.metric("evenkeel_server_up", &[("server", server)]);
    wait_until("the good one alone is up", || [up("s1"), up("s2"), up("s3")] == [0.0, 1.0, 0.0]);
    let probes = |server, result| {
        balancer.metric("evenkeel_probes_total", &[("server", server), ("result", result)]) > 0.0
    };
    assert!(probes("s1", "reply") && probes("s3", "connect"));
    balancer.log.wait_for("reply does not contain");
    for _ in 0..4 {
        assert_eq!(Client::new(balancer.address("web")).ask(b"?"), b"good");
    }
    assert_eq!(
        balancer.reload(&udp(&servers, "", &health("send: \"x\\0\", expect: \"badx\\0\""))),
        Reloaded::Taken
    );
    wait_until("now the other one", || [up("s1"), up("s2"), up("s3")] == [1.0, 0.0, 0.0]);
    assert_eq!(balancer.reload(&udp(&servers, "", &health("send: \"\""))), Reloaded::Taken);
    wait_until("any answer will do", || [up("s1"), up("s2"), up("s3")] == [1.0, 1.0, 0.0]);
}

#[test]
fn a_graceful_stop_waits_for_sessions_that_have_something_to_say() {
    let server = Server::echo("");
    let text = format!("process: {{ shutdown_timeout: 30s }}\n{}", udp(&[server.address], "", ""));
    let mut balancer = Balancer::start(&text);
    let web = balancer.address("web");
    let (silent, talks) = (Client::new(web), Client::new(web));
    silent.ask(b"1");
    talks.ask(b"22");
    balancer.signal(Signal::TERM);
    let since = Instant::now();
    wait_until("the silent one is over, and the other goes on", || {
        talks.ask(b"22");
        balancer.records().iter().any(|record| record["bytes_in"] == 1 && record["why"] == "ok")
    });
    talks.ask(b"22");
    assert_eq!(balancer.records().len(), 1);
    let new = Client::new(web);
    new.tell(b"?");
    assert_eq!(new.hear(SHORT), None, "a new session while stopping");
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    assert_eq!(balancer.records().len(), 2);
    assert!(since.elapsed() < Duration::from_secs(20), "it waited for the shutdown timeout");
}

#[test]
fn the_shutdown_timeout_ends_what_goes_on_talking() {
    let server = Server::echo("");
    let text = format!("process: {{ shutdown_timeout: 500ms }}\n{}", udp(&[server.address], "", ""));
    let mut balancer = Balancer::start(&text);
    let client = Client::new(balancer.address("web"));
    client.ask(b"?");
    balancer.signal(Signal::TERM);
    wait_until("it is over", || {
        client.tell(b"?");
        balancer.records().len() == 1
    });
    assert_eq!(outcome(&balancer.records()[0]).1, "shutdown");
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
}
