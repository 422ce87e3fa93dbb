//! The listeners' live sides, where the admin endpoint can read them.

use crate::edge::ListenerState;
use crate::metrics::ListenerReading;
use crate::tls::Expiry;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

/// One for each listener that is open.
#[derive(Debug, Default)]
pub(crate) struct ListenerStates(Mutex<Vec<Arc<ListenerState>>>);

impl ListenerStates {
    pub(crate) fn readings(&self) -> Vec<ListenerReading> {
        let listener_states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expiry = |expiry: &Expiry| (expiry.certificate.clone(), expiry.at);
        let reading = |listener_state: &Arc<ListenerState>| ListenerReading {
            name: listener_state.name.clone(),
            open: listener_state.connection_limit.in_use(),
            accepted: listener_state.accepted.load(Relaxed),
            refused: listener_state.refused.load(Relaxed),
            waits: listener_state.connection_limit.waits(),
            dropped: listener_state.drops.read(),
            handshakes: listener_state.handshakes.read(),
            handshake_waits: listener_state.handshake_limit.waits(),
            abuse: listener_state.abuse.read(),
            certificates: listener_state
                .tls
                .load()
                .iter()
                .flat_map(|tls| tls.expiries.iter())
                .map(expiry)
                .collect(),
            staples: listener_state
                .tls
                .load()
                .iter()
                .flat_map(|tls| tls.staples.iter())
                .map(expiry)
                .collect(),
        };
        listener_states.iter().map(reading).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<ListenerState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, listener_states: Vec<Arc<ListenerState>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = listener_states;
    }
}
