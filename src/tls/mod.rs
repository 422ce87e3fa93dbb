//! TLS that ends at a listener: certificates from files, chosen by the name a client asks for, and what sessions are
//! resumed by.
//!
//! Everything is made before a reload's swap and never changes afterwards; a listener's next [`Termination`] takes
//! over what sessions are resumed by, so that a reload costs no client its session.

mod certificate_file;
mod challenge;
mod clients;
mod files;
mod identity;
mod managed;
mod names;
pub(crate) mod pem;
mod resumption;
mod servers;
mod staple;

pub(crate) use challenge::{ACME_TLS, ChallengeCertificates};
pub(crate) use files::{Certificates, Files, check, read};
pub(crate) use identity::ClientIdentity;
pub(crate) use managed::ManagedCertificate;

use crate::config::plan::TlsVersion;
use challenge::Resolver;
use clients::ClientAuthorities;
use names::CertificateNames;
use resumption::Resumption;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, ServerConfig, SupportedProtocolVersion};

/// How a listener ends TLS.
#[derive(Debug)]
pub(crate) struct Termination {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) expiries: Vec<Expiry>,
    /// Until when staples hold, by the files of their certificates.
    pub(crate) staples: Vec<Expiry>,
    clients: Option<ClientAuthorities>,
    resumption: Arc<Resumption>,
    /// The certificates from files, and how many of `expiries` are theirs.
    files: (Arc<CertificateNames>, usize),
}

/// Until when a certificate holds.
#[derive(Clone, Debug)]
pub(crate) struct Expiry {
    /// Its file, as configured.
    pub(crate) certificate: String,
    /// Seconds since 1970.
    pub(crate) at: i64,
}

impl Termination {
    /// Ends TLS with these certificates; `before` is what the listener has had so far.
    ///
    /// # Errors
    /// The machine has no randomness for a key, or an authority of clients is of no use.
    pub(crate) fn new(
        certificates: Certificates,
        min_version: TlsVersion,
        before: Option<&Self>,
    ) -> Result<Self, Error> {
        let Certificates { names, expiries, staples, clients } = certificates;
        // A resumed session is not verified again: it has the certificate of its first handshake. So sessions end where
        // clients are judged otherwise from now on, or who lost its authority would stay.
        let is_kept = |before: &&Self| match (&before.clients, &clients) {
            (None, None) => true,
            (Some(before), Some(clients)) => before.is_same(clients),
            _ => false,
        };
        let resumption = match before.filter(is_kept) {
            Some(before) => Arc::clone(&before.resumption),
            None => Arc::new(Resumption::new()?),
        };
        let versions: &[&SupportedProtocolVersion] = match min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let names = Arc::new(names);
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)?;
        let config = match &clients {
            Some(clients) => config.with_client_cert_verifier(clients.verifier()?),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(Arc::clone(&names) as _);
        // Whoever offers only the last (`curl --http1.0`) is served too.
        config.alpn_protocols = [&b"h2"[..], b"http/1.1", b"http/1.0"].map(<[u8]>::to_vec).into();
        config.ticketer = resumption.clone();
        config.session_storage = resumption.clone();
        let files = (names, expiries.len());
        Ok(Self { config: Arc::new(config), expiries, staples, clients, resumption, files })
    }

    /// The same with these certificates from an authority beside those from files, instead of any that it had.
    /// `challenges` are what the authority is shown when it asks by handshakes.
    pub(crate) fn with(
        &self,
        managed: &[ManagedCertificate],
        challenges: Option<&Arc<ChallengeCertificates>>,
    ) -> Self {
        let (files, file_expiries) = &self.files;
        let mut names = CertificateNames::clone(files);
        let mut expiries = self.expiries[..*file_expiries].to_vec();
        for certificate in managed {
            names.add(&certificate.key, &[certificate.name.to_string()]);
            expiries.push(certificate.expiry.clone());
        }
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols.retain(|protocol| protocol != ACME_TLS);
        if challenges.is_some() {
            config.alpn_protocols.push(ACME_TLS.to_vec());
        }
        config.cert_resolver = Arc::new(Resolver { names, challenges: challenges.cloned() });
        Self {
            config: Arc::new(config),
            expiries,
            staples: self.staples.clone(),
            clients: self.clients.clone(),
            resumption: Arc::clone(&self.resumption),
            files: self.files.clone(),
        }
    }

    /// Has every client shake hands anew. A client that goes on resuming a session which its certificate has ended
    /// would be refused again and again, be its next one at hand; nobody can make us do so twice with one certificate.
    pub(crate) fn forget_sessions(&self) {
        self.resumption.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::{Duration, Instant};
    use tokio_rustls::rustls::server::ProducesTickets;
    use tokio_rustls::rustls::ticketer::TicketRotator;

    fn termination(before: Option<&Termination>) -> Termination {
        Termination::new(Certificates::default(), TlsVersion::Tls12, before).unwrap()
    }

    #[test]
    fn tickets_hold_for_two_keys_of_six_hours() {
        let tickets = termination(None).resumption;
        assert!(tickets.enabled());
        assert_eq!(tickets.lifetime(), 2 * 6 * 3600);
    }

    #[test]
    fn a_listener_keeps_its_keys_and_has_them_for_itself() {
        let (one, other) = (termination(None), termination(None));
        let ticket = one.resumption.encrypt(b"session").unwrap();
        let next = termination(Some(&one)).resumption;
        assert_eq!(next.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(other.resumption.decrypt(&ticket), None);
        one.forget_sessions();
        assert_eq!(next.decrypt(&ticket), None, "they share them");
    }

    /// What the rotation that we rely on does, with a second instead of six hours.
    #[test]
    fn a_ticket_outlives_its_key_once_and_not_twice() {
        #[derive(Debug)]
        struct Key(Arc<dyn ProducesTickets>);
        impl ProducesTickets for Key {
            fn enabled(&self) -> bool {
                true
            }
            fn lifetime(&self) -> u32 {
                self.0.lifetime()
            }
            fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
                self.0.encrypt(plain)
            }
            fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
                self.0.decrypt(cipher)
            }
        }
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let rotation = TicketRotator::new(1, || {
            MADE.fetch_add(1, SeqCst);
            Ok(Box::new(Key(aws_lc_rs::Ticketer::new().expect("there is randomness"))))
        });
        let rotation = rotation.unwrap();
        let ticket = rotation.encrypt(b"session").unwrap();
        let made = MADE.load(SeqCst);
        let (since, mut was_seen) = (Instant::now(), [false; 3]);
        while !was_seen[2] && since.elapsed() < Duration::from_secs(15) {
            let (before, opened, after) = (MADE.load(SeqCst), rotation.decrypt(&ticket), MADE.load(SeqCst));
            // Opening it may have made the next key.
            if before == after {
                let age = (after - made).min(2);
                assert_eq!(opened.is_some(), age < 2, "{age} keys later");
                was_seen[age] = true;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        // A machine too busy to look in each second may have missed what is before.
        assert!(was_seen[2]);
    }
}
