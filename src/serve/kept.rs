//! Connections to servers that wait for their next request. Each core keeps its own, so there is nothing to
//! lock and the newest, whose state is still in the cache, is used first.

use crate::edge::{Socket, last_tick};
use foldhash::fast::FixedState;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How many one core keeps, over all servers.
const MOST: usize = 4096;
/// How often what is too old is looked for.
const SWEEP: Duration = Duration::from_secs(1);

thread_local! {
    static KEPT: RefCell<Kept<Socket>> = RefCell::new(Kept::default());
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

/// Keeps a connection for as long as `within`, unless somebody waits for its place.
pub(super) fn put(key: ConnectionKey, socket: Socket, within: Duration) {
    if socket.is_waited_for() {
        return;
    }
    KEPT.with_borrow_mut(|kept| kept.put(key, socket, last_tick() + within));
}

/// Closes what is too old, and what its server has closed. Cheap to call often.
pub(super) fn sweep() {
    KEPT.with_borrow_mut(|kept| {
        let now = Instant::now();
        if now >= kept.next_sweep {
            kept.sweep(now, Socket::is_quiet);
            kept.next_sweep = now + SWEEP;
        }
    });
}

/// The connections of one core, by server. Generic so that it can be tested without sockets.
#[derive(Debug)]
struct Kept<S> {
    /// The newest last.
    idle: HashMap<ConnectionKey, Vec<(S, Instant)>, FixedState>,
    count: usize,
    next_sweep: Instant,
}

impl<S> Default for Kept<S> {
    fn default() -> Self {
        Self { idle: HashMap::default(), count: 0, next_sweep: Instant::now() }
    }
}

impl<S> Kept<S> {
    fn take(&mut self, key: ConnectionKey, now: Instant, is_quiet: impl Fn(&mut S) -> bool) -> Option<S> {
        let idle = self.idle.get_mut(&key)?;
        while let Some((mut socket, until)) = idle.pop() {
            self.count -= 1;
            if now < until && is_quiet(&mut socket) {
                return Some(socket);
            }
        }
        None
    }

    fn put(&mut self, key: ConnectionKey, socket: S, until: Instant) {
        if self.count < MOST {
            self.count += 1;
            self.idle.entry(key).or_default().push((socket, until));
        }
    }

    fn evict(&mut self) -> bool {
        self.evict_where(|_| true)
    }

    fn evict_where(&mut self, fits: impl Fn(&ConnectionKey) -> bool) -> bool {
        let first = |idle: &Vec<(S, Instant)>| idle.first().map(|(_, until)| *until);
        let oldest = self.idle.iter_mut().filter(|(key, idle)| !idle.is_empty() && fits(key));
        let Some((_, idle)) = oldest.min_by_key(|(_, idle)| first(idle)) else { return false };
        idle.remove(0);
        self.count -= 1;
        true
    }

    fn give_way(&mut self, waited_for: impl Fn(&S) -> u32) {
        for idle in self.idle.values_mut() {
            let wanted = idle.first().map_or(0, |(socket, _)| waited_for(socket)) as usize;
            let n = wanted.min(idle.len());
            idle.drain(..n);
            self.count -= n;
        }
    }

    fn sweep(&mut self, now: Instant, is_quiet: impl Fn(&mut S) -> bool) {
        self.idle.retain(|_, idle| {
            idle.retain_mut(|(socket, until)| now < *until && is_quiet(socket));
            if idle.capacity() > 4 * idle.len().max(4) {
                idle.shrink_to(2 * idle.len());
            }
            !idle.is_empty()
        });
        self.count = self.idle.values().map(Vec::len).sum();
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
            kept.put((1, 0), socket, until);
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
            kept.put((n % 2, 0), n, now + Duration::from_secs(n.into()));
        }
        kept.sweep(now + Duration::from_secs(4), |n| *n % 2 == 0);
        assert_eq!((kept.idle.keys().copied().collect::<Vec<_>>(), kept.count), (vec![(0, 0)], 2));
    }

    #[test]
    fn the_oldest_gives_way() {
        let now = Instant::now();
        let mut kept = Kept::default();
        for (server, n) in [(1, 5), (1, 6), (2, 3), (2, 9)] {
            kept.put((server, 0), n, now + Duration::from_secs(n));
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
            kept.put((server, 0), (waited_for, n), now + Duration::from_secs(n));
        }
        kept.give_way(|(waited_for, _)| *waited_for);
        let left = [1, 2, 3].map(|server| kept.take((server, 0), now, |_| true).map(|(_, n)| n));
        assert_eq!((left, kept.count), ([Some(7), Some(3), None], 0));
        kept.put((1, 0), (0, 1), now);
        kept.put((2, 4), (0, 2), now);
        assert!(kept.evict_where(|key| key.0 == 2) && !kept.evict_where(|key| key.0 == 2));
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let now = Instant::now();
        let mut kept = Kept::default();
        for n in 0..MOST + 5 {
            kept.put((1, 0), n, now + SWEEP);
        }
        assert_eq!(kept.count, MOST);
    }
}
