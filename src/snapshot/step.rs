//! The step from one snapshot to the next: match by name what is there with what is wanted.

use super::{Changes, Delta, Listener, ListenerPolicies, ListenerTarget, ProbeTask, Snapshot, target};
use crate::config::plan::{self, Name, Plan};
use crate::policy::Policy;
use crate::pool::server::SharedByServers;
use crate::pool::slot_table::SlotAllocator;
use crate::pool::{Health, OutlierSignals, Pool, Queue, Server};
use crate::units::Address;
use crate::{route, select};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub(super) fn evolve(previous: &Snapshot, plan: Plan, now: Instant) -> (Snapshot, Delta) {
    let mut step = Step::from(previous, now);
    let pools = step.pools(previous, &plan);
    let routes = step.routes(previous, &plan, &pools);
    let (listeners, next_listener) = step.listeners(previous, &plan, &pools, &routes);

    let mut by_id: Vec<_> =
        listeners.iter().enumerate().map(|(place, listener)| (listener.id, place)).collect();
    by_id.sort_unstable();
    let is_gone = |listener: &&Arc<Listener>| listeners.iter().all(|next| next.id != listener.id);
    let parting = previous.listeners.iter().filter(is_gone).cloned().collect();
    let retiring = step.retiring();
    let parted_queues = step.parted_queues(&pools, &retiring);
    let snapshot = Snapshot {
        generation: previous.generation + 1,
        edition: previous.edition + 1,
        plan: Arc::new(plan),
        listeners,
        by_id,
        parting,
        pools,
        routes,
        retiring,
        parted_queues,
        url_keys: OnceLock::new(),
        outliers: step.outliers,
        next_server: step.next_server,
        next_listener,
    };
    (snapshot, step.delta)
}

pub(super) fn evolve_pool(
    previous: &Snapshot,
    place: usize,
    servers: Vec<plan::ServerPlan>,
    now: Instant,
) -> (Snapshot, Delta) {
    let mut step = Step::from(previous, now);
    let before = &previous.pools[place];
    let planned = plan::PoolPlan { servers, ..before.plan.clone() };
    sort_in(&mut step.delta.pools, &before.name, Some(before.plan == planned));
    let pool = step.pool(Some(before), &planned, Arc::clone(&before.cookies));

    let mut routes = previous.routes.clone();
    for table in routes.iter_mut().filter(|table| table.leads_to(before)) {
        step.delta.routes.kept.push(table.name.clone());
        *table = Arc::new(table.with_pool(before, &pool));
    }
    let mut listeners = previous.listeners.clone();
    for listener in &mut listeners {
        let target = match &listener.target {
            ListenerTarget::Pool(found) => {
                Arc::ptr_eq(found, before).then(|| ListenerTarget::Pool(Arc::clone(&pool)))
            }
            ListenerTarget::Routes(found) => {
                // Those that are in force stand where those before them stood.
                let place = previous.routes.iter().position(|table| Arc::ptr_eq(table, found));
                let table = place.map(|place| &routes[place]).filter(|table| !Arc::ptr_eq(table, found));
                table.cloned().map(ListenerTarget::Routes)
            }
            ListenerTarget::RedirectToHttps => None,
        };
        let Some(target) = target else { continue };
        step.delta.listeners.kept.push(listener.plan.name.clone());
        let Listener { id, plan, has_h2, policies, geo, .. } = &**listener;
        let (policies, geo) = (Arc::clone(policies), geo.clone());
        *listener =
            Arc::new(Listener { id: *id, plan: plan.clone(), target, has_h2: *has_h2, policies, geo });
    }

    let mut plan = Plan::clone(&previous.plan);
    plan.pools[place] = Arc::new(planned);
    let mut pools = previous.pools.clone();
    pools[place] = pool;
    let retiring = step.retiring();
    let parted_queues = step.parted_queues(&pools, &retiring);
    let snapshot = Snapshot {
        generation: previous.generation + 1,
        edition: previous.edition + 1,
        plan: Arc::new(plan),
        listeners,
        by_id: previous.by_id.clone(),
        parting: previous.parting.clone(),
        pools,
        routes,
        retiring,
        parted_queues,
        url_keys: OnceLock::new(),
        outliers: step.outliers,
        next_server: step.next_server,
        next_listener: previous.next_listener,
    };
    (snapshot, step.delta)
}

