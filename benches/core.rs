//! What a choice costs: every algorithm at 10, 1,000 and 10,000 servers, route look-ups, and the step to
//! the next snapshot. Run with `cargo bench --bench core`.
#![allow(missing_docs)]

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use evenkeel::access_log::{AccessLog, Output, Record, Why};
use evenkeel::config::plan::{self, Balance, Plan};
use evenkeel::discover::found::FoundServer;
use evenkeel::discover::membership::{Membership, SourceReply};
use evenkeel::geo::Location;
use evenkeel::pool::{Lease, Outcome, Pool, Query, Tried, TryResult};
use evenkeel::route::{RouteRequest, RouteTable};
use evenkeel::snapshot::Snapshot;
use evenkeel::units::{Address, Percent, Weight};
use http::{HeaderMap, Method};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

const SIZES: [usize; 3] = [10, 1_000, 10_000];

fn algorithms() -> Vec<(&'static str, Balance)> {
    let hash = |bounded_load| Balance::ConsistentHash { key: plan::HashKey::Uri, bounded_load };
    let window = NonZeroU32::new(200).expect("not zero");
    let by_success = plan::SuccessRatePlan { window, explore: Percent(5), outcome: None };
    vec![
        ("round_robin", Balance::RoundRobin),
        ("least_connections", Balance::LeastConnections),
        ("random_two", Balance::RandomTwo),
        ("peak_ewma", Balance::PeakEwma),
        ("consistent_hash", hash(None)),
        ("consistent_hash_bounded", hash(Some(Percent(125)))),
        ("success_rate", Balance::SuccessRate(by_success)),
        ("maglev", Balance::Maglev { key: plan::HashKey::Uri }),
    ]
}

fn pool_plan(balance: Balance, n: usize, mixed_weights: bool) -> plan::PoolPlan {
    let server = |index: usize| plan::ServerPlan {
        name: format!("app{index}").into(),
        address: Address::Inet(([10, (index >> 16) as u8, (index >> 8) as u8, index as u8], 8080).into()),
        weight: Weight::new(if mixed_weights { index as u64 % 256 + 1 } else { 100 }).expect("in range"),
        max_connections: None,
        drain: false,
        backup: false,
        host: None,
    };
    plan::PoolPlan {
        proxy_protocol: None,
        tls: None,
        protocol: plan::ServerProtocol::Http1,
        name: "app".into(),
        balance,
        servers: (0..n).map(server).collect(),
        sources: Vec::new(),
        health: None,
        when_all_unhealthy: plan::WhenAllUnhealthy::UseAll,
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
    }
}

fn plan(pool: plan::PoolPlan) -> Plan {
    Plan { pools: vec![pool.into()], ..(*Snapshot::empty().plan).clone() }
}

fn pool(balance: Balance, n: usize) -> Arc<Pool> {
    Snapshot::empty().evolve(plan(pool_plan(balance, n, false)), Instant::now()).0.pools()[0].clone()
}

