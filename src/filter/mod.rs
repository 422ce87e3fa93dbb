//! What changes heads on their way: each request before a server gets it, each response, be it a server's or our own,
//! before a client gets it. One file for each, and one line in [`FILTERS`]; they say what changes as edits, and the writers in
//! `wire` do it for every version of HTTP.

pub(crate) mod cache;
mod call_deadline;
pub(crate) mod compress;
mod cors;
mod date;
#[cfg(debug_assertions)]
mod drill;
mod explained;
mod field_rules;
mod forwarded;
pub(crate) mod forwarding;
mod hop_by_hop;
mod hsts;
mod rate_limit;
mod security_headers;
pub(crate) mod sticky;
pub(crate) mod trailers;

pub(crate) use explained::AsServed;

use crate::config::plan::{Name, StickyMode};
use crate::networks::Networks;
use crate::policy::{AppliedPolicy, RateLimitFields};
use crate::wire::edit::Edits;
use crate::wire::request::RequestView;
use crate::wire::response_head::ResponseView;
use cache::{CacheFields, Validators};
use forwarding::Peer;
use std::time::Duration;
use sticky::StickyCookie;

/// What a request's filters know beside its head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestFacts<'a> {
    pub(crate) peer: Peer<'a>,
    pub(crate) trusted_proxies: &'a Networks,
    pub(crate) request_id: &'a str,
    /// The client was told to go on with its body (RFC 9110 section 10.1.1).
    pub(crate) is_asked_for: bool,
    /// Of a gRPC call with a deadline: how long its client still waits.
    pub(crate) call_left: Option<Duration>,
    /// The cookies that bind clients to servers, of whichever pool they may come.
    pub(crate) sticky: &'a [(Name, StickyMode)],
    /// Its response may be kept.
    pub(crate) is_fill: bool,
    /// Of one that is asked for the store's sake.
    pub(crate) validators: Option<&'a Validators>,
    pub(crate) policy: Option<&'a AppliedPolicy<'a>>,
}

#[cfg(test)]
impl<'a> RequestFacts<'a> {
    /// Of a request that nothing else is known of.
    fn of(peer: Peer<'a>, trusted_proxies: &'a Networks, request_id: &'a str) -> Self {
        Self {
            peer,
            trusted_proxies,
            request_id,
            is_asked_for: false,
            call_left: None,
            sticky: &[],
            is_fill: false,
            validators: None,
            policy: None,
        }
    }
}

/// What a response's filters know beside its head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResponseFacts<'a> {
    /// What it answers, if that could be read.
    #[cfg_attr(not(debug_assertions), allow(dead_code))]
    pub(crate) request: Option<RequestView<'a>>,
    /// What is said of TLS, where the client came by it.
    pub(crate) hsts: Option<&'a str>,
    /// What binds the client to the server that answers, if it is to be told.
    pub(crate) sticky: Option<&'a StickyCookie>,
    /// What is said of limits.
    pub(crate) rate_limit: Option<&'a RateLimitFields>,
    /// The time, as Date has it.
    pub(crate) date: &'a [u8],
    /// What is said of the cache.
    pub(crate) cache: Option<&'a CacheFields>,
    pub(crate) policy: Option<&'a AppliedPolicy<'a>>,
}

/// A policy on heads.
trait Filter: Sync {
    /// Of a request for a server.
    fn request<'a>(&self, _: &RequestView<'a>, _: &RequestFacts<'a>, _: &mut Edits<'a>) {}

    /// Of a response for a client, interim ones (RFC 9110 section 15.2) included.
    fn response<'a>(&self, _: &ResponseView<'a>, _: &ResponseFacts<'a>, _: &mut Edits<'a>) {}
}

/// In the order in which they look at a head. What is about one connection goes first: no other filter is to take it for
/// more.
static FILTERS: &[&dyn Filter] = &[
    &hop_by_hop::HopByHop,
    &forwarding::Forwarding,
    &call_deadline::CallDeadline,
    &sticky::Sticky,
    &hsts::Hsts,
    &date::Date,
    #[cfg(debug_assertions)]
    &drill::Drill,
];

/// Those that do nothing without a policy, in their order; what operators say of fields stands.
static POLICY_FILTERS: &[&dyn Filter] = &[
    &cache::Cache,
    &security_headers::SecurityHeaders,
    &cors::Cors,
    &rate_limit::RateLimit,
    &field_rules::FieldRules,
    &compress::Compress,
];

/// What a server gets of a request otherwise than it came.
// Made where its caller has it, for edits are long to move; the same below.
#[inline]
pub(crate) fn request<'a>(request: &RequestView<'a>, facts: &RequestFacts<'a>) -> Edits<'a> {
    let mut edits = Edits::default();
    FILTERS.iter().for_each(|filter| filter.request(request, facts, &mut edits));
    if facts.policy.is_some() {
        POLICY_FILTERS.iter().for_each(|filter| filter.request(request, facts, &mut edits));
    }
    edits
}

/// What of a response is about its connection and no part of it for anybody else.
pub(crate) fn connection<'a>(response: &ResponseView<'a>) -> Edits<'a> {
    let mut edits = Edits::default();
    hop_by_hop::HopByHop.response(response, &ResponseFacts::default(), &mut edits);
    edits
}

/// What a client gets of a response otherwise than it came.
#[inline]
pub(crate) fn response<'a>(response: &ResponseView<'a>, facts: &ResponseFacts<'a>) -> Edits<'a> {
    let mut edits = Edits::default();
    FILTERS.iter().for_each(|filter| filter.response(response, facts, &mut edits));
    if facts.policy.is_some() {
        POLICY_FILTERS.iter().for_each(|filter| filter.response(response, facts, &mut edits));
    }
    edits
}

#[cfg(test)]
mod tests;
