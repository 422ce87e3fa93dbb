//! How the process ends, and what it tells those who watch it.

use crate::support::app::{App, Latch, Then, say, send, wait_for_the_end};
use crate::support::balancer::{Balancer, Directory, Lines, evenkeel, outcome, plain};
use crate::support::{DEADLINE, catches, h2, wait_for, wait_until};
use rustix::process::Signal;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

fn holding(latch: &Latch) -> App {
    let held = latch.clone();
    App::new(move |request, stream| {
        if request.target == "/slow" {
            held.wait();
        }
        say(stream, "done")
    })
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_exits_with_0() {
    let latch = Latch::default();
    let app = holding(&latch);
    let mut balancer = Balancer::start(&plain(&[app.address], "", ""));
    let address = balancer.address("web");
    assert_eq!((balancer.admin("/readyz").status, balancer.admin("/livez").status), (200, 200));
    let (mut busy, mut idle, mut fresh) = (balancer.client(), balancer.client(), balancer.client());
    assert_eq!(idle.get("/").status, 200);
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    balancer.wait_for_metric("evenkeel_connections", &[], 3.0);
    balancer.signal(Signal::TERM);
    assert!(idle.is_closed(), "an idle connection is still open");
    wait_until("not ready", || balancer.admin("/readyz").status == 503);
    assert_eq!(balancer.admin("/livez").status, 200);
    wait_until("no new connections", || TcpStream::connect(address).is_err());
    // It connected in time, so it is served.
    fresh.send("GET /fresh HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = fresh.response();
    assert_eq!((response.status, response.field("connection").as_str()), (200, "close"));
    latch.open();
    let response = busy.response();
    assert_eq!((response.status, response.text().as_str()), (200, "done"));
    assert_eq!(response.field("connection"), "close");
    assert!(busy.is_closed());
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    assert_eq!(balancer.outcome("/slow"), (200, "ok".to_owned()), "the last records are written");
}

#[test]
fn sigterm_ends_an_idle_process_at_once() {
    let app = App::saying("hello");
    let text = format!("process: {{ shutdown_timeout: 60s }}\n{}", plain(&[app.address], "", ""));
    let mut balancer = Balancer::start(&text);
    let mut client = balancer.client();
    client.get("/");
    let since = Instant::now();
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(5), "took {:?}", since.elapsed());
    assert_eq!(balancer.records().len(), 1);
}

#[test]
fn the_shutdown_timeout_cuts_what_is_left() {
    let app = App::new(|request, stream| {
        if request.target == "/half" {
            send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        }
        wait_for_the_end(stream)
    });
    let text = format!("process: {{ shutdown_timeout: 500ms }}\n{}", plain(&[app.address], "", ""));
    let mut balancer = Balancer::start(&text);
    let (mut waiting, mut reading) = (balancer.client(), balancer.client());
    waiting.send("GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n");
    reading.send("GET /half HTTP/1.1\r\nHost: a\r\n\r\n");
    reading.response_to_head();
    balancer.wait_for_in_flight(2.0);
    balancer.signal(Signal::TERM);
    assert_eq!(waiting.response().status, 503, "who has no answer yet gets one");
    assert_eq!(reading.bytes(4), b"half");
    assert!(reading.is_closed());
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    assert_eq!(balancer.outcome("/waiting"), (503, "shutdown".to_owned()));
    assert_eq!(balancer.outcome("/half"), (200, "shutdown".to_owned()));
    balancer.log.wait_for("shutdown timeout passed");
}

#[test]
fn sigint_ends_at_once() {
    for draining in [false, true] {
        let app = App::new(|_, stream| wait_for_the_end(stream));
        let mut balancer = Balancer::start(&plain(&[app.address], "", ""));
        let mut client = balancer.client();
        client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
        balancer.wait_for_in_flight(1.0);
        if draining {
            balancer.signal(Signal::TERM);
            balancer.log.wait_for("stopping");
        }
        let since = Instant::now();
        balancer.signal(Signal::INT);
        assert_eq!(balancer.wait_for_exit().code(), Some(0));
        assert!(since.elapsed() < Duration::from_secs(5), "took {:?}", since.elapsed());
        assert!(client.try_response().is_none_or(|response| response.status == 503));
        assert_eq!(outcome(&balancer.record("/cut")).1, "shutdown", "draining: {draining}");
    }
}

#[test]
fn an_h2_client_gets_goaway_and_its_answer() {
    let latch = Latch::default();
    let app = holding(&latch);
    let mut balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut connection = h2::Connection::new(balancer.address("web"));
    connection.request(1, "GET", "/slow", true);
    balancer.wait_for_in_flight(1.0);
    balancer.signal(Signal::TERM);
    assert!(connection.next().is_some_and(|frame| frame.kind == h2::GOAWAY));
    latch.open();
    assert_eq!(connection.response(1), (200, b"done".to_vec()));
    while connection.next().is_some() {}
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
}

#[test]
fn a_websocket_goes_on_until_the_shutdown_timeout() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let mut bytes = [0; 100];
        while let Ok(n @ 1..) = std::io::Read::read(stream, &mut bytes) {
            let _ = std::io::Write::write_all(stream, &bytes[..n]);
        }
        Then::Close
    });
    let text = format!("process: {{ shutdown_timeout: 1s }}\n{}", plain(&[app.address], "", ""));
    let mut balancer = Balancer::start(&text);
    let mut client = balancer.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response_to_head().status, 101);
    balancer.signal(Signal::TERM);
    balancer.log.wait_for("stopping");
    client.send("still here");
    assert_eq!(client.bytes(10), b"still here");
    assert!(client.is_closed());
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    assert_eq!(balancer.outcome("/ws"), (101, "shutdown".to_owned()));
}

