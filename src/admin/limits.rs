//! Who is banned and who is over limits, and an operator's word about that.

use super::Admin;
use super::access::Actor;
use super::answer::{ApiRefusal, PathNames};
use crate::api::limits::{BanList, EndedBans, LimitCounts, LimitReport, ListedBan, ListedDebtor};
use crate::api::{EventKind, to_millisecond};
use crate::control::LedgerEntry;
use crate::limit::Ban;
use crate::policy::Policy;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tracing::info;

/// A list is for people.
const MOST_SHOWN: usize = 100;

/// The body of a ban.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BanBody {
    seconds: u64,
}

const LONGEST_BAN: u64 = 30 * 86_400;

fn listed(ban: &Ban, now: Instant) -> ListedBan {
    let left = ban.until.saturating_duration_since(now);
    ListedBan {
        client: ban.client.to_string(),
        until: to_millisecond(OffsetDateTime::now_utc() + left),
        seconds_left: left.as_secs(),
        by: ban.by.clone(),
        everywhere: ban.scope == Ban::EVERYWHERE,
    }
}

pub(super) async fn bans(State(admin): State<Admin>) -> Json<BanList> {
    let now = Instant::now();
    let bans = admin.live.limiter.get().map(|limiter| limiter.bans.listed(now)).unwrap_or_default();
    Json(BanList { bans: bans.iter().map(|ban| listed(ban, now)).collect() })
}

fn client(text: &str) -> Result<IpAddr, ApiRefusal> {
    text.parse().map_err(|_| {
        ApiRefusal::new(StatusCode::BAD_REQUEST, format!("{text:?} is not an IP address"))
            .help("write the client's address, like 192.0.2.7")
    })
}

pub(super) async fn ban(
    State(admin): State<Admin>,
    Extension(Actor(actor)): Extension<Actor>,
    PathNames(name): PathNames<String>,
    body: Result<Json<BanBody>, JsonRejection>,
) -> Result<Json<ListedBan>, ApiRefusal> {
    let bad = |message: String| ApiRefusal::new(StatusCode::BAD_REQUEST, message);
    let client = client(&name)?;
    let Json(body) =
        body.map_err(|error| bad(error.body_text()).help(r#"send JSON like {"seconds": 600}"#))?;
    if !(1..=LONGEST_BAN).contains(&body.seconds) {
        return Err(bad(format!("{} seconds is out of range", body.seconds)).help("use 1 s to 30 days"));
    }
    let prefix = admin.live.snapshot().plan.process.client_prefix;
    let (limiter, now) = (admin.live.limiter(), Instant::now());
    let lasts = Duration::from_secs(body.seconds);
    let client = prefix.of(client);
    let ban = Ban { client, scope: Ban::EVERYWHERE, until: now + lasts, by: actor.clone() };
    let key = Ban::key(&limiter.secret, Ban::EVERYWHERE, client, prefix);
    limiter.bans.unban(&limiter.rates, key, (client, Ban::EVERYWHERE), now);
    limiter.bans.ban(&limiter.rates, key, ban.clone(), now);
    info!(%client, by = actor, seconds = body.seconds, "client banned");
    let cause = format!("{client} is banned for {} s", body.seconds);
    admin.live.record(LedgerEntry::new(EventKind::Operator, &actor, cause));
    Ok(Json(listed(&ban, now)))
}

pub(super) async fn unban(
    State(admin): State<Admin>,
    Extension(Actor(actor)): Extension<Actor>,
    PathNames(name): PathNames<String>,
) -> Result<Json<EndedBans>, ApiRefusal> {
    let snapshot = admin.live.snapshot();
    let prefix = snapshot.plan.process.client_prefix;
    let client = prefix.of(client(&name)?);
    let now = Instant::now();
    let Some(limiter) = admin.live.limiter.get() else { return Ok(Json(EndedBans { ended: 0 })) };
    let policies = snapshot
        .listeners()
        .iter()
        .flat_map(|listener| listener.policies.own.iter().chain(listener.policies.rules.iter().flatten()));
    let scope = |policy: &Policy| Some(policy.limits.as_ref()?.ban.as_ref()?.id.number);
    let mut scopes: Vec<_> = policies.filter_map(scope).chain([Ban::EVERYWHERE]).collect();
    scopes.sort_unstable();
    scopes.dedup();
    let end = |scope: &&u64| {
        let key = Ban::key(&limiter.secret, **scope, client, prefix);
        limiter.bans.unban(&limiter.rates, key, (client, **scope), now)
    };
    let ended = scopes.iter().filter(end).count();
    if ended > 0 {
        info!(%client, by = actor, "ban ended");
        let cause = format!("the ban of {client} is ended");
        admin.live.record(LedgerEntry::new(EventKind::Operator, &actor, cause));
    }
    Ok(Json(EndedBans { ended }))
}

/// Whom limits keep from asking now.
pub(super) fn counts(admin: &Admin) -> Option<LimitCounts> {
    let (limiter, now) = (admin.live.limiter.get()?, Instant::now());
    Some(LimitCounts { banned: limiter.bans.listed(now).len(), tarpits: limiter.tarpits() })
}

pub(super) async fn limits(State(admin): State<Admin>) -> Json<LimitReport> {
    let now = Instant::now();
    let Some(limiter) = admin.live.limiter.get() else {
        return Json(LimitReport { keys: 0, shared: 0, top: Vec::new() });
    };
    let top = limiter.debtors.deepest(&limiter.rates, now).into_iter().take(MOST_SHOWN);
    let top = top.map(|(debtor, debt)| ListedDebtor {
        limit: debtor.limit,
        client: debtor.client.map_or_else(|| "unix".to_owned(), |client| client.to_string()),
        counted_by: debtor.counted_by,
        debt_ms: u64::try_from(debt.as_millis()).unwrap_or(u64::MAX),
    });
    let shared = limiter.rates.shared() + limiter.concurrency.shared();
    Json(LimitReport { keys: limiter.rates.in_debt(now), shared, top: top.collect() })
}
