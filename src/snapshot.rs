//! The live state built from a plan: everything a request follows by reference and number, looked up by
//! name only here, while it is built. The next snapshot comes from the last one, so that nothing a
//! reload does not touch is touched.

pub mod delta;
mod step;

pub use delta::{Changes, Delta, ProbeTask};

use crate::config::plan::cache::{CachePlan, KeyPlan};
use crate::config::plan::{self, Name, Plan};
use crate::geo::Geo;
use crate::limit::ClientPrefix;
use crate::policy::Policy;
use crate::pool::{OutlierSignals, Pool, Queue, Server};
use crate::route;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Where a listener's requests go.
#[derive(Clone, Debug)]
pub enum ListenerTarget {
    Pool(Arc<Pool>),
    Routes(Arc<route::RouteTable>),
    RedirectToHttps,
}

/// A listener as one snapshot has it.
#[derive(Debug)]
pub struct Listener {
    /// The same for a listener of the same name through all snapshots.
    pub id: u32,
    pub plan: plan::ListenerPlan,
    pub target: ListenerTarget,
    /// Whether some of its requests go, or may go, to servers by HTTP/2.
    pub has_h2: bool,
    pub policies: Arc<ListenerPolicies>,
    /// What says where its clients are, if anything does.
    pub geo: Option<Arc<Geo>>,
}

/// What holds for a listener's requests beside where they go.
#[derive(Debug, Default)]
pub struct ListenerPolicies {
    /// For those of no rule.
    pub own: Option<Policy>,
    /// For those of each rule, in the order of its routes.
    pub rules: Box<[Option<Policy>]>,
    /// Some rules keep clients out: those are held against what servers may take a path for, too.
    pub keep_out: bool,
}

impl Listener {
    /// What holds for the requests of the rule at this place, or of no rule.
    pub fn policy(&self, place: Option<u32>) -> Option<&Policy> {
        match place {
            None => self.policies.own.as_ref(),
            Some(place) => self.policies.rules.get(place as usize)?.as_ref(),
        }
    }
}

/// Whether a listener's rule is in maintenance.
#[derive(Clone, Copy, Debug)]
pub struct RuleMaintenance<'a> {
    pub listener: &'a Name,
    /// The rule and its section; `None` for requests of no rule.
    pub route: Option<(&'a Name, &'a Name)>,
    pub is_enabled: bool,
}

impl Listener {
    /// Its rules, and its requests of no rule.
    fn maintenance(&self) -> Vec<RuleMaintenance<'_>> {
        let of = |place: Option<u32>, route| {
            let policy = self.policy(place);
            let maintenance = policy.and_then(|policy| policy.plan.maintenance.get());
            let is_enabled = maintenance.is_some_and(|maintenance| maintenance.enabled);
            RuleMaintenance { listener: &self.plan.name, route, is_enabled }
        };
        match &self.target {
            ListenerTarget::Pool(_) => vec![of(None, None)],
            ListenerTarget::Routes(table) => {
                let rules = (0u32..).zip(&table.rules);
                rules.map(|(place, rule)| of(Some(place), Some((&table.name, &rule.name)))).collect()
            }
            ListenerTarget::RedirectToHttps => Vec::new(),
        }
    }
}

impl ListenerTarget {
    /// `pools` are all there are, for `fallback` to lead to.
    fn has_h2(&self, pools: &[Arc<Pool>]) -> bool {
        let is_h2 = |pool: &Pool| pool.plan.protocol != plan::ServerProtocol::Http1;
        let speaks_h2 =
            |pool: &Pool| is_h2(pool) || pool.plan.fallback.is_some() && pools.iter().any(|pool| is_h2(pool));
        match self {
            Self::Pool(pool) => speaks_h2(pool),
            Self::Routes(table) => {
                table.rules.iter().filter_map(|rule| rule.pool()).any(|pool| speaks_h2(pool))
            }
            Self::RedirectToHttps => false,
        }
    }
}

/// One generation of the live state. Requests hold on to the one they began with.
#[derive(Debug)]
pub struct Snapshot {
    /// The number of the configuration, as operators know it: a weight that one of them sets leaves it as it is.
    pub generation: u64,
    /// Unique for each snapshot of this process.
    pub edition: u64,
    pub plan: Arc<Plan>,
    listeners: Vec<Arc<Listener>>,
    /// Places in `listeners`, sorted by id.
    by_id: Vec<(u32, usize)>,
    /// Listeners that the generation before still had.
    parting: Vec<Arc<Listener>>,
    pools: Vec<Arc<Pool>>,
    routes: Vec<Arc<route::RouteTable>>,
    retiring: Vec<Arc<Server>>,
    /// Of pools that went and have servers that are still busy.
    parted_queues: Vec<(Name, Arc<Queue>)>,
    /// What `url_keys` has found.
    url_keys: OnceLock<Vec<KeyPlan>>,
    /// What goes on in all pools, through all snapshots.
    outliers: Arc<OutlierSignals>,
    next_server: u32,
    next_listener: u32,
}

impl Snapshot {
    /// By what rules with a cache tell URLs apart, each such way once.
    pub(crate) fn url_keys(&self) -> &[KeyPlan] {
        self.url_keys.get_or_init(|| {
            let mut keys: Vec<KeyPlan> = Vec::new();
            for CachePlan { key, .. } in self.plan.cache_plans() {
                let own = KeyPlan {
                    host: key.host,
                    query: key.query.clone(),
                    ignore_query: key.ignore_query.clone(),
                    sort_query: key.sort_query,
                    ..KeyPlan::of_urls()
                };
                if !keys.contains(&own) {
                    keys.push(own);
                }
            }
            keys
        })
    }

