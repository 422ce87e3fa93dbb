//! Commands to the running process: what operators see, what they can do, and what is kept from whom.

use crate::support::app::{App, Latch, say};
use crate::support::balancer::{Balancer, Lines, Next, Reloaded, evenkeel, plain};
use crate::support::client::{self, Client, Response};
use crate::support::{documented, wait_for, wait_until};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// App servers that say their name, and hold requests for `/held` until told.
fn apps(names: &[&'static str]) -> (Vec<App>, Latch) {
    let latch = Latch::default();
    (names.iter().copied().map(|name| App::holding(name, &latch)).collect(), latch)
}

fn addresses(apps: &[App]) -> Vec<std::net::SocketAddr> {
    apps.iter().map(|app| app.address).collect()
}

const PROBED: &str = "health: { http: /healthz, interval: 20ms }";

fn server(balancer: &Balancer, name: &str) -> Value {
    let status = balancer.command_json(&["status"]);
    let servers = status["pools"][0]["servers"].as_array().expect("a list").clone();
    servers.into_iter().find(|server| server["name"] == name).expect("the server is there")
}

/// Who answers so many requests.
fn answers(balancer: &Balancer, n: usize) -> Vec<String> {
    let mut client = balancer.client();
    (0..n).map(|_| client.get("/").text()).collect()
}

#[track_caller]
fn succeeds(balancer: &Balancer, arguments: &[&str], says: &str) {
    let (code, out, err) = balancer.command(arguments);
    assert!(code == Some(0) && out.contains(says), "{arguments:?}: {code:?}\n{out}\n{err}");
}

#[track_caller]
fn fails(balancer: &Balancer, arguments: &[&str], code: i32, complains: &[&str]) {
    let (is, out, err) = balancer.command(arguments);
    assert_eq!(is, Some(code), "{arguments:?}: {out}\n{err}");
    for part in complains {
        assert!(err.contains(part), "{arguments:?} must complain of {part:?}: {err}");
    }
}

/// A request over TCP with further fields.
fn over_tcp(balancer: &Balancer, head: &str, body: &str) -> Response {
    let mut client = Client::connect(balancer.admin_address());
    client.send(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    client.response()
}

#[test]
fn status_tells_of_pools_and_servers_as_they_are() {
    let (apps, latch) = apps(&["a", "b"]);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", PROBED));
    let mut held = balancer.client();
    held.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    let status = balancer.command_json(&["status"]);
    assert_eq!(status["process"]["generation"], 1);
    assert_eq!(status["process"]["pid"], balancer.pid());
    assert_eq!(status["listeners"][0]["name"], "web");
    assert_eq!(status["listeners"][0]["connections"], 1);
    let pool = &status["pools"][0];
    assert_eq!((&pool["name"], &pool["up"], &pool["in_flight"]), (&json!("app"), &json!(2), &json!(1)));
    assert_eq!(pool["servers"][0]["address"], apps[0].address.to_string());
    let (code, out, _) = balancer.command(&["status"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("app  least_connections, 2 of 2 up, 1 in flight"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "readable at 80 columns: {out}");
    assert!(!out.contains('\x1b'), "colour is for terminals");
    latch.open();
    assert_eq!(held.response().status, 200);
    fails(&balancer, &["status", "ap"], 1, &["there is no pool ap", "did you mean app?"]);
}

#[test]
fn the_socket_is_for_its_owner_and_group() {
    let (apps, _) = apps(&["a"]);
    let mut balancer = Balancer::start(&plain(&addresses(&apps), "", ""));
    let path = balancer.path("admin.sock");
    let mode = std::fs::metadata(&path).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    balancer.signal(rustix::process::Signal::TERM);
    assert!(balancer.wait_for_exit().success());
    assert!(!path.exists(), "the socket goes with the process");
}

#[test]
fn a_drained_server_gets_nothing_new_and_finishes_what_it_has() {
    let (apps, latch) = apps(&["a", "b"]);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", PROBED));
    let mut held = balancer.client();
    held.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    let busy = if server(&balancer, "s1")["in_flight"] == 1 { "s1" } else { "s2" };
    let target = format!("app/{busy}");
    let mut drain = balancer.command_to_be_run(&["drain", &target, "--wait"]);
    let mut waiting = drain.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let shown = Lines::read_from(waiting.stderr.take().expect("it is piped"));
    wait_until("the drain", || server(&balancer, busy)["state"] == "drain");
    let state = server(&balancer, busy);
    let said = &state["admin"]["by_operator"];
    assert_eq!((&state["health"], &said["state"]), (&json!("up"), &json!("drain")));
    assert!(said["actor"].as_str().is_some_and(|actor| actor.starts_with("alice (uid ")), "{said}");
    let other = if busy == "s1" { "b" } else { "a" };
    assert!(answers(&balancer, 10).iter().all(|name| name == other));
    wait_until("it shows what it waits for", || shown.has("drain, 1 in flight"));
    assert!(waiting.try_wait().expect("it is ours").is_none(), "it waits while something is in flight");
    latch.open();
    assert_eq!(held.response().status, 200);
    let drained = waiting.wait_with_output().expect("the command ran");
    assert!(drained.status.success(), "{:?}", shown.all());
    let out = String::from_utf8_lossy(&drained.stdout);
    assert!(out.contains("drain, 0 in flight"), "{out}");
    succeeds(&balancer, &["ready", &target], "up");
    wait_until("both answer", || {
        let names = answers(&balancer, 10);
        names.contains(&"a".to_owned()) && names.contains(&"b".to_owned())
    });
}

#[test]
fn what_the_pool_cannot_spare_is_drained_by_force_only() {
    let (apps, _) = apps(&["a", "b"]);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", PROBED));
    succeeds(&balancer, &["drain", "app/s1"], "drain");
    fails(&balancer, &["maint", "app/s2"], 1, &["s2 is the last server of pool app", "--force"]);
    assert_eq!(server(&balancer, "s2")["state"], "up");
    succeeds(&balancer, &["drain", "app/s2", "--force"], "drain");
    assert_eq!(balancer.get("/").status, 503);
}

#[test]
fn a_drain_is_refused_with_figures_if_the_rest_has_no_room() {
    let (apps, latch) = apps(&["a", "b"]);
    let servers = apps
        .iter()
        .enumerate()
        .map(|(at, app)| format!("{{ name: s{}, address: {}, max_connections: 2 }}", at + 1, app.address));
    let servers: Vec<_> = servers.collect();
    let balancer = Balancer::start(&format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\npools:\n  app: {{ servers: [{}], {PROBED} }}\n",
        servers.join(", ")
    ));
    let mut held: Vec<_> = (0..3).map(|_| balancer.client()).collect();
    for client in &mut held {
        client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    balancer.wait_for_in_flight(3.0);
    fails(
        &balancer,
        &["drain", "app/s1"],
        1,
        &[
            "has 3 in flight now",
            "without s1 there is room for 2 by max_connections (healthy servers left: 1)",
        ],
    );
    latch.open();
    for client in &mut held {
        assert_eq!(client.response().status, 200);
    }
    balancer.wait_for_in_flight(0.0);
    succeeds(&balancer, &["drain", "app/s1"], "drain");
}

#[test]
fn a_server_in_maintenance_is_not_probed_and_is_probed_before_it_returns() {
    let (apps, _) = apps(&["a", "b"]);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", PROBED));
    let probes = || balancer.metric("evenkeel_probes_total", &[("server", "s1")]);
    succeeds(&balancer, &["maint", "app/s1"], "maint");
    let (before, others) = (probes(), apps[1].hits());
    wait_until("other probes to go on", || apps[1].hits() > others + 5);
    assert!(probes() <= before + 1.0, "one may have been under way");
    assert_eq!(server(&balancer, "s1")["probed"], false);
    succeeds(&balancer, &["ready", "app/s1"], "app/s1");
    wait_until("s1 is up again", || server(&balancer, "s1")["state"] == "up");
    assert!(probes() > before);
}

#[test]
fn ready_does_not_end_what_the_configuration_drains() {
    let (apps, _) = apps(&["a", "b"]);
    let text = plain(&addresses(&apps), "", "").replacen("{ name: s1,", "{ name: s1, drain: true,", 1);
    let balancer = Balancer::start(&text);
    let (code, out, err) = balancer.command(&["ready", "app/s1"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("app/s1: drain"), "{out}");
    assert!(err.contains("it stays drained by the configuration"), "{err}");
    assert!(answers(&balancer, 5).iter().all(|name| name == "b"));
}

#[test]
fn what_operators_said_outlives_reloads_and_restarts_and_ends_with_the_server() {
    let (apps, _) = apps(&["a", "b", "c"]);
    let all = plain(&addresses(&apps), "", PROBED);
    let balancer = Balancer::start(&all);
    succeeds(&balancer, &["drain", "app/s1"], "drain");
    succeeds(&balancer, &["weight", "app/s2", "7"], "weight 7");
    assert_eq!(balancer.reload(&all), Reloaded::Taken);
    let state = |balancer: &Balancer| {
        let (one, two) = (server(balancer, "s1"), server(balancer, "s2"));
        (one["state"].clone(), two["weight"].clone(), two["weight_by_operator"].clone())
    };
    assert_eq!(state(&balancer), (json!("drain"), json!(7), json!(true)));

    // The next process has the same file.
    let saved = std::fs::read_to_string(balancer.path("state.json")).expect("the state file");
    drop(balancer);
    let directory = crate::support::balancer::Directory::new();
    let at = directory.0.display();
    std::fs::write(directory.0.join("state.json"), saved).expect("writable");
    let admin =
        format!("admin: {{ address: 127.0.0.1:0, socket: DIR/admin.sock, state_file: {at}/state.json }}\n");
    let balancer = Balancer::start(&format!("{admin}{all}"));
    assert_eq!(state(&balancer), (json!("drain"), json!(7), json!(true)));
    let names = answers(&balancer, 20);
    assert!(!names.contains(&"a".to_owned()), "{names:?}");

    let without = plain(&addresses(&apps[1..]), "", PROBED).replace("s2", "s3").replace("s1", "s2");
    balancer.write(&format!("{admin}{without}"));
    let receipt = balancer.command_json(&["reload"]);
    assert_eq!(receipt["operator_states_ended"], json!(["app/s1"]));
    assert_eq!(balancer.reload(&format!("{admin}{all}")), Reloaded::Taken);
    wait_until("s1 is up", || server(&balancer, "s1")["state"] == "up");
    assert_eq!(server(&balancer, "s2")["weight"], 7);
    succeeds(&balancer, &["weight", "app/s2", "default"], "weight 100");
}

#[test]
fn a_server_in_maintenance_stays_so_under_another_address() {
    let (apps, _) = apps(&["a", "b", "c"]);
    let balancer = Balancer::start(&plain(&addresses(&apps[..2]), "", PROBED));
    succeeds(&balancer, &["maint", "app/s1"], "maint");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = balancer.client();
            while !stop.load(SeqCst) {
                assert_eq!(client.get("/").text(), "b");
            }
        });
        for at in [2, 0, 2] {
            balancer.write(&plain(&[apps[at].address, apps[1].address], "", PROBED));
            let receipt = balancer.command_json(&["reload"]);
            assert_eq!(receipt["operator_states_ended"], json!([]), "{receipt}");
        }
        stop.store(true, SeqCst);
    });
    let state = server(&balancer, "s1");
    assert_eq!((&state["state"], &state["address"]), (&json!("maint"), &json!(apps[2].address.to_string())));
    assert_eq!(apps[2].hits(), 0, "nothing has come there, no probe either");
    succeeds(&balancer, &["ready", "app/s1"], "app/s1");
    wait_until("s1 is up", || server(&balancer, "s1")["state"] == "up");
}

#[test]
fn what_cannot_be_taken_back_is_counted_and_brings_nothing_back() {
    let (well, sick, is_sick) = moody();
    is_sick.store(true, SeqCst);
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let before = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\n  second: {{ address: \"{port}\", pool: old }}\n\
         pools:\n  app: {{ servers: [{0}], {PROBED} }}\n  old: {{ servers: [{0}] }}\n",
        well.address
    );
    let balancer = Balancer::start(&before);
    let old = format!("old/{}", well.address);
    succeeds(&balancer, &["drain", &old, "--force"], "drain");
    let saved = || std::fs::read_to_string(balancer.path("state.json")).expect("the state file");
    assert!(saved().contains("old"));
    let after = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\npools:\n  app: {{ servers: [{}], {PROBED} }}\n",
        sick.address
    );
    balancer.write(&after);
    std::thread::scope(|scope| {
        let reloading =
            scope.spawn(|| balancer.command(&["reload", "--guard", "60s", "--min-requests", "5"]));
        let taken = wait_for("the port is free", || std::net::TcpListener::bind(port).ok());
        let mut client = balancer.client();
        wait_until("it was tried", || {
            client.get("/");
            balancer.metric("evenkeel_config_reloads_total", &[("result", "rollback_failed")]) == 1.0
        });
        drop(taken);
        let (code, _, err) = reloading.join().expect("the command ran");
        assert!(code == Some(1) && err.contains("cannot be put back"), "{err}");
    });
    assert_eq!(balancer.metric("evenkeel_config_reloads_total", &[("result", "rolled_back")]), 0.0);
    assert_eq!(balancer.command_json(&["status"])["process"]["generation"], 2);
    wait_until("the state file is as it was", || !saved().contains("old"));
    balancer.write(&before);
    succeeds(&balancer, &["reload"], "in force");
    assert!(!balancer.command(&["status", "old"]).1.contains("drain"), "nothing brings it back");
}

#[test]
fn reload_shows_what_changed_or_why_nothing_did() {
    let (apps, _) = apps(&["a", "b"]);
    let balancer = Balancer::start(&plain(&addresses(&apps[..1]), "", PROBED));
    balancer.write(&plain(&addresses(&apps), "", PROBED));
    let receipt = balancer.command_json(&["reload"]);
    assert_eq!((&receipt["outcome"], &receipt["generation"]), (&json!("in_force"), &json!(2)));
    assert_eq!(receipt["servers"]["added"], json!(["app/s2"]));
    assert_eq!(receipt["health"]["kept"], 1);
    let file = std::fs::read(balancer.path("evenkeel.yaml")).expect("readable");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &file);
    assert_eq!(receipt["fingerprint"], data_encoding::HEXLOWER.encode(digest.as_ref()));

    // What is no reason is not told as one.
    let both = plain(&addresses(&apps[..1]), "", PROBED).replace("pools:\n", "nonsense: 1\npools:\n");
    balancer.write(&both);
    fails(
        &balancer,
        &["reload"],
        1,
        &["unknown key `nonsense`", "evenkeel: warning: ", "pools.app.health.interval"],
    );
    let last = &balancer.command_json(&["status"])["last_reload"];
    let told =
        |key: &str| last[key].as_array().expect("a list").iter().map(Value::to_string).collect::<Vec<_>>();
    let (problems, warnings) = (told("problems"), told("warnings"));
    assert!(problems.len() == 1 && problems[0].contains("nonsense"), "{problems:?}");
    assert!(warnings.len() == 1 && warnings[0].contains("pools.app.health.interval"), "{warnings:?}");
    let (_, status, _) = balancer.command(&["status"]);
    assert!(status.contains("nonsense") && !status.contains("pools.app.health.interval"), "{status}");
    balancer.write("listeners: {}\npools: {}\n");
    fails(&balancer, &["reload"], 1, &["evenkeel.yaml:", "nothing has changed: generation 2 stays in force"]);
    let status = balancer.command_json(&["status"]);
    assert_eq!(status["last_reload"]["outcome"], "refused");
    assert_eq!(status["process"]["generation"], 2);
    balancer.write(&plain(&addresses(&apps), "", "balance: round_robin"));
    let (_, out, _) = balancer.command(&["reload"]);
    assert!(out.contains("  pools      1 changed\n    ~ app\n  servers    2 kept\n"), "{out}");
    let (_, events, _) = balancer.command(&["events", "--kind", "reload"]);
    assert!(events.contains("in force; pools: 1 changed\n"), "{events}");
    assert!(out.lines().chain(events.lines()).all(|line| line.chars().count() <= 80), "{out}{events}");
    // A signal's receipt is shown as well.
    assert_eq!(balancer.reload(&plain(&addresses(&apps[..1]), "", PROBED)), Reloaded::Taken);
    let status = balancer.command_json(&["status"]);
    let last = &status["last_reload"];
    assert_eq!((&last["actor"], &last["servers"]["removed"]), (&json!("signal"), &json!(["app/s2"])));
}

