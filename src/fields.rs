//! The fields of a message's head, whether they lie in http's map or still as they came.

use either::Either;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::ops::Range;

/// Looks fields up by name.
pub trait Fields {
    /// The values of a field, in the order they came.
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]>;

    /// The first value of a field.
    fn first<'a>(&'a self, name: &'a HeaderName) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The first value, if it is text.
    fn text<'a>(&'a self, name: &'a HeaderName) -> Option<&'a str> {
        std::str::from_utf8(self.first(name)?).ok()
    }
}

impl Fields for HeaderMap {
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub enum Field<'a> {
    /// As it came, and as it was judged: somewhere in a head's bytes.
    Raw { bytes: &'a [u8], at: FieldSpan },
    /// One of http's map.
    Parsed { name: &'a HeaderName, value: &'a HeaderValue },
}

impl<'a> Field<'a> {
    pub fn name(self) -> &'a [u8] {
        match self {
            Self::Raw { bytes, at } => at.name.in_bytes(bytes),
            Self::Parsed { name, .. } => name.as_str().as_bytes(),
        }
    }

    /// How long its name is: most that are looked for have another length.
    pub fn name_length(self) -> usize {
        match self {
            Self::Raw { at, .. } => at.name.length(),
            Self::Parsed { name, .. } => name.as_str().len(),
        }
    }

    pub fn value(self) -> &'a [u8] {
        match self {
            Self::Raw { bytes, at } => at.value.in_bytes(bytes),
            Self::Parsed { value, .. } => value.as_bytes(),
        }
    }

    /// Whether it has this name, which is in lower case.
    #[inline]
    pub fn is(self, name: &str) -> bool {
        self.name_length() == name.len() && is_name(self.name(), name.as_bytes())
    }

    /// Adds it to a map; one that a map has no form for is left out.
    pub fn append_to(self, map: &mut HeaderMap) {
        let (name, value) = match self {
            Self::Raw { .. } => (HeaderName::from_bytes(self.name()), HeaderValue::from_bytes(self.value())),
            Self::Parsed { name, value } => (Ok(name.clone()), Ok(value.clone())),
        };
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
}

/// Where a part of a head lies in its bytes: its beginning and its end. Heads are far below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where `part` lies in `bytes`, which it is a part of.
    pub fn of(part: &[u8], bytes: &[u8]) -> Self {
        let start = part.as_ptr().addr() - bytes.as_ptr().addr();
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    pub fn in_bytes(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    pub fn length(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether this name, in lower case, lies there.
    fn is(self, name: &[u8], bytes: &[u8]) -> bool {
        self.length() == name.len() && is_name(self.in_bytes(bytes), name)
    }
}

/// Where a field's name and value lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSpan {
    pub name: Span,
    pub value: Span,
}

impl FieldSpan {
    /// Where all of its line lies with its end, if that is as lines are written: one space before the value, and none behind it.
    pub fn usual_line(self, bytes: &[u8]) -> Option<Range<usize>> {
        let Self { name, value } = self;
        let is_usual = value.start == name.end + 2
            && bytes[name.end as usize..].starts_with(b": ")
            && bytes[value.end as usize..].starts_with(b"\r\n");
        is_usual.then_some(name.start as usize..value.end as usize + 2)
    }
}

/// All fields of a head, in one form or the other.
#[derive(Clone, Copy, Debug)]
pub enum FieldList<'a> {
    Raw { bytes: &'a [u8], fields: &'a [FieldSpan] },
    Map(&'a HeaderMap),
}

impl<'a> FieldList<'a> {
    pub(crate) const NONE: FieldList<'static> = FieldList::Raw { bytes: &[], fields: &[] };

    /// The fields in the order they came, or in the map's; it is the same each time.
    pub fn each(self) -> impl Iterator<Item = Field<'a>> {
        match self {
            Self::Raw { bytes, fields } => {
                Either::Left(fields.iter().map(move |at| Field::Raw { bytes, at: *at }))
            }
            Self::Map(map) => Either::Right(map.iter().map(|(name, value)| Field::Parsed { name, value })),
        }
    }

    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Self::Raw { fields, .. } => fields.len(),
            Self::Map(map) => map.len(),
        }
    }

    /// Whether the name and the value of any are longer than so many bytes together.
    pub fn has_longer_than(self, most: u64) -> bool {
        let is_longer = |field: Field<'_>| (field.name_length() + field.value().len()) as u64 > most;
        match self {
            // As nearly all heads are: none of its fields can be longer than all of it.
            Self::Raw { bytes, .. } if bytes.len() as u64 <= most => false,
            Self::Raw { .. } | Self::Map(_) => self.each().any(is_longer),
        }
    }

    /// The values of a field, in the order they came.
    pub fn all<'n>(self, name: &'n HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, 'n> {
        match self {
            Self::Raw { bytes, fields } => {
                let name = name.as_str().as_bytes();
                let is_wanted = move |field: &&FieldSpan| field.name.is(name, bytes);
                Either::Left(fields.iter().filter(is_wanted).map(move |field| field.value.in_bytes(bytes)))
            }
            Self::Map(map) => Either::Right(map.get_all(name).iter().map(HeaderValue::as_bytes)),
        }
    }

    /// The first value of a field.
    pub fn first(self, name: &HeaderName) -> Option<&'a [u8]> {
        match self {
            Self::Raw { bytes, fields } => {
                let name = name.as_str().as_bytes();
                let field = fields.iter().find(|field| field.name.is(name, bytes))?;
                Some(field.value.in_bytes(bytes))
            }
            Self::Map(map) => map.get(name).map(HeaderValue::as_bytes),
        }
    }

    /// The first value, if it is text.
    pub fn text(self, name: &HeaderName) -> Option<&'a str> {
        std::str::from_utf8(self.first(name)?).ok()
    }

    pub fn has(self, name: &HeaderName) -> bool {
        self.first(name).is_some()
    }
}

