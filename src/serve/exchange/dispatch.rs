//! Where a request goes: the rule and the pool by its head, its client's bond with a server, and the first server that is leased
//! for it.

use super::{Exchange, is_idempotent};
use crate::access_log::{Action, Why};
use crate::config::plan::{HashKey, Name, Priority};
use crate::edge::{ConnectionServers, RequestState};
use crate::fields::FieldList;
use crate::filter::forwarding;
use crate::host;
use crate::metrics::Routed;
use crate::policy;
use crate::pool::source::network_of;
use crate::pool::{Attempt, Bound, Outcome, Pool, Query, Server, Source, Tries, TryResult};
use crate::route::{self, RuleTarget};
use crate::select::consistent_hash::hash;
use crate::select::key;
use crate::serve::session::Session;
use crate::serve::tries;
use crate::snapshot::{Listener, ListenerTarget};
use crate::wire::local_reply::{self, LocalReply};
use crate::wire::request::{RequestBody, RequestView};
use bytes::Bytes;
use http::{Method, header};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) tries: Tries,
    /// The pool that it was sent to, if that is another than serves.
    pub(super) fallback_from: Option<Name>,
    pub(super) attempt: Attempt,
    /// Where clients are bound to servers.
    pub(super) session: Option<Session>,
    /// When the present try's server last had all that the client has sent so far, where that was not at once: what comes
    /// before is not the server's time.
    pub(super) passed_on: Option<Instant>,
    /// Whose request it is, where its servers are judged by that.
    source: Option<Source>,
    /// What has become of the present try so far.
    pub(super) outcome: Outcome,
    /// How long the present try may take after all, where another one is to follow before.
    pub(super) at_most: Option<Instant>,
}

impl Dispatch {
    /// So the present try ends, unless more becomes of it.
    pub(super) fn outcome(&mut self, result: TryResult) {
        self.outcome = self.as_outcome(result);
    }

    fn as_outcome(&self, result: TryResult) -> Outcome {
        let now = Instant::now();
        let waited = match self.passed_on {
            Some(passed_on) => now.saturating_duration_since(passed_on),
            None => self.attempt.elapsed(now),
        };
        Outcome { source: self.source, ..Outcome::of(result).after(waited) }
    }

    /// Gives the lease back, with what has become of the try; of a gRPC call with what it ended with.
    pub(super) fn end_try(&mut self, call_status: Option<u8>) {
        let mut outcome = std::mem::take(&mut self.outcome);
        if let TryResult::Answered { grpc_status, .. } = &mut outcome.result {
            *grpc_status = call_status;
        }
        self.attempt.end(&outcome);
    }
}

/// Where one try goes.
#[derive(Debug)]
pub(in crate::serve) struct LeasedServer {
    pub(in crate::serve) pool: Arc<Pool>,
    pub(in crate::serve) server: Arc<Server>,
}

impl Exchange {
    /// Decides where a request goes, and leases a server for it.
    /// That may take until a server has room; the whole exchange is to be over by `call_due`.
    pub(in crate::serve) async fn admit(
        &mut self,
        request: &RequestView<'_>,
        call_due: Option<Instant>,
    ) -> Result<LeasedServer, Why> {
        let Some(listener) = &self.listener else { return Err(Why::Shutdown) };
        let entropy = fastrand::u64(..);
        let id = u128::from(fastrand::u64(..)) << 64 | u128::from(entropy);
        self.request_id = Some(forwarding::request_id(request.fields, id));
        let (peer, trusted) = (self.state.client.ip, &listener.plan.trusted_proxies);
        let client = forwarding::real_client(peer, trusted, request.fields);
        self.client = client.map(|client| client.to_string());
        self.client_address = client.or(peer);
        if request.length().is_some_and(|length| length > listener.plan.limits.request_body) {
            return Err(Why::BodyTooLarge);
        }
        let leased = match self.lease(request, entropy, call_due).await {
            // Who has waited in vain does not begin again.
            Err(why) if !why.is_of_queue() && self.state.watch.interrupted().is_none() && self.renew() => {
                self.lease(request, entropy, call_due).await
            }
            // It went while this one waited, or just now.
            Err(Why::AllUnhealthy | Why::NoneReady | Why::NoServers) if self.has_fallback() => {
                self.lease(request, entropy, call_due).await
            }
            leased => leased,
        }?;
        leased.pool.budget.deposit(leased.pool.plan.retries.budget);
        Ok(leased)
    }

