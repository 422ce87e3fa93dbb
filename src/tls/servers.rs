//! What pools' TLS is made of: authorities to know servers by, and certificates to show them.

use super::certificate_file::{FileFault, certified, chain};
use crate::config::plan::{self, ServerTls};
use crate::origination::OriginationMaterial;
use rustls::RootCertStore;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Reads a pool's files; `None` if one of them is of no use.
pub(super) fn read(tls: &ServerTls, faults: &mut Vec<FileFault>) -> Option<OriginationMaterial> {
    let before = faults.len();
    let mut authorities = None;
    let mut roots = Arc::new(RootCertStore::empty());
    match &tls.ca {
        Some(file) => {
            if let Ok(certificates) = chain("ca", file).map_err(|fault| faults.push(fault)) {
                roots = Arc::new(trusted(file, &certificates, faults));
                authorities = Some(certificates);
            }
        }
        None if tls.verify => roots = machines(faults),
        None => {}
    }
    let identity = tls.identity.as_ref().and_then(|(cert, key)| {
        let files = plan::Certificate { cert: cert.clone(), key: key.clone(), ocsp: None };
        certified(&files, faults)
    });
    (faults.len() == before).then(|| OriginationMaterial {
        settings: tls.clone(),
        authorities,
        roots,
        identity,
    })
}

fn trusted(
    file: &Path,
    certificates: &[rustls::pki_types::CertificateDer<'static>],
    faults: &mut Vec<FileFault>,
) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        if roots.add(certificate.clone()).is_err() {
            let what = format!(
                "holds something that is no authority: certificate {} in it cannot be read",
                index + 1
            );
            faults.push(FileFault::new("ca", file, &what, "write it anew from where you have it from"));
        }
    }
    roots
}

/// The machine's own authorities; looked up once, as reading them takes a while.
fn machines(faults: &mut Vec<FileFault>) -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        let help = "name the file of those that sign servers' certificates: `ca: internal-ca.pem`";
        faults.push(FileFault::without_file("verify", "this machine has no authorities to verify by", help));
    }
    Arc::clone(roots)
}
