//! One reload, from the file's text to the followers' orders.

use super::reading::{Loaded, Opened, Purpose, Read, Reading, Refused};
use super::receipt::{cause, log_taken};
use super::{Asked, Control, Entry, FileBudget};
use crate::api::{Kind, Outcome, Receipt};
use crate::config::plan::{self, AcmeChallenge, Name, Plan};
use crate::edge::ListenerState;
use crate::origination::{Material, Origination};
use crate::pool::Pool;
use crate::preview;
use crate::snapshot::{Delta, Listener, Snapshot};
use crate::tls::{self, Managed, Termination};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tracing::{error, info, warn};

/// What has changed.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(super) delta: Delta,
    pub(super) warnings: Vec<String>,
    /// Changed settings of the process.
    pub(super) settings: Vec<String>,
    /// Servers that took an operator's word with them.
    pub(super) ended: Vec<String>,
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

    /// Begins to read the file again. Who asks while it is being read may want what has been written since, and waits.
    pub(super) fn reload(&mut self, asked: Vec<Asked>) {
        if self.is_reloading() {
            self.reload_again.get_or_insert_default().extend(asked);
            return;
        }
        // systemd wants the time with it (sd_notify(3)); without it at least the word.
        match sd_notify::NotifyState::monotonic_usec_now() {
            Ok(now) => Self::notify(&[sd_notify::NotifyState::Reloading, now]),
            Err(_) => Self::notify(&[sd_notify::NotifyState::Reloading]),
        }
        self.read(Purpose::Reload(asked));
    }

    /// Goes on with what was read.
    pub(super) fn go_on_with(&mut self, read: Result<Read, Refused>) {
        let Some(Reading { purpose, since }) = self.reading.take() else { return };
        match purpose {
            Purpose::Reload(asked) => self.finish_reload(asked, read, since),
            Purpose::RollBack(why) => self.finish_roll_back(&why, read, since),
        }
        if let Some(asked) = self.reload_again.take() {
            self.reload(asked);
        }
    }

    /// Puts what was read in force, and tells the log, the ledger and everybody who asked what came of it.
    fn finish_reload(&mut self, asked: Vec<Asked>, read: Result<Read, Refused>, started: Instant) {
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
    pub(crate) fn take_over(&mut self, loaded: Loaded, opened: Opened) -> Result<Taken, Refused> {
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
        let terminations = self.terminations(&next, files.listeners, &managed)?;
        let originations = originations(&next, files.pools)?;
        let sockets = self.open_new(&next)?;
        if !self.is_starting() {
            warnings.extend(warn_of_restart(&current, &next));
        }

        // From here on nothing can fail.
        let Opened { token, access_log, journal, recalled } = opened;
        self.live.book.keep(next.plan.events.keep);
        self.live.book.recall(recalled);
        if let Some(journal) = journal {
            self.live.book.write_to(journal);
        }
        // Before a request can see them: what an operator has said of a name holds for its new address too.
        for server in &delta.servers.added {
            server.set_operator(overrides.operator(server));
        }
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
        self.connection_limit.set_limit(budget.connections);
        self.live.server_connections.set_limit(budget.server_connections);
        self.set_doors(&next, sockets, terminations);
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
            self.save_overrides_later();
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
        let settings = preview::changed_settings(&current.plan, &next.plan);
        Ok(Taken { delta, warnings, settings, ended })
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
            let before = self.bound.values().find(|bound| bound.listener_state.id == listener.id);
            let before = before.and_then(|bound| bound.listener_state.tls.load_full());
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
        tls: &plan::Tls,
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
        // A listener of several addresses has one state.
        let listener_states: HashMap<u32, &Arc<ListenerState>> =
            self.bound.values().map(|bound| (bound.listener_state.id, &bound.listener_state)).collect();
        for listener_state in listener_states.into_values() {
            let Some(listener) = snapshot.listener(listener_state.id) else { continue };
            let (Some(tls), Some(before)) = (&listener.plan.tls, listener_state.tls.load_full()) else {
                continue;
            };
            if tls.acme.contains(&name) {
                let next = self.with_managed(&before, tls, &snapshot.plan, &self.managed);
                listener_state.tls.store(Some(Arc::new(next)));
                info!(listener = %listener.plan.name, %name, until, "certificate in force");
            }
        }
        self.note_acme_names(&snapshot);
    }

    fn note_acme_names(&self, snapshot: &Snapshot) {
        let names = acme_names(snapshot).map(|name| (name, self.managed.contains_key(name)));
        self.live.metrics.acme.keeps(names);
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
