//! The client's side of an exchange, where the client speaks HTTP/1.1 or HTTP/1.0.

use super::client::Client;
use super::over_h1::{unchunk, write_name};
use super::server::is_one_hop;
use crate::access_log::Why;
use crate::config::plan::ClientFin;
use crate::edge::{AfterRequest, Buffer, Conn};
use crate::fields::{Fields, tokens};
use crate::serve::answer::Persistence;
use crate::serve::is_cancelled_by;
use crate::wire::chunked::Chunks;
use crate::wire::request_head::{Body, Head};
use bytes::Bytes;
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header};
use std::task::{Context, Poll, ready};

/// Bytes of a body that nobody wants that are read rather than closing the connection.
const DISCARDED: usize = 64 * 1024;

/// How a response's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// It has no body, whatever a server may send.
    Bodiless,
    Length,
    Chunked,
    /// By the connection's end: HTTP/1.0 has no chunks (RFC 9112 section 6.1).
    UntilClose,
}

/// A connection, and the request on it.
pub(super) struct Http1<'a> {
    conn: &'a mut Conn,
    is_http_11: bool,
    is_head_request: bool,
    client_fin: ClientFin,
    has_begun: bool,
    /// The connection may bring another request.
    may_go_on: bool,
    /// Of the request's body.
    chunks: Option<Chunks>,
    framing: Framing,
    out: Vec<u8>,
    out_sent: usize,
    sent: u64,
    is_whole: bool,
}

impl<'a> Http1<'a> {
    pub(super) fn new(conn: &'a mut Conn, head: &Head, client_fin: ClientFin) -> Self {
        let is_closing = conn.state.client.listener_state.is_closing();
        Self {
            conn,
            is_http_11: head.is_http_11(),
            is_head_request: head.method == Method::HEAD,
            client_fin,
            has_begun: false,
            may_go_on: !head.is_last() && !is_closing,
            chunks: (head.body() == Body::Chunked).then(Chunks::new),
            framing: Framing::Bodiless,
            out: Vec::new(),
            out_sent: 0,
            sent: 0,
            is_whole: false,
        }
    }

    /// What becomes of the connection.
    pub(super) fn next(&self) -> AfterRequest {
        let is_sent = self.is_whole && self.out_sent == self.out.len();
        match self.conn.is_request_over() {
            _ if !is_sent => AfterRequest::Close,
            true if self.may_go_on => AfterRequest::KeepAlive,
            true if self.conn.pending().is_empty() => AfterRequest::Close,
            _ => AfterRequest::LingeringClose,
        }
    }
}

