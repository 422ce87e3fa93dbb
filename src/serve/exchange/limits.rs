//! Who may ask, how often and how much at once: what is looked at before a rule's other phases, and what is counted once the
//! status is known.

use super::Exchange;
use crate::access_log::Why;
use crate::config::plan::Name;
use crate::config::plan::limits::{AccessAnswer, LimitCount, LimitOver};
use crate::limit::{
    Ban, ConcurrencyPermit, Debtor, KeyHasher, Limiter, RateVerdict, TarpitPermit, seconds_up,
};
use crate::metrics::{LimitAction, Routed};
use crate::policy::{self, BanRule, LimitSubject, Limits, Pace, RateLimit, RateLimitFields};
use crate::wire::request::RequestView;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// What limits have made of a request.
#[derive(Debug, Default)]
pub(in crate::serve) struct LimitState {
    /// By the numbers of what they are of.
    permits: SmallVec<[(u64, ConcurrencyPermit); 2]>,
    /// Rates that cost by the status, by their numbers, and the keys that pay.
    counted: Vec<(u64, u64)>,
    /// The one that has refused it, held it back or would have.
    limit: Option<Name>,
    fields: Option<Box<RateLimitFields>>,
    /// How long it is held back before it is passed on.
    wait: Duration,
    retry_after: Option<u64>,
    /// The connection ends instead of an answer.
    pub(in crate::serve) closes: bool,
    /// It is held back for so long before it is refused.
    pub(in crate::serve) tarpit: Option<(Duration, TarpitPermit)>,
}

impl LimitState {
    /// The limit that has refused the request, held it back or would have.
    pub(super) fn name(&self) -> Option<&str> {
        self.limit.as_deref()
    }
}

impl Exchange {
    /// Refuses those who are banned or may not ask at all.
    pub(super) fn keep_out(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        if self.live.limiter.get().is_none() {
            return Ok(());
        }
        let now = Instant::now();
        let refused = self.limits_met().find_map(|limits| {
            let answer = limits.access.as_ref().map_or_else(AccessAnswer::default, |access| access.answer);
            let denied = || {
                policy::denied(
                    limits.access.as_ref()?,
                    self.client_address,
                    self.location.unwrap_or_default(),
                )
            };
            match self.ban_left(limits, now) {
                Some(left) => Some((Why::Banned, answer, Some(left), "banned")),
                None => denied().map(|reason| (Why::Denied, answer, None, reason.label())),
            }
        });
        let refused = refused.or_else(|| {
            let left = self.banned_everywhere(now)?;
            Some((Why::Banned, AccessAnswer::default(), Some(left), "banned"))
        });
        let Some((why, answer, left, reason)) = refused else { return Ok(()) };
        self.live.metrics.limits.denied(&self.state.client.listener_state.name, reason);
        let refused = self.refuse(why, answer, left);
        if self.looks_absent && why == Why::Denied {
            // As others do that meet no rule, it counts, or how often it is answered would tell.
            self.limit(request)?;
        }
        refused
    }

    fn refuse(&mut self, why: Why, answer: AccessAnswer, left: Option<Duration>) -> Result<(), Why> {
        let state = self.limits.get_or_insert_default();
        state.retry_after = left.map(seconds_up);
        match answer {
            AccessAnswer::Close => state.closes = true,
            AccessAnswer::Tarpit(within) => {
                let most = self.live.snapshot().plan.process.max_tarpits;
                state.tarpit = self.live.limiter().tarpit(most).map(|permit| (within, permit));
                if state.tarpit.is_some() {
                    return Err(Why::Tarpit);
                }
            }
            AccessAnswer::Status(status) => {
                self.answer_status = Some((why, status));
                self.looks_absent = status == Why::NoRoute.status();
            }
        }
        Err(why)
    }

    /// The limits of the rule that it meets, and of the one that a server may take its path for.
    fn limits_met(&self) -> impl Iterator<Item = &Limits> {
        self.limits_by_rule().map(|(_, limits)| limits)
    }

