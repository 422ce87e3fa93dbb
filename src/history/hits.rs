//! What the caches of rules have answered, second by second: how many requests the servers are spared now.

use super::RECENT;
use std::collections::{HashMap, VecDeque};

/// Requests of rules that have a cache, counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheTotals {
    pub requests: u64,
    /// Those of them that no server was asked for.
    pub served: u64,
}

impl CacheTotals {
    fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            served: self.served.saturating_sub(before.served),
        }
    }

    /// From 0 to 1; none without requests.
    pub fn hit_ratio(self) -> Option<f64> {
        (self.requests > 0).then(|| self.served as f64 / self.requests as f64)
    }
}

/// The last seconds of each rule.
#[derive(Clone, Debug, Default)]
pub struct CacheHistory(HashMap<String, VecDeque<CacheTotals>>);

impl CacheHistory {
    /// Adds a second. What is not counted any more is forgotten.
    pub fn record(&mut self, counted: HashMap<String, CacheTotals>) {
        self.0.retain(|route, _| counted.contains_key(route));
        for (route, totals) in counted {
            let marks = self.0.entry(route).or_default();
            marks.push_back(totals);
            if marks.len() > RECENT + 1 {
                marks.pop_front();
            }
        }
    }

    /// Of the last ten seconds, and how many those were.
    pub fn recent(&self, route: &str) -> (CacheTotals, usize) {
        let Some(marks) = self.0.get(route) else { return Default::default() };
        let (Some(first), Some(last)) = (marks.front(), marks.back()) else { return Default::default() };
        (last.since(*first), marks.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_seconds_are_told_and_what_is_gone_is_forgotten() {
        let mut history = CacheHistory::default();
        let counted =
            |requests, served| HashMap::from([("shop".to_owned(), CacheTotals { requests, served })]);
        assert_eq!(history.recent("shop"), (CacheTotals::default(), 0));
        // All is served until the 20th second, and nothing after it.
        for second in 0..=25u64 {
            history.record(counted(second * 10, second.min(20) * 10));
        }
        let (recent, seconds) = history.recent("shop");
        assert_eq!((recent, seconds), (CacheTotals { requests: 100, served: 50 }, 10));
        assert_eq!(recent.hit_ratio(), Some(0.5));
        assert_eq!(CacheTotals::default().hit_ratio(), None);
        history.record(HashMap::new());
        assert_eq!(history.recent("shop"), (CacheTotals::default(), 0));
    }
}
