//! Whose certificates clients may show, and the check that they do.

use super::certificate_file::{FileFault, chain};
use crate::config::plan::ClientCa;
use std::sync::Arc;
use std::time::SystemTime;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{Error, RootCertStore};

/// The authorities that clients have their certificates from.
#[derive(Clone, Debug)]
pub(crate) struct ClientAuthorities {
    roots: Arc<RootCertStore>,
    /// What the roots were made of, to tell whether a reload changes them.
    certificates: Vec<CertificateDer<'static>>,
    is_required: bool,
}

impl ClientAuthorities {
    pub(super) fn read(plan: &ClientCa, now: SystemTime, faults: &mut Vec<FileFault>) -> Option<Self> {
        let file = &plan.file;
        let certificates = chain("client_ca", file).map_err(|fault| faults.push(fault)).ok()?;
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            let which = format!("certificate {} in it", index + 1);
            let parsed = x509_parser::parse_x509_certificate(certificate);
            let (Ok((_, parsed)), Ok(())) = (parsed, roots.add(certificate.clone())) else {
                let help = "write it anew from where you have it from";
                let what = format!("holds something that is no authority: {which} cannot be read");
                faults.push(FileFault::new("client_ca", file, &what, help));
                return None;
            };
            let help =
                "no client's certificate leads there; put the certificate there that signs those of clients";
            if !parsed.is_ca() && parsed.version().0 == 2 {
                let what = format!("holds something that is no authority: {which} may sign no others");
                faults.push(FileFault::warning("client_ca", file, &what, help));
            }
            if super::certificate_file::is_over(&parsed, now) {
                let what = format!("holds an authority that has expired: {which}");
                let help = "clients of other software are refused by then; remove it once nobody uses it";
                faults.push(FileFault::warning("client_ca", file, &what, help));
            }
        }
        Some(Self { roots: Arc::new(roots), certificates, is_required: plan.is_required })
    }

    /// Whether clients are judged alike by both.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.is_required == other.is_required && self.certificates == other.certificates
    }

    pub(super) fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider);
        let builder = if self.is_required { builder } else { builder.allow_unauthenticated() };
        builder.build().map_err(|error| Error::General(error.to_string()))
    }
}
