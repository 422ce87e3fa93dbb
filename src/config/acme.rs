//! Certificates from an authority: which one, for which names, and whether it could reach us to see that they are ours.

use super::keys;
use super::names::Once;
use super::place::At;
use super::plan::{AcmeChallenge, AcmePlan, ExternalAccount, ListenerPlan, Name, Protocol};
use super::problem::{Fault, quoted};
use super::section::Section;
use super::tree::Scalar;
use crate::units::Address;
use http::Uri;
use std::net::IpAddr;
use std::path::PathBuf;

/// More names of one listener are for wildcards: each is an order, and authorities count those.
const MOST_NAMES: usize = 1000;

pub(super) const CHALLENGES: [(&str, AcmeChallenge); 2] =
    [("tls_alpn_01", AcmeChallenge::TlsAlpn01), ("http_01", AcmeChallenge::Http01)];

/// The authority, if the file names one.
pub(super) fn acme(file: &Section<'_>) -> Option<AcmePlan> {
    let at = file.get("acme").filter(|at| !at.is_null())?;
    let section = at.section(keys::ACME)?;
    accept_terms(&section);
    let external_account = match section.get("external_account") {
        Some(at) if !at.is_null() => section.section("external_account", external_account).flatten(),
        _ => None,
    };
    Some(AcmePlan {
        directory: section.value("directory", directory),
        contact: contact(&section),
        challenge: section.choice("challenge", &CHALLENGES),
        storage: section.value("storage", path),
        ca: section.nullable("ca", path),
        external_account,
    })
}

/// Nobody but the operator can agree to an authority's terms.
fn accept_terms(section: &Section<'_>) {
    let help = "read the authority's terms, then write `accept_terms: true`";
    match section.get("accept_terms") {
        None => section.at.refuse_key(Fault::new("`accept_terms` is missing", help)),
        Some(at) => {
            let accepted = at.scalar(&"`true`", |scalar| {
                scalar.as_bool().ok_or_else(|| {
                    Fault::new(format!("{} is not true or false", quoted(&scalar.text)), "write `true`")
                })
            });
            if accepted == Some(false) {
                at.refuse(Fault::new("without that no authority gives certificates", help));
            }
        }
    }
}

fn directory(scalar: &Scalar<'_>) -> Result<String, Fault> {
    let example = "write it like `https://acme-v02.api.letsencrypt.org/directory`";
    let bad = || Fault::new(format!("{} is not a URL", quoted(&scalar.text)), example);
    let url: Uri = scalar.text.parse().map_err(|_| bad())?;
    match url.scheme_str() {
        Some("https") if url.host().is_some_and(|host| !host.is_empty()) => Ok(scalar.text.to_string()),
        // RFC 8555 section 6.1.
        Some("http") => Err(Fault::new(
            format!("{} is not secure, and ACME is spoken over HTTPS only", quoted(&scalar.text)),
            example,
        )),
        _ => Err(bad()),
    }
}

fn contact(section: &Section<'_>) -> Vec<String> {
    let read = |item: At<'_>| item.scalar(&"an address like `mailto:ops@shop.example`", mail);
    let Some(at) = section.get("contact") else { return Vec::new() };
    at.items().map(|items| items.filter_map(read).collect()).unwrap_or_default()
}

fn mail(scalar: &Scalar<'_>) -> Result<String, Fault> {
    let text = &*scalar.text;
    let example = "write it like `mailto:ops@shop.example`";
    match text.strip_prefix("mailto:") {
        Some(address) if is_mail(address) => Ok(text.to_owned()),
        None if is_mail(text) => {
            Err(Fault::new(format!("{} is not a URL", quoted(text)), format!("write `mailto:{text}`")))
        }
        _ => Err(Fault::new(format!("{} is no `mailto:` address", quoted(text)), example)),
    }
}

/// RFC 8555 section 7.3: one address, without fields.
fn is_mail(text: &str) -> bool {
    let unfit = |c: char| c.is_whitespace() || c.is_control() || ",?<>".contains(c);
    matches!(text.split_once('@'), Some((user, host)) if !user.is_empty() && !host.is_empty())
        && !text.contains(unfit)
}

fn external_account(section: Section<'_>) -> Option<ExternalAccount> {
    let key_id = section.required("key_id", |scalar| match &*scalar.text {
        "" => Err(Fault::new("is empty", "write the name that the authority gave the key")),
        text => Ok(text.to_owned()),
    });
    let hmac_key_file = section.required("hmac_key_file", path);
    Some(ExternalAccount { key_id: key_id?, hmac_key_file: hmac_key_file? })
}

fn path(scalar: &Scalar<'_>) -> Result<PathBuf, Fault> {
    match &*scalar.text {
        "" => Err(Fault::new("is empty", "write a path")),
        path => Ok(PathBuf::from(path)),
    }
}

/// The names of a listener's `tls.acme`; `None` when there is no such section.
pub(super) fn names(tls: &Section<'_>) -> Option<Vec<Name>> {
    tls.get("acme").filter(|at| !at.is_null())?;
    Some(tls.section("acme", list).unwrap_or_default())
}

