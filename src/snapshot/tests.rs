//! What a reload keeps, ends and begins.

use super::*;
use crate::config::plan::{Balance, Initial};
use crate::pool::sample::{address, every_balance, hash_ring, health, member, plan, pool, set_down};
use crate::pool::{HealthState, HealthThresholds, Lease, Membership, Operator, Query, Tried};
use std::sync::Weak;

/// A process with one pool, `app`, that reloads.
struct Process {
    snapshot: Snapshot,
    delta: Delta,
    now: Instant,
}

impl Process {
    fn new(pool: plan::PoolPlan) -> Self {
        let now = Instant::now();
        let (snapshot, delta) = Snapshot::empty().evolve(plan(vec![pool]), now);
        Self { snapshot, delta, now }
    }

    fn reload(&mut self, plan: Plan) {
        let (snapshot, delta) = self.snapshot.evolve(plan, self.now);
        self.snapshot = snapshot;
        delta.settle(self.now);
        self.delta = delta;
    }

    /// The same again, with one thing different.
    fn change(&mut self, change: impl FnOnce(&mut plan::PoolPlan)) {
        let mut plan = (*self.snapshot.plan).clone();
        change(&mut plan.pools[0]);
        self.reload(plan);
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.snapshot.pools()[0]
    }

    fn pick(&self) -> Lease {
        self.pool().pick(&Query::default(), &mut Tried::new()).expect("a server is ready")
    }

    fn servers(&self) -> [String; 4] {
        let names = |servers: &[Arc<Server>]| {
            let mut names: Vec<String> =
                servers.iter().map(|server| format!("{}#{}", server.name(), server.id())).collect();
            names.sort();
            names.join(" ")
        };
        let Changes { added, removed, changed, kept } = &self.delta.servers;
        [added, removed, changed, kept].map(|servers| names(servers))
    }

    fn probes(&self) -> (Vec<u32>, Vec<u32>) {
        let started = self.delta.probes_started.iter().map(|task| task.server.id()).collect();
        (started, self.delta.probes_stopped.clone())
    }
}

fn probed(servers: &str) -> plan::PoolPlan {
    plan::PoolPlan { health: Some(health(Initial::Up)), ..pool(Balance::RoundRobin, servers) }
}

#[test]
fn a_kept_server_keeps_all_that_is_known_of_it() {
    let mut process = Process::new(probed("a b"));
    let a = member(process.pool(), "a").clone();
    let lease = process.pick();
    set_down(process.pool(), "a");
    a.set_operator(Operator::Drain);
    let before = a.state();
    process.pool().budget.deposit(crate::units::Percent(100));
    let (stats, budget) = (process.pool().stats.clone(), process.pool().budget.clone());

    process.change(|pool| {
        pool.servers.extend(self::pool(Balance::RoundRobin, "c=7").servers);
        pool.servers[1].weight = crate::units::Weight::default();
        pool.servers[1].drain = true;
        pool.servers.reverse();
        pool.balance = Balance::LeastConnections;
    });
    assert_eq!(process.servers(), ["c#2", "", "b#1", "a#0"]);
    assert!(Arc::ptr_eq(member(process.pool(), "a"), &a));
    assert_eq!((a.state(), a.in_flight(), lease.server().id()), (before, 1, a.id()));
    assert!(Arc::ptr_eq(&process.pool().stats, &stats) && Arc::ptr_eq(&process.pool().budget, &budget));
    assert_eq!(process.probes(), (vec![2], vec![]));
    assert_eq!(process.snapshot.generation, 2);
}

#[test]
fn a_removed_server_finishes_its_requests() {
    let mut process = Process::new(probed("a b"));
    let lease = process.pick();
    let old = process.pool().clone();
    process.change(|pool| drop(pool.servers.remove(0)));
    assert_eq!(process.servers(), ["", "a#0", "", "b#1"]);
    assert_eq!(process.probes(), (vec![], vec![0]));
    let a = lease.server();
    assert_eq!(a.state().membership, Membership::Leaving);
    assert_eq!((a.in_flight(), process.snapshot.retiring().len()), (1, 1));
    let after = |seconds| process.now + Duration::from_secs(seconds);
    assert_eq!([59, 60].map(|seconds| a.must_close(after(seconds))), [false, true]);
    // Whoever still holds the old pool gets nothing new there.
    for _ in 0..9 {
        assert_eq!(old.pick(&Query::default(), &mut Tried::new()).expect("b is ready").index(), 1);
    }
    process.change(|_| {});
    assert_eq!(process.snapshot.retiring().len(), 1, "still busy");
    drop(lease);
    process.change(|_| {});
    assert!(process.snapshot.retiring().is_empty());
}

