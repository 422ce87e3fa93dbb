//! Pools under load on a virtual clock, from seeds.

use super::judge::{Reason, allowance};
use super::standing::{Ejection, Standing};
use super::watch::{OutlierChange, OutlierWatch};
use crate::config::plan::{Balance, OutlierPlan, PoolPlan};
use crate::pool::sample::{hash_ring, live, member, outlier, pool, set_down, set_up};
use crate::pool::{HealthThresholds, Lease, NoServer, Outcome, Pool, Query, Source, Tried, TryResult};
use crate::select::consistent_hash::hash;
use crate::units::Percent;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod chance;
mod outages;
mod scene;
mod sources;
mod trials;

/// A pool under load.
struct Load {
    pool: Arc<Pool>,
    plan: OutlierPlan,
    watch: OutlierWatch,
    now: Instant,
    looked: Instant,
    chance: u64,
    /// Time between two requests.
    pause: Duration,
    changes: Vec<OutlierChange>,
}

impl Load {
    fn new(servers: &str, plan: OutlierPlan, rate: u64, seed: u64) -> Self {
        Self::of(pool(Balance::RoundRobin, servers), plan, rate, seed)
    }

    fn of(mut wanted: PoolPlan, plan: OutlierPlan, rate: u64, seed: u64) -> Self {
        wanted.outlier = Some(plan);
        let now = Instant::now();
        Self {
            pool: live(wanted),
            plan,
            watch: OutlierWatch::default(),
            now,
            looked: now,
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            pause: Duration::from_secs(1) / u32::try_from(rate).expect("a small rate"),
            changes: Vec::new(),
        }
    }

    /// 0 to 1.
    fn chance(&mut self) -> f64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) as f64 / (1u64 << 53) as f64
    }

    fn look(&mut self) {
        self.looked = self.now;
        let changes = self.watch.look(&self.pool, &self.plan, self.now, &mut || 0.5);
        self.changes.extend(changes);
    }

    /// Time goes on, with a look when it is time for one.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let step = Duration::from_millis(250).saturating_sub(self.now - self.looked);
            self.now = until.min(self.now + step.max(Duration::from_nanos(1)));
            if self.now - self.looked >= Duration::from_millis(250) {
                self.look();
            }
        }
    }

    fn lease(&self, may_be_repeated: bool) -> Result<Lease, NoServer> {
        self.pool.pick(&Query { may_be_repeated, ..Query::default() }, &mut Tried::new())
    }

    /// One request, whose server fails by its share; who it was.
    fn request(&mut self, share_of: impl Fn(&str) -> f64) -> String {
        self.pass(self.pause);
        let lease = self.lease(true).expect("one is ready");
        let name = lease.server().name().to_string();
        let status = if self.chance() < share_of(&name) { 503 } else { 200 };
        lease.finish(&Outcome::of(TryResult::answered(status)));
        if self.now - self.looked >= Duration::from_millis(20) && is_suspected(&self.pool) {
            self.look();
        }
        name
    }

    fn is_ejected(&self, name: &str) -> bool {
        member(&self.pool, name).is_ejected()
    }

    fn ejected(&self) -> Vec<(String, Reason)> {
        let of = |change: &OutlierChange| match change {
            OutlierChange::Ejected { server, ejection, .. } => {
                Some((server.name().to_string(), ejection.reason))
            }
            _ => None,
        };
        self.changes.iter().filter_map(of).collect()
    }

    /// How many requests it takes from when this server begins to fail by this share until it is ejected; counted are its own.
    fn until_ejected(mut self, name: &str, share: f64, most: usize) -> usize {
        (0..200).for_each(|_| drop(self.request(|_| 0.0)));
        self.pass(Duration::from_secs(1));
        (0..200).for_each(|_| drop(self.request(|_| 0.0)));
        let mut own = 0;
        while !self.is_ejected(name) && own < most {
            own += usize::from(self.request(|other| if other == name { share } else { 0.0 }) == name);
        }
        own
    }
}

/// As control has it: a suspicion is followed by a look.
fn is_suspected(pool: &Pool) -> bool {
    use futures_util::FutureExt;
    pool.outliers.suspected().now_or_never().is_some()
}

fn median(mut of: Vec<usize>) -> usize {
    of.sort_unstable();
    of[of.len() / 2]
}