#[test]
fn the_ledger_tells_what_became_of_a_server_and_why() {
    let (apps, _) = apps(&["a", "b"]);
    let sick = Arc::new(AtomicBool::new(false));
    let is_sick = Arc::clone(&sick);
    let patient = App::new(move |_, stream| {
        if is_sick.load(SeqCst) {
            return crate::support::app::status(stream, "503 Unavailable", "out of order");
        }
        say(stream, "patient")
    });
    let path = "events: { path: DIR/events.jsonl }\n";
    let text = format!("{path}{}", plain(&[apps[0].address, patient.address], "", PROBED));
    let balancer = Balancer::start(&text);
    sick.store(true, SeqCst);
    let events = |arguments: &[&str]| -> Vec<Value> {
        let (code, out, err) = balancer.command(&[&["events", "--json"], arguments].concat());
        assert_eq!(code, Some(0), "{err}");
        out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    };
    let down = wait_for("s2 is down", || {
        events(&["app/s2", "--kind", "health"]).into_iter().find(|event| event["to"] == "down")
    });
    assert_eq!(down["evidence"]["result"], "status");
    assert_eq!(down["cause"], "status 503, expected 200-299");
    assert_eq!(
        (&down["actor"], &down["from"], &down["generation"]),
        (&json!("probe"), &json!("up"), &json!(1))
    );
    succeeds(&balancer, &["drain", "app/s2"], "drain");
    let operator = events(&["--kind", "operator", "--since", "1h"]);
    assert_eq!((operator.len(), &operator[0]["to"]), (1, &json!("drain")));
    assert!(events(&["app/s1", "--kind", "operator"]).is_empty());
    let (_, out, _) = balancer.command(&["events"]);
    assert!(out.contains("app/s2  up -> down") && out.contains("status 503, expected 200-299"), "{out}");
    assert_eq!(balancer.metric("evenkeel_events_total", &[("kind", "operator")]), 1.0);

    // The file has them as well, and the next process reads it.
    let written = wait_for("the file", || {
        let text = std::fs::read_to_string(balancer.path("events.jsonl")).ok()?;
        text.contains("\"drain\"").then_some(text)
    });
    let next = Balancer::start(&plain(&addresses(&apps), "", ""));
    std::fs::write(next.path("before.jsonl"), format!("{written}{{ cut off")).expect("writable");
    let text = format!("events: {{ path: {} }}\n", next.path("before.jsonl").display());
    let again = Balancer::start(&format!("{text}{}", plain(&addresses(&apps), "", "")));
    let (_, out, _) = again.command(&["events"]);
    assert!(out.contains("status 503, expected 200-299"), "{out}");
    assert!(again.log.has("a line of the ledger's file is no event"));
}

