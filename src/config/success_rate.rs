//! Balancing by success: how much is looked at, and what a success is.

use super::field_name::header_name;
use super::plan::{OutcomeHeader, SuccessRatePlan};
use super::problem::{Fault, quoted};
use super::section::Section;
use crate::units::Percent;
use std::num::NonZeroU32;

/// What it is in one word.
pub(super) const DEFAULT: SuccessRatePlan =
    SuccessRatePlan { window: NonZeroU32::new(200).unwrap(), explore: Percent(5), outcome: None };

pub(super) fn read(section: &Section<'_>) -> Option<SuccessRatePlan> {
    let (window, explore) = (section.at_least_one("window"), section.percent("explore"));
    let outcome = match section.get("outcome") {
        Some(at) if !at.is_null() => Some(section.section("outcome", |outcome| header(&outcome)).flatten()?),
        _ => None,
    };
    Some(SuccessRatePlan { window, explore, outcome })
}

fn header(section: &Section<'_>) -> Option<OutcomeHeader> {
    let name = section.required("header", |scalar| header_name(&scalar.text));
    let (success, failure) = (values(section, "success"), values(section, "failure"));
    if success.is_empty() && failure.is_empty() {
        section.at.refuse_key(Fault::new(
            "says of no value what it means",
            "list values that are a success, like `success: [approved]`, or a failure",
        ));
    }
    if let Some(both) = success.iter().find(|value| failure.contains(value)) {
        section.at.refuse_key(Fault::new(
            format!("has {} among successes and failures", quoted(both)),
            "list it once",
        ));
    }
    Some(OutcomeHeader { name: name?, success, failure })
}

fn values(section: &Section<'_>, name: &str) -> Vec<String> {
    let Some(at) = section.get(name) else { return Vec::new() };
    let items = at.items().into_iter().flatten();
    items.filter_map(|item| item.scalar(&"a text", |scalar| Ok(scalar.text.to_string()))).collect()
}
