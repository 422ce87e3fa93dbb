use super::*;
use crate::config::plan::{self, Balance, Initial};
use crate::pool::sample::{self, live, member, pool};
use crate::pool::{HealthThresholds, Lease};
use crate::snapshot::Snapshot;
use crate::units::Percent;
use std::num::NonZeroU32;
use std::time::Duration;

const ONCE: HealthThresholds = HealthThresholds { rise: NonZeroU32::MIN, fall: NonZeroU32::MIN };

const PICKS: u64 = 20_000;

fn slow(balance: Balance, servers: &str) -> plan::PoolPlan {
    let slow_start = Some(SlowStart { over: Duration::from_secs(30), from: Percent(10) });
    plan::PoolPlan { slow_start, ..pool(balance, servers) }
}

/// Was down, and is up again.
fn comes_back(pool: &Pool, name: &str, now: Instant) {
    member(pool, name).observe(false, &ONCE, now);
    member(pool, name).observe(true, &ONCE, now);
}

fn query(number: u64, now: Instant) -> Query {
    let drawn = xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes());
    Query { key: Some(drawn), entropy: drawn.rotate_left(17), now: Some(now), ..Query::default() }
}

fn share_of(pool: &Pool, name: &str, now: Instant) -> f64 {
    let is_there = |number: &u64| {
        let lease = pool.pick(&query(*number, now), &mut Tried::new()).expect("others are up");
        **lease.server().name() == *name
    };
    (0..PICKS).filter(is_there).count() as f64 / PICKS as f64
}

#[test]
fn shares_are_those_of_the_ramp_whatever_the_algorithm() {
    for balance in sample::every_balance() {
        let pool = live(slow(balance, "a b c d"));
        let now = Instant::now();
        let full = share_of(&pool, "b", now);
        comes_back(&pool, "b", now);
        for (seconds, ramp) in [(0, 0.1), (10, 0.4), (20, 0.7), (30, 1.0)] {
            let share = share_of(&pool, "b", now + Duration::from_secs(seconds));
            // Where it is passed over, another server's draw or turn follows: between those two the algorithms differ.
            let (least, most) = (full * ramp, full * ramp / (1.0 - full + full * ramp));
            assert!(
                (least * 0.8..=most * 1.2).contains(&share),
                "{:?} after {seconds} s: {share} of {full}, {least} to {most} due",
                pool.plan.balance
            );
        }
        assert_eq!(pool.settle_ramps(now + Duration::from_secs(30)), 0);
        assert!(!pool.slots.has_ramps(), "it is over");
    }
}

/// The same while so many are in flight.
fn share_under_load(pool: &Pool, name: &str, now: Instant, in_flight: usize) -> f64 {
    let mut open: std::collections::VecDeque<Lease> = Default::default();
    let mut count = 0;
    for number in 0..PICKS / 3 {
        if open.len() == in_flight {
            // Any of them may be the next to end.
            let ends = query(number, now).entropy as usize % in_flight;
            open.swap_remove_back(ends);
        }
        let lease = pool.pick(&query(number, now), &mut Tried::new()).expect("others are up");
        count += u64::from(**lease.server().name() == *name);
        open.push_back(lease);
    }
    count as f64 / (PICKS / 3) as f64
}

#[test]
fn shares_are_those_of_the_ramp_under_load_too() {
    for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::RandomTwo, Balance::PeakEwma] {
        for (servers, in_flight) in [("a b c d", 3), ("a b c d", 40), ("a b c d e f g h i j k l", 60)] {
            let pool = live(slow(balance.clone(), servers));
            let now = Instant::now();
            comes_back(&pool, "b", now);
            let full = 1.0 / pool.members.len() as f64;
            for (seconds, ramp) in [(0, 0.1), (10, 0.4), (20, 0.7), (30, 1.0)] {
                let share = share_under_load(&pool, "b", now + Duration::from_secs(seconds), in_flight);
                let (least, most) = (full * ramp, full * ramp / (1.0 - full + full * ramp));
                assert!(
                    (least * 0.8..=most * 1.2).contains(&share),
                    "{:?}, {servers}, {in_flight} in flight, after {seconds} s: {share}, {least} to {most} due",
                    pool.plan.balance
                );
            }
        }
    }
}

