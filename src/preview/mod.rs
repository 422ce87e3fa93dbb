//! What a reload will change, told before it does. It reads the very `Delta` that a reload carries out, and
//! asks the very selectors that serve.

mod cached;
mod churn;
mod limits;
mod notes;
mod render;
pub mod report;
mod settings;
#[cfg(test)]
mod tests;
mod warnings;

pub(crate) use cached::cached;
pub use render::render;
pub use report::ReloadPreview;

use crate::config::plan;
use crate::pool;
use crate::snapshot::{Delta, Snapshot};
use report::{
    HealthPreview, KeyChange, ListenerPreview, PoolPreview, RoutesPreview, RulePreview, ServerPreview, Sorted,
};
use settings::Settings;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The difference between what is in force and the snapshot it evolves to. `n_keys` keys are looked up for each
/// pool that hashes.
pub fn report(in_force: &Snapshot, next: &Snapshot, delta: &Delta, n_keys: u32) -> ReloadPreview {
    report_at_rest(in_force, next, delta, n_keys, (in_force, next))
}

/// The same of a process that serves. Its load would blur where keys belong, so they are looked up in two snapshots of
/// the same plans in which nothing is in flight and only what operators have said is as it is.
pub fn report_live(
    in_force: &Snapshot,
    next: &Snapshot,
    delta: &Delta,
    n_keys: u32,
    now: Instant,
) -> ReloadPreview {
    let (old, _) = Snapshot::empty().evolve(in_force.plan.as_ref().clone(), now);
    let (new, _) = old.evolve(next.plan.as_ref().clone(), now);
    // Operators' words are about a server's name, whatever its address.
    let live = in_force.pools().iter().flat_map(|pool| &pool.members);
    let said: HashMap<_, _> = live
        .map(|member| &member.server)
        .map(|server| ((server.pool(), server.name()), server.state().admin))
        .collect();
    for member in old.pools().iter().chain(new.pools()).flat_map(|pool| &pool.members) {
        let server = &member.server;
        if let Some(operator) = said.get(&(server.pool(), server.name())) {
            server.set_operator(*operator);
        }
    }
    report_at_rest(in_force, next, delta, n_keys, (&old, &new))
}

/// The settings that are no listener's, no pool's and no route's and that differ, as `key: old -> new`.
pub fn changed_settings(old: &plan::Plan, new: &plan::Plan) -> Vec<String> {
    let changes = settings::process(old).changes_to(&settings::process(new));
    let word = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    changes
        .into_iter()
        .map(|change| format!("{}: {} -> {}", change.key, word(change.old), word(change.new)))
        .collect()
}

fn report_at_rest(
    in_force: &Snapshot,
    next: &Snapshot,
    delta: &Delta,
    n_keys: u32,
    at_rest: (&Snapshot, &Snapshot),
) -> ReloadPreview {
    let settings = settings::process(&in_force.plan).changes_to(&settings::process(&next.plan));
    let waits = |change: &&KeyChange| {
        change.key == "process.threads"
            || ["admin.", "log."].iter().any(|section| change.key.starts_with(section))
    };
    let at_next_start = settings.iter().filter(waits).map(|change| change.key.clone()).collect();
    let pools = Pools { in_force, next, delta, n_keys, at_rest, facts: Facts::of(delta) };
    let as_names = |names: &[plan::Name]| names.iter().map(ToString::to_string).collect();
    let report = ReloadPreview {
        changes: !settings.is_empty()
            || !delta.listeners.none()
            || !delta.routes.none()
            || !delta.pools.none()
            || !delta.servers.none(),
        settings,
        at_next_start,
        listeners: Sorted {
            added: delta.listeners.added.iter().map(|name| listener(in_force, next, name)).collect(),
            removed: delta.listeners.removed.iter().map(|name| listener(in_force, next, name)).collect(),
            changed: delta.listeners.changed.iter().map(|name| listener(in_force, next, name)).collect(),
            kept: as_names(&delta.listeners.kept),
        },
        routes: Sorted {
            added: delta.routes.added.iter().map(|name| routes(in_force, next, name)).collect(),
            removed: delta.routes.removed.iter().map(|name| routes(in_force, next, name)).collect(),
            changed: delta.routes.changed.iter().map(|name| routes(in_force, next, name)).collect(),
            kept: as_names(&delta.routes.kept),
        },
        pools: Sorted {
            added: delta.pools.added.iter().map(|name| pools.pool(name)).collect(),
            removed: delta.pools.removed.iter().map(|name| pools.pool(name)).collect(),
            changed: delta.pools.changed.iter().map(|name| pools.pool(name)).collect(),
            kept: as_names(&delta.pools.kept),
        },
        cache: None,
        probes: Vec::new(),
        warnings: Vec::new(),
    };
    let warnings = warnings::of(in_force, next, &report);
    ReloadPreview { warnings, ..report }
}

