//! `evenkeel plan`: what it says of a reload, and that the reload then does just that.

use crate::support::app::{App, Latch, say, status};
use crate::support::balancer::{Balancer, Directory, Reloaded, evenkeel};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Output;

struct Files(Directory);

impl Files {
    fn new(old: &str, new: &str) -> Self {
        let files = Self(Directory::new());
        files.write("old.yaml", old);
        files.write("new.yaml", new);
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.0.join(name), text).expect("the file can be written");
    }

    /// Code, standard output, standard error.
    fn plan(&self, further: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = evenkeel()
            .current_dir(&self.0.0)
            .args(["plan", "new.yaml", "--against", "old.yaml"])
            .args(further)
            .output()
            .expect("the binary starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        (status.code(), text(stdout), text(stderr))
    }

    fn json(&self, further: &[&str]) -> (Option<i32>, Value) {
        let (code, out, err) = self.plan(&[&["--json"], further].concat());
        (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
    }
}

const OLD: &str = "\
listeners:
  web: { address: 127.0.0.1:8080, routes: shop }
  old: { address: 127.0.0.1:8081, pool: app }
routes:
  shop:
    - { match: { path: /static/* }, pool: static }
    - { pool: app }
pools:
  app:
    balance: { consistent_hash: { key: { header: X-User } } }
    servers:
      - { name: app1, address: 127.0.0.1:9001 }
      - { name: app2, address: 127.0.0.1:9002 }
      - { name: app3, address: 127.0.0.1:9003 }
    health: { http: /healthz }
    drain_timeout: 30s
  static: { servers: [127.0.0.1:9011] }
  gone: { servers: [127.0.0.1:9021, 127.0.0.1:9022] }
";

const NEW: &str = "\
process: { threads: 4 }
listeners:
  web: { address: 127.0.0.1:8080, routes: shop, timeouts: { idle: 30s } }
  new: { address: 127.0.0.1:8082, pool: app }
routes:
  shop:
    - { match: { path: /static/*, methods: [GET, HEAD] }, pool: static }
    - { pool: app }
pools:
  app:
    balance: { consistent_hash: { key: { header: X-User } } }
    servers:
      - { name: app2, address: 127.0.0.1:9002 }
      - { name: app3, address: 127.0.0.1:9003, weight: 50 }
      - { name: app4, address: 127.0.0.1:9004 }
    health: { http: /ready }
    drain_timeout: 30s
  static: { servers: [127.0.0.1:9011] }
  fresh: { servers: [127.0.0.1:9031] }
";

#[test]
fn nothing_is_0_and_something_is_3() {
    assert_eq!(Files::new(OLD, OLD).plan(&[]).0, Some(0));
    assert_eq!(Files::new(OLD, NEW).plan(&[]).0, Some(3));
    let (code, report) = Files::new(OLD, &format!("# a comment\n{OLD}")).json(&[]);
    assert_eq!((code, &report["changes"]), (Some(0), &Value::Bool(false)));
}

#[test]
fn everything_that_changes_is_shown_within_80_columns() {
    let (_, out, err) = Files::new(OLD, NEW).plan(&[]);
    assert_eq!(err, "");
    for line in [
        "process.threads: auto -> 4",
        "listeners: 1 added, 1 removed, 1 changed",
        "- old (127.0.0.1:8081): stops accepting",
        "+ new (127.0.0.1:8082)",
        "timeouts.idle: 60s -> 30s",
        "- /static/* -> static",
        "+ GET,HEAD /static/* -> static",
        "pools: 1 added, 1 removed, 1 changed, 1 kept",
        "health.http.path: /healthz -> /ready",
        "- app1 (127.0.0.1:9001): drains up to 30s",
        "+ app4 (127.0.0.1:9004)",
        "~ app3 (127.0.0.1:9003): weight: 100 -> 50",
        "servers kept: app2",
        "counts start anew",
        "no requests until a probe has passed: app4",
        "keys that move: ",
        "of 100000 sampled",
        "- 127.0.0.1:9021: drains up to 60s",
        "! process.threads takes effect at the next start only",
    ] {
        assert!(out.contains(line), "{line:?} is not in\n{out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
}

#[test]
fn json_says_the_same() {
    let (code, report) = Files::new(OLD, NEW).json(&["--keys", "1000"]);
    assert_eq!(code, Some(3));
    let pool = &report["pools"]["changed"][0];
    assert_eq!(pool["name"], "app");
    assert_eq!(pool["servers"]["removed"][0]["name"], "app1");
    assert_eq!(pool["servers"]["removed"][0]["drains_within"], "30s");
    assert_eq!(pool["servers"]["changed"][0]["keys"][0]["new"], "50");
    assert_eq!(pool["churn"]["keys"], 1000);
    assert_eq!(report["pools"]["kept"][0], "static");
    assert_eq!(report["listeners"]["removed"][0]["name"], "old");
    assert_eq!(report["routes"]["changed"][0]["added"][0], "GET,HEAD /static/* -> static");
    assert_eq!(report["at_next_start"][0], "process.threads");
}

#[test]
fn a_refused_file_is_1_with_its_problems_whichever_it_is() {
    let broken = OLD.replace("pool: static }", "pool: statik }");
    let (code, out, _) = Files::new(OLD, &broken).plan(&[]);
    assert_eq!(code, Some(1));
    for part in ["new.yaml:6:", "`statik`", "did you mean `static`", "^", "new.yaml: refused: 1 error"] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    let (code, out, _) = Files::new(&broken, OLD).plan(&[]);
    assert!(code == Some(1) && out.contains("old.yaml:6:"), "{out}");
    let (code, report) = Files::new(OLD, &broken).json(&[]);
    assert_eq!((code, &report["ok"]), (Some(1), &Value::Bool(false)));
    let without_file = OLD.replace(
        "routes: shop }",
        "routes: shop, tls: { certificates: [{ cert: none.pem, key: none.pem }] } }",
    );
    // A file that is not here may be where evenkeel runs, so `check` only warns; one that is no good is refused.
    let files = Files::new(OLD, &without_file);
    let (code, out, _) = files.plan(&[]);
    assert!(code == Some(3) && out.contains("! new.yaml:2:79: listeners.web.tls"), "{out}");
    files.write("none.pem", "nothing");
    let (code, out, _) = files.plan(&[]);
    assert!(code == Some(1) && out.contains("new.yaml: refused"), "{out}");
    // What is in force was read before; its files may be gone.
    assert_eq!(Files::new(&without_file, OLD).plan(&[]).0, Some(3));
}

#[test]
fn wrong_usage_is_2_and_a_missing_file_1() {
    let files = Files::new(OLD, NEW);
    for arguments in [
        &["plan", "--against", "old.yaml"][..],
        &["plan", "new.yaml", "--against", "old.yaml", "--keys", "0"],
    ] {
        let Output { status, stderr, .. } =
            evenkeel().current_dir(&files.0.0).args(arguments).output().expect("the binary starts");
        assert_eq!(status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8_lossy(&stderr).into_owned();
        assert!(text.contains("<FILE>") || text.contains("--keys <N>"), "{text}");
    }
    std::fs::remove_file(files.0.0.join("old.yaml")).expect("the file is there");
    let (code, _, err) = files.plan(&[]);
    assert!(code == Some(1) && err.contains("old.yaml: cannot be read"), "{err}");
    let Output { status, stdout, .. } = evenkeel().args(["plan", "--help"]).output().expect("it starts");
    assert_eq!(status.code(), Some(0));
    assert!(String::from_utf8_lossy(&stdout).contains("evenkeel plan new.yaml --against"));
}

/// A server's name, address and weight.
type Given = (&'static str, SocketAddr, u16);

fn hashing(servers: &[Given]) -> String {
    let servers: Vec<_> = servers
        .iter()
        .map(|(name, address, weight)| format!("{{ name: {name}, address: {address}, weight: {weight} }}"))
        .collect();
    format!(
        "admin: {{ address: 127.0.0.1:0, socket: DIR/admin.sock, state_file: null }}\nlisteners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\npools:\n  \
         app:\n    balance: {{ consistent_hash: {{ key: {{ header: X-Key }} }} }}\n    servers: [{}]\n",
        servers.join(", ")
    )
}

/// Who answers each of the keys.
fn answers(balancer: &Balancer, keys: u32) -> Vec<String> {
    let mut client = balancer.client();
    let ask = |key| {
        client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nX-Key: {key}\r\n\r\n"));
        client.response().text()
    };
    (0..keys).map(ask).collect()
}

#[test]
fn clients_see_exactly_as_many_keys_move_as_was_said() {
    const KEYS: u32 = 500;
    let apps: Vec<App> = ["a", "b", "c", "d"].map(|name| App::new(move |_, stream| say(stream, name))).into();
    let given = |place: usize, weight| (["a", "b", "c", "d"][place], apps[place].address, weight);
    let steps = [
        ("at first", vec![given(0, 100), given(1, 100), given(2, 100)]),
        ("d is added", vec![given(3, 100), given(0, 100), given(1, 100), given(2, 100)]),
        ("a is removed", vec![given(3, 100), given(1, 100), given(2, 100)]),
        ("b weighs more", vec![given(3, 100), given(1, 250), given(2, 100)]),
        ("c moves to another address", vec![given(3, 100), given(1, 250), ("c", apps[0].address, 100)]),
    ];
    let balancer = Balancer::start(&hashing(&steps[0].1));
    let mut before = answers(&balancer, KEYS);
    for pair in steps.windows(2) {
        let (what, text) = (pair[1].0, hashing(&pair[1].1));
        let files = Files::new(&hashing(&pair[0].1), &text);
        let (code, report) = files.json(&["--keys", &KEYS.to_string()]);
        assert_eq!(code, Some(3), "{what}");
        let churn = &report["pools"]["changed"][0]["churn"];
        let predicted = churn["moved"].as_u64().expect("a count");
        // The running process says the same of itself, whatever is in flight.
        balancer.write(&text);
        let live = planned(&balancer, 3, &["--keys", &KEYS.to_string()]);
        let live = &live["pools"]["changed"][0]["churn"];
        assert_eq!((&live["moved"], &live["minimum"]), (&churn["moved"], &churn["minimum"]), "{what}");
        assert_eq!(balancer.reload(&text), Reloaded::Taken, "{what}");
        let after = answers(&balancer, KEYS);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert_eq!(moved as u64, predicted, "{what}");
        assert!(moved > 0, "{what}");
        before = after;
    }
}

/// What the running process says of its own file.
#[track_caller]
fn planned(balancer: &Balancer, expected: i32, further: &[&str]) -> Value {
    let (code, out, err) = balancer.command(&[&["plan", "--json"], further].concat());
    assert_eq!(code, Some(expected), "{out}{err}");
    serde_json::from_str(&out).expect("--json prints JSON")
}

#[test]
fn the_running_process_says_what_its_file_would_change_and_changes_nothing() {
    let latch = Latch::default();
    let app = App::holding("a", &latch);
    let sick = App::new(|_, stream| status(stream, "503 Unavailable", "out of order"));
    let text =
        |health: &str| format!("{}    health: {{ http: {health} }}\n", hashing(&[("a", app.address, 100)]));
    let balancer = Balancer::start(&text("/healthz"));
    assert_eq!(planned(&balancer, 0, &[])["changes"], false);

    let mut client = balancer.client();
    client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    let other = format!("{}    health: {{ tcp: {{}} }}\n", hashing(&[("b", sick.address, 100)]));
    let file = balancer.path("other.yaml");
    std::fs::write(&file, other.replace("DIR", "/tmp")).expect("writable");
    let file = file.display().to_string();
    let (code, out, err) = balancer.command(&["plan", &file]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(out.contains("- a (") && out.contains("drains up to 60s, 1 in flight"), "{out}");
    assert_eq!(balancer.generation(), 1.0);
    latch.open();
    assert_eq!(client.response().status, 200);

    // What is wrong is shown as `check` shows it, whoever finds it.
    std::fs::write(balancer.path("broken.yaml"), "listeners: {}\n").expect("writable");
    let broken = balancer.path("broken.yaml").display().to_string();
    let (code, out, _) = balancer.command(&["plan", &broken]);
    assert!(code == Some(1) && out.contains("broken.yaml:1:1"), "{out}");
    let (code, out, _) = balancer.command(&["plan"]);
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn plan_tries_changed_probes_on_the_servers_before_they_count() {
    let app = |name: &'static str| {
        App::new(move |request, stream| match (&*request.target, name) {
            ("/ready", "b") => status(stream, "404 Not Found", ""),
            _ => say(stream, name),
        })
    };
    let (a, b) = (app("a"), app("b"));
    let text = |path: &str| {
        let servers = [("a", a.address, 100), ("b", b.address, 100)];
        format!("{}    health: {{ http: {path}, interval: 1h }}\n", hashing(&servers))
    };
    let balancer = Balancer::start(&text("/healthz"));
    balancer.write(&text("/ready"));
    let report = planned(&balancer, 3, &["--probe"]);
    let probes: Vec<_> = report["probes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|probe| (probe["server"].as_str(), probe["is_up"].as_bool(), probe["passed"].as_bool()))
        .collect();
    assert_eq!(probes, [(Some("a"), Some(true), Some(true)), (Some("b"), Some(true), Some(false))]);
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("b is up and fails the new probe: status 404"), "{warnings}");
    let (_, out, _) = balancer.command(&["plan", "--probe"]);
    assert!(out.contains("new probes: 1 of 2 pass now"), "{out}");
    let up = |name| balancer.metric("evenkeel_server_up", &[("server", name)]);
    assert_eq!((up("a"), up("b")), (1.0, 1.0));
}
