//! What limits make of a request: who may ask, and how much is left where the process says what it has counted.

use super::asked::{Counted, RequestParts};
use super::report::ExplainedPhase;
use crate::config::plan::limits::{AccessAnswer, LimitCount, LimitOver};
use crate::limit::{Ban, RateVerdict};
use crate::policy::{self, LimitSubject, Limits, RateLimit};
use crate::text::span;
use crate::wire::request::RequestView;
use std::net::IpAddr;
use std::time::Duration;

impl Counted<'_> {
    /// How long the client is banned yet, by one limit or everywhere.
    fn ban_left(self, scope: u64, client: IpAddr) -> Option<Duration> {
        let limiter = self.limiter?;
        let key = || Ban::key(&limiter.secret, scope, client, self.prefix);
        limiter.bans.left(&limiter.rates, key, self.now)
    }
}

/// That an operator has banned the client.
pub(super) fn ban_everywhere(asked: &RequestParts<'_>, client: IpAddr) -> Option<ExplainedPhase> {
    let left = asked.counted.ban_left(Ban::EVERYWHERE, client)?;
    Some(banned(client, left, "by an operator"))
}

fn banned(client: IpAddr, left: Duration, by: &str) -> ExplainedPhase {
    let does = format!("keeps {client} out for another {}, {by}: 403", span(left));
    ExplainedPhase { phase: "ban".to_owned(), does, decides: true }
}

pub(super) fn phases(
    limits: &Limits,
    asked: &RequestParts<'_>,
    (client, route, view): (IpAddr, &str, &RequestView<'_>),
) -> Vec<ExplainedPhase> {
    let mut phases = Vec::new();
    let mut add = |phase: &str, does: String, decides: bool| {
        phases.push(ExplainedPhase { phase: phase.to_owned(), does, decides });
    };
    if let Some(ban) = &limits.ban {
        let rate = ban.plan.after;
        if let Some(left) = asked.counted.ban_left(ban.id.number, client) {
            let phase = banned(client, left, &format!("by {}", ban.id.name));
            add(&phase.phase, phase.does, true);
        } else {
            let does = format!(
                "bans clients for {:?} after {} bad responses in {:?}",
                ban.plan.lasts, rate.requests, rate.per
            );
            add("ban", does, false);
        }
    }
    if let Some(access) = &limits.access {
        match policy::denied(access, Some(client), asked.location) {
            None => add("access", format!("lets {client} in"), false),
            Some(reason) => {
                let answer = match access.answer {
                    AccessAnswer::Status(status) => status.to_string(),
                    AccessAnswer::Close => "the connection's end".to_owned(),
                    AccessAnswer::Tarpit(within) => format!("403 after {within:?}"),
                };
                add("access", format!("keeps {client} out (`{}`): {answer}", reason.label()), true);
            }
        }
    }
    if let Some(limit) = &limits.concurrency {
        add(
            "concurrency",
            format!("{} at once for each {}", limit.plan.requests, policy::counted_by(&limit.plan.per)),
            false,
        );
    }
    for limit in &limits.rates {
        let subject =
            LimitSubject { client: Some(client), prefix: asked.counted.prefix, route, request: view };
        let (does, decides) = rate(limit, asked.counted, &subject);
        add("rate_limit", does, decides);
    }
    phases
}

/// What a rate does, and whether it refuses this request.
fn rate(limit: &RateLimit, counted: Counted<'_>, subject: &LimitSubject<'_>) -> (String, bool) {
    let (plan, rate) = (&limit.plan, limit.plan.rate);
    if let Some(client) = subject.client.filter(|client| plan.except.contains(*client)) {
        return (format!("{}: does not count {client} (`except`)", limit.id.name), false);
    }
    let requests = match &plan.count {
        LimitCount::All => "requests",
        LimitCount::Statuses(_) => "requests with some statuses",
    };
    let over = match plan.over {
        LimitOver::Reject => "more are refused".to_owned(),
        LimitOver::Log => "more are told of".to_owned(),
        LimitOver::Delay(longest) => format!("more are held back, {longest:?} at most"),
    };
    let does = format!(
        "{}: {} {requests} in {:?} for each {}, {} at once; {over}",
        limit.id.name,
        rate.requests,
        rate.per,
        policy::counted_by(&plan.per),
        rate.burst
    );
    let verdict = counted.limiter.map(|limiter| {
        limiter.rates.look(subject.key(&limiter.secret, &limit.id, &plan.per), rate, counted.now)
    });
    match (verdict, plan.over) {
        (None, _) => (does, false),
        (Some(RateVerdict::Passes { left, .. }), _) => (format!("{does}. After it {left} are left"), false),
        (Some(RateVerdict::Over { retry_after }), LimitOver::Delay(longest)) if retry_after <= longest => {
            (format!("{does}. It is held back for {retry_after:.1?}"), false)
        }
        (Some(RateVerdict::Over { .. }), LimitOver::Log) => (format!("{does}. It is one too many"), false),
        (Some(RateVerdict::Over { retry_after }), _) => {
            (format!("{does}. It is one too many: 429, for another {}", span(retry_after)), true)
        }
    }
}
