//! Random two: of two servers drawn by chance, heavier ones more often, the less loaded. (Mitzenmacher, "The Power of Two
//! Choices in Randomized Load Balancing", 2001.) Its cost does not grow with the pool.

use super::draw::{DrawnServer, WeightedDraw};
use super::{Candidates, Query, Reasons, Selector};
use crate::pool::tried::SAME_LOAD;

#[derive(Debug)]
pub struct RandomTwo {
    draws: WeightedDraw,
}

impl RandomTwo {
    pub fn new(weights: &[u32]) -> Self {
        Self { draws: WeightedDraw::new(weights) }
    }
}

impl Selector for RandomTwo {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        match self.draws.pair(among, query.entropy)? {
            (first, Some(second)) if second.load + SAME_LOAD < first.load => Some(second.index),
            (first, _) => Some(first.index),
        }
    }

    fn reasons(&self, among: &Candidates<'_>, query: &Query, _: usize) -> Reasons {
        let mut scores = super::loads(among);
        let drawn = self
            .draws
            .pair(among, query.entropy)
            .into_iter()
            .flat_map(|(first, second)| [Some(first), second]);
        for DrawnServer { index, .. } in drawn.flatten() {
            if let Some(score) = &mut scores[index] {
                score.push_str(", drawn");
            }
        }
        let rule = "the lower in flight / weight of two drawn by chance, heavier ones more often; every request draws anew";
        Reasons { rule: rule.to_owned(), scores }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Balance;
    use crate::pool::sample::{live, member, pool, set_down};
    use crate::pool::{Lease, Operator, Tried};

    fn pick(pool: &crate::pool::Pool, turn: u64) -> Lease {
        let query = Query { key: None, entropy: super::super::mix(turn), ..Query::default() };
        pool.pick(&query, &mut Tried::new()).expect("a server is ready")
    }

    #[test]
    fn a_quiet_pool_has_its_shares_by_weight() {
        let pool = live(pool(Balance::RandomTwo, "a=50 b=100 c=1 d=249"));
        let mut shares = [0; 4];
        (0..40_000).for_each(|turn| shares[pick(&pool, turn).index()] += 1);
        for (share, expected) in shares.into_iter().zip([5_000, 10_000, 100, 24_900]) {
            assert!((expected * 9 / 10 - 20..=expected * 11 / 10 + 20).contains(&share), "{shares:?}");
        }
    }

    #[test]
    fn open_requests_stay_nearly_even() {
        let names: Vec<String> = (0..50).map(|index| format!("s{index}")).collect();
        let pool = live(pool(Balance::RandomTwo, &names.join(" ")));
        let _open: Vec<Lease> = (0..5_000).map(|turn| pick(&pool, turn)).collect();
        // With one draw instead of two the fullest would have some 125.
        let counts: Vec<u32> = pool.members.iter().map(|member| member.server.in_flight()).collect();
        assert!(counts.iter().all(|count| (95..=105).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_last_eligible_server_is_found_by_any_chance() {
        let names: Vec<String> = (0..300).map(|index| format!("s{index}")).collect();
        let pool = live(pool(Balance::RandomTwo, &names.join(" ")));
        names.iter().filter(|name| *name != "s123").for_each(|name| set_down(&pool, name));
        assert!((0..100).all(|turn| pick(&pool, turn).index() == 123));
        member(&pool, "s123").set_operator(Operator::Drain);
        assert!(pool.failing_open());
    }

    #[test]
    fn a_pair_always_sends_to_the_less_loaded() {
        let pool = live(pool(Balance::RandomTwo, "a b"));
        let mut open: Vec<Lease> = Vec::new();
        for turn in 0..1_000 {
            open.push(pick(&pool, turn));
            let [a, b] = ["a", "b"].map(|name| member(&pool, name).in_flight());
            assert!(a.abs_diff(b) <= 1, "after {turn}: {a} and {b}");
        }
    }
}
