//! What a reload keeps, ends and begins.

use super::*;
use crate::config::plan::{Balance, Initial};
use crate::networks::Networks;
use crate::pool::sample::{address, every_balance, hash_ring, health, member, plan, pool, set_down};
use crate::pool::{HealthState, HealthThresholds, Lease, Membership, Operator, Query, Tried};
use proptest::prelude::*;
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
        delta.settle(self.now, Instant::now);
        self.delta = delta;
    }

    /// The same again, with one thing different.
    fn change(&mut self, change: impl FnOnce(&mut plan::PoolPlan)) {
        let mut plan = (*self.snapshot.plan).clone();
        change(Arc::make_mut(&mut plan.pools[0]));
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
        proxies: Networks::default(),
        trusted_proxies: Networks::default(),
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
            target: plan::RuleTargetPlan::Pool(pool),
            upgrades: None,
            priority: plan::Priority::Normal,
            policy: None,
            own_policy: plan::policy::PolicyPlan::default(),
            maintenance: None,
        }],
    };
    let mut first = plan(vec![named("app"), named("static")]);
    first.routes = vec![to("shop", 0).into(), to("old", 1).into()];
    first.listeners = vec![
        listener("web", plan::TargetPlan::Pool(0)).into(),
        listener("files", plan::TargetPlan::Pool(1)).into(),
        listener("shop", plan::TargetPlan::Routes(0)).into(),
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
    second.routes = vec![to("new", 0).into(), to("shop", 1).into()];
    second.listeners = vec![
        listener("shop", plan::TargetPlan::Routes(1)).into(),
        listener("files", plan::TargetPlan::Pool(1)).into(),
        listener("extra", plan::TargetPlan::Routes(0)).into(),
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
    assert!(
        matches!(&shop.target, ListenerTarget::Routes(table) if *table.rules[0].pool().unwrap().name == *"app")
    );
}

#[test]
fn a_listener_over_another_transport_is_another_one() {
    let over = |protocol| {
        let mut plan = plan(vec![pool(Balance::RoundRobin, "a")]);
        plan.listeners =
            vec![plan::ListenerPlan { protocol, ..listener("dns", plan::TargetPlan::Pool(0)) }.into()];
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

#[test]
fn a_listener_that_a_reload_has_removed_outlasts_changes_of_servers() {
    let mut before = plan(vec![pool(Balance::RoundRobin, "a b")]);
    before.listeners = vec![listener("old", plan::TargetPlan::Pool(0)).into()];
    let mut process = Process::new(pool(Balance::RoundRobin, "a b"));
    process.reload(before.clone());
    let id = process.snapshot.listeners()[0].id;
    process.reload(plan(vec![pool(Balance::RoundRobin, "a b")]));
    let servers = pool(Balance::RoundRobin, "a b c").servers;
    let (next, _) = process.snapshot.evolve_pool("app", servers, process.now).expect("it is there");
    assert!(next.parting_listener(id).is_some());
    assert!(process.snapshot.evolve_pool("nowhere", Vec::new(), process.now).is_none());
}

/// One pool's servers: a name, and what is particular to each.
type Servers = Vec<(usize, (u8, u64, u32, bool))>;

fn servers(wanted: &Servers) -> Vec<plan::ServerPlan> {
    let server = |(name, (host, weight, limit, drain)): &(usize, (u8, u64, u32, bool))| plan::ServerPlan {
        name: ["a", "b", "c", "d", "e"][*name].into(),
        address: address(*host),
        weight: crate::units::Weight::new(*weight).expect("in range"),
        max_connections: std::num::NonZeroU32::new(*limit),
        drain: *drain,
        backup: false,
        host: None,
    };
    wanted.iter().map(server).collect()
}

fn any_servers() -> impl Strategy<Value = Servers> {
    let particulars = (1u8..3, prop::sample::select(vec![1u64, 100, 256]), 0u32..3, any::<bool>());
    let all = prop::collection::vec(particulars, 5)
        .prop_map(|all| all.into_iter().enumerate().collect::<Servers>());
    all.prop_shuffle().prop_flat_map(|all| prop::sample::subsequence(all, 0..=5))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever becomes of a pool's servers, step by step, with leases out and servers down: what is made for the one pool is
    /// what a whole step makes, and all else is shared.
    #[test]
    fn one_pools_servers_are_replaced_as_a_whole_step_does_it(
        balances in prop::collection::vec(prop::sample::select(every_balance().to_vec()), 3),
        are_probed in prop::collection::vec(any::<bool>(), 3),
        steps in prop::collection::vec((0usize..3, any_servers(), 0usize..4, any::<bool>()), 1..12),
    ) {
        let names = ["app", "static", "checkout"];
        let pools = names.iter().zip(balances).zip(are_probed).map(|((name, balance), is_probed)| plan::PoolPlan {
            name: (*name).into(),
            health: is_probed.then(|| health(Initial::Up)),
            ..pool(balance, "a b c")
        });
        let mut first = plan(pools.collect());
        let rule = |name: &str, pool| plan::RulePlan {
            name: name.into(),
            matcher: plan::Match::default(),
            target: plan::RuleTargetPlan::Pool(pool),
            upgrades: None,
            priority: plan::Priority::Normal,
            policy: None,
            own_policy: plan::policy::PolicyPlan::default(),
            maintenance: None,
        };
        let routes = |name: &str, rules| Arc::new(plan::RoutesPlan { name: name.into(), rules });
        first.routes = vec![
            routes("shop", vec![rule("1", 1), rule("2", 0), rule("3", 1)]),
            routes("files", vec![rule("4", 1)]),
        ];
        first.listeners = vec![
            listener("web", plan::TargetPlan::Pool(0)).into(),
            listener("shop", plan::TargetPlan::Routes(0)).into(),
            listener("files", plan::TargetPlan::Routes(1)).into(),
            listener("plain", plan::TargetPlan::RedirectToHttps).into(),
            listener("checkout", plan::TargetPlan::Pool(2)).into(),
        ];
        let now = Instant::now();
        let (mut snapshot, delta) = Snapshot::empty().evolve(first, now);
        delta.settle(now, Instant::now);
        let mut leases = Vec::new();
        for (place, wanted, n_leases, takes_whole) in steps {
            for pool in snapshot.pools() {
                leases.extend((0..n_leases).filter_map(|_| pool.pick(&Query::default(), &mut Tried::new()).ok()));
            }
            leases.truncate(6);
            let mut plan = (*snapshot.plan).clone();
            Arc::make_mut(&mut plan.pools[place]).servers = servers(&wanted);
            let (whole, whole_delta) = snapshot.evolve(plan, now);
            let (one, one_delta) = snapshot.evolve_pool(names[place], servers(&wanted), now).expect("it is there");
            assert_same(&whole, &one);
            assert_same_delta(&whole_delta, &one_delta);
            assert_shared(&snapshot, &one, place);
            let (next, delta) = if takes_whole { (whole, whole_delta) } else { (one, one_delta) };
            delta.settle(now, Instant::now);
            snapshot = next;
            if let Some(member) = snapshot.pools()[place].members.first() {
                member.server.observe(takes_whole, &HealthThresholds::from(&health(Initial::Up)), now);
            }
        }
    }
}

/// Two snapshots made of one are the same: new servers have the same numbers, old ones are the same.
fn assert_same(whole: &Snapshot, one: &Snapshot) {
    let ids = |servers: &[Arc<Server>]| {
        let mut ids: Vec<_> = servers.iter().map(|server| server.id()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!((whole.generation, whole.edition, &whole.plan), (one.generation, one.edition, &one.plan));
    assert_eq!((whole.next_server, whole.next_listener), (one.next_server, one.next_listener));
    assert_eq!((&whole.by_id, ids(&whole.retiring)), (&one.by_id, ids(&one.retiring)));
    assert_eq!((whole.pools.len(), whole.listeners.len()), (one.pools.len(), one.listeners.len()));
    for (whole, one) in whole.pools.iter().zip(&one.pools) {
        assert_eq!((&whole.name, &whole.plan), (&one.name, &one.plan));
        assert_eq!(format!("{:?}", whole.selector()), format!("{:?}", one.selector()));
        assert!(Arc::ptr_eq(&whole.stats, &one.stats) && Arc::ptr_eq(&whole.budget, &one.budget));
        assert!(Arc::ptr_eq(&whole.origination, &one.origination));
        let member = |member: &crate::pool::Member| {
            let server = &member.server;
            (
                server.id(),
                server.name().clone(),
                server.state(),
                member.weight,
                member.max_connections,
                member.drain,
            )
        };
        let members = |pool: &Pool| pool.members.iter().map(member).collect::<Vec<_>>();
        assert_eq!(members(whole), members(one));
    }
    for (whole, one) in whole.listeners.iter().zip(&one.listeners) {
        assert_eq!((whole.id, &whole.plan, whole.has_h2), (one.id, &one.plan, one.has_h2));
    }
    for snapshot in [whole, one] {
        let is_ours = |pool: &Arc<Pool>| snapshot.pools.iter().any(|known| Arc::ptr_eq(known, pool));
        assert!(
            snapshot.routes.iter().flat_map(|table| &table.rules).all(|rule| rule.pool().is_none_or(is_ours))
        );
        for (listener, planned) in snapshot.listeners.iter().zip(&snapshot.plan.listeners) {
            match (&listener.target, planned.target) {
                (ListenerTarget::Pool(pool), plan::TargetPlan::Pool(place)) => {
                    assert!(Arc::ptr_eq(pool, &snapshot.pools[place]));
                }
                (ListenerTarget::Routes(table), plan::TargetPlan::Routes(place)) => {
                    assert!(Arc::ptr_eq(table, &snapshot.routes[place]));
                }
                (ListenerTarget::RedirectToHttps, plan::TargetPlan::RedirectToHttps) => {}
                (entry, planned) => panic!("{planned:?} has become {entry:?}"),
            }
        }
    }
}

/// Of what has changed they say the same; of what is kept the one speaks of the pool and what leads to it alone.
fn assert_same_delta(whole: &Delta, one: &Delta) {
    let ids = |servers: &[Arc<Server>]| servers.iter().map(|server| server.id()).collect::<Vec<_>>();
    let of = |delta: &Delta| {
        let Changes { added, removed, changed, .. } = &delta.servers;
        [added, removed, changed, &delta.rejoining, &delta.recounted, &delta.unprobed]
            .map(|servers| ids(servers))
    };
    assert_eq!(of(whole), of(one));
    let probes = |delta: &Delta| {
        let started = delta.probes_started.iter().map(|task| task.server.id()).collect::<Vec<_>>();
        let leaving = delta.leaving.iter().map(|(server, within)| (server.id(), *within)).collect::<Vec<_>>();
        (started, delta.probes_stopped.clone(), leaving)
    };
    assert_eq!(probes(whole), probes(one));
    assert_eq!(whole.pools.changed, one.pools.changed);
    for (whole, one) in
        [(&whole.pools, &one.pools), (&whole.routes, &one.routes), (&whole.listeners, &one.listeners)]
    {
        assert!(one.kept.iter().all(|name| whole.kept.contains(name)));
        assert_eq!((&whole.added, &whole.removed), (&one.added, &one.removed));
    }
    let whole_kept = ids(&whole.servers.kept);
    assert!(ids(&one.servers.kept).iter().all(|id| whole_kept.contains(id)));
}

/// What has nothing to do with the pool is the very same.
fn assert_shared(before: &Snapshot, after: &Snapshot, place: usize) {
    let changed = &before.pools[place];
    for (index, (before, after)) in before.pools.iter().zip(&after.pools).enumerate() {
        assert_eq!(Arc::ptr_eq(before, after), index != place);
        assert!(Arc::ptr_eq(&after.stats, &before.stats));
    }
    for (before, after) in before.routes.iter().zip(&after.routes) {
        assert_eq!(Arc::ptr_eq(before, after), !before.leads_to(changed));
    }
    for (before, after) in before.listeners.iter().zip(&after.listeners) {
        let leads_to = match &before.target {
            ListenerTarget::Pool(pool) => Arc::ptr_eq(pool, changed),
            ListenerTarget::Routes(table) => table.leads_to(changed),
            ListenerTarget::RedirectToHttps => false,
        };
        assert_eq!(Arc::ptr_eq(before, after), !leads_to, "{}", before.plan.name);
    }
    for (index, (before, after)) in before.plan.pools.iter().zip(&after.plan.pools).enumerate() {
        assert_eq!(Arc::ptr_eq(before, after), index != place);
    }
}

#[test]
fn a_pool_without_anything_usable_is_served_by_the_first_fallback_that_has() {
    let named = |name: &str, fallback: Option<&str>| plan::PoolPlan {
        name: name.into(),
        fallback: fallback.map(plan::Name::from),
        when_all_unhealthy: plan::WhenAllUnhealthy::Refuse,
        ..pool(Balance::RoundRobin, "s")
    };
    let pools = vec![named("a", Some("b")), named("b", Some("c")), named("c", None), named("alone", None)];
    let now = Instant::now();
    let (snapshot, delta) = Snapshot::empty().evolve(plan(pools), now);
    delta.settle(now, Instant::now);
    let pool = |name: &str| snapshot.pool(name).expect("it is configured");
    let serving =
        || ["a", "b", "c", "alone"].map(|name| snapshot.serving(pool(name)).name.to_string()).join(" ");
    assert_eq!(serving(), "a b c alone");
    set_down(pool("a"), "s");
    assert_eq!(serving(), "b b c alone");
    member(pool("b"), "s").set_operator(crate::pool::Operator::Maint);
    set_down(pool("alone"), "s");
    assert_eq!(serving(), "c c c alone");
    set_down(pool("c"), "s");
    assert_eq!(serving(), "a b c alone", "where none can it is the pool's own fault");
}
