//! Which routes are in maintenance, and who has said so.

use crate::text;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A rule that answers for its pool, or would if nobody had said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceStatus {
    pub listener: String,
    /// None where the listener leads to a pool without rules.
    pub route: Option<String>,
    pub enabled: bool,
    /// None where the configuration has it so.
    pub by_operator: Option<MaintenanceOverride>,
}

/// An operator's word about a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceOverride {
    pub actor: String,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

impl MaintenanceStatus {
    /// `web shop/1 is in maintenance, by alice (9m ago)`
    pub fn told(&self, now: OffsetDateTime) -> String {
        let route = self.route.as_ref().map_or_else(String::new, |route| format!(" {route}"));
        let state = if self.enabled { "is in maintenance" } else { "is served" };
        let by = match &self.by_operator {
            Some(said) => format!("by {} ({} ago)", said.actor, text::ago(said.at, now)),
            None => "as the configuration has it".to_owned(),
        };
        format!("{}{route} {state}, {by}", self.listener)
    }
}

/// Every rule that something is said of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceList {
    pub maintenance: Vec<MaintenanceStatus>,
}

/// What came of an operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceChanged {
    pub enabled: bool,
    /// The rules that it is about.
    pub rules: Vec<String>,
    pub notes: Vec<String>,
}
