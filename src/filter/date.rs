//! Date, where a server has not said when it made its response (RFC 9110 section 6.6.1).

use super::{Filter, ResponseFacts};
use crate::wire::edit::{Edits, FieldName};
use crate::wire::response_head::ResponseView;
use http::header;

static DATE: FieldName = FieldName::new(header::DATE, "Date");

#[derive(Debug)]
pub(super) struct Date;

impl Filter for Date {
    fn response<'a>(&self, response: &ResponseView<'a>, facts: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        if response.status >= 200 && !edits.leaves(response.fields, &DATE.name) {
            edits.add_bytes(&DATE, facts.date);
        }
    }
}
