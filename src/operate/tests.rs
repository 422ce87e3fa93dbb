//! What is said of servers, remembered and forgotten; and which of them can be spared.

use super::*;
use crate::config::plan::Balance;
use crate::pool::sample::{live, member, pool, set_down};
use crate::pool::{Query, Tried};
use std::num::NonZeroU32;

fn at() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_000_000).unwrap()
}

#[test]
fn the_state_file_brings_back_what_was_said() {
    let pool = live(pool(Balance::RoundRobin, "a b c"));
    let mut overrides = Overrides::default();
    overrides.set_operator(member(&pool, "a"), Operator::Drain, "alice", at());
    overrides.set_operator(member(&pool, "b"), Operator::Maint, "bob", at());
    overrides.set_weight(member(&pool, "b"), Weight::new(7));
    overrides.set_operator(member(&pool, "c"), Operator::Maint, "bob", at());
    overrides.set_operator(member(&pool, "c"), Operator::Ready, "bob", at());
    let back = read(&overrides.to_json(None)).unwrap();
    assert_eq!(back, overrides);
    let states = ["a", "b", "c"].map(|name| back.operator(member(&pool, name)));
    assert_eq!(states, [Operator::Drain, Operator::Maint, Operator::Ready]);
    assert_eq!(back.of(member(&pool, "c")), None, "ready is nothing to remember");
}

fn read(text: &str) -> Result<Overrides, String> {
    KeptState::from_json(text).map(|kept| kept.overrides)
}

#[test]
fn the_key_of_cookies_is_kept_beside_what_operators_have_said() {
    let key = Secret::new(&"k".repeat(32)).expect("a key");
    let text = Overrides::default().to_json(Some(&key));
    let kept = KeptState::from_json(&text).expect("it is whole");
    assert_eq!(kept.sticky_key.as_ref().map(Secret::text), Some(key.text()));
    assert!(!Overrides::default().to_json(None).contains("sticky_key"));
    assert!(KeptState::from_json(&text.replace("kkk", "k k")).is_err());
}

#[test]
fn a_damaged_state_file_is_refused() {
    for text in ["", "{", "[]", r#"{"version":2,"servers":[]}"#, r#"{"version":1}"#] {
        assert!(read(text).is_err(), "{text}");
    }
    let heavy = r#"{"version":1,"servers":[{"pool":"p","server":"s","address":"1.2.3.4:5","weight":999}]}"#;
    assert_eq!(read(heavy).unwrap_err(), "p/s: weight 999 is out of range");
}

#[test]
fn what_was_said_of_a_server_ends_with_it() {
    let before = live(pool(Balance::RoundRobin, "a b"));
    let mut overrides = Overrides::default();
    overrides.set_operator(member(&before, "a"), Operator::Drain, "alice", at());
    overrides.set_weight(member(&before, "b"), Weight::new(7));
    let mut plan = crate::snapshot::Snapshot::empty().plan.as_ref().clone();
    plan.pools = vec![pool(Balance::RoundRobin, "b c").into()];
    let (kept, gone) = overrides.kept_by(&plan, at());
    assert_eq!(gone.names(), [format!("{}/a", before.name)]);
    assert_eq!(kept.or(&gone), overrides);
    kept.apply_to(&mut plan);
    let weights: Vec<_> = plan.pools[0].servers.iter().map(|server| server.weight.get()).collect();
    assert_eq!(weights[0], 7);
    assert_ne!(weights[1], 7);
}

#[test]
fn what_was_said_of_a_server_survives_a_day_without_its_source_naming_it() {
    let before = live(pool(Balance::RoundRobin, "a b"));
    let mut overrides = Overrides::default();
    overrides.set_operator(member(&before, "a"), Operator::Maint, "alice", at());
    let source = plan::SourcePlan {
        kind: plan::SourceKind::DnsSrv("app.internal".into()),
        rules: plan::DiscoveryRules {
            when_empty: plan::WhenEmpty::Keep,
            keep_stale: None,
            leave_after: Duration::ZERO,
            large_change: None,
            max_servers: 9,
        },
        start_wait: Duration::ZERO,
        template: plan::ServerTemplate::default(),
        is_entry: false,
    };
    let with = |servers| plan::PoolPlan {
        sources: vec![Arc::new(source.clone())],
        ..pool(Balance::RoundRobin, servers)
    };
    let hours = |hours: u64| at() + Duration::from_secs(hours * 3600);
    let gone = overrides.noting_presence(&with("b"), hours(1)).expect("it is noted");
    assert_eq!(gone.noting_presence(&with("b"), hours(20)), None, "nothing new");
    let stored = read(&gone.to_json(None)).unwrap();
    assert_eq!(stored, gone);
    let reloaded = |at, servers| {
        let mut plan = crate::snapshot::Snapshot::empty().plan.as_ref().clone();
        plan.pools = vec![with(servers).into()];
        stored.kept_by(&plan, at).0.operator(member(&before, "a"))
    };
    assert_eq!(reloaded(hours(24), "b"), Operator::Maint);
    assert_eq!(reloaded(hours(26), "b"), Operator::Ready);
    assert_eq!(reloaded(hours(26), "a b"), Operator::Maint, "it is there again");
    let back = gone.noting_presence(&with("a b"), hours(3)).expect("it is noted");
    assert_eq!(back, overrides);
    assert_eq!(gone.noting_presence(&with("b"), hours(26)), Some(Overrides::default()));
}

#[test]
fn the_last_one_that_works_cannot_be_spared() {
    let pool = live(pool(Balance::RoundRobin, "a b"));
    let (a, b) = (member(&pool, "a"), member(&pool, "b"));
    assert_eq!(can_spare(&pool, a), Ok(()));
    set_down(&pool, "b");
    assert!(matches!(can_spare(&pool, a), Err(CannotSpare::LastHealthy { .. })));
    assert_eq!(can_spare(&pool, b), Ok(()), "a server that is down is no loss");
    b.set_operator(Operator::Maint);
    assert!(matches!(can_spare(&pool, a), Err(CannotSpare::Last { .. })));
    assert_eq!(can_spare(&pool, b), Ok(()), "it takes nothing already");
}

#[test]
fn a_server_cannot_be_spared_if_the_rest_has_no_room_for_what_is_in_flight() {
    let mut plan = pool(Balance::RoundRobin, "a b c");
    for server in &mut plan.servers {
        server.max_connections = NonZeroU32::new(2);
    }
    let pool = live(plan.clone());
    let query = Query { key: None, entropy: 1, ..Query::default() };
    let leases: Vec<_> = (0..5).map(|_| pool.pick(&query, &mut Tried::new()).unwrap()).collect();
    let refused = can_spare(&pool, member(&pool, "a")).unwrap_err();
    assert_eq!(
        refused,
        CannotSpare::TooLittleRoom {
            pool: pool.name.clone(),
            server: "a".into(),
            in_flight: 5,
            servers: 2,
            room: 4
        }
    );
    drop(leases);
    assert_eq!(can_spare(&pool, member(&pool, "a")), Ok(()));
    plan.servers[1].max_connections = None;
    let pool = live(plan);
    let _leases: Vec<_> = (0..9).map(|_| pool.pick(&query, &mut Tried::new()).unwrap()).collect();
    assert_eq!(can_spare(&pool, member(&pool, "a")), Ok(()), "b takes any number");
}
