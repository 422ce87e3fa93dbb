//! The next process: the same program, perhaps a newer one, started with our listening sockets. Once it says that it is
//! ready, this one drains and ends; if it never does, this one goes on as if nothing had happened.
//!
//! Both accept on the same sockets for a while, so no queue is ever closed with connections in it.

use super::{Beside, Change, Control, Entry, Source, Upgrade, handover};
use crate::api::Kind;
use crate::edge::{Inherited, READY};
use command_fds::{CommandFdExt, FdMapping};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::{env, io};
use tokio::process::{Child, Command};
use tracing::{error, info, warn};

/// How long the next process may take until it accepts: it reads certificates and probes each server first.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first file that is passed, by systemd's protocol.
const FIRST: i32 = 3;

impl Control {
    /// Sockets that were open before us, for the listeners that have their addresses.
    pub(crate) fn inherit(&mut self, inherited: Inherited) {
        self.inherited = inherited;
    }

    pub(crate) fn pass_on_too(&mut self, beside: Beside) {
        self.beside.push(beside);
    }

    /// Starts the next process.
    pub(super) fn upgrade(&mut self, asked: Option<Upgrade>) {
        let actor = asked.as_ref().map_or("signal", |asked| &asked.actor);
        self.live.record(Entry::new(Kind::Process, actor, "upgrade asked for"));
        self.begin_upgrade();
        if let Some(asked) = asked {
            let _ = asked.answer.send(());
        }
    }

    fn begin_upgrade(&mut self) {
        if self.live.upgrading.load(Relaxed) {
            warn!("an upgrade is under way already");
            return;
        }
        if !matches!(self.source, Source::File(_)) {
            // Its app servers end with it, and another one would have a socket and a terminal of its own.
            return self.not_upgraded("a demo has no file to go on from; end it, and start it again");
        }
        if self.is_watching() {
            // The next process would go on with what may have to be taken back.
            return self.not_upgraded("a reload is under watch; wait for its end, or reload without --guard");
        }
        match self.start_next() {
            Ok((child, ready)) => {
                self.live.upgrading.store(true, Relaxed);
                info!(pid = child.id(), "upgrading: waiting for the new process to be ready");
                tokio::spawn(wait(child, ready, self.changes.clone()));
            }
            Err(error) => self.not_upgraded(&format!("cannot start the new process: {error}")),
        }
    }

    /// Nothing has changed for anybody.
    pub(super) fn not_upgraded(&mut self, why: &str) {
        self.live.last_upgrade_failure.store(Some(Arc::new(why.to_owned())));
        self.live.upgrading.store(false, Relaxed);
        self.live.metrics.upgrade_failed();
        error!(why, "upgrade failed; this process goes on");
        self.live.record(Entry::new(Kind::Process, "upgrade", format!("upgrade failed: {why}")));
    }

    /// The new process accepts. What is left to do here is to finish.
    pub(super) fn hand_over(&mut self, pid: u32) {
        info!(pid, "upgraded: the new process is ready");
        self.live.record(Entry::new(Kind::Process, "upgrade", format!("handed over to process {pid}")));
        // The service goes on under another number.
        Self::notify(&[sd_notify::NotifyState::MainPid(pid), sd_notify::NotifyState::Ready]);
        self.replaced = true;
        for beside in self.beside.drain(..) {
            beside.task.abort();
            if let Some(file) = beside.file {
                file.leave();
            }
        }
        for file in
            self.bound.values_mut().chain(self.lingering.values_mut()).filter_map(|bound| bound.file.take())
        {
            file.leave();
        }
    }

    fn start_next(&self) -> io::Result<(Child, UnixDatagram)> {
        let (ours, theirs) = UnixDatagram::pair()?;
        ours.set_nonblocking(true)?;
        let mut passed: Vec<(&str, OwnedFd)> = Vec::new();
        for (key, bound) in &self.bound {
            for socket in &bound.sockets {
                passed.push((&*key.0, socket.try_clone()?));
            }
        }
        for beside in &self.beside {
            passed.push((beside.name, beside.socket.try_clone()?));
        }
        passed.push((READY, theirs.into()));
        let names: Vec<&str> = passed.iter().map(|(name, _)| *name).collect();
        let mut command = std::process::Command::new(program()?);
        command
            .args(env::args_os().skip(1))
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            // It cannot be known before the process is; without it the files are for whoever is started.
            .env_remove("LISTEN_PID");
        match self.handover() {
            Ok(file) => _ = command.env(handover::VARIABLE, "stdin").stdin(file),
            Err(error) => {
                warn!(%error, "the new process has to find out for itself what this one knows");
                command.env_remove(handover::VARIABLE).stdin(Stdio::null());
            }
        }
        let mappings = (FIRST..)
            .zip(passed)
            .map(|(child_fd, (_, parent_fd))| FdMapping { parent_fd, child_fd })
            .collect();
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok((Command::from(command).spawn()?, ours))
    }
}

/// The file we were started from, or what a package has put in its place since.
fn program() -> io::Result<PathBuf> {
    let path = env::current_exe()?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}

/// Waits until the new process is ready, has ended, or has had time enough.
async fn wait(mut child: Child, ready: UnixDatagram, changes: tokio::sync::mpsc::UnboundedSender<Change>) {
    let pid = child.id().unwrap_or_default();
    let said = async {
        let mut word = [0; 16];
        match tokio::net::UnixDatagram::from_std(ready) {
            Ok(ready) => ready.recv(&mut word).await.map(|_| ()),
            Err(error) => Err(error),
        }
    };
    let outcome = tokio::select! {
        said = said => said.map_err(|error| format!("it cannot be heard: {error}")),
        status = child.wait() => Err(match status {
            Ok(status) => format!("it ended with {status}; its log says why"),
            Err(error) => format!("it cannot be waited for: {error}"),
        }),
        () = tokio::time::sleep(PATIENCE) => Err(format!("it was not ready within {PATIENCE:?}")),
    };
    let outcome = match outcome {
        Ok(()) => Ok(pid),
        Err(why) => {
            // Two processes must not go on accepting, each believing it is the only one.
            if let Err(error) = child.kill().await {
                warn!(%error, pid, "the new process cannot be ended");
            }
            Err(why)
        }
    };
    let _ = changes.send(Change::Next(outcome));
}
