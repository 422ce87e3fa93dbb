//! `evenkeel probe`: one probe now, step by step, against the running process and by a file alone.

use crate::support::app::{App, Then, say, status};
use crate::support::balancer::{Balancer, Directory, evenkeel, plain};
use crate::support::h2;
use crate::support::tcp::Server;
use crate::support::tls::{Authority, Certificate, Shop};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};

/// One server with this probe, once at start and then never again by itself.
fn probed(address: SocketAddr, pool: &str, health: &str) -> Balancer {
    let health = format!("{pool} health: {{ {health}, initial: up, interval: 1h, fall: 1, rise: 1 }}");
    Balancer::start(&plain(&[address], "protocol: tcp", &health))
}

fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address")
}

/// The exit code and the report.
#[track_caller]
fn probe(balancer: &Balancer) -> (Option<i32>, Value) {
    let (code, out, err) = balancer.command(&["probe", "app/s1", "--json"]);
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("no JSON: {out}{err}")))
}

/// The steps in order, the one that failed with a mark.
fn steps(report: &Value) -> String {
    let steps = report["steps"].as_array().expect("a list").iter().map(|step| {
        let mark = if step["passed"] == true { "" } else { "!" };
        format!("{mark}{}", step["step"].as_str().expect("a name"))
    });
    steps.collect::<Vec<_>>().join(" ")
}

