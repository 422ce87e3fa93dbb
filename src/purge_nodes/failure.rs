//! Why another node is not known to have purged what it was told.

use super::ANSWER_WITHIN;
use http::StatusCode;
use std::io;

/// Why a node has not confirmed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeFailure {
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("no answer within {ANSWER_WITHIN:?}")]
    Late,
    #[error("it answers {status}{message}")]
    Refused {
        status: StatusCode,
        /// What it says beside that.
        message: String,
    },
    #[error("it cannot be asked: {0}")]
    Request(String),
}

impl NodeFailure {
    /// Whether it would say the same again, whatever is changed there.
    pub(crate) fn is_final(&self) -> bool {
        let is_final = |status: &StatusCode| matches!(status.as_u16(), 400 | 413 | 422);
        matches!(self, Self::Refused { status, .. } if is_final(status)) || matches!(self, Self::Request(_))
    }
}
