//! A configuration file as commands read it: its text, and its plan or its problems as `check` shows them.

use super::{complain, say};
use crate::config::{self, Plan, Problem};
use crate::discover::once;
use crate::{acme, files, tls};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

/// A file could not be used, and its reader knows why by now.
#[derive(Debug)]
pub(super) struct FileRefused;

impl From<FileRefused> for ExitCode {
    fn from(FileRefused: FileRefused) -> Self {
        Self::FAILURE
    }
}

/// The file's name for messages, and its text.
pub(super) fn read(file: &Path) -> Result<(String, String), FileRefused> {
    let name = file.display().to_string();
    // A pipe is welcome here: whoever waits for it can interrupt us.
    let read = std::fs::File::open(file).and_then(files::bounded);
    match read.and_then(files::text) {
        Ok(text) => Ok((name, text)),
        Err(error) => {
            complain(&format!("{name}: cannot be read: {error}"));
            Err(FileRefused)
        }
    }
}

/// The same for a command that may have been called without a name.
pub(super) fn read_or_hint(file: &Path, command: &str) -> Result<(String, String), FileRefused> {
    read(file).inspect_err(|FileRefused| {
        if !file.exists() {
            let example = format!("evenkeel {command} /etc/evenkeel/evenkeel.yaml");
            complain(&format!("name a file that is there, like `{example}`"));
        }
    })
}

/// What is wrong with the files that a plan names.
pub(super) fn beside(plan: &Plan, text: &str) -> Vec<Problem> {
    [tls::check(plan, text), acme::check(plan, text)].concat()
}

/// Adds to a plan the servers that its sources name, if they are to be asked. What is not known is what is to be told.
pub(super) fn discover(plan: &mut Plan, asks: bool) -> Result<Vec<String>, ExitCode> {
    if !asks {
        return Ok(once::unasked(plan, None));
    }
    let filled = once::ask_and_fill(plan, &[], |_, _| Vec::new());
    filled.map(|(_, notes)| notes).map_err(cannot_ask)
}

pub(super) fn cannot_ask(error: std::io::Error) -> ExitCode {
    complain(&format!("cannot ask the sources: {error}"));
    ExitCode::FAILURE
}

pub(super) fn in_color(json: bool) -> bool {
    !json && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// The plan of a file and its warnings. If it is refused, its problems are shown as `check` shows them.
/// `further` looks at what a plan names beside itself.
pub(super) fn plan(
    file: &Path,
    json: bool,
    further: impl Fn(&Plan, &str) -> Vec<Problem>,
) -> Result<(Plan, Vec<String>), FileRefused> {
    let (name, text) = read(file)?;
    let (report, good) =
        config::check_further(&name, &text, json, in_color(json), |plan| further(plan, &text));
    match config::parse(&text) {
        Ok((plan, problems)) if good => {
            let found = further(&plan, &text);
            let warning = |problem: &Problem| {
                format!("{name}:{}:{}: {}", problem.spot.line, problem.spot.column, problem.sentence())
            };
            let warnings = problems.iter().chain(&found).map(warning).collect();
            Ok((plan, warnings))
        }
        _ => {
            say(&report);
            Err(FileRefused)
        }
    }
}
