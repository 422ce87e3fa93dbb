//! What operators have said of servers and routes, beside what the configuration says; and whether a pool can do without a
//! server.

mod maintenance;

pub use maintenance::RouteOverride;

use crate::api::status::{OperatorOverride, ReportedState};
use crate::config::plan::{self, Name, Plan, WhenAllUnhealthy};
use crate::pool::{HealthState, Membership, Operator, Pool, Server};
use crate::sticky::Secret;
use crate::units::Weight;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Pool and name. Another address under the name is another server to probes and counts, but the operator's word is about
/// the name.
type OverrideKey = (String, String);

/// What operators have said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    servers: BTreeMap<OverrideKey, ServerOverride>,
    /// By the name of a section of routes, or of one rule.
    routes: BTreeMap<String, RouteOverride>,
}

/// What operators have said of one server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerOverride {
    /// `drain` or `maint`; none is ready.
    pub state: Option<OperatorOverride>,
    pub weight: Option<Weight>,
    /// Since when the pool's sources do not name it.
    absent_since: Option<OffsetDateTime>,
}

/// How long what was said of a server is remembered that no source names any more: a name that is gone for an hour must
/// not bring back a server that is in maintenance.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

impl ServerOverride {
    /// Since when nobody names the server that it is about, if nobody does.
    pub fn absent_since(&self) -> Option<OffsetDateTime> {
        self.absent_since
    }

    fn says_nothing(&self) -> bool {
        self.state.is_none() && self.weight.is_none()
    }

    /// Takes note of whether the server is there; false once it has not been for too long.
    fn is_remembered(&mut self, is_there: bool, now: OffsetDateTime) -> bool {
        if is_there {
            self.absent_since = None;
            return true;
        }
        now - *self.absent_since.get_or_insert(now) < REMEMBERED
    }
}

/// One server's line in the state file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OverrideLine {
    pool: String,
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<OperatorOverride>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    absent_since: Option<OffsetDateTime>,
}

/// What the state file holds.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    servers: Vec<OverrideLine>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    routes: BTreeMap<String, RouteOverride>,
    /// Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sticky_key: Option<String>,
}

/// The only format so far. (Files of earlier programs have addresses as well, which say nothing.)
const VERSION: u32 = 1;

impl Overrides {
    pub fn of(&self, server: &Server) -> Option<&ServerOverride> {
        self.servers.get(&identity(server))
    }

    /// The state that operators want of a server.
    pub fn operator(&self, server: &Server) -> Operator {
        match self.of(server).and_then(|word| word.state.as_ref()).map(|said| said.state) {
            Some(ReportedState::Drain) => Operator::Drain,
            Some(ReportedState::Maint) => Operator::Maint,
            _ => Operator::Ready,
        }
    }

    pub fn set_operator(&mut self, server: &Server, operator: Operator, actor: &str, at: OffsetDateTime) {
        let said = |state| Some(OperatorOverride { state, actor: actor.to_owned(), at });
        let state = match operator {
            Operator::Ready => None,
            Operator::Drain => said(ReportedState::Drain),
            Operator::Maint => said(ReportedState::Maint),
        };
        self.change(server, |word| word.state = state);
    }

    /// `None` gives the weight back to the configuration.
    pub fn set_weight(&mut self, server: &Server, weight: Option<Weight>) {
        self.change(server, |word| word.weight = weight);
    }

    /// What is said of servers of a pool that are not among those that `is_there` knows.
    pub fn of_absent(&self, pool: &str, is_there: impl Fn(&str) -> bool) -> Vec<(&str, &ServerOverride)> {
        let absent = self.of_pool(pool).filter(|(server, _)| !is_there(server));
        absent.collect()
    }

    /// By the servers' names.
    fn of_pool(&self, pool: &str) -> impl Iterator<Item = (&str, &ServerOverride)> {
        let of_pool = self.servers.range((pool.to_owned(), String::new())..);
        let of_pool = of_pool.take_while(move |((name, _), _)| *name == pool);
        of_pool.map(|((_, server), word)| (&**server, word))
    }

    /// Forgets one thing that was said of a server, which need not be there. `None` if it was not said.
    pub fn take_back<T>(
        &mut self,
        pool: &str,
        server: &str,
        what: impl FnOnce(&mut ServerOverride) -> Option<T>,
    ) -> Option<T> {
        let identity = (pool.to_owned(), server.to_owned());
        let word = self.servers.get_mut(&identity)?;
        let said = what(word);
        if word.says_nothing() {
            self.servers.remove(&identity);
        }
        said
    }

