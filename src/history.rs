//! The last minutes of each pool and server: what was counted, second by second, so that rates and latencies can be told
//! and a reload judged by what was before it.

mod hits;

pub use hits::{CacheHistory, CacheTotals};

use crate::pool::stats::BUCKETS;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Seconds that are remembered.
pub const SECONDS: usize = 120;

/// Durations by the buckets of the histograms, the last without a bound; counted since the start.
pub type Spread = [u64; BUCKETS.len() + 1];

/// What a guard compares of exchanges that are over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub requests: u64,
    pub errors: u64,
    pub connect_failures: u64,
    pub unanswered: u64,
    pub left: u64,
    pub whole: u64,
    pub fine: u64,
    pub in_vain: u64,
}

impl Ended {
    fn with(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            requests: of(self.requests, other.requests),
            errors: of(self.errors, other.errors),
            connect_failures: of(self.connect_failures, other.connect_failures),
            unanswered: of(self.unanswered, other.unanswered),
            left: of(self.left, other.left),
            whole: of(self.whole, other.whole),
            fine: of(self.fine, other.fine),
            in_vain: of(self.in_vain, other.in_vain),
        }
    }
}

/// What was counted of one pool or server since the start, and what is in flight now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests answered and connections ended.
    pub requests: u64,
    /// Those of them that failed on our side or the server's: 5xx, a gRPC status that says so, a response cut short, or none.
    pub errors: u64,
    /// Tries that found no connection.
    pub connect_failures: u64,
    /// Of what is passed on as it is: what ended without a byte from the server, though the client had sent some.
    pub unanswered: u64,
    /// Requests whose clients left, or gave up their calls, while it was their server's turn.
    pub left: u64,
    /// Requests with a response that has come to its end.
    pub whole: u64,
    /// What a server has answered, or passed bytes of, and that has not failed.
    pub fine: u64,
    /// Requests whose clients left though they had waited for the server, sooner than a failure is made of it.
    pub in_vain: u64,
    /// What of all this had begun under an earlier generation than the one in force when it ended.
    pub earlier: Ended,
    /// What came from the servers that there are now: heads of responses, bytes of TCP connections, datagrams. Of different
    /// units, so all it says is whether anything comes.
    pub answers: u64,
    pub in_flight: u32,
    pub durations: Spread,
}

impl Totals {
    /// What was counted since `before`. Counters of servers that are gone leave sums smaller; that is no negative number.
    pub fn since(&self, before: &Self) -> Self {
        let mut durations = self.durations;
        durations
            .iter_mut()
            .zip(before.durations)
            .for_each(|(now, before)| *now = now.saturating_sub(before));
        Self {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
            connect_failures: self.connect_failures.saturating_sub(before.connect_failures),
            unanswered: self.unanswered.saturating_sub(before.unanswered),
            left: self.left.saturating_sub(before.left),
            whole: self.whole.saturating_sub(before.whole),
            fine: self.fine.saturating_sub(before.fine),
            in_vain: self.in_vain.saturating_sub(before.in_vain),
            earlier: self.earlier.with(before.earlier, u64::saturating_sub),
            answers: self.answers.saturating_sub(before.answers),
            in_flight: self.in_flight,
            durations,
        }
    }

    /// Of exchanges that are over.
    pub fn ended(&self) -> Ended {
        Ended {
            requests: self.requests,
            errors: self.errors,
            connect_failures: self.connect_failures,
            unanswered: self.unanswered,
            left: self.left,
            whole: self.whole,
            fine: self.fine,
            in_vain: self.in_vain,
        }
    }

    /// What began under the generation in force.
    pub fn of_this_generation(&self) -> Ended {
        self.ended().with(self.earlier, u64::saturating_sub)
    }

    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.connect_failures += other.connect_failures;
        self.unanswered += other.unanswered;
        self.left += other.left;
        self.whole += other.whole;
        self.fine += other.fine;
        self.in_vain += other.in_vain;
        self.earlier = self.earlier.with(other.earlier, |sum, more| sum + more);
        self.answers += other.answers;
        self.in_flight += other.in_flight;
        self.durations.iter_mut().zip(other.durations).for_each(|(sum, more)| *sum += more);
    }
}

/// The milliseconds that this share of durations stayed below, interpolated within its bucket; none if there were
/// none. What is beyond the last bound is told as the last bound.
pub fn quantile(durations: &Spread, share: f64) -> Option<f64> {
    let total: u64 = durations.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = share * total as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for (count, upper) in durations.iter().zip(BUCKETS) {
        let count = *count as f64;
        if below + count >= wanted && count > 0.0 {
            return Some((lower + (upper - lower) * ((wanted - below) / count)) * 1000.0);
        }
        below += count;
        lower = upper;
    }
    Some(MOST_TOLD_MS)
}

/// Milliseconds from which on no more is known of a duration than that it was not shorter.
pub const MOST_TOLD_MS: f64 = BUCKETS[BUCKETS.len() - 1] * 1000.0;

