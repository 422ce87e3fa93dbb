//! Health: what a probe asks, which answers pass, and how often it asks.

use super::place::At;
use super::plan::{GrpcProbe, HealthPlan, HttpProbe, Initial, ProbePlan, TcpProbe, TlsProbe};
use super::problem::{Fault, quoted};
use super::section::Section;
use super::tree::Scalar;
use super::udp::udp_probe;
use crate::wire::request_head;
use http::Method;
use http::uri::{Authority, PathAndQuery};
use std::ops::RangeInclusive;

pub(super) const INITIALS: [(&str, Initial); 2] = [("probing", Initial::Probing), ("up", Initial::Up)];

pub(super) fn health(section: Section<'_>) -> Option<HealthPlan> {
    let probe = probe(&section);
    let port = section.nullable_count("port").and_then(|port| u16::try_from(port.get()).ok());
    let health = HealthPlan {
        probe: ProbePlan::Tcp(TcpProbe::default()),
        port,
        interval: section.duration("interval"),
        timeout: section.duration("timeout"),
        fall: section.at_least_one("fall"),
        rise: section.at_least_one("rise"),
        jitter: section.percent("jitter"),
        initial: section.choice("initial", &INITIALS),
    };
    if health.timeout >= health.interval {
        let place = section.get("timeout").or(section.get("interval")).unwrap_or(section.at);
        place.warn(Fault::new(
            format!(
                "a timeout of {:?} is not shorter than the interval of {:?}",
                health.timeout, health.interval
            ),
            "a slow server is then probed less often than asked; lengthen `interval` or shorten `timeout`",
        ));
    }
    Some(HealthPlan { probe: probe?, ..health })
}

fn probe(section: &Section<'_>) -> Option<ProbePlan> {
    let named = ["http", "tcp", "tls", "grpc", "udp"].map(|name| (name, section.get(name)));
    let mut written = named.iter().filter_map(|(name, at)| Some((*name, (*at)?)));
    let Some((name, at)) = written.next() else {
        section.at.refuse_key(Fault::new(
            "names no probe",
            "add `http: /healthz` to ask for a page, `tcp: {}` to open a connection, `tls: {}` for a handshake, `grpc: {}` to ask gRPC's health service, or `udp` to send a datagram",
        ));
        return None;
    };
    if let Some((other, at)) = written.next() {
        let help = format!("keep one of `{name}` and `{other}`");
        at.refuse_key(Fault::new(format!("there is {} `{name}` probe too", article(name)), help));
        return None;
    }
    match name {
        "tcp" => section.section("tcp", tcp_probe).flatten().map(ProbePlan::Tcp),
        "tls" => section.section("tls", tls_probe).map(ProbePlan::Tls),
        "grpc" => section.section("grpc", grpc_probe).map(ProbePlan::Grpc),
        "udp" => udp_probe(section).map(ProbePlan::Udp),
        _ => http_probe(section, at).map(ProbePlan::Http),
    }
}

fn article(name: &str) -> &'static str {
    if name == "http" { "an" } else { "a" }
}

fn tcp_probe(section: Section<'_>) -> Option<TcpProbe> {
    let (send, expect) = (section.nullable("send", text), section.nullable("expect", expect_body));
    if let Some(at) = section.get("send").filter(|_| send.is_some() && section.get("expect").is_none()) {
        at.refuse_key(Fault::new(
            "nothing is expected in return",
            "add `expect`, like `expect: +PONG`, or remove `send`",
        ));
        return None;
    }
    Some(TcpProbe { send, expect })
}

fn tls_probe(section: Section<'_>) -> TlsProbe {
    TlsProbe { server_name: section.nullable("server_name", server_name), verify: section.flag("verify") }
}

fn grpc_probe(section: Section<'_>) -> GrpcProbe {
    GrpcProbe { service: section.nullable("service", text) }
}

fn text(scalar: &Scalar<'_>) -> Result<String, Fault> {
    match scalar.text.is_empty() {
        true => Err(Fault::new("is empty", "write a text, or `null` to send nothing")),
        false => Ok(scalar.text.to_string()),
    }
}

pub(super) fn server_name(scalar: &Scalar<'_>) -> Result<String, Fault> {
    let text = &*scalar.text;
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match text.len() <= 253 && text.split('.').all(label) {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(
            format!("{} is not a server name", quoted(text)),
            "write it like `app.internal`, without scheme and port",
        )),
    }
}

