//! The end of the process: what is in flight finishes, or is cut.

use super::{Control, ControlMessage, LedgerEntry, REAP};
use crate::api::EventKind;
use crate::edge::WorkerCommand;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{info, warn};

impl Control {
    /// The service ends with us, unless another process has taken over.
    fn notify_stopping(&self) {
        if self.successor.is_none() {
            Self::notify(&[sd_notify::NotifyState::Stopping]);
        }
    }

    pub(super) async fn drain(mut self, mut inbox: mpsc::UnboundedReceiver<ControlMessage>) {
        let actor = if self.successor.is_some() { "upgrade" } else { "signal" };
        let timeout = self.live.snapshot().plan.process.shutdown_timeout;
        info!(
            connections = self.connection_limit.in_use(),
            ?timeout,
            "stopping: finishing what is in flight"
        );
        self.live.record(LedgerEntry::new(
            EventKind::Process,
            actor,
            format!("stopping: {} connections, {timeout:?} to finish", self.connection_limit.in_use()),
        ));
        // A next process that does not serve yet never will.
        self.coming = None;
        self.notify_stopping();
        self.live.start_draining();
        self.certificates.stop();
        self.discovering.stop();
        for bound in self.bound.values() {
            bound.listener_state.close();
        }
        self.bound.clear();
        self.lingering.clear();
        self.workers.tell_all(|| WorkerCommand::Drain);
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        let mut reap = tokio::time::interval(REAP);
        let mut has_ended = false;
        // The service manager ends whatever is left with us, so what the process before us still has keeps us too.
        while !has_ended || self.before.is_some() {
            tokio::select! {
                () = self.workers.ended(), if !has_ended => has_ended = true,
                () = &mut deadline => {
                    warn!(connections = self.connection_limit.in_use(), "shutdown timeout passed; closing what is left");
                    return self.stop().await;
                }
                change = inbox.recv() => match change {
                    Some(ControlMessage::Stop) | None => return self.stop().await,
                    Some(ControlMessage::ReopenLogs) => self.reopen_logs(),
                    Some(ControlMessage::Reload(_)) => warn!("not reloading: the process is stopping"),
                    Some(ControlMessage::Upgrade(_)) => warn!("not upgrading: the process is stopping"),
                    Some(ControlMessage::Before(heard)) => self.hear_before(heard),
                    // Whoever asked hears that nobody will answer.
                    Some(
                        ControlMessage::Operate(_) | ControlMessage::Maintain(_) | ControlMessage::Members(_) | ControlMessage::Drain | ControlMessage::Next(_) | ControlMessage::Relieve(_) | ControlMessage::Read(_),
                    ) => {}
                },
                Some(turned) = self.turned.recv() => self.turn(turned),
                _ = reap.tick() => {
                    self.show_life();
                    self.show_status();
                    self.reap();
                    self.tell_what_is_left();
                }
            }
        }
        info!("stopped: everything finished");
        self.take_leave().await;
    }

    fn tell_what_is_left(&self) {
        if let Some(successor) = &self.successor {
            successor.tell(self.left());
        }
    }

    /// The last words to the process that has taken over.
    async fn take_leave(&mut self) {
        self.live.event_log.keep_again();
        if self.state_file.take().is_some_and(|file| !file.close()) {
            warn!("the state file's disk takes nothing; what operators said last may be lost");
        }
        self.save_servers_at_end();
        self.passing_on.take_leave(self.successor.as_ref());
        if let Some(successor) = self.successor.take() {
            successor.close().await;
        }
    }

    pub(super) async fn stop(mut self) {
        self.coming = None;
        if let Some(before) = &self.before {
            before.stop();
        }
        self.notify_stopping();
        self.live.start_draining();
        self.certificates.stop();
        self.discovering.stop();
        self.bound.clear();
        self.lingering.clear();
        self.workers.tell_all(|| WorkerCommand::Abort);
        if tokio::time::timeout(Duration::from_secs(2), self.workers.ended()).await.is_err() {
            warn!("workers did not end in time");
        }
        self.take_leave().await;
    }
}
