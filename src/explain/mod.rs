//! Why a request goes where it goes: the route, every server with what speaks for or against it, and the winner. The very
//! code that serves makes the choice; here it is only asked and put into words.

mod asked;
mod cache;
mod limits;
mod misfit;
mod passing;
mod policy;
mod purges;
mod render;
mod report;
mod session;

pub use cache::Kept;
pub use passing::Passing;
pub(crate) use passing::{PassedFrom, PassesOn, WithPassed};
pub(crate) use purges::PurgeAdvice;
pub use render::render;
pub use report::{
    Candidate, ExplainedCache, ExplainedEjection, ExplainedListener, ExplainedPhase, ExplainedRule,
    ExplainedServer, ExplainedStored, Explanation,
};

use crate::config::plan::{HashKey, Protocol, QueuePlan};
use crate::fields::FieldList;
use crate::limit::Limiter;
use crate::operate::Overrides;
use crate::pool::explain::{Exclusion, PickExplanation};
use crate::pool::outlier::trial::SUCCESSES;
use crate::pool::{HealthState, NoServer, Pool, Query, Server};
use crate::route::{self, RulesMet};
use crate::select::key::{self, Parts};
use crate::snapshot::{self, ListenerTarget, Snapshot};
use crate::text;
use crate::units::Address;
use asked::{Counted, RequestParts, find_listener};
use http::{HeaderMap, Method, Uri};
use session::ExplainedSession;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request that somebody asks about.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    pub method: Method,
    pub url: Uri,
    pub headers: HeaderMap,
    /// Whom its connection is from: the client, or a proxy whose word on that is taken.
    pub client: IpAddr,
    /// The listener that it comes in by; otherwise the URL decides.
    pub listener: Option<String>,
    /// The protocols that a TLS client offers, for listeners that look no further.
    pub alpn: Vec<String>,
    /// When it comes, in minutes since 1970.
    pub minute: u32,
}

/// Why nothing can be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unexplained {
    #[error("there is no listener {name}; there are: {known}")]
    NoListener { name: String, known: String },
    #[error("no listener takes {scheme} requests; name one with --listener: {known}")]
    NoneFits { scheme: String, known: String },
    #[error("several listeners may take it; name one with --listener: {names}")]
    Several { names: String },
    #[error(
        "listener {listener} chooses by no ALPN; leave --alpn out, or name one with `protocol: tls_passthrough`"
    )]
    NoAlpn { listener: String },
    #[error("{url} has no host; write it like https://shop.example/cart")]
    NoHost { url: String },
}

/// What is known beside the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What operators have said.
    pub overrides: &'a Overrides,
    /// What limits have counted, if any have.
    pub limiter: Option<&'a Limiter>,
    /// What the cache has, if there is one.
    pub kept: Option<Kept<'a>>,
    /// How requests are passed on.
    pub passing: Passing<'a>,
}

