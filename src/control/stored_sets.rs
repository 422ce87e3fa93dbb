//! What sources have named, in words that outlive the process: for the file beside `admin.state_file`, from which a start
//! without the sources goes on, and for the next process at an upgrade.

use super::Control;
use super::aside::{FILES_WITHIN, aside};
use super::found_sets::{FoundSet, RecalledSet, RecalledSets};
use crate::api::to_millisecond;
use crate::config::plan::Name;
use crate::discover::found::FoundServer;
use crate::discover::membership::AdoptedFrom;
use crate::files;
use crate::units::Weight;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tracing::{error, info, warn};

/// The only format so far.
const VERSION: u32 = 1;

/// Every source's last good set.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StoredSets {
    version: u32,
    sources: Vec<StoredSet>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredSet {
    pool: String,
    /// What the source is called.
    source: String,
    /// When it said so.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// Whether another source had named some of them, and this one has not answered in whole.
    #[serde(default, skip_serializing_if = "is_false")]
    of_other_source: bool,
    servers: Vec<StoredServer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredServer {
    name: String,
    address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_connections: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "is_false")]
    drain: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    backup: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl StoredSets {
    pub(super) fn of(sets: HashMap<Name, Vec<FoundSet>>) -> Self {
        let (instant, wall) = (Instant::now(), OffsetDateTime::now_utc());
        let mut sources = Vec::new();
        for (pool, sets) in sets {
            for set in sets {
                sources.push(StoredSet {
                    pool: pool.to_string(),
                    source: set.plan.label(),
                    at: to_millisecond(wall - instant.saturating_duration_since(set.since)),
                    of_other_source: set.from == AdoptedFrom::OtherSource,
                    servers: set.servers.iter().map(StoredServer::from).collect(),
                });
            }
        }
        sources.sort_unstable_by(|one, other| (&one.pool, &one.source).cmp(&(&other.pool, &other.source)));
        Self { version: VERSION, sources }
    }

    /// As the file has it.
    fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it; of a damaged file nothing is used.
    fn from_json(text: &str) -> Result<Self, String> {
        let stored: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if stored.version != VERSION {
            return Err(format!(
                "it has version {}, and this program reads version {VERSION}",
                stored.version
            ));
        }
        Ok(stored)
    }

    pub(super) fn recall(self) -> RecalledSets {
        let now = OffsetDateTime::now_utc();
        let set = |stored: StoredSet| {
            let servers = stored.servers.into_iter().filter_map(StoredServer::recall).collect();
            let age = Duration::try_from(now - stored.at).unwrap_or_default();
            let from = match stored.of_other_source {
                true => AdoptedFrom::OtherSource,
                false => AdoptedFrom::SameSource,
            };
            ((stored.pool.into(), stored.source), RecalledSet { servers, from, age })
        };
        self.sources.into_iter().map(set).collect()
    }
}

impl From<&FoundServer> for StoredServer {
    fn from(server: &FoundServer) -> Self {
        Self {
            name: server.name.to_string(),
            address: server.address.to_string(),
            weight: server.weight.map(Weight::get),
            max_connections: server.max_connections,
            drain: server.drain,
            backup: server.backup,
            host: server.host.as_ref().map(ToString::to_string),
        }
    }
}

impl StoredServer {
    fn recall(self) -> Option<FoundServer> {
        Some(FoundServer {
            weight: self.weight.and_then(|weight| Weight::new(weight.into())),
            max_connections: self.max_connections,
            drain: self.drain,
            backup: self.backup,
            host: self.host.map(Name::from),
            ..FoundServer::new(self.name.into(), self.address.parse().ok()?)
        })
    }
}

/// Beside the file of what operators have said.
fn path_beside(state_file: &Path) -> PathBuf {
    state_file.with_extension("servers.json")
}

impl Control {
    /// What sources had named for an earlier process, for as long as they say nothing.
    pub(super) async fn recall_servers(&mut self, state_file: Option<&Path>) {
        let Some(path) = state_file.map(path_beside) else { return };
        let file = path.clone();
        let read = match aside(FILES_WITHIN, move || files::read_text(&file)).await {
            Ok(Ok(text)) => StoredSets::from_json(&text),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return,
            Ok(Err(error)) => Err(error.to_string()),
            Err(why) => Err(why.to_string()),
        };
        match read {
            Ok(stored) => {
                info!(path = %path.display(), sources = stored.sources.len(), "servers known from an earlier process");
                self.live.found.recall(stored.recall());
            }
            Err(error) => {
                self.live.metrics.state_file_failed();
                error!(path = %path.display(), error, "what sources have named before is of no use");
            }
        }
    }

    /// Has it written a last time, unless that is the next process's business.
    pub(super) fn save_servers_at_end(&mut self) {
        let Some(file) = self.servers_file.take() else { return };
        let path = self.live.snapshot().plan.admin.state_file.as_deref().map(path_beside);
        if let Some(path) = path.filter(|_| self.has_unsaved_servers() && self.successor.is_none()) {
            drop(file.replace(&path, StoredSets::of(self.live.found.all()).to_json()));
        }
        if !file.close() {
            warn!("the disk takes nothing; what sources have named last may be lost");
        }
    }

    fn has_unsaved_servers(&self) -> bool {
        self.servers_unsaved || self.live.found.is_newer(self.servers_written)
    }

    /// Has the file written, if something has changed since. Control itself writes nothing down: a thousand sources take
    /// their time.
    pub(super) fn save_servers(&mut self) {
        if !std::mem::take(&mut self.servers_unsaved) && !self.live.found.is_outdated(self.servers_written) {
            return;
        }
        self.servers_written = Instant::now();
        let Some(path) = self.live.snapshot().plan.admin.state_file.as_deref().map(path_beside) else {
            return;
        };
        let Some(file) = self.servers_file.as_ref().map(Arc::clone) else { return };
        let (live, sets) = (Arc::clone(&self.live), self.live.found.all());
        tokio::task::spawn_blocking(move || {
            let written = file.replace(&path, StoredSets::of(sets).to_json());
            if let Ok(Err(error)) = written.blocking_recv() {
                live.metrics.state_file_failed();
                error!(path = %path.display(), error, "what sources have named cannot be written");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_recalled() {
        let server = FoundServer {
            weight: Weight::new(7),
            backup: true,
            host: Some("app.internal".into()),
            ..FoundServer::new("10.0.0.1:80".into(), "10.0.0.1:80".parse().unwrap())
        };
        let plain = FoundServer::new("b".into(), "unix:/run/b.sock".parse().unwrap());
        let stored = StoredSets {
            version: VERSION,
            sources: vec![StoredSet {
                pool: "app".to_owned(),
                source: "dns:app.internal:80".to_owned(),
                at: OffsetDateTime::now_utc() - Duration::from_secs(60),
                of_other_source: true,
                servers: vec![StoredServer::from(&server), StoredServer::from(&plain)],
            }],
        };
        let recalled = StoredSets::from_json(&stored.to_json()).unwrap().recall();
        let set = &recalled[&("app".into(), "dns:app.internal:80".to_owned())];
        assert_eq!((&set.servers[..], set.from), (&[server, plain][..], AdoptedFrom::OtherSource));
        assert!((60..70).contains(&set.age.as_secs()), "{:?}", set.age);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        for text in ["", "{", "[]", r#"{"version":2,"sources":[]}"#, r#"{"version":1}"#] {
            assert!(StoredSets::from_json(text).is_err(), "{text}");
        }
    }
}
