//! The process, its listeners, pools and servers at one moment.

use super::Receipt;
use super::cache::CacheStatus;
use super::limits::LimitCounts;
use super::maintenance::MaintenanceStatus;
use super::receipt::Guarding;
use crate::history::Figures;
use crate::text;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// Everything an operator looks at first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub process: ProcessStatus,
    /// The last one, whatever became of it; none since the start.
    pub last_reload: Option<Receipt>,
    /// The reload that is being watched, or the last that was.
    pub guard: Option<Guarding>,
    /// Those before it, newest first.
    #[serde(default)]
    pub earlier_guards: Vec<Guarding>,
    pub listeners: Vec<ListenerStatus>,
    pub pools: Vec<PoolStatus>,
    /// Rules that answer for their pools, and those of which an operator has said that they do not.
    #[serde(default)]
    pub maintenance: Vec<MaintenanceStatus>,
    /// What limits have to do; none if nothing was ever counted.
    #[serde(default)]
    pub limits: Option<LimitCounts>,
    /// What the cache keeps and spares servers; none if no rule has one.
    #[serde(default)]
    pub cache: Option<CacheStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub version: String,
    pub pid: u32,
    pub generation: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
    pub configuration: String,
    /// It finishes what it has and takes nothing new.
    pub draining: bool,
    /// Client connections, over all listeners.
    pub connections: u32,
    /// An upgrade was asked for, and is neither done nor has it failed.
    pub upgrading: bool,
    /// Until when it waits at most, because a reload is watched.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub upgrade_waits_until: Option<OffsetDateTime>,
    /// Why the last one did not.
    pub last_upgrade_failure: Option<String>,
    /// The process before this one, while it finishes what it has; that counts in all figures here.
    #[serde(default)]
    pub before: Option<PredecessorStatus>,
}

/// A process that another one has taken over from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredecessorStatus {
    pub pid: u32,
    pub connections: u32,
    pub in_flight: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerStatus {
    pub name: String,
    /// As configured.
    pub addresses: Vec<String>,
    pub protocol: String,
    pub connections: u32,
    pub accepted: u64,
    pub refused: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    pub name: String,
    pub balance: String,
    /// Nothing healthy is left, and requests go to every server that is not drained.
    pub failing_open: bool,
    /// Servers that take new requests because they are healthy and nobody keeps them out.
    pub up: usize,
    pub in_flight: u32,
    /// Requests and connections that wait for a server with room.
    #[serde(default)]
    pub waiting: usize,
    /// The pool that serves in its place now, as nothing of its own can be used (`fallback`).
    #[serde(default)]
    pub served_by: Option<String>,
    /// How many of its servers may be left out, where they are.
    #[serde(default)]
    pub may_be_out: Option<EjectionCeiling>,
    /// How clients are bound to servers, where they are.
    #[serde(default)]
    pub sticky: Option<StickyStatus>,
    /// Of the last ten seconds.
    pub figures: Figures,
    pub servers: Vec<ServerStatus>,
    /// Where further servers come from.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
    /// Servers that no source names now, and of which operators have said what counts should one name them again.
    #[serde(default)]
    pub absent: Vec<AbsentServer>,
}

/// For one server to be ejected, so many of so many may be down or ejected with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EjectionCeiling {
    pub most: usize,
    /// Those that nobody has taken out of use.
    pub of: usize,
}

/// What is remembered of a server that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsentServer {
    pub name: String,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Then it is forgotten.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    pub by_operator: Option<OperatorOverride>,
    pub weight: Option<u16>,
}

impl AbsentServer {
    /// `no source has named it for 5m; should one do so again: maint by alice (9m ago), weight 50`
    pub fn told(&self, now: OffsetDateTime) -> String {
        let state = |said: &OperatorOverride| {
            format!("{} by {} ({} ago)", said.state.word(), said.actor, text::ago(said.at, now))
        };
        let state = self.by_operator.as_ref().map(state);
        let said: Vec<_> =
            state.into_iter().chain(self.weight.map(|weight| format!("weight {weight}"))).collect();
        let since = text::ago(self.since, now);
        format!("no source has named it for {since}; should one do so again: {}", said.join(", "))
    }
}

/// How a pool's clients are bound to servers, and what has become of their requests since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StickyStatus {
    pub cookie: String,
    /// `insert` or `suffix`.
    pub mode: String,
    /// Requests by result: `new`, `kept`, `waited`, `moved` and `none`.
    pub results: BTreeMap<String, u64>,
}

impl StickyStatus {
    /// `sticky by EK (insert): 40 kept, 3 new`
    pub fn told(&self) -> String {
        let counts = self.results.iter().filter(|(_, count)| **count > 0);
        let counts: Vec<_> = counts.map(|(result, count)| format!("{count} {result}")).collect();
        let counts = if counts.is_empty() { "no request yet".to_owned() } else { counts.join(", ") };
        format!("sticky by {} ({}): {counts}", self.cookie, self.mode)
    }
}

