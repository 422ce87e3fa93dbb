//! One task for each probed server: wait, probe, observe, report.

use super::Live;
use crate::config::plan::{HealthPlan, Name, PROBES_AT_ONCE};
use crate::origination::SharedOrigination;
use crate::pool::{HealthState, HealthThresholds, Server, Transition};
use crate::probe::{self, ProbeFailure, ProbeTarget, Steps};
use crate::snapshot::ProbeTask;
use futures_util::FutureExt;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

/// How long after a probe that came to grief the next one begins, at least: whatever it met is there again.
const AFTER_FAULT: Duration = Duration::from_secs(1);

/// A refused connection brings the next probe forward, but no nearer to the last one.
const NO_SOONER: Duration = Duration::from_secs(1);

/// A change of a server's health, with its evidence.
#[derive(Debug)]
pub(crate) struct HealthChange {
    pub(crate) server: Arc<Server>,
    pub(crate) transition: Transition,
    /// The last probe's failure; none when it passed.
    pub(crate) failure: Option<ProbeFailure>,
    /// How long the last probe took.
    pub(crate) took: Duration,
}

/// All probe tasks.
#[derive(Debug)]
pub(crate) struct Probing {
    tasks: HashMap<u32, CancellationToken>,
    /// For each pool as many as may be under way at once, so that one whose servers say nothing delays no other's.
    permits: HashMap<Name, Arc<Semaphore>>,
    reports: mpsc::UnboundedSender<HealthChange>,
    live: Arc<Live>,
    /// Open while a server has not had its first result.
    first: TaskTracker,
}

impl Probing {
    pub(crate) fn new(live: Arc<Live>, reports: mpsc::UnboundedSender<HealthChange>) -> Self {
        Self { tasks: HashMap::new(), permits: HashMap::new(), reports, live, first: TaskTracker::new() }
    }

    /// Ends the probing of a server; a probe under way is no result.
    pub(crate) fn stop(&mut self, server: u32) {
        if let Some(token) = self.tasks.remove(&server) {
            token.cancel();
            // The next probe may look at none.
            self.live.metrics.server(server).certificate_expires(None);
        }
    }

    /// Probes as the pool's connections are secured, now and after reloads.
    pub(crate) fn start(&mut self, task: ProbeTask, origination: SharedOrigination) {
        let token = CancellationToken::new();
        self.tasks.insert(task.server.id(), token.clone());
        let permits = self.permits.entry(task.server.pool().clone());
        let permits = permits.or_insert_with(|| Arc::new(Semaphore::new(PROBES_AT_ONCE)));
        let probing = Task {
            rule: HealthThresholds::from(&task.health),
            probe: probe::build(&task.health, task.proxy_protocol, task.is_h2, origination),
            task,
            permits: Arc::clone(permits),
            reports: self.reports.clone(),
            live: Arc::clone(&self.live),
        };
        let first = self.first.token();
        tokio::spawn(async move {
            tokio::select! {
                // First: an answer that came meanwhile is no result any more.
                biased;
                () = token.cancelled() => {}
                () = probing.run(first) => {}
            }
        });
    }

    /// Forgets pools that are gone.
    pub(crate) fn forget(&mut self, has_pool: impl Fn(&Name) -> bool) {
        self.permits.retain(|pool, _| has_pool(pool));
    }

    /// Waits until each server that is probed now has its first result.
    pub(crate) async fn first_results(&self) {
        self.first.close();
        self.first.wait().await;
        self.first.reopen();
    }
}

struct Task {
    task: ProbeTask,
    rule: HealthThresholds,
    probe: Arc<dyn probe::Probe>,
    permits: Arc<Semaphore>,
    reports: mpsc::UnboundedSender<HealthChange>,
    live: Arc<Live>,
}

impl Task {
    async fn run(self, first: tokio_util::task::task_tracker::TaskTrackerToken) {
        let health = &self.task.health;
        self.once_or_never().await;
        drop(first);
        // From here on each server keeps its own time.
        self.rest(health.interval.mul_f64(fastrand::f64())).await;
        loop {
            let pause = match self.once_or_never().await {
                true => jittered(health, fastrand::f64()),
                false => jittered(health, fastrand::f64()).max(AFTER_FAULT),
            };
            self.rest(pause).await;
        }
    }

    /// Until the next probe is due, or wanted before.
    async fn rest(&self, pause: Duration) {
        let no_sooner = pause.min(NO_SOONER);
        tokio::time::sleep(no_sooner).await;
        let wanted = self.task.server.early_probe().wanted();
        let _ = tokio::time::timeout(pause - no_sooner, wanted).await;
    }

    /// Probes once; whether that went well, whatever the result. A fault of ours must not end a server's probing for good.
    async fn once_or_never(&self) -> bool {
        let Err(fault) = AssertUnwindSafe(self.once()).catch_unwind().await else { return true };
        let message = fault.downcast_ref::<&str>().map(ToString::to_string);
        let message = message.or_else(|| fault.downcast_ref::<String>().cloned()).unwrap_or_default();
        let server = &self.task.server;
        error!(pool = %server.pool(), server = %server.name(), message,
            "a probe ended by a fault of our own; it is no result, and the server is probed again");
        let series = self.live.metrics.server(server.id());
        let failure = ProbeFailure::Internal(message);
        series.probed(failure.label());
        series.failed(Some(failure.to_string()));
        false
    }

