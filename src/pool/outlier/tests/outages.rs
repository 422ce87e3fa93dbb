//! Outages that all servers of a pool have, with whatever they are chosen by.

use super::*;
use crate::pool::sample::every_balance;
use crate::pool::success_watch::SuccessWatch;

const SERVERS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What befalls all of a pool's servers.
#[derive(Clone, Copy, Debug)]
struct Outage {
    long: Duration,
    share: f64,
    status: u16,
}

/// A pool under load whose servers take so many milliseconds each.
struct Scene {
    load: Load,
    millis: [u64; 5],
    busy: Vec<(Instant, Lease)>,
    success: SuccessWatch,
    success_looked: Instant,
}

impl Scene {
    fn new(balance: Balance, servers: &str, rate: u64, millis: [u64; 5], seed: u64) -> Self {
        let load = Load::of(pool(balance, servers), outlier(), rate, seed);
        let success_looked = load.now;
        Self { load, millis, busy: Vec::new(), success: SuccessWatch::default(), success_looked }
    }

    /// Requests for so long, of which each server fails its share by that status. Who of them had how many.
    fn serve(&mut self, long: Duration, status: u16, share_of: impl Fn(&str) -> f64) -> [usize; 5] {
        let (until, mut served) = (self.load.now + long, [0; 5]);
        while self.load.now < until {
            let pause = self.load.pause.mul_f64(2.0 * self.load.chance());
            self.load.pass(pause);
            self.end_those_that_are_over(status, &share_of);
            self.look();
            let key = Some((self.load.chance() * 1e6) as u64).map(|key| hash(&key.to_be_bytes()));
            let entropy = (self.load.chance() * u64::MAX as f64) as u64;
            let query = Query { key, entropy, may_be_repeated: true, now: Some(self.load.now) };
            let lease = self.load.pool.pick(&query, &mut Tried::new()).expect("one is ready");
            let index = lease.index();
            served[index] += 1;
            self.busy.push((self.load.now + self.time_of(index), lease));
        }
        served
    }

    fn end_those_that_are_over(&mut self, status: u16, share_of: impl Fn(&str) -> f64) {
        let now = self.load.now;
        let over: Vec<_> = self.busy.extract_if(.., |(end, _)| *end <= now).collect();
        for (_, lease) in over {
            let fails = self.load.chance() < share_of(SERVERS[lease.index()]);
            let answered = TryResult::answered(if fails { status } else { 200 });
            let time = self.time_of(lease.index());
            lease.finish(&Outcome::of(answered).after(time));
        }
    }

    fn time_of(&self, index: usize) -> Duration {
        Duration::from_millis(self.millis[index])
    }

    fn look(&mut self) {
        if self.load.now - self.load.looked >= Duration::from_millis(20) && is_suspected(&self.load.pool) {
            self.load.look();
        }
        let Balance::SuccessRate(plan) = &self.load.pool.plan.balance else { return };
        if self.load.now - self.success_looked >= Duration::from_secs(1) {
            self.success_looked = self.load.now;
            self.success.look(&self.load.pool, plan, self.load.now);
        }
    }
}

/// One of nine scenes, by how uneven its servers are and how much they have to do, with nothing wrong as yet.
fn scene(balance: Balance, seed: u64) -> Scene {
    let (servers, millis) = match seed % 3 {
        0 => ("a b c d e", [5, 6, 7, 8, 9]),
        1 => ("a b c d e", [5, 30, 30, 40, 50]),
        _ => ("a=256 b=8 c=8 d=8 e=8", [2, 60, 80, 100, 120]),
    };
    let rate = [50, 200, 1_000][seed as usize / 3 % 3];
    let mut scene = Scene::new(balance, servers, rate, millis, seed + 1);
    scene.serve(Duration::from_secs(11), 200, |_| 0.0);
    scene
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