    /// The same with what each rule is.
    fn limits_by_rule(&self) -> impl Iterator<Item = (Routed, &Limits)> {
        self.policies_met().filter_map(|(rule, policy)| Some((rule, policy.limits.as_ref()?)))
    }

    /// Those that count it.
    fn counting_limits(&self) -> impl Iterator<Item = (Routed, &Limits)> {
        let routed = self.routed_as_told();
        let hidden = self.looks_absent.then(|| Some((routed, self.policy_of(routed)?.limits.as_ref()?)));
        let met = (!self.looks_absent).then(|| self.limits_by_rule());
        hidden.flatten().into_iter().chain(met.into_iter().flatten())
    }

    fn ban_left(&self, limits: &Limits, now: Instant) -> Option<Duration> {
        let ban = limits.ban.as_ref()?;
        let client = self.client_address?;
        let limiter = self.live.limiter();
        limiter.bans.left(&limiter.rates, || self.ban_key(limiter, ban.id.number, client), now)
    }

    /// By an operator.
    fn banned_everywhere(&self, now: Instant) -> Option<Duration> {
        let client = self.client_address?;
        let limiter = self.live.limiter();
        limiter.bans.left(&limiter.rates, || self.ban_key(limiter, Ban::EVERYWHERE, client), now)
    }

    fn ban_key(&self, limiter: &Limiter, scope: u64, client: IpAddr) -> u64 {
        Ban::key(&limiter.secret, scope, client, self.client_prefix)
    }

    /// Counts a request against its rates and among those that its client has at once.
    pub(super) fn limit(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        if self.counting_limits().all(|(_, limits)| limits.rates.is_empty() && limits.concurrency.is_none()) {
            return Ok(());
        }
        self.warn_of_sole_client();
        let mut state = self.judge_by_limits(request);
        let refused = std::mem::take(&mut state.is_refused);
        if let Some(known) = &self.limits {
            // A later turn, after a reload: what it has paid it has paid.
            state.state.wait = state.state.wait.max(known.wait);
        }
        self.limits = Some(Box::new(state.state));
        if refused { Err(Why::RateLimited) } else { Ok(()) }
    }

    /// Where clients are counted one by one and all have one address, they stand behind a proxy that should be named.
    fn warn_of_sole_client(&self) {
        let Some((listener, client)) = self.listener.as_ref().zip(self.client_address) else { return };
        let trusts_nobody = listener.plan.trusted_proxies.is_empty() && listener.plan.proxies.is_empty();
        if trusts_nobody && self.state.client.listener_state.sole_client.note(client) {
            warn!(
                listener = %listener.plan.name, %client,
                "all requests that limits count come from one address: behind a proxy, name it in trusted_proxies"
            );
        }
    }