/// A source of a pool's servers, as it was last asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// What metrics call it: `dns:app.internal:8080`.
    pub source: String,
    /// Whether the last answer was of use; none before the first.
    pub up: Option<bool>,
    /// Servers in force that it has named.
    pub servers: usize,
    /// Of those the ones that the last answer did not name.
    pub missing: usize,
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_success: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_query: Option<OffsetDateTime>,
    /// Who said what last, in a line.
    pub last_answer: Option<String>,
    /// What went wrong last time, if anything did.
    pub problem: Option<String>,
    /// Why the set in force is not what it says: `stale`, `empty`, `large_change` or `too_many`.
    pub held: Option<String>,
}

/// One server; three independent facts about it, and what follows from them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    pub name: String,
    pub address: String,
    /// What decides: `leaving`, `maint`, `drain`, `down`, `probing`, `ejected` or `up`, the first that holds.
    pub state: ReportedState,
    /// What probes say: `up`, `down` or `probing`.
    pub health: ReportedState,
    /// Since when they say so.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Whether it is probed at all.
    pub probed: bool,
    /// Why the last probe failed, if it did.
    pub last_failure: Option<String>,
    pub admin: AdminState,
    pub in_flight: u32,
    /// Of the last ten seconds.
    pub figures: Figures,
    pub weight: u16,
    /// Set when an operator's weight is in force instead of the configuration's.
    pub weight_by_operator: bool,
    pub max_connections: Option<u32>,
    /// It serves only while none of the others can.
    #[serde(default)]
    pub backup: bool,
    /// It is one, and serves.
    #[serde(default)]
    pub stands_in: bool,
    /// It is coming back: the share of picks that it takes part in, in percent.
    #[serde(default)]
    pub ramp: Option<u32>,
    /// Its source did not name it last, and it is not yet let go.
    #[serde(default)]
    pub missing: bool,
    /// Why it is left out though its probes pass, if it is.
    #[serde(default)]
    pub ejection: Option<EjectionStatus>,
}

/// A server that did worse with real traffic than the others of its pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EjectionStatus {
    /// `consecutive_errors`, `worse_by`, `slower_than` or `trial`.
    pub reason: String,
    /// What was seen.
    pub evidence: String,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// From then on requests try it out, one at a time.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// Requests that tried it out and went well, once it is being tried out.
    pub trial: Option<u64>,
    /// Ejections that are not lived down yet; each doubles the time of the next.
    pub strikes: u32,
}

impl EjectionStatus {
    /// `ejected for 12s more (consecutive_errors): 5 tries in a row failed; …`
    pub fn told(&self, now: OffsetDateTime) -> String {
        let left = (self.until - now).whole_seconds().max(0).unsigned_abs();
        let until = match self.trial {
            None if left == 0 => "ejected until it is tried out".to_owned(),
            None => format!("ejected for {} more", text::span(std::time::Duration::from_secs(left))),
            Some(passed) => format!("ejected, and tried out: {passed} of 3 requests went well"),
        };
        format!("{until} ({}): {}", self.reason, self.evidence)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedState {
    Up,
    Probing,
    Ejected,
    Down,
    Drain,
    Maint,
    Leaving,
}

impl ReportedState {
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Probing => "probing",
            Self::Ejected => "ejected",
            Self::Down => "down",
            Self::Drain => "drain",
            Self::Maint => "maint",
            Self::Leaving => "leaving",
        }
    }
}

/// The administrative state and who wants it: both may, and neither clears what the other has set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminState {
    /// `drain: true` in the file.
    pub by_configuration: bool,
    /// `drain` or `maint`, with who said so and when.
    pub by_operator: Option<OperatorOverride>,
}

/// An operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorOverride {
    pub state: ReportedState,
    pub actor: String,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

impl ServerStatus {
    /// What is said of a server that is `missing`.
    pub const MISSING: &str = "its source's last answer leaves it out";

    /// What is said of a backup.
    pub fn told_backup(&self) -> Option<&'static str> {
        match (self.backup, self.stands_in) {
            (false, _) => None,
            (true, false) => Some("backup: serves while none of the others is up"),
            (true, true) => Some("backup: serves now, for none of the others is up"),
        }
    }

    /// Since when it is in the state that decides.
    pub fn since_when(&self) -> OffsetDateTime {
        match &self.admin.by_operator {
            Some(said) if said.state == self.state => said.at,
            _ if self.state == ReportedState::Ejected => {
                self.ejection.as_ref().map_or(self.since, |ejection| ejection.since)
            }
            _ => self.since,
        }
    }
}

impl Status {
    /// The guard of this generation, if it is remembered.
    pub fn guard_of(&self, generation: u64) -> Option<&Guarding> {
        self.guard.iter().chain(&self.earlier_guards).find(|guard| guard.generation == generation)
    }

    pub fn pool(&self, name: &str) -> Option<&PoolStatus> {
        self.pools.iter().find(|pool| pool.name == name)
    }
}

impl PoolStatus {
    pub fn server(&self, name: &str) -> Option<&ServerStatus> {
        self.servers.iter().find(|server| server.name == name)
    }
}
