//! Whose requests fail: one client's say nothing of a server, wherever they gather.

use super::scene::{Scene, scene};
use super::*;
use crate::pool::sample::every_balance;

/// One of 300 clients, who each ask for 40 pages.
fn many_clients(chance: f64) -> Option<(u64, u64)> {
    let number = (chance * 12_000.0) as u64;
    Some((1_000 + number / 40, number % 40))
}

/// All are one client, as behind a proxy that nobody trusts, and ask for ten pages.
fn one_client(chance: f64) -> Option<(u64, u64)> {
    Some((1_000, (chance * 10.0) as u64))
}

#[test]
fn bursts_of_a_page_that_fails_for_one_client_have_no_server_ejected() {
    let learns = |balance: &Balance| matches!(balance, Balance::PeakEwma);
    for balance in every_balance() {
        for seed in (0..9).filter(|seed| learns(&balance) || [0, 4].contains(seed)) {
            for (many, pace) in [(12, 25), (40, 8), (40, 25), (40, 100)] {
                let mut scene = scene(balance.clone(), seed);
                for _ in 0..if learns(&balance) { 10 } else { 3 } {
                    scene.burst(many, Duration::from_millis(pace), (7, 99), many_clients);
                    scene.serve_clients(Duration::from_millis(1_500), 200, |_| 0.0, many_clients);
                }
                let ejected = scene.load.ejected();
                assert_eq!(ejected, [], "{} {seed}: {many}, one each {pace} ms", balance.word());
            }
        }
    }
}

/// Of the server's own how many it takes from its first failure until it is ejected, by the clients that ask.
fn until_ejected(mut scene: Scene, share: f64, asks: impl Fn(f64) -> Option<(u64, u64)> + Copy) -> usize {
    scene.serve_clients(Duration::from_secs(5), 200, |_| 0.0, asks);
    let mut own = 0;
    while !scene.load.is_ejected("b") && own < 300 {
        let fails = |server: &str| if server == "b" { share } else { 0.0 };
        own += scene.serve_clients(Duration::from_millis(10), 503, fails, asks)[1];
    }
    own
}

#[test]
fn who_fails_alone_is_ejected_whoever_asks() {
    for (share, most) in [(1.0, 40), (0.3, 120)] {
        for asks in [many_clients, one_client] {
            for balance in [Balance::PeakEwma, Balance::RoundRobin] {
                let needed = |seed| until_ejected(scene(balance.clone(), seed), share, asks);
                let needed: Vec<_> = [0, 3, 4].map(needed).to_vec();
                let word = balance.word();
                assert!((5..=most).contains(&median(needed.clone())), "{word} {share}: {needed:?}");
            }
        }
    }
}
