//! Plans for the simulation: small ones, and what operators do to them.

use evenkeel::config::plan::{self, Balance, HealthPlan, Plan};
use evenkeel::snapshot::Snapshot;
use evenkeel::units::{Address, Percent, Weight};
use fastrand::Rng;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn first(rng: &mut Rng) -> Plan {
    let pools = (0..rng.usize(1..3)).map(|index| Arc::new(pool(rng, index))).collect();
    let mut plan = Plan { pools, ..(*Snapshot::empty().plan).clone() };
    relisten(rng, &mut plan);
    plan
}

/// One change, as an operator makes it; several reloads make several.
pub(crate) fn change(rng: &mut Rng, plan: &mut Plan) {
    let what = rng.u8(..);
    if what < 32 {
        match plan.pools.len() {
            _ if what < 16 => {}
            1 => {
                let free = if *plan.pools[0].name == *"pool2" { 0 } else { 2 };
                plan.pools.push(Arc::new(pool(rng, free)));
            }
            n => drop(plan.pools.remove(rng.usize(..n))),
        }
        return relisten(rng, plan);
    }
    let n = plan.pools.len();
    let pool = Arc::make_mut(&mut plan.pools[rng.usize(..n)]);
    let n_servers = pool.servers.len();
    let index = rng.usize(..n_servers);
    let some = &mut pool.servers[index];
    match rng.u8(..15) {
        0..3 => add(rng, pool),
        3 | 4 if n_servers > 1 => drop(pool.servers.remove(index)),
        5 => some.weight = weight(rng),
        6 => some.address = address(rng),
        7 => some.drain = !some.drain,
        8 => some.max_connections = NonZeroU32::new(rng.u32(..4)),
        9 => pool.health = health(rng),
        10 => pool.balance = balance(rng),
        11 => pool.drain_timeout = Duration::from_secs(rng.u64(1..60)),
        12 => rng.shuffle(&mut pool.servers),
        13 => pool.queue = queue(rng),
        _ => pool.when_all_unhealthy = when_all_unhealthy(rng),
    }
}

