//! What the cache makes of a request: whether it is for it at all, what is kept under its key, and what kept the last response
//! from being stored.

use super::passing::{PassedFrom, Passing};
use super::report::{ExplainedCache, ExplainedPhase, ExplainedStored};
use crate::cache::{self, Device, Directives, Keyed, Moment, Vary};
use crate::config::plan::cache::CachePlan;
use crate::fields::Fields;
use crate::policy::{self, Policy, Variables};
use crate::pool::Pool;
use crate::store::{Purged, Selecting, Slot, Standing, Store, StoredResponse};
use crate::text::span;
use crate::wire::edit::Edits;
use crate::wire::request::RequestView;
use http::header;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whether a disk may have something under a key, for a request that has this of what responses vary by.
pub(crate) type OnDisk<'a> = dyn Fn(&[u8], &mut Selecting<'_>) -> bool + 'a;

/// What is kept at a moment.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    store: &'a Store,
    on_disk: &'a OnDisk<'a>,
    now: Moment,
}

impl fmt::Debug for Kept<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("store", self.store).field("now", &self.now).finish_non_exhaustive()
    }
}

impl<'a> Kept<'a> {
    /// `since_1970` is the time by the clock on the wall.
    pub(crate) fn new(store: &'a Store, on_disk: &'a OnDisk<'a>, since_1970: Duration) -> Self {
        Self { store, on_disk, now: Moment(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)) }
    }
}

