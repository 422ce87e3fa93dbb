//! Serves an HTTP/1.1 request from an HTTP/1.1 server: the common case, and the one that a peak is made of.
//!
//! The engine does this too, at two and a half times the instructions: it takes heads apart into maps and puts
//! them together again, moves bodies through channels between two halves, and keeps a task for each idle
//! connection. Here heads go from bytes to bytes, one future drives both directions, and buffers are held only
//! while there are bytes in them. Decisions are the same ones, made in [`Exchange`].

pub(super) mod kept;
mod request;
mod response;

use super::asked::Asked;
use super::exchange::{Exchange, is_idempotent, remaining};
use super::forwarding::{self, Peer};
use super::{answer, introduction, keepalive};
use crate::access_log::Why;
use crate::control::Live;
use crate::edge::{Body, Buffer, Chunks, Conn, Duplex, Head, Next, Seat, Socket};
use crate::proxy_header::{self, About};
pub(super) use response::timeout;
use response::{Form, To, Verdict};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tracing::debug;

/// As much of a body is kept as may have to be sent again, to another server.
const REPEATABLE: usize = 64 * 1024;

/// Serves a request, and says what becomes of the client's connection.
pub(super) async fn serve(live: &Arc<Live>, conn: &mut Conn, head: &Head) -> Next {
    let mut relay = Relay::new(live, conn, head);
    let next = relay.run().await;
    relay.record();
    next
}

/// Bytes of a body that nobody wants that are read rather than closing the connection.
const DISCARDED: u64 = 64 * 1024;
/// Bytes of interim responses that may wait for a client that does not read.
const MOST_INTERIM: usize = 64 * 1024;

/// One request under way.
struct Relay<'a> {
    conn: &'a mut Conn,
    seat: Arc<Seat>,
    head: &'a Head,
    exchange: Exchange,
    server: Option<Socket>,
    /// The request's head for the server, and as much of its body as may have to be sent again.
    request: Vec<u8>,
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
    /// Where in `reply` the last head begins.
    final_head: usize,
    status: u16,
    bytes_out: u64,
}

/// A response on its way.
struct Response {
    body: Rest,
    keeps: bool,
    /// Read from the server and not yet sent; nothing beyond the body's end.
    buffer: Option<Buffer>,
}

/// What is to come of a body.
enum Rest {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    Nothing,
}

impl<'a> Relay<'a> {
    fn new(live: &Arc<Live>, conn: &'a mut Conn, head: &'a Head) -> Self {
        let seat = Arc::clone(&conn.seat);
        seat.taken.store(true, Relaxed);
        let mut exchange = Exchange::new(live);
        exchange.seat = Some(Arc::clone(&seat));
        exchange.find_listener();
        Self {
            conn,
            seat,
            head,
            exchange,
            server: None,
            request: Vec::new(),
            sent: 0,
            body: None,
            bytes_in: 0,
            is_repeatable: is_idempotent(&head.method),
            is_uploaded: false,
            is_refused: false,
            waits_for_server: false,
            reply: Vec::new(),
            replied: 0,
            final_head: 0,
            status: 0,
            bytes_out: 0,
        }
    }

