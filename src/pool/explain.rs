//! Why a pool would choose whom it would choose now. The choice is made by the code that serves, and nothing is taken.

use super::choose::Query;
use super::slot::Flags;
use super::tried::Tried;
use super::{HealthState, Membership, NoServer, Operator, Pool};
use super::{PROBED, STRICT};
use std::num::NonZeroU32;

/// Why a server cannot be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    Leaving,
    Maint,
    /// By an operator.
    Drain,
    /// By the configuration.
    DrainConfigured,
    Down,
    Probing,
    /// It does worse than the others, or is being tried out after it did.
    Ejected,
    Full(u32),
    /// It stands by, and others work.
    Backup,
    /// It is coming back, and this pick is not of its share, in percent.
    Ramping(u32),
}

/// One server as the choice sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsideredServer {
    pub out: Option<Exclusion>,
    pub in_flight: u32,
    /// It is coming back: the share of picks that it takes part in, in percent.
    pub ramp: Option<u32>,
    /// What speaks for it, in the algorithm's own terms.
    pub score: Option<String>,
}

/// What the pool would do with a request now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickExplanation {
    /// By the pool's indexes.
    pub considered: Vec<ConsideredServer>,
    pub winner: Result<usize, NoServer>,
    /// Nothing is healthy, and all that nobody drains are used.
    pub failing_open: bool,
    pub rule: String,
    /// Who would be tried next, each time that the ones before fail.
    pub then: Vec<usize>,
}

const TRYING_OUT: &str = "it was ejected and is tried out by one request at a time, of those that may be repeated: this is the next";

impl Pool {
    /// What `pick` would do with this query now. It changes nothing.
    pub fn explain(&self, query: &Query) -> PickExplanation {
        self.explain_after(query, None)
    }

    /// The same of a request that would go to the server at this place first, as its client has a session there.
    pub fn explain_bound(&self, query: &Query, place: usize) -> PickExplanation {
        let mut told = self.explain_after(query, Some(place));
        told.then = told.winner.into_iter().chain(told.then).collect();
        told.then.truncate(self.plan.retries.max as usize);
        told.winner = Ok(place);
        told.considered.iter_mut().for_each(|considered| considered.score = None);
        told.considered[place].out = None;
        told
    }

    fn explain_after(&self, query: &Query, first: Option<usize>) -> PickExplanation {
        let mut tried = Tried::new();
        first.into_iter().for_each(|index| tried.insert(index));
        let look = |tried: &mut Tried| {
            self.by_standard(tried, |mask, tried| {
                let look = |passed_over: &Tried| self.selector.look(&self.among(passed_over, mask), query);
                self.past_ramps(query, tried, look).map(|index| (index, mask))
            })
        };
        let on_trial = match first {
            None if self.may_have_trials() => {
                (0..self.members.len()).find(|index| self.may_try_out(*index, query, &tried))
            }
            _ => None,
        };
        let first = match on_trial {
            Some(index) => Ok((index, PROBED)),
            None => look(&mut tried),
        };
        // Where all are full, they are full of those that there are to choose from.
        let level = self.standards.iter().copied().find(|mask| self.any_usable(*mask));
        let otherwise = level.unwrap_or(STRICT);
        let mask = match &first {
            Ok((_, mask)) if on_trial.is_none() => *mask,
            _ => otherwise,
        };
        let none_tried = Tried::new();
        let among = self.among(&none_tried, mask);
        let chosen = first.as_ref().ok().filter(|_| on_trial.is_none());
        let reasons = chosen.map(|(index, _)| self.selector.reasons(&among, query, *index));
        let score = |index: usize| reasons.as_ref().and_then(|reasons| reasons.scores[index].clone());
        let is_winner = |index: usize| first.as_ref().is_ok_and(|(winner, _)| *winner == index);
        let ramp = |index: usize| self.ramp_percent(index, query.now?);
        let considered = (0..self.members.len())
            .map(|index| ConsideredServer {
                out: self.out(index, mask).filter(|_| on_trial != Some(index)).or_else(|| {
                    let is_passed_over = !is_winner(index) && self.is_held_back(index, query);
                    ramp(index).filter(|_| is_passed_over).map(Exclusion::Ramping)
                }),
                in_flight: self.members[index].server.in_flight(),
                ramp: ramp(index),
                score: score(index),
            })
            .collect();
        let mut then = Vec::new();
        if let Ok((winner, _)) = &first {
            tried.insert(*winner);
            for _ in 0..self.plan.retries.max {
                // As `Tries::again` does it: one that its source no longer names is for when there is no other.
                let mut avoiding = tried.clone();
                let members = self.members.iter().enumerate();
                let missing = members.filter(|(_, member)| member.server.is_missing());
                missing.for_each(|(index, _)| avoiding.insert(index));
                let Ok((next, _)) = look(&mut avoiding).or_else(|_| look(&mut tried)) else { break };
                tried.insert(next);
                then.push(next);
            }
        }
        PickExplanation {
            considered,
            failing_open: mask == Flags::NOT_READY,
            rule: match (&first, reasons) {
                (Err(none), _) => none.to_string(),
                (Ok(_), _) if on_trial.is_some() => TRYING_OUT.to_owned(),
                (Ok(_), reasons) => reasons.map(|reasons| reasons.rule).unwrap_or_default(),
            },
            winner: first.map(|(index, _)| index),
            then,
        }
    }

