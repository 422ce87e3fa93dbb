//! Who the client is, and what servers are told of it: X-Forwarded-For, -Proto and -Host, Forwarded
//! (RFC 7239) and X-Request-Id; and who the client is by its certificate: Client-Cert (RFC 9440).
//!
//! Only a trusted proxy's word is taken and added to; anybody else's is replaced or removed, or a client could
//! give itself any address. Of a certificate nobody's word is taken: what says so in a request ends here, whatever the
//! listener, since a server cannot tell by which one a request came. Nor is any word in another spelling: application
//! servers make one variable of `X-Forwarded-For` and `X_Forwarded_For`.

use super::forwarded::{self, Element};
use crate::edge::Client;
use crate::fields::Fields;
use crate::tls::Identity;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use std::borrow::Cow;
use std::net::IpAddr;

// Parsed once: a name given as text is parsed at each use.
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static FORWARDED: HeaderName = header::FORWARDED;
static CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
static CLIENT_CERT_SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
static CLIENT_CERT_FINGERPRINT: HeaderName = HeaderName::from_static("x-client-cert-fingerprint");

/// The client as seen through trusted proxies: the last address of X-Forwarded-For, or of Forwarded where that is all
/// there is, that is not one of theirs. `None` when the peer itself is the client.
pub(super) fn real_client(peer: Option<IpAddr>, trusted: &[IpNet], fields: &impl Fields) -> Option<IpAddr> {
    if !is_trusted(peer, trusted) {
        return None;
    }
    if fields.first(&X_FORWARDED_FOR).is_none() {
        let value = joined(fields, &FORWARDED)?;
        return client_element(&forwarded::elements(&value)?, trusted)?.client;
    }
    let mut client = None;
    for value in fields.all(&X_FORWARDED_FOR).rev() {
        let Ok(value) = std::str::from_utf8(value) else { break };
        for part in value.rsplit(',') {
            let Some(address) = address(part.trim()) else { return client };
            client = Some(address);
            if !trusted.iter().any(|network| network.contains(&address)) {
                return client;
            }
        }
    }
    client
}

/// What the proxy says that the client came to: the last element that is not about one of ours.
fn client_element<'a>(elements: &[Element<'a>], trusted: &[IpNet]) -> Option<Element<'a>> {
    let mut found = None;
    for element in elements.iter().rev() {
        let Some(client) = element.client else { return found };
        found = Some(*element);
        if !trusted.iter().any(|network| network.contains(&client)) {
            return found;
        }
    }
    found
}

/// `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1` or `[2001:db8::1]:80`.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address| address.to_canonical())
}

/// A unix socket's peer is on this machine, where only the operator can connect: its word is taken.
pub(super) fn is_trusted(peer: Option<IpAddr>, trusted: &[IpNet]) -> bool {
    peer.is_none_or(|peer| trusted.iter().any(|network| network.contains(&peer)))
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    /// `None` for a unix socket.
    pub(super) ip: Option<IpAddr>,
    /// The address as fields have it.
    pub(super) text: &'a str,
    /// Its connection is encrypted.
    pub(super) is_secure: bool,
    /// Who it is by its certificate.
    pub(super) identity: Option<&'a Identity>,
}

impl<'a> From<&'a Client> for Peer<'a> {
    fn from(client: &'a Client) -> Self {
        let (is_secure, identity) = (client.tls.is_some(), client.identity.as_deref());
        Self { ip: client.ip, text: &client.text, is_secure, identity }
    }
}

impl Peer<'_> {
    fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }
}

/// What becomes of a field of the request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tell<'a> {
    Keep,
    Remove,
    Set(Cow<'a, str>),
}

/// One field that tells a server of a request's way.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) name: &'static HeaderName,
    /// The name as HTTP/1 usually writes it.
    pub(super) title: &'static str,
    pub(super) tell: Tell<'a>,
}

/// Whose word a field may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It says nothing of who the client is and how it came.
    Anybodys,
    /// A trusted proxy's.
    Trusted,
    /// Ours alone: of certificates, and whatever could be taken for another field than it is.
    Ours,
}

