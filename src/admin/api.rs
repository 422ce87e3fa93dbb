//! The API's paths. docs/api.md has a row for each and docs/openapi.yaml every field; tests hold them against each other.

use super::access::Actor;
use super::answer::{ApiRefusal, PathNames, ask};
use super::{Admin, cache, limits, maintenance, view};
use crate::api::{ApiError, EventList, ProbeReport, Receipt, ReloadOutcome, Status, status};
use crate::control::{
    self, ControlMessage, Guard, Operation, OperationRefused, OperatorCommand, PreviewRequest, ReloadRequest,
    Source, UpgradeRequest,
};
use crate::events::EventFilter;
use crate::explain;
use crate::filter::AsServed;
use crate::guard::GuardLimits;
use crate::history::Point;
use crate::pool::{Operator, Pool};
use crate::preview::{self, ReloadPreview};
use crate::probe;
use crate::sticky;
use crate::store::Selecting;
use crate::units::Weight;
use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post, put};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::oneshot;

pub(super) fn router() -> Router<Admin> {
    Router::new()
        .route("/status", get(status_of_all))
        .route("/events", get(events))
        .route("/bans", get(limits::bans))
        .route("/bans/{client}", put(limits::ban))
        .route("/bans/{client}", delete(limits::unban))
        .route("/cache/purge", post(cache::purge))
        .route("/limits", get(limits::limits))
        .route("/maintenance", get(maintenance::list))
        .route("/maintenance/{route}", put(maintenance::change))
        .route("/history", get(history))
        .route("/explain", post(explain_one))
        .route("/plan", post(plan))
        .route("/reload", post(reload))
        .route("/upgrade", post(upgrade))
        .route("/pools/{pool}", get(one_pool))
        .route("/pools/{pool}/servers/{server}", get(one_server))
        .route("/pools/{pool}/servers/{server}/state", put(set_state))
        .route("/pools/{pool}/servers/{server}/weight", put(set_weight))
        .route("/pools/{pool}/servers/{server}/probe", post(probe_one))
}

async fn status_of_all(State(admin): State<Admin>) -> Json<Status> {
    Json(view::status(&admin))
}

async fn one_pool(
    State(admin): State<Admin>,
    PathNames(pool): PathNames<String>,
) -> Result<Json<status::PoolStatus>, ApiRefusal> {
    find_pool(&admin, &pool).map(Json)
}

async fn one_server(
    State(admin): State<Admin>,
    PathNames((pool, server)): PathNames<(String, String)>,
) -> Result<Json<status::ServerStatus>, ApiRefusal> {
    find_server(&admin, &pool, &server).map(Json)
}

fn find_pool(admin: &Admin, name: &str) -> Result<status::PoolStatus, ApiRefusal> {
    let mut status = view::status(admin);
    match status.pools.iter().position(|pool| pool.name == name) {
        Some(place) => Ok(status.pools.swap_remove(place)),
        None => {
            Err(ApiRefusal::not_found(ApiError::no_pool(name, status.pools.iter().map(|pool| &*pool.name))))
        }
    }
}

fn find_server(admin: &Admin, pool: &str, name: &str) -> Result<status::ServerStatus, ApiRefusal> {
    let mut pool = find_pool(admin, pool)?;
    match pool.servers.iter().position(|server| server.name == name) {
        Some(place) => Ok(pool.servers.swap_remove(place)),
        None => {
            let servers = pool.servers.iter().map(|server| &*server.name);
            Err(ApiRefusal::not_found(ApiError::no_server(&pool.name, name, servers)))
        }
    }
}

/// The last two minutes, second by second, oldest first.
#[derive(Debug, Serialize)]
struct Histories {
    pools: BTreeMap<String, PoolHistory>,
}

#[derive(Debug, Serialize)]
struct PoolHistory {
    points: Vec<Point>,
    servers: BTreeMap<String, Vec<Point>>,
}

async fn history(State(admin): State<Admin>) -> Json<Histories> {
    let snapshot = admin.live.snapshot();
    let (pools, servers) = (admin.live.pool_history(), admin.live.server_history());
    let of = |pool: &Arc<Pool>| {
        let members = pool.members.iter().map(|member| &member.server);
        let servers = members.map(|server| (server.name().to_string(), servers.points(&server.id())));
        (pool.name.to_string(), PoolHistory { points: pools.points(&*pool.name), servers: servers.collect() })
    };
    Json(Histories { pools: snapshot.pools().iter().map(of).collect() })
}

