//! A client that speaks HTTP/1.1 or HTTP/1.0.

use super::ClientSide;
use crate::access_log::Why;
use crate::config::plan::ClientFin;
use crate::edge::{AfterRequest, Buffer, ClientClose, Conn};
use crate::serve::piece::{MOST_SLICES, Outgoing, Piece};
use crate::wire::chunked::Chunks;
use crate::wire::edit::Edits;
use crate::wire::request_head::{Head, RequestBodyLength};
use crate::wire::response_head::{Framing, Http1Terms, ResponseView, write_http1};
use http::{HeaderMap, Method};
use std::io::IoSlice;
use std::task::{Context, Poll, ready};

/// Bytes of a body that nobody wants that are read rather than closing the connection.
const DISCARDED: u64 = 64 * 1024;

/// A connection, and the request on it.
pub(in crate::serve) struct Http1<'a> {
    conn: &'a mut Conn,
    is_http_11: bool,
    is_head_request: bool,
    /// The client sends nothing more.
    is_last: bool,
    client_fin: ClientFin,
    has_body: bool,
    /// Of the request's body, where its chunks are taken apart.
    chunks: Option<Chunks>,
    received: u64,
    framing: Framing,
    /// The response's body is put into chunks here.
    rechunks: bool,
    has_begun: bool,
    /// The connection may bring another request after this response.
    may_go_on: bool,
    out: Outgoing,
    /// Where in its bytes the response's head begins.
    head_at: usize,
    sent: u64,
    is_whole: bool,
    after_switch: Option<AfterRequest>,
}

impl<'a> Http1<'a> {
    pub(in crate::serve) fn new(conn: &'a mut Conn, head: &Head, client_fin: ClientFin) -> Self {
        Self {
            is_http_11: head.is_http_11(),
            is_head_request: head.method == Method::HEAD,
            is_last: head.is_last(),
            client_fin,
            has_body: !conn.is_request_over(),
            chunks: (head.body() == RequestBodyLength::Chunked).then(Chunks::new),
            received: 0,
            framing: Framing::Bodiless,
            rechunks: false,
            has_begun: false,
            may_go_on: false,
            out: Outgoing::default(),
            head_at: 0,
            sent: 0,
            is_whole: false,
            after_switch: None,
            conn,
        }
    }

    /// What becomes of the connection.
    pub(in crate::serve) fn after(&self) -> AfterRequest {
        if let Some(after) = self.after_switch {
            return after;
        }
        let is_sent = self.is_whole && self.out.is_empty();
        match self.conn.is_request_over() {
            _ if !is_sent => AfterRequest::Close,
            true if self.may_go_on => AfterRequest::KeepAlive,
            true if self.conn.pending().is_empty() => AfterRequest::Close,
            _ => AfterRequest::LingeringClose,
        }
    }

    fn write_head(&mut self, head: &ResponseView<'_>, edits: &Edits<'_>) {
        let terms =
            Http1Terms { is_http_11: self.is_http_11, framing: self.framing, may_go_on: self.may_go_on };
        write_http1(head, edits, terms, &mut self.out.bytes);
    }
}

