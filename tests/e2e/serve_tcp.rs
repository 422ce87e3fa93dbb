//! `protocol: tcp`: bytes pass as they are, connections are balanced, counted, kept, cut and logged.

use crate::support::app::{Refusing, Silent};
use crate::support::balancer::{Balancer, Directory, Reloaded, outcome, plain};
use crate::support::tcp::{End, Server, bytes, check_stream, connect, connect_from, reset, send_stream};
use crate::support::{DEADLINE, wait_for, wait_until};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// One listener `web` for bare connections and one pool of servers `s1`, `s2` and so on.
fn tcp(servers: &[SocketAddr], listener: &str, pool: &str) -> String {
    plain(servers, &format!("protocol: tcp, {listener}"), pool)
}

/// The one record there is.
fn record(balancer: &Balancer) -> serde_json::Value {
    balancer.record_where("of the connection", |_| true)
}

#[test]
fn bytes_pass_both_ways_at_once_as_they_are() {
    const LENGTH: u64 = 12 << 20;
    let server = Server::new(|stream| {
        let mut back = stream.try_clone().expect("a socket has a twin");
        let sending = std::thread::spawn(move || send_stream(&mut back, 2, LENGTH));
        let mut stream = stream;
        let seen = check_stream(&mut stream, 1, LENGTH, || {});
        sending.join().expect("no panic").expect("all of it is taken");
        seen.expect("what the client sent");
    });
    let balancer = Balancer::start(&tcp(&[server.address], "", ""));
    let mut client = connect(balancer.address("web"));
    let mut twin = client.try_clone().expect("a socket has a twin");
    let sending = std::thread::spawn(move || send_stream(&mut twin, 1, LENGTH));
    check_stream(&mut client, 2, LENGTH, || {}).expect("what the server sent");
    sending.join().expect("no panic").expect("all of it is taken");
    let record = record(&balancer);
    assert_eq!(outcome(&record), (200, "ok".to_owned()), "{record}");
    assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&LENGTH.into(), &LENGTH.into()), "{record}");
    assert_eq!((&record["protocol"], &record["server"]), (&"TCP".into(), &"s1".into()), "{record}");
    assert_eq!(record["tries"], 1);
    for direction in ["in", "out"] {
        let labels = [("server", "s1"), ("pool", "app"), ("listener", "web"), ("direction", direction)];
        assert_eq!(balancer.metric("evenkeel_tcp_bytes_total", &labels), LENGTH as f64);
    }
    assert_eq!(balancer.metric("evenkeel_tcp_connections_total", &[("why", "ok"), ("server", "s1")]), 1.0);
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn a_slow_reader_slows_the_sender_down_and_loses_nothing() {
    const LENGTH: u64 = 24 << 20;
    let server = Server::new(|mut stream| drop(send_stream(&mut stream, 3, LENGTH)));
    let balancer = Balancer::start(&tcp(&[server.address], "", ""));
    let mut client = connect(balancer.address("web"));
    // Nothing is read until the sender is stuck: what is on the way is what the sockets hold.
    let sent = || balancer.metric("evenkeel_tcp_bytes_total", &[("direction", "out")]);
    let mut last = -1.0;
    let stuck = wait_for("the sender is stuck", || {
        let now = sent();
        let same = now == last && now > 0.0;
        last = now;
        std::thread::sleep(Duration::from_millis(30));
        same.then_some(now)
    });
    assert!(stuck < LENGTH as f64, "all of it was read with nobody to take it");
    let mut reads = 0;
    check_stream(&mut client, 3, LENGTH, || {
        reads += 1;
        if reads % 64 == 0 {
            std::thread::yield_now();
        }
    })
    .expect("what the server sent");
}

#[test]
fn either_side_may_end_first_and_still_hear_the_other() {
    let server = Server::new(|mut stream| {
        let mut question = String::new();
        let _ = stream.read_to_string(&mut question);
        let _ = stream.write_all(format!("you said {question}").as_bytes());
    });
    let balancer = Balancer::start(&tcp(&[server.address], "", ""));
    let mut client = connect(balancer.address("web"));
    client.write_all(b"hello").expect("taken");
    client.shutdown(Shutdown::Write).expect("half of it");
    assert_eq!(End::of(&mut client), End::Closed(b"you said hello".to_vec()));
    assert_eq!(outcome(&record(&balancer)), (200, "ok".to_owned()));

    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let hearing = std::sync::Arc::clone(&heard);
    let server = Server::new(move |mut stream| {
        let _ = stream.write_all(b"bye");
        let _ = stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        hearing.lock().expect("no panic").extend(rest);
    });
    let balancer = Balancer::start(&tcp(&[server.address], "", ""));
    let mut client = connect(balancer.address("web"));
    assert_eq!(End::of(&mut client), End::Closed(b"bye".to_vec()));
    client.write_all(b"one thing more").expect("the other direction is open");
    drop(client);
    wait_until("the server heard it", || *heard.lock().expect("no panic") == b"one thing more");
    assert_eq!(outcome(&record(&balancer)), (200, "ok".to_owned()));
}

