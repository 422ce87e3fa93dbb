use super::*;
use crate::config::plan::{Balance, Initial, PoolPlan, QueueOrder, WhenAllUnhealthy};
use crate::pool::sample::{self, member, pool, set_down};
use crate::pool::{HealthThresholds, InFlightElsewhere, Operator};
use crate::snapshot::Snapshot;
use std::num::NonZeroU32;
use std::time::Duration;

const SETTINGS: QueuePlan =
    QueuePlan { max: NonZeroU32::new(4).unwrap(), timeout: Duration::from_secs(5), order: QueueOrder::Fifo };

/// A pool of servers with room for so many each.
fn limited(servers: &str, limit: u32) -> PoolPlan {
    let mut plan = pool(Balance::LeastConnections, servers);
    plan.servers.iter_mut().for_each(|server| server.max_connections = NonZeroU32::new(limit));
    plan.queue = Some(SETTINGS);
    plan
}

/// What is in force.
struct Live {
    snapshot: Snapshot,
}

impl Live {
    fn new(plan: PoolPlan) -> Self {
        let mut live = Self { snapshot: Snapshot::empty() };
        live.reload(vec![plan]);
        live
    }

    fn reload(&mut self, pools: Vec<PoolPlan>) {
        let now = Instant::now();
        let (snapshot, delta) = self.snapshot.evolve(sample::plan(pools), now);
        self.snapshot = snapshot;
        delta.settle(now, Instant::now);
    }

    fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.snapshot.pools()[0])
    }

    fn lease(&self) -> Result<Lease, NoServer> {
        self.pool().pick(&Query::default(), &mut Tried::new())
    }

    /// All the room there is.
    fn fill(&self) -> Vec<Lease> {
        std::iter::from_fn(|| self.lease().ok()).collect()
    }

    fn enter_as(&self, priority: Priority, tried: &[u32]) -> Result<QueuePlace, Refusal> {
        let now = Instant::now();
        let terms =
            WaitTerms { query: Query::default(), priority, arrived: now, tried: tried.into(), bound: None };
        self.pool().queue.enter(terms, &SETTINGS, now)
    }

    /// One that is bound to the server at this place.
    fn enter_bound(&self, index: usize) -> QueuePlace {
        let (now, pool) = (Instant::now(), self.pool());
        let bound = pool.bound_to(index, Duration::from_secs(2));
        let (query, priority, tried) = (Query::default(), Priority::Normal, Box::default());
        let terms = WaitTerms { query, priority, arrived: now, tried, bound };
        pool.queue.enter(terms, &SETTINGS, now).expect("there is room in the line")
    }

    fn enter(&self) -> QueuePlace {
        self.enter_as(Priority::Normal, &[]).expect("there is room in the line")
    }
}