#[test]
fn a_reload_while_stopping_is_refused() {
    let latch = Latch::default();
    let app = holding(&latch);
    let mut balancer = Balancer::start(&plain(&[app.address], "", ""));
    let mut client = balancer.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    balancer.signal(Signal::TERM);
    balancer.log.wait_for("stopping");
    balancer.signal(Signal::HUP);
    balancer.log.wait_for("not reloading");
    balancer.signal(Signal::TERM);
    latch.open();
    assert_eq!(client.response().status, 200);
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
}

#[test]
fn the_service_manager_hears_of_every_step() {
    let directory = Directory::new();
    let path = directory.0.join("notify");
    let socket = UnixDatagram::bind(&path).expect("a unix socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes its options");
    let hear = |part: &str| {
        wait_for(&format!("the message {part:?}"), || {
            let mut bytes = [0; 1024];
            let n = socket.recv(&mut bytes).ok()?;
            let message = String::from_utf8_lossy(&bytes[..n]).into_owned();
            message.contains(part).then_some(message)
        })
    };
    let app = App::saying("hello");
    let mut balancer = Balancer::start_notifying(&plain(&[app.address], "", ""), &path);
    hear("READY=1");
    balancer.signal(Signal::HUP);
    // Type=notify-reload wants the time in the same message (sd_notify(3)).
    let message = wait_for("a reload with its time", || {
        let message = hear("RELOADING=1");
        message.contains("MONOTONIC_USEC=").then_some(message)
    });
    assert!(message.contains("RELOADING=1"));
    hear("READY=1");
    balancer.write("listeners: {}\nlisteners: {}\n");
    balancer.signal(Signal::HUP);
    let status = hear("STATUS=");
    assert!(status.contains("generation 2") && status.contains("; reload refused: "), "{status}");
    balancer.write(&plain(&[app.address], "", ""));
    balancer.signal(Signal::HUP);
    let status = hear("STATUS=");
    assert!(status.contains("generation 3") && !status.contains("refused"), "{status}");
    balancer.signal(Signal::TERM);
    hear("STOPPING=1");
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
}

#[test]
fn signals_that_come_while_it_starts_end_no_process() {
    let app = App::saying("hello");
    let directory = Directory::new();
    let file = directory.0.join("evenkeel.yaml");
    let admin = "admin: { address: 127.0.0.1:0, socket: null, state_file: null }\n";
    std::fs::write(&file, format!("{admin}{}", plain(&[app.address], "", ""))).expect("writable");
    let mut command = evenkeel();
    // It waits for what the process before it has to say.
    command.env("EVENKEEL_HANDOVER", "stdin").stdin(std::process::Stdio::piped());
    let mut child = command.arg("run").arg("-c").arg(&file).spawn().expect("the binary starts");
    let log = Lines::read_from(child.stderr.take().expect("stderr is piped"));
    let pid = rustix::process::Pid::from_child(&child);
    for signal in [Signal::HUP, Signal::USR1] {
        wait_until("it is caught", || catches(child.id(), signal));
        rustix::process::kill_process(pid, signal).expect("it runs");
    }
    drop(child.stdin.take());
    log.wait_for("ready version=");
    // What they asked for is done.
    log.wait_for("generation=2");
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
