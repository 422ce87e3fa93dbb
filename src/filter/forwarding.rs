//! Who the client is, and what servers are told of it: X-Forwarded-For, -Proto and -Host, Forwarded
//! (RFC 7239) and X-Request-Id; and who the client is by its certificate: Client-Cert (RFC 9440).
//!
//! Only a trusted proxy's word is taken and added to; anybody else's is replaced or removed, or a client could
//! give itself any address. An X-Request-Id is anybody's to choose, since it says nothing of who that is; it goes on as we have
//! read it, once. Of a certificate nobody's word is taken: what says so in a request ends here, whatever the
//! listener, since a server cannot tell by which one a request came. Nor is any word in another spelling: application
//! servers make one variable of `X-Forwarded-For`, `X_Forwarded_For` and `X.Forwarded.For` (PHP), or of any marks (lighttpd).

mod way;

pub(crate) use way::way;

use super::forwarded::{self, Element, address};
use super::{Filter, RequestFacts};
use crate::fields::FieldList;
use crate::networks::Networks;
use crate::tls::ClientIdentity;
use crate::wire::edit::{Edits, FieldName};
use crate::wire::request::RequestView;
use http::{HeaderName, header};
use std::borrow::Cow;
use std::net::IpAddr;

static X_FORWARDED_FOR: FieldName =
    FieldName::new(HeaderName::from_static("x-forwarded-for"), "X-Forwarded-For");
static X_FORWARDED_PROTO: FieldName =
    FieldName::new(HeaderName::from_static("x-forwarded-proto"), "X-Forwarded-Proto");
static X_FORWARDED_HOST: FieldName =
    FieldName::new(HeaderName::from_static("x-forwarded-host"), "X-Forwarded-Host");
static X_REQUEST_ID: FieldName = FieldName::new(HeaderName::from_static("x-request-id"), "X-Request-Id");
static FORWARDED: FieldName = FieldName::new(header::FORWARDED, "Forwarded");
static CLIENT_CERT: FieldName = FieldName::new(HeaderName::from_static("client-cert"), "Client-Cert");
static CLIENT_CERT_SUBJECT: FieldName =
    FieldName::new(HeaderName::from_static("x-client-cert-subject"), "X-Client-Cert-Subject");
static CLIENT_CERT_FINGERPRINT: FieldName =
    FieldName::new(HeaderName::from_static("x-client-cert-fingerprint"), "X-Client-Cert-Fingerprint");

/// Tells servers of a request's way.
#[derive(Debug)]
pub(super) struct Forwarding;

impl Filter for Forwarding {
    fn request<'a>(&self, request: &RequestView<'a>, facts: &RequestFacts<'a>, edits: &mut Edits<'a>) {
        let (peer, fields) = (facts.peer, request.fields);
        let is_believed = is_trusted(peer.ip, facts.trusted_proxies);
        fields.each().enumerate().for_each(|(index, field)| {
            let stays = match word(field.name()) {
                Word::Anybodys => true,
                Word::Trusted => is_believed,
                Word::Ours => false,
            };
            if !stays {
                edits.remove_at(index);
            }
        });
        let before = Before::new(fields, is_believed, facts.trusted_proxies);
        let kept = |name: &FieldName| is_believed && fields.has(&name.name);
        let mut set = |name: &'static FieldName, value: Cow<'a, str>| {
            // Of a stranger's there is none left.
            if is_believed {
                edits.remove(fields, &name.name);
            }
            // Addresses, hosts that were judged, ids and certificates in our own writing.
            edits.add_judged(name, value);
        };
        match (peer.ip, &before.addresses) {
            // A unix socket's peer has no address to add.
            (None, None) => {}
            (None, Some(before)) => set(&X_FORWARDED_FOR, before.clone().into()),
            (Some(_), None) => set(&X_FORWARDED_FOR, peer.text.into()),
            (Some(_), Some(before)) => set(&X_FORWARDED_FOR, format!("{before}, {}", peer.text).into()),
        }
        if !kept(&X_FORWARDED_PROTO) {
            set(&X_FORWARDED_PROTO, before.proto.map_or(peer.scheme().into(), Cow::Owned));
        }
        let host = before.host.map(Cow::Owned).or(request.host.map(Cow::Borrowed));
        if let Some(host) = host.filter(|_| !kept(&X_FORWARDED_HOST)) {
            set(&X_FORWARDED_HOST, host);
        }
        set(&FORWARDED, forwarded_for_server(before.forwarded, peer, request.host).into());
        set(&X_REQUEST_ID, facts.request_id.into());
        if let Some(identity) = peer.identity {
            set(&CLIENT_CERT, (&*identity.certificate).into());
            set(&CLIENT_CERT_SUBJECT, (&*identity.subject).into());
            set(&CLIENT_CERT_FINGERPRINT, (&*identity.fingerprint).into());
        }
    }
}

