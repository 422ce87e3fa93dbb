use super::*;
use proptest::prelude::*;

const TIMEOUT: Duration = Duration::from_secs(5);

fn rules(order: QueueOrder) -> LineRules {
    LineRules { order, timeout: TIMEOUT }
}

/// Lets one after the other in, and says who they were.
fn served(line: &mut Line<u32>, order: QueueOrder, now: Instant, most: usize) -> Vec<u32> {
    let mut served = Vec::new();
    line.serve(rules(order), now, |waiter, _| {
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
        line.enter(number, any(*priority), begun + Duration::from_millis(*millis), 100)
            .expect("there is room");
    }
    line
}

use Priority::{High, Low, Normal};

fn any(priority: Priority) -> (Priority, Lane) {
    (priority, Lane::AnyServer)
}

const LANES: [Lane; 3] = [Lane::AnyServer, Lane::Server(1), Lane::Server(2)];

/// A line of waiters by their numbers, which are the milliseconds of their arrival as well.
fn lanes(begun: Instant, waiters: &[(u32, Lane)]) -> (Line<u32>, Vec<Ticket>) {
    let mut line = Line::default();
    let enter = |(number, lane): &(u32, Lane)| {
        let arrived = begun + Duration::from_millis((*number).into());
        line.enter(*number, (Normal, *lane), arrived, 100).expect("there is room").ticket
    };
    let tickets = waiters.iter().map(enter).collect();
    (line, tickets)
}

/// Lets in as many as there is room for: anywhere, at server 1 and at server 2.
fn served_by(line: &mut Line<u32>, mut room: [usize; 3]) -> Vec<u32> {
    let mut served = Vec::new();
    line.serve(rules(QueueOrder::Fifo), Instant::now(), |waiter, lane| {
        let room = &mut room[LANES.iter().position(|known| *known == lane).expect("one of them")];
        if *room == 0 {
            return Offer::Exhausted;
        }
        *room -= 1;
        served.push(*waiter);
        Offer::Taken
    });
    served
}

const ANY: Lane = Lane::AnyServer;
const ONE: Lane = Lane::Server(1);
const TWO: Lane = Lane::Server(2);

#[test]
fn who_waits_for_one_server_competes_with_all_others_oldest_first() {
    let begun = Instant::now();
    let waiters = [(3, ANY), (1, ONE), (4, TWO), (2, ANY), (5, ONE)];
    assert_eq!(served_by(&mut lanes(begun, &waiters).0, [9; 3]), [1, 2, 3, 4, 5]);
    assert_eq!(served_by(&mut lanes(begun, &waiters).0, [0, 1, 9]), [1, 4], "each that there is room for");
    let (mut line, _) = lanes(begun, &waiters);
    assert_eq!(served_by(&mut line, [9, 0, 0]), [2, 3], "a full server holds up nobody else");
    assert_eq!((line.len(), line.waiting_for_any()), (3, 0));
}

#[test]
fn who_has_waited_enough_for_one_server_goes_to_any_with_its_seniority() {
    let (mut line, tickets) = lanes(Instant::now(), &[(1, ONE), (2, ANY), (3, ONE), (4, ANY)]);
    line.unbind(&tickets[2]);
    assert_eq!((line.len(), line.waiting_for_any()), (4, 3));
    assert_eq!(served_by(&mut line, [2, 0, 0]), [2, 3]);
    line.unbind(&tickets[2]);
    assert_eq!(line.leave(&tickets[0]), Some(1));
    assert_eq!(served_by(&mut line, [9; 3]), [4]);
    assert!(line.is_empty());
}

#[test]
fn all_who_wait_for_a_server_that_goes_are_free_at_once() {
    let (mut line, tickets) = lanes(Instant::now(), &[(1, ONE), (2, ANY), (3, ONE), (4, TWO)]);
    let mut served = Vec::new();
    line.serve(rules(QueueOrder::Fifo), Instant::now(), |waiter, lane| match lane {
        Lane::Server(1) => Offer::Unbound,
        Lane::Server(_) => Offer::Exhausted,
        // Whoever is passed does not keep those from their turn who have just come from the other lane.
        Lane::AnyServer if *waiter == 2 => Offer::Declined,
        Lane::AnyServer => {
            served.push(*waiter);
            Offer::Taken
        }
    });
    assert_eq!((served, line.len()), (vec![1, 3], 2));
    assert_eq!(line.leave(&tickets[0]), None);
    assert_eq!(line.clear().collect::<Vec<_>>(), [2, 4]);
}

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
    waiting.enter(7, any(Normal), at(601), 100).expect("there is room");
    assert_eq!(served(&mut waiting, QueueOrder::Adaptive, at(602), 9), [7, 1]);
    for number in [8, 9] {
        waiting.enter(number, any(Normal), at(603), 100).expect("there is room");
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
    let entered = waiting.enter(9, any(Normal), begun, 100).expect("there is room");
    assert_eq!(entered.position, 3, "as far as is known: it is not looked for");
    assert_eq!(served(&mut waiting, QueueOrder::Fifo, begun, 9), [9, 0, 1]);
}

#[test]
fn a_full_line_sheds_the_youngest_of_the_lowest_class_below() {
    let begun = Instant::now();
    let mut waiting = line(begun, &[(Low, 0), (Low, 1), (Normal, 2), (High, 3)]);
    let mut enter = |priority| waiting.enter(9, any(priority), begun, 4).map(|entered| entered.shed);
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
        waiting.serve(rules(order), begun + TIMEOUT, |waiter, _| {
            asked.push(*waiter);
            if *waiter == 1 { Offer::Declined } else { Offer::Taken }
        });
        asked.sort_unstable();
        assert_eq!((asked, waiting.len()), (vec![0, 1, 2], 1));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enter(Priority, Lane),
    Leave(usize),
    Unbind(usize),
    Serve(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let priority = prop::sample::select(Priority::ALL.to_vec());
    prop_oneof![
        3 => (priority, prop::sample::select(LANES.to_vec())).prop_map(|(priority, lane)| Step::Enter(priority, lane)),
        1 => (0usize..20).prop_map(Step::Leave),
        1 => (0usize..20).prop_map(Step::Unbind),
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
                Step::Enter(priority, lane) => match line.enter(number, (priority, lane), now, max) {
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
                Step::Unbind(at) if at < inside.len() => line.unbind(&inside[at].1),
                Step::Leave(_) | Step::Unbind(_) => {}
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

#[test]
fn a_round_asks_once_for_each_server_that_is_full() {
    let waiters: Vec<_> = (0..80).map(|number| (number, Lane::Server(number % 40))).collect();
    let (mut line, _) = lanes(Instant::now(), &waiters);
    let mut asked = 0;
    line.serve(rules(QueueOrder::Fifo), Instant::now(), |_, _| {
        asked += 1;
        Offer::Exhausted
    });
    assert_eq!((asked, line.len()), (40, 80));
}

/// A pool in overload: its servers have two places each and are done with a request after a tenth of a second.
struct Overload {
    servers: u32,
    /// One in so many is bound to a server.
    bound_one_in: u64,
}

impl Overload {
    const LASTS: u64 = 15_000;

    /// What parts of those that are bound and of those that are not have a server within a second, by a clock of milliseconds.
    fn served_in_time(&self, seed: u64) -> [f64; 2] {
        let mut random = fastrand::Rng::with_seed(seed);
        let (begun, mut line) = (Instant::now(), Line::default());
        let at = |millis| begun + Duration::from_millis(millis);
        let mut places = vec![[0; 2]; self.servers as usize];
        // Those that wait: when they came, and where.
        let mut inside: BTreeMap<u32, (u64, Ticket)> = BTreeMap::new();
        let (mut came, mut in_time, mut load, mut number) = ([0.0; 2], [0.0; 2], 0.0, 0);
        for now in 0..Self::LASTS {
            load += f64::from(self.servers) * 0.02 * 1.2;
            while load >= 1.0 {
                load -= 1.0;
                let is_bound = random.u64(..self.bound_one_in) == 0;
                let lane = if is_bound { Lane::Server(random.u32(..self.servers)) } else { ANY };
                let entered = line.enter(number, (Normal, lane), at(now), 1_000_000).expect("there is room");
                inside.insert(number, (now, entered.ticket));
                came[usize::from(lane == ANY)] += 1.0;
                number += 1;
            }
            inside
                .values()
                .filter(|(arrived, _)| arrived + 2_000 == now)
                .for_each(|(_, ticket)| line.unbind(ticket));
            inside.retain(|_, (arrived, ticket)| *arrived + 5_000 > now || line.leave(ticket).is_none());
            line.serve(rules(QueueOrder::Adaptive), at(now), |waiter, lane| {
                let places = match lane {
                    Lane::Server(server) => &mut places[server as usize..=server as usize],
                    Lane::AnyServer => &mut places[..],
                };
                let Some(place) = places.iter_mut().flatten().find(|busy_until| **busy_until <= now) else {
                    return Offer::Exhausted;
                };
                *place = now + 100;
                let (arrived, ticket) = inside.remove(waiter).expect("it waits");
                in_time[usize::from(ticket.lane == ANY)] += f64::from(u8::from(now - arrived <= 1_000));
                Offer::Taken
            });
        }
        [in_time[0] / came[0], in_time[1] / came[1]]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn in_overload_those_who_are_bound_are_served_as_others_are(
        servers in 2u32..16,
        bound_one_in in 2u64..6,
        seed: u64,
    ) {
        let [bound, others] = Overload { servers, bound_one_in }.served_in_time(seed);
        prop_assert!(bound.min(others) > 0.7, "{bound} of those who are bound, {others} of the others");
        prop_assert!((bound - others).abs() < 0.1, "{bound} of those who are bound, {others} of the others");
    }
}
