//! Random two: of two servers drawn by chance, heavier ones more often, the less loaded. (Mitzenmacher, "The Power of Two
//! Choices in Randomized Load Balancing", 2001.) Its cost does not grow with the pool.

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

/// Draws for each of the two before a walk to the next eligible server.
const DRAWS: usize = 8;

/// How far the walk for the second goes; the first one is good enough then.
const WALK: usize = 64;

impl Selector for RandomTwo {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        match self.draw(among, query)? {
            (first, Some(second)) if second.load + SAME_LOAD < first.load => Some(second.index),
            (first, _) => Some(first.index),
        }
    }

    fn reasons(&self, among: &Candidates<'_>, query: &Query, _: usize) -> Reasons {
        let mut scores = super::loads(among);
        let drawn = self.draw(among, query).into_iter().flat_map(|(first, second)| [Some(first), second]);
        for DrawnServer { index, .. } in drawn.flatten() {
            if let Some(score) = &mut scores[index] {
                score.push_str(", drawn");
            }
        }
        let rule = "the lower in flight / weight of two drawn by chance, heavier ones more often; every request draws anew";
        Reasons { rule: rule.to_owned(), scores }
    }
}

/// A server and its load.
#[derive(Clone, Copy)]
struct DrawnServer {
    index: usize,
    load: f64,
}

impl RandomTwo {
    /// Two servers and their loads; only one if another is hard to find.
    fn draw(&self, among: &Candidates<'_>, query: &Query) -> Option<(DrawnServer, Option<DrawnServer>)> {
        let mut chance = Chance(query.entropy);
        let first = self.find(among, &mut chance, None, among.len())?;
        Some((first, self.find(among, &mut chance, Some(first.index), WALK)))
    }

    /// An eligible server other than `but`, and its load.
    fn find(
        &self,
        among: &Candidates<'_>,
        chance: &mut Chance,
        but: Option<usize>,
        walk: usize,
    ) -> Option<DrawnServer> {
        let eligible = |index: usize| {
            let load = among.load(index);
            (load < f64::INFINITY && Some(index) != but).then_some(DrawnServer { index, load })
        };
        (0..DRAWS).find_map(|_| eligible(self.draws.index(chance.next()))).or_else(|| {
            let (n, start) = (among.len(), self.draws.index(chance.next()));
            (start..n).chain(0..start).take(walk).find_map(eligible)
        })
    }
}

/// SplitMix64: many draws from the one number a request brings.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(super::GOLDEN);
        super::mix(self.0)
    }
}

/// Draws indexes in proportion to weights, each by one look-up. (Vose, "A Linear Algorithm for Generating Random Numbers
/// with a Given Distribution", 1991.)
#[derive(Debug)]
struct WeightedDraw {
    columns: Box<[AliasColumn]>,
}

/// As many as there are indexes, all drawn alike: its own index up to `own`, of 2^64, and another's beyond.
#[derive(Clone, Copy, Debug)]
struct AliasColumn {
    own: u64,
    other: u32,
}

impl WeightedDraw {
    fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().copied().map(u64::from).sum();
        // In shares of `total`, what each index has to give to columns; a column holds one `total`.
        let mut left: Vec<u64> =
            weights.iter().map(|weight| u64::from(*weight) * weights.len() as u64).collect();
        let mut columns: Vec<AliasColumn> =
            (0..weights.len() as u32).map(|index| AliasColumn { own: u64::MAX, other: index }).collect();
        let (mut short, mut rich): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|index| left[*index] < total);
        while let (Some(index), Some(giver)) = (short.pop(), rich.last().copied()) {
            let own = (u128::from(left[index]) << 64) / u128::from(total);
            columns[index] = AliasColumn { own: own as u64, other: giver as u32 };
            left[giver] -= total - left[index];
            if left[giver] < total {
                rich.pop();
                short.push(giver);
            }
        }
        Self { columns: columns.into() }
    }

    fn index(&self, chance: u64) -> usize {
        // The whole part is the column, the fraction the place in it.
        let product = u128::from(chance) * self.columns.len() as u128;
        let index = (product >> 64) as usize;
        let column = self.columns[index];
        if (product as u64) < column.own { index } else { column.other as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Balance;
    use crate::pool::sample::{live, member, pool, set_down};
    use crate::pool::{Lease, Operator, Tried};

    fn pick(pool: &crate::pool::Pool, turn: u64) -> Lease {
        let query = Query { key: None, entropy: super::super::mix(turn) };
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
    fn every_weight_is_drawn_as_often_as_it_says() {
        for weights in [&[1, 1, 1][..], &[1, 2, 3, 4], &[256, 1], &[7]] {
            let draw = WeightedDraw::new(weights);
            let total: u32 = weights.iter().sum();
            let mut drawn = vec![0u32; weights.len()];
            let steps = u64::from(total) * weights.len() as u64 * 100;
            (0..steps).for_each(|step| drawn[draw.index(u64::MAX / steps * step)] += 1);
            for (drawn, weight) in drawn.iter().zip(weights) {
                let expected = steps as f64 * f64::from(*weight) / f64::from(total);
                assert!((f64::from(*drawn) - expected).abs() < 20.0, "{weights:?}: {drawn} not {expected}");
            }
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