/// The client as seen through trusted proxies: the last address of X-Forwarded-For, or of Forwarded where that is all
/// there is, that is not one of theirs. `None` when the peer itself is the client.
pub(crate) fn real_client(peer: Option<IpAddr>, trusted: &Networks, fields: FieldList<'_>) -> Option<IpAddr> {
    if !is_trusted(peer, trusted) {
        return None;
    }
    if fields.first(&X_FORWARDED_FOR.name).is_none() {
        let value = joined(fields, &FORWARDED.name)?;
        return last_client(&forwarded::elements(&value)?, trusted);
    }
    let mut client = None;
    for value in fields.all(&X_FORWARDED_FOR.name).rev() {
        let Ok(value) = std::str::from_utf8(value) else { break };
        for part in value.rsplit(',') {
            let Some(address) = address(part.trim()) else { return client };
            client = Some(address);
            if !trusted.contains(address) {
                return client;
            }
        }
    }
    client
}

/// The last address that is not one of ours, as far as addresses are named.
fn last_client(elements: &[Element<'_>], trusted: &Networks) -> Option<IpAddr> {
    let mut found = None;
    for element in elements.iter().rev() {
        let Some(client) = element.client else { return found };
        found = Some(client);
        if !trusted.contains(client) {
            return found;
        }
    }
    found
}

/// What the proxy says that the client came to: the last element that is not about one of ours. Whom it is about need not be an
/// address (RFC 7239 section 6.3).
fn client_element<'a>(elements: &[Element<'a>], trusted: &Networks) -> Option<Element<'a>> {
    let is_ours = |element: &Element<'_>| element.client.is_some_and(|client| trusted.contains(client));
    elements.iter().rfind(|element| !is_ours(element)).or(elements.first()).copied()
}

/// A unix socket's peer is on this machine, where only the operator can connect: its word is taken.
pub(crate) fn is_trusted(peer: Option<IpAddr>, trusted: &Networks) -> bool {
    peer.is_none_or(|peer| trusted.contains(peer))
}

/// Whether the client came by TLS, as servers are told: by the word of a trusted proxy, if there is one.
pub(crate) fn is_secure(peer: &Peer<'_>, trusted: &Networks, fields: FieldList<'_>) -> bool {
    if !is_trusted(peer.ip, trusted) {
        return peer.is_secure;
    }
    let is_https = |proto: &str| proto.trim().eq_ignore_ascii_case("https");
    // Of several proxies the first has met the client.
    match fields.text(&X_FORWARDED_PROTO.name).and_then(|said| said.split(',').next()) {
        Some(said) => is_https(said),
        None => Before::new(fields, true, trusted).proto.map_or(peer.is_secure, |proto| is_https(&proto)),
    }
}