fn pool(rng: &mut Rng, index: usize) -> plan::PoolPlan {
    let mut pool = plan::PoolPlan {
        proxy_protocol: None,
        tls: None,
        protocol: plan::ServerProtocol::Http1,
        name: format!("pool{index}").into(),
        balance: balance(rng),
        servers: Vec::new(),
        sources: Vec::new(),
        health: health(rng),
        when_all_unhealthy: when_all_unhealthy(rng),
        max_connections: None,
        queue: queue(rng),
        slow_start: None,
        fallback: None,
        outlier: None,
        sticky: None,
        retries: plan::Retries {
            max: 2,
            budget: Percent(20),
            on: plan::RetryOn { connect: true, reset: true, timeout: false, statuses: Vec::new() },
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
        drain_timeout: Duration::from_secs(20),
    };
    // Now and then more than one block of slots.
    let n = if rng.u8(..) < 4 { 70 } else { rng.usize(1..6) };
    (0..n).for_each(|_| add(rng, &mut pool));
    pool
}

fn add(rng: &mut Rng, pool: &mut plan::PoolPlan) {
    let free: Vec<String> = (0..80)
        .map(|number| format!("app{number}"))
        .filter(|name| pool.servers.iter().all(|server| *server.name != **name))
        .collect();
    // Few names, so that those which went come back.
    let name = free[rng.usize(..free.len().min(3))].as_str().into();
    pool.servers.push(plan::ServerPlan {
        name,
        address: address(rng),
        weight: weight(rng),
        max_connections: NonZeroU32::new(if rng.bool() { 0 } else { rng.u32(..5) }),
        drain: rng.u8(..) < 20,
        backup: false,
        host: None,
    });
}

fn address(rng: &mut Rng) -> Address {
    Address::Inet(([10, 0, 0, rng.u8(1..3)], 8080).into())
}

fn weight(rng: &mut Rng) -> Weight {
    let weight = [1, 3, 7, 49, 100, 100, 200, 256][rng.usize(..8)];
    Weight::new(weight).expect("within 1 to 256")
}

fn balance(rng: &mut Rng) -> Balance {
    let key = plan::HashKey::ClientIp;
    match rng.u8(..7) {
        0 => Balance::RoundRobin,
        1 => Balance::LeastConnections,
        2 => Balance::RandomTwo,
        3 => Balance::ConsistentHash { key, bounded_load: None },
        4 => Balance::Maglev { key },
        5 => Balance::PeakEwma,
        _ => Balance::ConsistentHash { key, bounded_load: Some(Percent(rng.u32(100..200))) },
    }
}

fn health(rng: &mut Rng) -> Option<HealthPlan> {
    let times = |rng: &mut Rng| NonZeroU32::new(rng.u32(1..4)).expect("at least one");
    (rng.u8(..4) > 0).then(|| HealthPlan {
        probe: plan::ProbePlan::Tcp(plan::TcpProbe::default()),
        port: None,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        fall: times(rng),
        rise: times(rng),
        jitter: Percent(10),
        initial: if rng.bool() { plan::Initial::Up } else { plan::Initial::Probing },
    })
}

fn queue(rng: &mut Rng) -> Option<plan::QueuePlan> {
    let order = if rng.bool() { plan::QueueOrder::Adaptive } else { plan::QueueOrder::Fifo };
    (rng.u8(..4) > 0).then(|| plan::QueuePlan {
        max: NonZeroU32::new(rng.u32(1..8)).expect("at least one"),
        timeout: Duration::from_secs(5),
        order,
    })
}

fn when_all_unhealthy(rng: &mut Rng) -> plan::WhenAllUnhealthy {
    match rng.bool() {
        true => plan::WhenAllUnhealthy::UseAll,
        false => plan::WhenAllUnhealthy::Refuse,
    }
}

/// Listeners and routes that lead to the pools there are now.
fn relisten(rng: &mut Rng, plan: &mut Plan) {
    let n = plan.pools.len();
    let routes = plan::RoutesPlan {
        name: "shop".into(),
        rules: (0..rng.usize(1..3))
            .map(|index| plan::RulePlan {
                name: format!("shop/{}", index + 1).into(),
                matcher: plan::Match::default(),
                target: plan::RuleTargetPlan::Pool(rng.usize(..n)),
                upgrades: None,
                priority: plan::Priority::Normal,
                policy: None,
                own_policy: plan::policy::PolicyPlan::default(),
                maintenance: None,
            })
            .collect(),
    };
    plan.routes = vec![routes.into()];
    let mut names: Vec<u8> = (0..4).collect();
    rng.shuffle(&mut names);
    names.truncate(rng.usize(1..4));
    plan.listeners = names
        .into_iter()
        .map(|number| plan::ListenerPlan {
            protocol: plan::Protocol::Http,
            name: format!("listener{number}").into(),
            addresses: vec![Address::Inet(([0, 0, 0, 0], 8000 + u16::from(number)).into())],
            target: match rng.bool() {
                true => plan::TargetPlan::Routes(0),
                false => plan::TargetPlan::Pool(rng.usize(..n)),
            },
            tls: None,
            proxies: evenkeel::networks::Networks::default(),
            trusted_proxies: evenkeel::networks::Networks::default(),
            policy: None,
            client_fin: plan::ClientFin::Cancel,
            http2: plan::Http2Plan {
                max_concurrent_streams: 128,
                stream_window: 65_536,
                connection_window: 1 << 20,
                max_age: None,
                max_requests: None,
            },
            limits: plan::ListenerLimits {
                handshakes: None,
                connections: None,
                connections_per_client: None,
                new_connections: None,
                request_headers: 32 << 10,
                request_body: 1 << 20,
                uri: 8 << 10,
                header_count: 100,
                header_line: 16 << 10,
                encoded_slash: plan::EncodedSlash::Keep,
            },
            timeouts: plan::ListenerTimeouts {
                request_header: Duration::from_secs(10),
                request_body: Duration::from_secs(60),
                idle: Duration::from_secs(60),
                tls_handshake: Duration::from_secs(5),
            },
        })
        .map(Arc::new)
        .collect();
}
