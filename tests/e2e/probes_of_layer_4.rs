//! Probes that are not HTTP: what a server says on a connection, and whether it speaks TLS.

use crate::support::balancer::{Balancer, Reloaded, plain};
use crate::support::tcp::Server;
use crate::support::tls::Certificate;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

fn probing(server: &Server, probe: &str) -> String {
    let pool = format!("health: {{ {probe}, interval: 100ms, timeout: 1s, rise: 1, fall: 1 }}");
    plain(&[server.address], "protocol: tcp", &pool)
}

fn up(balancer: &Balancer, expected: bool) {
    balancer.wait_for_metric("evenkeel_server_up", &[], f64::from(u8::from(expected)));
}

/// Down, and the log says why.
#[track_caller]
fn down(server: &Server, probe: &str, result: &str, reason: &str) {
    let balancer = Balancer::start(&probing(server, probe));
    let line = balancer.log.wait_for("server down");
    assert!(line.contains(reason), "{line}");
    assert!(balancer.metric("evenkeel_probes_total", &[("result", result)]) >= 1.0, "{result}");
}

/// Answers `PING` as Redis does, in two pieces.
fn redis() -> Server {
    Server::new(|mut stream| {
        let mut line = String::new();
        let _ = BufReader::new(&stream).read_line(&mut line);
        if line == "PING\r\n" {
            let _ = stream.write_all(b"+PO").and_then(|()| stream.flush());
            std::thread::yield_now();
            let _ = stream.write_all(b"NG\r\n");
        } else {
            let _ = stream.write_all(b"-ERR unknown command\r\n");
        }
        let _ = stream.read(&mut [0]);
    })
}

#[test]
fn a_server_that_gives_the_expected_reply_is_up() {
    let server = redis();
    up(&Balancer::start(&probing(&server, "tcp: { send: \"PING\\r\\n\", expect: +PONG }")), true);
    let greeting = Server::new(|mut stream| {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        let _ = stream.read(&mut [0]);
    });
    up(&Balancer::start(&probing(&greeting, "tcp: { expect: ESMTP }")), true);
}

#[test]
fn a_server_that_gives_another_reply_or_none_is_down() {
    down(&redis(), "tcp: { send: \"HELLO\\r\\n\", expect: +PONG }", "reply", "-ERR unknown command");
    down(&Server::new(drop), "tcp: { expect: +PONG }", "reply", "reply does not contain");
    let silent = Server::new(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    down(&silent, "tcp: { send: x, expect: y }, port: null", "timeout", "no answer within");
    let endless = Server::new(|mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {});
    down(&endless, "tcp: { expect: y }", "reply", "it begins");
}

#[test]
fn a_server_that_shakes_hands_is_up_and_its_certificate_has_an_end() {
    // 1 January 2040, and one that is over: that alone does not take a server down.
    for (year, seconds) in [(2040, 2_208_988_800.0), (2001, 978_307_200.0)] {
        let server = Certificate::until("app.internal", year).serve();
        let balancer = Balancer::start(&probing(&server, "tls: {}"));
        up(&balancer, true);
        let metric = "evenkeel_tls_certificate_expiry_timestamp_seconds";
        let labels = [("pool", "app"), ("server", "s1")];
        balancer.wait_for_metric(metric, &labels, seconds);
        assert_eq!(balancer.reload(&probing(&server, "tcp: {}")), Reloaded::Taken);
        up(&balancer, true);
        assert!(balancer.series(metric, &[]).is_empty(), "nobody looks at it any more");
    }
}

#[test]
fn a_server_that_speaks_no_tls_or_shows_a_bad_certificate_is_down() {
    down(&redis(), "tls: {}", "tls", "no TLS");
    let server = Certificate::until("app.internal", 2040).serve();
    let verified = "tls: { server_name: app.internal, verify: true }";
    let balancer = Balancer::start(&probing(&server, verified));
    balancer.log.wait_for("server down");
    assert!(balancer.metric("evenkeel_probes_total", &[("result", "tls")]) >= 1.0);
    let metric = "evenkeel_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(balancer.metric(metric, &[]), 2_208_988_800.0, "seen, though not believed");
}

#[test]
fn the_name_of_a_tls_probe_is_asked_for() {
    for (name, asked) in [("", "nobody"), ("server_name: app.internal", "app.internal")] {
        let names: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&names);
        let server = Server::new(move |mut stream| {
            let mut bytes = vec![0; 4096];
            let n = stream.read(&mut bytes).unwrap_or(0);
            let has_name = bytes[..n].windows(12).any(|window| window == b"app.internal");
            let name = if has_name { "app.internal" } else { "nobody" };
            seen.lock().expect("no panic").push(name.to_owned());
        });
        let balancer = Balancer::start(&probing(&server, &format!("tls: {{ {name} }}")));
        balancer.log.wait_for("server down");
        assert_eq!(names.lock().expect("no panic").first().map(String::as_str), Some(asked));
    }
}

#[test]
fn a_probe_follows_what_its_server_says() {
    let well = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&well);
    let server = Server::new(move |mut stream| {
        let _ = stream.write_all(if says.load(SeqCst) { b"role:master" } else { b"role:slave " });
    });
    let balancer = Balancer::start(&probing(&server, "tcp: { expect: \"role:master\" }"));
    up(&balancer, true);
    well.store(false, SeqCst);
    up(&balancer, false);
    well.store(true, SeqCst);
    up(&balancer, true);
}