#[test]
fn over_tcp_anybody_here_may_read_and_nobody_may_change_anything() {
    let (apps, _) = apps(&["a", "b"]);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", ""));
    let host = format!("Host: {}", balancer.admin_address());
    let get = |path: &str| over_tcp(&balancer, &format!("GET {path} HTTP/1.1\r\n{host}"), "").status;
    assert_eq!(get("/api/v1/status"), 200);
    let drain = "PUT /api/v1/pools/app/servers/s1/state HTTP/1.1";
    let refused = over_tcp(
        &balancer,
        &format!("{drain}\r\n{host}\r\nContent-Type: application/json"),
        r#"{"state":"drain"}"#,
    );
    assert_eq!(refused.status, 403);
    let error: Value = serde_json::from_str(&refused.text()).expect("errors are JSON");
    assert!(error["error"]["help"].as_str().is_some_and(|help| help.contains("unix socket")), "{error}");
    let by_name = over_tcp(&balancer, "GET /api/v1/status HTTP/1.1\r\nHost: evil.example", "");
    assert_eq!(by_name.status, 403, "DNS rebinding");
    assert_eq!(server(&balancer, "s1")["state"], "up");
    assert_eq!(["/api/v1/nothing", "/api/v2/status"].map(get), [404, 404]);
}

