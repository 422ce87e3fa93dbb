//! Starts the next process so that it becomes process 1's child: a process between the two starts it, says its number,
//! and ends once it is told to. A service manager waits for the end of its own children only: when it stops a service
//! whose main process is none, it does not wait for it but kills it at once (systemd 252, service.c).
//!
//! The process between is this same program. It outlives the start, so that the one that asked hears by which status
//! a next process ended that did not become ready; when it is left without a word, it ends the next process too.

use super::aside::{FILES_WITHIN, aside};
use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::{env, fs};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader as AsyncBufReader};
use tokio::process::{Child, Command as AsyncCommand};
use tokio::runtime::Handle;
use tokio::signal::unix::SignalKind;
use tracing::warn;

/// Has this program be the process between the two; its value is the program that it starts.
const VARIABLE: &str = "EVENKEEL_LAUNCH";
/// Tells it that the next process may go on without it.
const LEAVE: &[u8] = b"leave\n";
/// The first file that is passed, by systemd's protocol.
const FIRST: i32 = 3;

/// What the next process is started with.
pub(super) struct PassedFiles {
    /// Sockets with their names.
    pub(super) sockets: Vec<(String, OwnedFd)>,
    pub(super) stdin: Stdio,
    pub(super) environment: Vec<(&'static str, Option<&'static str>)>,
}

/// The process between.
pub(super) struct Launcher {
    child: Child,
    words: LauncherWords,
}

/// What the process between says, a line at a time.
#[derive(Debug)]
struct LauncherWords {
    stream: AsyncBufReader<tokio::net::UnixStream>,
    /// Of a line that has come in part when nobody waited for it any more.
    begun: Vec<u8>,
}

/// The process that was started. It is ended with this value, unless it was let go.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: Pid,
    /// Kernels before 5.3 have none.
    handle: Option<OwnedFd>,
    is_let_go: bool,
}

impl Launcher {
    /// Has the program at the path that this process was started by started with this process's own arguments.
    pub(super) async fn start(passed: PassedFiles) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let PassedFiles { mut sockets, stdin, environment } = passed;
        // Last, so that the others keep their numbers without it.
        sockets.push(("evenkeel-launcher".to_owned(), theirs.into()));
        let names: Vec<&str> = sockets.iter().map(|(name, _)| &**name).collect();
        // Whatever its file is called by now.
        let mut command = Command::new("/proc/self/exe");
        command
            .args(env::args_os().skip(1))
            .env(VARIABLE, program())
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            // They cannot be known before the process is; without them the files and the watchdog are for whoever is
            // started.
            .env_remove("LISTEN_PID")
            .env_remove("WATCHDOG_PID")
            .stdin(stdin);
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mappings = (FIRST..)
            .zip(sockets)
            .map(|(child_fd, (_, parent_fd))| FdMapping { parent_fd, child_fd })
            .collect();
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        // The program's file system may hang, too. What is started late finds nobody to speak to, and ends.
        let runtime = Handle::current();
        let start = move || {
            let _entered = runtime.enter();
            AsyncCommand::from(command).spawn()
        };
        let child = aside(FILES_WITHIN, start).await.map_err(io::Error::other)??;
        let words = LauncherWords::new(tokio::net::UnixStream::from_std(ours)?);
        Ok(Self { child, words })
    }

    /// Waits until the next process runs.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn started(&mut self) -> Result<Started, String> {
        let word = self.words.next().await;
        let pid = word.strip_prefix("started ").and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { return Err(word) };
        // As long as the process between waits for it, its number is nobody else's.
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok();
        Ok(Started { pid, handle, is_let_go: false })
    }

    /// Waits for the end of the next process, and says how it ended.
    pub(super) async fn ended(&mut self) -> String {
        self.words.next().await
    }

    /// Ends the process between, and comes back when the next process is process 1's child.
    pub(super) async fn leave(mut self) -> io::Result<()> {
        self.words.stream.write_all(LEAVE).await?;
        self.child.wait().await.map(drop)
    }
}

impl LauncherWords {
    fn new(stream: tokio::net::UnixStream) -> Self {
        Self { stream: AsyncBufReader::new(stream), begun: Vec::new() }
    }

    /// The next line. Whoever stops waiting loses nothing of it.
    async fn next(&mut self) -> String {
        let read = self.stream.read_until(b'\n', &mut self.begun).await;
        let line = std::mem::take(&mut self.begun);
        match read {
            Ok(_) if line.is_empty() => "the process that was to start it has ended".to_owned(),
            Ok(_) => String::from_utf8_lossy(&line).trim_end().to_owned(),
            Err(error) => format!("the process that was to start it cannot be heard: {error}"),
        }
    }
}

