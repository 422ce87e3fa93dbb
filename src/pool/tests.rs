use super::sample::{live, member, pool, set_down};
use super::*;
use crate::config::plan::{Balance, WhenAllUnhealthy};
use proptest::prelude::*;

fn pick(pool: &Pool) -> Result<Lease, NoServer> {
    pool.pick(&Query::default(), &mut Tried::new())
}

fn limited(servers: &str, limit: u32) -> Arc<Pool> {
    let mut plan = pool(Balance::LeastConnections, servers);
    plan.servers.iter_mut().for_each(|server| server.max_connections = NonZeroU32::new(limit));
    live(plan)
}

#[test]
fn a_full_pool_says_so_until_a_lease_ends() {
    let pool = limited("a b", 2);
    let mut leases: Vec<_> = (0..4).map(|_| pick(&pool).expect("there is room")).collect();
    assert_eq!(pick(&pool).map(drop), Err(NoServer::AllFull));
    leases.pop();
    assert!(pick(&pool).is_ok());
}

#[test]
fn a_request_tries_each_server_once() {
    for balance in sample::every_balance() {
        let pool = live(pool(balance, "a b=3 c d e f g h i j k=9"));
        let mut tried = Tried::new();
        let query = Query { key: Some(7), entropy: 7, ..Query::default() };
        let mut indexes: Vec<_> =
            (0..11).map(|_| pool.pick(&query, &mut tried).expect("one is left").index()).collect();
        indexes.sort_unstable();
        assert_eq!(indexes, Vec::from_iter(0..11), "{:?}", pool.plan.balance);
        assert_eq!(pool.pick(&query, &mut tried).map(drop), Err(NoServer::AllTried));
    }
}

#[test]
fn only_a_pool_without_a_healthy_server_fails_open() {
    for balance in sample::every_balance() {
        let mut plan = pool(balance, "a b c d");
        plan.servers[2].drain = true;
        plan.servers[0].max_connections = NonZeroU32::new(1);
        let pool = live(plan);
        member(&pool, "d").set_operator(Operator::Maint);
        set_down(&pool, "b");
        let _full = pick(&pool).expect("a is up");
        assert_eq!(pick(&pool).map(drop), Err(NoServer::AllFull), "a is full, which is no reason to use b");
        assert!(!pool.failing_open());

        set_down(&pool, "a");
        assert!(pool.failing_open());
        for _ in 0..9 {
            assert_eq!(pick(&pool).expect("b is ready").server().name().as_ref(), "b");
        }
        member(&pool, "b").set_operator(Operator::Drain);
        member(&pool, "a").set_operator(Operator::Drain);
        assert!(!pool.failing_open());
        assert_eq!(pick(&pool).map(drop), Err(NoServer::NoneReady));
    }
}

#[test]
fn those_that_stand_by_are_used_while_no_other_one_is() {
    for balance in sample::every_balance() {
        let mut plan = pool(balance, "a b c d");
        plan.servers[2].backup = true;
        plan.servers[3].backup = true;
        plan.servers.iter_mut().for_each(|server| server.max_connections = NonZeroU32::new(2));
        let pool = live(plan);
        let names = |n: usize| -> std::collections::BTreeSet<String> {
            let query = |entropy| Query { key: Some(entropy), entropy, ..Query::default() };
            let key = |n: usize| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let pick = |n| pool.pick(&query(key(n)), &mut Tried::new()).expect("one is ready");
            (0..n).map(|n| pick(n).server().name().to_string()).collect()
        };
        let set = |names: &str| names.split(' ').map(str::to_owned).collect();
        assert_eq!(names(64), set("a b"), "{:?}", pool.plan.balance);
        let full: Vec<_> = (0..4).map(|_| pick(&pool).expect("there is room")).collect();
        assert_eq!(pick(&pool).map(drop), Err(NoServer::AllFull), "they are busy, and work");
        drop(full);
        set_down(&pool, "a");
        assert_eq!(names(64), set("b"));
        set_down(&pool, "b");
        assert_eq!(names(64), set("c d"));
        assert!(!pool.failing_open());
        let mut tried = Tried::new();
        let query = Query { key: Some(1), entropy: 1, ..Query::default() };
        for _ in 0..2 {
            assert!(pool.pick(&query, &mut tried).is_ok());
        }
        assert_eq!(pool.pick(&query, &mut tried).map(drop), Err(NoServer::AllTried));
    }
}

