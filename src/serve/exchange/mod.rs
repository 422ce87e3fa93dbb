//! One request from its head to its record: which snapshot it sees, where it went, why it ended.

mod cache;
mod dispatch;
mod limits;
mod phases;
mod record;

pub(super) use cache::{RuleCache, moment};
pub(super) use dispatch::LeasedServer;

use super::tries;
use crate::access_log::{Action, CacheRecord, Queued, Why};
use crate::config::plan::compress::Encoding;
use crate::config::plan::{Balance, Name, PathRegex, PoolTimeouts};
use crate::control::Live;
use crate::edge::{RequestState, last_tick};
use crate::fields::{FieldList, tokens};
use crate::filter::forwarding;
use crate::filter::sticky::StickyCookie;
use crate::geo::{Country, Location};
use crate::limit::ClientPrefix;
use crate::metrics::{RequestOutcome, Routed};
use crate::policy::{AppliedPolicy, Policy, Variables};
use crate::pool::{Outcome, Pool, RetryReason, Tries, TryResult, TryVerdict};
use crate::snapshot::{Listener, ListenerTarget};
use crate::wire::local_reply::LocalReply;
use crate::wire::request::RequestView;
use crate::wire::response_head::{ResponseView, WEBSOCKET};
use dispatch::{Dispatch, own};
use http::{Method, header};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

/// What follows a try that had no response's head in time.
#[derive(Debug)]
pub(super) enum AfterTimeout {
    SentAgain(LeasedServer),
    /// It was cut for a server that is not to be had any more.
    GoesOn,
    IsOver,
}

/// A response that is compressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compressed {
    pub(super) encoding: Encoding,
    /// Bytes of its body before.
    pub(super) plain: u64,
    /// It was so already.
    pub(super) is_kept: bool,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(super) live: Arc<Live>,
    /// Of the snapshot it sees: whose listener leads to its routes, pools and servers.
    generation: u64,
    /// The snapshot's own number.
    edition: u64,
    pub(super) state: Arc<RequestState>,
    /// None where a reload has removed it, and for a tunnel, which needs none.
    pub(super) listener: Option<Arc<Listener>>,
    /// In a box, as the rest of it is moved before that is known.
    dispatch: Option<Box<Dispatch>>,
    pub(super) started: Instant,
    time: SystemTime,
    /// The real client's address, where it is not the peer's.
    pub(super) client: Option<String>,
    /// The real client's; `None` is one behind a unix socket.
    pub(super) client_address: Option<IpAddr>,
    /// Where that is, if there is a database that may know.
    pub(super) location: Option<Location>,
    pub(super) request_id: Option<String>,
    pub(super) connect: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    queued: Option<Queued>,
    /// By when the response's head is due; set anew when a client has sent its body.
    pub(super) due: Option<Instant>,
    pub(super) why: Why,
    pub(super) detail: Option<&'static str>,
    /// The server fell silent in the middle of its response.
    pub(super) has_stalled: bool,
    /// For how long it had been so when its client left, of a response whose length is known.
    pub(super) silence: Option<Duration>,
    /// Its client has ended its side in the middle of the response.
    pub(super) may_have_left: bool,
    /// Its client's own deadline has passed.
    pub(super) is_given_up: bool,
    /// It is held before a server is asked for: its body is read, or it waits for what its policy lets it wait for.
    pub(super) is_held: bool,
    /// How long its client lets the call take.
    pub(super) call_within: Option<Duration>,
    /// What a gRPC call has ended with.
    pub(super) grpc_status: Option<u8>,
    /// What the rule lets its connection switch to, if that is asked for and not as usual.
    upgrades: Option<Arc<[String]>>,
    /// How far it has come in its listener.
    routed: Routed,
    /// The rule of the path that servers may take its path for, where that is another and some rules keep clients out.
    taken_for: Option<u32>,
    /// What its policy did with it.
    pub(super) action: Option<Action>,
    /// How long it is held before it goes on.
    pub(super) delay: Option<Duration>,
    /// Its policy has made a fault of it.
    has_fault: bool,
    /// Its response was held back.
    pub(super) is_paced: bool,
    /// Fields that its policy has and whose values no field may have.
    pub(super) dropped_fields: u32,
    /// How the response is compressed, and how much of it was.
    pub(super) compressed: Option<Compressed>,
    /// What the client is answered instead of what servers would.
    pub(super) reply: Option<Box<LocalReply>>,
    /// The status of an answer of our own for this reason, which has another.
    answer_status: Option<(Why, u16)>,
    /// It is answered as if its path met no rule.
    looks_absent: bool,
    /// What limits have made of it.
    pub(super) limits: Option<Box<limits::LimitState>>,
    /// How much of an address stands for a client.
    client_prefix: ClientPrefix,
    /// What the cache has done for it.
    pub(super) cached: Option<CacheRecord>,
    recorded: bool,
    /// Its head is longer than its listener lets others be: it may purge, and no server gets it.
    pub(super) has_long_head: bool,
}

