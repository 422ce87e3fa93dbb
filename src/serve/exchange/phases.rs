//! What happens to a request before a pool is asked for a server, in one order whatever the file's: its rule is found, then the
//! phases of that rule's policy. Each may end it with an answer of our own.

use super::Exchange;
use crate::access_log::{Action, Why};
use crate::fields::FieldList;
use crate::filter::forwarding;
use crate::host;
use crate::metrics::Routed;
use crate::policy;
use crate::route::{RouteRequest, RuleTarget};
use crate::snapshot::{Listener, ListenerTarget};
use crate::wire::local_reply::{self, LocalReply};
use crate::wire::request::RequestView;
use bytes::Bytes;
use http::{Method, header};
use std::net::IpAddr;

impl Exchange {
    /// Finds out whose request it is and which rule it meets, and has the rule's policy say whether it goes on.
    pub(in crate::serve) fn decide(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        self.identify(request)?;
        self.find_rule(request)?;
        self.pass_phases(request)
    }

    fn identify(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        let Some(listener) = &self.listener else { return Err(Why::Shutdown) };
        let id = u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..));
        self.request_id = Some(forwarding::request_id(request.fields, id));
        let (peer, trusted) = (self.state.client.ip, &listener.plan.trusted_proxies);
        let client = forwarding::real_client(peer, trusted, request.fields);
        self.client = client.map(|client| client.to_string());
        self.client_address = client.or(peer);
        match request.length().is_some_and(|length| length > listener.plan.limits.request_body) {
            true => Err(Why::BodyTooLarge),
            false => Ok(()),
        }
    }

    /// Finds the rule that a request meets.
    pub(super) fn find_rule(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        // Before any route, for whoever is behind them does not know of our orders; only tokens that are ours.
        if let Some(proof) = self.live.challenges.answer(request.path)
            && matches!(*request.method, Method::GET | Method::HEAD)
        {
            let proof = Bytes::copy_from_slice(proof.as_bytes());
            return self.answer(Why::AcmeChallenge, local_reply::with_status(200, None, Some(proof)));
        }
        let listener = self.listener.as_ref().ok_or(Why::Shutdown)?;
        match &listener.target {
            ListenerTarget::Pool(_) => self.routed = Routed::Pool,
            ListenerTarget::RedirectToHttps => {
                let location = secure_location(request.host.unwrap_or_default(), request.path_and_query)
                    .ok_or(Why::Malformed)?;
                let reply = local_reply::with_status(Why::Redirect.status(), Some(&location), None);
                return self.answer(Why::Redirect, reply);
            }
            ListenerTarget::Routes(table) => {
                let asked = for_route(request, self.client_address);
                let met = table.meet(&asked, listener.policies.keep_out).ok_or(Why::NoRoute)?;
                self.taken_for = met.taken_for.map(|other| other.place);
                self.routed = Routed::Rule(met.found.place);
                if request.fields.has(&header::UPGRADE) {
                    self.upgrades = met.found.rule.upgrades.clone();
                }
            }
        }
        Ok(())
    }

    /// Goes through what its policy has for it.
    fn pass_phases(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        self.answer_unless_served(request)
    }

    /// Answers a request whose rule leads to no pool.
    pub(super) fn answer_unless_served(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        let (why, action, reply) = match &self.listener {
            Some(listener) => match self.target(listener) {
                None | Some(RuleTarget::Pool(_)) => return Ok(()),
                Some(RuleTarget::Redirect(redirect)) => {
                    let variables = self.all_variables(request, listener);
                    let reply = policy::redirect(redirect, request.method, &variables);
                    (Why::Redirect, Action::Redirect, reply.ok_or(Why::Malformed)?)
                }
                Some(RuleTarget::Respond(respond)) => {
                    let variables = self.all_variables(request, listener);
                    (Why::Respond, Action::Respond, policy::respond(respond, &variables))
                }
            },
            None => return Err(Why::Shutdown),
        };
        self.action = Some(action);
        self.answer(why, reply)
    }

    /// What becomes of the requests of the rule that it met.
    fn target<'a>(&self, listener: &'a Listener) -> Option<&'a RuleTarget> {
        match (self.routed, &listener.target) {
            (Routed::Rule(place), ListenerTarget::Routes(table)) => {
                table.rules.get(place as usize).map(|rule| &rule.target)
            }
            _ => None,
        }
    }

    /// Has the client answered so.
    fn answer(&mut self, why: Why, reply: LocalReply) -> Result<(), Why> {
        self.reply = Some(Box::new(reply));
        Err(why)
    }
}

/// What routes look at.
fn for_route<'a>(request: &'a RequestView<'a>, client: Option<IpAddr>) -> RouteRequest<'a, FieldList<'a>> {
    RouteRequest {
        host: request.host.unwrap_or_default(),
        path: request.path,
        query: request.query,
        method: request.method,
        headers: &request.fields,
        client,
    }
}

/// The same place over TLS, on its usual port. A request without a host is for no place that could be named.
fn secure_location(host: &str, path_and_query: &str) -> Option<String> {
    let host = host::without_port(host);
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~[]:".contains(&byte);
    // `*` of OPTIONS is no path.
    let path = if path_and_query.starts_with('/') { path_and_query } else { "/" };
    let is_good = !host.is_empty() && host.bytes().all(is_host);
    is_good.then(|| format!("https://{host}{path}"))
}
