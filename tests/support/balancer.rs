//! The binary itself: started with a configuration, watched through its log, metrics and access log, and
//! ended with the test.

use super::client::{self, Client};
use super::{DEADLINE, wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// The lines a stream has brought so far.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(crate) fn read_from(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let into = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                into.0.lock().expect("no test thread panics with it").push(line);
            }
        });
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().expect("no test thread panics with it").clone()
    }

    /// Forgets them.
    pub(crate) fn clear(&self) {
        self.0.lock().expect("no test thread panics with it").clear();
    }

    pub(crate) fn has(&self, part: &str) -> bool {
        self.all().iter().any(|line| line.contains(part))
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, part: &str) -> String {
        wait_for(&format!("a line with {part:?}"), || self.all().into_iter().find(|line| line.contains(part)))
    }
}

/// A directory of its own, removed with the value.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("evenkeel-e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running evenkeel.
pub(crate) struct Balancer {
    child: Child,
    directory: Directory,
    /// The process's own log.
    pub(crate) log: Lines,
    /// What it writes to standard output: the access log, unless configured otherwise.
    pub(crate) output: Lines,
    admin: SocketAddr,
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reloaded {
    Taken,
    Refused,
}

/// The command that is tested.
pub(crate) fn evenkeel() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("NOTIFY_SOCKET");
    command
}

impl Balancer {
    /// Starts with this configuration, and an admin address if it has none, and waits until it is ready.
    /// `DIR` in the text is a directory of the test's own.
    #[track_caller]
    pub(crate) fn start(text: &str) -> Self {
        Self::start_as(&mut evenkeel(), text)
    }

    /// With a service manager that listens at `socket`.
    #[track_caller]
    pub(crate) fn start_notifying(text: &str, socket: &Path) -> Self {
        Self::start_as(evenkeel().env("NOTIFY_SOCKET", socket), text)
    }

    #[track_caller]
    pub(crate) fn start_as(command: &mut Command, text: &str) -> Self {
        let directory = Directory::new();
        let file = directory.0.join("evenkeel.yaml");
        std::fs::write(&file, whole(text, &directory.0)).expect("the configuration can be written");
        let mut child = command.arg("run").arg("-c").arg(&file).spawn().expect("the binary starts");
        let log = Lines::read_from(child.stderr.take().expect("stderr is piped"));
        let output = Lines::read_from(child.stdout.take().expect("stdout is piped"));
        let mut balancer = Self { child, directory, log, output, admin: ([127, 0, 0, 1], 0).into() };
        wait_until("evenkeel is ready", || {
            if let Ok(Some(status)) = balancer.child.try_wait() {
                panic!("evenkeel ended with {status}");
            }
            balancer.log.has("ready version=")
        });
        let line = balancer.log.wait_for("admin endpoint address=");
        balancer.admin = value(&line, "address").parse().expect("the log says where the admin endpoint is");
        balancer
    }

