//! What was counted of pools and servers, for whoever tells how they do.

use super::{Metrics, RequestLabels, RequestSeries, lock};
use crate::access_log::Why;
use crate::config::plan::Name;
use crate::history::{Ended, Spread, Totals};
use crate::pool::stats::Histogram;
use crate::pool::{Member, RetryReason};
use crate::snapshot::Snapshot;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What has been counted since the start, series by series. Series end with their servers and routes, so sums over them
/// may shrink; only what each has grown by says anything.
#[derive(Clone, Debug, Default)]
pub struct SeriesTotals {
    parts: HashMap<SeriesKey, Totals>,
    /// In flight now.
    pools: HashMap<Name, u32>,
    /// By id.
    servers: HashMap<u32, u32>,
}

/// One series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum SeriesKey {
    Requests(RequestLabels),
    Connections(RequestLabels),
    Sessions(RequestLabels),
    /// Connections that could not be opened, of a pool.
    Connects(Name),
    /// Responses that began, and those that stay unfinished, of a pool's server.
    Answers(Name, u32),
}

/// What was counted by pool and by server.
#[derive(Clone, Debug, Default)]
pub struct Growth {
    pub pools: HashMap<Name, Totals>,
    /// By id.
    pub servers: HashMap<u32, Totals>,
}

/// What has been counted of what there is now; it never shrinks.
#[derive(Debug, Default)]
pub struct GrowingTotals {
    last: SeriesTotals,
    sums: Growth,
}

impl Metrics {
    /// Reads what is counted of `snapshot`. It walks all series: once a second is often enough.
    pub fn tally(&self, snapshot: &Snapshot) -> SeriesTotals {
        let mut tally = SeriesTotals::default();
        for pool in snapshot.pools() {
            let in_flight = pool.members.iter().map(|member| member.server.in_flight()).sum();
            tally.pools.insert(pool.name.clone(), in_flight);
            let in_flight = pool.members.iter().map(|member| (member.server.id(), member.server.in_flight()));
            tally.servers.extend(in_flight);
            for Member { server, .. } in &pool.members {
                let (answers, in_vain) = (server.answers.load(Relaxed), server.left_in_vain.load(Relaxed));
                let counted = Totals { answers, in_vain, ..Totals::default() };
                tally.parts.insert(SeriesKey::Answers(pool.name.clone(), server.id()), counted);
            }
            // Those that a retry has saved; what failed for good is among the errors.
            let connect_failures = pool.stats.retries(RetryReason::Connect);
            let earlier =
                Ended { connect_failures: pool.stats.earlier_connect_retries(), ..Ended::default() };
            let counted = Totals { connect_failures, earlier, ..Totals::default() };
            tally.parts.insert(SeriesKey::Connects(pool.name.clone()), counted);
        }
        for (labels, series) in &*lock(&self.requests) {
            tally.parts.insert(SeriesKey::Requests(labels.clone()), of_requests(series));
        }
        for (labels, series) in &*lock(&self.connections) {
            let earlier = series.earlier.read();
            let counted = Totals { earlier, ..of_ended(&series.ended, &series.unanswered, &series.sent) };
            tally.parts.insert(SeriesKey::Connections(labels.clone()), counted);
        }
        for (labels, series) in &*lock(&self.sessions) {
            let earlier = series.earlier.read();
            let counted =
                Totals { earlier, ..of_ended(&series.ended, &series.unanswered, &series.sent.datagrams) };
            tally.parts.insert(SeriesKey::Sessions(labels.clone()), counted);
        }
        tally
    }
}

impl SeriesTotals {
    /// What was counted after `before` of the pools and servers that there are now.
    pub fn since(&self, before: &Self) -> Growth {
        let resting = |in_flight: &u32| Totals { in_flight: *in_flight, ..Totals::default() };
        let mut grown = Growth {
            pools: self.pools.iter().map(|(name, in_flight)| (name.clone(), resting(in_flight))).collect(),
            servers: self.servers.iter().map(|(id, in_flight)| (*id, resting(in_flight))).collect(),
        };
        let none = Totals::default();
        for (part, counted) in &self.parts {
            let mut counted = counted.since(before.parts.get(part).unwrap_or(&none));
            let (pool, server) = match part {
                SeriesKey::Requests(labels)
                | SeriesKey::Connections(labels)
                | SeriesKey::Sessions(labels) => {
                    (labels.pool.as_ref(), labels.server.as_ref().map(|(id, _)| *id))
                }
                SeriesKey::Connects(pool) => (Some(pool), None),
                SeriesKey::Answers(pool, server) => (Some(pool), Some(*server)),
            };
            // What still comes from servers that are gone says nothing of those that there are.
            if !server.is_some_and(|server| grown.servers.contains_key(&server)) {
                counted.answers = 0;
            }
            if let Some(sum) = pool.and_then(|pool| grown.pools.get_mut(pool)) {
                sum.add(&counted);
            }
            if let Some(sum) = server.and_then(|server| grown.servers.get_mut(&server)) {
                sum.add(&counted);
            }
        }
        grown
    }
}