impl Exchange {
    /// The exchange of a request that has come in with this state.
    // Made where it is to be, for it is long to move.
    #[inline]
    pub(super) fn begin(live: &Arc<Live>, state: &Arc<RequestState>) -> Self {
        state.taken.store(true, Relaxed);
        let mut exchange = Self {
            generation: 0,
            edition: 0,
            live: Arc::clone(live),
            state: Arc::clone(state),
            listener: None,
            dispatch: None,
            started: Instant::now(),
            time: SystemTime::now(),
            client: None,
            client_address: None,
            location: None,
            request_id: None,
            connect: None,
            first_byte: None,
            queued: None,
            due: None,
            why: Why::Ok,
            detail: None,
            has_stalled: false,
            silence: None,
            may_have_left: false,
            is_given_up: false,
            is_held: false,
            call_within: None,
            grpc_status: None,
            upgrades: None,
            routed: Routed::Nowhere,
            taken_for: None,
            action: None,
            delay: None,
            has_fault: false,
            is_paced: false,
            dropped_fields: 0,
            compressed: None,
            reply: None,
            answer_status: None,
            looks_absent: false,
            limits: None,
            client_prefix: ClientPrefix::default(),
            cached: None,
            recorded: false,
            has_long_head: state.has_long_head.load(Relaxed),
        };
        exchange.find_listener();
        exchange
    }

    /// The first reason stands: later ones are its consequences.
    pub(super) fn fail(&mut self, why: Why) {
        if self.why == Why::Ok {
            self.why = why;
        }
        let is_under_way = |dispatch: &&mut Box<Dispatch>| dispatch.attempt.is_under_way();
        if let Some(dispatch) = self.dispatch.as_mut().filter(is_under_way) {
            let is_answered = dispatch.outcome.result.verdict() == TryVerdict::Served;
            if !is_answered || why.result().verdict() == TryVerdict::Failed {
                dispatch.outcome(why.result());
            }
        }
    }

    pub(super) fn client(&self) -> &str {
        self.client.as_deref().unwrap_or(&self.state.client.text)
    }

    /// What a response says in Strict-Transport-Security, over TLS only (RFC 6797 section 7.2).
    pub(super) fn hsts(&self) -> Option<&str> {
        self.state.client.tls?;
        self.listener.as_ref()?.plan.tls.as_ref()?.hsts.as_deref()
    }

    pub(super) fn pool(&self) -> Option<&Arc<Pool>> {
        self.dispatch.as_ref().map(|dispatch| dispatch.tries.pool())
    }

    /// What holds for it beside where it goes.
    pub(super) fn policy(&self) -> Option<&Policy> {
        self.policy_of(self.routed)
    }

    fn policy_of(&self, routed: Routed) -> Option<&Policy> {
        let place = match routed {
            Routed::Rule(place) => Some(place),
            Routed::Nowhere | Routed::Pool => None,
        };
        self.listener.as_ref()?.policy(place)
    }

    /// How far it has come, as its answer has it.
    fn routed_as_told(&self) -> Routed {
        if self.looks_absent { Routed::Nowhere } else { self.routed }
    }

    /// The policy of its rule, and of the one that a server may take its path for: both must let it pass.
    fn policies_met(&self) -> impl Iterator<Item = (Routed, &Policy)> {
        let other = self
            .taken_for
            .and_then(|place| Some((Routed::Rule(place), self.listener.as_ref()?.policy(Some(place))?)));
        self.policy().map(|policy| (self.routed, policy)).into_iter().chain(other)
    }

    /// What a policy's texts may have in them, where there is a policy.
    pub(super) fn variables<'a>(&'a self, request: &RequestView<'a>) -> Variables<'a> {
        match (&self.listener, self.policy()) {
            (Some(listener), Some(_)) => self.all_variables(request, listener),
            _ => Variables::default(),
        }
    }

    /// What holds for it, where a policy does, with what the policy's texts may have in them.
    pub(super) fn applied_policy<'a>(&'a self, request: &RequestView<'a>) -> Option<AppliedPolicy<'a>> {
        let policy = self.policy_of(self.routed_as_told())?;
        Some(AppliedPolicy { policy, variables: self.all_variables(request, self.listener.as_ref()?) })
    }

