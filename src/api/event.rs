//! One entry of the health ledger.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Probes changed their mind about a server.
    Health,
    /// A server that does worse than the others was ejected, is tried out, or is back.
    Ejection,
    /// An operator changed a server's state or weight.
    Operator,
    /// A server joined or left its pool, or was gone for good.
    Membership,
    /// A source of servers failed, answered again or was held back, or had a pool's servers changed.
    Discovery,
    /// A list of networks could not be read again, or was.
    Networks,
    /// A database of where clients are could not be read again, or was.
    Geo,
    /// A configuration was taken over, refused or taken back.
    Reload,
    /// A pool began or ceased to send to unhealthy servers for want of healthy ones.
    FailOpen,
    /// Another node has not confirmed what was purged here, or has.
    Cache,
    /// The process started, stopped, or handed over to another.
    Process,
}

impl EventKind {
    pub const ALL: [Self; 11] = [
        Self::Health,
        Self::Ejection,
        Self::Operator,
        Self::Membership,
        Self::Discovery,
        Self::Networks,
        Self::Geo,
        Self::Reload,
        Self::FailOpen,
        Self::Cache,
        Self::Process,
    ];

    /// As it is written in JSON and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ejection => "ejection",
            Self::Operator => "operator",
            Self::Membership => "membership",
            Self::Discovery => "discovery",
            Self::Networks => "networks",
            Self::Geo => "geo",
            Self::Reload => "reload",
            Self::FailOpen => "fail_open",
            Self::Cache => "cache",
            Self::Process => "process",
        }
    }
}

impl std::str::FromStr for EventKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.word() == text).ok_or_else(|| {
            let words = Self::ALL.map(Self::word).join(", ");
            format!("`{text}` is no kind of event; use one of {words}")
        })
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up without gaps within one process.
    pub id: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub kind: EventKind,
    /// The generation in force.
    pub generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Who: `probe`, `outlier`, `reload`, `signal`, `discovery`, or an operator's name.
    pub actor: String,
    pub cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// What a probe saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// `pass`, or the kind of failure as `evenkeel_probes_total` has it.
    pub result: String,
    /// In words, with the first bytes of an unexpected answer; at most [`Evidence::LONGEST`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    pub took_ms: f64,
    /// Requests and connections the server had then.
    pub in_flight: u32,
}

impl Evidence {
    /// What a server says is not ours to keep without bound.
    pub const LONGEST: usize = 512;

    /// As much of a text as is kept.
    pub fn bounded(mut text: String) -> String {
        if text.len() > Self::LONGEST {
            let end = (0..=Self::LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

/// The answer to `GET /api/v1/events`, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventList {
    pub events: Vec<Event>,
    /// Events that are no longer in memory.
    pub forgotten: u64,
}
