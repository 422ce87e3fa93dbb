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
pub(crate) struct Gate {
    inside: AtomicU32,
    limit: AtomicU32,
    left: Notify,
    /// How often someone had to wait.
    waits: AtomicU64,
    /// How many wait now.
    waiting: AtomicU32,
}

impl Gate {
    pub(crate) fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self {
            inside: AtomicU32::new(0),
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

    pub(crate) fn inside(&self) -> u32 {
        self.inside.load(Relaxed)
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
    pub(crate) fn force(self: &Arc<Self>) -> Pass {
        self.inside.fetch_add(1, Relaxed);
        Pass(Arc::clone(self))
    }

    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<Pass> {
        let limit = self.limit.load(Relaxed);
        self.inside
            .fetch_update(Relaxed, Relaxed, |inside| (inside < limit).then_some(inside + 1))
            .ok()
            .map(|_| Pass(Arc::clone(self)))
    }

    /// Waits until there is room.
    pub(crate) async fn enter(self: &Arc<Self>) -> Pass {
        if let Some(pass) = self.try_enter() {
            return pass;
        }
        self.waits.fetch_add(1, Relaxed);
        self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(self);
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // Registered before looking, so that a leaving between the two is not missed.
            left.as_mut().enable();
            if let Some(pass) = self.try_enter() {
                return pass;
            }
            left.await;
        }
    }
}

/// One that waits, until it is inside or has given up.
struct Waiting<'a>(&'a Gate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// One inside; leaves when dropped.
#[derive(Debug)]
pub(crate) struct Pass(Arc<Gate>);

impl Pass {
    /// Whether somebody waits to go in.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.0.waiting() > 0
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Relaxed);
        self.0.left.notify_one();
    }
}

/// How many connections each client address has open.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<HashMap<IpAddr, u32>>);

impl Clients {
    /// `None` when `ip` has `limit` open already.
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr, limit: u32) -> Option<ClientPass> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = clients.entry(ip).or_insert(0);
        if *open >= limit {
            return None;
        }
        *open += 1;
        Some(ClientPass { clients: Arc::clone(self), ip })
    }
}

/// One connection of one client; leaves when dropped.
#[derive(Debug)]
pub(crate) struct ClientPass {
    clients: Arc<Clients>,
    ip: IpAddr,
}

impl Drop for ClientPass {
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
        let gate = Gate::new(1);
        let first = gate.enter().await;
        assert!(gate.try_enter().is_none());
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter().await }
        });
        while gate.waits() == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        let second = waiting.await.unwrap();
        assert_eq!(gate.inside(), 1);
        drop(second);
        assert_eq!(gate.inside(), 0);
    }

    #[tokio::test]
    async fn a_raised_limit_lets_those_who_wait_in() {
        let gate = Gate::new(0);
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter().await }
        });
        while gate.waits() == 0 {
            tokio::task::yield_now().await;
        }
        gate.set_limit(1);
        waiting.await.unwrap();
    }

    #[test]
    fn a_client_is_counted_by_address_and_forgotten_at_zero() {
        let clients = Arc::new(Clients::default());
        let [a, b]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let first = clients.enter(a, 1).unwrap();
        assert!(clients.enter(a, 1).is_none());
        assert!(clients.enter(b, 1).is_some());
        drop(first);
        assert!(clients.0.lock().unwrap().is_empty());
    }
}
