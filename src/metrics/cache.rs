//! What the cache has done for requests, and what is in it.

use super::family::Family;
use super::{Metrics, lock};
use crate::access_log::CacheResult;
use crate::store::{Purge, StoreUse};
use prometheus::proto::MetricFamily;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// `store` is what is in it, if there is one.
pub(super) fn families(metrics: &Metrics, store: Option<StoreUse>) -> Vec<MetricFamily> {
    let mut counts = BTreeMap::new();
    for (labels, series) in lock(&metrics.requests).iter() {
        let route = labels.route.as_deref().unwrap_or("");
        for (result, count) in CacheResult::ALL.into_iter().zip(&series.cache) {
            let count = count.load(Relaxed);
            if count > 0 {
                *counts.entry((route.to_owned(), result.label())).or_insert(0) += count;
            }
        }
    }
    let mut requests = Family::counter(
        "evenkeel_cache_requests_total",
        "Requests of rules whose responses are kept, by what the cache has done.",
    );
    for ((route, result), count) in &counts {
        requests.add(&[("route", route), ("result", result)], *count as f64);
    }
    let mut families = vec![requests];
    if let Some(StoreUse { bytes, filling, objects, evictions, fetches, purges }) = store {
        let tier = [("tier", "memory")];
        let mut held = Family::gauge(
            "evenkeel_cache_bytes",
            "Bytes that kept responses have, all that belongs to them and those on their way counted in.",
        );
        held.add(&tier, bytes as f64);
        let mut on_the_way = Family::gauge(
            "evenkeel_cache_filling_bytes",
            "Bytes of them that are on their way into the cache.",
        );
        on_the_way.add(&[], filling as f64);
        let mut keys = Family::gauge(
            "evenkeel_cache_objects",
            "Keys that responses are kept under, or that it is known of that none is.",
        );
        keys.add(&tier, objects as f64);
        let mut gone = Family::counter(
            "evenkeel_cache_evictions_total",
            "Responses that had to go because there was no room for all.",
        );
        gone.add(&tier, evictions as f64);
        let mut fills = Family::gauge(
            "evenkeel_cache_fills",
            "Fetches under way that others wait for, or would wait for.",
        );
        fills.add(&[], fetches as f64);
        let mut purged = Family::counter(
            "evenkeel_cache_purges_total",
            "Purges, by what they were of; one of several tags counts each.",
        );
        for (kind, count) in Purge::KINDS.into_iter().zip(purges).filter(|(_, count)| *count > 0) {
            purged.add(&[("kind", kind)], count as f64);
        }
        families.push(purged);
        families.extend([held, on_the_way, keys, gone, fills]);
    }
    families.into_iter().filter_map(Family::finish).collect()
}
