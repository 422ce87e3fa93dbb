//! The next process: the same program, perhaps a newer one, started with our listening sockets. Once it says that it
//! serves, this one drains and ends; if it never does, this one goes on as if nothing had happened.
//!
//! Both accept on the same sockets for a while, so no queue is ever closed with connections in it.

use super::launch::{Launcher, PassedFiles, Started};
use super::succession::{Channel, Successor, ToPredecessor, ToSuccessor};
use super::{AdminSocket, Control, ControlMessage, LedgerEntry, Source, UpgradeRequest, handover};
use crate::api::EventKind;
use crate::edge::{BEFORE, Inherited, WorkerCommand};
use std::io;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tracing::{error, info, warn};

/// How long the next process may take until it knows its servers: it reads certificates and probes each of them first.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to accept after that.
const SERVES_WITHIN: Duration = Duration::from_secs(10);
/// How long what it has said may take to be heard once it has ended.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A next process that is not ready yet. It is ended with this value.
#[derive(Debug)]
pub(super) struct PendingSuccessor {
    task: AbortHandle,
    /// A signal asked for a reload meanwhile, or for logs to be reopened; the next process does it.
    pub(super) reload: bool,
    pub(super) reopen_logs: bool,
}

impl Drop for PendingSuccessor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A next process that serves.
#[derive(Debug)]
pub(crate) struct NextProcess {
    pub(super) started: Started,
    channel: Channel,
}

impl Control {
    /// Sockets that were open before us, for the listeners that have their addresses.
    pub(crate) fn inherit(&mut self, inherited: Inherited) {
        self.inherited = inherited;
    }

    pub(crate) fn pass_on_too(&mut self, socket: AdminSocket) {
        self.admin_sockets.push(socket);
    }

    /// Starts the next process, or has it wait for what must be decided before.
    pub(super) fn upgrade(&mut self, asked: Option<UpgradeRequest>) {
        let actor = asked.as_ref().map_or("signal", |asked| &asked.actor);
        if self.live.upgrading.load(Relaxed) {
            warn!("an upgrade is under way already");
        } else {
            self.live.record(LedgerEntry::new(EventKind::Process, actor, "upgrade asked for"));
            self.live.upgrading.store(true, Relaxed);
            self.upgrade_waits = true;
            self.begin_upgrade();
        }
        if let Some(asked) = asked {
            let _ = asked.answer.send(());
        }
    }

    /// Begins the upgrade that was asked for, unless it has to wait: the next process would go on with what may have to
    /// be taken back, or with half of what is being read.
    pub(super) fn begin_upgrade(&mut self) {
        if !self.upgrade_waits {
            return;
        }
        let waits_until = self.watched_until();
        if waits_until.is_some() || self.is_reloading() {
            if self.live.upgrade_waits_until.load().is_none() && waits_until.is_some() {
                info!("the upgrade waits for the end of the reload's watch");
            }
            self.live.upgrade_waits_until.store(waits_until.map(Arc::new));
            return;
        }
        self.upgrade_waits = false;
        self.live.upgrade_waits_until.store(None);
        if !matches!(self.source, Source::File(_)) {
            // Its app servers end with it, and another one would have a socket and a terminal of its own.
            return self.not_upgraded("a demo has no file to go on from; end it, and start it again");
        }
        match self.prepare_next() {
            Ok((passed, channel)) => {
                let bringing = bring_up(passed, channel, self.changes.clone());
                let changes = self.changes.clone();
                let task = tokio::spawn(async move {
                    let _ = changes.send(ControlMessage::Next(bringing.await));
                });
                let task = task.abort_handle();
                self.coming = Some(PendingSuccessor { task, reload: false, reopen_logs: false });
            }
            Err(error) => self.not_upgraded(&format!("cannot start the new process: {error}")),
        }
    }

    /// Nothing has changed for anybody.
    pub(super) fn not_upgraded(&mut self, why: &str) {
        self.live.event_log.keep_again();
        self.is_relieved = false;
        self.live.purges_for_next.give_up();
        self.live.last_upgrade_failure.store(Some(Arc::new(why.to_owned())));
        self.live.upgrading.store(false, Relaxed);
        self.live.metrics.upgrade_failed();
        error!(why, "upgrade failed; this process goes on");
        self.live.record(LedgerEntry::new(EventKind::Process, "upgrade", format!("upgrade failed: {why}")));
        // What was left to the next process.
        if let Some(coming) = self.coming.take() {
            let left = [
                (coming.reload, ControlMessage::Reload(None)),
                (coming.reopen_logs, ControlMessage::ReopenLogs),
            ];
            for (_, change) in left.into_iter().filter(|(is_due, _)| *is_due) {
                let _ = self.changes.send(change);
            }
        }
    }

    /// The next process knows its servers. What happens from here on is not ours to decide any more, until it serves or
    /// has failed.
    pub(super) fn relieve(&mut self, answer: oneshot::Sender<handover::Handover>) {
        self.live.record(LedgerEntry::new(EventKind::Process, "upgrade", "handing over to the next process"));
        let mut rest = self.rest();
        if let Some(coming) = &self.coming {
            (rest.reload, rest.reopen_logs) = (coming.reload, coming.reopen_logs);
        }
        self.is_relieved = true;
        self.live.purges_for_next.begin();
        let written = self.live.event_log.written();
        tokio::spawn(async move {
            written.await;
            let _ = answer.send(rest);
        });
    }

