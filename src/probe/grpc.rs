//! The `grpc` probe: the standard health service (grpc.health.v1.Health) says SERVING.
//!
//! Its two messages are small enough to be written and read here: a string goes out, a number comes back.

use super::dial::dial_secured;
use super::h2_answer::{Asking, handshake, wrong};
use super::{BODY_LIMIT, Probe, ProbeFailure, ProbeTarget, Steps};
use crate::api::probe::StepKind;
use crate::config::plan::GrpcProbe;
use crate::origination::SharedOrigination;
use async_trait::async_trait;
use http::{HeaderMap, Request};

/// The `grpc` probe.
#[derive(Debug)]
pub struct GrpcCheck {
    settings: GrpcProbe,
    proxy_header: Option<Vec<u8>>,
    origination: SharedOrigination,
}

impl GrpcCheck {
    /// `proxy_header` goes first on each connection.
    pub fn new(settings: GrpcProbe, proxy_header: Option<Vec<u8>>, origination: SharedOrigination) -> Self {
        Self { settings, proxy_header, origination }
    }

    async fn ask(&self, asking: Asking, target: &ProbeTarget, steps: &Steps) -> Result<(), ProbeFailure> {
        let authority = target.authority();
        let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", concat!("evenkeel/", env!("CARGO_PKG_VERSION"), " probe"))
            .body(())
            .map_err(|error| ProbeFailure::Protocol(error.to_string()))?;
        let service = self.settings.service.as_deref().unwrap_or_default();
        steps.found(|| match service {
            "" => "grpc.health.v1.Health/Check of the whole server".to_owned(),
            service => format!("grpc.health.v1.Health/Check of {service}"),
        });
        let (mut sender, expected) = asking.ready().await?;
        let (mut response, mut body) = sender.send_request(request, false).map_err(wrong)?;
        body.send_data(question(service).into(), true).map_err(wrong)?;
        steps.begin(StepKind::Status);
        let (head, mut body) = expected.head(&mut response).await?;
        steps.found(|| format!("HTTP/2 {}{}", head.status.as_u16(), call_status(&head.headers)));
        if head.status != http::StatusCode::OK {
            return Err(ProbeFailure::Status(head.status.as_u16(), "200".to_owned()));
        }
        steps.begin(StepKind::Reply);
        let mut answer = Vec::new();
        while let Some(bytes) = body.data().await {
            let bytes = bytes.map_err(wrong)?;
            // A window that is full otherwise ends the probe by its timeout, which is as good.
            let _ = body.flow_control().release_capacity(bytes.len());
            answer.extend_from_slice(&bytes);
            if answer.len() > BODY_LIMIT {
                return Err(ProbeFailure::Grpc("its answer is too long".to_owned()));
            }
        }
        if !answer.is_empty() {
            steps.found(|| format!("begins \"{}\"", answer[..answer.len().min(80)].escape_ascii()));
        }
        let trailers = expected.trailers(&mut body).await?;
        if let Some(trailers) = &trailers {
            steps.found(|| format!("trailers{}", call_status(trailers)));
        }
        judge(trailers.as_ref().unwrap_or(&head.headers), &answer)
    }
}

#[async_trait]
impl Probe for GrpcCheck {
    async fn check(&self, target: &ProbeTarget, steps: &Steps) -> Result<(), ProbeFailure> {
        let secured = self.origination.load_full().map(|origination| {
            (
                steps.watching(&origination.h2, &origination.judge),
                origination.server_name(&target.address, target.host.as_deref()),
            )
        });
        let wire = dial_secured(&target.address, self.proxy_header.as_deref(), secured, steps).await?;
        steps.begin(StepKind::Request);
        let (asking, connection) = handshake(wire).await?;
        tokio::select! {
            answer = self.ask(asking, target, steps) => answer,
            ended = connection => Err(match ended {
                Ok(()) => ProbeFailure::Protocol("the connection ended before an answer".to_owned()),
                Err(error) => wrong(error),
            }),
        }
    }

    fn rule(&self) -> String {
        match &self.settings.service {
            Some(service) => format!("the health service says SERVING of {service}"),
            None => "the health service says SERVING".to_owned(),
        }
    }
}

/// What headers say of a call's end: `, grpc-status 12, grpc-message no such method`.
fn call_status(headers: &HeaderMap) -> String {
    let field = |name: &str| {
        headers.get(name).map(|value| format!(", {name} {}", String::from_utf8_lossy(value.as_bytes())))
    };
    ["grpc-status", "grpc-message"].into_iter().filter_map(field).collect()
}

/// A message with its prefix (not compressed, its length): `service` is the request's first field.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        // A length of more than seven bits goes on in the next byte.
        let mut length = service.len();
        while length > 0x7f {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], &message[..]].concat()
}

/// What the call's status and its answer mean. `status` is the second field of the headers that end it.
fn judge(last: &HeaderMap, answer: &[u8]) -> Result<(), ProbeFailure> {
    let field = |name| last.get(name).and_then(|value| value.to_str().ok());
    match field("grpc-status") {
        Some("0") => {}
        Some("5") => {
            return Err(ProbeFailure::Grpc("NOT_FOUND: the server does not know that service".to_owned()));
        }
        Some("12") => return Err(ProbeFailure::Grpc("UNIMPLEMENTED: it has no health service".to_owned())),
        Some(status) => {
            let message = field("grpc-message").unwrap_or_default();
            return Err(ProbeFailure::Grpc(format!("status {status} {message}").trim_end().to_owned()));
        }
        None => return Err(ProbeFailure::Grpc("no grpc-status in its answer".to_owned())),
    }
    // The prefix, then `status` as the first field: a number below 128.
    let serving = match answer.get(5..) {
        Some([0x08, status, ..]) => *status,
        _ => 0,
    };
    match serving {
        1 => Ok(()),
        0 => Err(ProbeFailure::Grpc("UNKNOWN, expected SERVING".to_owned())),
        2 => Err(ProbeFailure::Grpc("NOT_SERVING, expected SERVING".to_owned())),
        3 => Err(ProbeFailure::Grpc("SERVICE_UNKNOWN, expected SERVING".to_owned())),
        other => Err(ProbeFailure::Grpc(format!("health {other}, expected SERVING"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_the_service() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("shop"), *b"\0\0\0\0\x06\x0a\x04shop");
        let long = question(&"s".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn only_serving_is_a_pass() {
        for (status, answer, expected) in [
            (Some("0"), &b"\0\0\0\0\x02\x08\x01"[..], Ok(())),
            (Some("0"), b"\0\0\0\0\x02\x08\x02", Err("NOT_SERVING, expected SERVING")),
            (Some("0"), b"\0\0\0\0\x00", Err("UNKNOWN, expected SERVING")),
            (Some("0"), b"", Err("UNKNOWN, expected SERVING")),
            (Some("5"), b"", Err("NOT_FOUND: the server does not know that service")),
            (Some("14"), b"", Err("status 14")),
            (None, b"", Err("no grpc-status in its answer")),
        ] {
            let mut last = HeaderMap::new();
            if let Some(status) = status {
                last.insert("grpc-status", status.parse().unwrap());
            }
            let expected = expected.map_err(|text| ProbeFailure::Grpc(text.to_owned()));
            assert_eq!(judge(&last, answer), expected, "{status:?} {answer:?}");
        }
    }
}
