//! A server as one snapshot's pool has it, beside what is its own through all of them.

use super::server::Server;
use crate::units::Weight;
use std::num::NonZeroU32;
use std::sync::Arc;

/// A server as one snapshot's pool has it.
#[derive(Clone, Debug)]
pub struct Member {
    pub server: Arc<Server>,
    pub weight: Weight,
    pub max_connections: Option<NonZeroU32>,
    /// Drained by the configuration (the operator's drain is the server's own).
    pub drain: bool,
    /// Used only while no other one is.
    pub backup: bool,
}
