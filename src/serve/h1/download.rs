//! The response's way: its head and its body, from the server to the client; or a tunnel, if that is what it opens.

use super::Relay;
use super::response::{self, Form, To, Verdict};
use crate::access_log::Why;
use crate::edge::{AfterRequest, Buffer, Duplex};
use crate::serve::{keepalive, kept};
use crate::wire::chunked::Chunks;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

/// Bytes of interim responses that may wait for a client that does not read.
const MOST_INTERIM: usize = 64 * 1024;
/// As many bring a client nothing more.
pub(in crate::serve) const MOST_INTERIMS: u32 = 64;

/// A response on its way.
struct Response {
    body: Rest,
    keeps: bool,
    /// The client tells its end by the connection's.
    ends_with_connection: bool,
    /// It gets the chunks' data alone.
    unchunked: bool,
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

impl Relay<'_> {
    /// Sends the request and reads the response's head, with what comes along of its body.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        kept: &mut Option<Buffer>,
    ) -> Poll<Result<Form, Why>> {
        self.state.watch.heed_now(cx)?;
        self.upload(cx)?;
        loop {
            self.flush_reply(cx)?;
            let mut buffer = kept.take().unwrap_or_else(Buffer::take);
            if !buffer.is_empty() {
                match self.read_head(&mut buffer) {
                    Verdict::Complete(form)
                        if form.is_interim()
                            && self.reply.len() < MOST_INTERIM
                            && self.interims < MOST_INTERIMS =>
                    {
                        self.interims += 1;
                        *kept = Some(buffer);
                        continue;
                    }
                    Verdict::Complete(form) if form.is_interim() => {
                        self.reply.truncate(self.final_head);
                        self.exchange.detail = Some("too many interim responses");
                        return Poll::Ready(Err(Why::ServerMalformed));
                    }
                    // Looked for here too, so that a FIN that comes with the response is one before it every time.
                    Verdict::Complete(_) if self.has_gone(cx) => {
                        return Poll::Ready(Err(Why::ClientAborted));
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
                Poll::Ready(Ok(1..)) => self.state.watch.touch(),
                Poll::Ready(_) => return Poll::Ready(Err(Why::ServerReset)),
                Poll::Pending => break,
            }
        }
        if self.has_gone(cx) { Poll::Ready(Err(Why::ClientAborted)) } else { Poll::Pending }
    }

    /// Judges what has come of a head, and writes it to `reply` once it is whole.
    fn read_head(&mut self, buffer: &mut Buffer) -> Verdict {
        let head_request = self.head.method == http::Method::HEAD;
        let hsts = self.exchange.hsts();
        // Whatever is still to come of the request has no taker then.
        let may_go_on = self.may_go_on() && self.conn.is_request_over();
        let (is_http_11, now) = (self.head.is_http_11(), SystemTime::now());
        let to = To { head_request, upgrade: self.upgrade.as_deref(), is_http_11, may_go_on, hsts, now };
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

    /// Passes on a response whose head is in `reply`.
    pub(super) async fn pass_on(&mut self, form: Form, buffer: Option<Buffer>) -> AfterRequest {
        self.exchange.answered(form.hint);
        let unchunked = matches!(form.body, response::Body::Chunked(_)) && !self.head.is_http_11();
        let mut response = Response {
            body: form.body.into(),
            keeps: form.keeps,
            ends_with_connection: unchunked || form.body == response::Body::UntilClose,
            unchunked,
            buffer: None,
        };
        if let Some(buffer) = buffer
            && let Err(why) = self.take_body(&mut response, buffer)
        {
            // Nothing of it has been sent, so there is still an answer.
            self.reply.truncate(self.final_head);
            self.exchange.first_byte = None;
            return self.answer(why);
        }
        self.status = form.status;
        let passed = poll_fn(|cx| self.poll_body(cx, &mut response)).await;
        self.state.watch.may_be_quiet();
        if let Err(why) = passed {
            self.exchange.fail(why);
            self.exchange.give_back();
            if response.ends_with_connection {
                // A plain end would look like the body's.
                self.conn.socket_mut().end_with_reset();
            }
            return AfterRequest::Close;
        }
        self.next(form.goes_on)
    }

    /// Moves the response's body to its end.
    fn poll_body(&mut self, cx: &mut Context<'_>, response: &mut Response) -> Poll<Result<(), Why>> {
        self.state.watch.heed_now(cx)?;
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
                    self.state.watch.touch();
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
        if self.has_gone(cx) { Poll::Ready(Err(Why::ClientAborted)) } else { Poll::Pending }
    }

    /// Takes what came of the body; what came beyond its end spoils the connection.
    fn take_body(&mut self, response: &mut Response, mut buffer: Buffer) -> Result<(), Why> {
        let came = buffer.data().len();
        let mut data = None;
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
                let n = match response.unchunked {
                    true => {
                        let (n, kept) = chunks.strip(buffer.data_mut());
                        data = Some(kept);
                        n
                    }
                    false => chunks.take(buffer.data()),
                };
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
            response.keeps = false;
        }
        buffer.truncate(data.unwrap_or(ours));
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
            kept::put((server.id(), self.origination), socket, keepalive(&pool.plan.timeouts, &server));
        }
        // Whatever the client still sends of its request has no taker.
        self.is_refused = true;
        self.exchange.give_back();
    }

    /// Passes bytes both ways, behind the response's head in `reply`. Neither side's messages are looked at; of a
    /// WebSocket it is known where they end.
    pub(super) async fn tunnel(&mut self, is_websocket: bool, buffer: Option<Buffer>) -> AfterRequest {
        self.status = 101;
        self.exchange.answered(None);
        let (Some(mut server), Some((pool, _))) = (self.server.take(), self.exchange.leased()) else {
            return self.answer(Why::Internal);
        };
        let watch = &self.state.watch;
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
        let duplex = Duplex::new((up, read), (down, came));
        let mut duplex = if is_websocket { duplex.of_websocket() } else { duplex };
        let client = self.conn.socket_mut();
        let why = poll_fn(|cx| duplex.poll(client, &mut server, watch, cx)).await;
        (self.bytes_in, self.bytes_out) = duplex.passed();
        self.exchange.fail(why);
        match watch.interrupted() {
            // Unread bytes of the client's would turn our close frame into a reset.
            Some(_) if duplex.is_delivered() => AfterRequest::LingeringClose,
            _ => AfterRequest::Close,
        }
    }

    /// Sends interim responses.
    pub(super) fn flush_reply(&mut self, cx: &mut Context<'_>) -> Result<(), Why> {
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