#[test]
fn who_fails_more_than_the_others_is_ejected_soon() {
    for (share, least, most) in [(1.0, 4, 8), (0.5, 10, 40), (0.3, 15, 60), (0.15, 30, 240)] {
        for rate in [20, 200, 2_000] {
            let load = |seed| Load::new("a b c d", outlier(), rate, seed);
            let needed = median((1..40).map(|seed| load(seed).until_ejected("b", share, 2_000)).collect());
            // The others must have shown since that they do better: two looks, 20 ms apart.
            let most = most + rate as usize / 200;
            assert!((least..=most).contains(&needed), "{share} at {rate}/s: {needed}");
        }
    }
}

/// One that has most of the requests.
const UNEVEN: &str = "a=256 b=8 c=8 d=8";

#[test]
fn where_all_begin_to_fail_the_busiest_is_not_ejected_for_showing_it_first() {
    for (rate, share) in [
        (20, 1.0),
        (200, 1.0),
        (2_000, 1.0),
        (200, 0.8),
        (2_000, 0.5),
        (200, 0.3),
        (2000, 0.3),
        (20, 0.3),
        (20, 0.5),
        (200, 0.5),
    ] {
        let ejects = |seed: &u64| {
            let mut load = Load::new(UNEVEN, outlier(), rate, *seed);
            (0..4_000).for_each(|_| drop(load.request(|_| 0.0)));
            (0..4_000).for_each(|_| drop(load.request(|_| share)));
            !load.ejected().is_empty()
        };
        // By chance the others may seem better: of 1,000 such outages in 15.
        let ejected = (1..=30).filter(ejects).count();
        assert!(ejected <= 1, "{share} at {rate}/s: {ejected} of 30");
    }
}

#[test]
fn the_busiest_is_ejected_soon_if_the_others_do_better() {
    for rate in [20, 200, 2_000] {
        for (share, most) in [(1.0, 60), (0.5, 180), (0.3, 500)] {
            let load = |seed| Load::new(UNEVEN, outlier(), rate, seed);
            let needed = median((1..20).map(|seed| load(seed).until_ejected("a", share, 2_000)).collect());
            let most = most + rate as usize / 20;
            assert!((5..=most).contains(&needed), "{share} at {rate}/s: {needed}");
        }
    }
}

#[test]
fn servers_that_fail_at_once_are_ejected_soon_if_others_do_better() {
    for (rate, seed) in [(20, 1), (200, 2), (2_000, 3)] {
        let mut load = Load::new("a b c d e", outlier(), rate, seed);
        (0..1_000).for_each(|_| drop(load.request(|_| 0.0)));
        let fails = |name: &str| f64::from(u8::from(["b", "d"].contains(&name)));
        let most = 80 + rate / 10;
        (0..most).for_each(|_| drop(load.request(fails)));
        assert!(load.is_ejected("b") && load.is_ejected("d"), "{rate}/s: {:?}", load.ejected());
    }
}

#[test]
fn where_all_fail_alike_nobody_is_ejected() {
    for rate in [8, 80, 800] {
        for seed in 1..=3 {
            let mut load = Load::new("a b c d", outlier(), rate, seed);
            (0..40_000).for_each(|_| drop(load.request(|_| 0.3)));
            assert_eq!(load.ejected(), [], "{rate}/s, seed {seed}");
        }
    }
}

/// Requests of 500 clients in a pool that hashes, and as many of one; whose fail, and how many milliseconds they take.
fn with_one_client(fails: impl Fn(u64, &str) -> bool, millis: impl Fn(u64, &str) -> u64) -> Load {
    let plan = OutlierPlan { slower_than: Some("5x".parse().expect("a factor")), ..outlier() };
    let mut load = Load::of(pool(hash_ring(None), "a b c d"), plan, 200, 5);
    for request in 0..8_000u64 {
        load.pass(load.pause);
        let client = if request % 2 == 0 { 1 } else { 2 + (load.chance() * 500.0) as u64 };
        let key = hash(&client.to_be_bytes());
        let query = Query { key: Some(key), may_be_repeated: true, ..Query::default() };
        let lease = load.pool.pick(&query, &mut Tried::new()).expect("one is ready");
        let server = lease.server().name();
        let status = if fails(client, server) { 500 } else { 200 };
        let waited = Some(Duration::from_millis(millis(client, server)));
        let source = Some(Source::new(key, None));
        lease.finish(&Outcome { source, waited, ..Outcome::of(TryResult::answered(status)) });
        if load.now - load.looked >= Duration::from_millis(20) && is_suspected(&load.pool) {
            load.look();
        }
    }
    load
}

