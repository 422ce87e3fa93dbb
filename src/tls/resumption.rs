//! What sessions are resumed by: shared by all cores, and kept as long as the listener is.

use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio_rustls::rustls::Error;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};

/// Sessions kept for clients of TLS 1.2 that take no tickets.
const KEPT_SESSIONS: usize = 4096;

/// A listener's tickets and sessions.
#[derive(Debug)]
pub(super) struct Resumption(ArcSwap<SessionStore>);

#[derive(Debug)]
struct SessionStore {
    /// Its keys change every six hours.
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

impl SessionStore {
    fn new() -> Result<Self, Error> {
        Ok(Self {
            tickets: aws_lc_rs::Ticketer::new()?,
            sessions: ServerSessionMemoryCache::new(KEPT_SESSIONS),
        })
    }
}

impl Resumption {
    /// # Errors
    /// The machine has no randomness for a key.
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self(ArcSwap::from_pointee(SessionStore::new()?)))
    }

    /// From now on nothing of before is resumed.
    pub(super) fn forget(&self) {
        // Without randomness no handshake succeeds anyway.
        if let Ok(fresh) = SessionStore::new() {
            self.0.store(Arc::new(fresh));
        }
    }
}

impl ProducesTickets for Resumption {
    fn enabled(&self) -> bool {
        self.0.load().tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.load().tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.load().tickets.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.load().tickets.decrypt(cipher)
    }
}

impl StoresServerSessions for Resumption {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.load().sessions.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.load().sessions.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.load().sessions.take(key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}
