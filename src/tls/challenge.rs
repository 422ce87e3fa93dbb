//! What an authority is shown that asks by a handshake whether a name is ours (RFC 8737).

use super::names::CertificateNames;
use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

/// The protocol that an authority asks for, and nobody else.
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

/// A challenge's certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotMade {
    #[error("cannot make a challenge's certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot use a challenge's key: {0}")]
    Key(#[from] tokio_rustls::rustls::Error),
}

/// The certificates that answer challenges, by the name each is for.
#[derive(Debug, Default)]
pub(crate) struct ChallengeCertificates(ArcSwap<HashMap<String, Arc<CertifiedKey>>>);

impl ChallengeCertificates {
    /// The certificate that answers a challenge (RFC 8737 section 3): for the one name, signed by itself, with the
    /// digest of what only the account's owner knows.
    pub(crate) fn certificate(name: &str, digest: &[u8; 32]) -> Result<Arc<CertifiedKey>, NotMade> {
        let mut parameters = CertificateParams::new([name.to_owned()])?;
        parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = aws_lc_rs::sign::any_supported_type(&key)?;
        Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
    }

    /// From now on these are all there are.
    pub(crate) fn set(&self, certificates: HashMap<String, Arc<CertifiedKey>>) {
        self.0.store(Arc::new(certificates));
    }
}

/// Chooses between what clients are shown and what an authority is.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) names: CertificateNames,
    pub(super) challenges: Option<Arc<ChallengeCertificates>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // An authority offers that protocol alone (RFC 8737 section 3). It sees no other certificate by it, so that
        // nobody takes one of ours for an answer.
        if hello
            .alpn()
            .is_some_and(|mut offered| offered.next() == Some(ACME_TLS) && offered.next().is_none())
        {
            let challenges = self.challenges.as_ref()?.0.load();
            return challenges.get(&hello.server_name()?.to_ascii_lowercase()).cloned();
        }
        self.names.resolve(hello)
    }
}
