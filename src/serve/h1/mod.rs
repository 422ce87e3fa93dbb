//! Serves an HTTP/1 request from an HTTP/1.1 server: the common case, and the one that a peak is made of.
//!
//! Pingora's proxy loop does this too, at two and a half times the instructions: it takes heads apart into maps and
//! puts them together again, moves bodies through channels between two halves, and keeps a task for each idle
//! connection. Here heads go from bytes to bytes, one future drives both directions, and buffers are held only
//! while there are bytes in them. Decisions are the same ones, made in [`Exchange`].

mod download;
pub(crate) mod fuzzed;
mod request;
mod response;
mod upload;

use super::answer::{self, Persistence};
use super::asked::Asked;
use super::dial::dial;
use super::exchange::{Exchange, is_idempotent};
use super::forwarding::{self, Peer};
use super::{grpc, introduction, is_cancelled_by, kept, own_host};
use crate::access_log::Why;
use crate::config::plan::ClientFin;
use crate::edge::{AfterRequest, Buffer, Conn, RequestState, Socket};
use crate::proxy_header::{self, About};
use crate::wire::request_head::Head;
pub(super) use download::MOST_INTERIMS;
pub(super) use response::{Body as ResponseBody, Verdict, names_upgrades, read_map};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::SystemTime;
use tracing::debug;

/// Serves a request, and says what becomes of the client's connection.
pub(super) async fn serve(
    exchange: Exchange,
    admitted: Result<(), Why>,
    conn: &mut Conn,
    head: &Head,
) -> AfterRequest {
    let mut relay = Relay::new(exchange, conn, head);
    let next = relay.run(admitted).await;
    relay.record();
    next
}

/// One request under way.
struct Relay<'a> {
    conn: &'a mut Conn,
    state: Arc<RequestState>,
    head: &'a Head,
    exchange: Exchange,
    /// What the connection may switch to.
    upgrade: Option<String>,
    server: Option<Socket>,
    /// How that connection is secured; 0 is not.
    origination: u32,
    /// The request's head for the server, and as much of its body as may have to be sent again.
    request: Vec<u8>,
    /// Bytes of the head there.
    head_length: usize,
    sent: usize,
    /// Of the request's body: what is not in `request` and not sent.
    body: Option<Buffer>,
    bytes_in: u64,
    /// All that was read of the body is in `request`.
    is_repeatable: bool,
    is_uploaded: bool,
    /// The server takes nothing more of the request; it may have answered.
    is_refused: bool,
    /// The request waits for the server to read, not for the client to write.
    waits_for_server: bool,
    /// Heads for the client.
    reply: Vec<u8>,
    replied: usize,
    /// Interim responses so far.
    interims: u32,
    /// Where in `reply` the last head begins.
    final_head: usize,
    status: u16,
    bytes_out: u64,
}

impl<'a> Relay<'a> {
    fn new(exchange: Exchange, conn: &'a mut Conn, head: &'a Head) -> Self {
        let state = Arc::clone(&conn.state);
        Self {
            conn,
            state,
            head,
            upgrade: exchange.upgrade(head),
            exchange,
            server: None,
            origination: 0,
            request: Vec::new(),
            head_length: 0,
            sent: 0,
            body: None,
            bytes_in: 0,
            is_repeatable: is_idempotent(&head.method),
            is_uploaded: false,
            is_refused: false,
            waits_for_server: false,
            reply: Vec::new(),
            replied: 0,
            interims: 0,
            final_head: 0,
            status: 0,
            bytes_out: 0,
        }
    }

    async fn run(&mut self, admitted: Result<(), Why>) -> AfterRequest {
        match admitted {
            Ok(()) => self.begin(),
            Err(why) => return self.answer(why),
        }
        loop {
            if let Err(why) = self.exchange.ensure_lease() {
                return self.answer(why);
            }
            if self.head_length == 0 || self.head.host().is_none() {
                self.write_head();
            }
            let reused = match self.connect().await {
                Ok(reused) => reused,
                Err(why) if self.state.watch.interrupted().is_none() && self.exchange.connect_failed(why) => {
                    continue;
                }
                Err(why) => return self.answer(why),
            };
            let mut buffer = None;
            match poll_fn(|cx| self.poll_head(cx, &mut buffer)).await {
                Ok(form) => {
                    if self.can_be_repeated() && self.exchange.status_is_retried(form.status) {
                        self.reply.truncate(self.final_head);
                        self.rewind();
                        continue;
                    }
                    if form.status == 101 {
                        return self.tunnel(form.is_websocket, buffer).await;
                    }
                    return self.pass_on(form, buffer).await;
                }
                Err(Why::ServerReset) if self.can_be_repeated() && self.exchange.send_again(reused) => {
                    self.rewind();
                }
                Err(why) => return self.answer(why),
            }
        }
    }

    /// Sets the first limits.
    fn begin(&mut self) {
        let (Some(listener), Some(pool)) = (&self.exchange.listener, self.exchange.pool()) else { return };
        let watch = &self.state.watch;
        if self.conn.is_request_over() {
            watch.deadline(pool.plan.timeouts.request, Why::RequestTimeout);
        } else {
            watch.quiet(listener.plan.timeouts.request_body, Why::RequestBodyTimeout);
        }
    }

