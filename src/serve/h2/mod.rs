//! Serves a request where the client or the server speaks HTTP/2, or the server may.
//!
//! As in [`h1`](super::h1) one future drives both directions, connections to servers are the core's own, and decisions
//! are made in [`Exchange`]. A server's connection is shared where it speaks HTTP/2, and the same ones are used as by
//! HTTP/1.1 clients where it does not.

mod answering;
mod body;
mod client;
mod client_h1;
mod connect;
mod over_h1;
mod over_h2;
mod server;

use super::asked::Asked;
use super::exchange::{Exchange, is_idempotent};
use super::forwarding::{self, Peer};
use super::h1::{MOST_INTERIMS, names_upgrades};
use super::{grpc, keepalive};
use crate::access_log::Why;
use crate::config::plan::{ClientFin, ServerProtocol};
use crate::control::Live;
use crate::edge::{Addresses, AfterRequest, Conn, RequestState, Stream, date};
use crate::wire::request_head::Head;
use body::Body;
use client::{Client, Http2};
use client_h1::Http1;
use http::request::Parts;
use http::{HeaderValue, StatusCode, Version, header};
use server::{Answer, Data, Failure, Server};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

/// Serves an HTTP/2 client's request.
pub(super) async fn serve(live: &Arc<Live>, state: Arc<RequestState>, stream: Stream, addresses: Addresses) {
    let mut exchange = Exchange::begin(live, &state);
    let most_trailers = exchange.listener.as_ref().map_or(0, |l| l.plan.limits.request_headers);
    let (client, head) = Http2::new(stream, usize::try_from(most_trailers).unwrap_or(usize::MAX));
    let has_body = client.has_body();
    let admitted = exchange.admit(&Asked::from(&head));
    let mut relay = Relay::new(exchange, state, addresses, client, head, has_body);
    relay.run(admitted).await;
    relay.record();
}

/// Serves the request of a client that does not speak HTTP/2, where the server may, and says what becomes of the client's
/// connection.
pub(super) async fn serve_h1(
    exchange: Exchange,
    admitted: Result<(), Why>,
    conn: &mut Conn,
    head: &Head,
) -> AfterRequest {
    let (state, addresses) = (Arc::clone(&conn.state), conn.addresses());
    let has_body = !conn.is_request_over();
    let client_fin = exchange.listener.as_ref().map_or(ClientFin::Cancel, |l| l.plan.client_fin);
    let client = Http1::new(conn, head, client_fin);
    let mut relay = Relay::new(exchange, state, addresses, client, client_h1::parts(head), has_body);
    relay.run(admitted).await;
    relay.record();
    relay.client.next()
}

/// One request under way.
struct Relay<C: Client> {
    state: Arc<RequestState>,
    /// Of the client's connection, as its server may be told.
    addresses: Addresses,
    client: C,
    head: Parts,
    /// It names no host, as HTTP/1.0 allows.
    lacks_host: bool,
    exchange: Exchange,
    has_body: bool,
    body: Body,
    server: Option<Server>,
    is_uploaded: bool,
    /// The server takes nothing more of the request; it may have answered.
    is_refused: bool,
    /// All of the request was put.
    is_put: bool,
    waits_for_server: bool,
    is_grpc: bool,
    /// When a gRPC client gives its call up.
    call_due: Option<Instant>,
    /// Interim responses so far.
    interims: u32,
    status: u16,
    bytes_out: u64,
}

impl<C: Client> Relay<C> {
    fn new(
        exchange: Exchange,
        state: Arc<RequestState>,
        addresses: Addresses,
        client: C,
        head: Parts,
        has_body: bool,
    ) -> Self {
        let is_grpc = head.version == Version::HTTP_2 && grpc::is_call(&head.headers);
        let call_due = match is_grpc {
            true => grpc::timeout(&head.headers).and_then(|within| exchange.started.checked_add(within)),
            false => None,
        };
        Self {
            state,
            addresses,
            client,
            exchange,
            has_body,
            body: Body::new(false, !has_body),
            server: None,
            is_uploaded: false,
            is_refused: false,
            is_put: false,
            waits_for_server: false,
            is_grpc,
            call_due,
            interims: 0,
            status: 0,
            bytes_out: 0,
            lacks_host: head.uri.authority().is_none() && !head.headers.contains_key(header::HOST),
            head,
        }
    }

