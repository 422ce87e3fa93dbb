//! One reload, from the file's text to the followers' orders.

use super::receipt::{cause, log_taken};
use super::{Asked, Control, Entry, FileBudget};
use crate::access_log::Output;
use crate::acme::{self, Material as AcmeMaterial};
use crate::api::{Kind, Outcome, Receipt};
use crate::config::plan::{AcmeChallenge, Name, Plan};
use crate::config::{self, Problems};
use crate::edge::Door;
use crate::origination::{Material, Origination};
use crate::pool::Pool;
use crate::snapshot::{Delta, Listener, Snapshot};
use crate::tls::{self, Managed, Termination};
use crate::token::{Token, TokenError};
use crate::units::Address;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tracing::{error, info, warn};

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(PathBuf),
    /// The demo has no file.
    Text(String),
    /// Somebody else has read it.
    Given {
        name: String,
        text: String,
    },
}

impl Source {
    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text(_) => "built-in configuration".to_owned(),
            Self::Given { name, .. } => name.clone(),
        }
    }

    fn read(&self) -> io::Result<String> {
        match self {
            Self::File(path) => std::fs::read_to_string(path),
            Self::Text(text) | Self::Given { text, .. } => Ok(text.clone()),
        }
    }
}

/// Why a configuration was not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{name}: cannot be read: {error}")]
    Unreadable { name: String, error: io::Error },
    #[error("{0}")]
    Problems(String),
    #[error("listeners.{listener}: cannot listen on {address}: {error}")]
    Listen { listener: Name, address: Address, error: io::Error },
    #[error("listeners.{listener}.tls: cannot be set up: {error}")]
    Tls { listener: Name, error: tokio_rustls::rustls::Error },
    #[error("pools.{pool}.tls: cannot be set up: {error}")]
    ServerTls { pool: Name, error: rustls::Error },
    #[error("access_log.path: {path}: cannot be opened: {error}")]
    AccessLog { path: String, error: io::Error },
    #[error("events.path: {path}: cannot be used: {error}")]
    Events { path: String, error: io::Error },
    #[error("admin.token_file: {path}: {error}")]
    Token { path: String, error: TokenError },
}

/// What has changed.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(super) delta: Delta,
    pub(super) warnings: Vec<String>,
    /// Servers that took an operator's word with them.
    pub(super) ended: Vec<String>,
}

/// A configuration that was read, with the files that it names.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) plan: Plan,
    pub(super) files: tls::Files,
    /// What authorities gave, as far as it is stored.
    managed: HashMap<Name, Managed>,
    acme: Option<AcmeMaterial>,
    /// For the log, once there is one.
    pub(super) warnings: Vec<String>,
    /// The text's SHA-256.
    pub(crate) fingerprint: String,
}

/// Reads and checks a configuration and the files that it names.
pub(crate) fn load(source: &Source) -> Result<Loaded, Refused> {
    let name = source.name();
    let text = match source.read() {
        Ok(text) => text,
        Err(error) => return Err(Refused::Unreadable { name, error }),
    };
    let lines = |problems: &Problems| {
        let line = |problem: &config::Problem| {
            let spot = problem.spot;
            format!("{name}:{}:{}: {}", spot.line, spot.column, problem.sentence())
        };
        problems.iter().map(line).collect::<Vec<_>>()
    };
    let (plan, mut problems) =
        config::parse(&text).map_err(|problems| Refused::Problems(lines(&problems).join("\n")))?;
    let (files, faults) = tls::read(&plan, &text, SystemTime::now());
    faults.into_iter().for_each(|fault| problems.push(fault));
    let acme = acme::read(&plan, &text).unwrap_or_else(|faults| {
        faults.into_iter().for_each(|fault| problems.push(fault));
        None
    });
    if problems.has_errors() {
        return Err(Refused::Problems(lines(&problems).join("\n")));
    }
    let managed = acme::stored(&plan);
    let fingerprint = fingerprint(&text);
    Ok(Loaded { plan, files, managed, acme, warnings: lines(&problems), fingerprint })
}

