//! `evenkeel top` in a terminal: what it shows of a running process, what its keys do there, and what it leaves behind.

use crate::support::app::App;
use crate::support::balancer::{Balancer, Directory, evenkeel, plain};
use crate::support::terminal::Terminal;
use crate::support::wait_until;
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;

const SIZE: (u16, u16) = (24, 80);

fn apps() -> [App; 2] {
    [App::saying("a"), App::saying("b")]
}

fn balancer(apps: &[App], pool: &str) -> Balancer {
    let addresses: Vec<_> = apps.iter().map(|app| app.address).collect();
    Balancer::start(&plain(&addresses, "", &format!("health: {{ http: /, interval: 20ms }}, {pool}")))
}

fn top(socket: &Path, further: &[&str]) -> Terminal {
    let mut command = evenkeel();
    command.arg("top").args(further).arg("--interval").arg("100ms").arg("--socket").arg(socket);
    Terminal::run(command.env("USER", "alice").env_remove("SUDO_USER"), SIZE)
}

fn state(balancer: &Balancer, server: usize) -> Value {
    balancer.command_json(&["status"])["pools"][0]["servers"][server]["state"].clone()
}

#[test]
fn a_server_is_seen_and_drained_once_that_was_confirmed() {
    let apps = apps();
    let balancer = balancer(&apps, "");
    let mut top = top(&balancer.path("admin.sock"), &[]);
    top.wait_for("> s1");
    top.wait_for("app 2/2 up");
    top.press("j");
    top.wait_for("> s2");
    top.press("d");
    top.wait_for("drain app/s2? It gets nothing new; its 0 in flight finish; probes go on.");
    assert_eq!(state(&balancer, 1), "up", "it waits for a yes");
    top.press("y");
    top.wait_for("app/s2: drain, 0 in flight");
    assert_eq!(state(&balancer, 1), "drain");
    top.wait_for("1/2 up");
    top.wait_for("drain by alice");
    // What others do is seen too.
    assert_eq!(balancer.command(&["ready", "app/s2"]).0, Some(0));
    top.wait_for("2/2 up");
    top.press("q");
    assert!(top.wait_for_exit().success());
}

#[test]
fn a_drain_that_would_leave_too_little_is_refused_with_figures_and_can_be_forced() {
    let apps = apps();
    let balancer = balancer(&apps, "");
    let mut top = top(&balancer.path("admin.sock"), &[]);
    top.wait_for("> s1");
    top.press("my");
    top.wait_for("app/s1: maint");
    top.press("jdy");
    top.wait_for("f: force it");
    assert_eq!(state(&balancer, 1), "up");
    top.press("f");
    top.wait_for("app/s2: drain");
    assert_eq!(state(&balancer, 1), "drain");
    top.press("k");
    top.wait_for("> s1");
    top.press("r");
    top.wait_for("It is probed before it gets requests.");
    top.press("y");
    top.wait_for("app/s1: ");
    wait_until("it is up", || state(&balancer, 0) == "up");
}

#[test]
fn a_process_that_goes_is_missed_and_found_again() {
    let apps = apps();
    let directory = Directory::new();
    let socket = directory.0.join("admin.sock");
    let admin =
        format!("admin: {{ address: 127.0.0.1:0, socket: {}, state_file: null }}\n", socket.display());
    let addresses = [apps[0].address, apps[1].address];
    let text = format!("{admin}{}", plain(&addresses, "", ""));
    let mut first = Balancer::start(&text);
    let top = top(&socket, &[]);
    top.wait_for(&format!("process {}", first.pid()));
    first.signal(Signal::TERM);
    first.wait_for_exit();
    top.wait_for("NO ANSWER for");
    top.wait_for("s2");
    let second = Balancer::start(&text);
    top.wait_for(&format!("process {} has taken the place of {}", second.pid(), first.pid()));
    wait_until("it is seen", || !top.text().contains("NO ANSWER"));
}

#[test]
fn a_pool_that_fails_open_is_loud() {
    let app = App::saying("a");
    let text = plain(
        &[app.address],
        "",
        "health: { http: { path: /, expect_status: 204 }, interval: 20ms, fall: 1 }",
    );
    let balancer = Balancer::start(&text);
    let top = top(&balancer.path("admin.sock"), &[]);
    top.wait_for("NO HEALTHY SERVER in app");
    top.wait_for("status 200, expected 204");
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let apps = apps();
    let balancer = balancer(&apps, "");
    for (key, signal, code) in [
        ("q", None, 0),
        ("\u{3}", None, 0),
        ("", Some(Signal::INT), 130),
        ("", Some(Signal::TERM), 143),
        ("", Some(Signal::HUP), 129),
    ] {
        let mut top = top(&balancer.path("admin.sock"), &[]);
        top.wait_for("> s1");
        assert!(top.is_taken());
        top.press(key);
        signal.into_iter().for_each(|signal| top.signal(signal));
        assert_eq!(top.wait_for_exit().code(), Some(code));
    }
}

#[test]
fn without_a_terminal_or_a_process_it_says_what_to_do() {
    let apps = apps();
    let balancer = balancer(&apps, "");
    let (code, _, err) = balancer.command(&["top"]);
    assert!(code == Some(1) && err.contains("top needs a terminal; use `evenkeel status`"), "{err}");
    let mut nobody = top(Path::new("/nonexistent/admin.sock"), &[]);
    nobody.wait_for("cannot reach a running evenkeel at /nonexistent/admin.sock");
    assert_eq!(nobody.wait_for_exit().code(), Some(1));
    let (code, _, err) = balancer.command(&["top", "--interval", "1ms"]);
    assert!(code == Some(2) && err.contains("use 100ms to 1h"), "{err}");
}