#[test]
fn over_tcp_the_token_opens_what_the_socket_opens() {
    let (apps, _) = apps(&["a", "b"]);
    let token = "0123456789abcdef0123456789abcdef";
    let directory = crate::support::balancer::Directory::new();
    let file = directory.0.join("token");
    std::fs::write(&file, format!("{token}\n")).expect("writable");
    let admin = format!(
        "admin: {{ address: 127.0.0.1:0, socket: null, state_file: null, token_file: {} }}\n",
        file.display()
    );
    let text = format!("{admin}{}", plain(&addresses(&apps), "", ""));
    let balancer = Balancer::start(&text);
    let run = |more: &[&str]| {
        let address = balancer.admin_address().to_string();
        let output = evenkeel()
            .args(["drain", "app/s1", "--address", &address])
            .args(more)
            .output()
            .expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, err) = run(&[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("must show the token"), "{err}");
    let shown = file.display().to_string();
    let (code, err) = run(&["--token-file", &shown]);
    assert_eq!(code, Some(0), "{err}");
    // A reload reads it again.
    std::fs::write(&file, "another-token-of-some-length\n").expect("writable");
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    let host = format!("Host: {}", balancer.admin_address());
    let with = |token: &str| {
        let head = format!("POST /api/v1/reload HTTP/1.1\r\n{host}\r\nAuthorization: Bearer {token}");
        over_tcp(&balancer, &head, "").status
    };
    assert_eq!((with(token), with("another-token-of-some-length")), (401, 200));
    std::fs::write(&file, "short\n").expect("writable");
    assert_eq!(balancer.reload(&text), Reloaded::Refused);
    balancer.log.wait_for("admin.token_file");
}

#[test]
fn a_slow_or_greedy_admin_client_hurts_nobody() {
    let (apps, _) = apps(&["a"]);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", ""));
    // Heads that never end, more of them than there are places.
    let slow: Vec<_> = (0..300)
        .map(|_| {
            let mut client = Client::connect(balancer.admin_address());
            client.send("GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ");
            client
        })
        .collect();
    assert_eq!(balancer.get("/").status, 200);
    // The socket has places of its own.
    assert_eq!(balancer.command_json(&["status"])["process"]["generation"], 1);
    drop(slow);
    wait_until("the places are free again", || client::get(balancer.admin_address(), "/livez").status == 200);
    let mut greedy = Client::connect(balancer.admin_address());
    let length = 64 << 20;
    let host = format!("Host: {}", balancer.admin_address());
    greedy.send(format!("GET /api/v1/status HTTP/1.1\r\n{host}\r\nContent-Length: {length}\r\n\r\n"));
    let block = vec![b'x'; 1 << 16];
    // It is answered before it has sent it all, which nobody reads.
    let _ = (0..length >> 16).try_for_each(|_| greedy.try_send(&block));
    assert!(greedy.try_response().is_none_or(|response| response.status == 200));
    assert_eq!(balancer.get("/").status, 200);
}

#[test]
fn a_command_says_how_to_reach_a_process_that_it_cannot_find() {
    let run = |arguments: &[&str]| {
        let output = evenkeel().args(arguments).output().expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, err) = run(&["status", "--socket", "/nowhere/admin.sock"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("cannot reach a running evenkeel at /nowhere/admin.sock") && err.contains("--address"),
        "{err}"
    );
    let (code, err) = run(&["drain", "app"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("like app/app3"), "{err}");
    let (code, err) = run(&["weight", "app/s1", "0"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("drain the server"), "{err}");
    let (code, err) = run(&["events", "--kind", "helth"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("health, ejection, operator"), "{err}");
}

/// Two app servers of which the second can be told to fail all but its probes.
fn moody() -> (App, App, Arc<AtomicBool>) {
    let is_sick = Arc::new(AtomicBool::new(false));
    let sick = Arc::clone(&is_sick);
    let well = App::saying("well");
    let other = App::new(move |request, stream| match sick.load(SeqCst) && request.target != "/healthz" {
        true => crate::support::app::status(stream, "500 Broken", "broken"),
        false => say(stream, "other"),
    });
    (well, other, is_sick)
}

#[test]
fn a_guarded_reload_after_which_requests_fail_is_taken_back() {
    let (well, sick, is_sick) = moody();
    is_sick.store(true, SeqCst);
    let balancer = Balancer::start(&plain(&[well.address], "", PROBED));
    let (stop, statuses) = (AtomicBool::new(false), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = balancer.client();
            while !stop.load(SeqCst) {
                let generation = balancer.generation();
                statuses.lock().expect("no panic").push((generation, client.get("/").status));
            }
        });
        wait_until("there is traffic", || statuses.lock().expect("no panic").len() > 20);
        balancer.write(&plain(&[sick.address], "", PROBED));
        let (code, out, err) = balancer.command(&["reload", "--guard", "60s", "--min-requests", "5"]);
        stop.store(true, SeqCst);
        assert_eq!(code, Some(1), "{out}{err}");
        assert!(out.contains("in force: generation 2"), "{out}");
        assert!(err.contains("rolled back: pools.app: ") && err.contains("requests failed"), "{err}");
    });
    let status = balancer.command_json(&["status"]);
    assert_eq!(
        (&status["process"]["generation"], &status["guard"]["state"]),
        (&json!(3), &json!("rolled_back"))
    );
    assert_eq!(status["last_reload"]["outcome"], "rolled_back");
    assert_eq!(status["pools"][0]["servers"][0]["address"], well.address.to_string());
    let statuses = statuses.lock().expect("no panic");
    assert!(statuses.iter().any(|(_, status)| *status == 500), "it was in force");
    assert!(statuses.iter().all(|(generation, status)| *generation != 3.0 || *status == 200), "{statuses:?}");
    assert!(answers(&balancer, 20).iter().all(|answer| answer == "well"));
    assert_eq!(balancer.metric("evenkeel_config_reloads_total", &[("result", "rolled_back")]), 1.0);
    assert_eq!(balancer.metric("evenkeel_config_last_reload_successful", &[]), 0.0);
}

#[test]
fn a_guarded_reload_that_loses_healthy_servers_is_taken_back_with_what_operators_said() {
    let (apps, _) = apps(&["a", "b"]);
    let dead = crate::support::app::Refusing::new();
    let balancer = Balancer::start(&plain(&addresses(&apps), "", PROBED));
    succeeds(&balancer, &["weight", "app/s2", "7"], "weight 7");
    let quick = "health: { http: /healthz, interval: 20ms, fall: 1 }";
    balancer.write(&plain(&[apps[0].address, dead.address], "", quick));
    let (code, _, err) = balancer.command(&["reload", "--guard", "60s"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("healthy servers: 1, where 2 should be"), "{err}");
    let s2 = server(&balancer, "s2");
    assert_eq!((&s2["address"], &s2["weight"]), (&json!(apps[1].address.to_string()), &json!(7)));
    wait_until("both answer again", || server(&balancer, "s2")["state"] == "up");
}

#[test]
fn a_guarded_reload_that_does_no_harm_is_kept() {
    let (apps, _) = apps(&["a", "b", "c"]);
    let balancer = Balancer::start(&plain(&addresses(&apps[..2]), "", PROBED));
    balancer.write(&plain(&addresses(&apps), "", PROBED));
    let (code, out, err) = balancer.command(&["reload", "--guard", "1s"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("kept: generation 2"), "{out}");
    assert_eq!(balancer.command_json(&["status"])["guard"]["state"], "kept");
    // The next one is not watched, and ends a watch that there is.
    let (code, _, err) = balancer.command(&["reload", "--guard", "soon"]);
    assert!(code == Some(2) && err.contains("soon"), "{err}");
    let (code, _, err) = balancer.command(&["reload", "--max-servers-lost", "1"]);
    assert!(code == Some(2) && err.contains("--guard"), "{err}");
}

#[test]
fn rates_and_latencies_are_those_of_the_last_seconds() {
    let (well, sick, is_sick) = moody();
    is_sick.store(true, SeqCst);
    let balancer = Balancer::start(&plain(&[well.address, sick.address], "", "balance: round_robin"));
    let mut client = balancer.client();
    wait_until("the history has them", || {
        client.get("/");
        let status = balancer.command_json(&["status"]);
        let servers = &status["pools"][0]["servers"];
        let ratio = |at: usize| servers[at]["figures"]["error_ratio"].as_f64().expect("a number");
        let rate = servers[0]["figures"]["requests_per_second"].as_f64().expect("a number");
        rate > 0.0 && ratio(0) == 0.0 && ratio(1) == 1.0 && servers[1]["figures"]["p99_ms"].is_number()
    });
    let mut asking = Client::connect(balancer.admin_address());
    asking.send(format!("GET /api/v1/history HTTP/1.1\r\nHost: {}\r\n\r\n", balancer.admin_address()));
    let history: Value = serde_json::from_str(&asking.response().text()).expect("JSON");
    let points = history["pools"]["app"]["servers"]["s1"].as_array().expect("points");
    assert!(points.iter().any(|point| point["requests"].as_u64() > Some(0)), "{points:?}");
}

#[test]
fn every_path_is_documented_and_every_documented_path_is_there() {
    let documented = documented();
    let routes = include_str!("../../src/admin/api.rs").lines().filter_map(|line| {
        let (path, rest) = line.trim().strip_prefix(".route(\"")?.split_once("\", ")?;
        let method = rest.split('(').next()?.to_uppercase();
        let path = path
            .replace("{pool}", "POOL")
            .replace("{server}", "SERVER")
            .replace("{client}", "CLIENT")
            .replace("{route}", "ROUTE");
        Some((method, format!("/api/v1{path}")))
    });
    let mut routes: Vec<_> = routes.collect();
    let mut told = documented.clone();
    routes.sort();
    told.sort();
    assert_eq!(told, routes);

    let (apps, _) = apps(&["a", "b"]);
    let token = "0123456789abcdef0123";
    let directory = crate::support::balancer::Directory::new();
    let file = directory.0.join("token");
    std::fs::write(&file, token).expect("writable");
    let admin = format!(
        "admin: {{ address: 127.0.0.1:0, socket: null, state_file: null, token_file: {} }}\n",
        file.display()
    );
    let balancer = Balancer::start(&format!(
        "{admin}routes: {{ shop: [{{ cache: {{}}, pool: app }}] }}\n{}",
        plain(&addresses(&apps), "", "")
    ));
    let host = format!("Host: {}", balancer.admin_address());
    for (method, path) in documented.iter().filter(|(_, path)| !path.ends_with("upgrade")) {
        let path = path
            .replace("POOL", "app")
            .replace("SERVER", "s1")
            .replace("CLIENT", "192.0.2.7")
            .replace("ROUTE", "shop");
        let body = match path.rsplit('/').next() {
            Some("state") => r#"{"state": "drain"}"#,
            Some("weight") => r#"{"weight": 7}"#,
            Some("explain") => r#"{"url": "http://x/", "listener": "web"}"#,
            Some("plan") => "{}",
            Some("purge") => r#"{"all": true}"#,
            Some("shop") => r#"{"enabled": false}"#,
            Some("192.0.2.7") => r#"{"seconds": 60}"#,
            _ => "",
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json"
        );
        let response = over_tcp(&balancer, &head, body);
        assert_eq!(response.status, 200, "{method} {path}: {}", response.text());
        serde_json::from_str::<Value>(&response.text()).expect("answers are JSON");
        let other = head.replacen(method.as_str(), "PATCH", 1);
        let refused = over_tcp(&balancer, &other, "");
        assert_eq!(refused.status, 405, "{path}");
        let error: Value = serde_json::from_str(&refused.text()).expect("errors are JSON");
        assert!(error["error"]["help"].is_string(), "{error}");
    }
}

#[test]
fn a_guard_takes_failed_connections_that_were_there_before_for_what_they_are() {
    let (apps, _) = apps(&["a"]);
    let dead = crate::support::app::Refusing::new();
    let pool = "balance: round_robin, retries: { budget: 100% }";
    let text = plain(&[apps[0].address, dead.address], "", pool);
    let balancer = Balancer::start(&text);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = balancer.client();
            while !stop.load(SeqCst) {
                assert_eq!(client.get("/").status, 200);
            }
        });
        wait_until("the history has failed connections", || {
            let mut asking = Client::connect(balancer.admin_address());
            asking
                .send(format!("GET /api/v1/history HTTP/1.1\r\nHost: {}\r\n\r\n", balancer.admin_address()));
            let history: Value = serde_json::from_str(&asking.response().text()).expect("JSON");
            let points = history["pools"]["app"]["points"].as_array().cloned().unwrap_or_default();
            points.iter().filter(|point| point["connect_failures"].as_u64() > Some(0)).count() >= 2
        });
        let outcome = balancer.command(&["reload", "--guard", "1s", "--max-error-rise", "20"]);
        stop.store(true, SeqCst);
        assert_eq!(outcome.0, Some(0), "{outcome:?}");
    });
}

