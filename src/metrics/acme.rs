//! What is counted of certificates that an authority gives.

use super::family::Family;
use super::lock;
use crate::config::plan::Name;
use prometheus::proto::MetricFamily;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeResult {
    Success,
    /// The authority said no, or could not see that the name is ours.
    Refused,
    /// The authority cannot be reached or is not itself.
    Away,
    /// Something here, the storage for one.
    Own,
}

impl AcmeResult {
    const ALL: [Self; 4] = [Self::Success, Self::Refused, Self::Away, Self::Own];

    fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Away => "away",
            Self::Own => "own",
        }
    }
}

/// Orders by their ends, and what is known of each name.
#[derive(Debug, Default)]
pub struct AcmeMetrics {
    orders: [AtomicU64; AcmeResult::ALL.len()],
    names: Mutex<BTreeMap<Name, CertificateFigures>>,
}

/// Of one name, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
struct CertificateFigures {
    last_success: Option<i64>,
    next_order: Option<i64>,
    is_in_force: bool,
}

impl AcmeMetrics {
    pub fn ordered(&self, name: &Name, now: i64) {
        self.orders[AcmeResult::Success as usize].fetch_add(1, Relaxed);
        lock(&self.names).entry(name.clone()).or_default().last_success = Some(now);
    }

    pub fn failed(&self, result: AcmeResult) {
        self.orders[result as usize].fetch_add(1, Relaxed);
    }

    /// Nothing is ordered for this name until then.
    pub fn next_order(&self, name: &Name, at: i64) {
        lock(&self.names).entry(name.clone()).or_default().next_order = Some(at);
    }

    /// These names are configured; of each, whether a certificate for it is in force. Others are forgotten.
    pub fn keeps<'a>(&self, names: impl Iterator<Item = (&'a Name, bool)>) {
        let mut figures = lock(&self.names);
        let mut before = std::mem::take(&mut *figures);
        for (name, is_in_force) in names {
            let of = before.remove(name).unwrap_or_default();
            figures.insert(name.clone(), CertificateFigures { is_in_force, ..of });
        }
    }

    pub(super) fn families(&self) -> impl Iterator<Item = MetricFamily> {
        let mut orders =
            Family::counter("evenkeel_acme_orders_total", "Orders of certificates, by their end.");
        for result in AcmeResult::ALL {
            let count = self.orders[result as usize].load(Relaxed);
            if count > 0 {
                orders.add(&[("result", result.label())], count as f64);
            }
        }
        let mut in_force = Family::gauge(
            "evenkeel_acme_certificate_in_force",
            "Whether there is a certificate for a name; without one its handshakes fail.",
        );
        let mut success = Family::gauge(
            "evenkeel_acme_last_success_timestamp_seconds",
            "When this process last ordered a name's certificate.",
        );
        let mut next = Family::gauge(
            "evenkeel_acme_next_order_timestamp_seconds",
            "When a name's certificate is to be ordered next, for renewal or after a failure.",
        );
        for (name, figures) in &*lock(&self.names) {
            let labels = [("name", &**name)];
            in_force.add(&labels, f64::from(u8::from(figures.is_in_force)));
            if let Some(at) = figures.last_success {
                success.add(&labels, at as f64);
            }
            if let Some(at) = figures.next_order {
                next.add(&labels, at as f64);
            }
        }
        [orders, in_force, success, next].into_iter().filter_map(Family::finish)
    }
}
