//! Smooth weighted round robin: in turn, heavier servers more often, and evenly spread.

use super::{Candidates, Query, Reasons, Selector};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub struct RoundRobin {
    turns: SmoothSequence,
}

impl RoundRobin {
    pub fn new(weights: &[u32]) -> Self {
        Self { turns: SmoothSequence::new(weights) }
    }
}

impl Selector for RoundRobin {
    fn select(&self, among: &Candidates<'_>, _: &Query) -> Option<usize> {
        let index = self.turns.next();
        match among.is_eligible(index) {
            true => Some(index),
            // Whoever cannot take the turn loses it, so that the others' shares stay exact. Where nobody can,
            // it is not lost: the pool may ask again with lower standards.
            false => {
                self.turns.next_where(self.turns.cycle(), |index| among.is_eligible(index)).or_else(|| {
                    self.turns.give_back();
                    None
                })
            }
        }
    }

    fn look(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        Self { turns: self.turns.copy() }.select(among, query)
    }

    fn reasons(&self, among: &Candidates<'_>, _: &Query, _: usize) -> Reasons {
        let turn = |index| self.turns.until(index).map(|before| format!("turn {}", before + 1));
        Reasons {
            rule: "the next turn of a server that may be used".to_owned(),
            scores: (0..among.len()).map(turn).collect(),
        }
    }
}

/// Whose turn it is: a cycle of servers, and a place in it.
#[derive(Debug)]
pub struct SmoothSequence {
    sequence: Arc<[u32]>,
    cursor: AtomicU64,
}

impl SmoothSequence {
    /// The cycle of these weights; there is at least one.
    pub fn new(weights: &[u32]) -> Self {
        Self { sequence: sequence(weights).into(), cursor: AtomicU64::new(0) }
    }

    /// The same cycle at the same place; its turns are not taken from this one.
    pub fn copy(&self) -> Self {
        let cursor = AtomicU64::new(self.cursor.load(Ordering::Relaxed));
        Self { sequence: Arc::clone(&self.sequence), cursor }
    }

    /// How many turns are before a server's next one; none if it has none.
    pub fn until(&self, index: usize) -> Option<usize> {
        let (later, sooner) = self.sequence.split_at(self.place(self.cursor.load(Ordering::Relaxed)));
        sooner.iter().chain(later).position(|turn| *turn as usize == index)
    }

    /// Turns in a cycle.
    pub fn cycle(&self) -> usize {
        self.sequence.len()
    }

    /// Whose turn is next, without taking it.
    pub fn peek(&self) -> usize {
        self.sequence[self.place(self.cursor.load(Ordering::Relaxed))] as usize
    }

    /// Takes the next turn.
    pub fn next(&self) -> usize {
        self.sequence[self.place(self.cursor.fetch_add(1, Ordering::Relaxed))] as usize
    }

    /// Undoes a `next` that was of no use.
    fn give_back(&self) {
        self.cursor.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes the next turn of a server that `will_do`, and all turns before it, if one of the next
    /// `within` turns is such.
    pub fn next_where(&self, within: usize, will_do: impl Fn(usize) -> bool) -> Option<usize> {
        let mut last = None;
        // Another thread may be quicker; then the turn is its, and we look again. It cannot go on for
        // ever, and two requests on one turn do no harm.
        for _ in 0..8 {
            let turn = self.cursor.load(Ordering::Relaxed);
            let (later, sooner) = self.sequence.split_at(self.place(turn));
            let mut turns = sooner.iter().chain(later).take(within);
            let skipped = turns.position(|index| will_do(*index as usize))? as u64;
            last = Some(self.sequence[self.place(turn + skipped)] as usize);
            let taken =
                self.cursor.compare_exchange(turn, turn + skipped + 1, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                break;
            }
        }
        last
    }

    fn place(&self, turn: u64) -> usize {
        (turn % self.sequence.len() as u64) as usize
    }
}

/// The most turns a cycle has, unless there are more servers. Where weights would need more, each server's
/// turns are rounded to whole ones (one at least): its share is off by less than one turn in 262,144.
const LONGEST: u64 = 1 << 18;

/// How much work the exact cycle may be: turns times servers.
const EXACT: u64 = 1 << 21;

fn sequence(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, *weight)).max(1);
    let mut turns: Vec<u32> = weights.iter().map(|weight| weight / divisor).collect();
    let total: u64 = turns.iter().map(|turns| u64::from(*turns)).sum();
    let n = weights.len() as u64;
    if total == n {
        return (0..weights.len() as u32).collect();
    }
    if total * n <= EXACT {
        return smooth(&turns);
    }
    let longest = LONGEST.max(n);
    if total > longest {
        for turns in &mut turns {
            let share = (u64::from(*turns) * longest + total / 2) / total;
            *turns = u32::try_from(share).unwrap_or(u32::MAX).max(1);
        }
    }
    spread(&turns)
}

/// nginx's smooth weighted round robin: each turn every server gains its weight; the one with the most
/// has the turn and pays the total.
fn smooth(weights: &[u32]) -> Vec<u32> {
    let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
    let mut credit = vec![0; weights.len()];
    let turn = |_| {
        let mut best = 0;
        let mut most = i64::MIN;
        for (index, (credit, weight)) in credit.iter_mut().zip(weights).enumerate() {
            *credit += i64::from(*weight);
            if *credit > most {
                most = *credit;
                best = index;
            }
        }
        credit[best] -= total;
        best as u32
    };
    (0..total).map(turn).collect()
}

