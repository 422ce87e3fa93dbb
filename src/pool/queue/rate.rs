//! How fast a line moves. Pure: time and chance are arguments.

use std::time::{Duration, Instant};

/// Turns a second, as of the last whole window.
#[derive(Debug)]
pub struct ServiceRate {
    window_began: Instant,
    turns: u32,
    per_second: f64,
}

/// What a rate is taken over.
const WINDOW: Duration = Duration::from_secs(1);

/// Bounds of what clients are told to wait, in seconds.
const WAIT: std::ops::RangeInclusive<f64> = 1.0..=30.0;

impl ServiceRate {
    pub fn new(now: Instant) -> Self {
        Self { window_began: now, turns: 0, per_second: 0.0 }
    }

    /// One was served.
    pub fn served(&mut self, now: Instant) {
        self.look(now);
        self.turns += 1;
    }

    fn look(&mut self, now: Instant) {
        let length = now.saturating_duration_since(self.window_began);
        if length >= WINDOW {
            self.per_second = f64::from(self.turns) / length.as_secs_f64();
            (self.window_began, self.turns) = (now, 0);
        }
    }

    /// After how many seconds one of `waiting` more would have had its turn: 1 to 30, and by chance a fifth more or less, so
    /// that not all come back at once.
    pub fn retry_after(&mut self, waiting: usize, now: Instant, entropy: u64) -> u32 {
        self.look(now);
        let seconds = match self.per_second.max(f64::from(self.turns)) {
            // Nothing moves.
            0.0 => *WAIT.end(),
            per_second => (waiting as f64 / per_second).clamp(*WAIT.start(), *WAIT.end()),
        };
        let share = (entropy >> 11) as f64 / (1u64 << 53) as f64;
        (seconds * (0.8 + 0.4 * share)).round().max(1.0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clients_are_told_when_the_line_will_be_shorter() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut rate = ServiceRate::new(begun);
        let middle = u64::MAX / 2;
        assert_eq!(rate.retry_after(10, at(0), middle), 30, "nothing has moved yet");
        (0..50).for_each(|turn| rate.served(at(turn * 20)));
        for (waiting, seconds) in [(0, 1), (100, 2), (500, 10), (100_000, 30)] {
            assert_eq!(rate.retry_after(waiting, at(1000), middle), seconds, "{waiting}");
        }
        assert_eq!([0, u64::MAX].map(|entropy| rate.retry_after(500, at(1000), entropy)), [8, 12]);
        assert_eq!(rate.retry_after(500, at(9000), middle), 30, "nothing moves any more");
    }

    proptest! {
        #[test]
        fn what_clients_are_told_is_bounded(
            turns in prop::collection::vec(0u64..5_000, 0..50),
            waiting in 0usize..2_000_000,
            entropy: u64,
        ) {
            let begun = Instant::now();
            let mut rate = ServiceRate::new(begun);
            let mut now = begun;
            for millis in turns {
                now += Duration::from_millis(millis);
                rate.served(now);
            }
            let seconds = rate.retry_after(waiting, now, entropy);
            prop_assert!((1..=36).contains(&seconds), "{seconds}");
        }
    }
}
