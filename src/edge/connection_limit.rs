//! Counts what is open and holds back what would be too much: connections of the process, of a
//! listener, and of one client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// A limit that can change while it holds, and the number of those inside.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    in_use: AtomicU32,
    limit: AtomicU32,
    left: Notify,
    /// How often someone had to wait.
    waits: AtomicU64,
    /// How many wait now.
    waiting: AtomicU32,
}

impl ConnectionLimit {
    pub(crate) fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self {
            in_use: AtomicU32::new(0),
            limit: AtomicU32::new(limit),
            left: Notify::new(),
            waits: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
        })
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Relaxed);
        self.left.notify_waiters();
    }

    pub(crate) fn in_use(&self) -> u32 {
        self.in_use.load(Relaxed)
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Relaxed)
    }

    /// How many wait now.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Goes in whatever the limit is.
    pub(crate) fn acquire_beyond_limit(self: &Arc<Self>) -> ConnectionPermit {
        self.in_use.fetch_add(1, Relaxed);
        ConnectionPermit(Arc::clone(self))
    }

    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let limit = self.limit.load(Relaxed);
        self.in_use
            .fetch_update(Relaxed, Relaxed, |inside| (inside < limit).then_some(inside + 1))
            .ok()
            .map(|_| ConnectionPermit(Arc::clone(self)))
    }

    /// Waits until there is room.
    pub(crate) async fn acquire(self: &Arc<Self>) -> ConnectionPermit {
        if let Some(permit) = self.try_acquire() {
            return permit;
        }
        self.waits.fetch_add(1, Relaxed);
        self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(self);
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // Registered before looking, so that a leaving between the two is not missed.
            left.as_mut().enable();
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            left.await;
        }
    }
}

/// One that waits, until it is inside or has given up.
struct Waiting<'a>(&'a ConnectionLimit);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// One inside; leaves when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit(Arc<ConnectionLimit>);

impl ConnectionPermit {
    /// How many are inside, this one included.
    pub(crate) fn in_use(&self) -> u32 {
        self.0.in_use()
    }

    /// How many wait to go in.
    pub(crate) fn waiting(&self) -> u32 {
        self.0.waiting()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Relaxed);
        self.0.left.notify_one();
    }
}

/// What a connection to a server holds while it is open, idle or not.
#[derive(Debug)]
pub(crate) struct ServerPermits {
    /// Its place among those of the process.
    pub(crate) process: ConnectionPermit,
    /// Among those of its server, where that has a limit.
    pub(crate) server: Option<ConnectionPermit>,
}

/// The connections of each server that has a limit, over all cores.
#[derive(Debug, Default)]
pub(crate) struct ServerLimits {
    /// By the server's id.
    limits: Mutex<HashMap<u32, Arc<ConnectionLimit>>>,
    /// How many wait for a place, of whichever server.
    waiting: AtomicU32,
}

impl ServerLimits {
    /// A server's connections, of which there may be so many from now on.
    pub(crate) fn of(&self, server: u32, limit: u32) -> Arc<ConnectionLimit> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let known = limits.get(&server).cloned();
        let known = known.unwrap_or_else(|| {
            // Servers come and go; those without connections need no place here.
            limits.retain(|_, limit| Arc::strong_count(limit) > 1);
            let added = ConnectionLimit::new(limit);
            limits.insert(server, Arc::clone(&added));
            added
        });
        if known.limit() != limit {
            known.set_limit(limit);
        }
        known
    }

    /// Waits for a place among them.
    pub(crate) async fn acquire(&self, limit: &Arc<ConnectionLimit>) -> ConnectionPermit {
        self.waiting.fetch_add(1, Relaxed);
        let _waiting = WaitingAtAny(self);
        limit.acquire().await
    }

    /// Whether somebody waits for a place at some server.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }
}

/// One that waits at some server.
struct WaitingAtAny<'a>(&'a ServerLimits);

impl Drop for WaitingAtAny<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// How many connections each client address has open.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<HashMap<IpAddr, u32>>);

impl Clients {
    /// `None` when `ip` has `limit` open already.
    pub(crate) fn acquire(self: &Arc<Self>, ip: IpAddr, limit: u32) -> Option<ClientPermit> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = clients.entry(ip).or_insert(0);
        if *open >= limit {
            return None;
        }
        *open += 1;
        Some(ClientPermit { clients: Arc::clone(self), ip })
    }
}

/// One connection of one client; leaves when dropped.
#[derive(Debug)]
pub(crate) struct ClientPermit {
    clients: Arc<Clients>,
    ip: IpAddr,
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        let mut clients = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut open) = clients.entry(self.ip) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
                if clients.capacity() > 1024 && clients.len() < clients.capacity() / 8 {
                    clients.shrink_to_fit();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_who_waits_goes_in_when_another_leaves() {
        let connection_limit = ConnectionLimit::new(1);
        let first = connection_limit.acquire().await;
        assert!(connection_limit.try_acquire().is_none());
        let waiting = tokio::spawn({
            let connection_limit = Arc::clone(&connection_limit);
            async move { connection_limit.acquire().await }
        });
        while connection_limit.waits() == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        let second = waiting.await.unwrap();
        assert_eq!(connection_limit.in_use(), 1);
        drop(second);
        assert_eq!(connection_limit.in_use(), 0);
    }

    #[tokio::test]
    async fn a_raised_limit_lets_those_who_wait_in() {
        let connection_limit = ConnectionLimit::new(0);
        let waiting = tokio::spawn({
            let connection_limit = Arc::clone(&connection_limit);
            async move { connection_limit.acquire().await }
        });
        while connection_limit.waits() == 0 {
            tokio::task::yield_now().await;
        }
        connection_limit.set_limit(1);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_servers_connections_are_counted_by_its_id_and_forgotten_without_any() {
        let limits = ServerLimits::default();
        let first = limits.of(1, 1).try_acquire().expect("there is room");
        assert!(limits.of(1, 1).try_acquire().is_none() && limits.of(2, 1).try_acquire().is_some());
        let second = limits.of(1, 2).try_acquire().expect("the limit is another one now");
        let limit = limits.of(1, 2);
        let mut waiting = Box::pin(limits.acquire(&limit));
        assert!(futures_util::FutureExt::now_or_never(&mut waiting).is_none());
        assert!(limits.is_waited_for() && first.waiting() == 1);
        drop(first);
        drop((waiting.await, second));
        drop(limit);
        assert!(!limits.is_waited_for());
        let _ = limits.of(3, 1);
        assert_eq!(limits.limits.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_client_is_counted_by_address_and_forgotten_at_zero() {
        let clients = Arc::new(Clients::default());
        let [a, b]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let first = clients.acquire(a, 1).unwrap();
        assert!(clients.acquire(a, 1).is_none());
        assert!(clients.acquire(b, 1).is_some());
        drop(first);
        assert!(clients.0.lock().unwrap().is_empty());
    }
}
