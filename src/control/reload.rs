//! One reload, from the file's text to the followers' orders.

use super::{Bound, Control, Key};
use crate::access_log::Output;
use crate::acme::{self, Material as AcmeMaterial};
use crate::config::plan::{AcmeChallenge, Name, Plan, Transport};
use crate::config::{self, Problems};
use crate::edge::{self, Accept, Door, Order};
use crate::origination::{Material, Origination};
use crate::pool::Pool;
use crate::snapshot::{Changes, Delta, Listener, Snapshot};
use crate::tls::{self, Managed, Termination};
use crate::units::Address;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::{error, info, warn};

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(PathBuf),
    /// The demo has no file.
    Text(String),
}

impl Source {
    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text(_) => "built-in configuration".to_owned(),
        }
    }

    fn read(&self) -> io::Result<String> {
        match self {
            Self::File(path) => std::fs::read_to_string(path),
            Self::Text(text) => Ok(text.clone()),
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
}

/// What a reload did.
#[derive(Debug)]
pub(crate) struct Receipt {
    pub(crate) generation: u64,
    pub(crate) delta: Delta,
}

/// A configuration that was read, with the files that it names.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) plan: Plan,
    files: tls::Files,
    /// What authorities gave, as far as it is stored.
    managed: HashMap<Name, Managed>,
    acme: Option<AcmeMaterial>,
    /// For the log, once there is one.
    warnings: Vec<String>,
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
    Ok(Loaded { plan, files, managed, acme, warnings: lines(&problems) })
}

impl Control {
    /// Reloads and logs the outcome.
    pub(super) fn reload(&mut self) {
        // systemd wants the time with it (sd_notify(3)); without it at least the word.
        match sd_notify::NotifyState::monotonic_usec_now() {
            Ok(now) => Self::notify(&[sd_notify::NotifyState::Reloading, now]),
            Err(_) => Self::notify(&[sd_notify::NotifyState::Reloading]),
        }
        let started = Instant::now();
        match load(&self.source).and_then(|loaded| self.take_over(loaded)) {
            Ok(receipt) => receipt.log(started.elapsed()),
            Err(refused) => {
                self.live.metrics.reload_refused();
                for line in refused.to_string().lines() {
                    error!("{line}");
                }
                error!(generation = self.live.snapshot().generation, "reload refused; nothing has changed");
            }
        }
        Self::notify(&[sd_notify::NotifyState::Ready]);
    }