/// What becomes of a request then. `entropy` is the chance that it would bring.
///
/// # Errors
/// It is not clear which listener it would come in by.
pub fn explain(
    snapshot: &Snapshot,
    Known { overrides, limiter, kept, passing }: Known<'_>,
    request: &ExplainRequest,
    entropy: u64,
    now: Instant,
) -> Result<Explanation, Unexplained> {
    let listener = find_listener(snapshot, request)?;
    let is_local = listener.plan.addresses.iter().all(|address| matches!(address, Address::Unix(_)));
    let from = PassedFrom {
        peer: Some(request.client).filter(|_| !is_local),
        is_encrypted: request.url.scheme_str() == Some("https"),
        trusted: &listener.plan.trusted_proxies,
    };
    // What is not HTTP has no fields.
    let client = match listener.plan.protocol {
        Protocol::Http => passing.0.client(&from, FieldList::Map(&request.headers)),
        Protocol::TlsPassthrough | Protocol::Tcp | Protocol::Udp => None,
    };
    let request = &ExplainRequest { client: client.unwrap_or(request.client), ..request.clone() };
    let location = snapshot.plan.geo.locate(Some(request.client));
    let counted = Counted { limiter, prefix: snapshot.plan.process.client_prefix, now };
    let mut asked = RequestParts::new(request, location, counted, (kept, passing, from))?;
    let store = &snapshot.plan.cache;
    let keeps = store.memory > 0 || store.disk.is_some();
    asked.may_purge = keeps.then(|| store.purge_from.contains(request.client));
    if !request.alpn.is_empty() && listener.plan.protocol != Protocol::TlsPassthrough {
        return Err(Unexplained::NoAlpn { listener: listener.plan.name.to_string() });
    }
    let mut report = Explanation {
        request: format!("{} {}", request.method, request.url),
        generation: snapshot.generation,
        listener: ExplainedListener {
            name: listener.plan.name.to_string(),
            addresses: listener.plan.addresses.iter().map(ToString::to_string).collect(),
        },
        routes: None,
        rules: Vec::new(),
        country: location.country.map(|country| country.to_string()),
        asn: location.asn.map(|asn| asn.0),
        redirect: None,
        respond: None,
        policy: Vec::new(),
        cache: None,
        pool: None,
        fallback_from: None,
        algorithm: None,
        sources: Vec::new(),
        key: None,
        hash: None,
        sticky: None,
        failing_open: false,
        failing_open_because: None,
        candidates: Vec::new(),
        winner: None,
        rule: String::new(),
        then: Vec::new(),
    };
    let may_be_repeated = request.method.is_idempotent();
    let query = Query { entropy, now: Some(now), may_be_repeated, ..Query::default() };
    if listener.plan.protocol == Protocol::Http {
        policy::tell_shape(&mut report, &listener.plan.limits, &asked);
        // Who is only sent to HTTPS is kept out there.
        if !matches!(listener.target, ListenerTarget::RedirectToHttps) {
            report.policy.extend(limits::ban_everywhere(&asked, request.client));
        }
        if report.is_decided() {
            return Ok(report);
        }
    }
    let pool = match &listener.target {
        ListenerTarget::RedirectToHttps => {
            report.redirect = Some(format!("https://{}{}", asked.name(), asked.path_and_query));
            report.rule = "the listener sends every request to HTTPS".to_owned();
            return Ok(report);
        }
        ListenerTarget::Pool(pool) => {
            policy::tell(&mut report, (listener.policy(None), None, Some(pool)), &asked, request);
            pool
        }
        ListenerTarget::Routes(table) => {
            let (rules, met) = follow(table, listener, &asked, request.client);
            report.routes = Some(table.name.to_string());
            report.rules = rules;
            match met {
                None => {
                    policy::tell_unmatched(&mut report, listener.policy(None), &asked, request);
                    if !report.is_decided() {
                        report.rule = "no rule matches: the answer is 404".to_owned();
                    }
                    return Ok(report);
                }
                Some(RulesMet { found, taken_for }) => {
                    if let Some(other) = taken_for {
                        policy::tell_other(
                            &mut report,
                            listener.policy(Some(other.place)),
                            other.rule,
                            &asked,
                            request,
                        );
                    }
                    let policy = listener.policy(Some(found.place));
                    policy::tell(
                        &mut report,
                        (policy, Some(found.rule), found.rule.pool().map(|pool| &**pool)),
                        &asked,
                        request,
                    );
                    match found.rule.pool() {
                        Some(pool) => pool,
                        None if report.is_decided() => return Ok(report),
                        None => {
                            policy::answer(&mut report, found.rule, &asked, request);
                            return Ok(report);
                        }
                    }
                }
            }
        }
    };
    // A pool that takes nobody new may keep whom it has.
    let keeps = |pool: &Pool| {
        session::of(pool, &asked.headers, request.minute).is_some_and(|session| session.place.is_some())
    };
    if report.is_decided() {
        return Ok(report);
    }
    let serving = if keeps(pool) { pool } else { snapshot.serving(pool) };
    report.fallback_from = (!Arc::ptr_eq(pool, serving)).then(|| pool.name.to_string());
    choose(&mut report, serving, overrides, listener.plan.protocol, &asked, request, query);
    Ok(report)
}

/// The rule that serves, by the code that serves; and of each rule before it, what does not fit.
fn follow<'a>(
    table: &'a route::RouteTable,
    listener: &snapshot::Listener,
    asked: &RequestParts<'_>,
    client: IpAddr,
) -> (Vec<ExplainedRule>, Option<RulesMet<'a>>) {
    let for_route = route::RouteRequest {
        host: &asked.host,
        path: asked.path,
        query: asked.query,
        method: asked.method,
        headers: &*asked.headers,
        client: Some(client),
        location: asked.location,
    };
    let (met, misfits) = match listener.plan.protocol {
        Protocol::TlsPassthrough => {
            let hello = asked.hello();
            let found = table.find_tls(&hello, (Some(client), asked.location));
            let met = found.map(|found| RulesMet { found, taken_for: None });
            (met, table.misfits_tls(&hello, (Some(client), asked.location)))
        }
        _ => (table.meet(&for_route, listener.policies.keep_out), table.misfits(&for_route)),
    };
    let place = met.map(|met| met.found.place as usize);
    let seen = place.map_or(table.rules.len(), |place| place + 1);
    let rules =
        table.rules.iter().zip(misfits).take(seen).enumerate().map(|(at, (rule, misfit))| ExplainedRule {
            name: rule.name.to_string(),
            pool: rule.pool().map(|pool| pool.name.to_string()),
            target: policy::target(rule),
            matched: Some(at) == place,
            misfit: misfit
                // A path may be taken for another that does fit.
                .filter(|_| Some(at) != place)
                .map(|misfit| misfit::in_words(&rule.matcher, misfit, asked, client)),
        });
    (rules.collect(), met)
}

