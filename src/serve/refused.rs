//! Logs, counts and answers what the edge refused before it was served: malformed heads, heads that took too
//! long, connections that did not begin as they must. As much of the request is shown as can be read. The listener's own
//! policy holds for the answers.

use super::grpc;
use crate::access_log::{Action, Record, Why};
use crate::config::plan::Protocol;
use crate::control::Live;
use crate::edge::{
    Client, EdgeAnswer, EdgeObserver, HttpDate, LongHeadOf, LongHeadPermit, NoLongHead, Rejection,
    WriteAnswer,
};
use crate::fields::FieldList;
use crate::filter::{self, ResponseFacts, forwarding};
use crate::metrics::{BytesPassed, PassthroughOutcome, RequestNames, RequestOutcome, RequestPlace, Series};
use crate::policy::{self, AppliedPolicy, Policy, Variables};
use crate::snapshot::Snapshot;
use crate::wire::local_reply;
use crate::wire::request::RequestView;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The edge's reporter.
pub(crate) struct Reporter(pub(crate) Arc<Live>);

impl EdgeObserver for Reporter {
    fn request_id(&self, fields: FieldList<'_>) -> String {
        forwarding::request_id(fields, u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..)))
    }

    fn refused(
        &self,
        client: &Client,
        (head, fields): (&[u8], FieldList<'_>),
        rejection: Rejection,
        answer: EdgeAnswer<'_>,
    ) {
        let live = &self.0;
        let snapshot = live.snapshot();
        let place = RequestPlace::of_listener(client.listener);
        let names = RequestNames::of_listener(&client.listener_state.name);
        let errors = policy_of(&snapshot, client).and_then(|policy| policy.plan.errors.get());
        // Fields are those of HTTP/2; of HTTP/1 nobody knows for sure how they are to be read.
        let grpc_status = match rejection.status {
            0 => None,
            status => grpc::status_of_refusal(fields, status),
        };
        let has_page =
            grpc_status.is_none() && errors.is_some_and(|errors| errors.page(rejection.status).is_some());
        let action = has_page.then_some(Action::ErrorPage);
        if rejection.status > 0 {
            let outcome = RequestOutcome {
                status: rejection.status,
                why: rejection.why,
                grpc_status,
                answered: false,
                stalled: false,
                took: Duration::ZERO,
                has_left: false,
                waited: None,
                silence: None,
                is_hasty: false,
                is_earlier: false,
                action,
                has_fault: false,
                is_paced: false,
                dropped_fields: 0,
                cache: None,
            };
            live.metrics.request(snapshot.edition, place, &outcome, &names);
        } else {
            live.metrics.failure(snapshot.edition, place, rejection.why, &names);
        }
        if !live.access_log.is_on() {
            return;
        }
        let line = head.split(|&byte| byte == b'\r' || byte == b'\n').find(|line| !line.is_empty());
        let line =
            String::from_utf8_lossy(&line.unwrap_or_default()[..line.map_or(0, |l| l.len().min(1024))])
                .into_owned();
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().filter(|word| !word.is_empty());
        let (method, path, protocol) = (word(), word(), word());
        let generation = snapshot.generation;
        live.access_log.record(&Record {
            method,
            path,
            protocol,
            status: if grpc_status.is_some() { 200 } else { rejection.status },
            grpc_status,
            action: action.map(Action::label),
            // Whoever is told nothing has nothing to ask after.
            request_id: answer.request_id,
            bytes_out: answer.body_bytes,
            ..nothing_but(client, rejection, generation)
        });
    }

    fn answer(
        &self,
        client: &Client,
        (Rejection { status, why, .. }, id): (Rejection, &str),
        request: Option<RequestView<'_>>,
        write: &mut WriteAnswer<'_>,
    ) {
        let snapshot = self.0.snapshot();
        let policy = policy_of(&snapshot, client);
        let call = request.as_ref().and_then(grpc::answered_as);
        let mut reply = match call {
            Some(kind) => grpc::local_reply((status, why), kind, false),
            None => local_reply::with_status(status, None, None),
        };
        if let Some(errors) = policy.and_then(|policy| policy.plan.errors.get())
            && call.is_none()
        {
            let fields = request.map_or(FieldList::NONE, |request| request.fields);
            policy::give_page(errors, &mut reply, fields, id);
        }
        // Who it is behind a proxy cannot be told.
        let variables = Variables {
            request,
            client: &client.text,
            is_secure: client.tls.is_some(),
            request_id: id,
            ..Variables::default()
        };
        let policy = policy.map(|policy| AppliedPolicy { policy, variables });
        let (hsts, date) = (client.hsts(), HttpDate::of(SystemTime::now()));
        let facts = ResponseFacts {
            request,
            hsts: hsts.as_deref(),
            date: date.as_bytes(),
            policy: policy.as_ref(),
            ..ResponseFacts::default()
        };
        let head = reply.head();
        write(&head, &filter::response(&head, &facts), &reply.body);
    }

    fn long_head(&self, client: &Client, of: LongHeadOf) -> Result<LongHeadPermit, NoLongHead> {
        let snapshot = self.0.glance();
        match client.ip.is_some_and(|client| snapshot.plan.cache.purge_from.contains(client)) {
            true => self.0.long_heads.permit(of),
            false => Err(NoLongHead::NotTheirs),
        }
    }

    fn turned_away(&self, client: &Client, rejection: Rejection) {
        let live = &self.0;
        let snapshot = live.snapshot();
        let (generation, edition) = (snapshot.generation, snapshot.edition);
        let protocol = protocol(client);
        let place = RequestPlace::of_listener(client.listener);
        let names = RequestNames::of_listener(&client.listener_state.name);
        match protocol {
            Some(_) => {
                let ending = PassthroughOutcome {
                    why: rejection.why,
                    passed: BytesPassed::default(),
                    is_earlier: false,
                };
                live.metrics.connection(edition, place, &names).ended(&ending);
            }
            None => live.metrics.failure(edition, place, rejection.why, &names),
        }
        // Nobody has answered an HTTP client.
        let is_untold = protocol.is_none() && rejection.why != Why::ClientAborted;
        let rejection = if is_untold { Rejection { status: 0, ..rejection } } else { rejection };
        if live.access_log.is_on() {
            live.access_log.record(&Record { protocol, ..nothing_but(client, rejection, generation) });
        }
    }

    fn tick(&self) {
        self.0.access_log.flush();
        super::dial::give_way(&self.0);
        super::kept::sweep(&self.0);
        super::shared::sweep(&self.0);
    }
}

