//! Which requests go where.

use super::policy::{PolicyPlan, Redirect, Respond};
use super::{Match, Name};
use std::sync::Arc;

/// A named list of rules; the first that matches wins.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutesPlan {
    pub name: Name,
    pub rules: Vec<RulePlan>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RulePlan {
    /// The `route` label of metrics and logs: the rule's own `name`, or `ROUTES/INDEX` from 1.
    pub name: Name,
    pub matcher: Match,
    pub target: RuleTargetPlan,
    /// What a connection may switch to; `None` is WebSocket alone.
    pub upgrades: Option<Vec<String>>,
    pub priority: Priority,
    /// Indexes `Plan::policies`.
    pub policy: Option<usize>,
    /// What it says itself, above the policy that it names.
    pub own_policy: PolicyPlan,
    /// What an operator says of its maintenance; no file has it.
    pub maintenance: Option<bool>,
}

impl RulePlan {
    /// The pool that its requests go to, by its place in `Plan::pools`.
    pub fn pool(&self) -> Option<usize> {
        match self.target {
            RuleTargetPlan::Pool(pool) => Some(pool),
            RuleTargetPlan::Redirect(_) | RuleTargetPlan::Respond(_) => None,
        }
    }
}

/// What becomes of a rule's requests.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleTargetPlan {
    /// Indexes `Plan::pools`.
    Pool(usize),
    /// Clients are sent elsewhere.
    Redirect(Arc<Redirect>),
    /// Clients have an answer of our own.
    Respond(Arc<Respond>),
}

/// Who is served first of those that wait for a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

impl Priority {
    /// The first served first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// As it is written.
    pub fn label(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}
