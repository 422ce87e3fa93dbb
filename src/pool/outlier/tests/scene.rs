//! A pool whose servers take their time, with whatever they are chosen by, and whose requests may be known by client.

use super::*;
use crate::pool::JudgedBy;
use crate::pool::success_watch::SuccessWatch;

pub(super) const SERVERS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A pool under load whose servers take so many milliseconds each.
pub(super) struct Scene {
    pub(super) load: Load,
    millis: [u64; 5],
    busy: Vec<Busy>,
    success: SuccessWatch,
    success_looked: Instant,
}

/// A request that a server has.
struct Busy {
    lease: Lease,
    end: Instant,
    time: Duration,
    source: Option<Source>,
    /// It fails whoever has it.
    fails: bool,
}

impl Scene {
    pub(super) fn new(balance: Balance, servers: &str, rate: u64, millis: [u64; 5], seed: u64) -> Self {
        let load = Load::of(pool(balance, servers), outlier(), rate, seed);
        let success_looked = load.now;
        Self { load, millis, busy: Vec::new(), success: SuccessWatch::default(), success_looked }
    }

    /// Requests for so long, of which each server fails its share by that status. Who of them had how many.
    pub(super) fn serve(
        &mut self,
        long: Duration,
        status: u16,
        share_of: impl Fn(&str) -> f64,
    ) -> [usize; 5] {
        self.serve_clients(long, status, share_of, |_| None)
    }

    /// The same with requests whose client, if anybody wants to know, follows from a chance of 0 to 1.
    pub(super) fn serve_clients(
        &mut self,
        long: Duration,
        status: u16,
        share_of: impl Fn(&str) -> f64,
        asks: impl Fn(f64) -> Option<u64>,
    ) -> [usize; 5] {
        let (until, mut served) = (self.load.now + long, [0; 5]);
        while self.load.now < until {
            let pause = self.load.pause.mul_f64(2.0 * self.load.chance());
            self.pass(pause, status, &share_of);
            let asked = asks(self.load.chance()).and_then(|client| self.source(client));
            let index = self.request(asked, false, None);
            served[index] += 1;
        }
        served
    }

    /// One request of this client after so long, which fails or not; who has it.
    pub(super) fn one(&mut self, pause: Duration, client: Option<u64>, fails: bool) -> usize {
        self.pass(pause, 500, &|_| 0.0);
        let source = client.and_then(|client| self.source(client));
        self.request(source, fails, None)
    }

    /// So many requests of one client, one each `pace`, which fail at once whoever has them; beside the others'.
    pub(super) fn burst(
        &mut self,
        many: usize,
        pace: Duration,
        client: u64,
        others: impl Fn(f64) -> Option<u64>,
    ) {
        let status = if many.is_multiple_of(8) { 503 } else { 500 };
        for _ in 0..many {
            let next = self.load.now + pace;
            while self.load.now + self.load.pause < next {
                self.pass(self.load.pause, status, &|_| 0.0);
                let source = others(self.load.chance()).and_then(|client| self.source(client));
                self.request(source, false, None);
            }
            self.pass(next - self.load.now, status, &|_| 0.0);
            let source = self.source(client);
            self.request(source, true, Some(Duration::from_millis(3)));
        }
    }

    /// As a request's source is made where it is dispatched.
    fn source(&self, client: u64) -> Option<Source> {
        let source = Source::new(hash(&client.to_be_bytes()), None);
        Some(match self.load.pool.judged_by()? {
            JudgedBy::Client => source,
            JudgedBy::ClientElsewhere => source.served_anywhere(),
        })
    }

    /// Who has it now.
    fn request(&mut self, source: Option<Source>, fails: bool, time: Option<Duration>) -> usize {
        let key = Some((self.load.chance() * 1e6) as u64).map(|key| hash(&key.to_be_bytes()));
        let entropy = (self.load.chance() * u64::MAX as f64) as u64;
        let query = Query { key, entropy, may_be_repeated: true, now: Some(self.load.now) };
        let lease = self.load.pool.pick(&query, &mut Tried::new()).expect("one is ready");
        let index = lease.index();
        let time = time.unwrap_or(Duration::from_millis(self.millis[index]));
        self.busy.push(Busy { lease, end: self.load.now + time, time, source, fails });
        index
    }

    /// Time goes on; what is over by then has ended.
    fn pass(&mut self, time: Duration, status: u16, share_of: &impl Fn(&str) -> f64) {
        self.load.pass(time);
        let now = self.load.now;
        let over: Vec<_> = self.busy.extract_if(.., |busy| busy.end <= now).collect();
        for Busy { lease, time, source, fails, .. } in over {
            let fails = self.load.chance() < share_of(SERVERS[lease.index()]) || fails;
            let answered = TryResult::answered(if fails { status } else { 200 });
            lease.finish(&Outcome { source, ..Outcome::of(answered).after(time) });
        }
        self.look();
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
pub(super) fn scene(balance: Balance, seed: u64) -> Scene {
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
