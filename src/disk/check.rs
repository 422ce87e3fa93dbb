//! What can be told of a folder before it is used. None of it keeps a configuration from being used: without its disk the cache goes on.

use crate::config::plan::Plan;
use crate::config::{self, Problem, Severity};
use rustix::fs::{Access, access, statvfs};
use std::path::Path;

/// What is wrong with the folder that a plan names. `text` is what the plan was read from.
pub(crate) fn check(plan: &Plan, text: &str) -> Vec<Problem> {
    let Some(disk) = &plan.cache.disk else { return Vec::new() };
    let steps = ["cache", "disk", "path"];
    let problem = |(message, help): (String, &str)| Problem {
        severity: Severity::Warning,
        path: steps.join("."),
        spot: config::locate_one(text, &steps),
        message,
        help: Some(help.to_owned()),
    };
    fault(&disk.path, disk.size).map(problem).into_iter().collect()
}

fn fault(path: &Path, size: u64) -> Option<(String, &'static str)> {
    // It is made where it is not there.
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Some((format!("{} is no folder", there.display()), "name a folder that nothing else uses"));
    }
    if let Err(error) = access(there, Access::WRITE_OK | Access::EXEC_OK) {
        let error = std::io::Error::from(error);
        let help = "give it to the user that evenkeel runs as; with systemd, `CacheDirectory=evenkeel`";
        return Some((format!("{} cannot be written here: {error}", there.display()), help));
    }
    let disk = statvfs(there).ok()?;
    let whole = disk.f_blocks.saturating_mul(disk.f_frsize);
    let message =
        || format!("the whole file system has {} MiB, and `size` is {} MiB", whole >> 20, size >> 20);
    (whole < size).then(|| (message(), "give `size` less than there is: a full disk is used no more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_used_is_told_of() {
        let file = std::env::current_exe().expect("it is a file");
        for (path, size, said) in [
            (std::env::temp_dir().join("a/b"), 1 << 20, None),
            (file.clone(), 1 << 20, Some("is no folder")),
            (file.join("a"), 1 << 20, Some("is no folder")),
            (std::env::temp_dir(), u64::MAX, Some("the whole file system has")),
            ("/proc/a".into(), 1 << 20, Some("")),
        ] {
            let fault = fault(&path, size);
            assert_eq!(fault.is_some(), said.is_some(), "{} {fault:?}", path.display());
            assert!(fault.is_none_or(|(message, _)| message.contains(said.unwrap_or_default())));
        }
    }
}
