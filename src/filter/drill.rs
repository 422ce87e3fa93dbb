//! A filter for tests, which see by it that a filter reaches every head there is; not in release builds. It marks requests
//! that ask for it, and the responses to them.

use super::{Filter, RequestFacts, ResponseFacts};
use crate::wire::edit::{Edits, FieldName};
use crate::wire::request::RequestView;
use crate::wire::response_head::ResponseView;
use http::HeaderName;

static DRILL: FieldName =
    FieldName::new(HeaderName::from_static("x-evenkeel-filter-drill"), "X-Evenkeel-Filter-Drill");

#[derive(Debug)]
pub(super) struct Drill;

impl Filter for Drill {
    fn request<'a>(&self, request: &RequestView<'a>, _: &RequestFacts<'a>, edits: &mut Edits<'a>) {
        if request.fields.has(&DRILL.name) {
            edits.set(request.fields, &DRILL, "request");
        }
    }

    fn response<'a>(&self, response: &ResponseView<'a>, facts: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        if facts.request.is_some_and(|request| request.fields.has(&DRILL.name)) {
            edits.set(response.fields, &DRILL, "response");
        }
    }
}