impl Fields for FieldList<'_> {
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let list: FieldList<'a> = *self;
        list.all(name)
    }
}

/// How large fields are as HTTP/2 counts them (RFC 9113 section 6.5.2).
pub fn list_size(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// Whether two tokens (RFC 9110 section 5.6.2) are one name, whose case makes no difference. Eight bytes at a time, since each
/// field of each head passes here: with the bit set that tells capitals apart, no two bytes of tokens look the same but those
/// of one letter, and `^` and `~`.
#[inline]
pub fn is_name(token: &[u8], name: &[u8]) -> bool {
    if token.len() != name.len() {
        return false;
    }
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    if let (Some(token_end), Some(name_end)) = (token.last_chunk(), name.last_chunk()) {
        let mut words = token.as_chunks().0.iter().zip(name.as_chunks().0);
        // The last eight may overlap those before.
        return words.all(|(token, name)| is_same(word(token), word(name)))
            && is_same(word(token_end), word(name_end));
    }
    let halves = |bytes: &[u8]| {
        let half = |bytes: &[u8; 4]| u64::from(u32::from_ne_bytes(*bytes));
        Some(half(bytes.first_chunk()?) << 32 | half(bytes.last_chunk()?))
    };
    match (halves(token), halves(name)) {
        (Some(token), Some(name)) => is_same(token, name),
        _ => token.eq_ignore_ascii_case(name),
    }
}

/// Whether eight bytes of tokens differ in the case of letters at most.
fn is_same(token: u64, name: u64) -> bool {
    const fn repeated(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let folded = name | repeated(0x20);
    let from_tilde = folded ^ repeated(b'~');
    // A zero in one of its bytes has the one taken away borrow.
    let has_tilde = from_tilde.wrapping_sub(repeated(1)) & !from_tilde & repeated(0x80) != 0;
    let exactly = || token.to_ne_bytes().eq_ignore_ascii_case(&name.to_ne_bytes());
    token | repeated(0x20) == folded && (!has_tilde || exactly())
}

/// Whether a name is one, or another spelling of it, with marks of other kinds for its own: application servers make one variable of
/// `X-User`, `X_User` and `X.User`.
pub fn is_respelt(spelling: &[u8], name: &str) -> bool {
    let is_mark = |byte: u8| !byte.is_ascii_alphanumeric();
    let is_alike = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || is_mark(*a) && is_mark(*b);
    spelling.len() == name.len() && spelling.iter().zip(name.as_bytes()).all(is_alike)
}

/// Whether a list of tokens such as `close, upgrade` has this one (RFC 9110 section 5.6.1); their case makes
/// no difference.
pub fn has_token<'a>(values: impl Iterator<Item = &'a [u8]>, token: &str) -> bool {
    tokens(values).any(|have| have.eq_ignore_ascii_case(token.as_bytes()))
}

/// Members that a list of connection options may have, empty ones included (RFC 9110 section 5.6.1.2): each field of the
/// message is compared with each of them.
pub const MOST_OPTIONS: usize = 64;

/// How many members lists have, be they empty or not.
pub fn count_members(value: &[u8]) -> usize {
    1 + value.iter().filter(|byte| **byte == b',').count()
}

/// The members of comma-separated lists.
pub fn tokens<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: &str = "[!#$%&'*+.^_`|~0-9A-Za-z-]{0,40}";

    proptest! {
        #[test]
        fn names_are_the_same_whatever_their_case(token in TOKEN, at in 0..40_usize, byte in "[!#$%&'*+.^_`|~0-9A-Za-z-]") {
            let swapped: String = token
                .chars()
                .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
                .collect();
            prop_assert!(is_name(token.as_bytes(), swapped.as_bytes()));
            let mut other = token.clone().into_bytes();
            if let Some(place) = other.get_mut(at) {
                *place = byte.as_bytes()[0];
            }
            prop_assert_eq!(is_name(token.as_bytes(), &other), token.as_bytes().eq_ignore_ascii_case(&other));
        }
    }

    #[test]
    fn bytes_that_differ_in_one_bit_are_not_the_same_but_for_letters() {
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        for byte in (0..128).filter(is_token) {
            let other = byte ^ 0x20;
            if is_token(&other) {
                for length in 1..20 {
                    let [token, name] =
                        [byte, other].map(|byte| [vec![b'a'; length - 1], vec![byte]].concat());
                    assert_eq!(is_name(&token, &name), byte.is_ascii_alphabetic(), "{byte} {length}");
                }
            }
        }
    }
}
