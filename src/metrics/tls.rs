//! What is counted of TLS that ends at a listener.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Full,
    /// By a ticket or session of before.
    Resumed,
    Failed,
    /// The client has no certificate that will do.
    ClientCertificate,
}

impl Handshake {
    const ALL: [Self; 4] = [Self::Full, Self::Resumed, Self::Failed, Self::ClientCertificate];

    fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
            Self::ClientCertificate => "client_certificate",
        }
    }
}

/// One listener's handshakes by their ends.
#[derive(Debug, Default)]
pub struct Handshakes([AtomicU64; Handshake::ALL.len()]);

impl Handshakes {
    pub fn count(&self, handshake: Handshake) {
        self.0[handshake as usize].fetch_add(1, Relaxed);
    }

    pub fn read(&self) -> HandshakeReading {
        HandshakeReading(std::array::from_fn(|index| self.0[index].load(Relaxed)))
    }
}

/// What [`Handshakes`] were at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct HandshakeReading([u64; Handshake::ALL.len()]);

impl HandshakeReading {
    /// How many there were of each, by its label.
    pub(super) fn by_end(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Handshake::ALL.into_iter().map(|end| (end.label(), self.0[end as usize]))
    }
}
