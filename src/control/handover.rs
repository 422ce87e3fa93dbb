//! What the process before an upgrade tells the next one, so that it does not start blind: which servers are up, what
//! operators have said, and the ledger. It comes as JSON on standard input; a process that cannot read it finds out
//! for itself.

use super::known_limits::KnownLimits;
use super::known_state::{Clocks, KnownState, ServerIdentity};
use super::stored_sets::StoredSets;
use super::{Control, ControlMessage};
use crate::api::receipt::Guarding;
use crate::api::{Event, Receipt};
use crate::config::plan::{Balance, Name};
use crate::history::ToldSecond;
use crate::limit::LimitSecret;
use crate::operate::KeptState;
use crate::pool::{Member, Pool};
use crate::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;
use std::time::Instant;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::{info, warn};

/// Says that there is something to read on standard input.
pub(super) const VARIABLE: &str = "EVENKEEL_HANDOVER";
/// Events that are told; the ledger's file, if there is one, has them all.
const EVENTS: usize = 1000;

/// What the next process is told. Fields may be added; a reader takes what it knows.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Handover {
    generation: u64,
    servers: Vec<KnownState>,
    /// As the state file has it.
    operators: String,
    /// What the keys of `limits` are hashed with: said at the start.
    limit_secret: Option<[u64; 2]>,
    /// What clients owe: said at the end.
    limits: Option<KnownLimits>,
    /// What sources have named.
    found: StoredSets,
    events: Vec<Event>,
    /// The number of the next event.
    next_event: u64,
    /// The last seconds of each pool: said at the end.
    history: Vec<(String, Vec<ToldSecond>)>,
    last_reload: Option<Receipt>,
    /// What guards have said, newest first.
    guards: Vec<Guarding>,
    /// The file that a guard has taken back, by its SHA-256.
    taken_back: Option<String>,
    /// When and why.
    verdict: Option<GuardVerdict>,
    /// Signals that came while the next process was starting are its to follow.
    pub(super) reload: bool,
    pub(super) reopen_logs: bool,
}

/// A file that a guard has taken back.
#[derive(Clone, Debug)]
pub(super) struct TakenBack {
    /// Its SHA-256.
    pub(super) fingerprint: String,
    /// None if the process before us did not say.
    pub(super) verdict: Option<GuardVerdict>,
}

/// What a guard has said of a generation that it has taken back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct GuardVerdict {
    pub(super) generation: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) at: OffsetDateTime,
    /// Which pool, and what has become worse.
    pub(super) why: String,
}

impl fmt::Display for GuardVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, at, why } = self;
        let at = at.replace_nanosecond(0).unwrap_or(*at).format(&Rfc3339).unwrap_or_default();
        write!(f, "generation {generation} was rolled back at {at}: {why}")
    }
}

impl Handover {
    /// What a guard has said that has taken this file back: an upgrade must not bring it again.
    pub(crate) fn taken_back(&self, fingerprint: &str) -> Option<String> {
        let is_it = self.taken_back.as_deref() == Some(fingerprint);
        let said = || self.verdict.as_ref().map(ToString::to_string);
        is_it.then(|| said().unwrap_or_else(|| "`evenkeel events --kind reload` has what it said".to_owned()))
    }

    /// What the process before us says, if one does. To be asked while nothing else reads standard input.
    pub(crate) fn from_stdin() -> Option<Self> {
        std::env::var_os(VARIABLE)?;
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text).map_err(|error| error.to_string());
        match read.and_then(|_| serde_json::from_str(&text).map_err(|error| error.to_string())) {
            Ok(handover) => Some(handover),
            Err(error) => {
                // There is no log yet.
                let _ = writeln!(
                    io::stderr(),
                    "evenkeel: what the process before this one says cannot be read: {error}"
                );
                None
            }
        }
    }
}

