//! A listener's TLS: where its certificates are, and what it asks of clients. The files are read elsewhere (room `tls`).

use super::acme;
use super::health::server_name;
use super::keys::{self, KeyKind};
use super::names::Once;
use super::plan::{Certificate, ClientCa, ServerTls, Tls, TlsVersion};
use super::problem::{Fault, quoted};
use super::section::{Section, out_of_range};
use super::tree::Scalar;
use crate::units;
use std::path::PathBuf;
use std::time::Duration;

/// What lists of browsers ask for (hstspreload.org).
const YEAR: Duration = Duration::from_secs(365 * 86_400);

pub(super) const TLS_VERSIONS: [(&str, TlsVersion); 2] =
    [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

pub(super) fn tls(section: Section<'_>) -> Tls {
    let acme = acme::names(&section);
    Tls {
        certificates: certificates(&section, acme.is_some()),
        acme: acme.unwrap_or_default(),
        min_version: section.choice("min_version", &TLS_VERSIONS),
        client_ca: client_ca(&section),
        hsts: hsts(&section),
    }
}

/// TLS towards servers.
pub(super) fn to_servers(section: Section<'_>) -> ServerTls {
    let server_name = section.nullable("server_name", server_name);
    let ca = section.nullable("ca", path);
    let (cert, key) = (section.nullable("cert", path), section.nullable("key", path));
    let verify = section.flag("verify");
    for (name, other, is_alone) in
        [("cert", "key", cert.is_some() && key.is_none()), ("key", "cert", key.is_some() && cert.is_none())]
    {
        if let Some(at) = section.get(name).filter(|_| is_alone) {
            at.refuse_key(Fault::new(
                format!("is given without `{other}`"),
                format!("add `{other}`, or remove `{name}`"),
            ));
        }
    }
    if !verify && let Some(at) = section.get("verify") {
        at.warn(Fault::new(
            "anybody between here and the servers can read and change what passes",
            "name who signs their certificates, like `ca: internal-ca.pem`, and remove `verify: false`",
        ));
        if let Some(at) = section.get("ca").filter(|_| ca.is_some()) {
            at.refuse_key(Fault::new("is of no use with `verify: false`", "remove one of the two"));
        }
    }
    ServerTls { server_name, ca, identity: cert.zip(key), verify }
}

/// The field of RFC 6797 section 6.1; a duration alone is its `max-age`.
fn hsts(section: &Section<'_>) -> Option<String> {
    let at = section.get("hsts").filter(|at| !at.is_null())?;
    let seconds = |max_age: Duration| format!("max-age={}", max_age.as_secs());
    if at.is_scalar() {
        return at.scalar(&"a duration, like `365d`", max_age).map(seconds);
    }
    section.section("hsts", |hsts| {
        let max_age = hsts.duration("max_age");
        let mut value = seconds(max_age);
        let (below, preload) = (hsts.flag("include_subdomains"), hsts.flag("preload"));
        if below {
            value.push_str("; includeSubDomains");
        }
        if preload {
            value.push_str("; preload");
            if let Some(at) = hsts.get("preload").filter(|_| !below || max_age < YEAR) {
                at.warn(Fault::new(
                    "browsers' lists take no such site",
                    "add `include_subdomains: true` and a `max_age` of `365d` at least",
                ));
            }
        }
        value
    })
}

fn max_age(scalar: &Scalar<'_>) -> Result<Duration, Fault> {
    let KeyKind::Duration(least, most) = keys::HSTS_MAX_AGE else { unreachable!("it is a duration") };
    match units::duration(&scalar.text).map_err(Fault::from)? {
        age if (least..=most).contains(&age) => Ok(age),
        _ => Err(out_of_range(scalar, &keys::HSTS_MAX_AGE)),
    }
}

/// A path alone requires a certificate of every client.
fn client_ca(section: &Section<'_>) -> Option<ClientCa> {
    let at = section.get("client_ca").filter(|at| !at.is_null())?;
    if at.is_scalar() {
        let file = at.scalar(&"the path of a PEM file", path)?;
        return Some(ClientCa { file, is_required: true });
    }
    section.section("client_ca", |section| {
        let (file, is_required) = (section.required("file", path), section.flag("required"));
        Some(ClientCa { file: file?, is_required })
    })?
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
            let ocsp = section.nullable("ocsp", path);
            let cert = cert?;
            if let Some(line) = taken.seen(cert.clone(), item.line()) {
                let again = format!("{} is there already", quoted(&cert.to_string_lossy()));
                item.refuse(Fault::new(again, format!("see line {line}; keep one of them")));
            }
            Some(Certificate { cert, key: key?, ocsp })
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
