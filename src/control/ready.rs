//! A configuration on its way into force: all that can fail comes first and changes nothing, and after that nothing fails.

use super::certificates::acme_names;
use super::reading::{LoadedConfiguration, OpenedFiles, ReloadRefused};
use super::{Control, FileBudget, LedgerEntry, ListenKey, sticky_key};
use crate::acme;
use crate::api::EventKind;
use crate::config::plan::Name;
use crate::edge::{self, Inherited};
use crate::operate::Overrides;
use crate::origination::{Origination, OriginationMaterial};
use crate::pool::Pool;
use crate::preview;
use crate::snapshot::{Delta, Listener, Snapshot};
use crate::sticky::Secret;
use crate::tls::{self, ManagedCertificate, Termination};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use time::OffsetDateTime;
use tracing::warn;

/// A configuration that can be put in force, with all that it needs.
#[derive(Debug)]
#[must_use = "nothing has changed until it is committed"]
pub(super) struct Ready {
    /// As it was read, without what operators have said since.
    read: LoadedConfiguration,
    current: Arc<Snapshot>,
    next: Arc<Snapshot>,
    delta: Delta,
    warnings: Vec<String>,
    overrides: Overrides,
    ended: Vec<String>,
    sticky_key: Option<Arc<Secret>>,
    managed: HashMap<Name, ManagedCertificate>,
    acme: Option<acme::Material>,
    /// In the order of the listeners.
    terminations: Vec<Option<Arc<Termination>>>,
    /// In the order of the pools.
    originations: Vec<Option<Arc<Origination>>>,
    /// The addresses that are new.
    sockets: HashMap<ListenKey, edge::Bound>,
    /// What is left of the sockets that were open before us.
    inherited: Inherited,
    opened: OpenedFiles,
}

/// What has changed.
#[derive(Debug)]
pub(crate) struct AppliedReload {
    pub(super) delta: Delta,
    pub(super) warnings: Vec<String>,
    /// Changed settings of the process.
    pub(super) settings: Vec<String>,
    /// Servers that took an operator's word with them.
    pub(super) ended: Vec<String>,
}

impl Control {
    /// Puts a plan in force. An error leaves everything as it was.
    pub(crate) fn take_over(
        &mut self,
        loaded: LoadedConfiguration,
        opened: OpenedFiles,
    ) -> Result<AppliedReload, ReloadRefused> {
        Ok(self.prepare(loaded, opened)?.commit(self))
    }

    /// Does what can fail.
    fn prepare(&self, loaded: LoadedConfiguration, mut opened: OpenedFiles) -> Result<Ready, ReloadRefused> {
        let read = loaded.clone();
        let LoadedConfiguration { mut plan, files, mut managed, acme, mut warnings, fingerprint: _ } = loaded;
        for warning in &warnings {
            warn!("{warning}");
        }
        let current = self.live.snapshot();
        let waits = self.live.found.warnings(&plan);
        waits.iter().for_each(|warning| warn!("{warning}"));
        warnings.extend(waits);
        self.live.found.fill(&mut plan);
        let sticky_key = match self.live.sticky_key.load_full() {
            None if sticky_key::is_needed(&plan) => {
                Some(Arc::new(sticky_key::make().ok_or(ReloadRefused::NoRandomness)?))
            }
            known => known,
        };
        sticky_key::fill(&mut plan, sticky_key.as_deref());
        let (overrides, ended) = self.live.overrides.load().kept_by(&plan, OffsetDateTime::now_utc());
        let ended = ended.names();
        overrides.apply_to(&mut plan);
        let (next, delta) = current.evolve(plan, Instant::now());
        // What cannot be read for once is no reason to have none.
        for name in acme_names(&next).filter_map(|name| self.managed.get_key_value(name)) {
            managed.entry(name.0.clone()).or_insert_with(|| name.1.clone());
        }
        let terminations = self.terminations(&next, files.listeners, &managed)?;
        let originations = originations(&next, files.pools)?;
        let mut inherited = self.inherited.clone();
        let unix_sockets = std::mem::take(&mut opened.unix_sockets);
        let sockets = self.open_new(&next, &mut inherited, unix_sockets)?;
        if !self.is_starting() {
            warnings.extend(warn_of_restart(&current, &next));
        }
        Ok(Ready {
            read,
            current,
            next: Arc::new(next),
            delta,
            warnings,
            overrides,
            ended,
            sticky_key,
            managed,
            acme,
            terminations,
            originations,
            sockets,
            inherited,
            opened,
        })
    }

    /// Whether nothing is accepted yet.
    pub(super) fn is_starting(&self) -> bool {
        self.held_back.is_some()
    }

    /// Who joined and who leaves; thousands of them are told of together.
    pub(super) fn record_members(&self, delta: &Delta, actor: &str) {
        const TOLD_ONE_BY_ONE: usize = 64;
        let kinds = [("joined", &delta.servers.added), ("leaving", &delta.servers.removed)];
        for (to, servers) in kinds {
            if servers.len() > TOLD_ONE_BY_ONE {
                let cause = format!("{} servers {to}", servers.len());
                self.live.record(LedgerEntry::new(EventKind::Membership, actor, cause));
                continue;
            }
            for server in servers {
                let from = if to == "joined" { "absent" } else { "present" };
                let cause = format!("{}, {} in flight", server.address(), server.in_flight());
                let entry = LedgerEntry::new(EventKind::Membership, actor, cause);
                self.live.record(entry.of(server.pool(), server.name()).change(from, to));
            }
        }
    }

