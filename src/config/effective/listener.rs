//! Listeners as they are written.

use super::super::listener::{
    CLIENT_FINS, ENCODED_SLASHES, FOR_HTTP, FOR_STREAMS, LIMITS_FOR_HTTP, PROTOCOLS, TIMEOUTS_FOR_HTTP,
    TIMEOUTS_FOR_SILENCE, TIMEOUTS_FOR_STREAMS,
};
use super::super::plan::{
    Certificate, ClientCa, Http2Plan, ListenerLimits, ListenerPlan, ListenerTimeouts, Plan, Protocol,
    TargetPlan, Tls,
};
use super::super::{keys, tls};
use super::limits::rate;
use super::writer::SectionWriter;
use super::{duration, path, size, text, texts, word};
use crate::networks::Networks;
use serde_yaml::Value;
use std::time::Duration;

pub(super) fn listener(plan: &Plan, listener: &ListenerPlan) -> Value {
    let (is_http, is_udp) = (listener.protocol == Protocol::Http, listener.protocol == Protocol::Udp);
    let (pool, routes) = match listener.target {
        TargetPlan::Pool(pool) => (Some(&*plan.pools[pool].name), None),
        TargetPlan::Routes(routes) => (None, Some(&*plan.routes[routes].name)),
        TargetPlan::RedirectToHttps => (None, None),
    };
    let (one, several) = match &listener.addresses[..] {
        [one] => (Some(text(one)), None),
        several => (None, Some(texts(several))),
    };
    let proxies = |proxies: &Networks| {
        SectionWriter::new(keys::PROXY_PROTOCOL).set("from", texts(proxies.items())).end()
    };
    SectionWriter::new(keys::LISTENER)
        .set_if_any("address", one)
        .set_if_any("addresses", several)
        .set("protocol", word(&PROTOCOLS, &listener.protocol))
        .set_if_any("pool", pool)
        .set_if_any("routes", routes)
        .set("redirect_to_https", listener.target == TargetPlan::RedirectToHttps)
        .set_or_null("tls", listener.tls.as_ref().map(tls))
        .set_or_null("proxy_protocol", Some(&listener.proxies).filter(|all| !all.is_empty()).map(proxies))
        .set("trusted_proxies", texts(listener.trusted_proxies.items()))
        .set_or_null("policy", listener.policy.map(|policy| &*plan.policies[policy].name))
        .set("client_fin", word(&CLIENT_FINS, &listener.client_fin))
        .set("http2", http2(&listener.http2))
        .set("limits", limits(&listener.limits, is_http))
        .set("timeouts", listener_timeouts(&listener.timeouts, is_http, is_udp))
        .leave_out(if is_http { &[] } else { &FOR_HTTP })
        .leave_out(if is_udp { &FOR_STREAMS } else { &[] })
        .end()
}

fn tls(tls: &Tls) -> Value {
    let certificate = |certificate: &Certificate| {
        SectionWriter::new(keys::CERTIFICATE)
            .set("cert", path(&certificate.cert))
            .set("key", path(&certificate.key))
            .set_or_null("ocsp", certificate.ocsp.as_deref().map(path))
            .end()
    };
    let names = |names| SectionWriter::new(keys::ACME_NAMES).set("names", texts(names)).end();
    let client_ca = |ca: &ClientCa| {
        SectionWriter::new(keys::CLIENT_CA).set("file", path(&ca.file)).set("required", ca.is_required).end()
    };
    let certificates: Vec<_> = tls.certificates.iter().map(certificate).collect();
    SectionWriter::new(keys::TLS)
        .set_if_any("certificates", Some(certificates).filter(|all| !all.is_empty()))
        .set_or_null("acme", Some(&tls.acme).filter(|all| !all.is_empty()).map(names))
        .set("min_version", word(&tls::TLS_VERSIONS, &tls.min_version))
        .set_or_null("client_ca", tls.client_ca.as_ref().map(client_ca))
        .set_or_null("hsts", tls.hsts.as_deref().map(hsts))
        .end()
}

/// From the field's value, which is what a plan has of it.
fn hsts(value: &str) -> Value {
    let has = |directive: &str| value.split("; ").any(|part| part == directive);
    let seconds = value.split("; ").find_map(|part| part.strip_prefix("max-age=")?.parse().ok());
    SectionWriter::new(keys::HSTS)
        .set("max_age", duration(Duration::from_secs(seconds.unwrap_or_default())))
        .set("include_subdomains", has("includeSubDomains"))
        .set("preload", has("preload"))
        .end()
}

fn http2(http2: &Http2Plan) -> Value {
    // Without a word of its own it may be larger than what can be written.
    let connection_window =
        Some(http2.connection_window).filter(|window| *window <= keys::MOST_CONNECTION_WINDOW);
    SectionWriter::new(keys::HTTP2)
        .set("max_concurrent_streams", http2.max_concurrent_streams)
        .set("stream_window", size(http2.stream_window))
        .set_or_null("connection_window", connection_window.map(size))
        .set_or_null("max_age", http2.max_age.map(duration))
        .set_or_null("max_requests", http2.max_requests.map(u32::from))
        .end()
}

fn limits(limits: &ListenerLimits, is_http: bool) -> Value {
    SectionWriter::new(keys::LIMITS)
        .set_or_null("connections", limits.connections.map(u32::from))
        .set_or_null("connections_per_client", limits.connections_per_client.map(u32::from))
        .set_or_null("new_connections_per_client", limits.new_connections.map(|limit| rate(limit.rate)))
        .set_or_null("handshakes", limits.handshakes.map(u32::from))
        .set("request_headers", size(limits.request_headers))
        .set("request_body", size(limits.request_body))
        .set("uri", size(limits.uri))
        .set("header_count", limits.header_count)
        .set("header_line", size(limits.header_line))
        .set("encoded_slash", word(&ENCODED_SLASHES, &limits.encoded_slash))
        .leave_out(if is_http { &[] } else { &LIMITS_FOR_HTTP })
        .end()
}

fn listener_timeouts(timeouts: &ListenerTimeouts, is_http: bool, is_udp: bool) -> Value {
    SectionWriter::new(keys::LISTENER_TIMEOUTS)
        .set("request_header", duration(timeouts.request_header))
        .set("request_body", duration(timeouts.request_body))
        .set("idle", duration(timeouts.idle))
        .set("tls_handshake", duration(timeouts.tls_handshake))
        .leave_out(if is_http { &[] } else { &TIMEOUTS_FOR_HTTP })
        .leave_out(if is_http || is_udp { &[] } else { &TIMEOUTS_FOR_SILENCE })
        .leave_out(if is_udp { &TIMEOUTS_FOR_STREAMS } else { &[] })
        .end()
}
