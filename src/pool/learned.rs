//! What is learned of a server from its tries: how long it takes, and how often it serves. A word each, changed without a
//! lock where a try ends and read where a server is chosen. It stays with the server through reloads.

use super::outcome::{Outcome, TryResult};
use super::silence::Silence;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// After so long without news, what is known has lost all but a 1/e of its weight.
const TAU: Duration = Duration::from_secs(10);

/// No server is taken to be quicker: between servers that have long been idle, what is in flight decides.
const LEAST_COST: f32 = 1e-6;

/// A server that fails always is not quite worthless, or nobody would find out that it serves again.
const LEAST_SUCCESS: f32 = 0.1;

/// What one more try weighs in the share of successes, however little time has passed: who fails at once, hundreds of times a
/// second, must be found out by tries and not by seconds.
const LEAST_NEWS: f32 = 1.0 / 16.0;

/// One server's figures. (Finagle's peak EWMA: `PeakEwma.scala`.)
#[derive(Debug)]
pub struct Learned {
    origin: Instant,
    /// Seconds to the first byte.
    cost: Timed,
    /// The share of tries that were served.
    success: Timed,
    silence: Silence,
}

/// Something that was learned so long ago.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub value: f32,
    pub age: Duration,
}

/// What is known of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LearnedFigures {
    pub cost: Option<Figure>,
    pub success: Option<Figure>,
}

/// A moment in the time of one server's figures: milliseconds, which begin anew after 49 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnedTime(u32);

impl Learned {
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, cost: Timed::default(), success: Timed::default(), silence: Silence::default() }
    }

    /// This moment, as a try remembers when it began.
    pub fn time(&self, now: Instant) -> LearnedTime {
        LearnedTime(self.ms(now))
    }

    /// Takes note of a try that began then.
    pub fn note(&self, outcome: &Outcome, LearnedTime(began): LearnedTime) {
        let at = began.wrapping_add(outcome.waited.unwrap_or_default().as_millis() as u32);
        let success = outcome.success();
        if let Some(is_success) = success {
            self.served(is_success, at);
        }
        match (outcome.result, outcome.waited) {
            (TryResult::TimedOut, Some(waited)) => self.took(waited, at),
            // A failure says nothing of how long an answer takes. But who fails at once must not seem the quicker the
            // longer it goes on: what was known stays so.
            _ if success == Some(false) => self.cost.change(|was| was.map(|was| was.value), at),
            (TryResult::Answered { .. } | TryResult::Connected, Some(waited)) => self.took(waited, at),
            _ => {}
        }
    }

    /// A request is with the server from now on, and its answer is waited for.
    pub(super) fn waits(&self, now: Instant) {
        self.silence.begin(self.ms(now));
    }

    /// It has its answer.
    pub(super) fn answered(&self, now: Instant) {
        self.silence.answered(self.ms(now));
    }

    /// It waits no more without having one.
    pub(super) fn given_up(&self) {
        self.silence.given_up();
    }

    /// For how long the server has answered nothing by then though it has something to answer: at least as long somebody has waited,
    /// in seconds.
    pub fn silence(&self, now: Option<Instant>) -> f32 {
        now.map_or(0.0, |now| self.silence.lasted(self.ms(now)).as_secs_f32())
    }

    fn served(&self, is_success: bool, at: u32) {
        let now = f32::from(u8::from(is_success));
        self.success.change(
            |was| {
                // Nothing was held against it before.
                let (share, since) = was.map_or((1.0, 0), |was| (was.value, was.ms));
                let weight = weight(since, at).min(1.0 - LEAST_NEWS);
                Some(share * weight + now * (1.0 - weight))
            },
            at,
        );
    }

    /// A peak counts at once, and fades as time goes by.
    fn took(&self, waited: Duration, at: u32) {
        let took = waited.as_secs_f32().max(LEAST_COST);
        self.cost.change(
            |was| {
                let Some(was) = was else { return Some(took) };
                let weight = weight(was.ms, at);
                let faded = was.value * weight;
                Some(if took > faded { took } else { faded + took * (1.0 - weight) })
            },
            at,
        );
    }

    /// Seconds that it takes as far as is known by then; `None` before anything is.
    pub fn cost(&self, now: Option<Instant>) -> Option<f32> {
        let known = self.cost.get()?;
        let weight = now.map_or(1.0, |now| weight(known.ms, self.ms(now)));
        Some((known.value * weight).max(LEAST_COST))
    }

    /// What is left by then of what is believed of a server that has not answered yet: it fades like what is known of others, or
    /// nobody would find out how quick it is. A try that fails says that it is no quicker.
    pub fn belief(&self, now: Option<Instant>) -> f32 {
        let since = self.success.get().map_or(0, |tried| tried.ms);
        now.map_or(1.0, |now| weight(since, self.ms(now)))
    }

    /// Of its tries the share that were served as far as is known by then, a tenth at least. What it has failed fades as time goes
    /// by: nobody would find out that a server serves again that gets no requests.
    pub fn success(&self, now: Option<Instant>) -> f32 {
        let Some(known) = self.success.get() else { return 1.0 };
        let weight = now.map_or(1.0, |now| weight(known.ms, self.ms(now)));
        (1.0 - (1.0 - known.value) * weight).max(LEAST_SUCCESS)
    }

    /// All that is known, for who goes on with it.
    pub fn figures(&self, now: Instant) -> LearnedFigures {
        let figure = |known: TimedValue| {
            let age = self.ms(now).wrapping_sub(known.ms);
            Figure { value: known.value, age: Duration::from_millis(u64::from(age)) }
        };
        LearnedFigures { cost: self.cost.get().map(figure), success: self.success.get().map(figure) }
    }

    /// Goes on with what was known elsewhere.
    pub fn recall(&self, figures: &LearnedFigures, now: Instant) {
        let at = |figure: &Figure| self.ms(now).wrapping_sub(figure.age.as_millis() as u32);
        let set = |known: &Timed, figure: &Figure| known.change(|_| Some(figure.value), at(figure));
        figures.cost.iter().for_each(|cost| set(&self.cost, cost));
        figures.success.iter().for_each(|success| set(&self.success, success));
    }

    fn ms(&self, at: Instant) -> u32 {
        at.saturating_duration_since(self.origin).as_millis() as u32
    }
}