/// The sticky cookies of a pool and of all that `fallback` leads to or from, once each.
fn family_cookies(plan: &Plan, pool: &plan::PoolPlan) -> Arc<[(Name, plan::StickyMode)]> {
    let leads = |from: &plan::PoolPlan, to: &Name| from.fallback.as_ref() == Some(to);
    let mut family = vec![pool];
    let mut seen = 0;
    while let Some(one) = family.get(seen).copied() {
        seen += 1;
        for other in &plan.pools {
            let is_next = leads(one, &other.name) || leads(other, &one.name);
            if is_next && !family.iter().any(|known| known.name == other.name) {
                family.push(other);
            }
        }
    }
    let mut cookies: Vec<(Name, plan::StickyMode)> = Vec::new();
    for sticky in family.iter().filter_map(|pool| pool.sticky.as_ref()) {
        let cookie = (sticky.cookie.clone(), sticky.mode);
        if !cookies.contains(&cookie) {
            cookies.push(cookie);
        }
    }
    cookies.into()
}

/// Pool, name and address: what makes a server the same one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ServerIdentity {
    pool: Name,
    name: Name,
    address: Address,
}

/// Of two with one name in one pool. Where it has to prove to be the host that has led to it, that counts as well.
fn is_same(server: &Server, planned: &plan::PoolPlan, wanted: &plan::ServerPlan) -> bool {
    *server.address() == wanted.address
        && (!planned.is_secured_by_host() || server.host().as_ref() == wanted.host.as_ref())
}

fn identity(server: &Server) -> ServerIdentity {
    ServerIdentity {
        pool: server.pool().clone(),
        name: server.name().clone(),
        address: server.address().clone(),
    }
}

struct Step {
    now: Instant,
    next_server: u32,
    /// Servers that went in earlier steps and still have leases out.
    retired: HashMap<ServerIdentity, Vec<Arc<Server>>>,
    /// Of pools that went and have servers that are still busy.
    parted_queues: Vec<(Name, Arc<Queue>)>,
    outliers: Arc<OutlierSignals>,
    delta: Delta,
}

impl Step {
    fn from(previous: &Snapshot, now: Instant) -> Self {
        let mut retired: HashMap<_, Vec<_>> = HashMap::new();
        for server in previous.retiring.iter().filter(|server| server.in_flight() > 0) {
            retired.entry(identity(server)).or_default().push(Arc::clone(server));
        }
        Self {
            now,
            next_server: previous.next_server,
            retired,
            parted_queues: previous.parted_queues.clone(),
            outliers: Arc::clone(&previous.outliers),
            delta: Delta::default(),
        }
    }

    /// Servers of earlier snapshots that are still busy, and those that go now.
    fn retiring(&mut self) -> Vec<Arc<Server>> {
        let still_leaving = std::mem::take(&mut self.retired).into_values().flatten();
        still_leaving.chain(self.delta.servers.removed.iter().cloned()).collect()
    }

    fn parted_queues(&self, pools: &[Arc<Pool>], retiring: &[Arc<Server>]) -> Vec<(Name, Arc<Queue>)> {
        let is_parted = |name: &Name| {
            retiring.iter().any(|server| server.pool() == name) && pools.iter().all(|pool| pool.name != *name)
        };
        self.parted_queues.iter().filter(|(name, _)| is_parted(name)).cloned().collect()
    }

    fn pools(&mut self, previous: &Snapshot, plan: &Plan) -> Vec<Arc<Pool>> {
        let mut before: HashMap<&str, &Arc<Pool>> =
            previous.pools.iter().map(|pool| (&*pool.name, pool)).collect();
        let pools = plan
            .pools
            .iter()
            .map(|planned| {
                let previous = before.remove(&*planned.name).map(|pool| &**pool);
                sort_in(&mut self.delta.pools, &planned.name, previous.map(|pool| pool.plan == **planned));
                self.pool(previous, planned, family_cookies(plan, planned))
            })
            .collect();
        for pool in previous.pools.iter().filter(|pool| before.contains_key(&*pool.name)) {
            self.delta.pools.removed.push(pool.name.clone());
            self.delta.closed.push(pool.queue.clone());
            self.parted_queues.push((pool.name.clone(), pool.queue.clone()));
            for member in &pool.members {
                self.remove(&member.server, &pool.plan, pool.plan.drain_timeout);
            }
        }
        pools
    }

