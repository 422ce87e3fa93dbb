//! Connections to servers that wait for their next request. Each core keeps its own, so there is nothing to
//! lock and the newest, whose state is still in the cache, is used first.

use crate::control::Live;
use crate::edge::{Socket, last_tick};
use crate::pool::Server;
use foldhash::fast::FixedState;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How many one core keeps, over all servers.
const MOST: usize = 4096;
/// How often what is too old is looked for.
const SWEEP: Duration = Duration::from_secs(1);

thread_local! {
    static KEPT: RefCell<Kept<Socket, Weak<Server>>> = RefCell::new(Kept::default());
}

/// What connections must have in common to be used for one another: the server, and how they are secured (0 is not).
pub(super) type ConnectionKey = (u32, u32);

/// A connection like this that can be used again, if there is one.
pub(super) fn take(key: ConnectionKey) -> Option<Socket> {
    KEPT.with_borrow_mut(|kept| kept.take(key, Instant::now(), Socket::is_quiet))
}

/// Closes the connection that would have been kept the shortest; whether there was one.
pub(super) fn evict() -> bool {
    KEPT.with_borrow_mut(Kept::evict)
}

/// Closes the oldest connection to this server, however it is secured; whether there was one.
pub(super) fn evict_of(server: u32) -> bool {
    KEPT.with_borrow_mut(|kept| kept.evict_where(|key| key.0 == server))
}

/// Closes as many connections to each server as others wait to open there.
pub(super) fn give_way_to_servers_others() {
    KEPT.with_borrow_mut(|kept| kept.give_way(Socket::waited_for));
}

/// Keeps a connection for as long as `within`, unless somebody waits for its place or its server has none for it.
pub(super) fn put(key: ConnectionKey, server: &Arc<Server>, socket: Socket, within: Duration) {
    if socket.is_waited_for() || !may_rest(server, &socket) {
        return;
    }
    KEPT.with_borrow_mut(|kept| kept.put(key, socket, last_tick() + within, || Arc::downgrade(server)));
}

fn may_rest(server: &Server, socket: &Socket) -> bool {
    server.has_room_for_idle(socket.open_at_server())
}

/// Closes what is too old, what its server has closed, and what its server has no place for any more: that at once. Cheap to
/// call often.
pub(super) fn sweep(live: &Live) {
    let review = live.idle_review();
    KEPT.with_borrow_mut(|kept| {
        let now = Instant::now();
        if now >= kept.next_sweep || review != kept.reviewed {
            kept.is_closed = live.is_draining();
            kept.sweep(now, Socket::is_quiet, |server, socket| {
                server.upgrade().is_some_and(|server| may_rest(&server, socket))
            });
            kept.next_sweep = now + SWEEP;
            kept.reviewed = review;
        }
    });
}

/// The connections of one core, by server. Generic so that it can be tested without sockets and servers.
#[derive(Debug)]
struct Kept<S, W> {
    idle: HashMap<ConnectionKey, Idle<S, W>, FixedState>,
    count: usize,
    next_sweep: Instant,
    /// What had changed for them when they were last looked through.
    reviewed: u64,
    /// The process ends: nothing is kept any more.
    is_closed: bool,
}

/// Connections that can be used for one another, and whose they are.
#[derive(Debug)]
struct Idle<S, W> {
    server: W,
    /// The newest last.
    sockets: Vec<(S, Instant)>,
}

impl<S, W> Default for Kept<S, W> {
    fn default() -> Self {
        let next_sweep = Instant::now();
        Self { idle: HashMap::default(), count: 0, next_sweep, reviewed: 0, is_closed: false }
    }
}

impl<S, W> Kept<S, W> {
    fn take(&mut self, key: ConnectionKey, now: Instant, is_quiet: impl Fn(&mut S) -> bool) -> Option<S> {
        let idle = &mut self.idle.get_mut(&key)?.sockets;
        while let Some((mut socket, until)) = idle.pop() {
            self.count -= 1;
            if now < until && is_quiet(&mut socket) {
                return Some(socket);
            }
        }
        None
    }

    fn put(&mut self, key: ConnectionKey, socket: S, until: Instant, server: impl FnOnce() -> W) {
        if self.count < MOST && !self.is_closed {
            self.count += 1;
            let idle = self.idle.entry(key);
            let idle = idle.or_insert_with(|| Idle { server: server(), sockets: Vec::new() });
            idle.sockets.push((socket, until));
        }
    }

    fn evict(&mut self) -> bool {
        self.evict_where(|_| true)
    }

    fn evict_where(&mut self, fits: impl Fn(&ConnectionKey) -> bool) -> bool {
        let first = |idle: &Idle<S, W>| idle.sockets.first().map(|(_, until)| *until);
        let oldest = self.idle.iter_mut().filter(|(key, idle)| !idle.sockets.is_empty() && fits(key));
        let Some((_, idle)) = oldest.min_by_key(|(_, idle)| first(idle)) else { return false };
        idle.sockets.remove(0);
        self.count -= 1;
        true
    }