impl Control {
    /// Reloads, unless another process is about to take over, with the file as it has read it.
    pub(super) fn reload_unless_replaced(&mut self, asked: Vec<Asked>) {
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
                Outcome::Refused,
                self.live.snapshot().generation,
                time::OffsetDateTime::now_utc(),
                &asked.actor,
            );
            receipt.configuration = self.source.name();
            receipt.problems.push(problem.to_owned());
            warn!(actor = asked.actor, "reload refused: {problem}");
            self.live.record(Entry::new(Kind::Reload, &asked.actor, cause(&receipt)));
            let _ = asked.answer.send(Arc::new(receipt));
        }
    }

    /// Whether a reload is under way.
    pub(super) fn is_reloading(&self) -> bool {
        false
    }

    /// Reloads, and tells the log, the ledger and everybody who asked what came of it.
    pub(super) fn reload(&mut self, asked: Vec<Asked>) {
        // systemd wants the time with it (sd_notify(3)); without it at least the word.
        match sd_notify::NotifyState::monotonic_usec_now() {
            Ok(now) => Self::notify(&[sd_notify::NotifyState::Reloading, now]),
            Err(_) => Self::notify(&[sd_notify::NotifyState::Reloading]),
        }
        let started = Instant::now();
        let actor = asked.first().map_or("signal", |asked| &asked.actor);
        let guard = asked.iter().rev().find_map(|asked| asked.guard.clone());
        let baseline = guard.as_ref().and_then(|guard| self.baseline(&guard.limits));
        let mut receipt = match load(&self.source) {
            Ok(loaded) => {
                let fingerprint = loaded.fingerprint.clone();
                let taken = self.take_over(loaded);
                if taken.is_ok() {
                    self.stop_watching();
                    self.taken_back = None;
                }
                Receipt { fingerprint: Some(fingerprint), ..self.receipt(actor, taken) }
            }
            Err(refused) => self.receipt(actor, Err(refused)),
        };
        receipt.took_ms = super::milliseconds(started.elapsed());
        if receipt.outcome == Outcome::InForce {
            log_taken(&receipt);
            if let Some((guard, baseline)) = guard.zip(baseline) {
                self.watch(guard, baseline, actor);
            }
        } else {
            self.live.metrics.reload_refused();
            for line in &receipt.problems {
                error!("{line}");
            }
            error!(generation = receipt.generation, "reload refused; nothing has changed");
        }
        self.live.record(Entry::new(Kind::Reload, actor, cause(&receipt)));
        let receipt = Arc::new(receipt);
        self.live.last_reload.store(Some(Arc::clone(&receipt)));
        for asked in asked {
            // Whoever asked may have gone.
            let _ = asked.answer.send(Arc::clone(&receipt));
        }
        Self::notify(&[sd_notify::NotifyState::Ready]);
    }

    /// Puts a plan in force. An error leaves everything as it was.
    pub(crate) fn take_over(&mut self, loaded: Loaded) -> Result<Taken, Refused> {
        let read = loaded.clone();
        let Loaded { mut plan, files, mut managed, acme, mut warnings, fingerprint: _ } = loaded;
        for warning in &warnings {
            warn!("{warning}");
        }
        let current = self.live.snapshot();
        let (overrides, ended) = self.live.overrides.load().kept_by(&plan);
        let ended = ended.names();
        overrides.weigh(&mut plan);
        let (next, delta) = current.evolve(plan, Instant::now());
        // What cannot be read for once is no reason to have none.
        for name in acme_names(&next).filter_map(|name| self.managed.get_key_value(name)) {
            managed.entry(name.0.clone()).or_insert_with(|| name.1.clone());
        }
        let token = read_token(&next.plan)?;
        let terminations = self.terminations(&next, files.listeners, &managed)?;
        let originations = originations(&next, files.pools)?;
        let opened = self.open_new(&next)?;
        let access_log = (next.plan.access_log != current.plan.access_log)
            .then(|| open_access_log(&next.plan))
            .transpose()?;
        let events = &next.plan.events;
        let wrong = |path: &Path, error| Refused::Events { path: path.display().to_string(), error };
        if let (true, Some(path)) = (self.is_starting(), &events.path) {
            self.live.book.keep(events.keep);
            self.live.book.recall(path).map_err(|error| wrong(path, error))?;
        }
        self.live
            .book
            .write_to(events.path.as_deref())
            .map_err(|error| wrong(events.path.as_deref().unwrap_or(Path::new("")), error))?;
        if !self.is_starting() {
            warnings.extend(warn_of_restart(&current, &next));
        }

        // From here on nothing can fail.
        self.live.book.keep(next.plan.events.keep);
        let next = Arc::new(next);
        self.loaded = Some(read);
        self.live.token.store(token.map(Arc::new));
        self.live.put_in_force(Arc::clone(&next));
        for (pool, origination) in next.pools().iter().zip(originations) {
            pool.origination.store(origination);
        }
        // Before their servers are told: a result that still came would count against what they are told.
        for server in &delta.probes_stopped {
            self.probing.stop(*server);
        }
        delta.settle(Instant::now());
        self.remember_health(&next);
        self.live.overrides.store(Arc::new(overrides));
        if let Some(output) = access_log {
            self.live.access_log.configure(output);
        }
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let budget = FileBudget::of(&next.plan, files.unwrap_or(u64::MAX));
        self.gate.set_limit(budget.connections);
        self.live.server_connections.set_limit(budget.server_connections);
        self.set_doors(&next, opened, terminations);
        self.managed = managed;
        self.keeping.follow(&next.plan, acme, &self.live.metrics.acme);
        self.note_acme_names(&next);
        for task in delta.probes_started.iter().filter(|task| Self::is_probed_now(task)) {
            let origination = next.pool(task.server.pool()).map(|pool| Arc::clone(&pool.origination));
            self.probing.start(task.clone(), origination.unwrap_or_default());
        }
        self.probing.forget(|pool| next.pool(pool).is_some());
        self.follow_operators(&next);
        if !ended.is_empty() {
            self.save_overrides();
        }
        if !self.is_starting() {
            self.record_members(&delta);
        }
        delta.servers.removed.iter().cloned().for_each(|server| self.keep_closing(server));
        self.count_what_is_before();
        self.live.metrics.forget(&next);
        self.live.metrics.reload_succeeded(SystemTime::now());
        self.inherited.close_rest();
        self.look_for_failing_open();
        Ok(Taken { delta, warnings, ended })
    }

    /// Whether nothing is accepted yet.
    fn is_starting(&self) -> bool {
        self.held_back.is_some()
    }

    /// Who joined and who leaves; thousands of them are told of together.
    fn record_members(&self, delta: &Delta) {
        const TOLD_ONE_BY_ONE: usize = 64;
        let kinds = [("joined", &delta.servers.added), ("leaving", &delta.servers.removed)];
        for (to, servers) in kinds {
            if servers.len() > TOLD_ONE_BY_ONE {
                let cause = format!("{} servers {to}", servers.len());
                self.live.record(Entry::new(Kind::Membership, "reload", cause));
                continue;
            }
            for server in servers {
                let from = if to == "joined" { "absent" } else { "present" };
                let cause = format!("{}, {} in flight", server.address(), server.in_flight());
                let entry = Entry::new(Kind::Membership, "reload", cause);
                self.live.record(entry.of(server.pool(), server.name()).change(from, to));
            }
        }
    }

    /// How each listener is to end TLS, in their order.
    fn terminations(
        &self,
        next: &Snapshot,
        certificates: Vec<Option<tls::Certificates>>,
        managed: &HashMap<Name, Managed>,
    ) -> Result<Vec<Option<Arc<Termination>>>, Refused> {
        let of = |(listener, certificates): (&Arc<Listener>, Option<tls::Certificates>)| {
            let (Some(plan), Some(certificates)) = (&listener.plan.tls, certificates) else {
                return Ok(None);
            };
            let before = self.bound.values().find(|bound| bound.door.id == listener.id);
            let before = before.and_then(|bound| bound.door.tls.load_full());
            let termination = Termination::new(certificates, plan.min_version, before.as_deref());
            let name = &listener.plan.name;
            termination
                .map(|termination| match plan.acme.is_empty() {
                    true => Some(Arc::new(termination)),
                    false => Some(Arc::new(self.with_managed(&termination, plan, &next.plan, managed))),
                })
                .map_err(|error| Refused::Tls { listener: name.clone(), error })
        };
        next.listeners().iter().zip(certificates).map(of).collect()
    }

    /// A listener's way to end TLS, with what authorities gave for its names.
    fn with_managed(
        &self,
        termination: &Termination,
        tls: &config::plan::Tls,
        plan: &Plan,
        managed: &HashMap<Name, Managed>,
    ) -> Termination {
        let managed: Vec<_> = tls.acme.iter().filter_map(|name| managed.get(name).cloned()).collect();
        let by_handshake = plan.acme.as_ref().is_some_and(|acme| acme.challenge == AcmeChallenge::TlsAlpn01);
        termination.with(&managed, by_handshake.then_some(&self.live.board.certificates))
    }

    /// Shows clients a certificate that an authority has just given. Only what new connections are shown changes.
    pub(super) fn put_certificate_in_force(&mut self, certificate: Managed) {
        let (name, until) = (certificate.name.clone(), certificate.expiry.at);
        if !acme_names(&self.live.snapshot()).any(|configured| *configured == name) {
            // It was under way when a reload removed the name.
            return;
        }
        let known = self.managed.insert(name.clone(), certificate.clone());
        if known.is_some_and(|known| known.is(&certificate)) {
            return;
        }
        let snapshot = self.live.snapshot();
        // A listener of several addresses has one door.
        let doors: HashMap<u32, &Arc<Door>> =
            self.bound.values().map(|bound| (bound.door.id, &bound.door)).collect();
        for door in doors.into_values() {
            let Some(listener) = snapshot.listener(door.id) else { continue };
            let (Some(tls), Some(before)) = (&listener.plan.tls, door.tls.load_full()) else { continue };
            if tls.acme.contains(&name) {
                let next = self.with_managed(&before, tls, &snapshot.plan, &self.managed);
                door.tls.store(Some(Arc::new(next)));
                info!(listener = %listener.plan.name, %name, until, "certificate in force");
            }
        }
        self.note_acme_names(&snapshot);
    }

    fn note_acme_names(&self, snapshot: &Snapshot) {
        let names = acme_names(snapshot).map(|name| (name, self.managed.contains_key(name)));
        self.live.metrics.acme.keeps(names);
    }

    pub(super) fn reopen_logs(&mut self) {
        if let Some(coming) = &mut self.coming {
            // It may have opened them before they were rotated away.
            coming.reopen_logs = true;
        }
        self.live.book.reopen();
        let plan = Arc::clone(&self.live.snapshot().plan);
        match open_access_log(&plan) {
            Ok(output) => {
                self.live.access_log.configure(output);
                info!("log files reopened");
            }
            Err(refused) => error!("{refused}; still writing to the old file"),
        }
    }
}