#[test]
fn a_connection_without_a_byte_either_way_is_closed() {
    let server = Server::echo("");
    let balancer = Balancer::start(&tcp(&[server.address], "", "timeouts: { tunnel_idle: 1s }"));
    let mut client = connect(balancer.address("web"));
    let since = Instant::now();
    // Longer than the limit, with something moving all the time.
    while since.elapsed() < Duration::from_millis(1500) {
        client.write_all(b"x").expect("still open");
        assert_eq!(bytes(&mut client, 1), b"x");
        std::thread::sleep(Duration::from_millis(20));
    }
    let since = Instant::now();
    assert_eq!(End::of(&mut client), End::Closed(Vec::new()));
    assert!(since.elapsed() >= Duration::from_millis(900), "closed after {:?}", since.elapsed());
    assert_eq!(outcome(&record(&balancer)), (504, "tunnel_idle".to_owned()));
}

#[test]
fn a_server_that_cannot_be_reached_is_passed_over() {
    let (refusing, server) = (Refusing::new(), Server::echo("here"));
    let text = tcp(&[refusing.address, server.address], "", "balance: round_robin, retries: { budget: 0% }");
    let balancer = Balancer::start(&text);
    for _ in 0..4 {
        let mut client = connect(balancer.address("web"));
        assert_eq!(bytes(&mut client, 4), b"here");
    }
    let tries: Vec<_> = wait_for("four records", || {
        let records = balancer.records();
        (records.len() == 4).then(|| records.iter().map(|record| record["tries"].as_u64()).collect())
    });
    let retried = tries.iter().filter(|tries| **tries == Some(2)).count();
    assert!(retried > 0, "{tries:?}");
    assert_eq!(balancer.metric("evenkeel_retries_total", &[("reason", "connect")]), retried as f64);
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn a_connection_that_no_server_takes_is_closed_with_its_reason() {
    let (refusing, silent) = (Refusing::new(), Silent::new());
    for (address, pool, why, status) in [
        (refusing.address, "", "connect_failed", 502),
        (silent.address, "timeouts: { connect: 100ms }", "connect_timeout", 504),
    ] {
        let balancer = Balancer::start(&tcp(&[address], "", pool));
        let mut client = connect(balancer.address("web"));
        assert!(End::of(&mut client).is_end(), "{why}");
        let record = record(&balancer);
        assert_eq!(outcome(&record), (status, why.to_owned()));
        assert_eq!((&record["server"], &record["bytes_in"]), (&"s1".into(), &0.into()), "{record}");
        assert_eq!(balancer.metric("evenkeel_tcp_connections_total", &[("why", why)]), 1.0);
        balancer.wait_for_in_flight(0.0);
    }
}

#[test]
fn retries_end_where_the_pool_says() {
    let gone: Vec<_> = (0..4).map(|_| Refusing::new()).collect();
    let addresses: Vec<_> = gone.iter().map(|gone| gone.address).collect();
    for (retries, tries) in [("max: 2", 3), ("max: 0", 1), ("max: 3, on: [reset]", 1), ("max: 9", 4)] {
        let balancer = Balancer::start(&tcp(&addresses, "", &format!("retries: {{ {retries} }}")));
        assert!(End::of(&mut connect(balancer.address("web"))).is_end());
        assert_eq!(record(&balancer)["tries"], tries, "{retries}");
        assert_eq!(outcome(&record(&balancer)).1, "connect_failed");
    }
}

#[test]
fn a_reset_of_one_side_reaches_the_other() {
    let server = Server::new(|mut stream| {
        let _ = bytes(&mut stream, 1);
        reset(stream);
    });
    let balancer = Balancer::start(&tcp(&[server.address], "", ""));
    let mut client = connect(balancer.address("web"));
    client.write_all(b"x").expect("taken");
    assert_eq!(End::of(&mut client), End::Reset(Vec::new()), "a stream cut short looks whole");
    assert_eq!(outcome(&record(&balancer)), (502, "server_reset".to_owned()));

    let (ended, end) = std::sync::mpsc::channel();
    let server = Server::new(move |mut stream| drop(ended.send(End::of(&mut stream))));
    let balancer = Balancer::start(&tcp(&[server.address], "", ""));
    let client = connect(balancer.address("web"));
    balancer.wait_for_in_flight(1.0);
    wait_until("the server has it", || server.accepted() == 1);
    reset(client);
    assert_eq!(end.recv_timeout(DEADLINE), Ok(End::Reset(Vec::new())));
    assert_eq!(outcome(&record(&balancer)), (499, "client_aborted".to_owned()));
}

#[test]
fn an_open_connection_counts_as_load() {
    let (one, two) = (Server::echo("1"), Server::echo("2"));
    let balancer = Balancer::start(&tcp(&[one.address, two.address], "", ""));
    let mut clients: Vec<_> = (0..10).map(|_| connect(balancer.address("web"))).collect();
    for client in &mut clients {
        bytes(client, 1);
    }
    for server in ["s1", "s2"] {
        assert_eq!(balancer.metric("evenkeel_server_in_flight", &[("server", server)]), 5.0);
    }
    assert_eq!(balancer.metric("evenkeel_connections", &[("listener", "web")]), 10.0);
    drop(clients);
    balancer.wait_for_in_flight(0.0);
    balancer.wait_for_metric("evenkeel_connections", &[("listener", "web")], 0.0);
    assert_eq!(balancer.metric("evenkeel_connections_total", &[("listener", "web")]), 10.0);
}

#[test]
fn a_client_keeps_its_server_when_hashed() {
    let servers = [Server::echo("1"), Server::echo("2"), Server::echo("3")];
    let addresses = servers.each_ref().map(|server| server.address);
    let balancer = Balancer::start(&tcp(&addresses, "", "balance: consistent_hash"));
    let mut met = std::collections::BTreeSet::new();
    for last in 1..=12 {
        let server = |_| bytes(&mut connect_from([127, 0, 3, last], balancer.address("web")), 1);
        let [first, again, thrice] = [0, 1, 2].map(server);
        assert!(first == again && again == thrice, "127.0.3.{last}");
        met.insert(first);
    }
    assert!(met.len() > 1, "twelve clients and one server");
}

#[test]
fn limits_hold_for_bare_connections() {
    let server = Server::echo("hello");
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, protocol: tcp, pool: app, \
         limits: {{ connections_per_client: 2 }} }}\n\
         pools:\n  app: {{ servers: [{{ address: {}, max_connections: 3 }}], queue: null }}\n",
        server.address
    );
    let balancer = Balancer::start(&text);
    let web = balancer.address("web");
    let mut held: Vec<_> = [[127, 0, 0, 1], [127, 0, 0, 1], [127, 0, 0, 2]]
        .into_iter()
        .map(|from| {
            let mut client = connect_from(from, web);
            assert_eq!(bytes(&mut client, 5), b"hello");
            client
        })
        .collect();
    assert!(End::of(&mut connect(web)).is_end(), "a third one of one client");
    assert_eq!(balancer.metric("evenkeel_connections_refused_total", &[]), 1.0);
    assert!(End::of(&mut connect_from([127, 0, 0, 2], web)).is_end(), "a fourth one of the server");
    for why in ["client_limit", "all_full"] {
        let record = balancer.record_where(why, |record| record["why"] == why);
        assert_eq!(record["status"], 503, "{why}");
        assert_eq!(balancer.metric("evenkeel_tcp_connections_total", &[("why", why)]), 1.0, "{why}");
    }
    held.clear();
    balancer.wait_for_in_flight(0.0);
    assert_eq!(bytes(&mut connect(web), 5), b"hello");
}

