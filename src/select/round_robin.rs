//! Smooth weighted round robin: in turn, heavier servers more often, and evenly spread.

use super::{Candidates, Query, Selector};
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub struct RoundRobin {
    turns: Turns,
}

impl RoundRobin {
    pub fn new(weights: &[u32]) -> Self {
        Self { turns: Turns::new(weights) }
    }
}

impl Selector for RoundRobin {
    fn select(&self, among: &Candidates<'_>, _: &Query) -> Option<usize> {
        (0..self.turns.len()).map(|_| self.turns.next()).find(|index| among.is_eligible(*index))
    }
}

/// Whose turn it is: a cycle of servers, and a place in it.
#[derive(Debug)]
pub struct Turns {
    sequence: Box<[u32]>,
    cursor: AtomicU64,
}

impl Turns {
    pub fn new(weights: &[u32]) -> Self {
        Self { sequence: sequence(weights), cursor: AtomicU64::new(0) }
    }

    /// Turns in a cycle.
    pub fn len(&self) -> usize {
        self.sequence.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sequence.is_empty()
    }

    /// Takes the next turn.
    pub fn next(&self) -> usize {
        let turn = self.cursor.fetch_add(1, Ordering::Relaxed);
        self.sequence[(turn % self.sequence.len() as u64) as usize] as usize
    }
}

/// nginx's smooth weighted round robin: each turn every server gains its weight, the one with the most
/// has the turn and pays the total.
fn sequence(weights: &[u32]) -> Box<[u32]> {
    let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
    let mut credit = vec![0; weights.len()];
    (0..total)
        .map(|_| {
            let mut best = 0;
            for (index, weight) in weights.iter().enumerate() {
                credit[index] += i64::from(*weight);
                if credit[index] > credit[best] {
                    best = index;
                }
            }
            credit[best] -= total;
            best as u32
        })
        .collect()
}