    fn out(&self, index: usize, mask: Flags) -> Option<Exclusion> {
        let member = &self.members[index];
        let state = member.server.state();
        let limit = member.max_connections.map_or(u32::MAX, NonZeroU32::get);
        match (state.membership, state.admin, state.health) {
            (Membership::Leaving, ..) => Some(Exclusion::Leaving),
            (_, Operator::Maint, _) => Some(Exclusion::Maint),
            (_, Operator::Drain, _) => Some(Exclusion::Drain),
            _ if member.drain => Some(Exclusion::DrainConfigured),
            (.., HealthState::Down) if mask.has_any(Flags::DOWN) => Some(Exclusion::Down),
            (.., HealthState::Probing) if mask.has_any(Flags::PROBING) => Some(Exclusion::Probing),
            _ if mask.has_any(Flags::EJECTED) && member.server.is_ejected() => Some(Exclusion::Ejected),
            _ if member.backup && mask.has_any(Flags::BACKUP) => Some(Exclusion::Backup),
            _ if member.server.in_flight() >= limit => Some(Exclusion::Full(limit)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::sample::{self, live, member, pool, set_down};
    use proptest::prelude::*;

    proptest! {
        /// Servers in any state, requests in any number: who is told of is who is chosen next, and telling changes nothing.
        #[test]
        fn the_winner_that_is_told_is_the_one_that_serves(
            states in prop::collection::vec(0u8..6, 1..9),
            limit in 0u32..4,
            queries in prop::collection::vec(any::<u64>(), 1..40),
        ) {
            let names: Vec<_> = (0..states.len()).map(|index| format!("s{index}={}", index * 7 % 5 + 1)).collect();
            for balance in sample::every_balance() {
                let mut plan = pool(balance, &names.join(" "));
                plan.servers.iter_mut().for_each(|server| server.max_connections = NonZeroU32::new(limit));
                let pool = live(plan);
                for (index, state) in states.iter().enumerate() {
                    let name = format!("s{index}");
                    match state {
                        0 => set_down(&pool, &name),
                        1 => member(&pool, &name).set_operator(Operator::Drain),
                        2 => member(&pool, &name).set_operator(Operator::Maint),
                        _ => {}
                    }
                }
                let mut leases = Vec::new();
                for entropy in &queries {
                    let query = Query { key: Some(*entropy), entropy: *entropy, ..Query::default() };
                    let choice = pool.explain(&query);
                    prop_assert_eq!(&pool.explain(&query), &choice);
                    let picked = pool.pick(&query, &mut Tried::new());
                    prop_assert_eq!(picked.as_ref().map(|lease| lease.index()).map_err(|none| *none), choice.winner);
                    if let Ok(lease) = picked {
                        prop_assert_eq!(choice.considered[lease.index()].out, None);
                        if entropy % 3 != 0 {
                            leases.push(lease);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn who_is_tried_next_is_still_named_by_its_source() {
        let pool = live(pool(crate::config::plan::Balance::RoundRobin, "a b c"));
        pool.members[1].server.set_missing(true);
        for _ in 0..3 {
            let told = pool.explain(&Query::default());
            assert_eq!(told.then, [if told.winner == Ok(2) { 0 } else { 2 }]);
            let _ = pool.pick(&Query::default(), &mut Tried::new());
        }
        pool.members[0].server.set_missing(true);
        pool.members[2].server.set_missing(true);
        assert_eq!(pool.explain(&Query::default()).then.len(), 1, "a missing one is better than none");
    }

    #[test]
    fn who_is_tried_out_is_told_where_it_is_the_requests_turn() {
        let mut plan = pool(crate::config::plan::Balance::RoundRobin, "a b");
        plan.outlier = Some(sample::outlier());
        let pool = live(plan);
        member(&pool, "b").set_ejected(true);
        let asked = |may_be_repeated| Query { may_be_repeated, ..Query::default() };
        assert_eq!(pool.explain(&asked(true)).winner, Ok(0), "its time is not over");
        member(&pool, "b").outlier().open_trial();
        let told = pool.explain(&asked(true));
        assert_eq!((told.winner, told.considered[1].out, told.then.as_slice()), (Ok(1), None, &[0][..]));
        assert!(told.rule.contains("tried out"), "{}", told.rule);
        assert_eq!(pool.explain(&asked(false)).winner, Ok(0), "it may not be repeated");
        let lease = pool.pick(&asked(true), &mut Tried::new()).expect("it is b's turn");
        assert_eq!(lease.index(), 1);
        assert_eq!(pool.explain(&asked(true)).winner, Ok(0), "one at a time");
    }

    #[test]
    fn each_reason_to_be_out_is_told() {
        let mut plan = pool(crate::config::plan::Balance::LeastConnections, "a b c d e");
        plan.servers[3].drain = true;
        plan.servers[4].max_connections = NonZeroU32::new(1);
        let pool = live(plan);
        set_down(&pool, "a");
        member(&pool, "b").set_operator(Operator::Drain);
        member(&pool, "c").set_operator(Operator::Maint);
        let query = Query::default();
        let choice = pool.explain(&query);
        assert_eq!(choice.winner, Ok(4));
        assert_eq!(choice.rule, "the lowest in flight / weight");
        let _lease = pool.pick(&query, &mut Tried::new());
        let choice = pool.explain(&query);
        let out: Vec<_> = choice.considered.iter().map(|considered| considered.out).collect();
        let expected = [
            Exclusion::Down,
            Exclusion::Drain,
            Exclusion::Maint,
            Exclusion::DrainConfigured,
            Exclusion::Full(1),
        ]
        .map(Some);
        assert_eq!((out.as_slice(), choice.winner), (expected.as_slice(), Err(NoServer::AllFull)));
    }

    #[test]
    fn a_server_that_is_full_while_none_is_healthy_is_out_because_it_is_full() {
        let mut plan = pool(crate::config::plan::Balance::LeastConnections, "a");
        plan.servers[0].max_connections = NonZeroU32::new(1);
        let pool = live(plan);
        set_down(&pool, "a");
        let query = Query::default();
        assert!(pool.explain(&query).failing_open);
        let _lease = pool.pick(&query, &mut Tried::new());
        let choice = pool.explain(&query);
        assert_eq!((choice.considered[0].out, choice.failing_open), (Some(Exclusion::Full(1)), true));
    }
}
