//! What is counted of connections that are passed on as they are. Bytes are counted while they move, so that a
//! connection that lasts for days shows.

use super::earlier::EarlierEnded;
use super::{Metrics, PassthroughOutcome, RequestNames, RequestPlace, Series};
use crate::access_log::Why;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Connections with the same labels.
#[derive(Debug)]
pub struct TcpSeries {
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    /// Connections that are over, by the reason.
    pub(super) ended: [AtomicU64; Why::ALL.len()],
    /// Those of them that had nothing from the server, though the client had sent something.
    pub(super) unanswered: AtomicU64,
    pub(super) earlier: EarlierEnded,
}

impl Default for TcpSeries {
    fn default() -> Self {
        let [received, sent, unanswered] = [0, 0, 0].map(AtomicU64::new);
        let ended = std::array::from_fn(|_| AtomicU64::new(0));
        Self { received, sent, ended, unanswered, earlier: EarlierEnded::default() }
    }
}

impl TcpSeries {
    /// Counts bytes that came from clients.
    pub fn received(&self, bytes: u64) {
        if bytes > 0 {
            self.received.fetch_add(bytes, Relaxed);
        }
    }

    /// Counts bytes that came from the server.
    pub fn sent(&self, bytes: u64) {
        if bytes > 0 {
            self.sent.fetch_add(bytes, Relaxed);
        }
    }
}

impl Series for TcpSeries {
    const PROTOCOL: &'static str = "TCP";

    fn of(metrics: &Metrics, edition: u64, place: RequestPlace, names: &RequestNames<'_>) -> Arc<Self> {
        metrics.connection(edition, place, names)
    }

    fn ended(&self, ending: &PassthroughOutcome) {
        ending.count(&self.ended, &self.unanswered, &self.earlier);
    }
}
