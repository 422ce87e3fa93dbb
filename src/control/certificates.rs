//! Certificates that authorities gave, among those of listeners.

use super::Control;
use crate::config::plan::{self, AcmeChallenge, Name, Plan};
use crate::edge::ListenerState;
use crate::snapshot::Snapshot;
use crate::tls::{ManagedCertificate, Termination};
use std::collections::HashMap;
use std::sync::Arc;
use tracing::info;

impl Control {
    /// A listener's way to end TLS, with what authorities gave for its names.
    pub(super) fn with_managed(
        &self,
        termination: &Termination,
        tls: &plan::Tls,
        plan: &Plan,
        managed: &HashMap<Name, ManagedCertificate>,
    ) -> Termination {
        let managed: Vec<_> = tls.acme.iter().filter_map(|name| managed.get(name).cloned()).collect();
        let by_handshake = plan.acme.as_ref().is_some_and(|acme| acme.challenge == AcmeChallenge::TlsAlpn01);
        termination.with(&managed, by_handshake.then_some(&self.live.challenges.certificates))
    }

    /// Shows clients a certificate that an authority has just given. Only what new connections are shown changes.
    pub(super) fn put_certificate_in_force(&mut self, certificate: ManagedCertificate) {
        let (name, until) = (certificate.name.clone(), certificate.expiry.at);
        if !acme_names(&self.live.snapshot()).any(|configured| *configured == name) {
            // It was under way when a reload removed the name.
            return;
        }
        let known = self.managed.insert(name.clone(), certificate.clone());
        if known.is_some_and(|known| known.is(&certificate)) {
            return;
        }
        let snapshot = self.live.snapshot();
        // A listener of several addresses has one state.
        let listener_states: HashMap<u32, &Arc<ListenerState>> =
            self.bound.values().map(|bound| (bound.listener_state.id, &bound.listener_state)).collect();
        for listener_state in listener_states.into_values() {
            let Some(listener) = snapshot.listener(listener_state.id) else { continue };
            let (Some(tls), Some(before)) = (&listener.plan.tls, listener_state.tls.load_full()) else {
                continue;
            };
            if tls.acme.contains(&name) {
                let next = self.with_managed(&before, tls, &snapshot.plan, &self.managed);
                listener_state.tls.store(Some(Arc::new(next)));
                info!(listener = %listener.plan.name, %name, until, "certificate in force");
            }
        }
        self.note_acme_names(&snapshot);
    }

    pub(super) fn note_acme_names(&self, snapshot: &Snapshot) {
        let names = acme_names(snapshot).map(|name| (name, self.managed.contains_key(name)));
        self.live.metrics.acme.keeps(names);
    }
}

/// The names that authorities are asked for.
pub(super) fn acme_names(snapshot: &Snapshot) -> impl Iterator<Item = &Name> {
    snapshot.listeners().iter().filter_map(|listener| listener.plan.tls.as_ref()).flat_map(|tls| &tls.acme)
}
