//! `plan`: what a reload would change in the running process, or where another file is in force.

use super::client::ProcessAddress;
use super::{file, say};
use crate::discover::once;
use crate::preview;
use crate::snapshot::Snapshot;
use clap::Args;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Something changes: neither a failure nor "as before".
const CHANGES: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct PlanOptions {
    /// The configuration file to reload; without it, the file that the running process was started with.
    file: Option<PathBuf>,
    /// Compare with this file, such as the last one in git, instead of with the running process.
    #[arg(long, value_name = "OLD", requires = "file")]
    against: Option<PathBuf>,
    /// Try changed probes on the servers now, once each.
    #[arg(long, conflicts_with = "against")]
    probe: bool,
    /// Ask the sources of servers now, and compare with whom they name; without it, whom they have named stays.
    #[arg(long)]
    discover: bool,
    /// For pools with `consistent_hash` or `maglev`: the keys `0` to N-1 are looked up before and after.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: u32,
    #[command(flatten)]
    reach: ProcessAddress,
    /// Print the changes as JSON.
    #[arg(long)]
    json: bool,
}

/// What the process answers.
#[derive(Debug, Deserialize)]
struct Planned {
    report: Value,
    text: String,
}

pub(super) fn run(options: &PlanOptions) -> ExitCode {
    let outcome = match (&options.file, &options.against) {
        (Some(file), Some(against)) => offline(options, file, against),
        _ => live(options),
    };
    match outcome {
        Ok(true) => ExitCode::from(CHANGES),
        Ok(false) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

/// Whether the process would change.
fn live(options: &PlanOptions) -> Result<bool, ExitCode> {
    let mut command = json!({ "keys": options.keys, "probe": options.probe, "discover": options.discover });
    if let Some(file) = &options.file {
        // What is wrong with the file itself is shown with its lines; what it names, the process has to read.
        let (name, text) = file::read(file)?;
        file::plan_of(&name, &text, options.json, |_, _| Vec::new())?;
        command["name"] = name.into();
        command["text"] = text.into();
    }
    let planned: Planned = options.reach.change(Method::POST, "/api/v1/plan", &command)?;
    match options.json {
        true => say(&format!("{:#}\n", planned.report)),
        false => say(&planned.text),
    }
    Ok(planned.report["changes"].as_bool().unwrap_or_default())
}

/// Whether one file changes the other.
fn offline(options: &PlanOptions, file: &Path, against: &Path) -> Result<bool, ExitCode> {
    // The files that the old plan names may be gone; what is in force was read from them before.
    let (mut old, _) = file::plan(against, options.json, |_, _| Vec::new())?;
    let (mut new, mut warnings) = file::plan(file, options.json, file::beside)?;
    if options.discover {
        let nobody = |_: &_, _: &_| Vec::new();
        let (asked, notes) = once::ask_and_fill(&mut new, &[], nobody).map_err(file::cannot_ask)?;
        // What both have is asked once: else an answer that changes would look like a change of the file.
        once::ask_and_fill(&mut old, &asked, nobody).map_err(file::cannot_ask)?;
        warnings.extend(notes);
    } else {
        warnings.extend(once::unasked(&new, None));
    }
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
    Ok(report.changes)
}
