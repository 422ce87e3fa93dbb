//! What the service manager hears of us: what we are doing (`STATUS=`), and that we still do it (`WATCHDOG=1`), from the
//! very task that decides everything, so that one that is stuck is found out.

use super::Control;
use crate::api::ReloadOutcome;
use std::time::{Duration, Instant};

/// What was said to the service manager, and what it wants to hear.
#[derive(Debug)]
pub(super) struct ServiceManager {
    is_there: bool,
    /// Half of what it waits for a sign of life (sd_watchdog_enabled(3)).
    every: Option<Duration>,
    next: Instant,
    status: String,
}

impl ServiceManager {
    pub(super) fn from_environment() -> Self {
        Self {
            is_there: std::env::var_os("NOTIFY_SOCKET").is_some(),
            every: sd_notify::watchdog_enabled().map(|within| within / 2),
            next: Instant::now(),
            status: String::new(),
        }
    }
}

/// Of what is wrong with a reload the status has this many characters.
const SHOWN: usize = 200;

impl Control {
    /// What was wrong with the last reload, if anything was: the file says something else than is in force.
    fn last_reload(&self) -> String {
        let last = self.live.last_reload.load();
        let Some(receipt) = last.as_deref() else { return String::new() };
        let what = match receipt.outcome {
            ReloadOutcome::InForce => return String::new(),
            ReloadOutcome::Refused => "reload refused",
            ReloadOutcome::RolledBack => "reload rolled back",
        };
        let problem = receipt.problems.first().and_then(|problem| problem.lines().next()).unwrap_or_default();
        format!("; {what}: {}", problem.chars().take(SHOWN).collect::<String>())
    }

    /// Gives a sign of life when it is time to.
    pub(super) fn show_life(&mut self) {
        let now = Instant::now();
        let manager = &mut self.manager;
        // Once another process is the service, nobody listens to us.
        let Some(every) = manager.every.filter(|_| now >= manager.next && self.successor.is_none()) else {
            return;
        };
        manager.next = now + every;
        Self::notify(&[sd_notify::NotifyState::Watchdog]);
    }

    /// Says what we are doing, if that has changed.
    pub(super) fn show_status(&mut self) {
        if !self.manager.is_there || self.successor.is_some() {
            return;
        }
        let snapshot = self.live.snapshot();
        let connections = self.connection_limit.in_use();
        let status = if self.live.is_draining() {
            format!("stopping: {connections} connections left")
        } else {
            let servers: usize = snapshot.pools().iter().map(|pool| pool.members.len()).sum();
            let up: usize = snapshot.pools().iter().map(|pool| pool.counts().up).sum();
            let failing = match self.failing_open.len() {
                0 => String::new(),
                n => format!(", {n} pools without a healthy server"),
            };
            format!(
                "generation {}, {up} of {servers} servers up{failing}, {connections} connections{}",
                snapshot.generation,
                self.last_reload()
            )
        };
        if status != self.manager.status {
            Self::notify(&[sd_notify::NotifyState::Status(&status)]);
            self.manager.status = status;
        }
    }
}
