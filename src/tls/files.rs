//! Reads the files that a configuration names for TLS, and says where it names one that is of no use before a client would.

use super::Expiry;
use super::certificate_file::{FileFault, certified, is_over, seconds};
use super::clients::ClientAuthorities;
use super::names::CertificateNames;
use super::servers;
use super::staple::Staple;
use crate::config::plan::{Certificate, Name, Plan};
use crate::config::{self, Problem, Severity, Spot};
use crate::origination::OriginationMaterial;
use std::time::SystemTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// A listener's certificates, ready for use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificates {
    pub(super) names: CertificateNames,
    pub(super) expiries: Vec<Expiry>,
    pub(super) staples: Vec<Expiry>,
    /// `None` asks clients for no certificate.
    pub(super) clients: Option<ClientAuthorities>,
}

/// What a plan's files hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// By the listener's place in the plan; `None` is no TLS.
    pub(crate) listeners: Vec<Option<Certificates>>,
    /// By the pool's place in the plan; `None` is plain text.
    pub(crate) pools: Vec<Option<OriginationMaterial>>,
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
    let mut note = |faults: Vec<FileFault>, owner: Owner<'_>| {
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
                all.clients = ClientAuthorities::read(client_ca, now, &mut faults);
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
    fn path(&self, fault: &FileFault) -> String {
        let key = fault.key;
        match self {
            Self::Certificate(name, index) => format!("listeners.{name}.tls.certificates[{index}].{key}"),
            Self::Listener(name) => format!("listeners.{name}.tls.{key}"),
            Self::Pool(name) => format!("pools.{name}.tls.{key}"),
        }
    }

    fn steps(&self, fault: &FileFault) -> [String; 6] {
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
    fault: FileFault,
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
    fn add(&mut self, files: &Certificate, now: SystemTime, faults: &mut Vec<FileFault>) {
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

/// Says what makes a certificate unfit that could be used.
fn warn(
    files: &Certificate,
    parsed: &X509Certificate<'_>,
    is_nameless: bool,
    now: SystemTime,
    faults: &mut Vec<FileFault>,
) {
    let validity = parsed.validity();
    if is_over(parsed, now) {
        let what = format!("has expired: {}", validity.not_after);
        faults.push(FileFault::warning("cert", &files.cert, &what, "clients refuse it; renew it and reload"));
    }
    if validity.not_before.timestamp() > seconds(now) {
        let what = format!("is not valid yet: {}", validity.not_before);
        faults.push(FileFault::warning(
            "cert",
            &files.cert,
            &what,
            "clients refuse it until then; look at this machine's clock",
        ));
    }
    if is_nameless {
        let what = "is for no host name";
        faults.push(FileFault::warning(
            "cert",
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