    fn change(&mut self, server: &Server, change: impl FnOnce(&mut ServerOverride)) {
        let identity = identity(server);
        let word = self.servers.entry(identity.clone()).or_default();
        change(word);
        if word.says_nothing() {
            self.servers.remove(&identity);
        }
    }

    /// Puts what operators have said in the place of what the plan says.
    pub fn apply_to(&self, plan: &mut Plan) {
        self.maintain(plan);
        for pool in &mut plan.pools {
            let weights = self.weights_in(&pool.name);
            let of = |server: &plan::ServerPlan| weights.get(&*server.name).copied().unwrap_or(server.weight);
            if pool.servers.iter().any(|server| server.weight != of(server)) {
                self.weigh_pool(Arc::make_mut(pool));
            }
        }
    }

    /// The same in one pool.
    pub fn weigh_pool(&self, pool: &mut plan::PoolPlan) {
        let weights = self.weights_in(&pool.name);
        for server in &mut pool.servers {
            server.weight = weights.get(&*server.name).copied().unwrap_or(server.weight);
        }
    }

    /// By the servers' names.
    fn weights_in(&self, pool: &str) -> HashMap<&str, Weight> {
        self.of_pool(pool).filter_map(|(server, word)| Some((server, word.weight?))).collect()
    }

    /// What is left of it with this plan, and what goes with its servers. Servers that sources may name again are
    /// remembered for a while.
    pub fn kept_by(&self, plan: &Plan, now: OffsetDateTime) -> (Self, Self) {
        let pools: HashMap<&str, &plan::PoolPlan> =
            plan.pools.iter().map(|pool| (&*pool.name, &**pool)).collect();
        let (mut kept, mut gone) = (Self::default(), Self::default());
        for (identity, word) in &self.servers {
            let (pool, server) = identity;
            let mut word = word.clone();
            let is_kept = pools.get(&**pool).is_some_and(|pool| {
                let is_there = pool.servers.iter().any(|planned| *planned.name == **server);
                let may_return = !pool.sources.is_empty();
                (is_there || may_return) && word.is_remembered(is_there, now)
            });
            let into = if is_kept { &mut kept } else { &mut gone };
            into.servers.insert(identity.clone(), word);
        }
        for (name, word) in &self.routes {
            let into = if maintenance::has_route(plan, name) { &mut kept } else { &mut gone };
            into.routes.insert(name.clone(), word.clone());
        }
        (kept, gone)
    }

    /// The same of one pool whose servers have changed; `None` if nothing is said of any.
    pub fn noting_presence(&self, pool: &plan::PoolPlan, now: OffsetDateTime) -> Option<Self> {
        let own: Vec<&OverrideKey> = self.servers.keys().filter(|(name, _)| **name == *pool.name).collect();
        if own.is_empty() {
            return None;
        }
        let there: HashSet<&str> = pool.servers.iter().map(|server| &*server.name).collect();
        let mut noted = self.clone();
        noted.servers.retain(|(name, server), word| {
            **name != *pool.name || word.is_remembered(there.contains(&**server), now)
        });
        (noted != *self).then_some(noted)
    }

    /// The servers that it is about, as `pool/server`, and the routes.
    pub fn names(&self) -> Vec<String> {
        let servers = self.servers.keys().map(|(pool, server)| format!("{pool}/{server}"));
        servers.chain(self.routes.keys().map(|name| format!("route {name}"))).collect()
    }

    /// These, and of servers and routes that they say nothing of what `others` say.
    pub fn or(&self, others: &Self) -> Self {
        let mut all = others.clone();
        all.servers.extend(self.servers.clone());
        all.routes.extend(self.routes.clone());
        all
    }

    /// As the state file has it, with the key beside.
    pub fn to_json(&self, sticky_key: Option<&Secret>) -> String {
        let line = |((pool, server), word): (&OverrideKey, &ServerOverride)| OverrideLine {
            pool: pool.clone(),
            server: server.clone(),
            said: word.state.clone(),
            weight: word.weight.map(Weight::get),
            absent_since: word.absent_since,
        };
        let servers = self.servers.iter().map(line).collect();
        let sticky_key = sticky_key.map(|key| key.text().to_owned());
        let file = File { version: VERSION, servers, routes: self.routes.clone(), sticky_key };
        serde_json::to_string_pretty(&file).map(|text| text + "\n").unwrap_or_default()
    }

