//! Files that never answer or never end: what names them is refused, and everything else goes on.

use crate::support::app::App;
use crate::support::balancer::{Balancer, Directory, Next, Reloaded, evenkeel, plain};
use crate::support::client::Client;
use crate::support::hanging::{Act, HangingFiles};
use crate::support::{wait_for, wait_until};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

fn fifo(path: &Path) {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).expect("a FIFO can be made");
}

#[test]
fn a_fifo_is_refused_wherever_a_file_is_named() {
    let app = App::saying("hello");
    let good = plain(&[app.address], "", "");
    let mut balancer = Balancer::start(&good);
    fifo(&balancer.path("fifo"));
    let tls = |tls: &str| plain(&[app.address], &format!("tls: {{ {tls} }}"), "");
    let admin =
        "admin: { address: 127.0.0.1:0, socket: DIR/admin.sock, state_file: null, token_file: DIR/fifo }\n";
    for text in [
        tls("certificates: [{ cert: DIR/fifo, key: DIR/fifo }]"),
        tls("certificates: [{ cert: DIR/fifo, key: DIR/fifo }], client_ca: DIR/fifo"),
        plain(&[app.address], "", "tls: { server_name: a, ca: DIR/fifo }"),
        format!("access_log: {{ path: DIR/fifo }}\n{good}"),
        format!("events: {{ path: DIR/fifo }}\n{good}"),
        format!("access_log: {{ path: DIR }}\n{good}"),
        format!("{admin}{good}"),
    ] {
        assert_eq!(balancer.reload(&text), Reloaded::Refused, "{text}");
        let receipt = balancer.command_json(&["status"])["last_reload"].clone();
        let problems = receipt["problems"].to_string();
        assert!(problems.contains("FIFO") || problems.contains("directory"), "{text}: {problems}");
    }
    std::fs::remove_file(balancer.path("evenkeel.yaml")).expect("it can be removed");
    fifo(&balancer.path("evenkeel.yaml"));
    let (code, _, err) = balancer.command(&["reload"]);
    assert!(code == Some(1) && err.contains("it is a FIFO, and must be a file"), "{err}");
    let (code, _, err) = balancer.command(&["plan"]);
    assert!(code == Some(1) && err.contains("it is a FIFO, and must be a file"), "{err}");
    let zero = std::path::absolute("/dev/zero").expect("a path");
    std::fs::remove_file(balancer.path("evenkeel.yaml")).expect("it can be removed");
    std::os::unix::fs::symlink(zero, balancer.path("evenkeel.yaml")).expect("a link can be made");
    let (code, _, err) = balancer.command(&["reload"]);
    assert!(code == Some(1) && err.contains("it is a device, and must be a file"), "{err}");
    assert_eq!(balancer.admin("/livez").status, 200);
    assert_eq!(balancer.get("/").status, 200);
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
}

#[test]
fn a_fifo_that_somebody_reads_may_be_the_access_log() {
    let app = App::saying("hello");
    let directory = Directory::new();
    let path = directory.0.join("fifo");
    fifo(&path);
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let mut reader = options.open(&path).expect("a FIFO can be opened");
    let text = format!("access_log: {{ path: {} }}\n{}", path.display(), plain(&[app.address], "", ""));
    let balancer = Balancer::start(&text);
    assert_eq!(balancer.get("/logged").status, 200);
    wait_until("the record", || {
        let mut bytes = [0; 4096];
        std::io::Read::read(&mut reader, &mut bytes)
            .is_ok_and(|n| String::from_utf8_lossy(&bytes[..n]).contains("/logged"))
    });
}

