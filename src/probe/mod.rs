//! Active health checks: one file per probe. A probe asks once and says what it saw; what the answer
//! means for the server is decided by `pool::health`.

mod dial;
mod grpc;
mod h2_answer;
mod http;
mod http2;
mod once;
mod steps;
mod tcp;
mod tls;
mod udp;

pub use grpc::GrpcCheck;
pub use http::HttpCheck;
pub use once::once;
pub use steps::Steps;
pub use tcp::TcpCheck;
pub use tls::TlsCheck;
pub use udp::UdpCheck;

use crate::config::plan::{self, Name};
use crate::dial::own_resource;
use crate::origination::SharedOrigination;
use crate::pool::Server;
use crate::proxy_header::{self, ProxyHeader};
use crate::units::Address;
use async_trait::async_trait;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// One kind of probe.
#[async_trait]
pub trait Probe: fmt::Debug + Send + Sync {
    /// Asks once and tells `steps` on its way. The caller bounds the time.
    async fn check(&self, target: &ProbeTarget, steps: &Steps) -> Result<(), ProbeFailure>;

    /// What must hold for a pass, in words.
    fn rule(&self) -> String;

    /// Until when the certificate holds that the server has shown last, in seconds since 1970.
    fn certificate_expires(&self) -> Option<i64> {
        None
    }
}

/// Why a probe did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("not an answer: {0}")]
    Protocol(String),
    #[error("status {0}, expected {1}")]
    Status(u16, String),
    #[error("body does not contain {expected:?}; it begins {found:?}")]
    Body { expected: String, found: String },
    #[error("reply does not contain {expected:?}; it begins {found:?}")]
    Reply { expected: String, found: String },
    #[error("no TLS: {0}")]
    Tls(String),
    #[error("gRPC: {0}")]
    Grpc(String),
    /// Both as they are printed, with escapes.
    #[error("reply does not contain \"{expected}\"; it begins \"{found}\"")]
    Bytes { expected: String, found: String },
    /// Evenkeel lacks what a connection needs; the server has nothing to do with it.
    #[error("evenkeel is out of {0}")]
    OwnResources(&'static str),
    /// The probe itself came to grief, by a fault of ours.
    #[error("the probe ended by a fault of evenkeel's: {0}")]
    Internal(String),
}

impl ProbeFailure {
    /// The `result` label of `evenkeel_probes_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Timeout(_) => "timeout",
            Self::Protocol(_) => "protocol",
            Self::Status(..) => "status",
            Self::Body { .. } => "body",
            Self::Reply { .. } | Self::Bytes { .. } => "reply",
            Self::Tls(_) => "tls",
            Self::Grpc(_) => "grpc",
            Self::OwnResources(_) => "own_resources",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether it says nothing of the server.
    pub fn is_our_own(&self) -> bool {
        matches!(self, Self::OwnResources(_) | Self::Internal(_))
    }
}

impl From<io::Error> for ProbeFailure {
    /// Of opening a connection.
    fn from(error: io::Error) -> Self {
        own_resource(&error).map_or_else(|| Self::Connect(error.to_string()), Self::OwnResources)
    }
}

/// What a server says is read this far.
const BODY_LIMIT: usize = 64 * 1024;

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

/// As much of something unexpected as one wants to read.
fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned()
}

/// The probe that a pool asks for.
///
/// Probes go over TLS where the pool's requests do, unless they have a port of their own: what is there may be another
/// thing. `is_h2` has the `http` probe ask by HTTP/2.
pub fn build(
    health: &plan::HealthPlan,
    proxy_protocol: Option<plan::ProxyVersion>,
    is_h2: bool,
    origination: SharedOrigination,
) -> Arc<dyn Probe> {
    let origination = if health.port.is_some() { SharedOrigination::default() } else { origination };
    // Servers that expect a PROXY header expect it of us too: it says that the connection is our own.
    let proxy_header = proxy_protocol.map(|version| proxy_header::write(version, ProxyHeader::Nobody));
    match &health.probe {
        plan::ProbePlan::Http(http) => {
            Arc::new(HttpCheck::new(http.clone(), proxy_header, is_h2, origination))
        }
        plan::ProbePlan::Tcp(tcp) => {
            Arc::new(TcpCheck::new(tcp.clone(), proxy_header, health.timeout, origination))
        }
        plan::ProbePlan::Tls(tls) => Arc::new(TlsCheck::new(tls.clone(), proxy_header)),
        plan::ProbePlan::Grpc(grpc) => Arc::new(GrpcCheck::new(grpc.clone(), proxy_header, origination)),
        plan::ProbePlan::Udp(udp) => Arc::new(UdpCheck::new(udp.clone())),
    }
}

/// Where a probe goes, and by what name the server there is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    pub address: Address,
    /// The host name that has led to the address, if one has: probes ask for it unless they are told another.
    pub host: Option<Name>,
}

impl ProbeTarget {
    /// The server itself, or another port of the same host.
    pub fn new(server: &Server, port: Option<u16>) -> Self {
        let mut address = server.address().clone();
        if let (Address::Inet(address), Some(port)) = (&mut address, port) {
            address.set_port(port);
        }
        Self { address, host: server.host() }
    }

    /// What a URL would have: the name, or else the address, with the port.
    fn authority(&self) -> String {
        match (&self.address, &self.host) {
            (Address::Inet(address), Some(host)) => format!("{host}:{}", address.port()),
            (Address::Inet(address), None) => address.to_string(),
            (Address::Unix(_), _) => "localhost".to_owned(),
        }
    }
}

impl From<Address> for ProbeTarget {
    fn from(address: Address) -> Self {
        Self { address, host: None }
    }
}

/// Runs one probe within `timeout`.
pub async fn run(
    probe: &dyn Probe,
    target: &ProbeTarget,
    timeout: Duration,
    steps: &Steps,
) -> Result<(), ProbeFailure> {
    match tokio::time::timeout(timeout, probe.check(target, steps)).await {
        Ok(result) => result,
        Err(_) => Err(ProbeFailure::Timeout(timeout)),
    }
}
