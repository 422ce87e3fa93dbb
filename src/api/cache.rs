//! What the cache keeps, what it spares servers, and what is purged of it.

use crate::text::bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// What the cache keeps and what it is good for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheStatus {
    pub tiers: Vec<CacheTier>,
    /// Fetches under way that others wait for, or would wait for.
    pub fills: u64,
    /// Since the start.
    pub purges: u64,
    /// In the order of their names; those that nobody asked are missing.
    pub rules: Vec<RuleCacheStatus>,
    /// Other nodes that are told what is purged.
    #[serde(default)]
    pub nodes: Vec<PurgeNodeStatus>,
}

/// What another node knows of what was purged here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeNodeStatus {
    /// The address of its admin endpoint.
    pub node: String,
    /// What it has still to be told: URLs, tags and prefixes, and one for all.
    pub missing: usize,
    /// Since when it has not confirmed anything, if it has not.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub failing_since: Option<OffsetDateTime>,
    /// Why it has not, the last time.
    pub why: Option<String>,
    /// Requests that it has not confirmed, since the start.
    pub failures: u64,
}

/// Where responses are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheTier {
    /// `memory`, `disk`, or `disk (off)` while that takes no part.
    pub tier: String,
    pub bytes: u64,
    /// As configured.
    pub limit: u64,
    pub objects: u64,
    /// Responses that had to go for want of room, since the start.
    pub evictions: u64,
}

/// What the cache of one rule has done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleCacheStatus {
    /// Empty for what listeners send to pools by themselves.
    pub route: String,
    /// Requests since the start, by what the cache did for them: `hit`, `miss`.
    pub results: BTreeMap<String, u64>,
    /// Of the last ten seconds.
    pub requests_per_second: f64,
    /// The share of those that no server was asked for, from 0 to 1; none without requests.
    pub hit_ratio: Option<f64>,
}

impl CacheStatus {
    /// `93% of 1200 requests/s from the cache`, `memory 12.0 MiB of 256 MiB`, `830 objects, none evicted`.
    pub fn facts(&self) -> Vec<String> {
        let rate: f64 = self.rules.iter().map(|rule| rule.requests_per_second).sum();
        let served = self.rules.iter().map(|rule| rule.requests_per_second * rule.hit_ratio.unwrap_or(0.0));
        let share = match rate > 0.0 {
            true => {
                format!("{:.0}% of {rate:.0} requests/s from the cache", served.sum::<f64>() / rate * 100.0)
            }
            false => "nothing is asked of the cache".to_owned(),
        };
        let tiers = self.tiers.iter().flat_map(|tier| {
            let evicted = match tier.evictions {
                0 => "none evicted".to_owned(),
                evictions => format!("{evictions} evicted"),
            };
            let used = format!("{} {} of {}", tier.tier, bytes(tier.bytes), bytes(tier.limit));
            let objects = if tier.objects == 1 { "object" } else { "objects" };
            [used, format!("{} {objects}, {evicted}", tier.objects)]
        });
        let behind = self.nodes.iter().filter_map(|node| {
            let why = node.why.as_ref()?;
            let purges = if node.missing == 1 { "purge" } else { "purges" };
            Some(format!("{} LACKS {} {purges}: {why}", node.node, node.missing))
        });
        [share].into_iter().chain(tiers).chain(behind).collect()
    }

    /// The same as one line.
    pub fn told(&self) -> String {
        self.facts().join("; ")
    }
}

/// What is wished for: one of these, or several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeWish {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Hosts with the beginning of a path: `shop.example/static/`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    pub all: bool,
    /// It is gone, rather than asked about.
    pub hard: bool,
    /// Another node has passed it on: it goes no further, and is done where nothing is kept.
    #[serde(skip_serializing_if = "is_false")]
    pub passed_on: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeReceipt {
    /// URLs, tags and prefixes, or one for all.
    pub purges: usize,
    pub hard: bool,
    /// Other nodes that were told, in the order of `cache.purge_nodes`.
    #[serde(default)]
    pub nodes: Vec<NodeReceipt>,
    /// What of it can reach nothing here, whatever is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreached: Vec<Unreached>,
    /// What of it may be meant otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<PurgeHint>,
}

/// What was purged in vain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreached {
    /// The URL, the tag or the prefix, as it was named.
    pub what: String,
    pub why: String,
}

/// What is purged, and may reach less than was meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeHint {
    /// The URL, the tag or the prefix, as it was named.
    pub what: String,
    pub hint: String,
}

/// What has become of a purge on another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReceipt {
    /// The address of its admin endpoint.
    pub node: String,
    /// It is in force there.
    pub confirmed: bool,
    /// Why it is not known to be.
    pub why: Option<String>,
}
