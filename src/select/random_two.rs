//! Random two: of two servers drawn by chance, the less loaded. (Mitzenmacher, "The Power of Two Choices
//! in Randomized Load Balancing", 2001.) Its cost does not grow with the pool.

use super::{Candidates, Query, Reasons, Selector};

#[derive(Debug)]
pub struct RandomTwo;

/// Draws for each of the two before a walk to the next eligible server.
const DRAWS: usize = 8;

/// How far the walk for the second goes; the first one is good enough then.
const WALK: usize = 64;

impl Selector for RandomTwo {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        match draw(among, query)? {
            ((_, load), Some((second, lower))) if lower < load => Some(second),
            ((first, _), _) => Some(first),
        }
    }

    fn reasons(&self, among: &Candidates<'_>, query: &Query, _: usize) -> Reasons {
        let mut scores = super::loads(among);
        let drawn = draw(among, query).into_iter().flat_map(|((first, _), second)| {
            [Some(first), second.map(|(second, _)| second)].into_iter().flatten()
        });
        for index in drawn {
            if let Some(score) = &mut scores[index] {
                score.push_str(", drawn");
            }
        }
        let rule = "the lower (in flight + 1) / weight of two drawn by chance; every request draws anew";
        Reasons { rule: rule.to_owned(), scores }
    }
}

/// A server and its load.
type Drawn = (usize, f64);

/// Two servers and their loads; only one if another is hard to find.
fn draw(among: &Candidates<'_>, query: &Query) -> Option<(Drawn, Option<Drawn>)> {
    let mut chance = Chance(query.entropy);
    let first = find(among, &mut chance, None, among.len())?;
    Some((first, find(among, &mut chance, Some(first.0), WALK)))
}

/// An eligible server other than `but`, and its load.
fn find(
    among: &Candidates<'_>,
    chance: &mut Chance,
    but: Option<usize>,
    walk: usize,
) -> Option<(usize, f64)> {
    let eligible = |index: usize| {
        let load = among.load(index);
        (load < f64::INFINITY && Some(index) != but).then_some((index, load))
    };
    let n = among.len();
    (0..DRAWS).find_map(|_| eligible(chance.below(n))).or_else(|| {
        let start = chance.below(n);
        (start..n).chain(0..start).take(walk).find_map(eligible)
    })
}

/// SplitMix64: many draws from the one number a request brings.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(super::GOLDEN);
        ((u128::from(super::mix(self.0)) * n as u128) >> 64) as usize
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
