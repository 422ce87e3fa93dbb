//! The `http` probe: one request over a new connection; the status and, if asked, the body must fit.

use super::dial::Dial;
use super::{BODY_LIMIT, Failure, Probe, contains, shown};
use crate::config::plan::HttpProbe;
use crate::origination::InForce;
use crate::units::Address;
use async_trait::async_trait;
use pingora::ErrorType;
use pingora::connectors::http::v1::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use std::fmt::{self, Write};
use std::sync::Arc;

/// The `http` probe.
pub struct HttpCheck {
    settings: HttpProbe,
    /// The expected statuses as the operator would write them.
    expected: String,
    /// Never given a connection back, so each probe opens a new one.
    connector: Connector,
    introduction: Option<Vec<u8>>,
    origination: InForce,
}

impl fmt::Debug for HttpCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl HttpCheck {
    /// `introduction` goes first on each connection.
    pub fn new(settings: HttpProbe, introduction: Option<Vec<u8>>, origination: InForce) -> Self {
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
        Self { settings, expected, connector: Connector::new(None), introduction, origination }
    }

    fn request(&self, address: &Address) -> Result<RequestHeader, Failure> {
        let wrong = |error: Box<pingora::Error>| Failure::Protocol(error.to_string());
        let mut request =
            RequestHeader::build(self.settings.method.clone(), self.settings.path.as_bytes(), Some(4))
                .map_err(wrong)?;
        let host = match (&self.settings.host, address) {
            (Some(host), _) => host.clone(),
            (None, Address::Inet(address)) => address.to_string(),
            (None, Address::Unix(_)) => "localhost".to_owned(),
        };
        request.insert_header("Host", host).map_err(wrong)?;
        request
            .insert_header("User-Agent", concat!("evenkeel/", env!("CARGO_PKG_VERSION"), " probe"))
            .map_err(wrong)?;
        request.insert_header("Connection", "close").map_err(wrong)?;
        Ok(request)
    }
}

#[async_trait]
impl Probe for HttpCheck {
    async fn check(&self, address: &Address) -> Result<(), Failure> {
        let mut peer = match address {
            Address::Inet(address) => HttpPeer::new(address, false, String::new()),
            Address::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())
                .map_err(|error| Failure::Connect(error.to_string()))?,
        };
        let secured = self
            .origination
            .load_full()
            .map(|origination| (Arc::clone(&origination.http), origination.server_name(address)));
        if self.introduction.is_some() || secured.is_some() {
            let introduction = self.introduction.clone().unwrap_or_default();
            peer.options.custom_l4 = Some(Arc::new(Dial { introduction, secured }));
        }
        let (mut session, _) =
            self.connector.get_http_session(&peer).await.map_err(|error| match error.etype() {
                ErrorType::TLSHandshakeFailure => Failure::Tls(root_cause(&error)),
                _ => Failure::Connect(root_cause(&error)),
            })?;
        let wrong = |error: Box<pingora::Error>| Failure::Protocol(root_cause(&error));
        session.write_request_header(Box::new(self.request(address)?)).await.map_err(wrong)?;
        session.read_response().await.map_err(wrong)?;
        let status = session.get_status().map_or(0, |status| status.as_u16());
        if !self.settings.expect_status.iter().any(|range| range.contains(&status)) {
            return Err(Failure::Status(status, self.expected.clone()));
        }
        let Some(expected) = &self.settings.expect_body else { return Ok(()) };
        let mut body = Vec::new();
        while let Some(bytes) = session.read_body_bytes().await.map_err(wrong)? {
            body.extend_from_slice(&bytes);
            if contains(&body, expected.as_bytes()) {
                return Ok(());
            }
            if body.len() >= BODY_LIMIT {
                break;
            }
        }
        Err(Failure::Body { expected: expected.clone(), found: shown(&body) })
    }
}

/// The innermost error says what happened; the outer ones say where in the engine.
fn root_cause(error: &pingora::Error) -> String {
    match &error.cause {
        Some(cause) => match cause.downcast_ref::<pingora::Error>() {
            Some(inner) => root_cause(inner),
            None => cause.to_string(),
        },
        None => error.etype().as_str().to_owned(),
    }
}