/// Queries that follow each other as a client's would: a new key and new chance each time.
fn query(turn: &mut u64) -> Query {
    *turn = turn.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (*turn ^ *turn >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
    Query { key: Some(number), entropy: number.rotate_left(23), now: Some(*NOW), may_be_repeated: true }
}

fn pick(pool: &Pool, turn: &mut u64) -> Lease {
    pool.pick(&query(turn), &mut Tried::new()).expect("servers are ready")
}

/// What becomes of a try, for algorithms that learn from it.
const ANSWER: Outcome = Outcome {
    result: TryResult::Connected,
    waited: Some(Duration::from_millis(7)),
    declared: None,
    source: None,
};

/// A busy pool: one lease is given back and another taken, as in steady traffic, three per server open.
fn picks(c: &mut Criterion) {
    for (name, balance) in algorithms() {
        let mut group = c.benchmark_group(format!("pick/{name}"));
        for n in SIZES {
            let pool = pool(balance.clone(), n);
            let mut turn = 1;
            let mut leases: Vec<Lease> = (0..3 * n).map(|_| pick(&pool, &mut turn)).collect();
            group.bench_function(BenchmarkId::new("busy", n), |b| {
                b.iter(|| {
                    let place = (turn >> 7) as usize % leases.len();
                    leases.swap_remove(place).finish(&ANSWER);
                    leases.push(pick(&pool, &mut turn));
                });
            });
            leases.clear();
            group.bench_function(BenchmarkId::new("idle", n), |b| b.iter(|| pick(&pool, &mut turn)));
        }
        group.finish();
    }
}

fn routes(c: &mut Criterion) {
    let pool = pool(Balance::RoundRobin, 3);
    let mut group = c.benchmark_group("route");
    for n in [10, 1_000] {
        let rule = |index: usize| evenkeel::route::RouteRule {
            name: format!("shop/{index}").into(),
            matcher: plan::Match {
                host: Some(plan::HostPattern::Exact(format!("shop{index}.example"))),
                path: Some(plan::PathPattern::Prefix("/static/".into())),
                ..plan::Match::default()
            },
            target: evenkeel::route::RuleTarget::Pool(pool.clone()),
            upgrades: None,
            priority: plan::Priority::Normal,
        };
        let table = RouteTable::new("shop".into(), (0..n).map(rule).collect());
        let host = format!("Shop{}.example:443", n - 1);
        let headers = HeaderMap::new();
        let request = RouteRequest {
            host: &host,
            path: "/static/app.css",
            query: "",
            method: &Method::GET,
            headers: &headers,
            client: None,
            location: Location::default(),
        };
        group.bench_function(BenchmarkId::new("last_host", n), |b| {
            b.iter(|| table.find(black_box(&request)).expect("the last rule matches"));
        });
        let rule = |index: usize| evenkeel::route::RouteRule {
            name: format!("shop/{index}").into(),
            matcher: plan::Match {
                path: Some(plan::PathPattern::Prefix(format!("/section{index}/"))),
                ..plan::Match::default()
            },
            target: evenkeel::route::RuleTarget::Pool(pool.clone()),
            upgrades: None,
            priority: plan::Priority::Normal,
        };
        let table = RouteTable::new("shop".into(), (0..n).map(rule).collect());
        let path = format!("/section{}/page", n - 1);
        let request = RouteRequest { path: &path, ..request };
        group.bench_function(BenchmarkId::new("last_path", n), |b| {
            b.iter(|| table.find(black_box(&request)).expect("the last rule matches"));
        });
    }
    group.finish();
}

fn evolve(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("evolve/10000");
    group.sample_size(20);
    let step = |group: &mut criterion::BenchmarkGroup<'_, _>, name: &str, from: &Snapshot, to: &Plan| {
        group.bench_function(name, |b| {
            b.iter_batched(|| to.clone(), |plan| from.evolve(plan, now), BatchSize::PerIteration);
        });
    };
    for (name, balance) in algorithms() {
        let before = plan(pool_plan(balance.clone(), 10_000, false));
        let (snapshot, _) = Snapshot::empty().evolve(before.clone(), now);
        let mut limited = before.clone();
        Arc::make_mut(&mut limited.pools[0]).servers[7].max_connections = NonZeroU32::new(50);
        step(&mut group, &format!("{name}/one_limit_changed"), &snapshot, &limited);
        let mut smaller = before.clone();
        Arc::make_mut(&mut smaller.pools[0]).servers.remove(7);
        step(&mut group, &format!("{name}/one_server_removed"), &snapshot, &smaller);
        step(&mut group, &format!("{name}/from_nothing"), &Snapshot::empty(), &before);
    }
    let mixed = plan(pool_plan(Balance::RoundRobin, 10_000, true));
    step(&mut group, "round_robin/from_nothing_mixed_weights", &Snapshot::empty(), &mixed);
    group.finish();
}

/// One server's weight changes, among 200 pools of 50 servers and rules that lead to them: by a whole step, and by that of the
/// one pool.
fn one_pool(c: &mut Criterion) {
    let now = Instant::now();
    let named = |index: usize| plan::PoolPlan {
        name: format!("pool{index}").into(),
        ..pool_plan(Balance::LeastConnections, 50, false)
    };
    let rule = |index: usize| plan::RulePlan {
        name: format!("shop/{index}").into(),
        matcher: plan::Match {
            host: Some(plan::HostPattern::Exact(format!("shop{index}.example"))),
            ..plan::Match::default()
        },
        target: plan::RuleTargetPlan::Pool(index),
        upgrades: None,
        priority: plan::Priority::Normal,
        policy: None,
        own_policy: plan::policy::PolicyPlan::default(),
        maintenance: None,
    };
    let mut plan = plan(named(0));
    plan.pools = (0..200).map(|index| named(index).into()).collect();
    plan.routes = vec![plan::RoutesPlan { name: "shop".into(), rules: (0..200).map(rule).collect() }.into()];
    let (snapshot, _) = Snapshot::empty().evolve(plan, now);
    let weight = Weight::new(50).expect("in range");
    let mut group = c.benchmark_group("one_weight_of/200x50");
    group.bench_function("whole_step", |b| {
        b.iter(|| {
            let mut plan = Plan::clone(&snapshot.plan);
            Arc::make_mut(&mut plan.pools[7]).servers[3].weight = weight;
            snapshot.evolve(plan, now)
        });
    });
    group.bench_function("one_pool", |b| {
        b.iter(|| {
            let mut servers = snapshot.plan.pools[7].servers.clone();
            servers[3].weight = weight;
            snapshot.evolve_pool("pool7", servers, now)
        });
    });
    group.finish();
}