#[test]
fn a_reload_keeps_open_connections_even_of_a_listener_that_goes() {
    let server = Server::echo("");
    let both = |first: &str| {
        format!(
            "listeners:\n{first}  other: {{ address: 127.0.0.1:0, protocol: tcp, pool: app }}\n\
             pools:\n  app: {{ servers: [{{ name: s1, address: {} }}] }}\n",
            server.address
        )
    };
    let balancer = Balancer::start(&both("  web: { address: 127.0.0.1:0, protocol: tcp, pool: app }\n"));
    let mut client = connect(balancer.address("web"));
    client.write_all(b"before").expect("taken");
    assert_eq!(bytes(&mut client, 6), b"before");
    let web = balancer.address("web");
    assert_eq!(balancer.reload(&both("")), Reloaded::Taken);
    wait_until("the port is closed", || TcpStream::connect(web).is_err());
    client.write_all(b"after").expect("taken");
    assert_eq!(bytes(&mut client, 5), b"after");
    balancer.wait_for_in_flight(1.0);
    drop(client);
    balancer.wait_for_in_flight(0.0);
    // Who looks whether the port is closed may have a record, too.
    let own = balancer.record_where("of the client", |record| record["bytes_in"] == 11);
    assert_eq!(own["generation"], 1);
}