impl GrowingTotals {
    /// Adds what has been counted since the last time.
    pub fn add(&mut self, tally: SeriesTotals) -> &Growth {
        let mut grown = tally.since(&self.last);
        for (name, sum) in &mut grown.pools {
            self.sums.pools.get(name).into_iter().for_each(|before| sum.add(before));
            sum.in_flight = tally.pools.get(name).copied().unwrap_or_default();
        }
        for (id, sum) in &mut grown.servers {
            self.sums.servers.get(id).into_iter().for_each(|before| sum.add(before));
            sum.in_flight = tally.servers.get(id).copied().unwrap_or_default();
        }
        self.sums = grown;
        self.last = tally;
        &self.sums
    }
}

fn of_requests(series: &RequestSeries) -> Totals {
    let sum = |counts: &[AtomicU64]| counts.iter().map(|count| count.load(Relaxed)).sum();
    let (requests, ended): (u64, u64) = (sum(&series.classes), sum(&series.ended));
    Totals {
        requests,
        whole: requests.saturating_sub(ended),
        errors: series.failed.load(Relaxed),
        left: series.left.load(Relaxed),
        fine: series.fine.load(Relaxed),
        in_vain: series.left_in_vain.load(Relaxed),
        durations: spread(&series.durations),
        earlier: series.earlier.read(),
        ..Totals::default()
    }
}

/// Of what is passed on as it is.
fn of_ended(ended: &[AtomicU64; Why::ALL.len()], unanswered: &AtomicU64, answers: &AtomicU64) -> Totals {
    let (mut requests, mut errors) = (0, 0);
    for (why, count) in Why::ALL.into_iter().zip(ended) {
        let count = count.load(Relaxed);
        requests += count;
        errors += if why.is_of_servers() { count } else { 0 };
    }
    let unanswered = unanswered.load(Relaxed);
    Totals {
        requests,
        errors,
        unanswered,
        // One may be both.
        fine: requests.saturating_sub(errors.max(unanswered)),
        answers: answers.load(Relaxed),
        ..Totals::default()
    }
}

/// How a histogram's durations are spread.
pub fn spread(histogram: &Histogram) -> Spread {
    let reading = histogram.read();
    let mut spread = Spread::default();
    let mut below = 0;
    for (count, cumulative) in spread.iter_mut().zip(reading.cumulative) {
        *count = cumulative - below;
        below = cumulative;
    }
    spread[reading.cumulative.len()] = reading.count.saturating_sub(below);
    spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Reached, RequestNames, RequestOutcome, RequestPlace, Routed};
    use std::time::{Duration, Instant};

    fn snapshot(before: &Snapshot, servers: &str) -> Snapshot {
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:80, pool: app }} }}\npools: {{ app: {{ servers: [{servers}] }} }}"
        );
        let (plan, _) = crate::config::parse(&text).expect("a good configuration");
        before.evolve(plan, Instant::now()).0
    }

    /// Counts requests of the pool's first server.
    fn serve(metrics: &Metrics, snapshot: &Snapshot, status: u16, times: usize) {
        let pool = &snapshot.pools()[0];
        let server = &pool.members[0].server;
        let place = RequestPlace { listener: 0, routed: Routed::Pool, reached: Reached::Server(server.id()) };
        let names = RequestNames {
            listener: &snapshot.listeners()[0].plan.name,
            route: None,
            pool: Some(&pool.name),
            server: Some(server),
        };
        let outcome = RequestOutcome {
            status,
            why: Why::Ok,
            grpc_status: None,
            answered: true,
            stalled: false,
            took: Duration::from_millis(1),
            has_left: false,
            waited: None,
            silence: None,
            is_hasty: false,
            is_earlier: false,
            action: None,
            cache: None,
            has_fault: false,
            is_paced: false,
            dropped_fields: 0,
        };
        for _ in 0..times {
            metrics.request(snapshot.edition, place, &outcome, &names);
        }
    }

    #[test]
    fn a_server_that_goes_takes_nothing_of_what_is_counted_after_it() {
        let metrics = Metrics::default();
        let first = snapshot(&Snapshot::empty(), "10.0.0.1:80");
        serve(&metrics, &first, 200, 1000);
        let mut sums = GrowingTotals::default();
        let counted = |grown: &Growth| (grown.pools["app"].requests, grown.pools["app"].errors);
        assert_eq!(counted(sums.add(metrics.tally(&first))), (1000, 0));

        // It still has its series while it drains.
        let second = snapshot(&first, "10.0.0.2:80");
        let before = metrics.tally(&second);
        metrics.forget(&second);
        serve(&metrics, &second, 500, 30);
        let now = metrics.tally(&second);
        assert_eq!(counted(&now.since(&before)), (30, 30));
        assert_eq!(counted(sums.add(now)), (1030, 30));
    }
}
