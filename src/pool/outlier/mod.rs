//! Outliers: servers that do worse than the others of their pool with real traffic, and are left out for a while.
//!
//! Each try notes on its server what became of it (`record`). `OutlierWatch::look` compares (`judge`), ejects, and has servers
//! come back by requests that try them out (`trial`). A probe that passes brings nobody back: it is no proof of more than itself.

mod clients;
pub mod judge;
mod member;
mod onset;
pub mod record;
pub mod signals;
mod slices;
pub mod standing;
pub mod trial;
mod watch;

pub use judge::{Reason, allowance, told_allowance};
pub use member::OutlierState;
pub use record::{TryRecord, Watched};
pub use signals::{OpenTrial, OutlierSignals};
pub use standing::{Ejection, Standing, TrialState};
pub use trial::{Trial, TrialCounts, TrialResult, TrialTurn};
pub use watch::{OutlierChange, OutlierWatch, back, ceiling};

#[cfg(test)]
mod tests;
