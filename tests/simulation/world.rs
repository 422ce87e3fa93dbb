//! The simulated process: a snapshot, its requests and probes, and a clock that only the seed moves.

use crate::model::{Model, Models, View};
use crate::plans;
use evenkeel::config::plan::{Balance, HealthPlan, Name, Plan, Priority};
use evenkeel::pool::outlier::{Ejection, Reason, Standing, back};
use evenkeel::pool::queue::{QueuePlace, WaitTerms};
use evenkeel::pool::{
    HealthState, HealthThresholds, Lease, Membership, NoServer, Operator, Pool, Query, Refusal, Tried,
};
use evenkeel::snapshot::{Delta, Snapshot};
use fastrand::Rng;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// By server id: how it is probed, and its drain timeout.
type Probes = HashMap<u32, (HealthPlan, Duration)>;

/// One that waits.
struct Waiting {
    pool: Name,
    place: QueuePlace,
    /// The only server that it waits for, by its id.
    bound: Option<u32>,
}

pub(crate) struct World {
    rng: Rng,
    now: Instant,
    snapshot: Snapshot,
    models: Models,
    leases: Vec<Lease>,
    waiting: Vec<Waiting>,
    /// How many waited for each pool when that was last looked at.
    line_lengths: HashMap<Name, usize>,
    /// What runs.
    probes: Probes,
    /// Pools of earlier snapshots that a request still holds.
    pinned: Vec<Arc<Pool>>,
    /// Where each key of a hash pool went last, and which servers it could have gone to, with their weights.
    homes: HashMap<(Name, u64), (Name, HashMap<Name, u64>)>,
    listener_ids: HashMap<Name, u32>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = plans::first(&mut rng);
        let mut world = Self {
            rng,
            now: Instant::now(),
            snapshot: Snapshot::empty(),
            models: Models::new(),
            leases: Vec::new(),
            waiting: Vec::new(),
            line_lengths: HashMap::new(),
            probes: Probes::new(),
            pinned: Vec::new(),
            homes: HashMap::new(),
            listener_ids: HashMap::new(),
        };
        world.reload(plan);
        world
    }

    pub(crate) fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.u64(..4_000));
        match self.rng.u8(..24) {
            0..8 => self.request(),
            8..12 => self.end_lease(),
            20..23 => self.wait(),
            23 => self.leave(),
            12..16 => self.probe(),
            16 => match self.rng.u8(..3) {
                0 => self.eject(),
                1 => self.bring_back(),
                _ => self.operate(),
            },
            17 => {
                let pool = self.any_pool();
                self.pinned.push(pool);
            }
            _ => {
                let mut plan = (*self.snapshot.plan).clone();
                (0..self.rng.usize(1..4)).for_each(|_| plans::change(&mut self.rng, &mut plan));
                if self.rng.u8(..4) == 0 {
                    // A preview: what comes of it is thrown away.
                    drop(self.snapshot.evolve(plan.clone(), self.now));
                    self.check();
                }
                self.reload(plan);
            }
        }
        self.collect();
    }

    /// One that comes while every usable server is full, or while others wait.
    fn wait(&mut self) {
        let pool = self.any_pool();
        let query =
            Query { key: Some(self.rng.u64(..6) << 61), entropy: self.rng.u64(..), ..Query::default() };
        let full = View::new(&pool, &self.models);
        let is_full = full.usable().0.iter().all(|index| !full.has_room(*index));
        let Some(settings) = &pool.plan.queue else { return };
        let priority = Priority::ALL[self.rng.usize(..3)];
        let bound = match self.rng.u8(..3) {
            0 => pool.bound_to(self.rng.usize(..pool.members.len()), Duration::from_secs(2)),
            _ => None,
        };
        let (before, for_any) = (pool.queue.waiting(), pool.queue.waiting_for_any());
        let terms = WaitTerms { query, priority, arrived: self.now, tried: Box::default(), bound };
        match pool.queue.enter(terms, settings, self.now) {
            Ok(place) => {
                let bound = bound.map(|bound| bound.server());
                self.waiting.push(Waiting { pool: pool.name.clone(), place, bound });
            }
            Err(refusal) => {
                assert_eq!(refusal, Refusal::QueueFull);
                assert!(is_full || for_any == 0, "{}: refused", pool.name);
                assert!(before >= settings.max.get() as usize, "{}: refused", pool.name);
            }
        }
    }

    /// One leaves, or has waited for too long, whether or not it was served just then.
    fn leave(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let index = self.rng.usize(..self.waiting.len());
        if self.rng.u8(..3) == 0 {
            // Any server will do.
            let waiting = &mut self.waiting[index];
            waiting.bound = None;
            return waiting.place.unbind();
        }
        let Waiting { place, .. } = self.waiting.swap_remove(index);
        if self.rng.bool() {
            return drop(place);
        }
        if let Ok(granted) = place.time_out() {
            self.serve(granted.lease);
        }
    }

    fn serve(&mut self, lease: Lease) {
        self.models.get_mut(&lease.server().id()).expect("modelled").in_flight += 1;
        self.leases.push(lease);
    }

    /// Takes what those that waited were given.
    fn collect(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for mut waiting in std::mem::take(&mut self.waiting) {
            match Pin::new(&mut waiting.place).poll(&mut cx) {
                Poll::Pending => {
                    let pool = self.snapshot.pool(&waiting.pool);
                    let has_server = |id: &u32| pool.is_some_and(|pool| server_of(pool, *id).is_some());
                    waiting.bound = waiting.bound.filter(has_server);
                    self.waiting.push(waiting);
                }
                Poll::Ready(Ok(granted)) => self.serve(granted.lease),
                Poll::Ready(Err(_)) => {}
            }
        }
    }

    /// Nobody waits beside a server that would take it, or for a pool that never will. Where a reload has had nobody wait any more, those
    /// who did wait on.
    pub(crate) fn check_waiting(&mut self) {
        for pool in self.snapshot.pools() {
            let here: Vec<_> = self.waiting.iter().filter(|waiting| waiting.pool == pool.name).collect();
            assert_eq!(pool.queue.waiting(), here.len(), "{} has others in its line", pool.name);
            let view = View::new(pool, &self.models);
            for id in here.iter().filter_map(|waiting| waiting.bound) {
                let index = server_of(pool, id).expect("who has none is bound no longer");
                assert!(!view.has_room(index), "{}: one waits beside {index}, which is its own", pool.name);
            }
            let here = here.iter().filter(|waiting| waiting.bound.is_none()).count();
            assert_eq!(pool.queue.waiting_for_any(), here, "{} has others in its line", pool.name);
            let (usable, _) = view.usable();
            let room: Vec<_> = usable.iter().filter(|index| view.has_room(**index)).collect();
            assert!(here == 0 || room.is_empty(), "{}: {here} wait beside {room:?}", pool.name);
            let may_be_up = (0..pool.members.len()).any(|index| view.is_unproven(index));
            assert!(here == 0 || may_be_up || !usable.is_empty(), "{}: {here} wait for nothing", pool.name);
            let all = pool.queue.waiting();
            let before = self.line_lengths.insert(pool.name.clone(), all).unwrap_or(0);
            let may_grow = pool.plan.queue.is_some();
            assert!(may_grow || all <= before, "{}: {all} wait without a queue, {before} did", pool.name);
        }
        let known = |name: &Name| self.snapshot.pool(name).is_some();
        assert!(
            self.waiting.iter().all(|waiting| known(&waiting.pool)),
            "somebody waits for a pool that is gone"
        );
    }

    /// What must hold at any time.
    pub(crate) fn check(&self) {
        let mut leases: HashMap<u32, u32> = HashMap::new();
        self.leases.iter().for_each(|lease| *leases.entry(lease.server().id()).or_default() += 1);
        for (id, model) in &self.models {
            let held = leases.get(id).copied().unwrap_or(0);
            assert_eq!(model.in_flight, held, "the model is wrong");
            let Some(server) = model.server.upgrade() else {
                assert_eq!(held, 0, "server {id} went before its leases");
                continue;
            };
            assert_eq!(server.in_flight(), held, "in flight of {}", server.name());
            assert_eq!(server.state(), model.state, "state of {}", server.name());
            assert_eq!(
                server.must_close(self.now),
                model.must_close(self.now),
                "{} must close",
                server.name()
            );
        }
        for pool in self.snapshot.pools() {
            let view = View::new(pool, &self.models);
            assert_eq!(pool.failing_open(), view.usable().1, "{} failing open", pool.name);
            let counts = pool.counts();
            let all = counts.up + counts.down + counts.probing + counts.ejected + counts.drain + counts.maint;
            assert_eq!(all, pool.members.len());
            let ready = (0..pool.members.len()).filter(|index| view.is_ready(*index)).count();
            assert_eq!(counts.up + counts.down + counts.probing + counts.ejected, ready);
        }
    }

    /// All requests end and nothing is configured any more: nothing may be left.
    pub(crate) fn end(mut self) {
        // Whoever is served as others end is served at once, and ends too; or once a probe has said of a new server what it is.
        let mut rounds = 0..1000;
        while !self.leases.is_empty() || !self.waiting.is_empty() {
            assert!(rounds.next().is_some(), "nobody serves those that wait");
            self.probe();
            self.leases.clear();
            self.models.values_mut().for_each(|model| model.in_flight = 0);
            self.collect();
            let waits_for_probe = self.snapshot.pools().iter().any(|pool| {
                let view = View::new(pool, &self.models);
                (0..pool.members.len()).any(|index| view.is_unproven(index))
            });
            let is_served = self.waiting.is_empty() || !self.leases.is_empty();
            assert!(is_served || waits_for_probe, "nobody serves those that wait");
        }
        self.leases.clear();
        for model in self.models.values_mut() {
            model.in_flight = 0;
        }
        self.check();
        let empty = (*Snapshot::empty().plan).clone();
        self.reload(empty.clone());
        self.reload(empty);
        assert!(self.snapshot.retiring().is_empty(), "retired at rest, yet not gone");
        self.pinned.clear();
        for model in self.models.values() {
            assert!(model.server.upgrade().is_none(), "a server outlives everything that used it");
        }
    }

    fn any_pool(&mut self) -> Arc<Pool> {
        let pools = self.snapshot.pools();
        pools[self.rng.usize(..pools.len())].clone()
    }

    /// One request with its retries, each of which must be a right choice.
    fn request(&mut self) {
        let pool = match self.pinned.len() {
            n if n > 0 && self.rng.u8(..4) == 0 => self.pinned.swap_remove(self.rng.usize(..n)),
            _ => self.any_pool(),
        };
        let query =
            Query { key: Some(self.rng.u64(..6) << 61), entropy: self.rng.u64(..), ..Query::default() };
        let mut tried = Tried::new();
        let mut before: Vec<usize> = Vec::new();
        for _ in 0..self.rng.usize(1..4) {
            let picked = pool.pick(&query, &mut tried);
            self.judge(&pool, &query, &before, &picked);
            let Ok(lease) = picked else { return };
            before.push(lease.index());
            self.models.get_mut(&lease.server().id()).expect("modelled").in_flight += 1;
            self.leases.push(lease);
        }
    }

    fn judge(&mut self, pool: &Pool, query: &Query, tried: &[usize], picked: &Result<Lease, NoServer>) {
        let view = View::new(pool, &self.models);
        let (usable, _) = view.usable();
        let untried: Vec<usize> = usable.iter().copied().filter(|index| !tried.contains(index)).collect();
        let eligible: Vec<usize> = untried.iter().copied().filter(|index| view.has_room(*index)).collect();
        let lease = match picked {
            Ok(lease) => lease,
            Err(why) => {
                let expected = match () {
                    () if !untried.is_empty() => NoServer::AllFull,
                    () if !usable.is_empty() => NoServer::AllTried,
                    () if (0..pool.members.len()).any(|index| view.is_unproven(index)) => NoServer::Unproven,
                    () if (0..pool.members.len()).any(|index| view.is_ready(index)) => NoServer::AllUnhealthy,
                    () => NoServer::NoneReady,
                };
                assert_eq!(*why, expected, "{}: {eligible:?} could have served", pool.name);
                assert!(eligible.is_empty(), "{}: refused, though {eligible:?} could serve", pool.name);
                return;
            }
        };
        let index = lease.index();
        assert!(Arc::ptr_eq(lease.server(), &pool.members[index].server));
        assert!(eligible.contains(&index), "{}: chose {index} of {eligible:?}", pool.name);
        match &pool.plan.balance {
            Balance::LeastConnections => {
                let chosen = view.in_flight(index);
                for other in eligible {
                    let other_load = view.in_flight(other) * view.weight(index);
                    assert!(
                        chosen * view.weight(other) <= other_load,
                        "{other} was less loaded than {index}"
                    );
                }
            }
            Balance::ConsistentHash { bounded_load: Some(factor), .. } => {
                let sum = |of: &dyn Fn(usize) -> u64| eligible.iter().map(|index| of(*index)).sum::<u64>();
                let leases = sum(&|index| view.in_flight(index)) + 1;
                let share = u64::from(factor.0) * leases * view.weight(index);
                let bound = share.div_ceil(100 * sum(&|index| view.weight(index)));
                assert!(view.in_flight(index) < bound, "{index} is above its bound of {bound}");
            }
            Balance::ConsistentHash { bounded_load: None, .. } => {
                let key = (pool.name.clone(), query.key.expect("always set"));
                let name = |index: usize| pool.members[index].server.name().clone();
                let others = eligible.iter().map(|index| (name(*index), view.weight(*index))).collect();
                self.judge_home(key, name(index), others);
            }
            Balance::RoundRobin
            | Balance::RandomTwo
            | Balance::PeakEwma
            | Balance::SuccessRate(_)
            | Balance::Maglev { .. } => {}
        }
    }

    /// A key that could have stayed where it was, and could have been where it is now, did not move.
    fn judge_home(&mut self, key: (Name, u64), home: Name, could: HashMap<Name, u64>) {
        if let Some((old, could_before)) = self.homes.get(&key) {
            let as_before = |name| could.contains_key(name) && could.get(name) == could_before.get(name);
            let both_times = as_before(old) && as_before(&home);
            assert!(!both_times || *old == home, "{key:?} moved from {old} to {home}");
        }
        self.homes.insert(key, (home, could));
    }

    fn end_lease(&mut self) {
        if self.leases.is_empty() {
            return;
        }
        let lease = self.leases.swap_remove(self.rng.usize(..self.leases.len()));
        self.models.get_mut(&lease.server().id()).expect("modelled").in_flight -= 1;
    }

    fn probe(&mut self) {
        let mut ids: Vec<u32> = self.probes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if self.rng.bool() {
                continue;
            }
            let (health, drain_timeout) = &self.probes[&id];
            let model = self.models.get_mut(&id).expect("modelled");
            let server = model.server.upgrade().expect("a probed server is configured");
            let before = model.state.health;
            let passed = self.rng.u8(..3) > 0;
            let after = model.observe(passed, health);
            let transition = server.observe(passed, &HealthThresholds::from(health), self.now);
            let seen = transition.map(|transition| (transition.from, transition.to));
            assert_eq!(seen, (before != after).then_some((before, after)));
            if transition.is_some_and(|transition| transition.to == HealthState::Down) {
                model.down_until = Some(self.now + *drain_timeout);
                server.set_close_at(model.down_until);
            }
        }
    }

    /// One is ejected, whether or not others are left.
    fn eject(&mut self) {
        let pool = self.any_pool();
        let server = &pool.members[self.rng.usize(..pool.members.len())].server;
        let ejection = Ejection {
            reason: Reason::WorseBy,
            evidence: String::new(),
            since: self.now,
            began: self.now,
            until: self.now + Duration::from_secs(30),
            trial: None,
        };
        server.eject_again(Standing { strikes: 1, since: self.now, ejection: Some(ejection) });
        self.models.get_mut(&server.id()).expect("modelled").is_ejected = true;
    }

    /// All of a pool that are ejected are back.
    fn bring_back(&mut self) {
        for member in &self.any_pool().members {
            let change = back(&member.server, self.now, "it does well");
            let model = self.models.get_mut(&member.server.id()).expect("modelled");
            assert_eq!(change.is_some(), std::mem::take(&mut model.is_ejected));
        }
    }

    fn operate(&mut self) {
        let pool = self.any_pool();
        let server = &pool.members[self.rng.usize(..pool.members.len())].server;
        let operator =
            [Operator::Ready, Operator::Ready, Operator::Drain, Operator::Maint][self.rng.usize(..4)];
        server.set_operator(operator);
        self.models.get_mut(&server.id()).expect("modelled").state.admin = operator;
    }

    fn reload(&mut self, plan: Plan) {
        let (next, delta) = self.snapshot.evolve(plan, self.now);
        for (id, listener) in next.listeners().iter().map(|listener| (listener.id, listener)) {
            let known = self.listener_ids.entry(listener.plan.name.clone()).or_insert(id);
            let same_all_along = self.snapshot.listener(*known).is_none() || *known == id;
            assert!(same_all_along, "listener {} changed its id", listener.plan.name);
            *known = id;
            assert!(next.listener(id).is_some_and(|found| Arc::ptr_eq(found, listener)));
        }
        // So far nothing live has changed.
        self.check();
        let previous = std::mem::replace(&mut self.snapshot, next);
        let probes_before = self.probes.clone();
        self.follow(&delta);
        self.expect(&previous, &probes_before, &delta);
        delta.settle(self.now, Instant::now);
    }

    /// The probes follow the delta and end up being those the new plan asks for.
    fn follow(&mut self, delta: &Delta) {
        for id in &delta.probes_stopped {
            assert!(self.probes.remove(id).is_some(), "no probe of {id} was running");
        }
        for task in &delta.probes_started {
            let task_of = (task.health.clone(), task.drain_timeout);
            assert!(self.probes.insert(task.server.id(), task_of).is_none(), "two probes of one server");
        }
        let mut wanted = Probes::new();
        for pool in self.snapshot.pools() {
            for member in &pool.members {
                if let Some(health) = &pool.plan.health {
                    wanted.insert(member.server.id(), (health.clone(), pool.plan.drain_timeout));
                }
            }
        }
        assert_eq!(self.probes, wanted);
    }

    /// Brings the models to where the new plan should bring the servers, by comparing plans.
    fn expect(&mut self, previous: &Snapshot, probes_before: &Probes, delta: &Delta) {
        let mut present = HashMap::new();
        for pool in self.snapshot.pools() {
            for (member, planned) in pool.members.iter().zip(&pool.plan.servers) {
                let server = &member.server;
                assert_eq!((server.name(), server.address()), (&planned.name, &planned.address));
                present.insert(server.id(), (server.clone(), pool.plan.health.as_ref()));
            }
        }
        // A server is the same one if it was there, or is still busy leaving.
        let mut known = HashMap::new();
        let still_busy = previous.retiring().iter().filter(|server| server.in_flight() > 0);
        let configured = previous.pools().iter().flat_map(|pool| &pool.members).map(|member| &member.server);
        for server in still_busy.chain(configured) {
            known.insert((server.pool(), server.name(), server.address()), server.id());
        }
        for (server, _) in present.values() {
            let identity = (server.pool(), server.name(), server.address());
            match known.get(&identity) {
                Some(id) => assert_eq!(server.id(), *id, "{identity:?} is not the one it was"),
                None => assert!(!self.models.contains_key(&server.id()), "an id was used again"),
            }
        }
        let listed = [&delta.servers.added, &delta.servers.changed, &delta.servers.kept];
        assert_eq!(present.len(), listed.iter().map(|servers| servers.len()).sum::<usize>());

        for (id, (server, health)) in &present {
            let model = self.models.entry(*id).or_insert_with(|| Model::new(server, *health));
            let came_back = model.state.membership == Membership::Leaving;
            model.state.membership = Membership::Present;
            if health.is_none() && model.state.health != HealthState::Up {
                model.set_health(HealthState::Up);
            }
            if came_back || probes_before.get(id).map(|(health, _)| health) != *health {
                model.forget_results();
            }
        }
        for pool in previous.pools() {
            let drain_timeout = self.snapshot.pool(&pool.name).unwrap_or(pool).plan.drain_timeout;
            for member in &pool.members {
                let id = member.server.id();
                if !present.contains_key(&id) {
                    let model = self.models.get_mut(&id).expect("modelled");
                    model.state.membership = Membership::Leaving;
                    model.leave_at = Some(self.now + drain_timeout);
                    assert!(delta.servers.removed.iter().any(|server| server.id() == id));
                    assert!(self.snapshot.retiring().iter().any(|server| server.id() == id));
                }
            }
        }
    }
}

/// The place of a server that keeps those who have sessions there.
fn server_of(pool: &Pool, id: u32) -> Option<usize> {
    pool.members.iter().position(|member| member.server.id() == id && pool.keeps_sessions_of(&member.server))
}
