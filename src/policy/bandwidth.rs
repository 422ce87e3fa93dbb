//! How fast responses leave: what a response, or all of a client's together, owe for the bytes that they have had, and how many more
//! may leave with that.

use crate::config::plan::policy::{Bandwidth, BandwidthPer};
use std::time::{Duration, Instant};

/// As much of what the rate gives leaves ahead of its time, so that a late clock costs nothing.
const AHEAD: Duration = Duration::from_millis(100);
/// As many bytes leave ahead at the slowest.
const LEAST_AHEAD: u64 = 1024;
/// Fewer bytes are waited for, unless there are no more.
const LEAST_PIECE: u64 = 256;

/// What of a response may leave next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// So many bytes, and what they cost.
    Now { bytes: u64, cost: Duration },
    /// Nothing before this has passed.
    After(Duration),
}

/// How fast a response may leave, and what it owes.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: u64,
    /// Bytes that cost nothing yet.
    free: u64,
    /// When it owes nothing more.
    until: Option<Instant>,
    /// The count that it shares with others of its client, if it does.
    pub(crate) shared: Option<u64>,
}

impl Pace {
    /// `shared` is the count of its client.
    pub(crate) fn new(plan: &Bandwidth, shared: impl FnOnce() -> u64) -> Self {
        let shared = (plan.per == BandwidthPer::Client).then(shared);
        Self { rate: plan.rate.max(1), free: plan.after, until: None, shared }
    }

    /// What it owes by itself.
    pub(crate) fn debt(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// How many of `waiting` bytes may leave under such a debt, which are none of those that are free any more.
    pub(crate) fn leave(&mut self, waiting: u64, debt: Duration) -> Leave {
        if self.free > 0 || waiting == 0 {
            let bytes = waiting.min(self.free);
            self.free -= bytes;
            return Leave::Now { bytes, cost: Duration::ZERO };
        }
        let ahead = self.bytes_in(AHEAD).max(LEAST_AHEAD);
        let room = self.cost(ahead).saturating_sub(debt);
        let bytes = self.bytes_in(room).min(waiting);
        let wanted = waiting.min((ahead / 4).max(LEAST_PIECE));
        if bytes >= wanted {
            return Leave::Now { bytes, cost: self.cost(bytes) };
        }
        Leave::After(debt.saturating_add(self.cost(wanted)).saturating_sub(self.cost(ahead)))
    }

    /// Has it owe so much more by itself.
    pub(crate) fn owe(&mut self, cost: Duration, now: Instant) {
        let from = self.until.map_or(now, |until| until.max(now));
        self.until = from.checked_add(cost).or(self.until);
    }

    /// Rounded up, so that what is waited for is there then.
    fn cost(&self, bytes: u64) -> Duration {
        // Sizes are far below what would overflow: at most 2^64 bytes by 2^30.
        let nanoseconds = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(self.rate));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    fn bytes_in(&self, time: Duration) -> u64 {
        u64::try_from(time.as_nanos() * u128::from(self.rate) / 1_000_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(per: BandwidthPer, rate: u64, after: u64) -> Pace {
        Pace::new(&Bandwidth { per, rate, after }, || 7)
    }

    /// What leaves of so many bytes until then, in pieces: when, and how many.
    fn pieces(pace: &mut Pace, mut waiting: u64, within: Duration) -> Vec<(Duration, u64)> {
        let (start, mut at, mut left) = (Instant::now(), Duration::ZERO, Vec::new());
        while waiting > 0 && at <= within {
            let now = start + at;
            match pace.leave(waiting, pace.debt(now)) {
                Leave::Now { bytes, cost } => {
                    assert!(bytes > 0, "it never stops: {left:?}");
                    pace.owe(cost, now);
                    left.push((at, bytes));
                    waiting -= bytes;
                }
                Leave::After(wait) => {
                    assert!(wait > Duration::ZERO, "it never stops: {left:?}");
                    at += wait;
                }
            }
        }
        left
    }

    #[test]
    fn bytes_leave_no_faster_than_the_rate_and_evenly() {
        for (rate, after) in [(1024, 0), (1024, 5000), (8192, 0), (200 << 10, 50 << 10), (1 << 30, 1 << 20)] {
            let ahead = (rate / 10).max(1024);
            let mut pace = pace(BandwidthPer::Response, rate, after);
            let left = pieces(&mut pace, 10 * rate + after, Duration::from_secs(5));
            let mut sum = 0;
            for (n, (at, bytes)) in left.iter().enumerate() {
                sum += bytes;
                let may = after + ahead + (at.as_secs_f64() * rate as f64) as u64 + 1;
                assert!(sum <= may, "{rate}: {sum} of {may} by {at:?}");
                let before = n.checked_sub(1).map_or(Duration::ZERO, |before| left[before].0);
                assert!(
                    *at - before <= Duration::from_millis(251),
                    "{rate}: nothing from {before:?} to {at:?}"
                );
            }
            assert!(sum >= after + 5 * rate, "{rate}: no slower than the rate: {sum}");
        }
    }

    #[test]
    fn what_is_free_costs_nothing_and_what_was_not_used_is_not_saved_up() {
        let mut pace = pace(BandwidthPer::Response, 10_000, 500);
        let free = |bytes| Leave::Now { bytes, cost: Duration::ZERO };
        assert_eq!(pace.leave(400, Duration::ZERO), free(400));
        assert_eq!(pace.leave(400, Duration::ZERO), free(100));
        let now = Instant::now();
        let Leave::Now { bytes: 1024, cost } = pace.leave(4000, pace.debt(now)) else { panic!("{pace:?}") };
        pace.owe(cost, now);
        assert_eq!(pace.leave(4000, pace.debt(now)), Leave::After(Duration::from_micros(25_600)));
        let long_after = now + Duration::from_secs(60);
        assert!(matches!(pace.leave(4000, pace.debt(long_after)), Leave::Now { bytes: 1024, .. }));
        assert_eq!(pace.leave(0, Duration::from_secs(9)), free(0), "an end waits for nothing");
        assert_eq!(pace.shared, None);
    }

    #[test]
    fn any_number_of_bytes_has_a_cost() {
        let pace = pace(BandwidthPer::Client, 1024, 0);
        assert_eq!(pace.shared, Some(7));
        assert_eq!(pace.cost(u64::MAX), Duration::from_nanos(u64::MAX));
        let mut pace = pace;
        assert!(matches!(pace.leave(u64::MAX, Duration::from_nanos(u64::MAX)), Leave::After(_)));
    }
}
