//! The server that a request is bound to, because its client has a session there.

use super::slot::Flags;
use super::{Lease, PROBED, Pool, STRICT, Server, Tried};
use crate::config::plan::StickyMode;
use crate::fields::Fields;
use crate::sticky::{Binding, StickyTable};
use crate::{cookie, sticky};
use http::header;
use std::time::{Duration, Instant};

/// A server that a request belongs to, and how long it is worth waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its place in the pool that it was found in; the pool in force may be another.
    index: u32,
    id: u32,
    wait: Duration,
}

/// What comes of asking for it.
#[derive(Debug)]
pub enum BoundPick {
    Leased(Lease),
    /// It has no room just now.
    Full,
    /// It is not there, or not to be used: the client goes elsewhere.
    Gone,
}

/// What ends a session beside the server's health. Being drained does not, nor does standing by.
const ENDED: Flags = Flags::MAINT.with(Flags::LEAVING);

impl Bound {
    pub fn server(&self) -> u32 {
        self.id
    }

    pub fn wait(&self) -> Duration {
        self.wait
    }
}

/// Cookies of one name that a request is read for; each costs a look at its signature.
const MOST_COOKIES: usize = 8;

impl Pool {
    /// What the cookies of a request say of its client's server: the first that is ours and whose server is there, else the
    /// first that is ours.
    pub fn binding(&self, fields: &impl Fields) -> Option<Binding> {
        let (plan, table) = (self.plan.sticky.as_ref()?, self.sticky.as_ref()?);
        let values = cookie::values(fields.all(&header::COOKIE), &plan.cookie).map(cookie::unquoted);
        let tokens = values.filter_map(|value| match plan.mode {
            StickyMode::Insert => Some(value),
            StickyMode::Suffix => sticky::split_suffix(value).map(|(_, token)| token),
        });
        let mut first = None;
        for binding in tokens.take(MOST_COOKIES).filter_map(|token| table.find(token)) {
            if binding.server.is_some() {
                return Some(binding);
            }
            first = first.or(Some(binding));
        }
        first
    }

    /// Whether a client is to be given a server anew by this minute, whatever its cookie says.
    pub fn is_over(&self, binding: &Binding, minute: u32) -> bool {
        let max_life = self.plan.sticky.as_ref().and_then(|sticky| sticky.max_life);
        // It was bound within its minute, perhaps at the end.
        let at_least = u64::from(minute.saturating_sub(binding.minute)).saturating_sub(1) * 60;
        max_life.is_some_and(|most| at_least >= most.as_secs())
    }

    /// The cookies of this pool's servers, if it has any.
    pub fn sticky_table(&self) -> Option<&StickyTable> {
        self.sticky.as_ref()
    }

    /// A request's tie to the server with this id, as its pool wants to wait for it.
    pub fn bound_to_server(&self, id: u32) -> Option<Bound> {
        let index = self.members.iter().position(|member| member.server.id() == id)?;
        self.bound_to(index, self.plan.sticky.as_ref()?.wait)
    }

    /// A request's tie to the server at this place.
    pub fn bound_to(&self, index: usize, wait: Duration) -> Option<Bound> {
        let id = self.members.get(index)?.server.id();
        Some(Bound { index: u32::try_from(index).ok()?, id, wait })
    }

    /// The place of the server that a request is bound to, in this pool.
    pub fn place_of(&self, bound: &Bound) -> Option<usize> {
        let is_it = |member: &super::Member| member.server.id() == bound.id;
        let known = bound.index as usize;
        match self.members.get(known).is_some_and(is_it) {
            true => Some(known),
            false => self.members.iter().position(is_it),
        }
    }

    /// Whether a session at this server goes on: it is up or drained, or the pool makes do with servers that are not up.
    pub fn keeps_sessions_of(&self, server: &Server) -> bool {
        !server.has_any(self.ends_sessions_of(server))
    }

    /// Whether a request that is bound to this server goes there, whatever becomes of new clients.
    pub fn keeps(&self, bound: &Bound) -> bool {
        self.place_of(bound).is_some_and(|place| self.keeps_sessions_of(&self.members[place].server))
    }

    /// Leases the server that a request is bound to, unless it has tried that.
    pub fn pick_bound(&self, bound: &Bound, tried: &mut Tried, now: Instant) -> BoundPick {
        let Some(index) = self.place_of(bound).filter(|index| !tried.contains(*index)) else {
            return BoundPick::Gone;
        };
        let server = &self.members[index].server;
        let mask = self.ends_sessions_of(server);
        match self.lease(index, mask, Some(now)) {
            Some(lease) => {
                tried.insert(index);
                BoundPick::Leased(lease)
            }
            None if server.has_any(mask) => BoundPick::Gone,
            None => BoundPick::Full,
        }
    }