impl Client for Http1<'_> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Why>> {
        loop {
            if self.conn.is_request_over() {
                return Poll::Ready(Ok(None));
            }
            let mut buffer = Buffer::take();
            match ready!(buffer.fill(cx, |cx, buf| self.conn.poll_body(cx, buf))) {
                Ok(1..) => {}
                _ => return Poll::Ready(Err(Why::ClientAborted)),
            }
            let bytes = match &mut self.chunks {
                None => Bytes::copy_from_slice(buffer.data()),
                Some(chunks) => unchunk(chunks, buffer.data()).0,
            };
            if !bytes.is_empty() {
                return Poll::Ready(Ok(Some(bytes)));
            }
        }
    }

    /// They are left out: nobody has said that they are understood (RFC 9110 section 6.5.1).
    fn take_trailers(&mut self) -> Option<HeaderMap> {
        None
    }

    fn refuse_body(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut discarded = 0;
        while discarded < DISCARDED
            && let Poll::Ready(Ok(Some(bytes))) = self.poll_body(&mut cx)
        {
            discarded += bytes.len();
        }
    }

    fn interim(&mut self, status: StatusCode, fields: HeaderMap) {
        // HTTP/1.0 knows none (RFC 9110 section 15.2).
        if self.is_http_11 {
            write_line(status, &mut self.out);
            write_fields(&fields, &mut self.out);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn begin(&mut self, status: StatusCode, fields: HeaderMap, is_over: bool) -> Result<(), Why> {
        let is_bodiless =
            self.is_head_request || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        let has_length = fields.contains_key(header::CONTENT_LENGTH);
        self.framing = match () {
            () if is_bodiless => Framing::Bodiless,
            () if has_length || is_over => Framing::Length,
            () if self.is_http_11 => Framing::Chunked,
            () => Framing::UntilClose,
        };
        self.may_go_on &= self.framing != Framing::UntilClose;
        // Whatever is still to come of the request has no taker then.
        self.may_go_on &= self.conn.is_request_over();
        self.has_begun = true;
        self.is_whole = is_over;
        write_line(status, &mut self.out);
        write_fields(&fields, &mut self.out);
        if self.framing == Framing::Length && !has_length {
            self.out.extend_from_slice(b"Content-Length: 0\r\n");
        }
        if self.framing == Framing::Chunked {
            self.out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        let persistence = Persistence::of(self.may_go_on, self.is_http_11);
        let has_upgrade = fields.contains_key(header::UPGRADE);
        self.out.extend_from_slice(persistence.field(has_upgrade).as_bytes());
        self.out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn send(&mut self, bytes: Bytes, is_last: bool) {
        match self.framing {
            Framing::Bodiless => {}
            _ if bytes.is_empty() => {}
            Framing::Chunked => {
                self.out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
                self.out.extend_from_slice(&bytes);
                self.out.extend_from_slice(b"\r\n");
                self.sent += bytes.len() as u64;
            }
            Framing::Length | Framing::UntilClose => {
                self.out.extend_from_slice(&bytes);
                self.sent += bytes.len() as u64;
            }
        }
        if is_last {
            // Nothing can go wrong with so few bytes of our own.
            let _ = self.end(None);
        }
    }

    fn end(&mut self, _: Option<HeaderMap>) -> Result<(), Why> {
        if self.framing == Framing::Chunked {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.is_whole = true;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Why>> {
        while self.out_sent < self.out.len() {
            match ready!(self.conn.poll_send(cx, [&self.out[self.out_sent..], &[]])) {
                Ok(n) => self.out_sent += n,
                Err(_) => return Poll::Ready(Err(Why::ClientAborted)),
            }
        }
        self.out.clear();
        self.out_sent = 0;
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
        let departure = ready!(self.conn.poll_left(cx));
        match is_cancelled_by(departure, self.client_fin, self.has_begun) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn cut(&mut self) {
        self.is_whole = false;
        if self.framing == Framing::UntilClose {
            // A plain end would look like the body's.
            self.conn.socket_mut().end_with_reset();
        }
    }
}

fn write_line(status: StatusCode, out: &mut Vec<u8>) {
    let reason = status.canonical_reason().unwrap_or_default();
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn write_fields(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        write_name(name, out);
        for part in [b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

/// A head as other protocols have it, without what is about the client's connection.
pub(super) fn parts(head: &Head) -> Parts {
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.version_mut() = if head.is_http_11() { Version::HTTP_11 } else { Version::HTTP_10 };
    let target = head.path_and_query();
    let target = match target.starts_with('?') {
        true => PathAndQuery::try_from(format!("/{target}")),
        false => PathAndQuery::try_from(target),
    };
    if let Ok(target) = target {
        *request.uri_mut() = Uri::from(target);
    }
    let fields = request.headers_mut();
    fields.reserve(head.fields().count());
    for (name, value) in head.fields() {
        let is_nominated = || {
            !name.eq_ignore_ascii_case(b"host")
                && !name.eq_ignore_ascii_case(b"content-length")
                && tokens(head.all(&header::CONNECTION)).any(|token| token.eq_ignore_ascii_case(name))
        };
        // They have been judged.
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            continue;
        };
        let is_replaced = head.is_absolute() && name == header::HOST;
        let is_idle_wish = !head.is_http_11() && name == header::EXPECT;
        if !is_one_hop(&name) && name != header::TE && !is_nominated() && !is_replaced && !is_idle_wish {
            fields.append(name, value);
        }
    }
    if head.is_absolute()
        && let Ok(host) = HeaderValue::from_str(head.host().unwrap_or_default())
    {
        // RFC 9112 section 3.2.2: made anew from the target.
        fields.insert(header::HOST, host);
    }
    request.into_parts().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request_head::sample_head;

    #[test]
    fn a_head_is_rid_of_what_is_about_its_connection() {
        let head = sample_head(
            "GET http://b/c?d HTTP/1.1\r\nHost: b\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
             Keep-Alive: 5\r\nX-A: 1\r\nX-A: 2\r\n\r\n",
        );
        let parts = parts(&head);
        assert_eq!((parts.method, parts.uri.to_string()), (Method::GET, "/c?d".to_owned()));
        let fields: Vec<_> =
            parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("x-a", &b"1"[..]), ("x-a", b"2"), ("host", b"b")]);
    }

    #[test]
    fn a_query_alone_gets_its_slash() {
        let head = sample_head("GET http://b?c HTTP/1.1\r\nHost: b\r\n\r\n");
        assert_eq!(parts(&head).uri, "/?c");
    }
}
