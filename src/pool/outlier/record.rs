//! What a server's last tries have come to, noted where they end: without a lock, and read by whoever judges.

use crate::pool::outcome::{Outcome, TryResult};
use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a try says of a server beside the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Good,
    /// Its application has failed.
    Error,
    /// It could not be had: no connection, no answer, or its own word that it cannot serve.
    Unavailable,
}

impl Mark {
    /// `None` says nothing of it: a client that left is nobody's fault.
    pub fn of(result: TryResult) -> Option<Self> {
        match result {
            TryResult::ConnectFailed | TryResult::TimedOut | TryResult::Reset => Some(Self::Unavailable),
            TryResult::Answered { grpc_status: Some(status), .. } => Some(match status {
                // DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
                4 | 13 | 14 | 15 => Self::Unavailable,
                // UNKNOWN, RESOURCE_EXHAUSTED. Others are about the call: PERMISSION_DENIED says nothing of a server.
                2 | 8 => Self::Error,
                _ => Self::Good,
            }),
            TryResult::Answered { status: 502..=504, .. } => Some(Self::Unavailable),
            TryResult::Answered { status: 500.., .. } => Some(Self::Error),
            TryResult::Answered { .. } | TryResult::Connected => Some(Self::Good),
            TryResult::NotServersFault | TryResult::Unknown => None,
        }
    }
}

/// Tries, and those of them that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureShare {
    pub failed: u64,
    pub of: u64,
}

impl FailureShare {
    pub fn plus(self, other: Self) -> Self {
        Self { failed: self.failed + other.failed, of: self.of + other.of }
    }

    pub fn minus(self, other: Self) -> Self {
        Self { failed: self.failed.saturating_sub(other.failed), of: self.of.saturating_sub(other.of) }
    }
}

/// The last 63 tries, the newest in the lowest bit, 1 where it failed; above them one bit that marks their end.
#[derive(Debug)]
struct Recent(AtomicU64);

impl Default for Recent {
    fn default() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }
}

impl Recent {
    const NONE: u64 = 1;
    /// As many are remembered.
    const FULL: u32 = u64::BITS - 1;

    /// Takes note of one, and says how many in a row have failed by now.
    fn note(&self, has_failed: bool) -> u32 {
        let with = |seen: u64| seen << 1 | u64::from(has_failed) | seen & 1 << Self::FULL;
        let before = self.0.fetch_update(Relaxed, Relaxed, |seen| Some(with(seen)));
        Self::run_of(with(before.unwrap_or_else(|seen| seen)))
    }

    fn run_of(seen: u64) -> u32 {
        seen.trailing_ones().min(Self::count_of(seen))
    }

    fn count_of(seen: u64) -> u32 {
        Self::FULL - seen.leading_zeros()
    }

    fn run(&self) -> u32 {
        Self::run_of(self.0.load(Relaxed))
    }

    /// Of the last `of` at most.
    fn last(&self, of: u32) -> FailureShare {
        let seen = self.0.load(Relaxed);
        let of = of.min(Self::count_of(seen));
        FailureShare { failed: u64::from((seen & ((1 << of) - 1)).count_ones()), of: u64::from(of) }
    }

    fn forget(&self) {
        self.0.store(Self::NONE, Relaxed);
    }
}

/// Times to the first byte by size, in steps of a fifth: from 32 µs to two minutes, with what is beyond in the outermost.
pub const TIME_STEPS: usize = 88;

/// Times to the first byte, counted since the start.
pub type Times = [u64; TIME_STEPS];

fn step_of(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(32);
    // Four steps for each doubling: the two bits below the highest one.
    let octave = micros.ilog2();
    let quarter = micros >> (octave - 2) & 3;
    ((octave as usize - 5) * 4 + quarter as usize).min(TIME_STEPS - 1)
}

/// The middle of a step.
fn time_of(step: usize) -> Duration {
    let low = (4 + step as u64 % 4) << (step / 4 + 3);
    Duration::from_micros(low + (1 << (step / 4 + 3)) / 2)
}

