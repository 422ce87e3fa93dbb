use super::*;
use crate::config::plan::Balance;
use crate::pool::sample::{live, member, pool};
use crate::pool::{Lease, Outcome, Pool, Tried, TryResult};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// What a server makes of a try.
#[derive(Clone, Copy)]
struct Behaviour {
    takes: Duration,
    result: TryResult,
}

fn serves(ms: u64) -> Behaviour {
    Behaviour { takes: Duration::from_millis(ms), result: TryResult::answered(200) }
}

/// So many clients, each of which sends its next request when it has the answer: each server's share of all of them.
fn shares(balance: Balance, behaviours: &[Behaviour], clients: u64, seconds: u64) -> Vec<f64> {
    let names: Vec<String> = (0..behaviours.len()).map(|index| format!("s{index}")).collect();
    let pool = live(pool(balance, &names.join(" ")));
    let start = Instant::now();
    let mut leases: Vec<Option<Lease>> = (0..clients).map(|_| None).collect();
    // Whose request ends when; at first all begin, a little apart.
    let mut ends: BinaryHeap<Reverse<(Duration, usize)>> =
        (0..clients).map(|client| Reverse((Duration::from_micros(137 * client), client as usize))).collect();
    let mut counts = vec![0u32; behaviours.len()];
    let mut turn = 0;
    while let Some(Reverse((at, client))) = ends.pop().filter(|Reverse((at, _))| at.as_secs() < seconds) {
        if let Some(lease) = leases[client].take() {
            let behaviour = behaviours[lease.index()];
            lease.finish(&Outcome::of(behaviour.result).after(behaviour.takes));
        }
        turn += 1;
        let query = Query { entropy: super::super::mix(turn), now: Some(start + at), ..Query::default() };
        let lease = pool.pick(&query, &mut Tried::new()).expect("all are ready");
        counts[lease.index()] += 1;
        ends.push(Reverse((at + behaviours[lease.index()].takes, client)));
        leases[client] = Some(lease);
    }
    let all: u32 = counts.iter().sum();
    counts.iter().map(|count| f64::from(*count) / f64::from(all)).collect()
}

#[test]
fn a_tenfold_slower_server_gets_less_than_a_hundredth() {
    let four = [serves(100), serves(10), serves(10), serves(10)];
    let slow = |balance| shares(balance, &four, 20, 60)[0];
    let (ewma, least) = (slow(Balance::PeakEwma), slow(Balance::LeastConnections));
    assert!(ewma < 0.012, "{ewma}");
    assert!((0.025..0.06).contains(&least), "with least connections it has {least}");
}

#[test]
fn a_slow_server_among_many_is_seldom_drawn_against_a_slower_one() {
    let mut many = vec![serves(10); 30];
    many[7] = serves(100);
    let share = shares(Balance::PeakEwma, &many, 60, 30)[7];
    assert!(share < 0.015, "{share}");
}

#[test]
fn who_fails_at_once_does_not_look_quick() {
    let reset = Behaviour { takes: Duration::from_millis(1), result: TryResult::Reset };
    let error = Behaviour { result: TryResult::answered(500), ..reset };
    for broken in [reset, error] {
        let share = shares(Balance::PeakEwma, &[broken, serves(10), serves(10)], 12, 300)[0];
        assert!(share < 0.01, "{share}");
    }
}

#[test]
fn equal_servers_have_equal_shares() {
    for n in [3, 8, 20] {
        let shares = shares(Balance::PeakEwma, &vec![serves(10); n], 4 * n as u64, 20);
        let due = 1.0 / n as f64;
        assert!(shares.iter().all(|share| (share / due - 1.0).abs() < 0.2), "{shares:?}");
    }
}

/// Requests come one each 2 ms and take 10, but for those that one of three servers has after the second that it falls silent in.
#[test]
fn a_server_that_falls_silent_gets_hardly_anything_until_it_answers_again() {
    let pool = live(pool(Balance::PeakEwma, "a b c"));
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut open: Vec<(u64, u64, Lease)> = Vec::new();
    let [mut silent, mut after] = [0, 0];
    for ms in (0..200_000).step_by(2) {
        let is_silent = (1_000..41_000).contains(&ms);
        for (began, _, mut lease) in
            open.extract_if(.., |(_, end, lease)| *end <= ms && !(is_silent && lease.index() == 0))
        {
            lease.answered(at(ms));
            lease.finish(&Outcome::of(TryResult::answered(200)).after(Duration::from_millis(ms - began)));
        }
        let mut lease = pick(&pool, at(ms), super::super::mix(ms));
        lease.expects_answer(at(ms));
        silent += u32::from(is_silent && lease.index() == 0);
        after += u32::from(ms >= 41_000 && lease.index() == 0);
        open.push((ms, ms + 10, lease));
    }
    assert!(silent < 10, "{silent}");
    assert!(after > 100, "{after}");
}

