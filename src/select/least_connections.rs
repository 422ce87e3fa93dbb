//! Least connections: the server with the lowest `in_flight / weight`.

use super::round_robin::SmoothSequence;
use super::{Candidates, Query, Reasons, Selector};
use crate::pool::tried::SAME_LOAD;

#[derive(Debug)]
pub struct LeastConnections {
    turns: SmoothSequence,
}

impl LeastConnections {
    pub fn new(weights: &[u32]) -> Self {
        Self { turns: SmoothSequence::new(weights) }
    }
}

/// Turns looked at to break a tie. If none of them is of a server with the lowest load, a search from a
/// place drawn by chance decides.
const TURNS: usize = 16;

impl Selector for LeastConnections {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        // Nothing can be lower than a server at rest, and those are all alike: a quiet pool needs no search, and its
        // shares follow the weights.
        if among.is_at_rest(self.turns.peek()) {
            let index = self.turns.next();
            if among.is_at_rest(index) {
                return Some(index);
            }
        }
        let lowest = among.lowest(query.entropy)?;
        let tied = |index| among.load(index) <= lowest.load + SAME_LOAD;
        self.turns.next_where(TURNS, tied).or_else(|| among.holder(&lowest, query.entropy))
    }

    fn look(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        Self { turns: self.turns.copy() }.select(among, query)
    }

    fn reasons(&self, among: &Candidates<'_>, _: &Query, chosen: usize) -> Reasons {
        let lowest = among.load(chosen);
        let tied = (0..among.len()).filter(|index| among.load(*index) <= lowest + SAME_LOAD).count();
        let mut rule = "the lowest in flight / weight".to_owned();
        if tied > 1 {
            rule += &format!("; {tied} servers share it, in turn");
        }
        Reasons { rule, scores: super::loads(among) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Balance;
    use crate::pool::sample::{live, pool};
    use crate::pool::{Lease, Tried};

    /// Which servers take the next requests if each stays open, or if each ends at once.
    fn check(servers: &str, stay: bool, expected: &str) {
        let pool = live(pool(Balance::LeastConnections, servers));
        let mut open: Vec<Lease> = Vec::new();
        let names: Vec<String> = (0..expected.split(' ').count())
            .map(|_| {
                let lease = pool.pick(&Query::default(), &mut Tried::new()).expect("all are ready");
                let name = lease.server().name().to_string();
                open.extend(stay.then_some(lease));
                name
            })
            .collect();
        assert_eq!(names.join(" "), expected, "{servers}");
    }

    #[test]
    fn an_idle_pool_still_rotates() {
        check("a b c", false, "a b c a b c");
    }

    #[test]
    fn an_idle_pool_has_its_shares_by_weight() {
        check("a=50 b=100", false, "b a b b a b");
    }

    #[test]
    fn a_busy_server_is_passed_over_for_one_at_rest_whatever_their_weights() {
        let pool = live(pool(Balance::LeastConnections, "a=50 b=100"));
        let pick = || pool.pick(&Query::default(), &mut Tried::new()).expect("all are ready");
        let mut shares = [0; 2];
        let mut open = [None, None];
        for turn in 0..90 {
            open[turn % 2] = None;
            let lease = pick();
            shares[lease.index()] += 1;
            open[turn % 2] = Some(lease);
        }
        assert!(shares.iter().all(|share| (40..=50).contains(share)), "{shares:?}");
    }

    #[test]
    fn open_requests_are_spread_by_weight() {
        check("a b c", true, "a b c a b c");
        check("a=200 b=100", true, "a b a a b a");
    }

    #[test]
    fn a_tie_far_down_the_cycle_is_still_shared() {
        let names: Vec<String> = (0..200).map(|index| format!("s{index}")).collect();
        let pool = live(pool(Balance::LeastConnections, &names.join(" ")));
        let mut open: Vec<Lease> = Vec::new();
        while open.len() < 200 {
            open.push(pool.pick(&Query::default(), &mut Tried::new()).expect("all are ready"));
        }
        // Only these two are at rest; requests end at once, so both stay so.
        open.retain(|lease| ![50, 150].contains(&lease.index()));
        let mut shares = [0; 2];
        for turn in 0..200u64 {
            let query = Query { key: None, entropy: super::super::mix(turn), ..Query::default() };
            let lease = pool.pick(&query, &mut Tried::new()).expect("two are at rest");
            shares[lease.index() / 100] += 1;
            assert!([50, 150].contains(&lease.index()));
        }
        assert!(shares.iter().all(|share| *share > 40), "{shares:?}");
    }
}
