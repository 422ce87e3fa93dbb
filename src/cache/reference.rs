//! What a response means by a reference to another URL of its host (RFC 3986 section 5.2), so that a change can be told of that.

use crate::host::Spelling;
use std::borrow::Cow;

/// The path and query that a reference leads to from a target, if that is on this host. Neither scheme nor port tell hosts apart, as with
/// purges: what ends TLS before may have servers name others than those that come here.
pub(crate) fn resolved<'a>(reference: &'a [u8], host: &str, target: &str) -> Option<Cow<'a, str>> {
    let reference = std::str::from_utf8(reference).ok()?;
    let reference = reference.split('#').next().unwrap_or_default();
    let rest = match scheme(reference) {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") => {
            &reference[scheme.len() + 1..]
        }
        Some(_) => return None,
        None => reference,
    };
    if let Some(rest) = rest.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let is_same = Spelling::default().of(&rest[..end]) == Spelling::default().of(host);
        return is_same.then(|| match &rest[end..] {
            whole if whole.starts_with('/') => without_dots(whole),
            query => format!("/{query}").into(),
        });
    }
    let path = target.split('?').next().unwrap_or_default();
    match rest.as_bytes().first() {
        // The target itself.
        None => None,
        Some(b'/') => Some(without_dots(rest)),
        Some(b'?') => Some(format!("{path}{rest}").into()),
        Some(_) => {
            let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
            Some(without_dots(&format!("{folder}{rest}")).into_owned().into())
        }
    }
}

/// What stands before a colon, if that is a scheme (section 3.1).
fn scheme(reference: &str) -> Option<&str> {
    let (scheme, _) = reference.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some(scheme)
}

/// A path, with a query or without, whose dot segments are resolved (section 5.2.4).
fn without_dots(target: &str) -> Cow<'_, str> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let is_dotted = |segment: &str| matches!(segment, "." | "..");
    if !path.split('/').any(is_dotted) {
        return target.into();
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut is_directory = false;
    for segment in path.split('/').skip(1) {
        is_directory = is_dotted(segment);
        match segment {
            "." => {}
            ".." => _ = segments.pop(),
            segment => segments.push(segment),
        }
    }
    if is_directory {
        segments.push("");
    }
    format!("/{}{query}", segments.join("/")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_leads_to_this_host_or_elsewhere() {
        for (reference, target) in [
            ("/a?b#c", Some("/a?b")),
            ("http://A.example:80/a", Some("/a")),
            ("HTTP://a.example", Some("/")),
            ("http://a.example?b", Some("/?b")),
            ("//a.example/b", Some("/b")),
            ("//b.example/b", None),
            ("https://a.example/a", Some("/a")),
            ("HTTPS://A.example.:8443/a", Some("/a")),
            ("http://a.example:81/a", Some("/a")),
            ("//a.example:81/a", Some("/a")),
            ("https://b.example/a", None),
            ("http://xa.example/a", None),
            ("https://a.example.net/a", None),
            ("ftp://a.example/a", None),
            ("a", Some("/shop/cart/a")),
            ("a?b", Some("/shop/cart/a?b")),
            ("./a", Some("/shop/cart/a")),
            ("../x", Some("/shop/x")),
            ("../../../x", Some("/x")),
            ("..", Some("/shop/")),
            (".", Some("/shop/cart/")),
            ("?x", Some("/shop/cart/add?x")),
            ("a:b", None),
            ("./a:b", Some("/shop/cart/a:b")),
            ("7:b", Some("/shop/cart/7:b")),
            ("/a/./b/../c/?d/../e", Some("/a/c/?d/../e")),
            ("//a.example/a/../b", Some("/b")),
            ("/a//b", Some("/a//b")),
            ("mailto:a@b", None),
            ("#top", None),
            ("", None),
        ] {
            let found = resolved(reference.as_bytes(), "a.example", "/shop/cart/add?id=7");
            assert_eq!(found.as_deref(), target, "{reference}");
        }
        let secure = resolved(b"https://a.example:443/", "A.example", "/b");
        assert_eq!(secure.as_deref(), Some("/"));
        assert_eq!(resolved(b"a", "a.example", "*").as_deref(), Some("/a"));
    }
}
