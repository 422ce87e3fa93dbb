//! Which fields of requests tell variants of a response apart (RFC 9111 section 4.1), and what of those makes a difference.

use super::directives::members;
use crate::compress::weight;
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
    let is_told = |(_, coding): &(&[u8], Coding)| coding.name != b"identity" || coding.is_refused;
    let in_key = |(_, coding): (&[u8], Coding)| match coding.is_refused {
        true => [b"!", coding.name].concat(),
        false => coding.name.to_vec(),
    };
    known(lines).0.into_iter().filter(is_told).map(in_key)
}

/// What servers get in place of an Accept-Encoding in which there is more than makes a difference, so that nothing is made for one client
/// that another with the same could not read; `None` if it may go as it came.
pub(crate) fn reduced<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let (known, has_others) = known(lines);
    if !has_others {
        return None;
    }
    let members: Vec<_> = known.into_iter().map(|(member, _)| member).collect();
    // Who takes nothing that is known takes plain bytes.
    Some(if members.is_empty() { b"identity".to_vec() } else { members.join(&b", "[..]) })
}

/// What a client says of a coding.
#[derive(Clone, Copy, Debug)]
struct Coding {
    name: &'static [u8],
    is_refused: bool,
}

/// The members of which is known what they say, and whether there are others. `*` is not among them beside a coding that is refused and
/// not known: a server could take that for one of all others.
fn known<'a>(lines: impl Iterator<Item = &'a [u8]>) -> (Vec<(&'a [u8], Coding)>, bool) {
    const NAMES: [&[u8]; 7] = [b"gzip", b"br", b"zstd", b"deflate", b"compress", b"identity", b"*"];
    let (mut known, mut has_others, mut refuses_others) = (Vec::new(), false, false);
    for member in lines.flat_map(members) {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let said = parts.next().unwrap_or_default();
        let weight = parts.next().map_or(Some(1000), weight).filter(|_| parts.next().is_none());
        let is_it = |name: &&&[u8]| match said.split_at_checked(2) {
            // RFC 9110 sections 8.4.1.1 and 8.4.1.3.
            Some((x, rest)) if x.eq_ignore_ascii_case(b"x-") && matches!(**name, b"gzip" | b"compress") => {
                rest.eq_ignore_ascii_case(name)
            }
            _ => said.eq_ignore_ascii_case(name),
        };
        match (NAMES.iter().find(is_it), weight) {
            (Some(name), Some(weight)) => known.push((member, Coding { name, is_refused: weight == 0 })),
            (_, weight) => {
                has_others = true;
                refuses_others |= weight == Some(0);
            }
        }
    }
    if refuses_others {
        known.retain(|(_, coding)| coding.name != b"*" || coding.is_refused);
    }
    (known, has_others)
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
            ("accept-encoding", &["*, foo;q=0"], &["*"], false),
            ("accept-encoding", &["foo"], &["identity"], true),
            ("accept-encoding", &["foo"], &[], false),
            ("accept-encoding", &["gzip;q=none"], &["gzip"], false),
            ("accept-encoding", &["X-GZIP;q=0.000"], &["gzip; q=0"], true),
            ("accept-encoding", &["x-br"], &["br"], false),
            ("cookie", &["a=1; b=2"], &["a=1;b=2"], false),
        ] {
            check(name, one, other, are_same);
        }
    }

    #[test]
    fn servers_get_of_codings_what_makes_a_difference_and_nothing_else() {
        for (accepted, sent) in [
            (&["gzip, br;q=0.5, *;q=0"][..], None),
            (&[], None),
            (&[""], None),
            (&["*"], None),
            (&["identity"], None),
            (&["br;q=0"], None),
            (&["foo"], Some("identity")),
            (&["gzip, dcb, br;q=0.5", "zstd, dcz"], Some("gzip, br;q=0.5, zstd")),
            (&["gzip, foo;q=0, *;q=0.1"], Some("gzip")),
            (&["foo, *;q=0"], Some("*;q=0")),
            (&["gzip;q=none, deflate;q=1;x"], Some("identity")),
        ] {
            let lines = || accepted.iter().map(|line| line.as_bytes());
            let reduced = reduced(lines());
            assert_eq!(reduced.as_deref(), sent.map(str::as_bytes), "{accepted:?}");
            let Some(reduced) = reduced else { continue };
            let in_key = |lines: &mut dyn Iterator<Item = &[u8]>| {
                let mut codings: Vec<_> = codings(lines).collect();
                codings.sort();
                codings
            };
            assert_eq!(in_key(&mut lines()), in_key(&mut [&*reduced].into_iter()), "{accepted:?}");
        }
    }
}