fn choose(
    report: &mut Explanation,
    pool: &Pool,
    overrides: &Overrides,
    protocol: Protocol,
    asked: &RequestParts<'_>,
    request: &ExplainRequest,
    query: Query,
) {
    let client = request.client.to_string();
    let key = pool.hash_key().map(|wanted| match protocol {
        Protocol::Http => {
            let parts = Parts {
                path: asked.path,
                path_and_query: asked.path_and_query,
                query: asked.query,
                fields: &*asked.headers,
            };
            let found = key::find(wanted, &parts).map(|found| String::from_utf8_lossy(found).into_owned());
            report.key = Some(match (wanted, found) {
                (HashKey::ClientIp, _) => format!("client address {client}"),
                (_, Some(found)) => format!("{} {found:?}", named(wanted)),
                (_, None) => format!("no {}, so client address {client}", named(wanted)),
            });
            key::of(wanted, &parts, &client)
        }
        _ => {
            report.key = Some(format!("client address {client}"));
            crate::select::hash(client.as_bytes())
        }
    });
    let query = Query { key, ..query };
    let now = query.now.expect("who explains says when");
    let session = session::of(pool, &asked.headers, request.minute);
    let mut told = match session.as_ref().and_then(|session| session.place) {
        None => pool.explain(&query),
        Some(place) => pool.explain_bound(&query, place),
    };
    if let Some(ExplainedSession { place, said }) = session {
        if place.is_some() {
            told.rule = said.clone();
        }
        report.sticky = Some(said);
    }
    let PickExplanation { considered, winner, failing_open, rule, then } = told;
    let server = |index: usize| ExplainedServer {
        name: pool.members[index].server.name().to_string(),
        address: pool.members[index].server.address().to_string(),
    };
    report.pool = Some(pool.name.to_string());
    report.algorithm = Some(pool.plan.balance.word().to_owned());
    report.sources = pool.plan.sources.iter().map(|source| source.label()).collect();
    report.hash = key.map(|hash| format!("{hash:016x}"));
    report.failing_open = failing_open;
    report.failing_open_because = failing_open.then(|| why_open(pool));
    report.winner = winner.ok().map(server);
    report.then = then.into_iter().map(server).collect();
    report.rule = match (winner, queue_of(pool, protocol)) {
        (Ok(_), Some(queue)) if pool.queue.waiting_for_any() > 0 => format!("{}; {rule}", waits(pool, queue)),
        (Ok(_), _) => rule,
        (Err(NoServer::AllFull | NoServer::Unproven), Some(queue)) => {
            format!("{rule}: {}", waits(pool, queue))
        }
        (Err(_), _) => format!("{rule}: the answer is 503"),
    };
    let candidates =
        pool.members.iter().zip(considered).enumerate().map(|(index, (member, considered))| Candidate {
            server: server(index),
            in_flight: considered.in_flight,
            weight: member.weight.get(),
            max_connections: member.max_connections.map(std::num::NonZeroU32::get),
            health: match member.server.state().health {
                HealthState::Up => "up",
                HealthState::Down => "down",
                HealthState::Probing => "probing",
            }
            .to_owned(),
            score: {
                let scored = scored(considered.score, considered.ramp, member.backup);
                // It has its turn in a trial, or there is no better one.
                let serves = considered.out.is_none() && member.server.is_ejected();
                let ejected = serves.then(|| ejected(pool, &member.server, now));
                let told: Vec<_> = scored.into_iter().chain(ejected).collect();
                Some(told.join(", ")).filter(|told| !told.is_empty())
            },
            out: considered.out.map(|out| match out {
                Exclusion::Leaving => "leaving: the configuration no longer has it".to_owned(),
                Exclusion::Maint => said("maint", overrides, &member.server),
                Exclusion::Drain => said("drain", overrides, &member.server),
                Exclusion::DrainConfigured => "drain by the configuration".to_owned(),
                Exclusion::Down => "down: its probes fail".to_owned(),
                Exclusion::Probing => "no probe has passed yet".to_owned(),
                Exclusion::Ramping(share) => {
                    format!("coming back: takes part in {share}% of picks, and not in this one")
                }
                Exclusion::Ejected => ejected(pool, &member.server, now),
                Exclusion::Backup => "stands by: others work (backup)".to_owned(),
                Exclusion::Full(limit) => format!("full: {limit} in flight (max_connections)"),
            }),
            backup: member.backup,
            ejection: ejection(&member.server, now),
            chosen: winner == Ok(index),
        });
    report.candidates = candidates.collect();
}

