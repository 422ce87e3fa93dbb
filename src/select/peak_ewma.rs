//! Peak EWMA: the server that is expected to answer soonest, by how long it took of late, what it has in flight and how often
//! it fails. (Finagle's load balancer of that name; the share of successes beside it is ours, for a server that fails at
//! once would look like the quickest.)

use super::draw::WeightedDraw;
use super::{Candidates, Query, Reasons, Selector};

/// Up to so many servers all are compared, beyond two that are drawn by chance.
const EXACT: usize = 8;

/// As many servers say what a server costs of which nothing is known.
const SAMPLE: usize = 64;

#[derive(Debug)]
pub struct PeakEwma {
    draws: WeightedDraw,
}

impl PeakEwma {
    pub fn new(weights: &[u32]) -> Self {
        Self { draws: WeightedDraw::new(weights) }
    }
}

impl Selector for PeakEwma {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        let mut scores = Scores { among, query, usual: None };
        if among.len() > EXACT {
            let (first, second) = self.draws.pair(among, query.entropy)?;
            return match second {
                Some(second) if scores.of(second.index) < scores.of(first.index) => Some(second.index),
                _ => Some(first.index),
            };
        }
        let (n, start) = (among.len(), (query.entropy % among.len().max(1) as u64) as usize);
        let mut best = (f32::INFINITY, None);
        for index in (start..n).chain(0..start).filter(|index| among.is_eligible(*index)) {
            let score = scores.of(index);
            if score < best.0 || best.1.is_none() {
                best = (score, Some(index));
            }
        }
        best.1
    }

    fn reasons(&self, among: &Candidates<'_>, query: &Query, _: usize) -> Reasons {
        let mut scores = Scores { among, query, usual: None };
        let pair = || self.draws.pair(among, query.entropy);
        let drawn: Vec<usize> = match among.len() > EXACT {
            true => pair()
                .into_iter()
                .flat_map(|(first, second)| [Some(first), second])
                .flatten()
                .map(|one| one.index)
                .collect(),
            false => Vec::new(),
        };
        let mut in_words = |index: usize| {
            let (learned, cost) = (among.learned(index), scores.cost(index));
            let known = match learned.cost(query.now) {
                _ if cost <= learned.silence(query.now) => " (it has answered nothing for so long)",
                Some(_) => "",
                None => " (the median: it is new)",
            };
            let drawn = if drawn.contains(&index) { ", drawn" } else { "" };
            format!(
                "score {:.4}: {:.1} ms{known}, {:.0}% served{drawn}",
                scores.of(index) * 1000.0 * 100.0,
                cost * 1000.0,
                learned.success(query.now) * 100.0
            )
        };
        let rule = match among.len() > EXACT {
            true => {
                "the lower score of two drawn by chance, heavier ones more often; every request draws anew"
            }
            false => "the lowest score",
        };
        Reasons {
            rule: format!("{rule}: milliseconds × (in flight + 1) / (weight / 100 × served²)"),
            scores: (0..among.len()).map(|index| among.is_eligible(index).then(|| in_words(index))).collect(),
        }
    }
}

/// What servers are compared by.
struct Scores<'a> {
    among: &'a Candidates<'a>,
    query: &'a Query,
    /// What a server costs as a rule, once somebody has asked.
    usual: Option<f32>,
}

impl Scores<'_> {
    fn of(&mut self, index: usize) -> f32 {
        let success = self.among.learned(index).success(self.query.now);
        let busy = (self.among.in_flight(index) + 1) as f32;
        self.cost(index) * busy / (self.among.weight(index) as f32 * success * success)
    }

    /// Seconds to the first byte, which are as many at least as somebody there has waited for one.
    fn cost(&mut self, index: usize) -> f32 {
        let cost = match self.among.learned(index).cost(self.query.now) {
            Some(cost) => cost,
            None => self.believed(index),
        };
        cost.max(self.among.learned(index).silence(self.query.now))
    }

    /// Of a server that is new: what the others cost as a rule. As time goes by it is to be tried, by one request and not by all.
    fn believed(&mut self, index: usize) -> f32 {
        let usual = *self.usual.get_or_insert_with(|| median(self.among, self.query));
        match self.among.in_flight(index) {
            0 => usual * self.among.learned(index).belief(self.query.now),
            _ => usual,
        }
    }
}

/// The median of what is known of the pool's servers, or of some of many. Where nothing is, all are alike.
fn median(among: &Candidates<'_>, query: &Query) -> f32 {
    let mut costs = [0.0; SAMPLE];
    let mut known = 0;
    for index in (0..among.len()).step_by(among.len().div_ceil(SAMPLE).max(1)) {
        if let Some(cost) = among.learned(index).cost(query.now) {
            costs[known] = cost;
            known += 1;
        }
    }
    let costs = &mut costs[..known];
    costs.sort_unstable_by(f32::total_cmp);
    costs.get(known / 2).copied().unwrap_or(1.0)
}

#[cfg(test)]
mod tests;
