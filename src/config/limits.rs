//! Who may ask, and how often: access, rates, requests at once and bans.

use super::field_name::{cookie_name, header_name};
use super::inheritable::inheritable;
use super::keys;
use super::names::{each_once, word};
use super::networks::NamedLists;
use super::place::At;
use super::plan::limits::{
    AccessAnswer, AccessPlan, BanPlan, ConcurrencyPlan, LimitCount, LimitOver, LimitOwner, LimitPer,
    LimitsPlan, Owned, RateLimitPlan,
};
use super::plan::policy::Inheritable;
use super::problem::{Fault, quoted};
use super::section::{Section, choose};
use super::tree::Scalar;
use crate::limit::Rate;
use crate::networks::Networks;
use crate::units;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Reads what a policy or a rule says of limits, which are known by where they stand.
pub(super) fn limits(section: &Section<'_>, networks: &NamedLists<'_>, owner: &LimitOwner) -> LimitsPlan {
    let reader = LimitReader { networks, owner };
    LimitsPlan {
        access: inheritable(section, "access", |access| reader.access(access)),
        rate_limit: reader.rates(section),
        concurrency: inheritable(section, "concurrency", |limit| reader.owned(concurrency(limit))),
        ban: inheritable(section, "ban", |ban| reader.owned(reader.ban(ban))),
    }
}

/// A word that is not known, where a section may be meant.
fn or_else(fault: Fault, section: &str) -> Fault {
    let help = match fault.help {
        Some(help) => format!("{help}, or a section: `{section}`"),
        None => format!("a section may stand here, too: `{section}`"),
    };
    Fault { help: Some(help), ..fault }
}

struct LimitReader<'a> {
    networks: &'a NamedLists<'a>,
    owner: &'a LimitOwner,
}

impl LimitReader<'_> {
    fn owned<T>(&self, part: Option<T>) -> Option<Owned<T>> {
        Some(Owned { owner: self.owner.clone(), part: part? })
    }

    fn list(&self, section: &Section<'_>, name: &str) -> Networks {
        section.get(name).map(|at| self.networks.list(&at)).unwrap_or_default()
    }

    fn access(&self, section: &Section<'_>) -> Option<AccessPlan> {
        let (allow, deny) = (self.list(section, "allow"), self.list(section, "deny"));
        let geo = self.networks.geo;
        let countries = section.section("countries", |lists| geo.allow_deny(&lists));
        let asns = section.section("asns", |lists| geo.allow_deny(&lists));
        let answer = answer(section);
        let is_said = |key: &str| section.get(key).is_some();
        if !["allow", "deny", "countries", "asns"].iter().any(|key| is_said(key)) {
            section.at.warn(Fault::new(
                "says who may ask of nobody: everybody may, whatever is said of it by a listener or a policy below",
                "repeat the lists here, or write `access: null` if that is meant",
            ));
        }
        Some(AccessPlan { allow, deny, countries: countries?, asns: asns?, answer: answer? })
    }

    fn rates(&self, section: &Section<'_>) -> Inheritable<Owned<Vec<RateLimitPlan>>> {
        let Some(at) = section.get("rate_limit") else { return Inheritable::Inherited };
        if at.is_null() {
            return Inheritable::Off;
        }
        let read = |item: At<'_>| self.rate(&item.section(keys::RATE_LIMIT)?);
        let part = at.items().map(|items| items.filter_map(read).collect());
        self.owned(part).map_or(Inheritable::Inherited, |this| Inheritable::Set(Arc::new(this)))
    }

    fn rate(&self, section: &Section<'_>) -> Option<RateLimitPlan> {
        let burst = section.nullable_count("burst");
        let requests = section.value("requests", rate);
        let count = match section.get("count").filter(|at| !at.is_scalar()) {
            Some(_) => section.section("count", |count| statuses(&count, "status")).map(LimitCount::Statuses),
            None => Some(section.value("count", |scalar| {
                choose(scalar, &COUNTS).map_err(|fault| or_else(fault, "{ status: [401, 403] }"))
            })),
        };
        let over = match section.get("over").filter(|at| !at.is_scalar()) {
            Some(_) => section
                .section("over", |over| over.given_duration("delay"))
                .map(|longest| longest.map(LimitOver::Delay)),
            None => Some(Some(section.value("over", |scalar| {
                choose(scalar, &OVERS).map_err(|fault| or_else(fault, "{ delay: 1s }"))
            }))),
        };
        if let (Some(Some(LimitOver::Delay(_))), Some(LimitCount::Statuses(_)), Some(at)) =
            (&over, &count, section.get("over"))
        {
            at.refuse_key(Fault::new(
                "cannot hold back requests whose status is not known yet",
                "use `reject` or `log` with `count: { status: [...] }`",
            ));
        }
        let (requests, per) = requests;
        let rate = Rate::new(requests, per, burst);
        // All is read before anything that is wrong ends it.
        let (per, except, fields) =
            (limit_per(section), self.list(section, "except"), section.flag("fields"));
        Some(RateLimitPlan {
            per: per?,
            rate,
            has_default_burst: burst.is_none(),
            count: count?,
            over: over??,
            except,
            fields,
        })
    }

    fn ban(&self, section: &Section<'_>) -> Option<BanPlan> {
        let after = section.value("after", within);
        let statuses = statuses(section, "status");
        let (lasts, except) = (section.duration("for"), self.list(section, "except"));
        let (times, per) = after;
        Some(BanPlan { after: Rate::new(times, per, Some(times)), statuses, lasts, except })
    }
}

