//! What a reload did.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadOutcome {
    InForce,
    /// Nothing has changed.
    Refused,
    /// It was in force, and the generation before it is again.
    RolledBack,
}

/// What a reload did, for whoever asked for it, for the log and for later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    pub outcome: ReloadOutcome,
    /// The generation in force afterwards.
    pub generation: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The file, as the process was told to find it.
    pub configuration: String,
    /// The file's SHA-256, as `sha256sum` prints it; none if it could not be read.
    pub fingerprint: Option<String>,
    /// Who asked for it.
    pub actor: String,
    pub took_ms: f64,
    /// Changed settings of the process, its logs and its ledger, as `key: old -> new`.
    #[serde(default)]
    pub settings: Vec<String>,
    pub listeners: ChangeCounts,
    pub routes: ChangeCounts,
    pub pools: ChangeCounts,
    /// As `pool/server`; one at another address is another server.
    pub servers: ChangeCounts,
    pub health: HealthKept,
    /// Operators' states that ended with their servers.
    pub operator_states_ended: Vec<String>,
    pub warnings: Vec<String>,
    /// Why it was refused or rolled back.
    pub problems: Vec<String>,
}

/// Things of one kind by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCounts {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub changed: Vec<String>,
    /// How many stayed as they were.
    pub kept: usize,
}

/// What became of what probes had found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthKept {
    /// Servers whose state and counts stay.
    pub kept: usize,
    /// The probe is another one: the state stays, counts start anew.
    pub counts_reset: Vec<String>,
    /// Probed no longer, and so taken to be up.
    pub assumed_up: Vec<String>,
}

/// A reload under watch, or the last that was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guarding {
    pub state: GuardState,
    /// The generation that is watched.
    pub generation: u64,
    pub actor: String,
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// By how much the share of requests that fail may rise; 0.02 is two percentage points.
    pub max_error_rise: f64,
    /// Fewer requests of a pool say nothing.
    pub min_requests: u64,
    /// How many healthy servers a pool may lose.
    pub max_servers_lost: usize,
    pub why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardState {
    Watching,
    /// Nothing had become worse.
    Kept,
    RolledBack,
    /// It is watched no longer, without a judgement.
    Ended,
}

impl Receipt {
    /// A receipt of something that changed nothing (yet).
    pub fn new(outcome: ReloadOutcome, generation: u64, at: OffsetDateTime, actor: &str) -> Self {
        Self {
            outcome,
            generation,
            at: super::to_millisecond(at),
            configuration: String::new(),
            fingerprint: None,
            actor: actor.to_owned(),
            took_ms: 0.0,
            settings: Vec::new(),
            listeners: ChangeCounts::default(),
            routes: ChangeCounts::default(),
            pools: ChangeCounts::default(),
            servers: ChangeCounts::default(),
            health: HealthKept::default(),
            operator_states_ended: Vec::new(),
            warnings: Vec::new(),
            problems: Vec::new(),
        }
    }
}

impl ChangeCounts {
    /// `+1 -0 ~2 =7`, as the log has it.
    pub fn in_short(&self) -> String {
        format!("+{} -{} ~{} ={}", self.added.len(), self.removed.len(), self.changed.len(), self.kept)
    }

    /// `1 added, 2 changed, 7 kept`, for people.
    pub fn in_words(&self) -> String {
        let counts = [
            (self.added.len(), "added"),
            (self.removed.len(), "removed"),
            (self.changed.len(), "changed"),
            (self.kept, "kept"),
        ];
        let told: Vec<_> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        if told.is_empty() { "none".to_owned() } else { told.join(", ") }
    }

    /// Whether everything is as it was.
    pub fn is_none(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}
