//! Opens connections to servers within what the process has files for: where none is left idle ones give way, and whoever
//! needs one waits for it.

use super::{kept, shared};
use crate::control::Live;
use crate::dial::Secured;
use crate::edge::{ConnectionLimit, ConnectionPermit, ServerPermits, Socket, Unreached, reach};
use crate::units::Address;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server that may have only so many connections open, by its id.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerLimit {
    pub(super) server: u32,
    pub(super) most: u32,
}

/// Opens a connection to a server. `proxy_header` goes first. Waiting for a place counts against `within` too.
///
/// # Errors
/// What the kernel or TLS says, or that `within` has passed.
pub(super) async fn dial(
    live: &Live,
    address: &Address,
    within: Duration,
    proxy_header: Option<&[u8]>,
    (limit, secured): (Option<ServerLimit>, Option<Secured>),
) -> Result<Socket, Unreached> {
    let since = Instant::now();
    let left = || within.saturating_sub(since.elapsed());
    let server = match limit {
        None => None,
        Some(limit) => Some(server_place(live, limit, within).await?),
    };
    let limit = &live.server_connections;
    let process = match limit.try_acquire().or_else(|| make_place(limit)) {
        Some(permit) => permit,
        None => tokio::time::timeout(left(), limit.acquire())
            .await
            .map_err(|_| Unreached::OwnResources("connections to servers"))?,
    };
    reach(address, ServerPermits { process, server }, left(), proxy_header, secured).await
}

/// A place among a server's connections. Who has a lease finds one: what is open beyond the leases is idle, on this core or
/// on another, and gives way.
async fn server_place(
    live: &Live,
    limit: ServerLimit,
    within: Duration,
) -> Result<ConnectionPermit, Unreached> {
    let ServerLimit { server, most } = limit;
    let limit = live.server_limits.of(server, most);
    loop {
        if let Some(permit) = limit.try_acquire() {
            return Ok(permit);
        }
        if !kept::evict_of(server) {
            break;
        }
    }
    tokio::time::timeout(within, live.server_limits.acquire(&limit))
        .await
        .map_err(|_| Unreached::OwnResources("max_connections, of which idle ones were not closed"))
}

/// Closes a connection of this core that is idle and takes its place.
fn make_place(limit: &Arc<ConnectionLimit>) -> Option<ConnectionPermit> {
    while kept::evict() || shared::evict() {
        if let Some(permit) = limit.try_acquire() {
            return Some(permit);
        }
    }
    None
}

/// Closes idle connections of this core for whoever waits for a place, on whichever.
pub(super) fn give_way(live: &Live) {
    if live.server_limits.is_waited_for() {
        kept::give_way_to_servers_others();
    }
    for _ in 0..live.server_connections.waiting() {
        if !kept::evict() && !shared::evict() {
            return;
        }
    }
}