pub(super) const COUNTS: [(&str, LimitCount); 1] = [("all", LimitCount::All)];
pub(super) const OVERS: [(&str, LimitOver); 2] = [("reject", LimitOver::Reject), ("log", LimitOver::Log)];
const PERS: [(&str, LimitPer); 2] = [("client", LimitPer::Client), ("route", LimitPer::Route)];

fn concurrency(section: &Section<'_>) -> Option<ConcurrencyPlan> {
    let requests = section.at_least_one("requests");
    let (per, tunnels) = (limit_per(section), section.flag("tunnels"));
    Some(ConcurrencyPlan { per: per?, requests, tunnels })
}

/// What a limit counts apart: a word, a section, or a list of them.
fn limit_per(section: &Section<'_>) -> Option<Vec<LimitPer>> {
    let Some(at) = section.get("per") else { return Some(vec![LimitPer::Client]) };
    if at.is_scalar() || at.is_section() {
        return one_per(&at).map(|one| vec![one]);
    }
    if at.items()?.len() == 0 {
        at.refuse_key(Fault::new("is empty", "write `client`, or a list like `[client, { header: X-Key }]`"));
    }
    Some(each_once(&at, one_per))
}

fn one_per(at: &At<'_>) -> Option<LimitPer> {
    if at.is_scalar() {
        return at.scalar(&"`client` or `route`", |scalar| choose(scalar, &PERS));
    }
    let section = at.section(keys::LIMIT_PER)?;
    let header = section.given("header", |scalar| header_name(&scalar.text)).map(LimitPer::Header);
    let cookie = section.given("cookie", cookie_name).map(LimitPer::Cookie);
    let query = section.given("query", word).map(LimitPer::Query);
    let given: Vec<_> = [header, cookie, query].into_iter().flatten().collect();
    match <[LimitPer; 1]>::try_from(given) {
        Ok([one]) => Some(one),
        Err(_) => {
            at.refuse(Fault::new(
                "is not one thing to count by",
                "write one of `header`, `cookie` and `query`",
            ));
            None
        }
    }
}

fn answer(section: &Section<'_>) -> Option<AccessAnswer> {
    let word = |scalar: &Scalar<'_>| match scalar.text.parse() {
        Ok(status @ 400..=499) => Ok(AccessAnswer::Status(status)),
        _ if scalar.text == "close" => Ok(AccessAnswer::Close),
        _ => Err(Fault::new(
            format!("{} is no answer to those who may not ask", quoted(&scalar.text)),
            "use a status from 400 to 499, `close`, or `{ tarpit: 10s }`",
        )),
    };
    match section.get("answer").filter(|at| !at.is_scalar()) {
        Some(_) => section
            .section("answer", |answer| answer.given_duration("tarpit").map(AccessAnswer::Tarpit))
            .flatten(),
        None => Some(section.value("answer", word)),
    }
}

/// Reads statuses and ranges of them, or the default.
fn statuses(section: &Section<'_>, name: &str) -> Vec<RangeInclusive<u16>> {
    let Some(at) = section.get(name) else { return vec![401..=401, 403..=403, 429..=429] };
    let Some(items) = at.items() else { return Vec::new() };
    if items.len() == 0 {
        at.refuse_key(Fault::new("is empty", "write at least one status, like `401`"));
    }
    items.filter_map(|item| item.scalar(&"a status like `401` or `500-599`", status_range)).collect()
}

fn status_range(scalar: &Scalar<'_>) -> Result<RangeInclusive<u16>, Fault> {
    let (first, last) = scalar.text.split_once('-').unwrap_or((&scalar.text, &scalar.text));
    let status =
        |digits: &str| digits.trim().parse::<u16>().ok().filter(|status| (200..=599).contains(status));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(Fault::new(
            format!("{} is no final status", quoted(&scalar.text)),
            "write one from 200 to 599 or a range, like `401` or `500-599`",
        )),
    }
}

const MOST_REQUESTS: u32 = 1_000_000;

fn number(text: &str) -> Option<NonZeroU32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number).and_then(NonZeroU32::new);
    number.filter(|number| number.get() <= MOST_REQUESTS)
}

/// Reads `50/s`, `100/m` or `1000/h`.
pub(super) fn rate(scalar: &Scalar<'_>) -> Result<(NonZeroU32, Duration), Fault> {
    let parts = scalar.text.split_once('/').map(|(requests, unit)| (number(requests.trim()), unit.trim()));
    let seconds = |unit| match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    match parts.and_then(|(requests, unit)| Some((requests?, seconds(unit)?))) {
        Some((requests, seconds)) => Ok((requests, Duration::from_secs(seconds))),
        None => Err(Fault::new(
            format!("{} is not a rate", quoted(&scalar.text)),
            format!("write 1 to {MOST_REQUESTS} a second, minute or hour, like `50/s`, `100/m` or `1000/h`"),
        )),
    }
}

/// Reads `20/1m`.
fn within(scalar: &Scalar<'_>) -> Result<(NonZeroU32, Duration), Fault> {
    let parts = scalar
        .text
        .split_once('/')
        .map(|(times, per)| (number(times.trim()), units::duration(per.trim()).ok()));
    let per = |per: &Duration| (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(per);
    match parts.and_then(|(times, within)| Some((times?, within.filter(per)?))) {
        Some(within) => Ok(within),
        None => Err(Fault::new(
            format!("{} is not a number in a time", quoted(&scalar.text)),
            "write it like `20/1m`: 20 responses in a minute, of 1s to 1d",
        )),
    }
}
