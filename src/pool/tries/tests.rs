use super::*;
use crate::config::plan::{Balance, QueueOrder, QueuePlan, RetryOn};
use crate::pool::sample::{live, member, outlier, pool, set_down};
use crate::pool::{RetryBudget, TryVerdict};
use crate::units::Percent;
use futures_util::FutureExt;
use proptest::prelude::*;
use std::num::NonZeroU32;

const FAILED: Outcome = Outcome { result: TryResult::Reset, waited: None, declared: None, source: None };

fn with_retries(servers: &str, max: u32, budget: u32) -> Arc<Pool> {
    let mut plan = pool(Balance::RoundRobin, servers);
    (plan.retries.max, plan.retries.budget) = (max, Percent(budget));
    live(plan)
}

fn begun(pool: &Arc<Pool>) -> (Tries, Attempt) {
    let mut begun = (Tries::new(Arc::clone(pool), Query::default()), Attempt::default());
    begun.0.begin(&mut begun.1, Instant::now()).expect("a server is ready");
    begun
}

fn again((tries, attempt): &mut (Tries, Attempt), reason: RetryReason) -> bool {
    matches!(tries.again(attempt, reason, &FAILED, Instant::now()), NextTry::At(_))
}

#[test]
fn there_are_as_many_tries_as_the_pool_allows_each_on_another_server() {
    let pool = with_retries("a b c d", 2, 20);
    let mut request = begun(&pool);
    let mut seen = vec![request.1.server().cloned()];
    while again(&mut request, RetryReason::Connect) {
        seen.push(request.1.server().cloned());
    }
    seen.iter().flatten().for_each(|server| {
        assert_eq!(seen.iter().flatten().filter(|other| Arc::ptr_eq(server, other)).count(), 1);
    });
    assert_eq!((seen.len(), request.1.number(), pool.stats.retries(RetryReason::Connect)), (3, 3, 2));
    assert!(request.1.is_under_way(), "the last one's answer may be passed on");
}

#[test]
fn a_failed_try_is_followed_by_one_at_a_server_that_is_not_missing() {
    let pool = with_retries("a b c d e f", 1, 20);
    pool.members[1..]
        .iter()
        .for_each(|member| member.server.set_missing(member.server.name().as_ref() != "e"));
    for _ in 0..12 {
        let mut request = begun(&pool);
        let first = request.1.server().expect("it has begun").name().to_string();
        assert!(again(&mut request, RetryReason::Connect));
        let next = request.1.server().expect("it goes on").name().to_string();
        assert!(["a", "e"].contains(&next.as_str()) && next != first, "{first}, then {next}");
    }
    pool.members[0].server.set_missing(true);
    pool.members[4].server.set_missing(true);
    assert!(again(&mut begun(&pool), RetryReason::Connect), "a missing one is better than none");
}

#[test]
fn an_ejected_server_is_the_last_choice_after_connections_that_could_not_be_opened() {
    let pool = with_retries("a b c d", 9, 20);
    ["a", "d"].iter().for_each(|name| member(&pool, name).set_ejected(true));
    set_down(&pool, "d");
    for _ in 0..4 {
        let mut request = begun(&pool);
        let mut seen = vec![server(&request).to_owned()];
        while again(&mut request, RetryReason::Connect) {
            seen.push(server(&request).to_owned());
        }
        assert_eq!(seen[2..], ["a"], "{seen:?}: the others first, and never one that is down");
    }
    let mut seen = begun(&pool);
    assert!(again(&mut seen, RetryReason::Unavailable));
    assert!(!again(&mut seen, RetryReason::Unavailable), "an answer is better than another one's failure");
}

#[test]
fn an_ejected_server_that_is_full_is_waited_for_when_all_others_were_tried() {
    let mut plan = pool(Balance::RoundRobin, "a b");
    plan.servers[0].max_connections = NonZeroU32::new(1);
    plan.queue = Some(QueuePlan {
        max: NonZeroU32::new(2).expect("it is not zero"),
        timeout: Duration::from_secs(5),
        order: QueueOrder::Adaptive,
    });
    let pool = live(plan);
    let now = Instant::now();
    let (mut busy, mut at_a) = bound(&pool);
    busy.begin(&mut at_a, now).expect("a has room");
    member(&pool, "a").set_ejected(true);
    let mut request =
        (Tries::new(Arc::clone(&pool), Query::default()).waiting_as(Priority::Normal), Attempt::default());
    request.0.begin(&mut request.1, now).expect("b is ready");
    let refused = Outcome::of(TryResult::ConnectFailed);
    assert!(matches!(request.0.again(&mut request.1, RetryReason::Connect, &refused, now), NextTry::Waits));
    request.1.end(&refused);
    let (place, _) = request.0.enter(now).expect("there is room in the line");
    at_a.end(&Outcome::of(TryResult::answered(200)));
    let granted = place.now_or_never().expect("it is answered").expect("a has room");
    request.0.take(granted, &mut request.1, now);
    assert_eq!(server(&request), "a");
}

