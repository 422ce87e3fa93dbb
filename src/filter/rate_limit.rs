//! RateLimit and RateLimit-Policy, where a limit is to be told of (draft-ietf-httpapi-ratelimit-headers).

use super::{Filter, ResponseFacts};
use crate::wire::edit::{Edits, FieldName};
use crate::wire::response_head::ResponseView;
use http::HeaderName;

static POLICY: FieldName = FieldName::new(HeaderName::from_static("ratelimit-policy"), "RateLimit-Policy");
static LEFT: FieldName = FieldName::new(HeaderName::from_static("ratelimit"), "RateLimit");

#[derive(Debug)]
pub(super) struct RateLimit;

impl Filter for RateLimit {
    fn response<'a>(&self, response: &ResponseView<'a>, facts: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        if let Some(fields) = facts.rate_limit.filter(|_| response.status >= 200) {
            edits.set(response.fields, &POLICY, &*fields.policy);
            edits.set(response.fields, &LEFT, &*fields.left);
        }
    }
}
