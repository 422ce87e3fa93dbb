//! Random two: of two servers drawn by chance, the less loaded. (Mitzenmacher, "The Power of Two Choices
//! in Randomized Load Balancing", 2001.) Its cost does not grow with the pool.

use super::{Candidates, Query, Selector};

#[derive(Debug)]
pub struct RandomTwo;

impl Selector for RandomTwo {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        let n = among.len();
        let from = |start: u64| {
            let start = (start % n.max(1) as u64) as usize;
            (start..n).chain(0..start).filter(|index| among.is_eligible(*index))
        };
        let first = from(query.entropy).next()?;
        let second = from(query.entropy >> 32).find(|index| *index != first);
        Some(second.filter(|second| among.load(*second) < among.load(first)).unwrap_or(first))
    }
}
