use super::*;
use crate::config::plan::Balance;
use crate::pool::sample::{live, member, pool};
use crate::pool::{Outcome, Query, Tried, TryResult};
use crate::units::Percent;
use std::num::NonZeroU32;
use std::sync::Arc;

const PLAN: SuccessRatePlan =
    SuccessRatePlan { window: NonZeroU32::new(200).unwrap(), explore: Percent(5), outcome: None };

struct Gateways {
    pool: Arc<Pool>,
    watch: SuccessWatch,
    now: Instant,
    chance: u64,
}

impl Gateways {
    fn new(servers: &str) -> Self {
        let pool = live(pool(Balance::SuccessRate(PLAN), servers));
        let mut new = Self { pool, watch: SuccessWatch::default(), now: Instant::now(), chance: 1 };
        new.look();
        new
    }

    fn seeded(servers: &str, seed: u64) -> Self {
        Self { chance: seed, ..Self::new(servers) }
    }

    fn look(&mut self) -> Vec<SuccessChange> {
        self.now += Duration::from_secs(1);
        self.watch.look(&self.pool, &PLAN, self.now)
    }

    /// A try at this server that succeeds with so much likelihood.
    fn tries(&mut self, name: &str, likely: f64) {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let drawn = xxhash_rust::xxh3::xxh3_64(&self.chance.to_le_bytes()) as f64 / 2f64.powi(64);
        let status = if drawn < likely { 200 } else { 500 };
        member(&self.pool, name).success().note(&Outcome::of(TryResult::answered(status)));
    }

    /// A second with a try at each.
    fn second(&mut self, likely: &[(&str, f64)]) -> Vec<SuccessChange> {
        likely.iter().for_each(|(name, likely)| self.tries(name, *likely));
        self.look()
    }

    fn standing(&self, name: &str) -> SuccessStanding {
        member(&self.pool, name).success().standing()
    }
}

/// The outcomes that it takes, of each seed, until a server whose successes fall from 95 % to this is found to be worse.
fn until_worse(falls_to: f64, seeds: u64) -> Vec<u64> {
    let run = |seed: u64| {
        let mut gateways = Gateways::seeded("a b", seed << 32);
        (0..200).for_each(|_| _ = gateways.second(&[("a", 0.95), ("b", 0.95)]));
        // By chance it may be worse already.
        let mut n = 1;
        while !gateways.standing("b").is_worse {
            gateways.second(&[("a", 0.95), ("b", falls_to)]);
            n += 1;
        }
        n
    };
    let mut all: Vec<u64> = (1..=seeds).map(run).collect();
    all.sort_unstable();
    all
}

fn check(what: &str, n: f64, expected: f64) {
    assert!((expected * 0.7..=expected * 1.3).contains(&n), "{what}: {n} outcomes, {expected} expected");
}

#[test]
fn a_server_is_found_to_be_worse_after_as_many_outcomes_as_it_takes_to_know() {
    for (falls_to, expected) in [(0.0, 8.0), (0.5, 12.0), (0.8, 52.0), (0.9, 372.0)] {
        let all = until_worse(falls_to, 101);
        check(&format!("to {falls_to}"), all[all.len() / 2] as f64, expected);
    }
}

#[test]
fn one_that_has_not_changed_is_taken_for_worse_once_in_thousands_of_outcomes() {
    let all = until_worse(0.95, 40);
    check("on average", all.iter().sum::<u64>() as f64 / all.len() as f64, 5_660.0);
}

#[test]
fn a_server_that_is_worse_has_the_explored_share_and_comes_back_when_it_is_as_good() {
    let mut gateways = Gateways::new("a=200 b=100 c=100");
    let all = |b: f64| [("a", 1.0), ("b", b), ("c", 1.0)];
    (0..50).for_each(|_| _ = gateways.second(&all(1.0)));
    assert_eq!(["a", "b", "c"].map(|name| gateways.standing(name).share), [0.5, 0.25, 0.25]);
    let found = (0..20).find_map(|_| gateways.second(&all(0.0)).first().cloned()).expect("b is worse");
    assert_eq!((found.index, found.standing.is_worse), (1, true));
    let shares = ["a", "b", "c"].map(|name| (gateways.standing(name).share * 1000.0).round());
    assert_eq!(shares, [633.0, 50.0, 317.0]);
    (0..29).for_each(|_| assert_eq!(gateways.second(&all(1.0)), []));
    let back = gateways.second(&all(1.0));
    assert_eq!(back.len(), 1, "after thirty good ones");
    assert!(!back[0].standing.is_worse && gateways.standing("b").share == 0.25);
}