#[test]
fn a_request_whose_tries_fail_goes_on_to_those_that_stand_by() {
    let mut plan = pool(Balance::RoundRobin, "a b");
    plan.servers[0].backup = true;
    let pool = live(plan);
    let mut tried = Tried::new();
    let tries: Vec<_> = (0..2)
        .map(|_| pool.pick(&Query::default(), &mut tried).expect("one is left").server().name().to_string())
        .collect();
    assert_eq!(tries, ["b", "a"]);
}

#[test]
fn a_pool_may_refuse_when_nothing_is_healthy() {
    let mut plan = pool(Balance::RoundRobin, "a b");
    plan.when_all_unhealthy = WhenAllUnhealthy::Refuse;
    let pool = live(plan);
    set_down(&pool, "a");
    assert!(pick(&pool).is_ok());
    set_down(&pool, "b");
    assert_eq!(pick(&pool).map(drop), Err(NoServer::AllUnhealthy));
    assert!(!pool.failing_open());
}

#[test]
fn an_unknown_server_is_not_used_before_its_first_pass() {
    let mut plan = pool(Balance::RoundRobin, "a b");
    plan.health = Some(sample::health(plan::Initial::Probing));
    plan.when_all_unhealthy = WhenAllUnhealthy::Refuse;
    let rule = HealthThresholds::from(plan.health.as_ref().expect("just set"));
    let pool = live(plan);
    assert_eq!(pool.counts().probing, 2);
    assert_eq!(pick(&pool).map(drop), Err(NoServer::Unproven));
    member(&pool, "b").observe(true, &rule, Instant::now());
    assert_eq!(pick(&pool).expect("b has passed").index(), 1);
}

#[test]
fn a_pool_without_servers_says_so() {
    for balance in sample::every_balance() {
        let mut plan = pool(balance, "a");
        plan.servers.clear();
        let pool = live(plan);
        assert_eq!(pick(&pool).map(drop), Err(NoServer::NoServers));
        assert!(!pool.failing_open());
    }
}

#[test]
fn a_panic_gives_its_lease_back() {
    let pool = live(pool(Balance::RoundRobin, "a"));
    let held = std::panic::AssertUnwindSafe(pick(&pool).expect("a is ready"));
    let outcome = std::panic::catch_unwind(move || {
        assert_eq!(held.server().in_flight(), 1);
        panic!("on purpose");
    });
    assert!(outcome.is_err());
    assert_eq!(member(&pool, "a").in_flight(), 0);
}

#[test]
fn threads_together_do_not_overrun_a_limit() {
    let pool = limited("a b c", 2);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                for turn in 0..2_000 {
                    let query = Query { key: None, entropy: turn * 8 + thread, ..Query::default() };
                    if let Ok(lease) = pool.pick(&query, &mut Tried::new()) {
                        assert!((1..=2).contains(&lease.server().in_flight()));
                    }
                }
            });
        }
    });
    assert!(pool.members.iter().all(|member| member.server.in_flight() == 0));
}

proptest! {
    /// Takes (`None`) and gives back (some lease) in any order.
    #[test]
    fn counts_are_the_leases_out(
        limit in 0u32..4,
        steps in prop::collection::vec(prop::option::of(any::<prop::sample::Index>()), 0..200),
    ) {
        for balance in sample::every_balance() {
            let mut plan = pool(balance, "a=1 b=100 c=256");
            plan.servers[1].max_connections = NonZeroU32::new(limit);
            let pool = live(plan);
            let mut leases: Vec<Lease> = Vec::new();
            for step in &steps {
                match step {
                    Some(which) if !leases.is_empty() => drop(leases.swap_remove(which.index(leases.len()))),
                    _ => leases.extend(pool.pick(&Query { key: None, entropy: 3, ..Query::default() }, &mut Tried::new())),
                }
                for (index, member) in pool.members.iter().enumerate() {
                    let out = leases.iter().filter(|lease| lease.index() == index).count();
                    prop_assert_eq!(member.server.in_flight() as usize, out);
                }
            }
            leases.clear();
            prop_assert!(pool.members.iter().all(|member| member.server.in_flight() == 0));
        }
    }
}
