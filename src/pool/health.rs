//! Rise and fall: how many probe results in a row change our mind about a server.

use crate::config::plan;
use std::num::NonZeroU32;

/// What the probes say about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HealthState {
    Up,
    Down,
    /// Not yet known: not used until the first pass.
    Probing,
}

/// How many results in a row change the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthThresholds {
    /// Passes in a row that bring a down server up.
    pub rise: NonZeroU32,
    /// Failures in a row that take a server down.
    pub fall: NonZeroU32,
}

impl From<&plan::HealthPlan> for HealthThresholds {
    fn from(health: &plan::HealthPlan) -> Self {
        Self { rise: health.rise, fall: health.fall }
    }
}

/// A change of mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: HealthState,
    pub to: HealthState,
}

/// A server's health and the run of results that argues against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    state: HealthState,
    /// Results in a row that contradict `state`.
    against: u32,
}

impl Health {
    pub fn new(state: HealthState) -> Self {
        Self { state, against: 0 }
    }

    /// Where a server starts: up without probes or with `initial: up`, otherwise unknown.
    pub fn initial(health: Option<&plan::HealthPlan>) -> Self {
        Self::new(match health.map(|health| health.initial) {
            None | Some(plan::Initial::Up) => HealthState::Up,
            Some(plan::Initial::Probing) => HealthState::Probing,
        })
    }

    pub fn state(&self) -> HealthState {
        self.state
    }

    /// Takes one probe result into account; returns the change of state, if this made one.
    pub fn observe(&mut self, passed: bool, rule: &HealthThresholds) -> Option<Transition> {
        let (to, needed) = match (self.state, passed) {
            (HealthState::Up, true) | (HealthState::Down, false) => {
                self.against = 0;
                return None;
            }
            (HealthState::Probing, true) => (HealthState::Up, 1),
            (HealthState::Down, true) => (HealthState::Up, rule.rise.get()),
            (HealthState::Up | HealthState::Probing, false) => (HealthState::Down, rule.fall.get()),
        };
        self.against = self.against.saturating_add(1);
        (self.against >= needed).then(|| self.turn(to))
    }

    /// Forgets the run of results but not the state: the probe that made them has changed.
    pub fn reset_counts(&mut self) {
        self.against = 0;
    }

    /// Sets the state without asking the probes, because there are none any more.
    pub fn assume_up(&mut self) -> Option<Transition> {
        (self.state != HealthState::Up).then(|| self.turn(HealthState::Up))
    }

    fn turn(&mut self, to: HealthState) -> Transition {
        let from = std::mem::replace(&mut self.state, to);
        self.against = 0;
        Transition { from, to }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `+` and `-` to a server and writes its state after each: U, D or P.
    fn check(start: HealthState, results: &str, expected: &str) {
        let two = NonZeroU32::new(2).expect("not zero");
        let three = NonZeroU32::new(3).expect("not zero");
        let mut health = Health::new(start);
        let states: String = results
            .chars()
            .map(|result| {
                let before = health.state();
                let transition = match result {
                    'r' => {
                        health.reset_counts();
                        None
                    }
                    _ => health.observe(result == '+', &HealthThresholds { rise: two, fall: three }),
                };
                let expected =
                    (before != health.state()).then(|| Transition { from: before, to: health.state() });
                assert_eq!(transition, expected, "{results}");
                match health.state() {
                    HealthState::Up => 'U',
                    HealthState::Down => 'D',
                    HealthState::Probing => 'P',
                }
            })
            .collect();
        assert_eq!(states, expected, "{start:?} {results}");
    }

    #[test]
    fn only_results_in_a_row_change_the_state() {
        check(HealthState::Up, "---", "UUD");
        check(HealthState::Up, "--+--+---", "UUUUUUUUD");
        check(HealthState::Down, "++", "DU");
        check(HealthState::Down, "+-+-++", "DDDDDU");
        check(HealthState::Up, "---++---", "UUDDUUUD");
    }

    #[test]
    fn the_first_pass_brings_an_unknown_server_up() {
        check(HealthState::Probing, "+", "U");
        check(HealthState::Probing, "--+", "PPU");
        check(HealthState::Probing, "---+", "PPDD");
    }

    #[test]
    fn a_changed_probe_must_fail_in_full() {
        check(HealthState::Up, "--r---", "UUUUUD");
        check(HealthState::Down, "+r++", "DDDU");
    }
}
