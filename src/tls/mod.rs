//! TLS that ends at a listener: certificates from files, chosen by the name a client asks for, and what sessions are
//! resumed by.
//!
//! Everything is made before a reload's swap and never changes afterwards; a listener's next [`Termination`] takes
//! over what sessions are resumed by, so that a reload costs no client its session.

mod challenge;
mod clients;
mod files;
mod identity;
mod managed;
mod names;
mod staple;

pub(crate) use challenge::{ACME_TLS, Challenges};
pub(crate) use files::{Certificates, check, read};
pub(crate) use identity::Identity;
pub(crate) use managed::Managed;

use crate::config::plan::TlsVersion;
use challenge::Resolver;
use clients::Authorities;
use names::Names;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, ServerConfig, SupportedProtocolVersion};

/// Sessions kept for clients of TLS 1.2 that take no tickets.
const KEPT_SESSIONS: usize = 4096;

/// How a listener ends TLS.
#[derive(Debug)]
pub(crate) struct Termination {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) expiries: Vec<Expiry>,
    /// Until when staples hold, by the files of their certificates.
    pub(crate) staples: Vec<Expiry>,
    clients: Option<Authorities>,
    resumption: Resumption,
    /// The certificates from files, and how many of `expiries` are theirs.
    files: (Arc<Names>, usize),
}

/// Until when a certificate holds.
#[derive(Clone, Debug)]
pub(crate) struct Expiry {
    /// Its file, as configured.
    pub(crate) certificate: String,
    /// Seconds since 1970.
    pub(crate) at: i64,
}

/// What sessions are resumed by: shared by all cores, and kept as long as the listener is.
#[derive(Clone, Debug)]
struct Resumption {
    /// Its keys change every six hours.
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
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
            Some(before) => before.resumption.clone(),
            None => Resumption {
                tickets: ring::Ticketer::new()?,
                sessions: ServerSessionMemoryCache::new(KEPT_SESSIONS),
            },
        };
        let versions: &[&SupportedProtocolVersion] = match min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let names = Arc::new(names);
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)?;
        let config = match &clients {
            Some(clients) => config.with_client_cert_verifier(clients.verifier()?),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(Arc::clone(&names) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Arc::clone(&resumption.tickets);
        config.session_storage = Arc::clone(&resumption.sessions);
        let files = (names, expiries.len());
        Ok(Self { config: Arc::new(config), expiries, staples, clients, resumption, files })
    }

    /// The same with these certificates from an authority beside those from files, instead of any that it had.
    /// `challenges` are what the authority is shown when it asks by handshakes.
    pub(crate) fn with(&self, managed: &[Managed], challenges: Option<&Arc<Challenges>>) -> Self {
        let (files, file_expiries) = &self.files;
        let mut names = Names::clone(files);
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
            resumption: self.resumption.clone(),
            files: self.files.clone(),
        }
    }
}
