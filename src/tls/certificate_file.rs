//! Reads one file with certificates or a key, and says what is wrong with it.

use super::pem;
use crate::config::Severity;
use crate::config::plan::Certificate;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys};
use x509_parser::certificate::X509Certificate;

/// What is wrong with a file.
#[derive(Debug)]
pub(super) struct FileFault {
    pub(super) severity: Severity,
    /// The key that names the file: `cert`, `key`, `ocsp` or `client_ca`.
    pub(super) key: &'static str,
    pub(super) message: String,
    pub(super) help: String,
    /// There is no such file.
    pub(super) is_absence: bool,
}

impl FileFault {
    pub(super) fn new(key: &'static str, file: &Path, what: &str, help: impl Into<String>) -> Self {
        let message = format!("{} {what}", file.display());
        Self { severity: Severity::Error, key, message, help: help.into(), is_absence: false }
    }

    /// The same of a file that can be done without.
    pub(super) fn into_warning(self, help: &str) -> Self {
        Self { severity: Severity::Warning, help: help.to_owned(), is_absence: false, ..self }
    }

    /// What is wrong without a file being at fault.
    pub(super) fn without_file(key: &'static str, what: &str, help: &str) -> Self {
        Self {
            severity: Severity::Error,
            key,
            message: what.to_owned(),
            help: help.to_owned(),
            is_absence: false,
        }
    }

    pub(super) fn warning(key: &'static str, file: &Path, what: &str, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(key, file, what, help) }
    }
}

/// A certificate with its key, ready to be shown.
pub(super) fn certified(files: &Certificate, faults: &mut Vec<FileFault>) -> Option<Arc<CertifiedKey>> {
    let chain = chain("cert", &files.cert).map_err(|fault| faults.push(fault));
    let key = key(&files.key).map_err(|fault| faults.push(fault));
    let (Ok(chain), Ok(key)) = (chain, key) else { return None };
    if x509_parser::parse_x509_certificate(&chain[0]).is_err() {
        let help = "write it anew from where you have it from";
        faults.push(FileFault::new(
            "cert",
            &files.cert,
            "holds something that is no X.509 certificate",
            help,
        ));
        return None;
    }
    let key = match aws_lc_rs::sign::any_supported_type(&key) {
        Ok(key) => Arc::new(CertifiedKey::new(chain, key)),
        Err(_) => {
            let help = "use ECDSA (P-256, P-384), RSA of 2048 bits or more, or Ed25519";
            faults.push(FileFault::new(
                "key",
                &files.key,
                "holds a key of a kind that is not supported",
                help,
            ));
            return None;
        }
    };
    match key.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            let what = format!("is not the key of the first certificate in {}", files.cert.display());
            let help =
                "name the key that it was made with; the server's own certificate comes first in its file";
            faults.push(FileFault::new("key", &files.key, &what, help));
            return None;
        }
        Err(error) => {
            let help = "use a certificate of version 3 with subject alternative names";
            faults.push(FileFault::new("cert", &files.cert, &format!("cannot be used: {error}"), help));
            return None;
        }
    }
    Some(key)
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Whether a certificate has expired.
pub(super) fn is_over(parsed: &X509Certificate<'_>, now: SystemTime) -> bool {
    parsed.validity().not_after.timestamp() < seconds(now)
}

pub(super) fn contents(name: &'static str, file: &Path) -> Result<Vec<u8>, FileFault> {
    crate::files::read(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let help =
                "a relative path begins where evenkeel is started; without the file `run` and reload refuse";
            FileFault { is_absence: true, ..FileFault::new(name, file, "is not there", help) }
        }
        _ => {
            let help = "it must be readable for the user that evenkeel runs as";
            FileFault::new(name, file, &format!("cannot be read: {error}"), help)
        }
    })
}

/// The certificates in a file, at least one.
pub(super) fn chain(name: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let bytes = contents(name, file)?;
    let chain = pem::certificates(&bytes)
        .map_err(|what| FileFault::new(name, file, &what, "write it anew from where you have it from"))?;
    if chain.is_empty() {
        let help = "it must have a section that begins with `-----BEGIN CERTIFICATE-----`";
        return Err(FileFault::new(name, file, "holds no certificate", help));
    }
    Ok(chain)
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, FileFault> {
    let bytes = contents("key", file)?;
    let read = pem::private_key(&bytes);
    if let Ok(Some(key)) = read {
        return Ok(key);
    }
    // PKCS#8 says so in its title, the older formats in a field (RFC 1421 section 4.6.1.1).
    let is_encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
    if is_encrypted.iter().any(|mark| bytes.windows(mark.len()).any(|part| part == *mark)) {
        let file_name = file.display();
        let help = format!(
            "decrypt it: `openssl pkey -in {file_name} -out plain.key`, and let only evenkeel's user read that"
        );
        return Err(FileFault::new(
            "key",
            file,
            "is encrypted, and nobody is there to type its password",
            help,
        ));
    }
    let help = "it must have a section that begins with `-----BEGIN PRIVATE KEY-----` (or `EC` or `RSA` before `PRIVATE`)";
    Err(match read {
        Ok(_) => FileFault::new("key", file, "holds no private key", help),
        Err(what) => FileFault::new("key", file, &what, "write it anew from where you have it from"),
    })
}