#[test]
fn one_client_alone_has_no_server_ejected() {
    assert_eq!(with_one_client(|client, _| client == 1, |_, _| 10).ejected(), []);
    let ejected = with_one_client(|_, server| server == "b", |_, _| 10).ejected();
    assert_eq!(ejected.first(), Some(&("b".to_owned(), Reason::WorseBy)), "{ejected:?}");
}

#[test]
fn one_client_alone_makes_no_server_slow() {
    let slow = |is_slow: bool| if is_slow { 400 } else { 10 };
    assert_eq!(with_one_client(|_, _| false, |client, _| slow(client == 1)).ejected(), []);
    let ejected = with_one_client(|_, _| false, |_, server| slow(server == "b")).ejected();
    assert_eq!(ejected.first(), Some(&("b".to_owned(), Reason::SlowerThan)), "{ejected:?}");
}

#[test]
fn where_all_begin_to_fail_at_once_nobody_is_ejected() {
    for seed in 1..=20 {
        let mut load = Load::new("a b c d", outlier(), 400, seed);
        (0..4_000).for_each(|_| drop(load.request(|_| 0.0)));
        (0..4_000).for_each(|_| drop(load.request(|_| 1.0)));
        assert_eq!(load.ejected(), [], "seed {seed}");
    }
}

#[test]
fn servers_that_come_back_one_after_the_other_are_not_compared_by_how_they_failed() {
    let mut load = Load::new("a b c d", outlier(), 40, 5);
    (0..400).for_each(|_| drop(load.request(|_| 0.0)));
    (0..120).for_each(|_| drop(load.request(|_| 1.0)));
    ["a", "b", "c", "d"].iter().for_each(|name| set_down(&load.pool, name));
    load.pass(Duration::from_secs(1));
    for name in ["a", "b", "c", "d"] {
        set_up(&load.pool, name);
        (0..60).for_each(|_| drop(load.request(|_| 0.0)));
    }
    assert_eq!(load.ejected(), []);
}

#[test]
fn a_trial_while_all_fail_makes_no_ejection_longer() {
    let mut load = with_b_ejected(outlier());
    for _ in 0..400 {
        load.request(|_| 1.0);
        load.pass(Duration::from_millis(500));
    }
    assert_eq!(member(&load.pool, "b").outlier().standing().strikes, 1);
    assert!(load.ejected().len() > 3, "it was tried out again and again: {:?}", load.ejected());
}

#[test]
fn some_are_always_left() {
    assert_eq!([0, 1, 2, 3, 4, 5, 10].map(|of| allowance(of, Percent(50))), [0, 0, 1, 1, 2, 2, 5]);
    assert_eq!([2, 3, 4].map(|of| allowance(of, Percent(99))), [1, 2, 3]);
    assert_eq!(allowance(4, Percent(1)), 1);
    for (servers, ejected) in [("a", 0), ("a b", 1), ("a b c", 1), ("a b c d", 2)] {
        let mut load = Load::new(servers, outlier(), 200, 7);
        (0..400).for_each(|_| drop(load.request(|_| 0.0)));
        (0..3_000).for_each(|_| {
            drop(load.request(|name| if name == "a" && servers.len() > 1 { 0.0 } else { 1.0 }))
        });
        let out = load.pool.members.iter().filter(|member| member.server.is_ejected()).count();
        assert_eq!(out, ejected, "{servers}");
        let told = |change: &OutlierChange| matches!(change, OutlierChange::Prevented { .. });
        let expected = usize::from(servers.len() > 3) * (servers.split(' ').count() - 1 - ejected);
        assert_eq!(
            load.changes.iter().filter(|change| told(change)).count(),
            expected,
            "{servers}: each is told of once"
        );
    }
}

#[test]
fn a_server_that_is_down_counts_among_those_that_are_out() {
    let mut load = Load::new("a b c d", outlier(), 200, 7);
    ["c", "d"].iter().for_each(|name| set_down(&load.pool, name));
    (0..400).for_each(|_| drop(load.request(|_| 0.0)));
    (0..1_000).for_each(|_| drop(load.request(|name| f64::from(u8::from(name == "b")))));
    assert_eq!(load.ejected(), []);
    assert!(
        matches!(load.changes[..], [OutlierChange::Prevented { allowed: 2, of: 4, .. }]),
        "{:?}",
        load.changes
    );
}