/// Whose word a field of this name may be.
fn word(name: &[u8]) -> Word {
    const CERTIFICATE: [&[u8]; 4] =
        [b"client-cert", b"client-cert-chain", b"x-client-cert-subject", b"x-client-cert-fingerprint"];
    const WAY: [&[u8]; 3] = [b"forwarded", b"x-forwarded", b"x-real-ip"];
    const WAYS: &[u8] = b"x-forwarded-";
    const ID: &[u8] = b"x-request-id";
    const LONGEST: usize = 64;
    // Almost every field of every request ends here.
    match name {
        [b'c' | b'C' | b'f' | b'F', ..] => {}
        [b'x' | b'X', b'-' | b'_', b'f' | b'F' | b'r' | b'R' | b'c' | b'C', ..] => {}
        _ => return Word::Anybodys,
    }
    let mut plain = [0; LONGEST];
    let plain = &mut plain[..name.len().min(LONGEST)];
    for (plain, byte) in plain.iter_mut().zip(name) {
        *plain = if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    }
    let plain = &*plain;
    let is_respelt = name.contains(&b'_');
    match () {
        () if CERTIFICATE.contains(&plain) => Word::Ours,
        () if WAY.contains(&plain) || plain.starts_with(WAYS) => match is_respelt {
            true => Word::Ours,
            false => Word::Trusted,
        },
        () if plain == ID && is_respelt => Word::Ours,
        () => Word::Anybodys,
    }
}

/// Takes out of a request's trailers what is said in heads: that has been said there, and some servers join them.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    let is_told =
        |name: &&HeaderName| word(name.as_str().as_bytes()) != Word::Anybodys || **name == X_REQUEST_ID;
    let told: Vec<HeaderName> = trailers.keys().filter(is_told).cloned().collect();
    for name in told {
        trailers.remove(name);
    }
}

/// What a server is told of a request's way, and what becomes of what the client said of it.
#[derive(Debug)]
pub(super) struct Telling<'a> {
    pub(super) told: [Told<'a>; 8],
    is_believed: bool,
}

impl Telling<'_> {
    /// Whether a field of the client's goes on.
    pub(super) fn keeps(&self, name: &[u8]) -> bool {
        let is_replaced = |told: &Told<'_>| {
            told.tell != Tell::Keep && name.eq_ignore_ascii_case(told.name.as_str().as_bytes())
        };
        let may_say = match word(name) {
            Word::Anybodys => true,
            Word::Trusted => self.is_believed,
            Word::Ours => false,
        };
        may_say && !self.told.iter().any(is_replaced)
    }
}

/// The fields of a request for `host` from `peer` that tell a server of the way it came.
pub(super) fn tell<'a>(
    fields: &'a impl Fields,
    host: Option<&'a str>,
    peer: Peer<'a>,
    trusted: &[IpNet],
    id: &'a str,
) -> Telling<'a> {
    let is_believed = is_trusted(peer.ip, trusted);
    let before = Before::new(fields, is_believed, trusted);
    let forwarded_for = match (peer.ip, &before.addresses) {
        // A unix socket's peer has no address to add.
        (None, None) => Tell::Keep,
        (None, Some(before)) => Tell::Set(before.clone().into()),
        (Some(_), None) => Tell::Set(peer.text.into()),
        (Some(_), Some(before)) => Tell::Set(format!("{before}, {}", peer.text).into()),
    };
    let kept = |name| is_believed && fields.first(name).is_some();
    let proto = match &before.proto {
        _ if kept(&X_FORWARDED_PROTO) => Tell::Keep,
        Some(proto) => Tell::Set(proto.clone().into()),
        None => Tell::Set(peer.scheme().into()),
    };
    let told_host = match (&before.host, host) {
        _ if kept(&X_FORWARDED_HOST) => Tell::Keep,
        (Some(host), _) => Tell::Set(host.clone().into()),
        (None, Some(host)) => Tell::Set(host.into()),
        (None, None) => Tell::Remove,
    };
    let told = |name, title, tell| Told { name, title, tell };
    let identity = |of: fn(&'a Identity) -> &'a str| match peer.identity {
        Some(identity) => Tell::Set(of(identity).into()),
        None => Tell::Keep,
    };
    let told = [
        told(&X_FORWARDED_FOR, "X-Forwarded-For", forwarded_for),
        told(&X_FORWARDED_PROTO, "X-Forwarded-Proto", proto),
        told(&X_FORWARDED_HOST, "X-Forwarded-Host", told_host),
        told(&FORWARDED, "Forwarded", Tell::Set(forwarded_for_server(before.forwarded, peer, host).into())),
        told(&X_REQUEST_ID, "X-Request-Id", Tell::Set(id.into())),
        told(&CLIENT_CERT, "Client-Cert", identity(|identity| &identity.certificate)),
        told(&CLIENT_CERT_SUBJECT, "X-Client-Cert-Subject", identity(|identity| &identity.subject)),
        told(
            &CLIENT_CERT_FINGERPRINT,
            "X-Client-Cert-Fingerprint",
            identity(|identity| &identity.fingerprint),
        ),
    ];
    Telling { told, is_believed }
}