    /// Writes the head that the leased server is to get, before what is there of the body.
    fn write_head(&mut self) {
        let (Some(listener), Some((pool, server))) = (&self.exchange.listener, self.exchange.leased()) else {
            return;
        };
        let body = self.request.split_off(self.head_length);
        self.request.clear();
        let host = self.head.host().is_none().then(|| own_host(&pool.plan, server.address()));
        let peer = Peer::from(&*self.state.client);
        let id = self.exchange.request_id.as_deref().unwrap_or_default();
        let telling = forwarding::tell(self.head, self.head.host(), peer, &listener.plan.trusted_proxies, id);
        self.request.reserve(1024);
        request::write(self.head, host.as_deref(), &telling, self.upgrade.as_deref(), &mut self.request);
        if pool.plan.proxy_protocol.is_some() && self.upgrade.is_none() {
            introduction::end_after_this(&mut self.request);
        }
        self.head_length = self.request.len();
        self.request.extend_from_slice(&body);
    }

    /// The next try begins at the beginning.
    fn rewind(&mut self) {
        self.server = None;
        self.sent = 0;
        self.is_uploaded = false;
        self.is_refused = false;
        self.exchange.begin_again();
    }

    /// RFC 9110 section 9.2.2: only what does no harm twice, and only with its body still at hand.
    fn can_be_repeated(&self) -> bool {
        is_idempotent(&self.head.method) && self.is_repeatable
    }

    /// Finds or opens a connection to the leased server; whether it was used before.
    async fn connect(&mut self) -> Result<bool, Why> {
        let Some((pool, server)) = self.exchange.leased() else { return Err(Why::Internal) };
        let introduction = pool.plan.proxy_protocol.map(|version| {
            let (source, destination) = self.conn.addresses();
            proxy_header::write(version, About::client(source, destination))
        });
        let origination = pool.origination.load_full();
        self.origination = origination.as_ref().map_or(0, |origination| origination.id);
        if introduction.is_none()
            && !self.exchange.wants_new_connection()
            && let Some(socket) = kept::take((server.id(), self.origination))
        {
            self.server = Some(socket);
            return Ok(true);
        }
        let secured = origination
            .map(|origination| (Arc::clone(&origination.http), origination.server_name(server.address())));
        let limit = pool.plan.timeouts.connect;
        let reaching = dial(&self.exchange.live, server.address(), limit, introduction.as_deref(), secured);
        match self.state.watch.heed(reaching).await? {
            Ok(socket) => {
                self.server = Some(socket);
                self.exchange.connected();
                Ok(false)
            }
            Err(error) => {
                debug!(pool = %server.pool(), server = %server.name(), %error, "cannot connect");
                self.exchange.detail = error.detail();
                Err(error.why())
            }
        }
    }

    /// Whether the client's connection may bring another request.
    fn may_go_on(&self) -> bool {
        !self.head.is_last() && !self.state.client.listener_state.is_closing()
    }

    /// What becomes of the client's connection; it may only `go_on` if no byte of this request is still to come.
    fn next(&self, go_on: bool) -> AfterRequest {
        match self.conn.is_request_over() {
            true if go_on => AfterRequest::KeepAlive,
            true if self.conn.pending().is_empty() => AfterRequest::Close,
            _ => AfterRequest::LingeringClose,
        }
    }

    /// Whether the client, whose request is over, has gone in a way that ends its exchange.
    fn has_gone(&mut self, cx: &mut Context<'_>) -> bool {
        let client_fin = self.exchange.listener.as_ref().map_or(ClientFin::Cancel, |l| l.plan.client_fin);
        let has_begun = self.status != 0;
        self.is_uploaded
            && matches!(self.conn.poll_left(cx), Poll::Ready(departure) if is_cancelled_by(departure, client_fin, has_begun))
    }

    fn client_left(&self) -> Why {
        self.state.watch.interrupted().unwrap_or(Why::ClientAborted)
    }

    /// Answers with a status of our own, for the first reason there was.
    fn answer(&mut self, why: Why) -> AfterRequest {
        self.server = None;
        self.exchange.fail(why);
        self.exchange.give_back();
        self.state.watch.no_deadline();
        self.state.watch.may_be_quiet();
        let why = self.exchange.why;
        if why == Why::ClientAborted {
            return AfterRequest::Close;
        }
        self.state.answered.store(true, Relaxed);
        self.status = why.status();
        // It fits any send buffer; a client that does not even take that has no use for it.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.discard(&mut cx);
        let go_on =
            self.may_go_on() && self.conn.is_request_over() && self.state.watch.interrupted().is_none();
        let head_request = self.head.method == http::Method::HEAD;
        let persistence = Persistence::of(go_on, self.head.is_http_11());
        let (said, now) = (self.exchange.said(), SystemTime::now());
        match grpc::web_call(self.head).filter(|_| said.is_plain()) {
            Some(kind) => {
                let status = answer::write_call(why, kind, persistence, now, &mut self.reply);
                self.exchange.grpc_status = Some(status);
                (self.status, self.bytes_out) = (200, 0);
            }
            None => {
                self.bytes_out = answer::write(why, said, head_request, persistence, now, &mut self.reply);
            }
        }
        if self.flush_reply(&mut cx).is_err() || self.replied < self.reply.len() {
            return AfterRequest::Close;
        }
        self.next(go_on)
    }

    fn record(&mut self) {
        let status = if self.status == 0 { self.exchange.why.status() } else { self.status };
        self.exchange.record(status, Some(&Asked::from(self.head)), (self.bytes_in, self.bytes_out));
    }
}

impl Drop for Relay<'_> {
    /// What ends in the middle: a panic, a stopped runtime.
    fn drop(&mut self) {
        if self.exchange.broke_off() {
            self.record();
        }
    }
}
