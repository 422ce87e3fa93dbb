//! Whether an admin connection is being answered, or may give way to another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Shared by a connection and whoever may have to end it.
pub(super) type Shared = Arc<Activity>;

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    requests: u32,
    /// When it was opened, or when the last request was answered.
    idle_since: Instant,
}

impl Activity {
    pub(super) fn begin() -> Shared {
        Arc::new(Self(Mutex::new(State { requests: 0, idle_since: Instant::now() })))
    }

    /// `None` while it is being answered.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.requests == 0).then_some(state.idle_since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that has come, and is being answered.
#[derive(Debug)]
pub(super) struct Serving(Shared);

impl Serving {
    pub(super) fn begin(activity: &Shared) -> Self {
        activity.lock().requests += 1;
        Self(Arc::clone(activity))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.requests -= 1;
        state.idle_since = Instant::now();
    }
}

/// A request whose body is still to come: until it has come the connection gives way like a silent one.
#[derive(Clone, Debug)]
pub(super) struct Awaited(Shared);

impl Awaited {
    pub(super) fn new(activity: &Shared) -> Self {
        Self(Arc::clone(activity))
    }

    pub(super) fn has_come(&self) -> Serving {
        Serving::begin(&self.0)
    }
}
