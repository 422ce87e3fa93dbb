//! The key that sticky cookies are signed by where no file has one: made when it is first needed, kept in the state file,
//! and handed over to the next process.

use crate::config::plan::{Plan, PoolPlan};
use crate::sticky::{Secret, StickyKeys};
use std::sync::Arc;

/// Whether a plan has a pool that names no file with keys.
pub(super) fn is_needed(plan: &Plan) -> bool {
    plan.pools.iter().any(|pool| is_for(pool))
}

fn is_for(pool: &PoolPlan) -> bool {
    pool.sticky.as_ref().is_some_and(|sticky| sticky.key_file.is_none())
}

/// Gives it to the pools that have no other.
pub(super) fn fill(plan: &mut Plan, key: Option<&Secret>) {
    let Some(key) = key else { return };
    for pool in plan.pools.iter_mut().filter(|pool| is_for(pool)) {
        if let Some(sticky) = &mut Arc::make_mut(pool).sticky {
            sticky.keys = StickyKeys::from(key.clone());
        }
    }
}

/// A new one; `None` if the machine has no randomness.
pub(super) fn make() -> Option<Secret> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Secret::new(&data_encoding::HEXLOWER.encode(&bytes))
}
