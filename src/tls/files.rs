//! Reads certificates and keys, and says what is wrong with them before a client would.

use super::Expiry;
use super::names::Names;
use crate::config::plan::{Certificate, Name, Plan};
use crate::config::{self, Problem, Severity, Spot};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// A listener's certificates, ready for use.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    pub(super) names: Names,
    pub(super) expiries: Vec<Expiry>,
}

/// What is wrong with a file.
#[derive(Debug)]
struct Fault {
    severity: Severity,
    /// `cert` or `key`.
    key: &'static str,
    message: String,
    help: String,
    /// There is no such file.
    is_absence: bool,
}

impl Fault {
    fn new(key: &'static str, file: &Path, what: &str, help: impl Into<String>) -> Self {
        let message = format!("{} {what}", file.display());
        Self { severity: Severity::Error, key, message, help: help.into(), is_absence: false }
    }

    fn warning(file: &Path, what: &str, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::new("cert", file, what, help) }
    }
}

/// What a plan's files hold, by the listener's place in it (`None` without TLS), and what is wrong with them. `text`
/// is what the plan was read from.
pub(crate) fn read(plan: &Plan, text: &str, now: SystemTime) -> (Vec<Option<Certificates>>, Vec<Problem>) {
    read_all(plan, text, now, Severity::Error)
}

/// The same for a look at a configuration without using it. Files that are absent are worth a warning only: keys are
/// seldom where configurations are checked.
pub(crate) fn check(plan: &Plan, text: &str) -> Vec<Problem> {
    read_all(plan, text, SystemTime::now(), Severity::Warning).1
}

fn read_all(
    plan: &Plan,
    text: &str,
    now: SystemTime,
    absent: Severity,
) -> (Vec<Option<Certificates>>, Vec<Problem>) {
    let mut found = Vec::new();
    let listeners = plan.listeners.iter().map(|listener| {
        let tls = listener.tls.as_ref()?;
        let mut all = Certificates::default();
        for (index, certificate) in tls.certificates.iter().enumerate() {
            let mut faults = Vec::new();
            all.add(certificate, now, &mut faults);
            for mut fault in faults {
                if fault.is_absence {
                    fault.severity = absent;
                }
                found.push((fault, &listener.name, index.to_string()));
            }
        }
        Some(all)
    });
    let listeners = listeners.collect();
    (listeners, placed(found, text))
}

/// Faults with the listener and the index of their certificate, as problems at their places.
fn placed(found: Vec<(Fault, &Name, String)>, text: &str) -> Vec<Problem> {
    if found.is_empty() {
        return Vec::new();
    }
    let all: Vec<[&str; 6]> = found
        .iter()
        .map(|(fault, listener, index)| ["listeners", listener, "tls", "certificates", index, fault.key])
        .collect();
    let spots = config::locate(text, &all);
    let problem = |((fault, listener, index), spot): ((Fault, &Name, String), Spot)| Problem {
        severity: fault.severity,
        path: format!("listeners.{listener}.tls.certificates[{index}].{}", fault.key),
        spot,
        message: fault.message,
        help: Some(fault.help),
    };
    found.into_iter().zip(spots).map(problem).collect()
}

impl Certificates {
    fn add(&mut self, files: &Certificate, now: SystemTime, faults: &mut Vec<Fault>) {
        let chain = chain(&files.cert).map_err(|fault| faults.push(fault));
        let key = key(&files.key).map_err(|fault| faults.push(fault));
        let (Ok(chain), Ok(key)) = (chain, key) else { return };
        let first = chain[0].clone();
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&first) else {
            let help = "write it anew from where you have it from";
            faults.push(Fault::new(
                "cert",
                &files.cert,
                "holds something that is no X.509 certificate",
                help,
            ));
            return;
        };
        let key = match ring::sign::any_supported_type(&key) {
            Ok(key) => Arc::new(CertifiedKey::new(chain, key)),
            Err(_) => {
                let help = "use ECDSA (P-256, P-384), RSA of 2048 bits or more, or Ed25519";
                faults.push(Fault::new(
                    "key",
                    &files.key,
                    "holds a key of a kind that is not supported",
                    help,
                ));
                return;
            }
        };
        match key.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                let what = format!("is not the key of the first certificate in {}", files.cert.display());
                let help = "name the key that it was made with; the server's own certificate comes first in its file";
                faults.push(Fault::new("key", &files.key, &what, help));
                return;
            }
            Err(error) => {
                let help = "use a certificate of version 3 with subject alternative names";
                faults.push(Fault::new("cert", &files.cert, &format!("cannot be used: {error}"), help));
                return;
            }
        }
        let names = hosts(&parsed);
        warn(files, &parsed, names.is_empty() && !self.expiries.is_empty(), now, faults);
        let at = parsed.validity().not_after.timestamp();
        self.expiries.push(Expiry { certificate: files.cert.display().to_string(), at });
        self.names.add(&key, &names);
    }
}

/// Says what makes a certificate unfit that could be used.
fn warn(
    files: &Certificate,
    parsed: &X509Certificate<'_>,
    is_nameless: bool,
    now: SystemTime,
    faults: &mut Vec<Fault>,
) {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if validity.not_after.timestamp() < now {
        let what = format!("has expired: {}", validity.not_after);
        faults.push(Fault::warning(&files.cert, &what, "clients refuse it; renew it and reload"));
    }
    if validity.not_before.timestamp() > now {
        let what = format!("is not valid yet: {}", validity.not_before);
        faults.push(Fault::warning(
            &files.cert,
            &what,
            "clients refuse it until then; look at this machine's clock",
        ));
    }
    if is_nameless {
        let what = "is for no host name";
        faults.push(Fault::warning(
            &files.cert,
            what,
            "nobody is ever shown it; give it subject alternative names",
        ));
    }
}

/// The host names a certificate is for, in lower case.
pub(super) fn hosts(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(host).collect()
}

fn contents(name: &'static str, file: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let help =
                "a relative path begins where evenkeel is started; without the file `run` and reload refuse";
            Fault { is_absence: true, ..Fault::new(name, file, "is not there", help) }
        }
        _ => {
            let help = "it must be readable for the user that evenkeel runs as";
            Fault::new(name, file, &format!("cannot be read: {error}"), help)
        }
    })
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = contents("cert", file)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = read.map_err(|error| {
        Fault::new(
            "cert",
            file,
            &format!("is not good PEM: {error}"),
            "write it anew from where you have it from",
        )
    })?;
    if chain.is_empty() {
        let help = "it must have a section that begins with `-----BEGIN CERTIFICATE-----`";
        return Err(Fault::new("cert", file, "holds no certificate", help));
    }
    Ok(chain)
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let bytes = contents("key", file)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        // PKCS#8 says so in its title, the older formats in a field (RFC 1421 section 4.6.1.1).
        let is_encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
        if is_encrypted.iter().any(|mark| bytes.windows(mark.len()).any(|part| part == *mark)) {
            let file_name = file.display();
            let help = format!(
                "decrypt it: `openssl pkey -in {file_name} -out plain.key`, and let only evenkeel's user read that"
            );
            return Fault::new("key", file, "is encrypted, and nobody is there to type its password", help);
        }
        let help = "it must have a section that begins with `-----BEGIN PRIVATE KEY-----` (or `EC` or `RSA` before `PRIVATE`)";
        Fault::new("key", file, "holds no private key", help)
    })
}
