//! The `http` probe: one request over a new connection; the status and, if asked, the body must fit.

use super::dial::{Dial, Heard};
use super::{BODY_LIMIT, Probe, ProbeFailure, ProbeTarget, Steps, contains, shown};
use crate::api::probe::StepKind;
use crate::config::plan::HttpProbe;
use crate::origination::SharedOrigination;
use crate::units::Address;
use crate::wire::response_head::{FieldSpans, MOST_INTERIMS, ResponseHeadVerdict, ResponseTo, judge};
use crate::wire::{LONGEST_HEAD, RESPONSE_TOO_LONG};
use async_trait::async_trait;
use http::Method;
use pingora::ErrorType;
use pingora::connectors::http::v1::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// How long the body of a refused answer may take to begin, if somebody wants to see it.
pub(super) const EVIDENCE_WITHIN: Duration = Duration::from_millis(200);

/// The `http` probe.
pub struct HttpCheck {
    pub(super) settings: HttpProbe,
    /// The expected statuses as the operator would write them.
    expected: String,
    /// Never given a connection back, so each probe opens a new one.
    connector: Connector,
    pub(super) proxy_header: Option<Vec<u8>>,
    /// It asks by HTTP/2.
    is_h2: bool,
    pub(super) origination: SharedOrigination,
}

impl fmt::Debug for HttpCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl HttpCheck {
    /// `proxy_header` goes first on each connection.
    pub fn new(
        settings: HttpProbe,
        proxy_header: Option<Vec<u8>>,
        is_h2: bool,
        origination: SharedOrigination,
    ) -> Self {
        let mut expected = String::new();
        for range in &settings.expect_status {
            let separator = if expected.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = if range.start() == range.end() {
                write!(expected, "{separator}{}", range.start())
            } else {
                write!(expected, "{separator}{}-{}", range.start(), range.end())
            };
        }
        Self { settings, expected, connector: Connector::new(None), proxy_header, is_h2, origination }
    }

    /// Whom it asks for.
    pub(super) fn host(&self, target: &ProbeTarget) -> String {
        self.settings.host.clone().unwrap_or_else(|| target.authority())
    }

    /// Whether the status is one that is expected.
    pub(super) fn judge_status(&self, status: u16) -> Result<(), ProbeFailure> {
        match self.settings.expect_status.iter().any(|range| range.contains(&status)) {
            true => Ok(()),
            false => Err(ProbeFailure::Status(status, self.expected.clone())),
        }
    }

    /// Whether the next head that was heard is one that requests could be answered with.
    fn judge_next(&self, heard: &Heard) -> Result<(), &'static str> {
        let to = ResponseTo { is_head_request: self.settings.method == Method::HEAD, upgrade: None };
        let judged = heard.with(|bytes| match judge(bytes, to, &mut FieldSpans::new()) {
            ResponseHeadVerdict::Complete(form) if form.length > LONGEST_HEAD => Err(RESPONSE_TOO_LONG),
            ResponseHeadVerdict::Complete(form) => {
                bytes.drain(..form.length);
                Ok(())
            }
            ResponseHeadVerdict::Refused(detail) => Err(detail),
            ResponseHeadVerdict::Partial => Ok(()),
        });
        judged.unwrap_or(Ok(()))
    }

    fn request(&self, target: &ProbeTarget) -> Result<RequestHeader, ProbeFailure> {
        let wrong = |error: Box<pingora::Error>| ProbeFailure::Protocol(error.to_string());
        let mut request =
            RequestHeader::build(self.settings.method.clone(), self.settings.path.as_bytes(), Some(4))
                .map_err(wrong)?;
        request.insert_header("Host", self.host(target)).map_err(wrong)?;
        request
            .insert_header("User-Agent", concat!("evenkeel/", env!("CARGO_PKG_VERSION"), " probe"))
            .map_err(wrong)?;
        request.insert_header("Connection", "close").map_err(wrong)?;
        Ok(request)
    }
}