    /// Generation 0: nothing is configured yet.
    pub fn empty() -> Self {
        let plan = Plan {
            process: plan::ProcessPlan {
                threads: None,
                max_connections: 20_000,
                shutdown_timeout: Duration::from_secs(60),
                client_prefix: ClientPrefix::default(),
                limit_keys: 1_000_000,
                max_tarpits: 1000,
                compressors: 256,
            },
            admin: plan::AdminPlan { socket: None, address: None, token_file: None, state_file: None },
            log: plan::Log { level: plan::LogLevel::Info, format: plan::LogFormat::Text },
            access_log: None,
            events: plan::EventsPlan { path: None, keep: 0 },
            acme: None,
            dns: plan::DnsPlan::default(),
            cache: plan::cache::StorePlan {
                memory: 0,
                disk: None,
                max_object: 0,
                purge_from: crate::networks::Networks::default(),
                purge_nodes: Vec::new(),
            },
            networks: Vec::new(),
            geo: Arc::default(),
            listeners: Vec::new(),
            policies: Vec::new(),
            routes: Vec::new(),
            pools: Vec::new(),
        };
        Self {
            generation: 0,
            edition: 0,
            plan: Arc::new(plan),
            listeners: Vec::new(),
            by_id: Vec::new(),
            parting: Vec::new(),
            pools: Vec::new(),
            routes: Vec::new(),
            retiring: Vec::new(),
            parted_queues: Vec::new(),
            url_keys: OnceLock::new(),
            outliers: Arc::default(),
            next_server: 0,
            next_listener: 0,
        }
    }

    /// The same after so many generations, of a process that this one takes over from.
    pub fn after(generation: u64) -> Self {
        Self { generation, ..Self::empty() }
    }

    /// The same as what operators know as another generation.
    pub fn still(self, generation: u64) -> Self {
        Self { generation, ..self }
    }

    /// The listener with this id, if this snapshot still has it.
    pub fn listener(&self, id: u32) -> Option<&Arc<Listener>> {
        let place = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.listeners[self.by_id[place].1])
    }

    /// A listener that this snapshot has no longer, as it was: who connected to it before the reload may be
    /// about to send a request.
    pub fn parting_listener(&self, id: u32) -> Option<&Arc<Listener>> {
        self.parting.iter().find(|listener| listener.id == id)
    }

    /// In the order of the plan.
    pub fn listeners(&self) -> &[Arc<Listener>] {
        &self.listeners
    }

    /// Of all that listeners have for requests.
    pub fn maintenance(&self) -> impl Iterator<Item = RuleMaintenance<'_>> {
        self.listeners.iter().flat_map(|listener| listener.maintenance())
    }

    /// In the order of the plan.
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// In the order of the plan.
    pub fn routes(&self) -> &[Arc<route::RouteTable>] {
        &self.routes
    }

    pub fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| &*pool.name == name)
    }

    /// Who is to look at servers, and whether some are being tried out.
    pub fn outliers(&self) -> &Arc<OutlierSignals> {
        &self.outliers
    }

    /// The pool that serves what is sent to this one: itself or, while it has nothing usable, the first of its fallbacks that
    /// has something.
    pub fn serving<'a>(&'a self, pool: &'a Arc<Pool>) -> &'a Arc<Pool> {
        let mut next = pool;
        // A way is no longer than there are pools.
        for _ in &self.pools {
            if next.has_usable() {
                return next;
            }
            let Some(fallback) = next.plan.fallback.as_ref().and_then(|name| self.pool(name)) else { break };
            next = fallback;
        }
        if next.has_usable() { next } else { pool }
    }

    /// Servers that are no longer configured but may still have leases out.
    pub fn retiring(&self) -> &[Arc<Server>] {
        &self.retiring
    }

    /// The snapshot that `plan` makes of this one, and what is different.
    ///
    /// Nothing live changes: the result may as well be thrown away, which is what a preview does. Once it
    /// is in force, `Delta::settle` tells the servers.
    pub fn evolve(&self, plan: Plan, now: Instant) -> (Self, Delta) {
        step::evolve(self, plan, now)
    }

    /// The same where one pool has other servers, and nothing else is different: all other pools are those of this
    /// snapshot, and of listeners and routes those that do not lead to it. The work is that of the one pool. `None` if there
    /// is no such pool.
    ///
    /// The delta is about this pool and what leads to it: of all else it says nothing. Listeners that the last
    /// reload has removed are still there for who came by them.
    pub fn evolve_pool(
        &self,
        pool: &str,
        servers: Vec<plan::ServerPlan>,
        now: Instant,
    ) -> Option<(Self, Delta)> {
        let place = self.pools.iter().position(|known| &*known.name == pool)?;
        Some(step::evolve_pool(self, place, servers, now))
    }
}

/// The name of what a listener of `plan` leads to, if it leads anywhere, and whether it is a pool.
fn target(plan: &Plan, entry: plan::TargetPlan) -> Option<(bool, &Name)> {
    match entry {
        plan::TargetPlan::Pool(pool) => Some((true, &plan.pools[pool].name)),
        plan::TargetPlan::Routes(routes) => Some((false, &plan.routes[routes].name)),
        plan::TargetPlan::RedirectToHttps => None,
    }
}

#[cfg(test)]
mod tests;