    async fn run(&mut self, admitted: Result<(), Why>) {
        match admitted {
            Ok(()) => self.prepare(),
            Err(why) => return self.answer(why).await,
        }
        loop {
            if let Err(why) = self.exchange.ensure_lease() {
                return self.answer(why).await;
            }
            let reused = match self.connect().await {
                Ok(reused) => reused,
                Err(why) if self.state.watch.interrupted().is_none() && self.exchange.connect_failed(why) => {
                    continue;
                }
                Err(why) => return self.answer(why).await,
            };
            match poll_fn(|cx| self.poll_head(cx)).await {
                Ok(answer) => {
                    if self.can_be_repeated() && self.exchange.status_is_retried(answer.status.as_u16()) {
                        self.rewind();
                        continue;
                    }
                    return self.pass_on(answer).await;
                }
                Err(failure) => {
                    let may_be_sent_again = match failure.why {
                        Why::ServerReset if failure.is_untouched => self.body.is_repeatable,
                        Why::ServerReset => self.can_be_repeated(),
                        _ => false,
                    };
                    if may_be_sent_again && self.exchange.send_again(reused || failure.is_untouched) {
                        self.rewind();
                        continue;
                    }
                    if let Some(server) = &self.server
                        && matches!(failure.why, Why::ResponseHeaderTimeout | Why::RequestTimeout)
                    {
                        server.doubt();
                    }
                    self.exchange.detail = failure.detail.or(self.exchange.detail);
                    return self.answer(failure.why).await;
                }
            }
        }
    }

    /// Makes the request's head what a server is to get, and sets the first limits.
    fn prepare(&mut self) {
        let (Some(listener), Some(pool)) = (&self.exchange.listener, self.exchange.pool()) else { return };
        let peer = Peer::from(&*self.state.client);
        let id = self.exchange.request_id.as_deref().unwrap_or_default();
        forwarding::tell_map(&mut self.head.headers, peer, &listener.plan.trusted_proxies, id);
        // A server that speaks HTTP/2 may say that it has not touched a request, whatever the method.
        let is_repeatable = is_idempotent(&self.head.method) || pool.plan.protocol != ServerProtocol::Http1;
        self.body = Body::new(is_repeatable, !self.has_body);
        let due = self.exchange.started + pool.plan.timeouts.request;
        let due = Some(self.call_due.map_or(due, |call_due| call_due.min(due)));
        if self.has_body {
            // A call's deadline counts from its beginning, `timeouts.request` once the body is there.
            self.exchange.upload_waits(false);
            self.limit(self.call_due);
        } else {
            self.exchange.due = due;
            self.limit(due);
        }
    }

    /// The exchange is to be over by then.
    fn limit(&self, due: Option<Instant>) {
        if let Some(due) = due {
            self.state.watch.deadline(due.saturating_duration_since(Instant::now()), Why::RequestTimeout);
        }
    }

    /// The next try begins at the beginning.
    fn rewind(&mut self) {
        self.server = None;
        self.body.rewind();
        self.is_uploaded = false;
        self.is_refused = false;
        self.is_put = false;
        self.exchange.begin_again();
    }

    /// RFC 9110 section 9.2.2: only what does no harm twice, and only with its body still at hand.
    fn can_be_repeated(&self) -> bool {
        is_idempotent(&self.head.method) && self.body.is_repeatable
    }

