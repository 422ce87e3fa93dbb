use super::*;
use crate::config::plan::Balance;
use crate::pool::sample::{live, member, pool, set_down};

const ONCE: HealthThresholds = HealthThresholds { rise: NonZeroU32::MIN, fall: NonZeroU32::MIN };

#[test]
fn no_owner_clears_what_another_has_set() {
    let pool = live(pool(Balance::RoundRobin, "a"));
    let (server, now) = (member(&pool, "a"), Instant::now());
    server.set_operator(Operator::Drain);
    server.observe(false, &ONCE, now);
    server.leave(now);
    let state = |health, admin, membership| ServerState { health, admin, membership };
    let all = state(HealthState::Down, Operator::Drain, Membership::Leaving);
    assert_eq!(server.state(), all);
    server.observe(true, &ONCE, now);
    assert_eq!(server.state(), ServerState { health: HealthState::Up, ..all });
    server.observe(false, &ONCE, now);
    server.set_operator(Operator::Maint);
    assert_eq!(server.state(), ServerState { admin: Operator::Maint, ..all });
    server.rejoin();
    server.set_operator(Operator::Ready);
    assert_eq!(server.state(), state(HealthState::Down, Operator::Ready, Membership::Present));
}

#[test]
fn connections_rest_at_a_server_that_is_there_and_within_its_limit() {
    let pool = live(pool(Balance::RoundRobin, "a"));
    let server = member(&pool, "a");
    let open = [None, Some(2), Some(3)];
    let rests = || open.map(|open| server.has_room_for_idle(open));
    assert_eq!(rests(), [true; 3]);
    server.set_max_connections(NonZeroU32::new(2));
    assert_eq!(rests(), [false, true, false]);
    server.set_max_connections(None);

    for operator in [Operator::Drain, Operator::Maint] {
        server.set_operator(operator);
        assert_eq!(rests(), [operator == Operator::Drain; 3]);
    }
    server.set_operator(Operator::Ready);
    server.leave(Instant::now());
    assert_eq!((rests(), server.keeps_idle()), ([false; 3], false));
    server.rejoin();
    assert_eq!(rests(), [true; 3]);
}

#[test]
fn what_is_in_flight_must_close_once_its_time_is_over() {
    let pool = live(pool(Balance::RoundRobin, "a"));
    let (server, now) = (member(&pool, "a"), Instant::now());
    let after = |seconds| now + Duration::from_secs(seconds);
    server.set_close_at(Some(after(5)));
    assert!(!server.must_close(after(9)), "it is up");

    set_down(&pool, "a");
    assert!(!server.must_close(after(9)), "a deadline of an earlier time is void");
    server.set_close_at(Some(after(10)));
    assert_eq!([9, 10].map(|seconds| server.must_close(after(seconds))), [false, true]);
    server.observe(true, &ONCE, after(11));
    assert!(!server.must_close(after(12)), "it is up again");

    server.leave(after(20));
    server.set_close_at(None);
    assert_eq!([19, 20].map(|seconds| server.must_close(after(seconds))), [false, true]);
    server.rejoin();
    assert!(!server.must_close(after(30)));
}
