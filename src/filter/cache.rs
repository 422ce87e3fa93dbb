//! What the cache changes of heads: of requests whose responses are to be kept, and of the responses.

use super::{Filter, RequestFacts, ResponseFacts};
use crate::cache::{self, Device, X_DEVICE};
use crate::config::plan::cache::CachePlan;
use crate::fields::{has_token, is_respelt, tokens};
use crate::policy::{AppliedPolicy, Policy};
use crate::wire::edit::{Edits, FieldName};
use crate::wire::request::RequestView;
use crate::wire::response_head::ResponseView;
use http::{HeaderName, HeaderValue, header};
use std::sync::Arc;

static IF_NONE_MATCH: FieldName = FieldName::new(header::IF_NONE_MATCH, "If-None-Match");
static IF_MODIFIED_SINCE: FieldName = FieldName::new(header::IF_MODIFIED_SINCE, "If-Modified-Since");
static ACCEPT_ENCODING: FieldName = FieldName::new(header::ACCEPT_ENCODING, "Accept-Encoding");
static AGE: FieldName = FieldName::new(header::AGE, "Age");
static DEVICE: FieldName = FieldName::new(HeaderName::from_static(X_DEVICE), "X-Device");
static VARY: FieldName = FieldName::new(header::VARY, "Vary");
static CACHE_STATUS: FieldName = FieldName::new(HeaderName::from_static("cache-status"), "Cache-Status");

/// What a client wants that is not for all.
const WANTS: [&str; 4] = ["if-none-match", "if-modified-since", "if-range", "range"];

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
    /// Of a 304 or a part of what is kept: whether the whole may be compressed; `None` where that is not known.
    pub(crate) is_compressible: Option<bool>,
    /// Whose tags are for the cache alone.
    pub(crate) hidden: Option<Arc<CachePlan>>,
}

#[derive(Debug)]
pub(super) struct Cache;

impl Filter for Cache {
    /// What is to be kept is asked for whole, and on no conditions but those of the cache. Which device asks is our word, whether
    /// the request is for the cache or not.
    fn request<'a>(&self, request: &RequestView<'a>, facts: &RequestFacts<'a>, edits: &mut Edits<'a>) {
        if facts.policy.is_some_and(tells_device) {
            for (index, field) in request.fields.each().enumerate() {
                if field.name_length() == X_DEVICE.len() && is_respelt(field.name(), X_DEVICE) {
                    edits.remove_at(index);
                }
            }
            edits.add_judged(&DEVICE, Device::of(request.fields).label());
        }
        if facts.is_fill {
            reduce_codings(request, edits);
        }
        let Some(validators) = facts.validators else { return };
        for (index, field) in request.fields.each().enumerate() {
            // In whichever spelling: application servers make one variable of all.
            if WANTS.iter().any(|name| is_respelt(field.name(), name)) {
                edits.remove_at(index);
            }
        }
        if let Some(etag) = &validators.etag {
            edits.add_bytes(&IF_NONE_MATCH, etag.as_bytes());
        }
        if let Some(last_modified) = &validators.last_modified {
            edits.add_bytes(&IF_MODIFIED_SINCE, last_modified.as_bytes());
        }
    }

    fn response<'a>(&self, response: &ResponseView<'a>, facts: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        if facts.policy.is_some_and(tells_device) {
            hide_device(response, edits);
        }
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

/// Has a server know of the codings that a client takes what tells its variants apart, and no more.
fn reduce_codings<'a>(request: &RequestView<'a>, edits: &mut Edits<'a>) {
    let name = &ACCEPT_ENCODING.name;
    let Some(codings) = cache::reduced(cache::sent(request.fields, Some(edits), name).into_iter()) else {
        return;
    };
    for (index, field) in request.fields.each().enumerate() {
        if is_respelt(field.name(), name.as_str()) {
            edits.remove_at(index);
        }
    }
    edits.add_bytes(&ACCEPT_ENCODING, codings);
}

/// Whether servers are told which device asks.
fn tells_device(applied: &AppliedPolicy<'_>) -> bool {
    has_device(applied.policy)
}

fn has_device(policy: &Policy) -> bool {
    policy.plan.cache.get().is_some_and(|plan| plan.key.device)
}

/// Takes what was said to a server out of what it says of that: clients have sent no such field.
fn hide_device<'a>(response: &ResponseView<'a>, edits: &mut Edits<'a>) {
    edits.remove(response.fields, &DEVICE.name);
    if !has_token(edits.leaving(response.fields, &header::VARY), X_DEVICE) {
        return;
    }
    let others: Vec<_> = tokens(edits.leaving(response.fields, &header::VARY))
        .filter(|token| !token.eq_ignore_ascii_case(X_DEVICE.as_bytes()))
        .map(<[u8]>::to_vec)
        .collect();
    edits.remove(response.fields, &header::VARY);
    if !others.is_empty() {
        edits.add_bytes(&VARY, others.join(&b", "[..]));
    }
}

/// Whether servers are told this in heads, by us alone.
pub(super) fn is_told(policy: &Policy, name: &[u8]) -> bool {
    is_respelt(name, X_DEVICE) && has_device(policy)
}
