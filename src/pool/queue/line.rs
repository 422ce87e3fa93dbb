//! The order in which those that wait are served. Pure: time is an argument.

mod shares;

use crate::config::plan::{Priority, QueueOrder, QueuePlan};
use shares::{ServedShare, Shares};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound;
use std::time::{Duration, Instant};

/// Who waits, in three classes.
#[derive(Debug)]
pub struct Line<W> {
    /// By `Priority`.
    classes: [Class<W>; Priority::ALL.len()],
    len: usize,
    /// Of the next that enters.
    number: u64,
}

/// What one waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    AnyServer,
    /// The one with this id.
    Server(u32),
}

/// One that waits: when it arrived, and a number that tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    arrived: Instant,
    number: u64,
    priority: Priority,
    /// Where it has entered.
    lane: Lane,
}

impl Ticket {
    pub fn arrived(&self) -> Instant {
        self.arrived
    }
}

type Waiting<W> = BTreeMap<Ticket, W>;

#[derive(Debug)]
struct Class<W> {
    /// For any server.
    waiting: Waiting<W>,
    /// Until nobody does: those at its front have waited for so long that their clients will have left before their turn.
    newest_first: Option<Shares>,
    /// For one server each, by its id; none is empty.
    bound: BTreeMap<u32, Waiting<W>>,
}

/// A lane's claim to the next turn; the least has it. Without shares it is the oldest's.
type Claim = (ServedShare, Ticket, Lane);

/// One round in which those that wait are offered what there is.
#[derive(Debug, Default)]
struct Round {
    /// There is nothing for those who go anywhere.
    is_exhausted: bool,
    /// Servers that are full.
    full: BTreeSet<u32>,
}

/// How a line is served, as the configuration has it.
#[derive(Clone, Copy, Debug)]
pub struct LineRules {
    pub order: QueueOrder,
    pub timeout: Duration,
}

impl LineRules {
    pub fn of(settings: &QueuePlan) -> Self {
        Self { order: settings.order, timeout: settings.timeout }
    }
}

/// What has become of one whose turn it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It waits no longer.
    Taken,
    /// There is nothing for it, but there may be for others.
    Declined,
    /// There is nothing for anybody who waits for the same.
    Exhausted,
    /// The server that it waits for will not be had: it goes to any from now on, and so do all who wait for that one.
    Unbound,
}

/// The line is full, of those who come before whoever was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineFull;

/// One has entered.
#[derive(Debug)]
pub struct Entered<W> {
    pub ticket: Ticket,
    /// How many turns it is from being served, with its own, if nobody comes or leaves.
    pub position: usize,
    /// Had to leave for it.
    pub shed: Option<W>,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        let classes = Priority::ALL.map(|_| Class::default());
        Self { classes, len: 0, number: 0 }
    }
}

