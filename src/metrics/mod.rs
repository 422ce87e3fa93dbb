//! What happened, counted on the request path with one relaxed addition each, and read when scraped.
//!
//! Labels come from the configuration only, so a client cannot make series. A server's series live as
//! long as the server is in the snapshot or still draining.

mod acme;
mod admin;
mod cache;
mod compression;
mod counted;
mod discovery;
mod earlier;
mod family;
mod geo;
mod http2;
mod limits;
mod listener;
mod maintenance;
mod networks;
mod outlier;
mod scrape;
mod tcp;
mod tls;
mod udp;

pub use acme::{AcmeMetrics, AcmeResult};
pub use cache::FillEnds;
pub use compression::CompressionMetrics;
pub use counted::{GrowingTotals, Growth, SeriesTotals, spread};
pub use discovery::{DiscoveryMetrics, QueryResult, SourceSeries, SourceState};
pub use http2::{AbuseReading, Abuses};
pub use limits::{LimitAction, LimitMetrics};
pub use listener::ListenerReading;
pub use scrape::{MetricsPage, ServerConnections};
pub use tcp::TcpSeries;
pub use tls::{Handshake, HandshakeReading, Handshakes};
pub use udp::{DropReading, Dropped, Drops, UdpSeries};

use crate::access_log::{Action, CacheResult, Why};
use crate::config::plan::Name;
use crate::history::Ended;
use crate::pool::stats::Histogram;
use crate::pool::{HealthState, Server};
use crate::select::consistent_hash::hash;
use crate::snapshot::Snapshot;
use foldhash::fast::FixedState;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Classes of status codes, 1xx to 5xx.
const CLASSES: usize = 5;

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    /// The one in force.
    generation: AtomicU64,
    requests: Mutex<HashMap<RequestLabels, Arc<RequestSeries>>>,
    connections: Mutex<HashMap<RequestLabels, Arc<TcpSeries>>>,
    sessions: Mutex<HashMap<RequestLabels, Arc<UdpSeries>>>,
    servers: Mutex<HashMap<u32, Arc<ServerSeries>>>,
    probe_durations: Mutex<HashMap<Name, Arc<Histogram>>>,
    probe_waits: Mutex<HashMap<Name, Arc<Histogram>>>,
    reloads: Reloads,
    pub acme: Arc<AcmeMetrics>,
    pub discovery: DiscoveryMetrics,
    pub limits: LimitMetrics,
    pub compression: CompressionMetrics,
    pub cache_fills: FillEnds,
    panics: AtomicU64,
    failed_upgrades: AtomicU64,
    failed_state_files: AtomicU64,
    admin_requests: admin::AdminRequests,
    admin_evictions: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RequestLabels {
    listener: Name,
    route: Option<Name>,
    pool: Option<Name>,
    server: Option<(u32, Name)>,
}

/// Requests with the same labels, by class of their status, and how long they took.
#[derive(Debug)]
struct RequestSeries {
    classes: [AtomicU64; CLASSES],
    durations: Histogram,
    /// Those that did not end in a whole response of a server, by the reason.
    ended: [AtomicU64; Why::ALL.len()],
    /// Those that failed, as [`RequestOutcome::failed`] has it.
    failed: AtomicU64,
    /// Those that a server has answered and that have not failed, nor were [`RequestOutcome::left_in_vain`].
    fine: AtomicU64,
    /// Those whose [`RequestOutcome::has_left`].
    left: AtomicU64,
    left_in_vain: AtomicU64,
    earlier: earlier::EarlierEnded,
    actions: [AtomicU64; Action::ALL.len()],
    cache: [AtomicU64; CacheResult::ALL.len()],
    faults: AtomicU64,
    paced: AtomicU64,
    dropped_fields: AtomicU64,
}

impl Default for RequestSeries {
    fn default() -> Self {
        Self {
            classes: Default::default(),
            durations: Histogram::default(),
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
            failed: AtomicU64::new(0),
            fine: AtomicU64::new(0),
            left: AtomicU64::new(0),
            left_in_vain: AtomicU64::new(0),
            earlier: Default::default(),
            actions: Default::default(),
            cache: Default::default(),
            faults: AtomicU64::new(0),
            paced: AtomicU64::new(0),
            dropped_fields: AtomicU64::new(0),
        }
    }
}