/// How connections to each pool's servers are to be secured, in their order.
pub(super) fn originations(
    next: &Snapshot,
    materials: Vec<Option<Material>>,
) -> Result<Vec<Option<Arc<Origination>>>, Refused> {
    let of = |(pool, material): (&Arc<Pool>, Option<Material>)| {
        let made = material.map(|material| Origination::new(material, pool.origination.load_full()));
        made.transpose().map_err(|error| Refused::ServerTls { pool: pool.name.clone(), error })
    };
    next.pools().iter().zip(materials).map(of).collect()
}

/// The names that authorities are asked for.
fn acme_names(snapshot: &Snapshot) -> impl Iterator<Item = &Name> {
    snapshot.listeners().iter().filter_map(|listener| listener.plan.tls.as_ref()).flat_map(|tls| &tls.acme)
}

type AccessLogOutput = Option<(Output, config::plan::AccessLogFormat)>;

fn open_access_log(plan: &Plan) -> Result<AccessLogOutput, Refused> {
    let Some(settings) = &plan.access_log else { return Ok(None) };
    match Output::open(&settings.path) {
        Ok(output) => Ok(Some((output, settings.format))),
        Err(error) => Err(Refused::AccessLog { path: settings.path.to_string(), error }),
    }
}

/// What only a restart can change.
fn warn_of_restart(current: &Snapshot, next: &Snapshot) -> Vec<String> {
    let (old, new) = (&current.plan, &next.plan);
    let waits = [
        ("process.threads", old.process.threads != new.process.threads),
        ("admin", old.admin != new.admin),
        ("log", old.log != new.log),
    ];
    let warning = |(key, _)| {
        let warning = format!("{key} has changed; it takes effect at the next start");
        warn!("{warning}");
        warning
    };
    waits.into_iter().filter(|(_, has_changed)| *has_changed).map(warning).collect()
}

/// What changes over TCP must show.
fn read_token(plan: &Plan) -> Result<Option<Token>, Refused> {
    let read = |path: &PathBuf| {
        Token::read(path).map_err(|error| Refused::Token { path: path.display().to_string(), error })
    };
    plan.admin.token_file.as_ref().map(read).transpose()
}

/// As `sha256sum` prints it.
fn fingerprint(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    data_encoding::HEXLOWER.encode(digest.as_ref())
}
