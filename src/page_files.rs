//! Reads the files whose text answers of our own have for a body.

use crate::config::plan::policy::{Page, PageFile, Respond};
use crate::config::plan::{Plan, RuleTargetPlan};
use crate::config::{self, Problem, Severity};
use crate::files;
use std::io;
use std::sync::Arc;

/// Answers are kept in memory, so none is longer.
const LONGEST: u64 = 256 * 1024;

/// Fills in the texts of a plan, and says what is wrong with their files. `text` is what the plan was read from.
pub(crate) fn read(plan: &mut Plan, text: &str) -> Vec<Problem> {
    fill(plan, text, Severity::Error)
}

/// The same for a look at a configuration without using it. Files that are absent are worth a warning only.
pub(crate) fn check(plan: &Plan, text: &str) -> Vec<Problem> {
    fill(&mut plan.clone(), text, Severity::Warning)
}

fn fill(plan: &mut Plan, text: &str, absent: Severity) -> Vec<Problem> {
    let mut problems = Vec::new();
    for routes in &mut plan.routes {
        for place in 0..routes.rules.len() {
            let RuleTargetPlan::Respond(respond) = &routes.rules[place].target else { continue };
            let Page::File(file) = &respond.page else { continue };
            let steps = ["routes", &*routes.name, &*place.to_string(), "respond", "file"].map(str::to_owned);
            if let Some(file) = filled(file, (text, absent), &steps, &mut problems) {
                let respond = Respond { page: Page::File(file), ..Respond::clone(respond) };
                Arc::make_mut(routes).rules[place].target = RuleTargetPlan::Respond(Arc::new(respond));
            }
        }
    }
    problems
}

/// The file with its text.
fn filled<const N: usize>(
    file: &PageFile,
    (text, absent): (&str, Severity),
    steps: &[String; N],
    problems: &mut Vec<Problem>,
) -> Option<PageFile> {
    let error = match files::read_up_to(&file.path, LONGEST) {
        Ok(content) => return Some(PageFile { content: content.into(), path: file.path.clone() }),
        Err(error) => error,
    };
    let steps = steps.each_ref().map(String::as_str);
    problems.push(Problem {
        severity: if error.kind() == io::ErrorKind::NotFound { absent } else { Severity::Error },
        path: steps.join("."),
        spot: config::locate(text, &[steps]).into_iter().next().unwrap_or_default(),
        message: format!("{} cannot be read: {error}", file.path.display()),
        help: Some("name a readable file of 256 KiB at most".to_owned()),
    });
    None
}
