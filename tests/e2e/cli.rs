//! The command line: what it prints, and with which code it ends.

use crate::support::app::{App, Refusing};
use crate::support::balancer::{Balancer, Directory, Lines, evenkeel, plain};
use crate::support::{client, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = evenkeel().args(arguments).output().expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    (status.code(), text(stdout), text(stderr))
}

fn with_file(text: &str) -> (Directory, String) {
    let directory = Directory::new();
    let file = directory.0.join("evenkeel.yaml");
    std::fs::write(&file, text).expect("the file can be written");
    let name = file.display().to_string();
    (directory, name)
}

const BROKEN: &str = "\
listeners:
  web: { address: 127.0.0.1:0, pool: ap }
pools:
  app:
    servers: [10.0.0.11:8080]
    helth: { http: / }
";

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    for arguments in [&[][..], &["fly"], &["run"], &["check", "--no-such"], &["demo", "--port", "high"]] {
        let (code, _, err) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(err.contains("--help"), "{arguments:?}: {err}");
    }
    for command in ["run", "check", "demo"] {
        let (code, out, _) = run(&[command, "--help"]);
        assert_eq!(code, Some(0));
        assert!(out.contains("Example: evenkeel"), "{command}: {out}");
    }
    let (code, out, _) = run(&["--version"]);
    assert_eq!((code, out), (Some(0), format!("evenkeel {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn check_shows_every_problem_with_its_place() {
    let (_directory, file) = with_file(BROKEN);
    let (code, out, _) = run(&["check", &file]);
    assert_eq!(code, Some(1));
    for part in ["evenkeel.yaml:2:38", "`ap`", "evenkeel.yaml:6:5", "helth", "did you mean", "health", "^"] {
        assert!(out.contains(part), "{part:?} is not in {out}");
    }
}

#[test]
fn check_is_content_with_a_good_file() {
    let (_directory, file) =
        with_file(&BROKEN.replace("pool: ap }", "pool: app }").replace("helth", "health"));
    assert_eq!(run(&["check", &file]).0, Some(0));
    let (code, out, _) = run(&["check", &file, "--json"]);
    assert_eq!(code, Some(0));
    serde_json::from_str::<Value>(&out).expect("the report is JSON");
}

#[test]
fn check_as_json_says_the_same() {
    let (_directory, file) = with_file(BROKEN);
    let (code, out, _) = run(&["check", "--json", &file]);
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&out).expect("the report is JSON");
    let text = report.to_string();
    assert!(text.contains("helth") && text.contains("\"line\":6"), "{text}");
}

#[test]
fn config_prints_a_file_that_means_the_same() {
    let minimal = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/minimal.yaml");
    let (code, out, err) = run(&["config", &minimal.display().to_string()]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("\n  max_connections: 20000\n"), "defaults are written: {out}");
    let (_directory, file) = with_file(&out);
    assert_eq!(run(&["config", &file]), (Some(0), out, String::new()));
    let (code, out, err) = run(&["plan", &file, "--against", &minimal.display().to_string()]);
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn config_of_a_broken_file_keeps_standard_output_clean() {
    let (_directory, file) = with_file(BROKEN);
    let (_, report, _) = run(&["check", &file]);
    assert_eq!(run(&["config", &file]), (Some(1), String::new(), report));
    let (code, out, err) = run(&["config", "/no/such/file.yaml"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("evenkeel config /etc/evenkeel/evenkeel.yaml"), "{err}");
}

#[test]
fn check_of_what_cannot_be_read_is_1() {
    let (code, _, err) = run(&["check", "/no/such/file.yaml"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("/no/such/file.yaml: cannot be read"), "{err}");
    let directory = Directory::new();
    let file = directory.0.join("binary.yaml");
    std::fs::write(&file, b"listeners:\n  \xff\xfe").expect("the file can be written");
    let (code, _, err) = run(&["check", &file.display().to_string()]);
    assert_eq!(code, Some(1));
    assert!(err.contains("UTF-8"), "{err}");
}

#[test]
fn a_token_is_read_within_bounds() {
    let (code, _, err) = run(&["status", "--address", "127.0.0.1:9", "--token-file", "/dev/zero"]);
    assert_ne!(code, Some(0));
    assert!(err.contains("--token-file /dev/zero: ") && err.contains("MiB"), "{err}");
}

#[test]
fn check_looks_at_the_files_that_sources_name() {
    let (directory, file) = with_file("");
    let path = |name: &str| directory.0.join(name).display().to_string();
    std::fs::write(path("list.yaml"), "- 10.0.0.1:80\n- app\n").expect("writable");
    std::fs::write(path("ca.pem"), "no PEM").expect("writable");
    let http = format!("url: https://a.internal/, ca: {}, token_file: {}", path("ca.pem"), path("token"));
    let text = format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, pool: a }} }}\n\
         pools:\n  a: {{ discover: {{ file: {} }} }}\n  b: {{ discover: {{ http: {{ {http} }} }} }}\n",
        path("list.yaml")
    );
    std::fs::write(&file, text).expect("writable");
    let (code, out, _) = run(&["check", &file]);
    assert_eq!(code, Some(0), "none of it keeps anybody from starting: {out}");
    for said in
        ["list.yaml is no list of servers: line 2: `app` has no port", "ca.pem ", "token cannot be read"]
    {
        assert!(out.contains(said), "{said}: {out}");
    }
    assert!(out.contains(":3:26: pools.a.discover.file: "), "{out}");
}

