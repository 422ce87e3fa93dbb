//! Least connections: the server with the lowest `(in_flight + 1) / weight`.

use super::round_robin::Turns;
use super::{Candidates, Query, Selector};
use crate::pool::choose::SAME_LOAD;

#[derive(Debug)]
pub struct LeastConnections {
    turns: Turns,
}

impl LeastConnections {
    pub fn new(weights: &[u32]) -> Self {
        Self { turns: Turns::new(weights) }
    }
}

/// Turns looked at to break a tie. If none of them is of a server with the lowest load, a search from a
/// place drawn by chance decides.
const TURNS: usize = 16;

impl Selector for LeastConnections {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        // Nothing can be lower than the heaviest server at rest: a quiet pool needs no search.
        if among.load(self.turns.peek()) <= among.least_possible_load() + SAME_LOAD {
            let index = self.turns.next();
            if among.load(index) <= among.least_possible_load() + SAME_LOAD {
                return Some(index);
            }
        }
        let lowest = among.lowest(query.entropy)?;
        let tied = |index| among.load(index) <= lowest.load + SAME_LOAD;
        self.turns.next_where(TURNS, tied).or_else(|| among.holder(&lowest, query.entropy))
    }
}
