//! A server that speaks HTTP/1.1.

use super::{Failure, Part, ResponseStart, Trailers};
use crate::access_log::Why;
use crate::edge::{Buffer, Socket};
use crate::pool::Server;
use crate::serve::kept;
use crate::serve::piece::{Outgoing, Piece};
use crate::wire::head_scan::HeadScan;
use crate::wire::response_head::{
    FieldSpans, ResponseBodyEnd, ResponseHeadForm, ResponseHeadVerdict, ResponseTo, ResponseView, judge,
};
use crate::wire::{LONGEST_HEAD, MOST_TRAILERS, RESPONSE_TOO_LONG, TRAILERS_TOO_LONG};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What waits for the socket at most before no more of a body is taken from the client.
const WAITING: usize = 32 * 1024;

/// What a request says of how it goes and how its response is to be read.
#[derive(Debug)]
pub(in crate::serve) struct RequestTerms {
    pub(in crate::serve) is_head_request: bool,
    /// What the connection may switch to.
    pub(in crate::serve) upgrade: Option<String>,
    /// The body is put into chunks here.
    pub(in crate::serve) rechunks: bool,
    /// The connection tells of one client, and is nobody else's.
    pub(in crate::serve) is_last: bool,
}

/// One exchange on a connection.
#[derive(Debug)]
pub(in crate::serve) struct Http1 {
    socket: Socket,
    key: kept::ConnectionKey,
    sending: RequestTerms,
    out: Outgoing,
    taken: u64,
    is_uploaded: bool,
    /// Of the response, and not yet passed on.
    buffer: Option<Buffer>,
    /// How much of that was looked at for a head.
    scan: HeadScan,
    /// The head that `buffer` begins with.
    head: Option<ResponseHeadForm>,
    /// Of that head.
    fields: FieldSpans,
    rest: Option<ResponseBodyEnd>,
    /// What came behind the body, where its chunks go on as they are.
    trailers: Vec<u8>,
    keeps: bool,
}