#[test]
fn who_asks_why_is_told_of_silence() {
    let (pool, now) = known(&[("a", 10), ("b", 10)]);
    let mut lease = pick(&pool, now, 0);
    lease.expects_answer(now);
    let index = lease.index();
    let told = || pool.explain(&Query { now: Some(now + Duration::from_millis(700)), ..Query::default() });
    let score = |told: &crate::pool::explain::PickExplanation| {
        told.considered[index].score.clone().expect("it may be used")
    };
    assert!(score(&told()).contains("700.0 ms (it has answered nothing for so long)"), "{}", score(&told()));
    lease.answered(now + Duration::from_millis(600));
    assert!(!score(&told()).contains("nothing"), "{}", score(&told()));
}

/// A pool whose servers have each answered once, after so long.
fn known(takes_ms: &[(&str, u64)]) -> (std::sync::Arc<Pool>, Instant) {
    let names: Vec<&str> = takes_ms.iter().map(|(name, _)| *name).collect();
    let pool = live(pool(Balance::PeakEwma, &names.join(" ")));
    let now = Instant::now();
    for (name, takes) in takes_ms.iter().filter(|(_, takes)| *takes > 0) {
        let name = name.split('=').next().expect("a name");
        let outcome = Outcome::of(TryResult::answered(200)).after(Duration::from_millis(*takes));
        let learned = member(&pool, name).learned();
        learned.note(&outcome, learned.time(now));
    }
    (pool, now + Duration::from_millis(100))
}

fn pick(pool: &Pool, now: Instant, entropy: u64) -> Lease {
    pool.pick(&Query { entropy, now: Some(now), ..Query::default() }, &mut Tried::new())
        .expect("all are ready")
}

#[test]
fn the_score_is_cost_times_in_flight_by_weight() {
    let (pool, now) = known(&[("a", 10), ("b=50", 10), ("c", 35)]);
    let leases: Vec<Lease> = (0..8).map(|turn| pick(&pool, now, turn)).collect();
    let taken: String = leases.iter().map(|lease| lease.server().name().to_string()).collect();
    // a: 10, 20, 30 …; b: 20, 40 …; c: 35, 70; equal ones by chance.
    assert_eq!(taken.matches('a').count(), 5, "{taken}");
    assert_eq!((taken.matches('b').count(), taken.matches('c').count()), (2, 1), "{taken}");
}

#[test]
fn of_a_new_server_the_median_is_believed() {
    let (pool, now) = known(&[("slow", 90), ("new", 0), ("quick", 10), ("middling", 30)]);
    let told = pool.explain(&Query { now: Some(now), ..Query::default() });
    let score = |index: usize| told.considered[index].score.clone().expect("it may be used");
    assert!(score(1).contains("29.5 ms (the median: it is new), 100% served"), "{}", score(1));
    assert!(score(2).starts_with("score 9.9"), "{}", score(2));
    assert_eq!(told.winner, Ok(2));
    let order: Vec<_> = (0..6).map(|turn| pick(&pool, now, turn).server().name().to_string()).collect();
    assert!(order.iter().all(|name| name == "quick"));
}

#[test]
fn a_new_server_is_tried_though_others_are_quick_and_there_is_one_request_at_a_time() {
    let four = [serves(5), serves(40), serves(40), serves(2)];
    let (pool, mut now) = known(&[("quick", 5), ("slow", 40), ("slower", 60), ("new", 0)]);
    let mut counts = [0u32; 4];
    for turn in 0..4_000 {
        let lease = pick(&pool, now, super::super::mix(turn));
        let behaviour = four[lease.index()];
        counts[lease.index()] += 1;
        now += behaviour.takes;
        lease.finish(&Outcome::of(behaviour.result).after(behaviour.takes));
    }
    assert!(counts[3] > 1_000, "{counts:?}");
}

#[test]
fn many_requests_at_once_do_not_all_try_a_server_that_is_new() {
    let (pool, now) = known(&[("quick", 5), ("other", 8), ("new", 0)]);
    let later = now + Duration::from_secs(8);
    let leases: Vec<Lease> = (0..30).map(|turn| pick(&pool, later, turn)).collect();
    let of_new = leases.iter().filter(|lease| lease.index() == 2).count();
    assert!((1..=12).contains(&of_new), "{of_new}");
}

#[test]
fn what_was_learned_outlives_a_reload() {
    let (old, now) = known(&[("a", 10), ("b", 20)]);
    let mut plan = old.plan.clone();
    let snapshot = crate::snapshot::Snapshot::empty();
    let (first, _) = snapshot.evolve(crate::pool::sample::plan(vec![plan.clone()]), now);
    let outcome = Outcome::of(TryResult::Connected).after(Duration::from_millis(7));
    let learned = first.pools()[0].members[0].server.learned();
    learned.note(&outcome, learned.time(now));
    plan.retries.max = 3;
    plan.servers.reverse();
    let (second, _) = first.evolve(crate::pool::sample::plan(vec![plan]), now);
    let cost = second.pools()[0].members[1].server.learned().cost(Some(now));
    assert!((cost.expect("it is known") - 0.007).abs() < 1e-4);
}

#[test]
fn a_pool_that_balances_otherwise_learns_nothing() {
    let pool = live(pool(Balance::LeastConnections, "a"));
    let now = Instant::now();
    pick(&pool, now, 0).finish(&Outcome::of(TryResult::Connected).after(Duration::from_millis(7)));
    assert_eq!(member(&pool, "a").learned().cost(Some(now)), None);
}