/// Everything that was found at a step.
fn found(report: &Value, step: &str) -> String {
    let steps = report["steps"].as_array().expect("a list");
    let step = steps.iter().find(|one| one["step"] == step).expect("there is that step");
    step["found"].as_array().expect("a list").iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

/// A probe that passes or not, by these steps, for this reason.
#[track_caller]
fn check(balancer: &Balancer, passed: bool, expected: &str, rule: &str) -> Value {
    let (code, report) = probe(balancer);
    assert_eq!((code, &report["passed"]), (Some(i32::from(!passed)), &passed.into()), "{report:#}");
    assert_eq!(steps(&report), expected, "{report:#}");
    assert!(report["rule"].as_str().expect("a text").contains(rule), "{report:#}");
    report
}

#[test]
fn a_probe_shows_its_steps_and_the_rule_that_was_kept() {
    let app = App::saying("all is well");
    let balancer = probed(app.address, "", "http: { path: /healthz, host: shop.example, expect_body: well }");
    let report = check(&balancer, true, "resolve connect request status body", "body contains \"well\"");
    assert!(found(&report, "connect").starts_with(&format!("to {} from 127.0.0.1:", app.address)));
    assert_eq!(found(&report, "request"), "GET /healthz, Host: shop.example");
    assert!(found(&report, "status").starts_with("HTTP/1.1 200 OK"));
    assert_eq!(found(&report, "body"), "begins \"all is well\"");
    assert_eq!((&report["result"], &report["kind"]), (&"pass".into(), &"http".into()));
    let (code, out, _) = balancer.command(&["probe", "app/s1"]);
    assert_eq!(code, Some(0));
    for part in ["app/s1 at 127.0.0.1:", "  status ", "passed after", "health stays up"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
}

#[test]
fn a_refused_connection_ends_it_there() {
    let balancer = probed(nobody(), "", "http: /healthz");
    let report = check(&balancer, false, "resolve !connect", "cannot connect: Connection refused");
    assert_eq!(report["rule"], "cannot connect: Connection refused (os error 111)");
    let (code, out, _) = balancer.command(&["probe", "app/s1"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("\n! connect ") && out.contains("failed after"), "{out}");
}

#[test]
fn a_probe_reads_heads_as_requests_responses_are_read() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    // Of so many KiB and some bytes.
    let long = |n: usize| {
        let field = format!("X: {}\r\n", "x".repeat(4091));
        format!("HTTP/1.1 200 OK\r\n{}Content-Length: 5\r\n\r\nhello", field.repeat(n / 4))
    };
    let interims = |n| "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(n);
    for (answer, refused) in [
        (format!("\r\n{ok}"), None),
        (format!("\r\n\r\n{ok}"), Some("more than one empty line")),
        (format!("{}{ok}", interims(17)), None),
        (format!("{}{ok}", interims(64)), None),
        (format!("{}{ok}", interims(65)), Some("more than 64 interim responses")),
        (format!("{}\r\n\r\n{ok}", interims(1)), Some("more than one empty line")),
        (long(200), None),
        (long(300), Some("response head longer than 256 KiB")),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            Some("Content-Length"),
        ),
    ] {
        let said = answer.clone();
        let app = App::new(move |_, stream| {
            let _ = stream.write_all(said.as_bytes());
            Then::Close
        });
        let balancer = probed(app.address, "", "http: { path: /healthz, expect_body: hello }");
        match refused {
            None => check(&balancer, true, "resolve connect request status body", "hello"),
            Some(detail) => check(&balancer, false, "resolve connect request !status", detail),
        };
        let traffic = Balancer::start(&plain(&[app.address], "", "retries: { max: 0 }"));
        let mut client = traffic.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let (got, _) = client.read_to_end();
        assert_eq!(got.contains("502 Bad Gateway"), refused.is_some(), "{answer}: {got}");
    }
}

#[test]
fn an_unexpected_answer_is_shown_without_its_control_characters() {
    let app = App::new(|_, stream| status(stream, "503 Gone Fishing", "out\u{1b}[2J of order"));
    let balancer = probed(app.address, "", "http: /healthz");
    let report =
        check(&balancer, false, "resolve connect request !status body", "status 503, expected 200-299");
    assert!(found(&report, "status").starts_with("HTTP/1.1 503 Gone Fishing"), "{report:#}");
    assert_eq!(found(&report, "body"), "begins \"out\\u{1b}[2J of order\"");
    let (_, out, _) = balancer.command(&["probe", "app/s1"]);
    assert!(!out.contains(|c: char| c.is_control() && c != '\n'), "{out:?}");
    // What is no HTTP at all is shown too.
    let redis = Server::new(|mut stream| {
        let _ = stream.write_all(b"-ERR unknown command\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let balancer = probed(redis.address, "", "http: /healthz");
    let report = check(&balancer, false, "resolve connect request !status", "not an answer");
    assert!(found(&report, "status").contains("-ERR unknown command"), "{report:#}");
}

#[test]
fn a_server_of_a_wrong_authority_shows_its_certificate() {
    let certificate = Certificate::until("app.internal", 2040);
    let shop = Shop::new(&[("server", &certificate)]);
    std::fs::write(shop.path("other.pem"), Authority::root("another").pem()).expect("writable");
    let server = certificate.serve();
    let tls = |ca| format!("tls: {{ server_name: app.internal, ca: {} }},", shop.path(ca).display());
    let balancer = probed(server.address, &tls("other.pem"), "tcp: { expect: app.internal }");
    let report = check(&balancer, false, "resolve connect !tls", "no TLS: invalid peer certificate");
    let shown = found(&report, "tls");
    for part in
        ["expects app.internal", "for app.internal", "signed by", "good from 2000-01-01 to 2040-01-01"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let balancer = probed(server.address, &tls("server.pem"), "tcp: { expect: app.internal }");
    // Twice: a session that is resumed would show no certificate.
    for _ in 0..2 {
        let report = check(&balancer, true, "resolve connect tls reply", "reply contains \"app.internal\"");
        let shown = found(&report, "tls");
        assert!(shown.contains("to 2040-01-01") && shown.contains("TLSv1.3"), "{shown}");
    }
    // Over the engine's connector the words are the same.
    let balancer = probed(server.address, &tls("other.pem"), "http: /healthz");
    let report = check(&balancer, false, "resolve connect !tls", "no TLS: invalid peer certificate");
    assert!(report["rule"].as_str().is_some_and(|rule| !rule.contains("no TLS: no TLS")), "{report:#}");
    // The `tls` probe, whoever has signed.
    let balancer = probed(server.address, "", "tls: {}");
    let report = check(&balancer, true, "resolve connect tls", "with whatever certificate");
    assert!(found(&report, "tls").contains("to 2040-01-01"));
}

#[test]
fn a_server_that_says_nothing_is_waited_for_as_long_as_its_probes_are() {
    let silent = Server::new(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let balancer = probed(silent.address, "", "http: /healthz, timeout: 150ms");
    let report = check(&balancer, false, "resolve connect request !status", "no answer within 150ms");
    let took = report["took_ms"].as_f64().expect("a number");
    assert!((150.0..5_000.0).contains(&took), "{took}");
    let slow = App::new(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 500 Broken\r\nContent-Length: 5\r\n\r\n");
        crate::support::app::Then::Keep
    });
    let balancer = probed(slow.address, "", "http: /healthz, timeout: 10s");
    let report = check(&balancer, false, "resolve connect request !status body", "status 500");
    assert!(found(&report, "body").contains("nothing of it within"), "{report:#}");
}

#[test]
fn each_kind_of_probe_has_its_steps() {
    let serving = probed(h2::answering(h2::health(1)), "protocol: h2,", "grpc: { service: shop.Cart }");
    let report = check(&serving, true, "resolve connect request status reply", "says SERVING of shop.Cart");
    assert_eq!(found(&report, "request"), "grpc.health.v1.Health/Check of shop.Cart");
    assert!(found(&report, "reply").contains("trailers, grpc-status 0"), "{report:#}");
    let not_serving = probed(h2::answering(h2::health(2)), "protocol: h2,", "grpc: {}");
    check(&not_serving, false, "resolve connect request status !reply", "NOT_SERVING, expected SERVING");

    let redis = Server::new(|mut stream| {
        let mut line = String::new();
        let _ = BufReader::new(&stream).read_line(&mut line);
        let _ = stream.write_all(if line == "PING\r\n" { b"+PONG\r\n" } else { b"-ERR\r\n\0" });
        let _ = stream.read(&mut [0]);
    });
    let ping = probed(redis.address, "proxy_protocol: v1,", "tcp: { send: \"PING\\r\\n\", expect: +PONG }");
    let report = check(&ping, false, "resolve connect proxy_header request !reply", "it begins \"-ERR");
    assert!(found(&report, "proxy_header").starts_with("version 1: PROXY UNKNOWN"), "{report:#}");
    let ping = probed(redis.address, "", "tcp: { send: \"PING\\r\\n\", expect: +PONG }");
    check(&ping, true, "resolve connect request reply", "reply contains \"+PONG\"");

    let dns = crate::support::udp::Server::answering("127.0.0.1:0", |_| b"\0answer".to_vec());
    let text = plain(
        &[dns.address],
        "protocol: udp",
        "health: { udp: { send: ask, expect: nothing }, initial: up, interval: 1h, timeout: 5s }",
    );
    let report = check(&Balancer::start(&text), false, "resolve request !reply", "it begins");
    assert!(found(&report, "reply").contains("7 bytes, begins \"\\x00answer\""), "{report:#}");
}

#[test]
fn a_pool_without_health_says_so_and_is_connected_to() {
    let app = App::saying("x");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let report = check(&balancer, true, "resolve connect", "a connection opens");
    let notes = report["notes"].to_string();
    assert!(notes.contains("pool app has no `health`") && report["health"].is_null(), "{report:#}");
    assert_eq!(app.hits(), 0);
}

#[test]
fn nothing_is_changed_by_it() {
    let balancer = probed(nobody(), "", "http: /healthz");
    balancer.wait_for_metric("evenkeel_server_up", &[], 0.0);
    let app = App::saying("x");
    let healthy = probed(app.address, "", "http: /healthz");
    healthy.wait_for_metric("evenkeel_probes_total", &[], 1.0);
    for (balancer, code) in [(&balancer, 1), (&healthy, 0)] {
        let facts = || {
            let server = balancer.command_json(&["status"])["pools"][0]["servers"][0].clone();
            let events = balancer.command(&["events", "--json"]);
            (server, events, balancer.metric("evenkeel_probes_total", &[]))
        };
        let before = facts();
        for _ in 0..3 {
            assert_eq!(balancer.command(&["probe", "app/s1"]).0, Some(code));
        }
        assert_eq!(facts(), before);
    }
    // A server in maintenance, which nothing else probes.
    assert_eq!(healthy.command(&["maint", "app/s1", "--force"]).0, Some(0));
    let report = check(&healthy, true, "resolve connect request status", "200-299");
    assert!(report["notes"].to_string().contains("in maintenance"), "{report:#}");
    assert_eq!(healthy.command_json(&["status"])["pools"][0]["servers"][0]["state"], "maint");
}

#[test]
fn wrong_names_are_answered_with_those_there_are() {
    let balancer = Balancer::start(&plain(&[nobody()], "", ""));
    for (target, complaint) in [
        ("app/s2", "its servers: s1"),
        ("apps/s1", "did you mean app?"),
        ("app", "write the pool and the server, like app/app3"),
    ] {
        let (code, _, err) = balancer.command(&["probe", target]);
        assert!(code != Some(0) && err.contains(complaint), "{target}: {err}");
    }
    // Reading is for everybody on this machine, to have us connect is not.
    let address = balancer.admin_address();
    let mut client = crate::support::client::Client::connect(address);
    client.send(format!(
        "POST /api/v1/pools/app/servers/s1/probe HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"
    ));
    assert_eq!(client.response().status, 403);
}

#[test]
fn a_file_is_probed_by_without_a_process() {
    let app = App::new(|request, stream| say(stream, if request.target == "/healthz" { "ok" } else { "?" }));
    let directory = Directory::new();
    let file = directory.0.join("shop.yaml");
    // Certificates of listeners are not needed, and are not here.
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app, tls: {{ certificates: [{{ cert: /none.pem, \
         key: /none.key }}] }} }}\npools:\n  app: {{ servers: [{{ name: s1, address: {} }}], health: {{ http: \
         {{ path: /healthz, expect_body: ok }} }} }}\n  other: {{ servers: [{{ name: o1, address: {} }}], \
         tls: {{ ca: /none.pem }} }}\n",
        app.address,
        nobody()
    );
    std::fs::write(&file, text).expect("writable");
    let run = |arguments: &[&str]| {
        let output = evenkeel().arg("probe").args(arguments).arg("-c").arg(&file).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = run(&["app/s1"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("passed after") && out.contains("by the file alone"), "{out}");
    let (code, out, _) = run(&["other/o1"]);
    assert!(code == Some(1) && out.contains("/none.pem"), "{out}");
    for (target, complaint) in [("app/s2", "its servers: s1"), ("ap/s1", "did you mean app?")] {
        let (code, _, err) = run(&[target]);
        assert!(code == Some(1) && err.contains(complaint), "{target}: {err}");
    }
}
