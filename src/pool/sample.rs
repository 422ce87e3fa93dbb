//! Pools for tests, written in a line.

use super::{HealthState, HealthThresholds, Pool, Server};
use crate::config::plan::{self, Balance, HashKey, Initial, Plan, WhenAllUnhealthy};
use crate::snapshot::Snapshot;
use crate::units::{Address, Percent, Weight};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A pool of servers such as `a b=5 c`: a name and, if it is not 100, a weight. All have one address.
pub(crate) fn pool(balance: Balance, servers: &str) -> plan::PoolPlan {
    let server = |text: &str| {
        let (name, weight) = text.split_once('=').unwrap_or((text, "100"));
        plan::ServerPlan {
            name: name.into(),
            address: address(1),
            weight: Weight::new(weight.parse().expect("a number")).expect("1 to 256"),
            max_connections: None,
            drain: false,
            backup: false,
            host: None,
        }
    };
    plan::PoolPlan {
        tls: None,
        protocol: plan::ServerProtocol::Http1,
        name: "app".into(),
        balance,
        servers: servers.split(' ').map(server).collect(),
        sources: Vec::new(),
        health: None,
        when_all_unhealthy: WhenAllUnhealthy::UseAll,
        max_connections: None,
        queue: None,
        slow_start: None,
        fallback: None,
        outlier: None,
        sticky: None,
        retries: plan::Retries {
            max: 1,
            budget: Percent(20),
            on: plan::RetryOn { connect: true, reset: true, timeout: false, statuses: vec![502, 503, 504] },
            per_try: None,
        },
        timeouts: plan::PoolTimeouts {
            connect: Duration::from_secs(3),
            response_header: Duration::from_secs(30),
            stream_idle: Duration::from_secs(60),
            tunnel_idle: Duration::from_secs(3600),
            request: Duration::from_secs(60),
            keepalive: Duration::from_secs(30),
        },
        drain_timeout: Duration::from_secs(60),
        proxy_protocol: None,
    }
}

pub(crate) fn address(host: u8) -> Address {
    Address::Inet(([10, 0, 0, host], 8080).into())
}

/// What `outlier: {}` stands for.
pub(crate) fn outlier() -> plan::OutlierPlan {
    plan::OutlierPlan {
        consecutive_errors: NonZeroU32::new(5),
        worse_by: Some(Percent(5)),
        slower_than: None,
        window: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection: Duration::from_secs(300),
        max_ejected: Percent(50),
    }
}

/// Rise 2, fall 3.
pub(crate) fn health(initial: Initial) -> plan::HealthPlan {
    plan::HealthPlan {
        probe: plan::ProbePlan::Tcp(plan::TcpProbe::default()),
        port: None,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        fall: NonZeroU32::new(3).expect("not zero"),
        rise: NonZeroU32::new(2).expect("not zero"),
        jitter: Percent(10),
        initial,
    }
}

pub(crate) fn hash_ring(bounded_load: Option<u32>) -> Balance {
    Balance::ConsistentHash { key: HashKey::Uri, bounded_load: bounded_load.map(Percent) }
}

pub(crate) fn every_balance() -> [Balance; 8] {
    [
        Balance::RoundRobin,
        Balance::LeastConnections,
        Balance::RandomTwo,
        Balance::PeakEwma,
        Balance::SuccessRate(plan::SuccessRatePlan {
            window: NonZeroU32::new(200).expect("not zero"),
            explore: Percent(5),
            outcome: None,
        }),
        hash_ring(None),
        hash_ring(Some(125)),
        Balance::Maglev { key: HashKey::Uri },
    ]
}

/// A plan of these pools and nothing else.
pub(crate) fn plan(pools: Vec<plan::PoolPlan>) -> Plan {
    Plan { pools: pools.into_iter().map(Arc::new).collect(), ..(*Snapshot::empty().plan).clone() }
}

pub(crate) fn live(pool: plan::PoolPlan) -> Arc<Pool> {
    let now = Instant::now();
    let (snapshot, delta) = Snapshot::empty().evolve(plan(vec![pool]), now);
    delta.settle(now, Instant::now);
    snapshot.pools()[0].clone()
}

pub(crate) fn member<'a>(pool: &'a Pool, name: &str) -> &'a Arc<Server> {
    let member = pool.members.iter().find(|member| &**member.server.name() == name);
    &member.expect("a member of this name").server
}

/// Brings a server up by a probe that passes.
pub(crate) fn set_up(pool: &Pool, name: &str) {
    let once = NonZeroU32::MIN;
    let transition =
        member(pool, name).observe(true, &HealthThresholds { rise: once, fall: once }, Instant::now());
    assert_eq!(transition.map(|transition| transition.to), Some(HealthState::Up));
}

/// Takes a server down by a failed probe.
pub(crate) fn set_down(pool: &Pool, name: &str) {
    let once = NonZeroU32::MIN;
    let transition =
        member(pool, name).observe(false, &HealthThresholds { rise: once, fall: once }, Instant::now());
    assert_eq!(transition.map(|transition| transition.to), Some(HealthState::Down));
}
