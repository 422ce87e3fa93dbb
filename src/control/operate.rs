//! What operators want of servers: carried out here, kept over reloads, and written to a file for the next start.

use super::Control;
use super::aside::{FILES_WITHIN, aside};
use super::event_log::LedgerEntry;
use crate::api::EventKind;
use crate::config::DEFAULT_STATE_FILE;
use crate::config::plan::{self, Plan};
use crate::files;
use crate::operate::{CannotSpare, KeptState, Overrides, can_spare};
use crate::pool::{Health, HealthState, Operator, Pool, Server};
use crate::snapshot::{ProbeTask, Snapshot};
use crate::text::span;
use crate::units::Weight;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// How long an operator waits for the state file to be on the disk.
const SAVED_WITHIN: Duration = Duration::from_secs(5);

/// What is to be done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    State(Operator),
    /// `None` gives the weight back to the configuration.
    Weight(Option<Weight>),
}

/// An operator's command.
#[derive(Debug)]
pub(crate) struct OperatorCommand {
    pub(crate) pool: String,
    pub(crate) server: String,
    pub(crate) operation: Operation,
    /// Even if the rest of the pool cannot carry what it carries now.
    pub(crate) force: bool,
    pub(crate) actor: String,
    pub(crate) answer: oneshot::Sender<Result<OperationDone, OperationRefused>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct OperationDone {
    /// What the operator may not expect.
    pub(crate) notes: Vec<String>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationRefused {
    #[error("there is no pool {0}")]
    NoPool(String),
    #[error("pool {pool} has no server {server}")]
    NoServer { pool: String, server: String },
    #[error("{0}")]
    CannotSpare(#[from] CannotSpare),
    #[error("another process is taking over this very moment")]
    Relieved,
}

pub(super) fn word(operator: Operator) -> &'static str {
    match operator {
        Operator::Ready => "ready",
        Operator::Drain => "drain",
        Operator::Maint => "maint",
    }
}

impl Control {
    pub(super) fn operate(&mut self, command: OperatorCommand) {
        let outcome = self.carry_out(&command);
        // Whoever asked may have gone.
        match outcome {
            Ok((mut done, saving)) => drop(tokio::spawn(async move {
                done.notes.extend(saving.await);
                let _ = command.answer.send(Ok(done));
            })),
            Err(not_done) => drop(command.answer.send(Err(not_done))),
        }
    }

    /// What was done, and what is still to be written of it.
    fn carry_out(
        &mut self,
        command: &OperatorCommand,
    ) -> Result<(OperationDone, impl Future<Output = Option<String>> + use<>), OperationRefused> {
        if self.is_relieved {
            return Err(OperationRefused::Relieved);
        }
        let (done, is_said) = self.put_in_force(command)?;
        let saving = self.save_overrides();
        Ok((done, async move { saving.await.filter(|_| is_said) }))
    }

    /// What was done, and whether there is anything to be remembered of it.
    fn put_in_force(&mut self, command: &OperatorCommand) -> Result<(OperationDone, bool), OperationRefused> {
        let snapshot = self.live.snapshot();
        let pool =
            snapshot.pool(&command.pool).ok_or_else(|| OperationRefused::NoPool(command.pool.clone()))?;
        let member = pool.members.iter().find(|member| **member.server.name() == *command.server);
        let Some(member) = member else {
            return match self.take_back(command) {
                Some(done) => Ok((done, false)),
                None => Err(OperationRefused::NoServer {
                    pool: command.pool.clone(),
                    server: command.server.clone(),
                }),
            };
        };
        let mut done = OperationDone::default();
        match command.operation {
            Operation::State(operator) => {
                if operator != Operator::Ready && !command.force {
                    can_spare(pool, &member.server)?;
                }
                self.set_operator(pool, &member.server, operator, &command.actor);
                if operator == Operator::Ready && member.server.is_ejected() {
                    match command.force {
                        true => self.bring_back(&member.server, &command.actor),
                        false => done.notes.extend(told_ejection(&member.server, Instant::now())),
                    }
                }
                if operator == Operator::Ready && member.drain {
                    done.notes.push(format!(
                        "it stays drained by the configuration; remove `drain: true` of pools.{}.servers.{} and reload",
                        command.pool, command.server
                    ));
                }
            }
            Operation::Weight(weight) => self.set_weight(&member.server, weight, &command.actor),
        }
        Ok((done, self.live.overrides.load().of(&member.server).is_some()))
    }

    /// Forgets what was said of a server that no source names now; `None` if nothing was, or if something is to be said anew.
    fn take_back(&self, command: &OperatorCommand) -> Option<OperationDone> {
        let mut overrides = Overrides::clone(&self.live.overrides.load());
        let (pool, server) = (&*command.pool, &*command.server);
        let before = match command.operation {
            Operation::State(Operator::Ready) => {
                overrides.take_back(pool, server, |word| word.state.take())?.state.word().to_owned()
            }
            Operation::Weight(None) => {
                format!("weight {}", overrides.take_back(pool, server, |word| word.weight.take())?.get())
            }
            Operation::State(_) | Operation::Weight(_) => return None,
        };
        self.live.overrides.store(Arc::new(overrides));
        info!(
            pool,
            server,
            was = before,
            actor = command.actor,
            "what was said of an absent server is forgotten"
        );
        let entry = LedgerEntry::new(EventKind::Operator, &command.actor, "no source names it now");
        self.live.record(entry.of(pool, server).change(&before, "nothing said"));
        let note = format!("no source names it now; that it is to be {before} is forgotten");
        Some(OperationDone { notes: vec![note] })
    }

    fn set_operator(&mut self, pool: &Pool, server: &Arc<Server>, operator: Operator, actor: &str) {
        let before = server.state().admin;
        let mut overrides = Overrides::clone(&self.live.overrides.load());
        overrides.set_operator(server, operator, actor, OffsetDateTime::now_utc());
        self.live.overrides.store(Arc::new(overrides));
        if before == operator {
            return;
        }
        self.apply_operator(pool, server, operator);
        info!(pool = %server.pool(), server = %server.name(), from = word(before), to = word(operator), actor,
            in_flight = server.in_flight(), "operator state changed");
        let entry = LedgerEntry::new(EventKind::Operator, actor, format!("{} in flight", server.in_flight()));
        self.live.record(entry.of(server.pool(), server.name()).change(word(before), word(operator)));
        self.look_at_ramps();
        self.look_for_failing_open();
    }

    /// Puts an operator's state in force; probes follow it.
    fn apply_operator(&mut self, pool: &Pool, server: &Arc<Server>, operator: Operator) {
        let (before, now) = (server.state().admin, Instant::now());
        if before == operator {
            return;
        }
        if before == Operator::Maint {
            // Nobody has looked at it meanwhile.
            server.probe_anew(Health::initial(pool.plan.health.as_ref()), now);
            server.set_close_at(None);
        }
        if operator == Operator::Maint {
            self.probing.stop(server.id());
            server.set_close_at(Some(now + pool.plan.drain_timeout));
            self.keep_closing(Arc::clone(server));
        }
        server.set_operator(operator);
        self.live.review_idle();
        if before == Operator::Maint
            && let Some(task) = ProbeTask::new(server, &pool.plan)
        {
            self.probing.start(task, Arc::clone(&pool.origination));
        }
    }

    /// Puts in force what operators have said to the process before this one.
    pub(super) fn say_again(&mut self, overrides: &Overrides) {
        let Some(mut plan) = self.planned() else { return };
        let (overrides, _) = overrides.kept_by(&plan, OffsetDateTime::now_utc());
        if overrides == **self.live.overrides.load() {
            return;
        }
        overrides.apply_to(&mut plan);
        self.live.overrides.store(Arc::new(overrides));
        self.revise(plan);
        self.follow_operators(&self.live.snapshot());
    }

    /// Has the servers of a new snapshot follow what operators have said.
    pub(super) fn follow_operators(&mut self, next: &Snapshot) {
        let overrides = self.live.overrides.load_full();
        for pool in next.pools() {
            for member in &pool.members {
                self.apply_operator(pool, &member.server, overrides.operator(&member.server));
            }
        }
    }

    fn set_weight(&mut self, server: &Arc<Server>, weight: Option<Weight>, actor: &str) {
        let mut overrides = Overrides::clone(&self.live.overrides.load());
        overrides.set_weight(server, weight);
        let Some(mut plan) = self.planned() else { return };
        overrides.apply_to(&mut plan);
        self.live.overrides.store(Arc::new(overrides));
        let of = |plan: &Plan| {
            let pool = plan.pools.iter().find(|pool| pool.name == *server.pool());
            let planned =
                pool.and_then(|pool| pool.servers.iter().find(|planned| planned.name == *server.name()));
            planned.map_or_else(String::new, |planned| planned.weight.get().to_string())
        };
        let (from, to) = (of(&self.live.snapshot().plan), of(&plan));
        if let Some(pool) = plan.pools.iter().find(|pool| pool.name == *server.pool()) {
            self.replace_servers(pool);
        }
        info!(pool = %server.pool(), server = %server.name(), from, to, actor, "weight changed");
        let cause = if weight.is_some() { "by an operator" } else { "as the configuration has it" };
        let entry = LedgerEntry::new(EventKind::Operator, actor, cause).of(server.pool(), server.name());
        self.live.record(entry.change(&format!("weight {from}"), &format!("weight {to}")));
    }

    /// Puts a plan in force that differs in what operators have said only.
    pub(super) fn revise(&mut self, plan: Plan) {
        let current = self.live.snapshot();
        let (next, delta) = current.evolve(plan, Instant::now());
        self.live.put_in_force(Arc::new(next.still(current.generation)));
        delta.settle(Instant::now(), Instant::now);
        self.live.review_idle();
    }

    /// The same where it differs in one pool's servers.
    fn replace_servers(&mut self, pool: &plan::PoolPlan) {
        let current = self.live.snapshot();
        let evolved = current.evolve_pool(&pool.name, pool.servers.clone(), Instant::now());
        let Some((next, delta)) = evolved else { return };
        self.live.put_in_force(Arc::new(next.still(current.generation)));
        delta.settle(Instant::now(), Instant::now);
        self.live.review_idle();
    }

    /// Takes note of which servers of a pool there are, for what operators have said of those that are not.
    pub(super) fn note_presence(&self, next: &Snapshot, pool: &str) {
        let Some(pool) = next.pool(pool) else { return };
        let overrides = self.live.overrides.load();
        let Some(noted) = overrides.noting_presence(&pool.plan, OffsetDateTime::now_utc()) else { return };
        self.live.overrides.store(Arc::new(noted));
        self.save_overrides_later();
    }

    /// What an earlier process was told. A file that cannot be read is nobody's word; if it was asked for, that is a
    /// reason not to start: it would be replaced.
    ///
    /// # Errors
    /// What is wrong with a file that was asked for.
    pub(super) async fn recall_overrides(&mut self, path: Option<&Path>) -> Result<(), String> {
        let Some(path) = path.map(Path::to_owned) else { return Ok(()) };
        let file = path.clone();
        let read = match aside(FILES_WITHIN, move || state_of(&file)).await {
            Ok(Ok(Some(text))) => KeptState::from_json(&text).map(Some),
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(error.to_string()),
            Err(why) => Err(why.to_string()),
        };
        match read {
            Ok(None) => {}
            Ok(Some(kept)) => self.recall_state(kept),
            Err(error) if *path != *Path::new(DEFAULT_STATE_FILE) => return Err(error),
            Err(error) => {
                self.live.metrics.state_file_failed();
                error!(path = %path.display(), error, "the state file is of no use; every server is ready");
            }
        }
        Ok(())
    }

    /// Goes on from what an earlier process has left.
    pub(super) fn recall_state(&self, kept: KeptState) {
        self.live.overrides.store(Arc::new(kept.overrides));
        self.live.sticky_key.store(kept.sticky_key.map(Arc::new));
    }

    /// Has the state file written. What is in force stays in force if that fails, and the operator hears of it.
    pub(super) fn save_overrides(&self) -> impl Future<Output = Option<String>> + use<> {
        let live = Arc::clone(&self.live);
        let plan = Arc::clone(&live.snapshot().plan);
        let writing = plan.admin.state_file.as_ref().map(|path| {
            let text = live.overrides.load().to_json(live.sticky_key.load().as_deref());
            self.state_file.as_ref().map(|file| file.replace(path, text))
        });
        async move {
            let (Some(writing), Some(path)) = (writing, &plan.admin.state_file) else {
                return Some("it ends with this process: there is no `admin.state_file`".to_owned());
            };
            let written = match writing {
                Some(writing) => tokio::time::timeout(SAVED_WITHIN, writing).await,
                None => Ok(Ok(Err("no thread can be had".to_owned()))),
            };
            let error = match written {
                Ok(Ok(written)) => written.err()?,
                Ok(Err(_)) => "its writer has ended".to_owned(),
                Err(_) => format!("the disk has not taken it within {SAVED_WITHIN:?}"),
            };
            live.metrics.state_file_failed();
            warn!(path = %path.display(), error, "the state file cannot be written");
            Some(format!("it ends with this process: {} cannot be written: {error}", path.display()))
        }
    }

    /// The same where nobody waits for it.
    pub(super) fn save_overrides_later(&self) {
        tokio::spawn(self.save_overrides());
    }

    /// Servers that are in maintenance are not probed.
    pub(super) fn is_probed_now(task: &ProbeTask) -> bool {
        task.server.state().admin != Operator::Maint
    }
}

/// What a state file holds, if there is one yet; there must be a place for it.
fn state_of(path: &Path) -> io::Result<Option<String>> {
    match files::read_text(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read.map(Some),
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK)?;
    Ok(None)
}

/// A state of health as events have it.
pub(super) fn health_word(health: HealthState) -> &'static str {
    match health {
        HealthState::Up => "up",
        HealthState::Down => "down",
        HealthState::Probing => "probing",
    }
}
/// What an operator is told who says that an ejected server is ready.
fn told_ejection(server: &Server, now: Instant) -> Option<String> {
    let ejection = server.outlier().standing().ejection?;
    let left = ejection.until.saturating_duration_since(now);
    let until = match left.is_zero() {
        true => "the time of its ejection is over, and requests try it out now".to_owned(),
        false => format!(
            "it stays ejected for {}, for it did worse than the others, and is tried out then",
            span(left)
        ),
    };
    Some(format!("{until}; `ready --force` brings it back at once"))
}
