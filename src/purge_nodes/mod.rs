//! The other nodes that are told what is purged here: what each has still to be told, whether it has confirmed, and how it is asked.
//!
//! Who purges puts a wish into each node's backlog and waits for a short time; a task for each node (control has them) takes what lies
//! there. What a node was told by another goes no further, so that nodes may name each other and themselves.

mod ask;
mod backlog;
mod failure;
mod node;

pub(crate) use ask::ask;
pub(crate) use backlog::{Backlog, Pace, retry_after};
pub(crate) use failure::NodeFailure;
pub(crate) use node::{PassedOn, PurgeNode, PurgeNodes};

use std::time::Duration;

/// As long a node has for an answer, from the connection on.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// As long whoever purges waits for the nodes' answers: for one that is under way, and for the next.
pub(crate) const CONFIRMED_WITHIN: Duration = Duration::from_secs(3);