    fn all_variables<'a>(&'a self, request: &RequestView<'a>, listener: &'a Listener) -> Variables<'a> {
        let trusted = &listener.plan.trusted_proxies;
        let server = self.dispatch.as_ref().and_then(|dispatch| dispatch.attempt.server());
        Variables {
            request: Some(*request),
            client: self.client(),
            is_secure: forwarding::is_secure(&super::peer(&self.state.client), trusted, request.fields),
            route: route_name(Some(listener), self.routed_as_told()).map_or("", |name| name),
            pool: self.pool().map_or("", |pool| &pool.name),
            server: server.map_or("", |server| server.name()),
            request_id: self.request_id.as_deref().unwrap_or_default(),
            country: self.country(),
            path_regex: self.path_regex(listener),
        }
    }

    fn country(&self) -> &str {
        let country = self.location.as_ref().and_then(|location| location.country.as_ref());
        country.map_or("", Country::as_str)
    }

    /// What the rule that it met looks for in paths.
    fn path_regex<'a>(&self, listener: &'a Listener) -> Option<&'a PathRegex> {
        match (self.routed_as_told(), &listener.target) {
            (Routed::Rule(place), ListenerTarget::Routes(table)) => {
                table.rules.get(place as usize)?.matcher.path_regex.as_ref()
            }
            _ => None,
        }
    }

    /// Ends the lease: the server has nothing more to do for this request.
    pub(super) fn give_back(&mut self) {
        if let Some(dispatch) = &mut self.dispatch {
            dispatch.end_try(self.grpc_status);
        }
        self.state.watch.lease_ended();
    }

    /// The protocols that a request asks to switch to and may, as Upgrade has them.
    pub(super) fn upgrade(&self, request: &RequestView<'_>) -> Option<String> {
        if !request.asks_for_upgrade() {
            return None;
        }
        let mut named = String::new();
        for asked in tokens(request.fields.all(&header::UPGRADE)) {
            let same = |allowed: &&str| allowed.as_bytes().eq_ignore_ascii_case(asked);
            let allowed = match &self.upgrades {
                None => Some(WEBSOCKET).filter(same),
                Some(upgrades) => upgrades.iter().map(String::as_str).find(same),
            };
            if let Some(allowed) = allowed {
                named.push_str(if named.is_empty() { "" } else { ", " });
                named.push_str(allowed);
            }
        }
        (!named.is_empty()).then_some(named)
    }

    /// Takes the snapshot in force, if that is another by now: a reload may have replaced all servers between
    /// this request's head and its pick.
    fn renew(&mut self) -> bool {
        let before = self.edition;
        self.find_listener();
        self.edition != before
    }

    /// Takes the snapshot in force, by way of the listener the request came in by; one that a reload has just
    /// removed still counts.
    fn find_listener(&mut self) {
        let id = self.state.client.listener;
        let snapshot = self.live.glance();
        (self.generation, self.edition) = (snapshot.generation, snapshot.edition);
        self.client_prefix = snapshot.plan.process.client_prefix;
        self.listener = snapshot.listener(id).or_else(|| snapshot.parting_listener(id)).cloned();
    }

    /// What the client is told of its server with this response.
    pub(super) fn sticky_cookie(
        &mut self,
        request: &RequestView<'_>,
        response: &ResponseView<'_>,
    ) -> Option<StickyCookie> {
        let Dispatch { tries, attempt, session, .. } = self.dispatch.as_deref_mut()?;
        let session = session.as_mut()?;
        let trusted = &self.listener.as_ref()?.plan.trusted_proxies;
        let is_secure = forwarding::is_secure(&super::peer(&self.state.client), trusted, request.fields);
        session.cookie(tries.pool(), attempt.place()?, (response, request), is_secure)
    }

    /// The time by the clock on the wall when the response's head came, or now where none has.
    pub(super) fn response_time(&self) -> SystemTime {
        let came = self.first_byte.and_then(|after| self.time.checked_add(after));
        came.unwrap_or_else(SystemTime::now)
    }

    /// A connection to the server was opened for this request.
    pub(super) fn connected(&mut self) {
        let now = Instant::now();
        self.connect = self.dispatch.as_ref().map(|dispatch| dispatch.attempt.elapsed(now));
    }

    /// What a response's fields say of its success, where the pool has a word for it.
    pub(super) fn declared(&mut self, fields: FieldList<'_>) {
        let Some(dispatch) = &mut self.dispatch else { return };
        if let Balance::SuccessRate(plan) = &dispatch.tries.pool().plan.balance
            && let Some(header) = &plan.outcome
        {
            dispatch.outcome.declared = fields.first(&header.name).and_then(|value| header.says(value));
        }
    }

    /// The head of a response with this status has come, with the server's word on how many seconds it keeps a connection.
    pub(super) fn answered(&mut self, status: u16, keepalive_hint: Option<u32>) {
        let now = Instant::now();
        self.first_byte.get_or_insert_with(|| now.saturating_duration_since(self.started));
        let Some(dispatch) = &mut self.dispatch else { return };
        dispatch.outcome_at(now, TryResult::answered(status));
        dispatch.attempt.answered(now);
        if let Some(server) = dispatch.attempt.server() {
            server.answers.fetch_add(1, Relaxed);
            if let Some(hint) = keepalive_hint {
                server.keepalive_hint.store(hint.max(1), Relaxed);
            }
        }
        self.state.answered.store(true, Relaxed);
        self.state.watch.no_deadline();
        self.state.watch.quiet(dispatch.tries.pool().plan.timeouts.stream_idle, Why::StreamIdle);
    }

    /// Its client has ended its side after nothing had come of its response for so long, but may still take the rest.
    pub(super) fn seems_left(&mut self, silence: Duration) {
        self.may_have_left = true;
        let is_earlier = self.live.metrics.is_earlier(self.generation, Why::ClientAborted);
        let server = self.dispatch.as_ref().and_then(|dispatch| dispatch.attempt.server());
        if let Some(server) = server.filter(|_| silence >= RequestOutcome::WAITING && !is_earlier) {
            server.left_in_vain.fetch_add(1, Relaxed);
        }
    }

    /// Has the server judged by its response's head: its body may take hours. What a gRPC call has come to is known at its end.
    pub(super) fn judge(&mut self) {
        if let Some(Dispatch { attempt, outcome, .. }) = self.dispatch.as_deref_mut() {
            attempt.judge(outcome);
        }
    }

    /// Of the request: which side is to move next.
    pub(super) fn upload_waits(&mut self, for_server: bool) {
        self.turn(!for_server);
        self.watch_upload(for_server);
    }

    /// The same, whatever time there is for that.
    pub(super) fn turn(&mut self, is_clients: bool) {
        if let Some(dispatch) = &mut self.dispatch {
            dispatch.turn(is_clients);
        }
    }

    /// How long the side that is to move next may take.
    pub(super) fn watch_upload(&self, for_server: bool) {
        let (Some(listener), Some(pool)) = (&self.listener, self.pool()) else { return };
        let watch = &self.state.watch;
        match for_server {
            true => watch.quiet(pool.plan.timeouts.stream_idle, Why::StreamIdle),
            false => watch.quiet(listener.plan.timeouts.request_body, Why::RequestBodyTimeout),
        }
    }

    /// The server has all that the client has sent so far of its request, some of it since this was last said; more is to come.
    pub(super) fn passed_on(&mut self, has_moved: bool) {
        if let Some(dispatch) = &mut self.dispatch {
            dispatch.turn(true);
            if has_moved {
                dispatch.passed_on = Some(Instant::now());
            }
        }
    }

    /// The request is with the server now: the response's head is due within the pool's limits, and by `call_due` if nothing
    /// else was said before.
    pub(super) fn expect_head(&mut self, call_due: Option<Instant>, may_be_repeated: bool) {
        self.turn(false);
        let Some(Dispatch { tries, attempt, at_most, passed_on, .. }) = self.dispatch.as_deref_mut() else {
            return;
        };
        *passed_on = passed_on.map(|_| Instant::now());
        let PoolTimeouts { request, response_header, .. } = tries.pool().plan.timeouts;
        let per_try = may_be_repeated.then(|| tries.patience(attempt)).flatten();
        let per_try = per_try.filter(|per_try| *per_try < response_header);
        let now = last_tick();
        attempt.expects_answer(now);
        *at_most = per_try.map(|_| now + response_header);
        let due = *self.due.get_or_insert_with(|| {
            let due = Instant::now() + request;
            call_due.map_or(due, |call_due| call_due.min(due))
        });
        let (at, why) = earlier(Some(due), now + per_try.unwrap_or(response_header));
        self.state.watch.may_be_quiet();
        self.state.watch.deadline_at(at, why);
    }

    /// The next try begins: how long the last server might take is not its limit.
    pub(super) fn begin_again(&self) {
        if let Some(due) = self.due {
            self.state.watch.deadline_at(due, Why::RequestTimeout);
        }
    }

    /// Leases a server for one try more, if the pool's settings allow that and there is one: without (`None`), what this try
    /// brought is the answer.
    async fn again(&mut self, reason: RetryReason, result: TryResult) -> Result<Option<LeasedServer>, Why> {
        let Some(dispatch) = self.dispatch.as_deref_mut() else { return Ok(None) };
        dispatch.outcome(result);
        dispatch.coming = None;
        let Dispatch { tries, attempt, outcome, session, passed_on, waits_for_client, .. } = dispatch;
        let watch = &self.state.watch;
        let Some(server) = tries::again(tries, attempt, watch, &mut self.queued, reason, outcome).await?
        else {
            return Ok(None);
        };
        *outcome = Outcome::default();
        (*passed_on, *waits_for_client) = (None, false);
        if let Some(session) = session {
            session.leased(
                tries.pool(),
                &server,
                self.listener.as_ref().and_then(|listener| own(&self.state, listener)),
            );
        }
        Ok(Some(LeasedServer { pool: Arc::clone(tries.pool()), server }))
    }

    /// After a connection could not be opened: the server that is tried next. Nothing was sent, so any method may be, and it
    /// may wait for a server with room; an error is why it did so in vain.
    pub(super) async fn connect_failed(&mut self, why: Why) -> Result<Option<LeasedServer>, Why> {
        let next = self.again(RetryReason::Connect, why.result()).await?;
        if let Some(next) = &next
            && self.live.metrics.is_earlier(self.generation, why)
        {
            next.pool.stats.count_earlier_connect_retry();
        }
        Ok(next)
    }

    /// After a reset before any response to a request that may be repeated: where it is sent again. A connection that was used
    /// before may have been closed while it was idle, unless the server has had the request for long.
    pub(super) async fn send_again(&mut self, is_reused: bool, is_untouched: bool) -> Option<LeasedServer> {
        let dispatch = self.dispatch.as_ref()?;
        let is_soon = dispatch.attempt.elapsed(Instant::now()) < Tries::STALE_WITHIN;
        let reason = dispatch.tries.reason_after_reset(is_untouched || is_reused && is_soon);
        let result = match reason {
            RetryReason::Stale => TryResult::NotServersFault,
            _ => TryResult::Reset,
        };
        // What a server has seen does not wait.
        self.again(reason, result).await.ok().flatten()
    }

    /// After a request that may be repeated had no response's head in time. The watch, which that has interrupted, goes on
    /// unless this is the end.
    pub(super) async fn timed_out(&mut self, why: Why) -> AfterTimeout {
        if !self.state.watch.resume_after(why) {
            return AfterTimeout::IsOver;
        }
        if let Ok(Some(next)) = self.again(RetryReason::Timeout, TryResult::TimedOut).await {
            return AfterTimeout::SentAgain(next);
        }
        let Some(dispatch) = self.dispatch.as_deref_mut() else { return AfterTimeout::IsOver };
        match dispatch.at_most.take() {
            Some(at_most) if self.state.watch.interrupted().is_none() => {
                dispatch.outcome = Outcome::default();
                let (at, why) = earlier(self.due, at_most);
                self.state.watch.deadline_at(at, why);
                AfterTimeout::GoesOn
            }
            _ => {
                self.state.watch.interrupt(why);
                AfterTimeout::IsOver
            }
        }
    }

    /// Whether a connection that was used before will not do.
    pub(super) fn wants_new_connection(&self) -> bool {
        self.dispatch.as_ref().is_some_and(|dispatch| dispatch.tries.was_stale())
    }

    /// After a response with this status to a request that may be repeated: where it is sent again.
    pub(super) async fn status_is_retried(&mut self, status: u16) -> Option<LeasedServer> {
        self.again(RetryReason::of_status(status)?, TryResult::answered(status)).await.ok().flatten()
    }
}

/// The name of the rule that was met, if one was.
fn route_name(listener: Option<&Listener>, routed: Routed) -> Option<&Name> {
    match (routed, &listener?.target) {
        (Routed::Rule(place), ListenerTarget::Routes(table)) => {
            table.rules.get(place as usize).map(|rule| &rule.name)
        }
        _ => None,
    }
}

/// When the response's head is due at last, and what it is called when it comes later.
fn earlier(due: Option<Instant>, at_most: Instant) -> (Instant, Why) {
    match due {
        Some(due) if due < at_most => (due, Why::RequestTimeout),
        _ => (at_most, Why::ResponseHeaderTimeout),
    }
}

/// RFC 9110 section 9.2.2, less what nobody retries by itself: a second try does no harm.
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}
