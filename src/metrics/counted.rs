//! What was counted of pools and servers, for whoever tells how they do.

use super::{Metrics, RequestSeries, TcpSeries, lock};
use crate::access_log::Why;
use crate::config::plan::Name;
use crate::history::{Counted, Spread};
use crate::pool::RetryReason;
use crate::pool::stats::Histogram;
use crate::snapshot::Snapshot;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Everything by pool and by server.
#[derive(Debug, Default)]
pub struct Tally {
    pub pools: HashMap<Name, Counted>,
    /// By id.
    pub servers: HashMap<u32, Counted>,
}

impl Metrics {
    /// Counts up what `snapshot` has. It walks all series: once a second is often enough.
    pub fn tally(&self, snapshot: &Snapshot) -> Tally {
        let mut tally = Tally::default();
        for pool in snapshot.pools() {
            let counted = Counted {
                // Those that a retry has saved; what failed for good is among the errors.
                connect_failures: pool.stats.retries(RetryReason::Connect),
                in_flight: pool.members.iter().map(|member| member.server.in_flight()).sum(),
                ..Counted::default()
            };
            tally.pools.insert(pool.name.clone(), counted);
            for member in &pool.members {
                let counted = Counted { in_flight: member.server.in_flight(), ..Counted::default() };
                tally.servers.insert(member.server.id(), counted);
            }
        }
        for (labels, series) in &*lock(&self.requests) {
            tally.add(labels.pool.as_ref(), labels.server.as_ref().map(|(id, _)| *id), &of_requests(series));
        }
        for (labels, series) in &*lock(&self.connections) {
            tally.add(
                labels.pool.as_ref(),
                labels.server.as_ref().map(|(id, _)| *id),
                &of_connections(series),
            );
        }
        tally
    }
}

impl Tally {
    fn add(&mut self, pool: Option<&Name>, server: Option<u32>, counted: &Counted) {
        if let Some(sum) = pool.and_then(|pool| self.pools.get_mut(pool)) {
            sum.add(counted);
        }
        if let Some(sum) = server.and_then(|server| self.servers.get_mut(&server)) {
            sum.add(counted);
        }
    }
}

fn of_requests(series: &RequestSeries) -> Counted {
    let classes = series.classes.each_ref().map(|class| class.load(Relaxed));
    Counted {
        requests: classes.iter().sum(),
        errors: classes[4],
        durations: spread(&series.durations),
        ..Counted::default()
    }
}

fn of_connections(series: &TcpSeries) -> Counted {
    let ended = |why: Why| series.ended[why as usize].load(Relaxed);
    let sum = |fits: fn(Why) -> bool| Why::ALL.into_iter().filter(|why| fits(*why)).map(ended).sum();
    Counted {
        requests: series.ended.iter().map(|count: &AtomicU64| count.load(Relaxed)).sum(),
        errors: sum(Why::is_of_servers),
        ..Counted::default()
    }
}

fn spread(histogram: &Histogram) -> Spread {
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