/// `0 in flight, serves in the others' place (backup), coming back: 40% of picks`
fn scored(score: Option<String>, ramp: Option<u32>, is_backup: bool) -> Option<String> {
    let stands_in = is_backup.then_some("serves, for none of the others works (backup)".to_owned());
    let ramps = ramp.map(|share| format!("coming back: {share}% of picks"));
    score.map(|score| [Some(score), stands_in, ramps].into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn ejection(server: &Server, now: Instant) -> Option<ExplainedEjection> {
    let ejection = server.outlier().standing().ejection?;
    Some(ExplainedEjection {
        reason: ejection.reason.label().to_owned(),
        evidence: ejection.evidence,
        seconds_left: ejection.until.saturating_duration_since(now).as_secs_f64().ceil() as u64,
        trial: ejection.trial.map(|trial| trial.passed),
    })
}

/// `ejected for 12s more (worse_by): 9 of 24 tries failed within 10s; …`
fn ejected(pool: &Pool, server: &Server, now: Instant) -> String {
    let Some(ejection) = ejection(server, now) else { return "ejected".to_owned() };
    let by_whom = match pool.sticky_table() {
        Some(_) => ", by requests whose clients are bound to no other server",
        None => "",
    };
    let state = match ejection.trial {
        Some(passed) => format!("ejected, and tried out{by_whom}: {passed} of {SUCCESSES} went well"),
        None if ejection.seconds_left == 0 => "ejected until it is tried out".to_owned(),
        None => format!("ejected for {} more", text::span(Duration::from_secs(ejection.seconds_left))),
    };
    format!("{state} ({}): {}", ejection.reason, ejection.evidence)
}

/// How one waits that comes by this protocol; a datagram never does.
fn queue_of(pool: &Pool, protocol: Protocol) -> Option<&QueuePlan> {
    pool.plan.queue.as_ref().filter(|_| protocol != Protocol::Udp)
}

/// `it waits behind 4 others, up to 5s`
fn waits(pool: &Pool, queue: &QueuePlan) -> String {
    match pool.queue.waiting() {
        waiting if waiting >= queue.max.get() as usize => {
            format!("{waiting} wait already, as many as may, so the answer is 503")
        }
        0 => format!("it waits up to {:?}", queue.timeout),
        waiting => format!("it waits behind {waiting} others, up to {:?}", queue.timeout),
    }
}

/// `app1, app2: down after failed probes (fall: 3)`
fn why_open(pool: &Pool) -> String {
    /// More are told in numbers.
    const SHOWN: usize = 5;
    let names = |health: HealthState| {
        let those =
            pool.members.iter().filter(|member| member.server.state().health == health && !member.drain);
        those.map(|member| member.server.name().to_string()).collect::<Vec<_>>()
    };
    let fall = pool.plan.health.as_ref().map_or(0, |health| health.fall.get());
    let kinds = [
        (names(HealthState::Down), format!("down after failed probes (`fall: {fall}`)")),
        (names(HealthState::Probing), "no probe has passed yet".to_owned()),
    ];
    let told = kinds.iter().filter(|(names, _)| !names.is_empty()).map(|(names, why)| {
        let more = match names.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{}{more}: {why}", names[..names.len().min(SHOWN)].join(", "))
    });
    told.collect::<Vec<_>>().join("; ")
}

fn said(word: &str, overrides: &Overrides, server: &crate::pool::Server) -> String {
    match overrides.of(server).and_then(|word| word.state.as_ref()) {
        Some(said) => format!("{word} by {}", said.actor),
        None => format!("{word} by an operator"),
    }
}

fn named(key: &HashKey) -> String {
    match key {
        HashKey::ClientIp => "client address".to_owned(),
        HashKey::Path => "path".to_owned(),
        HashKey::Uri => "uri".to_owned(),
        HashKey::Header(name) => format!("field {name}"),
        HashKey::Cookie(name) => format!("cookie {name}"),
        HashKey::Query(name) => format!("query parameter {name}"),
    }
}

#[cfg(test)]
mod tests;
