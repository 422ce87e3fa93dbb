//! Maglev: a table that gives every key a server by one look-up. Shares are nearer to the weights than a ring's, and a few
//! more keys move when servers come and go. (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
//! 2016, section 3.4.)

use super::{ByName, Candidates, Query, Reasons, Selector, hash};
use crate::config::plan;
use std::sync::Arc;

/// How many entries a table may have: primes, so that every step from entry to entry visits all of them.
const SIZES: [usize; 3] = [65_537, 655_373, 1_000_003];

/// Entries for each server: with so many no share is off its weight by more than about a hundredth.
const ENTRIES: usize = 100;

/// Places that a key is tried at before its server is looked for one by one.
const PATIENCE: u64 = 1_000;

/// The table of a set of names and weights. It depends on nothing else, health least of all.
struct Table {
    servers: ByName,
    /// Places in `servers`.
    entries: Box<[u32]>,
}

impl Table {
    fn new(servers: ByName) -> Self {
        let size = size(servers.weights.len());
        let most = servers.weights.iter().map(|(_, weight)| *weight).max().unwrap_or(1);
        let mut entries = vec![u32::MAX; size];
        let mut claims: Vec<Claim> = servers.weights.iter().map(|(name, _)| Claim::new(name, size)).collect();
        let mut filled = if claims.is_empty() { size } else { 0 };
        let mut round = 0;
        while filled < size {
            // The heaviest claim one entry each round, and the others as often as their weight is of the heaviest's.
            round += 1;
            for (place, (claim, (_, weight))) in claims.iter_mut().zip(&servers.weights).enumerate() {
                if filled < size && round * u64::from(*weight) >= claim.due {
                    claim.due += u64::from(most);
                    let entry = claim.next_free(&entries);
                    entries[entry] = place as u32;
                    filled += 1;
                }
            }
        }
        Self { servers, entries: entries.into() }
    }

    /// Where a key is, and where it goes on to each time that it cannot stay: the key is hashed again, so that one
    /// server's keys are spread over all others.
    fn places(&self, key: u64) -> impl Iterator<Item = u32> + '_ {
        (0..PATIENCE).map(move |attempt| {
            let again = super::mix(key.wrapping_add(attempt.wrapping_mul(super::GOLDEN)));
            let entry = (u128::from(again) * self.entries.len() as u128) >> 64;
            self.entries[entry as usize]
        })
    }
}

/// The smallest size with enough entries for so many servers.
fn size(servers: usize) -> usize {
    SIZES.into_iter().find(|size| *size >= ENTRIES * servers).unwrap_or(SIZES[SIZES.len() - 1])
}

/// A server's order of all entries, of which it takes the first that is free when it is its turn.
struct Claim {
    entry: usize,
    step: usize,
    /// It has its turn when the round times its weight is as much.
    due: u64,
}

impl Claim {
    fn new(name: &str, size: usize) -> Self {
        let hashed = hash(name.as_bytes());
        let entry = (hashed % size as u64) as usize;
        let step = (super::mix(hashed) % (size as u64 - 1)) as usize + 1;
        Self { entry, step, due: 0 }
    }

    fn next_free(&mut self, entries: &[u32]) -> usize {
        while entries[self.entry] != u32::MAX {
            self.entry = (self.entry + self.step) % entries.len();
        }
        self.entry
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table of {} entries, {} servers", self.entries.len(), self.servers.weights.len())
    }
}

#[derive(Debug)]
pub struct Maglev {
    table: Arc<Table>,
    /// The pool's index of each of the table's servers.
    indexes: Box<[u32]>,
}

impl Maglev {
    /// The previous table is used again if names and weights are the same.
    pub fn new(servers: &[plan::ServerPlan], previous: Option<&Self>) -> Self {
        let (named, indexes) = ByName::new(servers);
        let table = match previous {
            Some(previous) if previous.table.servers == named => previous.table.clone(),
            _ => Arc::new(Table::new(named)),
        };
        Self { table, indexes }
    }

    fn walk(&self, query: &Query) -> impl Iterator<Item = usize> + '_ {
        // A request without the key is spread by chance.
        let key = query.key.unwrap_or(query.entropy);
        self.table.places(key).map(|place| self.indexes[place as usize] as usize)
    }
}

