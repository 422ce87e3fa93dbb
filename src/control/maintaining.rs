//! Routes that operators take out of service and bring back.

use super::{Control, LedgerEntry};
use crate::api::EventKind;
use crate::operate::{Overrides, RouteOverride};
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::sync::oneshot;
use tracing::info;

/// What an operator wants of a section of routes, or of a rule.
#[derive(Debug)]
pub(crate) struct MaintenanceCommand {
    pub(crate) route: String,
    pub(crate) enabled: bool,
    pub(crate) actor: String,
    pub(crate) answer: oneshot::Sender<Result<MaintenanceDone, MaintenanceRefused>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct MaintenanceDone {
    /// The rules that it is about.
    pub(crate) rules: Vec<String>,
    /// What the operator may not expect.
    pub(crate) notes: Vec<String>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MaintenanceRefused {
    #[error("there is no route {0}")]
    NoRoute(String),
    #[error("another process is taking over this very moment")]
    Relieved,
}

impl Control {
    pub(super) fn maintain(&mut self, command: MaintenanceCommand) {
        match self.put_in_maintenance(&command) {
            Ok(mut done) => {
                let saving = self.save_overrides();
                let is_said = self.live.overrides.load().is_said_of(&command.route);
                drop(tokio::spawn(async move {
                    // Of what the file says anyway nothing is lost.
                    done.notes.extend(saving.await.filter(|_| is_said));
                    // Whoever asked may have gone.
                    let _ = command.answer.send(Ok(done));
                }));
            }
            Err(refused) => drop(command.answer.send(Err(refused))),
        }
    }

    fn put_in_maintenance(
        &mut self,
        command: &MaintenanceCommand,
    ) -> Result<MaintenanceDone, MaintenanceRefused> {
        if self.is_relieved {
            return Err(MaintenanceRefused::Relieved);
        }
        let no_route = || MaintenanceRefused::NoRoute(command.route.clone());
        let mut plan = self.planned().ok_or_else(no_route)?;
        let MaintenanceCommand { route, enabled, actor, .. } = command;
        let word =
            RouteOverride { maintenance: *enabled, actor: actor.clone(), at: OffsetDateTime::now_utc() };
        let mut overrides = Overrides::clone(&self.live.overrides.load());
        let rules = overrides.set_maintenance(&plan, route, word);
        if rules.is_empty() {
            return Err(no_route());
        }
        overrides.apply_to(&mut plan);
        self.live.overrides.store(Arc::new(overrides));
        self.revise(plan);
        let to = if *enabled { "on" } else { "off" };
        info!(route, to, actor, "maintenance changed");
        let cause = format!("maintenance of {route} is {to}");
        self.live.record(LedgerEntry::new(EventKind::Operator, actor, cause));
        Ok(MaintenanceDone { rules, notes: Vec::new() })
    }
}
