//! Another process takes over, or sockets were open before there was one: nobody is refused.

use crate::support::app::{App, Latch, Then, say, send, status};
use crate::support::balancer::{Balancer, Directory, Next, Reloaded, evenkeel, plain};
use crate::support::{client, wait_for, wait_until};
use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Signal, kill_process};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

#[test]
fn an_upgrade_refuses_nobody_and_lets_what_is_under_way_finish() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |request, stream| {
        if request.target == "/slow" {
            held.wait();
        }
        say(stream, "done")
    });
    let mut balancer = Balancer::start(&plain(&[app.address], "", "health: { tcp: {} }"));
    let address = balancer.address("web");
    let mut slow = balancer.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    assert_eq!(client::get(address, "/").status, 200);
                    served.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    wait_until("clients are served", || served.load(Relaxed) > 20);
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    let before = served.load(Relaxed);
    wait_until("clients are served by the new process", || served.load(Relaxed) > before + 50);
    stop.store(true, Relaxed);
    for client in clients {
        client.join().expect("nobody was refused");
    }
    // The old process is there for this one alone.
    latch.open();
    assert_eq!(slow.response().text(), "done");
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    assert_eq!(balancer.admin("/readyz").status, 200, "the admin endpoint went over too");
    assert_eq!(balancer.get("/").status, 200);
    next.end();
}

#[test]
fn a_new_process_that_does_not_start_changes_nothing() {
    let app = App::saying("hello");
    let text = plain(&[app.address], "", "");
    let balancer = Balancer::start(&text);
    let mut kept = balancer.client();
    assert_eq!(kept.get("/").status, 200);
    balancer.write("listeners: {}\n");
    for n in 1..=2 {
        balancer.signal(Signal::USR2);
        balancer.wait_for_metric("evenkeel_upgrade_failures_total", &[], f64::from(n));
        assert_eq!(kept.get("/").status, 200);
        assert_eq!(balancer.get("/").status, 200);
    }
    assert!(balancer.log.has("does not take over"), "{:?}", balancer.log.all());
    balancer.write(&text);
    balancer.signal(Signal::USR2);
    Next::of(&balancer).end();
}

#[test]
fn any_number_of_listeners_of_every_kind_goes_over_again_and_again() {
    let app = App::saying("hello");
    let mut text = String::from("listeners:\n  web: { address: 127.0.0.1:0, pool: app }\n");
    for n in 0..40 {
        text.push_str(&format!("  l{n}: {{ address: 127.0.0.1:0, pool: app }}\n"));
    }
    text.push_str("  file: { address: unix:DIR/web.sock, pool: app }\n");
    text.push_str("  dgram: { address: 127.0.0.1:0, protocol: udp, pool: dgram }\n");
    text.push_str(&format!(
        "pools:\n  app: {{ servers: [{}] }}\n  dgram: {{ servers: [127.0.0.1:9] }}\n",
        app.address
    ));
    let mut balancer = Balancer::start(&text);
    let addresses: Vec<_> = (0..40).map(|n| balancer.address(&format!("l{n}"))).collect();
    let mut next: Option<Next> = None;
    for _ in 0..4 {
        balancer.log.clear();
        match &next {
            None => balancer.signal(Signal::USR2),
            Some(next) => kill_process(next.0, Signal::USR2).expect("it runs"),
        }
        let new = Next::of(&balancer);
        balancer.log.wait_for("stopped: everything finished");
        // Only now, for dropping the one before interrupts it.
        next = Some(new);
        for address in &addresses {
            assert_eq!(client::get(*address, "/").status, 200);
        }
        assert!(std::os::unix::net::UnixStream::connect(balancer.path("web.sock")).is_ok());
    }
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    next.expect("there were upgrades").end();
    assert!(!balancer.path("web.sock").exists(), "the last one leaves nothing behind");
}

#[test]
fn a_long_response_ends_in_the_process_it_began_in() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |_, stream| {
        send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        held.wait();
        send(stream, " last");
        Then::Close
    });
    let mut balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut long = balancer.client();
    long.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    latch.open();
    assert_eq!(long.response().text(), "first last");
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    next.end();
}

#[test]
fn the_service_manager_is_told_which_process_is_the_service_now() {
    let directory = Directory::new();
    let path = directory.0.join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("a socket can be bound");
    manager.set_nonblocking(true).expect("it can be asked without waiting");
    let app = App::saying("hello");
    let balancer = Balancer::start_notifying(&plain(&[app.address], "", ""), &path);
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    let expected = format!("MAINPID={}", next.0.as_raw_nonzero());
    let mut heard = Vec::new();
    wait_for("the service manager hears of the new process", || {
        let mut word = [0; 512];
        while let Ok(n) = manager.recv(&mut word) {
            heard.push(String::from_utf8_lossy(&word[..n]).into_owned());
        }
        heard.iter().any(|word| word.contains(&expected)).then_some(())
    });
    balancer.log.wait_for("stopped: everything finished");
    assert!(!heard.iter().any(|word| word.contains("STOPPING")), "{heard:?}");
    next.end();
}