    fn judge_by_limits(&self, request: &RequestView<'_>) -> Judged {
        let (limiter, now) = (self.live.limiter(), Instant::now());
        let route_of = |rule| super::route_name(self.listener.as_deref(), rule).map_or("", |name| &**name);
        let route = route_of(self.routed);
        let subject = |rule| LimitSubject {
            client: self.client_address,
            prefix: self.client_prefix,
            route: route_of(rule),
            request,
        };
        let mut judged = Judged::default();
        for (rule, limits) in self.counting_limits() {
            let Some(limit) = &limits.concurrency else { continue };
            // Both rules may have it from one policy.
            if judged.state.permits.iter().any(|(number, _)| *number == limit.id.number) {
                continue;
            }
            let key = subject(rule).key(&limiter.secret, &limit.id, &limit.plan.per);
            if let Some(permit) = limiter.concurrency.enter(key, limit.plan.requests) {
                judged.state.permits.push((limit.id.number, permit));
            } else {
                self.count_limited(route, &limit.id.name, LimitAction::Reject);
                judged.state.limit = Some(limit.id.name.clone());
                judged.state.retry_after = Some(1);
                judged.is_refused = true;
                return judged;
            }
        }
        let is_excepted =
            |limit: &&RateLimit| self.client_address.is_some_and(|client| limit.plan.except.contains(client));
        let mut counting: SmallVec<[(&RateLimit, u64); 4]> = SmallVec::new();
        for (rule, limits) in self.counting_limits() {
            for limit in limits.rates.iter().filter(|limit| !is_excepted(limit)) {
                let key = subject(rule).key(&limiter.secret, &limit.id, &limit.plan.per);
                // Both rules may have it from one policy, and count it apart only if it is by rule.
                if counting.iter().all(|(known, of)| known.id.number != limit.id.number || *of != key) {
                    counting.push((limit, key));
                }
            }
        }
        // Who is refused by one pays none.
        let looks_first = counting.len() > 1;
        let refused = counting.iter().find_map(|(limit, key)| {
            let is_look = looks_first || limit.plan.count != LimitCount::All;
            let may_wait = matches!(limit.plan.over, LimitOver::Delay(_));
            let verdict = is_look.then(|| limiter.rates.look(*key, limit.plan.rate, now))?;
            (matches!(verdict, RateVerdict::Over { .. }) && !may_wait && !limit.is_dry())
                .then_some((*limit, *key, verdict))
        });
        if let Some((limit, key, verdict)) = refused {
            self.note(&mut judged, (limit, key), verdict, route);
            return judged;
        }
        for (limit, key) in counting {
            let rate = limit.plan.rate;
            let verdict = match (&limit.plan.count, limit.plan.over) {
                (LimitCount::Statuses(_), _) => {
                    judged.state.counted.push((limit.id.number, key));
                    limiter.rates.look(key, rate, now)
                }
                (LimitCount::All, LimitOver::Delay(longest)) => {
                    limiter.rates.take_delayed(key, rate, longest, now)
                }
                (LimitCount::All, _) => limiter.rates.take(key, rate, now),
            };
            self.note(&mut judged, (limit, key), verdict, route);
            if judged.is_refused {
                break;
            }
        }
        judged
    }

    /// What a limit's verdict makes of a request.
    fn note(&self, judged: &mut Judged, (limit, key): (&RateLimit, u64), verdict: RateVerdict, route: &str) {
        let state = &mut judged.state;
        if limit.plan.fields {
            state.fields.get_or_insert_default().add(limit, &verdict);
        }
        let action = match verdict {
            RateVerdict::Passes { wait, .. } if wait.is_zero() => return,
            RateVerdict::Passes { wait, .. } => {
                state.wait = state.wait.max(wait);
                LimitAction::Delay
            }
            RateVerdict::Over { .. } if limit.is_dry() => LimitAction::Log,
            RateVerdict::Over { retry_after } => {
                state.retry_after = Some(seconds_up(retry_after));
                judged.is_refused = true;
                LimitAction::Reject
            }
        };
        state.limit = Some(limit.id.name.clone());
        let debtor = || Debtor {
            limit: limit.id.name.to_string(),
            client: self
                .client_address
                .map(|client| self.live.snapshot().plan.process.client_prefix.of(client)),
            counted_by: policy::counted_by(&limit.plan.per),
        };
        self.live.limiter().debtors.note(key, debtor);
        self.count_limited(route, &limit.id.name, action);
    }

    fn count_limited(&self, route: &str, limit: &Name, action: LimitAction) {
        self.live.metrics.limits.limited(self.edition, (route, limit), action);
    }

