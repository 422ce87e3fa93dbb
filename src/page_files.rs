//! Reads the files whose text answers of our own have for a body.

use crate::config::plan::policy::{Inheritable, Page, PageFile, PolicyPlan, Respond};
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
            let place_text = place.to_string();
            let steps = ["routes", &*routes.name, &*place_text, "respond", "file"];
            if let Some(file) = filled(file, (text, absent), &steps, &mut problems) {
                let respond = Respond { page: Page::File(file), ..Respond::clone(respond) };
                Arc::make_mut(routes).rules[place].target = RuleTargetPlan::Respond(Arc::new(respond));
            }
        }
    }
    for named in &mut plan.policies {
        let steps = ["policies".to_owned(), named.name.to_string()];
        if let Some(policy) = with_pages(&named.policy, (text, absent), &steps, &mut problems) {
            Arc::make_mut(named).policy = policy;
        }
    }
    for routes in &mut plan.routes {
        for place in 0..routes.rules.len() {
            let steps = ["routes".to_owned(), routes.name.to_string(), place.to_string()];
            let own = &routes.rules[place].own_policy;
            if let Some(policy) = with_pages(own, (text, absent), &steps, &mut problems) {
                Arc::make_mut(routes).rules[place].own_policy = policy;
            }
        }
    }
    problems
}

/// A policy with the texts of its pages; `None` if it has none.
fn with_pages(
    policy: &PolicyPlan,
    how: (&str, Severity),
    steps: &[String],
    problems: &mut Vec<Problem>,
) -> Option<PolicyPlan> {
    policy.pages().next()?;
    let mut policy = policy.clone();
    let mut fill = |file: &mut Option<PageFile>, below: &[&str]| {
        let Some(named) = file else { return };
        let steps: Vec<_> = steps.iter().map(String::as_str).chain(below.iter().copied()).collect();
        if let Some(read) = filled(named, how, &steps, problems) {
            *named = read;
        }
    };
    if let Inheritable::Set(maintenance) = &mut policy.maintenance {
        fill(&mut Arc::make_mut(maintenance).file, &["maintenance", "file"]);
    }
    if let Inheritable::Set(errors) = &mut policy.errors {
        for page in &mut Arc::make_mut(errors).pages {
            let label = page.label();
            fill(&mut page.html, &["errors", &label, "html"]);
            fill(&mut page.json, &["errors", &label, "json"]);
        }
    }
    Some(policy)
}

/// The file with its text.
fn filled(
    file: &PageFile,
    (text, absent): (&str, Severity),
    steps: &[&str],
    problems: &mut Vec<Problem>,
) -> Option<PageFile> {
    let error = match files::read_up_to(&file.path, LONGEST) {
        Ok(content) => return Some(PageFile { content: content.into(), path: file.path.clone() }),
        Err(error) => error,
    };
    problems.push(Problem {
        severity: if error.kind() == io::ErrorKind::NotFound { absent } else { Severity::Error },
        path: steps.join("."),
        spot: config::locate_one(text, steps),
        message: format!("{} cannot be read: {error}", file.path.display()),
        help: Some("name a readable file of 256 KiB at most".to_owned()),
    });
    None
}