/// What trusted proxies have said of a request's way.
#[derive(Debug, Default)]
struct Before {
    /// As X-Forwarded-For has them.
    addresses: Option<String>,
    /// As Forwarded has all of it.
    forwarded: Option<String>,
    /// Of Forwarded, for a server that looks for the other fields.
    proto: Option<String>,
    host: Option<String>,
}

impl Before {
    fn new(fields: &impl Fields, is_believed: bool, trusted: &[IpNet]) -> Self {
        if !is_believed {
            return Self::default();
        }
        let addresses = joined(fields, &X_FORWARDED_FOR);
        let forwarded = joined(fields, &FORWARDED);
        let elements = forwarded.as_deref().and_then(forwarded::elements).unwrap_or_default();
        let client = client_element(&elements, trusted).unwrap_or_default();
        let proto = client.proto.filter(|proto| matches!(*proto, "http" | "https")).map(str::to_owned);
        let host = client.host.map(str::to_owned);
        let addresses = addresses.or_else(|| {
            let text = |element: &Element<'_>| {
                element.client.map_or_else(|| "unknown".to_owned(), |client| client.to_string())
            };
            let all: Vec<_> = elements.iter().map(text).collect();
            (!all.is_empty()).then(|| all.join(", "))
        });
        Self { addresses, forwarded, proto, host }
    }
}

/// Does so with http's map.
pub(super) fn tell_map(headers: &mut HeaderMap, peer: Peer<'_>, trusted: &[IpNet], id: &str) {
    let telling = tell(headers, headers.text(&header::HOST), peer, trusted, id);
    let is_forged = |name: &&HeaderName| !telling.keeps(name.as_str().as_bytes());
    let forged: Vec<HeaderName> = headers.keys().filter(is_forged).cloned().collect();
    let own = telling.told.map(|told| match told.tell {
        Tell::Keep => None,
        Tell::Remove => Some((told.name, None)),
        Tell::Set(value) => Some((told.name, HeaderValue::try_from(&*value).ok())),
    });
    for name in forged {
        headers.remove(name);
    }
    // Growing the table twice costs more than all the rest.
    headers.reserve(own.len());
    for (name, value) in own.into_iter().flatten() {
        match value {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
}

fn forwarded_for_server(before: Option<String>, peer: Peer<'_>, host: Option<&str>) -> String {
    let mut forwarded = before.map(|before| before + ", ").unwrap_or_else(|| String::with_capacity(96));
    for part in match peer.ip {
        Some(IpAddr::V6(_)) => ["for=\"[", peer.text, "]\""],
        Some(IpAddr::V4(_)) => ["for=", peer.text, ""],
        None => ["for=unknown", "", ""],
    } {
        forwarded.push_str(part);
    }
    if let Some(host) = host
        && !host.is_empty()
    {
        // RFC 7239 section 4: a token needs no quotes, a port's colon does.
        let quote =
            if host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) { "" } else { "\"" };
        for part in [";host=", quote, host, quote] {
            forwarded.push_str(part);
        }
    }
    forwarded.push_str(";proto=");
    forwarded.push_str(peer.scheme());
    forwarded
}

fn joined(fields: &impl Fields, name: &HeaderName) -> Option<String> {
    let is_plain = |value: &&str| value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    let values = fields.all(name).filter_map(|value| std::str::from_utf8(value).ok().filter(is_plain));
    let values: Vec<_> = values.collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The request's own id if it has a usable one, else one made of `entropy`.
pub(super) fn request_id(fields: &impl Fields, entropy: u128) -> String {
    const LONGEST: usize = 128;
    let usable =
        |id: &&str| (1..=LONGEST).contains(&id.len()) && id.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if let Some(id) = fields.text(&X_REQUEST_ID).filter(usable) {
        return id.to_owned();
    }
    let digit = |at| char::from(b"0123456789abcdef"[(entropy >> (4 * at)) as usize & 15]);
    (0..32).map(digit).collect()
}

/// The Host a request is for: its field, or an HTTP/2 request's authority.
pub(super) fn host<'a>(uri: &'a http::Uri, headers: &'a HeaderMap) -> &'a str {
    match uri.authority() {
        // RFC 9112 section 3.2.2: an absolute target outranks Host.
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
