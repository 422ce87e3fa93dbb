//! Slow start in a pool: who is passed over by a pick because it is only coming back, and when that ends.

use super::ramp::takes_part;
use super::slot::Flags;
use super::tried::{IndexSet, Tried};
use super::{HealthState, Operator, Pool, Query};
use crate::config::plan::SlowStart;
use std::time::Instant;

/// Servers that a pick passes over.
struct HeldBack {
    /// As their share is too small for this one.
    by_share: IndexSet,
    /// As they have in flight what they may have by now.
    by_limit: IndexSet,
}

impl Pool {
    /// Makes an attempt past the servers that are coming back, but for their share of picks; then, if nobody else can be
    /// had, with them.
    pub(super) fn past_ramps<T>(
        &self,
        query: &Query,
        tried: &Tried,
        attempt: impl Fn(&Tried) -> Option<T>,
    ) -> Option<T> {
        if self.plan.slow_start.is_none() {
            return attempt(tried);
        }
        let Some(held) = self.held_back(query) else { return attempt(tried) };
        let past = |held| attempt(&tried.clone().with_held_back(held));
        past(held.by_share).or_else(|| past(held.by_limit))
    }

    /// `None` where nobody is coming back, which costs a look at a word for 64 servers.
    fn held_back(&self, query: &Query) -> Option<HeldBack> {
        let (slow_start, now) = (self.plan.slow_start.as_ref()?, query.now?);
        if !self.slots.has_ramps() {
            return None;
        }
        let (mut by_share, mut by_limit) = (IndexSet::default(), IndexSet::default());
        for (index, member) in self.ramping() {
            let share = member.server.ramp_share(slow_start, now);
            let limit = member.max_connections.filter(|_| share < 1.0);
            if limit.is_some_and(|limit| {
                f64::from(member.server.in_flight()) >= (f64::from(limit.get()) * share).max(1.0)
            }) {
                by_limit.insert(index);
                by_share.insert(index);
                continue;
            }
            let takes_part = match self.hash_key().and(query.key) {
                Some(key) => takes_part(member.server.name(), key, share),
                None => member.server.ramp().has_pick(),
            };
            if !takes_part {
                by_share.insert(index);
            }
        }
        Some(HeldBack { by_share, by_limit })
    }

    /// Saves for each server that is coming back its share of this pick by weight, whoever was chosen. An algorithm that goes by load
    /// would otherwise choose such a server whenever it may, as it is the one with the least to do.
    pub(super) fn save_for_ramps(&self, query: &Query, mask: Flags, chosen: usize) {
        let (Some(slow_start), Some(now)) = (&self.plan.slow_start, query.now) else { return };
        if !self.slots.has_ramps() || self.hash_key().is_some() {
            return;
        }
        let all = self.slots.totals(mask, &Tried::new()).weights.max(1) as f64;
        for (index, member) in self.ramping() {
            let ramp = member.server.ramp();
            ramp.save(member.server.ramp_share(slow_start, now) * f64::from(member.weight.get()) / all);
            if index == chosen {
                ramp.spend();
            }
        }
    }

    /// Whether a pick passes a server over, as its share is too small for this one or it has in flight what it may.
    pub(super) fn is_held_back(&self, index: usize, query: &Query) -> bool {
        self.held_back(query).is_some_and(|held| held.by_share.contains(index))
    }

    fn ramping(&self) -> impl Iterator<Item = (usize, &super::Member)> {
        let members = self.members.iter().enumerate();
        members.filter(|(index, _)| Flags::of_word(self.slots.word(*index)).has_any(Flags::RAMPING))
    }

    /// The share of picks that a server takes part in while it is coming back, in percent.
    pub fn ramp_percent(&self, index: usize, now: Instant) -> Option<u32> {
        let is_ramping = Flags::of_word(self.slots.word(index)).has_any(Flags::RAMPING);
        let share = self.members[index].server.ramp_share(self.plan.slow_start.as_ref()?, now);
        (is_ramping && share < 1.0).then_some((share * 100.0) as u32)
    }

    /// Whether some servers get to their full share slowly now.
    pub fn has_ramps(&self) -> bool {
        self.slots.has_ramps()
    }

    /// Begins ramps that are due and ends those that are over, and all of them if more than half of the weight that is up
    /// would ramp, as then there is nobody to spare them: how many those were.
    pub fn settle_ramps(&self, now: Instant) -> usize {
        for member in &self.members {
            member.server.begin_ramp_if_due(now);
        }
        if !self.slots.has_ramps() {
            return 0;
        }
        let is_over = |slow_start: &SlowStart, index: usize| {
            self.members[index].server.ramp_share(slow_start, now) >= 1.0
        };
        let over = self.ramping().filter(|(index, _)| {
            self.plan.slow_start.as_ref().is_none_or(|slow_start| is_over(slow_start, *index))
        });
        over.for_each(|(_, member)| member.server.end_ramp());
        let is_up = |member: &super::Member| {
            let state = member.server.state();
            !member.server.is_ejected()
                && state.health == HealthState::Up
                && state.admin == Operator::Ready
                && !member.drain
                && !member.backup
        };
        let weight = |member: &super::Member| if is_up(member) { u64::from(member.weight.get()) } else { 0 };
        let all: u64 = self.members.iter().map(weight).sum();
        let ramping: u64 = self.ramping().map(|(_, member)| weight(member)).sum();
        if ramping * 2 <= all {
            return 0;
        }
        let suspended = self.ramping().inspect(|(_, member)| member.server.end_ramp());
        suspended.count()
    }
}

#[cfg(test)]
mod tests;