#[test]
fn a_key_moves_to_a_server_that_comes_back_once() {
    let pool = live(slow(sample::hash_ring(None), "a b c d"));
    let now = Instant::now();
    let home =
        |key: u64, at: Instant| pool.pick(&query(key, at), &mut Tried::new()).expect("others are up").index();
    let at_last: Vec<usize> = (0..500).map(|key| home(key, now)).collect();
    comes_back(&pool, "b", now);
    for (key, last) in at_last.iter().enumerate() {
        let homes: Vec<usize> =
            (0..=30).map(|second| home(key as u64, now + Duration::from_secs(second))).collect();
        let moves = homes.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(moves <= 1 && homes[30] == *last, "{key}: {homes:?}");
    }
}

#[test]
fn its_limit_begins_at_one_and_grows() {
    let mut plan = slow(Balance::LeastConnections, "a b c d");
    plan.servers.iter_mut().for_each(|server| server.max_connections = NonZeroU32::new(20));
    let pool = live(plan);
    let now = Instant::now();
    comes_back(&pool, "b", now);
    let filled = |at: Instant| {
        let leases: Vec<Lease> =
            (0..200).map_while(|number| pool.pick(&query(number, at), &mut Tried::new()).ok()).collect();
        assert_eq!(
            pool.pick(&query(0, at), &mut Tried::new()).map(drop),
            Err(crate::pool::NoServer::AllFull)
        );
        (leases.iter().filter(|lease| lease.index() == 1).count(), leases.len())
    };
    assert_eq!(filled(now), (2, 62), "a tenth of 20, though others are full");
    assert_eq!(filled(now + Duration::from_secs(10)), (8, 68));
    assert_eq!(filled(now + Duration::from_secs(30)), (20, 80));
}