    async fn run(&mut self) -> Next {
        match self.exchange.admit(&Asked::from(self.head)) {
            Ok(()) => self.write_request(),
            Err(why) => return self.answer(why),
        }
        loop {
            if let Err(why) = self.exchange.ensure_lease() {
                return self.answer(why);
            }
            let reused = match self.connect().await {
                Ok(reused) => reused,
                Err(why) if self.seat.watch.interrupted().is_none() && self.exchange.connect_failed(why) => {
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
                        return self.tunnel(buffer).await;
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

    fn write_request(&mut self) {
        let (Some(listener), Some(pool)) = (&self.exchange.listener, self.exchange.pool()) else { return };
        let peer = Peer::from(&*self.seat.client);
        let id = self.exchange.request_id.as_deref().unwrap_or_default();
        let told = forwarding::tell(self.head, peer, &listener.plan.trusted_proxies, id);
        self.request.reserve(1024);
        request::write(self.head, &told, &mut self.request);
        if pool.plan.proxy_protocol.is_some() && !self.head.asks_for_websocket() {
            introduction::end_after_this(&mut self.request);
        }
        let watch = &self.seat.watch;
        if self.conn.is_request_over() {
            watch.deadline(pool.plan.timeouts.request, Why::RequestTimeout);
        } else {
            watch.quiet(listener.plan.timeouts.request_body, Why::RequestBodyTimeout);
        }
    }

    /// The next try begins at the beginning.
    fn rewind(&mut self) {
        self.server = None;
        self.sent = 0;
        self.is_uploaded = false;
        self.is_refused = false;
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
        if introduction.is_none()
            && let Some(socket) = kept::take(server.id())
        {
            self.server = Some(socket);
            return Ok(true);
        }
        let limit = pool.plan.timeouts.connect;
        let mut connecting = pin!(Socket::connect(server.address(), limit));
        let watch = &self.seat.watch;
        let connected = poll_fn(|cx| {
            watch.wake_by(cx.waker());
            match watch.interrupted() {
                Some(why) => Poll::Ready(Err(why)),
                None => connecting.as_mut().poll(cx).map(Ok),
            }
        });
        match connected.await? {
            Ok(mut socket) => {
                // A new socket takes much more than this.
                if let Some(bytes) = introduction
                    && !matches!(socket.try_write(&bytes), Ok(n) if n == bytes.len())
                {
                    return Err(Why::ConnectFailed);
                }
                self.server = Some(socket);
                self.exchange.connected();
                Ok(false)
            }
            Err(error) => {
                debug!(pool = %server.pool(), server = %server.name(), %error, "cannot connect");
                let timed_out = error.kind() == ErrorKind::TimedOut;
                Err(if timed_out { Why::ConnectTimeout } else { Why::ConnectFailed })
            }
        }
    }

    /// Sends the request and reads the response's head, with what comes along of its body.
    fn poll_head(&mut self, cx: &mut Context<'_>, kept: &mut Option<Buffer>) -> Poll<Result<Form, Why>> {
        self.heed_interruption(cx)?;
        self.upload(cx)?;
        loop {
            self.flush_reply(cx)?;
            let mut buffer = kept.take().unwrap_or_else(Buffer::take);
            if !buffer.is_empty() {
                match self.read_head(&mut buffer) {
                    Verdict::Complete(form) if form.is_interim() && self.reply.len() < MOST_INTERIM => {
                        *kept = Some(buffer);
                        continue;
                    }
                    Verdict::Complete(form) if form.is_interim() => {
                        self.exchange.detail = Some("too many interim responses");
                        return Poll::Ready(Err(Why::ServerMalformed));
                    }
                    Verdict::Complete(form) => {
                        *kept = Some(buffer);
                        return Poll::Ready(Ok(form));
                    }
                    Verdict::Refused(detail) => {
                        self.exchange.detail = Some(detail);
                        return Poll::Ready(Err(Why::ServerMalformed));
                    }
                    Verdict::Partial => {}
                }
            }
            let Some(server) = &mut self.server else { return Poll::Ready(Err(Why::Internal)) };
            let read = buffer.fill(cx, |cx, buf| server.poll_read(cx, buf));
            if !buffer.is_empty() {
                *kept = Some(buffer);
            }
            match read {
                Poll::Ready(Ok(1..)) => self.seat.watch.touch(),
                Poll::Ready(_) => return Poll::Ready(Err(Why::ServerReset)),
                Poll::Pending => break,
            }
        }
        if self.is_uploaded {
            ready!(self.conn.poll_left(cx));
            return Poll::Ready(Err(Why::ClientAborted));
        }
        Poll::Pending
    }

    /// Judges what has come of a head, and writes it to `reply` once it is whole.
    fn read_head(&mut self, buffer: &mut Buffer) -> Verdict {
        let head_request = self.head.method == http::Method::HEAD;
        let websocket = self.head.asks_for_websocket();
        let to = To { head_request, websocket, closes: !self.may_go_on() };
        self.final_head = self.reply.len();
        let verdict = response::read(buffer.data(), to, &mut self.reply);
        match &verdict {
            Verdict::Complete(form) => {
                #[cfg(debug_assertions)]
                drill(&buffer.data()[..form.length]);
                buffer.consume(form.length);
                verdict
            }
            Verdict::Partial if buffer.is_full() => Verdict::Refused("response head too large"),
            _ => verdict,
        }
    }

    /// Whether the client's connection may bring another request.
    fn may_go_on(&self) -> bool {
        !self.head.is_last() && !self.seat.client.door.is_closing()
    }

    /// Moves as much of the request as moves now.
    fn upload(&mut self, cx: &mut Context<'_>) -> Result<(), Why> {
        if self.is_uploaded || self.is_refused {
            return Ok(());
        }
        loop {
            // What is here of the body goes out with the head.
            if self.body.is_none() && !self.conn.is_request_over() {
                self.read_body(cx)?;
            }
            let both = [&self.request[self.sent..], self.body.as_ref().map_or(&[][..], Buffer::data)];
            if both == [b"", b""] {
                if self.conn.is_request_over() {
                    self.uploaded();
                }
                return Ok(());
            }
            let Some(server) = &mut self.server else { return Err(Why::Internal) };
            match server.poll_send(cx, both) {
                Poll::Ready(Ok(n @ 1..)) => {
                    let of_request = n.min(self.request.len() - self.sent);
                    self.sent += of_request;
                    if let Some(body) = &mut self.body {
                        body.consume(n - of_request);
                    }
                    self.body.take_if(|body| body.is_empty());
                    self.seat.watch.touch();
                    self.waits_for(false);
                }
                // It may have answered before it closed.
                Poll::Ready(_) => {
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
        let (Some(listener), Some(pool)) = (&self.exchange.listener, self.exchange.pool()) else { return };
        if server {
            self.seat.watch.quiet(pool.plan.timeouts.stream_idle, Why::StreamIdle);
        } else {
            self.seat.watch.quiet(listener.plan.timeouts.request_body, Why::RequestBodyTimeout);
        }
    }

    /// Reads of the request's body what is there.
    fn read_body(&mut self, cx: &mut Context<'_>) -> Result<(), Why> {
        let mut buffer = Buffer::take();
        let n = match buffer.fill(cx, |cx, buf| self.conn.poll_body(cx, buf)) {
            Poll::Ready(Ok(n @ 1..)) => n,
            Poll::Ready(_) => return Err(self.seat.watch.interrupted().unwrap_or(Why::ClientAborted)),
            Poll::Pending => return Ok(()),
        };
        self.bytes_in = match self.head.body() {
            Body::Chunked => self.conn.chunk_data(),
            Body::Length(_) => self.bytes_in + n as u64,
        };
        let limit = self.exchange.listener.as_ref().map_or(0, |listener| listener.plan.limits.request_body);
        if self.bytes_in > limit {
            return Err(Why::BodyTooLarge);
        }
        if self.is_repeatable && self.request.len() + n <= REPEATABLE {
            self.request.extend_from_slice(buffer.data());
        } else {
            self.is_repeatable = false;
            self.body = Some(buffer);
        }
        Ok(())
    }

    /// The request is with the server, which is now to answer.
    fn uploaded(&mut self) {
        self.is_uploaded = true;
        self.waits_for_server = false;
        if self.status != 0 {
            return;
        }
        let has_body = self.head.body() != Body::Length(0);
        let Some(timeouts) = self.exchange.pool().map(|pool| pool.plan.timeouts.clone()) else { return };
        let began = if has_body { Instant::now() } else { self.exchange.started };
        let due = *self.exchange.due.get_or_insert(began + timeouts.request);
        let (within, why) = remaining(Some(due), timeouts.response_header);
        self.seat.watch.may_be_quiet();
        self.seat.watch.deadline(within, why);
    }

    /// Passes on a response whose head is in `reply`.
    async fn pass_on(&mut self, form: Form, buffer: Option<Buffer>) -> Next {
        self.status = form.status;
        self.exchange.answered(form.hint);
        let mut response = Response { body: form.body.into(), keeps: form.keeps, buffer: None };
        let until_close = matches!(response.body, Rest::UntilClose);
        let passed = match buffer.map_or(Ok(()), |buffer| self.take_body(&mut response, buffer)) {
            Ok(()) => poll_fn(|cx| self.poll_body(cx, &mut response)).await,
            Err(why) => Err(why),
        };
        self.seat.watch.may_be_quiet();
        if let Err(why) = passed {
            self.exchange.fail(why);
            self.exchange.give_back();
            if until_close {
                // A plain end would look like the body's.
                self.conn.socket_mut().end_with_reset();
            }
            return Next::Close;
        }
        self.next(self.may_go_on() && !until_close)
    }

    /// Passes a WebSocket's bytes both ways, behind the response's head in `reply`. Neither side's messages are
    /// looked at.
    async fn tunnel(&mut self, buffer: Option<Buffer>) -> Next {
        self.status = 101;
        self.exchange.answered(None);
        let (Some(mut server), Some((pool, _))) = (self.server.take(), self.exchange.leased()) else {
            return self.answer(Why::Internal);
        };
        let watch = &self.seat.watch;
        watch.quiet(pool.plan.timeouts.tunnel_idle, Why::TunnelIdle);
        let up = self.conn.take_arrived();
        let mut down = std::mem::take(&mut self.reply).split_off(self.replied);
        let came = buffer.as_ref().map_or(&[][..], Buffer::data);
        down.extend_from_slice(came);
        let (read, came) = (up.len() as u64, came.len() as u64);
        // It may be silent for hours, and outlive many reloads: nothing is held that it does not need.
        drop((buffer, pool));
        self.request = Vec::new();
        self.exchange.listener = None;
        let mut duplex = Duplex::new((up, read), (down, came)).ending_together();
        let client = self.conn.socket_mut();
        let why = poll_fn(|cx| duplex.poll(client, &mut server, watch, cx)).await;
        (self.bytes_in, self.bytes_out) = duplex.passed();
        self.exchange.fail(why);
        Next::Close
    }

    /// What becomes of the client's connection; it may only `go_on` if no byte of this request is still to come.
    fn next(&self, go_on: bool) -> Next {
        match self.conn.is_request_over() {
            true if go_on => Next::Request,
            true if self.conn.pending().is_empty() => Next::Close,
            _ => Next::Part,
        }
    }

    /// Moves the response's body to its end.
    fn poll_body(&mut self, cx: &mut Context<'_>, response: &mut Response) -> Poll<Result<(), Why>> {
        self.heed_interruption(cx)?;
        self.upload(cx)?;
        loop {
            // Nothing more is read while the client has not taken what was.
            let both = [&self.reply[self.replied..], response.buffer.as_ref().map_or(&[][..], Buffer::data)];
            if both != [b"", b""] {
                let sent = ready!(self.conn.poll_send(cx, both)).map_err(|_| self.client_left())?;
                let of_reply = sent.min(self.reply.len() - self.replied);
                self.replied += of_reply;
                if let Some(buffer) = &mut response.buffer {
                    buffer.consume(sent - of_reply);
                }
                continue;
            }
            response.buffer = None;
            if let Rest::Nothing = response.body {
                return Poll::Ready(Ok(()));
            }
            let Some(server) = &mut self.server else { return Poll::Ready(Err(Why::Internal)) };
            let mut buffer = Buffer::take();
            match buffer.fill(cx, |cx, buf| server.poll_read(cx, buf)) {
                Poll::Ready(Ok(1..)) => {
                    self.seat.watch.touch();
                    self.take_body(response, buffer)?;
                }
                Poll::Ready(Ok(0)) if matches!(response.body, Rest::UntilClose) => {
                    response.body = Rest::Nothing;
                    response.keeps = false;
                    self.server_is_done(response);
                }
                Poll::Ready(_) => return Poll::Ready(Err(Why::ServerReset)),
                Poll::Pending => break,
            }
        }
        if self.is_uploaded {
            ready!(self.conn.poll_left(cx));
            return Poll::Ready(Err(Why::ClientAborted));
        }
        Poll::Pending
    }

    /// Takes what came of the body; what came beyond its end spoils the connection.
    fn take_body(&mut self, response: &mut Response, mut buffer: Buffer) -> Result<(), Why> {
        let came = buffer.data().len();
        let ours = match &mut response.body {
            Rest::Length(left) => {
                let n = came.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                self.bytes_out += n as u64;
                if *left == 0 {
                    response.body = Rest::Nothing;
                }
                n
            }
            Rest::Chunked(chunks) => {
                let before = chunks.data();
                let n = chunks.take(buffer.data());
                self.bytes_out += chunks.data() - before;
                if chunks.is_broken() {
                    self.exchange.detail = Some("broken chunk");
                    return Err(Why::ServerMalformed);
                }
                if chunks.is_over() {
                    response.body = Rest::Nothing;
                }
                n
            }
            Rest::UntilClose => {
                self.bytes_out += came as u64;
                came
            }
            Rest::Nothing => 0,
        };
        if ours < came {
            buffer.truncate(ours);
            response.keeps = false;
        }
        response.buffer = Some(buffer);
        if let Rest::Nothing = response.body {
            self.server_is_done(response);
        }
        Ok(())
    }

    /// The server has no more to do: its lease ends and its connection is free before the client has the last
    /// byte, so that the client's next request finds both.
    fn server_is_done(&mut self, response: &Response) {
        let (socket, leased) = (self.server.take(), self.exchange.leased());
        if let (Some(socket), Some((pool, server))) = (socket, leased)
            && response.keeps
            && self.is_uploaded
            && pool.plan.proxy_protocol.is_none()
        {
            kept::put(server.id(), socket, keepalive(&pool.plan.timeouts, &server));
        }
        // Whatever the client still sends of its request has no taker.
        self.is_refused = true;
        self.exchange.give_back();
    }

    /// Sends interim responses.
    fn flush_reply(&mut self, cx: &mut Context<'_>) -> Result<(), Why> {
        while self.replied < self.reply.len() {
            match self.conn.poll_send(cx, [&self.reply[self.replied..], &[]]) {
                Poll::Ready(Ok(n)) => self.replied += n,
                Poll::Ready(Err(_)) => return Err(self.client_left()),
                Poll::Pending => return Ok(()),
            }
        }
        self.reply.clear();
        self.replied = 0;
        Ok(())
    }

    fn client_left(&self) -> Why {
        self.seat.watch.interrupted().unwrap_or(Why::ClientAborted)
    }

    /// To be called at each poll: has the watch wake this task.
    fn heed_interruption(&self, cx: &mut Context<'_>) -> Result<(), Why> {
        self.seat.watch.wake_by(cx.waker());
        self.seat.watch.interrupted().map_or(Ok(()), Err)
    }

    /// Answers with a status of our own, for the first reason there was.
    fn answer(&mut self, why: Why) -> Next {
        self.server = None;
        self.exchange.fail(why);
        self.exchange.give_back();
        self.seat.watch.no_deadline();
        self.seat.watch.may_be_quiet();
        let why = self.exchange.why;
        if why == Why::ClientAborted {
            return Next::Close;
        }
        self.seat.answered.store(true, Relaxed);
        self.status = why.status();
        // It fits any send buffer; a client that does not even take that has no use for it.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.discard(&mut cx);
        let go_on =
            self.may_go_on() && self.conn.is_request_over() && self.seat.watch.interrupted().is_none();
        let head_request = self.head.method == http::Method::HEAD;
        self.bytes_out = answer::write(why, head_request, !go_on, &mut self.reply);
        if self.flush_reply(&mut cx).is_err() || self.replied < self.reply.len() {
            return Next::Close;
        }
        self.next(go_on)
    }

    /// Reads what has come of the request's body: if that is all of it, the connection can go on.
    fn discard(&mut self, cx: &mut Context<'_>) {
        let mut buffer = Buffer::take();
        while !self.conn.is_request_over()
            && self.bytes_in < DISCARDED
            && let Poll::Ready(Ok(n @ 1..)) = buffer.fill(cx, |cx, buf| self.conn.poll_body(cx, buf))
        {
            buffer.consume(n);
            self.bytes_in += n as u64;
        }
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

impl From<response::Body> for Rest {
    fn from(body: response::Body) -> Self {
        match body {
            response::Body::Length(0) => Self::Nothing,
            response::Body::Length(length) => Self::Length(length),
            response::Body::Chunked(chunks) => Self::Chunked(chunks),
            response::Body::UntilClose => Self::UntilClose,
        }
    }
}

/// A fault of our own on request, so that a test can see what becomes of it; not in release builds.
#[cfg(debug_assertions)]
fn drill(head: &[u8]) {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    assert!(!head.contains("\r\nx-evenkeel-drill:"), "a drill");
}