impl Started {
    /// It goes on whatever becomes of us.
    pub(super) fn let_go(mut self) {
        self.is_let_go = true;
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.is_let_go {
            return;
        }
        // Two processes must not go on accepting, each believing it is the only one.
        let killed = match &self.handle {
            Some(handle) => pidfd_send_signal(handle, Signal::KILL),
            None => kill_process(self.pid, Signal::KILL),
        };
        if let Err(error) = killed
            && error != rustix::io::Errno::SRCH
        {
            warn!(%error, pid = self.pid.as_raw_nonzero(), "the new process cannot be ended");
        }
    }
}

/// Remembers by which path this process was started. To be called first: the file may be renamed later.
pub(crate) fn remember_program() {
    program();
}

/// The path that this process was started by, where the next one is to be found. A package puts another file there, or
/// points a link to another one, and may have renamed the file that we were started from.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let running = fs::metadata("/proc/self/exe").ok();
        let is_running = |path: &PathBuf| {
            use std::os::unix::fs::MetadataExt;
            let identity = |file: &fs::Metadata| (file.dev(), file.ino());
            fs::metadata(path).ok().as_ref().map(identity) == running.as_ref().map(identity)
        };
        called().into_iter().find(is_running).unwrap_or_else(|| {
            let path = env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
            // What the kernel says of a file that has gone already.
            let text = path.to_string_lossy();
            text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from)
        })
    })
}

/// Where the name that we were called by may be found.
fn called() -> Vec<PathBuf> {
    let Some(name) = env::args_os().next().map(PathBuf::from) else { return Vec::new() };
    if name.components().count() > 1 || name.is_absolute() {
        return std::path::absolute(name).into_iter().collect();
    }
    let directories = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&directories).map(|directory| directory.join(&name)).collect()
}

/// Whether this process is the one between; if so, it does its work and this is its exit code.
pub(crate) fn launch() -> Option<ExitCode> {
    let program = env::var_os(VARIABLE)?;
    Some(match start_next(program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn start_next(program: OsString) -> io::Result<()> {
    // What is said to all processes of this name (`kill -HUP $(pidof evenkeel)`) is not for this one, and would end it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    let _ignored = [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()]
        .map(tokio::signal::unix::signal);
    let mut passed = listenfd::ListenFd::from_env();
    let last = passed.len().checked_sub(1).ok_or(io::ErrorKind::NotFound)?;
    // A stream socket is all that it is asked to be; it is closed in the next process.
    let socket: OwnedFd = passed.take_unix_listener(last)?.ok_or(io::ErrorKind::NotFound)?.into();
    let mut line = UnixStream::from(socket);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.rsplit_once(':').map_or("", |(names, _)| names);
    let mut command = Command::new(program);
    command
        .args(env::args_os().skip(1))
        .env_remove(VARIABLE)
        .env("LISTEN_FDS", last.to_string())
        .env("LISTEN_FDNAMES", names);
    let mut next = match command.spawn() {
        Ok(next) => next,
        Err(error) => {
            let program = command.get_program().to_string_lossy();
            return writeln!(line, "{program} cannot be started: {error}");
        }
    };
    let pid = next.id();
    writeln!(line, "started {pid}")?;
    let mut until = line.try_clone()?;
    std::thread::spawn(move || {
        let mut word = [0; LEAVE.len()];
        if until.read_exact(&mut word).is_err()
            && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        {
            // The one that asked has given up, or is gone with the service.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::process::exit(0);
    });
    let status = next.wait()?;
    writeln!(line, "it ended with {status}; its log says why")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;

    #[tokio::test]
    async fn a_line_that_comes_in_parts_is_whole_though_nobody_waited_in_between() {
        let (ours, mut theirs) = tokio::net::UnixStream::pair().expect("there are sockets");
        let mut words = LauncherWords::new(ours);
        theirs.write_all(b"it ended with ").await.expect("it is heard");
        poll_fn(|cx| {
            let is_over = pin!(words.next()).poll(cx).is_ready();
            assert!(!is_over, "the line goes on");
            if words.begun.is_empty() { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        })
        .await;
        theirs.write_all(b"exit status: 1\n").await.expect("it is heard");
        assert_eq!(words.next().await, "it ended with exit status: 1");
        drop(theirs);
        assert_eq!(words.next().await, "the process that was to start it has ended");
    }
}
