//! Servers from a web server, in the JSON of Prometheus's `http_sd`, asked for in an interval.

use super::by_name::{self, ConnectFailure};
use super::file::shown;
use super::found::FoundServer;
use super::membership::SourceReply;
use super::schedule::Validity;
use super::source::{DiscoverySource, SourceAnswer, counted};
use crate::config;
use crate::config::plan::{DnsPlan, HttpSourcePlan};
use crate::files;
use crate::tls::pem;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// Ten thousand servers have less.
const LONGEST: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct HttpSource {
    settings: HttpSourcePlan,
    dns: DnsPlan,
    /// The last good answer, and what the server calls it.
    last: Option<(HeaderValue, Vec<FoundServer>)>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum HttpSourceError {
    #[error("it is no URL that can be asked")]
    Url,
    #[error("{0} {1}")]
    File(String, String),
    #[error("{0}")]
    Connect(#[from] ConnectFailure),
    #[error("no TLS: {0}")]
    Tls(String),
    #[error("no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("status {0}, and only 200 says who the servers are")]
    Status(StatusCode),
    #[error("the body is cut off, or longer than {most} MiB: {0}", most = LONGEST >> 20)]
    Body(String),
    #[error("the body is no JSON: {0}")]
    Json(String),
    #[error("{0}")]
    Problems(String),
}

/// A good answer.
enum HttpAnswer {
    Servers(Vec<FoundServer>),
    /// As the last time.
    NotModified,
}

impl HttpSource {
    pub(super) fn new(settings: HttpSourcePlan, dns: DnsPlan) -> Self {
        Self { settings, dns, last: None }
    }

    async fn get(&mut self, steps: &mut Vec<String>) -> Result<HttpAnswer, HttpSourceError> {
        let uri: Uri = self.settings.url.parse().map_err(|_| HttpSourceError::Url)?;
        let (host, is_secured) = match (uri.host(), uri.scheme_str()) {
            (Some(host), scheme) => (host.trim_matches(['[', ']']).to_owned(), scheme == Some("https")),
            (None, _) => return Err(HttpSourceError::Url),
        };
        let request = self.request(&uri).await?;
        let port = uri.port_u16().unwrap_or(if is_secured { 443 } else { 80 });
        let (address, wire) = by_name::connect(&self.dns, &host, port).await?;
        steps.push(format!("connected to {host} at {address}"));
        let response = if is_secured {
            let wrong = |error: String| HttpSourceError::Tls(error);
            let name =
                ServerName::try_from(host).map_err(|error| wrong(format!("cannot be read: {error}")))?;
            let tls = TlsConnector::from(self.client_config().await?);
            let wire =
                tls.connect(name, wire).await.map_err(|error| wrong(format!("cannot be read: {error}")))?;
            exchange(wire, request).await?
        } else {
            exchange(wire, request).await?
        };
        let (parts, body) = response.into_parts();
        steps.push(format!("GET {}: status {}", uri.path(), parts.status.as_u16()));
        match parts.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if self.last.is_some() => return Ok(HttpAnswer::NotModified),
            // Nor is anybody followed elsewhere: who the servers are is not for everybody to say.
            status => return Err(HttpSourceError::Status(status)),
        }
        let body = Limited::new(body, LONGEST).collect().await;
        let body = body.map_err(|error| HttpSourceError::Body(error.to_string()))?.to_bytes();
        let text = files::text(body.to_vec()).map_err(|error| HttpSourceError::Json(error.to_string()))?;
        // Some write a byte order mark before it (RFC 8259 section 8.1).
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let json: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
        json.map_err(|error| HttpSourceError::Json(error.to_string()))?;
        let servers = config::parse_servers(text)
            .map_err(|problems| HttpSourceError::Problems(shown(&self.settings.url, text, &problems)))?;
        let servers: Vec<_> = servers.into_iter().map(FoundServer::from).collect();
        let tag = parts.headers.get(header::ETAG).cloned();
        self.last = tag.map(|tag| (tag, servers.clone()));
        Ok(HttpAnswer::Servers(servers))
    }

    async fn request(&self, uri: &Uri) -> Result<Request<Empty<Bytes>>, HttpSourceError> {
        let authority = uri.authority().map(|authority| authority.as_str()).ok_or(HttpSourceError::Url)?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::get(target)
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
            .header("X-Prometheus-Refresh-Interval-Seconds", self.settings.interval.as_secs())
            .body(Empty::new())
            .map_err(|_| HttpSourceError::Url)?;
        let headers = request.headers_mut();
        if let Some((tag, _)) = &self.last {
            headers.insert(header::IF_NONE_MATCH, tag.clone());
        }
        if let Some(path) = &self.settings.token_file {
            let wrong = |why: String| HttpSourceError::File(path.display().to_string(), why);
            // It may have been renewed since.
            let token = read(path).await.map_err(|error| wrong(format!("cannot be read: {error}")))?;
            let token = String::from_utf8_lossy(&token).trim().to_owned();
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| wrong("is no token".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn client_config(&self) -> Result<Arc<ClientConfig>, HttpSourceError> {
        let roots = match &self.settings.ca {
            Some(path) => {
                let wrong = |why: String| HttpSourceError::File(path.display().to_string(), why);
                let bytes = read(path).await.map_err(|error| wrong(format!("cannot be read: {error}")))?;
                authorities(&bytes).map_err(wrong)?
            }
            None => {
                let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(native.map(|native| native.certs).unwrap_or_default());
                roots
            }
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| HttpSourceError::Tls(error.to_string()))?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// Whom to believe, by a file's contents.
pub(super) fn authorities(bytes: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = pem::certificates(bytes).map_err(|_| "is no PEM".to_owned())?;
    match roots.add_parsable_certificates(found) {
        (0, _) => Err("has no certificate in it".to_owned()),
        _ => Ok(roots),
    }
}

async fn exchange(
    wire: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, HttpSourceError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await?;
    // It ends with the sender and the body.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

async fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || files::read(&path)).await.map_err(std::io::Error::other)?
}

#[async_trait]
impl DiscoverySource for HttpSource {
    async fn ask(&mut self) -> SourceAnswer {
        let mut steps = Vec::new();
        let within = self.settings.timeout;
        let url = self.settings.url.clone();
        let answered = tokio::time::timeout(within, self.get(&mut steps)).await;
        let servers = match answered {
            Err(_) if steps.is_empty() => Err(format!(
                "no answer within {within:?}, in which its name was looked up or a connection opened"
            )),
            Err(_) => Err(format!("no answer within {within:?}")),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(HttpAnswer::Servers(servers))) => Ok((servers, "")),
            Ok(Ok(HttpAnswer::NotModified)) => Ok((
                self.last.as_ref().map(|(_, servers)| servers.clone()).unwrap_or_default(),
                ", not modified",
            )),
        };
        match servers {
            Err(why) => {
                steps.push(why.clone());
                SourceAnswer::failed(format!("{url}: {why}"), steps)
            }
            Ok((servers, how)) => {
                let summary = format!("{url}: {}{how}", counted(servers.len(), "server", "servers"));
                steps.push(summary.clone());
                SourceAnswer {
                    reply: SourceReply::Servers(servers),
                    validity: Validity::Interval(self.settings.interval),
                    summary,
                    problem: None,
                    steps,
                }
            }
        }
    }
}