fn list(section: Section<'_>) -> Vec<Name> {
    const EXAMPLE: &str = "`names: [shop.example]`";
    let Some(at) = section.get("names") else {
        section.at.refuse_key(Fault::new("has no names", format!("add {EXAMPLE}")));
        return Vec::new();
    };
    let Some(items) = at.items() else { return Vec::new() };
    match items.len() {
        0 => at.refuse_key(Fault::new("is empty", format!("write at least one, like {EXAMPLE}"))),
        many if many > MOST_NAMES => at.refuse_key(Fault::new(
            format!("has {many} names, and {MOST_NAMES} are allowed"),
            "use a wildcard certificate from files for some of these",
        )),
        _ => {}
    }
    let mut taken = Once::default();
    let mut read = |item: At<'_>| {
        let name = item.scalar(&"a host name like `shop.example`", host)?;
        if let Some(line) = taken.seen(name.clone(), item.line()) {
            let again = format!("{} is there already", quoted(&name));
            item.refuse(Fault::new(again, format!("see line {line}; keep one of them")));
        }
        Some(Name::from(name))
    };
    items.filter_map(&mut read).collect()
}

/// A name that an authority can ask for by its own (RFC 8555 section 7.1.3).
fn host(scalar: &Scalar<'_>) -> Result<String, Fault> {
    let text = scalar.text.to_ascii_lowercase();
    if text.starts_with("*.") {
        return Err(Fault::new(
            format!("{} is a wildcard, which authorities give for DNS-01 challenges only", quoted(&text)),
            "name each host, or get it by other means and put it under `certificates`",
        ));
    }
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(Fault::new(
            format!("{} is an address", quoted(&text)),
            "write a host name; put certificates for addresses under `certificates`",
        ));
    }
    if !text.is_ascii() {
        return Err(Fault::new(
            format!("{} is not in ASCII", quoted(&text)),
            "write it as DNS has it, like `xn--shp-1na.example`",
        ));
    }
    let label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.trim_end_matches('.');
    if name.len() > 253 || !name.split('.').all(label) {
        let example = "write it like `shop.example`, without scheme and port";
        return Err(Fault::new(format!("{} is not a host name", quoted(&text)), example));
    }
    Ok(name.to_owned())
}

/// What only shows with all of the file read: that names have an authority, and that it could reach us.
pub(super) fn check(file: &Section<'_>, acme: Option<&AcmePlan>, listeners: &[ListenerPlan]) {
    let mut named =
        listeners.iter().filter(|listener| listener.tls.as_ref().is_some_and(|tls| !tls.acme.is_empty()));
    let Some(at) = file.get("acme").filter(|at| !at.is_null()) else {
        if let Some(listener) = named.next() {
            file.at.refuse_key(Fault::new(
                format!("the listener {} has `tls.acme`, and there is no authority", quoted(&listener.name)),
                "add `acme: { accept_terms: true }` for Let's Encrypt, once you have read its terms",
            ));
        }
        return;
    };
    // Whatever is wrong with listeners would be told a second time here.
    let Some(acme) = acme.filter(|_| at.errors() == 0) else { return };
    let named: Vec<_> = named.collect();
    if named.is_empty() {
        at.warn(Fault::new("no listener has `tls.acme`", "remove it, or name hosts in a listener's `tls`"));
        return;
    }
    let is_on = |listener: &ListenerPlan, port: u16| {
        listener.addresses.iter().any(|at| matches!(at, Address::Inet(address) if address.port() == port))
    };
    let turns_away = |listener: &&ListenerPlan| {
        let clients = listener.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
        clients.is_some_and(|clients| clients.is_required)
    };
    match acme.challenge {
        AcmeChallenge::TlsAlpn01 if named.iter().all(turns_away) => at.refuse_key(Fault::new(
            "every listener with `tls.acme` requires certificates of clients, and the authority shows none",
            "use `challenge: http_01`, or `required: false` in a `client_ca`",
        )),
        AcmeChallenge::TlsAlpn01 if !named.iter().any(|listener| is_on(listener, 443)) => {
            at.warn(Fault::new(
                "no listener with `tls.acme` is on port 443, where the authority asks",
                "see that what arrives there is passed on to one, as it came, or use `challenge: http_01`",
            ))
        }
        AcmeChallenge::Http01 => {
            let is_plain =
                |listener: &&ListenerPlan| listener.protocol == Protocol::Http && listener.tls.is_none();
            let mut plain = listeners.iter().filter(is_plain).peekable();
            if plain.peek().is_none() {
                at.refuse_key(Fault::new(
                    "`challenge: http_01` needs a listener for HTTP without `tls`",
                    "add one, like `http: { address: 0.0.0.0:80, redirect_to_https: true }`, or use `tls_alpn_01`",
                ));
            } else if !plain.any(|listener| is_on(listener, 80)) {
                at.warn(Fault::new(
                    "no listener for HTTP is on port 80, where the authority asks",
                    "see that what arrives there is passed on to one, or use `challenge: tls_alpn_01`",
                ));
            }
        }
        AcmeChallenge::TlsAlpn01 => {}
    }
}