/// What the cache of a policy does, as a phase and as a value; `None` if there is none.
pub(super) fn explain(
    policy: &Policy,
    pool: Option<&Pool>,
    variables: &Variables<'_>,
    (kept, may_purge): (Option<Kept<'_>>, Option<bool>),
    (passing, from): (Passing<'_>, &PassedFrom<'_>),
) -> Option<(ExplainedPhase, ExplainedCache)> {
    let (plan, asked, pool) = (policy.plan.cache.get()?, variables.request?, pool?);
    let client = Directives::parse(Fields::all(&asked.fields, &header::CACHE_CONTROL));
    let phase = |does, decides| ExplainedPhase { phase: "cache".to_owned(), does, decides };
    if asked.method.as_str() == "PURGE"
        && let Some(may_purge) = may_purge
    {
        let does = match may_purge {
            true => "purges what its fields name, or else what is kept of its URL: 200",
            false => "purges nothing, for the client is not in `cache.purge_from`: 405",
        };
        let told = ExplainedCache {
            key: String::new(),
            result: "purge".to_owned(),
            reason: None,
            stored: Vec::new(),
        };
        return Some((phase(does.to_owned(), true), told));
    }
    if let Some(bypassed) = cache::bypasses(plan, (asked.method, asked.path), asked.fields, &client) {
        let label = bypassed.label();
        let told = ExplainedCache {
            key: String::new(),
            result: "bypass".to_owned(),
            reason: Some(label.to_owned()),
            stored: Vec::new(),
        };
        let device = match plan.key.device {
            true => format!(", and tells the server that a {} asks", Device::of(asked.fields).label()),
            false => String::new(),
        };
        return Some((phase(format!("goes past the cache ({label}){device}"), false), told));
    }
    let rewritten = plan_target(policy, &asked, variables);
    let target = rewritten.path_and_query.as_deref().unwrap_or(asked.path_and_query);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = cache::query(&plan.key, query);
    let key = in_words(plan, &asked, &query);
    let Some(kept) = kept else {
        let does = format!("is answered by what is kept for {key}, or else what comes may be kept");
        let told = ExplainedCache { key, result: "unknown".to_owned(), reason: None, stored: Vec::new() };
        return Some((phase(does, false), told));
    };
    let keyed = Keyed {
        scope: cache::scope(&pool.name, policy.cache_scope),
        is_secure: variables.is_secure,
        host: asked.host.unwrap_or_default(),
        other_host: rewritten.host.as_deref(),
        path,
        query: &query,
        fields: asked.fields,
        way: b"",
    };
    let mut explained = None;
    let applied = (policy, variables);
    passing.0.pass((&asked, from), applied, plan.key.host, &mut |edits, way| {
        let keyed = Keyed { way, ..keyed };
        explained = Some(look_up(kept, (plan, &asked, &client), (&keyed, edits), key.clone()));
    });
    explained
}

/// What of the cache's is for a request, as servers would get it.
fn look_up(
    Kept { store, on_disk, now }: Kept<'_>,
    (plan, asked, client): (&CachePlan, &RequestView<'_>, &Directives),
    (keyed, edits): (&Keyed<'_>, &Edits<'_>),
    mut key: String,
) -> (ExplainedPhase, ExplainedCache) {
    if !keyed.way.is_empty() {
        key.push_str(", what proxies say");
    }
    let looked_for = cache::key(&plan.key, keyed, Some(edits));
    let slot = store.peek(&looked_for).unwrap_or_default();
    let mut selected =
        |vary: &Vary| vary.select(|name| cache::sent(asked.fields, Some(edits), name).into_iter());
    let chosen = slot.variant(&mut selected);
    let is_authorized = asked.fields.has(&header::AUTHORIZATION);
    let obeyed = Some(client).filter(|_| plan.obey_client);
    let standing = |stored: &StoredResponse| store.standing(stored, obeyed, is_authorized, now);
    let stored = slot.variants.iter().rev().map(|stored| ExplainedStored {
        status: stored.status.as_u16(),
        bytes: stored.length,
        compressed: compressed(stored),
        age_s: stored.terms.age(now) / 1000,
        fresh_for_s: stored.terms.left(now),
        varies: varies(&stored.selected),
        tags: tags(plan, stored),
        standing: standing_in_words(standing(stored), stored, now),
        chosen: chosen.is_some_and(|chosen| Arc::ptr_eq(chosen, stored)),
    });
    let mut told = ExplainedCache { key, result: String::new(), reason: None, stored: stored.collect() };
    let (result, does, mut decides) = match chosen.map(|stored| (stored, standing(stored))) {
        Some((stored, Standing::Fresh)) => ("hit", answers(stored, now, &told.key), true),
        Some((stored, Standing::StaleWhileRevalidate)) => {
            ("stale", format!("{}, and fetches it anew meanwhile", answers(stored, now, &told.key)), true)
        }
        None if on_disk(&looked_for, &mut selected) => {
            ("disk", format!("looks on its disk, which has something for {}", told.key), false)
        }
        Some((_, Standing::NotForAuthorized)) => {
            let does = format!(
                "does not use what is kept for {}, which is not for requests with Authorization: what comes may be kept",
                told.key
            );
            ("miss", does, false)
        }
        Some((_, Standing::Purged(Purged::Hard))) | None => {
            told.reason = slot.mark.map(|mark| mark.reason.label().to_owned());
            let is_gone =
                |stored: &Arc<StoredResponse>| matches!(standing(stored), Standing::Purged(Purged::Hard));
            let others = slot.variants.iter().any(|stored| !is_gone(stored));
            ("miss", nothing(&slot, others, &told.key, now), false)
        }
        Some((stored, standing)) => {
            let why = standing_in_words(standing, stored, now);
            (
                "validate",
                format!("asks the server whether what is kept for {} still holds: {why}", told.key),
                false,
            )
        }
    };
    let mut does = does;
    if !decides && client.only_if_cached {
        does = format!("{does}; the client wants nothing else (only-if-cached): 504");
        decides = true;
    }
    told.result = result.to_owned();
    (ExplainedPhase { phase: "cache".to_owned(), does, decides }, told)
}

fn plan_target(policy: &Policy, asked: &RequestView<'_>, variables: &Variables<'_>) -> policy::Rewritten {
    let rewrite = policy.plan.rewrite.get();
    rewrite.map(|rewrite| policy::rewrite(rewrite, asked, variables)).unwrap_or_default()
}

/// `shop.example/page?a=1, store, cookie group, device phone`
fn in_words(plan: &CachePlan, asked: &RequestView<'_>, query: &str) -> String {
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    let host = if plan.key.host { asked.host.unwrap_or_default() } else { "" };
    let fields = plan.key.headers.iter().map(ToString::to_string);
    let cookies = plan.key.cookies.iter().map(|name| format!("cookie {name}"));
    let device = plan.key.device.then(|| format!("device {}", Device::of(asked.fields).label()));
    let more: String = fields.chain(cookies).chain(device).map(|part| format!(", {part}")).collect();
    format!("{host}{}{query}{more}", asked.path)
}

fn answers(stored: &StoredResponse, now: Moment, key: &str) -> String {
    format!("answers with what is kept for {key} ({})", age(stored, now))
}

/// `200, 12s old, fresh for another 48s`
fn age(stored: &StoredResponse, now: Moment) -> String {
    let age = span(Duration::from_secs(stored.terms.age(now) / 1000));
    let left = stored.terms.left(now);
    let spanned = span(Duration::from_secs(left.unsigned_abs()));
    let fresh =
        if left > 0 { format!("fresh for another {spanned}") } else { format!("stale for {spanned}") };
    format!("{}, {age} old, {fresh}", stored.status.as_u16())
}

/// Why there is nothing for it; `others`: there is for other requests.
fn nothing(slot: &Slot, others: bool, key: &str, now: Moment) -> String {
    match slot.mark {
        Some(mark) => {
            let left = mark.until.since(now);
            let alone = match left {
                0 => String::new(),
                left => format!(
                    ", and for another {} nobody waits for the next",
                    span(Duration::from_millis(left))
                ),
            };
            format!("has nothing for {key}: the last response was not kept ({}){alone}", mark.reason.label())
        }
        None if slot.variants.is_empty() => format!("has nothing for {key}: what comes may be kept"),
        None if !others => {
            format!("has nothing for {key}: what was kept is purged, hard, and what comes may be kept")
        }
        None => format!("has only other variants for {key}: what comes may be kept"),
    }
}

fn standing_in_words(standing: Standing, stored: &StoredResponse, now: Moment) -> String {
    let on_error = match stored.terms.is_good_on_error(now) {
        true => " (used if servers fail)",
        false => "",
    };
    match standing {
        Standing::Fresh => "fresh".to_owned(),
        Standing::StaleWhileRevalidate => "stale, used while another is fetched".to_owned(),
        Standing::Stale if stored.terms.is_always_validated => {
            format!("no-cache: always asked about{on_error}")
        }
        Standing::Stale => format!("stale{on_error}"),
        Standing::ClientAsks => "fresh, but not enough for the client (Cache-Control)".to_owned(),
        Standing::Changed => format!("changed by a request since{on_error}"),
        Standing::Purged(Purged::Soft) => format!("purged{on_error}"),
        Standing::Purged(Purged::Hard) => "purged, hard".to_owned(),
        Standing::NotForAuthorized => "not for requests with Authorization".to_owned(),
    }
}

/// `br: 3127 bytes`, for each coding that it is kept in.
fn compressed(stored: &StoredResponse) -> Vec<String> {
    stored.coded.each().map(|(encoding, bytes)| format!("{}: {bytes} bytes", encoding.label())).collect()
}

/// `accept-encoding: gzip`, for each field that it varies by.
fn varies(selected: &[u8]) -> Vec<String> {
    let lines = selected.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let told = lines.map(|line| {
        let line = String::from_utf8_lossy(line);
        match line.split_once(':') {
            Some((name, values)) => format!("{name}: {}", values.trim_end_matches(',').replace(',', ", ")),
            None => format!("no {}", line.trim_end_matches('-')),
        }
    });
    told.collect()
}

fn tags(plan: &CachePlan, stored: &StoredResponse) -> Vec<String> {
    let lines = plan.tags.fields.iter().flat_map(|name| stored.fields.get_all(name));
    let tags = lines.flat_map(|line| cache::split_tags(line.as_bytes()));
    tags.map(|tag| String::from_utf8_lossy(tag).into_owned()).collect()
}
