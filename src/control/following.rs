//! Reads files again once they change: lists of networks, and databases of where clients are. Nothing else changes with them:
//! whoever asks has the same list.

use super::aside::{FILES_WITHIN, aside};
use super::{LedgerEntry, Live};
use crate::api::EventKind;
use crate::config::plan::Plan;
use crate::geo::GeoDatabase;
use crate::networks::NamedNetworks;
use crate::{files, geo_files, network_files};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tracing::{error, info};

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// What has a file of its own, whose content may be replaced.
trait FromFile: Send + Sync + 'static {
    const KIND: EventKind;

    fn file(&self) -> Option<&Path>;
    /// As events have it.
    fn name(&self) -> &str;
    /// Of the file whose content is in use.
    fn version(&self) -> u64;
    /// Puts in use what the file has.
    fn read_again(&self) -> Result<(), String>;
    fn fault(&self) -> Option<Arc<String>>;
    fn set_fault(&self, what: String);
    /// What was read: `3 networks`.
    fn told(&self) -> String;
}

impl FromFile for NamedNetworks {
    const KIND: EventKind = EventKind::Networks;

    fn file(&self) -> Option<&Path> {
        self.file().map(|file| &**file)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u64 {
        self.list().version
    }

    fn read_again(&self) -> Result<(), String> {
        let file = self.file().ok_or("it has no file")?;
        network_files::read_file(file).map(|list| self.set(list)).map_err(|fault| fault.what)
    }

    fn fault(&self) -> Option<Arc<String>> {
        self.fault()
    }

    fn set_fault(&self, what: String) {
        self.set_fault(what);
    }

    fn told(&self) -> String {
        format!("{} networks", self.list().n_networks)
    }
}

impl FromFile for GeoDatabase {
    const KIND: EventKind = EventKind::Geo;

    fn file(&self) -> Option<&Path> {
        Some(&self.file)
    }

    fn name(&self) -> &str {
        self.kind.key()
    }

    fn version(&self) -> u64 {
        self.content().map_or(0, |content| content.version)
    }

    fn read_again(&self) -> Result<(), String> {
        geo_files::read_file(self).map(|content| self.set(content)).map_err(|fault| fault.what)
    }

    fn fault(&self) -> Option<Arc<String>> {
        self.fault()
    }

    fn set_fault(&self, what: String) {
        self.set_fault(what);
    }

    fn told(&self) -> String {
        self.content().map_or_else(String::new, |content| content.told())
    }
}

/// The tasks that look at files, one for each.
#[derive(Debug, Default)]
pub(super) struct FileFollowing {
    tasks: Vec<AbortHandle>,
}

impl FileFollowing {
    /// Looks at those of this plan from now on.
    pub(super) fn follow(&mut self, plan: &Plan, live: &Arc<Live>) {
        self.tasks.drain(..).for_each(|task| task.abort());
        let networks = plan.networks.iter().filter(|named| named.file().is_some());
        self.tasks.extend(networks.map(|named| follow(named, live)));
        self.tasks.extend(plan.geo.databases().map(|database| follow(database, live)));
    }
}

fn follow<T: FromFile>(followed: &Arc<T>, live: &Arc<Live>) -> AbortHandle {
    tokio::spawn(poll(Arc::clone(followed), Arc::clone(live))).abort_handle()
}

async fn poll<T: FromFile>(followed: Arc<T>, live: Arc<Live>) {
    let mut seen = followed.version();
    // A thread that hangs holds it: there is no other before it has ended.
    let reader = Arc::new(());
    loop {
        if Arc::strong_count(&reader) == 1 {
            let (held, looked_at) = (Arc::clone(&reader), Arc::clone(&followed));
            let look = move || {
                let look = look(&*looked_at, seen);
                drop(held);
                look
            };
            match aside(FILES_WITHIN, look).await {
                Ok(Look::Same) => {}
                Ok(Look::Read(version)) => {
                    seen = version;
                    tell_of_reading(&*followed, &live);
                }
                Ok(Look::Bad { version, what }) => {
                    seen = version;
                    tell_of_fault(&*followed, what, &live);
                }
                Err(why) => {
                    let file = followed.file().unwrap_or(Path::new(""));
                    tell_of_fault(&*followed, format!("{} cannot be read: {why}", file.display()), &live);
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What comes of a look at a file.
enum Look {
    Same,
    /// It is in use.
    Read(u64),
    Bad {
        version: u64,
        what: String,
    },
}

fn look<T: FromFile>(followed: &T, seen: u64) -> Look {
    let Some(file) = followed.file() else { return Look::Same };
    let version = match files::version(file) {
        // After a time without an answer it may be there again as it was.
        Ok(version) if version == seen && (followed.fault().is_none() || version != followed.version()) => {
            return Look::Same;
        }
        Ok(version) => version,
        // 0 is of no file.
        Err(_) => 0,
    };
    match followed.read_again() {
        Ok(()) => Look::Read(followed.version()),
        Err(what) => Look::Bad { version, what },
    }
}

fn tell_of_reading<T: FromFile>(followed: &T, live: &Live) {
    let (kind, name, told) = (T::KIND.word(), followed.name(), followed.told());
    info!(kind, name, told, "file read again");
    live.record(LedgerEntry::new(T::KIND, "file", format!("{name}: {told}")));
}

/// Once for each fault.
fn tell_of_fault<T: FromFile>(followed: &T, what: String, live: &Live) {
    if followed.fault().is_some_and(|known| *known == what) {
        return;
    }
    let name = followed.name();
    error!(kind = T::KIND.word(), name, "{what}; what was read before stays in use");
    live.record(LedgerEntry::new(T::KIND, "file", format!("{name}: {what}")));
    followed.set_fault(what);
}