    fn has_fallback(&self) -> bool {
        self.pool().is_some_and(|pool| pool.plan.fallback.is_some())
    }

    /// Finds the pool for a request, and leases a server of it.
    async fn lease(
        &mut self,
        request: &RequestView<'_>,
        entropy: u64,
        call_due: Option<Instant>,
    ) -> Result<LeasedServer, Why> {
        let found = self.route(request, entropy)?;
        let Dispatch { tries, attempt, session, .. } = &mut **self.dispatch.insert(found);
        let due = self.started + tries.pool().plan.timeouts.request;
        let due = call_due.map_or(due, |call_due| call_due.min(due));
        let server = tries::begin(tries, attempt, &self.state.watch, &mut self.queued, Some(due)).await?;
        if let Some(session) = session {
            session.leased(
                tries.pool(),
                &server,
                self.listener.as_ref().and_then(|listener| own(&self.state, listener)),
            );
        }
        Ok(LeasedServer { pool: Arc::clone(tries.pool()), server })
    }

    /// Finds the pool for a request.
    fn route(&mut self, request: &RequestView<'_>, entropy: u64) -> Result<Box<Dispatch>, Why> {
        // Before any route, for whoever is behind them does not know of our orders; only tokens that are ours.
        if let Some(proof) = self.live.challenges.answer(request.path)
            && matches!(*request.method, Method::GET | Method::HEAD)
        {
            let proof = Bytes::copy_from_slice(proof.as_bytes());
            self.reply = Some(Box::new(local_reply::with_status(200, None, Some(proof))));
            return Err(Why::AcmeChallenge);
        }
        let listener = self.listener.as_ref().ok_or(Why::Shutdown)?;
        let mut priority = Priority::default();
        let pool = match &listener.target {
            ListenerTarget::Pool(pool) => {
                self.routed = Routed::Pool;
                pool
            }
            ListenerTarget::RedirectToHttps => {
                let location = secure_location(request.host.unwrap_or_default(), request.path_and_query)
                    .ok_or(Why::Malformed)?;
                let reply = local_reply::with_status(Why::Redirect.status(), Some(&location), None);
                self.reply = Some(Box::new(reply));
                return Err(Why::Redirect);
            }
            ListenerTarget::Routes(table) => {
                let asked = for_route(request, self.client_address);
                let met = table.meet(&asked, listener.policies.keep_out).ok_or(Why::NoRoute)?;
                self.taken_for = met.taken_for.map(|other| other.place);
                let found = met.found;
                self.routed = Routed::Rule(found.place);
                if request.fields.has(&header::UPGRADE) {
                    self.upgrades = found.rule.upgrades.clone();
                }
                priority = found.rule.priority;
                match &found.rule.target {
                    RuleTarget::Pool(pool) => pool,
                    target => {
                        let (why, reply) = self.answer_of_rule(target, request, listener);
                        self.reply = reply.map(Box::new);
                        self.action = match target {
                            RuleTarget::Redirect(_) => Some(Action::Redirect),
                            RuleTarget::Respond(_) => Some(Action::Respond),
                            RuleTarget::Pool(_) => None,
                        };
                        return Err(why);
                    }
                }
            }
        };
        let (mut session, mut bound) = self.session(pool, request, listener);
        let (pool, fallback_from) = match bound {
            // A pool that takes nobody new may keep whom it has.
            Some(bound) if pool.keeps(&bound) => (Arc::clone(pool), None),
            _ => tries::or_fallback(&self.live, pool),
        };
        if fallback_from.is_some() {
            (session, bound) = self.session(&pool, request, listener);
        }
        let query = Query {
            key: pool.hash_key().map(|key| key::of(key, &parts(request), self.client())),
            entropy,
            may_be_repeated: is_idempotent(request.method) && request.body == RequestBody::Empty,
            ..Query::default()
        };
        let source = self.source(&pool, &query, listener);
        let mut tries = Tries::new(pool, query).waiting_as(priority);
        if let Some(bound) = bound {
            tries = tries.bound_to(bound);
        }
        Ok(Box::new(Dispatch {
            tries,
            fallback_from,
            attempt: Attempt::default(),
            session,
            passed_on: None,
            source,
            outcome: Outcome::default(),
            at_most: None,
        }))
    }

