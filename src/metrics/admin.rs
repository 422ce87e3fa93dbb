//! What the admin endpoint and the ledger count.

use super::Metrics;
use super::family::Family;
use prometheus::proto::MetricFamily;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const WAYS: [&str; 2] = ["socket", "tcp"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Requests to the admin endpoint, by the way they came and the class of their status.
#[derive(Debug, Default)]
pub(super) struct AdminRequests([[AtomicU64; CLASSES.len()]; WAYS.len()]);

impl AdminRequests {
    pub(super) fn count(&self, over_socket: bool, status: u16) {
        let class = usize::from((status / 100).clamp(1, 5)) - 1;
        self.0[usize::from(!over_socket)][class].fetch_add(1, Relaxed);
    }
}

/// The families about the admin endpoint and the ledger, whose events are counted by kind.
pub(super) fn families(metrics: &Metrics, events: &[(&str, u64)], events_lost: u64) -> Vec<MetricFamily> {
    let mut requests = Family::counter(
        "evenkeel_admin_requests_total",
        "Requests to the API and for metrics, by way (socket, tcp) and class of status.",
    );
    for (way, classes) in WAYS.iter().zip(&metrics.admin_requests.0) {
        for (code, count) in CLASSES.iter().zip(classes) {
            let count = count.load(Relaxed);
            if count > 0 {
                requests.add(&[("way", way), ("code", code)], count as f64);
            }
        }
    }
    let mut by_kind = Family::counter("evenkeel_events_total", "Events of the health ledger, by kind.");
    for (kind, count) in events {
        by_kind.add(&[("kind", kind)], *count as f64);
    }
    let mut lost = Family::counter(
        "evenkeel_events_dropped_total",
        "Events that are in memory only, because the ledger's file could not be written in time.",
    );
    lost.add(&[], events_lost as f64);
    let mut state = Family::counter(
        "evenkeel_state_file_failures_total",
        "Times that operators' states could not be written to or read from admin.state_file.",
    );
    state.add(&[], metrics.failed_state_files.load(Relaxed) as f64);
    let mut evicted = Family::counter(
        "evenkeel_admin_connections_evicted_total",
        "Idle connections to the admin endpoint that were closed because all places were taken.",
    );
    evicted.add(&[], metrics.admin_evictions.load(Relaxed) as f64);
    [requests, evicted, by_kind, lost, state].into_iter().filter_map(Family::finish).collect()
}
