//! While one process takes over from another, and until the older one has finished: whatever operators say and ask is
//! answered by the one that knows.

use crate::support::app::{App, Latch, say};
use crate::support::balancer::{Balancer, Directory, Next, evenkeel, plain, value};
use crate::support::udp;
use crate::support::{DEADLINE, catches, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// A server whose probes hang once they are told to, and that holds requests for `/held`.
struct Slow {
    app: App,
    probes: Latch,
    requests: Latch,
    hangs: Arc<AtomicBool>,
}

impl Slow {
    fn new() -> Self {
        let (probes, requests, hangs) =
            (Latch::default(), Latch::default(), Arc::new(AtomicBool::new(false)));
        let (probing, held, hanging) = (probes.clone(), requests.clone(), Arc::clone(&hangs));
        let app = App::new(move |request, stream| {
            match &*request.target {
                "/healthz" if hanging.load(SeqCst) => probing.wait(),
                "/held" => held.wait(),
                _ => {}
            }
            say(stream, "done")
        });
        Self { app, probes, requests, hangs }
    }

    fn pool(&self, further: &str) -> String {
        let other = self.app.address;
        plain(
            &[self.app.address, other],
            "",
            &format!("health: {{ http: /healthz, interval: 1h, timeout: 20s }}, {further}"),
        )
    }
}

/// Asks for an upgrade, and comes back when the next process has been started.
fn begin(balancer: &Arc<Balancer>) -> std::thread::JoinHandle<(Option<i32>, String, String)> {
    let asking = Arc::clone(balancer);
    let upgrading = std::thread::spawn(move || asking.command(&["upgrade"]));
    balancer.log.wait_for("upgrading: waiting for the new process to be ready pid=");
    upgrading
}

fn events(balancer: &Balancer) -> Vec<Value> {
    let (code, out, err) = balancer.command(&["events", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn what_operators_say_while_the_next_process_starts_is_not_lost() {
    let slow = Slow::new();
    let text = slow.pool("");
    let balancer = Arc::new(Balancer::start(&text));
    slow.hangs.store(true, SeqCst);
    let upgrading = begin(&balancer);
    for (arguments, expected) in [
        (&["drain", "app/s2"][..], Some(0)),
        (&["weight", "app/s1", "7"], Some(0)),
        // The first that anything is counted for.
        (&["ban", "192.0.2.7", "--for", "1h"], Some(0)),
        (&["reload"], Some(1)),
    ] {
        let (code, out, err) = balancer.command(arguments);
        assert_eq!(code, expected, "{arguments:?}: {out}{err}");
        assert!(code == Some(0) || err.contains("an upgrade is under way"), "{err}");
        assert_eq!(balancer.command_json(&["status"])["process"]["pid"], balancer.pid());
    }
    balancer.write(&slow.pool("balance: round_robin"));
    balancer.signal(Signal::HUP);
    balancer.log.wait_for("the reload is left to the next process");
    assert!(!upgrading.is_finished(), "it is no success yet");
    slow.probes.open();
    let (code, out, err) = upgrading.join().expect("the command ran");
    assert_eq!(code, Some(0), "{out}{err}");
    let next = Next::of(&balancer);
    assert!(out.contains(&format!("process {}", next.0.as_raw_nonzero())), "{out}");
    let status = wait_for("the reload that the signal asked for", || {
        let status = balancer.command_json(&["status"]);
        (status["pools"][0]["balance"] == "round_robin").then_some(status)
    });
    let servers = &status["pools"][0]["servers"];
    assert_eq!((&servers[1]["state"], &servers[0]["weight"]), (&json!("drain"), &json!(7)));
    let said = |what: &str| events(&balancer).iter().any(|event| event["to"] == what);
    assert!(said("drain") && said("weight 7"));
    assert!(balancer.command(&["bans"]).1.contains("192.0.2.7"), "{}", balancer.log.all().join("\n"));
    next.end();
}

#[test]
fn signals_to_all_processes_of_an_upgrade_end_none_of_them() {
    let slow = Slow::new();
    let balancer = Arc::new(Balancer::start(&slow.pool("")));
    slow.hangs.store(true, SeqCst);
    let upgrading = begin(&balancer);
    let line = balancer.log.wait_for("upgrading: waiting for the new process to be ready pid=");
    let next: u32 = value(&line, "pid").parse().expect("the log says which process");
    let children = format!("/proc/{0}/task/{0}/children", balancer.pid());
    let between = std::fs::read_to_string(children).expect("it runs");
    let between: u32 = between.trim().parse().expect("one process between the two");
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2] {
        for pid in [between, next] {
            wait_until("it has begun", || catches(pid, signal));
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process's number");
            kill_process(pid, signal).expect("it runs");
        }
    }
    slow.probes.open();
    let (code, out, err) = upgrading.join().expect("the command ran");
    assert_eq!(code, Some(0), "{out}{err}");
    // SIGUSR2 was the next process's to follow: there is another one by now.
    let of_next =
        |status: &Value| status["process"]["pid"] != balancer.pid() && status["process"]["pid"] != next;
    let last = wait_for("the second upgrade", || {
        let (code, out, _) = balancer.command(&["status", "--json"]);
        let status = serde_json::from_str(&out).ok().filter(of_next)?;
        (code == Some(0)).then_some(status)
    });
    let last =
        last["process"]["pid"].as_u64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    kill_process(last.expect("a process's number"), Signal::INT).expect("it runs");
}

#[test]
fn an_upgrade_whose_process_ends_before_it_is_ready_is_none() {
    let slow = Slow::new();
    let balancer = Arc::new(Balancer::start(&slow.pool("")));
    slow.hangs.store(true, SeqCst);
    let upgrading = begin(&balancer);
    balancer.signal(Signal::HUP);
    balancer.log.wait_for("the reload is left to the next process");
    let line = balancer.log.wait_for("upgrading: waiting for the new process to be ready pid=");
    let pid = value(&line, "pid").parse().ok().and_then(Pid::from_raw).expect("the log says which process");
    kill_process(pid, Signal::KILL).expect("it runs");
    let (code, out, err) = upgrading.join().expect("the command ran");
    assert!(code == Some(1) && err.contains("it ended with signal: 9 (SIGKILL)"), "{code:?} {out}{err}");
    assert_eq!(balancer.get("/").status, 200);
    balancer.wait_for_metric("evenkeel_config_generation", &[], 2.0);
    slow.probes.open();
}

#[test]
fn a_stop_while_the_next_process_starts_ends_both() {
    let slow = Slow::new();
    let mut balancer = Balancer::start(&slow.pool(""));
    slow.hangs.store(true, SeqCst);
    balancer.signal(Signal::USR2);
    let line = balancer.log.wait_for("upgrading: waiting for the new process to be ready pid=");
    let pid = value(&line, "pid").parse().ok().and_then(Pid::from_raw).expect("the log says which process");
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    wait_until("the next process has ended", || rustix::process::test_kill_process(pid).is_err());
    slow.probes.open();
}

#[test]
fn no_two_events_have_one_number() {
    let slow = Slow::new();
    let text = format!("events: {{ path: DIR/events.jsonl }}\n{}", slow.pool(""));
    let mut balancer = Balancer::start(&text);
    let mut held = balancer.client();
    held.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    assert_eq!(balancer.command(&["upgrade"]).0, Some(0));
    let next = Next::of(&balancer);
    // Both are there, and both have something to tell.
    assert_eq!(balancer.command(&["weight", "app/s1", "9"]).0, Some(0));
    slow.requests.open();
    assert_eq!(held.response().status, 200);
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    assert_eq!(balancer.command(&["weight", "app/s1", "default"]).0, Some(0));
    let known = events(&balancer);
    let causes: Vec<_> = known.iter().filter_map(|event| event["cause"].as_str()).collect();
    assert!(causes.iter().any(|cause| cause.starts_with("stopping: ")), "the old one's too: {causes:?}");
    next.end();
    let file = std::fs::read_to_string(balancer.path("events.jsonl")).expect("readable");
    let written: Vec<Value> =
        file.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let numbers: Vec<_> = written.iter().map(|event| event["id"].as_u64().expect("a number")).collect();
    let distinct: HashSet<_> = numbers.iter().collect();
    assert_eq!(distinct.len(), numbers.len(), "{file}");
    assert!(numbers.is_sorted(), "{file}");
}

#[test]
fn what_the_old_process_still_has_counts_until_it_ends() {
    let slow = Slow::new();
    let mut balancer = Balancer::start(&slow.pool(""));
    let mut held = balancer.client();
    held.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    assert_eq!(balancer.command(&["upgrade"]).0, Some(0));
    let next = Next::of(&balancer);
    let server = |status: &Value| {
        let servers = status["pools"][0]["servers"].as_array().cloned().unwrap_or_default();
        servers.iter().find(|server| server["in_flight"] == 1).map(|server| server["name"].clone())
    };
    let (status, busy) = wait_for("the old process tells what it has", || {
        let status = balancer.command_json(&["status"]);
        let busy = server(&status)?.as_str()?.to_owned();
        Some((status, busy))
    });
    assert_eq!(status["process"]["pid"], next.0.as_raw_nonzero().get());
    assert_eq!(status["process"]["before"], json!({"pid": balancer.pid(), "connections": 1, "in_flight": 1}));
    assert_eq!(status["process"]["connections"], 1);
    assert_eq!(balancer.metric("evenkeel_server_in_flight", &[("server", &busy)]), 1.0);
    let target = format!("app/{busy}");
    let (code, out, err) = balancer.command(&["drain", &target, "--wait", "--timeout", "300ms"]);
    assert!(code == Some(1) && err.contains("not empty"), "{out}{err}");
    // A reload does not lose count.
    assert_eq!(balancer.command(&["reload"]).0, Some(0));
    assert_eq!(balancer.metric("evenkeel_server_in_flight", &[("server", &busy)]), 1.0);
    slow.requests.open();
    assert_eq!(held.response().status, 200);
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    assert_eq!(balancer.command(&["drain", &target, "--wait", "--timeout", "10s"]).0, Some(0));
    let status = balancer.command_json(&["status"]);
    assert_eq!((&status["process"]["before"], &status["process"]["connections"]), (&Value::Null, &json!(0)));
    next.end();
}

#[test]
fn a_stop_waits_for_what_the_process_before_still_has() {
    let slow = Slow::new();
    let mut balancer = Balancer::start(&slow.pool(""));
    let mut held = balancer.client();
    held.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    balancer.wait_for_in_flight(1.0);
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    wait_until("the old one tells what it has", || {
        !balancer.command_json(&["status"])["process"]["before"].is_null()
    });
    balancer.log.clear();
    kill_process(next.0, Signal::TERM).expect("it runs");
    // Its workers have nothing; a service manager would end what is left with it.
    balancer.log.wait_for("stopping: finishing what is in flight");
    assert!(rustix::process::test_kill_process(next.0).is_ok());
    slow.requests.open();
    assert_eq!(held.response().status, 200);
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    wait_until("the new process has ended", || rustix::process::test_kill_process(next.0).is_err());
}

#[test]
fn the_program_is_what_is_at_the_path_that_it_was_started_by() {
    let app = App::saying("hello");
    let directory = Directory::new();
    let (program, old) = (directory.0.join("evenkeel"), directory.0.join("evenkeel.old"));
    std::fs::copy(env!("CARGO_BIN_EXE_evenkeel"), &program).expect("it can be copied");
    let mut command = Command::new(&program);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped()).env_remove("NOTIFY_SOCKET");
    let balancer = Balancer::start_as(&mut command, &plain(&[app.address], "", ""));
    std::fs::rename(&program, &old).expect("it can be renamed");
    let (code, _, err) = balancer.command(&["upgrade"]);
    assert!(code == Some(1) && err.contains("evenkeel cannot be started"), "nothing is there: {err}");
    std::os::unix::fs::symlink("/bin/false", &program).expect("a link can be made");
    let (code, _, err) = balancer.command(&["upgrade"]);
    assert!(
        code == Some(1) && err.contains("it ended with exit status: 1"),
        "another program is there: {err}"
    );
    std::fs::remove_file(&program).expect("it can be removed");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_evenkeel"), &program).expect("a link can be made");
    let outcome = balancer.command_json(&["upgrade"]);
    let next = Next::of(&balancer);
    assert_eq!(outcome["to"]["pid"], next.0.as_raw_nonzero().get());
    next.end();
}

#[test]
fn the_next_process_is_nobodys_child_and_gives_signs_of_life() {
    let directory = Directory::new();
    let path = directory.0.join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("a socket can be bound");
    manager.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket takes its options");
    let app = App::saying("hello");
    let mut command = evenkeel();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let balancer = Balancer::start_as(&mut command, &plain(&[app.address], "", "health: { tcp: {} }"));
    let hear = |part: &str| {
        wait_for(&format!("the message {part:?}"), || {
            let mut bytes = [0; 1024];
            let n = manager.recv(&mut bytes).ok()?;
            let message = String::from_utf8_lossy(&bytes[..n]).into_owned();
            message.contains(part).then_some(message)
        })
    };
    hear("STATUS=generation 1, 1 of 1 servers up");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    let message = hear("MAINPID=");
    assert!(message.contains(&format!("MAINPID={}", next.0.as_raw_nonzero())), "{message}");
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", next.0.as_raw_nonzero())).expect("it runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent").trim();
    assert_ne!(parent, balancer.pid().to_string());
    let parent = std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    assert_ne!(parent.trim(), "evenkeel");
    balancer.log.wait_for("stopped: everything finished");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    next.end();
}

/// A resolver asks others for seconds at times.
#[test]
fn a_slow_answer_to_a_datagram_comes_after_an_upgrade() {
    let (answer, when) = std::sync::mpsc::channel::<()>();
    let server = udp::Server::answering("127.0.0.1:0", move |_| {
        let _ = when.recv_timeout(DEADLINE);
        b"late".to_vec()
    });
    let text = format!(
        "listeners:\n  dns: {{ address: 127.0.0.1:0, protocol: udp, pool: dns }}\npools:\n  dns: {{ servers: [\"{}\"] }}\n",
        server.address
    );
    let mut balancer = Balancer::start(&text);
    let client = udp::Client::new(balancer.address("dns"));
    client.tell(b"q");
    wait_until("it is asked", || {
        balancer.metric("evenkeel_udp_datagrams_total", &[("direction", "in")]) > 0.0
    });
    balancer.signal(Signal::USR2);
    let next = Next::of(&balancer);
    // What is silent ends after a second.
    std::thread::sleep(Duration::from_millis(2500));
    answer.send(()).expect("the server waits");
    assert_eq!(client.hear(Duration::from_secs(5)).as_deref(), Some(&b"late"[..]));
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    next.end();
}

#[test]
fn every_datagram_is_answered_through_an_upgrade() {
    let server = udp::Server::echo("a");
    let text = format!(
        "listeners:\n  dns: {{ address: 127.0.0.1:0, protocol: udp, pool: dns, limits: {{ connections_per_client: 9999 }} }}\npools:\n  dns: {{ servers: [\"{}\"] }}\n",
        server.address
    );
    let mut balancer = Balancer::start(&text);
    let address = balancer.address("dns");
    // One that goes on throughout, and others that come new.
    let kept = udp::Client::new(address);
    let ask = |what: &str, client: &udp::Client| {
        client.tell(b"q");
        assert!(client.hear(Duration::from_secs(5)).is_some(), "a datagram of {what} is lost");
    };
    for n in 0..400 {
        ask(&format!("a new client {n}"), &udp::Client::new(address));
        ask(&format!("a kept client {n}"), &kept);
        if n == 50 {
            balancer.signal(Signal::USR2);
        }
    }
    let next = Next::of(&balancer);
    for _ in 0..100 {
        ask("a new client afterwards", &udp::Client::new(address));
        ask("a kept client afterwards", &kept);
    }
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
    next.end();
}
