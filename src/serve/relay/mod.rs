//! The one driver of an HTTP exchange, whichever version either side speaks: the request goes from the client's side to the
//! server's, the response back, by one future. Decisions are made in [`Exchange`].
//!
//! Pingora's proxy loop does this too, at two and a half times the instructions: it takes heads apart into maps and
//! puts them together again, moves bodies through channels between two halves, and keeps a task for each idle
//! connection. Here heads go from bytes to bytes where both sides speak HTTP/1, one future drives both directions, buffers
//! are held only while there are bytes in them, and connections to servers are the core's own.

mod connect;
mod download;
mod own_response;
mod tunnel;
mod upload;

use super::client::ClientSide;
use super::exchange::{Exchange, is_idempotent};
use super::server::ServerSide;
use super::{grpc, keepalive};
use crate::access_log::Why;
use crate::config::plan::ServerProtocol;
use crate::edge::{Addresses, RequestState};
use crate::wire::request::RequestView;
use crate::wire::request_head::Head;
use http::Version;
use http::request::Parts;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;
use upload::Body;

/// A request's head, in the form in which it came.
#[derive(Debug)]
pub(super) enum RequestHead<'a> {
    Http1(&'a Head),
    Http2 { head: Box<Parts>, has_body: bool },
}

impl RequestHead<'_> {
    fn view(&self) -> RequestView<'_> {
        match self {
            Self::Http1(head) => RequestView::from(*head),
            Self::Http2 { head, has_body } => RequestView::of_parts(head, *has_body),
        }
    }
}

/// One request under way.
pub(super) struct Relay<'a, C: ClientSide> {
    state: Arc<RequestState>,
    /// Of the client's connection, as its server may be told.
    addresses: Addresses,
    pub(super) client: C,
    head: RequestHead<'a>,
    exchange: Exchange,
    /// What the connection may switch to.
    upgrade: Option<String>,
    body: Body,
    /// The body's chunks go on as they are, for its server can only be one of HTTP/1.
    keeps_chunks: bool,
    server: Option<ServerSide>,
    is_uploaded: bool,
    /// The server takes nothing more of the request; it may have answered.
    is_refused: bool,
    /// All of the request was put.
    is_put: bool,
    /// The request waits for the server to read, not for the client to write.
    waits_for_server: bool,
    is_grpc: bool,
    /// When a gRPC client gives its call up.
    call_due: Option<Instant>,
    /// Interim responses so far.
    interims: u32,
    status: u16,
    bytes_in: u64,
    bytes_out: u64,
}

impl<'a, C: ClientSide> Relay<'a, C> {
    pub(super) fn new(
        exchange: Exchange,
        state: Arc<RequestState>,
        addresses: Addresses,
        head: RequestHead<'a>,
        client: C,
    ) -> Self {
        let view = head.view();
        let is_grpc = view.version == Version::HTTP_2 && grpc::is_call(view.fields);
        let call_due = match is_grpc {
            true => grpc::timeout(view.fields).and_then(|within| exchange.started.checked_add(within)),
            false => None,
        };
        Self {
            state,
            addresses,
            body: Body::new(false, !client.has_body()),
            client,
            head,
            exchange,
            upgrade: None,
            keeps_chunks: false,
            server: None,
            is_uploaded: false,
            is_refused: false,
            is_put: false,
            waits_for_server: false,
            is_grpc,
            call_due,
            interims: 0,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Serves the request, and records it.
    pub(super) async fn run(&mut self) {
        self.serve().await;
        self.record();
    }

    async fn serve(&mut self) {
        match self.exchange.admit(&self.head.view()).await {
            Ok(()) => self.prepare(),
            Err(why) => return self.answer(why).await,
        }
        loop {
            let reused = match self.connect().await {
                Ok(reused) => reused,
                Err(why) => {
                    if self.state.watch.interrupted().is_none() && self.exchange.connect_failed(why).await {
                        continue;
                    }
                    return self.answer(why).await;
                }
            };
            match poll_fn(|cx| self.poll_head(cx)).await {
                Ok(answer) => {
                    if self.can_be_repeated() && self.exchange.status_is_retried(answer.status).await {
                        self.rewind();
                        continue;
                    }
                    return match answer.status {
                        101 => self.tunnel(answer).await,
                        _ => self.pass_on(answer).await,
                    };
                }
                Err(failure) => {
                    let may_be_sent_again = match failure.why {
                        Why::ServerReset if failure.is_untouched => self.body.is_repeatable,
                        Why::ServerReset => self.can_be_repeated(),
                        _ => false,
                    };
                    let is_stale = reused || failure.is_untouched;
                    if may_be_sent_again && self.exchange.send_again(is_stale).await {
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

    /// Sets the first limits, now that it is known where the request goes.
    fn prepare(&mut self) {
        let Some(pool) = self.exchange.pool().cloned() else { return };
        let view = self.head.view();
        let is_http1 = pool.plan.protocol == ServerProtocol::Http1;
        if let RequestHead::Http1(head) = self.head
            && pool.plan.protocol != ServerProtocol::H2
        {
            self.upgrade = self.exchange.upgrade(head);
        }
        self.keeps_chunks = is_http1;
        let has_body = self.client.has_body();
        // A server that speaks HTTP/2 may say that it has not touched a request, whatever the method.
        self.body = Body::new(is_idempotent(view.method) || !is_http1, !has_body);
        if has_body {
            // A call's deadline counts from its beginning, `timeouts.request` once the body is there.
            self.exchange.upload_waits(false);
            self.limit(self.call_due);
        } else {
            let due = self.exchange.started + pool.plan.timeouts.request;
            self.exchange.due = Some(self.call_due.map_or(due, |call_due| call_due.min(due)));
            self.limit(self.exchange.due);
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
        is_idempotent(self.head.view().method) && self.body.is_repeatable
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
        let status = if self.status == 0 { self.exchange.why.status() } else { self.status };
        let bytes_in = self.client.received() + self.bytes_in;
        self.exchange.record(status, Some(&self.head.view()), (bytes_in, self.bytes_out));
    }
}

impl<C: ClientSide> Drop for Relay<'_, C> {
    /// What ends in the middle: a panic, a stopped runtime.
    fn drop(&mut self) {
        if self.exchange.broke_off() {
            self.bytes_out = self.client.sent();
            self.record();
        }
    }
}
