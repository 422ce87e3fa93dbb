//! What operators have said of the maintenance of routes: a section's, or one rule's, which counts above its section's.

use super::Overrides;
use crate::config::plan::policy::PolicyPlan;
use crate::config::plan::{ListenerPlan, Plan, RoutesPlan, RulePlan, TargetPlan};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use time::OffsetDateTime;

/// What an operator has said of one section of routes, or of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteOverride {
    pub maintenance: bool,
    pub actor: String,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// Whether a plan has a section of routes or a rule of this name.
pub(super) fn has_route(plan: &Plan, name: &str) -> bool {
    named(plan, name).next().is_some()
}

/// The rules that a name stands for, with their sections.
fn named<'a>(plan: &'a Plan, name: &'a str) -> impl Iterator<Item = (&'a RoutesPlan, &'a RulePlan)> {
    let rules = plan.routes.iter().flat_map(|routes| routes.rules.iter().map(move |rule| (&**routes, rule)));
    rules.filter(move |(routes, rule)| *routes.name == *name || *rule.name == *name)
}

/// Whether the file has a rule in maintenance, by all listeners that lead to it.
fn is_planned(plan: &Plan, (routes, rule): (&RoutesPlan, &RulePlan), enabled: bool) -> bool {
    let leads = |listener: &&Arc<ListenerPlan>| match listener.target {
        TargetPlan::Routes(place) => plan.routes[place].name == routes.name,
        TargetPlan::Pool(_) | TargetPlan::RedirectToHttps => false,
    };
    let is_so = |listener: Option<&ListenerPlan>| {
        let said =
            plan.layers(listener, rule).fold(PolicyPlan::default(), |below, layer| layer.after(&below));
        said.maintenance.get().is_some_and(|maintenance| maintenance.enabled) == enabled
    };
    is_so(None) && plan.listeners.iter().filter(leads).all(|listener| is_so(Some(listener)))
}

impl Overrides {
    /// Takes an operator's word for a section of routes or a rule; `plan` is what the file says. What the file says anyway is
    /// not remembered. The rules that it is about; none if there are none of this name.
    pub fn set_maintenance(&mut self, plan: &Plan, name: &str, word: RouteOverride) -> Vec<String> {
        let rules: Vec<_> = named(plan, name).collect();
        // A word about a section is about all of its rules.
        for (_, rule) in rules.iter().filter(|(routes, _)| *routes.name == *name) {
            self.routes.remove(&*rule.name);
        }
        self.routes.remove(name);
        let is_said_above = rules.iter().any(|(routes, _)| self.routes.contains_key(&*routes.name));
        let is_planned = rules.iter().all(|rule| is_planned(plan, *rule, word.maintenance));
        if !rules.is_empty() && (is_said_above || !is_planned) {
            self.routes.insert(name.to_owned(), word);
        }
        rules.iter().map(|(_, rule)| rule.name.to_string()).collect()
    }

    /// Whether anything is remembered of this name.
    pub fn is_said_of(&self, name: &str) -> bool {
        self.routes.contains_key(name)
    }

    /// What was said that counts for a rule.
    pub fn of_rule(&self, routes: &str, rule: &str) -> Option<&RouteOverride> {
        self.routes.get(rule).or_else(|| self.routes.get(routes))
    }

    /// Puts what operators have said of maintenance into a plan.
    pub(super) fn maintain(&self, plan: &mut Plan) {
        for routes in &mut plan.routes {
            let said = |rule: &RulePlan| self.of_rule(&routes.name, &rule.name).map(|word| word.maintenance);
            if routes.rules.iter().any(|rule| rule.maintenance != said(rule)) {
                let said: Vec<_> = routes.rules.iter().map(said).collect();
                let rules = &mut Arc::make_mut(routes).rules;
                rules.iter_mut().zip(said).for_each(|(rule, said)| rule.maintenance = said);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn plan() -> Plan {
        let text = "\
listeners: { web: { address: 127.0.0.1:0, routes: shop } }
policies: { closed: { maintenance: { enabled: true, retry_after: 9s } } }
routes:
  shop:
    - { name: cart, match: { path: /cart }, pool: app }
    - { policy: closed, pool: app }
  other: [{ pool: app }]
pools: { app: { servers: [127.0.0.1:1] } }
";
        config::parse(text).expect("it is good").0
    }

    fn word(maintenance: bool) -> RouteOverride {
        RouteOverride { maintenance, actor: "alice".to_owned(), at: OffsetDateTime::UNIX_EPOCH }
    }

    /// What operators say of each rule, in the order of the plan.
    fn said(overrides: &Overrides) -> Vec<Option<bool>> {
        let mut plan = plan();
        overrides.apply_to(&mut plan);
        plan.routes.iter().flat_map(|routes| &routes.rules).map(|rule| rule.maintenance).collect()
    }

    #[test]
    fn a_word_about_a_rule_counts_above_one_about_its_section() {
        let (plan, mut overrides) = (plan(), Overrides::default());
        assert_eq!(overrides.set_maintenance(&plan, "shop", word(true)), ["cart", "shop/2"]);
        assert_eq!(said(&overrides), [Some(true), Some(true), None]);
        assert_eq!(overrides.set_maintenance(&plan, "cart", word(false)), ["cart"]);
        assert_eq!(said(&overrides), [Some(false), Some(true), None]);
        overrides.set_maintenance(&plan, "shop", word(true));
        assert_eq!(said(&overrides), [Some(true), Some(true), None], "the later word is about all");
        overrides.set_maintenance(&plan, "shop", word(false));
        assert_eq!(said(&overrides), [Some(false), Some(false), None], "the file has one of them closed");
    }

    #[test]
    fn what_the_file_says_anyway_is_not_remembered() {
        let (plan, mut overrides) = (plan(), Overrides::default());
        for (name, enabled) in [("cart", false), ("shop/2", true), ("other", false)] {
            overrides.set_maintenance(&plan, name, word(!enabled));
            assert_ne!(overrides, Overrides::default(), "{name}");
            overrides.set_maintenance(&plan, name, word(enabled));
            assert_eq!(overrides, Overrides::default(), "{name}");
        }
        assert_eq!(overrides.set_maintenance(&plan, "nobody", word(true)), [""; 0]);
        assert_eq!(overrides, Overrides::default());
    }

    #[test]
    fn a_word_is_kept_with_its_route_and_ends_with_it() {
        let (mut plan, mut overrides) = (plan(), Overrides::default());
        overrides.set_maintenance(&plan, "cart", word(true));
        overrides.set_maintenance(&plan, "other", word(true));
        let text = overrides.to_json(None);
        assert_eq!(super::super::KeptState::from_json(&text).expect("it is whole").overrides, overrides);
        plan.routes.retain(|routes| *routes.name == *"shop");
        let (kept, gone) = overrides.kept_by(&plan, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(gone.names(), ["route other"]);
        assert_eq!(said(&kept), [Some(true), None, None]);
        assert_eq!(kept.or(&gone), overrides);
    }
}
