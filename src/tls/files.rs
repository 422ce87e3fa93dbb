//! Reads certificates and keys, and says what is wrong with them before a client would.

use super::Expiry;
use super::clients::Authorities;
use super::names::Names;
use super::pem;
use super::servers;
use super::staple::Staple;
use crate::config::plan::{Certificate, Name, Plan};
use crate::config::{self, Problem, Severity, Spot};
use crate::origination::Material;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// A listener's certificates, ready for use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificates {
    pub(super) names: Names,
    pub(super) expiries: Vec<Expiry>,
    pub(super) staples: Vec<Expiry>,
    /// `None` asks clients for no certificate.
    pub(super) clients: Option<Authorities>,
}

/// What is wrong with a file.
#[derive(Debug)]
pub(super) struct Fault {
    severity: Severity,
    /// The key that names the file: `cert`, `key`, `ocsp` or `client_ca`.
    key: &'static str,
    message: String,
    help: String,
    /// There is no such file.
    is_absence: bool,
}

impl Fault {
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

/// What a plan's files hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// By the listener's place in the plan; `None` is no TLS.
    pub(crate) listeners: Vec<Option<Certificates>>,
    /// By the pool's place in the plan; `None` is plain text.
    pub(crate) pools: Vec<Option<Material>>,
}

/// What a plan's files hold, and what is wrong with them. `text` is what the plan was read from.
pub(crate) fn read(plan: &Plan, text: &str, now: SystemTime) -> (Files, Vec<Problem>) {
    read_all(plan, text, now, Severity::Error)
}

/// The same for a look at a configuration without using it. Files that are absent are worth a warning only: keys are
/// seldom where configurations are checked.
pub(crate) fn check(plan: &Plan, text: &str) -> Vec<Problem> {
    read_all(plan, text, SystemTime::now(), Severity::Warning).1
}

fn read_all(plan: &Plan, text: &str, now: SystemTime, absent: Severity) -> (Files, Vec<Problem>) {
    let mut found = Vec::new();
    let mut note = |faults: Vec<Fault>, owner: Owner<'_>| {
        for mut fault in faults {
            if fault.is_absence {
                fault.severity = absent;
            }
            found.push(Found { steps: owner.steps(&fault), path: owner.path(&fault), fault });
        }
    };
    let mut files = Files::default();
    for listener in &plan.listeners {
        files.listeners.push(listener.tls.as_ref().map(|tls| {
            let mut all = Certificates::default();
            for (index, certificate) in tls.certificates.iter().enumerate() {
                let mut faults = Vec::new();
                all.add(certificate, now, &mut faults);
                note(faults, Owner::Certificate(&listener.name, index));
            }
            if let Some(client_ca) = &tls.client_ca {
                let mut faults = Vec::new();
                all.clients = Authorities::read(client_ca, now, &mut faults);
                note(faults, Owner::Listener(&listener.name));
            }
            all
        }));
    }
    for pool in &plan.pools {
        let mut faults = Vec::new();
        files.pools.push(pool.tls.as_ref().and_then(|tls| servers::read(tls, &mut faults)));
        note(faults, Owner::Pool(&pool.name));
    }
    (files, placed(found, text))
}

/// Where in the configuration a file is named.
#[derive(Clone, Copy)]
enum Owner<'a> {
    /// One of a listener's certificates.
    Certificate(&'a Name, usize),
    /// A listener's own file.
    Listener(&'a Name),
    Pool(&'a Name),
}

impl Owner<'_> {
    fn path(&self, fault: &Fault) -> String {
        let key = fault.key;
        match self {
            Self::Certificate(name, index) => format!("listeners.{name}.tls.certificates[{index}].{key}"),
            Self::Listener(name) => format!("listeners.{name}.tls.{key}"),
            Self::Pool(name) => format!("pools.{name}.tls.{key}"),
        }
    }

    fn steps(&self, fault: &Fault) -> [String; 6] {
        let key = fault.key;
        let index = match self {
            Self::Certificate(_, index) => index.to_string(),
            Self::Listener(_) | Self::Pool(_) => String::new(),
        };
        match self {
            Self::Certificate(name, _) => ["listeners", name, "tls", "certificates", &index, key],
            // Where the key has a section, its file is below.
            Self::Listener(name) => ["listeners", name, "tls", key, "file", ""],
            Self::Pool(name) => ["pools", name, "tls", key, "", ""],
        }
        .map(str::to_owned)
    }
}

/// A fault with the place that it has in the configuration.
struct Found {
    fault: Fault,
    path: String,
    steps: [String; 6],
}

/// As problems at their places.
fn placed(found: Vec<Found>, text: &str) -> Vec<Problem> {
    if found.is_empty() {
        return Vec::new();
    }
    let all: Vec<[&str; 6]> = found.iter().map(|found| found.steps.each_ref().map(String::as_str)).collect();
    let spots = config::locate(text, &all);
    let problem = |(Found { fault, path, .. }, spot): (Found, Spot)| Problem {
        severity: fault.severity,
        path,
        spot,
        message: fault.message,
        help: Some(fault.help),
    };
    found.into_iter().zip(spots).map(problem).collect()
}

impl Certificates {
    fn add(&mut self, files: &Certificate, now: SystemTime, faults: &mut Vec<Fault>) {
        let Some(key) = certified(files, faults) else { return };
        let first = key.cert[0].clone();
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&first) else { return };
        let names = hosts(&parsed);
        warn(files, &parsed, names.is_empty() && !self.expiries.is_empty(), now, faults);
        let at = parsed.validity().not_after.timestamp();
        self.expiries.push(Expiry { certificate: files.cert.display().to_string(), at });
        self.names.add(&key, &names);
        let staple = files.ocsp.as_ref().and_then(|ocsp| Staple::read(ocsp, &parsed, now, faults));
        if let Some(staple) = staple {
            let of = |at| Expiry { certificate: files.cert.display().to_string(), at };
            self.staples.extend(staple.until.map(of));
            self.names.staple(&key, staple);
        }
    }
}