#[async_trait]
impl Probe for HttpCheck {
    async fn check(&self, target: &ProbeTarget, steps: &Steps) -> Result<(), ProbeFailure> {
        if self.is_h2 {
            return self.check_h2(target, steps).await;
        }
        let mut peer = match &target.address {
            Address::Inet(address) => HttpPeer::new(address, false, String::new()),
            Address::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())
                .map_err(|error| ProbeFailure::Connect(error.to_string()))?,
        };
        let secured = self.origination.load_full().map(|origination| {
            (
                steps.watching(&origination.http, &origination.judge),
                origination.server_name(&target.address, target.host.as_deref()),
            )
        });
        let proxy_header = self.proxy_header.clone();
        let heard = Heard::new();
        let dial = Dial { proxy_header, secured, steps: steps.clone(), heard: heard.clone() };
        peer.options.custom_l4 = Some(Arc::new(dial));
        let opened = self.connector.get_http_session(&peer).await;
        let (mut session, _) = opened.map_err(|error| not_connected(&error))?;
        let wrong = |error: Box<pingora::Error>| ProbeFailure::Protocol(root_cause(&error));
        let request = self.request(target)?;
        steps.begin(StepKind::Request);
        steps.found(|| told(&request));
        session.write_request_header(Box::new(request)).await.map_err(wrong)?;
        steps.begin(StepKind::Status);
        let mut interim = 0;
        let status = loop {
            session.read_response().await.map_err(|error| {
                // Where it is no HTTP, it says what came instead.
                if let (ErrorType::InvalidHTTPHeader, Some(context)) = (error.etype(), &error.context) {
                    steps.found(|| context.as_str().trim_start_matches("buf: ").to_owned());
                }
                wrong(error)
            })?;
            let status = session.get_status().map_or(0, |status| status.as_u16());
            match status {
                101 => {
                    return Err(ProbeFailure::Protocol(
                        "101 Switching Protocols, which nobody asked for".to_owned(),
                    ));
                }
                100..=199 if interim == MOST_INTERIMS => {
                    return Err(ProbeFailure::Protocol(format!(
                        "more than {MOST_INTERIMS} interim responses"
                    )));
                }
                _ => self.judge_next(&heard).map_err(|detail| ProbeFailure::Protocol(detail.to_owned()))?,
            }
            match status {
                100..=199 => interim += 1,
                _ => break status,
            }
        };
        heard.stop();
        if let Some(head) = session.resp_header() {
            steps.found(|| status_line(head));
        }
        if let Err(failure) = self.judge_status(status) {
            if steps.are_watched() {
                steps.fail();
                steps.begin(StepKind::Body);
                let begins = tokio::time::timeout(EVIDENCE_WITHIN, session.read_body_bytes()).await;
                steps.found(|| match &begins {
                    Ok(Ok(Some(bytes))) => format!("begins {:?}", shown(bytes)),
                    Ok(Ok(None)) => "empty".to_owned(),
                    Ok(Err(error)) => root_cause(error),
                    Err(_) => format!("nothing of it within {EVIDENCE_WITHIN:?}"),
                });
            }
            return Err(failure);
        }
        let Some(expected) = &self.settings.expect_body else { return Ok(()) };
        steps.begin(StepKind::Body);
        let mut body = Vec::new();
        while let Some(bytes) = session.read_body_bytes().await.map_err(wrong)? {
            body.extend_from_slice(&bytes);
            if contains(&body, expected.as_bytes()) {
                steps.found(|| format!("begins {:?}", shown(&body)));
                return Ok(());
            }
            if body.len() >= BODY_LIMIT {
                break;
            }
        }
        Err(ProbeFailure::Body { expected: expected.clone(), found: shown(&body) })
    }

    fn rule(&self) -> String {
        let status = format!("the status is one of {}", self.expected);
        match &self.settings.expect_body {
            Some(text) => format!("{status}, and the body contains {text:?}"),
            None => status,
        }
    }
}

/// `GET /healthz, Host: app.internal`
fn told(request: &RequestHeader) -> String {
    let host = request.headers.get("Host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    format!("{} {}, Host: {host}", request.method, String::from_utf8_lossy(request.raw_path()))
}

/// `HTTP/1.1 302 Found`, and what the answer says of itself.
fn status_line(head: &ResponseHeader) -> String {
    let reason = head.get_reason_phrase().unwrap_or_default();
    let mut line = format!("{:?} {} {reason}", head.version, head.status.as_u16()).trim_end().to_owned();
    for name in ["Location", "Content-Type"] {
        if let Some(value) = head.headers.get(name) {
            line += &format!(", {name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
    }
    line
}

/// Why there is no connection: in our own words, where they are ours.
fn not_connected(error: &pingora::Error) -> ProbeFailure {
    let Some(cause) = &error.cause else { return ProbeFailure::Connect(root_cause(error)) };
    match (cause.downcast_ref::<ProbeFailure>(), cause.downcast_ref::<pingora::Error>()) {
        (Some(failure), _) => failure.clone(),
        (_, Some(inner)) => not_connected(inner),
        _ => ProbeFailure::Connect(root_cause(error)),
    }
}

/// The innermost error says what happened; the outer ones say where in Pingora.
fn root_cause(error: &pingora::Error) -> String {
    match &error.cause {
        Some(cause) => match cause.downcast_ref::<pingora::Error>() {
            Some(inner) => root_cause(inner),
            None => cause.to_string(),
        },
        None => error.etype().as_str().to_owned(),
    }
}