/// A change that no key here tells of is told all the same.
fn or_others(changes: Vec<KeyChange>) -> Vec<KeyChange> {
    match changes.is_empty() {
        true => vec![KeyChange { key: "other settings".to_owned(), old: None, new: None }],
        false => changes,
    }
}

fn listener(in_force: &Snapshot, next: &Snapshot, name: &str) -> ListenerPreview {
    let find = |snapshot: &Snapshot| {
        let listener = snapshot.listeners().iter().find(|listener| &*listener.plan.name == name)?;
        Some((listener.plan.clone(), settings::listener(&snapshot.plan, &listener.plan)))
    };
    let (old, new) = (find(in_force), find(next));
    let keys = match (&old, &new) {
        (Some((_, old)), Some((_, new))) => or_others(old.changes_to(new)),
        _ => Vec::new(),
    };
    let addresses = new.or(old).map(|(listener, _)| listener.addresses).unwrap_or_default();
    ListenerPreview {
        name: name.to_owned(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        keys,
    }
}

/// A rule of one side.
struct Rule {
    /// None for one that is known by its place alone.
    name: Option<String>,
    text: String,
    matches: String,
    settings: Settings,
}

impl Rule {
    /// Whether it is this rule with other settings: by its name, or by what it matches.
    fn is_same(&self, other: &Self) -> bool {
        match (&self.name, &other.name) {
            (None, None) => self.matches == other.matches,
            (own, other) => own == other,
        }
    }

    fn changed_to(&self, new: &Self) -> RulePreview {
        let name = new.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        RulePreview {
            rule: format!("{name}{}", new.matches),
            old: self.text.clone(),
            new: new.text.clone(),
            keys: or_others(self.settings.changes_to(&new.settings)),
        }
    }
}

fn routes(in_force: &Snapshot, next: &Snapshot, name: &str) -> RoutesPreview {
    let rules = |snapshot: &Snapshot| -> Vec<Rule> {
        let routes = snapshot.plan.routes.iter().find(|routes| &*routes.name == name);
        let rules = routes.iter().flat_map(|routes| &routes.rules);
        let rule = |(place, rule): (usize, &plan::RulePlan)| Rule {
            name: Some(rule.name.to_string()).filter(|own| *own != format!("{name}/{place}")),
            text: settings::rule(&snapshot.plan, rule),
            matches: settings::matches(rule),
            settings: settings::rule_settings(&snapshot.plan, rule),
        };
        (1..).zip(rules).map(rule).collect()
    };
    let (old, new) = (rules(in_force), rules(next));
    let has = |these: &[Rule], text: &str| these.iter().any(|rule| rule.text == text);
    let texts = |these: &[Rule], those: &[Rule], are_in_both: bool| -> Vec<String> {
        let kept = these.iter().filter(|rule| has(those, &rule.text) == are_in_both);
        kept.map(|rule| rule.text.clone()).collect()
    };
    let mut added: Vec<_> = new.iter().filter(|rule| !has(&old, &rule.text)).collect();
    let removed = old.iter().filter(|rule| !has(&new, &rule.text));
    let changed = removed.filter_map(|before| {
        let place = added.iter().position(|after| before.is_same(after))?;
        Some(before.changed_to(added.remove(place)))
    });
    RoutesPreview {
        name: name.to_owned(),
        changed: changed.collect(),
        added: texts(&new, &old, false),
        removed: texts(&old, &new, false),
        reordered: texts(&old, &new, true) != texts(&new, &old, true),
    }
}

/// What the delta says of single servers, by their ids.
struct Facts {
    leaving: HashMap<u32, Duration>,
    recounted: HashSet<u32>,
    unprobed: HashSet<u32>,
}

impl Facts {
    fn of(delta: &Delta) -> Self {
        Self {
            leaving: delta.leaving().iter().map(|(server, within)| (server.id(), *within)).collect(),
            recounted: delta.recounted().iter().map(|server| server.id()).collect(),
            unprobed: delta.unprobed().iter().map(|server| server.id()).collect(),
        }
    }
}

struct Pools<'a> {
    in_force: &'a Snapshot,
    next: &'a Snapshot,
    delta: &'a Delta,
    n_keys: u32,
    /// What keys are looked up in.
    at_rest: (&'a Snapshot, &'a Snapshot),
    facts: Facts,
}

