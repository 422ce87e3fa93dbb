//! What is counted of TLS that ends at a listener.

use super::ListenerReading;
use super::scrape::Family;
use prometheus::proto::MetricFamily;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Full,
    /// By a ticket or session of before.
    Resumed,
    Failed,
    /// The client has no certificate that will do.
    ClientCertificate,
}

impl Handshake {
    const ALL: [Self; 4] = [Self::Full, Self::Resumed, Self::Failed, Self::ClientCertificate];

    fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
            Self::ClientCertificate => "client_certificate",
        }
    }
}

/// One listener's handshakes by their ends.
#[derive(Debug, Default)]
pub struct Handshakes([AtomicU64; Handshake::ALL.len()]);

impl Handshakes {
    pub fn count(&self, handshake: Handshake) {
        self.0[handshake as usize].fetch_add(1, Relaxed);
    }

    pub fn read(&self) -> HandshakeReading {
        HandshakeReading(std::array::from_fn(|index| self.0[index].load(Relaxed)))
    }
}

/// What [`Handshakes`] were at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct HandshakeReading([u64; Handshake::ALL.len()]);

/// The families about TLS. A listener's certificates have a family of their own: servers' have other labels.
pub(super) fn families(listeners: &[ListenerReading]) -> impl Iterator<Item = MetricFamily> {
    let mut handshakes =
        Family::counter("evenkeel_tls_handshakes_total", "TLS handshakes with clients, by their end.");
    let mut waits = Family::counter(
        "evenkeel_tls_handshake_waits_total",
        "TLS handshakes that waited because `limits.handshakes` were under way.",
    );
    let mut expiry = Family::gauge(
        "evenkeel_tls_listener_certificate_expiry_timestamp_seconds",
        "Until when a listener's certificate holds, by its file.",
    );
    let mut staples = Family::gauge(
        "evenkeel_tls_listener_ocsp_expiry_timestamp_seconds",
        "Until when the OCSP staple of a listener's certificate holds, by the certificate's file.",
    );
    for listener in listeners {
        for end in Handshake::ALL {
            let count = listener.handshakes.0[end as usize];
            if count > 0 {
                handshakes.add(&[("listener", &listener.name), ("result", end.label())], count as f64);
            }
        }
        if listener.handshakes.0.iter().any(|count| *count > 0) || listener.handshake_waits > 0 {
            waits.add(&[("listener", &listener.name)], listener.handshake_waits as f64);
        }
        for (certificate, at) in &listener.certificates {
            expiry.add(&[("listener", &listener.name), ("certificate", certificate)], *at as f64);
        }
        for (certificate, at) in &listener.staples {
            staples.add(&[("listener", &listener.name), ("certificate", certificate)], *at as f64);
        }
    }
    [handshakes, waits, expiry, staples].into_iter().filter_map(Family::finish)
}
