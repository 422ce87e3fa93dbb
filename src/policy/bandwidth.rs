//! How fast responses leave: what a response, or all of a client's together, owe for the bytes that they have had.

use crate::config::plan::policy::{Bandwidth, BandwidthPer};
use std::time::{Duration, Instant};

/// What a response owes, for which it waits.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: u64,
    /// Bytes that cost nothing yet.
    free: u64,
    /// Of those that were sent, how many have been looked at.
    seen: u64,
    /// When it owes nothing more.
    until: Option<Instant>,
    /// The count that it shares with others of its client, if it does.
    pub(crate) shared: Option<u64>,
}

impl Pace {
    /// `shared` is the count of its client.
    pub(crate) fn new(plan: &Bandwidth, shared: impl FnOnce() -> u64) -> Self {
        let shared = (plan.per == BandwidthPer::Client).then(shared);
        Self { rate: plan.rate, free: plan.after, seen: 0, until: None, shared }
    }

    /// What the bytes cost that were sent since the last time, of `sent` so far.
    pub(crate) fn cost(&mut self, sent: u64) -> Duration {
        let new = sent.saturating_sub(self.seen);
        self.seen = sent;
        let free = new.min(self.free);
        self.free -= free;
        // Sizes are far below what would overflow: at most 2^64 bytes by 2^30.
        let nanoseconds = u128::from(new - free) * 1_000_000_000 / u128::from(self.rate.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Has it pay for itself; how long it waits before more is sent.
    pub(crate) fn pay(&mut self, cost: Duration, now: Instant) -> Duration {
        let from = self.until.map_or(now, |until| until.max(now));
        self.until = from.checked_add(cost).or(self.until);
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(per: BandwidthPer, after: u64) -> Bandwidth {
        Bandwidth { per, rate: 1000, after }
    }

    #[test]
    fn a_response_waits_for_what_is_beyond_its_free_bytes() {
        let mut pace = Pace::new(&plan(BandwidthPer::Response, 500), || unreachable!("it shares nothing"));
        let start = Instant::now();
        let mut waits = |sent: u64, ms: u64| {
            let cost = pace.cost(sent);
            pace.pay(cost, start + Duration::from_millis(ms)).as_millis()
        };
        assert_eq!(waits(400, 0), 0);
        assert_eq!(waits(600, 0), 100, "100 bytes beyond");
        assert_eq!(waits(600, 40), 60, "nothing new");
        assert_eq!(waits(1600, 100), 1000);
        assert_eq!(waits(1700, 5000), 100, "what was not used is not saved up");
        assert_eq!(pace.shared, None);
    }

    #[test]
    fn any_number_of_bytes_has_a_cost() {
        let mut pace = Pace::new(&plan(BandwidthPer::Client, 0), || 7);
        assert_eq!(pace.shared, Some(7));
        assert_eq!(pace.cost(u64::MAX), Duration::from_nanos(u64::MAX));
        assert_eq!(
            pace.pay(Duration::from_nanos(u64::MAX), Instant::now()).as_secs(),
            u64::MAX / 1_000_000_000
        );
    }
}
