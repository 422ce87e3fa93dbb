//! The cache's part in an exchange before a server is asked: whether the request is for it, and what it has for the client.

use super::caching::{Caching, Unkept};
use super::recall::Recalled;
use super::{Relay, unless_left};
use crate::access_log::{CacheRecord, CacheResult, Why};
use crate::cache::{self, Bypassed, CacheStatus, Directives, Forwarded, Keyed, Moment, NotStored, Vary};
use crate::config::plan::cache::{CachePlan, KeyPlan};
use crate::fields::is_respelt;
use crate::filter;
use crate::filter::cache::Validators;
use crate::filter::forwarding;
use crate::serve::client::ClientSide;
use crate::serve::exchange::{RuleCache, moment};
use crate::store::{FetchPart, Fetched, Fetching, Purged, Slot, Standing, StoredResponse};
use futures_channel::oneshot;
use http::{HeaderName, Method, header};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

/// What a request looks for in the store.
pub(super) struct Lookup {
    pub(super) rule: RuleCache,
    client: Directives,
    pub(super) key: Vec<u8>,
    target: Option<String>,
}

/// What the store has for it.
enum Found {
    Good(Arc<StoredResponse>),
    /// It may go out while another is fetched.
    Stale(Arc<StoredResponse>),
    Missing(Missing),
}

/// What is to be fetched.
#[derive(Clone)]
struct Missing {
    forwarded: Forwarded,
    /// What is kept, and may hold still.
    stored: Option<Arc<StoredResponse>>,
    /// Under which requests for the same find each other; `None` has nobody wait.
    fetch_key: Option<Vec<u8>>,
    /// What came last was not kept.
    is_marked: bool,
}

/// What has come of waiting for another request.
enum Waited {
    For(Fetched),
    /// It has come to nothing.
    ForNobody,
    TooLong,
}