#[test]
fn a_start_with_what_never_answers_or_ends_says_so_and_ends() {
    let app = App::saying("hello");
    let directory = Directory::new();
    let (file, path) = (directory.0.join("evenkeel.yaml"), directory.0.join("fifo"));
    fifo(&path);
    let admin = "admin: { address: null, socket: null, state_file: null }\n";
    for key in ["access_log", "events"] {
        let text = format!("{admin}{key}: {{ path: {} }}\n{}", path.display(), plain(&[app.address], "", ""));
        std::fs::write(&file, text).expect("writable");
        let out = evenkeel().arg("run").arg("-c").arg(&file).output().expect("it runs");
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(1) && err.contains("FIFO"), "{key}: {err}");
    }
    for (command, file, says) in [
        (&["run", "-c"][..], Path::new("/dev/zero"), "it is a device, and must be a file"),
        (&["run", "-c"], &*path, "it is a FIFO, and must be a file"),
        (&["check"], Path::new("/dev/zero"), "it is longer than 64 MiB"),
    ] {
        let out = evenkeel().args(command).arg(file).output().expect("it runs");
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(1) && err.contains(says), "{command:?}: {err}");
    }
}

#[test]
fn commands_read_a_pipe_once() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    let text = plain(&[app.address], "", "drain_timeout: 59s");
    for (command, code) in [(&["check"][..], 0), (&["plan"], 3), (&["config"], 0)] {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
        let mut arguments = command.to_vec();
        arguments.push("/dev/stdin");
        let mut running = match command {
            ["plan"] => balancer.command_to_be_run(&arguments),
            _ => evenkeel(),
        };
        if *command != ["plan"] {
            running.args(&arguments);
        }
        running.stdin(Stdio::from(reader)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = running.spawn().expect("it runs");
        let mut writer = std::fs::File::from(writer);
        std::io::Write::write_all(&mut writer, text.as_bytes()).expect("it is read");
        drop(writer);
        let out = running.wait_with_output().expect("it ends");
        assert_eq!(out.status.code(), Some(code), "{command:?}: {out:?}");
    }
}

#[test]
fn a_state_file_that_was_asked_for_and_is_none_is_not_replaced() {
    let app = App::saying("hello");
    let directory = Directory::new();
    let (file, state) = (directory.0.join("evenkeel.yaml"), directory.0.join("state.json"));
    let admin = format!("admin: {{ address: null, socket: null, state_file: {} }}\n", state.display());
    std::fs::write(&file, format!("{admin}{}", plain(&[app.address], "", ""))).expect("writable");
    let check = |says: &str| {
        let out = evenkeel().arg("run").arg("-c").arg(&file).output().expect("it runs");
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.code() == Some(1) && err.contains("admin.state_file") && err.contains(says),
            "{err}"
        );
    };
    fifo(&state);
    check("it is a FIFO, and must be a file");
    std::fs::remove_file(&state).expect("it can be removed");
    std::fs::write(&state, "garbage").expect("writable");
    check("state.json is of no use");
    assert_eq!(std::fs::read_to_string(&state).expect("readable"), "garbage");
    std::fs::remove_file(&state).expect("it can be removed");
    std::fs::create_dir(&state).expect("it can be made");
    check("directory");
}

