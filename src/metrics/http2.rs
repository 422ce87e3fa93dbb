//! What is counted of HTTP/2 clients that were cut off.

use super::ListenerReading;
use super::scrape::Family;
use crate::wire::abuse::Abuse;
use prometheus::proto::MetricFamily;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One listener's connections that were cut off, by what for.
#[derive(Debug, Default)]
pub struct Abuses([AtomicU64; Abuse::ALL.len()]);

impl Abuses {
    pub fn count(&self, abuse: Abuse) {
        self.0[abuse as usize].fetch_add(1, Relaxed);
    }

    pub fn read(&self) -> AbuseReading {
        AbuseReading(std::array::from_fn(|index| self.0[index].load(Relaxed)))
    }
}

/// What [`Abuses`] were at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct AbuseReading([u64; Abuse::ALL.len()]);

/// The family about HTTP/2.
pub(super) fn family(listeners: &[ListenerReading]) -> Option<MetricFamily> {
    let mut abuse = Family::counter(
        "evenkeel_http2_abuse_total",
        "HTTP/2 connections cut off, by what their clients did too much of or against the protocol.",
    );
    for listener in listeners {
        for kind in Abuse::ALL {
            let count = listener.abuse.0[kind as usize];
            if count > 0 {
                abuse.add(&[("listener", &listener.name), ("kind", kind.label())], count as f64);
            }
        }
    }
    abuse.finish()
}
