//! Success rate: by weight among the servers that succeed as often as the best, and now and then one of the others, to find
//! out whether it does better. Who that is was decided before (`pool/success_watch.rs`).

use super::draw::Chance;
use super::{Candidates, Query, Reasons, Selector};
use crate::units::Percent;

#[derive(Debug)]
pub struct SuccessRate {
    explore: Percent,
}

impl SuccessRate {
    pub fn new(explore: Percent) -> Self {
        Self { explore }
    }
}

impl Selector for SuccessRate {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        let mut chance = Chance(query.entropy);
        let explores = part(chance.next(), 100) < u64::from(self.explore.0);
        let drawn = chance.next();
        by_weight(among, explores, drawn).or_else(|| by_weight(among, !explores, drawn))
    }

    fn reasons(&self, among: &Candidates<'_>, _: &Query, _: usize) -> Reasons {
        let in_words = |index: usize| {
            let standing = among.success(index).standing();
            if standing.n == 0 {
                return "nothing known yet".to_owned();
            }
            let verdict = if standing.is_worse { ": provably worse than the best" } else { "" };
            format!(
                "{:.1}% of {} succeeded ({:.1}% to {:.1}%){verdict}, {:.1}% of picks",
                standing.mean * 100.0,
                standing.n,
                standing.low * 100.0,
                standing.high * 100.0,
                standing.share * 100.0
            )
        };
        Reasons {
            rule: format!(
                "drawn by weight among those that are not provably worse than the best, and in {}% of picks among the others",
                self.explore.0
            ),
            scores: (0..among.len()).map(|index| among.is_eligible(index).then(|| in_words(index))).collect(),
        }
    }
}

/// A server that is worse, or one that is not, by chance and weight.
fn by_weight(among: &Candidates<'_>, is_worse: bool, drawn: u64) -> Option<usize> {
    let weight = |index: usize| match among.success(index).is_worse() == is_worse && among.is_eligible(index)
    {
        true => u64::from(among.weight(index)),
        false => 0,
    };
    let total = (0..among.len()).map(weight).sum::<u64>();
    if total == 0 {
        return None;
    }
    let mut left = part(drawn, total);
    let mut last = None;
    for (index, weight) in
        (0..among.len()).map(|index| (index, weight(index))).filter(|(_, weight)| *weight > 0)
    {
        last = Some(index);
        match left.checked_sub(weight) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    last
}

/// A number below `n`, by chance.
fn part(chance: u64, n: u64) -> u64 {
    ((u128::from(chance) * u128::from(n)) >> 64) as u64
}
