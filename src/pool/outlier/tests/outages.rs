//! Outages that all servers of a pool have, with whatever they are chosen by.

use super::scene::scene;
use super::*;
use crate::pool::sample::every_balance;

/// What befalls all of a pool's servers.
#[derive(Clone, Copy, Debug)]
struct Outage {
    long: Duration,
    share: f64,
    status: u16,
}

/// Who is ejected during this outage of all servers, and after it.
fn ejected_by(outage: Outage, balance: Balance, seed: u64) -> Vec<(String, Reason)> {
    let mut scene = scene(balance, seed);
    scene.serve(outage.long, outage.status, |_| outage.share);
    scene.serve(Duration::from_secs(15), 200, |_| 0.0);
    scene.load.ejected()
}

#[test]
fn an_outage_that_all_have_has_nobody_ejected_during_or_after_it() {
    let mut runs = 0;
    let mut wrong = Vec::new();
    for balance in every_balance() {
        for (millis, share) in
            [(50, 1.0), (300, 1.0), (1_000, 1.0), (3_000, 1.0), (12_000, 1.0), (5_000, 0.4)]
        {
            let learns = matches!(balance, Balance::PeakEwma | Balance::SuccessRate(_));
            for seed in if learns { 0..9 } else { 0..3 } {
                runs += 1;
                let status = if seed % 2 == 0 { 500 } else { 503 };
                let outage = Outage { long: Duration::from_millis(millis), share, status };
                let ejected = ejected_by(outage, balance.clone(), seed);
                if !ejected.is_empty() {
                    wrong.push(format!("{} {outage:?} {seed}: {ejected:?}", balance.word()));
                }
            }
        }
    }
    // By chance some may seem better than the others.
    assert!(wrong.len() * 200 <= runs, "{} of {runs}: {wrong:#?}", wrong.len());
}

#[test]
fn who_fails_alone_is_ejected_whatever_servers_are_chosen_by() {
    for balance in every_balance() {
        for (share, most) in [(1.0, 40), (0.3, 100)] {
            let needed = |seed: u64| {
                let mut scene = scene(balance.clone(), seed);
                let mut own = 0;
                while !scene.load.is_ejected("b") && own < 1_000 {
                    let fails = |server: &str| if server == "b" { share } else { 0.0 };
                    own += scene.serve(Duration::from_millis(10), 500, fails)[1];
                }
                own
            };
            let needed = median([0, 3, 4].map(needed).to_vec());
            assert!((5..=most).contains(&needed), "{} {share}: {needed}", balance.word());
        }
    }
}

#[test]
fn who_goes_on_failing_after_an_outage_that_all_had_is_ejected_soon() {
    for balance in every_balance() {
        for seed in [0, 3, 6] {
            let mut scene = scene(balance.clone(), seed);
            scene.serve(Duration::from_secs(3), 503, |_| 1.0);
            let mut own = 0;
            while !scene.load.is_ejected("b") && own < 1_000 {
                own += scene
                    .serve(Duration::from_millis(10), 503, |server| f64::from(u8::from(server == "b")))[1];
            }
            assert!((5..=100).contains(&own), "{} {seed}: {own}", balance.word());
            assert_eq!(
                scene.load.ejected().len(),
                1,
                "{} {seed}: {:?}",
                balance.word(),
                scene.load.ejected()
            );
        }
    }
}
