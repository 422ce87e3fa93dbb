//! What a pool has seen: counted on the request path without locks, read only when scraped.

use crate::config::plan::RetryOn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histograms' buckets, in seconds; the last bucket has no bound.
pub const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

const BOUNDS_NANOS: [u64; BUCKETS.len()] = {
    let mut nanos = [0; BUCKETS.len()];
    let mut i = 0;
    while i < nanos.len() {
        nanos[i] = (BUCKETS[i] * 1e9) as u64;
        i += 1;
    }
    nanos
};

/// How durations are spread over `BUCKETS`.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    nanos: AtomicU64,
}

/// A histogram as Prometheus wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramReading {
    /// Durations at or below each bound of `BUCKETS` (each includes the ones before).
    pub cumulative: [u64; BUCKETS.len()],
    pub count: u64,
    /// All durations together, in seconds.
    pub sum: f64,
}

impl Histogram {
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NANOS.partition_point(|bound| *bound < nanos);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub fn read(&self) -> HistogramReading {
        let mut count = 0;
        let mut cumulative = [0; BUCKETS.len()];
        for (below, bucket) in cumulative.iter_mut().zip(&self.counts) {
            count += bucket.load(Ordering::Relaxed);
            *below = count;
        }
        count += self.counts[BUCKETS.len()].load(Ordering::Relaxed);
        HistogramReading { cumulative, count, sum: self.nanos.load(Ordering::Relaxed) as f64 / 1e9 }
    }
}

/// Why a request was tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryReason {
    Connect,
    Reset,
    /// A kept connection that the server had closed.
    Stale,
    /// No response's head in time.
    Timeout,
    BadGateway,
    Unavailable,
    GatewayTimeout,
}

impl RetryReason {
    pub const ALL: [Self; 7] = [
        Self::Connect,
        Self::Reset,
        Self::Stale,
        Self::Timeout,
        Self::BadGateway,
        Self::Unavailable,
        Self::GatewayTimeout,
    ];

    /// The reason that stands for a response status, if it is one that can be retried.
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            502 => Some(Self::BadGateway),
            503 => Some(Self::Unavailable),
            504 => Some(Self::GatewayTimeout),
            _ => None,
        }
    }

    /// Whether an answer came, which may be passed on.
    pub fn is_of_status(self) -> bool {
        matches!(self, Self::BadGateway | Self::Unavailable | Self::GatewayTimeout)
    }

    /// Whether a pool with these settings tries again for it.
    pub fn is_among(self, on: &RetryOn) -> bool {
        match self {
            Self::Connect => on.connect,
            Self::Reset | Self::Stale => on.reset,
            Self::Timeout => on.timeout,
            Self::BadGateway => on.statuses.contains(&502),
            Self::Unavailable => on.statuses.contains(&503),
            Self::GatewayTimeout => on.statuses.contains(&504),
        }
    }

    /// The `reason` label, as written in `retries.on`; `stale` is a kind of `reset` there.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Stale => "stale",
            Self::Timeout => "timeout",
            Self::BadGateway => "502",
            Self::Unavailable => "503",
            Self::GatewayTimeout => "504",
        }
    }
}

/// What has become of a client's bond with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickyResult {
    /// It has none yet, and is bound to the server that has answered.
    New,
    /// Its server has served it.
    Kept,
    /// The same, once that had room.
    Waited,
    /// Another one had to.
    Moved,
    /// It is bound to none.
    None,
}

impl StickyResult {
    pub const ALL: [Self; 5] = [Self::New, Self::Kept, Self::Waited, Self::Moved, Self::None];

    /// The `result` label, and what the log calls it.
    pub fn label(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Kept => "kept",
            Self::Waited => "waited",
            Self::Moved => "moved",
            Self::None => "none",
        }
    }
}

/// One pool's figures; carried from snapshot to snapshot by the pool's name.
#[derive(Debug, Default)]
pub struct PoolStats {
    pub request_duration: Histogram,
    pub time_to_first_byte: Histogram,
    retries: [AtomicU64; RetryReason::ALL.len()],
    /// Those after a connection that failed, of exchanges that had begun before the generation in force.
    earlier_connect_retries: AtomicU64,
    grpc: [AtomicU64; GRPC_STATUSES.len()],
    sticky: [AtomicU64; StickyResult::ALL.len()],
    fallbacks: AtomicU64,
}

/// gRPC's status codes by their numbers; what is none of them counts as the last.
pub const GRPC_STATUSES: [&str; 18] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
    "other",
];

impl PoolStats {
    /// Another pool serves what was sent to this one.
    pub fn count_fallback(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    pub fn fallbacks(&self) -> u64 {
        self.fallbacks.load(Ordering::Relaxed)
    }

    pub fn count_sticky(&self, result: StickyResult) {
        self.sticky[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn sticky(&self, result: StickyResult) -> u64 {
        self.sticky[result as usize].load(Ordering::Relaxed)
    }

    /// A gRPC call ended with this status.
    pub fn count_grpc(&self, status: u8) {
        let place = usize::from(status).min(GRPC_STATUSES.len() - 1);
        self.grpc[place].fetch_add(1, Ordering::Relaxed);
    }

    /// Calls by their status, where there were any.
    pub fn grpc(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.grpc.iter().map(|count| count.load(Ordering::Relaxed));
        GRPC_STATUSES.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }

    pub fn count_retry(&self, reason: RetryReason) {
        self.retries[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A retry that is counted already was of an exchange from before the generation in force.
    pub fn count_earlier_connect_retry(&self) {
        self.earlier_connect_retries.fetch_add(1, Ordering::Relaxed);
    }

    pub fn earlier_connect_retries(&self) -> u64 {
        self.earlier_connect_retries.load(Ordering::Relaxed)
    }

    pub fn retries(&self, reason: RetryReason) -> u64 {
        self.retries[reason as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_every_bucket_at_or_above_it() {
        let histogram = Histogram::default();
        for millis in [0, 1, 2, 30_000, 31_000] {
            histogram.record(Duration::from_millis(millis));
        }
        let reading = histogram.read();
        assert_eq!(reading.cumulative[..2], [2, 3]);
        assert_eq!(reading.cumulative[BUCKETS.len() - 2..], [3, 4]);
        assert_eq!((reading.count, reading.sum), (5, 61.003));
    }

    #[test]
    fn retries_are_counted_by_reason() {
        let stats = PoolStats::default();
        stats.count_retry(RetryReason::Reset);
        stats.count_retry(RetryReason::of_status(504).expect("504 can be retried"));
        let counts = RetryReason::ALL.map(|reason| (reason.label(), stats.retries(reason)));
        assert_eq!(
            counts,
            [("connect", 0), ("reset", 1), ("stale", 0), ("timeout", 0), ("502", 0), ("503", 0), ("504", 1)]
        );
        assert_eq!(RetryReason::of_status(500), None);
    }
}
