//! What happens to a request before a pool is asked for a server, in one order whatever the file's: its rule is found, then the
//! phases of that rule's policy. Each may end it with an answer of our own.

use super::Exchange;
use crate::access_log::{Action, Why};
use crate::config::plan::ListenerLimits;
use crate::config::plan::policy::Maintenance;
use crate::fields::FieldList;
use crate::filter::forwarding;
use crate::geo::Location;
use crate::host;
use crate::metrics::Routed;
use crate::policy::{self, Misshapen, Rewritten};
use crate::route::{RouteRequest, RuleTarget};
use crate::snapshot::{Listener, ListenerTarget};
use crate::wire::LONGEST_HEAD;
use crate::wire::local_reply::{self, LocalReply};
use crate::wire::request::RequestView;
use bytes::Bytes;
use http::{Method, header};
use std::net::IpAddr;

/// Why a redirect is refused that leads to no URL.
const NOWHERE: &str = "a redirect of a request that names no host, or no path";

impl Exchange {
    /// Finds out whose request it is and which rule it meets, and has the rule's policy say whether it goes on.
    pub(in crate::serve) fn decide(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        self.identify(request)?;
        self.judge_shape(request)?;
        match self.find_rule(request) {
            Ok(()) => {}
            // Whoever may not ask is not told what there is not, and such requests count as all others.
            Err(Why::NoRoute) => {
                self.keep_out(request)?;
                self.limit(request)?;
                return Err(Why::NoRoute);
            }
            answered => return answered,
        }
        self.keep_out(request)?;
        self.pass_phases(request)
    }

    /// Refuses heads of a shape that the listener does not have. Each is HTTP as it should be, or it would not have come here.
    fn judge_shape(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        let Some(listener) = &self.listener else { return Err(Why::Shutdown) };
        let limits = &listener.plan.limits;
        let mut misshapen = Misshapen::of(request, limits);
        if misshapen == Some(Misshapen::FieldLine) && request.method.as_str() == "PURGE" && self.may_purge() {
            // What it names is for the cache alone.
            self.has_long_head = true;
            let limits = ListenerLimits { header_line: LONGEST_HEAD as u64, ..limits.clone() };
            misshapen = Misshapen::of(request, &limits);
        }
        let Some(misshapen) = misshapen else { return Ok(()) };
        self.detail = Some(misshapen.detail());
        Err(match misshapen {
            Misshapen::Body => Why::BodyTooLarge,
            Misshapen::Uri => Why::UriTooLong,
            Misshapen::FieldCount | Misshapen::FieldLine => Why::HeadersTooLarge,
            Misshapen::EncodedSlash => Why::Malformed,
        })
    }

