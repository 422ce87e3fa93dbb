//! What the process is like right now, read off the snapshot and the counters.

use super::{Admin, cache, limits, maintenance};
use crate::api::status::{
    AbsentServer, AdminState as Administrative, EjectionCeiling, EjectionStatus, ListenerStatus, PoolStatus,
    PredecessorStatus, ProcessStatus, ReportedState, ServerStatus, SourceStatus, Status, StickyStatus,
};
use crate::api::to_millisecond;
use crate::config::plan::{Name, Protocol, StickyPlan};
use crate::metrics::SourceState;
use crate::operate::{Overrides, REMEMBERED, ServerOverride};
use crate::pool::{self, HealthState, Membership, Operator, PoolStats, StickyResult};
use crate::units::Weight;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use time::OffsetDateTime;

/// The two clocks at one moment, to tell one's times in the other's.
#[derive(Clone, Copy)]
struct Now {
    instant: Instant,
    wall: OffsetDateTime,
}

impl Now {
    fn wall_of(self, then: Instant) -> OffsetDateTime {
        to_millisecond(self.wall - self.instant.saturating_duration_since(then))
    }
}

pub(super) fn status(admin: &Admin) -> Status {
    let live = &admin.live;
    let snapshot = live.snapshot();
    let now = Now { instant: Instant::now(), wall: OffsetDateTime::now_utc() };
    let overrides = live.overrides.load();
    let guards = live.guards.load();
    let listeners: Vec<ListenerStatus> = listeners(admin);
    Status {
        process: ProcessStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            generation: snapshot.generation,
            started: to_millisecond(live.started),
            now: to_millisecond(now.wall),
            configuration: admin.source.name(),
            draining: live.is_draining(),
            upgrading: live.upgrading.load(Relaxed),
            upgrade_waits_until: live.upgrade_waits_until.load().as_deref().copied(),
            before: live.before.load().as_deref().map(before),
            last_upgrade_failure: live.last_upgrade_failure.load().as_deref().cloned(),
            connections: listeners.iter().map(|listener| listener.connections).sum(),
        },
        last_reload: live.last_reload.load().as_deref().cloned(),
        guard: guards.first().cloned(),
        earlier_guards: guards.get(1..).unwrap_or_default().to_vec(),
        listeners,
        pools: snapshot.pools().iter().map(|pool| of_pool(admin, pool, &overrides, now)).collect(),
        maintenance: maintenance::status(admin),
        limits: limits::counts(admin),
        cache: cache::status(admin),
    }
}

fn before(left: &crate::control::RemainingWork) -> PredecessorStatus {
    PredecessorStatus { pid: left.pid(), connections: left.connections(), in_flight: left.in_flight() }
}

fn listeners(admin: &Admin) -> Vec<ListenerStatus> {
    let readings = admin.listener_states.readings();
    let snapshot = admin.live.snapshot();
    let listener = |listener: &std::sync::Arc<crate::snapshot::Listener>| {
        let reading = readings.iter().find(|reading| reading.name == listener.plan.name);
        ListenerStatus {
            name: listener.plan.name.to_string(),
            addresses: listener.plan.addresses.iter().map(ToString::to_string).collect(),
            protocol: match listener.plan.protocol {
                Protocol::Http => "http",
                Protocol::Tcp => "tcp",
                Protocol::TlsPassthrough => "tls_passthrough",
                Protocol::Udp => "udp",
            }
            .to_owned(),
            connections: reading.map_or(0, |reading| reading.open),
            accepted: reading.map_or(0, |reading| reading.accepted),
            refused: reading.map_or(0, |reading| reading.refused),
        }
    };
    snapshot.listeners().iter().map(listener).collect()
}

fn of_pool(admin: &Admin, pool: &pool::Pool, overrides: &Overrides, now: Now) -> PoolStatus {
    PoolStatus {
        name: pool.name.to_string(),
        balance: pool.plan.balance.word().to_owned(),
        failing_open: pool.failing_open(),
        up: pool.counts().up,
        in_flight: pool.members.iter().map(|member| member.server.in_flight()).sum(),
        waiting: pool.queue.waiting() + waiting_before(admin, pool),
        served_by: served_by(admin, pool),
        may_be_out: pool.plan.outlier.as_ref().map(|outlier| {
            let (most, of) = pool::outlier::ceiling(pool, outlier);
            EjectionCeiling { most, of }
        }),
        sticky: pool.plan.sticky.as_ref().map(|sticky| of_sticky(sticky, &pool.stats)),
        figures: admin.live.pool_history().figures(&*pool.name),
        servers: (0..pool.members.len()).map(|index| of_server(admin, pool, index, overrides, now)).collect(),
        sources: admin.live.metrics.discovery.of_pool(&pool.name).into_iter().map(of_source).collect(),
        absent: absent(pool, overrides),
    }
}