/// What has become of it so far.
fn look(place: &mut QueuePlace) -> Option<Answer> {
    match Pin::new(place).poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

fn server_of(answer: Option<Answer>) -> (String, Lease) {
    let granted = answer.expect("it has an answer").expect("it has a server");
    (granted.lease.server().name().to_string(), granted.lease)
}

fn counted(queue: &Queue) -> [u64; QueueResult::ALL.len()] {
    QueueResult::ALL.map(|result| queue.stats().of(result))
}

#[test]
fn what_is_given_back_goes_to_the_first_that_waits() {
    let live = Live::new(limited("a", 2));
    let mut leases = live.fill();
    assert_eq!(leases.len(), 2);
    let (mut first, mut second) = (live.enter(), live.enter());
    assert_eq!((first.position(), second.position(), live.pool().queue.waiting()), (1, 2, 2));
    assert!(look(&mut first).is_none() && look(&mut second).is_none());
    leases.pop();
    let (server, lease) = server_of(look(&mut first));
    assert_eq!(server, "a");
    assert!(look(&mut second).is_none());
    drop(lease);
    assert!(look(&mut second).is_some());
    assert_eq!((live.pool().queue.waiting(), counted(&live.pool().queue)), (0, [2, 0, 0, 0, 0, 0]));
    assert_eq!(live.pool().queue.stats().wait.read().count, 2);
}

#[test]
fn who_is_bound_to_a_server_waits_for_that_one_only_until_it_does_not() {
    let live = Live::new(limited("a b", 1));
    let a = live.pool().members[0].server.id();
    let mut leases = live.fill();
    leases.sort_by_key(|lease| lease.server().id() != a);
    let b = leases.pop().expect("both are full");
    let (mut first, mut second) = (live.enter_bound(0), live.enter_bound(0));
    assert_eq!((first.position(), second.position()), (1, 2));
    assert_eq!((live.pool().queue.waiting(), live.pool().queue.waiting_for_any()), (2, 0));
    drop(b);
    assert!(look(&mut first).is_none() && look(&mut second).is_none(), "the other one is not theirs");
    second.unbind();
    let (server, _b) = server_of(look(&mut second));
    assert_eq!(server, "b");
    let mut third = live.enter();
    assert_eq!(live.pool().queue.waiting_for_any(), 1);
    leases.clear();
    let (server, lease) = server_of(look(&mut first));
    assert_eq!(server, "a", "it was there before the third");
    assert!(look(&mut third).is_none());
    drop(lease);
    assert_eq!(server_of(look(&mut third)).0, "a");
}

#[test]
fn who_is_bound_to_a_server_goes_elsewhere_once_that_is_of_no_use() {
    for operator in [Operator::Maint, Operator::Drain] {
        let live = Live::new(limited("a b", 1));
        let mut leases = live.fill();
        let mut place = live.enter_bound(0);
        leases.retain(|lease| lease.index() == 0);
        assert!(look(&mut place).is_none(), "there is room elsewhere");
        member(&live.pool(), "a").set_operator(operator);
        assert_eq!(
            look(&mut place).is_some(),
            operator == Operator::Maint,
            "a drained one keeps its clients"
        );
    }
    let mut live = Live::new(limited("a b", 1));
    let _leases = live.fill();
    let mut place = live.enter_bound(0);
    live.reload(vec![limited("b", 2)]);
    assert_eq!(server_of(look(&mut place)).0, "b", "the configuration has its server no longer");
}

#[test]
fn who_leaves_gives_on_what_it_was_just_given() {
    let live = Live::new(limited("a", 1));
    let leases = live.fill();
    let (first, mut second) = (live.enter(), live.enter());
    drop(leases);
    // The first was served, and has not looked.
    assert_eq!(live.pool().queue.waiting(), 1);
    drop(first);
    assert!(look(&mut second).is_some());
    assert_eq!(counted(&live.pool().queue), [1, 0, 0, 0, 1, 0]);
    assert_eq!(member(&live.pool(), "a").in_flight(), 0, "the answer was dropped");
}

#[test]
fn an_answer_that_came_before_the_timeout_counts() {
    let live = Live::new(limited("a", 1));
    let leases = live.fill();
    let (first, second) = (live.enter(), live.enter());
    drop(leases);
    assert!(first.time_out().is_ok());
    assert!(second.time_out().is_ok(), "what the first got was dropped");
}

#[test]
fn who_times_out_is_told_and_waits_no_longer() {
    let live = Live::new(limited("a", 1));
    let _leases = live.fill();
    assert_eq!(live.enter().time_out().map(drop), Err(Refusal::QueueTimeout));
    assert_eq!((live.pool().queue.waiting(), counted(&live.pool().queue)), (0, [0, 0, 0, 1, 0, 0]));
}

#[test]
fn a_full_line_refuses_or_sheds() {
    let live = Live::new(limited("a", 1));
    let _leases = live.fill();
    let mut low = live.enter_as(Priority::Low, &[]).expect("there is room");
    let _others = [live.enter(), live.enter(), live.enter()];
    assert_eq!(live.enter_as(Priority::Low, &[]).map(drop), Err(Refusal::QueueFull));
    let _high = live.enter_as(Priority::High, &[]).expect("it takes another one's place");
    assert_eq!(look(&mut low).map(|answer| answer.map(drop)), Some(Err(Refusal::QueueShed)));
    assert_eq!(live.enter_as(Priority::Normal, &[]).map(drop), Err(Refusal::QueueFull));
    assert_eq!(counted(&live.pool().queue), [0, 2, 1, 0, 0, 0]);
}

#[test]
fn who_has_tried_the_free_server_holds_nobody_up() {
    let live = Live::new(limited("a b", 1));
    let mut leases = live.fill();
    leases.sort_by_key(|lease| lease.server().name().clone());
    let tried_a = member(&live.pool(), "a").id();
    let mut first = live.enter_as(Priority::Normal, &[tried_a]).expect("there is room");
    let mut second = live.enter();
    drop(leases.remove(0));
    assert!(look(&mut first).is_none());
    assert_eq!(server_of(look(&mut second)).0, "a");
    drop(leases);
    assert_eq!(server_of(look(&mut first)).0, "b");
}

#[test]
fn whatever_makes_room_serves_the_line() {
    let once = HealthThresholds { rise: NonZeroU32::MIN, fall: NonZeroU32::MIN };
    let now = Instant::now();
    type Change = Box<dyn Fn(&mut Live)>;
    let in_maint = |live: &Live, name: &str| member(&live.pool(), name).set_operator(Operator::Maint);
    let changes: [(&str, Change, Change); 5] = [
        (
            "a recovery",
            Box::new(|live| set_down(&live.pool(), "b")),
            Box::new(move |live| assert!(member(&live.pool(), "b").observe(true, &once, now).is_some())),
        ),
        (
            "`ready`",
            Box::new(move |live| in_maint(live, "b")),
            Box::new(|live| member(&live.pool(), "b").set_operator(Operator::Ready)),
        ),
        (
            "a higher limit",
            Box::new(move |live| in_maint(live, "b")),
            Box::new(|live| live.reload(vec![limited("a b", 2)])),
        ),
        (
            "another server",
            Box::new(move |live| in_maint(live, "b")),
            Box::new(|live| live.reload(vec![limited("a b c", 1)])),
        ),
        (
            "no health any more",
            Box::new(|live| set_down(&live.pool(), "b")),
            Box::new(move |live| assert!(member(&live.pool(), "b").assume_up(now).is_some())),
        ),
    ];
    for (what, before, change) in changes {
        let mut live = Live::new(limited("a b", 1));
        before(&mut live);
        let _leases = live.fill();
        let mut place = live.enter();
        assert!(look(&mut place).is_none(), "{what}");
        change(&mut live);
        assert!(look(&mut place).is_some_and(|answer| answer.is_ok()), "{what}");
    }
}

#[test]
fn a_lease_of_another_process_that_ends_makes_room() {
    let live = Live::new(limited("a", 1));
    let mut elsewhere = InFlightElsewhere::new(member(&live.pool(), "a"));
    elsewhere.set(1);
    let mut place = live.enter();
    assert!(look(&mut place).is_none());
    elsewhere.set(0);
    assert!(look(&mut place).is_some_and(|answer| answer.is_ok()));
}

#[test]
fn nobody_waits_for_servers_that_take_nothing_any_more() {
    let maint = |live: &mut Live| member(&live.pool(), "a").set_operator(Operator::Maint);
    let drained = |live: &mut Live| {
        let mut plan = limited("a", 1);
        plan.servers[0].drain = true;
        live.reload(vec![plan]);
    };
    let gone = |live: &mut Live| live.reload(vec![]);
    for change in [maint, drained, gone] {
        let mut live = Live::new(limited("a", 1));
        let _leases = live.fill();
        let mut place = live.enter();
        let queue = Arc::clone(&live.pool().queue);
        change(&mut live);
        let answer = look(&mut place).map(|answer| answer.map(drop));
        assert_eq!(answer, Some(Err(Refusal::None(NoServer::NoneReady))));
        assert_eq!((queue.waiting(), counted(&queue)), (0, [0, 0, 0, 0, 0, 1]));
    }
}

#[test]
fn who_waits_while_all_servers_are_replaced_waits_until_a_probe_has_passed() {
    let fresh = |servers: &str| PoolPlan {
        health: Some(sample::health(Initial::Probing)),
        when_all_unhealthy: WhenAllUnhealthy::Refuse,
        ..limited(servers, 1)
    };
    let mut live = Live::new(limited("a", 1));
    let _leases = live.fill();
    let mut before = live.enter();
    live.reload(vec![fresh("b c")]);
    assert!(look(&mut before).is_none());
    assert_eq!(live.lease().err(), Some(NoServer::Unproven), "it may wait as well");
    let mut after = live.enter();
    assert!(look(&mut after).is_none());
    sample::set_down(&live.pool(), "b");
    assert!(look(&mut before).is_none(), "the other one may be up yet");
    sample::set_up(&live.pool(), "c");
    let served = server_of(look(&mut before));
    assert_eq!(served.0, "c");
    sample::set_down(&live.pool(), "c");
    let answer = look(&mut after).map(|answer| answer.map(drop));
    assert_eq!(answer, Some(Err(Refusal::None(NoServer::AllUnhealthy))));
}

#[test]
fn who_comes_when_the_pool_has_just_gone_is_told() {
    let mut live = Live::new(limited("a", 1));
    let _leases = live.fill();
    let queue = Arc::clone(&live.pool().queue);
    live.reload(vec![]);
    let now = Instant::now();
    let terms = WaitTerms {
        query: Query::default(),
        priority: Priority::Normal,
        arrived: now,
        tried: Box::default(),
        bound: None,
    };
    let mut place = queue.enter(terms, &SETTINGS, now).expect("there is room in the line");
    let answer = look(&mut place).map(|answer| answer.map(drop));
    assert_eq!(answer, Some(Err(Refusal::None(NoServer::NoneReady))));
}

#[test]
fn a_reload_that_ends_the_queue_has_those_wait_who_do_so_already() {
    let mut live = Live::new(limited("a", 1));
    let leases = live.fill();
    let (mut first, mut second) = (live.enter(), live.enter());
    live.reload(vec![PoolPlan { queue: None, ..limited("a b", 1) }]);
    let (name, _lease) = server_of(look(&mut first));
    assert_eq!(name, "b");
    assert!(look(&mut second).is_none(), "it waits as long as was said when it came");
    assert_eq!(live.lease().err(), Some(NoServer::AllFull));
    drop(leases);
    assert_eq!(server_of(look(&mut second)).0, "a");
}

#[test]
fn the_queue_is_the_names_through_a_removal() {
    let mut live = Live::new(limited("a", 1));
    let leases = live.fill();
    live.reload(vec![]);
    live.reload(vec![limited("a", 1)]);
    let mut place = live.enter();
    assert!(look(&mut place).is_none(), "what was leased before counts");
    drop(leases);
    assert!(look(&mut place).is_some_and(|answer| answer.is_ok()));
}

#[test]
fn leases_on_many_threads_strand_nobody() {
    let live = Live::new(limited("a b c", 2));
    let pool = live.pool();
    let queue = Arc::clone(&pool.queue);
    let settings = QueuePlan { max: NonZeroU32::new(1_000).unwrap(), ..SETTINGS };
    let served = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (pool, queue, served) = (&pool, &queue, &served);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                let work = async {
                    let request = |number: u64| async move {
                        let query = Query { key: None, entropy: number, ..Query::default() };
                        let lease = match pool.pick(&query, &mut Tried::new()) {
                            Ok(lease) if queue.waiting() == 0 => lease,
                            first => {
                                drop(first);
                                let now = Instant::now();
                                let (priority, tried) = (Priority::Normal, Box::default());
                                let terms = WaitTerms { query, priority, arrived: now, tried, bound: None };
                                let place = queue.enter(terms, &settings, now).expect("there is room");
                                if number.is_multiple_of(7) {
                                    return drop(place);
                                }
                                place.await.expect("a server").lease
                            }
                        };
                        tokio::task::yield_now().await;
                        drop(lease);
                        served.fetch_add(1, Ordering::Relaxed);
                    };
                    for round in 0..100 {
                        let numbers = (0..20).map(|number| thread * 10_000 + round * 20 + number);
                        futures_util::future::join_all(numbers.map(request)).await;
                    }
                };
                runtime.block_on(work);
            });
        }
    });
    assert_eq!(queue.waiting(), 0);
    assert!(served.load(Ordering::Relaxed) > 6_000);
    assert!(pool.members.iter().all(|member| member.server.in_flight() == 0));
}
