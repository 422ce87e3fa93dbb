//! What part of those that entered each lane was served, wherever that was. Where the newest come first, age says nothing of
//! whose turn it is: whoever goes anywhere has a chance at every server, whoever is bound has it at one, so each lane is owed
//! the part that the others have.

use super::Lane;
use std::collections::BTreeMap;

/// What counts half once as many have come: shares follow the load within some seconds of a busy pool.
const MEMORY: f64 = 1_000.0;

#[derive(Debug, Default)]
pub(super) struct Shares {
    lanes: BTreeMap<Lane, Counts>,
    /// All that have come.
    arrived: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    arrived: f64,
    served: f64,
}

/// The part of those that came that was served, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServedShare(u32);

impl Shares {
    pub(super) fn arrived(&mut self, lane: Lane) {
        self.lanes.entry(lane).or_default().arrived += 1.0;
        self.arrived += 1.0;
        if self.arrived >= MEMORY {
            self.arrived /= 2.0;
            self.lanes.retain(|_, counts| counts.halve());
        }
    }

    pub(super) fn served(&mut self, lane: Lane) {
        self.lanes.entry(lane).or_default().served += 1.0;
    }

    pub(super) fn of_lane(&self, lane: Lane) -> ServedShare {
        let Counts { arrived, served } = self.lanes.get(&lane).copied().unwrap_or_default();
        ServedShare((served / arrived.max(f64::MIN_POSITIVE) * 1e6) as u32)
    }
}

impl Counts {
    /// Whether anything is left.
    fn halve(&mut self) -> bool {
        self.arrived /= 2.0;
        self.served /= 2.0;
        self.arrived >= 0.01
    }
}
