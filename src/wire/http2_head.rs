//! Judges the head of an HTTP/2 request: what a server behind us, which mostly speaks HTTP/1.1, could read differently
//! from us does not reach it (RFC 9113 sections 8.2, 8.3 and 10.3).
//!
//! The codec has refused already what breaks HTTP/2's own grammar, as a stream error or a connection error: names in
//! capitals, line breaks and NUL in values, fields that are about the connection, pseudo-fields that are missing,
//! repeated, unknown or out of place. This is about the rest, and answers with a status. Pure, as `head` is.

use super::request_head::{MAX_FIELDS, Refusal, TOO_LONG, is_host, judge_target};
use crate::fields::list_size;
use crate::host;
use http::{HeaderMap, HeaderValue, Method, Uri, header};

/// Bytes of a head, as HTTP/2 counts.
pub(crate) fn size(uri: &Uri, fields: &HeaderMap) -> usize {
    list_size(fields) + target(uri).len()
}

/// Why such a head must not go on; `limit` bounds it as HTTP/2 counts.
pub(crate) fn judge(method: &Method, uri: &Uri, fields: &HeaderMap, limit: usize) -> Option<Refusal> {
    let bad = |detail| Some(Refusal { status: 400, detail });
    if size(uri, fields) > limit {
        return Some(TOO_LONG);
    }
    if let Some(refusal) = judge_target(method.as_str(), target(uri)) {
        return Some(refusal);
    }
    if !target(uri).starts_with('/') && target(uri) != "*" {
        return bad("path is not a path");
    }
    if fields.len() > MAX_FIELDS {
        return Some(Refusal { status: 431, detail: "too many fields" });
    }
    // `:scheme` may be anything, but a server of HTTP has nothing under any other.
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return bad("scheme is not http or https");
    }
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let is_same = |one, other, scheme| {
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        host::is_same(text(one), text(other), scheme)
    };
    let mut hosts = fields.get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return bad("more than one Host");
    }
    match (authority, host) {
        (None, None) => return bad("no authority"),
        (Some(authority), Some(host)) if !is_same(authority, host, scheme) => {
            return bad("authority and Host disagree");
        }
        (Some(name), _) | (None, Some(name)) if !is_host(name) => {
            return bad("authority is not a host");
        }
        _ => {}
    }
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        if lengths.next().is_some() {
            return bad("more than one Content-Length");
        }
        let digits = std::str::from_utf8(length.as_bytes()).unwrap_or_default();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.parse::<u64>().is_err() {
            return bad("Content-Length is not a number");
        }
    }
    // Section 8.2.1: HTTP/1.1 would strip what is a part of the value here.
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_padded = |value: &[u8]| is_blank(value.first()) || is_blank(value.last());
    if fields.values().any(|value| is_padded(value.as_bytes())) {
        return bad("a value begins or ends with white space");
    }
    None
}

/// What a request asks for, as the codec has it.
pub(crate) fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", |target| target.as_str())
}

/// The Host field of a request that has an `:authority`, as HTTP/1.1 would have it (section 8.3.1): rules, keys and forwarding
/// fields look for it there. `None` if there is no need.
pub(crate) fn missing_host(uri: &Uri, fields: &HeaderMap) -> Option<HeaderValue> {
    let is_there = |authority: &str| fields.get(header::HOST).is_some_and(|host| host == authority);
    let authority = uri.authority().filter(|authority| !is_there(authority.as_str()))?;
    HeaderValue::from_str(authority.as_str()).ok()
}