    /// Sends the request and reads the response's head.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Failure>> {
        self.state.watch.heed_now(cx)?;
        self.upload(cx)?;
        loop {
            let Some(server) = &mut self.server else { return Poll::Ready(Err(Why::Internal.into())) };
            match server.poll_head(cx) {
                Poll::Ready(Ok(answer)) => {
                    self.state.watch.touch();
                    let is_interim = answer.status.is_informational();
                    if !is_interim && self.client.poll_left(cx).is_ready() {
                        // One who leaves as the response comes has left before it every time.
                        return Poll::Ready(Err(Why::ClientAborted.into()));
                    }
                    if !is_interim {
                        return Poll::Ready(Ok(answer));
                    }
                    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
                        return Poll::Ready(Err(Failure::malformed("an upgrade nobody asked for")));
                    }
                    self.interims += 1;
                    if self.interims > MOST_INTERIMS {
                        return Poll::Ready(Err(Failure::malformed("too many interim responses")));
                    }
                    let mut fields = answer.fields;
                    fields.remove(header::CONTENT_LENGTH);
                    self.client.interim(answer.status, fields);
                    if let Poll::Ready(Err(why)) = self.client.poll_flush(cx) {
                        return Poll::Ready(Err(self.state.watch.interrupted().unwrap_or(why).into()));
                    }
                }
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => break,
            }
        }
        if self.client.poll_left(cx).is_ready() {
            return Poll::Ready(Err(Why::ClientAborted.into()));
        }
        Poll::Pending
    }

    /// Moves as much of the request's body as moves now.
    fn upload(&mut self, cx: &mut Context<'_>) -> Result<(), Why> {
        if self.is_uploaded || self.is_refused {
            return Ok(());
        }
        let limit = self.exchange.listener.as_ref().map_or(0, |listener| listener.plan.limits.request_body);
        let Some(server) = &mut self.server else { return Err(Why::Internal) };
        loop {
            // What is here of the body goes out with the head.
            let mut waits_for_client = false;
            while !self.is_put && server.has_room() {
                match self.body.poll_next(cx, &mut self.client, limit) {
                    Poll::Ready(Ok(Some(bytes))) => {
                        // A frame without data is no progress.
                        if !bytes.is_empty() {
                            self.state.watch.touch();
                        }
                        server.put(bytes);
                    }
                    Poll::Ready(Ok(None)) => {
                        let mut trailers = self.client.take_trailers();
                        trailers.iter_mut().for_each(forwarding::strip_trailers);
                        server.finish(trailers);
                        self.is_put = true;
                    }
                    Poll::Ready(Err(why)) => return Err(self.state.watch.interrupted().unwrap_or(why)),
                    Poll::Pending => {
                        waits_for_client = true;
                        break;
                    }
                }
            }
            match server.poll_flush(cx) {
                Poll::Ready(Ok(())) if self.is_put => {
                    server.uploaded();
                    self.uploaded();
                    return Ok(());
                }
                Poll::Ready(Ok(())) if waits_for_client => {
                    self.waits_for(false);
                    return Ok(());
                }
                Poll::Ready(Ok(())) => self.state.watch.touch(),
                // It may have answered before it closed.
                Poll::Ready(Err(_)) => {
                    self.is_refused = true;
                    return Ok(());
                }
                Poll::Pending => {
                    self.waits_for(true);
                    return Ok(());
                }
            }
        }
    }

    /// Which side is to move next, and how long that may take.
    fn waits_for(&mut self, server: bool) {
        if self.waits_for_server == server || self.status != 0 {
            return;
        }
        self.waits_for_server = server;
        self.exchange.upload_waits(server);
    }

    /// The request is with the server, which is now to answer.
    fn uploaded(&mut self) {
        self.is_uploaded = true;
        self.waits_for_server = false;
        if self.status != 0 {
            return;
        }
        let Some(request) = self.exchange.pool().map(|pool| pool.plan.timeouts.request) else { return };
        let due = Instant::now() + request;
        self.exchange.expect_head(self.call_due.map_or(due, |call_due| call_due.min(due)));
    }

    /// Passes on a response.
    async fn pass_on(&mut self, answer: Answer) {
        let Answer { status, mut fields, is_over, hint } = answer;
        #[cfg(debug_assertions)]
        assert!(!fields.contains_key("x-evenkeel-drill"), "a drill");
        self.body.forget();
        self.exchange.answered(hint);
        // What has come of the body along with the head is looked at first: if it is broken, there is still an answer.
        let first = match self.first_data(is_over).await {
            Ok(first) => first,
            Err(failure) => {
                self.exchange.detail = failure.detail.or(self.exchange.detail);
                // The client has none of it.
                self.exchange.first_byte = None;
                return self.answer(failure.why).await;
            }
        };
        self.status = status.as_u16();
        self.limit(self.call_due);
        if let Some(hsts) = self.exchange.hsts().and_then(|hsts| HeaderValue::from_str(hsts).ok()) {
            fields.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(hsts);
        }
        if !fields.contains_key(header::DATE) {
            fields.insert(header::DATE, date(SystemTime::now()));
        }
        if status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6.
            fields.remove(header::CONTENT_LENGTH);
        }
        if !names_upgrades(self.status) {
            fields.remove(header::UPGRADE);
        }
        // An answer without a body says it here.
        self.exchange.grpc_status = grpc::status(&fields);
        if is_over {
            self.server_is_done();
        }
        let begun = self.client.begin(status, fields, is_over).map_err(Failure::from);
        let passed = match begun.and_then(|()| first.map_or(Ok(()), |first| self.pass_data(first))) {
            Ok(()) => poll_fn(|cx| self.poll_body(cx)).await,
            Err(failure) => Err(failure),
        };
        if passed.is_err() {
            // What the client was sent leaves before it is told that no more comes: a reset takes what waits with it.
            tokio::task::yield_now().await;
        }
        self.bytes_out = self.client.sent();
        self.state.watch.may_be_quiet();
        self.state.watch.no_deadline();
        if let Err(failure) = passed {
            self.exchange.detail = failure.detail.or(self.exchange.detail);
            self.exchange.fail(failure.why);
            self.server = None;
            self.exchange.give_back();
            if self.is_given_up(failure.why) {
                self.exchange.grpc_status = Some(grpc::DEADLINE_EXCEEDED);
                let trailers = grpc::trailers(grpc::DEADLINE_EXCEEDED, "the call's deadline has passed");
                if self.client.end(Some(trailers)).is_ok() {
                    return;
                }
            }
            self.client.cut();
        }
    }

    /// Moves the response's body to its end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.state.watch.heed_now(cx)?;
        self.upload(cx)?;
        loop {
            // Nothing more is read while the client has not taken what was.
            let before = self.client.sent();
            let flushed = self.client.poll_flush(cx);
            if self.client.sent() != before {
                self.state.watch.touch();
            }
            ready!(flushed).map_err(|why| self.state.watch.interrupted().unwrap_or(why))?;
            let Some(server) = &mut self.server else { return Poll::Ready(Ok(())) };
            match server.poll_data(cx) {
                Poll::Ready(Ok(data)) => self.pass_data(data)?,
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => break,
            }
        }
        if self.client.poll_left(cx).is_ready() {
            return Poll::Ready(Err(Why::ClientAborted.into()));
        }
        Poll::Pending
    }

    /// What is there of the response's body behind its head.
    async fn first_data(&mut self, is_over: bool) -> Result<Option<Data>, Failure> {
        let Some(server) = self.server.as_mut().filter(|_| !is_over) else { return Ok(None) };
        match poll_fn(|cx| Poll::Ready(server.poll_data(cx))).await {
            Poll::Ready(data) => data.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Takes what came of the response's body.
    fn pass_data(&mut self, data: Data) -> Result<(), Failure> {
        match data {
            Data::Some { bytes, is_last } => {
                // A frame without data is no progress.
                if !bytes.is_empty() {
                    self.state.watch.touch();
                }
                if is_last {
                    self.server_is_done();
                }
                match bytes.is_empty() && is_last {
                    true => self.client.end(None)?,
                    false => self.client.send(bytes, is_last),
                }
            }
            Data::End(trailers) => {
                if let Some(trailers) = &trailers {
                    self.exchange.grpc_status = grpc::status(trailers).or(self.exchange.grpc_status);
                }
                self.server_is_done();
                self.client.end(trailers)?;
            }
        }
        Ok(())
    }

    /// The server has no more to do: its lease ends and its connection is free before the client has the last
    /// byte, so that the client's next request finds both.
    fn server_is_done(&mut self) {
        if let (Some(exchanged), Some((pool, server))) = (self.server.take(), self.exchange.leased()) {
            exchanged.done(keepalive(&pool.plan.timeouts, &server));
        }
        // Whatever the client still sends of its request has no taker.
        self.is_refused = true;
        self.exchange.give_back();
    }

    fn record(&mut self) {
        if self.lacks_host {
            // The one that it has is ours.
            self.head.headers.remove(header::HOST);
        }
        let status = if self.status == 0 { self.exchange.why.status() } else { self.status };
        self.exchange.record(status, Some(&Asked::from(&self.head)), (self.body.bytes, self.bytes_out));
    }
}

impl<C: Client> Drop for Relay<C> {
    /// What ends in the middle: a panic, a stopped runtime.
    fn drop(&mut self) {
        if self.exchange.broke_off() {
            self.bytes_out = self.client.sent();
            self.record();
        }
    }
}