impl Pools<'_> {
    fn pool(&self, name: &str) -> PoolPreview {
        let (old, new) = (self.in_force.pool(name), self.next.pool(name));
        let (keys, churn) = match (old, new) {
            (Some(old), Some(new)) => {
                let mut keys = settings::pool(&old.plan).changes_to(&settings::pool(&new.plan));
                if keys.is_empty() && old.plan.servers == new.plan.servers {
                    keys = or_others(keys);
                }
                let (before, after) = (self.at_rest.0.pool(name), self.at_rest.1.pool(name));
                let churn =
                    before.zip(after).and_then(|(before, after)| churn::churn(before, after, self.n_keys));
                (keys, churn)
            }
            _ => (Vec::new(), None),
        };
        let of_pool = |servers: &[Arc<pool::Server>]| -> Vec<_> {
            servers.iter().filter(|server| &**server.pool() == name).cloned().collect()
        };
        let servers = &self.delta.servers;
        let (added, removed) = (of_pool(&servers.added), of_pool(&servers.removed));
        let (changed, kept) = (of_pool(&servers.changed), of_pool(&servers.kept));
        let mut health = HealthPreview::default();
        let is_probed = new.is_some_and(|pool| pool.plan.health.is_some());
        let joining: HashSet<u32> = added.iter().map(|server| server.id()).collect();
        let stays = |server: &&Arc<pool::Server>| !joining.contains(&server.id());
        let members = new.iter().flat_map(|pool| pool.members.iter().map(|member| &member.server));
        for server in members.filter(stays) {
            let list = match server.id() {
                id if self.facts.recounted.contains(&id) => &mut health.counts_reset,
                id if self.facts.unprobed.contains(&id) => &mut health.assumed_up,
                _ if is_probed => &mut health.kept,
                _ => continue,
            };
            list.push(server.name().to_string());
        }
        let is_probing =
            |server: &&Arc<pool::Server>| is_probed && server.state().health == pool::HealthState::Probing;
        health.probing = added.iter().filter(is_probing).map(|server| server.name().to_string()).collect();
        let servers_of =
            |list: &[Arc<pool::Server>]| list.iter().map(|server| self.server(server, old, new)).collect();
        PoolPreview {
            name: name.to_owned(),
            keys,
            notes: new.map_or_else(Vec::new, |new| notes::of(old.map(|old| &**old), new)),
            servers: Sorted {
                added: servers_of(&added),
                removed: servers_of(&removed),
                changed: servers_of(&changed),
                kept: kept.iter().map(|server| server.name().to_string()).collect(),
            },
            health,
            churn,
        }
    }

    fn server(
        &self,
        server: &pool::Server,
        old: Option<&Arc<pool::Pool>>,
        new: Option<&Arc<pool::Pool>>,
    ) -> ServerPreview {
        let planned = |pool: Option<&Arc<pool::Pool>>| {
            let pool = pool?;
            let place = pool.members.iter().position(|member| member.server.id() == server.id())?;
            Some(pool.plan.servers[place].clone())
        };
        let (old, new) = (planned(old), planned(new));
        let keys = match (&old, &new) {
            (Some(old), Some(new)) => settings::server(old).changes_to(&settings::server(new)),
            _ => Vec::new(),
        };
        let leaving = self.facts.leaving.get(&server.id());
        let drained =
            |planned: &Option<plan::ServerPlan>| planned.as_ref().is_some_and(|planned| planned.drain);
        ServerPreview {
            name: server.name().to_string(),
            address: server.address().to_string(),
            weight: new.as_ref().or(old.as_ref()).map_or(0, |planned| planned.weight.get()),
            in_flight: server.in_flight(),
            keys,
            drains: leaving.is_some() || drained(&new) && !drained(&old),
            drains_within: leaving.map(|within| settings::span(*within)),
        }
    }
}