    fn pool(
        &mut self,
        previous: Option<&Pool>,
        planned: &plan::PoolPlan,
        cookies: Arc<[(Name, plan::StickyMode)]>,
    ) -> Arc<Pool> {
        let mut before: HashMap<&str, usize> = previous
            .iter()
            .flat_map(|pool| pool.members.iter().enumerate())
            .map(|(index, member)| (&**member.server.name(), index))
            .collect();
        let queue = self.queue(previous, &planned.name);
        let allocator = SlotAllocator::new(previous.map_or(&[], Pool::blocks));
        let outliers = Arc::clone(&self.outliers);
        let mut shared = SharedByServers { allocator, queue: queue.clone(), outliers: outliers.clone() };
        let servers = planned
            .servers
            .iter()
            .map(|wanted| {
                let same = previous
                    .and_then(|pool| before.get(&*wanted.name).map(|index| (pool, *index)))
                    .filter(|(pool, index)| is_same(&pool.members[*index].server, planned, wanted));
                match same {
                    Some((pool, index)) => {
                        before.remove(&*wanted.name);
                        self.keep(pool, index, planned, wanted)
                    }
                    None => {
                        let server = self.add(planned, wanted, &mut shared);
                        if previous.is_some_and(|pool| !pool.members.is_empty()) {
                            self.delta.joined.push(server.clone());
                        }
                        server
                    }
                }
            })
            .collect();
        if let Some(pool) = previous {
            let mut gone: Vec<usize> = before.into_values().collect();
            gone.sort_unstable();
            for index in gone {
                self.remove(&pool.members[index].server, &pool.plan, planned.drain_timeout);
            }
        }
        let selector = select::build(planned, previous);
        let (stats, budget) =
            previous.map_or_else(Default::default, |pool| (pool.stats.clone(), pool.budget.clone()));
        let mut pool = Pool::new(planned.clone(), servers, selector, stats, budget, queue, outliers);
        pool.cookies = cookies;
        if let Some(previous) = previous {
            pool.origination = previous.origination.clone();
        }
        let pool = Arc::new(pool);
        self.delta.rebuilt.push(pool.clone());
        pool
    }

    /// One for each name: servers that went with their pool and come back with it have it still.
    fn queue(&self, previous: Option<&Pool>, pool: &Name) -> Arc<Queue> {
        let parted = || self.parted_queues.iter().find(|(name, _)| name == pool).map(|(_, queue)| queue);
        let known = previous.map(|pool| &pool.queue).or_else(parted);
        known.map_or_else(|| Queue::new(self.now), Arc::clone)
    }

    fn keep(
        &mut self,
        pool: &Pool,
        index: usize,
        planned: &plan::PoolPlan,
        wanted: &plan::ServerPlan,
    ) -> Arc<Server> {
        let server = pool.members[index].server.clone();
        match pool.plan.servers[index] == *wanted {
            true => self.delta.servers.kept.push(server.clone()),
            false => self.delta.servers.changed.push(server.clone()),
        }
        if pool.plan.servers[index].backup != wanted.backup {
            self.delta.backups.push((server.clone(), wanted.backup));
        }
        if pool.plan.servers[index].host != wanted.host {
            self.delta.hosts.push((server.clone(), wanted.host.clone()));
        }
        match (&pool.plan.health, &planned.health) {
            (None, None) => {}
            (Some(_), None) => {
                self.delta.probes_stopped.push(server.id());
                self.delta.unprobed.push(server.clone());
            }
            (None, Some(_)) => {
                self.delta.recounted.push(server.clone());
                self.probe(&server, planned);
            }
            (Some(old), Some(new))
                if old == new
                    && pool.plan.proxy_protocol == planned.proxy_protocol
                    && pool.plan.is_probed_by_h2() == planned.is_probed_by_h2() =>
            {
                // The same probe, but it says how long requests may run on: a new task, the old counts.
                if pool.plan.drain_timeout != planned.drain_timeout {
                    self.delta.probes_stopped.push(server.id());
                    self.probe(&server, planned);
                }
            }
            (Some(_), Some(_)) => {
                self.delta.probes_stopped.push(server.id());
                self.delta.recounted.push(server.clone());
                self.probe(&server, planned);
            }
        }
        server
    }

