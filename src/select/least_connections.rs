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

/// Turns taken to break a tie before the search's own find will do.
const TURNS: usize = 16;

impl Selector for LeastConnections {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        let (found, lowest) = among.lowest(query.entropy)?;
        let tied = |index: &usize| among.load(*index) <= lowest + SAME_LOAD;
        Some((0..TURNS).map(|_| self.turns.next()).find(tied).unwrap_or(found))
    }
}
