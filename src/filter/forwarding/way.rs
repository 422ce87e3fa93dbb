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
use smallvec::SmallVec;
use std::borrow::Cow;
use std::cmp::Ordering;

/// Whom a request has come from and through; each client and each proxy has another.
const WHO: [&str; 4] = ["x-forwarded-for", "x-real-ip", "x-forwarded-by", "x-forwarded-server"];

/// Names and values of what makes a difference.
type Parts<'a> = SmallVec<[(Cow<'a, [u8]>, Cow<'a, [u8]>); 4]>;

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
    let mut parts = Parts::new();
    let known = Known { host: tells_hosts.then(|| request.host.unwrap_or_default()), is_secure };
    let goes_on = |field: &Field<'_>| edits.is_some() || !is_for_connection(fields, field.name());
    let mut add = |field: Field<'_>| {
        if word(field.name()) != Word::Trusted || WHO.iter().any(|who| field.is(who)) {
            return;
        }
        let is_known = match () {
            () if field.is(FORWARDED.name.as_str()) => true,
            () if field.is(X_FORWARDED_PROTO.name.as_str()) => known.is_scheme(field.value()),
            () if field.is(X_FORWARDED_HOST.name.as_str()) => known.is_host(field.value()),
            () => false,
        };
        if !is_known && goes_on(&field) {
            parts.push((field.name().to_ascii_lowercase().into(), field.value().to_vec().into()));
        }
    };
    match edits {
        Some(edits) => edits.staying(fields).for_each(&mut add),
        None => fields.each().for_each(&mut add),
    }
    // Whichever order they came in, for names of different fields mean the same in any.
    parts.sort_by(by_name);
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

fn by_name(one: &(Cow<'_, [u8]>, Cow<'_, [u8]>), other: &(Cow<'_, [u8]>, Cow<'_, [u8]>)) -> Ordering {
    one.0.cmp(&other.0)
}

/// What keys have anyway.
struct Known<'a> {
    /// Keys have it folded; where they have none, any will do.
    host: Option<&'a str>,
    is_secure: bool,
}

impl Known<'_> {
    fn is_host(&self, said: &[u8]) -> bool {
        let folded = |host: &str| folded_host(host, self.is_secure);
        let is_same = |host: &str| std::str::from_utf8(said).is_ok_and(|said| folded(said) == folded(host));
        self.host.is_none_or(|host| said == host.as_bytes() || is_same(host))
    }

    fn is_scheme(&self, said: &[u8]) -> bool {
        said.eq_ignore_ascii_case(if self.is_secure { b"https" } else { b"http" })
    }
}

/// What Forwarded says, our own word included, unless all of it is known.
fn add_forwarded<'a>(
    fields: FieldList<'_>,
    (host, scheme): (Option<&'a str>, &'a str),
    known: &Known<'_>,
    parts: &mut Parts<'a>,
) {
    let own = Element { proto: Some(scheme), host, ..Element::default() };
    let has_host = host.is_some();
    let is_known = |element: &Element<'_>| {
        element.host.is_none_or(|host| known.is_host(host.as_bytes()))
            && element.proto.is_none_or(|proto| known.is_scheme(proto.as_bytes()))
    };
    // With most proxies ours is the only one.
    let Some(value) = joined(fields, &FORWARDED.name) else {
        if !is_known(&own) {
            parts.push((b"forwarded proto 0".into(), scheme.as_bytes().into()));
            parts.extend(host.map(|host| (b"forwarded host 0".into(), host.as_bytes().into())));
        }
        return;
    };
    let owned = |text: &str| Cow::Owned(text.as_bytes().to_vec());
    let Some(mut elements) = forwarded::elements(&value).filter(|_| !value.contains('\\')) else {
        // Who knows what a server makes of it.
        parts.push((b"forwarded proto".into(), scheme.as_bytes().into()));
        return parts.push((b"forwarded".into(), owned(&value)));
    };
    elements.push(own);
    if elements.iter().all(is_known) {
        return;
    }
    let told = elements.iter().filter(|element| element.host.is_some() || element.proto.is_some());
    for (place, element) in told.enumerate() {
        let mut add = |name: &str, value: Option<&str>| {
            parts.push((owned(&format!("{name} {place}")), owned(value.unwrap_or_default())));
        };
        add("forwarded proto", element.proto);
        if has_host {
            add("forwarded host", element.host);
        }
    }
}