#[test]
fn a_server_that_is_mended_is_back_soon_however_long_it_failed() {
    for fails in [0, 5, 20, 60, 150, 400] {
        for share in [0.0, 0.5] {
            let mut gateways = Gateways::seeded("a b", fails + 7);
            (0..200).for_each(|_| _ = gateways.second(&[("a", 1.0), ("b", 1.0)]));
            while !gateways.standing("b").is_worse {
                gateways.second(&[("a", 1.0), ("b", share)]);
            }
            (0..fails).for_each(|_| _ = gateways.second(&[("a", 1.0), ("b", share)]));
            let needed = (1..400).find(|_| !gateways.second(&[("a", 1.0), ("b", 1.0)]).is_empty());
            let needed = needed.expect("it does well");
            assert!((25..=60).contains(&needed), "after {fails} at {share}: {needed}");
        }
    }
}

#[test]
fn a_server_that_is_back_stays_if_it_does_as_well() {
    let mut lost = 0;
    for seed in 1..=100u64 {
        let mut gateways = Gateways::seeded("a b c", seed << 32);
        let all = |b: f64| [("a", 0.95), ("b", b), ("c", 0.95)];
        (0..200).for_each(|_| _ = gateways.second(&all(0.95)));
        (0..100).for_each(|_| _ = gateways.second(&all(if seed % 2 == 0 { 0.0 } else { 0.5 })));
        let is_back = (0..2_000).any(|_| {
            gateways.second(&all(0.95));
            !gateways.standing("b").is_worse
        });
        assert!(is_back, "seed {seed}");
        let is_lost = (0..60).any(|_| {
            gateways.second(&all(0.95));
            gateways.standing("b").is_worse
        });
        lost += u32::from(is_lost);
    }
    // One that has not changed is taken for worse once in some 5,660 outcomes.
    assert!(lost <= 8, "{lost} of 100 that were found again were lost within 60 outcomes");
}

#[test]
fn a_server_that_goes_on_to_do_worse_is_seldom_back_by_chance() {
    let mut gateways = Gateways::new("a b");
    (0..200).for_each(|_| _ = gateways.second(&[("a", 0.95), ("b", 0.95)]));
    let served = (0..6_000).filter(|_| {
        gateways.second(&[("a", 0.95), ("b", 0.8)]);
        !gateways.standing("b").is_worse
    });
    let served = served.count();
    assert!(served < 900, "{served} of 6,000 seconds not taken for worse");
}

#[test]
fn where_all_fail_nobody_is_worse() {
    let mut gateways = Gateways::new("a b c");
    (0..200).for_each(|_| _ = gateways.second(&[("a", 1.0), ("b", 1.0), ("c", 1.0)]));
    (0..300).for_each(|_| _ = gateways.second(&[("a", 0.0), ("b", 0.0), ("c", 0.0)]));
    assert!(["a", "b", "c"].iter().all(|name| !gateways.standing(name).is_worse));
}

#[test]
fn of_fewer_than_ten_outcomes_nothing_is_said_and_old_ones_are_forgotten() {
    let mut gateways = Gateways::new("a b");
    (0..100).for_each(|_| gateways.tries("a", 1.0));
    (0..9).for_each(|_| gateways.tries("b", 0.0));
    assert_eq!(gateways.look(), []);
    assert_eq!(gateways.standing("b").n, 9);
    gateways.tries("b", 0.0);
    assert_eq!(gateways.look().len(), 1, "ten are enough");
    gateways.now += OLDEST;
    gateways.look();
    assert_eq!((gateways.standing("a").n, gateways.standing("b").n), (0, 0));
}

