//! What is done with a request beside sending it to a pool: a policy as its layers make it, ready for requests.

mod bandwidth;
mod canonical;
mod cors;
mod error_page;
mod limits;
mod redirect;
mod respond;
mod rewrite;
mod shape;
mod variables;

pub(crate) use bandwidth::{Leave, Pace};
pub(crate) use canonical::canonical;
pub(crate) use cors::preflight;
pub(crate) use error_page::{give_file, give_page};
pub use limits::{BanRule, LimitId, Limits, RateLimit};
pub(crate) use limits::{LimitSubject, RateLimitFields, counted_by, denied};
pub(crate) use redirect::redirect;
pub(crate) use respond::respond;
pub(crate) use rewrite::{ASTRAY, Rewritten, leads_astray, rewrite};
pub(crate) use shape::Misshapen;
pub(crate) use variables::Variables;

use crate::config::plan::limits::Owned;
use crate::config::plan::policy::{
    Bandwidth, FieldChange, FieldRule, FieldRules, Inheritable, Maintenance, PolicyPlan,
};
use crate::wire::edit::FieldName;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// What holds for the requests of one rule of one listener.
#[derive(Debug)]
pub struct Policy {
    pub limits: Option<Limits>,
    /// How fast responses leave, and the number of the count that clients have there.
    pub(crate) bandwidth: Option<(u64, Bandwidth)>,
    pub(crate) request_fields: Box<[FieldEdit]>,
    pub(crate) response_fields: Box<[FieldEdit]>,
    /// What tells its requests from others' that ask for the same, as far as servers can tell them.
    pub(crate) cache_scope: u64,
    pub(crate) plan: PolicyPlan,
}

/// A policy, and the request that it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AppliedPolicy<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) variables: Variables<'a>,
}

/// What happens to the fields of one name.
#[derive(Debug)]
pub(crate) struct FieldEdit {
    pub(crate) name: FieldName,
    pub(crate) change: FieldChange,
}

impl FieldEdit {
    /// Nothing that came under its name goes on.
    pub(crate) fn replaces(&self) -> bool {
        matches!(self.change, FieldChange::Set(_) | FieldChange::Remove)
    }
}

impl Policy {
    /// The policy of these layers, later ones above those before, and of what an operator says of maintenance above all;
    /// `None` if they say nothing.
    pub fn of<'a>(
        layers: impl IntoIterator<Item = &'a PolicyPlan>,
        maintenance: Option<bool>,
    ) -> Option<Self> {
        let mut said = layers.into_iter().fold(PolicyPlan::default(), |below, layer| layer.after(&below));
        if let Some(enabled) = maintenance {
            let planned = said.maintenance.get().cloned().unwrap_or_default();
            said.maintenance = Inheritable::Set(Arc::new(Maintenance { enabled, ..planned }));
        }
        let is_silent = said.is_silent();
        let policy = || Self {
            limits: Limits::of(&said.limits),
            bandwidth: said.bandwidth.get().map(|Owned { owner, part }| {
                (LimitId::new(owner, "bandwidth", 0, part.rate).number, part.clone())
            }),
            request_fields: edits(&said.request_headers),
            response_fields: edits(&said.response_headers),
            cache_scope: scope(&said),
            plan: said,
        };
        (!is_silent).then(policy)
    }

    /// Whether it keeps some requests from a server.
    pub fn keeps_out(&self) -> bool {
        self.limits.is_some() || self.plan.maintenance.get().is_some_and(|maintenance| maintenance.enabled)
    }
}

/// A number for what is changed of requests, and for which of their parts are in keys: the values alone would not say whose they
/// are. (What of a query counts shows in it.)
fn scope(said: &PolicyPlan) -> u64 {
    let parts = said.cache.get().map(|plan| (plan.key.host, &plan.key.headers, &plan.key.cookies));
    let device = if said.cache.get().is_some_and(|plan| plan.key.device) { "device" } else { "" };
    xxh3_64(format!("{:?}\n{:?}\n{parts:?}{device}", said.request_headers, said.rewrite).as_bytes())
}

fn edits(rules: &FieldRules) -> Box<[FieldEdit]> {
    let edit = |rule: &FieldRule| FieldEdit {
        name: FieldName::named(rule.name.clone(), rule.title.clone()),
        change: rule.change.clone(),
    };
    rules.rules.iter().map(edit).collect()
}