#[test]
fn a_socket_that_the_service_manager_has_opened_is_accepted_on() {
    let app = App::saying("hello");
    let (ours, nobodys) = (
        TcpListener::bind("127.0.0.1:0").expect("a port"),
        TcpListener::bind("127.0.0.1:0").expect("a port"),
    );
    let address = ours.local_addr().expect("it has an address");
    let text = plain(&[app.address], "", "").replace("127.0.0.1:0", &address.to_string());
    let mut command = evenkeel();
    command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "web.socket:other.socket");
    let mappings = vec![
        FdMapping { parent_fd: ours.into(), child_fd: 3 },
        FdMapping { parent_fd: nobodys.into(), child_fd: 4 },
    ];
    command.fd_mappings(mappings).expect("two files for two numbers");
    let balancer = Balancer::start_as(&mut command, &text);
    // Connections spread over the workers by chance; each of them is served.
    for _ in 0..20 {
        assert_eq!(client::get(address, "/").status, 200);
    }
    balancer.log.wait_for("a socket was passed that no listener has");
}

#[test]
fn the_new_process_knows_what_the_old_one_knew() {
    let is_sick = Arc::new(AtomicBool::new(false));
    let sick = Arc::clone(&is_sick);
    let a = App::new(move |_, stream| match sick.load(Relaxed) {
        true => status(stream, "503 Unavailable", ""),
        false => say(stream, "a"),
    });
    let b = App::saying("b");
    // After the first probe there is none for an hour, and one failure alone does not take a server down.
    let admin = "admin: { address: 127.0.0.1:0, socket: DIR/admin.sock, state_file: null }\n";
    let pool = "health: { http: /healthz, interval: 1h, fall: 3 }";
    let text = format!("{admin}{}", plain(&[a.address, b.address], "", pool));
    let balancer = Balancer::start(&text);
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    assert_eq!(balancer.command(&["drain", "app/s2"]).0, Some(0));
    let before = balancer.command_json(&["status"]);
    is_sick.store(true, Relaxed);
    let outcome = balancer.command_json(&["upgrade"]);
    let next = Next::of(&balancer);
    assert_eq!(outcome["from"]["pid"], balancer.pid());
    assert_eq!(outcome["to"]["pid"], next.0.as_raw_nonzero().get());

    let after = balancer.command_json(&["status"]);
    assert_eq!(after["process"]["generation"], 3, "it goes on counting");
    assert_eq!(after["last_reload"]["generation"], 2);
    let facts = |status: &serde_json::Value, at: usize| {
        let server = &status["pools"][0]["servers"][at];
        [&server["state"], &server["health"], &server["since"], &server["admin"]].map(Clone::clone)
    };
    for at in [0, 1] {
        assert_eq!(facts(&before, at)[0], facts(&after, at)[0]);
        assert_eq!(facts(&before, at)[1], facts(&after, at)[1]);
        assert_eq!(facts(&before, at)[3], facts(&after, at)[3]);
    }
    assert_eq!(after["pools"][0]["servers"][0]["last_failure"], "status 503, expected 200-299");
    let (_, out, _) = balancer.command(&["events"]);
    assert!(out.contains("app/s2  ready -> drain"), "the ledger goes on: {out}");
    next.end();
}

#[test]
fn the_upgrade_command_says_why_there_is_no_new_process() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    balancer.write("listeners: {}\n");
    let (code, _, err) = balancer.command(&["upgrade"]);
    assert_eq!(code, Some(1), "{err}");
    let why = "the new process does not take over: ";
    assert!(err.contains(why) && err.contains("listeners: is empty") && err.contains("goes on"), "{err}");
    assert_eq!(balancer.get("/").status, 200);
}

#[test]
fn an_upgrade_keeps_how_far_a_server_has_come_back() {
    let (one, two) = (App::saying("one"), App::saying("two"));
    let pool = "slow_start: { over: 1h, from: 10% }";
    let balancer = Balancer::start(&plain(&[one.address, two.address, one.address, two.address], "", pool));
    let ramp = || balancer.command_json(&["status"])["pools"][0]["servers"][1]["ramp"].clone();
    assert_eq!(balancer.command(&["maint", "app/s2"]).0, Some(0));
    assert_eq!(balancer.command(&["ready", "app/s2"]).0, Some(0));
    wait_until("it comes back slowly", || ramp() == 10);
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    wait_until("it goes on", || ramp() == 10);
    next.end();
}