    /// The answer of a rule that leads to no pool.
    fn answer_of_rule(
        &self,
        target: &RuleTarget,
        request: &RequestView<'_>,
        listener: &Listener,
    ) -> (Why, Option<LocalReply>) {
        let variables = self.all_variables(request, listener);
        match target {
            RuleTarget::Redirect(redirect) => match policy::redirect(redirect, request.method, &variables) {
                None => (Why::Malformed, None),
                reply => (Why::Redirect, reply),
            },
            RuleTarget::Respond(respond) => (Why::Respond, Some(policy::respond(respond, &variables))),
            RuleTarget::Pool(_) => (Why::Internal, None),
        }
    }

    /// Whose request it is, if its pool wants to know, and it is not one of somebody whom a proxy does not name.
    fn source(&self, pool: &Pool, query: &Query, listener: &Listener) -> Option<Source> {
        if !pool.judges_by_source() {
            return None;
        }
        let client = match &self.client {
            Some(client) => client.parse().ok(),
            None => self.state.client.ip.filter(|_| own(&self.state, listener).is_some()),
        };
        let key = query.key.filter(|_| pool.hash_key() != Some(&HashKey::ClientIp));
        Some(Source::new(hash(&network_of(client?)), key))
    }

    /// The request's bond with a server of this pool, and which that is, if clients have one there.
    fn session(
        &self,
        pool: &Pool,
        request: &RequestView<'_>,
        listener: &Listener,
    ) -> (Option<Session>, Option<Bound>) {
        let session = pool.plan.sticky.as_ref().map(|_| Session::of(pool, request.fields, self.time));
        let bound = session.as_ref().and_then(|session| session.bound(pool, own(&self.state, listener)));
        (session, bound)
    }
}

/// The servers of a connection that is one client's own, as those of trusted proxies are not.
pub(super) fn own<'a>(state: &'a RequestState, listener: &Listener) -> Option<&'a ConnectionServers> {
    let is_shared = forwarding::is_trusted(state.client.ip, &listener.plan.trusted_proxies);
    (!is_shared).then_some(&state.client.servers)
}

/// What routes look at.
fn for_route<'a>(
    request: &'a RequestView<'a>,
    client: Option<IpAddr>,
) -> route::RouteRequest<'a, FieldList<'a>> {
    route::RouteRequest {
        host: request.host.unwrap_or_default(),
        path: request.path,
        query: request.query,
        method: request.method,
        headers: &request.fields,
        client,
    }
}

/// What may be hashed.
fn parts<'a>(request: &'a RequestView<'a>) -> key::Parts<'a, FieldList<'a>> {
    key::Parts {
        path: request.path,
        path_and_query: request.path_and_query,
        query: request.query,
        fields: &request.fields,
    }
}

/// The same place over TLS, on its usual port. A request without a host is for no place that could be named.
fn secure_location(host: &str, path_and_query: &str) -> Option<String> {
    let host = host::without_port(host);
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]:".contains(&byte);
    // `*` of OPTIONS is no path.
    let path = if path_and_query.starts_with('/') { path_and_query } else { "/" };
    let is_good = !host.is_empty() && host.bytes().all(is_host);
    is_good.then(|| format!("https://{host}{path}"))
}
