//! Certificates from an authority (RFC 8555): ordered when they are missing, renewed before they expire, shared by all
//! nodes through one directory.
//!
//! Each name has a certificate of its own and a task that keeps it: one name that cannot be had holds up no other, and
//! a name more or less changes nothing for the rest. Nothing here puts a certificate in force; control does, when it is
//! told. While the authority is away, what is stored goes on being served.

mod challenge_store;
mod client;
mod keeper;
mod lock;
mod material;
mod order;
pub mod schedule;
mod storage;

pub(crate) use challenge_store::ChallengeStore;
pub(crate) use keeper::{CertificateManager, stored};
pub(crate) use material::{Material, check, read};

use crate::config::plan::{Name, Plan};
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::task::JoinError;

/// The names that a plan has certificates ordered for.
fn names(plan: &Plan) -> BTreeSet<&Name> {
    plan.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| &tls.acme).collect()
}

/// Seconds since 1970.
fn unix_time(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Does what may wait for a disk, or for the network that it is behind.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(act).await
}
