//! What a reload does that whoever wrote it may not expect.

use super::limits;
use super::report::{PoolPreview, ReloadPreview};
use super::settings::hash_key;
use crate::config::plan::{self, WhenAllUnhealthy};
use crate::pool;
use crate::snapshot::Snapshot;

/// How far a ring's shares may be off the weights' before it is worth a word.
const SLACK: f64 = 0.05;

pub(super) fn of(in_force: &Snapshot, next: &Snapshot, report: &ReloadPreview) -> Vec<String> {
    let mut warnings: Vec<_> =
        report.at_next_start.iter().map(|key| format!("{key} takes effect at the next start only")).collect();
    warnings.extend(overlapping(in_force, next));
    warnings.extend(limits::anew(in_force, next));
    warnings.extend(left_disk(in_force, next));
    for told in report.pools.changed.iter().chain(&report.pools.added) {
        if let Some(new) = next.pool(&told.name) {
            let old = in_force.pool(&told.name).map(|old| &**old);
            warnings.extend(
                of_pool(old, new, told).into_iter().map(|text| format!("pools.{}: {text}", told.name)),
            );
        }
    }
    warnings
}

/// A cache's disk that is not told any more what is purged.
fn left_disk(in_force: &Snapshot, next: &Snapshot) -> Option<String> {
    let path = |snapshot: &Snapshot| {
        let has_cache = snapshot.plan.has_cache();
        snapshot.plan.cache.disk.as_ref().filter(|_| has_cache).map(|disk| disk.path.clone())
    };
    let before = path(in_force)?;
    let what = match path(next) {
        Some(after) if after == before => return None,
        Some(_) => "the cache's disk begins with nothing",
        None => "the cache has no disk any more",
    };
    let folder = before.display();
    Some(format!("{what}, and what lies in {folder} is not used again: nobody notes there what is purged"))
}

/// Addresses that take the place of others that they overlap.
fn overlapping(in_force: &Snapshot, next: &Snapshot) -> Vec<String> {
    let addresses = |snapshot: &Snapshot| -> Vec<_> {
        let of = |listener: &std::sync::Arc<crate::snapshot::Listener>| {
            let plan = listener.plan.clone();
            let transport = plan.protocol.transport();
            plan.addresses.into_iter().map(move |address| (plan.name.clone(), transport, address))
        };
        snapshot.listeners().iter().flat_map(of).collect()
    };
    let old = addresses(in_force);
    let mut warnings = Vec::new();
    for (name, transport, address) in addresses(next) {
        let replaced = old.iter().filter(|(_, other, before)| {
            *other == transport && *before != address && before.overlaps(&address)
        });
        for (_, _, before) in replaced {
            let sessions = match transport {
                plan::Transport::Stream => "connections that it has finish",
                plan::Transport::Datagram => "its sessions end, and their next datagrams begin others",
            };
            warnings.push(format!(
                "listeners.{name}: {address} takes the place of {before}, which it overlaps; {sessions}"
            ));
        }
    }
    warnings
}

fn of_pool(old: Option<&pool::Pool>, new: &pool::Pool, told: &PoolPreview) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut usable = new.members.iter().filter(|member| !member.drain).peekable();
    if usable.peek().is_none() {
        warnings.push("every server is drained: requests are answered with 503".to_owned());
        return warnings;
    }
    let Some(old) = old else { return warnings };
    let is_new = |member: &pool::Member| {
        old.members.iter().all(|before| before.server.id() != member.server.id() || before.drain)
    };
    if usable.all(is_new) {
        let until = match (&new.plan.health, new.plan.when_all_unhealthy) {
            (None, _) => "and none of them is probed",
            (Some(health), _) if health.initial == plan::Initial::Up => "and all are taken to be up unproven",
            (_, WhenAllUnhealthy::UseAll) => "so requests go to servers that no probe has passed yet",
            (_, WhenAllUnhealthy::Refuse) if new.plan.queue.is_some() => {
                "so requests wait until a probe has passed"
            }
            (_, WhenAllUnhealthy::Refuse) => "so requests are answered with 503 until a probe has passed",
        };
        warnings.push(format!("all servers are replaced at once, {until}"));
    }
    match (old.hash_key(), new.hash_key()) {
        (Some(before), Some(after)) if before != after => warnings.push(format!(
            "the hash key changes from {} to {}: every client is placed anew",
            hash_key(before),
            hash_key(after)
        )),
        (Some(_), None) => warnings.push("clients no longer stay with their server".to_owned()),
        _ => {}
    }
    warnings.extend(of_sessions(old, new).map(str::to_owned));
    if let (Some(before), Some(after)) = (capacity(old), capacity(new))
        && after < before
    {
        warnings.push(format!("its servers can take {after} requests at once; before, {before}"));
    }
    for member in &new.members {
        let in_flight = member.server.in_flight();
        if let Some(max) = member.max_connections.filter(|max| max.get() < in_flight) {
            let name = member.server.name();
            warnings.push(format!(
                "{name} has {in_flight} in flight, above its new max_connections of {max}: nothing new until then"
            ));
        }
    }
    let waiting = old.queue.waiting();
    if waiting > 0 && old.plan.queue.is_some() && new.plan.queue.is_none() {
        warnings.push(format!(
            "{waiting} wait for a server with room, and without `queue` those that find none are answered with 503"
        ));
    }
    if let Some(churn) = &told.churn
        && churn.share > churn.minimum + SLACK
    {
        let (share, minimum) = (churn.share * 100.0, churn.minimum * 100.0);
        let instead = match minimum < 0.01 {
            true => "; weights in the same proportions as before are better left as they were",
            false => "",
        };
        warnings.push(format!(
            "{share:.1}% of its keys get another server, though only {minimum:.1}% must{instead}"
        ));
    }
    warnings
}

/// How clients lose the servers that they are bound to.
fn of_sessions(old: &pool::Pool, new: &pool::Pool) -> Option<&'static str> {
    let before = old.plan.sticky.as_ref()?;
    let Some(after) = &new.plan.sticky else { return Some("clients are bound to their servers no longer") };
    if before.cookie != after.cookie || before.mode != after.mode {
        return Some("cookies that clients have are of no use any more: they are bound to servers anew");
    }
    // Without keys nothing was read that would tell.
    let (known, keys) = (before.keys.each(), after.keys.each());
    let is_gone = |key: &&crate::sticky::Secret| keys.iter().all(|other| other.name() != key.name());
    match known.iter().find(is_gone) {
        Some(_) if !keys.is_empty() => {
            Some("a key is gone: clients whose cookies it has signed are bound to servers anew")
        }
        _ => None,
    }
}

/// What all usable servers can take at once; `None` is without limit.
fn capacity(pool: &pool::Pool) -> Option<u64> {
    let usable = pool.members.iter().filter(|member| !member.drain);
    usable.map(|member| member.max_connections.map(|max| u64::from(max.get()))).sum()
}
