//! What of the cache no request will find any more: keys have other parts, pools other names, or requests are changed otherwise.

use super::report::CachePreview;
use crate::cache::{self, Reachable};
use crate::config::plan::cache::KeyPlan;
use crate::policy::Policy;
use crate::pool::Pool;
use crate::snapshot::{Listener, ListenerTarget, Snapshot};
use crate::store::Store;
use std::sync::Arc;

/// What becomes of what is kept when `next` is in force.
pub(crate) fn cached(next: &Snapshot, store: &Store) -> CachePreview {
    let rules: Vec<_> = next.listeners().iter().flat_map(|listener| rules(listener)).collect();
    let reachable = Reachable::new(rules.iter().copied());
    let (mut responses, mut unreachable) = (0, 0);
    store.each_key(|key, count| {
        responses += count;
        unreachable += if reachable.has(key) { 0 } else { count };
    });
    CachePreview { responses, unreachable }
}

/// The rules of a listener that have a cache: where their responses lie, and by which keys.
fn rules(listener: &Listener) -> Vec<(u64, &KeyPlan)> {
    match &listener.target {
        ListenerTarget::Pool(pool) => of_rule(listener.policy(None), Some(pool)).into_iter().collect(),
        ListenerTarget::Routes(table) => {
            let rules = (0..).zip(&table.rules);
            rules.filter_map(|(place, rule)| of_rule(listener.policy(Some(place)), rule.pool())).collect()
        }
        ListenerTarget::RedirectToHttps => Vec::new(),
    }
}

fn of_rule<'a>(policy: Option<&'a Policy>, pool: Option<&Arc<Pool>>) -> Option<(u64, &'a KeyPlan)> {
    let policy = policy?;
    let plan = policy.plan.cache.get()?;
    Some((cache::scope(&pool?.name, policy.cache_scope), &plan.key))
}