impl Selector for Maglev {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        if among.is_empty() {
            return None;
        }
        self.walk(query).find(|index| among.is_eligible(*index)).or_else(|| {
            let start = self.walk(query).next().unwrap_or_default();
            (start..among.len()).chain(0..start).find(|index| among.is_eligible(*index))
        })
    }

    fn reasons(&self, among: &Candidates<'_>, query: &Query, chosen: usize) -> Reasons {
        let mut scores: Vec<Option<String>> = vec![None; among.len()];
        let mut met = 0;
        for index in self.walk(query) {
            if scores[index].is_none() {
                met += 1;
                scores[index] = Some(format!("choice {met}"));
            }
        }
        let is_home = self.walk(query).next() == Some(chosen);
        let mut rule = match is_home {
            true => "where the table has the key",
            false => "where the key is hashed on to, for the server that the table has it at may not be used",
        }
        .to_owned();
        if query.key.is_none() {
            rule += "; without a key, an entry drawn by chance";
        }
        Reasons { rule, scores }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{Balance, HashKey, Name};
    use crate::pool::sample::{live, member, pool, set_down};
    use crate::pool::{HealthThresholds, Operator, Pool, Tried};
    use std::num::NonZeroU32;

    const KEYS: u64 = 20_000;

    fn of(servers: &str) -> Arc<Pool> {
        live(pool(Balance::Maglev { key: HashKey::Uri }, servers))
    }

    fn names(n: usize) -> String {
        (0..n).map(|index| format!("app{index}")).collect::<Vec<_>>().join(" ")
    }

    fn homes(pool: &Pool) -> Vec<Name> {
        let pick = |number: u64| {
            let query = Query { key: Some(hash(&number.to_le_bytes())), entropy: 0, ..Query::default() };
            pool.pick(&query, &mut Tried::new()).expect("a server is ready").server().name().clone()
        };
        (0..KEYS).map(pick).collect()
    }

    fn moved(before: &[Name], after: &[Name]) -> f64 {
        before.iter().zip(after).filter(|(old, new)| old != new).count() as f64 / before.len() as f64
    }

    #[test]
    fn homes_are_the_same_for_ever() {
        // Others here mean that an upgrade moves every key.
        let homes: String = homes(&of("app1 app2 app3")).iter().take(40).map(|home| &home[3..]).collect();
        assert_eq!(homes, "3213233311113231222333313313122313111123");
    }

    #[test]
    fn the_order_in_the_file_does_not_matter() {
        assert_eq!(homes(&of("a b=50 c d=200")), homes(&of("d=200 c b=50 a")));
    }

    #[test]
    fn the_table_has_a_hundred_entries_and_more_for_each_server() {
        let sizes = [0, 1, 655, 656, 6_553, 6_554, 10_001].map(size);
        assert_eq!(sizes, [65_537, 65_537, 65_537, 655_373, 655_373, 1_000_003, 1_000_003]);
    }

    #[test]
    fn entries_follow_weights_within_two_percent() {
        let weights = [("a", 50), ("b", 100), ("c", 200), ("d", 256), ("e", 37)];
        let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let servers = weights.iter().map(|(name, weight)| (Name::from(*name), *weight)).collect();
        let table = Table::new(ByName { weights: servers });
        for (place, (name, weight)) in weights.iter().enumerate() {
            let entries = table.entries.iter().filter(|owner| **owner as usize == place).count() as f64;
            let due = f64::from(*weight) / f64::from(total) * table.entries.len() as f64;
            assert!((entries / due - 1.0).abs() < 0.02, "{name}: {entries} entries, {due} due");
        }
    }

    #[test]
    fn few_keys_beyond_a_removed_servers_move() {
        for n in [3, 10, 50] {
            let (with, without) = (homes(&of(&names(n))), homes(&of(&names(n - 1))));
            let gone = format!("app{}", n - 1);
            let its = with.iter().filter(|home| ***home == *gone).count() as f64 / with.len() as f64;
            let share = moved(&with, &without);
            assert!(share >= its && share < its + 0.1, "{n} servers: {share} moved, {its} had to");
        }
    }

    #[test]
    fn a_down_servers_keys_are_spread_over_the_others_and_come_back() {
        let pool = of("a b c d e");
        let before = homes(&pool);
        set_down(&pool, "b");
        let meanwhile = homes(&pool);
        for (old, new) in before.iter().zip(&meanwhile) {
            assert!(**new != *"b" && (**old == *"b" || old == new), "{old} to {new}");
        }
        let its = before.iter().filter(|home| ***home == *"b").count() as f64;
        for name in ["a", "c", "d", "e"] {
            let taken =
                before.iter().zip(&meanwhile).filter(|(old, new)| ***old == *"b" && ***new == *name).count();
            assert!((taken as f64 / its - 0.25).abs() < 0.03, "{name} took {taken} of {its}");
        }
        let once = HealthThresholds { rise: NonZeroU32::MIN, fall: NonZeroU32::MIN };
        member(&pool, "b").observe(true, &once, std::time::Instant::now());
        assert_eq!(homes(&pool), before);
    }

    #[test]
    fn a_key_is_found_though_nearly_all_are_down() {
        let pool = of(&names(2_000));
        pool.members[1..].iter().for_each(|member| member.server.set_operator(Operator::Drain));
        assert!((0..50).all(|key| {
            let query = Query { key: Some(hash(&[key])), entropy: 0, ..Query::default() };
            pool.pick(&query, &mut Tried::new()).is_ok_and(|lease| lease.index() == 0)
        }));
    }
}