impl<C: ClientSide> Relay<'_, C> {
    /// Serves the request from what is kept, if it can; else notes what is to be done with its response.
    pub(super) async fn serve_from_store(&mut self, rule: RuleCache) -> bool {
        let client = Directives::parse(self.request.fields.all(&header::CACHE_CONTROL));
        let says_so = rule.plan.status_field;
        self.cache_fields.hidden = (!rule.plan.tags.send).then(|| Arc::clone(&rule.plan));
        if self.request.method.as_str() == "PURGE" {
            self.purge(&rule).await;
            return true;
        }
        if let Some(bypassed) = self.bypassed(&rule.plan, &client) {
            self.bypass(bypassed, says_so);
            return false;
        }
        let until = Instant::now() + rule.plan.coalesce;
        let (key, target) = self.key(&rule.plan, rule.scope);
        let lookup = Lookup { rule, client, key, target };
        // What comes for others who have asked for the same URL, if it is not for this one.
        let mut other: Option<Arc<StoredResponse>> = None;
        loop {
            let mut slot = lookup.rule.store.find(&lookup.key);
            let mut variant = self.variant(slot.as_deref());
            if variant.is_none()
                && let Some(disk) = &lookup.rule.disk
            {
                variant = match self.recall(disk, (&lookup.rule.store, &lookup.key)).await {
                    Ok(Recalled::Nothing) => None,
                    Ok(Recalled::Waited(recalled)) => {
                        // Another may have come meanwhile.
                        slot = lookup.rule.store.find(&lookup.key);
                        self.variant(slot.as_deref()).or(recalled)
                    }
                    Err(why) => {
                        self.reply(why).await;
                        return true;
                    }
                };
            }
            let now = moment();
            let missing = match self.find(&lookup, (slot.as_deref(), variant), now) {
                Found::Good(stored) => {
                    let status = CacheStatus { left: Some(stored.terms.left(now)), ..CacheStatus::default() };
                    self.serve_stored(&stored, status, (CacheResult::Hit, says_so)).await;
                    return true;
                }
                Found::Stale(stored) => {
                    let status = CacheStatus { left: Some(stored.terms.left(now)), ..CacheStatus::default() };
                    self.refresh(&lookup, &stored, now);
                    self.serve_stored(&stored, status, (CacheResult::Stale, says_so)).await;
                    return true;
                }
                Found::Missing(missing) => missing,
            };
            self.exchange.cached = Some(CacheResult::Miss.into());
            if lookup.client.only_if_cached {
                self.reply(Why::OnlyIfCached).await;
                return true;
            }
            let part = match &missing.fetch_key {
                Some(key) if Instant::now() < until => {
                    let own = other.as_ref().map(|other| self.variant_key(&lookup, &other.terms.vary));
                    Some(lookup.rule.store.join(own.as_ref().unwrap_or(key)))
                }
                _ => None,
            };
            let receiver = match part {
                Some(FetchPart::Waits(receiver)) => receiver,
                Some(FetchPart::Follows(coming)) if self.is_for(&lookup, &coming) => {
                    if self.is_ahead_of(&coming) {
                        self.fetch_part(lookup, missing);
                        return false;
                    }
                    self.serve_fetched(&coming, missing.forwarded, says_so).await;
                    return true;
                }
                Some(FetchPart::Follows(coming)) if other.is_none() => {
                    other = Some(coming);
                    continue;
                }
                Some(FetchPart::Fetches(fetching)) => {
                    self.caching = Some(self.caching_of(lookup, missing, Some(fetching)));
                    return false;
                }
                Some(FetchPart::Follows(_)) | None => {
                    self.caching = Some(self.caching_of(lookup, missing, None));
                    return false;
                }
            };
            match self.wait(receiver, until).await {
                Ok(Waited::For(Fetched::Stored(stored))) if self.is_for(&lookup, &stored) => {
                    if self.is_ahead_of(&stored) {
                        self.fetch_part(lookup, missing);
                        return false;
                    }
                    self.serve_fetched(&stored, missing.forwarded, says_so).await;
                    return true;
                }
                // Another variant, or whoever fetched has left: once more.
                Ok(Waited::For(Fetched::Stored(_)) | Waited::ForNobody) => {}
                Ok(Waited::For(Fetched::NotStored) | Waited::TooLong) => {
                    let missing = Missing { fetch_key: None, ..missing };
                    self.caching = Some(self.caching_of(lookup, missing, None));
                    return false;
                }
                Err(why) => {
                    self.reply(why).await;
                    return true;
                }
            }
        }
    }

    /// Waits for what another request fetches, unless the client leaves.
    async fn wait(&mut self, fetched: oneshot::Receiver<Fetched>, until: Instant) -> Result<Waited, Why> {
        let waited = pin!(self.state.watch.heed(tokio::time::timeout_at(until.into(), fetched)));
        Ok(match unless_left(&mut self.client, waited).await? {
            Ok(Ok(fetched)) => Waited::For(fetched),
            Ok(Err(_)) => Waited::ForNobody,
            Err(_) => Waited::TooLong,
        })
    }

    /// Of what lies under its key what is for the request.
    fn variant(&self, slot: Option<&Slot>) -> Option<Arc<StoredResponse>> {
        slot?.variant(&mut |vary| self.selected(vary)).map(Arc::clone)
    }

    /// What is made of what lies under the request's key, and of what of it is for the request, at this moment.
    fn find(
        &self,
        lookup: &Lookup,
        (slot, variant): (Option<&Slot>, Option<Arc<StoredResponse>>),
        now: Moment,
    ) -> Found {
        let RuleCache { store, disk, plan, .. } = &lookup.rule;
        let is_authorized = self.request.fields.has(&header::AUTHORIZATION);
        let client = Some(&lookup.client).filter(|_| plan.obey_client);
        let standing = variant.as_ref().map(|stored| store.standing(stored, client, is_authorized, now));
        if let (Some(stored), Some(Standing::Purged(Purged::Hard))) = (&variant, standing) {
            if let Some(disk) = disk {
                disk.remove(&lookup.key, stored);
            }
            store.remove(&lookup.key, stored);
        }
        let is_there = |stored: &Arc<StoredResponse>| store.purges.judge(stored) != Some(Purged::Hard);
        let (stored, forwarded) = match (variant, standing) {
            (Some(stored), Some(Standing::Fresh)) => return Found::Good(stored),
            (Some(stored), Some(Standing::StaleWhileRevalidate)) => return Found::Stale(stored),
            (Some(stored), Some(Standing::ClientAsks)) => (Some(stored), Forwarded::Request),
            (Some(stored), Some(Standing::Stale | Standing::Changed | Standing::Purged(Purged::Soft))) => {
                (Some(stored), Forwarded::Stale)
            }
            (Some(_), Some(Standing::NotForAuthorized)) => (None, Forwarded::Request),
            _ if slot.is_some_and(|slot| slot.variants.iter().any(is_there)) => (None, Forwarded::VaryMiss),
            _ => (None, Forwarded::UriMiss),
        };
        let is_marked = slot.and_then(|slot| slot.mark).is_some_and(|mark| now < mark.until);
        let may_wait = *self.request.method == Method::GET
            && !is_marked
            && !is_authorized
            && !plan.coalesce.is_zero()
            && plan.min_uses == 1;
        Found::Missing(Missing {
            forwarded,
            stored,
            fetch_key: may_wait.then(|| self.fetch_key(lookup, slot)),
            is_marked,
        })
    }

    /// Has a server send the part that is asked for, and nothing is kept by that.
    fn fetch_part(&mut self, lookup: Lookup, missing: Missing) {
        let mut caching = self.caching_of(lookup, missing, None);
        caching.is_fill = false;
        caching.pass();
        let unkept = Unkept::NotStored(NotStored::Ranged).record();
        let forwarded = Some(Forwarded::Partial);
        caching.status = CacheStatus { forwarded, detail: unkept.reason, ..CacheStatus::default() };
        (self.caching, self.exchange.cached) = (Some(caching), Some(unkept));
    }

    /// Serves what another request has fetched, or fetches.
    async fn serve_fetched(&mut self, fetched: &Arc<StoredResponse>, forwarded: Forwarded, says_so: bool) {
        let status = CacheStatus {
            forwarded: Some(forwarded),
            is_collapsed: true,
            left: Some(fetched.terms.left(moment())),
            ..CacheStatus::default()
        };
        self.serve_stored(fetched, status, (CacheResult::Coalesced, says_so)).await;
    }

    /// The key and, as far as it is known what a response will vary by, that of the request.
    fn fetch_key(&self, lookup: &Lookup, slot: Option<&Slot>) -> Vec<u8> {
        match slot.and_then(|slot| slot.variants.last()) {
            Some(last) => self.variant_key(lookup, &last.terms.vary),
            None => lookup.key.clone(),
        }
    }

    fn variant_key(&self, lookup: &Lookup, vary: &Vary) -> Vec<u8> {
        let mut key = lookup.key.clone();
        key.extend(self.selected(vary));
        key
    }

    /// Whether what another request has fetched is for this one, too.
    fn is_for(&self, lookup: &Lookup, stored: &StoredResponse) -> bool {
        *stored.selected == *self.selected(&stored.terms.vary) && !lookup.rule.store.is_outdated(stored)
    }

    /// Has what is kept renewed while it goes out, unless somebody does that already.
    fn refresh(&self, lookup: &Lookup, stored: &Arc<StoredResponse>, now: Moment) {
        let slot = lookup.rule.store.find(&lookup.key);
        let key = self.fetch_key(lookup, slot.as_deref());
        let FetchPart::Fetches(fetching) = lookup.rule.store.join(&key) else { return };
        let RuleCache { store, disk, plan, scope } = &lookup.rule;
        let caching = Caching {
            store: Arc::clone(store),
            disk: disk.clone(),
            plan: Arc::clone(plan),
            key: lookup.key.clone(),
            target: lookup.target.clone(),
            url: self.url(&plan.key),
            is_fill: true,
            is_marked: false,
            uses: None,
            validators: Some(validators_of(stored)),
            stored: Some(Arc::clone(stored)),
            status: CacheStatus { forwarded: Some(Forwarded::Stale), ..CacheStatus::default() },
            asked: now,
            epoch: store.epochs.now(),
            purge_epoch: store.purges.now(),
            place: self.place(&plan.key),
            replaced: None,
            filling: None,
            fetching: Some(fetching),
        };
        super::refresh::spawn(self, caching, *scope);
    }

    /// Notes that a request is not for the cache.
    fn bypass(&mut self, bypassed: Bypassed, says_so: bool) {
        let reason = Some(bypassed.label());
        self.exchange.cached = Some(CacheRecord { reason, ..CacheResult::Bypass.into() });
        if says_so {
            let forwarded = match bypassed {
                Bypassed::Method => Forwarded::Method,
                _ => Forwarded::Bypass,
            };
            self.cache_fields.status =
                Some(CacheStatus { forwarded: Some(forwarded), ..CacheStatus::default() }.text());
        }
    }

    /// Why the request is not for the cache, if it is not.
    fn bypassed(&self, plan: &CachePlan, client: &Directives) -> Option<Bypassed> {
        let asked = (self.request.method, self.request.path);
        let bypassed = cache::bypasses(plan, asked, self.request.fields, client);
        bypassed.or_else(|| self.client.has_body().then_some(Bypassed::Body))
    }

    /// Where its URL lies, for those who purge beginnings of URLs.
    fn place(&self, plan: &KeyPlan) -> String {
        cache::place(plan, &self.exchange.named_host(&self.request), self.request.path)
    }

    /// The number of its URL, which a hit needs not.
    fn url(&self, plan: &KeyPlan) -> u64 {
        cache::url_number(plan, &self.exchange.named_host(&self.request), self.request.path_and_query)
    }

    /// The request's key, and the target that servers get with it.
    pub(super) fn key(&self, plan: &CachePlan, scope: u64) -> (Vec<u8>, Option<String>) {
        let host = self.request.host.unwrap_or_default();
        let is_secure = self.exchange.is_secure(&self.request);
        let rewritten = self.exchange.rewritten(&self.request);
        let sent = rewritten.applied(&self.request);
        let (path, own_query) = sent.path_and_query.split_once('?').unwrap_or((sent.path_and_query, ""));
        let query = cache::query(&plan.key, own_query);
        let applied = self.may_key_changed(&plan.key).then(|| self.exchange.applied_policy(&self.request));
        let edits =
            applied.as_ref().map(|applied| filter::request(&self.request, &self.facts(applied.as_ref())));
        let facts = self.facts(None);
        let way = forwarding::way(
            &self.request,
            (&facts.peer, facts.trusted_proxies),
            (is_secure, plan.key.host),
            edits.as_ref(),
        );
        let keyed = Keyed {
            scope,
            is_secure,
            host,
            other_host: rewritten.host.as_deref(),
            path,
            query: &query,
            fields: self.request.fields,
            way: &way,
        };
        let target = (*query != *own_query).then(|| match query.is_empty() {
            true => path.to_owned(),
            false => format!("{path}?{query}"),
        });
        (cache::key(&plan.key, &keyed, edits.as_ref()), target)
    }

    /// Whether something that may be in a key is another thing for servers than it came.
    fn may_key_changed(&self, plan: &KeyPlan) -> bool {
        let is_keyed = |name: &HeaderName| {
            plan.headers.iter().any(|keyed| is_respelt(keyed.as_str().as_bytes(), name.as_str()))
                || *name == header::COOKIE && !plan.cookies.is_empty()
                || cache::leads_elsewhere(name)
        };
        let changed = self.exchange.policy().map_or(&[][..], |policy| &policy.request_fields);
        plan.headers.iter().any(is_ours) || changed.iter().any(|change| is_keyed(&change.name.name))
    }

    /// What the request has of what a response varies by, as its server sees it.
    pub(super) fn selected(&self, vary: &Vary) -> Vec<u8> {
        let policy = self.exchange.policy();
        let has_changes = policy.is_some_and(|policy| !policy.request_fields.is_empty());
        let is_changed = |name: &HeaderName| has_changes || is_ours(name) || *name == header::COOKIE;
        if !vary.0.iter().any(is_changed) {
            return vary.select(|name| cache::sent(self.request.fields, None, name).into_iter());
        }
        let applied = self.exchange.applied_policy(&self.request);
        let edits = filter::request(&self.request, &self.facts(applied.as_ref()));
        vary.select(|name| cache::sent(self.request.fields, Some(&edits), name).into_iter())
    }

    /// What is done with the response to a request for what is missing.
    fn caching_of(&self, lookup: Lookup, missing: Missing, fetching: Option<Fetching>) -> Box<Caching> {
        let Lookup { rule: RuleCache { store, disk, plan, .. }, key, target, .. } = lookup;
        let Missing { forwarded, stored, is_marked, .. } = missing;
        let is_fill = *self.request.method == Method::GET;
        // Who asks for what is hardly kept is served as without a cache, conditions and all.
        let is_asked = is_fill && (!is_marked || stored.is_some());
        let validators = is_asked.then(|| stored.as_deref().map(validators_of).unwrap_or_default());
        Box::new(Caching {
            status: CacheStatus { forwarded: Some(forwarded), ..CacheStatus::default() },
            asked: moment(),
            epoch: store.epochs.now(),
            purge_epoch: store.purges.now(),
            place: self.place(&plan.key),
            url: self.url(&plan.key),
            store,
            disk,
            plan,
            key,
            target,
            is_fill,
            is_marked,
            uses: None,
            validators,
            stored,
            replaced: None,
            filling: None,
            fetching,
        })
    }

    /// What a server gets in place of the request's own target.
    pub(super) fn cached_target(&self) -> Option<&str> {
        self.caching.as_ref()?.target.as_deref()
    }
}

/// Whether a field of this name may be another for servers than it came, with no policy's word.
fn is_ours(name: &HeaderName) -> bool {
    ["x-", "forwarded", "client-", "via"].iter().any(|own| name.as_str().starts_with(own))
}

/// What a server is asked about a stored response.
fn validators_of(stored: &StoredResponse) -> Validators {
    let field = |name| stored.fields.get(name).cloned();
    Validators { etag: field(header::ETAG), last_modified: field(header::LAST_MODIFIED) }
}
