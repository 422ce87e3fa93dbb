//! How many keys a reload moves: sampled keys, looked up by the selectors that serve, before and after.

use super::report::{Churn, Share};
use crate::pool::{Pool, Server};
use crate::select::hash;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The hash of a sampled key: that of its number in decimal digits, so that a client can send the same keys.
fn sampled(number: u32) -> u64 {
    hash(number.to_string().as_bytes())
}

/// `None` unless both pools hash the same part of a request: otherwise a key of one means nothing to the other.
pub(super) fn churn(old: &Pool, new: &Pool, n_keys: u32) -> Option<Churn> {
    if old.hash_key()? != new.hash_key()? {
        return None;
    }
    let mut moved = 0;
    // Servers by id: one at another address is another one, and its keys have moved.
    let mut counts: HashMap<u32, [u32; 2]> = HashMap::new();
    for key in (0..n_keys).map(sampled) {
        let homes = [old.home(key), new.home(key)].map(|server| server.map(|server| server.id()));
        moved += u32::from(homes[0] != homes[1]);
        for (side, id) in homes.iter().enumerate() {
            if let Some(id) = id {
                counts.entry(*id).or_default()[side] += 1;
            }
        }
    }
    let share = |count: u32| f64::from(count) / f64::from(n_keys);
    let servers: BTreeMap<_, _> =
        members(old).chain(members(new)).map(|server| (server.id(), server)).collect();
    let shares = servers.values().filter_map(|server| {
        let [before, after] = counts.get(&server.id()).copied().unwrap_or_default();
        (before != after).then(|| Share {
            server: server.name().to_string(),
            address: server.address().to_string(),
            before: share(before),
            after: share(after),
        })
    });
    Some(Churn {
        keys: n_keys,
        moved,
        share: share(moved),
        minimum: minimum(old, new),
        servers: shares.collect(),
    })
}

fn members(pool: &Pool) -> impl Iterator<Item = &Arc<Server>> {
    pool.members.iter().map(|member| &member.server)
}

/// What must move under any placement by weight: whatever each server's share of the weight falls by.
fn minimum(old: &Pool, new: &Pool) -> f64 {
    let (old, new) = (shares(old), shares(new));
    old.iter().map(|(id, share)| (share - new.get(id).unwrap_or(&0.0)).max(0.0)).sum()
}

/// Each server's share of the weight of those that may be used.
fn shares(pool: &Pool) -> HashMap<u32, f64> {
    let usable = || pool.members.iter().filter(|member| !member.drain);
    let total: f64 = usable().map(|member| f64::from(member.weight.get())).sum();
    usable().map(|member| (member.server.id(), f64::from(member.weight.get()) / total)).collect()
}