/// For many servers: each server's turns at even distances, each server at a phase of its own (multiples of
/// the golden ratio never bunch up), all sorted by time in one pass.
fn spread(turns: &[u32]) -> Vec<u32> {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let total: usize = turns.iter().map(|turns| *turns as usize).sum();
    let times = || {
        turns.iter().enumerate().flat_map(|(index, turns)| {
            let phase = (index as f64 * GOLDEN).fract();
            let pace = total as f64 / f64::from(*turns);
            (0..*turns).map(move |turn| {
                let time = ((f64::from(turn) + phase) * pace) as usize;
                (index as u32, time)
            })
        })
    };
    // A counting sort: how many come before each moment, then everyone to their place.
    let mut places = vec![0usize; total + 1];
    times().for_each(|(_, time)| places[time.min(total - 1) + 1] += 1);
    (0..total).for_each(|time| places[time + 1] += places[time]);
    let mut sequence = vec![0; total];
    for (index, time) in times() {
        let place = &mut places[time.min(total - 1)];
        sequence[*place] = index;
        *place += 1;
    }
    sequence
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Balance;
    use crate::pool::Tried;
    use crate::pool::sample::{live, pool, set_down};

    fn check(weights: &[u32], expected: &str) {
        let turns = SmoothSequence::new(weights);
        let letters: Vec<String> =
            (0..expected.split(' ').count()).map(|_| char::from(b'a' + turns.next() as u8).into()).collect();
        assert_eq!(letters.join(" "), expected, "weights {weights:?}");
    }

    #[test]
    fn turns_are_spread_as_smoothly_as_weights_allow() {
        check(&[5, 1, 1], "a a b a c a a a a b a c a a");
        check(&[500, 100, 100], "a a b a c a a");
        check(&[100, 100, 100], "a b c a b c");
        check(&[1, 2], "b a b b a b");
        check(&[256], "a a a");
    }

    #[test]
    fn a_long_cycle_keeps_the_shares() {
        let weights: Vec<u32> = (0..10_000).map(|index| index % 256 + 1).collect();
        let total: u32 = weights.iter().sum();
        let sequence = sequence(&weights);
        assert!(sequence.len() as u64 <= LONGEST + 10_000, "{}", sequence.len());
        let mut turns = vec![0u32; weights.len()];
        sequence.iter().for_each(|index| turns[*index as usize] += 1);
        for (turns, weight) in turns.iter().zip(&weights) {
            let share = f64::from(*weight) / f64::from(total) * LONGEST as f64;
            assert!((f64::from(*turns) - share).abs() <= 1.0, "weight {weight}: {turns} turns, {share} due");
        }
    }

    #[test]
    fn a_long_cycle_never_leaves_a_server_out_for_long() {
        let weights: Vec<u32> = (0..3_000).map(|index| index % 7 + 1).collect();
        let sequence = sequence(&weights);
        let total: u32 = weights.iter().sum();
        assert_eq!(sequence.len(), total as usize, "exact: no rounding is needed");
        for (index, weight) in weights.iter().enumerate().step_by(97) {
            let turns: Vec<usize> = (0..2 * sequence.len())
                .filter(|turn| sequence[turn % sequence.len()] as usize == index)
                .collect();
            let due = f64::from(total) / f64::from(*weight);
            let longest = turns.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            assert!(longest as f64 <= due * 1.2 + 2.0, "weight {weight}: {longest} turns apart, {due} due");
        }
    }

    #[test]
    fn a_turn_that_will_not_do_is_lost() {
        let turns = SmoothSequence::new(&[5, 1, 1]);
        let without_a: Vec<_> = (0..6).map(|_| turns.next_where(7, |index| index != 0)).collect();
        assert_eq!(without_a, [1, 2, 1, 2, 1, 2].map(Some));
        assert_eq!(turns.next_where(7, |_| false), None);
        assert_eq!(turns.next_where(2, |index| index == 1), None, "the next b is further away");
    }

    #[test]
    fn the_others_share_a_down_servers_turns_by_weight() {
        let pool = live(pool(Balance::RoundRobin, "a=5 b=1 c=3 d=2"));
        set_down(&pool, "a");
        let mut turns = [0; 4];
        for _ in 0..600 {
            let lease = pool.pick(&Query::default(), &mut Tried::new()).expect("three are up");
            turns[lease.index()] += 1;
        }
        assert_eq!(turns, [0, 100, 300, 200]);
    }

    #[test]
    fn turns_go_round_when_all_are_down_too() {
        let pool = live(pool(Balance::RoundRobin, "a b c d"));
        ["a", "b", "c", "d"].iter().for_each(|name| set_down(&pool, name));
        let turns: Vec<_> = (0..8)
            .map(|_| pool.pick(&Query::default(), &mut Tried::new()).expect("it fails open").index())
            .collect();
        assert_eq!(turns, [0, 1, 2, 3, 0, 1, 2, 3]);
    }
}
