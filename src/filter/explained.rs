//! What filters make of a request that somebody only asks about.

use super::forwarding::{self, Peer};
use super::{RequestFacts, request};
use crate::explain::{PassedFrom, PassesOn, WithPassed};
use crate::fields::FieldList;
use crate::policy::{AppliedPolicy, Policy, Variables};
use crate::wire::request::RequestView;
use std::net::IpAddr;

/// As those that are served are passed on.
#[derive(Debug)]
pub(crate) struct AsServed;

impl PassesOn for AsServed {
    fn client(&self, from: &PassedFrom<'_>, fields: FieldList<'_>) -> Option<IpAddr> {
        forwarding::real_client(from.peer, from.trusted, fields)
    }

    fn is_secure(&self, from: &PassedFrom<'_>, fields: FieldList<'_>) -> bool {
        forwarding::is_secure(&peer(from, ""), from.trusted, fields)
    }

    fn pass(
        &self,
        (asked, from): (&RequestView<'_>, &PassedFrom<'_>),
        (policy, variables): (&Policy, &Variables<'_>),
        tells_hosts: bool,
        with: &mut WithPassed<'_>,
    ) {
        let text = from.peer.map(|peer| peer.to_string()).unwrap_or_default();
        let applied = AppliedPolicy { policy, variables: *variables };
        let facts = RequestFacts {
            peer: peer(from, &text),
            trusted_proxies: from.trusted,
            request_id: "",
            is_asked_for: false,
            call_left: None,
            sticky: &[],
            is_fill: false,
            validators: None,
            policy: Some(&applied),
        };
        let edits = request(asked, &facts);
        let way = forwarding::way(
            asked,
            (&facts.peer, from.trusted),
            (variables.is_secure, tells_hosts),
            Some(&edits),
        );
        with(&edits, &way);
    }
}

fn peer<'a>(from: &PassedFrom<'_>, text: &'a str) -> Peer<'a> {
    Peer { ip: from.peer, text, is_secure: from.is_encrypted, identity: None }
}
