//! What an exchange knows of the cache: whether its rule has one, and what was done.

use super::Exchange;
use crate::access_log::{CacheRecord, Why};
use crate::api::cache::{PurgeReceipt, PurgeWish};
use crate::cache::{Moment, resolved, scope, url_numbers};
use crate::config::plan::Priority;
use crate::config::plan::cache::CachePlan;
use crate::disk::DiskTier;
use crate::filter::forwarding;
use crate::metrics::Routed;
use crate::pool::Pool;
use crate::purge_nodes::PassedOn;
use crate::snapshot::ListenerTarget;
use crate::store::Store;
use crate::wire::local_reply;
use crate::wire::request::RequestView;
use http::{HeaderValue, header};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a rule's responses are kept by.
#[derive(Debug)]
pub(in crate::serve) struct RuleCache {
    pub(in crate::serve) store: Arc<Store>,
    pub(in crate::serve) disk: Option<Arc<DiskTier>>,
    pub(in crate::serve) plan: Arc<CachePlan>,
    /// What leads to the same pool by the same changes.
    pub(in crate::serve) scope: u64,
}

/// The time by the clock on the wall.
pub(in crate::serve) fn moment() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Exchange {
    /// What its rule's responses are kept by, if they are.
    pub(in crate::serve) fn cache(&self) -> Option<RuleCache> {
        let policy = self.policy()?;
        let plan = policy.plan.cache.shared()?;
        let store = self.live.store()?;
        let (pool, _) = self.routed_pool().ok()?;
        let disk = self.live.disk();
        Some(RuleCache { store, disk, plan, scope: scope(&pool.name, policy.cache_scope) })
    }

    /// The pool that its rule leads to.
    pub(super) fn routed_pool(&self) -> Result<(&Arc<Pool>, Priority), Why> {
        let listener = self.listener.as_ref().ok_or(Why::Shutdown)?;
        match (&listener.target, self.routed) {
            (ListenerTarget::Pool(pool), _) => Ok((pool, Priority::default())),
            (ListenerTarget::Routes(table), Routed::Rule(place)) => {
                let rule = table.rules.get(place as usize).ok_or(Why::Internal)?;
                Ok((rule.pool().ok_or(Why::Internal)?, rule.priority))
            }
            (ListenerTarget::Routes(_) | ListenerTarget::RedirectToHttps, _) => Err(Why::NoRoute),
        }
    }

    /// The host that its client has named, whatever a proxy asks for.
    pub(in crate::serve) fn named_host<'a>(&self, request: &RequestView<'a>) -> Cow<'a, str> {
        let Some(listener) = &self.listener else { return request.host.unwrap_or_default().into() };
        let peer = crate::serve::peer(&self.state.client);
        forwarding::named_host(request, (&peer, &listener.plan.trusted_proxies))
    }

    /// Whether its client came by TLS, as servers are told.
    pub(in crate::serve) fn is_secure(&self, request: &RequestView<'_>) -> bool {
        let Some(listener) = &self.listener else { return false };
        let client = crate::serve::peer(&self.state.client);
        forwarding::is_secure(&client, &listener.plan.trusted_proxies, request.fields)
    }

    /// A response that is kept is about to leave.
    pub(in crate::serve) fn answered_by_store(&mut self, record: CacheRecord) {
        self.cached = Some(record);
        self.first_byte.get_or_insert_with(|| self.started.elapsed());
        self.state.answered.store(true, Relaxed);
        self.state.watch.no_deadline();
        if let Ok((pool, _)) = self.routed_pool() {
            self.state.watch.quiet(pool.plan.timeouts.stream_idle, Why::StreamIdle);
        }
    }

    /// Begins what is fetched for the cache alone: whose request it is and which rule it meets was decided for another, and
    /// nobody is told of its end.
    pub(in crate::serve) fn decide_for_store(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        self.recorded = true;
        self.identify(request)?;
        self.find_rule(request)
    }

    /// Whether its client may purge what is kept.
    pub(in crate::serve) fn may_purge(&self) -> bool {
        let snapshot = self.live.snapshot();
        self.client_address.is_some_and(|client| snapshot.plan.cache.purge_from.contains(client))
    }

    /// Has the client answered so, whatever its rule.
    pub(in crate::serve) fn answer_with(&mut self, status: u16) {
        self.reply = Some(Box::new(local_reply::with_status(status, None, None)));
    }

    /// Has other nodes told of what was purged here, and the next process, if this one hands over.
    pub(in crate::serve) fn pass_on(&self, wish: &PurgeWish) -> PassedOn {
        self.live.purges_for_next.add(|| wish.clone());
        self.live.purge_nodes.pass_on(wish)
    }

    /// Has who has purged told of it, in JSON.
    pub(in crate::serve) fn answer_purge(&mut self, receipt: &PurgeReceipt) {
        let mut body = serde_json::to_vec(receipt).unwrap_or_default();
        body.push(b'\n');
        let mut reply = local_reply::with_status(200, None, Some(body.into()));
        reply.fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.reply = Some(Box::new(reply));
    }

    /// A try has failed; its request has another answer.
    pub(in crate::serve) fn try_failed(&mut self, why: Why) {
        if let Some(dispatch) =
            self.dispatch.as_deref_mut().filter(|dispatch| dispatch.attempt.is_under_way())
        {
            dispatch.outcome(why.result());
        }
        self.give_back();
    }

    /// Has what lies behind its URL asked about anew, as a response says that it has changed (RFC 9111 section 4.4).
    pub(in crate::serve) fn invalidate(&self, request: &RequestView<'_>, locations: &[&[u8]]) {
        let store = self.live.store();
        if store.is_none() && !self.live.purges_for_next.is_awaited() {
            return;
        }
        let host = &*self.named_host(request);
        let target = request.path_and_query;
        let own = [Cow::Borrowed(target)].into_iter();
        let others = locations.iter().filter_map(|location| resolved(location, host, target));
        let targets: Vec<_> = own.chain(others).collect();
        self.live.purges_for_next.add(|| {
            let urls = targets.iter().map(|target| format!("http://{host}{target}")).collect();
            PurgeWish { urls, ..PurgeWish::default() }
        });
        let Some(store) = store else { return };
        let disk = self.live.disk();
        // Whichever rule it was kept by, in whichever configuration: this one may have come or gone while the request was on its way.
        let keys = store.url_keys.known();
        let urls = targets.iter().flat_map(|target| url_numbers(&keys, host, target));
        for url in urls {
            let epoch = store.epochs.change(url);
            if let Some(disk) = &disk {
                disk.note_change(url, epoch);
            }
        }
    }
}
