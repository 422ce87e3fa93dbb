//! What the cache keeps, and purges of it.

use super::Admin;
use super::access::Actor;
use super::answer::ApiRefusal;
use crate::access_log::CacheResult;
use crate::api::cache::{CacheStatus, CacheTier, PurgeReceipt, PurgeWish, RuleCacheStatus};
use crate::cache::{named_prefix, named_url, prefix, tag_number, url_numbers};
use crate::disk;
use crate::explain::PurgeAdvice;
use crate::store::{Purge, Purged};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use tracing::{info, warn};

/// `None` if no rule has a cache.
pub(super) fn status(admin: &Admin) -> Option<CacheStatus> {
    let used = admin.live.store()?.in_use();
    let memory = CacheTier {
        tier: "memory".to_owned(),
        bytes: used.bytes,
        limit: admin.live.snapshot().plan.cache.memory,
        objects: used.objects,
        evictions: used.evictions,
    };
    let size = admin.live.snapshot().plan.cache.disk.as_ref().map_or(0, |disk| disk.size);
    let disk = admin.live.disk().map(|disk| disk.in_use()).map(|used| CacheTier {
        tier: if used.is_up { "disk" } else { "disk (off)" }.to_owned(),
        bytes: used.bytes,
        limit: size,
        objects: used.objects,
        evictions: used.evictions,
    });
    let history = admin.live.cache_history();
    let rules = admin.live.metrics.cache_results().into_iter().map(|(route, counts)| {
        let (recent, seconds) = history.recent(&route);
        let results = CacheResult::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        RuleCacheStatus {
            results: results.map(|(result, count)| (result.label().to_owned(), count)).collect(),
            requests_per_second: recent.requests as f64 / seconds.max(1) as f64,
            hit_ratio: recent.hit_ratio(),
            route,
        }
    });
    Some(CacheStatus {
        tiers: [memory].into_iter().chain(disk).collect(),
        fills: used.fetches,
        purges: used.purges.iter().sum(),
        rules: rules.collect(),
        nodes: admin.live.purge_nodes.status(),
    })
}

pub(super) async fn purge(
    State(admin): State<Admin>,
    Extension(Actor(actor)): Extension<Actor>,
    wish: Result<Json<PurgeWish>, JsonRejection>,
) -> Result<Json<PurgeReceipt>, ApiRefusal> {
    let bad = |message: String| ApiRefusal::new(StatusCode::BAD_REQUEST, message);
    let Json(wish) =
        wish.map_err(|error| bad(error.body_text()).help(r#"send JSON like {"tags": ["p1"]}"#))?;
    // As of a variable that nobody has set.
    let is_blank = |name: &String| name.trim().is_empty();
    if wish.tags.iter().chain(&wish.prefixes).any(is_blank) {
        return Err(bad("a tag or a prefix is empty".to_owned()).help("name it, or say all"));
    }
    let named = wish.urls.len() + wish.tags.len() + wish.prefixes.len() + usize::from(wish.all);
    let Some(store) = admin.live.store() else {
        if wish.passed_on {
            // Nothing is kept here that could be out of date.
            return Ok(Json(PurgeReceipt {
                purges: named,
                hard: wish.hard,
                nodes: Vec::new(),
                unreached: Vec::new(),
                hints: Vec::new(),
            }));
        }
        let has_plans = admin.live.snapshot().plan.cache_plans().next().is_some();
        return Err(match has_plans {
            true => bad("nothing is kept: the cache has neither memory nor a disk".to_owned())
                .help("give it `cache.memory` or `cache.disk`"),
            false => bad("nothing is kept: no rule has a cache".to_owned()).help("add `cache: {}` to a rule"),
        });
    };
    let keys = &*store.url_keys.known();
    let mut purges = Vec::new();
    for url in &wish.urls {
        let named = named_url(url).ok_or_else(|| {
            bad(format!("{url:?} is not a URL of the web")).help("write it like https://shop.example/page")
        })?;
        let numbers = url_numbers(keys, named.host, &named.rest);
        purges.extend(numbers.into_iter().map(Purge::Url));
    }
    purges.extend(wish.tags.iter().map(|tag| Purge::Tag(tag_number(tag.as_bytes()))));
    let mut prefixes = Vec::new();
    for text in &wish.prefixes {
        let named = named_prefix(text).ok_or_else(|| {
            bad(format!("{text:?} is not the beginning of a URL of the web"))
                .help("write it like shop.example/static/")
        })?;
        // Each rule has its own idea of whose a path is, too.
        prefixes.extend(keys.iter().map(|key| prefix(key, named.host, &named.rest)));
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    purges.extend(prefixes.iter().map(|prefix| Purge::Prefix(prefix)));
    purges.extend(wish.all.then_some(Purge::All));
    if purges.is_empty() {
        return Err(
            bad("nothing is named to be purged".to_owned()).help("name urls, tags or prefixes, or say all")
        );
    }
    let purged = if wish.hard { Purged::Hard } else { Purged::Soft };
    let noted = disk::purge(&store, admin.live.disk().as_ref(), &purges, purged);
    info!(by = actor, purges = named, hard = wish.hard, "cache purged");
    admin.live.purges_for_next.add(|| wish.clone());
    let passed_on = (!wish.passed_on).then(|| admin.live.purge_nodes.pass_on(&wish));
    let noting = async {
        if let Some(noted) = noted
            && tokio::time::timeout(disk::NOTED_WITHIN, noted).await.is_err()
        {
            warn!("the cache's disk has not noted a purge yet, which is in force");
        }
    };
    let confirming = async {
        match passed_on {
            Some(passed_on) => passed_on.receipts().await,
            None => Vec::new(),
        }
    };
    let ((), nodes) = tokio::join!(noting, confirming);
    let PurgeAdvice { unreached, hints } = PurgeAdvice::new(&admin.live.snapshot(), &wish);
    Ok(Json(PurgeReceipt { purges: named, hard: wish.hard, nodes, unreached, hints }))
}
