//! What is done with requests beside sending them to a pool, as it is written: by a policy of its own name, or by a rule.

use super::Name;
use crate::template::Template;
use bytes::Bytes;
use http::HeaderName;
use std::path::PathBuf;

/// A policy that listeners and rules name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedPolicy {
    pub name: Name,
    pub policy: PolicyPlan,
}

/// What one place says. A request's policy is that of its listener, then the one that its rule names, then what the rule says
/// itself: a later key replaces an earlier one, and rules about fields replace each other field by field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyPlan {
    pub request_headers: FieldRules,
    pub response_headers: FieldRules,
}

impl PolicyPlan {
    /// Whether nothing is said at all.
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// What holds where this is said after `before`.
    #[must_use]
    pub fn after(&self, before: &Self) -> Self {
        Self {
            request_headers: self.request_headers.after(&before.request_headers),
            response_headers: self.response_headers.after(&before.response_headers),
        }
    }

    /// All texts with variables.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let rules = self.request_headers.rules.iter().chain(&self.response_headers.rules);
        rules.filter_map(FieldRule::value)
    }
}

/// What happens to fields of heads; one rule for each name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldRules {
    /// Written as `null`: nothing of what was said before holds.
    pub forgets: bool,
    pub rules: Vec<FieldRule>,
}

impl FieldRules {
    fn after(&self, before: &Self) -> Self {
        let is_said = |rule: &&FieldRule| self.rules.iter().any(|own| own.name == rule.name);
        let before = before.rules.iter().filter(|_| !self.forgets).filter(|rule| !is_said(rule));
        let rules = before.chain(&self.rules).filter(|rule| rule.change != FieldChange::Nothing);
        Self { forgets: false, rules: rules.cloned().collect() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct FieldRule {
    pub name: HeaderName,
    /// With the capitals that it was written with.
    pub title: String,
    pub change: FieldChange,
}

impl FieldRule {
    /// What it gives the field.
    pub fn value(&self) -> Option<&Template> {
        match &self.change {
            FieldChange::Set(value) | FieldChange::Add(value) | FieldChange::Default(value) => Some(value),
            FieldChange::Remove | FieldChange::Nothing => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum FieldChange {
    /// In place of all of its name.
    Set(Template),
    /// Beside those of its name.
    Add(Template),
    /// If there is none.
    Default(Template),
    Remove,
    /// Written as `null`: what was said before does not hold.
    Nothing,
}

/// Where clients are sent instead of being served (RFC 9110 section 15.4).
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    pub to: Template,
    /// Of GET and HEAD; what has another method keeps it: 308 in place of 301, 307 in place of 302.
    pub status: u16,
    /// The request's query goes along.
    pub keep_query: bool,
}

/// An answer of our own.
#[derive(Clone, Debug, PartialEq)]
pub struct Respond {
    pub status: u16,
    pub page: Page,
    pub fields: Vec<FieldRule>,
}

/// What an answer of our own has for a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Page {
    /// The status in words.
    Status,
    Text(String),
    File(PageFile),
}

/// A file whose text is an answer's body. It is read when the configuration is.
#[derive(Clone, Debug, PartialEq)]
pub struct PageFile {
    pub path: PathBuf,
    pub content: Bytes,
}
