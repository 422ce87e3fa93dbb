//! Giving memory back to the system. Only the binary knows the allocator; a library that is linked into
//! something else leaves memory to its host.

use std::sync::OnceLock;

static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// Says how a thread gives back what it no longer needs; the first to say it is heard.
pub fn give_back_by(how: fn()) {
    let _ = GIVE_BACK.set(how);
}

/// Gives back what this thread no longer needs, if there is a way.
pub(crate) fn give_back() {
    if let Some(how) = GIVE_BACK.get() {
        how();
    }
}