/// What half of these times stay below, within its step; `None` of none.
pub fn median(times: &Times) -> Option<Duration> {
    let total: u64 = times.iter().sum();
    let mut left = total.div_ceil(2);
    let step = times.iter().position(|count| {
        let is_here = left <= *count;
        left = left.saturating_sub(*count);
        is_here
    });
    step.filter(|_| total > 0).map(time_of)
}

/// How many of these times are longer than that, by the middle of their steps.
pub fn longer_than(times: &Times, than: Duration) -> u64 {
    times.iter().enumerate().filter(|(step, _)| time_of(*step) > than).map(|(_, count)| count).sum()
}

/// What is noted of a server's tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// So many unavailable in a row are worth a look; `u32::MAX` is never.
    pub run: u32,
    /// Whether many failures among others are.
    pub shares: bool,
    /// Whether times to the first byte are.
    pub times: bool,
}

/// So many failures of so many tries are worth a look.
const MANY: (u64, u32) = (5, 20);

/// One server's record.
#[derive(Debug, Default)]
pub struct TryRecord {
    unavailable: Recent,
    failed: Recent,
    judged: AtomicU64,
    errors: AtomicU64,
    times: OnceLock<Box<[AtomicU64; TIME_STEPS]>>,
    /// A run was told of, and nobody has looked since.
    is_suspected: AtomicBool,
}

impl TryRecord {
    /// Takes note of a try that is over. True if somebody should have a look at once.
    pub fn note(&self, outcome: &Outcome, watched: Watched) -> bool {
        let Some(mark) = Mark::of(outcome.result) else { return false };
        let run = self.unavailable.note(mark == Mark::Unavailable);
        self.failed.note(mark != Mark::Good);
        self.judged.fetch_add(1, Relaxed);
        if mark != Mark::Good {
            self.errors.fetch_add(1, Relaxed);
        }
        // What has failed says nothing of how fast a server is, and may have been quick about it; but who let a limit pass was
        // no quicker than that.
        if watched.times
            && (mark == Mark::Good || outcome.result == TryResult::TimedOut)
            && let Some(waited) = outcome.waited
        {
            self.times()[step_of(waited)].fetch_add(1, Relaxed);
        }
        let fails_often = || watched.shares && self.failed.last(MANY.1).failed >= MANY.0;
        let is_worth_a_look = mark != Mark::Good && (run >= watched.run || fails_often());
        is_worth_a_look && !self.is_suspected.swap(true, Relaxed)
    }

    fn times(&self) -> &[AtomicU64; TIME_STEPS] {
        self.times.get_or_init(|| Box::new(array::from_fn(|_| AtomicU64::new(0))))
    }

    /// From here on another run is told of.
    pub fn looked_at(&self) {
        self.is_suspected.store(false, Relaxed);
    }

    /// How many in a row were unavailable, the last one among them; 63 at most.
    pub fn run(&self) -> u32 {
        self.unavailable.run()
    }

    /// Of the last `of` tries those that found it unavailable.
    pub fn unavailable(&self, of: u32) -> FailureShare {
        self.unavailable.last(of)
    }

    /// Of the last `of` tries, 63 at most, those that failed in whatever way.
    pub fn recent_of(&self, of: u32) -> FailureShare {
        self.failed.last(of)
    }

    /// All tries since the start.
    pub fn total(&self) -> FailureShare {
        FailureShare { failed: self.errors.load(Relaxed), of: self.judged.load(Relaxed) }
    }

    /// All times to the first byte since the start; `None` if none was noted.
    pub fn all_times(&self) -> Option<Times> {
        let times = self.times.get()?;
        Some(array::from_fn(|step| times[step].load(Relaxed)))
    }

