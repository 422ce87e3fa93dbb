//! What one snapshot has that the last one had not, and the other way round: the receipt of a reload,
//! and the list of what its followers have to do.

use crate::config::plan::{self, Name};
use crate::pool::queue::Clock;
use crate::pool::{Pool, Queue, Server};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Things of one kind, by what became of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes<T> {
    pub added: Vec<T>,
    pub removed: Vec<T>,
    /// There before, with other settings.
    pub changed: Vec<T>,
    pub kept: Vec<T>,
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self { added: Vec::new(), removed: Vec::new(), changed: Vec::new(), kept: Vec::new() }
    }
}

impl<T> Changes<T> {
    /// Whether everything is as it was.
    pub fn none(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// A probe to run against one server until told to stop.
#[derive(Clone, Debug)]
pub struct ProbeTask {
    pub server: Arc<Server>,
    pub health: plan::HealthPlan,
    /// How long requests may run on when this probe finds the server down.
    pub drain_timeout: Duration,
    /// The probe's connection begins like all of the pool's.
    pub proxy_protocol: Option<plan::ProxyVersion>,
    /// The `http` probe asks by HTTP/2.
    pub is_h2: bool,
}

impl ProbeTask {
    /// The probe of one of a pool's servers, if the pool has probes.
    pub fn new(server: &Arc<Server>, pool: &plan::PoolPlan) -> Option<Self> {
        let health = pool.health.clone()?;
        Some(Self {
            server: Arc::clone(server),
            health,
            drain_timeout: pool.drain_timeout,
            proxy_protocol: pool.proxy_protocol,
            is_h2: pool.is_probed_by_h2(),
        })
    }
}

/// The difference between two snapshots.
#[derive(Debug, Default)]
pub struct Delta {
    pub listeners: Changes<Name>,
    pub pools: Changes<Name>,
    pub routes: Changes<Name>,
    /// A server at another address is another server: one removed, one added.
    pub servers: Changes<Arc<Server>>,
    /// Probes whose servers' ids are in `probes_stopped` too are to be stopped first: they have changed.
    pub probes_started: Vec<ProbeTask>,
    pub probes_stopped: Vec<u32>,
    pub(super) leaving: Vec<(Arc<Server>, Duration)>,
    /// Servers that are to stand by, or no longer.
    pub(super) backups: Vec<(Arc<Server>, bool)>,
    /// Servers that are new in pools that had others before.
    pub(super) joined: Vec<Arc<Server>>,
    /// Servers that another host name leads to, or none.
    pub(super) hosts: Vec<(Arc<Server>, Option<Name>)>,
    pub(super) rejoining: Vec<Arc<Server>>,
    pub(super) recounted: Vec<Arc<Server>>,
    pub(super) unprobed: Vec<Arc<Server>>,
    /// Pools that are there now, and queues whose pools are not.
    pub(super) rebuilt: Vec<Arc<Pool>>,
    pub(super) closed: Vec<Arc<Queue>>,
}

impl Delta {
    /// Servers that the next snapshot does not have, with how long what is in flight there may run on.
    pub fn leaving(&self) -> &[(Arc<Server>, Duration)] {
        &self.leaving
    }

    /// Servers whose probe is another one: their results so far no longer count, their state stays.
    pub fn recounted(&self) -> &[Arc<Server>] {
        &self.recounted
    }

    /// Servers that are probed no longer and so taken to be up.
    pub fn unprobed(&self) -> &[Arc<Server>] {
        &self.unprobed
    }

    /// Tells the servers, once the new snapshot is in force; and those that wait, by this clock from now on.
    pub fn settle(&self, now: Instant, clock: Clock) {
        for server in &self.rejoining {
            server.rejoin();
        }
        for (server, is_backup) in &self.backups {
            server.set_backup(*is_backup);
        }
        for (server, host) in &self.hosts {
            server.set_host(host.clone());
        }
        for server in &self.recounted {
            server.reset_counts();
        }
        for server in &self.unprobed {
            server.assume_up(now);
        }
        for server in &self.joined {
            server.join(now);
        }
        for member in self.rebuilt.iter().flat_map(|pool| &pool.members) {
            member.server.set_max_connections(member.max_connections);
        }
        for pool in &self.rebuilt {
            pool.queue.serve_by(pool, clock);
        }
        // Nobody who waits asks for these any more.
        for (server, drain_timeout) in &self.leaving {
            server.leave(now + *drain_timeout);
        }
        for queue in &self.closed {
            queue.close();
        }
    }
}
