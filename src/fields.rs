//! The fields of a message's head, whether they lie in http's map or still as they came.

use http::{HeaderMap, HeaderName, HeaderValue};

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

/// How large fields are as HTTP/2 counts them (RFC 9113 section 6.5.2).
pub fn list_size(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
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
