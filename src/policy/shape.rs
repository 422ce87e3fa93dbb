//! Heads of a shape that a listener does not have. Each is HTTP as it should be.

use crate::config::plan::{EncodedSlash, ListenerLimits};
use crate::wire::request::RequestView;

/// What of a request is beyond its listener's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misshapen {
    Body,
    Uri,
    FieldCount,
    FieldLine,
    EncodedSlash,
}

impl Misshapen {
    /// What is beyond them first, in the order in which it is looked for.
    pub(crate) fn of(request: &RequestView<'_>, limits: &ListenerLimits) -> Option<Self> {
        if request.length().is_some_and(|length| length > limits.request_body) {
            Some(Self::Body)
        } else if request.path_and_query.len() as u64 > limits.uri {
            Some(Self::Uri)
        } else if request.fields.count() > limits.header_count as usize {
            Some(Self::FieldCount)
        } else if request.fields.has_longer_than(limits.header_line) {
            Some(Self::FieldLine)
        } else if limits.encoded_slash == EncodedSlash::Refuse && has_encoded_slash(request.path) {
            Some(Self::EncodedSlash)
        } else {
            None
        }
    }

    /// For people.
    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::Body => "a body longer than limits.request_body",
            Self::Uri => "the path and the query are longer than limits.uri",
            Self::FieldCount => "more fields than limits.header_count",
            Self::FieldLine => "a field longer than limits.header_line",
            Self::EncodedSlash => "a path with an encoded slash, which limits.encoded_slash refuses",
        }
    }
}

/// `%2F`, or `%5C`: a backslash, which some servers take for a slash.
fn has_encoded_slash(path: &str) -> bool {
    let is_slash = |code: &[u8]| code.eq_ignore_ascii_case(b"%2f") || code.eq_ignore_ascii_case(b"%5c");
    path.as_bytes().windows(3).any(is_slash)
}