#[test]
fn it_begins_where_a_server_was_of_no_use_or_is_new() {
    let now = Instant::now();
    let mut plan = slow(Balance::RoundRobin, "a b c d e f g h");
    plan.health = Some(sample::health(Initial::Up));
    let (snapshot, delta) = Snapshot::empty().evolve(sample::plan(vec![plan.clone()]), now);
    delta.settle(now, Instant::now);
    let pool = &snapshot.pools()[0];
    let ramping = |pool: &Pool| {
        pool.settle_ramps(now);
        pool.ramping().map(|(_, member)| member.server.name().to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ramping(pool), "", "not at boot");
    member(pool, "a").set_operator(Operator::Drain);
    member(pool, "a").set_operator(Operator::Ready);
    assert_eq!(ramping(pool), "", "it was never out of use");
    member(pool, "b").set_operator(Operator::Maint);
    assert_eq!(ramping(pool), "");
    member(pool, "b").set_operator(Operator::Ready);
    assert_eq!(ramping(pool), "b");
    comes_back(pool, "c", now);
    assert_eq!(ramping(pool), "b c");
    member(pool, "d").set_ejected(true);
    assert_eq!(ramping(pool), "b c");
    member(pool, "d").set_ejected(false);
    assert_eq!(ramping(pool), "b c d");

    plan.servers.push(plan::ServerPlan { name: "new".into(), ..plan.servers[0].clone() });
    let (next, delta) = snapshot.evolve(sample::plan(vec![plan]), now);
    delta.settle(now, Instant::now);
    assert_eq!(ramping(&next.pools()[0]), "b c d new");
}

#[test]
fn a_new_server_of_which_nothing_is_known_ramps_once_its_probes_pass() {
    let now = Instant::now();
    let mut plan = slow(Balance::RoundRobin, "a b");
    plan.health = Some(sample::health(Initial::Probing));
    let (snapshot, delta) = Snapshot::empty().evolve(sample::plan(vec![plan.clone()]), now);
    delta.settle(now, Instant::now);
    ["a", "b"].iter().for_each(|name| _ = member(&snapshot.pools()[0], name).observe(true, &ONCE, now));
    plan.servers.push(plan::ServerPlan { name: "new".into(), ..plan.servers[0].clone() });
    let (next, delta) = snapshot.evolve(sample::plan(vec![plan]), now);
    delta.settle(now, Instant::now);
    let pool = &next.pools()[0];
    pool.settle_ramps(now);
    assert!(!pool.slots.has_ramps(), "none at the start, and the new one is of no use yet");
    let later = now + Duration::from_secs(7);
    member(pool, "new").observe(true, &ONCE, later);
    assert_eq!(pool.ramp_percent(2, later + Duration::from_secs(15)), Some(55));
    assert_eq!(pool.ramp_percent(0, later), None);
}

#[test]
fn ramps_are_suspended_where_more_than_half_of_what_is_up_would_ramp() {
    let now = Instant::now();
    let pool = live(slow(Balance::RoundRobin, "a b c=201 d"));
    comes_back(&pool, "a", now);
    comes_back(&pool, "b", now);
    assert_eq!((pool.settle_ramps(now), pool.ramping().count()), (0, 2));
    comes_back(&pool, "d", now);
    assert_eq!((pool.settle_ramps(now), pool.ramping().count()), (3, 0));
}

#[test]
fn who_has_no_slow_start_comes_back_at_once() {
    let pool = live(pool(Balance::RoundRobin, "a b"));
    let now = Instant::now();
    comes_back(&pool, "b", now);
    assert!((share_of(&pool, "b", now) - 0.5).abs() < 0.01);
    assert_eq!(pool.ramp_percent(1, now), None);
}

#[test]
fn a_server_alone_serves_though_it_is_coming_back() {
    let pool = live(slow(Balance::RoundRobin, "a b"));
    let now = Instant::now();
    comes_back(&pool, "b", now);
    member(&pool, "a").observe(false, &ONCE, now);
    let served = (0..50).all(|number| pool.pick(&query(number, now), &mut Tried::new()).is_ok());
    assert!(served && !pool.failing_open());
}

#[test]
fn a_freed_place_in_memory_does_not_ramp() {
    let now = Instant::now();
    let next = |snapshot: &Snapshot, servers: &str| {
        let (next, delta) = snapshot.evolve(sample::plan(vec![slow(Balance::RoundRobin, servers)]), now);
        delta.settle(now, Instant::now);
        next
    };
    let both = next(&Snapshot::empty(), "a b");
    comes_back(&both.pools()[0], "b", now);
    let one = next(&both, "a");
    assert!(one.pools()[0].slots.has_ramps(), "b is still there, for who has it");
    let last = next(&one, "a");
    drop((both, one));
    assert!(!last.pools()[0].slots.has_ramps());
}

#[test]
fn explain_says_who_is_coming_back_and_who_is_chosen() {
    let pool = live(slow(Balance::RoundRobin, "a b c"));
    let now = Instant::now();
    comes_back(&pool, "b", now);
    let mut held_back = 0;
    for number in 0..200 {
        let query = query(number, now + Duration::from_secs(10));
        let told = pool.explain(&query);
        assert_eq!((told.considered[0].ramp, told.considered[1].ramp), (None, Some(40)));
        held_back += u32::from(told.considered[1].out == Some(crate::pool::explain::Exclusion::Ramping(40)));
        let picked = pool.pick(&query, &mut Tried::new()).map(|lease| lease.index());
        assert_eq!(picked, told.winner);
    }
    // Until a pick is saved for it.
    assert!((140..180).contains(&held_back), "{held_back}");
}

#[test]
fn a_server_goes_on_coming_back_where_another_process_saw_it() {
    let (pool, now) = (live(slow(Balance::RoundRobin, "a b c")), Instant::now());
    let after = |seconds| now + Duration::from_secs(seconds);
    member(&pool, "b").ramp_on(Duration::from_secs(15), now);
    assert_eq!([0, 5].map(|at| pool.ramp_percent(1, after(at))), [Some(55), Some(70)]);
    assert_eq!(member(&pool, "b").ramp_age(after(5)), Some(Duration::from_secs(20)));
    assert_eq!((pool.settle_ramps(after(14)), member(&pool, "b").ramp_age(now).is_some()), (0, true));
    assert_eq!((pool.settle_ramps(after(16)), member(&pool, "b").ramp_age(now)), (0, None));
}
