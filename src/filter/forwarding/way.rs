//! What trusted proxies say of a request's way that applications build links and pages from, for the keys of what is kept: a page
//! that is made for one host or prefix is not for another's clients.

use super::{
    Element, FORWARDED, Peer, Word, X_FORWARDED_HOST, X_FORWARDED_PROTO, forwarded, is_trusted, joined, word,
};
use crate::cache::{folded_host, is_for_connection, push};
use crate::fields::{Field, FieldList};
use crate::networks::Networks;
use crate::wire::edit::Edits;
use crate::wire::request::RequestView;

/// Whom a request has come from and through; each client and each proxy has another.
const WHO: [&str; 4] = ["x-forwarded-for", "x-real-ip", "x-forwarded-by", "x-forwarded-server"];

/// What servers get of such words, beside what is in keys anyway: the host, if hosts are told apart, and the scheme. Empty where there is
/// nothing else, and for a stranger, of whom none is taken.
pub(crate) fn way(
    request: &RequestView<'_>,
    (peer, trusted): (&Peer<'_>, &Networks),
    (is_secure, tells_hosts): (bool, bool),
    edits: Option<&Edits<'_>>,
) -> Vec<u8> {
    let fields = request.fields;
    if !is_trusted(peer.ip, trusted) {
        return Vec::new();
    }
    let mut parts: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let host = tells_hosts.then(|| folded_host(request.host.unwrap_or_default(), is_secure));
    let known = Known { host, is_secure };
    let goes_on = |field: &Field<'_>| edits.is_some() || !is_for_connection(fields, field.name());
    let mut add = |field: Field<'_>| {
        if word(field.name()) != Word::Trusted || !goes_on(&field) || WHO.iter().any(|who| field.is(who)) {
            return;
        }
        let is_known = match () {
            () if field.is(FORWARDED.name.as_str()) => true,
            () if field.is(X_FORWARDED_PROTO.name.as_str()) => known.is_scheme(field.value()),
            () if field.is(X_FORWARDED_HOST.name.as_str()) => known.is_host(field.value()),
            () => false,
        };
        if !is_known {
            parts.push((field.name().to_ascii_lowercase(), field.value().to_vec()));
        }
    };
    match edits {
        Some(edits) => edits.staying(fields).for_each(&mut add),
        None => fields.each().for_each(&mut add),
    }
    // Whichever order they came in, for names of different fields mean the same in any.
    parts.sort_by(|(one, _), (other, _)| one.cmp(other));
    if edits.is_none_or(|edits| edits.leaves(fields, &FORWARDED.name)) {
        let host = if tells_hosts { request.host } else { None };
        add_forwarded(fields, (host, peer.scheme()), &known, &mut parts);
    }
    let mut way = Vec::new();
    for (name, value) in parts {
        push(&name, &mut way);
        push(&value, &mut way);
    }
    way
}

/// What keys have anyway.
struct Known {
    /// As keys have it; where they have none, any will do.
    host: Option<String>,
    is_secure: bool,
}

impl Known {
    fn is_host(&self, said: &[u8]) -> bool {
        let is_it = |host: &String| {
            std::str::from_utf8(said).is_ok_and(|said| folded_host(said, self.is_secure) == *host)
        };
        self.host.as_ref().is_none_or(is_it)
    }

    fn is_scheme(&self, said: &[u8]) -> bool {
        said.eq_ignore_ascii_case(if self.is_secure { b"https" } else { b"http" })
    }
}

/// What Forwarded says, our own word included, unless all of it is known.
fn add_forwarded(
    fields: FieldList<'_>,
    (host, scheme): (Option<&str>, &str),
    known: &Known,
    parts: &mut Vec<(Vec<u8>, Vec<u8>)>,
) {
    let mut add = |name: String, value: &str| parts.push((name.into_bytes(), value.as_bytes().to_vec()));
    let value = joined(fields, &FORWARDED.name).unwrap_or_default();
    let Some(mut elements) = forwarded::elements(&value).filter(|_| !value.contains('\\')) else {
        // Who knows what a server makes of it.
        add("forwarded proto".to_owned(), scheme);
        return add("forwarded".to_owned(), &value);
    };
    elements.push(Element { client: None, proto: Some(scheme), host });
    let is_known = |element: &Element<'_>| {
        element.host.is_none_or(|host| known.is_host(host.as_bytes()))
            && element.proto.is_none_or(|proto| known.is_scheme(proto.as_bytes()))
    };
    if elements.iter().all(is_known) {
        return;
    }
    let told = elements.iter().filter(|element| element.host.is_some() || element.proto.is_some());
    for (place, element) in told.enumerate() {
        add(format!("forwarded proto {place}"), element.proto.unwrap_or_default());
        if host.is_some() {
            add(format!("forwarded host {place}"), element.host.unwrap_or_default());
        }
    }
}
