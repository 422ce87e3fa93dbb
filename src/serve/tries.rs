//! The place between a pool's decision and a try of a request or a TCP connection: whoever watches it is told whose turn
//! it is, and here it waits where every usable server is full.

use crate::access_log::{Queued, Why};
use crate::config::plan::Name;
use crate::control::Live;
use crate::edge::Watched;
use crate::pool::queue::{Answer, QueuePlace};
use crate::pool::{
    Attempt, NextTry, NoServer, Outcome, Patience, Pool, Query, Refusal, RetryReason, Server, Tries,
    TryResult,
};
use crate::select::consistent_hash::hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is asked of a pool for a client whose connection or session is balanced as a whole.
pub(super) fn query_of_client(pool: &Pool, client: &str) -> Query {
    Query {
        key: pool.hash_key().map(|_| hash(client.as_bytes())),
        entropy: fastrand::u64(..),
        // No server has seen anything of it when its connection fails.
        may_be_repeated: true,
        ..Query::default()
    }
}

/// The pool that serves what is sent to this one, and this one's name if it is another.
pub(super) fn or_fallback(live: &Live, pool: &Arc<Pool>) -> (Arc<Pool>, Option<Name>) {
    if pool.plan.fallback.is_some() && !pool.has_usable() {
        let snapshot = live.snapshot();
        let serving = snapshot.serving(pool);
        if !Arc::ptr_eq(serving, pool) {
            pool.stats.count_fallback();
            return (Arc::clone(serving), Some(pool.name.clone()));
        }
    }
    (Arc::clone(pool), None)
}

/// Leases a server for the first try. Where it waits for that, the whole is to be over by `due`.
pub(super) async fn begin(
    tries: &mut Tries,
    attempt: &mut Attempt,
    watch: &Watched,
    queued: &mut Option<Queued>,
    due: Option<Instant>,
) -> Result<Arc<Server>, Why> {
    let server = match tries.begin(attempt, Instant::now()) {
        Ok(server) => Arc::clone(server),
        Err(NoServer::AllFull | NoServer::Unproven) if tries.may_wait() => {
            if let Some(due) = due {
                watch.deadline_at(due, Why::RequestTimeout);
            }
            let waited = Box::pin(wait(tries, attempt, watch, queued)).await;
            // It was the wait's; what comes now has limits of its own.
            watch.no_deadline();
            waited?
        }
        Err(none) => return Err(Refusal::from(none).into()),
    };
    watch.leased_to(server.id());
    Ok(server)
}

/// Leases a server for one try more after one that failed like this and ended so; without (`None`), what that has brought
/// stands. A connection that could not be opened may wait for one.
pub(super) async fn again(
    tries: &mut Tries,
    attempt: &mut Attempt,
    watch: &Watched,
    queued: &mut Option<Queued>,
    reason: RetryReason,
    outcome: &Outcome,
) -> Result<Option<Arc<Server>>, Why> {
    let server = match tries.again(attempt, reason, outcome, Instant::now()) {
        NextTry::At(server) => Arc::clone(server),
        NextTry::None => return Ok(None),
        NextTry::Waits => {
            attempt.end(outcome);
            watch.lease_ended();
            match Box::pin(wait(tries, attempt, watch, queued)).await {
                Ok(server) => server,
                Err(why) if why.is_of_queue() || watch.interrupted().is_some() => return Err(why),
                // Nothing is left to wait for.
                Err(_) => return Ok(None),
            }
        }
    };
    watch.leased_to(server.id());
    // The second try goes at once; where more are needed, those of many requests are not to come together.
    if let Some(most) = pause_before(attempt.number()) {
        let paused = watch.heed(tokio::time::sleep(most.mul_f64(fastrand::f64()))).await;
        // It never had the request: what the one before has done is not held against it.
        paused.inspect_err(|_| attempt.end(&Outcome::of(TryResult::NotServersFault)))?;
    }
    Ok(Some(server))
}

/// How long the try of this number waits at most: "full jitter" of 25 ms, twice as much each time, up to 250 ms.
fn pause_before(number: u32) -> Option<Duration> {
    let doublings = number.checked_sub(3)?;
    Some(Duration::from_millis(25).saturating_mul(1 << doublings.min(10)).min(Duration::from_millis(250)))
}

/// Waits for a server with room. In a box, as what is rare.
async fn wait(
    tries: &mut Tries,
    attempt: &mut Attempt,
    watch: &Watched,
    queued: &mut Option<Queued>,
) -> Result<Arc<Server>, Why> {
    let began = Instant::now();
    let waited_before = queued.map_or_else(Default::default, |queued| queued.waited);
    let (place, patience) = tries.enter(began)?;
    let here = u32::try_from(place.position()).unwrap_or(u32::MAX);
    let position = queued.map_or(here, |queued| queued.position);
    let wait = Wait { began, before: waited_before, position, queued };
    let answer = watch.heed(answer(place, patience, waited_before)).await;
    drop(wait);
    Ok(Arc::clone(tries.take(answer??, attempt, Instant::now())))
}

/// Notes how long a wait has taken when it ends, be it that its client has left.
struct Wait<'a> {
    began: Instant,
    before: Duration,
    position: u32,
    queued: &'a mut Option<Queued>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        *self.queued = Some(Queued { waited: self.before + self.began.elapsed(), position: self.position });
    }
}

/// What becomes of a place that is kept for so long, less what was waited before.
async fn answer(mut place: QueuePlace, patience: Patience, waited_before: Duration) -> Answer {
    let left = patience.whole.saturating_sub(waited_before);
    let (bound, any) = match patience.bound {
        Some(bound) => (bound.min(left), left.saturating_sub(bound)),
        None => (Duration::ZERO, left),
    };
    if !bound.is_zero() {
        match tokio::time::timeout(bound, &mut place).await {
            Ok(answer) => return answer,
            Err(_) => place.unbind(),
        }
    }
    match tokio::time::timeout(any, &mut place).await {
        Ok(answer) => answer,
        Err(_) => place.time_out(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Balance;
    use crate::edge::Watch;
    use crate::pool::TryVerdict;
    use crate::pool::sample;

    #[tokio::test]
    async fn a_server_whose_try_never_began_is_not_blamed_for_the_one_before() {
        let mut plan = sample::pool(Balance::RoundRobin, "a b c");
        plan.retries.max = 5;
        let pool = sample::live(plan);
        let (watch, failed) = (Watched::new(Watch::new(1)), Outcome::of(TryResult::ConnectFailed));
        let (mut tries, mut attempt) = (Tries::new(Arc::clone(&pool), Query::default()), Attempt::default());
        begin(&mut tries, &mut attempt, &watch, &mut None, None).await.expect("a server is ready");
        let mut again =
            async || again(&mut tries, &mut attempt, &watch, &mut None, RetryReason::Connect, &failed).await;
        assert!(again().await.is_ok_and(|server| server.is_some()), "the second goes at once");
        watch.interrupt(Why::Drained);
        assert_eq!(again().await.err(), Some(Why::Drained));
        attempt.end(&failed);
        let count =
            |verdict| pool.members.iter().map(|member| member.server.tries().of(verdict)).sum::<u64>();
        assert_eq!((count(TryVerdict::Failed), count(TryVerdict::Neutral)), (2, 1));
    }

    #[test]
    fn the_second_try_goes_at_once_and_later_ones_spread() {
        let most = [1, 2, 3, 4, 5, 6, 7, 99].map(|number| pause_before(number).map(|most| most.as_millis()));
        assert_eq!(most, [None, None, Some(25), Some(50), Some(100), Some(200), Some(250), Some(250)]);
    }
}