    fn add(
        &mut self,
        planned: &plan::PoolPlan,
        wanted: &plan::ServerPlan,
        shared: &mut SharedByServers,
    ) -> Arc<Server> {
        let server = match self.returning(planned, wanted) {
            Some(server) => {
                self.delta.hosts.push((server.clone(), wanted.host.clone()));
                self.delta.rejoining.push(server.clone());
                self.delta.backups.push((server.clone(), wanted.backup));
                match planned.health {
                    Some(_) => self.delta.recounted.push(server.clone()),
                    None => self.delta.unprobed.push(server.clone()),
                }
                server
            }
            None => {
                let id = self.next_server;
                self.next_server += 1;
                let server = Server::new(
                    id,
                    planned.name.clone(),
                    wanted.name.clone(),
                    wanted.address.clone(),
                    Health::initial(planned.health.as_ref()),
                    shared,
                    self.now,
                );
                // Nobody else has it yet.
                server.set_backup(wanted.backup);
                Arc::new(server.found_by(wanted.host.clone()))
            }
        };
        self.delta.servers.added.push(server.clone());
        self.probe(&server, planned);
        server
    }

    /// One that went and is still busy.
    fn returning(&mut self, planned: &plan::PoolPlan, wanted: &plan::ServerPlan) -> Option<Arc<Server>> {
        let identity = ServerIdentity {
            pool: planned.name.clone(),
            name: wanted.name.clone(),
            address: wanted.address.clone(),
        };
        let gone = self.retired.get_mut(&identity)?;
        let place = gone.iter().position(|server| is_same(server, planned, wanted))?;
        Some(gone.swap_remove(place))
    }

    fn remove(&mut self, server: &Arc<Server>, plan: &plan::PoolPlan, drain_timeout: Duration) {
        if plan.health.is_some() {
            self.delta.probes_stopped.push(server.id());
        }
        self.delta.servers.removed.push(server.clone());
        self.delta.leaving.push((server.clone(), drain_timeout));
    }

    fn probe(&mut self, server: &Arc<Server>, planned: &plan::PoolPlan) {
        self.delta.probes_started.extend(ProbeTask::new(server, planned));
    }

    fn routes(
        &mut self,
        previous: &Snapshot,
        plan: &Plan,
        pools: &[Arc<Pool>],
    ) -> Vec<Arc<route::RouteTable>> {
        let mut before: HashMap<&str, &Arc<plan::RoutesPlan>> =
            previous.plan.routes.iter().map(|routes| (&*routes.name, routes)).collect();
        let tables = plan
            .routes
            .iter()
            .map(|routes| {
                let same = before.remove(&*routes.name).map(|old| {
                    old.rules.len() == routes.rules.len()
                        && old.rules.iter().zip(&routes.rules).all(|(old, new)| {
                            old.name == new.name
                                && old.matcher == new.matcher
                                && old.upgrades == new.upgrades
                                && old.priority == new.priority
                                && old.own_policy == new.own_policy
                                && old.maintenance == new.maintenance
                                && policy_name(&previous.plan, old.policy) == policy_name(plan, new.policy)
                                && is_same_target((&previous.plan, &old.target), (plan, &new.target))
                        })
                });
                sort_in(&mut self.delta.routes, &routes.name, same);
                let rules = routes.rules.iter().map(|rule| route::RouteRule {
                    name: rule.name.clone(),
                    matcher: rule.matcher.clone(),
                    upgrades: rule.upgrades.as_deref().map(Arc::from),
                    priority: rule.priority,
                    target: match &rule.target {
                        plan::RuleTargetPlan::Pool(pool) => route::RuleTarget::Pool(pools[*pool].clone()),
                        plan::RuleTargetPlan::Redirect(redirect) => {
                            route::RuleTarget::Redirect(redirect.clone())
                        }
                        plan::RuleTargetPlan::Respond(respond) => route::RuleTarget::Respond(respond.clone()),
                    },
                });
                Arc::new(route::RouteTable::new(routes.name.clone(), rules.collect()))
            })
            .collect();
        let gone = previous.plan.routes.iter().filter(|routes| before.contains_key(&*routes.name));
        self.delta.routes.removed = gone.map(|routes| routes.name.clone()).collect();
        tables
    }

