//! What limits make of a request: who may ask is known, how much is left is not.

use super::report::ExplainedPhase;
use crate::config::plan::limits::{AccessAnswer, LimitCount, LimitOver, LimitPer};
use crate::geo::Location;
use crate::policy::{self, Limits};
use std::net::IpAddr;

pub(super) fn phases(limits: &Limits, (client, location): (IpAddr, Location)) -> Vec<ExplainedPhase> {
    let mut phases = Vec::new();
    let mut add = |phase: &str, does: String, decides: bool| {
        phases.push(ExplainedPhase { phase: phase.to_owned(), does, decides });
    };
    if let Some(ban) = &limits.ban {
        let rate = ban.plan.after;
        let does = format!(
            "bans clients for {:?} after {} bad responses in {:?}",
            ban.plan.lasts, rate.requests, rate.per
        );
        add("ban", does, false);
    }
    if let Some(access) = &limits.access {
        match policy::denied(access, Some(client), location) {
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
            format!("{} at once for each {}", limit.plan.requests, told(&limit.plan.per)),
            false,
        );
    }
    for limit in &limits.rates {
        let (plan, rate) = (&limit.plan, limit.plan.rate);
        let counted = match &plan.count {
            LimitCount::All => "requests",
            LimitCount::Statuses(_) => "requests with some statuses",
        };
        let over = match plan.over {
            LimitOver::Reject => "more are refused".to_owned(),
            LimitOver::Log => "more are told of".to_owned(),
            LimitOver::Delay(longest) => format!("more are held back, {longest:?} at most"),
        };
        let does = match plan.except.contains(client) {
            true => format!("{}: does not count {client} (`except`)", limit.id.name),
            false => format!(
                "{}: {} {counted} in {:?} for each {}, {} at once; {over}",
                limit.id.name,
                rate.requests,
                rate.per,
                told(&plan.per),
                rate.burst
            ),
        };
        add("rate_limit", does, false);
    }
    phases
}

fn told(per: &[LimitPer]) -> String {
    let one = |per: &LimitPer| match per {
        LimitPer::Client => "client".to_owned(),
        LimitPer::Route => "route".to_owned(),
        LimitPer::Header(name) => format!("value of {name}"),
        LimitPer::Cookie(name) => format!("cookie {name}"),
        LimitPer::Query(name) => format!("value of ?{name}="),
    };
    per.iter().map(one).collect::<Vec<_>>().join(" and ")
}
