//! Reads the lists of networks that a configuration names.

use crate::config::plan::Plan;
use crate::config::{self, Problem, Severity};
use crate::files;
use crate::networks::{NamedNetworks, NetworkList, read_list};
use std::io;
use std::path::Path;

/// Fills in the lists of a plan, and says what is wrong with their files. `text` is what the plan was read from.
pub(crate) fn read(plan: &Plan, text: &str) -> Vec<Problem> {
    fill(plan, text, Severity::Error)
}

/// The same for a look at a configuration without using it. Files that are absent are worth a warning only: others make
/// them, on other machines.
pub(crate) fn check(plan: &Plan, text: &str) -> Vec<Problem> {
    fill(plan, text, Severity::Warning)
}

fn fill(plan: &Plan, text: &str, absent: Severity) -> Vec<Problem> {
    let of_files = plan.networks.iter().filter_map(|named| Some((&**named, &**named.file()?)));
    of_files.filter_map(|(named, file)| fill_one(named, file, text, absent)).collect()
}

fn fill_one(named: &NamedNetworks, file: &Path, text: &str, absent: Severity) -> Option<Problem> {
    let problem = |severity, message: &str| {
        let spot = config::locate(text, &[["networks", &named.name, "file"]]);
        let (message, help) =
            message.rsplit_once("; ").map_or((message, None), |(it, help)| (it, Some(help)));
        Problem {
            severity,
            path: format!("networks.{}.file", named.name),
            spot: spot.into_iter().next().unwrap_or_default(),
            message: message.to_owned(),
            help: help.map(str::to_owned),
        }
    };
    match read_file(file) {
        Ok(list) => {
            let is_empty = list.n_networks == 0;
            named.set(list);
            let empty = || {
                let what =
                    format!("{} has no networks; write one on each line, like `10.0.0.0/8`", file.display());
                problem(Severity::Warning, &what)
            };
            is_empty.then(empty)
        }
        Err(fault) => Some(problem(if fault.is_absence { absent } else { Severity::Error }, &fault.what)),
    }
}

/// Why a list is of no use.
#[derive(Debug)]
pub(crate) struct ListFileFault {
    is_absence: bool,
    /// With the file's name, and what would work.
    pub(crate) what: String,
}

/// What a file has.
pub(crate) fn read_file(file: &Path) -> Result<NetworkList, ListFileFault> {
    let unreadable = |error: io::Error| ListFileFault {
        is_absence: error.kind() == io::ErrorKind::NotFound,
        what: format!(
            "{} cannot be read: {error}; write a network or an address on each of its lines",
            file.display()
        ),
    };
    // Before it is read, so that a change meanwhile is one the next time.
    let version = files::version(file).map_err(unreadable)?;
    let bytes = files::read(file).map_err(unreadable)?;
    let wrong = |fault| ListFileFault { is_absence: false, what: format!("{}, {fault}", file.display()) };
    let (set, n_networks) = read_list(&bytes).map_err(wrong)?;
    Ok(NetworkList { set, n_networks, version })
}
