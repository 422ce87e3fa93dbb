//! Servers whose port was closed a moment ago.
//!
//! With UDP that is heard of only after a datagram was lost, and probes take seconds to notice. Until then new
//! sessions of the core go to other servers, if there are any; else each client would lose one to find out.

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// A probe at the default interval has had two looks by then.
const LATELY: Duration = Duration::from_secs(5);

thread_local! {
    static REFUSED: RefCell<Vec<(u32, Instant)>> = const { RefCell::new(Vec::new()) };
}

/// A server's port is closed.
pub(super) fn note(server: u32) {
    let until = Instant::now() + LATELY;
    REFUSED.with_borrow_mut(|refused| match refused.iter_mut().find(|(id, _)| *id == server) {
        Some((_, its)) => *its = until,
        None => refused.push((server, until)),
    });
}

/// Which servers had their port closed lately; mostly none.
pub(crate) fn refused_lately() -> Vec<u32> {
    REFUSED.with_borrow_mut(|refused| {
        if refused.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        refused.retain(|(_, until)| *until > now);
        refused.iter().map(|(id, _)| *id).collect()
    })
}