/// A certificate with its key, ready to be shown.
pub(super) fn certified(files: &Certificate, faults: &mut Vec<Fault>) -> Option<Arc<CertifiedKey>> {
    let chain = chain("cert", &files.cert).map_err(|fault| faults.push(fault));
    let key = key(&files.key).map_err(|fault| faults.push(fault));
    let (Ok(chain), Ok(key)) = (chain, key) else { return None };
    if x509_parser::parse_x509_certificate(&chain[0]).is_err() {
        let help = "write it anew from where you have it from";
        faults.push(Fault::new("cert", &files.cert, "holds something that is no X.509 certificate", help));
        return None;
    }
    let key = match aws_lc_rs::sign::any_supported_type(&key) {
        Ok(key) => Arc::new(CertifiedKey::new(chain, key)),
        Err(_) => {
            let help = "use ECDSA (P-256, P-384), RSA of 2048 bits or more, or Ed25519";
            faults.push(Fault::new("key", &files.key, "holds a key of a kind that is not supported", help));
            return None;
        }
    };
    match key.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            let what = format!("is not the key of the first certificate in {}", files.cert.display());
            let help =
                "name the key that it was made with; the server's own certificate comes first in its file";
            faults.push(Fault::new("key", &files.key, &what, help));
            return None;
        }
        Err(error) => {
            let help = "use a certificate of version 3 with subject alternative names";
            faults.push(Fault::new("cert", &files.cert, &format!("cannot be used: {error}"), help));
            return None;
        }
    }
    Some(key)
}

/// Says what makes a certificate unfit that could be used.
fn warn(
    files: &Certificate,
    parsed: &X509Certificate<'_>,
    is_nameless: bool,
    now: SystemTime,
    faults: &mut Vec<Fault>,
) {
    let validity = parsed.validity();
    if is_over(parsed, now) {
        let what = format!("has expired: {}", validity.not_after);
        faults.push(Fault::warning("cert", &files.cert, &what, "clients refuse it; renew it and reload"));
    }
    if validity.not_before.timestamp() > seconds(now) {
        let what = format!("is not valid yet: {}", validity.not_before);
        faults.push(Fault::warning(
            "cert",
            &files.cert,
            &what,
            "clients refuse it until then; look at this machine's clock",
        ));
    }
    if is_nameless {
        let what = "is for no host name";
        faults.push(Fault::warning(
            "cert",
            &files.cert,
            what,
            "nobody is ever shown it; give it subject alternative names",
        ));
    }
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

/// The host names a certificate is for, in lower case.
pub(super) fn hosts(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(host).collect()
}

pub(super) fn contents(name: &'static str, file: &Path) -> Result<Vec<u8>, Fault> {
    crate::files::read(file).map_err(|error| match error.kind() {
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

/// The certificates in a file, at least one.
pub(super) fn chain(name: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let bytes = contents(name, file)?;
    let chain = pem::certificates(&bytes)
        .map_err(|what| Fault::new(name, file, &what, "write it anew from where you have it from"))?;
    if chain.is_empty() {
        let help = "it must have a section that begins with `-----BEGIN CERTIFICATE-----`";
        return Err(Fault::new(name, file, "holds no certificate", help));
    }
    Ok(chain)
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let bytes = contents("key", file)?;
    pem::private_key(&bytes).ok_or_else(|| {
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
