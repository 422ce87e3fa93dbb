//! What is counted and known of the sources that pools have servers from.

use super::family::Family;
use super::lock;
use crate::config::plan::Name;
use crate::discover::membership::Held;
use prometheus::proto::MetricFamily;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use time::OffsetDateTime;

/// How a source answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryResult {
    Success,
    /// It says that there are no servers.
    Empty,
    Failed,
}

impl QueryResult {
    const ALL: [Self; 3] = [Self::Success, Self::Empty, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Empty => "empty",
            Self::Failed => "failed",
        }
    }
}

/// Every source by its pool and what it is called.
#[derive(Debug, Default)]
pub struct DiscoveryMetrics(Mutex<BTreeMap<(Name, Name), Arc<SourceSeries>>>);

/// One source's.
#[derive(Debug, Default)]
pub struct SourceSeries {
    queries: [AtomicU64; QueryResult::ALL.len()],
    changes: AtomicU64,
    state: Mutex<SourceState>,
}

/// What is known of a source now.
#[derive(Clone, Debug, Default)]
pub struct SourceState {
    /// Whether the last answer was of use; none before the first.
    pub is_up: Option<bool>,
    pub last_success: Option<OffsetDateTime>,
    /// Who said what last, in a line.
    pub last_answer: Option<String>,
    /// What went wrong last time, if anything did.
    pub problem: Option<String>,
    pub held: Option<Held>,
    pub next_query: Option<OffsetDateTime>,
    pub servers: usize,
    /// Of those the ones that the last answer did not name.
    pub missing: usize,
}

impl SourceSeries {
    pub fn count(&self, result: QueryResult) {
        self.queries[result as usize].fetch_add(1, Relaxed);
    }

    pub fn changed(&self) {
        self.changes.fetch_add(1, Relaxed);
    }

    pub fn state(&self) -> SourceState {
        lock(&self.state).clone()
    }

    pub fn set_state(&self, change: impl FnOnce(&mut SourceState)) {
        change(&mut lock(&self.state));
    }

    /// Whether its servers are known, by an answer of this process or from an earlier one.
    pub fn has_servers_or_answer(&self) -> bool {
        let state = lock(&self.state);
        state.is_up == Some(true) || state.servers > 0
    }
}

impl DiscoveryMetrics {
    /// The series of one source, the same for as long as it is configured.
    pub fn source(&self, pool: &Name, source: &Name) -> Arc<SourceSeries> {
        Arc::clone(lock(&self.0).entry((pool.clone(), source.clone())).or_default())
    }

    /// A pool's sources, by what they are called.
    pub fn of_pool(&self, pool: &str) -> Vec<(Name, SourceState)> {
        let sources = lock(&self.0);
        let of_pool = sources.iter().filter(|((of, _), _)| **of == *pool);
        of_pool.map(|((_, source), series)| (source.clone(), series.state())).collect()
    }

    /// Forgets sources that are no longer configured.
    pub fn keep(&self, is_configured: impl Fn(&Name, &Name) -> bool) {
        lock(&self.0).retain(|(pool, source), _| is_configured(pool, source));
    }

    pub(super) fn families(&self) -> impl Iterator<Item = MetricFamily> {
        let mut up = Family::gauge(
            "evenkeel_discovery_up",
            "Whether the last answer of a pool's source was of use; the last set stays in force while it is not.",
        );
        let mut success = Family::gauge(
            "evenkeel_discovery_last_success_timestamp_seconds",
            "When a source last said what could be used.",
        );
        let mut queries = Family::counter(
            "evenkeel_discovery_queries_total",
            "How often a source was asked, by what came of it; `empty` is that there are no servers.",
        );
        let mut changes = Family::counter(
            "evenkeel_discovery_changes_total",
            "How often a source's answer has put another set of servers in force.",
        );
        let mut held = Family::gauge(
            "evenkeel_discovery_held",
            "Whether the set in force is not what the source says, by the reason.",
        );
        let mut servers =
            Family::gauge("evenkeel_discovery_servers", "Servers in force that a source has named.");
        for ((pool, source), series) in &*lock(&self.0) {
            let state = series.state();
            let (pool, source) = (("pool", &**pool), ("source", &**source));
            let labels = [pool, source];
            if let Some(is_up) = state.is_up {
                up.add(&labels, f64::from(u8::from(is_up)));
            }
            if let Some(at) = state.last_success {
                success.add(&labels, at.unix_timestamp() as f64);
            }
            for result in QueryResult::ALL {
                let count = series.queries[result as usize].load(Relaxed);
                queries.add(&[pool, source, ("result", result.label())], count as f64);
            }
            changes.add(&labels, series.changes.load(Relaxed) as f64);
            for reason in Held::ALL {
                let is_held = f64::from(u8::from(state.held == Some(reason)));
                held.add(&[pool, source, ("reason", reason.word())], is_held);
            }
            servers.add(&labels, state.servers as f64);
        }
        [up, success, queries, changes, held, servers].into_iter().filter_map(Family::finish)
    }
}
