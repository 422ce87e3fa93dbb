//! Random two: of two servers drawn by chance, the less loaded. (Mitzenmacher, "The Power of Two Choices
//! in Randomized Load Balancing", 2001.) Its cost does not grow with the pool.

use super::{Candidates, Query, Selector};

#[derive(Debug)]
pub struct RandomTwo;

/// Draws for each of the two before a walk to the next eligible server.
const DRAWS: usize = 8;

/// How far the walk for the second goes; the first one is good enough then.
const WALK: usize = 64;

impl Selector for RandomTwo {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        let n = among.len();
        let mut chance = Chance(query.entropy);
        let (first, load) = find(among, &mut chance, None, n)?;
        match find(among, &mut chance, Some(first), WALK) {
            Some((second, lower)) if lower < load => Some(second),
            _ => Some(first),
        }
    }
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
