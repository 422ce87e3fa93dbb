//! The files that `acme` names: read when a configuration is, so that what is wrong with them is told then.

use crate::config::plan::{self, Plan};
use crate::config::{self, Problem, Severity};
use crate::tls::pem;
use data_encoding::BASE64URL_NOPAD;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use xxhash_rust::xxh3::xxh3_64;

/// What is needed to speak with the authority.
#[derive(Clone, Debug)]
pub(crate) struct Material {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) hmac_key: Option<Arc<[u8]>>,
    /// Of the file `ca`: another is to be used from the next order on.
    pub(super) ca: u64,
}

/// What is wrong with a file, and whether it is only that there is none.
struct MaterialFault {
    /// Below `acme`.
    key: &'static [&'static str],
    message: String,
    help: &'static str,
    is_absence: bool,
}

/// Reads the files that a plan's `acme` names. `text` is what the plan was read from.
pub(crate) fn read(plan: &Plan, text: &str) -> Result<Option<Material>, Vec<Problem>> {
    let Some(acme) = &plan.acme else { return Ok(None) };
    material(acme).map(Some).map_err(|faults| placed(faults, text, Severity::Error))
}

/// The same for a look at a configuration without using it: absent files are worth a warning only.
pub(crate) fn check(plan: &Plan, text: &str) -> Vec<Problem> {
    let faults = plan.acme.as_ref().and_then(|acme| material(acme).err());
    placed(faults.unwrap_or_default(), text, Severity::Warning)
}

fn placed(faults: Vec<MaterialFault>, text: &str, absent: Severity) -> Vec<Problem> {
    let problem = |fault: MaterialFault| {
        let spot = match fault.key {
            [key] => config::locate(text, &[["acme", key]]),
            [section, key, ..] => config::locate(text, &[["acme", section, key]]),
            [] => config::locate(text, &[["acme"]]),
        };
        Problem {
            severity: if fault.is_absence { absent } else { Severity::Error },
            path: format!("acme.{}", fault.key.join(".")),
            spot: spot.first().copied().unwrap_or_default(),
            message: fault.message,
            help: Some(fault.help.to_owned()),
        }
    };
    faults.into_iter().map(problem).collect()
}

fn material(acme: &plan::AcmePlan) -> Result<Material, Vec<MaterialFault>> {
    let mut faults = Vec::new();
    let roots = roots(acme.ca.as_deref()).map_err(|fault| faults.push(fault));
    let hmac_key = acme.external_account.as_ref().map(|account| hmac_key(&account.hmac_key_file)).transpose();
    let hmac_key = hmac_key.map_err(|fault| faults.push(fault));
    faults.extend(no_directory(&acme.storage));
    let (Ok((roots, ca)), Ok(hmac_key), []) = (roots, hmac_key, &*faults) else { return Err(faults) };
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth());
    match config {
        Ok(tls) => Ok(Material { tls: Arc::new(tls), hmac_key, ca }),
        Err(error) => Err(vec![MaterialFault {
            key: &[],
            message: format!("TLS with the authority cannot be set up: {error}"),
            help: "this is a fault of evenkeel's own",
            is_absence: false,
        }]),
    }
}

fn contents(key: &'static [&'static str], file: &Path) -> Result<Vec<u8>, MaterialFault> {
    crate::files::read(file).map_err(|error| {
        let is_absence = error.kind() == ErrorKind::NotFound;
        let (what, help) = if is_absence {
            ("is not there".to_owned(), "a relative path begins where evenkeel is started")
        } else {
            (format!("cannot be read: {error}"), "it must be readable for the user that evenkeel runs as")
        };
        MaterialFault { key, message: format!("{} {what}", file.display()), help, is_absence }
    })
}

/// The storage is made when it is needed, but not in the place of something else.
fn no_directory(storage: &Path) -> Option<MaterialFault> {
    let is_other = std::fs::metadata(storage).is_ok_and(|found| !found.is_dir());
    is_other.then(|| MaterialFault {
        key: &["storage"],
        message: format!("{} is not a directory", storage.display()),
        help: "name a directory; it is made if there is none",
        is_absence: false,
    })
}

/// Whom the authority's server must have its certificate from, and a digest of the file that says so.
fn roots(ca: Option<&Path>) -> Result<(RootCertStore, u64), MaterialFault> {
    let mut roots = RootCertStore::empty();
    let key: &[&str] = &["ca"];
    let Some(file) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(MaterialFault {
                key,
                message: "this machine has no certificate authorities to know the directory's server by"
                    .to_owned(),
                help: "install the package `ca-certificates`, or name a file with them here",
                is_absence: true,
            });
        }
        return Ok((roots, 0));
    };
    let bytes = contents(key, file)?;
    let found = pem::certificates(&bytes);
    let added =
        found.ok().filter(|found| !found.is_empty()).map(|found| roots.add_parsable_certificates(found));
    match added {
        Some((1.., 0)) => Ok((roots, xxh3_64(&bytes))),
        _ => Err(MaterialFault {
            key,
            message: format!("{} is not PEM of certificates", file.display()),
            help: "it must have sections that begin with `-----BEGIN CERTIFICATE-----`",
            is_absence: false,
        }),
    }
}

/// RFC 8555 section 7.3.4: base64url, with or without padding.
fn hmac_key(file: &Path) -> Result<Arc<[u8]>, MaterialFault> {
    const KEY: &[&str] = &["external_account", "hmac_key_file"];
    let bytes = contents(KEY, file)?;
    // Some authorities write the older alphabet.
    let text = String::from_utf8_lossy(&bytes).replace('+', "-").replace('/', "_");
    match BASE64URL_NOPAD.decode(text.trim().trim_end_matches('=').as_bytes()) {
        Ok(key) if !key.is_empty() => Ok(key.into()),
        _ => Err(MaterialFault {
            key: KEY,
            message: format!("{} does not hold a key in base64", file.display()),
            help: "write the key there as the authority shows it, and nothing else",
            is_absence: false,
        }),
    }
}