/// The one Cookie field that HTTP/1.1 has in place of several (section 8.2.3); `None` if there is no need. Empty ones are
/// left out: they would leave white space at its end, which is no part of a value there.
pub(crate) fn joined_cookies(fields: &HeaderMap) -> Option<HeaderValue> {
    let mut cookies = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let (first, second) = (cookies.next()?, cookies.next()?);
    let mut joined = first.to_vec();
    for cookie in std::iter::once(second).chain(cookies).filter(|cookie| !cookie.is_empty()) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(cookie);
    }
    HeaderValue::from_bytes(&joined).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, uri: &str, fields: &[(&'static str, &str)]) -> u16 {
        let method = method.parse().expect("a method");
        let uri = uri.parse().expect("a URI");
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        judge(&method, &uri, &map, 16 << 10).map_or(200, |refusal| refusal.status)
    }

    #[test]
    fn ordinary_heads_pass() {
        for (method, uri, fields) in [
            ("GET", "https://a/", &[][..]),
            ("GET", "http://a:80/b?c", &[("host", "a:80")]),
            ("GET", "http://a:80/", &[("host", "A")]),
            ("GET", "https://a./", &[("host", "a:443")]),
            ("GET", "/b", &[("host", "a")]),
            ("POST", "https://[::1]:1/", &[("content-length", "0"), ("te", "trailers")]),
            ("OPTIONS", "*", &[("host", "a")]),
        ] {
            assert_eq!(status(method, uri, fields), 200, "{method} {uri} {fields:?}");
        }
    }

    #[test]
    fn heads_that_http_1_would_have_otherwise_are_refused() {
        for (method, uri, fields, expected) in [
            ("GET", "/", &[][..], 400),
            ("GET", "/", &[("host", "")], 400),
            ("GET", "/", &[("host", "a"), ("host", "a")], 400),
            ("GET", "/", &[("host", "a/b")], 400),
            ("GET", "/", &[("host", ":80")], 400),
            ("GET", "http://[]/", &[], 400),
            ("GET", "http://a/", &[("host", "b")], 400),
            ("GET", "http://a/", &[("host", "a:443")], 400),
            ("GET", "http://u@a/", &[], 400),
            ("GET", "ftp://a/", &[], 400),
            ("GET", "*", &[("host", "a")], 400),
            ("POST", "http://a/", &[("content-length", "4, 4")], 400),
            ("POST", "http://a/", &[("content-length", "4"), ("content-length", "4")], 400),
            ("POST", "http://a/", &[("content-length", "+4")], 400),
            ("POST", "http://a/", &[("content-length", "99999999999999999999")], 400),
            ("GET", "http://a/", &[("x", " 1")], 400),
            ("GET", "http://a/", &[("x", "1\t")], 400),
            ("CONNECT", "a:443", &[], 405),
        ] {
            assert_eq!(status(method, uri, fields), expected, "{method} {uri} {fields:?}");
        }
        let many: Vec<_> = (0..=MAX_FIELDS).map(|_| ("x", "1")).collect();
        assert_eq!(status("GET", "http://a/", &many), 431);
        assert_eq!(status("GET", "http://a/", &[("x", &"x".repeat(17 << 10))]), 431);
        assert_eq!(status("GET", &format!("http://a/{}", "x".repeat(17 << 10)), &[]), 431);
    }

    #[test]
    fn an_authority_becomes_a_host_field_where_there_is_none() {
        let host = |uri: &str, fields: &[(&'static str, &'static str)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            let host = missing_host(&uri.parse().expect("a URI"), &fields.collect());
            host.map(|host| host.to_str().expect("text").to_owned())
        };
        assert_eq!(host("http://a:80/b", &[]).as_deref(), Some("a:80"));
        assert_eq!(host("http://a/", &[("host", "A")]).as_deref(), Some("a"), "one that is the same");
        assert_eq!(host("http://a/", &[("host", "a")]), None);
        assert_eq!(host("/", &[("host", "a")]), None);
    }

    #[test]
    fn cookies_become_one_field() {
        let mut fields = HeaderMap::new();
        for (cookie, joined) in
            [("a=1", None), ("b=2", Some("a=1; b=2")), ("", Some("a=1; b=2")), ("c", Some("a=1; b=2; c"))]
        {
            fields.append(header::COOKIE, HeaderValue::from_static(cookie));
            assert_eq!(
                joined_cookies(&fields).as_ref().map(HeaderValue::as_bytes),
                joined.map(str::as_bytes)
            );
        }
    }
}
