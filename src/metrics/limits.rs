//! What limits have made of requests.

use super::family::Family;
use super::lock;
use crate::config::plan::Name;
use crate::limit::Limiter;
use prometheus::proto::MetricFamily;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What became of a request that was too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAction {
    Reject,
    Log,
    Delay,
}

impl LimitAction {
    const ALL: [Self; 3] = [Self::Reject, Self::Log, Self::Delay];

    fn label(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Log => "log",
            Self::Delay => "delay",
        }
    }
}

type Limited = Arc<[AtomicU64; LimitAction::ALL.len()]>;

/// Counts by route and limit, and of those kept out by listener and reason.
#[derive(Debug, Default)]
pub struct LimitMetrics {
    limited: Mutex<BTreeMap<(String, Name), Limited>>,
    denied: Mutex<BTreeMap<(Name, &'static str), Arc<AtomicU64>>>,
}

/// One thread's handles, so that a flood meets at no lock.
#[derive(Default)]
struct Handles {
    edition: u64,
    limited: HashMap<Name, Vec<(String, Limited)>>,
    denied: HashMap<(Name, &'static str), Arc<AtomicU64>>,
}

thread_local! {
    static HANDLES: RefCell<Handles> = RefCell::default();
}

impl LimitMetrics {
    pub fn limited(&self, edition: u64, (route, limit): (&str, &Name), action: LimitAction) {
        HANDLES.with_borrow_mut(|handles| {
            if handles.edition != edition {
                *handles = Handles { edition, ..Handles::default() };
            }
            let of_limit = match handles.limited.get_mut(limit) {
                Some(known) => known,
                None => handles.limited.entry(limit.clone()).or_default(),
            };
            let place = of_limit.iter().position(|(known, _)| known == route).unwrap_or_else(|| {
                let key = (route.to_owned(), limit.clone());
                let series = Arc::clone(lock(&self.limited).entry(key).or_default());
                of_limit.push((route.to_owned(), series));
                of_limit.len() - 1
            });
            of_limit[place].1[action as usize].fetch_add(1, Relaxed);
        });
    }

    pub fn denied(&self, listener: &Name, reason: &'static str) {
        HANDLES.with_borrow_mut(|handles| {
            let series = handles.denied.entry((listener.clone(), reason));
            let series = series.or_insert_with(|| {
                Arc::clone(lock(&self.denied).entry((listener.clone(), reason)).or_default())
            });
            series.fetch_add(1, Relaxed);
        });
    }

    pub(super) fn families(&self, limiter: Option<&Limiter>) -> Vec<MetricFamily> {
        let mut limited = Family::counter(
            "evenkeel_rate_limited_total",
            "Requests beyond a limit: rejected, told of only, or delayed.",
        );
        for ((route, limit), counts) in lock(&self.limited).iter() {
            for (action, count) in LimitAction::ALL.into_iter().zip(counts.iter()) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let labels = [("route", &**route), ("limit", &**limit), ("action", action.label())];
                    limited.add(&labels, count as f64);
                }
            }
        }
        let mut denied = Family::counter(
            "evenkeel_access_denied_total",
            "Requests of clients that may not ask, by what keeps them out.",
        );
        for ((listener, reason), count) in lock(&self.denied).iter() {
            denied.add(&[("listener", &**listener), ("reason", reason)], count.load(Relaxed) as f64);
        }
        let mut keys = Family::gauge("evenkeel_limit_keys", "Clients in debt to a rate limit or banned.");
        let mut shared = Family::counter(
            "evenkeel_limit_shared_total",
            "How often a new client had to share another's count, for want of room (process.limit_keys).",
        );
        let mut bans = Family::gauge("evenkeel_bans", "Bans that are listed.");
        if let Some(limiter) = limiter {
            let now = Instant::now();
            keys.add(&[], limiter.rates.in_debt(now) as f64);
            shared.add(&[], (limiter.rates.shared() + limiter.concurrency.shared()) as f64);
            bans.add(&[], limiter.bans.listed(now).len() as f64);
        }
        [limited, denied, keys, shared, bans].into_iter().filter_map(Family::finish).collect()
    }
}
