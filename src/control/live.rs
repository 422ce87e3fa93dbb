//! What the whole process shares: the snapshot in force, and the places where things are counted and
//! logged. Only `control` can put another snapshot in force.

use super::event_log::{EventLog, LedgerEntry};
use super::found_sets::FoundSets;
use super::purges_for_next::PurgesForNext;
use super::succession::RemainingWork;
use crate::access_log::AccessLog;
use crate::acme::ChallengeStore;
use crate::api::Receipt;
use crate::api::receipt::Guarding;
use crate::config::plan::cache::KeyPlan;
use crate::config::plan::{Name, Plan};
use crate::disk::{self, DiskTier, Leaving};
use crate::edge::{ConnectionLimit, LongHeads, ServerLimits, SocketFiles};
use crate::history::{CacheHistory, History};
use crate::limit::{LimitSecret, Limiter};
use crate::metrics::{GrowingTotals, Metrics, SourceSeries};
use crate::operate::Overrides;
use crate::purge_nodes::PurgeNodes;
use crate::snapshot::Snapshot;
use crate::sticky::Secret;
use crate::store::{NewKeys, Purge, Purged, Store, StoreSize};
use crate::token::Token;
use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use tracing::warn;

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
    /// Requests that purge it and are long.
    pub(crate) long_heads: LongHeads,
    /// Other nodes that are told what is purged of it.
    pub(crate) purge_nodes: PurgeNodes,
    /// The same for the process that takes over.
    pub(crate) purges_for_next: Arc<PurgesForNext>,
    /// What of it outlives the process.
    disk: ArcSwapOption<DiskTier>,
    /// Where unix sockets lie that clients connect to.
    pub(crate) socket_files: SocketFiles,
    accepting: AtomicBool,
    draining: AtomicBool,
    /// How often something has changed for connections that rest.
    idle_review: AtomicU64,
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
            long_heads: LongHeads::default(),
            purge_nodes: PurgeNodes::default(),
            purges_for_next: Arc::default(),
            disk: ArcSwapOption::empty(),
            socket_files: SocketFiles::default(),
            accepting: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            idle_review: AtomicU64::new(0),
        })
    }

    /// The snapshot in force; a request keeps it from its start to its end.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The same for a look that is over at once: it is not counted, so no core writes where all others do.
    pub(crate) fn glance(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
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

    /// Has responses kept as this snapshot, which is about to be in force, has it; what is kept stays where it can.
    fn fit_store(&self, snapshot: &Snapshot) {
        let plan = &snapshot.plan;
        let size = StoreSize::of(&plan.cache);
        match &*self.store.load() {
            _ if !plan.has_cache() => self.store.store(None),
            Some(store) => store.resize(size),
            // Later than whatever a process before this one has counted.
            None => self.store.store(Some(Arc::new(Store::new(size, first_epoch())))),
        }
        let has_forgotten = self.note_url_keys(snapshot.url_keys());
        self.fit_disk(plan);
        if let (true, Some(store)) = (has_forgotten, &*self.store.load()) {
            warn!(
                "keys of the cache have changed so often that not all of them are known any more: all that is kept is dropped"
            );
            // Nobody waits until that is noted.
            let _ = disk::purge(store, self.disk.load().as_ref(), &[Purge::All], Purged::Hard);
        }
    }

    /// Has purges and changes reach what will be kept by these. Whether some of before are not known any more.
    fn note_url_keys(&self, in_force: &[KeyPlan]) -> bool {
        let Some(store) = &*self.store.load() else { return false };
        let NewKeys { keys, has_forgotten } = store.url_keys.put_in_force(in_force);
        // A disk that is begun with begins with all that are known.
        if let (Some(disk), false) = (&*self.disk.load(), keys.is_empty()) {
            disk.note_keys(keys);
        }
        has_forgotten
    }

    /// Has responses kept on the plan's disk. One that is left is not to be used again: nobody notes there what is purged.
    fn fit_disk(&self, plan: &Plan) {
        let (disk, memory) = (self.disk.load(), plan.cache.memory);
        let store = self.store.load();
        let wanted = store.as_ref().and_then(|store| Some((store, plan.cache.disk.as_ref()?)));
        match (&*disk, wanted) {
            (Some(disk), Some((_, wanted))) if disk.path() == wanted.path => disk.resize(wanted, memory),
            (before, wanted) => {
                if let Some(disk) = before {
                    disk.release(Leaving::Forget);
                }
                self.disk.store(wanted.map(|(store, wanted)| DiskTier::start(wanted, store, memory)));
            }
        }
    }

    /// Tries a disk again that has failed.
    pub(super) fn try_disk_again(&self, plan: &Plan) {
        let disk = self.disk.load();
        let (store, wanted) = (self.store.load(), &plan.cache.disk);
        if let (Some(failed), Some(store), Some(wanted)) = (&*disk, &*store, wanted)
            && failed.is_off()
        {
            failed.release(Leaving::Keep);
            self.disk.store(Some(DiskTier::start(wanted, store, plan.cache.memory)));
        }
    }

    /// What is kept of responses on a disk.
    pub(crate) fn disk(&self) -> Option<Arc<DiskTier>> {
        self.disk.load_full()
    }

    /// Leaves the disk to the next process.
    pub(super) fn release_disk(&self) {
        if let Some(disk) = &*self.disk.load() {
            disk.release(Leaving::Keep);
        }
    }

    /// Puts a snapshot in force.
    pub(super) fn put_in_force(&self, snapshot: Arc<Snapshot>) {
        self.fit_store(&snapshot);
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
        self.review_idle();
    }

    /// Has each core look at once whether the connections to servers that rest there may go on to: some server has left,
    /// is in maintenance or has another limit, or the process ends.
    pub(super) fn review_idle(&self) {
        self.idle_review.fetch_add(1, Release);
    }

    /// How often that was asked for.
    pub(crate) fn idle_review(&self) -> u64 {
        self.idle_review.load(Acquire)
    }

    /// The process is stopping: not ready for new traffic.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }
}

/// A count that is greater than those of processes before this one: they do not count a million times in a millisecond.
fn first_epoch() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0) << 20
}
