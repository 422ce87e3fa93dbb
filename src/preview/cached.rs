//! What of the cache no request will find any more: keys have other parts, pools other names, or requests are changed otherwise.

use super::report::{CachePreview, RoomPreview};
use crate::cache::{self, KeyedPlace, Reachable};
use crate::config::plan::PathPattern;
use crate::config::plan::cache::KeyPlan;
use crate::policy::Policy;
use crate::pool::Pool;
use crate::route::{may_fit, takes_all};
use crate::snapshot::{Listener, ListenerTarget, Snapshot};
use crate::store::{Store, StoreSize};
use std::path::Path;
use std::sync::Arc;

/// What becomes of what is kept when `next` is in force; `disk` is the folder in use, and the bytes that lie there.
pub(crate) fn cached(next: &Snapshot, store: &Store, disk: Option<(&Path, u64)>) -> CachePreview {
    let reachable = Reachable::new(next.listeners().iter().flat_map(|listener| rules(listener)));
    let (mut responses, mut unreachable) = (0, 0);
    store.each_key(|key, count| {
        responses += count;
        unreachable += if reachable.has(key, KeptBy::gets) { 0 } else { count };
    });
    let plan = &next.plan;
    let in_use = store.in_use();
    let in_memory = in_use.bytes - in_use.filling;
    let on_disk = disk.map_or(0, |(_, bytes)| bytes);
    let wanted = plan.cache.disk.as_ref().filter(|_| plan.has_cache());
    let stays = wanted.filter(|wanted| disk.is_some_and(|(folder, _)| folder == wanted.path));
    CachePreview {
        responses,
        unreachable,
        memory: room(in_memory, if plan.has_cache() { StoreSize::of(&plan.cache).kept() } else { 0 }),
        disk: room(on_disk, stays.map_or(0, |disk| disk.size)),
    }
}

fn room(bytes: u64, size: u64) -> RoomPreview {
    RoomPreview { bytes, over: bytes.saturating_sub(size) }
}

/// A rule of a listener that has a cache; no rule if the listener leads to its pool itself.
struct KeptBy<'a> {
    listener: &'a Listener,
    place: Option<u32>,
}

impl KeptBy<'_> {
    /// Whether it may get requests that were for this host and path, or some rule before it gets all of them. What else rules ask for is
    /// in no key.
    fn gets(&self, asked: KeyedPlace<'_>) -> bool {
        let (ListenerTarget::Routes(table), Some(place)) = (&self.listener.target, self.place) else {
            return true;
        };
        let policy = self.listener.policy(self.place);
        if policy.is_some_and(|policy| policy.plan.rewrite.get().is_some()) {
            // Clients name another.
            return true;
        }
        let Some((own, before)) = table.rules.get(..=place as usize).and_then(<[_]>::split_last) else {
            return true;
        };
        let (host, path) = (asked.host, Some(asked.path));
        let fits = |pattern: &PathPattern| pattern.matches(asked.path);
        may_fit(&own.matcher, host, path, &fits)
            && !before.iter().any(|rule| takes_all(&rule.matcher, host, path, &fits))
    }
}

/// The rules of a listener that have a cache: where their responses lie, and by which keys.
fn rules(listener: &Listener) -> Vec<(u64, &KeyPlan, KeptBy<'_>)> {
    let kept_by = |place, pool| {
        let (scope, plan) = of_rule(listener.policy(place), pool)?;
        Some((scope, plan, KeptBy { listener, place }))
    };
    match &listener.target {
        ListenerTarget::Pool(pool) => kept_by(None, Some(pool)).into_iter().collect(),
        ListenerTarget::Routes(table) => {
            let rules = (0..).zip(&table.rules);
            rules.filter_map(|(place, rule)| kept_by(Some(place), rule.pool())).collect()
        }
        ListenerTarget::RedirectToHttps => Vec::new(),
    }
}

fn of_rule<'a>(policy: Option<&'a Policy>, pool: Option<&Arc<Pool>>) -> Option<(u64, &'a KeyPlan)> {
    let policy = policy?;
    let plan = policy.plan.cache.get()?;
    Some((cache::scope(&pool?.name, policy.cache_scope), &plan.key))
}
