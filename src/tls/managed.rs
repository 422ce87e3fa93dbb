//! A certificate that an authority gave for one name, kept with its key in one file, so that the two never part.

use super::Expiry;
use super::files::hosts;
use super::pem;
use crate::config::plan::Name;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::sign::CertifiedKey;

/// A certificate for one name, ready for use.
#[derive(Clone, Debug)]
pub(crate) struct ManagedCertificate {
    pub(crate) name: Name,
    pub(super) key: Arc<CertifiedKey>,
    pub(crate) expiry: Expiry,
    /// Since when it holds, in seconds since 1970.
    pub(crate) since: i64,
}

impl ManagedCertificate {
    /// Reads what a file holds: the key, the certificate, and those that lead to its authority. The error says what
    /// is wrong with it.
    pub(crate) fn read(name: &Name, file: &Path, contents: &[u8]) -> Result<Self, String> {
        let key = pem::private_key(contents)?.ok_or("holds no private key")?;
        let chain = pem::certificates(contents)?;
        let first = chain.first().ok_or("holds no certificate")?.clone();
        let (_, parsed) = x509_parser::parse_x509_certificate(&first)
            .map_err(|_| "holds something that is no X.509 certificate")?;
        if !hosts(&parsed).iter().any(|host| **host == **name) {
            return Err(format!("is not for {name}"));
        }
        let key = aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|error| format!("has a key that is no use: {error}"))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|error| format!("has another's key: {error}"))?;
        let validity = parsed.validity();
        Ok(Self {
            name: name.clone(),
            key: Arc::new(key),
            expiry: Expiry { certificate: file.display().to_string(), at: validity.not_after.timestamp() },
            since: validity.not_before.timestamp(),
        })
    }

    /// Whether the other is the same certificate.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}
