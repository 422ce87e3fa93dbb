//! Probes as they are written.

use super::super::plan::{HealthPlan, HttpProbe, ProbePlan, UdpProbe};
use super::super::{health, keys};
use super::writer::SectionWriter;
use super::{duration, text, word};
use serde_yaml::Value;

pub(super) fn health(health: &HealthPlan) -> Value {
    let (kind, probe) = match &health.probe {
        ProbePlan::Http(probe) => ("http", http_probe(probe)),
        ProbePlan::Tcp(probe) => (
            "tcp",
            SectionWriter::new(keys::TCP_PROBE)
                .set_or_null("send", probe.send.as_deref())
                .set_or_null("expect", probe.expect.as_deref())
                .end(),
        ),
        ProbePlan::Tls(probe) => (
            "tls",
            SectionWriter::new(keys::TLS_PROBE)
                .set_or_null("server_name", probe.server_name.as_deref())
                .set("verify", probe.verify)
                .end(),
        ),
        ProbePlan::Grpc(probe) => (
            "grpc",
            SectionWriter::new(keys::GRPC_PROBE).set_or_null("service", probe.service.as_deref()).end(),
        ),
        ProbePlan::Udp(probe) => ("udp", udp_probe(probe)),
    };
    SectionWriter::new(keys::HEALTH)
        .leave_out(&["http", "tcp", "tls", "grpc", "udp"])
        .set(kind, probe)
        .set_or_null("port", health.port)
        .set("interval", duration(health.interval))
        .set("timeout", duration(health.timeout))
        .set("fall", health.fall.get())
        .set("rise", health.rise.get())
        .set("jitter", text(&health.jitter))
        .set("initial", word(&health::INITIALS, &health.initial))
        .end()
}

fn http_probe(probe: &HttpProbe) -> Value {
    let statuses = probe.expect_status.iter().map(|range| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    });
    SectionWriter::new(keys::HTTP_PROBE)
        .set("path", text(&probe.path))
        .set("method", probe.method.as_str())
        .set_or_null("host", probe.host.as_deref())
        .set("expect_status", statuses.collect::<Vec<_>>().join(","))
        .set_or_null("expect_body", probe.expect_body.as_deref())
        .end()
}

fn udp_probe(probe: &UdpProbe) -> Value {
    let (send, send_hex) = text_or_hex(&probe.send);
    let (expect, expect_hex) = probe.expect.as_deref().map(text_or_hex).unwrap_or_default();
    SectionWriter::new(keys::UDP_PROBE)
        .set_if_any("send", send)
        .set_if_any("send_hex", send_hex)
        .set_if_any("expect", expect)
        .set_if_any("expect_hex", expect_hex)
        .end()
}

/// Bytes as the text they are, or else in hexadecimal digits.
fn text_or_hex(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => (Some(text), None),
        _ => (None, Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())),
    }
}