    fn give_way(&mut self, waited_for: impl Fn(&S) -> u32) {
        for Idle { sockets: idle, .. } in self.idle.values_mut() {
            let wanted = idle.first().map_or(0, |(socket, _)| waited_for(socket)) as usize;
            let n = wanted.min(idle.len());
            idle.drain(..n);
            self.count -= n;
        }
    }

    /// `may_rest` is asked of one after the other, the oldest first: each that goes makes room.
    fn sweep(&mut self, now: Instant, is_quiet: impl Fn(&mut S) -> bool, may_rest: impl Fn(&W, &S) -> bool) {
        let is_closed = self.is_closed;
        self.idle.retain(|_, Idle { server, sockets: idle }| {
            idle.retain_mut(|(socket, until)| {
                !is_closed && now < *until && is_quiet(socket) && may_rest(server, socket)
            });
            if idle.capacity() > 4 * idle.len().max(4) {
                idle.shrink_to(2 * idle.len());
            }
            !idle.is_empty()
        });
        self.count = self.idle.values().map(|idle| idle.sockets.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_connection_that_still_stands_is_used() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut kept = Kept::default();
        for (socket, until) in [("old", now), ("good", later), ("closed", later)] {
            kept.put((1, 0), socket, until, || ());
        }
        let stands = |socket: &mut &str| *socket != "closed";
        assert_eq!(kept.take((2, 0), now, stands), None);
        assert_eq!(kept.take((1, 1), now, stands), None, "it is not secured like that");
        assert_eq!(kept.take((1, 0), now, stands), Some("good"));
        assert_eq!((kept.take((1, 0), now, stands), kept.count), (None, 0));
    }

    #[test]
    fn what_is_old_or_closed_is_swept_out() {
        let now = Instant::now();
        let mut kept = Kept::default();
        for n in 0..10 {
            kept.put((n % 2, 0), n, now + Duration::from_secs(n.into()), || ());
        }
        kept.sweep(now + Duration::from_secs(4), |n| *n % 2 == 0, |_, _| true);
        assert_eq!((kept.idle.keys().copied().collect::<Vec<_>>(), kept.count), (vec![(0, 0)], 2));
    }

    #[test]
    fn what_its_server_has_no_place_for_is_closed_the_oldest_first() {
        let now = Instant::now();
        let mut kept = Kept::default();
        let open = std::rc::Rc::new(());
        for (server, most) in [(1, 2), (2, 0), (3, 9)] {
            for n in 0..3 {
                let socket = (n, (server == 1).then(|| std::rc::Rc::clone(&open)));
                kept.put((server, 0), socket, now + SWEEP, || most);
            }
        }
        // Of the first server's three one is too many; the second has left.
        kept.sweep(
            now,
            |_| true,
            |most, (_, of)| {
                let others = of.as_ref().map_or(1, |open| std::rc::Rc::strong_count(open) - 1);
                others <= *most
            },
        );
        let mut left = |server| {
            let taken = std::iter::from_fn(|| kept.take((server, 0), now, |_| true)).map(|(n, _)| n);
            taken.collect::<Vec<_>>()
        };
        assert_eq!([1, 2, 3].map(&mut left), [vec![2, 1], vec![], vec![2, 1, 0]]);
    }

    #[test]
    fn a_process_that_ends_keeps_nothing() {
        let now = Instant::now();
        let mut kept = Kept::default();
        kept.put((1, 0), 1, now + SWEEP, || ());
        kept.is_closed = true;
        kept.sweep(now, |_| true, |(), _| true);
        kept.put((1, 0), 2, now + SWEEP, || ());
        assert_eq!((kept.take((1, 0), now, |_| true), kept.count), (None, 0));
    }

    #[test]
    fn the_oldest_gives_way() {
        let now = Instant::now();
        let mut kept = Kept::default();
        for (server, n) in [(1, 5), (1, 6), (2, 3), (2, 9)] {
            kept.put((server, 0), n, now + Duration::from_secs(n), || ());
        }
        assert!(kept.evict() && kept.evict() && kept.count == 2);
        assert_eq!((kept.take((1, 0), now, |_| true), kept.take((2, 0), now, |_| true)), (Some(6), Some(9)));
        assert!(!kept.evict());
    }

    #[test]
    fn connections_give_way_to_those_that_wait_at_their_server() {
        let now = Instant::now();
        let mut kept = Kept::default();
        for (server, waited_for, n) in [(1, 2, 5), (1, 2, 6), (1, 2, 7), (2, 0, 3), (3, 9, 4)] {
            kept.put((server, 0), (waited_for, n), now + Duration::from_secs(n), || ());
        }
        kept.give_way(|(waited_for, _)| *waited_for);
        let left = [1, 2, 3].map(|server| kept.take((server, 0), now, |_| true).map(|(_, n)| n));
        assert_eq!((left, kept.count), ([Some(7), Some(3), None], 0));
        kept.put((1, 0), (0, 1), now, || ());
        kept.put((2, 4), (0, 2), now, || ());
        assert!(kept.evict_where(|key| key.0 == 2) && !kept.evict_where(|key| key.0 == 2));
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let now = Instant::now();
        let mut kept = Kept::default();
        for n in 0..MOST + 5 {
            kept.put((1, 0), n, now + SWEEP, || ());
        }
        assert_eq!(kept.count, MOST);
    }
}