/// Has b ejected.
fn with_b_ejected(plan: OutlierPlan) -> Load {
    let mut load = Load::new("a b c d", plan, 200, 3);
    (0..400).for_each(|_| drop(load.request(|_| 0.0)));
    while !load.is_ejected("b") {
        load.request(|name| f64::from(u8::from(name == "b")));
    }
    load.changes.clear();
    load
}

#[test]
fn it_comes_back_by_three_requests_that_go_well_one_at_a_time() {
    let mut load = with_b_ejected(outlier());
    let once = HealthThresholds { rise: NonZeroU32::MIN, fall: NonZeroU32::MIN };
    member(&load.pool, "b").observe(true, &once, load.now);
    assert!(load.is_ejected("b"), "a probe that passes is no reason");
    load.pass(Duration::from_secs(29));
    (0..20).for_each(|_| assert_ne!(load.request(|_| 0.0), "b"));
    load.pass(Duration::from_secs(2));
    assert!(matches!(load.changes[..], [OutlierChange::OnTrial { .. }]), "{:?}", load.changes);
    assert_ne!(
        load.lease(false).expect("others are ready").server().name().as_ref(),
        "b",
        "it may not be repeated"
    );
    let first = load.lease(true).expect("it is tried out");
    assert_eq!(first.server().name().as_ref(), "b");
    (0..9).for_each(|_| assert_ne!(load.request(|_| 0.0), "b", "one at a time"));
    first.finish(&Outcome::of(TryResult::answered(200)));
    assert_eq!([(); 2].map(|()| load.request(|_| 0.0)), ["b", "b"]);
    load.look();
    assert!(!load.is_ejected("b"));
    assert!(
        matches!(load.changes[..], [_, OutlierChange::Back { by_trial: true, .. }]),
        "{:?}",
        load.changes
    );
}

#[test]
fn each_ejection_that_is_not_lived_down_is_twice_as_long() {
    let mut load = with_b_ejected(outlier());
    let left = |load: &Load| {
        let ejection = member(&load.pool, "b").outlier().standing().ejection.expect("it is ejected");
        ejection.until.saturating_duration_since(ejection.began).as_secs()
    };
    for seconds in [30, 60, 120, 240, 300, 300] {
        assert_eq!(left(&load), seconds);
        load.pass(Duration::from_secs(seconds + 1));
        assert_eq!(load.request(|name| f64::from(u8::from(name == "b"))), "b", "it is tried out");
        load.look();
        assert!(load.is_ejected("b"), "and failed");
    }
    load.pass(Duration::from_secs(301));
    assert_eq!([(); 3].map(|()| load.request(|_| 0.0)), ["b", "b", "b"]);
    load.look();
    let strikes = |load: &Load| member(&load.pool, "b").outlier().standing().strikes;
    assert_eq!(strikes(&load), 7);
    load.pass(Duration::from_secs(91));
    assert_eq!(strikes(&load), 4, "one for each 30 s that it serves well");
}

#[test]
fn any_request_tries_it_out_where_none_comes_that_may_be_repeated() {
    let mut load = with_b_ejected(outlier());
    load.pass(Duration::from_secs(31));
    assert_ne!(load.lease(false).expect("others are ready").server().name().as_ref(), "b");
    load.pass(Duration::from_secs(10));
    assert_eq!(load.lease(false).expect("it is tried out").server().name().as_ref(), "b");
}

#[test]
fn one_that_stands_by_is_tried_out_only_while_no_other_server_is_used() {
    let mut wanted = pool(Balance::RoundRobin, "a b c");
    wanted.servers[1..].iter_mut().for_each(|server| server.backup = true);
    let mut load = Load::of(wanted, outlier(), 100, 1);
    let now = load.now;
    let (reason, evidence) = (Reason::WorseBy, String::new());
    let ejection = Ejection { reason, evidence, since: now, began: now, until: now, trial: None };
    member(&load.pool, "b").eject_again(Standing { strikes: 1, since: now, ejection: Some(ejection) });
    let once = HealthThresholds { rise: NonZeroU32::MIN, fall: NonZeroU32::MIN };
    let served = |load: &mut Load| [(); 30].map(|()| load.request(|_| 0.0)).concat();
    load.pass(Duration::from_secs(20));
    assert_eq!(served(&mut load), "a".repeat(30));
    assert!(!load.pool.outliers.has_trials() && load.changes.is_empty());

    set_down(&load.pool, "a");
    load.look();
    assert!(matches!(load.changes[..], [OutlierChange::OnTrial { .. }]), "{:?}", load.changes);
    assert_eq!(load.request(|_| 0.0), "b", "it is tried out");
    member(&load.pool, "a").observe(true, &once, load.now);
    load.look();
    assert_eq!(served(&mut load), "a".repeat(30));
    assert!(load.is_ejected("b") && !load.pool.outliers.has_trials());

    set_down(&load.pool, "a");
    load.look();
    assert_eq!([(); 3].map(|()| load.request(|_| 0.0)), ["b"; 3], "anew");
    load.look();
    assert!(!load.is_ejected("b"));
}

