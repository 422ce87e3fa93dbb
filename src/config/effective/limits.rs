//! Who may ask, and how often, as it is written.

use super::super::plan::limits::{
    AccessAnswer, AccessPlan, BanPlan, ConcurrencyPlan, LimitCount, LimitOver, LimitPer, LimitsPlan,
    RateLimitPlan,
};
use super::super::{keys, limits};
use super::writer::SectionWriter;
use super::{duration, text, texts, word};
use crate::geo::AllowDeny;
use crate::limit::Rate;
use serde_yaml::Value;
use std::fmt::Display;
use std::ops::RangeInclusive;

/// Adds what is said of limits to a section that may have their keys.
pub(super) fn say(limits: &LimitsPlan, section: SectionWriter) -> SectionWriter {
    let rates = |limits: &[RateLimitPlan]| limits.iter().map(rate_limit).collect::<Vec<_>>().into();
    section
        .set_inheritable("access", &limits.access, access)
        .set_inheritable("rate_limit", &limits.rate_limit, |owned| rates(&owned.part))
        .set_inheritable("concurrency", &limits.concurrency, |owned| concurrency(&owned.part))
        .set_inheritable("ban", &limits.ban, |owned| ban(&owned.part))
}

fn allow_deny<T: Display>(keys: &'static [keys::Key], lists: &AllowDeny<T>) -> Value {
    SectionWriter::new(keys).set("allow", texts(&lists.allow)).set("deny", texts(&lists.deny)).end()
}

fn access(access: &AccessPlan) -> Value {
    let answer = match access.answer {
        AccessAnswer::Status(status) => Value::from(status),
        AccessAnswer::Close => "close".into(),
        AccessAnswer::Tarpit(within) => {
            SectionWriter::new(keys::ACCESS_ANSWER).set("tarpit", duration(within)).end()
        }
    };
    SectionWriter::new(keys::ACCESS)
        .set("allow", texts(access.allow.items()))
        .set("deny", texts(access.deny.items()))
        .set("countries", allow_deny(keys::COUNTRY_LISTS, &access.countries))
        .set("asns", allow_deny(keys::ASN_LISTS, &access.asns))
        .set("answer", answer)
        .end()
}

fn rate_limit(limit: &RateLimitPlan) -> Value {
    let count = match &limit.count {
        LimitCount::All => word(&limits::COUNTS, &limit.count),
        LimitCount::Statuses(all) => SectionWriter::new(keys::LIMIT_COUNT).set("status", statuses(all)).end(),
    };
    let over = match limit.over {
        LimitOver::Delay(longest) => {
            SectionWriter::new(keys::LIMIT_OVER).set("delay", duration(longest)).end()
        }
        over => word(&limits::OVERS, &over),
    };
    let burst = (!limit.has_default_burst).then_some(limit.rate.burst.get());
    SectionWriter::new(keys::RATE_LIMIT)
        .set("per", per(&limit.per))
        .set("requests", rate(limit.rate))
        .set_or_null("burst", burst)
        .set("count", count)
        .set("over", over)
        .set("except", texts(limit.except.items()))
        .set("fields", limit.fields)
        .end()
}

fn concurrency(limit: &ConcurrencyPlan) -> Value {
    SectionWriter::new(keys::CONCURRENCY)
        .set("per", per(&limit.per))
        .set("requests", limit.requests.get())
        .set("tunnels", limit.tunnels)
        .end()
}

fn ban(ban: &BanPlan) -> Value {
    let Value::String(within) = duration(ban.after.per) else { unreachable!("a duration is a text") };
    SectionWriter::new(keys::BAN)
        .set("after", format!("{}/{within}", ban.after.requests))
        .set("status", statuses(&ban.statuses))
        .set("for", duration(ban.lasts))
        .set("except", texts(ban.except.items()))
        .end()
}

pub(in crate::config) fn rate(rate: Rate) -> String {
    let unit = match rate.per.as_secs() {
        1 => "s",
        60 => "m",
        _ => "h",
    };
    format!("{}/{unit}", rate.requests)
}

fn statuses(all: &[RangeInclusive<u16>]) -> Value {
    let range = |range: &RangeInclusive<u16>| match range.start() == range.end() {
        true => text(range.start()),
        false => format!("{}-{}", range.start(), range.end()).into(),
    };
    all.iter().map(range).collect::<Vec<_>>().into()
}

fn per(per: &[LimitPer]) -> Value {
    match per {
        [one] => one_per(one),
        several => several.iter().map(one_per).collect::<Vec<_>>().into(),
    }
}

fn one_per(per: &LimitPer) -> Value {
    let (kind, name) = match per {
        LimitPer::Client => return "client".into(),
        LimitPer::Route => return "route".into(),
        LimitPer::Header(name) => ("header", name.as_str()),
        LimitPer::Cookie(name) => ("cookie", &**name),
        LimitPer::Query(name) => ("query", &**name),
    };
    SectionWriter::new(keys::LIMIT_PER).leave_out(&["header", "cookie", "query"]).set(kind, name).end()
}
