//! A look at the files that sources name, without using them. A source that cannot be read keeps nobody from starting, so
//! whatever is wrong is worth a warning.

use super::http::authorities;
use crate::config::plan::{Plan, PoolPlan, SourceKind, SourcePlan};
use crate::config::{self, Problem, Severity};
use crate::files;
use std::path::Path;

/// What is wrong with them. `text` is what the plan was read from.
pub(crate) fn check(plan: &Plan, text: &str) -> Vec<Problem> {
    let sources =
        plan.pools.iter().flat_map(|pool| pool.sources.iter().map(move |source| (&**pool, &**source)));
    sources.flat_map(|(pool, source)| faults(source).map(|fault| problem(pool, fault, text))).collect()
}

/// A file that is of no use.
struct FileFault<'a> {
    /// Where it is named, below `discover`.
    key: [&'static str; 2],
    file: &'a Path,
    what: String,
    help: &'static str,
}

fn faults(source: &SourcePlan) -> impl Iterator<Item = FileFault<'_>> {
    let [mut list, mut authority, mut token] = [None, None, None];
    match &source.kind {
        SourceKind::File(file) => {
            let help = "write a list of servers there, or `[]` if there are none; until then the pool has none of it";
            list = fault(["file", ""], file, list_fault, help);
        }
        SourceKind::Http(http) => {
            let ca = http.ca.as_deref();
            let help = "write the authority's certificate there in PEM, or remove `ca` to trust the system's";
            authority =
                ca.and_then(|file| fault(["http", "ca"], file, |bytes| authorities(bytes).err(), help));
            let help = "write the token there, on one line";
            let file = http.token_file.as_deref();
            token = file.and_then(|file| fault(["http", "token_file"], file, token_fault, help));
        }
        SourceKind::Dns(_) | SourceKind::DnsSrv(_) => {}
    }
    [list, authority, token].into_iter().flatten()
}

fn fault<'a>(
    key: [&'static str; 2],
    file: &'a Path,
    look: impl FnOnce(&[u8]) -> Option<String>,
    help: &'static str,
) -> Option<FileFault<'a>> {
    let what = match files::read(file) {
        Ok(bytes) => look(&bytes)?,
        Err(error) => format!("cannot be read: {error}"),
    };
    Some(FileFault { key, file, what, help })
}

fn list_fault(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let problems = config::parse_servers(&text).err()?;
    let first = problems.iter().next()?;
    Some(format!("is no list of servers: line {}: {}", first.spot.line, first.message))
}

fn token_fault(bytes: &[u8]) -> Option<String> {
    bytes.trim_ascii().is_empty().then(|| "is empty".to_owned())
}

fn problem(pool: &PoolPlan, fault: FileFault, text: &str) -> Problem {
    let FileFault { key: [key, below], file, what, help } = fault;
    let spot = config::locate(text, &[["pools", &pool.name, "discover", key, below]]);
    let dot = if below.is_empty() { "" } else { "." };
    Problem {
        severity: Severity::Warning,
        path: format!("pools.{}.discover.{key}{dot}{below}", pool.name),
        spot: spot.into_iter().next().unwrap_or_default(),
        message: format!("{} {what}", file.display()),
        help: Some(help.to_owned()),
    }
}
