//! Rates by the generic cell rate algorithm (ITU-T I.371): all that is kept of a client is when its debt is over. Who has none
//! is as if never seen.

use super::slots::{Change, SlotTable};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// On the table's clock, which counts sixteenths of a microsecond: fine enough for a million requests a second, and good for
/// eight years.
fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos() * 2 / 125).unwrap_or(u64::MAX)
}

fn duration(ticks: u64) -> Duration {
    // Rounded up: who comes then is let in.
    Duration::from_nanos((ticks * 125).div_ceil(2))
}

/// So many requests in so much time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    pub requests: NonZeroU32,
    pub per: Duration,
    pub burst: NonZeroU32,
    /// Between two requests, in ticks.
    interval: u64,
}

impl Rate {
    /// Without a `burst` it is what the rate gives in a second, at least one.
    pub fn new(requests: NonZeroU32, per: Duration, burst: Option<NonZeroU32>) -> Self {
        let per_second = u128::from(requests.get()) * 1_000_000_000 / per.as_nanos().max(1);
        let second =
            NonZeroU32::new(u32::try_from(per_second).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
        let interval = ticks(per).div_ceil(u64::from(requests.get())).max(1);
        Self { requests, per, burst: burst.unwrap_or(second), interval }
    }

    /// Between two requests, in the table's own unit: what debts are counted in.
    pub fn interval(self) -> u64 {
        self.interval
    }

    /// The most debt that one may have and still be let in.
    fn tolerance(self) -> u64 {
        self.interval.saturating_mul(u64::from(self.burst.get() - 1))
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateVerdict {
    Passes {
        /// How long it is to be held back before.
        wait: Duration,
        /// How many more would pass at once.
        left: u32,
        /// When all of the burst is there again.
        reset: Duration,
    },
    /// It costs nothing.
    Over { retry_after: Duration },
}

/// Debts by key.
#[derive(Debug)]
pub struct RateTable {
    table: SlotTable,
    began: Instant,
}

impl RateTable {
    /// For so many clients in debt at once.
    pub fn new(keys: usize, now: Instant) -> Self {
        Self { table: SlotTable::new(keys), began: now }
    }

    fn clock(&self, now: Instant) -> u64 {
        ticks(now.saturating_duration_since(self.began))
    }

    /// Has a key pay for a request, if it can.
    pub fn take(&self, key: u64, rate: Rate, now: Instant) -> RateVerdict {
        self.take_delayed(key, rate, Duration::ZERO, now)
    }

    /// The same where a request may be held back for so long rather than refused.
    pub fn take_delayed(&self, key: u64, rate: Rate, longest: Duration, now: Instant) -> RateVerdict {
        let clock = self.clock(now);
        let pay = |until: u64| {
            let result = judge(until, rate, ticks(longest), clock);
            let to = matches!(result, RateVerdict::Passes { .. }).then(|| until.max(clock) + rate.interval);
            Change { to, result }
        };
        self.table.update(key, |until| until <= clock, pay).1
    }

    /// What would become of a request, without having anybody pay.
    pub fn look(&self, key: u64, rate: Rate, now: Instant) -> RateVerdict {
        let clock = self.clock(now);
        judge(self.table.look(key, |until| until <= clock), rate, 0, clock)
    }

    /// Has a key pay for what has been let in, however much came at once. True if it has nothing left now.
    pub fn charge(&self, key: u64, rate: Rate, now: Instant) -> bool {
        let clock = self.clock(now);
        let pay = |until: u64| {
            let to = until.max(clock).saturating_add(rate.interval);
            Change { to: Some(to), result: to > clock + rate.tolerance() }
        };
        self.table.update(key, |until| until <= clock, pay).1
    }

    /// Has a key owe so much more, whatever it owes; how long all of it lasts.
    pub fn owe(&self, key: u64, more: Duration, now: Instant) -> Duration {
        if more.is_zero() {
            return self.debt(key, now);
        }
        let clock = self.clock(now);
        let pay = |until: u64| {
            let to = until.max(clock).saturating_add(ticks(more));
            Change { to: Some(to), result: duration(to - clock) }
        };
        self.table.update(key, |until| until <= clock, pay).1
    }

    /// Forgets a key's debt.
    pub fn forgive(&self, key: u64) {
        let forgive = |until| Change { to: (until > 0).then_some(0), result: () };
        if self.table.get(key).is_some() {
            self.table.update(key, |_| false, forgive);
        }
    }

    /// How long a key's debt lasts.
    pub fn debt(&self, key: u64, now: Instant) -> Duration {
        let until = self.table.get(key).unwrap_or(0);
        duration(until.saturating_sub(self.clock(now)))
    }

    /// Notes that something holds for a key until then; false if there is no room.
    pub(super) fn put(&self, key: u64, until: Instant, now: Instant) -> bool {
        let clock = self.clock(now);
        self.table.put(key, self.clock(until), |until| until <= clock)
    }

    /// Who is in debt, and for how long yet.
    pub fn debts(&self, now: Instant) -> impl Iterator<Item = (u64, Duration)> {
        let clock = self.clock(now);
        let debts = self.table.all().filter(move |(_, until)| *until > clock);
        debts.map(move |(key, until)| (key, duration(until - clock)))
    }

    /// Has a key owe at least so much; false if there is no room.
    pub fn recall(&self, key: u64, debt: Duration, now: Instant) -> bool {
        self.debt(key, now) >= debt || self.put(key, now + debt, now)
    }

    /// How many keys are in debt.
    pub fn in_debt(&self, now: Instant) -> usize {
        let clock = self.clock(now);
        self.table.count(|until| until <= clock)
    }

    /// How often somebody had to share another's debt, for want of room.
    pub fn shared(&self) -> u64 {
        self.table.shared()
    }
}

fn judge(until: u64, rate: Rate, longest: u64, clock: u64) -> RateVerdict {
    let debt = until.saturating_sub(clock);
    let wait = debt.saturating_sub(rate.tolerance());
    if wait > longest {
        return RateVerdict::Over { retry_after: duration(wait) };
    }
    let after = debt + rate.interval;
    let left = (rate.tolerance() + rate.interval).saturating_sub(after) / rate.interval;
    RateVerdict::Passes { wait: duration(wait), left: left as u32, reset: duration(after) }
}

/// What `Retry-After` says: whole seconds, rounded up, never none.
pub fn seconds_up(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests;
