//! What listeners show: connections, datagrams, handshakes, certificates, and clients that were cut off.

use super::family::Family;
use super::{AbuseReading, DropReading, HandshakeReading};
use crate::config::plan::Name;
use prometheus::proto::MetricFamily;

/// What a listener shows.
#[derive(Clone, Debug)]
pub struct ListenerReading {
    pub name: Name,
    pub open: u32,
    pub accepted: u64,
    /// Closed at once: their client had too many open.
    pub refused: u64,
    /// How often accepting had to wait for room.
    pub waits: u64,
    /// Datagrams that were not passed on.
    pub dropped: DropReading,
    pub handshakes: HandshakeReading,
    /// How often a handshake had to wait for room.
    pub handshake_waits: u64,
    pub abuse: AbuseReading,
    /// Files of certificates, and until when these hold, in seconds since 1970.
    pub certificates: Vec<(String, i64)>,
    /// The same for the certificates' staples.
    pub staples: Vec<(String, i64)>,
}

/// All families of listeners.
pub(super) fn families(listeners: &[ListenerReading]) -> impl Iterator<Item = MetricFamily> {
    let datagrams = dropped_datagrams(listeners);
    connections(listeners).chain(datagrams).chain(tls(listeners)).chain(http2(listeners))
}

fn connections(listeners: &[ListenerReading]) -> impl Iterator<Item = MetricFamily> {
    let mut open = Family::gauge("evenkeel_connections", "Client connections that are open.");
    let mut total = Family::counter("evenkeel_connections_total", "Client connections accepted.");
    let mut refused = Family::counter(
        "evenkeel_connections_refused_total",
        "Client connections closed at once because their client had too many open.",
    );
    let mut waits = Family::counter(
        "evenkeel_connection_limit_waits_total",
        "How often accepting waited because the listener's limit was reached.",
    );
    for listener in listeners {
        let labels = [("listener", &*listener.name)];
        open.add(&labels, f64::from(listener.open));
        total.add(&labels, listener.accepted as f64);
        refused.add(&labels, listener.refused as f64);
        waits.add(&labels, listener.waits as f64);
    }
    [open, total, refused, waits].into_iter().filter_map(Family::finish)
}

fn dropped_datagrams(listeners: &[ListenerReading]) -> Option<MetricFamily> {
    let mut dropped =
        Family::counter("evenkeel_udp_dropped_total", "Datagrams that were not passed on, by reason.");
    for listener in listeners {
        for (why, count) in listener.dropped.by_reason().filter(|(_, count)| *count > 0) {
            dropped.add(&[("listener", &*listener.name), ("why", why)], count as f64);
        }
    }
    dropped.finish()
}

/// Of TLS. A listener's certificates have a family of their own: servers' have other labels.
fn tls(listeners: &[ListenerReading]) -> impl Iterator<Item = MetricFamily> {
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
        for (end, count) in listener.handshakes.by_end().filter(|(_, count)| *count > 0) {
            handshakes.add(&[("listener", &listener.name), ("result", end)], count as f64);
        }
        if listener.handshakes.by_end().any(|(_, count)| count > 0) || listener.handshake_waits > 0 {
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

fn http2(listeners: &[ListenerReading]) -> Option<MetricFamily> {
    let mut abuse = Family::counter(
        "evenkeel_http2_abuse_total",
        "HTTP/2 connections cut off, by what their clients did too much of or against the protocol.",
    );
    for listener in listeners {
        for (kind, count) in listener.abuse.by_kind().filter(|(_, count)| *count > 0) {
            abuse.add(&[("listener", &listener.name), ("kind", kind)], count as f64);
        }
    }
    abuse.finish()
}