#[test]
fn an_upgrade_waits_for_the_end_of_a_watch() {
    let (apps, _) = apps(&["a"]);
    for by_signal in [false, true] {
        let balancer = Arc::new(Balancer::start(&plain(&addresses(&apps), "", "")));
        let running = |arguments: &'static [&'static str]| {
            let balancer = Arc::clone(&balancer);
            std::thread::spawn(move || balancer.command(arguments))
        };
        let watching = running(&["reload", "--guard", "1h"]);
        wait_until("the watch", || balancer.command_json(&["status"])["guard"]["state"] == "watching");
        let upgrading = match by_signal {
            true => {
                balancer.signal(rustix::process::Signal::USR2);
                None
            }
            false => Some(running(&["upgrade"])),
        };
        balancer.log.wait_for("the upgrade waits for the end of the reload's watch");
        let process = balancer.command_json(&["status"])["process"].clone();
        assert!(process["upgrading"] == true && process["upgrade_waits_until"].is_string(), "{process}");
        assert_eq!(balancer.metric("evenkeel_upgrade_failures_total", &[]), 0.0);
        assert_eq!(balancer.command(&["reload"]).0, Some(0), "it ends the watch");
        let next = Next::of(&balancer);
        let (code, _, err) = watching.join().expect("the command ran");
        assert!(code == Some(1) && err.contains("watched no longer"), "{err}");
        if let Some(upgrading) = upgrading {
            let (code, out, err) = upgrading.join().expect("the command ran");
            assert!(code == Some(0) && out.contains("has taken over"), "{out}{err}");
        }
        next.end();
    }
}

