//! `plan`: what a reload of one file would change where another is in force.

use super::{file, say};
use crate::preview;
use crate::snapshot::Snapshot;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Something changes: neither a failure nor "as before".
const CHANGES: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration file to reload.
    #[arg(default_value = "evenkeel.yaml")]
    file: PathBuf,
    /// The file that is in force now, such as the last one in git.
    #[arg(long, value_name = "OLD")]
    against: PathBuf,
    /// For pools with `consistent_hash`: the keys `0` to N-1 are looked up before and after.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: u32,
    /// Print the changes as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    // The files that the old plan names may be gone; what is in force was read from them before.
    let old = file::plan(&options.against, options.json, |_, _| Vec::new());
    let (old, _) = match old {
        Ok(old) => old,
        Err(refused) => return refused.into(),
    };
    let (new, warnings) = match file::plan(&options.file, options.json, file::beside) {
        Ok(new) => new,
        Err(refused) => return refused.into(),
    };
    let now = Instant::now();
    let (in_force, _) = Snapshot::empty().evolve(old, now);
    let (next, delta) = in_force.evolve(new, now);
    let mut report = preview::report(&in_force, &next, &delta, options.keys);
    report.warnings.splice(0..0, warnings);
    if options.json {
        let value = serde_json::to_value(&report).unwrap_or_default();
        say(&format!("{value:#}\n"));
    } else {
        say(&preview::render(&report));
    }
    if report.changes { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS }
}
