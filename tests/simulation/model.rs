//! What a server should be like, kept in the plainest way: whole histories instead of counts.

use evenkeel::config::plan;
use evenkeel::pool::{HealthState, Membership, Operator, Pool, Server, ServerState};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// By server id.
pub(crate) type Models = HashMap<u32, Model>;

#[derive(Debug)]
pub(crate) struct Model {
    /// Weak: the simulation must not keep a server alive.
    pub(crate) server: Weak<Server>,
    pub(crate) state: ServerState,
    pub(crate) in_flight: u32,
    pub(crate) is_ejected: bool,
    /// Probe results since the state or the probe changed.
    results: Vec<bool>,
    /// When what is in flight must end: while down, and while leaving.
    pub(crate) down_until: Option<Instant>,
    pub(crate) leave_at: Option<Instant>,
}

impl Model {
    pub(crate) fn new(server: &Arc<Server>, health: Option<&plan::HealthPlan>) -> Self {
        let health = match health {
            Some(health) if health.initial == plan::Initial::Probing => HealthState::Probing,
            _ => HealthState::Up,
        };
        let state = ServerState { health, admin: Operator::Ready, membership: Membership::Present };
        Self {
            server: Arc::downgrade(server),
            state,
            in_flight: 0,
            is_ejected: false,
            results: Vec::new(),
            down_until: None,
            leave_at: None,
        }
    }

    /// The state a probe result leads to.
    pub(crate) fn observe(&mut self, passed: bool, health: &plan::HealthPlan) -> HealthState {
        self.results.push(passed);
        let last = |n: u32, all: bool| {
            let results = self.results.iter().rev().take(n as usize);
            results.len() == n as usize && results.into_iter().all(|result| *result == all)
        };
        let next = match self.state.health {
            HealthState::Probing if passed => HealthState::Up,
            HealthState::Down if last(health.rise.get(), true) => HealthState::Up,
            HealthState::Up | HealthState::Probing if last(health.fall.get(), false) => HealthState::Down,
            same => same,
        };
        if next != self.state.health {
            self.set_health(next);
        }
        next
    }

    pub(crate) fn set_health(&mut self, health: HealthState) {
        self.state.health = health;
        self.down_until = None;
        self.forget_results();
    }

    pub(crate) fn forget_results(&mut self) {
        self.results.clear();
    }

    pub(crate) fn must_close(&self, now: Instant) -> bool {
        let over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        self.state.health == HealthState::Down && over(self.down_until)
            || self.state.membership == Membership::Leaving && over(self.leave_at)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state.admin == Operator::Ready && self.state.membership == Membership::Present
    }
}

/// What a pool's servers look like to one request.
pub(crate) struct View<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) models: Vec<&'a Model>,
}

impl<'a> View<'a> {
    pub(crate) fn new(pool: &'a Pool, models: &'a Models) -> Self {
        let models = pool.members.iter().map(|member| &models[&member.server.id()]).collect();
        Self { pool, models }
    }

    /// Where requests may go as far as state is concerned, and whether that is because nothing is healthy.
    pub(crate) fn usable(&self) -> (Vec<usize>, bool) {
        let ready = self.indexes(|index| self.is_ready(index));
        let healthy: Vec<usize> = ready.iter().copied().filter(|index| self.is_up(*index)).collect();
        let best: Vec<usize> =
            healthy.iter().copied().filter(|index| !self.models[*index].is_ejected).collect();
        if !best.is_empty() {
            return (best, false);
        }
        if !healthy.is_empty() || self.pool.plan.when_all_unhealthy == plan::WhenAllUnhealthy::Refuse {
            return (healthy, false);
        }
        let open = !ready.is_empty();
        (ready, open)
    }

    pub(crate) fn is_ready(&self, index: usize) -> bool {
        !self.pool.members[index].drain && self.models[index].is_ready()
    }

    /// Whether it would be used if its first probe had passed.
    pub(crate) fn is_unproven(&self, index: usize) -> bool {
        self.is_ready(index) && self.models[index].state.health == HealthState::Probing
    }

    pub(crate) fn has_room(&self, index: usize) -> bool {
        let limit = self.pool.members[index].max_connections;
        limit.is_none_or(|limit| self.models[index].in_flight < limit.get())
    }

    pub(crate) fn weight(&self, index: usize) -> u64 {
        u64::from(self.pool.members[index].weight.get())
    }

    pub(crate) fn in_flight(&self, index: usize) -> u64 {
        u64::from(self.models[index].in_flight)
    }

    fn is_up(&self, index: usize) -> bool {
        self.models[index].state.health == HealthState::Up
    }

    fn indexes(&self, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.models.len()).filter(|index| wanted(*index)).collect()
    }
}