/// Who waits in the process before this one.
fn waiting_before(admin: &Admin, pool: &pool::Pool) -> usize {
    admin.live.before.load().as_deref().map_or(0, |left| left.waiting(&pool.name))
}

fn served_by(admin: &Admin, pool: &pool::Pool) -> Option<String> {
    let snapshot = admin.live.snapshot();
    let serving = snapshot.serving(snapshot.pool(&pool.name)?);
    (serving.name != pool.name).then(|| serving.name.to_string())
}

/// Of whom operators have said something though no source names them now.
fn absent(pool: &pool::Pool, overrides: &Overrides) -> Vec<AbsentServer> {
    let is_there = |name: &str| pool.members.iter().any(|member| **member.server.name() == *name);
    let of = |(name, word): (&str, &ServerOverride)| {
        let since = word.absent_since()?;
        Some(AbsentServer {
            name: name.to_owned(),
            since: to_millisecond(since),
            until: to_millisecond(since + REMEMBERED),
            by_operator: word.state.clone(),
            weight: word.weight.map(Weight::get),
        })
    };
    overrides.of_absent(&pool.name, is_there).into_iter().filter_map(of).collect()
}

fn of_sticky(plan: &StickyPlan, stats: &PoolStats) -> StickyStatus {
    let count = |result: StickyResult| (result.label().to_owned(), stats.sticky(result));
    StickyStatus {
        cookie: plan.cookie.to_string(),
        mode: plan.mode.word().to_owned(),
        results: StickyResult::ALL.into_iter().map(count).collect(),
    }
}

fn of_source((source, state): (Name, SourceState)) -> SourceStatus {
    SourceStatus {
        source: source.to_string(),
        up: state.is_up,
        servers: state.servers,
        missing: state.missing,
        last_success: state.last_success.map(to_millisecond),
        next_query: state.next_query.map(to_millisecond),
        last_answer: state.last_answer,
        problem: state.problem,
        held: state.held.map(|held| held.word().to_owned()),
    }
}

fn of_server(
    admin: &Admin,
    pool: &pool::Pool,
    index: usize,
    overrides: &Overrides,
    now: Now,
) -> ServerStatus {
    let member = &pool.members[index];
    let server = &member.server;
    let said = overrides.of(server);
    let state = server.state();
    ServerStatus {
        name: server.name().to_string(),
        address: server.address().to_string(),
        state: deciding(server, member.drain),
        health: health(state.health),
        since: now.wall_of(server.since()),
        probed: pool.plan.health.is_some() && state.admin != Operator::Maint,
        last_failure: admin.live.metrics.server(server.id()).last_failure(),
        admin: Administrative {
            by_configuration: member.drain,
            by_operator: said.and_then(|word| word.state.clone()),
        },
        in_flight: server.in_flight(),
        figures: admin.live.server_history().figures(&server.id()),
        weight: member.weight.get(),
        weight_by_operator: said.is_some_and(|word| word.weight.is_some()),
        max_connections: member.max_connections.map(std::num::NonZeroU32::get),
        backup: member.backup,
        stands_in: member.backup && !member.server.is_ejected() && pool.backups_serve(),
        ramp: pool.ramp_percent(index, now.instant),
        missing: server.is_missing(),
        ejection: ejection(server, now),
    }
}

fn ejection(server: &pool::Server, now: Now) -> Option<EjectionStatus> {
    let standing = server.outlier().standing();
    let ejection = standing.ejection?;
    Some(EjectionStatus {
        reason: ejection.reason.label().to_owned(),
        evidence: ejection.evidence,
        since: now.wall_of(ejection.since),
        until: to_millisecond(now.wall + ejection.until.saturating_duration_since(now.instant)),
        trial: ejection.trial.map(|trial| trial.passed),
        strikes: standing.strikes,
    })
}

/// The first of the facts that keeps requests away, or that none does.
fn deciding(server: &pool::Server, drained: bool) -> ReportedState {
    let state = server.state();
    match (state.membership, state.admin) {
        (Membership::Leaving, _) => ReportedState::Leaving,
        (_, Operator::Maint) => ReportedState::Maint,
        (_, Operator::Drain) => ReportedState::Drain,
        _ if drained => ReportedState::Drain,
        _ if state.health == HealthState::Up && server.is_ejected() => ReportedState::Ejected,
        _ => health(state.health),
    }
}

pub(super) fn health(health: HealthState) -> ReportedState {
    match health {
        HealthState::Up => ReportedState::Up,
        HealthState::Down => ReportedState::Down,
        HealthState::Probing => ReportedState::Probing,
    }
}
