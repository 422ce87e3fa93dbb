//! Active health checks: one file per probe. A probe asks once and says what it saw; what the answer
//! means for the server is decided by `pool::health`.

mod http;
mod tcp;
mod udp;

pub use http::HttpCheck;
pub use tcp::TcpCheck;
pub use udp::UdpCheck;

use crate::config::plan;
use crate::units::Address;
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One kind of probe.
#[async_trait]
pub trait Probe: fmt::Debug + Send + Sync {
    /// Asks `address` once. The caller bounds the time.
    async fn check(&self, address: &Address) -> Result<(), Failure>;
}

/// Why a probe did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("not an HTTP answer: {0}")]
    Protocol(String),
    #[error("status {0}, expected {1}")]
    Status(u16, String),
    #[error("body does not contain {expected:?}; it begins {found:?}")]
    Body { expected: String, found: String },
    /// Both as they are printed, with escapes.
    #[error("answer does not contain \"{expected}\"; it begins \"{found}\"")]
    Answer { expected: String, found: String },
}

impl Failure {
    /// The `result` label of `evenkeel_probes_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Timeout(_) => "timeout",
            Self::Protocol(_) => "protocol",
            Self::Status(..) => "status",
            Self::Body { .. } => "body",
            Self::Answer { .. } => "answer",
        }
    }
}

/// The probe that a plan asks for.
pub fn build(probe: &plan::Probe) -> Arc<dyn Probe> {
    match probe {
        plan::Probe::Http(http) => Arc::new(HttpCheck::new(http.clone())),
        plan::Probe::Tcp => Arc::new(TcpCheck),
        plan::Probe::Udp(udp) => Arc::new(UdpCheck::new(udp.clone())),
    }
}

/// Where to probe: the server itself, or another port of the same host.
pub fn target(server: &Address, port: Option<u16>) -> Address {
    match (server, port) {
        (Address::Inet(address), Some(port)) => {
            let mut address = *address;
            address.set_port(port);
            Address::Inet(address)
        }
        _ => server.clone(),
    }
}

/// Runs one probe within `timeout`.
pub async fn run(probe: &dyn Probe, address: &Address, timeout: Duration) -> Result<(), Failure> {
    match tokio::time::timeout(timeout, probe.check(address)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Timeout(timeout)),
    }
}