impl<W> Line<W> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of them go to any server.
    pub fn waiting_for_any(&self) -> usize {
        self.classes.iter().map(|class| class.waiting.len()).sum()
    }

    /// Enters at the place that its arrival gives it. Of `max` that wait already, the youngest of the lowest class leaves if
    /// that class is below its own.
    pub fn enter(
        &mut self,
        waiter: W,
        (priority, lane): (Priority, Lane),
        arrived: Instant,
        max: usize,
    ) -> Result<Entered<W>, LineFull> {
        let shed = if self.len < max { None } else { Some(self.shed(priority).ok_or(LineFull)?) };
        let ticket = Ticket { arrived, number: self.number, priority, lane };
        self.number += 1;
        let class = &mut self.classes[priority as usize];
        let before_it = if class.newest_first.is_some() { 0 } else { class.len(lane) };
        class.lane(lane).insert(ticket, waiter);
        if let Some(shares) = &mut class.newest_first {
            shares.arrived(lane);
        }
        self.len += 1;
        let higher = self.classes[..priority as usize].iter().map(|class| class.len(lane));
        Ok(Entered { ticket, position: higher.sum::<usize>() + before_it + 1, shed })
    }

    /// Lets one that waits for one server go to any, at the place that its arrival gives it.
    pub fn unbind(&mut self, ticket: &Ticket) {
        let class = &mut self.classes[ticket.priority as usize];
        if let Some(waiter) = class.remove_bound(ticket) {
            class.waiting.insert(*ticket, waiter);
        }
    }

    /// The one that a newcomer of this class takes the place of.
    fn shed(&mut self, newcomer: Priority) -> Option<W> {
        let lower = &mut self.classes[newcomer as usize + 1..];
        let (class, youngest) =
            lower.iter_mut().rev().find_map(|class| class.youngest().map(|youngest| (class, youngest)))?;
        let shed = class.remove(&youngest)?;
        self.len -= 1;
        Some(shed)
    }

    /// Leaves; none if it waits no longer.
    pub fn leave(&mut self, ticket: &Ticket) -> Option<W> {
        let left = self.classes[ticket.priority as usize].remove(ticket)?;
        self.len -= 1;
        Some(left)
    }

    /// Offers each its turn, in order, until there is nothing for anybody. Of those who go anywhere and those who wait for one
    /// server each, whoever has the oldest in front is next; where the newest come first, the lane of which the smallest part was
    /// served.
    pub fn serve(&mut self, rules: LineRules, now: Instant, mut offer: impl FnMut(&mut W, Lane) -> Offer) {
        let mut round = Round::default();
        let has_bound = self.classes.iter().any(|class| !class.bound.is_empty());
        for class in &mut self.classes {
            class.choose_order(rules, now);
            let served = class.serve(&mut round, &mut offer);
            self.len -= served;
            if round.is_exhausted && !has_bound {
                return;
            }
        }
    }

    /// All that wait, who do so no longer.
    pub fn clear(&mut self) -> impl Iterator<Item = W> {
        self.len = 0;
        let classes = std::mem::take(&mut self.classes);
        let of = |class: Class<W>| {
            class.waiting.into_values().chain(class.bound.into_values().flat_map(BTreeMap::into_values))
        };
        classes.into_iter().flat_map(of)
    }
}

impl<W> Default for Class<W> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), newest_first: None, bound: BTreeMap::new() }
    }
}

