//! The order in which those that wait are served. Pure: time is an argument.

use crate::config::plan::{Priority, QueueOrder};
use std::collections::BTreeMap;
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

/// One that waits: when it arrived, and a number that tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    arrived: Instant,
    number: u64,
    priority: Priority,
}

impl Ticket {
    pub fn arrived(&self) -> Instant {
        self.arrived
    }
}

#[derive(Debug)]
struct Class<W> {
    waiting: BTreeMap<Ticket, W>,
    /// Until it is empty: those at its front have waited for so long that their clients will have left before their turn.
    newest_first: bool,
}

/// How a line is served, as the configuration has it.
#[derive(Clone, Copy, Debug)]
pub struct LineRules {
    pub order: QueueOrder,
    pub timeout: Duration,
}

/// What has become of one whose turn it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It waits no longer.
    Taken,
    /// There is nothing for it, but there may be for others.
    Declined,
    /// There is nothing for anybody.
    Exhausted,
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
        let classes = Priority::ALL.map(|_| Class { waiting: BTreeMap::new(), newest_first: false });
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

    /// Enters at the place that its arrival gives it. Of `max` that wait already, the youngest of the lowest class leaves if
    /// that class is below its own.
    pub fn enter(
        &mut self,
        waiter: W,
        priority: Priority,
        arrived: Instant,
        max: usize,
    ) -> Result<Entered<W>, LineFull> {
        let shed = if self.len < max { None } else { Some(self.shed(priority).ok_or(LineFull)?) };
        let ticket = Ticket { arrived, number: self.number, priority };
        self.number += 1;
        let class = &mut self.classes[priority as usize];
        let before_it = if class.newest_first { 0 } else { class.waiting.len() };
        class.waiting.insert(ticket, waiter);
        self.len += 1;
        let higher = self.classes[..priority as usize].iter().map(|class| class.waiting.len());
        Ok(Entered { ticket, position: higher.sum::<usize>() + before_it + 1, shed })
    }

    /// The one that a newcomer of this class takes the place of.
    fn shed(&mut self, newcomer: Priority) -> Option<W> {
        let lower = &mut self.classes[newcomer as usize + 1..];
        let class = lower.iter_mut().rev().find(|class| !class.waiting.is_empty())?;
        let (_, shed) = class.waiting.pop_last()?;
        class.end_if_empty();
        self.len -= 1;
        Some(shed)
    }

    /// Leaves; none if it waits no longer.
    pub fn leave(&mut self, ticket: &Ticket) -> Option<W> {
        let class = &mut self.classes[ticket.priority as usize];
        let left = class.waiting.remove(ticket)?;
        class.end_if_empty();
        self.len -= 1;
        Some(left)
    }

    /// Offers each its turn, in order, until there is nothing for anybody.
    pub fn serve(&mut self, rules: LineRules, now: Instant, mut offer: impl FnMut(&mut W) -> Offer) {
        for class in &mut self.classes {
            class.choose_order(rules, now);
            let mut passed = None;
            while let Some((ticket, waiter)) = class.next(passed) {
                match offer(waiter) {
                    Offer::Taken => {
                        class.waiting.remove(&ticket);
                        self.len -= 1;
                    }
                    Offer::Declined => passed = Some(ticket),
                    Offer::Exhausted => return,
                }
            }
            class.end_if_empty();
        }
    }

    /// All that wait, who do so no longer.
    pub fn clear(&mut self) -> impl Iterator<Item = W> {
        self.len = 0;
        let classes = self.classes.each_mut().map(|class| {
            class.newest_first = false;
            std::mem::take(&mut class.waiting)
        });
        classes.into_iter().flat_map(BTreeMap::into_values)
    }
}

impl<W> Class<W> {
    fn choose_order(&mut self, rules: LineRules, now: Instant) {
        let Some((oldest, _)) = self.waiting.first_key_value() else { return };
        let waited = now.saturating_duration_since(oldest.arrived);
        match rules.order {
            QueueOrder::Fifo => self.newest_first = false,
            QueueOrder::Adaptive => self.newest_first |= waited >= rules.timeout / 10,
        }
    }

