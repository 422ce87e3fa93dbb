//! Where responses lie for those who purge: by the host and path that clients name, whichever way these are written. Neither scheme nor port
//! tells them apart, nor how a letter is encoded (RFC 3986 section 6.2.2): who purges need not know how each client has asked.

use super::key::query;
use crate::config::plan::cache::KeyPlan;
use crate::host::Spelling;
use std::borrow::Cow;
use std::fmt::Write as _;
use xxhash_rust::xxh3::xxh3_64;

/// The number of a URL, whose target is its path with a query or without.
pub(crate) fn url_number(plan: &KeyPlan, host: &str, target: &str) -> u64 {
    let (path, own_query) = target.split_once('?').unwrap_or((target, ""));
    let place = place(plan, host, path);
    xxh3_64(format!("{place}?{}", spelled(&query(plan, own_query))).as_bytes())
}

/// Its numbers by several rules, each of which has its own idea of which URLs are the same.
pub(crate) fn url_numbers(keys: &[KeyPlan], host: &str, target: &str) -> Vec<u64> {
    let mut numbers: Vec<_> = keys.iter().map(|key| url_number(key, host, target)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Where a URL lies: its host, if hosts have responses of their own, and its path.
pub(crate) fn place(plan: &KeyPlan, host: &str, path: &str) -> String {
    let path = spelled(path);
    match plan.host {
        true => format!("{}{path}", Spelling::default().of(host)),
        false => path.into_owned(),
    }
}

/// The same of a beginning of a path. A host alone is the beginning of all of its paths.
pub(crate) fn prefix(plan: &KeyPlan, host: &str, beginning: &str) -> String {
    place(plan, host, if plan.host || !beginning.is_empty() { beginning } else { "/" })
}

/// What somebody names who purges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// As it is written, without a user's name.
    pub(crate) host: &'a str,
    /// Of a URL the path with its query, of a prefix what follows the host; in letters that requests have.
    pub(crate) rest: Cow<'a, str>,
}

/// A URL of the web.
pub(crate) fn named_url(text: &str) -> Option<Named<'_>> {
    let rest = text.split_once("://").filter(|(scheme, _)| is_web(scheme))?.1;
    let named = named(rest.split('#').next().unwrap_or_default())?;
    let rest = match named.rest.starts_with('/') {
        true => named.rest,
        // RFC 3986 section 6.2.3.
        false => format!("/{}", named.rest).into(),
    };
    (!named.host.is_empty()).then_some(Named { rest, ..named })
}

/// A host with the beginning of a path, with the scheme of the web or without. A `*` at its end says what a prefix is anyway.
pub(crate) fn named_prefix(text: &str) -> Option<Named<'_>> {
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if is_web(scheme) => rest,
        // What follows may be part of a path.
        Some((before, _)) if !before.contains('/') => return None,
        _ => text,
    };
    named(rest.strip_suffix('*').unwrap_or(rest))
}

fn is_web(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

fn named(text: &str) -> Option<Named<'_>> {
    let (authority, rest) = text.split_at(text.find(['/', '?', '#']).unwrap_or(text.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_host = host.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'%'));
    is_host.then(|| Named { host, rest: spelled(rest) })
}

/// A part of a URL in one of its spellings: what no request has but percent-encoded is so, in capitals, and nothing else.
pub(crate) fn spelled(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'<' | b'>' | b'"');
    if text.bytes().all(is_plain) {
        return text.into();
    }
    let mut spelled = String::with_capacity(text.len() + 16);
    let mut rest = text.as_bytes();
    while let Some((byte, mut after)) = rest.split_first() {
        let mut letter = *byte;
        let digits = after.split_first_chunk::<2>().filter(|_| letter == b'%');
        let decoded = digits.and_then(|(digits, after)| Some((decoded(*digits)?, after)));
        if let Some((decoded, behind)) = decoded {
            (letter, after) = (decoded, behind);
        }
        let is_unreserved = letter.is_ascii_alphanumeric() || b"-._~".contains(&letter);
        match decoded {
            Some(_) if !is_unreserved => _ = write!(spelled, "%{letter:02X}"),
            // A percent sign that encodes nothing stays.
            None if letter != b'%' && !is_plain(letter) => _ = write!(spelled, "%{letter:02X}"),
            _ => spelled.push(char::from(letter)),
        }
        rest = after;
    }
    spelled.into()
}

fn decoded(digits: [u8; 2]) -> Option<u8> {
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    u8::from_str_radix(std::str::from_utf8(&digits).ok().filter(|_| is_hex)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn a_url_is_of_its_host_where_hosts_have_responses_of_their_own() {
        let (own, shared) = (plan().key, KeyPlan { host: false, ..plan().key });
        let number = |plan: &KeyPlan, host: &str| url_number(plan, host, "/a?b");
        assert_ne!(number(&own, "a.example"), number(&own, "b.example"));
        for spelling in ["A.example:80", "a.example.", "a.example:8443"] {
            assert_eq!(number(&own, "a.example"), number(&own, spelling), "{spelling}");
        }
        assert_eq!(number(&shared, "a.example"), number(&shared, "b.example:8080"));
        for (plan, beginning, expected) in
            [(&own, "/a", "a.example/a"), (&own, "", "a.example"), (&shared, "/a", "/a"), (&shared, "", "/")]
        {
            assert_eq!(prefix(plan, "a.example", beginning), expected);
        }
        assert_eq!(url_numbers(&[own.clone(), shared, own], "a.example", "/a").len(), 2);
    }

    #[test]
    fn a_url_is_the_same_however_it_is_written() {
        let number = |target: &str| url_number(&plan().key, "a", target);
        for (one, other) in [
            ("/caf\u{e9}?q=\u{e9}", "/caf%C3%A9?q=%c3%a9"),
            ("/%61/%7Eb", "/a/~b"),
            ("/a b", "/a%20b"),
            ("/%2f", "/%2F"),
        ] {
            assert_eq!(number(one), number(other), "{one}");
        }
        for (one, other) in
            [("/%2F", "//"), ("/a", "/A"), ("/%3f", "/?"), ("/%2541", "/%41"), ("/%zz", "/%25zz")]
        {
            assert_ne!(number(one), number(other), "{one}");
        }
    }

    #[test]
    fn what_is_purged_is_named_in_several_ways() {
        for (text, host, rest) in [
            ("https://shop.example", "shop.example", "/"),
            ("HTTP://me:secret@shop.example:8080/a?b#c", "shop.example:8080", "/a?b"),
            ("http://shop.example?b", "shop.example", "/?b"),
            ("http://[::1]:80/\u{e9}", "[::1]:80", "/%C3%A9"),
        ] {
            assert_eq!(named_url(text), Some(Named { host, rest: rest.into() }), "{text}");
        }
        for text in ["page", "/page", "ftp://shop.example/", "http:///a", "http://m\u{fc}nchen.example/", ""]
        {
            assert_eq!(named_url(text), None, "{text}");
        }
        for (text, host, rest) in [
            ("shop.example", "shop.example", ""),
            ("shop.example/static/*", "shop.example", "/static/"),
            ("http://me@shop.example/a b", "shop.example", "/a%20b"),
            ("/static/", "", "/static/"),
            ("shop.example/?to=ftp://x", "shop.example", "/?to=ftp://x"),
        ] {
            assert_eq!(named_prefix(text), Some(Named { host, rest: rest.into() }), "{text}");
        }
        for text in ["ftp://shop.example/", "m\u{fc}nchen.example/"] {
            assert_eq!(named_prefix(text), None, "{text}");
        }
    }
}
