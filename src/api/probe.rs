//! One probe that somebody asked for: what it found at each step, and the verdict.

use super::status::ReportedState;
use serde::{Deserialize, Serialize};

/// A probe that has changed nothing, whatever came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    pub pool: String,
    pub server: String,
    /// What was asked: `http`, `tcp`, `tls`, `grpc` or `udp`.
    pub kind: String,
    /// The server's own address.
    pub address: String,
    pub timeout_ms: f64,
    /// In their order; those after the one that failed are evidence.
    pub steps: Vec<ProbeStep>,
    pub passed: bool,
    /// `pass`, or how it failed, as `evenkeel_probes_total` counts it.
    pub result: String,
    /// What decided: the rule that was kept, or how it was not.
    pub rule: String,
    pub took_ms: f64,
    /// What the process's own probes say, which this one leaves as it is; none by a file alone.
    pub health: Option<ReportedState>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// One step of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeStep {
    pub step: StepKind,
    pub passed: bool,
    pub took_ms: f64,
    /// With escapes for whatever does not belong into a line of text.
    pub found: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    Resolve,
    Connect,
    ProxyHeader,
    Tls,
    Request,
    Status,
    Body,
    /// What comes back where there is no status.
    Reply,
}

impl StepKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::ProxyHeader => "PROXY header",
            Self::Tls => "TLS",
            Self::Request => "request",
            Self::Status => "status",
            Self::Body => "body",
            Self::Reply => "reply",
        }
    }
}