#[test]
fn what_is_not_to_be_retried_is_not() {
    let mut plan = pool(Balance::RoundRobin, "a b c");
    plan.retries.on = RetryOn { connect: true, reset: false, timeout: false, statuses: vec![502, 504] };
    let pool = live(plan);
    for (reason, is_retried) in [
        (RetryReason::Connect, true),
        (RetryReason::Reset, false),
        (RetryReason::Stale, false),
        (RetryReason::BadGateway, true),
        (RetryReason::Unavailable, false),
        (RetryReason::GatewayTimeout, true),
    ] {
        assert_eq!(again(&mut begun(&pool), reason), is_retried, "{reason:?}");
    }
    let (mut tries, mut attempt) = begun(&pool);
    let ours = Outcome::of(TryResult::NotServersFault);
    let next = tries.again(&mut attempt, RetryReason::Connect, &ours, Instant::now());
    assert!(matches!(next, NextTry::None));
}

#[test]
fn the_budget_is_for_what_gave_a_server_work() {
    let pool = with_retries("a b", 1, 20);
    for spent in 0..=RetryBudget::START {
        assert_eq!(again(&mut begun(&pool), RetryReason::Reset), spent < RetryBudget::START);
    }
    assert!(again(&mut begun(&pool), RetryReason::Connect));
    let without = with_retries("a b", 1, 0);
    assert!(!again(&mut begun(&without), RetryReason::Reset));
    assert!(again(&mut begun(&without), RetryReason::Connect));
}

#[test]
fn no_budget_is_spent_without_a_server_to_send_to() {
    let pool = with_retries("a", 1, 20);
    for _ in 0..RetryBudget::START * 2 {
        assert!(!again(&mut begun(&pool), RetryReason::Reset));
    }
    assert!(pool.budget.withdraw());
}

#[test]
fn a_stale_connection_lets_the_same_server_be_chosen_once_though_it_is_full() {
    let mut plan = pool(Balance::RoundRobin, "a");
    plan.servers[0].max_connections = NonZeroU32::new(1);
    plan.retries.max = 5;
    let pool = live(plan);
    let mut request = begun(&pool);
    assert_eq!(request.0.reason_after_reset(false), RetryReason::Reset);
    assert_eq!(request.0.reason_after_reset(true), RetryReason::Stale);
    assert!(again(&mut request, RetryReason::Stale));
    assert!(request.0.was_stale());
    assert_eq!(member(&pool, "a").in_flight(), 1);
    assert_eq!(request.0.reason_after_reset(true), RetryReason::Reset, "the second time");
    assert!(!again(&mut request, RetryReason::Reset), "there is no other server");
    assert_eq!(pool.stats.retries(RetryReason::Stale), 1);
}

#[test]
fn a_stale_connection_has_another_server_tried_first() {
    let pool = with_retries("a b c", 1, 20);
    for _ in 0..6 {
        let mut request = begun(&pool);
        let first = server(&request).to_owned();
        assert!(again(&mut request, RetryReason::Stale));
        // Its own may have died, which looks the same.
        assert_ne!(server(&request), first);
        request.1.end(&Outcome::default());
    }
    ["b", "c"].iter().for_each(|name| set_down(&pool, name));
    let mut request = begun(&pool);
    assert!(again(&mut request, RetryReason::Stale));
    assert_eq!(server(&request), "a", "there is no other");
}

