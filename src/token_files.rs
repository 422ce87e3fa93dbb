//! What is wrong with the files of tokens that a configuration names, which are read when it is put in force.

use crate::config::plan::Plan;
use crate::config::{self, Problem, Severity};
use crate::token::{Token, TokenError};
use std::io;
use std::path::Path;

/// For a look at a configuration without using it. Files that are absent are worth a warning only: secrets are seldom where configurations are
/// checked.
pub(crate) fn check(plan: &Plan, text: &str) -> Vec<Problem> {
    let own = plan.admin.token_file.as_deref();
    let own =
        own.and_then(|file| problem(file, text, &["admin", "token_file"], "admin.token_file".to_owned()));
    let of_nodes = plan.cache.purge_nodes.iter().enumerate().filter_map(|(place, node)| {
        let steps = ["cache", "purge_nodes", &place.to_string(), "token_file"];
        problem(node.token_file.as_deref()?, text, &steps, format!("cache.purge_nodes[{place}].token_file"))
    });
    own.into_iter().chain(of_nodes).collect()
}

fn problem(file: &Path, text: &str, steps: &[&str], path: String) -> Option<Problem> {
    let error = Token::read(file).err()?;
    let is_absence =
        matches!(&error, TokenError::Unreadable(error) if error.kind() == io::ErrorKind::NotFound);
    let (severity, help) = match (is_absence, &error) {
        (true, _) => (
            Severity::Warning,
            Some(
                "it may be absent where a configuration is checked; where it runs, a start or reload is refused without it",
            ),
        ),
        (false, TokenError::Unreadable(_)) => {
            (Severity::Error, Some("have evenkeel's user own it, with mode 0600"))
        }
        // What would work is part of what is said.
        (false, TokenError::Unfit(_)) => (Severity::Error, None),
    };
    Some(Problem {
        severity,
        path,
        spot: config::locate_one(text, steps),
        message: format!("{} {error}", file.display()),
        help: help.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_cannot_be_read_are_told_before_they_are_needed() {
        let folder = std::env::temp_dir().join(format!("evenkeel-token-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("it can be written");
            path.display().to_string()
        };
        let (good, short) = (file("good", "0123456789abcdef\n"), file("short", "abc"));
        let missing = folder.join("missing").display().to_string();
        for (own, node, told) in [
            (&good, &good, &[][..]),
            (&good, &missing, &[("cache.purge_nodes[1].token_file", Severity::Warning, "cannot be read")]),
            (&missing, &good, &[("admin.token_file", Severity::Warning, "cannot be read")]),
            (
                &short,
                &short,
                &[
                    ("admin.token_file", Severity::Error, "too few characters"),
                    ("cache.purge_nodes[1].token_file", Severity::Error, "too few characters"),
                ],
            ),
        ] {
            let text = format!(
                "admin: {{ address: 127.0.0.1:9900, token_file: {own} }}\n\
                 cache: {{ purge_nodes: [10.0.0.2:9900, {{ address: 10.0.0.3:9900, token_file: {node} }}] }}\n\
                 listeners: {{ a: {{ address: 127.0.0.1:1, policy: c, pool: p }} }}\n\
                 policies: {{ c: {{ cache: {{}} }} }}\n\
                 pools: {{ p: {{ servers: [127.0.0.1:2] }} }}\n"
            );
            let (plan, _) = config::parse(&text).unwrap_or_else(|_| panic!("{text}"));
            let problems = check(&plan, &text);
            assert_eq!(problems.len(), told.len(), "{problems:?}");
            for (problem, (path, severity, message)) in problems.iter().zip(told) {
                assert_eq!((&*problem.path, problem.severity), (*path, *severity));
                assert!(problem.message.contains(message) && problem.spot.line > 0, "{problem:?}");
            }
        }
        std::fs::remove_dir_all(&folder).expect("it can be removed");
    }
}