impl RequestSeries {
    fn count(&self, outcome: &RequestOutcome) {
        let class = usize::from((outcome.status / 100).clamp(1, CLASSES as u16)) - 1;
        self.classes[class].fetch_add(1, Relaxed);
        self.durations.record(outcome.took);
        let has_failed = outcome.failed();
        if has_failed {
            self.failed.fetch_add(1, Relaxed);
        }
        let is_in_vain = outcome.left_in_vain();
        let is_fine = outcome.answered && !has_failed && !is_in_vain;
        if is_fine {
            self.fine.fetch_add(1, Relaxed);
        }
        if outcome.has_left {
            self.left.fetch_add(1, Relaxed);
        }
        if is_in_vain {
            self.left_in_vain.fetch_add(1, Relaxed);
        }
        if outcome.is_earlier {
            self.earlier.count(&Ended {
                requests: 1,
                errors: u64::from(has_failed),
                left: u64::from(outcome.has_left),
                whole: u64::from(outcome.why.is_as_wanted()),
                fine: u64::from(is_fine),
                in_vain: u64::from(is_in_vain),
                ..Ended::default()
            });
        }
        self.count_why(outcome.why);
        if let Some(result) = outcome.cache {
            self.cache[result as usize].fetch_add(1, Relaxed);
        }
        if let Some(action) = outcome.action {
            self.actions[action as usize].fetch_add(1, Relaxed);
        }
        if outcome.has_fault {
            self.faults.fetch_add(1, Relaxed);
        }
        if outcome.is_paced {
            self.paced.fetch_add(1, Relaxed);
        }
        if outcome.dropped_fields > 0 {
            self.dropped_fields.fetch_add(outcome.dropped_fields.into(), Relaxed);
        }
    }

    fn count_why(&self, why: Why) {
        if !why.is_as_wanted() {
            self.ended[why as usize].fetch_add(1, Relaxed);
        }
    }
}

/// One server's probes and transitions.
#[derive(Debug, Default)]
pub struct ServerSeries {
    /// By result: `pass`, or what `probe::Failure::label` says.
    probes: Mutex<HashMap<&'static str, u64>>,
    /// Why the last probe failed; none when it passed.
    last_failure: Mutex<Option<String>>,
    up: AtomicU64,
    down: AtomicU64,
    /// Seconds since 1970; 0 is unknown.
    certificate_expires: AtomicI64,
}

#[derive(Debug, Default)]
struct Reloads {
    succeeded: AtomicU64,
    refused: AtomicU64,
    rolled_back: AtomicU64,
    rollback_failed: AtomicU64,
    /// 0 none yet, 1 the last was refused, 2 the last succeeded.
    last: AtomicU64,
    last_success: AtomicI64,
}

/// How far a request or connection came on its way through a listener, within one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Routed {
    /// To no pool: it was refused before, or no route matches.
    #[default]
    Nowhere,
    /// To the listener's own pool.
    Pool,
    /// To the pool of the rule at this place in the listener's table.
    Rule(u32),
}

/// How far a request or connection came behind its rule. What ended before there was a pool is no pool's, whatever rule it met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reached {
    #[default]
    NoPool,
    /// A pool that had no server for it: its own or a fallback, by what its name comes to.
    Pool(u32),
    /// A server, by its id.
    Server(u32),
}

impl Reached {
    pub fn of(pool: Option<&Name>, server: Option<&Server>) -> Self {
        match (pool, server) {
            (_, Some(server)) => Self::Server(server.id()),
            (Some(pool), None) => Self::Pool(hash(pool.as_bytes()) as u32),
            (None, None) => Self::NoPool,
        }
    }
}

/// What a request or connection is counted under: places in a snapshot, cheap to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestPlace {
    pub listener: u32,
    pub routed: Routed,
    pub reached: Reached,
}

impl RequestPlace {
    /// Of what was refused before it was known where it goes.
    pub fn of_listener(listener: u32) -> Self {
        Self { listener, routed: Routed::Nowhere, reached: Reached::NoPool }
    }
}

