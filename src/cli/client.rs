//! The way from a command to the running process: one request over the admin socket, or over TCP.

use super::complain;
use super::file;
use crate::api::{ApiError, ErrorBody};
use crate::config::DEFAULT_SOCKET;
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// An answer is a list of some ten thousand servers at most.
const LONGEST: usize = 256 << 20;

/// Where the process is.
#[derive(Clone, Debug, Args)]
pub(super) struct ProcessAddress {
    /// The process's admin socket (`admin.socket`).
    #[arg(long, value_name = "PATH", env = "EVENKEEL_SOCKET", default_value = DEFAULT_SOCKET, global = false)]
    socket: PathBuf,
    /// Go over TCP instead, to the process's `admin.address`.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
    /// Holds the token for changes over TCP (`admin.token_file`).
    #[arg(long, value_name = "FILE", requires = "address")]
    token_file: Option<PathBuf>,
}

/// There is no answer to go on with, and the operator knows why by now.
#[derive(Debug)]
pub(super) struct RequestFailed;

impl From<RequestFailed> for ExitCode {
    fn from(RequestFailed: RequestFailed) -> Self {
        Self::FAILURE
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProcessUnreachable {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("the answer is cut off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// What the process said.
#[derive(Debug)]
pub(super) struct ProcessAnswer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl ProcessAddress {
    /// Asks for something to read.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RequestFailed> {
        self.understand(&self.ask(Method::GET, path, None, Duration::from_secs(30))?)
    }

    /// Asks for a change. Whatever is not a success is explained to the operator.
    pub(super) fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<T, RequestFailed> {
        self.understand(&self.ask(method, path, Some(body.to_string()), Duration::from_secs(90))?)
    }

    /// One request; only that there is no answer is a failure.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        within: Duration,
    ) -> Result<ProcessAnswer, RequestFailed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let answer = runtime
            .map_err(ProcessUnreachable::from)
            .and_then(|runtime| runtime.block_on(self.exchange(method, path, body, within)));
        answer.map_err(|error| self.explain(&error))
    }

    /// The same for who has a runtime, and another place for what is wrong.
    pub(super) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        within: Duration,
    ) -> Result<ProcessAnswer, ProcessUnreachable> {
        let exchange = async {
            let request = self.request(method, path, body)?;
            match self.address {
                Some(address) => converse(TcpStream::connect(address).await?, request).await,
                None => converse(UnixStream::connect(&self.socket).await?, request).await,
            }
        };
        tokio::time::timeout(within, exchange).await.unwrap_or(Err(ProcessUnreachable::Late(within)))
    }

    /// Reads a success; explains everything else.
    pub(super) fn understand<T: DeserializeOwned>(&self, answer: &ProcessAnswer) -> Result<T, RequestFailed> {
        self.read(answer).map_err(|error| {
            complain(&error.message);
            if let Some(help) = error.help {
                complain(&help);
            }
            RequestFailed
        })
    }

    /// Reads a success, or what there is against it.
    pub(super) fn read<T: DeserializeOwned>(&self, answer: &ProcessAnswer) -> Result<T, ApiError> {
        if answer.status.is_success() {
            return serde_json::from_slice(&answer.body).map_err(|error| ApiError {
                message: format!(
                    "{} answers something else than this version understands: {error}",
                    self.name()
                ),
                help: Some("use the evenkeel that the process runs as".to_owned()),
            });
        }
        match serde_json::from_slice::<ErrorBody>(&answer.body) {
            Ok(ErrorBody { error }) => Err(error),
            Err(_) => {
                Err(ApiError { message: format!("{} answers {}", self.name(), answer.status), help: None })
            }
        }
    }

    /// Why there is no answer.
    pub(super) fn unreached(&self, error: &ProcessUnreachable) -> String {
        format!("cannot reach a running evenkeel at {}: {error}", self.name())
    }

    fn name(&self) -> String {
        match self.address {
            Some(address) => address.to_string(),
            None => self.socket.display().to_string(),
        }
    }

    fn explain(&self, error: &ProcessUnreachable) -> RequestFailed {
        complain(&self.unreached(error));
        let kind = match error {
            ProcessUnreachable::Io(error) => error.kind(),
            _ => io::ErrorKind::Other,
        };
        match (kind, self.address) {
            (io::ErrorKind::PermissionDenied, None) => {
                complain("use an account that may: root, or a member of the socket's group");
            }
            (io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, None) => complain(
                "start it, or name its `admin.socket` with --socket PATH, or its `admin.address` with --address ADDRESS",
            ),
            (io::ErrorKind::ConnectionRefused, Some(_)) => {
                complain("start it, or give --address what `admin.address` says in its configuration");
            }
            _ => {}
        }
        RequestFailed
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Request<Full<Bytes>>, ProcessUnreachable> {
        let host = self.address.map_or_else(|| "localhost".to_owned(), |address| address.to_string());
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if let Some(operator) = operator() {
            request = request.header("x-operator", operator);
        }
        if let Some(file) = &self.token_file {
            let token = file::read_text(file).map_err(|error| {
                io::Error::new(error.kind(), format!("--token-file {}: {error}", file.display()))
            })?;
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim_end()));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        Ok(request.body(Full::from(body.unwrap_or_default()))?)
    }
}

/// Who sits at the keyboard, also behind sudo.
fn operator() -> Option<String> {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|name| !name.is_empty())
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<ProcessAnswer, ProcessUnreachable> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), LONGEST).collect().await.map_err(ProcessUnreachable::Body)?;
    Ok(ProcessAnswer { status, body: body.to_bytes() })
}

/// A name as a part of a path.
pub(super) fn part(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// `POOL/SERVER`, as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) pool: String,
    pub(super) server: String,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((pool, server)) if !pool.is_empty() && !server.is_empty() => {
                Ok(Self { pool: pool.to_owned(), server: server.to_owned() })
            }
            _ => Err("write the pool and the server, like app/app3; `evenkeel status` shows both".to_owned()),
        }
    }
}

impl Target {
    pub(super) fn path(&self, what: &str) -> String {
        format!("/api/v1/pools/{}/servers/{}{what}", part(&self.pool), part(&self.server))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.pool, self.server)
    }
}
