//! What of a request's fields servers get.

use crate::fields::{FieldList, Fields};
use crate::wire::edit::Edits;
use http::{HeaderName, header};

/// A field's values as servers get them. What no server gets must make no difference: who said so would choose what others are given.
pub(super) fn sent<'f>(
    fields: FieldList<'f>,
    edits: Option<&'f Edits<'_>>,
    name: &'f HeaderName,
) -> Vec<&'f [u8]> {
    match edits {
        Some(edits) => edits.leaving(fields, name).collect(),
        None if is_for_connection(fields, name.as_str().as_bytes()) => Vec::new(),
        None => fields.all(name).collect(),
    }
}

/// Whether the client has said that a field is for this connection alone, so that it goes no further (RFC 9110 section 7.6.1).
pub(crate) fn is_for_connection(fields: FieldList<'_>, name: &[u8]) -> bool {
    let is_named = |option: &[u8]| option.trim_ascii().eq_ignore_ascii_case(name);
    Fields::all(&fields, &header::CONNECTION).any(|line| line.split(|byte| *byte == b',').any(is_named))
}
