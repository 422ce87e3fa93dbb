//! Fields as a policy has them: set, added, given where they are missing, taken out.

use super::{Filter, RequestFacts, ResponseFacts};
use crate::config::plan::policy::FieldChange;
use crate::fields::{FieldList, is_respelt};
use crate::policy::{AppliedPolicy, FieldEdit, Variables};
use crate::template::Template;
use crate::wire::edit::Edits;
use crate::wire::request::RequestView;
use crate::wire::response_head::ResponseView;
use std::borrow::Cow;

#[derive(Debug)]
pub(super) struct FieldRules;

impl Filter for FieldRules {
    fn request<'a>(&self, request: &RequestView<'a>, facts: &RequestFacts<'a>, edits: &mut Edits<'a>) {
        if let Some(AppliedPolicy { policy, variables }) = facts.policy {
            remove_other_spellings(&policy.request_fields, request.fields, edits);
            apply(&policy.request_fields, request.fields, variables, edits);
        }
    }

    fn response<'a>(&self, response: &ResponseView<'a>, facts: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        if let Some(AppliedPolicy { policy, variables }) = facts.policy
            && !response.is_interim()
        {
            apply(&policy.response_fields, response.fields, variables, edits);
        }
    }
}

/// What a rule sets or takes out goes in every spelling: application servers make one variable of `X-User`, `X_User` and `X.User`, and
/// a client's would stand beside ours.
fn remove_other_spellings(rules: &[FieldEdit], fields: FieldList<'_>, edits: &mut Edits<'_>) {
    for FieldEdit { name, .. } in rules.iter().filter(|rule| rule.replaces()) {
        let name = name.name.as_str();
        for (index, field) in fields.each().enumerate() {
            if field.name_length() == name.len() && !field.is(name) && is_respelt(field.name(), name) {
                edits.remove_at(index);
            }
        }
    }
}

/// Whether rules set or take out what is called so, in whichever spelling.
pub(super) fn replaces(rules: &[FieldEdit], name: &[u8]) -> bool {
    let mut replacing = rules.iter().filter(|rule| rule.replaces());
    replacing.any(|rule| is_respelt(name, rule.name.name.as_str()))
}

fn apply<'a>(
    rules: &'a [FieldEdit],
    fields: FieldList<'a>,
    variables: &Variables<'_>,
    edits: &mut Edits<'a>,
) {
    for FieldEdit { name, change } in rules {
        match change {
            FieldChange::Set(value) => {
                edits.remove(fields, &name.name);
                add(name, value, variables, edits);
            }
            FieldChange::Add(value) => add(name, value, variables, edits),
            FieldChange::Default(value) => {
                if !edits.leaves(fields, &name.name) {
                    add(name, value, variables, edits);
                }
            }
            FieldChange::Remove => edits.remove(fields, &name.name),
            FieldChange::Nothing => {}
        }
    }
}

/// A field whose variables have no value is not there.
fn add<'a>(
    name: &'a crate::wire::edit::FieldName,
    value: &'a Template,
    variables: &Variables<'_>,
    edits: &mut Edits<'a>,
) {
    let value = match value.render(variables) {
        Cow::Owned(rendered) if rendered.trim_ascii().is_empty() => return,
        Cow::Owned(rendered) => Cow::Owned(rendered.trim_ascii().to_vec()),
        constant => constant,
    };
    edits.add_stranger(name, value);
}