    fn of_lines(lines: Vec<OverrideLine>, routes: BTreeMap<String, RouteOverride>) -> Result<Self, String> {
        let mut servers = BTreeMap::new();
        for line in lines {
            let weight = match line.weight {
                None => None,
                Some(weight) => Some(Weight::new(weight.into()).ok_or_else(|| {
                    format!("{}/{}: weight {weight} is out of range", line.pool, line.server)
                })?),
            };
            let word = ServerOverride { state: line.said, weight, absent_since: line.absent_since };
            if !word.says_nothing() {
                servers.insert((line.pool, line.server), word);
            }
        }
        Ok(Self { servers, routes })
    }
}

/// What a process leaves in its state file.
#[derive(Debug, Default)]
pub struct KeptState {
    pub overrides: Overrides,
    /// What sticky cookies are signed by.
    pub sticky_key: Option<Secret>,
}

impl KeptState {
    /// Reads a state file.
    ///
    /// # Errors
    /// What is wrong with it; a damaged file is nobody's word.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if file.version != VERSION {
            return Err(format!("it has version {}, and this program reads version {VERSION}", file.version));
        }
        let key = |text: &String| Secret::new(text).ok_or("sticky_key is no key");
        let sticky_key = file.sticky_key.as_ref().map(key).transpose()?;
        Ok(Self { overrides: Overrides::of_lines(file.servers, file.routes)?, sticky_key })
    }
}

fn identity(server: &Server) -> OverrideKey {
    (server.pool().to_string(), server.name().to_string())
}

/// Why a pool cannot do without a server now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotSpare {
    #[error("{server} is the last server of pool {pool} that takes requests; nothing would be left")]
    Last { pool: Name, server: Name },
    #[error("{server} is the last healthy server of pool {pool}; without it the pool would {then}")]
    LastHealthy { pool: Name, server: Name, then: &'static str },
    #[error(
        "pool {pool} has {in_flight} in flight now, and without {server} there is room for {room} by max_connections \
         (healthy servers left: {servers})"
    )]
    TooLittleRoom { pool: Name, server: Name, in_flight: u64, servers: usize, room: u64 },
}

/// Whether the rest of a pool can carry what the pool carries now.
pub fn can_spare(pool: &Pool, server: &Server) -> Result<(), CannotSpare> {
    let is_ready = |member: &crate::pool::Member| {
        let state = member.server.state();
        !member.drain && state.admin == Operator::Ready && state.membership == Membership::Present
    };
    let is_healthy = |member: &crate::pool::Member| {
        member.server.state().health == HealthState::Up && !member.server.is_ejected()
    };
    let others =
        || pool.members.iter().filter(|member| member.server.id() != server.id() && is_ready(member));
    let Some(own) = pool.members.iter().find(|member| member.server.id() == server.id()) else {
        return Ok(());
    };
    let (name, pool_name) = (server.name().clone(), pool.name.clone());
    if !is_ready(own) {
        return Ok(());
    }
    if others().next().is_none() {
        return Err(CannotSpare::Last { pool: pool_name, server: name });
    }
    if !is_healthy(own) {
        return Ok(());
    }
    let healthy: Vec<_> = others().filter(|member| is_healthy(member)).collect();
    if healthy.is_empty() {
        let then = match pool.plan.when_all_unhealthy {
            WhenAllUnhealthy::UseAll => "send requests to unhealthy ones (when_all_unhealthy: use_all)",
            WhenAllUnhealthy::Refuse => "answer 503 (when_all_unhealthy: refuse)",
        };
        return Err(CannotSpare::LastHealthy { pool: pool_name, server: name, then });
    }
    let in_flight = pool.members.iter().map(|member| u64::from(member.server.in_flight())).sum();
    let room: Option<u64> =
        healthy.iter().map(|member| member.max_connections.map(|most| u64::from(most.get()))).sum();
    match room {
        Some(room) if in_flight > room => {
            let servers = healthy.len();
            Err(CannotSpare::TooLittleRoom { pool: pool_name, server: name, in_flight, servers, room })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
