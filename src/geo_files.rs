//! Reads the databases that say where clients are.

use crate::config::plan::Plan;
use crate::config::{self, Problem, Severity};
use crate::files;
use crate::geo::{GeoContent, GeoDatabase};
use std::io;

/// Those of cities have some 130 MB, those of countries 10.
const LONGEST: u64 = 512 << 20;

/// Fills in the databases of a plan, and says what is wrong with their files. `text` is what the plan was read from.
pub(crate) fn read(plan: &Plan, text: &str) -> Vec<Problem> {
    fill(plan, text, Severity::Error)
}

/// The same for a look at a configuration without using it. Files that are absent are worth a warning only: others make
/// them, on other machines.
pub(crate) fn check(plan: &Plan, text: &str) -> Vec<Problem> {
    fill(plan, text, Severity::Warning)
}

fn fill(plan: &Plan, text: &str, absent: Severity) -> Vec<Problem> {
    let fill_one = |database: &GeoDatabase| {
        let fault = read_file(database).map(|content| database.set(content)).err()?;
        let steps = ["geo", database.kind.key()];
        let (message, help) = fault.what.rsplit_once("; ").unwrap_or((&fault.what, "name a readable file"));
        Some(Problem {
            severity: if fault.is_absence { absent } else { Severity::Error },
            path: steps.join("."),
            spot: config::locate_one(text, &steps),
            message: message.to_owned(),
            help: Some(help.to_owned()),
        })
    };
    plan.geo.databases().filter_map(|database| fill_one(database)).collect()
}

/// Why a file is of no use.
#[derive(Debug)]
pub(crate) struct GeoFileFault {
    is_absence: bool,
    /// With the file's name, and what would work.
    pub(crate) what: String,
}

/// What a database's file has.
pub(crate) fn read_file(database: &GeoDatabase) -> Result<GeoContent, GeoFileFault> {
    let file = &database.file;
    let unreadable = |error: io::Error| GeoFileFault {
        is_absence: error.kind() == io::ErrorKind::NotFound,
        what: format!("{} cannot be read: {error}; name a readable `.mmdb` file", file.display()),
    };
    // Before it is read, so that a change meanwhile is one the next time.
    let version = files::version(file).map_err(unreadable)?;
    let bytes = files::read_up_to(file, LONGEST).map_err(unreadable)?;
    GeoContent::read(bytes, database.kind, version)
        .map_err(|what| GeoFileFault { is_absence: false, what: format!("{} {what}", file.display()) })
}
