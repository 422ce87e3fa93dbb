//! Rules that answer for their pools.

use super::family::Family;
use crate::snapshot::Snapshot;
use prometheus::proto::MetricFamily;

pub(super) fn families(snapshot: &Snapshot) -> Option<MetricFamily> {
    let mut maintenance = Family::gauge(
        "evenkeel_maintenance",
        "1 for rules that are in maintenance, by a policy or by an operator.",
    );
    for rule in snapshot.maintenance().filter(|rule| rule.is_enabled) {
        let route = rule.route.map_or("", |(_, rule)| rule);
        maintenance.add(&[("listener", rule.listener), ("route", route)], 1.0);
    }
    maintenance.finish()
}