    /// Where a listener listens; the last address if there are several.
    #[track_caller]
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let addresses = self.addresses(listener);
        addresses.last().and_then(|text| text.parse().ok()).expect("the listener is listening")
    }

    pub(crate) fn addresses(&self, listener: &str) -> Vec<String> {
        let mark = format!("listening listener={listener} ");
        let lines = self.log.all();
        // "no longer listening" is another line.
        let lines = lines.iter().filter(|line| line.contains(&mark) && !line.contains("no longer"));
        lines.map(|line| value(line, "address").to_owned()).collect()
    }

    /// A connection to the listener `web`.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address("web"))
    }

    /// Asks the listener `web` once, on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> client::Response {
        client::get(self.address("web"), path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.0.join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        let _ = kill_process(pid, signal);
    }

    pub(crate) fn write(&self, text: &str) {
        let file = self.path("evenkeel.yaml");
        std::fs::write(file, whole(text, &self.directory.0)).expect("the configuration can be written");
    }

    /// Writes the configuration, asks for a reload, and waits for its outcome.
    #[track_caller]
    pub(crate) fn reload(&self, text: &str) -> Reloaded {
        let count = || {
            let count = |result| self.metric("evenkeel_config_reloads_total", &[("result", result)]);
            (count("success"), count("refused"))
        };
        let before = count();
        self.write(text);
        self.signal(Signal::HUP);
        wait_for("the reload's outcome", || match count() {
            (taken, _) if taken > before.0 => Some(Reloaded::Taken),
            (_, refused) if refused > before.1 => Some(Reloaded::Refused),
            _ => None,
        })
    }

    /// Runs a command against this process: its exit code, what it says and what it complains of.
    #[track_caller]
    pub(crate) fn command(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command_to_be_run(arguments).output().expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// The same for who wants to see what it says meanwhile.
    pub(crate) fn command_to_be_run(&self, arguments: &[&str]) -> Command {
        let mut command = evenkeel();
        command.args(arguments).arg("--socket").arg(self.path("admin.sock"));
        command.env("USER", "alice").env_remove("SUDO_USER");
        command
    }

    /// The same with `--json`, which must succeed.
    #[track_caller]
    pub(crate) fn command_json(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = self.command(&[arguments, &["--json"]].concat());
        assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
        serde_json::from_str(&out).expect("--json prints JSON")
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Answers of the admin endpoint.
    #[track_caller]
    pub(crate) fn admin(&self, path: &str) -> client::Response {
        client::get(self.admin, path)
    }

    /// The sum of all series of this name that have these labels; 0 if there is none.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name, labels).iter().sum()
    }

    #[track_caller]
    pub(crate) fn series(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let page = self.admin("/metrics");
        assert_eq!(page.status, 200);
        let page = page.text();
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        page.lines()
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let (its_name, its_labels) = series.split_once('{').unwrap_or((series, ""));
                let fits = its_name == name && labels.iter().all(|label| its_labels.contains(label));
                fits.then(|| value.parse().expect("a metric has a value"))
            })
            .collect()
    }

    #[track_caller]
    pub(crate) fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], expected: f64) {
        let mut last = f64::NAN;
        let what = format!("{name}{labels:?} to be {expected}");
        let since = std::time::Instant::now();
        while last != expected {
            assert!(since.elapsed() < DEADLINE, "waited in vain for {what}; it is {last}");
            last = self.metric(name, labels);
        }
    }

    /// Leases of the pool's servers.
    #[track_caller]
    pub(crate) fn wait_for_in_flight(&self, expected: f64) {
        self.wait_for_metric("evenkeel_server_in_flight", &[], expected);
    }

    pub(crate) fn generation(&self) -> f64 {
        self.metric("evenkeel_config_generation", &[])
    }

    /// The access log so far.
    pub(crate) fn records(&self) -> Vec<Value> {
        let lines = self.output.all();
        lines.iter().map(|line| serde_json::from_str(line).expect("the access log is JSON")).collect()
    }

    /// The record of the exchange with this path.
    #[track_caller]
    pub(crate) fn record(&self, path: &str) -> Value {
        self.record_where(&format!("of {path}"), |record| record["path"] == path)
    }

    #[track_caller]
    pub(crate) fn record_where(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("a record {what}"), || self.records().into_iter().find(&fits))
    }

    /// The protocol that the exchange with this path came by.
    #[track_caller]
    pub(crate) fn protocol(&self, path: &str) -> String {
        self.record(path)["protocol"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and `why` of the exchange with this path.
    #[track_caller]
    pub(crate) fn outcome(&self, path: &str) -> (u64, String) {
        outcome(&self.record(path))
    }

    /// Waits until so many have failed for this reason: who has had an answer may ask before it is counted.
    #[track_caller]
    pub(crate) fn wait_for_failures(&self, why: &str, count: f64) {
        self.wait_for_metric("evenkeel_http_failures_total", &[("why", why)], count);
    }

    pub(crate) fn failures(&self, why: &str) -> f64 {
        self.metric("evenkeel_http_failures_total", &[("why", why)])
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("evenkeel ends", || child.try_wait().expect("the child can be waited for"))
    }
}

/// A process that another one has started; it ends with the test.
pub(crate) struct Next(pub(crate) Pid);

impl Next {
    #[track_caller]
    pub(crate) fn of(balancer: &Balancer) -> Self {
        let line = balancer.log.wait_for("upgraded: the new process is ready pid=");
        let pid = value(&line, "pid").parse().ok().and_then(Pid::from_raw);
        Self(pid.expect("the log says which process"))
    }

    #[track_caller]
    pub(crate) fn end(&self) {
        let _ = kill_process(self.0, Signal::TERM);
        wait_until("the new process has ended", || test_kill_process(self.0).is_err());
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::INT);
    }
}

pub(crate) fn outcome(record: &Value) -> (u64, String) {
    (record["status"].as_u64().unwrap_or_default(), record["why"].as_str().unwrap_or_default().to_owned())
}

/// The value of `key=value` in a line of the log.
pub(crate) fn value<'a>(line: &'a str, key: &str) -> &'a str {
    let mark = format!(" {key}=");
    line.split_once(&mark).map_or("", |(_, rest)| rest.split(' ').next().unwrap_or_default())
}

fn whole(text: &str, directory: &Path) -> String {
    let text = text.replace("DIR", &directory.display().to_string());
    // An admin address of the test's own stays.
    let at = directory.display();
    let admin = match text.contains("admin:") {
        true => String::new(),
        false => format!(
            "admin: {{ address: 127.0.0.1:0, socket: {at}/admin.sock, state_file: {at}/state.json }}\n"
        ),
    };
    format!("{admin}{text}")
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- evenkeel's log ---\n{}", self.log.all().join("\n"));
            eprintln!("--- its output ---\n{}", self.output.all().join("\n"));
        }
        // Kind first, so that what it leaves behind is what it leaves behind in life.
        self.signal(Signal::INT);
        let since = std::time::Instant::now();
        while since.elapsed() < std::time::Duration::from_secs(3) {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One listener `web` and one pool `app` of servers `s1`, `s2` and so on; `listener` and `pool` are further
/// keys of theirs.
pub(crate) fn plain(servers: &[SocketAddr], listener: &str, pool: &str) -> String {
    let servers: Vec<_> = servers
        .iter()
        .enumerate()
        .map(|(at, address)| format!("{{ name: s{}, address: {address} }}", at + 1))
        .collect();
    format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app, {listener} }}\n\
         pools:\n  app: {{ servers: [{}], {pool} }}\n",
        servers.join(", ")
    )
}
