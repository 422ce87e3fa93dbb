//! The newcomer's first minute: three small app servers of our own, a balancer in front of them, and a
//! line whenever one goes down or comes back.

use crate::control::{HealthChange, Source};
use crate::pool::HealthState;
use crate::server::{self, NotStarted, Start};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::ffi::OsStr;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// How the flaky server spends its time.
const WELL: Duration = Duration::from_secs(20);
const UNWELL: Duration = Duration::from_secs(8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DemoBehaviour {
    Quick,
    Slow,
    Flaky,
}

/// One of the demo's app servers.
#[derive(Debug)]
struct App {
    name: &'static str,
    temper: DemoBehaviour,
    since: Instant,
    served: AtomicU64,
}

impl App {
    fn is_well(&self) -> bool {
        let turn = self.since.elapsed().as_millis() % (WELL + UNWELL).as_millis();
        self.temper != DemoBehaviour::Flaky || turn < WELL.as_millis()
    }
}

async fn hello(State(app): State<Arc<App>>) -> (StatusCode, String) {
    if !app.is_well() {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("{} is out of order\n", app.name));
    }
    if app.temper == DemoBehaviour::Slow {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let served = app.served.fetch_add(1, Relaxed) + 1;
    (StatusCode::OK, format!("hello from {} (its request number {served})\n", app.name))
}

async fn health(State(app): State<Arc<App>>) -> StatusCode {
    if app.is_well() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Starts the app servers on a thread of their own and returns where they are.
fn start_apps() -> std::io::Result<Vec<(&'static str, SocketAddr)>> {
    let (tell, told) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("demo-apps".into()).spawn(move || {
        runtime.block_on(async {
            for (name, temper) in [
                ("quick", DemoBehaviour::Quick),
                ("slow", DemoBehaviour::Slow),
                ("flaky", DemoBehaviour::Flaky),
            ] {
                let started = async {
                    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                    let address = listener.local_addr()?;
                    let app =
                        Arc::new(App { name, temper, since: Instant::now(), served: AtomicU64::new(0) });
                    let router =
                        Router::new().route("/healthz", get(health)).fallback(get(hello)).with_state(app);
                    tokio::spawn(async move { axum::serve(listener, router).await });
                    Ok((name, address))
                };
                // The receiver waits for all three.
                let _ = tell.send(started.await);
            }
            drop(tell);
            std::future::pending::<()>().await;
        });
    })?;
    told.iter().collect()
}

/// Runs the demo until Ctrl-C.
pub(super) fn run(port: u16) -> Result<(), NotStarted> {
    let apps = start_apps()?;
    // A port that is taken should not end the newcomer's first minute.
    let port = match std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => listener.local_addr()?.port(),
        Err(_) => std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port(),
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let text = configuration(address, &apps);
    let on_ready = {
        let text = text.clone();
        move |admin| say(&welcome(address, admin, &program(), &text))
    };
    let start = Start {
        source: Source::Text(text),
        on_turn: Some(Box::new(|turned| say(&line(turned)))),
        on_ready: Some(Box::new(on_ready)),
        log: false,
    };
    server::run(start)?;
    say("\nbye\n");
    Ok(())
}

fn configuration(address: SocketAddr, apps: &[(&str, SocketAddr)]) -> String {
    let servers: String = apps
        .iter()
        .map(|(name, address)| format!("      - {{ name: {name}, address: {address} }}\n"))
        .collect();
    format!(
        "admin:
  address: 127.0.0.1:0
  socket: {}
  state_file: null
access_log: off
listeners:
  web: {{ address: {address}, pool: app }}
pools:
  app:
    balance: least_connections
    servers:
{servers}    health: {{ http: /healthz, interval: 1s, timeout: 500ms, fall: 2 }}
",
        socket().display()
    )
}

/// Of this process alone: the usual place may be taken, or not be ours.
fn socket() -> PathBuf {
    std::env::temp_dir().join(format!("evenkeel-demo-{}.sock", std::process::id()))
}

/// What a shell takes for this program: its name if that is found on the PATH, else where it is.
fn program() -> String {
    let (Ok(exe), Ok(here)) = (std::env::current_exe(), std::env::current_dir()) else {
        return "evenkeel".to_owned();
    };
    typed(&exe, &here, std::env::var_os("PATH").as_deref())
}

fn typed(exe: &Path, here: &Path, path: Option<&OsStr>) -> String {
    let found = path.into_iter().flat_map(std::env::split_paths).map(|folder| folder.join("evenkeel"));
    // The first on the PATH is the one that runs.
    let first = found.filter(|file| file.is_file()).find_map(|file| file.canonicalize().ok());
    if first.is_some() && first == exe.canonicalize().ok() {
        return "evenkeel".to_owned();
    }
    let typed = match exe.strip_prefix(here) {
        Ok(below) => Path::new(".").join(below),
        Err(_) => exe.to_owned(),
    };
    let typed = typed.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if typed.bytes().all(is_plain) { typed } else { format!("'{}'", typed.replace('\'', "'\\''")) }
}

fn welcome(address: SocketAddr, admin: Option<SocketAddr>, program: &str, configuration: &str) -> String {
    let metrics = admin
        .map(|admin| {
            format!(
                "  http://{admin}/         the status page\n  http://{admin}/metrics  what Prometheus reads\n"
            )
        })
        .unwrap_or_default();
    let commands: Vec<_> = [
        ("status", "pools and servers"),
        ("top", "the same, live; ? shows the keys"),
        ("drain app/slow", "it gets nothing new"),
        ("ready app/slow", "and takes part again"),
        ("events", "what became of them, and why"),
    ]
    .map(|(command, meaning)| (format!("{program} {command}"), meaning))
    .into();
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or_default().max(33);
    let fits = commands.iter().all(|(_, meaning)| width + meaning.len() + 4 <= 80);
    let told = |(command, meaning): &(String, &str)| match fits {
        true => format!("  {command:<width$}  {meaning}\n"),
        false => format!("  {command}\n      {meaning}\n"),
    };
    let commands: String = commands.iter().map(told).collect();
    let indented: String = configuration.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "
evenkeel balances http://{address}/ over three app servers of its own:
one quick, one slow (300 ms), one that is out of order now and then.

Try:
  curl http://{address}/        who answers?
  for i in $(seq 20); do curl -s http://{address}/ & done; wait
                                     the slow one gets fewer
  export EVENKEEL_SOCKET={}
{commands}{metrics}
The configuration is this file:

{indented}
Servers that go down and come back are shown here. Ctrl-C ends it.

",
        socket().display()
    )
}

fn line(turned: &HealthChange) -> String {
    let name = turned.server.name();
    match (turned.transition.to, &turned.failure) {
        (HealthState::Up, _) => format!("  {name} is up: it gets requests\n"),
        (_, Some(failure)) => format!("  {name} is down ({failure}): no new requests go there\n"),
        (_, None) => format!("  {name} is down\n"),
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    // A reader that has gone misses nothing it wants.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_to_type_works_where_it_is_told() {
        let exe = std::env::current_exe().expect("a test is a program");
        let folder = exe.parent().expect("it is somewhere");
        let typed = |exe: &Path, here: &str| typed(exe, Path::new(here), None);
        assert_eq!(typed(Path::new("/src/target/debug/evenkeel"), "/src"), "./target/debug/evenkeel");
        assert_eq!(typed(Path::new("/src/target/debug/evenkeel"), "/home"), "/src/target/debug/evenkeel");
        assert_eq!(typed(Path::new("/my own/evenkeel"), "/"), "'./my own/evenkeel'");
        // A test is not called evenkeel, so its own folder on the PATH does not make it one.
        let path = folder.as_os_str();
        assert_eq!(super::typed(&exe, folder, Some(path)).split('/').next(), Some("."));
    }
}
