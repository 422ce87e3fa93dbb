//! The place between a pool's decision and a try of a request or a TCP connection: whoever watches it is told whose turn
//! it is, and a queue would have it wait here. Today a pool whose servers are full refuses at once.

use crate::edge::Watched;
use crate::pool::{Attempt, NoServer, Outcome, Pool, Query, RetryReason, Server, Tries};
use crate::select::consistent_hash::hash;
use std::sync::Arc;
use std::time::Instant;

/// What is asked of a pool for a client whose connection or session is balanced as a whole.
pub(super) fn query_of_client(pool: &Pool, client: &str) -> Query {
    Query { key: pool.hash_key().map(|_| hash(client.as_bytes())), entropy: fastrand::u64(..) }
}

/// Leases a server for the first try.
pub(super) async fn begin<'a>(
    tries: &mut Tries,
    attempt: &'a mut Attempt,
    watch: &Watched,
) -> Result<&'a Arc<Server>, NoServer> {
    let server = tries.begin(attempt, Instant::now())?;
    watch.leased_to(server.id());
    Ok(server)
}

/// Leases a server for one try more after one that failed like this; without, what that has brought stands.
pub(super) async fn again<'a>(
    tries: &mut Tries,
    attempt: &'a mut Attempt,
    watch: &Watched,
    reason: RetryReason,
    outcome: &Outcome,
) -> Option<&'a Arc<Server>> {
    let server = tries.again(attempt, reason, outcome, Instant::now())?;
    watch.leased_to(server.id());
    Some(server)
}
