//! One reload: what was asked for is read, put in force, and told of.

use super::aside::aside;
use super::reading::{ReadConfiguration, ReadInProgress, ReadPurpose, ReloadRefused};
use super::receipt::{cause, log_taken};
use super::{Control, LedgerEntry, ReloadRequest};
use crate::api::{EventKind, Receipt, ReloadOutcome};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// How long an answer waits for the unix sockets of listeners that are gone to be removed.
const REMOVED_WITHIN: Duration = Duration::from_secs(2);

impl Control {
    /// Reloads, unless another process is about to take over, with the file as it has read it.
    pub(super) fn reload_unless_replaced(&mut self, asked: Vec<ReloadRequest>) {
        let Some(coming) = &mut self.coming else { return self.reload(asked) };
        if asked.is_empty() {
            info!("an upgrade is under way: the reload is left to the next process");
            coming.reload = true;
            return;
        }
        let problem =
            "an upgrade is under way, and the next process has read the file; reload once it has taken over";
        for asked in asked {
            let mut receipt = Receipt::new(
                ReloadOutcome::Refused,
                self.live.snapshot().generation,
                time::OffsetDateTime::now_utc(),
                &asked.actor,
            );
            receipt.configuration = self.source.name();
            receipt.problems.push(problem.to_owned());
            warn!(actor = asked.actor, "reload refused: {problem}");
            self.live.record(LedgerEntry::new(EventKind::Reload, &asked.actor, cause(&receipt)));
            let _ = asked.answer.send(Arc::new(receipt));
        }
    }

    /// Begins to read the file again. Who asks while it is being read may want what has been written since, and waits.
    pub(super) fn reload(&mut self, asked: Vec<ReloadRequest>) {
        if self.is_reloading() {
            self.reload_again.get_or_insert_default().extend(asked);
            return;
        }
        // systemd wants the time with it (sd_notify(3)); without it at least the word.
        match sd_notify::NotifyState::monotonic_usec_now() {
            Ok(now) => Self::notify(&[sd_notify::NotifyState::Reloading, now]),
            Err(_) => Self::notify(&[sd_notify::NotifyState::Reloading]),
        }
        self.read(ReadPurpose::Reload(asked));
    }

    /// Goes on with what was read.
    pub(super) fn go_on_with(&mut self, read: Result<ReadConfiguration, ReloadRefused>) {
        let Some(ReadInProgress { purpose, since }) = self.reading.take() else { return };
        match purpose {
            ReadPurpose::Reload(asked) => self.finish_reload(asked, read, since),
            ReadPurpose::RollBack(why) => self.finish_roll_back(&why, read, since),
        }
        if let Some(asked) = self.reload_again.take() {
            self.reload(asked);
        }
    }

    /// Puts what was read in force, and tells the log, the ledger and everybody who asked what came of it.
    fn finish_reload(
        &mut self,
        asked: Vec<ReloadRequest>,
        read: Result<ReadConfiguration, ReloadRefused>,
        started: Instant,
    ) {
        let actor = asked.first().map_or("signal", |asked| &asked.actor);
        let guard = asked.iter().rev().find_map(|asked| asked.guard.clone());
        let baseline = guard.as_ref().and_then(|guard| self.baseline(&guard.limits));
        let mut receipt = match read {
            Ok((loaded, opened)) => {
                let fingerprint = loaded.fingerprint.clone();
                let taken = self.take_over(loaded, opened);
                if taken.is_ok() {
                    self.stop_watching();
                    self.taken_back = None;
                }
                Receipt { fingerprint: Some(fingerprint), ..self.receipt(actor, taken) }
            }
            Err(refused) => self.receipt(actor, Err(refused)),
        };
        receipt.took_ms = super::milliseconds(started.elapsed());
        if receipt.outcome == ReloadOutcome::InForce {
            log_taken(&receipt);
            if let Some((guard, baseline)) = guard.zip(baseline) {
                self.watch(guard, baseline, actor);
            }
        } else {
            self.live.metrics.reload_refused();
            for line in &receipt.problems {
                error!("{line}");
            }
            for line in &receipt.warnings {
                warn!("{line}");
            }
            error!(generation = receipt.generation, "reload refused; nothing has changed");
        }
        self.live.record(LedgerEntry::new(EventKind::Reload, actor, cause(&receipt)));
        let receipt = Arc::new(receipt);
        self.live.last_reload.store(Some(Arc::clone(&receipt)));
        let files = self.live.socket_files.clone();
        let answer = move || {
            for asked in asked {
                // Whoever asked may have gone.
                let _ = asked.answer.send(Arc::clone(&receipt));
            }
        };
        match files.is_settled() {
            true => answer(),
            // Whoever asked may want the paths of listeners that are gone.
            false => drop(tokio::spawn(async move {
                let _ = aside(REMOVED_WITHIN, move || files.settle(REMOVED_WITHIN)).await;
                answer();
            })),
        }
        self.show_status();
        Self::notify(&[sd_notify::NotifyState::Ready]);
    }
}