/// What holds for a listener's requests whatever they ask for.
fn policy_of<'a>(snapshot: &'a Snapshot, client: &Client) -> Option<&'a Policy> {
    let listener = snapshot.listener(client.listener).or_else(|| snapshot.parting_listener(client.listener));
    listener?.policy(None)
}

/// What the log calls connections that the listener passes on as they are; HTTP has names of its own.
fn protocol(client: &Client) -> Option<&'static str> {
    match client.listener_state.plan.load().protocol {
        Protocol::Http => None,
        Protocol::Tcp => Some("TCP"),
        Protocol::TlsPassthrough => Some("TLS"),
        Protocol::Udp => Some("UDP"),
    }
}

/// The record of what did not get far.
fn nothing_but(client: &Client, rejection: Rejection, generation: u64) -> Record<'_> {
    Record {
        time: SystemTime::now(),
        client: &client.text,
        listener: &client.listener_state.name,
        route: None,
        pool: None,
        fallback_from: None,
        server: None,
        method: None,
        host: None,
        path: None,
        protocol: None,
        status: rejection.status,
        why: rejection.why,
        action: None,
        location: None,
        limit: None,
        detail: rejection.detail,
        bytes_in: 0,
        bytes_out: 0,
        encoding: None,
        bytes_plain: None,
        duration: None,
        connect: None,
        first_byte: None,
        queued: None,
        sticky: None,
        tries: 0,
        tls: client.tls,
        client_cert: client.identity.as_ref().map(|identity| &*identity.subject),
        grpc_status: None,
        request_id: None,
        generation,
        cache: None,
        user_agent: None,
        referer: None,
    }
}
