//! Consistent hash: a ring of points placed by the servers' names, so that the same key finds the same
//! server on every node and through every reload.

use super::{ByName, Candidates, Query, Reasons, Selector};
use crate::config::plan;
use crate::units::Percent;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The hash of a key or a name: the same in all versions and on all machines.
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, 0)
}

/// Points on the ring of a server of weight 100, as in ketama. More make shares more even.
const POINTS: u32 = 160;

/// The points of a set of names and weights. It depends on nothing else: not on the order in the file, not
/// on addresses, and a server's points not on the other servers.
pub struct Ring {
    servers: ByName,
    points: Box<[u64]>,
    /// Whose point it is: a place in `servers`.
    owners: Box<[u32]>,
    /// Where the points of each stretch of the ring begin. Points are evenly spread, so a key's place is
    /// known but for a few steps.
    starts: Box<[u32]>,
}

impl Ring {
    fn new(servers: ByName) -> Self {
        let n_points: usize = servers.weights.iter().map(|(_, weight)| points(*weight) as usize).sum();
        // Some eight points to a stretch: few enough to search, and the table stays in the cache.
        let stretches = (n_points / 8).next_power_of_two().max(2);
        let placed = || {
            servers.weights.iter().enumerate().flat_map(|(owner, (name, weight))| {
                let base = hash(name.as_bytes());
                (1..=u64::from(points(*weight))).map(move |point| {
                    (super::mix(base.wrapping_add(point.wrapping_mul(super::GOLDEN))), owner)
                })
            })
        };
        // A counting sort by stretch; then each stretch is put in order.
        let mut starts = vec![0u32; stretches + 1];
        placed().for_each(|(point, _)| starts[stretch(point, stretches) + 1] += 1);
        (0..stretches).for_each(|stretch| starts[stretch + 1] += starts[stretch]);
        let mut next = starts.clone();
        let mut sorted = vec![(0, 0); n_points];
        for (point, owner) in placed() {
            let place = &mut next[stretch(point, stretches)];
            sorted[*place as usize] = (point, owner as u32);
            *place += 1;
        }
        for bounds in starts.windows(2) {
            sorted[bounds[0] as usize..bounds[1] as usize].sort_unstable();
        }
        let (points, owners): (Vec<u64>, Vec<u32>) = sorted.into_iter().unzip();
        Self { points: points.into(), owners: owners.into(), starts: starts.into(), servers }
    }

    /// The owners from the first point at or after `key` on, all the way round.
    fn walk(&self, key: u64) -> impl Iterator<Item = u32> + '_ {
        let mut start = self.starts[stretch(key, self.starts.len() - 1)] as usize;
        while self.points.get(start).is_some_and(|point| *point < key) {
            start += 1;
        }
        let (before, after) = self.owners.split_at(start);
        after.iter().chain(before).copied()
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring of {} points, {} servers", self.points.len(), self.servers.weights.len())
    }
}

/// A server's points follow from its own weight alone, so that a new weight adds or takes away points of
/// this server and moves no other's.
fn points(weight: u32) -> u32 {
    (weight * POINTS).div_ceil(100)
}

/// Which of `stretches` (a power of two, at least two) equal parts of the ring a point lies in.
fn stretch(point: u64, stretches: usize) -> usize {
    (point >> (64 - stretches.trailing_zeros())) as usize
}

#[derive(Debug)]
pub struct ConsistentHash {
    ring: Arc<Ring>,
    /// The pool's index of each of the ring's servers.
    indexes: Box<[u32]>,
    bounded_load: Option<Percent>,
}

impl ConsistentHash {
    /// The previous ring is used again if names and weights are the same.
    pub fn new(servers: &[plan::ServerPlan], bounded_load: Option<Percent>, previous: Option<&Self>) -> Self {
        let (named, indexes) = ByName::new(servers);
        let ring = match previous {
            Some(previous) if previous.ring.servers == named => previous.ring.clone(),
            _ => Arc::new(Ring::new(named)),
        };
        Self { ring, indexes, bounded_load }
    }

    /// The points, to see whether a reload kept them.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }
}

