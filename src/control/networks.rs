//! Reads lists of networks again once their files change. Nothing else changes with them: whoever asks has the same list.

use super::aside::{FILES_WITHIN, aside};
use super::{LedgerEntry, Live};
use crate::api::EventKind;
use crate::network_files::{read_file, version};
use crate::networks::NamedNetworks;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tracing::{error, info};

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// The tasks that look at them, one for each file.
#[derive(Debug, Default)]
pub(super) struct NetworkPolling {
    tasks: Vec<AbortHandle>,
}

impl NetworkPolling {
    /// Looks at these from now on.
    pub(super) fn follow(&mut self, networks: &[Arc<NamedNetworks>], live: &Arc<Live>) {
        self.tasks.drain(..).for_each(|task| task.abort());
        let of_files = networks.iter().filter_map(|named| Some((Arc::clone(named), named.file()?.clone())));
        let task = |(named, file)| tokio::spawn(poll(named, file, Arc::clone(live))).abort_handle();
        self.tasks.extend(of_files.map(task));
    }
}

async fn poll(named: Arc<NamedNetworks>, file: PathBuf, live: Arc<Live>) {
    let mut seen = named.list().version;
    // A thread that hangs holds it: there is no other before it has ended.
    let reader = Arc::new(());
    loop {
        if Arc::strong_count(&reader) == 1 {
            let (held, looked_at) = (Arc::clone(&reader), file.clone());
            let in_use = Arc::clone(&named);
            let look = move || {
                let look = look(&looked_at, &in_use, seen);
                drop(held);
                look
            };
            match aside(FILES_WITHIN, look).await {
                Ok(Look::Same) => {}
                Ok(Look::Read(version)) => {
                    seen = version;
                    tell_of_reading(&named, &live);
                }
                Ok(Look::Bad { version, what }) => {
                    seen = version;
                    tell_of_fault(&named, what, &live);
                }
                Err(why) => {
                    let what = format!("{} cannot be read: {why}", file.display());
                    tell_of_fault(&named, what, &live);
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

fn look(file: &Path, named: &NamedNetworks, seen: u64) -> Look {
    let version = match version(file) {
        // After a time without an answer it may be there again as it was.
        Ok(version) if version == seen && (named.fault().is_none() || version != named.list().version) => {
            return Look::Same;
        }
        Ok(version) => version,
        // 0 is of no file.
        Err(_) => 0,
    };
    match read_file(file) {
        Ok(list) => {
            let version = list.version;
            named.set(list);
            Look::Read(version)
        }
        Err(fault) => Look::Bad { version, what: fault.what },
    }
}

fn tell_of_reading(named: &NamedNetworks, live: &Live) {
    let n_networks = named.list().n_networks;
    info!(networks = %named.name, n_networks, "list of networks read again");
    live.record(LedgerEntry::new(
        EventKind::Networks,
        "file",
        format!("{}: {n_networks} networks", named.name),
    ));
}

/// Once for each fault.
fn tell_of_fault(named: &NamedNetworks, what: String, live: &Live) {
    if named.fault().is_some_and(|known| *known == what) {
        return;
    }
    error!(networks = %named.name, "{what}; the list that was read before stays in use");
    live.record(LedgerEntry::new(EventKind::Networks, "file", format!("{}: {what}", named.name)));
    named.set_fault(what);
}