#[test]
fn what_a_guard_has_said_is_known_after_the_upgrade_that_waited_for_it() {
    let (apps, _) = apps(&["a"]);
    let dead = crate::support::app::Refusing::new();
    let good = plain(&addresses(&apps), "", PROBED);
    let balancer = Arc::new(Balancer::start(&good));
    let guarded = |guard: &'static str| {
        let of = Arc::clone(&balancer);
        let watching = std::thread::spawn(move || of.command(&["reload", "--guard", guard]));
        wait_until("the watch", || balancer.command_json(&["status"])["guard"]["state"] == "watching");
        balancer.signal(rustix::process::Signal::USR2);
        watching.join().expect("the command ran")
    };
    let verdicts = || {
        let status = balancer.command_json(&["status"]);
        let earlier = status["earlier_guards"].as_array().cloned().unwrap_or_default();
        let of = |guard: &Value| (guard["generation"].clone(), guard["state"].clone());
        std::iter::once(&status["guard"]).chain(&earlier).map(of).collect::<Vec<_>>()
    };
    // A file that is taken back comes with no upgrade either.
    balancer.write(&plain(&[dead.address], "", PROBED));
    let (code, _, err) = guarded("1s");
    assert!(code == Some(1) && err.contains("rolled back: pools.app: healthy servers"), "{err}");
    balancer.log.wait_for("upgrade failed");
    assert_eq!(verdicts(), [(json!(2), json!("rolled_back"))]);

    balancer.write(&good);
    let (code, out, err) = guarded("1s");
    let next = Next::of(&balancer);
    assert!(code == Some(0) && out.contains("kept: generation 4"), "{code:?}: {out}{err}");
    wait_until("the new process answers", || {
        balancer.command_json(&["status"])["process"]["generation"] == 5
    });
    assert_eq!(verdicts(), [(json!(4), json!("kept")), (json!(2), json!("rolled_back"))]);
    next.end();
}

