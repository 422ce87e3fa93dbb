//! A server as a source names it, before the configuration adds what all of a source's servers have.

use crate::config::plan::{Name, PoolPlan, ServerPlan, ServerTemplate};
use crate::units::{Address, Weight};
use std::collections::HashSet;
use std::num::NonZeroU32;

/// One server of a source's full set. Its name is its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundServer {
    pub name: Name,
    pub address: Address,
    /// What the source says itself; `None` is as the configuration has it.
    pub weight: Option<Weight>,
    pub max_connections: Option<NonZeroU32>,
    pub drain: bool,
    pub backup: bool,
    /// The host name that led to it.
    pub host: Option<Name>,
}

impl From<ServerPlan> for FoundServer {
    /// One of a list that says all of it.
    fn from(server: ServerPlan) -> Self {
        let ServerPlan { name, address, weight, max_connections, drain, backup, host } = server;
        Self { name, address, weight: Some(weight), max_connections, drain, backup, host }
    }
}

impl FoundServer {
    /// A server of which no more is known than where it is.
    pub fn new(name: Name, address: Address) -> Self {
        Self { name, address, weight: None, max_connections: None, drain: false, backup: false, host: None }
    }

    /// As a pool has it.
    pub fn plan(&self, template: &ServerTemplate) -> ServerPlan {
        ServerPlan {
            name: self.name.clone(),
            address: self.address.clone(),
            weight: self.weight.unwrap_or(template.weight),
            max_connections: self.max_connections.or(template.max_connections),
            drain: self.drain || template.drain,
            backup: self.backup || template.backup,
            host: self.host.clone(),
        }
    }
}

/// Adds what each of a pool's sources has named. A name that is taken stays whose it was.
pub fn fill(pool: &mut PoolPlan, sets: &[Vec<FoundServer>]) {
    let mut taken: HashSet<Name> = pool.servers.iter().map(|server| server.name.clone()).collect();
    for (source, set) in pool.sources.iter().zip(sets) {
        let new = set.iter().filter(|found| taken.insert(found.name.clone()));
        pool.servers.extend(new.map(|found| found.plan(&source.template)));
    }
}