impl Control {
    /// A file to read the handover from, at its beginning.
    pub(super) fn handover(&mut self) -> io::Result<File> {
        let snapshot = self.live.snapshot();
        let clocks = Clocks { instant: Instant::now(), wall: OffsetDateTime::now_utc() };
        let of_pool = |pool: &Pool| {
            let watch = self.succeeding.get(&pool.name);
            let known = |member: &Member| KnownState::of(&member.server, watch, clocks);
            pool.members.iter().map(known).collect::<Vec<_>>()
        };
        let wanted = crate::events::EventFilter { limit: Some(EVENTS), ..Default::default() };
        // Through its file the ledger goes on by itself, but for what the disk has not got when the next process reads it.
        self.told_events = match snapshot.plan.events.path {
            Some(_) => self.live.event_log.first_unwritten(),
            None => self.live.event_log.next_event(),
        };
        let handover = Handover {
            generation: snapshot.generation,
            servers: snapshot.pools().iter().flat_map(|pool| of_pool(pool)).collect(),
            operators: self.live.overrides.load().to_json(self.live.sticky_key.load().as_deref()),
            // Also with no limit yet: the first may come while the next process starts.
            limit_secret: Some(self.live.limit_secret.get_or_init(LimitSecret::new).words()),
            found: StoredSets::of(self.live.found.all()),
            events: match snapshot.plan.events.path {
                Some(_) => Vec::new(),
                None => self.live.event_log.find(&wanted).events,
            },
            last_reload: self.live.last_reload.load().as_deref().cloned(),
            guards: self.live.guards.load().to_vec(),
            taken_back: self.taken_back.as_ref().map(|file| file.fingerprint.clone()),
            verdict: self.taken_back.as_ref().and_then(|file| file.verdict.clone()),
            ..Handover::default()
        };
        let mut file =
            File::from(rustix::fs::memfd_create("evenkeel-handover", rustix::fs::MemfdFlags::CLOEXEC)?);
        serde_json::to_writer(&mut file, &handover)?;
        file.rewind()?;
        Ok(file)
    }

    /// What has happened since the handover. What happens after this is for the next process to number.
    pub(super) fn rest(&self) -> Handover {
        let (events, next_event) = self.live.event_log.hand_over(self.told_events);
        Handover {
            operators: self.live.overrides.load().to_json(None),
            limits: self.live.limiter.get().map(|limiter| KnownLimits::of(limiter, Instant::now())),
            events,
            next_event,
            history: self.live.pool_history().told().map(|(pool, told)| (pool.to_string(), told)).collect(),
            last_reload: self.live.last_reload.load().as_deref().cloned(),
            guards: self.live.guards.load().to_vec(),
            ..Handover::default()
        }
    }

    /// Takes over what has happened since the process before us told us what it knew.
    pub(crate) fn learn(&mut self, rest: Handover) {
        self.live.event_log.relieve(rest.events, rest.next_event);
        self.live.last_reload.store(rest.last_reload.map(Arc::new));
        if !rest.guards.is_empty() {
            self.live.guards.store(Arc::new(rest.guards));
        }
        for (pool, told) in rest.history {
            self.live.pool_history().recall(Name::from(&*pool), told);
        }
        // No table is made for what nothing counts.
        if let Some(limits) = rest.limits
            && (self.live.limiter.get().is_some() || limits.has_bans())
        {
            limits.recall(self.live.limiter());
        }
        match KeptState::from_json(&rest.operators) {
            Ok(kept) => self.say_again(&kept.overrides),
            Err(error) => {
                warn!(error, "what operators said meanwhile to the process before this one is lost")
            }
        }
        let due =
            [(rest.reload, ControlMessage::Reload(None)), (rest.reopen_logs, ControlMessage::ReopenLogs)];
        for (_, change) in due.into_iter().filter(|(is_due, _)| *is_due) {
            let _ = self.changes.send(change);
        }
    }

    /// Goes on from where the process before us was.
    pub(crate) fn go_on_from(&mut self, handover: Handover) {
        self.live.put_in_force(Arc::new(Snapshot::after(handover.generation)));
        match KeptState::from_json(&handover.operators) {
            Ok(kept) => self.recall_state(kept),
            Err(error) => warn!(error, "what operators said to the process before this one is lost"),
        }
        if let Some(words) = handover.limit_secret {
            self.live.limit_secret.get_or_init(|| LimitSecret::from_words(words));
        }
        self.live.found.recall(handover.found.recall());
        self.live.last_reload.store(handover.last_reload.map(Arc::new));
        self.live.guards.store(Arc::new(handover.guards));
        let verdict = handover.verdict;
        self.taken_back = handover.taken_back.map(|fingerprint| TakenBack { fingerprint, verdict });
        self.live.event_log.go_on(handover.events);
        self.known = handover.servers.into_iter().map(|known| (known.identity(), known)).collect();
    }

    /// Gives servers what the process before us knew of them.
    pub(super) fn remember_servers(&mut self, next: &Snapshot) {
        let known = std::mem::take(&mut self.known);
        if known.is_empty() {
            return;
        }
        let clocks = Clocks { instant: Instant::now(), wall: OffsetDateTime::now_utc() };
        let mut n_known = 0;
        for pool in next.pools() {
            let mut watch = match pool.plan.balance {
                Balance::SuccessRate(_) => Some(self.succeeding.entry(pool.name.clone()).or_default()),
                _ => None,
            };
            for member in &pool.members {
                if let Some(known) = known.get(&ServerIdentity::of(&member.server)) {
                    n_known += usize::from(known.recall(pool, &member.server, watch.as_deref_mut(), clocks));
                }
            }
        }
        info!(servers = n_known, "health known from the process before this one");
    }
}

/// What the process before us knew of servers.
pub(super) type KnownServers = HashMap<ServerIdentity, KnownState>;