fn http_probe(section: &Section<'_>, at: At<'_>) -> Option<HttpProbe> {
    if at.is_scalar() {
        let path = at.scalar(&"the path to ask for, like `/healthz`", path)?;
        return Some(HttpProbe {
            path,
            method: Method::GET,
            host: None,
            expect_status: vec![200..=299],
            expect_body: None,
        });
    }
    section.section("http", |http| {
        let path = http.required("path", path);
        let method = http.choice(
            "method",
            &[
                ("GET", Method::GET),
                ("HEAD", Method::HEAD),
                ("OPTIONS", Method::OPTIONS),
                ("POST", Method::POST),
            ],
        );
        let host = http.nullable("host", host);
        let expect_status = expect_status(&http);
        let expect_body = http.nullable("expect_body", expect_body);
        if method == Method::HEAD && expect_body.is_some() {
            http.at.refuse_key(Fault::new(
                "`expect_body` never holds, as an answer to HEAD has no body",
                "use `method: GET`, or remove `expect_body`",
            ));
        }
        Some(HttpProbe { path: path?, method, host, expect_status, expect_body })
    })?
}

fn path(scalar: &Scalar<'_>) -> Result<String, Fault> {
    let text = &*scalar.text;
    if !text.starts_with('/') {
        return Err(Fault::new(
            format!("{} does not begin with `/`", quoted(text)),
            "write it like `/healthz`",
        ));
    }
    // PathAndQuery drops a fragment in silence; a request line has none.
    match text.parse::<PathAndQuery>() {
        Ok(_) if !text.contains('#') && text.is_ascii() => Ok(text.to_owned()),
        _ => Err(Fault::new(
            format!("{} cannot be asked for", quoted(text)),
            "use a path and query without spaces, percent-encoded",
        )),
    }
}

fn host(scalar: &Scalar<'_>) -> Result<String, Fault> {
    // Requests that name no host get it too, by either version of HTTP.
    if !request_head::is_host(scalar.text.as_bytes()) || scalar.text.parse::<Authority>().is_err() {
        return Err(Fault::new(
            format!("{} is not a host", quoted(&scalar.text)),
            "write it like `app.internal` or `app.internal:8080`",
        ));
    }
    Ok(scalar.text.to_string())
}

fn expect_status(section: &Section<'_>) -> Vec<RangeInclusive<u16>> {
    match section.get("expect_status") {
        Some(at) if !at.is_scalar() => {
            let Some(items) = at.items() else { return Vec::new() };
            if items.len() == 0 {
                at.refuse_key(Fault::new("is empty", "write at least one status, like `200-299`"));
            }
            items
                .filter_map(|item| item.scalar(&"a status like `200` or `300-399`", statuses))
                .flatten()
                .collect()
        }
        _ => section.value("expect_status", statuses),
    }
}

/// Reads `200`, `200-299` or `200,204,300-399`.
fn statuses(scalar: &Scalar<'_>) -> Result<Vec<RangeInclusive<u16>>, Fault> {
    scalar.text.split(',').map(|part| range(part.trim())).collect()
}

fn range(text: &str) -> Result<RangeInclusive<u16>, Fault> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status =
        |digits: &str| digits.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last && last < 200 => Err(Fault::new(
            format!("{} never passes: another response follows such a status", quoted(text)),
            "write that of the final response, like `200-299`",
        )),
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        (Some(first), Some(last)) => {
            Err(Fault::new(format!("{} runs backwards", quoted(text)), format!("write `{last}-{first}`")))
        }
        _ => Err(Fault::new(
            format!("{} is not a status", quoted(text)),
            "use 100 to 599, like `200`, `200-299` or `200,204`",
        )),
    }
}

fn expect_body(scalar: &Scalar<'_>) -> Result<String, Fault> {
    const LONGEST: usize = 64 << 10;
    if scalar.text.is_empty() {
        return Err(Fault::new(
            "is empty, which everything contains",
            "write a text, or `null` for whatever comes",
        ));
    }
    if scalar.text.len() > LONGEST {
        return Err(Fault::new("is longer than the part that is read", "write at most 64KiB"));
    }
    Ok(scalar.text.to_string())
}
