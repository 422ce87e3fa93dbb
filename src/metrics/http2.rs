//! What is counted of HTTP/2 clients that were cut off.

use crate::wire::abuse::Abuse;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One listener's connections that were cut off, by what for.
#[derive(Debug, Default)]
pub struct Abuses([AtomicU64; Abuse::ALL.len()]);

impl Abuses {
    pub fn count(&self, abuse: Abuse) {
        self.0[abuse as usize].fetch_add(1, Relaxed);
    }

    pub fn read(&self) -> AbuseReading {
        AbuseReading(std::array::from_fn(|index| self.0[index].load(Relaxed)))
    }
}

/// What [`Abuses`] were at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct AbuseReading([u64; Abuse::ALL.len()]);

impl AbuseReading {
    /// How many there were of each, by its label.
    pub(super) fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Abuse::ALL.into_iter().map(|kind| (kind.label(), self.0[kind as usize]))
    }
}
