//! What is counted of datagrams: those that were passed on, and those that were not, with the reason.

use super::earlier::EarlierEnded;
use super::family::Family;
use super::{
    HANDLES, Metrics, PassthroughOutcome, RequestLabels, RequestNames, RequestPlace, Series, lock, series_of,
};
use crate::access_log::Why;
use prometheus::proto::MetricFamily;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Sessions with the same labels.
#[derive(Debug)]
pub struct UdpSeries {
    received: DatagramFlow,
    pub(super) sent: DatagramFlow,
    /// Sessions that are over, by the reason.
    pub(super) ended: [AtomicU64; Why::ALL.len()],
    /// Those of them that had nothing from the server.
    pub(super) unanswered: AtomicU64,
    pub(super) earlier: EarlierEnded,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct DatagramFlow {
    pub(super) datagrams: AtomicU64,
    bytes: AtomicU64,
}

impl Default for UdpSeries {
    fn default() -> Self {
        Self {
            received: DatagramFlow::default(),
            sent: DatagramFlow::default(),
            ended: std::array::from_fn(|_| AtomicU64::new(0)),
            unanswered: AtomicU64::new(0),
            earlier: EarlierEnded::default(),
        }
    }
}

impl UdpSeries {
    /// Counts what went from a client to the server.
    pub fn received(&self, datagrams: u64, bytes: u64) {
        self.received.datagrams.fetch_add(datagrams, Relaxed);
        self.received.bytes.fetch_add(bytes, Relaxed);
    }

    /// Whether it has got so many datagrams or more, and has sent none.
    pub fn is_one_way(&self, many: u64) -> bool {
        self.received.datagrams.load(Relaxed) >= many && self.sent.datagrams.load(Relaxed) == 0
    }

    /// Counts what went from the server to a client.
    pub fn sent(&self, datagrams: u64, bytes: u64) {
        self.sent.datagrams.fetch_add(datagrams, Relaxed);
        self.sent.bytes.fetch_add(bytes, Relaxed);
    }
}

impl Series for UdpSeries {
    const PROTOCOL: &'static str = "UDP";

    fn of(metrics: &Metrics, edition: u64, place: RequestPlace, names: &RequestNames<'_>) -> Arc<Self> {
        metrics.session(edition, place, names)
    }

    fn ended(&self, ending: &PassthroughOutcome) {
        ending.count(&self.ended, &self.unanswered, &self.earlier);
    }
}

/// Why a datagram was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Dropped {
    /// It would have opened a session beyond the listener's `limits.connections`.
    ListenerLimit,
    /// The same with `limits.connections_per_client`.
    ClientLimit,
    /// The same with `process.max_connections`.
    ProcessLimit,
    /// No server could be had for a new session.
    NoServer,
    /// It would have opened a session on a listener that is going.
    Closing,
    /// The way to the client is full.
    ClientBusy,
    /// The way to the server is full.
    ServerBusy,
    /// The way does not take datagrams of this size.
    TooLarge,
    /// The kernel refused it otherwise.
    Error,
}

impl Dropped {
    /// In the order of their bytes.
    pub const ALL: [Self; 9] = [
        Self::ListenerLimit,
        Self::ClientLimit,
        Self::ProcessLimit,
        Self::NoServer,
        Self::Closing,
        Self::ClientBusy,
        Self::ServerBusy,
        Self::TooLarge,
        Self::Error,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ListenerLimit => "listener_limit",
            Self::ClientLimit => "client_limit",
            Self::ProcessLimit => "process_limit",
            Self::NoServer => "no_server",
            Self::Closing => "closing",
            Self::ClientBusy => "client_busy",
            Self::ServerBusy => "server_busy",
            Self::TooLarge => "too_large",
            Self::Error => "error",
        }
    }
}

/// Datagrams of one listener that were not passed on, by the reason.
#[derive(Debug, Default)]
pub struct Drops([AtomicU64; Dropped::ALL.len()]);

/// What [`Drops`] were at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct DropReading([u64; Dropped::ALL.len()]);

impl DropReading {
    /// How many there were for each reason, by its label.
    pub(super) fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Dropped::ALL.into_iter().map(|why| (why.as_str(), self.0[why as usize]))
    }
}

impl Drops {
    pub fn count(&self, why: Dropped, datagrams: u64) {
        self.0[why as usize].fetch_add(datagrams, Relaxed);
    }

    pub fn read(&self) -> DropReading {
        DropReading(std::array::from_fn(|at| self.0[at].load(Relaxed)))
    }
}

impl Metrics {
    /// Where a UDP session counts; it keeps the handle.
    pub fn session(&self, edition: u64, place: RequestPlace, names: &RequestNames<'_>) -> Arc<UdpSeries> {
        HANDLES.with_borrow_mut(|handles| {
            if !handles.are_of(edition) {
                return series_of(&self.sessions, names);
            }
            let series = handles.sessions.entry(place);
            Arc::clone(series.or_insert_with(|| series_of(&self.sessions, names)))
        })
    }
}

/// The families of UDP.
pub(super) fn families(metrics: &Metrics) -> Vec<MetricFamily> {
    let mut sessions = Family::counter(
        "evenkeel_udp_sessions_total",
        "UDP sessions that have ended, by the access log's `why`.",
    );
    let mut datagrams = Family::counter(
        "evenkeel_udp_datagrams_total",
        "Datagrams passed on: `in` from clients, `out` from servers.",
    );
    let mut bytes =
        Family::counter("evenkeel_udp_bytes_total", "Bytes of the datagrams passed on, without headers.");
    for (labels, series) in lock(&metrics.sessions).iter() {
        let RequestLabels { listener, pool, server, .. } = labels;
        let server = server.as_ref().map_or("", |(_, name)| name);
        let [listener, pool, server] =
            [("listener", &**listener), ("pool", pool.as_deref().unwrap_or("")), ("server", server)];
        for why in Why::ALL {
            let count = series.ended[why as usize].load(Relaxed);
            if count > 0 {
                sessions.add(&[listener, pool, server, ("why", why.as_str())], count as f64);
            }
        }
        for (direction, flow) in [("in", &series.received), ("out", &series.sent)] {
            let count = flow.datagrams.load(Relaxed);
            if count > 0 {
                let labels = [listener, pool, server, ("direction", direction)];
                datagrams.add(&labels, count as f64);
                bytes.add(&labels, flow.bytes.load(Relaxed) as f64);
            }
        }
    }
    [sessions, datagrams, bytes].into_iter().filter_map(Family::finish).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_the_place_of_its_byte() {
        for (at, why) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, at, "{}", why.as_str());
        }
    }
}
