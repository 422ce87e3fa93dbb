//! Which certificate a client is shown: by the name it asks for and by the signatures it can check.

use super::certificate_file::seconds;
use super::staple::Staple;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;
use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

/// Certificates by the names they are for.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateNames {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// `*.shop.example` under `shop.example`. It stands for one label (RFC 6125 section 6.4.3).
    below: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// The first certificate, and those that share a name with it.
    default: Vec<Arc<CertifiedKey>>,
    /// Certificates with their staples, by the addresses of those without.
    stapled: HashMap<usize, Stapled>,
}

/// A certificate with its staple.
#[derive(Clone, Debug)]
struct Stapled {
    /// The one without, so that nothing else gets its address.
    _plain: Arc<CertifiedKey>,
    key: Arc<CertifiedKey>,
    /// Seconds since 1970.
    until: Option<i64>,
}

impl CertificateNames {
    /// Adds a certificate; the first is the default.
    pub(super) fn add(&mut self, key: &Arc<CertifiedKey>, names: &[String]) {
        let shares = |default: &Self| {
            names.iter().any(|name| default.of(name).is_some_and(|of| default.has_default(of)))
        };
        if self.default.is_empty() || shares(self) {
            self.default.push(Arc::clone(key));
        }
        for name in names {
            let of = match name.strip_prefix("*.") {
                Some(parent) => self.below.entry(parent.to_owned()),
                None => self.exact.entry(name.clone()),
            };
            of.or_default().push(Arc::clone(key));
        }
    }

    /// Has this staple sent along with a certificate that was added.
    pub(super) fn staple(&mut self, key: &Arc<CertifiedKey>, staple: Staple) {
        let mut stapled = CertifiedKey::clone(key);
        stapled.ocsp = Some(staple.response);
        let stapled = Stapled { _plain: Arc::clone(key), key: Arc::new(stapled), until: staple.until };
        self.stapled.insert(Arc::as_ptr(key).addr(), stapled);
    }

    /// The certificate with its staple, if that has one that holds: many clients take none for better than one that
    /// has expired.
    fn with_staple(&self, key: Arc<CertifiedKey>, now: SystemTime) -> Arc<CertifiedKey> {
        if self.stapled.is_empty() {
            return key;
        }
        match self.stapled.get(&Arc::as_ptr(&key).addr()) {
            Some(stapled) if stapled.until.is_none_or(|until| seconds(now) <= until) => {
                Arc::clone(&stapled.key)
            }
            _ => key,
        }
    }

    /// What is there for exactly this name, asterisk and all.
    fn of(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        match name.strip_prefix("*.") {
            Some(parent) => self.below.get(parent),
            None => self.exact.get(name),
        }
    }

    fn has_default(&self, of: &[Arc<CertifiedKey>]) -> bool {
        self.default.first().is_some_and(|first| of.iter().any(|key| Arc::ptr_eq(key, first)))
    }

    /// The first certificate for this name that the client can check; one that it cannot check only if there is no
    /// other, so that the handshake fails for the right reason.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let exact = name.as_deref().and_then(|name| self.exact.get(name));
        let below = name
            .as_deref()
            .and_then(|name| name.split_once('.'))
            .and_then(|(_, parent)| self.below.get(parent));
        let named = || exact.into_iter().chain(below).flatten();
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let found = named().find(fits).or_else(|| self.default.iter().find(fits));
        found.or_else(|| named().chain(&self.default).next()).cloned()
    }
}

impl ResolvesServerCert for CertificateNames {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self.choose(hello.server_name(), hello.signature_schemes())?;
        Some(self.with_staple(key, SystemTime::now()))
    }
}
