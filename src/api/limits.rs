//! Who is banned, and who is over limits.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Bans in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanList {
    pub bans: Vec<ListedBan>,
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedBan {
    /// The client, as much of its address as is its own.
    pub client: String,
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    pub seconds_left: u64,
    /// The limit or the operator that has banned it.
    pub by: String,
    /// By an operator, for all listeners.
    pub everywhere: bool,
}

/// How many bans of a client were ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedBans {
    pub ended: usize,
}

/// What limits count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitReport {
    /// Clients in debt or banned.
    pub keys: usize,
    /// How often a new client had to share another's count.
    pub shared: u64,
    /// Those that were refused or held back and are in debt still, the deepest first.
    pub top: Vec<ListedDebtor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedDebtor {
    pub limit: String,
    /// Whose request it was.
    pub client: String,
    /// Until nothing of it is left.
    pub debt_ms: u64,
}