#[test]
fn a_storage_that_is_no_directory_is_an_error() {
    let directory = Directory::new();
    let (file, storage) = (directory.0.join("evenkeel.yaml"), directory.0.join("storage"));
    fifo(&storage);
    let text = format!(
        "acme: {{ storage: {}, contact: [\"mailto:a@shop.example\"], accept_terms: true }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, pool: app, tls: {{ acme: {{ names: [shop.example] }} }} }} }}\n\
         pools: {{ app: {{ servers: [127.0.0.1:9] }} }}\n",
        storage.display()
    );
    std::fs::write(&file, text).expect("writable");
    for command in [&["check"][..], &["run", "-c"]] {
        let out = evenkeel().args(command).arg(&file).output().expect("it runs");
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(out.status.code() == Some(1) && said.contains("is not a directory"), "{command:?}: {said}");
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let app = App::saying("hello");
    let directory = Directory::new();
    let (file, socket) = (directory.0.join("evenkeel.yaml"), directory.0.join("admin.sock"));
    let admin = format!("admin: {{ address: null, socket: {}, state_file: null }}\n", socket.display());
    let text = format!("{admin}{}", plain(&[app.address], "", ""));
    std::fs::write(&file, &text).expect("writable");
    // Nobody reads it, and it ends with the test.
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.args(["run", "-c"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
    let mut child = command.env_remove("NOTIFY_SOCKET").spawn().expect("the binary starts");
    drop(command);
    let ask = |arguments: &[&str]| {
        evenkeel().args(arguments).arg("--socket").arg(&socket).output().expect("the binary runs")
    };
    wait_until("it answers", || ask(&["status"]).status.success());
    // Each has a line for each problem.
    let wrong: String = (0..500).map(|n| format!("unknown{n}: 1\n")).collect();
    std::fs::write(&file, format!("{text}{wrong}")).expect("writable");
    for _ in 0..15 {
        assert_eq!(ask(&["reload"]).status.code(), Some(1));
    }
    let metrics = || {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("it answers");
        page
    };
    let lost = wait_for("lost lines are counted", || {
        let page = metrics();
        let line = page.lines().find(|line| line.starts_with("evenkeel_log_dropped_total "))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    });
    assert!(lost > 0.0);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
    kill_process(pid, Signal::TERM).expect("it runs");
    let status = wait_for("it ends", || child.try_wait().expect("it can be waited for"));
    assert_eq!(status.code(), Some(0));
    drop(reader);
}

/// A configuration with a listener at a unix socket, or without it.
fn with_socket(app: &App, has_it: bool) -> String {
    let local = if has_it { "  local: { address: \"unix:DIR/local.sock\", pool: app }\n" } else { "" };
    let text = plain(&[app.address], "", "health: { interval: 100ms, http: { path: /probe } }");
    text.replacen("pools:", &format!("{local}pools:"), 1)
}

/// Control answers, and probes go on.
#[track_caller]
fn goes_on(balancer: &Balancer) {
    let (code, _, err) = balancer.command(&["status"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(balancer.admin("/livez").status, 200);
    assert_eq!(balancer.get("/").status, 200);
    let probes = || balancer.metric("evenkeel_probes_total", &[("pool", "app"), ("result", "pass")]);
    let before = probes();
    wait_until("probes go on", || probes() > before);
}

#[test]
fn a_unix_socket_that_is_not_made_holds_up_its_reload_alone() {
    let app = App::saying("hello");
    let text = with_socket(&app, false);
    let (balancer, files) = HangingFiles::start(None, || Balancer::start(&text));
    files.hang(Act::Make);
    balancer.write(&with_socket(&app, true));
    let reload = balancer.command_to_be_run(&["reload"]).spawn().expect("the binary runs");
    files.wait_until_somebody_waits();
    goes_on(&balancer);
    files.answer();
    let out = reload.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    assert!(std::os::unix::net::UnixStream::connect(balancer.path("local.sock")).is_ok());
}

#[test]
fn a_unix_socket_that_is_not_made_holds_up_no_stop() {
    let app = App::saying("hello");
    let text = with_socket(&app, false);
    let (mut balancer, files) = HangingFiles::start(None, || Balancer::start(&text));
    files.hang(Act::Make);
    balancer.write(&with_socket(&app, true));
    balancer.signal(Signal::HUP);
    files.wait_until_somebody_waits();
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
}

#[test]
fn a_unix_socket_that_is_not_removed_holds_up_nobody() {
    let app = App::saying("hello");
    let text = with_socket(&app, true);
    let (mut balancer, files) = HangingFiles::start(None, || Balancer::start(&text));
    files.hang(Act::Remove);
    assert_eq!(balancer.reload(&with_socket(&app, false)), Reloaded::Taken);
    files.wait_until_somebody_waits();
    goes_on(&balancer);
    // Whoever wants the path waits for it, and has it then.
    balancer.write(&with_socket(&app, true));
    let reload = balancer.command_to_be_run(&["reload"]).spawn().expect("the binary runs");
    goes_on(&balancer);
    files.answer();
    let out = reload.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    assert!(std::os::unix::net::UnixStream::connect(balancer.path("local.sock")).is_ok());
    // At the end it is waited for a moment.
    files.hang(Act::Remove);
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait_for_exit().code(), Some(0));
}

#[test]
fn a_program_that_is_not_read_holds_up_its_upgrade_alone() {
    let app = App::saying("hello");
    let text = with_socket(&app, false);
    let (balancer, files) = HangingFiles::start(None, || Balancer::start(&text));
    files.hang(Act::Start);
    let upgrade = balancer.command_to_be_run(&["upgrade"]).spawn().expect("the binary runs");
    files.wait_until_somebody_waits();
    goes_on(&balancer);
    files.answer();
    let out = upgrade.wait_with_output().expect("it ends");
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    Next::of(&balancer).end();
}

#[test]
fn a_start_whose_unix_sockets_are_not_made_ends_when_it_is_told_to() {
    let app = App::saying("hello");
    let directory = Directory::new();
    let file = directory.0.join("evenkeel.yaml");
    let admin = |socket: &str| format!("admin: {{ address: null, socket: {socket}, state_file: null }}\n");
    let listener = with_socket(&app, true).replace("DIR", &directory.0.display().to_string());
    for text in [
        format!("{}{listener}", admin("null")),
        format!(
            "{}{}",
            admin(&format!("{}/admin.sock", directory.0.display())),
            plain(&[app.address], "", "")
        ),
    ] {
        std::fs::write(&file, text).expect("writable");
        let start = || evenkeel().arg("run").arg("-c").arg(&file).spawn().expect("it runs");
        let (mut child, files) = HangingFiles::start(Some(Act::Make), start);
        files.wait_until_somebody_waits();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        kill_process(pid, Signal::TERM).expect("it runs");
        let status = wait_for("it ends", || child.try_wait().expect("it can be waited for"));
        assert_eq!(status.code(), Some(0));
    }
}

/// A listener and a pool whose server is at a path, beside `app`.
fn with_server_at_a_path(app: &App, more: &str) -> String {
    let listener = "  hung: { address: 127.0.0.1:0, pool: hung }\npools:\n";
    let pool = format!(
        "  hung: {{ servers: [\"unix:DIR/server.sock\"], timeouts: {{ connect: 300ms }}, retries: {{ max: 0 }}{more} }}\n"
    );
    plain(&[app.address], "", "health: { http: /, interval: 20ms }").replace("pools:\n", listener) + &pool
}

/// Answers what is asked at a path, on a connection for each.
fn serve_at(path: &Path) {
    let listener = std::os::unix::net::UnixListener::bind(path).expect("a path");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                if let Ok(1..) = std::io::Read::read(&mut stream, &mut bytes) {
                    let said = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
                    let _ = std::io::Write::write_all(&mut stream, said);
                }
            });
        }
    });
}

#[test]
fn a_server_at_a_path_that_hangs_holds_up_nobody_else() {
    let app = App::saying("hello");
    for more in ["", ", health: { http: /, interval: 20ms, timeout: 10ms, initial: up, fall: 100, rise: 1 }"]
    {
        let text = with_server_at_a_path(&app, more);
        let (mut balancer, files) = HangingFiles::start(None, || Balancer::start(&text));
        files.hang(Act::Connect);
        serve_at(&balancer.path("server.sock"));
        let ask = || {
            let mut client = Client::connect(balancer.address("hung"));
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            client
        };
        let clients: Vec<_> = (0..8).map(|_| ask()).collect();
        files.wait_until_somebody_waits();
        goes_on(&balancer);
        for mut client in clients {
            let (said, _) = client.read_to_end();
            assert!(said.starts_with("HTTP/1.1 504 "), "{said}");
        }
        goes_on(&balancer);
        files.answer();
        wait_until("it is connected to", || ask().read_to_end().0.starts_with("HTTP/1.1 200 "));
        files.hang(Act::Connect);
        let _held = ask();
        files.wait_until_somebody_waits();
        balancer.signal(Signal::TERM);
        assert_eq!(balancer.wait_for_exit().code(), Some(0));
    }
}
