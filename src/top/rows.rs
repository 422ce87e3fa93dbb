//! Which rows there are, in which order.

use super::columns::{Column, SortOrder};
use crate::api::status::{PoolStatus, ServerStatus, SourceStatus, Status};
use time::OffsetDateTime;

/// A pool, with its servers and their sources below; a server; or a source.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row<'a> {
    Pool(&'a PoolStatus),
    Server(&'a PoolStatus, &'a ServerStatus),
    Source(&'a SourceStatus),
}

impl Row<'_> {
    /// Pool and name of a server.
    pub(super) fn target(&self) -> Option<(String, String)> {
        match self {
            Self::Pool(_) | Self::Source(_) => None,
            Self::Server(pool, server) => Some((pool.name.clone(), server.name.clone())),
        }
    }

    pub(super) fn cell(&self, column: Column, now: OffsetDateTime) -> String {
        match self {
            Self::Pool(pool) => column.of_pool(pool),
            Self::Server(_, server) => column.of_server(server, now),
            Self::Source(source) => column.of_source(source),
        }
    }
}

/// In the file's order each pool stands above its servers. In any other there are servers alone, of all pools.
pub(super) fn rows<'a>(status: &'a Status, order: SortOrder, filter: &str) -> Vec<Row<'a>> {
    let filter = filter.to_lowercase();
    let mut rows = Vec::new();
    for pool in &status.pools {
        let shown = pool.servers.iter().filter(|server| fits(pool, server, &filter));
        let servers: Vec<_> = shown.map(|server| Row::Server(pool, server)).collect();
        if order == SortOrder::File && (filter.is_empty() || !servers.is_empty()) {
            rows.push(Row::Pool(pool));
        }
        rows.extend(servers);
        if order == SortOrder::File && filter.is_empty() {
            rows.extend(pool.sources.iter().map(Row::Source));
        }
    }
    rows.sort_by(|one, other| match (one, other) {
        (Row::Server(pool, server), Row::Server(other_pool, other)) => {
            order.compare((pool, server), (other_pool, other))
        }
        // Only in the file's order, which is theirs already.
        _ => std::cmp::Ordering::Equal,
    });
    rows
}

/// The servers among them.
pub(super) fn servers(status: &Status, order: SortOrder, filter: &str) -> Vec<(String, String)> {
    rows(status, order, filter).iter().filter_map(Row::target).collect()
}

/// By name, address or state.
fn fits(pool: &PoolStatus, server: &ServerStatus, filter: &str) -> bool {
    let name = format!("{}/{}", pool.name, server.name).to_lowercase();
    let has_state = [server.state, server.health].iter().any(|state| state.word().starts_with(filter));
    name.contains(filter) || server.address.to_lowercase().contains(filter) || has_state
}
