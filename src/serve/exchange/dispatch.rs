//! Where a request goes once its rule is found: the pool, its client's bond with a server, and the first server that is leased
//! for it.

use super::{Exchange, is_idempotent};
use crate::access_log::Why;
use crate::config::plan::{HashKey, Name, ServerProtocol};
use crate::edge::{ConnectionServers, RequestState};
use crate::fields::FieldList;
use crate::filter::forwarding;
use crate::pool::source::network_of;
use crate::pool::{
    Attempt, Bound, ComingUpload, JudgedBy, Outcome, Pool, Query, Server, Source, Tries, TryResult,
};
use crate::select::consistent_hash::hash;
use crate::select::key;
use crate::serve::session::Session;
use crate::serve::tries;
use crate::snapshot::Listener;
use crate::wire::request::{self, NoHttp2Form, RequestBody, RequestView};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// More of the request is to come, and the server has read all there is.
    pub(super) waits_for_client: bool,
    /// The same, where its server counts it.
    pub(super) coming: Option<ComingUpload>,
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
        self.outcome_at(Instant::now(), result);
    }

    /// The same of what has become of it just now.
    pub(super) fn outcome_at(&mut self, now: Instant, result: TryResult) {
        let waited = match self.passed_on {
            Some(passed_on) => now.saturating_duration_since(passed_on),
            None => self.attempt.elapsed(now),
        };
        self.outcome = Outcome { source: self.source, ..Outcome::of(result).after(waited) };
    }

    /// For how long of this time, in which its client was not answered, it was the servers' turn; `None` if it is the client's.
    pub(super) fn waited(&self, lasted: Duration) -> Option<Duration> {
        (!self.waits_for_client).then(|| self.passed_on.map_or(lasted, |passed_on| passed_on.elapsed()))
    }

    /// Whether it is its client's turn now, or its server's.
    pub(super) fn turn(&mut self, is_clients: bool) {
        if std::mem::replace(&mut self.waits_for_client, is_clients) != is_clients {
            let server = self.attempt.server().filter(|_| is_clients && self.attempt.is_under_way());
            self.coming = server.map(|server| ComingUpload::among(server.uploads()));
        }
    }

    /// Gives the lease back, with what has become of the try; of a gRPC call with what it ended with.
    pub(super) fn end_try(&mut self, call_status: Option<u8>) {
        self.coming = None;
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
    /// Leases a server of the pool that a request goes to, with the target that the cache has made of its own.
    /// That may take until a server has room; the whole exchange is to be over by `call_due`.
    pub(in crate::serve) async fn admit(
        &mut self,
        request: &RequestView<'_>,
        cached_target: Option<&str>,
        call_due: Option<Instant>,
    ) -> Result<LeasedServer, Why> {
        self.hold_back().await?;
        let entropy = fastrand::u64(..);
        let leased = match self.lease((request, cached_target), entropy, call_due).await {
            // Who has waited in vain does not begin again.
            Err(why) if !why.is_of_queue() && self.state.watch.interrupted().is_none() && self.renew() => {
                self.find_rule(request)?;
                self.answer_unless_served(request)?;
                self.lease((request, cached_target), entropy, call_due).await
            }
            // It went while this one waited, or just now.
            Err(Why::AllUnhealthy | Why::NoneReady | Why::NoServers) if self.has_fallback() => {
                self.lease((request, cached_target), entropy, call_due).await
            }
            leased => leased,
        }?;
        leased.pool.budget.deposit(leased.pool.plan.retries.budget);
        Ok(leased)
    }

    fn has_fallback(&self) -> bool {
        self.pool().is_some_and(|pool| pool.plan.fallback.is_some())
    }

    /// Leases a server of the pool that its rule leads to.
    async fn lease(
        &mut self,
        (request, cached_target): (&RequestView<'_>, Option<&str>),
        entropy: u64,
        call_due: Option<Instant>,
    ) -> Result<LeasedServer, Why> {
        let found = self.to_dispatch(request, entropy)?;
        if found.tries.pool().plan.protocol == ServerProtocol::H2
            && let Some(missing) = self.misses_http2_form(request, cached_target)
        {
            return Err(self.has_no_form(missing));
        }
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

    /// Why a request's head has no form in HTTP/2 as servers get it.
    fn misses_http2_form(
        &self,
        request: &RequestView<'_>,
        cached_target: Option<&str>,
    ) -> Option<NoHttp2Form> {
        let rewritten = self.rewritten(request);
        let sent = rewritten.applied(request);
        let path_and_query = cached_target.unwrap_or(sent.path_and_query);
        request::misses_http2_form(&RequestView { path_and_query, ..sent })
    }

    /// Its head has no form in what its servers speak: that is its client's to mend, and the matter of no pool.
    pub(in crate::serve) fn has_no_form(&mut self, missing: NoHttp2Form) -> Why {
        if let Some(dispatch) = &mut self.dispatch {
            dispatch.outcome(TryResult::NotServersFault);
        }
        self.give_back();
        self.dispatch = None;
        self.detail = Some(missing.detail());
        match missing {
            NoHttp2Form::Target | NoHttp2Form::Host => Why::Malformed,
            NoHttp2Form::LongTarget => Why::UriTooLong,
        }
    }

    /// Leases another server after one that speaks HTTP/2 alone, where there is another: that has no upgrades, and was not asked for
    /// anything.
    pub(in crate::serve) async fn lease_for_upgrade(&mut self) -> Result<LeasedServer, Why> {
        let Dispatch { tries, attempt, session, outcome, .. } =
            self.dispatch.as_deref_mut().ok_or(Why::Internal)?;
        let alone = of_http2_alone(tries.pool());
        tries.take_back(attempt, &alone);
        *outcome = Outcome::default();
        self.state.watch.lease_ended();
        let server = tries::begin(tries, attempt, &self.state.watch, &mut self.queued, self.due).await?;
        if let Some(session) = session {
            session.leased(
                tries.pool(),
                &server,
                self.listener.as_ref().and_then(|listener| own(&self.state, listener)),
            );
        }
        let pool = Arc::clone(tries.pool());
        self.begin_again();
        Ok(LeasedServer { pool, server })
    }

    /// What is to be leased for it.
    fn to_dispatch(&self, request: &RequestView<'_>, entropy: u64) -> Result<Box<Dispatch>, Why> {
        let listener = self.listener.as_ref().ok_or(Why::Shutdown)?;
        let (pool, priority) = self.routed_pool()?;
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
        if tries.pool().plan.protocol == ServerProtocol::Auto && self.upgrade(request).is_some() {
            let alone = of_http2_alone(tries.pool());
            tries = tries.avoiding(&alone);
        }
        // Made there, for it is long to move.
        Ok(Box::write(
            Box::new_uninit(),
            Dispatch {
                tries,
                fallback_from,
                attempt: Attempt::default(),
                session,
                passed_on: None,
                waits_for_client: false,
                coming: None,
                source,
                outcome: Outcome::default(),
                at_most: None,
            },
        ))
    }

    /// Whose request it is, if its pool wants to know, and it is not one of somebody whom a proxy does not name.
    fn source(&self, pool: &Pool, query: &Query, listener: &Listener) -> Option<Source> {
        let judged_by = pool.judged_by()?;
        let client = match &self.client {
            Some(client) => client.parse().ok(),
            None => self.state.client.ip.filter(|_| own(&self.state, listener).is_some()),
        };
        let key = query.key.filter(|_| pool.hash_key() != Some(&HashKey::ClientIp));
        let source = Source::new(hash(&network_of(client?)), key);
        Some(match judged_by {
            JudgedBy::Client => source,
            JudgedBy::ClientElsewhere => source.served_anywhere(),
        })
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

/// The ids of a pool's servers that have no upgrades.
fn of_http2_alone(pool: &Pool) -> Vec<u32> {
    let now = Instant::now();
    let servers = pool.members.iter().map(|member| &member.server);
    servers.filter(|server| server.speaks_http2_alone(now)).map(|server| server.id()).collect()
}

/// The servers of a connection that is one client's own, as those of trusted proxies are not.
pub(super) fn own<'a>(state: &'a RequestState, listener: &Listener) -> Option<&'a ConnectionServers> {
    let is_shared = forwarding::is_trusted(state.client.ip, &listener.plan.trusted_proxies);
    (!is_shared).then_some(&state.client.servers)
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