/// A quantile for people: `98 ms`, `over 30000 ms`.
pub fn told(ms: f64) -> String {
    if ms < MOST_TOLD_MS { format!("{ms:.0} ms") } else { format!("over {MOST_TOLD_MS:.0} ms") }
}

/// One second of one pool or server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub requests: u32,
    pub errors: u32,
    /// Tries that found no connection.
    pub connect_failures: u32,
    /// Connections and sessions that ended without a byte from the server.
    pub unanswered: u32,
    /// Whether anything came from the servers.
    #[serde(skip)]
    pub answered: bool,
    /// Responses that came to their end.
    #[serde(skip)]
    pub whole: u32,
    pub in_flight: u32,
    /// Milliseconds; none without requests.
    pub p50_ms: Option<f32>,
    pub p99_ms: Option<f32>,
}

/// The figures of the last seconds together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub requests_per_second: f64,
    /// Of the requests; 0 to 1.
    pub error_ratio: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

impl Figures {
    pub fn of(counted: &Totals, seconds: f64) -> Self {
        let ratio = counted.errors as f64 / counted.requests.max(1) as f64;
        Self {
            requests_per_second: counted.requests as f64 / seconds.max(1.0),
            error_ratio: ratio.min(1.0),
            p50_ms: quantile(&counted.durations, 0.5),
            p99_ms: quantile(&counted.durations, 0.99),
        }
    }
}

/// The seconds of one pool or server, oldest first.
#[derive(Clone, Debug, Default)]
struct PerSecond {
    points: VecDeque<Point>,
    /// What had been counted at the end of each of the last seconds, the newest last; enough for `Figures`.
    marks: VecDeque<Totals>,
}

/// Seconds that figures are made of.
const RECENT: usize = 10;

impl PerSecond {
    fn record(&mut self, now: Totals) {
        let before = self.marks.back().copied().unwrap_or(now);
        let second = now.since(&before);
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let milliseconds = |share| quantile(&second.durations, share).map(|ms| ms as f32);
        self.points.push_back(Point {
            requests: small(second.requests),
            errors: small(second.errors),
            connect_failures: small(second.connect_failures),
            unanswered: small(second.unanswered),
            answered: second.answers > 0,
            whole: small(second.whole),
            in_flight: now.in_flight,
            p50_ms: milliseconds(0.5),
            p99_ms: milliseconds(0.99),
        });
        self.marks.push_back(now);
        if self.points.len() > SECONDS {
            self.points.pop_front();
        }
        if self.marks.len() > RECENT + 1 {
            self.marks.pop_front();
        }
    }

    /// What was counted in so many of the last seconds.
    fn recent(&self) -> Option<(Totals, f64)> {
        let (first, last) = (self.marks.front()?, self.marks.back()?);
        Some((last.since(first), (self.marks.len() - 1) as f64))
    }

    fn figures(&self) -> Figures {
        self.recent().map(|(counted, seconds)| Figures::of(&counted, seconds)).unwrap_or_default()
    }
}

/// A second as one process tells it to the next: requests, errors, connect failures, unanswered, whether anything came, and whole.
pub type ToldSecond = [u32; 6];

impl Point {
    fn told(&self) -> ToldSecond {
        let Self { requests, errors, connect_failures, unanswered, answered, whole, .. } = *self;
        [requests, errors, connect_failures, unanswered, u32::from(answered), whole]
    }

    fn recalled(told: ToldSecond) -> Self {
        let [requests, errors, connect_failures, unanswered, answered, whole] = told;
        let answered = answered > 0;
        Self { requests, errors, connect_failures, unanswered, answered, whole, ..Self::default() }
    }
}

/// The seconds of everything that is known by a `K`.
#[derive(Clone, Debug)]
pub struct History<K>(HashMap<K, PerSecond>);

impl<K> Default for History<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> History<K> {
    /// Adds one second. What is not counted any more is forgotten.
    pub fn record(&mut self, counted: HashMap<K, Totals>) {
        self.0.retain(|key, _| counted.contains_key(key));
        for (key, counted) in counted {
            self.0.entry(key).or_default().record(counted);
        }
    }

    /// The seconds of all that had any traffic, oldest first.
    pub fn told(&self) -> impl Iterator<Item = (&K, Vec<ToldSecond>)> {
        let is_idle = |point: &Point| point.requests == 0 && point.connect_failures == 0;
        let used = self.0.iter().filter(move |(_, series)| !series.points.iter().all(is_idle));
        used.map(|(key, series)| (key, series.points.iter().map(Point::told).collect()))
    }

    /// Takes over the seconds that were before its own.
    pub fn recall(&mut self, key: K, told: Vec<ToldSecond>) {
        let points = &mut self.0.entry(key).or_default().points;
        for second in told.into_iter().rev().take(SECONDS.saturating_sub(points.len())) {
            points.push_front(Point::recalled(second));
        }
    }

