//! Cookies as they lie in fields (RFC 6265): read, taken out of requests, changed in responses.

mod likely;

pub use likely::{Likely, likely, may_have, may_set};

use std::borrow::Cow;

/// The values that requests' Cookie fields have for a name, in the order they came (section 4.2).
pub fn values<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    fields.flat_map(pairs).filter_map(move |pair| value_of(pair, name))
}

/// A value without the quotes that it may stand in (section 4.1.1).
pub fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// What becomes of a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieEdit<'a> {
    Stays,
    Goes,
    /// It has this value from now on.
    Becomes(Cow<'a, [u8]>),
}

/// A Cookie field in which the cookies of a name are edited, empty if none is left; `None` if all stay as they are.
pub fn edited<'a>(field: &'a [u8], name: &str, edit: impl Fn(&'a [u8]) -> CookieEdit<'a>) -> Option<Vec<u8>> {
    let edit_of = |pair| value_of(pair, name).map_or(CookieEdit::Stays, &edit);
    if pairs(field).all(|pair| edit_of(pair) == CookieEdit::Stays) {
        return None;
    }
    let mut edited: Vec<u8> = Vec::with_capacity(field.len());
    for pair in pairs(field) {
        let edit = edit_of(pair);
        if edit == CookieEdit::Goes {
            continue;
        }
        if !edited.is_empty() {
            edited.extend_from_slice(b"; ");
        }
        match edit {
            CookieEdit::Becomes(value) => {
                [name.as_bytes(), b"=", &value].iter().for_each(|part| edited.extend_from_slice(part));
            }
            _ => edited.extend_from_slice(pair),
        }
    }
    Some(edited)
}

/// The value that a response's Set-Cookie field gives the cookie of this name, and what stands behind it.
pub fn set<'a>(field: &'a [u8], name: &str) -> Option<(&'a [u8], &'a [u8])> {
    let end = field.iter().position(|byte| *byte == b';').unwrap_or(field.len());
    let (pair, attributes) = field.split_at(end);
    Some((value_of(pair.trim_ascii(), name)?, attributes))
}

/// The pairs of a Cookie field, empty ones left out.
fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    split(pair).filter(|(have, _)| *have == name.as_bytes()).map(|(_, value)| value)
}

/// A pair's name and value; blanks between a name and its mark are no part of it (RFC 6265 section 5.2).
fn split(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    Some((pair[..at].trim_ascii_end(), &pair[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_found_in_all_fields() {
        let fields: [&[u8]; 4] = [b"a=1; EK=x;b=2", b"EKS=no; ek=no", b" EK=\"y\" ", b";; EK= ;EK"];
        let found: Vec<_> = values(fields.into_iter(), "EK").map(unquoted).collect();
        assert_eq!(found, [&b"x"[..], b"y", b""]);
        let spelled = [&b"EK =1; E.K=2; E_K\t=3"[..]];
        assert_eq!(values(spelled.into_iter(), "EK").collect::<Vec<_>>(), [b"1"]);
        for (value, inner) in [("\"", "\""), ("\"\"", ""), ("a\"", "a\""), ("", "")] {
            assert_eq!(unquoted(value.as_bytes()), inner.as_bytes());
        }
    }

    #[test]
    fn cookies_are_edited_and_all_others_stay() {
        let goes = |_| CookieEdit::Goes;
        for (field, left) in [
            ("a=1; EK=x; b=2", Some("a=1; b=2")),
            ("EK=x", Some("")),
            ("EK=x; EK=y;a=\"1\"", Some("a=\"1\"")),
            ("a=EK=x; XEK=1; ek=2", None),
            ("", None),
        ] {
            let edited = edited(field.as_bytes(), "EK", goes);
            assert_eq!(edited.as_deref(), left.map(str::as_bytes), "{field}");
        }
        let becomes = |value: &'static [u8]| match value {
            b"stays" => CookieEdit::Stays,
            other => CookieEdit::Becomes(Cow::Borrowed(&other[..1])),
        };
        assert_eq!(edited(b"a=1; S=stays", "S", becomes), None);
        assert_eq!(edited(b"S=stays;S=long; a=1", "S", becomes).as_deref(), Some(&b"S=stays; S=l; a=1"[..]));
    }

    #[test]
    fn what_a_response_sets_is_found_by_its_name() {
        let set = |field: &'static str| set(field.as_bytes(), "S");
        assert_eq!(set("S=abc; Path=/; HttpOnly"), Some((&b"abc"[..], &b"; Path=/; HttpOnly"[..])));
        assert_eq!(set("S="), Some((&b""[..], &b""[..])));
        assert_eq!(set("T=1; S=2"), None);
        assert_eq!(set("S"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(field in prop::collection::vec(any::<u8>(), 0..80)) {
            let gone = edited(&field, "S", |_| CookieEdit::Goes);
            let left = gone.as_deref().unwrap_or(&field);
            prop_assert_eq!(values([left].into_iter(), "S").count(), 0);
            let others = |field: &[u8]| pairs(field).filter(|pair| value_of(pair, "S").is_none()).count();
            prop_assert_eq!(others(left), others(&field));
            let _ = set(&field, "S");
        }
    }
}