    fn listeners(
        &mut self,
        previous: &Snapshot,
        plan: &Plan,
        pools: &[Arc<Pool>],
        routes: &[Arc<route::RouteTable>],
    ) -> (Vec<Arc<Listener>>, u32) {
        let mut next_id = previous.next_listener;
        let mut before: HashMap<&str, &Arc<Listener>> =
            previous.listeners.iter().map(|listener| (&*listener.plan.name, listener)).collect();
        let listeners = plan
            .listeners
            .iter()
            .map(|wanted| {
                let old = before.remove(&*wanted.name);
                let same = old.map(|old| {
                    let plan::ListenerPlan { target: led_to, policy, .. } = old.plan;
                    let as_before = plan::ListenerPlan { target: led_to, policy, ..(**wanted).clone() };
                    as_before == old.plan
                        && policy_name(&previous.plan, policy) == policy_name(plan, wanted.policy)
                        && target(&previous.plan, old.plan.target) == target(plan, wanted.target)
                });
                sort_in(&mut self.delta.listeners, &wanted.name, same);
                // Over another transport it is another listener: what came in by the old one is not for the new
                // one's pool.
                let transport = wanted.protocol.transport();
                let id = match old.filter(|old| old.plan.protocol.transport() == transport) {
                    Some(old) => old.id,
                    None => {
                        next_id += 1;
                        next_id - 1
                    }
                };
                let entry = match wanted.target {
                    plan::TargetPlan::Pool(pool) => ListenerTarget::Pool(pools[pool].clone()),
                    plan::TargetPlan::Routes(table) => ListenerTarget::Routes(routes[table].clone()),
                    plan::TargetPlan::RedirectToHttps => ListenerTarget::RedirectToHttps,
                };
                let has_h2 = entry.has_h2(pools);
                let policies = Arc::new(policies(plan, wanted));
                let geo = (!plan.geo.is_empty()).then(|| Arc::clone(&plan.geo));
                Arc::new(Listener { id, plan: (**wanted).clone(), target: entry, has_h2, policies, geo })
            })
            .collect();
        let gone = previous.listeners.iter().filter(|listener| before.contains_key(&*listener.plan.name));
        self.delta.listeners.removed = gone.map(|listener| listener.plan.name.clone()).collect();
        (listeners, next_id)
    }
}

/// The policy that a plan has at this place.
fn policy(plan: &Plan, place: Option<usize>) -> Option<&plan::policy::NamedPolicy> {
    place.map(|place| &*plan.policies[place])
}

/// Its name: what a policy says is told by itself where plans differ.
fn policy_name(plan: &Plan, place: Option<usize>) -> Option<&Name> {
    policy(plan, place).map(|named| &named.name)
}

/// What holds for the requests that come in by a listener.
fn policies(plan: &Plan, listener: &plan::ListenerPlan) -> ListenerPolicies {
    let of_listener = policy(plan, listener.policy).map(|named| &named.policy);
    let of_rule = |rule: &plan::RulePlan| Policy::of(plan.layers(Some(listener), rule), rule.maintenance);
    let planned = match listener.target {
        plan::TargetPlan::Routes(routes) => plan.routes[routes].rules.as_slice(),
        plan::TargetPlan::Pool(_) | plan::TargetPlan::RedirectToHttps => &[],
    };
    let rules: Box<[_]> = planned.iter().map(of_rule).collect();
    let refuses = |rule: &plan::RulePlan| match &rule.target {
        plan::RuleTargetPlan::Respond(respond) => respond.status >= 400,
        plan::RuleTargetPlan::Pool(_) | plan::RuleTargetPlan::Redirect(_) => false,
    };
    let keep_out = planned.iter().any(refuses) || rules.iter().flatten().any(Policy::keeps_out);
    ListenerPolicies { own: Policy::of(of_listener, None), rules, keep_out }
}

/// The target of a rule, as far as reloads tell them apart: pools are known by their names.
fn is_same_target(old: (&Plan, &plan::RuleTargetPlan), new: (&Plan, &plan::RuleTargetPlan)) -> bool {
    match (old.1, new.1) {
        (plan::RuleTargetPlan::Pool(before), plan::RuleTargetPlan::Pool(after)) => {
            old.0.pools[*before].name == new.0.pools[*after].name
        }
        (before, after) => before == after,
    }
}

/// Files a name under added (`None`: it was not there), kept (the same) or changed.
fn sort_in(changes: &mut Changes<Name>, name: &Name, same: Option<bool>) {
    let list = match same {
        None => &mut changes.added,
        Some(true) => &mut changes.kept,
        Some(false) => &mut changes.changed,
    };
    list.push(name.clone());
}
