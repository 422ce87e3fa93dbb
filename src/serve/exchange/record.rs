//! What is counted and written of an exchange that is over.

use super::{Compressed, Exchange, route_name};
use crate::access_log::{Action, Record, Why};
use crate::fields::{Field, FieldList};
use crate::metrics::{Reached, RequestNames, RequestOutcome, RequestPlace};
use crate::pool::StickyResult;
use crate::serve::grpc;
use crate::wire::request::RequestView;
use http::header;
use std::borrow::Cow;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What a client says of itself and of the page before, found in one go.
fn said_of_itself(fields: FieldList<'_>) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    let (mut user_agent, mut referer) = (None, None);
    fields.each().for_each(|field| match field.name_length() {
        10 if user_agent.is_none() && field.is(header::USER_AGENT.as_str()) => user_agent = Some(field),
        7 if referer.is_none() && field.is(header::REFERER.as_str()) => referer = Some(field),
        _ => {}
    });
    (user_agent.map(Field::value).map(text), referer.map(Field::value).map(text))
}

/// Bytes as text. Nearly all are, which is found out many at a time; where text ends is looked for byte by byte.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

impl Exchange {
    /// Gives the lease back, counts, and writes the record.
    pub(in crate::serve) fn record(
        &mut self,
        status: u16,
        request: Option<&RequestView<'_>>,
        bytes: (u64, u64),
    ) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        let state = &self.state;
        state.watch.lease_ended();
        let duration = self.started.elapsed();
        let dispatch = self.dispatch.as_mut();
        let route = route_name(self.listener.as_deref(), self.routed);
        let (mut pool, mut server) = (None, None);
        let mut fallback_from = None;
        let mut place =
            RequestPlace { routed: self.routed, ..RequestPlace::of_listener(state.client.listener) };
        let (mut tries, mut sticky) = (0, None);
        let is_short = |within: &Duration| *within <= RequestOutcome::PATIENCE;
        let call_within = self.call_within.filter(is_short);
        // A server that keeps such a deadline itself says so when nobody waits for it any more.
        let is_kept_by_server = self.first_byte.is_some()
            && !self.is_given_up
            && self.grpc_status == Some(grpc::DEADLINE_EXCEEDED)
            && call_within.is_some_and(|within| grpc::is_out_of_time(within, duration));
        let is_empty = is_kept_by_server && bytes.1 == 0;
        let answered = self.first_byte.is_some() && !is_empty;
        let is_given_up = self.is_given_up || is_kept_by_server;
        let is_clients_turn =
            self.is_held || dispatch.as_ref().is_some_and(|dispatch| dispatch.waits_for_client);
        let has_left = (self.why == Why::ClientAborted || is_given_up) && !is_clients_turn;
        // How long its client has waited, if it left without an answer.
        let mut waited = (has_left && !answered).then_some(duration);
        if let Some(dispatch) = dispatch {
            waited = waited.and_then(|waited| dispatch.waited(waited));
            if is_empty && let Some(server) = dispatch.attempt.server() {
                let _ = server.answers.fetch_update(Relaxed, Relaxed, |answers| answers.checked_sub(1));
            }
            dispatch.end_try(self.grpc_status);
            dispatch.tries.pool().stats.request_duration.record(duration);
            if let Some(status) = self.grpc_status {
                dispatch.tries.pool().stats.count_grpc(status);
            }
            if let Some(first_byte) = self.first_byte {
                dispatch.tries.pool().stats.time_to_first_byte.record(first_byte);
            }
            pool = Some(&dispatch.tries.pool().name);
            fallback_from = dispatch.fallback_from.as_deref();
            server = dispatch.attempt.server();
            place.reached = Reached::of(pool, server.map(|server| &**server));
            tries = dispatch.attempt.number();
            let server = dispatch.attempt.server().map(|server| &**server);
            sticky = dispatch.session.as_ref().map(|session| session.result(server, self.queued.is_some()));
            if let Some(result) = sticky {
                dispatch.tries.pool().stats.count_sticky(result);
            }
        }
        let listener = &state.client.listener_state.name;
        let names = RequestNames { listener, route, pool, server: server.map(|server| &**server) };
        // A gRPC client is told of an error of ours by a status of its own, under 200; it counts as what it stands for.
        let is_own_error = self.grpc_status.is_some() && !answered && !self.why.is_as_wanted();
        let is_soon = waited.is_some_and(|waited| waited < RequestOutcome::PATIENCE);
        let outcome = RequestOutcome {
            status: if is_own_error { self.why.status() } else { status },
            why: self.why,
            grpc_status: self.grpc_status,
            answered,
            stalled: self.has_stalled,
            took: duration,
            has_left,
            waited,
            silence: self.silence.filter(|_| !self.may_have_left),
            is_hasty: is_given_up && (call_within.is_some() || is_clients_turn || is_soon),
            is_earlier: self.live.metrics.is_earlier(self.generation, self.why),
            action: self.action,
            has_fault: self.has_fault,
            is_paced: self.is_paced,
            dropped_fields: self.dropped_fields,
            cache: self.cached.map(|cached| cached.result),
        };
        self.live.metrics.request(self.edition, place, &outcome, &names);
        if let Some(Compressed { encoding, plain, is_kept }) = self.compressed {
            match is_kept {
                true => self.live.metrics.compression.reused(encoding),
                false => self.live.metrics.compression.compressed(encoding, plain, bytes.1),
            }
        }
        if !self.live.access_log.is_on() {
            return;
        }
        let (user_agent, referer) = request.map_or((None, None), |request| said_of_itself(request.fields));
        self.live.access_log.record(&Record {
            time: self.time,
            client: self.client.as_deref().unwrap_or(&state.client.text),
            listener,
            route: route.map(|name| &**name),
            pool: pool.map(|name| &**name),
            fallback_from,
            server: server.map(|server| &**server.name()),
            method: request.map(|request| request.method.as_str()),
            host: request.map(|request| request.host.unwrap_or_default()),
            path: request.map(|request| request.path_and_query),
            protocol: request.map(RequestView::protocol),
            status,
            why: self.why,
            action: self.action.map(Action::label),
            location: self.location,
            limit: self.limits.as_ref().and_then(|limits| limits.name()),
            detail: self.detail,
            bytes_in: bytes.0,
            bytes_out: bytes.1,
            encoding: self.compressed.map(|compressed| compressed.encoding.label()),
            bytes_plain: self.compressed.map(|compressed| compressed.plain),
            duration: Some(duration),
            connect: self.connect,
            first_byte: self.first_byte,
            queued: self.queued,
            tries,
            sticky: sticky.map(StickyResult::label),
            tls: state.client.tls,
            client_cert: state.client.identity.as_ref().map(|identity| &*identity.subject),
            grpc_status: self.grpc_status,
            request_id: self.request_id.as_deref(),
            generation: self.generation,
            cache: self.cached,
            user_agent: user_agent.as_deref(),
            referer: referer.as_deref(),
        });
    }

    /// Whether the exchange ends here without a record, and if so, why.
    pub(in crate::serve) fn broke_off(&mut self) -> bool {
        if self.recorded {
            return false;
        }
        let why = match self.state.watch.interrupted() {
            Some(why) => why,
            None if std::thread::panicking() => Why::Internal,
            None => Why::ClientAborted,
        };
        self.fail(why);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn what_a_client_says_of_itself_is_its_first_word_as_text() {
        let mut map = HeaderMap::new();
        for (name, value) in [("user-agent", &b"a\xff"[..]), ("referer", b"/b"), ("user-agent", b"c")] {
            map.append(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        let said = said_of_itself(FieldList::Map(&map));
        assert_eq!(said, (Some("a\u{fffd}".into()), Some("/b".into())));
        assert_eq!(said_of_itself(FieldList::NONE), (None, None));
    }
}
