//! What of a request's fields servers get.

use crate::fields::{Field, FieldList, Fields, is_respelt};
use crate::wire::edit::Edits;
use http::{HeaderName, header};

/// A field's values as servers get them, those in other spellings of its name last. What no server gets must make no difference: who said
/// so would choose what others are given.
pub(crate) fn sent<'f>(
    fields: FieldList<'f>,
    edits: Option<&'f Edits<'_>>,
    name: &'f HeaderName,
) -> Vec<&'f [u8]> {
    let is_respelt = |field: &Field<'_>| !field.is(name.as_str()) && is_respelt(field.name(), name.as_str());
    let is_sent = |field: &Field<'_>| !is_for_connection(fields, field.name());
    match edits {
        Some(edits) => {
            let respelt = edits.staying(fields).filter(is_respelt).map(Field::value);
            edits.leaving(fields, name).chain(respelt).collect()
        }
        None => {
            let own = fields.each().filter(|field| field.is(name.as_str()));
            own.chain(fields.each().filter(is_respelt)).filter(is_sent).map(Field::value).collect()
        }
    }
}

/// Whether the client has said that a field is for this connection alone, so that it goes no further (RFC 9110 section 7.6.1).
pub(crate) fn is_for_connection(fields: FieldList<'_>, name: &[u8]) -> bool {
    let is_named = |option: &[u8]| option.trim_ascii().eq_ignore_ascii_case(name);
    Fields::all(&fields, &header::CONNECTION).any(|line| line.split(|byte| *byte == b',').any(is_named))
}
