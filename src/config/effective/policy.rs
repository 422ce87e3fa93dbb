//! Policies as they are written: only what each says itself.

use super::super::keys;
use super::super::plan::policy::{FieldChange, FieldRule, FieldRules, Page, PolicyPlan, Redirect, Respond};
use super::super::rule_target;
use super::writer::SectionWriter;
use super::{named, path, texts, word};
use serde_yaml::Value;

/// A policy's section.
pub(crate) fn policy(policy: &PolicyPlan) -> Value {
    say(policy, SectionWriter::new(keys::POLICY)).end()
}

/// Adds what a policy says to a section that may have its keys.
pub(super) fn say(policy: &PolicyPlan, section: SectionWriter) -> SectionWriter {
    section
        .set_if_any("request_headers", field_rules(&policy.request_headers))
        .set_if_any("response_headers", field_rules(&policy.response_headers))
}

/// A rule's `redirect`.
pub(super) fn redirect(redirect: &Redirect) -> Value {
    SectionWriter::new(keys::REDIRECT)
        .set("to", redirect.to.source())
        .set("status", word(&rule_target::STATUSES, &redirect.status))
        .set("keep_query", redirect.keep_query)
        .end()
}

/// A rule's `respond`.
pub(super) fn respond(respond: &Respond) -> Value {
    let (body, file) = match &respond.page {
        Page::Status => (None, None),
        Page::Text(text) => (Some(&**text), None),
        Page::File(file) => (None, Some(path(&file.path))),
    };
    SectionWriter::new(keys::RESPOND)
        .set("status", respond.status)
        .set_or_null("body", body)
        .set_or_null("file", file)
        .set("headers", fields(&respond.fields, "set"))
        .end()
}

fn field_rules(rules: &FieldRules) -> Option<Value> {
    if rules.forgets {
        return Some(Value::Null);
    }
    let of = |key: &str| fields(&rules.rules, key);
    let removed = rules.rules.iter().filter(|rule| rule.change == FieldChange::Remove);
    let section = SectionWriter::new(keys::FIELD_RULES)
        .set("set", of("set"))
        .set("add", of("add"))
        .set("default", of("default"))
        .set("remove", texts(removed.map(|rule| &rule.title)));
    (!rules.rules.is_empty()).then(|| section.end())
}

/// The fields that stand below this key.
fn fields(rules: &[FieldRule], key: &str) -> Value {
    let value = |change: &FieldChange| match (change, key) {
        (FieldChange::Set(value), "set")
        | (FieldChange::Add(value), "add")
        | (FieldChange::Default(value), "default") => Some(value.source().into()),
        // Whichever it stood below, it takes away the same.
        (FieldChange::Nothing, "set") => Some(Value::Null),
        _ => None,
    };
    named(rules.iter().filter_map(|rule| Some((&*rule.title, value(&rule.change)?))))
}