/// The host that the client has named: by the word of a trusted proxy, if there is one.
pub(crate) fn named_host<'a>(
    request: &RequestView<'a>,
    (peer, trusted): (&Peer<'_>, &Networks),
) -> Cow<'a, str> {
    let own = Cow::Borrowed(request.host.unwrap_or_default());
    if !is_trusted(peer.ip, trusted) {
        return own;
    }
    // Of several proxies the first has met the client.
    let said = request.fields.text(&X_FORWARDED_HOST.name).and_then(|said| said.split(',').next());
    match said.map(str::trim).filter(|host| !host.is_empty()) {
        Some(host) => Cow::Borrowed(host),
        None => Before::new(request.fields, true, trusted).host.map_or(own, Cow::Owned),
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    /// `None` for a unix socket.
    pub(crate) ip: Option<IpAddr>,
    /// The address as fields have it.
    pub(crate) text: &'a str,
    /// Its connection is encrypted.
    pub(crate) is_secure: bool,
    /// Who it is by its certificate.
    pub(crate) identity: Option<&'a ClientIdentity>,
}

impl Peer<'_> {
    fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }
}

/// Whose word a field may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It says nothing of who the client is and how it came.
    Anybodys,
    /// A trusted proxy's.
    Trusted,
    /// Ours alone: of certificates, the request's id, and whatever could be taken for another field than it is.
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
        [b'c' | b'C', b'l' | b'L', ..] | [b'f' | b'F', b'o' | b'O', ..] => {}
        [b'x' | b'X', mark, b'f' | b'F' | b'r' | b'R' | b'c' | b'C', ..] if !mark.is_ascii_alphanumeric() => {
        }
        _ => return Word::Anybodys,
    }
    let mut plain = [0; LONGEST];
    let plain = &mut plain[..name.len().min(LONGEST)];
    for (plain, byte) in plain.iter_mut().zip(name) {
        *plain = if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    }
    let plain = &*plain;
    let is_respelt = name.iter().any(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    match () {
        () if CERTIFICATE.contains(&plain) => Word::Ours,
        () if WAY.contains(&plain) || plain.starts_with(WAYS) => match is_respelt {
            true => Word::Ours,
            false => Word::Trusted,
        },
        () if plain == ID => Word::Ours,
        () => Word::Anybodys,
    }
}

/// Whether this is said in heads, whoever says it.
pub(super) fn is_told(name: &[u8]) -> bool {
    word(name) != Word::Anybodys
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
    fn new(fields: FieldList<'_>, is_believed: bool, trusted: &Networks) -> Self {
        if !is_believed {
            return Self::default();
        }
        let addresses = joined(fields, &X_FORWARDED_FOR.name);
        let forwarded = joined(fields, &FORWARDED.name);
        let elements = forwarded.as_deref().and_then(forwarded::elements).unwrap_or_default();
        let client = client_element(&elements, trusted).unwrap_or_default();
        let proto =
            client.proto.map(str::to_ascii_lowercase).filter(|proto| matches!(&**proto, "http" | "https"));
        let host = client.host.map(str::to_owned);
        let addresses = addresses.or_else(|| {
            let text = |element: &Element<'_>| {
                element.client.map_or_else(|| "unknown".to_owned(), |client| client.to_string())
            };
            let all: Vec<_> = elements.iter().filter(|element| element.names_client).map(text).collect();
            (!all.is_empty()).then(|| all.join(", "))
        });
        Self { addresses, forwarded, proto, host }
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

fn joined(fields: FieldList<'_>, name: &HeaderName) -> Option<String> {
    let is_plain = |value: &&str| value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    let values = fields.all(name).filter_map(|value| std::str::from_utf8(value).ok().filter(is_plain));
    let values: Vec<_> = values.collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The request's own id if it has a usable one, else one made of `entropy`.
pub(crate) fn request_id(fields: FieldList<'_>, entropy: u128) -> String {
    const LONGEST: usize = 128;
    let usable =
        |id: &&str| (1..=LONGEST).contains(&id.len()) && id.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if let Some(id) = fields.text(&X_REQUEST_ID.name).filter(usable) {
        return id.to_owned();
    }
    let mut digits = [0; 32];
    for (two, byte) in digits.as_chunks_mut().0.iter_mut().zip(entropy.to_le_bytes()) {
        *two = [byte & 15, byte >> 4].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    }
    std::str::from_utf8(&digits).expect("digits are ASCII").to_owned()
}

#[cfg(test)]
mod tests;
