//! A listener's TLS: where its certificates are, and what it asks of clients. The files are read elsewhere (room `tls`).

use super::acme;
use super::keys;
use super::names::Once;
use super::plan::{Certificate, Tls, TlsVersion};
use super::problem::{Fault, quoted};
use super::section::Section;
use super::tree::Scalar;
use std::path::PathBuf;

pub(super) fn tls(section: Section<'_>) -> Tls {
    let acme = acme::names(&section);
    Tls {
        certificates: certificates(&section, acme.is_some()),
        acme: acme.unwrap_or_default(),
        min_version: section.choice("min_version", &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)]),
    }
}

fn certificates(section: &Section<'_>, has_others: bool) -> Vec<Certificate> {
    const EXAMPLE: &str = "`certificates: [{ cert: shop.pem, key: shop.key }]`";
    let Some(at) = section.get("certificates") else {
        if !has_others {
            let help = format!("add {EXAMPLE}, or `acme: {{ names: [shop.example] }}`");
            section.at.refuse_key(Fault::new("has no certificate", help));
        }
        return Vec::new();
    };
    let Some(items) = at.items() else { return Vec::new() };
    if items.len() == 0 {
        at.refuse_key(Fault::new("is empty", format!("write at least one, like {EXAMPLE}")));
    }
    let mut taken = Once::default();
    items
        .filter_map(|item| {
            let section = item.section(keys::CERTIFICATE)?;
            let cert = section.required("cert", path);
            let key = section.required("key", path);
            let cert = cert?;
            if let Some(line) = taken.seen(cert.clone(), item.line()) {
                let again = format!("{} is there already", quoted(&cert.to_string_lossy()));
                item.refuse(Fault::new(again, format!("see line {line}; keep one of them")));
            }
            Some(Certificate { cert, key: key? })
        })
        .collect()
}

fn path(scalar: &Scalar<'_>) -> Result<PathBuf, Fault> {
    match &*scalar.text {
        "" => Err(Fault::new("is empty", "write the path of a file")),
        path if path.ends_with('/') => {
            Err(Fault::new(format!("{} is a directory", quoted(path)), "write the path of a file"))
        }
        path => Ok(PathBuf::from(path)),
    }
}
