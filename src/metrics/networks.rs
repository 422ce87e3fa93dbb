//! Lists of networks: how long they are, and whether they are as their files are.

use super::family::Family;
use crate::networks::NamedNetworks;
use prometheus::proto::MetricFamily;
use std::sync::Arc;

pub(super) fn families(networks: &[Arc<NamedNetworks>]) -> Vec<MetricFamily> {
    let mut lengths = Family::gauge("evenkeel_networks", "Networks under a name of `networks`.");
    let mut up = Family::gauge(
        "evenkeel_networks_up",
        "1 if a list's file could be read when it last was to be; what was read before stays in use while it cannot.",
    );
    for named in networks {
        let labels = [("networks", &*named.name)];
        lengths.add(&labels, named.list().n_networks as f64);
        if named.file().is_some() {
            up.add(&labels, f64::from(u8::from(named.fault().is_none())));
        }
    }
    [lengths, up].into_iter().filter_map(Family::finish).collect()
}
