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

/// Whom limits keep from asking now. (How many are in debt is in `LimitReport`: counting them takes a while.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitCounts {
    /// Bans that are listed.
    pub banned: usize,
    /// Requests that are held back to be refused.
    pub tarpits: u32,
}

impl LimitCounts {
    /// `2 clients banned, 1 request held back to be refused`; none if there is nothing to tell.
    pub fn told(&self) -> Option<String> {
        let count = |n: usize, one: &str, rest: &str| {
            (n > 0).then(|| format!("{n} {one}{} {rest}", if n == 1 { "" } else { "s" }))
        };
        let tarpits = usize::try_from(self.tarpits).unwrap_or(usize::MAX);
        let told =
            [count(self.banned, "client", "banned"), count(tarpits, "request", "held back to be refused")];
        let told: Vec<_> = told.into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
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
    /// Whose request it was, as much of the address as is the client's own.
    pub client: String,
    /// What the limit tells apart: `client`, `value of x-api-key`.
    #[serde(default)]
    pub counted_by: String,
    /// Until nothing of it is left.
    pub debt_ms: u64,
}