    /// Of the last ten seconds.
    pub fn figures<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Figures
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(key).map(PerSecond::figures).unwrap_or_default()
    }

    /// What was counted in the last ten seconds.
    pub fn recent<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Totals
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(key).and_then(PerSecond::recent).map(|(counted, _)| counted).unwrap_or_default()
    }

    /// Oldest first.
    pub fn points<Q: ?Sized + Eq + Hash>(&self, key: &Q) -> Vec<Point>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(key).map(|series| series.points.iter().copied().collect()).unwrap_or_default()
    }

    /// What was counted in the last `seconds` that are remembered, without durations.
    pub fn window<Q: ?Sized + Eq + Hash>(&self, key: &Q, seconds: usize) -> Totals
    where
        K: std::borrow::Borrow<Q>,
    {
        let points = self.0.get(key).map(|series| series.points.iter().rev().take(seconds));
        points.into_iter().flatten().fold(Totals::default(), |mut sum, point| {
            sum.requests += u64::from(point.requests);
            sum.errors += u64::from(point.errors);
            sum.connect_failures += u64::from(point.connect_failures);
            sum.unanswered += u64::from(point.unanswered);
            sum.answers += u64::from(point.answered);
            sum.whole += u64::from(point.whole);
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(requests: u64, errors: u64, durations: &[(usize, u64)]) -> Totals {
        let mut spread = Spread::default();
        durations.iter().for_each(|(bucket, count)| spread[*bucket] = *count);
        Totals { requests, errors, in_flight: 3, durations: spread, ..Totals::default() }
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        // 90 between 2.5 and 5 ms, 10 between 100 and 250 ms.
        let spread = counted(0, 0, &[(2, 90), (7, 10)]).durations;
        let p50 = quantile(&spread, 0.5).unwrap();
        let p99 = quantile(&spread, 0.99).unwrap();
        assert!((2.5..=5.0).contains(&p50), "{p50}");
        assert!((230.0..=250.0).contains(&p99), "{p99}");
        assert_eq!(quantile(&Spread::default(), 0.5), None);
        assert_eq!([0.4, 98.0, 29_999.0, 30_000.0].map(told), ["0 ms", "98 ms", "29999 ms", "over 30000 ms"]);
        assert_eq!(quantile(&counted(0, 0, &[(BUCKETS.len(), 5)]).durations, 0.5), Some(30_000.0));
    }

    #[test]
    fn figures_are_of_the_last_seconds_only() {
        let mut history = History::default();
        for second in 0..30u64 {
            // Ten requests a second, and from the 25th second on half of them fail.
            let errors = second.saturating_sub(24) * 5;
            history.record(HashMap::from([("app", counted(second * 10, errors, &[(2, second * 10)]))]));
        }
        let figures = history.figures("app");
        assert_eq!(figures.requests_per_second, 10.0);
        assert_eq!(figures.error_ratio, 0.25);
        let window = |seconds| history.window("app", seconds);
        assert_eq!((window(5).requests, window(5).errors), (50, 25));
        assert_eq!((window(1000).requests, window(1000).errors), (290, 25));
        let points = history.points("app");
        assert_eq!(
            (points.len(), points[29].requests, points[29].errors, points[29].in_flight),
            (30, 10, 5, 3)
        );
        assert_eq!(points[0].requests, 0, "what was counted before the first look is of no known second");
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_shrinks_is_no_negative_number() {
        let mut history = History::default();
        history.record(HashMap::from([("app", counted(50, 0, &[])), ("old", counted(9, 9, &[]))]));
        history.record(HashMap::from([("app", counted(20, 0, &[]))]));
        assert_eq!(history.points("app")[1].requests, 0);
        assert!(history.points("old").is_empty());
        for _ in 0..200 {
            history.record(HashMap::from([("app", counted(20, 0, &[]))]));
        }
        assert_eq!(history.points("app").len(), SECONDS);
    }

    #[test]
    fn the_next_process_knows_the_seconds_before() {
        let (mut before, mut after) = (History::default(), History::default());
        for second in 0..5 {
            let idle = ("idle", Totals::default());
            before.record(HashMap::from([("app", counted(second * 10, second, &[])), idle]));
        }
        after.record(HashMap::from([("app", counted(0, 0, &[]))]));
        let told: Vec<_> = before.told().map(|(key, seconds)| (*key, seconds)).collect();
        assert_eq!(told.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["app"]);
        for (key, seconds) in told {
            after.recall(key, seconds);
        }
        after.record(HashMap::from([("app", counted(100, 0, &[]))]));
        let all = after.window("app", SECONDS);
        assert_eq!((all.requests, all.errors, after.points("app").len()), (140, 4, 7));
        assert_eq!((after.window("app", 1).requests, after.points("app")[6].requests), (100, 100));
        after.recall("app", vec![[1; 6]; 2 * SECONDS]);
        assert_eq!(after.points("app").len(), SECONDS);
    }
}