    /// What it did lately says nothing of what it will do: it was ejected, or has been away.
    pub fn forget(&self) {
        self.unavailable.forget();
        self.failed.forget();
        self.looked_at();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WATCHED: Watched = Watched { run: 5, shares: false, times: true };

    fn answered(status: u16) -> Outcome {
        Outcome::of(TryResult::answered(status))
    }

    #[test]
    fn what_a_try_says_of_its_server() {
        let grpc = |status| TryResult::Answered { status: 200, grpc_status: Some(status) };
        let http = |status| TryResult::answered(status);
        for (result, mark) in [
            (TryResult::ConnectFailed, Some(Mark::Unavailable)),
            (TryResult::TimedOut, Some(Mark::Unavailable)),
            (TryResult::Reset, Some(Mark::Unavailable)),
            (TryResult::NotServersFault, None),
            (TryResult::Unknown, None),
            (TryResult::Connected, Some(Mark::Good)),
            (http(200), Some(Mark::Good)),
            (http(404), Some(Mark::Good)),
            (http(429), Some(Mark::Good)),
            (http(500), Some(Mark::Error)),
            (http(501), Some(Mark::Error)),
            (http(502), Some(Mark::Unavailable)),
            (http(504), Some(Mark::Unavailable)),
            (http(505), Some(Mark::Error)),
            (grpc(0), Some(Mark::Good)),
            (grpc(2), Some(Mark::Error)),
            (grpc(4), Some(Mark::Unavailable)),
            (grpc(7), Some(Mark::Good)),
            (grpc(8), Some(Mark::Error)),
            (grpc(13), Some(Mark::Unavailable)),
            (grpc(14), Some(Mark::Unavailable)),
            (grpc(15), Some(Mark::Unavailable)),
            (grpc(16), Some(Mark::Good)),
        ] {
            assert_eq!(Mark::of(result), mark, "{result:?}");
        }
    }

    #[test]
    fn a_run_is_told_of_once_until_somebody_looks() {
        let record = TryRecord::default();
        let note = |status| record.note(&answered(status), WATCHED);
        assert_eq!([503; 6].map(note), [false, false, false, false, true, false]);
        record.looked_at();
        assert!(note(503), "it goes on");
        record.looked_at();
        assert!(!note(200) && !note(503));
        assert_eq!(record.run(), 1);
        assert_eq!(record.unavailable(4), FailureShare { failed: 3, of: 4 });
        record.forget();
        assert_eq!((record.run(), record.recent_of(63)), (0, FailureShare::default()));
        assert_eq!(record.total(), FailureShare { failed: 8, of: 9 });
    }

    #[test]
    fn what_failed_has_no_time() {
        let record = TryRecord::default();
        let after = |outcome: Outcome, ms| outcome.after(Duration::from_millis(ms));
        record.note(&after(answered(500), 1), WATCHED);
        assert_eq!(record.all_times(), None);
        for ms in [10, 11, 800] {
            record.note(&after(answered(200), ms), WATCHED);
        }
        let median = record.all_times().and_then(|times| median(&times)).expect("three were noted");
        assert!((9..13).contains(&median.as_millis()), "{median:?}");
        record.note(&after(Outcome::of(TryResult::TimedOut), 500), WATCHED);
        let longer = record.all_times().map(|times| longer_than(&times, Duration::from_millis(100)));
        assert_eq!(longer, Some(2), "who let a limit pass was no quicker");
    }

    proptest! {
        #[test]
        fn the_last_tries_are_those_that_were_noted_last(tries in prop::collection::vec(any::<bool>(), 0..200), of in 0u32..80) {
            let recent = Recent::default();
            for (place, failed) in tries.iter().enumerate() {
                let seen = &tries[..=place];
                let run = seen.iter().rev().take_while(|failed| **failed).count().min(63);
                prop_assert_eq!(recent.note(*failed) as usize, run);
            }
            let last = || tries.iter().rev().take(63).take(of as usize);
            let expected = FailureShare {
                failed: last().filter(|failed| **failed).count() as u64,
                of: last().count() as u64,
            };
            prop_assert_eq!(recent.last(of), expected);
        }

        #[test]
        fn a_time_lies_in_its_step(micros in 32u64..100_000_000) {
            let time = time_of(step_of(Duration::from_micros(micros))).as_secs_f64();
            let ratio = time / (micros as f64 / 1e6);
            prop_assert!((0.88..1.13).contains(&ratio), "{ratio}");
        }
    }
}
