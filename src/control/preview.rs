//! What a reload would do to the process as it is: read, check and evolve as a reload does, and then put nothing in
//! force.

use super::aside::{FILES_WITHIN, aside};
use super::reading::{LoadedConfiguration, ReloadRefused, Source, load};
use super::ready::originations;
use super::{Live, milliseconds, sticky_key};
use crate::config::plan::{PoolPlan, SourcePlan};
use crate::discover::once;
use crate::origination::SharedOrigination;
use crate::pool::{HealthState, Server};
use crate::preview::{self, ReloadPreview, report::PreviewedProbe};
use crate::probe::{self, ProbeTarget, Steps};
use crate::snapshot::ProbeTask;
use arc_swap::ArcSwapOption;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Probes of a preview at once.
const AT_ONCE: usize = 64;

/// A configuration that somebody thinks of putting in force.
#[derive(Debug)]
pub(crate) struct PreviewRequest {
    pub(crate) source: Source,
    /// So many keys are looked up for each pool that hashes.
    pub(crate) n_keys: u32,
    /// Whether changed probes are tried on the servers.
    pub(crate) probes: bool,
    /// Whether sources are asked; without, whom they have named stays, as with a reload.
    pub(crate) asks_sources: bool,
}

/// A probe to try once.
#[derive(Debug)]
struct ProbeTrial {
    task: ProbeTask,
    origination: SharedOrigination,
    is_up: Option<bool>,
}

/// What a reload would change.
///
/// # Errors
/// As a reload would refuse it. That an address cannot be opened is not found out.
pub(crate) async fn preview(live: &Arc<Live>, draft: PreviewRequest) -> Result<ReloadPreview, ReloadRefused> {
    let with_probes = draft.probes;
    let live = Arc::clone(live);
    // Thousands of servers and keys take their time; probes and signals must not wait for it.
    let name = draft.source.name();
    let computed = aside(FILES_WITHIN, move || compare(&live, &draft)).await;
    let (mut report, trials) = computed.unwrap_or_else(|why| Err(ReloadRefused::NotRead { name, why }))?;
    if with_probes {
        report.probes = run(trials).await;
        for probed in report.probes.iter().filter(|probed| !probed.passed && probed.is_up == Some(true)) {
            let failure = probed.failure.as_deref().unwrap_or_default();
            report.warnings.push(format!(
                "pools.{}: {} is up and fails the new probe: {failure}",
                probed.pool, probed.server
            ));
        }
    }
    Ok(report)
}

fn compare(live: &Live, draft: &PreviewRequest) -> Result<(ReloadPreview, Vec<ProbeTrial>), ReloadRefused> {
    let LoadedConfiguration { mut plan, files, warnings, .. } = load(&draft.source)?;
    // A reload does not wait for sources either: what they have named so far stays.
    let waits = if draft.asks_sources {
        let known = |pool: &PoolPlan, source: &SourcePlan| live.found.known_of(pool, source);
        let filled = once::ask_and_fill(&mut plan, &[], known);
        match filled {
            Ok((_, notes)) => notes,
            Err(error) => return Err(ReloadRefused::Unreadable { name: draft.source.name(), error }),
        }
    } else {
        let waits = live.found.warnings(&plan);
        live.found.fill(&mut plan);
        waits
    };
    sticky_key::fill(&mut plan, live.sticky_key.load().as_deref());
    let in_force = live.snapshot();
    let overrides = live.overrides.load();
    let (_, ended) = overrides.kept_by(&plan, OffsetDateTime::now_utc());
    overrides.apply_to(&mut plan);
    let now = Instant::now();
    let (next, delta) = in_force.evolve(plan, now);
    let originations = originations(&next, files.pools)?;
    let mut report = preview::report_live(&in_force, &next, &delta, draft.n_keys, now);
    let disk = live.disk();
    let disk = disk.as_ref().map(|disk| (disk.path(), disk.in_use().bytes));
    let cached = live.store().map(|store| preview::cached(&next, &store, disk));
    report.cache = cached.filter(|cached| cached.responses > 0 || cached.disk.bytes > 0);
    let ended =
        ended.names().into_iter().map(|server| format!("what operators said of {server} ends with it"));
    report.warnings.splice(0..0, warnings.into_iter().chain(waits).chain(ended));
    let ids = |servers: &[Arc<Server>]| servers.iter().map(|server| server.id()).collect::<HashSet<_>>();
    let (recounted, added) = (ids(delta.recounted()), ids(&delta.servers.added));
    let mut trials = Vec::new();
    for (pool, origination) in next.pools().iter().zip(originations) {
        let origination: SharedOrigination = Arc::new(ArcSwapOption::new(origination));
        for member in &pool.members {
            let id = member.server.id();
            let is_up = match (recounted.contains(&id), added.contains(&id)) {
                (true, _) => Some(member.server.state().health == HealthState::Up),
                (_, true) => None,
                _ => continue,
            };
            let task = ProbeTask::new(&member.server, &pool.plan);
            trials.extend(task.map(|task| ProbeTrial { task, origination: Arc::clone(&origination), is_up }));
        }
    }
    Ok((report, trials))
}

async fn run(trials: Vec<ProbeTrial>) -> Vec<PreviewedProbe> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for (at, trial) in trials.into_iter().enumerate() {
        let places = Arc::clone(&places);
        running.spawn(async move {
            let _place = places.acquire().await;
            (at, once(trial).await)
        });
    }
    let mut probed = running.join_all().await;
    probed.sort_unstable_by_key(|(at, _)| *at);
    probed.into_iter().map(|(_, probed)| probed).collect()
}

async fn once(ProbeTrial { task, origination, is_up }: ProbeTrial) -> PreviewedProbe {
    let ProbeTask { server, health, proxy_protocol, is_h2, .. } = task;
    let probe = probe::build(&health, proxy_protocol, is_h2, origination);
    let started = Instant::now();
    let target = ProbeTarget::new(&server, health.port);
    let result = probe::run(&*probe, &target, health.timeout, &Steps::default()).await;
    PreviewedProbe {
        pool: server.pool().to_string(),
        server: server.name().to_string(),
        address: server.address().to_string(),
        is_up,
        passed: result.is_ok(),
        failure: result.err().map(|failure| failure.to_string()),
        took_ms: milliseconds(started.elapsed()),
    }
}