#[test]
fn picks_follow_the_shares() {
    let mut gateways = Gateways::new("a b c");
    let all = [("a", 1.0), ("b", 0.0), ("c", 1.0)];
    (0..60).for_each(|_| _ = gateways.second(&all));
    let mut counts = [0u32; 3];
    for number in 0..20_000u64 {
        let query = Query { entropy: xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes()), ..Query::default() };
        counts[gateways.pool.pick(&query, &mut Tried::new()).expect("all are up").index()] += 1;
    }
    for (count, due) in counts.into_iter().zip([9_500.0, 1_000.0, 9_500.0]) {
        assert!((f64::from(count) / due - 1.0).abs() < 0.1, "{counts:?}");
    }
    let told = gateways.pool.explain(&Query::default());
    let score = told.considered[1].score.clone().expect("it may be used");
    assert!(score.contains("0.0% of 60 succeeded (0.0% to 10.0%): provably worse"), "{score}");
    crate::pool::sample::set_down(&gateways.pool, "a");
    crate::pool::sample::set_down(&gateways.pool, "c");
    let lease = gateways.pool.pick(&Query::default(), &mut Tried::new());
    assert_eq!(lease.expect("b is up").index(), 1, "better a worse one than none");
}

#[test]
fn who_goes_on_with_what_was_known_finds_nothing_new_in_it() {
    let mut before = Gateways::new("a b");
    (0..60).for_each(|_| _ = before.second(&[("a", 1.0), ("b", 0.0)]));
    assert!(before.standing("b").is_worse);
    let mut after = Gateways::new("a b");
    for name in ["a", "b"] {
        let known = before.watch.known(member(&before.pool, name).id()).expect("it was looked at");
        after.watch.recall(member(&after.pool, name), &known);
    }
    assert!(after.standing("b").is_worse, "at once");
    after.now = before.now;
    assert_eq!(after.look(), []);
    assert_eq!(after.standing("b"), before.standing("b"));
    let back = |gateways: &mut Gateways| {
        (0..300).find(|_| !gateways.second(&[("a", 1.0), ("b", 1.0)]).is_empty()).expect("it does well")
    };
    assert_eq!(back(&mut after), back(&mut before), "as if nothing had been");
}

/// How many runs of those see a server that is like the others taken for worse, after all have failed for so many seconds at once.
/// Requests go where the shares have them.
fn lost_after_outage(servers: usize, per_second: usize, outage: usize, base: f64, runs: u64) -> usize {
    let names = ["a", "b", "c", "d"];
    let lost = |seed: &u64| {
        let mut gateways = Gateways::seeded(&names[..servers].join(" "), *seed << 32);
        let mut pick = fastrand::Rng::with_seed(*seed);
        (0..60 + outage + 90).any(|second| {
            let likely = if (60..60 + outage).contains(&second) { 0.0 } else { 1.0 - base };
            for _ in 0..per_second {
                let mut left = pick.f64();
                let chosen = names[..servers].iter().find(|name| {
                    left -= f64::from(gateways.standing(name).share);
                    left < 0.0
                });
                gateways.tries(chosen.unwrap_or(&names[0]), likely);
            }
            gateways.look();
            second >= 60 && names[..servers].iter().any(|name| gateways.standing(name).is_worse)
        })
    };
    (1..=runs).filter(lost).count()
}

#[test]
fn an_outage_of_all_makes_none_of_them_worse() {
    let (mut lost, mut by_chance) = (Vec::new(), 0);
    for servers in [2, 3] {
        for per_second in [7, 20, 100] {
            for (outage, base) in [(3, 0.0), (4, 0.05), (10, 0.0), (10, 0.03)] {
                let n = lost_after_outage(servers, per_second, outage, base, 10);
                lost.push((servers, per_second, outage, base, n));
                by_chance += lost_after_outage(servers, per_second, 0, base, 10);
            }
        }
    }
    let sum: usize = lost.iter().map(|(.., n)| n).sum();
    assert!(lost.iter().all(|(_, _, _, base, n)| *base > 0.0 || *n == 0), "none is bad but then: {lost:?}");
    // Some are by chance, as without an outage.
    assert!(sum <= by_chance + 5, "{sum} of {}, {by_chance} without an outage: {lost:?}", lost.len() * 10);
}