#[test]
fn an_upgrade_does_not_bring_back_what_a_guard_has_taken_back() {
    let (apps, _) = apps(&["a"]);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", PROBED));
    let dead = crate::support::app::Refusing::new();
    balancer.write(&plain(&[dead.address], "", PROBED));
    let (code, _, err) = balancer.command(&["reload", "--guard", "1s"]);
    assert_eq!(code, Some(1), "{err}");
    let file = balancer.path("evenkeel.yaml").display().to_string();
    let why = format!("upgrade failed: the new process does not take over: {file}: a guard has taken this");
    let verdict = ["generation 2 was rolled back at 20", "Z: pools.app: healthy servers"];
    fails(&balancer, &["upgrade"], 1, &[&why, verdict[0], verdict[1]]);
    balancer.log.wait_for("a guard has taken this configuration back");
    let status = || balancer.command_json(&["status"])["process"]["last_upgrade_failure"].to_string();
    assert!(verdict.iter().all(|part| status().contains(part)), "{}", status());
    let (_, text, _) = balancer.command(&["status"]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("last upgrade failed the new process does not take over"), "{text}");
    assert!(text.contains("pools.app: healthy servers"), "{text}");
    assert_eq!(balancer.get("/").status, 200);
    // What is wrong with a file is said as well.
    balancer.write("listeners: {}\nnonsense: 1\n");
    fails(&balancer, &["upgrade"], 1, &["does not take over: ", "unknown key `nonsense`"]);
    balancer.write(&plain(&addresses(&apps), "", PROBED));
    succeeds(&balancer, &["upgrade"], "has taken over");
    Next::of(&balancer).end();
}

