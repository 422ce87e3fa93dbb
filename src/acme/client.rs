//! The way to an authority: HTTPS requests, one connection each, bounded in time and size.

use super::unix_time;
use crate::config::plan::DnsPlan;
use crate::discover::by_name::{self, ConnectFailure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long one request may take.
const WITHIN: Duration = Duration::from_secs(30);
/// Chains of certificates are a few KiB.
const LONGEST: usize = 1 << 20;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
enum AuthorityError {
    #[error("{0} is no URL of an HTTPS server")]
    Url(Uri),
    #[error("cannot connect to {host}:{port}: {error}")]
    Connect { host: String, port: u16, error: ConnectFailure },
    #[error("no TLS with {host}: {error}")]
    Tls { host: String, error: io::Error },
    #[error("no HTTP with {host}: {error}")]
    Http { host: String, error: hyper::Error },
    #[error("an answer of {host} that is cut off or too long: {error}")]
    Body { host: String, error: Box<dyn std::error::Error + Send + Sync> },
    #[error(
        "{host} answers {status} and sends to {to}: if that is the authority's directory, name it as `acme.directory`"
    )]
    Moved { host: String, status: StatusCode, to: String },
    #[error("{host} answers {status} {what}")]
    Unusable { host: String, status: StatusCode, what: String },
    #[error("no answer of {host} within {WITHIN:?}")]
    Late { host: String },
}

/// A client that notes what the authority says of asking again.
#[derive(Clone, Debug)]
pub(super) struct AcmeClient {
    tls: Arc<ClientConfig>,
    dns: Arc<DnsPlan>,
    /// Seconds since 1970, of the last refusal that named a time; 0 is none.
    retry_at: Arc<AtomicI64>,
}

impl AcmeClient {
    pub(super) fn new(tls: Arc<ClientConfig>, dns: DnsPlan) -> Self {
        Self { tls, dns: Arc::new(dns), retry_at: Arc::default() }
    }

    /// The same, which has noted nothing.
    pub(super) fn anew(&self) -> Self {
        Self { retry_at: Arc::default(), ..self.clone() }
    }

    /// When the authority wants to be asked again, if it said so with a refusal.
    pub(super) fn retry_at(&self) -> Option<i64> {
        Some(self.retry_at.load(Relaxed)).filter(|at| *at != 0)
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, AuthorityError> {
        let uri = request.uri().clone();
        let host = match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(host)) => host.to_owned(),
            _ => return Err(AuthorityError::Url(uri)),
        };
        tokio::time::timeout(WITHIN, self.exchange(request, uri, &host))
            .await
            .unwrap_or_else(|_| Err(AuthorityError::Late { host }))
    }

    async fn exchange(
        self,
        mut request: Request<BodyWrapper<Bytes>>,
        uri: Uri,
        host: &str,
    ) -> Result<BytesResponse, AuthorityError> {
        let port = uri.port_u16().unwrap_or(443);
        // An IPv6 address has brackets in a URL only.
        let bare = host.trim_matches(['[', ']']);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| AuthorityError::Url(uri.clone()))?;
        let authority = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        request
            .headers_mut()
            .insert(header::HOST, authority.ok_or_else(|| AuthorityError::Url(uri.clone()))?);
        let method = request.method().clone();
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = Uri::try_from(target).map_err(|_| AuthorityError::Url(uri.clone()))?;

        let host = || host.to_owned();
        let connected = by_name::connect(&self.dns, bare, port).await;
        let (_, wire) = connected.map_err(|error| AuthorityError::Connect { host: host(), port, error })?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, wire)
            .await
            .map_err(|error| AuthorityError::Tls { host: host(), error })?;
        let wrong = |error| AuthorityError::Http { host: host(), error };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(wrong)?;
        // It ends with the sender.
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.map_err(wrong)?.into_parts();
        if parts.status.is_redirection() {
            // ACME knows none, and an order is not sent wherever somebody points to.
            let to = parts.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
            let to = to.unwrap_or("nowhere").to_owned();
            return Err(AuthorityError::Moved { host: host(), status: parts.status, to });
        }
        if matches!(parts.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            self.retry_at.store(retry_at(&parts.headers, SystemTime::now()).unwrap_or(0), Relaxed);
        }
        let body = Limited::new(body, LONGEST).collect().await;
        let body = body.map_err(|error| AuthorityError::Body { host: host(), error })?.to_bytes();
        if let Some(what) = unusable(&method, parts.status, &body) {
            return Err(AuthorityError::Unusable { host: host(), status: parts.status, what });
        }
        Ok(BytesResponse { parts, body: Box::new(body) })
    }
}

