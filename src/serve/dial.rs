//! Opens connections to servers within what the process has files for: where none is left idle ones give way, and whoever
//! needs one waits for it.

use super::{kept, shared};
use crate::control::Live;
use crate::dial::Secured;
use crate::edge::{ConnectionLimit, ConnectionPermit, Socket, Unreached, reach};
use crate::units::Address;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Opens a connection to a server. `proxy_header` goes first. Waiting for a place counts against `within` too.
///
/// # Errors
/// What the kernel or TLS says, or that `within` has passed.
pub(super) async fn dial(
    live: &Live,
    address: &Address,
    within: Duration,
    proxy_header: Option<&[u8]>,
    secured: Option<Secured>,
) -> Result<Socket, Unreached> {
    let limit = &live.server_connections;
    let Some(permit) = limit.try_acquire().or_else(|| make_place(limit)) else {
        let since = Instant::now();
        let permit = tokio::time::timeout(within, limit.acquire()).await;
        let permit = permit.map_err(|_| Unreached::OwnResources("connections to servers"))?;
        let left = within.saturating_sub(since.elapsed());
        return reach(address, permit, left, proxy_header, secured).await;
    };
    reach(address, permit, within, proxy_header, secured).await
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
pub(super) fn give_way(limit: &ConnectionLimit) {
    for _ in 0..limit.waiting() {
        if !kept::evict() && !shared::evict() {
            return;
        }
    }
}