/// Points passed over before it is worth asking whether any server is eligible.
const PATIENCE: usize = 1_000;

impl Selector for ConsistentHash {
    fn select(&self, among: &Candidates<'_>, query: &Query) -> Option<usize> {
        // A request without the key is spread by chance.
        let key = query.key.unwrap_or(query.entropy);
        let owners = || self.ring.walk(key).map(|owner| self.indexes[owner as usize] as usize);
        let first = owners().take(PATIENCE).find(|index| among.is_eligible(*index));
        let first = match first {
            Some(first) => first,
            None if (0..among.len()).any(|index| among.is_eligible(index)) => {
                owners().find(|index| among.is_eligible(*index))?
            }
            None => return None,
        };
        match self.bounded_load {
            Some(factor) if among.in_flight(first) > 0 => {
                let bound = LoadBound::new(factor, among);
                // The mean is below the bound, so some server is; if it filled up just now, stay at home.
                let below = |index: &usize| among.is_eligible(*index) && bound.allows(*index, among);
                Some(owners().find(below).unwrap_or(first))
            }
            // The bound of a server at rest is one request at least.
            _ => Some(first),
        }
    }

    fn reasons(&self, among: &Candidates<'_>, query: &Query, chosen: usize) -> Reasons {
        let mut order: Vec<usize> = Vec::new();
        let mut seen = vec![false; among.len()];
        for owner in self.ring.walk(query.key.unwrap_or(query.entropy)) {
            let index = self.indexes[owner as usize] as usize;
            if !std::mem::replace(&mut seen[index], true) {
                order.push(index);
            }
        }
        let mut scores: Vec<Option<String>> = vec![None; among.len()];
        let bound = self.bounded_load.map(|factor| LoadBound::new(factor, among));
        let mut is_passed_over = false;
        for (place, index) in order.into_iter().enumerate() {
            let mut score = format!("ring {}", place + 1);
            if let Some(bound) = &bound
                && among.is_eligible(index)
                && !bound.allows(index, among)
            {
                score += ", above bounded_load";
            }
            is_passed_over |= place == 0 && index != chosen;
            scores[index] = Some(score);
        }
        let mut rule = match is_passed_over {
            true => "the first on the ring after the key that may be used; the key belongs elsewhere",
            false => "where the key belongs on the ring",
        }
        .to_owned();
        if query.key.is_none() {
            rule += "; without a key, a place drawn by chance";
        }
        Reasons { rule, scores }
    }
}

/// No server above the factor times its share of the load, this request included. (Mirrokni, Thorup,
/// Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016.)
struct LoadBound {
    factor: u64,
    leases: u64,
    weights: u64,
}

impl LoadBound {
    fn new(factor: Percent, among: &Candidates<'_>) -> Self {
        let totals = among.totals();
        Self { factor: u64::from(factor.0), leases: totals.leases + 1, weights: totals.weights.max(1) }
    }

