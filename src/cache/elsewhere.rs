//! Fields by which applications take a request for one to another URL, or by another scheme or method, and that anybody can send: a page
//! that is made so is for whoever asks so, and for nobody else.

use super::sent::is_for_connection;
use crate::fields::{Field, FieldList, is_respelt};
use crate::wire::edit::Edits;
use http::HeaderName;

/// Another path (Symfony, IIS, scripts behind a prefix), host, scheme or method; what CDNs say of the scheme. Those whose names begin with
/// `X-Forwarded` are a trusted proxy's alone.
const NAMES: [&str; 16] = [
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-script-name",
    "x-original-host",
    "x-host",
    "x-http-host-override",
    "x-original-proto",
    "x-scheme",
    "x-url-scheme",
    "front-end-https",
    "cf-visitor",
    "cloudfront-forwarded-proto",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Calls `with` for each that servers get of a request, with its name here: whichever way it is spelled, servers may make the same of it.
pub(super) fn each(fields: FieldList<'_>, edits: Option<&Edits<'_>>, mut with: impl FnMut(&str, &[u8])) {
    let mut field = |field: Field<'_>| {
        if let Some(name) = known(field.name())
            && (edits.is_some() || !is_for_connection(fields, field.name()))
        {
            with(name, field.value());
        }
    };
    match edits {
        // What a policy sets is the same for all of its requests, or in the key by the policy's word.
        Some(edits) => edits.staying(fields).for_each(field),
        None => fields.each().for_each(&mut field),
    }
}

/// Whether a field of this name may lead applications elsewhere, be it anybody's word or a trusted proxy's.
pub(crate) fn leads_elsewhere(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "forwarded" || name.starts_with("x-forwarded") || known(name.as_bytes()).is_some()
}

fn known(name: &[u8]) -> Option<&'static str> {
    // Almost every field of every request ends here.
    match name {
        [
            b'x' | b'X',
            mark,
            b'o' | b'O' | b'r' | b'R' | b's' | b'S' | b'h' | b'H' | b'u' | b'U' | b'm' | b'M',
            ..,
        ] if !mark.is_ascii_alphanumeric() => {}
        [b'f' | b'F', b'r' | b'R', ..] | [b'c' | b'C', b'f' | b'F' | b'l' | b'L', ..] => {}
        _ => return None,
    }
    NAMES.into_iter().find(|known| is_respelt(name, known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, HeaderValue};

    #[test]
    fn what_leads_elsewhere_is_found_in_each_spelling_and_nothing_else_is() {
        for (name, found) in [
            ("x-original-url", Some("x-original-url")),
            ("x_rewrite-url", Some("x-rewrite-url")),
            ("x.host", Some("x-host")),
            ("cf-visitor", Some("cf-visitor")),
            ("front_end_https", Some("front-end-https")),
            ("x-hosts", None),
            ("host", None),
            ("x-request-id", None),
            ("x-requested-with", None),
            ("x-forwarded-host", None),
            ("from", None),
            ("x", None),
        ] {
            let mut map = HeaderMap::new();
            let name: HeaderName = name.parse().expect("a name");
            map.append(&name, HeaderValue::from_static("/admin"));
            let told = |map: &HeaderMap| {
                let mut told = Vec::new();
                each(FieldList::Map(map), None, |name, value| told.push((name.to_owned(), value.to_vec())));
                told
            };
            let expected: Vec<_> =
                found.iter().map(|name| ((*name).to_owned(), b"/admin".to_vec())).collect();
            assert_eq!(told(&map), expected, "{name}");
            if let Some(found) = found {
                assert_eq!(found.len(), name.as_str().len());
                map.append("connection", HeaderValue::from_str(name.as_str()).expect("a name"));
                assert_eq!(told(&map), [], "no server gets {name}");
            }
        }
    }
}