#[test]
fn the_last_event_is_in_the_file_when_the_process_has_ended() {
    let (apps, _) = apps(&["a"]);
    let text = format!("events: {{ path: DIR/events.jsonl }}\n{}", plain(&addresses(&apps), "", ""));
    let mut balancer = Balancer::start(&text);
    balancer.signal(rustix::process::Signal::TERM);
    assert!(balancer.wait_for_exit().success());
    let written = std::fs::read_to_string(balancer.path("events.jsonl")).expect("readable");
    let last: Value = serde_json::from_str(written.lines().last().expect("a line")).expect("JSON");
    assert!(last["cause"].as_str().is_some_and(|cause| cause.starts_with("stopping")), "{last}");
}

#[test]
fn a_server_that_turned_and_was_removed_is_gone_once() {
    let (latch, is_sick) = (Latch::default(), Arc::new(AtomicBool::new(false)));
    let (held, sick) = (latch.clone(), Arc::clone(&is_sick));
    let app = App::new(move |request, stream| match request.target.as_str() {
        "/healthz" if sick.load(SeqCst) => crate::support::app::status(stream, "500 Broken", "broken"),
        "/healthz" => say(stream, "well"),
        _ => {
            held.wait();
            say(stream, "done")
        }
    });
    let other = App::saying("other");
    let probed = "health: { http: /healthz, interval: 20ms, fall: 1 }";
    let balancer = Balancer::start(&plain(&[app.address, other.address], "", probed));
    let mut clients: Vec<Client> = (0..2).map(|_| balancer.client()).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    balancer.wait_for_metric("evenkeel_server_in_flight", &[("server", "s1")], 1.0);
    is_sick.store(true, SeqCst);
    wait_until("s1 is down", || server(&balancer, "s1")["state"] == "down");
    let only = plain(&[other.address], "", probed).replace("name: s1", "name: s2");
    assert_eq!(balancer.reload(&only), Reloaded::Taken);
    latch.open();
    let gone = || {
        let (_, lines, _) = balancer.command(&["events", "--kind", "membership", "--json"]);
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        events.filter(|event| event["to"] == "gone" && event["server"] == "s1").count()
    };
    wait_until("s1 is gone", || gone() > 0);
    assert_eq!(gone(), 1);
}

#[test]
fn what_is_no_request_is_refused_in_json_too() {
    let (apps, _) = apps(&["a"]);
    let balancer = Balancer::start(&plain(&addresses(&apps), "", ""));
    let many = format!("GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(1000));
    for (bytes, status) in [
        (&b"GET /api/v1/pools/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], 400),
        (b"GET /api/v1/pools/\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (many.as_bytes(), 431),
    ] {
        let mut client = Client::connect(balancer.admin_address());
        client.send(bytes);
        let response = client.response();
        assert_eq!(response.status, status);
        assert_eq!(response.field("content-type"), "application/json");
        let error: Value = serde_json::from_str(&response.text()).expect("JSON");
        assert!(error["error"]["message"].is_string() && error["error"]["help"].is_string(), "{error}");
    }
}
