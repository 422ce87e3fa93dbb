//! Reads `Forwarded` (RFC 7239): whom a proxy says that it had a request from, and how. Pure.

use std::borrow::Cow;
use std::net::IpAddr;

/// What one proxy says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'a> {
    /// It says whom.
    pub(super) names_client: bool,
    /// `None` also for `unknown`, and for names that stand for an address.
    pub(super) client: Option<IpAddr>,
    pub(super) proto: Option<&'a str>,
    pub(super) host: Option<&'a str>,
}

/// The elements of a field's value, the first proxy's first; `None` if it is not as the RFC has it, for then nobody knows
/// where one ends.
pub(super) fn elements(value: &str) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    let mut element = Element::default();
    // Which of the three an element has said: each once (RFC 7239 section 4).
    let mut said = [false; 3];
    let mut is_empty = true;
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        // Empty elements and pairs are allowed, and say nothing (RFC 9110 section 5.6.1.2).
        if !rest.starts_with([',', ';']) && !rest.is_empty() {
            let (name, after) = rest.split_once('=')?;
            let (value, after) = text(after)?;
            let known = ["for", "proto", "host"].iter().position(|known| name.eq_ignore_ascii_case(known));
            if known.is_some_and(|known| std::mem::replace(&mut said[known], true)) {
                return None;
            }
            match name {
                _ if name.eq_ignore_ascii_case("for") => {
                    (element.names_client, element.client) = (true, address(&unescaped(value)));
                }
                // Nobody escapes what these say; one who does says nothing by them.
                _ if value.contains('\\') => {}
                _ if name.eq_ignore_ascii_case("proto") => element.proto = Some(value),
                _ if name.eq_ignore_ascii_case("host") => element.host = Some(value),
                _ => {}
            }
            rest = after.trim_start_matches([' ', '\t']);
            is_empty = false;
        }
        match rest.chars().next() {
            Some(';') => {}
            Some(',') | None => {
                let said_now = std::mem::take(&mut element);
                if !std::mem::replace(&mut is_empty, true) {
                    elements.push(said_now);
                }
                if rest.is_empty() {
                    return Some(elements);
                }
                said = [false; 3];
            }
            Some(_) => return None,
        }
        rest = &rest[1..];
    }
}

/// A token or a quoted text with its escapes, and what follows it.
fn text(rest: &str) -> Option<(&str, &str)> {
    match rest.strip_prefix('"') {
        Some(quoted) => {
            let mut is_escaped = false;
            let end = quoted.find(|mark| match (is_escaped, mark) {
                (true, _) => {
                    is_escaped = false;
                    false
                }
                (false, mark) => {
                    is_escaped = mark == '\\';
                    mark == '"'
                }
            })?;
            Some((&quoted[..end], &quoted[end + 1..]))
        }
        None => {
            let end = rest.find([' ', '\t', ',', ';', '"']).unwrap_or(rest.len());
            (end > 0).then(|| rest.split_at(end))
        }
    }
}

/// RFC 9110 section 5.6.4: a backslash stands for what follows it.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut marks = text.chars();
    while let Some(mark) = marks.next() {
        plain.extend(if mark == '\\' { marks.next() } else { Some(mark) });
    }
    plain.into()
}

/// `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1` or `[2001:db8::1]:80`.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<&[(&str, &str, &str)]>) {
        let elements = elements(value).map(|elements| {
            let text = |element: &Element<'_>| {
                let client = element.client.map_or_else(String::new, |client| client.to_string());
                (client, element.proto.unwrap_or("").to_owned(), element.host.unwrap_or("").to_owned())
            };
            elements.iter().map(text).collect::<Vec<_>>()
        });
        let expected = expected.map(|expected| {
            expected.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
        });
        assert_eq!(elements, expected, "{value}");
    }

    #[test]
    fn each_element_says_what_one_proxy_knows() {
        check("for=192.0.2.7", Some(&[("192.0.2.7", "", "")]));
        check("For=\"192.0.2.7:80\";PROTO=https; host=a", Some(&[("192.0.2.7", "https", "a")]));
        check(
            "for=\"[2001:db8::1]:4711\";host=\"a,b;c:80\", for=unknown;by=x,for=_hidden",
            Some(&[("2001:db8::1", "", "a,b;c:80"), ("", "", ""), ("", "", "")]),
        );
        let escaped = "for=\"\\[2001:db8::\\1]:4711\";host=\"a\\\"b\";ext=\"a\\\",b\", for=192.0.2.7";
        check(escaped, Some(&[("2001:db8::1", "", ""), ("192.0.2.7", "", "")]));
        check("host=a, host=b", Some(&[("", "", "a"), ("", "", "b")]));
        check("for=192.0.2.7;, ,", Some(&[("192.0.2.7", "", "")]));
        check(" ,;,, proto=https,", Some(&[("", "https", "")]));
        check("", Some(&[]));
    }

    #[test]
    fn what_is_not_as_it_should_be_says_nothing() {
        for value in [
            "for",
            "for=",
            "for=\"192.0.2.7",
            "for=\"a\\\"",
            "for=a b",
            "for=\"a\"b",
            "host=a;host=b",
            "host=a;for=x;Host=a",
            "for=x, proto=a;proto=\"a\\b\"",
        ] {
            check(value, None);
        }
    }
}