    /// Whether the server at this place has room for one more.
    pub fn has_room(&self, index: usize) -> bool {
        let member = &self.members[index];
        member.max_connections.is_none_or(|most| member.server.in_flight() < most.get())
    }

    fn ends_sessions_of(&self, server: &Server) -> Flags {
        match () {
            () if !server.has_any(Flags::UNHEALTHY) || self.any_usable(STRICT) => {
                ENDED.with(Flags::UNHEALTHY)
            }
            () if self.any_usable(PROBED) => ENDED.with(Flags::DOWN).with(Flags::PROBING),
            () if self.failing_open() => ENDED,
            () => ENDED.with(Flags::UNHEALTHY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::WhenAllUnhealthy;
    use crate::pool::sample::{self, live, member, pool, set_down};
    use crate::pool::{Operator, Query};
    use std::num::NonZeroU32;

    const WAIT: Duration = Duration::from_secs(2);

    fn ask(pool: &Pool, index: usize) -> &'static str {
        let bound = pool.bound_to(index, WAIT).expect("there is one");
        match pool.pick_bound(&bound, &mut Tried::new(), Instant::now()) {
            BoundPick::Leased(lease) => {
                assert_eq!(lease.index(), index);
                "leased"
            }
            BoundPick::Full => "full",
            BoundPick::Gone => "gone",
        }
    }

    #[test]
    fn a_session_stays_with_its_server_while_that_is_up_or_drained() {
        for balance in sample::every_balance() {
            let mut plan = pool(balance, "a b c d e");
            plan.servers[1].drain = true;
            plan.servers[2].backup = true;
            plan.servers[4].max_connections = NonZeroU32::new(1);
            let pool = live(plan);
            assert_eq!([0, 1, 2, 3, 4].map(|index| ask(&pool, index)), ["leased"; 5]);
            member(&pool, "a").set_operator(Operator::Drain);
            assert_eq!(ask(&pool, 0), "leased");
            member(&pool, "a").set_operator(Operator::Maint);
            set_down(&pool, "d");
            assert_eq!([0, 3].map(|index| ask(&pool, index)), ["gone"; 2]);
            let mut tried = Tried::new();
            let bound = pool.bound_to(4, WAIT).expect("there is one");
            let lease = pool.pick_bound(&bound, &mut tried, Instant::now());
            assert!(matches!(lease, BoundPick::Leased(_)) && ask(&pool, 4) == "full");
            drop(lease);
            assert!(
                matches!(pool.pick_bound(&bound, &mut tried, Instant::now()), BoundPick::Gone),
                "it was tried"
            );
            member(&pool, "e").leave(Instant::now());
            assert_eq!(ask(&pool, 4), "gone");
        }
    }

    #[test]
    fn a_pool_that_makes_do_with_servers_that_are_down_keeps_their_sessions() {
        let mut plan = pool(crate::config::plan::Balance::RoundRobin, "a b");
        let open = live(plan.clone());
        plan.when_all_unhealthy = WhenAllUnhealthy::Refuse;
        let refusing = live(plan);
        for (pool, all_down) in [(&open, "leased"), (&refusing, "gone")] {
            set_down(pool, "a");
            assert_eq!([0, 1].map(|index| ask(pool, index)), ["gone", "leased"]);
            set_down(pool, "b");
            assert_eq!([0, 1].map(|index| ask(pool, index)), [all_down; 2]);
        }
        member(&open, "a").set_operator(Operator::Maint);
        assert_eq!([0, 1].map(|index| ask(&open, index)), ["gone", "leased"]);
    }

    #[test]
    fn an_ejected_server_keeps_its_sessions_only_if_there_is_no_better_one() {
        let pool = live(pool(crate::config::plan::Balance::RoundRobin, "a b"));
        member(&pool, "a").set_ejected(true);
        assert_eq!([0, 1].map(|index| ask(&pool, index)), ["gone", "leased"]);
        set_down(&pool, "b");
        assert_eq!([0, 1].map(|index| ask(&pool, index)), ["leased", "gone"], "it serves again");
    }

    #[test]
    fn who_is_bound_is_found_wherever_its_server_stands_in_the_next_pool() {
        let plan =
            |servers: &str| sample::plan(vec![pool(crate::config::plan::Balance::RoundRobin, servers)]);
        let (now, empty) = (Instant::now(), crate::snapshot::Snapshot::empty());
        let (first, _) = empty.evolve(plan("a b c"), now);
        let (next, _) = first.evolve(plan("c x a"), now);
        let bound = |index| first.pools()[0].bound_to(index, WAIT).expect("there is one");
        let places = [0, 1, 2].map(|index| next.pools()[0].place_of(&bound(index)));
        assert_eq!(places, [Some(2), None, Some(0)]);
        let lease = next.pools()[0].pick(&Query::default(), &mut Tried::new());
        assert!(lease.is_ok());
    }
}