#[test]
fn a_pool_whose_others_go_down_is_served_by_those_that_were_ejected() {
    let mut load = with_b_ejected(outlier());
    ["a", "c", "d"].iter().for_each(|name| set_down(&load.pool, name));
    assert!(!load.pool.failing_open(), "b works");
    assert_eq!(load.request(|_| 0.0), "b", "at once");
    load.look();
    assert!(!load.is_ejected("b"));
    assert!(matches!(load.changes[..], [OutlierChange::Back { by_trial: false, .. }]), "{:?}", load.changes);
}

#[test]
fn who_is_slower_than_the_others_twice_in_a_row_is_ejected() {
    let plan = OutlierPlan {
        slower_than: Some("5x".parse().expect("a factor")),
        window: Duration::from_secs(2),
        ..outlier()
    };
    let mut load = Load::new("a b c d", plan, 200, 3);
    let serve = |load: &mut Load, times: u64, slow: u64| {
        for _ in 0..times {
            load.pass(load.pause);
            let lease = load.lease(true).expect("one is ready");
            let ms = if lease.server().name().as_ref() == "b" { slow } else { 10 };
            let outcome = Outcome::of(TryResult::answered(200));
            lease.finish(&outcome.after(Duration::from_millis(ms)));
        }
    };
    serve(&mut load, 2_000, 40);
    assert_eq!(load.ejected(), [], "four times as slow");
    serve(&mut load, 500, 200);
    serve(&mut load, 500, 10);
    assert_eq!(load.ejected(), [], "once");
    serve(&mut load, 1_600, 200);
    assert_eq!(load.ejected(), [("b".to_owned(), Reason::SlowerThan)]);
}

/// A pool that goes by load, whose servers take as long as `time_of` says of a server and a chance.
fn with_times(rate: u64, seconds: u64, time_of: impl Fn(&str, f64) -> u64) -> Load {
    let plan = OutlierPlan { slower_than: Some("5x".parse().expect("a factor")), ..outlier() };
    let mut load = Load::of(pool(Balance::LeastConnections, "a b c d"), plan, rate, 9);
    let mut busy: Vec<(Instant, Duration, Lease)> = Vec::new();
    for _ in 0..rate * seconds {
        load.pass(load.pause);
        let now = load.now;
        for (_, time, lease) in busy.extract_if(.., |(end, ..)| *end <= now) {
            lease.finish(&Outcome::of(TryResult::answered(200)).after(time));
        }
        let query = Query { entropy: load.chance().to_bits(), may_be_repeated: true, ..Query::default() };
        let lease = load.pool.pick(&query, &mut Tried::new()).expect("one is ready");
        let chance = load.chance();
        let time = Duration::from_millis(time_of(lease.server().name(), chance));
        busy.push((now + time, time, lease));
    }
    load
}

#[test]
fn one_that_is_so_slow_that_it_serves_little_is_ejected_too() {
    for (rate, slow) in [(100, 3_000), (100, 8_000), (20, 2_000)] {
        let load = with_times(rate, 200, |server, _| if server == "b" { slow } else { 20 });
        assert_eq!(
            load.ejected().first(),
            Some(&("b".to_owned(), Reason::SlowerThan)),
            "{slow} ms at {rate}/s"
        );
    }
}

#[test]
fn where_some_requests_take_long_everywhere_nobody_is_slow() {
    for rate in [2, 10, 100] {
        let load = with_times(rate, 20_000 / rate, |_, chance| if chance < 0.3 { 400 } else { 20 });
        assert_eq!(load.ejected(), [], "{rate}/s");
    }
}

#[test]
fn one_that_was_ejected_is_back_when_its_pool_ejects_nobody_any_more() {
    let load = with_b_ejected(outlier());
    let changes = OutlierWatch::release_all(&load.pool, load.now);
    assert!(matches!(changes[..], [OutlierChange::Back { by_trial: false, .. }]));
    assert!(!load.is_ejected("b"));
}
