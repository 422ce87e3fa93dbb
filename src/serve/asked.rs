//! What a request asks for, read from whichever form its head has.

use super::forwarding;
use crate::fields::Fields;
use crate::route;
use crate::select::key::Parts;
use crate::wire::request_head::Head;
use http::{HeaderMap, Method, Version, header};
use std::borrow::Cow;

/// A request as routing, balancing and the log see it.
#[derive(Debug)]
pub(super) struct Asked<'a, F> {
    pub(super) method: &'a Method,
    pub(super) host: &'a str,
    /// Without the query.
    pub(super) path: &'a str,
    pub(super) path_and_query: Cow<'a, str>,
    /// Without its question mark.
    pub(super) query: &'a str,
    /// `HTTP/1.1`, as the log has it.
    pub(super) protocol: &'static str,
    /// Content-Length, if there is one.
    pub(super) length: Option<u64>,
    pub(super) fields: &'a F,
}

impl<'a, F> Asked<'a, F> {
    /// What may be hashed.
    pub(super) fn parts(&self) -> Parts<'_, F> {
        Parts {
            path: self.path,
            path_and_query: &self.path_and_query,
            query: self.query,
            fields: self.fields,
        }
    }

    /// What routes look at.
    pub(super) fn for_route(&self) -> route::RouteRequest<'a, F> {
        route::RouteRequest { host: self.host, path: self.path, method: self.method, headers: self.fields }
    }
}

impl<'a> From<&'a http::request::Parts> for Asked<'a, HeaderMap> {
    fn from(head: &'a http::request::Parts) -> Self {
        let length = head.headers.text(&header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        Self {
            method: &head.method,
            host: forwarding::host(&head.uri, &head.headers),
            path: head.uri.path(),
            path_and_query: Cow::Borrowed(head.uri.path_and_query().map_or("/", |target| target.as_str())),
            query: head.uri.query().unwrap_or_default(),
            protocol: match head.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2.0",
                _ => "HTTP/1.1",
            },
            length,
            fields: &head.headers,
        }
    }
}

impl<'a> From<&'a Head> for Asked<'a, Head> {
    fn from(head: &'a Head) -> Self {
        Self {
            method: &head.method,
            host: head.host().unwrap_or_default(),
            path: head.path(),
            path_and_query: Cow::Borrowed(head.path_and_query()),
            query: head.query(),
            protocol: if head.is_http_11() { "HTTP/1.1" } else { "HTTP/1.0" },
            length: head.body().length(),
            fields: head,
        }
    }
}