/// What a source's answer costs: one that says the same as the last, one that names one server more in its pool, and that pool's
/// step, in a pool of 1,000 and among 1,000 pools of 10.
fn discovery(c: &mut Criterion) {
    let now = Instant::now();
    let found = |n: usize| -> Vec<FoundServer> {
        let servers = pool_plan(Balance::LeastConnections, n, false).servers;
        servers.into_iter().map(|server| FoundServer::new(server.name, server.address)).collect()
    };
    let rules = plan::DiscoveryRules {
        when_empty: plan::WhenEmpty::Keep,
        keep_stale: None,
        leave_after: Duration::from_secs(10),
        large_change: Some(Percent(50)),
        max_servers: 10_000,
    };
    let mut membership = Membership::new(rules, now);
    membership.observe(SourceReply::Servers(found(1_000)), now);
    // As the judge of answers keeps them.
    let same: Vec<_> = membership.servers().cloned().collect();
    let mut group = c.benchmark_group("discovery");
    group.bench_function("unchanged/1000", |b| {
        b.iter_batched_ref(
            || SourceReply::Servers(same.clone()),
            |reply| membership.observe(std::mem::replace(reply, SourceReply::Failed), now),
            BatchSize::LargeInput,
        );
    });
    let more = found(1_001);
    group.bench_function("one_joins/1000", |b| {
        b.iter_batched_ref(
            || (membership.clone(), SourceReply::Servers(more.clone())),
            |(membership, reply)| membership.observe(std::mem::replace(reply, SourceReply::Failed), now),
            BatchSize::LargeInput,
        );
    });
    for (name, pools, servers) in [("step/1x1000", 1, 1_000), ("step/1000x10", 1_000, 10)] {
        let named = |index: usize| plan::PoolPlan {
            name: format!("pool{index}").into(),
            ..pool_plan(Balance::LeastConnections, servers, false)
        };
        let mut plan = plan(named(0));
        plan.pools = (0..pools).map(|index| named(index).into()).collect();
        let (snapshot, _) = Snapshot::empty().evolve(plan, now);
        group.bench_function(name, |b| {
            b.iter_with_large_drop(|| {
                let servers = pool_plan(Balance::LeastConnections, servers + 1, false).servers;
                snapshot.evolve_pool("pool0", servers, now)
            });
        });
    }
    group.finish();
}

/// What a reload of 10,000 servers costs before anything live changes: text → plan → snapshot.
fn reload(c: &mut Criterion) {
    let now = Instant::now();
    let file = |weight: u16| {
        let servers: String = (0..10_000)
            .map(|i| {
                format!(
                    "      - {{ name: app{i}, address: 10.{}.{}.1:8080, weight: {weight} }}\n",
                    i / 256,
                    i % 256
                )
            })
            .collect();
        format!(
            "listeners:\n  web: {{ address: 127.0.0.1:8080, pool: app }}\npools:\n  app:\n    health: {{ http: /healthz }}\n    servers:\n{servers}"
        )
    };
    let parsed = |text: &str| evenkeel::config::parse(text).expect("the file is good").0;
    let (before, after) = (file(100), file(50));
    let mut group = c.benchmark_group("reload/10000");
    group.sample_size(20);
    group.bench_function("parse", |b| b.iter(|| parsed(black_box(&after))));
    let (running, _) = Snapshot::empty().evolve(parsed(&before), now);
    group.bench_function("parse_and_evolve_reweighted", |b| {
        b.iter_with_large_drop(|| running.evolve(parsed(black_box(&after)), now));
    });
    group.finish();
}

fn log_record(c: &mut Criterion) {
    let mut group = c.benchmark_group("access_log/record");
    for (name, format) in
        [("json", plan::AccessLogFormat::Json), ("combined", plan::AccessLogFormat::Combined)]
    {
        let log = AccessLog::start();
        let sink = plan::AccessLogPath::File("/dev/null".into());
        log.configure(Some((Output::open(&sink).expect("there is a /dev/null"), format)));
        let record = Record {
            time: SystemTime::now(),
            client: "192.0.2.7",
            listener: "shop",
            route: Some("shop/1"),
            pool: Some("app"),
            fallback_from: None,
            server: Some("app1"),
            method: Some("GET"),
            host: Some("shop.example"),
            path: Some("/catalogue/garden/chairs?page=2&sort=price"),
            protocol: Some("HTTP/1.1"),
            status: 200,
            why: Why::Ok,
            action: None,
            location: None,
            limit: None,
            detail: None,
            bytes_in: 0,
            bytes_out: 5120,
            encoding: None,
            bytes_plain: None,
            duration: Some(Duration::from_micros(12_345)),
            connect: None,
            queued: None,
            sticky: None,
            first_byte: Some(Duration::from_micros(11_000)),
            tries: 1,
            tls: None,
            client_cert: None,
            grpc_status: None,
            request_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
            generation: 3,
            cache: None,
            user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
            referer: Some("https://shop.example/"),
        };
        group.bench_function(name, |b| b.iter(|| log.record(black_box(&record))));
        log.stop();
    }
    group.finish();
}

criterion_group!(benches, picks, routes, evolve, one_pool, discovery, reload, log_record);
criterion_main!(benches);