#[test]
fn who_is_avoided_is_chosen_when_nobody_else_is_left() {
    let pool = with_retries("a b c", 9, 20);
    let ids = ["a", "b"].map(|name| member(&pool, name).id());
    for _ in 0..9 {
        let mut tries = Tries::new(Arc::clone(&pool), Query::default()).avoiding(&ids);
        let mut attempt = Attempt::default();
        tries.begin(&mut attempt, Instant::now()).expect("c is ready");
        assert_eq!(attempt.server().map(|server| &**server.name()), Some("c"));
        let mut request = (tries, attempt);
        assert!(again(&mut request, RetryReason::Connect));
        assert!(again(&mut request, RetryReason::Connect));
        assert!(!again(&mut request, RetryReason::Connect), "each once");
    }
    set_down(&pool, "c");
    let mut tries = Tries::new(Arc::clone(&pool), Query::default()).avoiding(&ids);
    assert!(tries.begin(&mut Attempt::default(), Instant::now()).is_ok());
}

/// The tries of a client that has a session at the first server.
fn bound(pool: &Arc<Pool>) -> (Tries, Attempt) {
    let bound = pool.bound_to(0, Duration::from_secs(2)).expect("there is one");
    (Tries::new(Arc::clone(pool), Query::default()).bound_to(bound), Attempt::default())
}

fn server((_, attempt): &(Tries, Attempt)) -> &str {
    attempt.server().expect("it has begun").name()
}

#[test]
fn who_has_a_session_is_sent_elsewhere_only_if_its_server_has_not_answered() {
    let pool = with_retries("a b c", 9, 20);
    for (reason, goes_on_at) in [
        (RetryReason::Connect, Some("elsewhere")),
        (RetryReason::Reset, Some("elsewhere")),
        (RetryReason::Stale, Some("a")),
        (RetryReason::BadGateway, None),
        (RetryReason::Unavailable, None),
        (RetryReason::GatewayTimeout, None),
    ] {
        for _ in 0..3 {
            let mut request = bound(&pool);
            request.0.begin(&mut request.1, Instant::now()).expect("a is up");
            assert_eq!(server(&request), "a");
            let goes_on = again(&mut request, reason);
            assert_eq!(goes_on, goes_on_at.is_some(), "{reason:?}");
            match goes_on_at {
                Some("elsewhere") => assert_ne!(server(&request), "a", "{reason:?}"),
                _ => assert_eq!(server(&request), "a", "{reason:?}"),
            }
        }
    }
    // Where it has none any more, an answer of another server may be better.
    let mut request = bound(&pool);
    request.0.begin(&mut request.1, Instant::now()).expect("a is up");
    assert!(again(&mut request, RetryReason::Connect) && again(&mut request, RetryReason::Unavailable));
}

#[test]
fn who_has_a_session_at_a_server_that_has_died_on_it_is_served_by_another() {
    // Its kept connection is reset, which may be for its age; the one try that there is must not be lost by that.
    for after in [RetryReason::Connect, RetryReason::Reset] {
        let pool = with_retries("a b c", 1, 100);
        let mut request = bound(&pool);
        request.0.begin(&mut request.1, Instant::now()).expect("a is up");
        assert!(again(&mut request, RetryReason::Stale));
        assert_eq!(server(&request), "a", "its page is there alone");
        assert!(again(&mut request, after), "{after:?}");
        assert_ne!(server(&request), "a", "{after:?}");
        assert!(!again(&mut request, after), "one try elsewhere, as for everybody");
    }
    let never = with_retries("a b", 0, 100);
    let mut request = bound(&never);
    request.0.begin(&mut request.1, Instant::now()).expect("a is up");
    assert!(!again(&mut request, RetryReason::Stale), "nothing is sent twice");
    let others = with_retries("a b c", 1, 100);
    let mut request = begun(&others);
    assert!(again(&mut request, RetryReason::Stale) && !again(&mut request, RetryReason::Connect));
}

#[test]
fn who_has_a_session_at_an_ejected_server_may_be_the_one_that_tries_it_out() {
    let mut plan = pool(Balance::RoundRobin, "a b");
    plan.outlier = Some(outlier());
    let pool = live(plan);
    member(&pool, "a").set_ejected(true);
    let ask = || {
        let bound = pool.bound_to(0, Duration::from_secs(2)).expect("there is one");
        let query = Query { may_be_repeated: true, ..Query::default() };
        let mut asked = (Tries::new(Arc::clone(&pool), query).bound_to(bound), Attempt::default());
        asked.0.begin(&mut asked.1, Instant::now()).expect("one is ready");
        asked
    };
    assert_eq!(server(&ask()), "b", "its time is not over");
    member(&pool, "a").outlier().open_trial();
    let first = ask();
    assert_eq!((server(&first), server(&ask())), ("a", "b"), "one at a time");
}