    fn allows(&self, index: usize, among: &Candidates<'_>) -> bool {
        let share = self.factor * self.leases * u64::from(among.weight(index));
        u64::from(among.in_flight(index)) < share.div_ceil(100 * self.weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Name;
    use crate::pool::sample::{hash_ring, live, member, pool, set_down};
    use crate::pool::{Lease, Pool, Tried};
    use proptest::prelude::*;
    use std::collections::HashMap;

    const KEYS: u64 = 2_000;

    fn key(number: u64) -> u64 {
        hash(&number.to_le_bytes())
    }

    fn home(pool: &Pool, key: u64) -> Name {
        let lease = pool.pick(&Query { key: Some(key), entropy: 0, ..Query::default() }, &mut Tried::new());
        lease.expect("a server is ready").server().name().clone()
    }

    fn homes(pool: &Pool) -> Vec<Name> {
        (0..KEYS).map(|number| home(pool, key(number))).collect()
    }

    fn ring_of(servers: &[String]) -> Arc<Pool> {
        live(pool(hash_ring(None), &servers.join(" ")))
    }

    #[test]
    fn hashes_and_homes_are_the_same_for_ever() {
        // Another value here means that an upgrade moves every key.
        assert_eq!(hash(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash(b"10.0.0.1"), 0xb61d_99f8_e56b_6646);
        let pool = live(pool(hash_ring(None), "app1 app2 app3"));
        let homes = (0..40).map(|number| home(&pool, key(number)).trim_start_matches("app").to_string());
        assert_eq!(homes.collect::<String>(), "3233333313231312111311212321121223323232");
    }

    #[test]
    fn the_order_in_the_file_does_not_matter() {
        let one = live(pool(hash_ring(None), "a b=50 c d=200"));
        let other = live(pool(hash_ring(None), "d=200 c b=50 a"));
        assert_eq!(homes(&one), homes(&other));
    }

    #[test]
    fn shares_follow_weights() {
        let pool = live(pool(hash_ring(None), "a=50 b=100 c=200"));
        let mut shares: HashMap<Name, f64> = HashMap::new();
        homes(&pool).into_iter().for_each(|name| *shares.entry(name).or_default() += 1.0 / KEYS as f64);
        for (name, due) in [("a", 1.0 / 7.0), ("b", 2.0 / 7.0), ("c", 4.0 / 7.0)] {
            assert!((shares[name] - due).abs() < 0.07, "{name}: {shares:?}");
        }
    }

    #[test]
    fn keys_of_a_down_server_move_on_and_come_back() {
        let pool = live(pool(hash_ring(None), "a b c d"));
        let before = homes(&pool);
        set_down(&pool, "b");
        for (old, new) in before.iter().zip(homes(&pool)) {
            assert!(*new != *"b" && (**old == *"b" || *old == new));
        }
        let rule = crate::pool::HealthThresholds {
            rise: std::num::NonZeroU32::MIN,
            fall: std::num::NonZeroU32::MIN,
        };
        member(&pool, "b").observe(true, &rule, std::time::Instant::now());
        assert_eq!(homes(&pool), before);
    }

    #[test]
    fn a_key_is_found_though_nearly_all_are_down() {
        let names: Vec<String> = (0..400).map(|index| format!("s{index}")).collect();
        let pool = ring_of(&names);
        names.iter().skip(1).for_each(|name| set_down(&pool, name));
        assert!((0..50).all(|number| *home(&pool, key(number)) == *"s0"));
    }

    #[test]
    fn one_hot_key_stays_within_the_bound() {
        let pool = live(pool(hash_ring(Some(125)), "a b c d"));
        let pick =
            |_| pool.pick(&Query { key: Some(key(1)), entropy: 0, ..Query::default() }, &mut Tried::new());
        let open: Vec<Lease> = (0..400).map(pick).collect::<Result<_, _>>().expect("all are ready");
        let fullest = pool.members.iter().map(|member| member.server.in_flight()).max();
        assert_eq!(fullest, Some(125), "{} open, 100 is the mean", open.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_removed_servers_keys_move_and_no_others(n in 2usize..40, gone: prop::sample::Index) {
            let mut names: Vec<String> = (0..n).map(|index| format!("app{index}")).collect();
            let before = homes(&ring_of(&names));
            let gone = names.remove(gone.index(n));
            for (old, new) in before.iter().zip(homes(&ring_of(&names))) {
                prop_assert!(**old == *gone || *old == new, "{old} to {new}, though {gone} went");
            }
        }

        #[test]
        fn a_new_weight_moves_keys_to_or_from_its_server_only(
            weights in prop::collection::vec(1u32..=256, 2..20),
            changed: prop::sample::Index,
            weight in 1u32..=256,
        ) {
            let named = |weights: &[u32]| -> Vec<String> {
                weights.iter().enumerate().map(|(index, weight)| format!("app{index}={weight}")).collect()
            };
            let before = homes(&ring_of(&named(&weights)));
            let mut after = weights.clone();
            let changed = changed.index(weights.len());
            after[changed] = weight;
            let name = format!("app{changed}");
            for (old, new) in before.iter().zip(homes(&ring_of(&named(&after)))) {
                let mover = if weight > weights[changed] { &new } else { old };
                prop_assert!(*old == new || *name == **mover, "{old} to {new}, though {name} changed");
            }
        }
    }
}