    pub(super) fn identify(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        let Some(listener) = &self.listener else { return Err(Why::Shutdown) };
        let id = u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..));
        self.request_id = Some(forwarding::request_id(request.fields, id));
        let (peer, trusted) = (self.state.client.ip, &listener.plan.trusted_proxies);
        let client = forwarding::real_client(peer, trusted, request.fields);
        self.client = client.map(|client| client.to_string());
        self.client_address = client.or(peer);
        self.location = listener.geo.as_ref().map(|geo| geo.locate(self.client_address));
        Ok(())
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
                let Some(location) =
                    secure_location(request.host.unwrap_or_default(), request.path_and_query)
                else {
                    self.detail = Some(NOWHERE);
                    return Err(Why::Malformed);
                };
                let reply = local_reply::with_status(Why::Redirect.status(), Some(&location), None);
                return self.answer(Why::Redirect, reply);
            }
            ListenerTarget::Routes(table) => {
                let asked = for_route(request, (self.client_address, self.location.unwrap_or_default()));
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
        if self.policies_met().next().is_none() {
            return self.answer_unless_served(request);
        }
        self.answer_preflight(request)?;
        self.limit(request)?;
        self.keep_out_for_maintenance()?;
        self.send_to_canonical(request)?;
        self.answer_unless_served(request)?;
        self.judge_rewrite(request)?;
        self.make_fault(request)
    }

    fn answer_preflight(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        let cors = self.policy().and_then(|policy| policy.plan.cors.get());
        match cors.and_then(|cors| policy::preflight(cors, request)) {
            Some(reply) => {
                self.action = Some(Action::CorsPreflight);
                self.answer(Why::CorsPreflight, reply)
            }
            None => Ok(()),
        }
    }

    fn keep_out_for_maintenance(&mut self) -> Result<(), Why> {
        if self.maintenance().is_none() {
            return Ok(());
        }
        self.action = Some(Action::Maintenance);
        Err(Why::Maintenance)
    }

    /// What keeps it out for maintenance: its rule's, or that of the rule which a server may take its path for.
    fn maintenance(&self) -> Option<&Maintenance> {
        let mut planned = self.policies_met().filter_map(|(_, policy)| policy.plan.maintenance.get());
        planned.find(|maintenance| maintenance.keeps_out(self.client_address))
    }

    fn send_to_canonical(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        let canonical = self.policy().and_then(|policy| policy.plan.canonical.get());
        match canonical.and_then(|canonical| policy::canonical(canonical, &self.variables(request))) {
            Some(reply) => {
                self.action = Some(Action::Canonical);
                self.answer(Why::Redirect, reply)
            }
            None => Ok(()),
        }
    }

    /// Refuses a path that a rewrite would make lead past the rules that it was held against.
    fn judge_rewrite(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        let rewrite = self.policy().and_then(|policy| policy.plan.rewrite.get());
        match rewrite.is_some_and(|plan| policy::leads_astray(plan, request, &self.variables(request))) {
            true => {
                self.detail = Some(policy::ASTRAY);
                Err(Why::Malformed)
            }
            false => Ok(()),
        }
    }

    /// Holds some requests, and fails some, on purpose.
    fn make_fault(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        let Some(fault) = self.policy().and_then(|policy| policy.plan.fault.get()) else { return Ok(()) };
        let is_meant = fault.only_with.as_ref().is_none_or(|name| request.fields.has(name));
        if !is_meant || fastrand::u32(..100) >= fault.share.0 {
            return Ok(());
        }
        let (delay, status) = (fault.delay, fault.status);
        self.has_fault = true;
        self.delay = Some(delay).filter(|delay| !delay.is_zero());
        match status {
            Some(status) => {
                self.action = Some(Action::Fault);
                self.answer_status = Some((Why::Fault, status));
                Err(Why::Fault)
            }
            None => Ok(()),
        }
    }

    /// The status of an answer of our own, and the reason that calls are told.
    pub(in crate::serve) fn told(&self, why: Why) -> (u16, Why) {
        match self.answer_status {
            Some((of, status)) if of == why => (status, if self.looks_absent { Why::NoRoute } else { why }),
            _ => (why.status(), why),
        }
    }

    /// Gives an answer of our own what its policy has for it beside its status.
    pub(in crate::serve) fn dress(&mut self, why: Why, reply: &mut LocalReply, request: &RequestView<'_>) {
        let id = self.request_id.as_deref().unwrap_or_default();
        let maintenance = if why == Why::Maintenance { self.maintenance() } else { None };
        if let Some(maintenance) = maintenance {
            let seconds = maintenance.retry_after.as_secs().max(1);
            reply.ask_again_after(u32::try_from(seconds).unwrap_or(u32::MAX));
        }
        // Whoever makes a call reads no page.
        if reply.grpc_status.is_some() {
            return;
        }
        if let Some(file) = maintenance.and_then(|maintenance| maintenance.file.as_ref()) {
            return policy::give_file(reply, file, id);
        }
        let given = self.policy_of(self.routed_as_told()).and_then(|policy| policy.plan.errors.get());
        if given.is_some_and(|errors| policy::give_page(errors, reply, request.fields, id)) {
            self.action.get_or_insert(Action::ErrorPage);
        }
    }

    /// Whether a server's response with this status gives way to a page.
    pub(in crate::serve) fn intercepts(&self, status: u16) -> bool {
        let errors = self.policy().and_then(|policy| policy.plan.errors.get());
        status >= 400 && errors.is_some_and(|errors| errors.intercept.contains(&status))
    }

    /// How much of a body is read before a server is asked for.
    pub(in crate::serve) fn holds_uploads(&self) -> Option<u64> {
        let most = self.policy()?.plan.buffer.get()?.request;
        (most > 0).then_some(most)
    }

    /// What of the target is another one for its server.
    pub(in crate::serve) fn rewritten(&self, request: &RequestView<'_>) -> Rewritten {
        match self.policy().and_then(|policy| policy.plan.rewrite.get()) {
            Some(rewrite) => policy::rewrite(rewrite, request, &self.variables(request)),
            None => Rewritten::default(),
        }
    }

    /// Answers a request whose rule leads to no pool.
    pub(super) fn answer_unless_served(&mut self, request: &RequestView<'_>) -> Result<(), Why> {
        let (why, action, reply) = match &self.listener {
            Some(listener) => match self.target(listener) {
                None | Some(RuleTarget::Pool(_)) => return Ok(()),
                Some(RuleTarget::Redirect(redirect)) => {
                    let variables = self.all_variables(request, listener);
                    (Why::Redirect, Action::Redirect, policy::redirect(redirect, request.method, &variables))
                }
                Some(RuleTarget::Respond(respond)) => {
                    let variables = self.all_variables(request, listener);
                    (Why::Respond, Action::Respond, Some(policy::respond(respond, &variables)))
                }
            },
            None => return Err(Why::Shutdown),
        };
        let Some(reply) = reply else {
            self.detail = Some(NOWHERE);
            return Err(Why::Malformed);
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
fn for_route<'a>(
    request: &'a RequestView<'a>,
    (client, location): (Option<IpAddr>, Location),
) -> RouteRequest<'a, FieldList<'a>> {
    RouteRequest {
        host: request.host.unwrap_or_default(),
        path: request.path,
        query: request.query,
        method: request.method,
        headers: &request.fields,
        client,
        location,
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