    async fn once(&self) {
        let due = Instant::now();
        let Ok(_permit) = self.permits.acquire().await else { return };
        let server = &self.task.server;
        self.live.metrics.probe_waits(server.pool()).record(due.elapsed());
        server.early_probe().begin();
        let target = ProbeTarget::new(server, self.task.health.port);
        let started = Instant::now();
        let result = probe::run(&*self.probe, &target, self.task.health.timeout, &Steps::default()).await;
        let series = self.live.metrics.server(server.id());
        series.certificate_expires(self.probe.certificate_expires());
        series.probed(result.as_ref().map_or_else(ProbeFailure::label, |()| "pass"));
        let now = Instant::now();
        let took = now - started;
        self.live.metrics.probe_durations(server.pool()).record(took);
        let failure = result.err();
        series.failed(failure.as_ref().map(ToString::to_string));
        if let Some(failure) = &failure {
            debug!(pool = %server.pool(), server = %server.name(), reason = %failure, "probe failed");
        }
        if let Some(failure) = failure.as_ref().filter(|failure| failure.is_our_own()) {
            error!(pool = %server.pool(), server = %server.name(), reason = %failure,
                "cannot probe; this is no result");
            return;
        }
        let Some(transition) = server.observe(failure.is_none(), &self.rule, now) else { return };
        series.turned(transition.to);
        if transition.to == HealthState::Up {
            server.set_close_at(None);
            info!(pool = %server.pool(), server = %server.name(), "server up");
        } else {
            server.set_close_at(Some(now + self.task.drain_timeout));
            let reason = failure.as_ref().map(ToString::to_string).unwrap_or_default();
            warn!(pool = %server.pool(), server = %server.name(), reason, in_flight = server.in_flight(), "server down");
        }
        // The receiver lives as long as the process serves.
        let _ = self.reports.send(HealthChange { server: Arc::clone(server), transition, failure, took });
    }
}

/// The interval, give or take `jitter`; `chance` is 0 to 1.
fn jittered(health: &HealthPlan, chance: f64) -> Duration {
    let share = f64::from(health.jitter.0) / 100.0;
    health.interval.mul_f64((1.0 + share * (2.0 * chance - 1.0)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{Initial, ProbePlan};
    use crate::units::Percent;
    use std::num::NonZeroU32;

    /// It panics the first time and passes from then on.
    #[derive(Debug, Default)]
    struct FaultyOnce(std::sync::atomic::AtomicBool);

    #[async_trait::async_trait]
    impl probe::Probe for FaultyOnce {
        async fn check(&self, _: &ProbeTarget, _: &Steps) -> Result<(), ProbeFailure> {
            assert!(self.0.swap(true, std::sync::atomic::Ordering::Relaxed), "out of order");
            Ok(())
        }

        fn rule(&self) -> String {
            String::new()
        }
    }

    #[tokio::test]
    async fn a_probe_that_ends_by_a_fault_is_no_result_and_not_the_last() {
        let text = "listeners: { web: { address: 127.0.0.1:80, pool: app } }\n\
                    pools: { app: { servers: [10.0.0.1:80], health: { tcp: {}, rise: 1 } } }";
        let (plan, _) = crate::config::parse(text).expect("a good configuration");
        let (snapshot, delta) = crate::snapshot::Snapshot::empty().evolve(plan, Instant::now());
        let task = delta.probes_started[0].clone();
        let (reports, mut turned) = mpsc::unbounded_channel();
        let probing = Task {
            rule: HealthThresholds::from(&task.health),
            task,
            probe: Arc::new(FaultyOnce::default()),
            permits: Arc::new(Semaphore::new(1)),
            reports,
            live: Live::new(),
        };
        let server = &snapshot.pools()[0].members[0].server;
        assert!(!probing.once_or_never().await);
        assert_eq!(server.state().health, HealthState::Probing);
        let said = probing.live.metrics.server(server.id()).last_failure();
        assert_eq!(said.as_deref(), Some("the probe ended by a fault of evenkeel's: out of order"));
        assert!(probing.once_or_never().await);
        assert_eq!(server.state().health, HealthState::Up);
        assert!(turned.try_recv().is_ok());
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let health = HealthPlan {
            probe: ProbePlan::Tcp(Default::default()),
            port: None,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            fall: NonZeroU32::MIN,
            rise: NonZeroU32::MIN,
            jitter: Percent(10),
            initial: Initial::Up,
        };
        let [low, middle, high] = [0.0, 0.5, 1.0].map(|chance| jittered(&health, chance));
        assert_eq!([low, middle, high], [9, 10, 11].map(Duration::from_secs));
    }
}
