//! The start of the process: it knows its servers first, then accepts, then tells whoever waits for that.

use super::reading::{OpenedFiles, ReadConfiguration, ReloadRefused};
use super::unix_sockets::made;
use super::{Control, ControlMessage, LedgerEntry, Predecessor};
use crate::api::EventKind;
use crate::edge::{Bound, bind_unix_with_mode};
use crate::units::Address;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// How long accepting waits for the first answers of sources: one that is slow must not keep the other pools' clients
/// waiting, and one that is not should not let the first of them meet an empty pool.
const BEFORE_ACCEPTING: Duration = Duration::from_secs(1);

impl Control {
    /// Waits until each probed server had its first result, so that nobody meets a pool that does not know its servers
    /// yet. Bounded by the probes' own timeouts. False if the process was told to end meanwhile.
    pub(crate) async fn know_servers(&mut self, inbox: &mut mpsc::UnboundedReceiver<ControlMessage>) -> bool {
        let longest = self
            .live
            .snapshot()
            .plan
            .pools
            .iter()
            .filter_map(|pool| pool.health.as_ref())
            .map(|health| health.timeout)
            .max()
            .unwrap_or_default();
        self.await_sources();
        let mut later = Vec::new();
        let Some(()) = self.know_sources(inbox, &mut later).await else { return false };
        let known = tokio::time::timeout(longest + Duration::from_millis(100), self.probing.first_results());
        if unless_told_to_end(inbox, &mut later, known).await.is_none() {
            return false;
        }
        for change in later {
            let _ = self.changes.send(change);
        }
        while let Ok(turned) = self.turned.try_recv() {
            self.turn(turned);
        }
        self.look_for_failing_open();
        self.warn_of_unknown_servers();
        true
    }

    /// Goes on from what an earlier process has left in the state file and beside it. Whether the process goes on: it may be told to end while
    /// a disk hangs.
    ///
    /// # Errors
    /// As of [`Control::recall_overrides`].
    pub(crate) async fn recall(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<ControlMessage>,
        state_file: Option<&Path>,
    ) -> Result<bool, String> {
        let changes = self.changes.clone();
        let recalled = async {
            self.recall_overrides(state_file).await?;
            self.recall_servers(state_file).await;
            Ok(())
        };
        let recalled = unless_told_to_end_before(inbox, &changes, recalled).await;
        recalled.transpose().map(|recalled| recalled.is_some())
    }

    /// Opens the unix sockets that the first configuration wants. `None` if the process was told to end meanwhile.
    ///
    /// # Errors
    /// Which one cannot be opened.
    pub(crate) async fn open_unix_sockets(
        &self,
        inbox: &mut mpsc::UnboundedReceiver<ControlMessage>,
        (loaded, opened): ReadConfiguration,
    ) -> Result<Option<ReadConfiguration>, ReloadRefused> {
        let (sockets, held) = (self.unix_sockets(Some(&loaded.plan)), Arc::default());
        let opening = sockets.open(&loaded.plan, &held);
        let sockets = unless_told_to_end_before(inbox, &self.changes, opening).await.transpose()?;
        Ok(sockets.map(|unix_sockets| (loaded, OpenedFiles { unix_sockets, ..opened })))
    }

    /// Opens the admin endpoint's unix socket for those whom `mode` lets. `None` if the process was told to end meanwhile.
    pub(crate) async fn open_admin_socket(
        &self,
        inbox: &mut mpsc::UnboundedReceiver<ControlMessage>,
        path: &Path,
        mode: u32,
    ) -> Option<io::Result<Bound>> {
        let files = self.live.socket_files.clone();
        let opening = made(path, move |path| bind_unix_with_mode(&files, path, 1, mode));
        unless_told_to_end_before(inbox, &self.changes, opening).await
    }

    /// Waits a moment for the sources of which no servers are known, and has what they say put in force; what they say
    /// later is heard later. `None` if the process was told to end meanwhile.
    async fn know_sources(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<ControlMessage>,
        later: &mut Vec<ControlMessage>,
    ) -> Option<()> {
        let longest = self.discovering.longest_start_wait().min(BEFORE_ACCEPTING);
        let asked = tokio::time::timeout(longest, self.discovering.first_answers());
        let _ = unless_told_to_end(inbox, later, asked).await?;
        let is_found = |change: &mut ControlMessage| matches!(change, ControlMessage::Members(_));
        let found: Vec<_> = later.extract_if(.., is_found).collect();
        for change in found {
            if let ControlMessage::Members(members) = change {
                self.take_members(members);
            }
        }
        self.change_members_at_once();
        Some(())
    }

    /// Accepts.
    pub(crate) fn open(&mut self) {
        for key in self.held_back.take().unwrap_or_default() {
            self.accept(&key);
        }
        self.live.start_accepting();
        let version = env!("CARGO_PKG_VERSION");
        let started = format!("ready: version {version}, process {}", std::process::id());
        self.live.record(LedgerEntry::new(EventKind::Process, "start", started));
        // Nothing can keep us from starting now, so what was passed to us is ours.
        for (key, bound) in &mut self.bound {
            if let (Address::Unix(path), None) = (&key.address, &bound.file) {
                bound.file = Some(self.live.socket_files.at(path));
            }
        }
    }

    /// "Ready" does not say that every pool knows its servers: those that do not are named.
    fn warn_of_unknown_servers(&self) {
        for pool in self.live.snapshot().pools() {
            let counts = pool.counts();
            if counts.probing > 0 {
                warn!(pool = %pool.name, servers = counts.probing, up = counts.up,
                    "accepting before the first probes of some servers have ended; they get nothing until then");
            }
        }
    }

    /// Tells the process before this one that we serve, and hears from now on what it still has.
    pub(crate) async fn succeed(&mut self, before: Predecessor) {
        match before.serving(self.changes.clone()).await {
            Ok(finishing) => self.before = Some(finishing),
            Err(error) => warn!(%error, "cannot tell the process before this one that we serve"),
        }
    }
}

/// Waits for `until`, unless the process is told to end before: `None` then. What else it is told it is told once more.
async fn unless_told_to_end_before<T>(
    inbox: &mut mpsc::UnboundedReceiver<ControlMessage>,
    changes: &mpsc::UnboundedSender<ControlMessage>,
    until: impl Future<Output = T>,
) -> Option<T> {
    let mut later = Vec::new();
    let result = unless_told_to_end(inbox, &mut later, until).await;
    for change in later {
        let _ = changes.send(change);
    }
    result
}

/// The same; what else it is told is for later.
async fn unless_told_to_end<T>(
    inbox: &mut mpsc::UnboundedReceiver<ControlMessage>,
    later: &mut Vec<ControlMessage>,
    until: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(until);
    loop {
        tokio::select! {
            biased;
            change = inbox.recv() => match change {
                Some(ControlMessage::Drain | ControlMessage::Stop) | None => {
                    info!("stopped before it was ready");
                    return None;
                }
                Some(change) => later.push(change),
            },
            result = &mut until => return Some(result),
        }
    }
}