impl<W> Class<W> {
    fn choose_order(&mut self, rules: LineRules, now: Instant) {
        let Some((oldest, _)) = self.waiting.first_key_value() else { return };
        let is_slow = now.saturating_duration_since(oldest.arrived) >= rules.timeout / 10;
        match rules.order {
            QueueOrder::Fifo => self.newest_first = None,
            QueueOrder::Adaptive if is_slow && self.newest_first.is_none() => {
                let waiting = std::iter::once(&self.waiting).chain(self.bound.values());
                let mut shares = Shares::default();
                waiting.flat_map(BTreeMap::keys).for_each(|ticket| shares.arrived(ticket.lane));
                self.newest_first = Some(shares);
            }
            QueueOrder::Adaptive => {}
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut Waiting<W> {
        match lane {
            Lane::AnyServer => &mut self.waiting,
            Lane::Server(server) => self.bound.entry(server).or_default(),
        }
    }

    fn len(&self, lane: Lane) -> usize {
        match lane {
            Lane::AnyServer => self.waiting.len(),
            Lane::Server(server) => self.bound.get(&server).map_or(0, BTreeMap::len),
        }
    }

    fn youngest(&self) -> Option<Ticket> {
        let lanes = std::iter::once(&self.waiting).chain(self.bound.values());
        lanes.filter_map(|lane| lane.last_key_value()).map(|(ticket, _)| *ticket).max()
    }

    fn remove(&mut self, ticket: &Ticket) -> Option<W> {
        let removed = self.waiting.remove(ticket).or_else(|| self.remove_bound(ticket));
        self.end_if_empty();
        removed
    }

    fn remove_bound(&mut self, ticket: &Ticket) -> Option<W> {
        let Lane::Server(server) = ticket.lane else { return None };
        let lane = self.bound.get_mut(&server)?;
        let removed = lane.remove(ticket);
        if lane.is_empty() {
            self.bound.remove(&server);
        }
        removed
    }

    /// One round; how many wait no longer.
    fn serve(&mut self, round: &mut Round, offer: &mut impl FnMut(&mut W, Lane) -> Offer) -> usize {
        let (mut served, mut passed, mut all_passed) = (0, None, false);
        let mut fronts = self.bound_fronts(round);
        loop {
            let any = Some(Lane::AnyServer).filter(|_| !round.is_exhausted && !all_passed);
            let any = any.and_then(|any| self.claim(any));
            let bound = fronts.peek().map(|Reverse(claim)| *claim);
            // Of those that there may be something for.
            let Some((_, ticket, lane)) = any.into_iter().chain(bound).min() else { break };
            let next = match lane {
                Lane::AnyServer => self.next(passed),
                Lane::Server(server) => {
                    fronts.pop();
                    let waiter = self.bound.get_mut(&server).and_then(|waiting| waiting.get_mut(&ticket));
                    waiter.map(|waiter| (ticket, waiter))
                }
            };
            let Some((ticket, waiter)) = next else {
                all_passed = true;
                continue;
            };
            match (offer(waiter, lane), lane) {
                (Offer::Taken, _) => {
                    if let Some(shares) = &mut self.newest_first {
                        shares.served(ticket.lane);
                    }
                    self.remove(&ticket);
                    served += 1;
                    fronts.extend(self.bound_front(lane));
                }
                (Offer::Declined, Lane::AnyServer) => passed = Some(ticket),
                (Offer::Exhausted | Offer::Unbound, Lane::AnyServer) => round.is_exhausted = true,
                // Whoever is about to leave has its lane served when it does.
                (Offer::Exhausted | Offer::Declined, Lane::Server(server)) => _ = round.full.insert(server),
                (Offer::Unbound, Lane::Server(server)) => {
                    self.waiting.extend(self.bound.remove(&server).unwrap_or_default());
                    // Some of them may belong before who was passed.
                    (passed, all_passed) = (None, false);
                }
            }
        }
        self.end_if_empty();
        served
    }

    /// The claims of the lanes of one server each, but of those that are full.
    fn bound_fronts(&self, round: &Round) -> BinaryHeap<Reverse<Claim>> {
        let servers = self.bound.keys().filter(|server| !round.full.contains(server));
        servers.filter_map(|server| self.bound_front(Lane::Server(*server))).collect()
    }

    fn bound_front(&self, lane: Lane) -> Option<Reverse<Claim>> {
        Some(lane).filter(|lane| *lane != Lane::AnyServer).and_then(|lane| self.claim(lane)).map(Reverse)
    }

    /// Of whoever is first in a lane.
    fn claim(&self, lane: Lane) -> Option<Claim> {
        let waiting = match lane {
            Lane::AnyServer => &self.waiting,
            Lane::Server(server) => self.bound.get(&server)?,
        };
        let (share, first) = match &self.newest_first {
            None => (ServedShare::default(), waiting.first_key_value()),
            Some(shares) => (shares.of_lane(lane), waiting.last_key_value()),
        };
        first.map(|(ticket, _)| (share, *ticket, lane))
    }

    /// Whose turn it is after one that was passed.
    fn next(&mut self, passed: Option<Ticket>) -> Option<(Ticket, &mut W)> {
        let newest_first = self.newest_first.is_some();
        let mut rest = match (passed, newest_first) {
            (None, _) => self.waiting.range_mut::<Ticket, _>(..),
            (Some(passed), false) => self.waiting.range_mut((Bound::Excluded(passed), Bound::Unbounded)),
            (Some(passed), true) => self.waiting.range_mut(..passed),
        };
        let next = if newest_first { rest.next_back() } else { rest.next() };
        next.map(|(ticket, waiter)| (*ticket, waiter))
    }

    fn end_if_empty(&mut self) {
        if self.waiting.is_empty() {
            self.newest_first = None;
        }
    }
}

#[cfg(test)]
mod tests;
