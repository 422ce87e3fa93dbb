//! When a source is asked again: as long as its answer may be believed, and after failures ever later.

use std::time::Duration;

/// The longest time between two tries after failures, and that a name is believed to lead nowhere.
const LONGEST: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long nothing is believed where the answer does not say.
const NOTHING: Duration = Duration::from_secs(5);
/// Nodes that start together are not to ask together for ever: up to this share of the time is taken away.
const JITTER: u32 = 10;

/// How long an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// As the records say.
    Ttl(Duration),
    /// There is nothing, and this is how long that may be believed.
    Nothing(Option<Duration>),
    /// The source does not say; it is asked in this interval.
    Interval(Duration),
    Failed,
}

impl Validity {
    /// Of an answer of which a part could not be had: it holds as long as it says, so that what could be had is followed,
    /// and no longer than a failure.
    #[must_use]
    pub fn in_part(self) -> Self {
        match self {
            Self::Ttl(ttl) => Self::Ttl(ttl.min(LONGEST)),
            other => other,
        }
    }
}

/// Counts failures in a row.
#[derive(Clone, Debug)]
pub struct RefreshSchedule {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl RefreshSchedule {
    /// TTLs are taken to be within `least` and `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most: most.max(least), failures: 0 }
    }

    /// After what time the source is asked again.
    pub fn next(&mut self, validity: Validity, entropy: u64) -> Duration {
        self.failures = if validity == Validity::Failed { self.failures.saturating_add(1) } else { 0 };
        let after = match validity {
            Validity::Ttl(ttl) => ttl.clamp(self.least, self.most),
            Validity::Nothing(ttl) => ttl.unwrap_or(NOTHING).min(LONGEST).clamp(self.least, self.most),
            Validity::Interval(interval) => interval,
            Validity::Failed => FIRST_RETRY.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST),
        };
        let share = u32::try_from(entropy % u64::from(JITTER * 100 + 1)).expect("it is at most 1000");
        after - after * share / 10_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule() -> RefreshSchedule {
        RefreshSchedule::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    #[test]
    fn an_answer_is_asked_for_again_when_it_ends() {
        let next = |validity| schedule().next(validity, 0).as_millis();
        let seconds = Duration::from_secs;
        assert_eq!(next(Validity::Ttl(seconds(5))), 5_000);
        assert_eq!(next(Validity::Ttl(seconds(0))), 1_000);
        assert_eq!(next(Validity::Ttl(seconds(86_400))), 60_000);
        assert_eq!(next(Validity::Nothing(Some(seconds(900)))), 30_000);
        assert_eq!(next(Validity::Nothing(None)), 5_000);
        assert_eq!(next(Validity::Interval(seconds(300))), 300_000);
    }

    #[test]
    fn an_answer_in_part_is_asked_for_again_no_later_than_after_a_failure() {
        let ttl = |seconds| Validity::Ttl(Duration::from_secs(seconds));
        assert_eq!((ttl(5).in_part(), ttl(60).in_part()), (ttl(5), ttl(30)));
    }

    #[test]
    fn failures_are_followed_ever_later() {
        let mut schedule = schedule();
        let mut after = |validity| schedule.next(validity, 0).as_secs();
        let failures: Vec<_> = (0..7).map(|_| after(Validity::Failed)).collect();
        assert_eq!(failures, [1, 2, 4, 8, 16, 30, 30]);
        after(Validity::Ttl(Duration::from_secs(9)));
        assert_eq!(after(Validity::Failed), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn chance_takes_away_a_tenth_at_most(entropy: u64, ttl in 1u64..60) {
            let next = schedule().next(Validity::Ttl(Duration::from_secs(ttl)), entropy).as_millis();
            let whole = u128::from(ttl) * 1000;
            prop_assert!(next <= whole && next >= whole * 9 / 10);
        }

        #[test]
        fn it_never_asks_without_pause(entropy: u64, failures in 1usize..100) {
            let mut schedule = schedule();
            for _ in 0..failures {
                prop_assert!(schedule.next(Validity::Failed, entropy) >= Duration::from_millis(900));
            }
        }
    }
}