    /// The new process accepts. What is left to do here is to finish.
    pub(super) fn hand_over(&mut self, next: NextProcess) {
        let NextProcess { started, channel } = next;
        let pid = started.pid.as_raw_nonzero().get();
        started.let_go();
        self.coming = None;
        info!(pid, "upgraded: the new process is ready");
        // The service goes on under another number.
        let main = sd_notify::NotifyState::MainPid(u32::try_from(pid).unwrap_or_default());
        Self::notify(&[main, sd_notify::NotifyState::Ready]);
        let changes = self.changes.clone();
        let successor = Successor::new(channel, Arc::clone(&self.live.purges_for_next), move || {
            let _ = changes.send(ControlMessage::Stop);
        });
        self.live.event_log.pass_on_to(&successor.events());
        successor.tell(self.left());
        self.successor = Some(successor);
        self.live.release_disk();
        self.workers.tell_all(|| WorkerCommand::LeaveDatagrams);
        for beside in self.admin_sockets.drain(..) {
            beside.closing.cancel();
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

    /// What the next process is started with, and our end of the connection to it.
    fn prepare_next(&mut self) -> io::Result<(PassedFiles, Channel)> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut sockets = Vec::new();
        for (key, bound) in &self.bound {
            for socket in &bound.sockets {
                sockets.push((key.listener.to_string(), socket.try_clone()?));
            }
        }
        for beside in &self.admin_sockets {
            sockets.push((beside.name.to_owned(), beside.socket.try_clone()?));
        }
        sockets.push((BEFORE.to_owned(), theirs.into()));
        let (stdin, told) = match self.handover() {
            Ok(file) => (Stdio::from(file), Some("stdin")),
            Err(error) => {
                warn!(%error, "the new process has to find out for itself what this one knows");
                (Stdio::null(), None)
            }
        };
        let environment = vec![(handover::VARIABLE, told)];
        Ok((PassedFiles { sockets, stdin, environment }, Channel::new(ours)?))
    }
}

/// Starts the new process, and waits until it serves.
///
/// # Errors
/// Why it never will; it has ended then.
async fn bring_up(
    passed: PassedFiles,
    mut channel: Channel,
    changes: mpsc::UnboundedSender<ControlMessage>,
) -> Result<NextProcess, String> {
    let not_started = |error| format!("cannot start the new process: {error}");
    let mut launcher = Launcher::start(passed).await.map_err(not_started)?;
    let started = launcher.started().await?;
    info!(pid = started.pid.as_raw_nonzero(), "upgrading: waiting for the new process to be ready");
    tokio::select! {
        said = hear(&mut channel, |word| matches!(word, ToPredecessor::Ready)) => {
            if let Err(unheard) = said {
                let ended = tokio::time::timeout(SERVES_WITHIN, launcher.ended()).await;
                return Err(match unheard {
                    Unheard::Refused(_) => unheard.to_string(),
                    // Its end says more than that it says nothing any more.
                    Unheard::Lost(why) => ended.unwrap_or(why),
                });
            }
        }
        ended = launcher.ended() => {
            // It may have said why before.
            let last = hear(&mut channel, |_| false);
            return Err(match tokio::time::timeout(LAST_WORD, last).await {
                Ok(Err(refused @ Unheard::Refused(_))) => refused.to_string(),
                _ => ended,
            });
        }
        () = tokio::time::sleep(PATIENCE) => return Err(format!("it was not ready within {PATIENCE:?}")),
    }
    // It must be process 1's child when it becomes the service's main process.
    launcher.leave().await.map_err(|error| format!("it cannot be let go: {error}"))?;
    let (answer, rest) = oneshot::channel();
    let is_stopping = |_: ()| "this process is stopping".to_owned();
    changes.send(ControlMessage::Relieve(answer)).map_err(|_| is_stopping(()))?;
    let rest = ToSuccessor::Rest(Box::new(rest.await.map_err(|_| is_stopping(()))?));
    channel.say(&rest).await.map_err(|error| format!("it cannot be told: {error}"))?;
    tokio::select! {
        // It hangs up when it ends, whose child it may be.
        said = hear(&mut channel, |word| matches!(word, ToPredecessor::Serving)) => {
            said.map_err(|unheard| unheard.to_string())?;
        }
        () = tokio::time::sleep(SERVES_WITHIN) => {
            return Err(format!("it did not take over within {SERVES_WITHIN:?}"));
        }
    }
    Ok(NextProcess { started, channel })
}

/// Why a word does not come.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("the new process does not take over: {0}")]
    Refused(String),
    #[error("{0}")]
    Lost(String),
}

/// Waits for a word.
async fn hear(channel: &mut Channel, is_it: impl Fn(&ToPredecessor) -> bool) -> Result<(), Unheard> {
    loop {
        match channel.hear().await {
            Ok(Some(ToPredecessor::Refused(why))) => return Err(Unheard::Refused(why)),
            Ok(Some(word)) if is_it(&word) => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) => {
                return Err(Unheard::Lost("it ended when it was to take over; its log says why".to_owned()));
            }
            Err(error) => return Err(Unheard::Lost(format!("it cannot be heard: {error}"))),
        }
    }
}