    /// Puts a plan in force. An error leaves everything as it was.
    pub(crate) fn take_over(&mut self, loaded: Loaded) -> Result<Receipt, Refused> {
        let Loaded { plan, files, mut managed, acme, warnings } = loaded;
        for warning in warnings {
            warn!("{warning}");
        }
        let current = self.live.snapshot();
        let (next, delta) = current.evolve(plan, Instant::now());
        // What cannot be read for once is no reason to have none.
        for name in acme_names(&next).filter_map(|name| self.managed.get_key_value(name)) {
            managed.entry(name.0.clone()).or_insert_with(|| name.1.clone());
        }
        let terminations = self.terminations(&next, files.listeners, &managed)?;
        let originations = originations(&next, files.pools)?;
        let opened = self.open_new(&next)?;
        let access_log = (next.plan.access_log != current.plan.access_log)
            .then(|| open_access_log(&next.plan))
            .transpose()?;
        warn_of_restart(&current, &next);

        // From here on nothing can fail.
        let next = Arc::new(next);
        self.live.put_in_force(Arc::clone(&next));
        for (pool, origination) in next.pools().iter().zip(originations) {
            pool.origination.store(origination);
        }
        delta.settle(Instant::now());
        if let Some(output) = access_log {
            self.live.access_log.configure(output);
        }
        self.gate.set_limit(next.plan.process.max_connections.min(self.file_limit()));
        self.set_doors(&next, opened, terminations);
        self.managed = managed;
        self.keeping.follow(&next.plan, acme, &self.live.metrics.acme);
        self.note_acme_names(&next);
        for server in &delta.probes_stopped {
            self.probing.stop(*server);
        }
        for task in &delta.probes_started {
            let origination = next.pool(task.server.pool()).map(|pool| Arc::clone(&pool.origination));
            self.probing.start(task.clone(), origination.unwrap_or_default());
        }
        self.closing.extend(delta.servers.removed.iter().cloned());
        self.live.metrics.forget(&next);
        self.live.metrics.reload_succeeded(SystemTime::now());
        self.inherited.close_rest();
        self.look_for_failing_open();
        Ok(Receipt { generation: next.generation, delta })
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

    /// Opens the addresses that are not open yet.
    fn open_new(&mut self, next: &Snapshot) -> Result<HashMap<Key, edge::Bound>, Refused> {
        let mut opened = HashMap::new();
        for listener in next.listeners() {
            let name = &listener.plan.name;
            let transport = listener.plan.protocol.transport();
            for address in &listener.plan.addresses {
                let key = (name.clone(), address.clone(), transport);
                let lingers = transport == Transport::Datagram && self.lingering.contains_key(address);
                if self.bound.contains_key(&key) || lingers || self.moved(next, address, transport).is_some()
                {
                    continue;
                }
                let workers = self.workers.count();
                let inherited = self.inherited.claim(name, address, transport, workers);
                match inherited.transpose().unwrap_or_else(|| edge::bind(address, transport, workers)) {
                    Ok(bound) => {
                        opened.insert(key, bound);
                    }
                    Err(error) => {
                        let (listener, address) = (name.clone(), address.clone());
                        return Err(Refused::Listen { listener, address, error });
                    }
                }
            }
        }
        Ok(opened)
    }

    /// An open address that its listener gives up and another may have, sockets and all.
    fn moved(&self, next: &Snapshot, address: &Address, transport: Transport) -> Option<Key> {
        if matches!(address, Address::Inet(inet) if inet.port() == 0) {
            return None;
        }
        let is_it = |key: &&Key| key.1 == *address && key.2 == transport && !keeps(next, key);
        self.bound.keys().find(is_it).cloned()
    }

    /// An open address for a listener that has it from now on: one that another gives up, or one that nobody had
    /// any more.
    fn take_open(&mut self, next: &Snapshot, key: &Key) -> Option<Bound> {
        let (name, address, transport) = key;
        if let Some(moved) = self.moved(next, address, *transport).and_then(|from| self.bound.remove(&from)) {
            self.stop_accepting(next, &moved);
            info!(listener = %name, %address, from = %moved.door.name, "listening");
            return Some(moved);
        }
        if *transport != Transport::Datagram {
            return None;
        }
        let lingering = self.lingering.remove(address)?;
        info!(listener = %name, %address, "listening");
        Some(lingering)
    }

    fn set_doors(
        &mut self,
        next: &Snapshot,
        mut opened: HashMap<Key, edge::Bound>,
        terminations: Vec<Option<Arc<Termination>>>,
    ) {
        let mut doors = Vec::with_capacity(next.listeners().len());
        for (listener, tls) in next.listeners().iter().zip(terminations) {
            let plan = &listener.plan;
            let kept = self.bound.values().find(|bound| bound.door.id == listener.id);
            let door = match kept {
                Some(bound) => {
                    bound.door.change(plan.clone(), tls);
                    Arc::clone(&bound.door)
                }
                None => Door::new(listener.id, plan.clone(), tls),
            };
            doors.push(Arc::clone(&door));
            for address in &plan.addresses {
                let key = (plan.name.clone(), address.clone(), plan.protocol.transport());
                if self.bound.contains_key(&key) {
                    continue;
                }
                let place = self.next_place;
                self.next_place += 1;
                let bound = match opened.remove(&key) {
                    Some(new) => {
                        info!(listener = %plan.name, address = %new.address, "listening");
                        let held = Arc::default();
                        Bound { place, door: Arc::clone(&door), sockets: new.sockets, held, file: new.file }
                    }
                    None => {
                        let Some(mut moved) = self.take_open(next, &key) else {
                            // `open_new` opened or found each of them.
                            error!(listener = %plan.name, %address, "an address is neither open nor moved");
                            continue;
                        };
                        moved.place = place;
                        moved.door = Arc::clone(&door);
                        moved
                    }
                };
                self.bound.insert(key.clone(), bound);
                match &mut self.held_back {
                    Some(held_back) => held_back.push(key),
                    None => self.accept(&key),
                }
            }
        }
        self.close_old(next);
        self.doors.set(doors);
    }

    fn close_old(&mut self, next: &Snapshot) {
        let old: Vec<Key> = self.bound.keys().filter(|key| !keeps(next, key)).cloned().collect();
        for key in old {
            let Some(bound) = self.bound.remove(&key) else { continue };
            self.stop_accepting(next, &bound);
            info!(listener = %key.0, address = %key.1, "no longer listening");
            if key.2 == Transport::Datagram {
                self.lingering.insert(key.1, bound);
            }
        }
    }

    /// Nothing more is accepted in this listener's name; if it is gone, its connections end as soon as they may.
    fn stop_accepting(&self, next: &Snapshot, bound: &Bound) {
        let place = bound.place;
        self.workers.tell_all(|| Order::Close { place });
        if next.listener(bound.door.id).is_none() {
            bound.door.close();
            let listener = bound.door.id;
            self.workers.tell_all(|| Order::CloseIdle { listener });
        }
    }

    /// Has the workers accept on an open address.
    pub(super) fn accept(&self, key: &Key) {
        let Some(bound) = self.bound.get(key) else { return };
        // There may be more sockets than workers, when a process with more of them has passed them on.
        for (n, socket) in bound.sockets.iter().enumerate() {
            let worker = n % self.workers.count();
            match socket.try_clone() {
                Ok(socket) => {
                    let (place, door, held) = (bound.place, Arc::clone(&bound.door), Arc::clone(&bound.held));
                    self.workers.tell(worker, Order::Accept(Accept { place, socket, door, held }));
                }
                Err(error) => error!(listener = %key.0, address = %key.1, %error, "a worker cannot accept"),
            }
        }
    }

    /// As many connections as the open-file limit has room for: each takes one file, and one more
    /// towards a server.
    fn file_limit(&self) -> u32 {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let room = files.map_or(u64::MAX, |files| files.saturating_sub(RESERVED_FILES) / 2);
        u32::try_from(room).unwrap_or(u32::MAX).max(1)
    }

    pub(super) fn reopen_logs(&self) {
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
fn originations(
    next: &Snapshot,
    materials: Vec<Option<Material>>,
) -> Result<Vec<Option<Arc<Origination>>>, Refused> {
    let of = |(pool, material): (&Arc<Pool>, Option<Material>)| {
        let made = material.map(|material| Origination::new(material, pool.origination.load_full()));
        made.transpose().map_err(|error| Refused::ServerTls { pool: pool.name.clone(), error })
    };
    next.pools().iter().zip(materials).map(of).collect()
}

/// Files kept for listeners, probes, logs and the admin endpoint.
pub(crate) const RESERVED_FILES: u64 = 512;

/// The names that authorities are asked for.
fn acme_names(snapshot: &Snapshot) -> impl Iterator<Item = &Name> {
    snapshot.listeners().iter().filter_map(|listener| listener.plan.tls.as_ref()).flat_map(|tls| &tls.acme)
}

fn keeps(next: &Snapshot, (name, address, transport): &Key) -> bool {
    next.listeners().iter().any(|listener| {
        let plan = &listener.plan;
        plan.name == *name && plan.protocol.transport() == *transport && plan.addresses.contains(address)
    })
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
fn warn_of_restart(current: &Snapshot, next: &Snapshot) {
    if current.generation == 0 {
        return;
    }
    if current.plan.process.threads != next.plan.process.threads {
        warn!("process.threads has changed; it takes effect at the next start");
    }
    if current.plan.admin != next.plan.admin {
        warn!("admin.address has changed; it takes effect at the next start");
    }
    if current.plan.log != next.plan.log {
        warn!("log has changed; it takes effect at the next start");
    }
}

impl Receipt {
    /// `took` is from the signal to the moment the followers were told.
    fn log(&self, took: Duration) {
        let Delta { listeners, pools, routes, servers, probes_started, .. } = &self.delta;
        let count = |changes: (usize, usize, usize, usize)| {
            let (added, removed, changed, kept) = changes;
            format!("+{added} -{removed} ~{changed} ={kept}")
        };
        info!(
            generation = self.generation,
            listeners = count(sizes(listeners)),
            routes = count(sizes(routes)),
            pools = count(sizes(pools)),
            servers = count(sizes(servers)),
            probes_started = probes_started.len(),
            took_ms = took.as_micros() as f64 / 1000.0,
            "reloaded (+added -removed ~changed =kept)"
        );
    }
}

fn sizes<T>(changes: &Changes<T>) -> (usize, usize, usize, usize) {
    (changes.added.len(), changes.removed.len(), changes.changed.len(), changes.kept.len())
}