impl Http1 {
    /// Begins an exchange with the request's head.
    #[inline]
    pub(in crate::serve) fn new(
        socket: Socket,
        key: kept::ConnectionKey,
        sending: RequestTerms,
        head: Vec<u8>,
    ) -> Self {
        Self {
            socket,
            key,
            sending,
            out: Outgoing::new(head),
            taken: 0,
            is_uploaded: false,
            buffer: None,
            scan: HeadScan::default(),
            head: None,
            fields: FieldSpans::new(),
            rest: None,
            trailers: Vec::new(),
            keeps: false,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.out.has_piece() && self.out.waiting() < WAITING
    }

    pub(super) fn put(&mut self, piece: Piece) {
        // Without data it would be the last chunk.
        if piece.is_empty() {
            return;
        }
        match piece {
            _ if self.sending.rechunks => {
                self.out.bytes.extend_from_slice(format!("{:x}\r\n", piece.data().len()).as_bytes());
                self.out.bytes.extend_from_slice(piece.data());
                self.out.bytes.extend_from_slice(b"\r\n");
            }
            // Gathered, so that what is wrong with a frame that has come too is found before any of this is sent.
            Piece::Bytes(bytes) => self.out.bytes.extend_from_slice(&bytes),
            Piece::Buffer(_) => self.out.push(piece),
        }
    }

    /// The request ends here.
    pub(super) fn finish(&mut self) {
        if self.sending.rechunks {
            self.out.bytes.extend_from_slice(b"0\r\n\r\n");
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while !self.out.is_empty() {
            let Ok(n @ 1..) = ready!(self.socket.poll_send(cx, self.out.parts())) else {
                return Poll::Ready(Err(Why::ServerReset.into()));
            };
            self.taken += n as u64;
            self.out.take(n);
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn uploaded(&mut self) {
        self.is_uploaded = true;
        self.out = Outgoing::default();
    }

    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseStart, Failure>> {
        self.leave_head();
        loop {
            let mut buffer = self.buffer.take().unwrap_or_else(Buffer::take);
            if !buffer.is_empty() {
                let to = ResponseTo {
                    is_head_request: self.sending.is_head_request,
                    upgrade: self.sending.upgrade.as_deref(),
                };
                // One that comes bit by bit is not read anew at every bit.
                let is_first = self.scan == HeadScan::default();
                let verdict = match self.scan.is_due(buffer.data()) || is_first {
                    true => judge(buffer.data(), to, &mut self.fields),
                    false => ResponseHeadVerdict::Partial,
                };
                match verdict {
                    ResponseHeadVerdict::Complete(form) => {
                        let is_over = form.body == ResponseBodyEnd::Length(0);
                        let start = ResponseStart {
                            status: form.status,
                            is_interim: form.is_interim(),
                            is_over,
                            is_websocket: form.is_websocket,
                            is_chunked: matches!(form.body, ResponseBodyEnd::Chunked(_)),
                            hint: form.hint,
                        };
                        if !start.is_interim {
                            self.rest = Some(form.body).filter(|_| !is_over);
                            self.keeps = form.keeps;
                        }
                        if is_over && !start.is_interim && form.length < buffer.data().len() {
                            // What came beyond the response's end spoils the connection.
                            self.keeps = false;
                        }
                        (self.buffer, self.head, self.scan) = (Some(buffer), Some(form), HeadScan::default());
                        return Poll::Ready(Ok(start));
                    }
                    ResponseHeadVerdict::Refused(detail) => {
                        return Poll::Ready(Err(Failure::malformed(detail)));
                    }
                    ResponseHeadVerdict::Partial => {
                        if buffer.is_full() && !buffer.grow(LONGEST_HEAD) {
                            return Poll::Ready(Err(Failure::malformed(RESPONSE_TOO_LONG)));
                        }
                    }
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

    pub(super) fn head(&self) -> Option<ResponseView<'_>> {
        Some(self.head.as_ref()?.view(self.buffer.as_ref()?.data(), &self.fields))
    }

    /// The head is done with.
    fn leave_head(&mut self) {
        if let (Some(head), Some(buffer)) = (self.head.take(), &mut self.buffer) {
            buffer.consume(head.length);
            self.buffer.take_if(|buffer| buffer.is_empty());
        }
    }

    pub(super) fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        keeps_chunks: bool,
    ) -> Poll<Result<Part, Failure>> {
        self.leave_head();
        loop {
            let Some(rest) = &mut self.rest else {
                let lines = Some(std::mem::take(&mut self.trailers)).filter(|lines| !lines.is_empty());
                return Poll::Ready(Ok(Part::End(lines.map(Trailers::Lines))));
            };
            let mut buffer = self.buffer.take().unwrap_or_else(Buffer::take);
            if buffer.is_empty() {
                match ready!(buffer.fill(cx, |cx, buf| self.socket.poll_read(cx, buf))) {
                    Ok(1..) => {}
                    Ok(0) if *rest == ResponseBodyEnd::UntilClose => {
                        (self.rest, self.keeps) = (None, false);
                        continue;
                    }
                    _ => return Poll::Ready(Err(Why::ServerReset.into())),
                }
            }
            let came = buffer.data().len();
            let taken = take(rest, &mut buffer, keeps_chunks.then_some(&mut self.trailers))?;
            if taken.is_last {
                self.rest = None;
                // What came beyond the body's end spoils the connection.
                self.keeps &= taken.of_body == came;
            }
            let is_last = taken.is_last && self.trailers.is_empty();
            if !buffer.is_empty() || is_last {
                let piece = Piece::Buffer(buffer);
                return Poll::Ready(Ok(Part::Data { piece, length: taken.length, is_last }));
            }
        }
    }

    pub(super) fn has_length(&self) -> bool {
        matches!(self.rest, Some(ResponseBodyEnd::Length(_)))
    }

    /// The exchange is over: the connection may serve another one, within this time.
    pub(super) fn done(mut self: Box<Self>, at: &Arc<Server>, keepalive: Duration) {
        self.leave_head();
        let is_whole = self.is_uploaded && self.rest.is_none();
        if self.keeps && is_whole && !self.sending.is_last {
            kept::put(self.key, at, self.socket, keepalive);
        }
    }

    /// The connection, which has switched to another protocol, and what has come of that.
    pub(in crate::serve) fn switch(mut self: Box<Self>) -> (Socket, Vec<u8>) {
        self.leave_head();
        let came = self.buffer.as_ref().map_or(Vec::new(), |buffer| buffer.data().to_vec());
        (self.socket, came)
    }
}

/// What was taken of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TakenBody {
    /// Bytes that belong to the body.
    of_body: usize,
    /// Without their framing.
    length: u64,
    is_last: bool,
}

/// Leaves of what came what is to be passed on of the body: of chunks all but the trailers, if those are put somewhere, or else their
/// data.
fn take(
    rest: &mut ResponseBodyEnd,
    buffer: &mut Buffer,
    trailers: Option<&mut Vec<u8>>,
) -> Result<TakenBody, Failure> {
    let came = buffer.data().len();
    let (of_body, kept, length, is_last) = match rest {
        ResponseBodyEnd::Length(left) => {
            let n = came.min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= n as u64;
            (n, n, n as u64, *left == 0)
        }
        ResponseBodyEnd::UntilClose => (came, came, came as u64, false),
        ResponseBodyEnd::Chunked(chunks) => {
            let before = chunks.data();
            let (n, kept, length) = match trailers {
                Some(trailers) => {
                    let (n, kept) = chunks.take_trailers_aside(buffer.data_mut(), trailers);
                    if trailers.len() > MOST_TRAILERS {
                        return Err(Failure::malformed(TRAILERS_TOO_LONG));
                    }
                    (n, kept, chunks.data() - before)
                }
                None => {
                    let (n, kept) = chunks.strip(buffer.data_mut());
                    (n, kept, kept as u64)
                }
            };
            if chunks.is_broken() {
                return Err(Failure::malformed("broken chunk"));
            }
            (n, kept, length, chunks.is_over())
        }
    };
    buffer.truncate(kept);
    Ok(TakenBody { of_body, length, is_last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::chunked::Chunks;

    /// What passes of these parts, and how much of it counts.
    fn pass(
        mut rest: ResponseBodyEnd,
        parts: &[&[u8]],
        keeps_chunks: bool,
    ) -> Result<(Vec<u8>, u64, bool), Failure> {
        let (mut passed, mut length, mut trailers) = (Vec::new(), 0, Vec::new());
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let mut buffer = Buffer::take();
            let filled = buffer.fill(&mut Context::from_waker(std::task::Waker::noop()), |_, buf| {
                buf.put_slice(part);
                Poll::Ready(Ok(()))
            });
            assert!(filled.is_ready());
            let taken = take(&mut rest, &mut buffer, keeps_chunks.then_some(&mut trailers))?;
            passed.extend_from_slice(buffer.data());
            length += taken.length;
            if taken.is_last {
                return Ok((passed, length, taken.of_body == part.len()));
            }
        }
        Ok((passed, length, false))
    }

    #[test]
    fn chunks_pass_as_they_are_or_as_data_wherever_they_are_cut() {
        let bytes = b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
        for cut in 0..=bytes.len() {
            let parts = [&bytes[..cut], &bytes[cut..]];
            let chunked = || ResponseBodyEnd::Chunked(Chunks::of_response());
            assert_eq!(pass(chunked(), &parts, false), Ok((b"abc0123456789".to_vec(), 13, true)), "{cut}");
            let without_trailers = bytes[..bytes.len() - b"X-Sum: 1\r\n\r\n".len()].to_vec();
            assert_eq!(pass(chunked(), &parts, true), Ok((without_trailers, 13, true)), "{cut}");
        }
    }

    #[test]
    fn what_comes_beyond_the_end_is_no_part_of_the_body() {
        let chunked = ResponseBodyEnd::Chunked(Chunks::of_response());
        assert_eq!(pass(chunked, &[b"1\r\na\r\n0\r\n\r\nmore"], false), Ok((b"a".to_vec(), 1, false)));
        assert_eq!(pass(ResponseBodyEnd::Length(2), &[b"abc"], false), Ok((b"ab".to_vec(), 2, false)));
        assert_eq!(pass(ResponseBodyEnd::Length(3), &[b"a", b"bc"], true), Ok((b"abc".to_vec(), 3, true)));
    }

    #[test]
    fn trailers_may_be_long_whatever_there_is_of_data() {
        let chunked = || ResponseBodyEnd::Chunked(Chunks::of_response());
        let body = |trailers: usize| format!("1\r\na\r\n0\r\nX: {}\r\n\r\n", "x".repeat(trailers));
        let parts = |body: String| body.into_bytes().chunks(4096).map(<[u8]>::to_vec).collect::<Vec<_>>();
        for keeps_chunks in [true, false] {
            for (length, is_taken) in [(60_000, true), (90_000, false)] {
                let parts = parts(body(length));
                let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
                let passed = pass(chunked(), &parts, keeps_chunks);
                assert_eq!(passed.is_ok(), is_taken, "{length} {keeps_chunks} {passed:?}");
            }
        }
        let parts = parts(body(66_000));
        let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        assert_eq!(pass(chunked(), &parts, true), Err(Failure::malformed(TRAILERS_TOO_LONG)));
    }

    #[test]
    fn broken_chunks_are_told() {
        let broken = Failure::malformed("broken chunk");
        for keeps_chunks in [true, false] {
            let passed =
                pass(ResponseBodyEnd::Chunked(Chunks::of_response()), &[b"2\r\nab\r\nx\r\n"], keeps_chunks);
            assert_eq!(passed, Err(broken));
        }
    }
}