#[test]
fn run_without_a_usable_file_is_1_and_says_why() {
    let (code, _, err) = run(&["run", "-c", "/no/such/file.yaml"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("/no/such/file.yaml: cannot be read"), "{err}");
    let (_directory, file) = with_file(BROKEN);
    let (code, _, err) = run(&["run", "-c", &file]);
    assert_eq!(code, Some(1));
    assert!(err.contains("evenkeel.yaml:2:38") && err.contains("evenkeel.yaml:6:5"), "{err}");
}

#[test]
fn run_with_an_address_in_use_is_1_and_says_which() {
    let app = App::saying("hello");
    // Bound and not listened on is in use as well.
    let taken = Refusing::new();
    let listener = taken.address.to_string();
    let text =
        plain(&[app.address], "", "").replace("address: 127.0.0.1:0,", &format!("address: {listener},"));
    let (_directory, file) = with_file(&format!("admin: {{ address: null, socket: null }}\n{text}"));
    let (code, _, err) = run(&["run", "-c", &file]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&format!("listeners.web: cannot listen on {listener}")), "{err}");
    let (_directory, file) = with_file(&format!(
        "admin: {{ address: {listener}, socket: null }}\n{}",
        plain(&[app.address], "", "")
    ));
    let (code, _, err) = run(&["run", "-c", &file]);
    assert_eq!(code, Some(1));
    assert!(err.contains("admin.address: cannot listen on"), "{err}");
}

#[test]
fn a_second_process_cannot_take_the_firsts_address() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let address = balancer.address("web").to_string();
    let text =
        plain(&[app.address], "", "").replace("address: 127.0.0.1:0,", &format!("address: {address},"));
    let (_directory, file) = with_file(&format!("admin: {{ address: null, socket: null }}\n{text}"));
    let (code, _, err) = run(&["run", "-c", &file]);
    assert_eq!(code, Some(1));
    assert!(err.contains("in use"), "{err}");
    for _ in 0..8 {
        assert_eq!(balancer.get("/").status, 200);
    }
}

#[test]
fn every_file_in_conf_passes_the_check() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let files: Vec<_> = std::fs::read_dir(&conf)
        .expect("there is conf/")
        .map(|entry| entry.expect("conf/ can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let (code, out, err) = run(&["check", &file.display().to_string()]);
        assert_eq!(code, Some(0), "{}: {out}{err}", file.display());
    }
}

#[test]
fn the_demo_answers_and_ends_with_ctrl_c() {
    let mut child = evenkeel().args(["demo", "--port", "0"]).spawn().expect("the binary starts");
    let output = Lines::read_from(child.stdout.take().expect("stdout is piped"));
    let line = output.wait_for("evenkeel balances http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    let address = address.parse().expect("an address");
    let mut who = Vec::new();
    wait_for("an answer of each kind", || {
        let answer = client::get(address, "/").text();
        if let Some(name) = answer.strip_prefix("hello from ") {
            who.push(name.split(' ').next().unwrap_or_default().to_owned());
        }
        ["quick", "slow"].iter().all(|name| who.iter().any(|w| w == name)).then_some(())
    });
    let metrics = output.wait_for("/metrics");
    let admin = metrics.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    assert_eq!(client::get(admin.parse().expect("an address"), "/metrics").status, 200);
    assert!(output.all().iter().all(|line| line.chars().count() <= 80), "{:#?}", output.all());
    // Another one would have a socket of its own, and nobody to end it.
    let line = output.wait_for("export EVENKEEL_SOCKET=");
    let (_, socket) = line.split_once('=').expect("the socket's path");
    // What it says to type works as it stands.
    let typed = output.all().into_iter().find(|line| line.trim_end().contains("evenkeel status"));
    let typed = typed.expect("it says how to see the status");
    let command = typed.split("  ").find(|part| part.contains("evenkeel")).expect("a command");
    let shown = Command::new("sh").args(["-c", command]).env("EVENKEEL_SOCKET", socket).output();
    assert!(shown.as_ref().is_ok_and(|shown| shown.status.success()), "{command}: {shown:?}");
    let (code, _, err) = run(&["upgrade", "--socket", socket]);
    assert!(code == Some(1) && err.contains("a demo has no file to go on from"), "{err}");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
    kill_process(pid, Signal::INT).expect("the child lives");
    let status = wait_for("the demo ends", || child.try_wait().expect("the child can be waited for"));
    assert_eq!(status.code(), Some(0));
    output.wait_for("bye");
}
