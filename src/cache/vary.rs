//! Which fields of requests tell variants of a response apart (RFC 9111 section 4.1), and what of those makes a difference.

use super::directives::members;
use crate::fields::Fields;
use http::{HeaderName, header};

/// More than anybody varies by: a response that names more is for one request.
const MOST_NAMES: usize = 16;

/// The fields that a response varies by, each once and in one order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vary(pub(crate) Vec<HeaderName>);

/// What Vary says; `None` if no other request is like this one.
pub(crate) fn vary_of(fields: &impl Fields) -> Option<Vary> {
    let mut names = Vec::new();
    for member in fields.all(&header::VARY).flat_map(|line| line.split(|byte| *byte == b',')) {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        // `*`, or what names no field and so could be anything.
        names.push(HeaderName::from_bytes(member).ok().filter(|name| name != "*")?);
    }
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    (names.len() <= MOST_NAMES).then_some(Vary(names))
}

impl Vary {
    /// What a request has of these fields; two that have the same are served the same variant. `values` gives a field's lines.
    pub(crate) fn select<'a, V: Iterator<Item = &'a [u8]>>(
        &'a self,
        mut values: impl FnMut(&'a HeaderName) -> V,
    ) -> Vec<u8> {
        let mut selected = Vec::new();
        for name in &self.0 {
            selected.extend_from_slice(name.as_str().as_bytes());
            let mut lines = values(name).peekable();
            // A field that is missing is another thing than an empty one.
            selected.push(if lines.peek().is_some() { b':' } else { b'-' });
            match *name {
                header::ACCEPT_ENCODING => push_sorted(codings(lines), &mut selected),
                header::ACCEPT_LANGUAGE => push_sorted(lines.flat_map(members).map(folded), &mut selected),
                header::COOKIE => push(lines.map(<[u8]>::to_vec), &mut selected),
                _ => push(lines.flat_map(members).map(<[u8]>::to_vec), &mut selected),
            }
            // No field has that in it.
            selected.push(b'\n');
        }
        selected
    }
}

fn push(members: impl Iterator<Item = Vec<u8>>, into: &mut Vec<u8>) {
    for member in members {
        into.extend_from_slice(&member);
        into.push(b',');
    }
}

fn push_sorted(members: impl Iterator<Item = Vec<u8>>, into: &mut Vec<u8>) {
    let mut members: Vec<_> = members.collect();
    members.sort();
    members.dedup();
    push(members.into_iter(), into);
}

/// In lower case and without blanks.
fn folded(member: &[u8]) -> Vec<u8> {
    member.iter().filter(|byte| !matches!(byte, b' ' | b'\t')).map(u8::to_ascii_lowercase).collect()
}

/// The codings that a client takes of those that servers use; which it likes best makes no difference. What it refuses by name
/// does.
fn codings<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = Vec<u8>> {
    lines.flat_map(members).filter_map(|member| {
        let member = folded(member);
        let (name, weight) = match member.iter().position(|byte| *byte == b';') {
            Some(at) => (&member[..at], &member[at + 1..]),
            None => (&member[..], &b""[..]),
        };
        let name = name.strip_prefix(b"x-").unwrap_or(name);
        let is_refused =
            weight.strip_prefix(b"q=").is_some_and(|q| q.iter().all(|byte| matches!(byte, b'0' | b'.')));
        let is_used = matches!(name, b"gzip" | b"br" | b"zstd" | b"deflate" | b"compress");
        match (name, is_refused) {
            _ if is_used && !is_refused => Some(name.to_vec()),
            (b"*", false) => Some(b"*".to_vec()),
            (b"identity", true) | (b"*", true) => Some([b"!", name].concat()),
            _ if is_used => Some([b"!", name].concat()),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn vary(lines: &[&'static str]) -> Option<Vary> {
        vary_of(&map(&lines.iter().map(|line| ("vary", *line)).collect::<Vec<_>>()))
    }

    #[test]
    fn names_are_read_over_all_lines_and_a_star_is_no_name() {
        let names = |lines: &[&'static str]| {
            vary(lines).map(|vary| vary.0.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names(&["B, a", "A,", ""]), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(names(&[]), Some(Vec::new()));
        for none in [&["*"][..], &["a, *"], &["*, *"], &["", "*"], &["a b"], &["(x)"]] {
            assert_eq!(vary(none), None, "{none:?}");
        }
    }

    #[track_caller]
    fn check(name: &'static str, one: &[&'static str], other: &[&'static str], are_same: bool) {
        let vary = vary(&[name]).expect("names");
        let selected = |lines: &[&'static str]| {
            let fields = map(&lines.iter().map(|line| (name, *line)).collect::<Vec<_>>());
            vary.select(|name| Fields::all(&fields, name))
        };
        assert_eq!(selected(one) == selected(other), are_same, "{name}: {one:?} {other:?}");
    }

    #[test]
    fn values_are_the_same_whose_members_are() {
        for (name, one, other, are_same) in [
            ("foo", &["1, 2"][..], &["1", "2"][..], true),
            ("foo", &["1,2"], &["1 ,  2"], true),
            ("foo", &["1, 2"], &["2, 1"], false),
            ("foo", &["A"], &["a"], false),
            ("foo", &[], &[""], false),
            ("foo", &["\"a, b\""], &["\"a,b\""], false),
            ("accept-language", &["en, de"], &["De,EN"], true),
            ("accept-language", &["en, de;q=0.5"], &["en;q=0.5, de"], false),
            (
                "accept-encoding",
                &["gzip, deflate, br, zstd"],
                &["br;q=1.0, zstd, gzip;q=0.8", "deflate"],
                true,
            ),
            ("accept-encoding", &["gzip"], &["x-gzip, foo"], true),
            ("accept-encoding", &["gzip"], &["gzip;q=0"], false),
            ("accept-encoding", &["gzip"], &["gzip, identity;q=0.0"], false),
            ("accept-encoding", &["gzip"], &["*"], false),
            ("accept-encoding", &["gzip, *;q=0"], &["gzip"], false),
            ("cookie", &["a=1; b=2"], &["a=1;b=2"], false),
        ] {
            check(name, one, other, are_same);
        }
    }
}