    /// How each listener is to end TLS, in their order.
    fn terminations(
        &self,
        next: &Snapshot,
        certificates: Vec<Option<tls::Certificates>>,
        managed: &HashMap<Name, ManagedCertificate>,
    ) -> Result<Vec<Option<Arc<Termination>>>, ReloadRefused> {
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
                .map_err(|error| ReloadRefused::Tls { listener: name.clone(), error })
        };
        next.listeners().iter().zip(certificates).map(of).collect()
    }
}

impl Ready {
    /// Does the rest, which cannot fail.
    fn commit(self, control: &mut Control) -> AppliedReload {
        let Self { read, current, next, delta, warnings, overrides, ended, .. } = self;
        let Self {
            managed, acme, terminations, originations, sockets, inherited, opened, sticky_key, ..
        } = self;
        let OpenedFiles { token, purge_tokens, access_log, journal, recalled, unix_sockets: _ } = opened;
        control.live.event_log.keep(next.plan.events.keep);
        control.live.event_log.recall(recalled);
        if let Some(journal) = journal {
            control.live.event_log.write_to(journal);
        }
        // Before a request can see them: what an operator has said of a name holds for its new address too.
        for server in &delta.servers.added {
            server.set_operator(overrides.operator(server));
        }
        control.loaded = Some(read);
        let token = token.map(Arc::new);
        control.passing_on.follow(&next.plan, purge_tokens, token.as_ref(), &control.live);
        control.live.token.store(token);
        if next.plan.has_limits() {
            control.live.begin_limits(next.plan.process.limit_keys);
        }
        control.live.try_disk_again(&next.plan);
        control.live.put_in_force(Arc::clone(&next));
        for (pool, origination) in next.pools().iter().zip(originations) {
            pool.origination.store(origination);
        }
        // Before their servers are told: a result that still came would count against what they are told.
        for server in &delta.probes_stopped {
            control.probing.stop(*server);
        }
        delta.settle(Instant::now(), Instant::now);
        control.live.review_idle();
        control.remember_servers(&next);
        control.live.overrides.store(Arc::new(overrides));
        if let Some(output) = access_log {
            control.live.access_log.configure(output);
        }
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let budget = FileBudget::of(&next.plan, files.unwrap_or(u64::MAX));
        control.connection_limit.set_limit(budget.connections);
        control.live.server_connections.set_limit(budget.server_connections);
        control.update_listener_states(&next, sockets, terminations);
        control.managed = managed;
        control.certificates.follow(&next.plan, acme, &control.live.metrics.acme);
        control.note_acme_names(&next);
        for task in delta.probes_started.iter().filter(|task| Control::is_probed_now(task)) {
            let origination = next.pool(task.server.pool()).map(|pool| Arc::clone(&pool.origination));
            control.probing.start(task.clone(), origination.unwrap_or_default());
        }
        // As the configuration has it: whom sources have named is theirs to say.
        if let Some(loaded) = &control.loaded {
            control.discovering.follow(&loaded.plan);
        }
        control.file_following.follow(&next.plan, &control.live);
        control.servers_unsaved |= next.plan.pools.iter().any(|pool| !pool.sources.is_empty());
        control.probing.forget(|pool| next.pool(pool).is_some());
        control.follow_operators(&next);
        let is_new_key = sticky_key.is_some() && control.live.sticky_key.load().is_none();
        control.live.sticky_key.store(sticky_key);
        if !ended.is_empty() || is_new_key {
            control.save_overrides_later();
        }
        if !control.is_starting() {
            control.record_members(&delta, "reload");
        }
        delta.servers.removed.iter().for_each(|server| control.keep_leaving(server, "reload"));
        control.count_what_is_before();
        control.live.metrics.forget(&next);
        control.live.metrics.reload_succeeded(SystemTime::now());
        control.inherited = inherited;
        control.inherited.close_rest();
        control.look_at_ramps();
        control.look_for_failing_open();
        let settings = preview::changed_settings(&current.plan, &next.plan);
        AppliedReload { delta, warnings, settings, ended }
    }
}

/// How connections to each pool's servers are to be secured, in their order.
pub(super) fn originations(
    next: &Snapshot,
    materials: Vec<Option<OriginationMaterial>>,
) -> Result<Vec<Option<Arc<Origination>>>, ReloadRefused> {
    let of = |(pool, material): (&Arc<Pool>, Option<OriginationMaterial>)| {
        let made = material.map(|material| Origination::new(material, pool.origination.load_full()));
        made.transpose().map_err(|error| ReloadRefused::ServerTls { pool: pool.name.clone(), error })
    };
    next.pools().iter().zip(materials).map(of).collect()
}

/// What only a restart can change.
fn warn_of_restart(current: &Snapshot, next: &Snapshot) -> Vec<String> {
    let (old, new) = (&current.plan, &next.plan);
    let waits = [
        ("process.limit_keys", old.process.limit_keys != new.process.limit_keys && old.has_limits()),
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
