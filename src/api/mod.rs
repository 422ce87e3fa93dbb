//! What the API says, as types: the process writes them as JSON and the commands read them back, so that neither can
//! say what the other does not know.

pub mod cache;
pub mod event;
pub mod limits;
pub mod maintenance;
mod missing;
pub mod probe;
pub mod receipt;
pub mod status;

pub use event::{Event, EventKind, EventList, Evidence};
pub use probe::ProbeReport;
pub use receipt::{ChangeCounts, HealthKept, Receipt, ReloadOutcome};
pub use status::Status;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A refusal: what is wrong, and what would work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: ApiError,
}

/// To the millisecond: more digits would tell operators nothing.
pub fn to_millisecond(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_millisecond(at.millisecond()).unwrap_or(at)
}
