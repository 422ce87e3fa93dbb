//! The server's side of an exchange, where the server speaks HTTP/1.1.

use super::server::{Answer, Data, Failure, is_one_hop};
use crate::access_log::Why;
use crate::edge::{Buffer, Socket};
use crate::serve::h1::{ResponseBody, Verdict, read_map};
use crate::serve::kept;
use crate::wire::chunked::Chunks;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What waits for the socket at most before no more of a body is taken from the client.
const WAITING: usize = 32 * 1024;

/// One exchange on a connection.
#[derive(Debug)]
pub(super) struct OverH1 {
    socket: Socket,
    key: kept::Key,
    /// The connection tells of one client, and is nobody else's.
    is_last: bool,
    head_request: bool,
    is_chunked: bool,
    /// Of the request, and not yet sent.
    out: Vec<u8>,
    out_sent: usize,
    is_uploaded: bool,
    /// Of the response, and not yet passed on.
    buffer: Option<Buffer>,
    rest: Option<ResponseBody>,
    keeps: bool,
}

impl OverH1 {
    /// Begins an exchange with the request's head.
    pub(super) fn new(
        (socket, key): (Socket, kept::Key),
        is_last: bool,
        head: &http::request::Parts,
        has_body: bool,
    ) -> Self {
        let is_chunked = has_body && !head.headers.contains_key(header::CONTENT_LENGTH);
        let mut out = Vec::with_capacity(1024);
        write_head(head, is_chunked, is_last, &mut out);
        Self {
            socket,
            key,
            is_last,
            head_request: head.method == Method::HEAD,
            is_chunked,
            out,
            out_sent: 0,
            is_uploaded: false,
            buffer: None,
            rest: None,
            keeps: false,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.out.len() - self.out_sent < WAITING
    }

    pub(super) fn put(&mut self, bytes: &Bytes) {
        // Without data it would be the last chunk.
        if bytes.is_empty() {
            return;
        }
        if self.is_chunked {
            self.out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        }
        self.out.extend_from_slice(bytes);
        if self.is_chunked {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// The request ends here. Trailers may be dropped where nobody has said that they are understood (RFC 9110 section
    /// 6.5.1).
    pub(super) fn finish(&mut self) {
        if self.is_chunked {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while self.out_sent < self.out.len() {
            match ready!(self.socket.poll_send(cx, [&self.out[self.out_sent..], &[]])) {
                Ok(n @ 1..) => self.out_sent += n,
                _ => return Poll::Ready(Err(Why::ServerReset.into())),
            }
        }
        self.out.clear();
        self.out_sent = 0;
        Poll::Ready(Ok(()))
    }

    pub(super) fn uploaded(&mut self) {
        self.is_uploaded = true;
        self.out = Vec::new();
    }

    /// The next head, and whether it is an interim one.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Failure>> {
        loop {
            let mut buffer = self.buffer.take().unwrap_or_else(Buffer::take);
            if !buffer.is_empty() {
                let mut fields = HeaderMap::new();
                match read_map(buffer.data(), self.head_request, &mut fields) {
                    Verdict::Complete(form) => {
                        buffer.consume(form.length);
                        self.buffer = Some(buffer).filter(|buffer| !buffer.is_empty());
                        self.keeps = form.keeps;
                        let is_over = form.body == ResponseBody::Length(0);
                        if !form.is_interim() {
                            self.rest = Some(form.body).filter(|_| !is_over);
                        }
                        let Ok(status) = StatusCode::from_u16(form.status) else {
                            return Poll::Ready(Err(Failure::malformed("unknown status")));
                        };
                        return Poll::Ready(Ok(Answer { status, fields, is_over, hint: form.hint }));
                    }
                    Verdict::Refused(detail) => return Poll::Ready(Err(Failure::malformed(detail))),
                    Verdict::Partial if buffer.is_full() => {
                        return Poll::Ready(Err(Failure::malformed("response head too large")));
                    }
                    Verdict::Partial => {}
                }
            }
            let read = buffer.fill(cx, |cx, buf| self.socket.poll_read(cx, buf));
            self.buffer = Some(buffer).filter(|buffer| !buffer.is_empty());
            match ready!(read) {
                Ok(1..) => {}
                _ => return Poll::Ready(Err(Why::ServerReset.into())),
            }
        }
    }

    /// The next of the response's body.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Data, Failure>> {
        loop {
            let Some(rest) = &mut self.rest else { return Poll::Ready(Ok(Data::End(None))) };
            let mut buffer = self.buffer.take().unwrap_or_else(Buffer::take);
            if buffer.is_empty() {
                match ready!(buffer.fill(cx, |cx, buf| self.socket.poll_read(cx, buf))) {
                    Ok(1..) => {}
                    Ok(0) if *rest == ResponseBody::UntilClose => {
                        (self.rest, self.keeps) = (None, false);
                        continue;
                    }
                    _ => return Poll::Ready(Err(Why::ServerReset.into())),
                }
            }
            let (bytes, is_over) = take(rest, &mut buffer)?;
            if is_over {
                self.rest = None;
                // What came beyond the body's end spoils the connection.
                self.keeps &= buffer.is_empty();
            } else {
                self.buffer = Some(buffer).filter(|buffer| !buffer.is_empty());
            }
            if !bytes.is_empty() || is_over {
                return Poll::Ready(Ok(Data::Some { bytes, is_last: is_over }));
            }
        }
    }

    /// The exchange is over: the connection may serve another one, within this time.
    pub(super) fn done(self, keepalive: Duration) {
        let is_whole = self.is_uploaded && self.buffer.is_none() && self.rest.is_none();
        if self.keeps && is_whole && !self.is_last {
            kept::put(self.key, self.socket, keepalive);
        }
    }
}

/// Takes what came of a body out of the buffer, and whether that was its end.
fn take(rest: &mut ResponseBody, buffer: &mut Buffer) -> Result<(Bytes, bool), Failure> {
    let came = buffer.data();
    match rest {
        ResponseBody::Length(left) => {
            let n = came.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            let bytes = Bytes::copy_from_slice(&came[..n]);
            buffer.consume(n);
            *left -= n as u64;
            Ok((bytes, *left == 0))
        }
        ResponseBody::UntilClose => {
            let bytes = Bytes::copy_from_slice(came);
            buffer.consume(bytes.len());
            Ok((bytes, false))
        }
        ResponseBody::Chunked(chunks) => {
            let (bytes, n) = unchunk(chunks, came);
            buffer.consume(n);
            match chunks.is_broken() {
                true => Err(Failure::malformed("broken chunk")),
                false => Ok((bytes, chunks.is_over())),
            }
        }
    }
}

/// The data of chunks, and how many bytes they took.
pub(super) fn unchunk(chunks: &mut Chunks, bytes: &[u8]) -> (Bytes, usize) {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let n = chunks.take_data(&bytes[at..]);
        data.extend_from_slice(&bytes[at..at + n]);
        let framing = chunks.take_framing(&bytes[at + n..]);
        if n + framing == 0 {
            return (data.into(), at);
        }
        at += n + framing;
    }
}

/// Writes a name with the capitals that it usually has in HTTP/1.1: some readers go by them.
pub(super) fn write_name(name: &HeaderName, out: &mut Vec<u8>) {
    let mut before = b'-';
    out.extend(name.as_str().bytes().map(|byte| match std::mem::replace(&mut before, byte) {
        b'-' => byte.to_ascii_uppercase(),
        _ => byte,
    }));
}

/// Whether servers may ask for a length where such a request has no body (RFC 9110 section 8.6): IIS and lighttpd answer 411.
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Writes a head as HTTP/1.1 has it.
fn write_head(head: &http::request::Parts, is_chunked: bool, is_last: bool, out: &mut Vec<u8>) {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [head.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &head.headers {
        if is_one_hop(name) || *name == header::TE {
            continue;
        }
        write_name(name, out);
        for part in [b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    if is_chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    } else if expects_body(&head.method) && !head.headers.contains_key(header::CONTENT_LENGTH) {
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    if is_last {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_as_http_1_has_it() {
        let request = http::Request::builder()
            .method("POST")
            .uri("https://a.example/b?c")
            .header("host", "a.example")
            .header("x-request-id", "r-1")
            .header("te", "trailers")
            .header("proxy-authorization", "secret");
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let mut out = Vec::new();
        write_head(&head, true, true, &mut out);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "POST /b?c HTTP/1.1\r\nHost: a.example\r\nX-Request-Id: r-1\r\n\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_request_that_might_have_a_body_says_that_it_has_none() {
        for (method, length, expected) in [
            ("POST", None, "Content-Length: 0\r\n"),
            ("PUT", None, "Content-Length: 0\r\n"),
            ("PATCH", None, "Content-Length: 0\r\n"),
            ("POST", Some("0"), "Content-Length: 0\r\n"),
            ("GET", None, ""),
            ("DELETE", None, ""),
        ] {
            let request = http::Request::builder().method(method).uri("/");
            let request =
                length.into_iter().fold(request, |request, length| request.header("content-length", length));
            let (head, ()) = request.body(()).expect("a request").into_parts();
            let mut out = Vec::new();
            write_head(&head, false, false, &mut out);
            let expected = format!("{method} / HTTP/1.1\r\n{expected}\r\n");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }

    #[test]
    fn chunks_become_data_wherever_they_are_cut() {
        let bytes = b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nnext";
        let end = bytes.len() - 4;
        for cut in 0..bytes.len() {
            let mut chunks = Chunks::new();
            let (mut data, mut at) = (Vec::new(), 0);
            for upto in [cut, bytes.len()] {
                if upto < at || chunks.is_over() {
                    continue;
                }
                let (more, n) = unchunk(&mut chunks, &bytes[at..upto]);
                data.extend_from_slice(&more);
                at += n;
            }
            assert_eq!((&data[..], at, chunks.is_over()), (&b"abc0123456789"[..], end, true), "cut at {cut}");
        }
    }

    #[test]
    fn broken_chunks_are_told() {
        let mut chunks = Chunks::new();
        let (data, _) = unchunk(&mut chunks, b"2\r\nab\r\nx\r\n");
        assert_eq!((&data[..], chunks.is_broken()), (&b"ab"[..], true));
    }
}