#[test]
fn a_full_server_is_waited_for_by_those_who_have_sessions_there() {
    let mut plan = pool(Balance::RoundRobin, "a b");
    plan.servers[0].max_connections = NonZeroU32::new(1);
    plan.queue = Some(QueuePlan {
        max: NonZeroU32::new(2).expect("it is not zero"),
        timeout: Duration::from_secs(5),
        order: QueueOrder::Adaptive,
    });
    let pool = live(plan);
    let mut first = bound(&pool);
    first.0 = first.0.waiting_as(Priority::Normal);
    first.0.begin(&mut first.1, Instant::now()).expect("it has room");
    let mut second = bound(&pool);
    second.0 = second.0.waiting_as(Priority::Normal);
    assert_eq!(second.0.begin(&mut second.1, Instant::now()).map(drop), Err(NoServer::AllFull));
    let (_place, patience) = second.0.enter(Instant::now()).expect("there is room in the line");
    assert_eq!((patience.bound, patience.whole), (Some(Duration::from_secs(2)), Duration::from_secs(5)));
    // Nobody else waits with it.
    let mut other =
        (Tries::new(Arc::clone(&pool), Query::default()).waiting_as(Priority::Normal), Attempt::default());
    assert!(other.0.begin(&mut other.1, Instant::now()).is_ok());
    let mut third = bound(&pool);
    third.0 = third.0.waiting_as(Priority::Normal);
    assert_eq!(third.0.begin(&mut third.1, Instant::now()).map(drop), Err(NoServer::AllFull));
    let _place = third.0.enter(Instant::now()).expect("there is room in the line");
    let mut late = bound(&pool);
    late.0 = late.0.waiting_as(Priority::Normal);
    late.0
        .begin(&mut late.1, Instant::now())
        .expect("a full line is no reason to be refused where others have room");
    assert_eq!(server(&late), "b");
    let tried = Tried::new();
    let lease = pool.pick(&Query::default(), &mut tried.clone()).expect("b has room");
    let granted = Granted { pool: Arc::clone(&pool), lease, tried };
    third.0.take(granted, &mut third.1, Instant::now());
    assert_eq!(third.0.bound, None, "it has waited in vain");
    let mut impatient = bound(&pool);
    impatient.0.begin(&mut impatient.1, Instant::now()).expect("what may not wait goes elsewhere");
    assert_eq!(server(&impatient), "b");
}

proptest! {
    /// Whatever fails and however often: as many tries as allowed, every one ends with one outcome, nothing stays leased.
    #[test]
    fn every_try_is_counted_once(
        max in 0u32..5,
        budget in 0u32..3,
        limit in 0u32..3,
        requests in prop::collection::vec(prop::collection::vec(0..RetryReason::ALL.len(), 0..8), 1..30),
    ) {
        let mut plan = pool(Balance::RoundRobin, "a b c");
        plan.servers.iter_mut().for_each(|server| server.max_connections = NonZeroU32::new(limit));
        (plan.retries.max, plan.retries.budget) = (max, Percent(budget));
        let pool = live(plan);
        let mut tried = 0;
        let mut charged = 0;
        for failures in &requests {
            let mut request = begun(&pool);
            for failure in failures {
                let (server, number) = (request.1.server().cloned(), request.1.number());
                let reason = RetryReason::ALL[*failure];
                match again(&mut request, reason) {
                    true => {
                        charged += u64::from(reason != RetryReason::Connect);
                        prop_assert_eq!(request.1.number(), number + 1);
                    }
                    false => {
                        prop_assert_eq!(request.1.number(), number);
                        let same = request.1.server().zip(server.as_ref());
                        prop_assert!(same.is_some_and(|(now, before)| Arc::ptr_eq(now, before)));
                    }
                }
            }
            prop_assert!(request.1.number() <= max + 1);
            tried += u64::from(request.1.number());
            request.1.end(&Outcome::of(TryResult::answered(200)));
        }
        prop_assert!(charged <= RetryBudget::START, "nobody has paid in");
        let of = |verdict| pool.members.iter().map(|member| member.server.tries().of(verdict)).sum::<u64>();
        prop_assert_eq!(of(TryVerdict::Served) + of(TryVerdict::Failed), tried);
        prop_assert_eq!(of(TryVerdict::Unknown) + of(TryVerdict::Neutral), 0);
        prop_assert!(pool.members.iter().all(|member| member.server.in_flight() == 0));
    }
}
