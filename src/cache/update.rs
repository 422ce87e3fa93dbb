//! What a 304 makes of a stored response's head (RFC 9111 sections 3.2 and 4.3.4), and what of a head is kept.

use crate::fields::{Field, FieldList};
use http::{HeaderMap, HeaderName, header};

static PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// What of a head is kept: nothing that is about one connection (RFC 9111 section 3.1). `staying` are the fields that a filter
/// has left of it.
pub(crate) fn kept<'a>(staying: impl Iterator<Item = Field<'a>>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    staying.for_each(|field| field.append_to(&mut fields));
    for name in [
        &header::TRANSFER_ENCODING,
        &header::TRAILER,
        &header::TE,
        &header::UPGRADE,
        &header::CONNECTION,
        &header::PROXY_AUTHENTICATE,
        &header::PROXY_AUTHORIZATION,
        &PROXY_AUTHENTICATION_INFO,
    ] {
        fields.remove(name);
    }
    fields
}

/// Fields that speak of the stored body, which a 304 has not.
const OF_BODY: [HeaderName; 3] = [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::CONTENT_RANGE];

/// The stored head with what a 304 has of it.
pub(crate) fn updated(stored: &HeaderMap, fresh: &HeaderMap) -> HeaderMap {
    let mut fields = stored.clone();
    for name in fresh.keys().filter(|name| !OF_BODY.contains(name)) {
        fields.remove(name);
        for value in fresh.get_all(name) {
            fields.append(name, value.clone());
        }
    }
    // It was that response's, on its way to here (RFC 9111 section 5.1).
    if !fresh.contains_key(header::AGE) {
        fields.remove(header::AGE);
    }
    fields
}

/// Whether a 304 speaks of the stored response: by its own tag if it has one (section 4.3.4).
pub(crate) fn is_about(fresh: FieldList<'_>, stored: &HeaderMap) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    match (fresh.first(&header::ETAG), stored.get(header::ETAG)) {
        (Some(fresh), Some(stored)) => opaque(fresh) == opaque(stored.as_bytes()),
        (Some(_), None) | (None, _) => true,
    }
}

/// The head of a 304 of our own: without what speaks of a body that it has not (RFC 9110 section 15.4.5).
pub(crate) fn not_modified(stored: &HeaderMap) -> HeaderMap {
    let mut fields = stored.clone();
    for name in OF_BODY.iter().chain(&[header::CONTENT_TYPE, header::CONTENT_LANGUAGE]) {
        fields.remove(name);
    }
    fields
}
