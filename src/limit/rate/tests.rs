//! What rates let in, beside a second implementation of the same algorithm.

use super::*;
use crate::limit::{ClientPrefix, KeyHasher, LimitSecret};
use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv6Addr};

const SECOND: Duration = Duration::from_secs(1);

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn rate(requests: u32, per: Duration, burst: u32) -> Rate {
    Rate::new(number(requests), per, NonZeroU32::new(burst))
}

fn passes(verdict: RateVerdict) -> bool {
    matches!(verdict, RateVerdict::Passes { .. })
}

#[test]
fn a_burst_is_a_seconds_worth_and_at_least_one() {
    for (requests, per, burst) in [(50, 1, 50), (100, 60, 1), (600, 60, 10), (1, 3600, 1), (7200, 3600, 2)] {
        assert_eq!(rate(requests, SECOND * per, 0).burst.get(), burst, "{requests} in {per} s");
    }
}

#[test]
fn who_is_over_is_told_when_to_come_again_and_pays_nothing() {
    let now = Instant::now();
    let table = RateTable::new(64, now);
    let rate = rate(2, SECOND, 2);
    let passed = |left, reset| RateVerdict::Passes { wait: Duration::ZERO, left, reset };
    assert_eq!(table.take(7, rate, now), passed(1, SECOND / 2));
    assert_eq!(table.take(7, rate, now), passed(0, SECOND));
    for _ in 0..10 {
        assert_eq!(table.take(7, rate, now), RateVerdict::Over { retry_after: SECOND / 2 });
    }
    assert_eq!(table.look(7, rate, now), RateVerdict::Over { retry_after: SECOND / 2 });
    assert!(passes(table.look(7, rate, now + SECOND / 2)), "to look costs nothing");
    assert!(passes(table.take(7, rate, now + SECOND / 2)));
    assert!(!passes(table.take(7, rate, now + SECOND / 2)));
    assert!(passes(table.take(8, rate, now)), "another's debt is not its own");
    assert_eq!(table.in_debt(now), 2);
    assert_eq!(table.in_debt(now + SECOND * 2), 0);
}

#[test]
fn a_delay_spreads_what_comes_at_once() {
    let now = Instant::now();
    let table = RateTable::new(64, now);
    let rate = rate(10, SECOND, 1);
    let waits: Vec<_> = (0..12).map(|_| table.take_delayed(7, rate, SECOND, now)).collect();
    for (turn, verdict) in waits.iter().enumerate().take(11) {
        let RateVerdict::Passes { wait, .. } = verdict else { panic!("{turn}: {verdict:?}") };
        assert_eq!(wait.as_millis(), turn as u128 * 100);
    }
    assert!(!passes(waits[11]), "no longer than it may");
}

#[test]
fn what_is_charged_afterwards_is_owed_however_much_came_at_once() {
    let now = Instant::now();
    let table = RateTable::new(64, now);
    let rate = rate(3, Duration::from_secs(60), 3);
    let empties: Vec<_> = (0..5).map(|_| table.charge(7, rate, now)).collect();
    assert_eq!(empties, [false, false, true, true, true]);
    assert!(!passes(table.look(7, rate, now)));
    let later = |seconds| table.look(7, rate, now + Duration::from_secs(seconds));
    assert!(
        !passes(later(59)) && passes(later(60)),
        "five are paid by one every 20 s, but for the two of the burst"
    );
    table.forgive(7);
    assert!(passes(table.look(7, rate, now)));
}

#[test]
fn seconds_are_rounded_up_and_never_none() {
    for (ms, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60)] {
        assert_eq!(seconds_up(Duration::from_millis(ms)), seconds, "{ms} ms");
    }
}

/// A million networks that come once, among them one client that keeps asking.
#[test]
fn a_flood_of_networks_forgives_nobody() {
    let began = Instant::now();
    let table = RateTable::new(1 << 16, began);
    let (secret, prefix) = (LimitSecret::new(), ClientPrefix { v4: 32, v6: 64 });
    let rate = rate(10, Duration::from_secs(60), 10);
    let key = |address| KeyHasher::new(&secret, 1).client(Some(address), prefix).finish();
    let debtor = key("192.0.2.7".parse().unwrap());
    let mut passed = 0;
    for n in 0..1_000_000u128 {
        let now = began + Duration::from_secs(10).mul_f64(n as f64 / 1e6);
        let stranger = IpAddr::V6(Ipv6Addr::from((0x2001_0db8 << 96) + (n << 64) + n));
        table.take(key(stranger), rate, now);
        if n % 100 == 0 {
            passed += u32::from(passes(table.take(debtor, rate, now)));
        }
    }
    // The burst, and what comes back in ten seconds.
    assert_eq!(passed, 10 + 1);
    assert!(table.shared() > 900_000 - (1 << 16), "{}", table.shared());
}

#[test]
fn no_client_passes_more_often_by_asking_on_all_cores_at_once() {
    for _ in 0..20 {
        let now = Instant::now();
        let table = RateTable::new(64, now);
        let rate = rate(100, SECOND, 100);
        let count = || (0..1_000).filter(|_| passes(table.take(7, rate, now))).count();
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 100);
    }
}

proptest! {
    #[test]
    fn a_rate_lets_in_what_a_second_implementation_lets_in(
        // Divisors of a second, so that both count in whole parts.
        requests in prop::sample::select(vec![1u32, 2, 4, 5, 8, 10, 16, 25, 32, 40, 50, 64, 100, 125, 1000, 8000]),
        burst in 1u32..50,
        steps in prop::collection::vec((0u64..3_000, 1usize..4), 1..200),
    ) {
        let began = Instant::now();
        let table = RateTable::new(8, began);
        let own = rate(requests, SECOND, burst);
        let clock = FakeRelativeClock::default();
        let quota = Quota::per_second(number(requests)).allow_burst(number(burst));
        let other = RateLimiter::direct_with_clock(quota, clock.clone());
        let mut now = began;
        for (ms, times) in steps {
            let step = Duration::from_millis(ms);
            now += step;
            clock.advance(step);
            for _ in 0..times {
                prop_assert_eq!(passes(table.take(7, own, now)), other.check().is_ok());
            }
        }
    }

    #[test]
    fn nobody_passes_more_often_than_rate_and_burst_allow(
        requests in 1u32..100_000,
        per in prop::sample::select(vec![1u64, 60, 3600]),
        burst in 1u32..100,
        steps in prop::collection::vec(0u64..50_000_000, 1..300),
    ) {
        let began = Instant::now();
        let table = RateTable::new(8, began);
        let own = rate(requests, SECOND * per as u32, burst);
        let (mut now, mut passed) = (began, 0u32);
        for ns in steps {
            now += Duration::from_nanos(ns);
            passed += u32::from(passes(table.take(7, own, now)));
        }
        let allowed = f64::from(burst) + (now - began).as_secs_f64() * f64::from(requests) / per as f64;
        prop_assert!(f64::from(passed) <= allowed + 1e-6, "{} of {}", passed, allowed);
    }
}
