//! All that the process counts for limits.

use super::{Bans, ConcurrencyTable, Debtors, LimitSecret, RateTable};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

/// The tables.
#[derive(Debug)]
pub struct Limiter {
    pub secret: LimitSecret,
    pub rates: RateTable,
    pub concurrency: Arc<ConcurrencyTable>,
    pub bans: Bans,
    pub debtors: Debtors,
    tarpits: Arc<AtomicU32>,
}

/// Requests under way that are counted are far fewer than clients in debt.
const RATES_FOR_ONE_UNDER_WAY: usize = 8;

impl Limiter {
    pub fn new(secret: LimitSecret, keys: usize, now: Instant) -> Self {
        Self {
            secret,
            rates: RateTable::new(keys, now),
            concurrency: ConcurrencyTable::new(keys / RATES_FOR_ONE_UNDER_WAY),
            bans: Bans::default(),
            debtors: Debtors::default(),
            tarpits: Arc::default(),
        }
    }

    /// A place among those that are held back to be refused; `None` if there are so many already.
    pub fn tarpit(&self, most: u32) -> Option<TarpitPermit> {
        let permit = TarpitPermit(Arc::clone(&self.tarpits));
        (self.tarpits.fetch_add(1, Relaxed) < most).then_some(permit)
    }

    /// How many are held back so.
    pub fn tarpits(&self) -> u32 {
        self.tarpits.load(Relaxed)
    }
}

/// A place among those that are held back.
#[derive(Debug)]
#[must_use = "the place comes free when this is dropped"]
pub struct TarpitPermit(Arc<AtomicU32>);

impl Drop for TarpitPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_held_back_than_may_be() {
        let limiter = Limiter::new(LimitSecret::new(), 64, Instant::now());
        let held = (limiter.tarpit(2), limiter.tarpit(2));
        assert!(held.0.is_some() && held.1.is_some() && limiter.tarpit(2).is_none());
        assert_eq!(limiter.tarpits(), 2);
        drop(held);
        assert!(limiter.tarpit(1).is_some());
        assert!(limiter.tarpit(0).is_none());
        assert_eq!(limiter.tarpits(), 0);
    }
}
