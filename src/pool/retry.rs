//! The retry budget: retries may help when one server fails, and must not double the load when all do.

use crate::units::Percent;
use std::sync::atomic::{AtomicU64, Ordering};

/// One retry, in the unit of the balance.
const RETRY: u64 = 100;

/// A pool's balance of retries. Every request deposits the budget's share of a retry, every retry
/// withdraws a whole one. (Finagle's RetryBudget and Envoy's retry budgets work alike.)
#[derive(Debug)]
pub struct RetryBudget {
    /// In hundredths of a retry, so that a percentage is a whole number.
    balance: AtomicU64,
}

impl RetryBudget {
    /// Retries in hand before the first request, so that a quiet pool can retry at all.
    pub const START: u64 = 10;
    /// Retries that can be saved up: a calm hour does not pay for a storm.
    pub const CAP: u64 = 100;

    pub fn new() -> Self {
        Self { balance: AtomicU64::new(Self::START * RETRY) }
    }

    /// Counts one request (not its retries) at the pool's budget.
    pub fn deposit(&self, budget: Percent) {
        let full = Self::CAP * RETRY;
        let mut balance = self.balance.load(Ordering::Relaxed);
        while balance < full {
            let next = (balance + u64::from(budget.0)).min(full);
            match self.balance.compare_exchange_weak(balance, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => balance = now,
            }
        }
    }

    /// Whether there is no retry left just now.
    pub fn is_spent(&self) -> bool {
        self.balance.load(Ordering::Relaxed) < RETRY
    }

    /// Takes one retry from the balance; false if there is none left.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        let mut balance = self.balance.load(Ordering::Relaxed);
        while balance >= RETRY {
            match self.balance.compare_exchange_weak(
                balance,
                balance - RETRY,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => balance = now,
            }
        }
        false
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries_left(budget: &RetryBudget) -> u64 {
        (0..).take_while(|_| budget.withdraw()).count() as u64
    }

    #[test]
    fn retries_stay_within_their_share_of_requests() {
        let budget = RetryBudget::new();
        assert!(!budget.is_spent());
        assert_eq!(retries_left(&budget), RetryBudget::START);
        assert!(budget.is_spent());
        for (requests, percent, retries) in [(100, 20, 20), (4, 20, 0), (1, 20, 1), (10, 0, 0), (3, 100, 3)] {
            (0..requests).for_each(|_| budget.deposit(Percent(percent)));
            assert_eq!(retries_left(&budget), retries, "{requests} requests at {percent}%");
        }
    }

    #[test]
    fn savings_are_capped() {
        let budget = RetryBudget::new();
        (0..100_000).for_each(|_| budget.deposit(Percent(20)));
        assert_eq!(retries_left(&budget), RetryBudget::CAP);
    }
}