/// What can be asked of the ledger.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    pool: Option<String>,
    server: Option<String>,
    kind: Option<String>,
    /// RFC 3339.
    since: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
}

async fn events(
    State(admin): State<Admin>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Json<EventList>, ApiRefusal> {
    let Query(query) = query.map_err(|error| bad(error.body_text()))?;
    let since = query.since.map(|since| {
        OffsetDateTime::parse(&since, &Rfc3339)
            .map_err(|_| bad(format!("`since` is {since:?}")).help("write it like 2026-01-31T12:00:00Z"))
    });
    let wanted = EventFilter {
        pool: query.pool,
        server: query.server,
        kind: query.kind.map(|kind| kind.parse().map_err(bad)).transpose()?,
        since: since.transpose()?,
        after: query.after,
        limit: query.limit,
    };
    Ok(Json(admin.live.event_log.find(&wanted)))
}

fn bad(message: impl Into<String>) -> ApiRefusal {
    ApiRefusal::new(StatusCode::BAD_REQUEST, message)
}

/// A request that somebody asks about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainBody {
    #[serde(default = "get_method")]
    method: String,
    url: String,
    /// Names and values.
    #[serde(default)]
    headers: Vec<(String, String)>,
    client: Option<IpAddr>,
    listener: Option<String>,
    /// What a TLS client offers.
    #[serde(default)]
    alpn: Vec<String>,
}

fn get_method() -> String {
    "GET".to_owned()
}

/// Why a request goes where it goes, for programs and for people.
#[derive(Debug, Serialize)]
struct ExplainAnswer {
    report: explain::Explanation,
    text: String,
}

async fn explain_one(
    State(admin): State<Admin>,
    body: Result<Json<ExplainBody>, JsonRejection>,
) -> Result<Json<ExplainAnswer>, ApiRefusal> {
    let example = r#"send JSON like {"method": "GET", "url": "https://shop.example/cart"}"#;
    let Json(command) = body.map_err(|error| bad(error.body_text()).help(example))?;
    let mut headers = http::HeaderMap::new();
    for (name, value) in &command.headers {
        match (name.parse::<http::HeaderName>(), value.parse::<http::HeaderValue>()) {
            (Ok(name), Ok(value)) => _ = headers.append(name, value),
            _ => return Err(bad(format!("{name}: {value} is no field")).help(example)),
        }
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let request = explain::ExplainRequest {
        method: command
            .method
            .parse()
            .map_err(|_| bad(format!("{} is no method", command.method)).help(example))?,
        url: command.url.parse().map_err(|_| bad(format!("{} is no URL", command.url)).help(example))?,
        headers,
        client: command.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        listener: command.listener,
        alpn: command.alpn,
        minute: sticky::minute(since),
    };
    let overrides = admin.live.overrides.load();
    let store = admin.live.store();
    let disk = admin.live.disk();
    let on_disk = |key: &[u8], selecting: &mut Selecting<'_>| {
        disk.as_ref().is_some_and(|disk| disk.may_have(key, selecting))
    };
    let kept = store.as_deref().map(|store| explain::Kept::new(store, &on_disk, since));
    let passing = explain::Passing::new(&AsServed);
    let limiter = admin.live.limiter.get();
    let known = explain::Known { overrides: &overrides, limiter, kept, passing };
    let explained =
        explain::explain(&admin.live.snapshot(), known, &request, fastrand::u64(..), Instant::now());
    let report =
        explained.map_err(|why| ApiRefusal::new(StatusCode::UNPROCESSABLE_ENTITY, why.to_string()))?;
    Ok(Json(ExplainAnswer { text: explain::render(&report, false), report }))
}

/// What is to be compared with what is in force.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanBody {
    /// A configuration; without it the process reads its own file.
    text: Option<String>,
    /// What messages call it.
    #[serde(default = "unnamed")]
    name: String,
    #[serde(default = "default_keys")]
    keys: u32,
    /// Whether changed probes are tried on the servers.
    #[serde(default)]
    probe: bool,
    /// Whether sources of servers are asked.
    #[serde(default)]
    discover: bool,
}

fn unnamed() -> String {
    "configuration".to_owned()
}

fn default_keys() -> u32 {
    100_000
}

/// What a reload would change, for programs and for people.
#[derive(Debug, Serialize)]
struct PlanAnswer {
    report: ReloadPreview,
    text: String,
}

