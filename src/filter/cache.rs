//! What the cache changes of heads: of requests whose responses are to be kept, and of the responses.

use super::{Filter, RequestFacts, ResponseFacts};
use crate::config::plan::cache::CachePlan;
use crate::wire::edit::{Edits, FieldName};
use crate::wire::request::RequestView;
use crate::wire::response_head::ResponseView;
use http::{HeaderName, HeaderValue, header};
use std::sync::Arc;

static IF_NONE_MATCH: FieldName = FieldName::new(header::IF_NONE_MATCH, "If-None-Match");
static IF_MODIFIED_SINCE: FieldName = FieldName::new(header::IF_MODIFIED_SINCE, "If-Modified-Since");
static AGE: FieldName = FieldName::new(header::AGE, "Age");
static CACHE_STATUS: FieldName = FieldName::new(HeaderName::from_static("cache-status"), "Cache-Status");

/// What a server is asked about what is kept of it already.
#[derive(Debug, Default)]
pub(crate) struct Validators {
    pub(crate) etag: Option<HeaderValue>,
    pub(crate) last_modified: Option<HeaderValue>,
}

/// What a client is told of the cache.
#[derive(Debug, Default)]
pub(crate) struct CacheFields {
    /// In seconds, of a response that was kept.
    pub(crate) age: Option<u64>,
    /// What Cache-Status has.
    pub(crate) status: Option<String>,
    /// Whose tags are for the cache alone.
    pub(crate) hidden: Option<Arc<CachePlan>>,
}

#[derive(Debug)]
pub(super) struct Cache;

impl Filter for Cache {
    /// What is to be kept is asked for whole, and on no conditions but those of the cache.
    fn request<'a>(&self, request: &RequestView<'a>, facts: &RequestFacts<'a>, edits: &mut Edits<'a>) {
        let Some(validators) = facts.validators else { return };
        for name in [&header::IF_NONE_MATCH, &header::IF_MODIFIED_SINCE, &header::IF_RANGE, &header::RANGE] {
            edits.remove(request.fields, name);
        }
        if let Some(etag) = &validators.etag {
            edits.add_bytes(&IF_NONE_MATCH, etag.as_bytes());
        }
        if let Some(last_modified) = &validators.last_modified {
            edits.add_bytes(&IF_MODIFIED_SINCE, last_modified.as_bytes());
        }
    }

    fn response<'a>(&self, response: &ResponseView<'a>, facts: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        let Some(fields) = facts.cache else { return };
        for name in fields.hidden.iter().flat_map(|plan| &plan.tags.fields) {
            edits.remove(response.fields, name);
        }
        if let Some(age) = fields.age {
            edits.remove(response.fields, &header::AGE);
            edits.add_judged(&AGE, age.to_string());
        }
        // Beside what caches before have said (RFC 9211 section 2).
        if let Some(status) = &fields.status {
            edits.add_judged(&CACHE_STATUS, status.as_str());
        }
    }
}
