//! Logs and counts what the edge refused before it was served: malformed heads, heads that took too
//! long, connections that did not begin as they must. As much of the request is shown as can be read.

use crate::access_log::Record;
use crate::config::plan::Protocol;
use crate::control::Live;
use crate::edge::{Client, EdgeObserver, Rejection};
use crate::metrics::{BytesPassed, PassthroughOutcome, RequestNames, RequestOutcome, RequestPlace, Series};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The edge's reporter.
pub(crate) struct Reporter(pub(crate) Arc<Live>);

impl EdgeObserver for Reporter {
    fn refused(&self, client: &Client, head: &[u8], rejection: Rejection) {
        let live = &self.0;
        let snapshot = live.snapshot();
        let place = RequestPlace::of_listener(client.listener);
        let names = RequestNames::of_listener(&client.listener_state.name);
        if rejection.status > 0 {
            let outcome = RequestOutcome {
                status: rejection.status,
                why: rejection.why,
                grpc_status: None,
                answered: false,
                stalled: false,
                took: Duration::ZERO,
                is_earlier: false,
                action: None,
                has_fault: false,
                is_paced: false,
                dropped_fields: 0,
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
            ..nothing_but(client, rejection, generation)
        });
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
        if live.access_log.is_on() {
            live.access_log.record(&Record { protocol, ..nothing_but(client, rejection, generation) });
        }
    }

    fn tick(&self) {
        self.0.access_log.flush();
        super::dial::give_way(&self.0);
        super::kept::sweep();
        super::shared::sweep();
    }
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