    /// Holds a request back for as long as its rate has it.
    pub(super) async fn hold_back(&mut self) -> Result<(), Why> {
        let wait = self.limits.as_mut().map(|state| std::mem::take(&mut state.wait));
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => {
                self.is_held = true;
                self.state.watch.heed(tokio::time::sleep(wait)).await?;
                self.is_held = false;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What its response says of limits.
    pub(in crate::serve) fn rate_limit_fields(&self) -> Option<&RateLimitFields> {
        self.limits.as_ref()?.fields.as_deref()
    }

    /// After how many seconds it may come again, if it was refused for what is over by then.
    pub(in crate::serve) fn retry_after(&self) -> Option<u64> {
        self.limits.as_ref()?.retry_after
    }

    /// Counts what costs by its status, and bans whoever has had too many of a kind.
    pub(in crate::serve) fn charge(&mut self, status: u16) {
        let is_of =
            |statuses: &[std::ops::RangeInclusive<u16>]| statuses.iter().any(|range| range.contains(&status));
        if self.limits.is_none() && self.limits_met().next().is_none() {
            return;
        }
        let (limiter, now) = (self.live.limiter(), Instant::now());
        for (number, key) in self.limits.iter().flat_map(|state| &state.counted) {
            let mut rates = self.counting_limits().flat_map(|(_, limits)| &limits.rates);
            let Some(limit) = rates.find(|limit| limit.id.number == *number) else { continue };
            if let LimitCount::Statuses(statuses) = &limit.plan.count
                && is_of(statuses)
            {
                limiter.rates.charge(*key, limit.plan.rate, now);
            }
        }
        let Some(client) = self.client_address else { return };
        let mut bans: SmallVec<[&BanRule; 2]> = SmallVec::new();
        for rule in self.limits_met().filter_map(|limits| limits.ban.as_ref()) {
            if bans.iter().all(|known| known.id.number != rule.id.number) {
                bans.push(rule);
            }
        }
        bans.into_iter().for_each(|rule| self.count_for_ban(rule, client, status, now));
    }

    /// Bans a client that has had too many responses of a kind.
    fn count_for_ban(&self, rule: &BanRule, client: IpAddr, status: u16, now: Instant) {
        let limiter = self.live.limiter();
        let is_kept_out = matches!(self.why, Why::Banned | Why::Tarpit);
        let is_meant = rule.plan.statuses.iter().any(|range| range.contains(&status));
        if is_kept_out || !is_meant || rule.plan.except.contains(client) {
            return;
        }
        // Not the key of the ban itself.
        let count = KeyHasher::new(&limiter.secret, rule.id.number).text(Some(b"count"));
        let count = count.client(Some(client), self.client_prefix).finish();
        if !limiter.rates.charge(count, rule.plan.after, now) {
            return;
        }
        limiter.rates.forgive(count);
        let client = self.client_prefix.of(client);
        let ban =
            Ban { client, scope: rule.id.number, until: now + rule.plan.lasts, by: rule.id.name.to_string() };
        let key = self.ban_key(limiter, rule.id.number, client);
        if limiter.bans.ban(&limiter.rates, key, ban, now) {
            info!(%client, by = %rule.id.name, seconds = rule.plan.lasts.as_secs(), "client banned");
        }
    }

    /// How fast its response may leave, if that is not as fast as it comes.
    pub(in crate::serve) fn pace(&self) -> Option<Pace> {
        let (number, plan) = self.policy()?.bandwidth.as_ref()?;
        let client = || {
            let key = KeyHasher::new(&self.live.limiter().secret, *number);
            key.client(self.client_address, self.client_prefix).finish()
        };
        Some(Pace::new(plan, client))
    }

    /// The connection has switched to another protocol: it is one request no more.
    pub(in crate::serve) fn tunnel_begins(&mut self) {
        let limits = self.limits_met().filter_map(|limits| limits.concurrency.as_ref());
        let counting: SmallVec<[u64; 2]> =
            limits.filter(|limit| limit.plan.tunnels).map(|limit| limit.id.number).collect();
        if let Some(state) = &mut self.limits {
            state.permits.retain(|(number, _)| counting.contains(number));
        }
    }
}

#[derive(Default)]
struct Judged {
    state: LimitState,
    is_refused: bool,
}