#[test]
fn what_is_left_on_a_removed_server_is_cut_at_the_drain_timeout() {
    let (gone, kept) = (Server::echo("1"), Server::echo("2"));
    let pool = "balance: round_robin, drain_timeout: 300ms";
    let balancer = Balancer::start(&tcp(&[gone.address, kept.address], "", pool));
    let mut clients: Vec<_> = (0..2).map(|_| connect(balancer.address("web"))).collect();
    let names: Vec<_> = clients.iter_mut().map(|client| bytes(client, 1)).collect();
    let at = names.iter().position(|name| name == b"1").expect("one for each");
    let text = tcp(&[kept.address], "", pool).replace("name: s1", "name: s2");
    let since = Instant::now();
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    clients[at].write_all(b"x").expect("it has its time");
    assert_eq!(bytes(&mut clients[at], 1), b"x");
    assert!(End::of(&mut clients[at]).is_end());
    assert!(since.elapsed() >= Duration::from_millis(300));
    let record = record(&balancer);
    assert_eq!((outcome(&record), &record["server"]), ((502, "drained".to_owned()), &"s1".into()));
    clients[1 - at].write_all(b"y").expect("taken");
    assert_eq!(bytes(&mut clients[1 - at], 1), b"y");
}

#[test]
fn a_graceful_stop_leaves_open_connections_their_time_and_then_cuts_them() {
    let server = Server::echo("");
    let text = format!("process: {{ shutdown_timeout: 700ms }}\n{}", tcp(&[server.address], "", ""));
    let mut balancer = Balancer::start(&text);
    let web = balancer.address("web");
    let (mut ends, mut stays) = (connect(web), connect(web));
    balancer.wait_for_in_flight(2.0);
    balancer.signal(Signal::TERM);
    wait_until("no new connections", || TcpStream::connect(web).is_err());
    for client in [&mut ends, &mut stays] {
        client.write_all(b"x").expect("taken");
        assert_eq!(bytes(client, 1), b"x");
    }
    ends.shutdown(Shutdown::Write).expect("half of it");
    assert_eq!(End::of(&mut ends), End::Closed(Vec::new()));
    assert!(End::of(&mut stays).is_end());
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    // Those that looked whether the port is closed may have come in too.
    let records = balancer.records();
    let ours = records.iter().filter(|record| record["bytes_in"] == 1);
    let whys: Vec<_> = ours.map(|record| outcome(record).1).collect();
    assert_eq!(whys, ["ok", "shutdown"]);
}

#[test]
fn unix_sockets_work_on_both_sides() {
    let directory = Directory::new();
    let path = directory.0.join("server.sock");
    let listener = UnixListener::bind(&path).expect("a socket in a directory of our own");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut question = String::new();
            let _ = stream.read_to_string(&mut question);
            let _ = stream.write_all(question.to_uppercase().as_bytes());
        }
    });
    let text = format!(
        "listeners:\n  web: {{ address: \"unix:DIR/web.sock\", protocol: tcp, pool: app }}\n\
         pools:\n  app: {{ servers: [\"unix:{}\"] }}\n",
        path.display()
    );
    let balancer = Balancer::start(&text);
    let mut client = UnixStream::connect(balancer.path("web.sock")).expect("the listener takes connections");
    client.set_read_timeout(Some(DEADLINE)).expect("a socket takes its options");
    client.write_all(b"hello").expect("taken");
    client.shutdown(Shutdown::Write).expect("half of it");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "HELLO");
    assert_eq!(record(&balancer)["client"], "unix");
}