    /// Whose turn it is after one that was passed.
    fn next(&mut self, passed: Option<Ticket>) -> Option<(Ticket, &mut W)> {
        let mut rest = match (passed, self.newest_first) {
            (None, _) => self.waiting.range_mut::<Ticket, _>(..),
            (Some(passed), false) => self.waiting.range_mut((Bound::Excluded(passed), Bound::Unbounded)),
            (Some(passed), true) => self.waiting.range_mut(..passed),
        };
        let next = if self.newest_first { rest.next_back() } else { rest.next() };
        next.map(|(ticket, waiter)| (*ticket, waiter))
    }

    fn end_if_empty(&mut self) {
        if self.waiting.is_empty() {
            self.newest_first = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn rules(order: QueueOrder) -> LineRules {
        LineRules { order, timeout: TIMEOUT }
    }

    /// Lets one after the other in, and says who they were.
    fn served(line: &mut Line<u32>, order: QueueOrder, now: Instant, most: usize) -> Vec<u32> {
        let mut served = Vec::new();
        line.serve(rules(order), now, |waiter| {
            if served.len() == most {
                return Offer::Exhausted;
            }
            served.push(*waiter);
            Offer::Taken
        });
        served
    }

    /// A line of waiters by their numbers: of a class, after so many milliseconds.
    fn line(begun: Instant, waiters: &[(Priority, u64)]) -> Line<u32> {
        let mut line = Line::default();
        for (number, (priority, millis)) in (0..).zip(waiters) {
            line.enter(number, *priority, begun + Duration::from_millis(*millis), 100)
                .expect("there is room");
        }
        line
    }

    use Priority::{High, Low, Normal};

    #[test]
    fn higher_classes_come_first_and_the_oldest_of_each() {
        let begun = Instant::now();
        let waiters = [(Low, 0), (Normal, 1), (High, 2), (Normal, 3), (High, 4)];
        for order in [QueueOrder::Fifo, QueueOrder::Adaptive] {
            let mut line = line(begun, &waiters);
            assert_eq!(served(&mut line, order, begun, 9), [2, 4, 1, 3, 0]);
            assert!(line.is_empty());
        }
    }

    #[test]
    fn a_line_that_has_become_slow_serves_the_newest_until_nobody_waits() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut waiting = line(begun, &[(Normal, 0), (Normal, 100), (Normal, 200)]);
        assert_eq!(served(&mut waiting, QueueOrder::Adaptive, at(499), 1), [0]);
        // The oldest has waited for a tenth of the timeout.
        assert_eq!(served(&mut waiting, QueueOrder::Adaptive, at(600), 1), [2]);
        waiting.enter(7, Normal, at(601), 100).expect("there is room");
        assert_eq!(served(&mut waiting, QueueOrder::Adaptive, at(602), 9), [7, 1]);
        for number in [8, 9] {
            waiting.enter(number, Normal, at(603), 100).expect("there is room");
        }
        assert_eq!(served(&mut waiting, QueueOrder::Adaptive, at(604), 1), [8], "it began anew");

        let mut fifo = line(begun, &[(Normal, 0), (Normal, 100)]);
        assert_eq!(served(&mut fifo, QueueOrder::Fifo, at(4_000), 9), [0, 1]);
    }

    #[test]
    fn a_slow_class_says_nothing_of_another() {
        let begun = Instant::now();
        let mut waiting = line(begun, &[(Low, 0), (High, 4_000), (High, 4_001), (Low, 4_002)]);
        let now = begun + Duration::from_millis(4_100);
        assert_eq!(served(&mut waiting, QueueOrder::Adaptive, now, 9), [1, 2, 3, 0]);
    }

    #[test]
    fn who_was_there_before_comes_back_to_its_place() {
        let begun = Instant::now();
        let mut waiting = line(begun, &[(Normal, 100), (Normal, 200)]);
        let entered = waiting.enter(9, Normal, begun, 100).expect("there is room");
        assert_eq!(entered.position, 3, "as far as is known: it is not looked for");
        assert_eq!(served(&mut waiting, QueueOrder::Fifo, begun, 9), [9, 0, 1]);
    }

    #[test]
    fn a_full_line_sheds_the_youngest_of_the_lowest_class_below() {
        let begun = Instant::now();
        let mut waiting = line(begun, &[(Low, 0), (Low, 1), (Normal, 2), (High, 3)]);
        let mut enter = |priority| waiting.enter(9, priority, begun, 4).map(|entered| entered.shed);
        assert_eq!(enter(Low), Err(LineFull));
        assert_eq!(enter(Normal), Ok(Some(1)));
        assert_eq!(enter(High), Ok(Some(0)));
        assert_eq!(enter(Normal), Err(LineFull));
        assert_eq!(enter(High), Ok(Some(2)), "the youngest by its arrival");
        assert_eq!(waiting.len(), 4);
    }

    #[test]
    fn one_that_nothing_is_there_for_does_not_hold_others_up() {
        let begun = Instant::now();
        for order in [QueueOrder::Fifo, QueueOrder::Adaptive] {
            let mut waiting = line(begun, &[(Normal, 0), (Normal, 1), (Normal, 2)]);
            let mut asked = Vec::new();
            waiting.serve(rules(order), begun + TIMEOUT, |waiter| {
                asked.push(*waiter);
                if *waiter == 1 { Offer::Declined } else { Offer::Taken }
            });
            asked.sort_unstable();
            assert_eq!((asked, waiting.len()), (vec![0, 1, 2], 1));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter(Priority),
        Leave(usize),
        Serve(usize),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let priority = prop::sample::select(Priority::ALL.to_vec());
        prop_oneof![
            3 => priority.prop_map(Step::Enter),
            1 => (0usize..20).prop_map(Step::Leave),
            2 => (0usize..4).prop_map(Step::Serve),
            1 => (0u64..2_000).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whoever enters is served, shed or leaves once, a higher class never waits for a lower one, and no more wait than may.
        #[test]
        fn nobody_is_lost_and_nobody_is_served_twice(
            steps in prop::collection::vec(step(), 1..200),
            max in 1usize..10,
            adaptive: bool,
        ) {
            let order = if adaptive { QueueOrder::Adaptive } else { QueueOrder::Fifo };
            let mut now = Instant::now();
            let mut line = Line::default();
            // Numbers of those that wait, with their tickets.
            let mut inside: Vec<(u32, Ticket)> = Vec::new();
            for (number, step) in (0..).zip(steps) {
                match step {
                    Step::Enter(priority) => match line.enter(number, priority, now, max) {
                        Ok(entered) => {
                            prop_assert_eq!(entered.shed.is_some(), inside.len() == max);
                            if let Some(shed) = entered.shed {
                                let at = inside.iter().position(|(number, _)| *number == shed);
                                let (_, ticket) = inside.remove(at.expect("it waited"));
                                prop_assert!(ticket.priority > priority);
                            }
                            inside.push((number, entered.ticket));
                        }
                        Err(LineFull) => {
                            prop_assert_eq!(inside.len(), max);
                            prop_assert!(inside.iter().all(|(_, ticket)| ticket.priority <= priority));
                        }
                    },
                    Step::Leave(at) if at < inside.len() => {
                        let (number, ticket) = inside.remove(at);
                        prop_assert_eq!(line.leave(&ticket), Some(number));
                        prop_assert_eq!(line.leave(&ticket), None);
                    }
                    Step::Leave(_) => {}
                    Step::Serve(most) => {
                        let served = served(&mut line, order, now, most);
                        prop_assert_eq!(served.len(), most.min(inside.len()));
                        for number in served {
                            let at = inside.iter().position(|(inside, _)| *inside == number);
                            let (_, ticket) = inside.remove(at.expect("it waited"));
                            prop_assert!(inside.iter().all(|(_, other)| other.priority >= ticket.priority));
                        }
                    }
                    Step::Wait(millis) => now += Duration::from_millis(millis),
                }
                prop_assert_eq!(line.len(), inside.len());
            }
            prop_assert_eq!(line.clear().count(), inside.len());
            prop_assert!(line.is_empty());
        }
    }
}
