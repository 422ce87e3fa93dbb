//! Reads the keys of sticky cookies from the files that a configuration names.

use crate::config::plan::{Plan, StickyPlan};
use crate::config::{self, Problem, Severity};
use crate::files;
use crate::sticky::StickyKeys;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Fills in the keys of a plan, and says what is wrong with their files. `text` is what the plan was read from.
pub(crate) fn read(plan: &mut Plan, text: &str) -> Vec<Problem> {
    fill(plan, text, Severity::Error)
}

/// The same for a look at a configuration without using it. Files that are absent are worth a warning only: keys are
/// seldom where configurations are checked.
pub(crate) fn check(plan: &Plan, text: &str) -> Vec<Problem> {
    fill(&mut plan.clone(), text, Severity::Warning)
}

fn fill(plan: &mut Plan, text: &str, absent: Severity) -> Vec<Problem> {
    let mut problems = Vec::new();
    let has_file = |pool: &&mut Arc<config::plan::PoolPlan>| {
        pool.sticky.as_ref().is_some_and(|sticky| sticky.key_file.is_some())
    };
    for pool in plan.pools.iter_mut().filter(has_file) {
        let pool = Arc::make_mut(pool);
        let Some(StickyPlan { key_file: Some(file), keys, .. }) = &mut pool.sticky else { continue };
        match keys_of(file) {
            Ok(found) => *keys = found,
            Err(KeyFileFault { is_absence, what }) => {
                let spot = config::locate(text, &[["pools", &pool.name, "sticky", "key_file"]]);
                problems.push(Problem {
                    severity: if is_absence { absent } else { Severity::Error },
                    path: format!("pools.{}.sticky.key_file", pool.name),
                    spot: spot.into_iter().next().unwrap_or_default(),
                    message: format!("{} {what}", file.display()),
                    help: Some(help(is_absence, absent).to_owned()),
                });
            }
        }
    }
    problems
}

fn help(is_absence: bool, absent: Severity) -> &'static str {
    match (is_absence, absent) {
        (true, Severity::Warning) => {
            "keys may be absent where a configuration is checked; where it runs, a reload is refused without this file"
        }
        _ => "write a key on its first line, as `openssl rand -hex 32` makes one",
    }
}

struct KeyFileFault {
    is_absence: bool,
    what: String,
}

fn keys_of(file: &Path) -> Result<StickyKeys, KeyFileFault> {
    let text = files::read_text(file).map_err(|error| KeyFileFault {
        is_absence: error.kind() == io::ErrorKind::NotFound,
        what: format!("cannot be read: {error}"),
    })?;
    StickyKeys::parse(&text).map_err(|fault| KeyFileFault { is_absence: false, what: fault.to_string() })
}