#[test]
fn a_server_that_comes_back_while_it_drains_is_the_same() {
    let mut process = Process::new(probed("a b"));
    let (busy, quiet) = (process.pick(), member(process.pool(), "b").id());
    let all = process.snapshot.plan.clone();
    process.reload(plan(vec![probed("c")]));
    process.reload((*all).clone());
    assert_eq!(process.servers(), ["a#0 b#3", "c#2", "", ""], "b had nothing in flight: a new one");
    assert_ne!(member(process.pool(), "b").id(), quiet);
    let a = member(process.pool(), "a");
    assert!(Arc::ptr_eq(a, busy.server()));
    assert_eq!((a.in_flight(), a.state().membership), (1, Membership::Present));
    assert!(!a.must_close(process.now + Duration::from_secs(3600)));
    assert_eq!(process.probes().0, [0, 3]);
}

#[test]
fn another_address_is_another_server() {
    let mut process = Process::new(probed("a"));
    let lease = process.pick();
    process.change(|pool| pool.servers[0].address = address(2));
    assert_eq!(process.servers(), ["a#1", "a#0", "", ""]);
    assert_eq!((member(process.pool(), "a").in_flight(), lease.server().in_flight()), (0, 1));
    assert_eq!(process.probes(), (vec![1], vec![0]));
    process.change(|pool| pool.servers[0].address = address(1));
    assert_eq!(process.servers(), ["a#0", "a#1", "", ""], "the first one was still busy");
}

#[test]
fn a_changed_probe_starts_its_counts_anew_and_leaves_the_state() {
    let mut process = Process::new(probed("a b"));
    set_down(process.pool(), "b");
    let rule = HealthThresholds::from(&health(Initial::Up));
    let fail = |process: &Process| member(process.pool(), "a").observe(false, &rule, process.now);
    assert_eq!((fail(&process), fail(&process)), (None, None));
    process.change(|pool| pool.health.as_mut().expect("probed").interval = Duration::from_secs(5));
    assert_eq!(process.probes(), (vec![0, 1], vec![0, 1]));
    assert_eq!(member(process.pool(), "b").state().health, HealthState::Down);
    assert_eq!((fail(&process), fail(&process)), (None, None));
    // The drain timeout is no part of the probe: the task is a new one, the counts go on.
    process.change(|pool| pool.drain_timeout = Duration::from_secs(5));
    assert_eq!(process.probes(), (vec![0, 1], vec![0, 1]));
    assert!(fail(&process).is_some());
}

#[test]
fn without_probes_every_server_is_taken_to_be_up() {
    let mut process = Process::new(probed("a b"));
    set_down(process.pool(), "a");
    process.change(|pool| pool.health = None);
    assert_eq!(process.probes(), (vec![], vec![0, 1]));
    assert_eq!(process.pool().counts().up, 2);
    process.change(|pool| pool.health = Some(health(Initial::Probing)));
    assert_eq!(process.probes(), (vec![0, 1], vec![]));
    assert_eq!(process.pool().counts().up, 2, "they stay up until the new probe has failed in full");
}

#[test]
fn a_preview_changes_nothing_and_leaves_nothing_behind() {
    let process = Process::new(probed("a b"));
    let lease = process.pick();
    set_down(process.pool(), "b");
    let states = || process.pool().members.iter().map(|member| member.server.state()).collect::<Vec<_>>();
    let before = states();
    let (preview, delta) = process.snapshot.evolve(plan(vec![pool(Balance::RoundRobin, "c d")]), process.now);
    assert_eq!((states(), lease.server().in_flight()), (before, 1));
    let new: Vec<Weak<Server>> = delta.servers.added.iter().map(Arc::downgrade).collect();
    drop((preview, delta));
    assert!(new.len() == 2 && new.iter().all(|server| server.upgrade().is_none()));
}

#[test]
fn an_algorithm_goes_on_where_it_was() {
    for balance in every_balance() {
        let mut process = Process::new(pool(balance, "a b c"));
        let before = process.pool().selector().clone();
        process.change(|pool| pool.drain_timeout = Duration::from_secs(1));
        assert!(Arc::ptr_eq(&before, process.pool().selector()));
        process.change(|pool| pool.servers.truncate(2));
        assert!(!Arc::ptr_eq(&before, process.pool().selector()));
    }
}

