//! Databases of where clients are: whether they are as their files are, and how old.

use super::family::Family;
use crate::geo::Geo;
use prometheus::proto::MetricFamily;

pub(super) fn families(geo: &Geo) -> Vec<MetricFamily> {
    let mut up = Family::gauge(
        "evenkeel_geo_up",
        "1 if a database's file could be read when it last was to be; what was read before stays in use while it cannot.",
    );
    let mut built =
        Family::gauge("evenkeel_geo_build_timestamp_seconds", "When the database that is in use was made.");
    for database in geo.databases() {
        let labels = [("database", database.kind.key())];
        up.add(&labels, f64::from(u8::from(database.fault().is_none())));
        if let Some(content) = database.content() {
            built.add(&labels, content.built() as f64);
        }
    }
    [up, built].into_iter().filter_map(Family::finish).collect()
}