impl HttpClient for AcmeClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let answer = self.clone().ask(request);
        Box::pin(async move { answer.await.map_err(|error| Error::Other(Box::new(error))) })
    }
}

/// What makes an answer none of ACME, in words that go after its status. Refusals of what was posted say why (RFC 8555 section 6.7), and
/// are left to whoever has posted it.
fn unusable(method: &Method, status: StatusCode, body: &[u8]) -> Option<String> {
    const SHOWN: usize = 200;
    let json = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body).ok();
    if status.is_success() {
        // The directory; nonces have no body, and a certificate is none of JSON.
        return (*method == Method::GET && json.is_none()).then(|| no_acme(body));
    }
    let Some(problem) = json else { return Some(no_acme(body)) };
    let detail = ["detail", "type"].iter().find_map(|name| problem.get(*name)?.as_str());
    (*method != Method::POST).then(|| match detail {
        Some(detail) => format!("({})", detail.chars().take(SHOWN).collect::<String>()),
        None => no_acme(body),
    })
}

fn no_acme(body: &[u8]) -> String {
    let what = if body.is_empty() { "without a body" } else { "with a body" };
    format!("{what}, which is not ACME: `acme.directory` must be the URL of an authority's directory")
}

/// RFC 9110 section 10.2.3: a number of seconds, or a date.
fn retry_at(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse::<u32>() {
        Ok(seconds) => Some(unix_time(now).saturating_add(i64::from(seconds))),
        Err(_) => httpdate::parse_http_date(value).ok().map(unix_time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_says_in_both_ways_when_to_ask_again() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(value));
            retry_at(&headers, now)
        };
        assert_eq!(at("120"), Some(1_000_120));
        assert_eq!(at("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!((at("soon"), at("-5"), at("")), (None, None, None));
        assert_eq!(retry_at(&HeaderMap::new(), now), None);
    }

    #[test]
    fn an_answer_that_is_none_of_acme_is_told_with_its_status() {
        let problem = br#"{"type":"urn:ietf:params:acme:error:serverInternal","detail":"down for an hour"}"#;
        for (method, status, body, expected) in [
            (Method::GET, 200, &br#"{"newNonce":"https://a"}"#[..], None),
            (Method::HEAD, 200, b"", None),
            (Method::HEAD, 204, b"", None),
            (Method::HEAD, 503, b"", Some("without a body")),
            (Method::GET, 200, b"", Some("without a body")),
            (Method::GET, 200, b"<html>", Some("with a body, which is not ACME")),
            (Method::GET, 204, b"", Some("without a body")),
            (Method::GET, 404, b"not here", Some("with a body, which is not ACME")),
            (Method::GET, 500, b"", Some("without a body")),
            (Method::GET, 503, problem, Some("(down for an hour)")),
            (Method::GET, 503, br#"{"type":"urn:x"}"#, Some("(urn:x)")),
            (Method::GET, 503, b"{}", Some("with a body, which is not ACME")),
            (Method::POST, 200, b"-----BEGIN CERTIFICATE-----", None),
            (Method::POST, 400, problem, None),
            (Method::POST, 502, b"<html>", Some("with a body, which is not ACME")),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let said = unusable(&method, status, body);
            match expected {
                None => assert_eq!(said, None, "{method} {status}"),
                Some(expected) => {
                    assert!(said.is_some_and(|said| said.contains(expected)), "{method} {status}")
                }
            }
        }
    }
}
