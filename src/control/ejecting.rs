//! Has servers left out that do worse than the others, and says so.

use super::{Control, LedgerEntry};
use crate::api::EventKind;
use crate::config::plan::Name;
use crate::pool::outlier::{OutlierChange, OutlierWatch, back};
use crate::pool::{OutlierSignals, Pool, Server};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often servers are looked at when nothing asks for it.
const EVERY: Duration = Duration::from_millis(250);
/// And how often at most, however much asks for it.
const AT_MOST_EVERY: Duration = Duration::from_millis(20);

/// What is known of pools that eject.
#[derive(Debug, Default)]
pub(super) struct Ejecting {
    pools: HashMap<Name, OutlierWatch>,
    looked: Option<Instant>,
}

impl Ejecting {
    /// When somebody who asks for a look may have one.
    pub(super) fn next_look(&self) -> Instant {
        self.looked.map_or_else(Instant::now, |looked| looked + AT_MOST_EVERY)
    }
}

/// Ready when somebody asks for a look, not before this instant. What is not waited for to its end is not lost.
pub(super) async fn asked_for_look(outliers: &OutlierSignals, not_before: Instant) {
    tokio::time::sleep_until(not_before.into()).await;
    outliers.suspected().await;
}

impl Control {
    /// Looks at all servers, if it is time.
    pub(super) fn look_for_outliers_due(&mut self) {
        let is_due = self.ejecting.looked.is_none_or(|looked| looked.elapsed() >= EVERY);
        if is_due {
            self.look_for_outliers();
        }
    }

    /// Looks at all servers of pools that eject.
    pub(super) fn look_for_outliers(&mut self) {
        let now = Instant::now();
        self.ejecting.looked = Some(now);
        let snapshot = self.live.snapshot();
        // Pools that eject no more have everybody back; of those that are gone nobody is left.
        self.ejecting.pools.retain(|name, _| snapshot.pool(name).is_some());
        let ceases =
            |pool: &&Arc<Pool>| pool.plan.outlier.is_none() && self.ejecting.pools.contains_key(&pool.name);
        let ceasing: Vec<_> = snapshot.pools().iter().filter(ceases).cloned().collect();
        for pool in ceasing {
            self.ejecting.pools.remove(&pool.name);
            self.tell(&OutlierWatch::release_all(&pool, now));
        }
        for pool in snapshot.pools() {
            let Some(plan) = &pool.plan.outlier else { continue };
            let watch = self.ejecting.pools.entry(pool.name.clone()).or_default();
            let changes = watch.look(pool, plan, now, &mut fastrand::f64);
            self.tell(&changes);
        }
    }

    /// Brings a server back that an operator wants to have back; its earlier ejections are forgotten.
    pub(super) fn bring_back(&mut self, server: &Arc<Server>, actor: &str) {
        let Some(change) = back(server, Instant::now(), "an operator wants it back") else { return };
        let mut standing = server.outlier().standing();
        standing.strikes = 0;
        server.outlier().set_standing(standing);
        self.look_at_ramps();
        self.tell_of(&change, actor);
    }

    fn tell(&self, changes: &[OutlierChange]) {
        changes.iter().for_each(|change| self.tell_of(change, "outlier"));
        if !changes.is_empty() {
            self.look_at_ramps();
        }
    }

    fn tell_of(&self, change: &OutlierChange, actor: &str) {
        let event = |server: &Server, change: Option<(&str, &str)>, cause: String| {
            let entry = LedgerEntry::new(EventKind::Ejection, actor, cause).of(server.pool(), server.name());
            self.live.record(match change {
                Some((from, to)) => entry.change(from, to),
                None => entry,
            });
        };
        match change {
            OutlierChange::Ejected { server, ejection, strikes } => {
                let seconds = ejection.until.saturating_duration_since(ejection.began).as_secs_f64();
                warn!(pool = %server.pool(), server = %server.name(), reason = ejection.reason.label(),
                    evidence = ejection.evidence, seconds, strikes, "server ejected");
                let from = if ejection.began == ejection.since { "up" } else { "trial" };
                event(server, Some((from, "ejected")), format!("{} ({seconds:.1} s)", ejection.evidence));
            }
            OutlierChange::Prevented { server, reason, evidence, allowed, of } => {
                warn!(pool = %server.pool(), server = %server.name(), reason = reason.label(), evidence, allowed, of,
                    "server not ejected: too few others are left");
                let text = format!("not ejected, for {allowed} of {of} may be down or ejected: {evidence}");
                event(server, None, text);
            }
            OutlierChange::OnTrial { server } => {
                info!(pool = %server.pool(), server = %server.name(), "ejected server is tried out");
                event(server, Some(("ejected", "trial")), "its time is over".to_owned());
            }
            OutlierChange::Back { server, why, by_trial } => {
                info!(pool = %server.pool(), server = %server.name(), why, "ejected server is back");
                let from = if *by_trial { "trial" } else { "ejected" };
                event(server, Some((from, "up")), (*why).to_owned());
            }
        }
    }
}
