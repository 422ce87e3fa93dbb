//! By which servers clients were served of late: whoever fails one meanwhile is alone in that. A word for each that is remembered, changed without a lock where a try ends; the next one with the same place in the table takes its word.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// So many are remembered, of all pools together.
const PLACES: usize = 1024;

/// A client of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PoolClient(u32);

/// The last two servers that have served each. In a word: the client in the upper half, and a server in each quarter of the lower.
#[derive(Debug)]
pub(super) struct ServedClients(Box<[AtomicU64]>);

/// Of a server's number so much as is remembered; 0 is none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark(u16);

impl Mark {
    const NONE: Self = Self(0);

    fn of(server: u32) -> Self {
        Self((server % u32::from(u16::MAX)) as u16 + 1)
    }
}

impl PoolClient {
    /// `client` is that of a request's source, `pool` tells pools apart.
    pub(super) fn new(client: u32, pool: u32) -> Self {
        Self((client ^ pool).max(1))
    }

    fn word(self, newer: Mark, older: Mark) -> u64 {
        u64::from(self.0) << 32 | u64::from(newer.0) << 16 | u64::from(older.0)
    }

    /// Those that have served it, by the word at its place.
    fn served_by(self, word: u64) -> [Mark; 2] {
        match (word >> 32) as u32 == self.0 {
            true => [Mark((word >> 16) as u16), Mark(word as u16)],
            false => [Mark::NONE; 2],
        }
    }
}

impl Default for ServedClients {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl ServedClients {
    /// This server has served one.
    pub(super) fn served(&self, client: PoolClient, server: u32) {
        let (place, mark) = (self.place(client), Mark::of(server));
        let [newer, older] = client.served_by(place.load(Relaxed));
        if ![newer, older].contains(&mark) {
            place.store(client.word(mark, newer), Relaxed);
        }
    }

    /// This server has failed one. Whether another has served it since one did so last: each that serves speaks against one failure.
    pub(super) fn failed(&self, client: PoolClient, server: u32) -> bool {
        let place = self.place(client);
        let served_by = client.served_by(place.load(Relaxed));
        if served_by != [Mark::NONE; 2] {
            place.store(0, Relaxed);
        }
        served_by.iter().any(|mark| ![Mark::NONE, Mark::of(server)].contains(mark))
    }

    fn place(&self, PoolClient(client): PoolClient) -> &AtomicU64 {
        &self.0[client as usize % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_serves_speaks_against_one_failure_of_another() {
        let (clients, client) = (ServedClients::default(), PoolClient::new(7, 1));
        assert!(!clients.failed(client, 1), "nobody has served it");
        clients.served(client, 1);
        assert!(!clients.failed(client, 1), "nobody else has");
        clients.served(client, 2);
        clients.served(client, 1);
        assert!(clients.failed(client, 1) && !clients.failed(client, 1));
    }

    #[test]
    fn what_other_clients_and_other_pools_have_says_nothing() {
        let clients = ServedClients::default();
        for other in [PoolClient::new(8, 1), PoolClient::new(7, 2), PoolClient::new(7 + PLACES as u32, 1)] {
            clients.served(other, 2);
            assert!(!clients.failed(PoolClient::new(7, 1), 1), "{other:?}");
        }
    }
}
