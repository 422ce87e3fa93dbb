//! Strict-Transport-Security, over TLS only (RFC 6797 section 7.2), unless the server speaks of it itself.

use super::{Filter, ResponseFacts};
use crate::wire::edit::{Edits, FieldName};
use crate::wire::response_head::ResponseView;
use http::header;

static HSTS: FieldName = FieldName::new(header::STRICT_TRANSPORT_SECURITY, "Strict-Transport-Security");

#[derive(Debug)]
pub(super) struct Hsts;

impl Filter for Hsts {
    fn response<'a>(&self, response: &ResponseView<'a>, facts: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        if let Some(value) = facts.hsts
            && response.status >= 200
            && !edits.leaves(response.fields, &HSTS.name)
        {
            edits.add(&HSTS, value);
        }
    }
}