/// What is left by then of the weight of something that was known at `from`. What ended earlier than that is of now.
fn weight(from: u32, to: u32) -> f32 {
    let passed = to.wrapping_sub(from);
    // Half of all there are: `to` is before `from`.
    if passed > u32::MAX / 2 { 1.0 } else { (-(passed as f32) / TAU.as_millis() as f32).exp() }
}

/// A value and when it was set, in one word: its bits, and milliseconds since the origin, which begin anew after 49 days.
#[derive(Debug, Default)]
struct Timed(AtomicU64);

#[derive(Clone, Copy)]
struct TimedValue {
    value: f32,
    ms: u32,
}

impl Timed {
    /// The word before anything is known; it would be a value of zero, which is none that is set.
    const UNKNOWN: u64 = 0;

    fn read(word: u64) -> Option<TimedValue> {
        let known = TimedValue { value: f32::from_bits((word >> 32) as u32), ms: word as u32 };
        (word != Self::UNKNOWN).then_some(known)
    }

    fn get(&self) -> Option<TimedValue> {
        Self::read(self.0.load(Relaxed))
    }

    /// `None` leaves it as it is. Time does not go back.
    fn change(&self, next: impl Fn(Option<TimedValue>) -> Option<f32>, at: u32) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |word| {
            let was = Self::read(word);
            let value = next(was)?.max(f32::MIN_POSITIVE);
            let ms = was.map_or(at, |was| if weight(was.ms, at) == 1.0 { was.ms } else { at });
            Some(u64::from(value.to_bits()) << 32 | u64::from(ms))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Server {
        origin: Instant,
        learned: Learned,
    }

    impl Server {
        fn new() -> Self {
            let origin = Instant::now();
            Self { origin, learned: Learned::new(origin) }
        }

        /// A try that ends then.
        fn ends(&self, at_ms: u64, result: TryResult, took_ms: u64) {
            let took = Duration::from_millis(took_ms);
            let began = self.origin + Duration::from_millis(at_ms - took_ms);
            self.learned.note(&Outcome::of(result).after(took), self.learned.time(began));
        }

        fn cost_ms(&self, at_ms: u64) -> Option<f32> {
            Some(self.learned.cost(Some(self.origin + Duration::from_millis(at_ms)))? * 1000.0)
        }

        fn check(&self, at_ms: u64, expected: f32) {
            let cost = self.cost_ms(at_ms).expect("something is known");
            assert!((cost / expected - 1.0).abs() < 1e-3, "{cost} ms at {at_ms}, {expected} expected");
        }
    }

    const OK: TryResult = TryResult::answered(200);

    #[test]
    fn what_was_known_elsewhere_fades_as_it_would_have_there() {
        let (before, after) = (Server::new(), Server::new());
        before.ends(900, TryResult::Reset, 0);
        before.ends(1_000, OK, 100);
        let figures = before.learned.figures(before.origin + Duration::from_secs(3));
        assert_eq!(figures.cost.map(|cost| cost.age), Some(Duration::from_secs(2)));
        after.learned.recall(&figures, after.origin + Duration::from_millis(5));
        after.check(5, 100.0 * (-0.2f32).exp());
        after.check(1_005, 100.0 * (-0.3f32).exp());
        assert_eq!(after.learned.success(None), before.learned.success(None));
        assert!(after.learned.success(None) < 1.0);
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let server = Server::new();
        assert_eq!(server.cost_ms(0), None);
        server.ends(1_000, OK, 100);
        server.check(1_000, 100.0);
        server.check(11_000, 100.0 / std::f32::consts::E);
        server.ends(2_000, OK, 300);
        server.check(2_000, 300.0);
        let weight = (-0.1f32).exp();
        server.ends(3_000, OK, 100);
        server.check(3_000, 300.0 * weight + 100.0 * (1.0 - weight));
        server.check(1_000_000_000, LEAST_COST * 1000.0);
    }

    #[test]
    fn failures_teach_no_latency_and_timeouts_what_was_waited() {
        let server = Server::new();
        server.ends(1_000, TryResult::Reset, 1);
        assert_eq!(server.cost_ms(1_000), None);
        server.ends(2_000, OK, 50);
        for failure in [TryResult::ConnectFailed, TryResult::answered(503)] {
            server.ends(12_000, failure, 1);
            server.check(12_000, 50.0);
        }
        server.ends(12_000, TryResult::TimedOut, 900);
        server.check(12_000, 900.0);
        server.ends(12_000, TryResult::NotServersFault, 5_000);
        server.check(12_000, 900.0);
    }

    #[test]
    fn success_is_the_share_of_late() {
        let server = Server::new();
        let success = |at_ms| server.learned.success(Some(server.origin + Duration::from_millis(at_ms)));
        assert_eq!(success(0), 1.0);
        server.ends(1_000, TryResult::answered(404), 1);
        assert_eq!(success(1_000), 1.0, "that is its client's");
        (0..2_000u64).for_each(|n| {
            let result = if n % 4 == 0 { TryResult::answered(500) } else { OK };
            server.ends(40_000 + n * 40, result, 1);
        });
        assert!((success(120_000) - 0.75).abs() < 0.06, "{}", success(120_000));
        (0..2_000u64).for_each(|n| server.ends(200_000 + n * 40, TryResult::Reset, 1));
        assert_eq!(success(280_000), LEAST_SUCCESS);
        assert!(success(290_000) > 0.6 && success(340_000) > 0.99, "it fades: {}", success(290_000));
    }

    #[test]
    fn what_ends_out_of_order_does_not_turn_time_back() {
        let server = Server::new();
        server.ends(20_000, OK, 100);
        server.ends(10_000, OK, 10);
        server.check(20_000, 100.0);
    }

    #[test]
    fn milliseconds_that_begin_anew_are_no_long_time() {
        let almost = u64::from(u32::MAX) - 500;
        let server = Server::new();
        server.ends(almost, OK, 100);
        server.check(almost + 1_000, 100.0 * (-0.1f32).exp());
    }
}
