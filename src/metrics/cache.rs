//! What the cache has done for requests, and what is in it.

use super::family::Family;
use super::{Metrics, lock};
use crate::access_log::CacheResult;
use crate::api::cache::PurgeNodeStatus;
use crate::disk::{DiskFault, DiskUse};
use crate::history::CacheTotals;
use crate::store::{Purge, StoreUse};
use prometheus::proto::MetricFamily;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};

/// What has become of what was fetched for the cache, by a word for each end.
#[derive(Debug, Default)]
pub struct FillEnds(RwLock<BTreeMap<&'static str, AtomicU64>>);

impl FillEnds {
    pub(crate) fn count(&self, end: &'static str) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = known.get(end) {
            count.fetch_add(1, Relaxed);
            return;
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(end).or_default().fetch_add(1, Relaxed);
    }

    fn family(&self) -> Family {
        let mut ends = Family::counter(
            "evenkeel_cache_fills_total",
            "Fetches for the cache that have ended, by what has become of what they fetched.",
        );
        for (end, count) in &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            ends.add(&[("end", end)], count.load(Relaxed) as f64);
        }
        ends
    }
}

impl Metrics {
    /// What the cache has done for requests, by rule, in the order of `CacheResult::ALL`.
    pub(crate) fn cache_results(&self) -> BTreeMap<String, [u64; CacheResult::ALL.len()]> {
        let mut counts = BTreeMap::new();
        for (labels, series) in lock(&self.requests).iter() {
            let counted = series.cache.each_ref().map(|count| count.load(Relaxed));
            if counted.iter().any(|count| *count > 0) {
                let route = labels.route.as_deref().unwrap_or_default().to_owned();
                let sums = counts.entry(route).or_insert([0; CacheResult::ALL.len()]);
                sums.iter_mut().zip(counted).for_each(|(sum, count)| *sum += count);
            }
        }
        counts
    }

    /// The same in short.
    pub(crate) fn cache_totals(&self) -> HashMap<String, CacheTotals> {
        let totals = self.cache_results().into_iter().map(|(route, counts)| {
            let spared =
                CacheResult::ALL.into_iter().zip(counts).filter(|(result, _)| result.spares_servers());
            let served = spared.map(|(_, count)| count).sum();
            (route, CacheTotals { requests: counts.iter().sum(), served })
        });
        totals.collect()
    }
}

/// `store` is what is in it, if there is one, `disk` what is on its disk, and `nodes` are those that are told what is purged.
pub(super) fn families(
    metrics: &Metrics,
    store: Option<StoreUse>,
    disk: Option<DiskUse>,
    nodes: &[PurgeNodeStatus],
) -> Vec<MetricFamily> {
    let mut requests = Family::counter(
        "evenkeel_cache_requests_total",
        "Requests of rules whose responses are kept, by what the cache has done.",
    );
    for (route, counts) in metrics.cache_results() {
        for (result, count) in CacheResult::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
            requests.add(&[("route", &route), ("result", result.label())], count as f64);
        }
    }
    let mut families = vec![requests, metrics.cache_fills.family()];
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
            "Keys in memory that responses are kept under, or that it is known of that none is, and responses on the disk.",
        );
        keys.add(&tier, objects as f64);
        let mut gone = Family::counter(
            "evenkeel_cache_evictions_total",
            "Responses that had to go because there was no room for all.",
        );
        gone.add(&tier, evictions as f64);
        if let Some(DiskUse { bytes, objects, evictions, .. }) = disk {
            let tier = [("tier", "disk")];
            held.add(&tier, bytes as f64);
            keys.add(&tier, objects as f64);
            gone.add(&tier, evictions as f64);
        }
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
    families.extend(disk.map(of_disk).into_iter().flatten());
    families.extend(of_nodes(nodes));
    families.into_iter().filter_map(Family::finish).collect()
}

/// Whether other nodes know what was purged.
fn of_nodes(nodes: &[PurgeNodeStatus]) -> [Family; 2] {
    let mut failures = Family::counter(
        "evenkeel_cache_purge_node_failures_total",
        "Requests by which another node was to be told what is purged, and which it has not confirmed.",
    );
    let mut behind = Family::gauge(
        "evenkeel_cache_purge_node_behind",
        "1 while a node has not confirmed what was purged, and may send what is no longer right.",
    );
    for node in nodes {
        let labels = [("node", &*node.node)];
        failures.add(&labels, node.failures as f64);
        behind.add(&labels, f64::from(u8::from(node.failing_since.is_some())));
    }
    [failures, behind]
}

/// How the disk does.
fn of_disk(disk: DiskUse) -> [Family; 3] {
    let mut up = Family::gauge(
        "evenkeel_cache_disk_up",
        "Whether the cache's disk is in use: 0 while it is looked through, and once it has failed.",
    );
    up.add(&[], f64::from(u8::from(disk.is_up)));
    let mut errors = Family::counter(
        "evenkeel_cache_disk_errors_total",
        "What has failed on the cache's disk: to open its folder, to read, to write, or what was read was broken.",
    );
    for (doing, count) in DiskFault::LABELS.into_iter().zip(disk.errors) {
        errors.add(&[("doing", doing)], count as f64);
    }
    let mut skipped = Family::counter(
        "evenkeel_cache_disk_skipped_total",
        "Responses that were not read from the disk or not written to it because too many waited for that.",
    );
    for (doing, count) in ["read", "write"].into_iter().zip(disk.skipped) {
        skipped.add(&[("doing", doing)], count as f64);
    }
    [up, errors, skipped]
}
