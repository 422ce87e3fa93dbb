//! Whose requests fail: one client's say nothing of a server, wherever they gather.

use super::scene::{Scene, scene};
use super::*;

/// One of 300 clients.
fn many_clients(chance: f64) -> Option<u64> {
    Some(1_000 + (chance * 300.0) as u64)
}

/// All are one client, as behind a proxy that nobody trusts.
fn one_client(_: f64) -> Option<u64> {
    Some(1_000)
}

#[test]
fn bursts_of_what_fails_for_one_client_have_no_server_ejected_by_peak_ewma() {
    for seed in 0..9 {
        for (many, pace) in [(12, 25), (40, 8), (40, 25), (40, 100)] {
            let mut scene = scene(Balance::PeakEwma, seed);
            for _ in 0..10 {
                scene.burst(many, Duration::from_millis(pace), 7, many_clients);
                scene.serve_clients(Duration::from_millis(1_500), 200, |_| 0.0, many_clients);
            }
            assert_eq!(scene.load.ejected(), [], "{seed}: {many}, one each {pace} ms");
        }
    }
}

#[test]
fn a_page_that_fails_for_one_client_each_time_one_server_has_its_turn_has_nobody_ejected() {
    for rate in [20, 200, 2_000] {
        let mut scene = Scene::new(Balance::RoundRobin, "a b c d e", rate, [5; 5], 1);
        scene.serve_clients(Duration::from_secs(11), 200, |_| 0.0, many_clients);
        let pause = scene.load.pause;
        let mut failed_at = [0; 5];
        for _ in 0..400 {
            failed_at[scene.one(pause, Some(7), true)] += 1;
            for client in 0..4 {
                scene.one(pause, Some(1_000 + client), false);
            }
        }
        failed_at.sort_unstable();
        assert_eq!(failed_at, [0, 0, 0, 0, 400], "one server has had them all");
        assert_eq!(scene.load.ejected(), [], "{rate}");
    }
}

/// Of the server's own how many it takes from its first failure until it is ejected, by the clients that ask.
fn until_ejected(mut scene: Scene, share: f64, asks: impl Fn(f64) -> Option<u64> + Copy) -> usize {
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
