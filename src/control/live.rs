//! What the whole process shares: the snapshot in force, and the places where things are counted and
//! logged. Only `control` can put another snapshot in force.

use super::event_log::{EventLog, LedgerEntry};
use super::found_sets::FoundSets;
use super::succession::RemainingWork;
use crate::access_log::AccessLog;
use crate::acme::ChallengeStore;
use crate::api::Receipt;
use crate::api::receipt::Guarding;
use crate::config::plan::{Name, Plan};
use crate::edge::{ConnectionLimit, ServerLimits};
use crate::history::{CacheHistory, History};
use crate::limit::{LimitSecret, Limiter};
use crate::metrics::{GrowingTotals, Metrics, SourceSeries};
use crate::operate::Overrides;
use crate::snapshot::Snapshot;
use crate::sticky::Secret;
use crate::store::Store;
use crate::token::Token;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use time::OffsetDateTime;

/// The process's shared state.
#[derive(Debug)]
pub(crate) struct Live {
    snapshot: ArcSwap<Snapshot>,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: AccessLog,
    /// What authorities are answered with that ask whether a name is ours.
    pub(crate) challenges: Arc<ChallengeStore>,
    /// What became of servers and the configuration.
    pub(crate) event_log: EventLog,
    /// What operators have said of servers.
    pub(crate) overrides: ArcSwap<Overrides>,
    /// What sticky cookies are signed by where no file has a key; `None` as long as there are none.
    pub(crate) sticky_key: ArcSwapOption<Secret>,
    /// What requests to the API over TCP must show to change something.
    pub(crate) token: ArcSwapOption<Token>,
    pub(crate) last_reload: ArcSwapOption<Receipt>,
    pub(crate) started: OffsetDateTime,
    /// An upgrade was asked for, and is neither done nor has it failed.
    pub(crate) upgrading: AtomicBool,
    /// Until when it waits at most, because a reload is watched.
    pub(crate) upgrade_waits_until: ArcSwapOption<OffsetDateTime>,
    /// What the process before this one still has.
    pub(crate) before: ArcSwapOption<RemainingWork>,
    pub(crate) last_upgrade_failure: ArcSwapOption<String>,
    /// The reload that is being watched, or the last that was, and those before it.
    pub(crate) guards: ArcSwap<Vec<Guarding>>,
    /// Connections to servers, of which there may be as many as there are files for.
    pub(crate) server_connections: Arc<ConnectionLimit>,
    /// Of those the ones of each server that has a limit, idle ones too.
    pub(crate) server_limits: ServerLimits,
    sums: Mutex<GrowingTotals>,
    pools: Mutex<History<Name>>,
    /// By id.
    servers: Mutex<History<u32>>,
    /// The same of what rules' caches have answered.
    cached: Mutex<CacheHistory>,
    /// What sources have named of pools' servers.
    pub(crate) found: FoundSets,
    /// Sources that the process is not ready without, and until when.
    pub(super) awaited: ArcSwap<Vec<(Instant, Arc<SourceSeries>)>>,
    /// What their keys are hashed with.
    pub(super) limit_secret: OnceLock<LimitSecret>,
    /// What limits count, once there are any.
    pub(crate) limiter: OnceLock<Limiter>,
    /// What is kept of responses, where some rule has any kept.
    store: ArcSwapOption<Store>,
    accepting: AtomicBool,
    draining: AtomicBool,
}

impl Live {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            snapshot: ArcSwap::from_pointee(Snapshot::empty()),
            metrics: Metrics::default(),
            access_log: AccessLog::start(),
            challenges: Arc::default(),
            event_log: EventLog::default(),
            overrides: ArcSwap::default(),
            sticky_key: ArcSwapOption::empty(),
            token: ArcSwapOption::empty(),
            last_reload: ArcSwapOption::empty(),
            started: OffsetDateTime::now_utc(),
            upgrading: AtomicBool::new(false),
            upgrade_waits_until: ArcSwapOption::empty(),
            before: ArcSwapOption::empty(),
            last_upgrade_failure: ArcSwapOption::empty(),
            guards: ArcSwap::default(),
            server_connections: ConnectionLimit::new(u32::MAX),
            server_limits: ServerLimits::default(),
            sums: Mutex::default(),
            pools: Mutex::default(),
            servers: Mutex::default(),
            cached: Mutex::default(),
            found: FoundSets::default(),
            awaited: ArcSwap::default(),
            limit_secret: OnceLock::new(),
            limiter: OnceLock::new(),
            store: ArcSwapOption::empty(),
            accepting: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        })
    }

    /// The snapshot in force; a request keeps it from its start to its end.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Has limits counted from now on, by so many clients.
    pub(super) fn begin_limits(&self, keys: u32) {
        self.limiter.get_or_init(|| self.new_limiter(keys));
    }

    fn new_limiter(&self, keys: u32) -> Limiter {
        let secret = self.limit_secret.get_or_init(LimitSecret::new);
        Limiter::new(*secret, keys as usize, Instant::now())
    }

    /// What limits count.
    pub(crate) fn limiter(&self) -> &Limiter {
        self.limiter.get_or_init(|| self.new_limiter(self.snapshot.load().plan.process.limit_keys))
    }

    /// What is kept of responses.
    pub(crate) fn store(&self) -> Option<Arc<Store>> {
        self.store.load_full()
    }

    /// Has responses kept as this plan has it; what is kept stays where it can.
    fn fit_store(&self, plan: &Plan) {
        let (memory, max_object) = (plan.cache.memory, plan.cache.max_object);
        match &*self.store.load() {
            _ if !plan.has_cache() => self.store.store(None),
            Some(store) => store.resize(memory, max_object),
            None => self.store.store(Some(Arc::new(Store::new(memory, max_object)))),
        }
    }

    pub(super) fn put_in_force(&self, snapshot: Arc<Snapshot>) {
        self.fit_store(&snapshot.plan);
        self.metrics.generation_in_force(snapshot.generation);
        self.snapshot.store(snapshot);
    }

    /// The last minutes of each pool.
    pub(crate) fn pool_history(&self) -> MutexGuard<'_, History<Name>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last minutes of each server, by its id.
    pub(crate) fn server_history(&self) -> MutexGuard<'_, History<u32>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last seconds of what rules' caches have answered.
    pub(crate) fn cache_history(&self) -> MutexGuard<'_, CacheHistory> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a second to them.
    pub(super) fn take_second(&self) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let sums = sums.add(self.metrics.tally(&self.snapshot.load()));
        self.pool_history().record(sums.pools.clone());
        self.server_history().record(sums.servers.clone());
        self.cache_history().record(self.metrics.cache_totals());
    }

    /// Writes an event into the ledger.
    pub(crate) fn record(&self, entry: LedgerEntry<'_>) {
        self.event_log.record(self.snapshot.load().generation, entry);
    }

    pub(super) fn start_accepting(&self) {
        self.accepting.store(true, Relaxed);
    }

    /// The process knows its servers and takes traffic, or did.
    pub(crate) fn is_accepting(&self) -> bool {
        self.accepting.load(Relaxed)
    }

    /// Whether a source of servers that the start waits for has not answered.
    pub(crate) fn awaits_sources(&self) -> bool {
        let now = Instant::now();
        self.awaited.load().iter().any(|(until, series)| now < *until && !series.has_servers_or_answer())
    }

    pub(super) fn start_draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// The process is stopping: not ready for new traffic.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}