/// The names behind a [`RequestPlace`].
#[derive(Debug)]
pub struct RequestNames<'a> {
    pub listener: &'a Name,
    pub route: Option<&'a Name>,
    pub pool: Option<&'a Name>,
    pub server: Option<&'a Server>,
}

impl<'a> RequestNames<'a> {
    /// Of what was refused before it was known where it goes.
    pub fn of_listener(listener: &'a Name) -> Self {
        Self { listener, route: None, pool: None, server: None }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct RequestOutcome {
    /// What the client got.
    pub status: u16,
    pub why: Why,
    pub grpc_status: Option<u8>,
    /// Whether the head of a response came from the server, and said more than that its call's time was over.
    pub answered: bool,
    /// The server fell silent in the middle of its response, until that was cut or its client gave up.
    pub stalled: bool,
    pub took: Duration,
    /// Its client has left, or given its call up, while it was the server's turn.
    pub has_left: bool,
    /// How long its client had waited for the server, if it left so without an answer.
    pub waited: Option<Duration>,
    /// For how long nothing had come of a response whose length is known, if its client left in the middle of that.
    pub silence: Option<Duration>,
    /// Its client's own deadline has passed, and the server had not as much time as that to answer.
    pub is_hasty: bool,
    /// [`Metrics::is_earlier`].
    pub is_earlier: bool,
    /// What a policy did with it.
    pub action: Option<Action>,
    /// A policy's `fault` was made, a delay or an error.
    pub has_fault: bool,
    /// A policy's `bandwidth` has held the response back.
    pub is_paced: bool,
    /// Fields that a policy has and whose values no field may have.
    pub dropped_fields: u32,
    /// What the cache has done.
    pub cache: Option<CacheResult>,
}

impl RequestOutcome {
    /// Clients that leave sooner without an answer have changed their mind; after so long they have given up.
    pub const PATIENCE: Duration = Duration::from_secs(1);
    /// Those that leave sooner than this had no time to wait.
    pub const WAITING: Duration = Duration::from_millis(100);

    /// Whether the server, the lack of one, or evenkeel is to blame: a 5xx, a gRPC status that says as much (whatever the
    /// HTTP status), a response that was cut short, or none for longer than the client would wait.
    pub fn failed(&self) -> bool {
        if self.is_hasty {
            return false;
        }
        self.status >= 500 && !self.why.is_own_answer()
            || self.waited.is_some_and(|waited| waited >= Self::PATIENCE)
            || self.stalled
            || self.why.is_of_servers()
            || self.why == Why::Internal
            // One of our own stands for an HTTP status, which has been looked at.
            || self.answered && self.grpc_status.is_some_and(is_grpc_failure)
    }

    /// Whether its client left sooner than a failure is made of it, though the server had kept it waiting. One says nothing; of a
    /// server that nobody waits for any longer all are such.
    pub fn left_in_vain(&self) -> bool {
        let waited = self.waited.or(self.silence).is_some_and(|waited| waited >= Self::WAITING);
        waited && self.has_left && !self.failed()
    }
}

/// UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE and DATA_LOSS: what a server says that is not well.
/// The others speak of the call, as 4xx do. Numbers that gRPC does not have are no good sign either.
fn is_grpc_failure(status: u8) -> bool {
    matches!(status, 2 | 4 | 8 | 13 | 14 | 15 | 17..)
}

/// One thread's handles to the series of one snapshot, so that counting needs neither names nor a lock.
#[derive(Default)]
struct Handles {
    edition: u64,
    requests: HashMap<RequestPlace, Arc<RequestSeries>, FixedState>,
    connections: HashMap<RequestPlace, Arc<TcpSeries>, FixedState>,
    sessions: HashMap<RequestPlace, Arc<UdpSeries>, FixedState>,
}

impl Handles {
    /// Whether they may be used for something of this snapshot. A newer one begins anew; of an older one there
    /// is little left, and not worth a place.
    fn are_of(&mut self, edition: u64) -> bool {
        if self.edition < edition {
            *self = Self { edition, ..Self::default() };
        }
        self.edition == edition
    }
}

thread_local! {
    static HANDLES: RefCell<Handles> = RefCell::default();
}

impl Metrics {
    /// Counts one request. Names are looked at only the first time a thread meets a place.
    pub fn request(
        &self,
        edition: u64,
        place: RequestPlace,
        outcome: &RequestOutcome,
        names: &RequestNames<'_>,
    ) {
        self.with_requests(edition, place, names, |series| series.count(outcome));
    }

    /// Counts what ended before there was a request to answer.
    pub fn failure(&self, edition: u64, place: RequestPlace, why: Why, names: &RequestNames<'_>) {
        self.with_requests(edition, place, names, |series| series.count_why(why));
    }

    fn with_requests(
        &self,
        edition: u64,
        place: RequestPlace,
        names: &RequestNames<'_>,
        count: impl FnOnce(&RequestSeries),
    ) {
        HANDLES.with_borrow_mut(|handles| match handles.are_of(edition) {
            true => {
                count(handles.requests.entry(place).or_insert_with(|| series_of(&self.requests, names)));
            }
            false => count(&series_of(&self.requests, names)),
        });
    }

    /// Where a connection that is passed on as it is counts; it keeps the handle.
    pub fn connection(&self, edition: u64, place: RequestPlace, names: &RequestNames<'_>) -> Arc<TcpSeries> {
        HANDLES.with_borrow_mut(|handles| {
            if !handles.are_of(edition) {
                return series_of(&self.connections, names);
            }
            let series = handles.connections.entry(place);
            Arc::clone(series.or_insert_with(|| series_of(&self.connections, names)))
        })
    }

    /// The series of one server; its probe task keeps the handle.
    pub fn server(&self, id: u32) -> Arc<ServerSeries> {
        Arc::clone(lock(&self.servers).entry(id).or_default())
    }

    /// The durations of one pool's probes.
    pub fn probe_durations(&self, pool: &Name) -> Arc<Histogram> {
        Arc::clone(lock(&self.probe_durations).entry(pool.clone()).or_default())
    }

    /// How long one pool's probes waited for others of the pool to end.
    pub fn probe_waits(&self, pool: &Name) -> Arc<Histogram> {
        Arc::clone(lock(&self.probe_waits).entry(pool.clone()).or_default())
    }

    pub fn reload_succeeded(&self, now: SystemTime) {
        self.reloads.succeeded.fetch_add(1, Relaxed);
        self.reloads.last.store(2, Relaxed);
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        self.reloads.last_success.store(i64::try_from(seconds).unwrap_or(i64::MAX), Relaxed);
    }

    pub fn reload_refused(&self) {
        self.reloads.refused.fetch_add(1, Relaxed);
        self.reloads.last.store(1, Relaxed);
    }

    /// A reload was taken back: what the file says is not in force.
    pub fn reload_not_rolled_back(&self) {
        self.reloads.rollback_failed.fetch_add(1, Relaxed);
    }

    pub fn reload_rolled_back(&self) {
        self.reloads.rolled_back.fetch_add(1, Relaxed);
        self.reloads.last.store(1, Relaxed);
    }

    pub fn upgrade_failed(&self) {
        self.failed_upgrades.fetch_add(1, Relaxed);
    }

    pub fn admin_request(&self, over_socket: bool, status: u16) {
        self.admin_requests.count(over_socket, status);
    }

    /// An admin connection was closed for another one.
    pub fn admin_connection_evicted(&self) {
        self.admin_evictions.fetch_add(1, Relaxed);
    }

    pub fn state_file_failed(&self) {
        self.failed_state_files.fetch_add(1, Relaxed);
    }

    pub fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// Drops the series of what `snapshot` no longer has.
    pub fn forget(&self, snapshot: &Snapshot) {
        let mut servers: Vec<u32> = snapshot
            .pools()
            .iter()
            .flat_map(|pool| pool.members.iter().map(|member| member.server.id()))
            .chain(snapshot.retiring().iter().filter(|server| server.in_flight() > 0).map(|s| s.id()))
            .collect();
        servers.sort_unstable();
        let is_live = |id: u32| servers.binary_search(&id).is_ok();
        let has_listener =
            |name: &Name| snapshot.listeners().iter().any(|listener| listener.plan.name == *name);
        let has_pool = |name: &Name| snapshot.pool(name).is_some();
        let has_route =
            |name: &Name| snapshot.routes().iter().any(|table| table.rules.iter().any(|r| r.name == *name));
        let has_labels = |labels: &RequestLabels| {
            has_listener(&labels.listener)
                && labels.route.as_ref().is_none_or(has_route)
                && match &labels.server {
                    Some((id, _)) => is_live(*id),
                    None => labels.pool.as_ref().is_none_or(has_pool),
                }
        };
        lock(&self.requests).retain(|labels, _| has_labels(labels));
        lock(&self.connections).retain(|labels, _| has_labels(labels));
        lock(&self.sessions).retain(|labels, _| has_labels(labels));
        lock(&self.servers).retain(|id, _| is_live(*id));
        lock(&self.probe_durations).retain(|pool, _| has_pool(pool));
        lock(&self.probe_waits).retain(|pool, _| has_pool(pool));
    }
}

/// What is counted of something that is passed on as it is, until its end.
pub trait Series {
    /// As the access log has it.
    const PROTOCOL: &'static str;

    /// Where it counts.
    fn of(metrics: &Metrics, edition: u64, place: RequestPlace, names: &RequestNames<'_>) -> Arc<Self>;

    /// Counts one that is over.
    fn ended(&self, ending: &PassthroughOutcome);
}

/// How a connection or session ended that was passed on as it is.
#[derive(Clone, Copy, Debug)]
pub struct PassthroughOutcome {
    pub why: Why,
    pub passed: BytesPassed,
    /// [`Metrics::is_earlier`].
    pub is_earlier: bool,
}

impl PassthroughOutcome {
    fn count(
        &self,
        ended: &[AtomicU64; Why::ALL.len()],
        unanswered: &AtomicU64,
        earlier: &earlier::EarlierEnded,
    ) {
        ended[self.why as usize].fetch_add(1, Relaxed);
        let is_unanswered = self.passed.is_unanswered();
        if is_unanswered {
            unanswered.fetch_add(1, Relaxed);
        }
        if self.is_earlier {
            earlier.count(&Ended {
                requests: 1,
                errors: u64::from(self.why.is_of_servers()),
                unanswered: u64::from(is_unanswered),
                fine: u64::from(!is_unanswered && !self.why.is_of_servers()),
                ..Ended::default()
            });
        }
    }
}

/// Bytes that went each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BytesPassed {
    pub to_server: u64,
    pub to_client: u64,
}

impl BytesPassed {
    /// The client has said something and the server nothing.
    pub fn is_unanswered(self) -> bool {
        self.to_server > 0 && self.to_client == 0
    }
}

impl ServerSeries {
    /// Counts one probe.
    pub fn probed(&self, result: &'static str) {
        *lock(&self.probes).entry(result).or_insert(0) += 1;
    }

    /// Notes why a probe failed, or that it passed.
    pub fn failed(&self, why: Option<String>) {
        *lock(&self.last_failure) = why;
    }

    /// Why the last probe failed; none when it passed, or there was none.
    pub fn last_failure(&self) -> Option<String> {
        lock(&self.last_failure).clone()
    }

    /// Notes until when the server's certificate holds, if a probe has seen one.
    pub fn certificate_expires(&self, at: Option<i64>) {
        self.certificate_expires.store(at.unwrap_or(0), Relaxed);
    }

    /// Counts one change of health.
    pub fn turned(&self, to: HealthState) {
        match to {
            HealthState::Up => self.up.fetch_add(1, Relaxed),
            HealthState::Down | HealthState::Probing => self.down.fetch_add(1, Relaxed),
        };
    }
}

fn series_of<T: Default>(all: &Mutex<HashMap<RequestLabels, Arc<T>>>, names: &RequestNames<'_>) -> Arc<T> {
    let labels = RequestLabels {
        listener: names.listener.clone(),
        route: names.route.cloned(),
        pool: names.pool.cloned(),
        server: names.server.map(|server| (server.id(), server.name().clone())),
    };
    Arc::clone(lock(all).entry(labels).or_default())
}

/// A panic elsewhere does not make counts unusable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
