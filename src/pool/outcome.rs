//! What a server made of one try: what whoever judges servers by their work goes by.

use super::source::Source;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How a try has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub result: TryResult,
    /// How long the server was waited for, but for what was its client's time: until the connection stood where bytes are passed on
    /// as they are, until the response's head was there, or until patience ended. `None` where nothing came and nobody waited.
    pub waited: Option<Duration>,
    /// Whether it is a success by what the pool's `outcome` goes by, where the answer says it.
    pub declared: Option<bool>,
    /// Whose try it was, where that matters.
    pub source: Option<Source>,
}

/// What has become of a try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TryResult {
    /// Nobody has said: a panic, a stopped runtime.
    #[default]
    Unknown,
    /// A connection, or a UDP session, was passed on to the server.
    Connected,
    /// The head of a response with this status came; of a gRPC call also what it ended with, once that is known.
    Answered { status: u16, grpc_status: Option<u8> },
    /// No connection could be opened, or not secured.
    ConnectFailed,
    /// The server let a limit pass.
    TimedOut,
    /// The server broke off, or what it sent was no response.
    Reset,
    /// It ended for reasons that say nothing of the server: the client left, we lacked something ourselves.
    NotServersFault,
}

/// What a result says of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryVerdict {
    Served,
    Failed,
    Neutral,
    Unknown,
}

impl Outcome {
    /// An end that nothing was waited for.
    pub fn of(result: TryResult) -> Self {
        Self { result, waited: None, declared: None, source: None }
    }

    /// The same after so long.
    pub fn after(self, waited: Duration) -> Self {
        Self { waited: Some(waited), ..self }
    }
}

impl TryResult {
    /// What is known by a response's head.
    pub const fn answered(status: u16) -> Self {
        Self::Answered { status, grpc_status: None }
    }

    /// Whether the server took the try. What a status says of it, its answers' judge knows.
    pub fn verdict(self) -> TryVerdict {
        match self {
            Self::Connected | Self::Answered { .. } => TryVerdict::Served,
            Self::ConnectFailed | Self::TimedOut | Self::Reset => TryVerdict::Failed,
            Self::NotServersFault => TryVerdict::Neutral,
            Self::Unknown => TryVerdict::Unknown,
        }
    }
}

/// A server's tries that are over, by verdict.
#[derive(Debug, Default)]
pub struct TryCounts([AtomicU64; 4]);

impl TryCounts {
    pub(super) fn count(&self, verdict: TryVerdict) {
        self.0[verdict as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn of(&self, verdict: TryVerdict) -> u64 {
        self.0[verdict as usize].load(Ordering::Relaxed)
    }
}