#[test]
fn a_ring_is_kept_if_names_and_weights_are_the_same() {
    fn ring(process: &Process) -> Arc<dyn std::any::Any + Send + Sync> {
        let selector: &dyn std::any::Any = &**process.pool().selector();
        let hash: &crate::select::consistent_hash::ConsistentHash =
            selector.downcast_ref().expect("a hash pool");
        hash.ring().clone()
    }
    let mut process = Process::new(pool(hash_ring(None), "a b c"));
    let before = ring(&process);
    process.change(|pool| {
        pool.balance = hash_ring(Some(125));
        pool.servers.reverse();
        pool.servers[0].drain = true;
        pool.servers[1].address = address(9);
    });
    assert!(Arc::ptr_eq(&before, &ring(&process)));
    process.change(|pool| pool.servers[0].weight = crate::units::Weight::new(99).expect("in range"));
    assert!(!Arc::ptr_eq(&before, &ring(&process)));
}

fn listener(name: &str, entry: plan::TargetPlan) -> plan::ListenerPlan {
    let minute = Duration::from_secs(60);
    plan::ListenerPlan {
        protocol: plan::Protocol::Http,
        name: name.into(),
        addresses: vec![address(1)],
        target: entry,
        tls: None,
        proxies: Vec::new(),
        trusted_proxies: Vec::new(),
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
            request_headers: 32 << 10,
            request_body: 1 << 20,
        },
        timeouts: plan::ListenerTimeouts {
            request_header: minute,
            request_body: minute,
            idle: minute,
            tls_handshake: minute,
        },
    }
}

#[test]
fn listeners_and_routes_are_known_by_name_and_judged_by_where_they_lead() {
    let named = |name: &str| plan::PoolPlan { name: name.into(), ..pool(Balance::RoundRobin, "a") };
    let to = |name: &str, pool| plan::RoutesPlan {
        name: name.into(),
        rules: vec![plan::RulePlan {
            name: "1".into(),
            matcher: plan::Match::default(),
            pool,
            upgrades: None,
        }],
    };
    let mut first = plan(vec![named("app"), named("static")]);
    first.routes = vec![to("shop", 0), to("old", 1)];
    first.listeners = vec![
        listener("web", plan::TargetPlan::Pool(0)),
        listener("files", plan::TargetPlan::Pool(1)),
        listener("shop", plan::TargetPlan::Routes(0)),
    ];
    let mut process = Process::new(named("app"));
    process.reload(first.clone());
    let ids = |process: &Process| {
        let named = process.snapshot.listeners().iter().map(|it| (it.plan.name.to_string(), it.id));
        named.collect::<std::collections::HashMap<_, _>>()
    };
    let before = ids(&process);

    // The pools change places, so that every number is another one and every name the same.
    let mut second = plan(vec![named("static"), named("app")]);
    second.routes = vec![to("new", 0), to("shop", 1)];
    second.listeners = vec![
        listener("shop", plan::TargetPlan::Routes(1)),
        listener("files", plan::TargetPlan::Pool(1)),
        listener("extra", plan::TargetPlan::Routes(0)),
    ];
    process.reload(second);
    let names = |changes: &Changes<Name>| {
        let Changes { added, removed, changed, kept } = changes;
        [added, removed, changed, kept].map(|names| names.join(" "))
    };
    assert_eq!(names(&process.delta.pools), ["", "", "", "static app"]);
    assert_eq!(names(&process.delta.routes), ["new", "old", "", "shop"]);
    assert_eq!(names(&process.delta.listeners), ["extra", "web", "files", "shop"]);
    let after = ids(&process);
    assert_eq!((after["shop"], after["files"]), (before["shop"], before["files"]));
    assert!(!before.values().any(|id| *id == after["extra"]));
    assert!(process.snapshot.listener(before["web"]).is_none());
    let shop = process.snapshot.listener(before["shop"]).expect("it was kept");
    assert!(matches!(&shop.target, ListenerTarget::Routes(table) if *table.rules[0].pool.name == *"app"));
}

#[test]
fn a_listener_over_another_transport_is_another_one() {
    let over = |protocol| {
        let mut plan = plan(vec![pool(Balance::RoundRobin, "a")]);
        plan.listeners = vec![plan::ListenerPlan { protocol, ..listener("dns", plan::TargetPlan::Pool(0)) }];
        plan
    };
    let mut process = Process::new(pool(Balance::RoundRobin, "a"));
    let mut id = |protocol| {
        process.reload(over(protocol));
        process.snapshot.listeners()[0].id
    };
    let first = id(plan::Protocol::Http);
    assert_eq!(id(plan::Protocol::Tcp), first);
    let datagrams = id(plan::Protocol::Udp);
    assert_ne!(datagrams, first);
    assert_ne!(id(plan::Protocol::Tcp), first, "an id is never used again");
    assert!(process.snapshot.parting_listener(datagrams).is_some());
}
