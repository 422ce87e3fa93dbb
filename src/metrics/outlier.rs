//! Servers that are left out because they do worse than the others.

use super::family::Family;
use crate::pool::outlier::{Reason, TrialResult};
use crate::snapshot::Snapshot;
use prometheus::proto::MetricFamily;

/// Of pools that eject.
pub(super) fn families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let mut ejected = Family::gauge("evenkeel_server_ejected", "1 while a server is ejected or tried out.");
    let mut ejections = Family::counter(
        "evenkeel_ejections_total",
        "How often a server was ejected: consecutive_errors, worse_by, slower_than, or trial, which failed.",
    );
    let mut prevented = Family::counter(
        "evenkeel_ejections_prevented_total",
        "How often a server should have been ejected, and too few others were left.",
    );
    let mut trials = Family::counter(
        "evenkeel_trials_total",
        "Requests that tried an ejected server out, by what they came to: passed, failed, inconclusive or slow.",
    );
    for pool in snapshot.pools().iter().filter(|pool| pool.plan.outlier.is_some()) {
        for member in &pool.members {
            let server = &member.server;
            let labels = [("pool", &**server.pool()), ("server", &**server.name())];
            ejected.add(&labels, f64::from(u8::from(server.is_ejected())));
            let outlier = server.outlier();
            prevented.add(&labels, outlier.prevented() as f64);
            for reason in Reason::ALL {
                let count = outlier.ejections(reason);
                if count > 0 {
                    ejections.add(&[labels[0], labels[1], ("reason", reason.label())], count as f64);
                }
            }
            for result in TrialResult::ALL {
                let count = outlier.trials.of(result);
                if count > 0 {
                    trials.add(&[labels[0], labels[1], ("result", result.label())], count as f64);
                }
            }
        }
    }
    [ejected, ejections, prevented, trials].into_iter().filter_map(Family::finish).collect()
}
