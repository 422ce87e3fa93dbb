//! What policies cost: look-ups in networks, and limits. Run with `cargo bench --bench policy`.
#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use evenkeel::limit::{ClientPrefix, ConcurrencyTable, KeyHasher, LimitSecret, Rate, RateTable};
use evenkeel::networks::{NetworkSet, read_list};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Numbers that look like chance, the same in each run.
fn number(turn: &mut u64) -> u64 {
    *turn = turn.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (*turn ^ *turn >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number ^ number >> 32
}

fn v4(turn: &mut u64) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(number(turn) as u32))
}

fn v6(turn: &mut u64) -> IpAddr {
    let high = (0x2001_u128 << 112) | (u128::from(number(turn)) << 48);
    IpAddr::V6(Ipv6Addr::from(high | u128::from(number(turn) as u32)))
}

/// So many networks, a line each.
fn list(n: usize, address: impl Fn(&mut u64) -> IpAddr) -> Vec<u8> {
    let mut turn = 7;
    let line = |_| {
        let address = address(&mut turn);
        let prefix = if address.is_ipv4() { 24 } else { 48 };
        let network = ipnet::IpNet::new(address, prefix).expect("a prefix").trunc();
        format!("{network}\n")
    };
    (0..n).map(line).collect::<String>().into_bytes()
}

fn networks(c: &mut Criterion) {
    let mut group = c.benchmark_group("networks");
    for n in [100, 100_000, 1_000_000] {
        let (bytes, bytes_v6) = (list(n, v4), list(n, v6));
        let set: NetworkSet = read_list(&bytes).expect("a good list").0;
        let set_v6: NetworkSet = read_list(&bytes_v6).expect("a good list").0;
        let mut turn = 1;
        group.bench_function(format!("contains/v4/{n}"), |b| {
            b.iter(|| set.contains(black_box(v4(&mut turn))))
        });
        group.bench_function(format!("contains/v6/{n}"), |b| {
            b.iter(|| set_v6.contains(black_box(v6(&mut turn))))
        });
        group.sample_size(10);
        group.bench_function(format!("load/v4/{n}"), |b| b.iter(|| read_list(black_box(&bytes))));
        group.bench_function(format!("load/v6/{n}"), |b| b.iter(|| read_list(black_box(&bytes_v6))));
        group.sample_size(100);
    }
    group.finish();
}

fn limits(c: &mut Criterion) {
    let began = Instant::now();
    let (secret, prefix) = (LimitSecret::new(), ClientPrefix::default());
    let rate =
        |requests| Rate::new(NonZeroU32::new(requests).expect("not zero"), Duration::from_secs(1), None);
    let key = |address| KeyHasher::new(&secret, 1).client(Some(address), prefix).finish();
    let mut group = c.benchmark_group("limit");
    let table = RateTable::new(1_000_000, began);
    let one = "192.0.2.7".parse().expect("an address");
    group.bench_function("key", |b| b.iter(|| key(black_box(one))));
    let mut now = began;
    group.bench_function("rate/one_client", |b| {
        b.iter(|| {
            now += Duration::from_micros(10);
            table.take(key(black_box(one)), rate(1_000_000), now)
        });
    });
    let mut turn = 1;
    group.bench_function("rate/refused", |b| {
        b.iter(|| table.take(key(black_box(one)), rate(1), now));
    });
    group.bench_function("rate/many_clients", |b| {
        b.iter(|| {
            now += Duration::from_micros(10);
            table.take(key(v6(&mut turn)), rate(50), now)
        });
    });
    let full = RateTable::new(10_000, began);
    group.bench_function("rate/no_room", |b| {
        b.iter(|| full.take(key(v6(&mut turn)), rate(1), began));
    });
    let under_way = ConcurrencyTable::new(100_000);
    let most = NonZeroU32::new(50).expect("not zero");
    group.bench_function("concurrency/in_and_out", |b| b.iter(|| under_way.enter(key(black_box(one)), most)));
    group.finish();
}

criterion_group!(benches, networks, limits);
criterion_main!(benches);
