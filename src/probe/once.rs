//! One probe because somebody asks for it: the pool's own, watched step by step. What it finds is for them alone.

use super::steps::{milliseconds, printable};
use super::{ProbeFailure, ProbeTarget, Steps, build, run};
use crate::api::ProbeReport;
use crate::api::probe::StepKind;
use crate::config::plan::{self, HealthPlan, Initial, ProbePlan, TcpProbe};
use crate::pool::{Pool, Server};
use crate::units::Percent;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a pool without `health` is asked: whether a connection opens, within the usual time.
fn connection() -> HealthPlan {
    HealthPlan {
        probe: ProbePlan::Tcp(TcpProbe::default()),
        port: None,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        fall: NonZeroU32::MIN,
        rise: NonZeroU32::MIN,
        jitter: Percent(0),
        initial: Initial::Up,
    }
}

fn kind(probe: &plan::ProbePlan) -> &'static str {
    match probe {
        ProbePlan::Http(_) => "http",
        ProbePlan::Tcp(_) => "tcp",
        ProbePlan::Tls(_) => "tls",
        ProbePlan::Grpc(_) => "grpc",
        ProbePlan::Udp(_) => "udp",
    }
}

/// Probes one of a pool's servers as the prober does, and changes nothing.
pub async fn once(pool: &Pool, server: &Arc<Server>) -> ProbeReport {
    let mut notes = Vec::new();
    let health = pool.plan.health.clone().unwrap_or_else(|| {
        notes.push(format!(
            "pool {} has no `health`, so its servers are not probed and count as up; this was a TCP connect",
            pool.name
        ));
        connection()
    });
    let probe =
        build(&health, pool.plan.proxy_protocol, pool.plan.is_probed_by_h2(), Arc::clone(&pool.origination));
    let steps = Steps::watched();
    let started = Instant::now();
    steps.begin(StepKind::Resolve);
    let target = ProbeTarget::new(server, health.port);
    let address = &target.address;
    steps.found(|| match (health.port, &target.host) {
        (Some(_), _) => format!("{address}, by `health.port`"),
        (None, Some(host)) => format!("{address}, found by the name {host}"),
        (None, None) => format!("{address}, an address already"),
    });
    let outcome = run(&*probe, &target, health.timeout, &steps).await;
    let took_ms = milliseconds(started.elapsed());
    ProbeReport {
        pool: pool.name.to_string(),
        server: server.name().to_string(),
        kind: kind(&health.probe).to_owned(),
        address: server.address().to_string(),
        timeout_ms: milliseconds(health.timeout),
        steps: steps.end(outcome.is_ok()),
        passed: outcome.is_ok(),
        result: outcome.as_ref().map_or_else(ProbeFailure::label, |()| "pass").to_owned(),
        rule: outcome.map_or_else(|failure| printable(&failure.to_string()), |()| probe.rule()),
        took_ms,
        health: None,
        notes,
    }
}