impl ClientSide for Http1<'_> {
    fn has_body(&self) -> bool {
        self.has_body
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, keeps_chunks: bool) -> Poll<Result<Option<Piece>, Why>> {
        loop {
            if self.conn.is_request_over() {
                return Poll::Ready(Ok(None));
            }
            let mut buffer = Buffer::take();
            let n = match ready!(buffer.fill(cx, |cx, buf| self.conn.poll_body(cx, buf))) {
                Ok(n @ 1..) => n,
                _ => return Poll::Ready(Err(Why::ClientAborted)),
            };
            match &mut self.chunks {
                None => self.received += n as u64,
                Some(_) if keeps_chunks => self.received = self.conn.chunk_data(),
                Some(chunks) => {
                    let (_, data) = chunks.strip(buffer.data_mut());
                    self.received += data as u64;
                    buffer.truncate(data);
                }
            }
            if !buffer.is_empty() {
                return Poll::Ready(Ok(Some(Piece::Buffer(buffer))));
            }
        }
    }

    fn received(&self) -> u64 {
        self.received
    }

    /// They are left out: nobody has said that they are understood (RFC 9110 section 6.5.1).
    fn take_trailers(&mut self) -> Option<HeaderMap> {
        None
    }

    /// If what has come is all of it, the connection can go on.
    fn refuse_body(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while self.received < DISCARDED && matches!(self.poll_body(&mut cx, true), Poll::Ready(Ok(Some(_)))) {
        }
    }

    fn end_with_answer(&mut self) {
        self.is_last = true;
    }

    fn takes_chunks(&self) -> bool {
        self.is_http_11
    }

    fn interim(&mut self, head: &ResponseView<'_>, edits: &Edits<'_>) {
        // HTTP/1.0 knows none (RFC 9110 section 15.2).
        if self.is_http_11 {
            self.write_head(head, edits);
        }
    }

    fn begin(&mut self, head: &ResponseView<'_>, edits: &Edits<'_>) -> Result<(), Why> {
        self.framing = Framing::of(head, self.is_head_request, self.is_http_11);
        self.rechunks = self.framing == Framing::Chunked && !head.is_chunked;
        let state = &self.conn.state;
        self.may_go_on = !self.is_last
            && self.framing != Framing::UntilClose
            // Whatever is still to come of the request has no taker then.
            && self.conn.is_request_over()
            && !state.client.listener_state.is_closing()
            && state.watch.interrupted().is_none();
        self.head_at = self.out.bytes.len();
        if self.out.bytes.capacity() == 0 {
            self.out.bytes.reserve(1024);
        }
        self.write_head(head, edits);
        Ok(())
    }

    fn withdraw(&mut self) {
        self.out.bytes.truncate(self.head_at);
    }

    fn commit(&mut self, is_over: bool) -> Result<(), Why> {
        self.has_begun = true;
        self.is_whole = is_over;
        Ok(())
    }

    fn send(&mut self, piece: Piece, length: u64, is_last: bool) {
        match self.framing {
            Framing::Bodiless => {}
            _ if piece.is_empty() => {}
            Framing::Chunked if self.rechunks => {
                self.out.bytes.extend_from_slice(format!("{length:x}\r\n").as_bytes());
                self.out.bytes.extend_from_slice(piece.data());
                self.out.bytes.extend_from_slice(b"\r\n");
                self.sent += length;
            }
            Framing::Length | Framing::Chunked | Framing::UntilClose => {
                self.out.push(piece);
                self.sent += length;
            }
        }
        if is_last {
            // Nothing can go wrong with so few bytes of our own.
            let _ = self.end(None);
        }
    }

    fn end(&mut self, _: Option<HeaderMap>) -> Result<(), Why> {
        if self.rechunks {
            self.out.bytes.extend_from_slice(b"0\r\n\r\n");
        }
        self.is_whole = true;
        Ok(())
    }

    fn takes_more(&self) -> bool {
        !self.rechunks && self.out.takes_more()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Why>> {
        while !self.out.is_empty() {
            let sent = match self.out.is_gathered() {
                false => self.conn.poll_send(cx, self.out.parts()),
                true => {
                    let mut slices = [IoSlice::new(&[]); MOST_SLICES];
                    let n = self.out.slices(&mut slices);
                    self.conn.poll_send_slices(cx, &slices[..n])
                }
            };
            let Ok(n) = ready!(sent) else { return Poll::Ready(Err(Why::ClientAborted)) };
            self.out.take(n);
        }
        self.head_at = 0;
        Poll::Ready(Ok(()))
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What comes before that is the body.
        if !self.conn.is_request_over() {
            return Poll::Pending;
        }
        let is_cancelled = match ready!(self.conn.poll_left(cx)) {
            ClientClose::Reset => true,
            ClientClose::Fin => match self.client_fin {
                // Once the response has begun a FIN says nothing of whether it is wanted.
                ClientFin::Cancel => !self.has_begun,
                ClientFin::Serve => false,
                ClientFin::Close => true,
            },
        };
        if is_cancelled { Poll::Ready(()) } else { Poll::Pending }
    }

    fn may_have_left(&self) -> bool {
        self.conn.has_finished() && self.client_fin != ClientFin::Serve
    }

    fn poll_left_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.conn.poll_left(cx)) {
            ClientClose::Reset => Poll::Ready(()),
            ClientClose::Fin if self.client_fin == ClientFin::Serve => Poll::Pending,
            ClientClose::Fin => Poll::Ready(()),
        }
    }

    fn has_left_waiting(&mut self, _: &mut Context<'_>) -> bool {
        match self.conn.close_by_now() {
            Some(ClientClose::Fin) => self.client_fin != ClientFin::Serve,
            close => close.is_some(),
        }
    }

    fn cut(&mut self) {
        self.is_whole = false;
        if self.has_begun && self.framing == Framing::UntilClose {
            // A plain end would look like the body's.
            self.conn.socket_mut().end_with_reset();
        }
    }

    fn switch(&mut self) -> Option<(&mut Conn, Vec<u8>)> {
        Some((self.conn, std::mem::take(&mut self.out).into_bytes()))
    }

    fn switched(&mut self, after: AfterRequest) {
        self.after_switch = Some(after);
    }
}