async fn plan(
    State(admin): State<Admin>,
    body: Result<Json<PlanBody>, JsonRejection>,
) -> Result<Json<PlanAnswer>, ApiRefusal> {
    let Json(command) =
        body.map_err(|error| bad(error.body_text()).help("send JSON like {\"text\": \"listeners: …\"}"))?;
    if !(1..=10_000_000).contains(&command.keys) {
        return Err(bad(format!("{} keys are out of range", command.keys)).help("use 1 to 10000000"));
    }
    let PlanBody { text, name, keys: n_keys, probe: probes, discover: asks_sources } = command;
    let source = text.map_or_else(|| admin.source.clone(), |text| Source::Given { name, text });
    match control::preview(&admin.live, PreviewRequest { source, n_keys, probes, asks_sources }).await {
        Ok(report) => Ok(Json(PlanAnswer { text: preview::render(&report), report })),
        Err(refused) => Err(ApiRefusal::new(StatusCode::UNPROCESSABLE_ENTITY, refused.to_string())),
    }
}

/// How a reload is to be watched, if it is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadBody {
    /// A duration, like `60s`.
    guard: Option<String>,
    max_error_rise: Option<f64>,
    min_requests: Option<u64>,
    max_servers_lost: Option<usize>,
}

impl ReloadBody {
    fn guard(self) -> Result<Option<Guard>, ApiRefusal> {
        let Some(time) = self.guard else {
            let limits = (self.max_error_rise, self.min_requests, self.max_servers_lost);
            return match limits {
                (None, None, None) => Ok(None),
                _ => Err(bad("there are limits for a guard, and no guard").help(r#"add "guard": "60s""#)),
            };
        };
        let time = crate::units::duration(&time).map_err(bad)?;
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&time) {
            return Err(bad("`guard` is out of range").help("use 1s to 24h"));
        }
        let usual = GuardLimits::default();
        let error_rise = self.max_error_rise.unwrap_or(usual.error_rise);
        if !(0.0..=1.0).contains(&error_rise) {
            return Err(
                bad("`max_error_rise` is out of range").help("use 0 to 1; 0.02 is two percentage points")
            );
        }
        let limits = GuardLimits {
            error_rise,
            min_requests: self.min_requests.unwrap_or(usual.min_requests).max(1),
            servers_lost: self.max_servers_lost.unwrap_or(usual.servers_lost),
        };
        Ok(Some(Guard { time, limits }))
    }
}

async fn reload(
    State(admin): State<Admin>,
    Extension(Actor(actor)): Extension<Actor>,
    body: Bytes,
) -> Result<(StatusCode, Json<Receipt>), ApiRefusal> {
    // Nothing is as good as `{}`: `curl -X POST` shall do.
    let command = match body.is_empty() {
        true => ReloadBody::default(),
        false => serde_json::from_slice(&body)
            .map_err(|error| bad(error.to_string()).help(r#"send JSON like {"guard": "60s"}, or nothing"#))?,
    };
    let guard = command.guard()?;
    let (answer, outcome) = oneshot::channel();
    let receipt =
        ask(&admin, ControlMessage::Reload(Some(ReloadRequest { actor, guard, answer })), outcome).await?;
    let status = match receipt.outcome {
        ReloadOutcome::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::OK,
    };
    Ok((status, Json(Receipt::clone(&receipt))))
}

/// The body of a change of state.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateBody {
    state: StateWanted,
    #[serde(default)]
    force: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateWanted {
    Ready,
    Drain,
    Maint,
}

/// The body of a change of weight; `null` gives it back to the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightBody {
    weight: Option<u64>,
}

/// The server afterwards, and what the operator may not expect.
#[derive(Debug, Serialize)]
struct OperateAnswer {
    /// None if no source names it now, and what was said of it is forgotten.
    server: Option<status::ServerStatus>,
    notes: Vec<String>,
}

async fn set_state(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    PathNames(place): PathNames<(String, String)>,
    body: Result<Json<StateBody>, JsonRejection>,
) -> Result<Json<OperateAnswer>, ApiRefusal> {
    let Json(command) = body.map_err(|error| {
        bad(error.body_text()).help(r#"send JSON like {"state": "drain"}: ready, drain or maint"#)
    })?;
    let operator = match command.state {
        StateWanted::Ready => Operator::Ready,
        StateWanted::Drain => Operator::Drain,
        StateWanted::Maint => Operator::Maint,
    };
    operate(&admin, actor, place, Operation::State(operator), command.force).await
}

async fn set_weight(
    State(admin): State<Admin>,
    Extension(actor): Extension<Actor>,
    PathNames(place): PathNames<(String, String)>,
    body: Result<Json<WeightBody>, JsonRejection>,
) -> Result<Json<OperateAnswer>, ApiRefusal> {
    let Json(command) =
        body.map_err(|error| bad(error.body_text()).help(r#"send JSON like {"weight": 50}"#))?;
    let weight = command.weight.map(|weight| {
        Weight::new(weight).ok_or_else(|| {
            bad(format!("weight {weight} is out of range"))
                .help("use 1 to 256, or drain the server to stop new requests")
        })
    });
    operate(&admin, actor, place, Operation::Weight(weight.transpose()?), false).await
}

async fn operate(
    admin: &Admin,
    Actor(actor): Actor,
    (pool, server): (String, String),
    operation: Operation,
    force: bool,
) -> Result<Json<OperateAnswer>, ApiRefusal> {
    let (answer, outcome) = oneshot::channel();
    let command =
        OperatorCommand { pool: pool.clone(), server: server.clone(), operation, force, actor, answer };
    match ask(admin, ControlMessage::Operate(command), outcome).await? {
        Ok(done) => {
            let server = find_server(admin, &pool, &server).ok();
            Ok(Json(OperateAnswer { server, notes: done.notes }))
        }
        Err(OperationRefused::NoServer { .. }) if is_remembered(admin, &pool, &server) => {
            let error = format!("no source names {server} of pool {pool} now");
            Err(ApiRefusal::new(StatusCode::NOT_FOUND, error)
                .help("what is said of it can be taken back: `ready`, `weight … default`"))
        }
        // With the names that there are.
        Err(OperationRefused::NoPool(_) | OperationRefused::NoServer { .. }) => {
            match find_server(admin, &pool, &server) {
                Err(refusal) => Err(refusal),
                Ok(_) => Err(ApiRefusal::new(StatusCode::CONFLICT, "a reload came between; try again")),
            }
        }
        Err(refused @ OperationRefused::Relieved) => {
            Err(ApiRefusal::new(StatusCode::CONFLICT, refused.to_string()).help("say it again"))
        }
        Err(refused @ OperationRefused::CannotSpare(_)) => {
            Err(ApiRefusal::new(StatusCode::CONFLICT, refused.to_string())
                .help("use --force (`\"force\": true`) to do it all the same"))
        }
    }
}

/// Whether operators have said something of a server that is not there.
fn is_remembered(admin: &Admin, pool: &str, server: &str) -> bool {
    admin.live.overrides.load().of_absent(pool, |_| false).iter().any(|(name, _)| *name == server)
}

/// A probe that changes nothing; but it makes this process connect, which is not for everybody who may read.
async fn probe_one(
    State(admin): State<Admin>,
    PathNames((pool, server)): PathNames<(String, String)>,
) -> Result<Json<ProbeReport>, ApiRefusal> {
    let snapshot = admin.live.snapshot();
    let Some(found) = snapshot.pool(&pool) else {
        let pools = snapshot.pools().iter().map(|pool| &*pool.name);
        return Err(ApiRefusal::not_found(ApiError::no_pool(&pool, pools)));
    };
    let Some(member) = found.members.iter().find(|member| **member.server.name() == *server) else {
        let servers = found.members.iter().map(|member| &**member.server.name());
        return Err(ApiRefusal::not_found(ApiError::no_server(&found.name, &server, servers)));
    };
    let mut probed = probe::once(found, &member.server).await;
    let state = member.server.state();
    if state.admin == Operator::Maint {
        probed.notes.push("it is in maintenance, so nothing else probes it".to_owned());
    } else if found.plan.health.is_some() {
        probed.health = Some(view::health(state.health));
    }
    Ok(Json(probed))
}

/// What comes of an upgrade shows in the status: another process, or why there is none.
async fn upgrade(
    State(admin): State<Admin>,
    Extension(Actor(actor)): Extension<Actor>,
) -> Result<(StatusCode, Json<status::ProcessStatus>), ApiRefusal> {
    if admin.live.is_draining() {
        return Err(ApiRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "the process is stopping"));
    }
    if admin.live.upgrading.load(Relaxed) {
        return Err(ApiRefusal::new(StatusCode::CONFLICT, "an upgrade is under way already"));
    }
    let (answer, begun) = oneshot::channel();
    ask(&admin, ControlMessage::Upgrade(Some(UpgradeRequest { actor, answer })), begun).await?;
    Ok((StatusCode::ACCEPTED, Json(view::status(&admin).process)))
}
