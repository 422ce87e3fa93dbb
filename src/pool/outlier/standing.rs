//! Where a server stands: it serves, is ejected, or is being tried out.

use super::judge::Reason;
use std::time::Instant;

/// Where one server stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Ejections that are not lived down yet; each doubles the next one.
    pub strikes: u32,
    /// Since when it serves without one, or its last strike was lived down.
    pub since: Instant,
    /// `None` serves.
    pub ejection: Option<Ejection>,
}

/// Why a server is left out, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Ejection {
    pub reason: Reason,
    /// What was seen, in words.
    pub evidence: String,
    /// Since when it is left out, trials that failed included.
    pub since: Instant,
    /// When this time began.
    pub began: Instant,
    /// From then on it is tried out.
    pub until: Instant,
    /// Being tried out since then, or since the last request that did.
    pub trial: Option<TrialState>,
}

/// A trial under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrialState {
    /// When something last happened in it.
    pub moved: Instant,
    /// Requests that went well.
    pub passed: u64,
}

impl Standing {
    pub fn new(now: Instant) -> Self {
        Self { strikes: 0, since: now, ejection: None }
    }
}
