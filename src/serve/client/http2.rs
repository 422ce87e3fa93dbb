//! A client's request on a stream of an HTTP/2 connection.

use super::ClientSide;
use crate::access_log::Why;
use crate::edge::{AfterRequest, Conn, Stream, StreamFaults};
use crate::fields::list_size;
use crate::serve::piece::Piece;
use crate::wire::edit::Edits;
use crate::wire::response_head::{ResponseView, http2};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use std::task::{Context, Poll, Waker, ready};

/// What one frame carries at most, as long as a client asks for no more (RFC 9113 section 4.2).
const FRAME: usize = 16 * 1024;
/// With its head it is one record of TLS (RFC 8446 section 5.1), where a full one would be a record and nine bytes.
const RECORD: usize = FRAME - 9;

/// A stream.
pub(in crate::serve) struct Http2 {
    body: RecvStream,
    has_body: bool,
    is_head_request: bool,
    /// Of the response: nothing of a body is for the client.
    is_bodiless: bool,
    received: u64,
    trailers: Option<HeaderMap>,
    /// What they may have.
    most_trailers: usize,
    respond: SendResponse<Bytes>,
    faults: StreamFaults,
    /// What is wrong with the trailers.
    fault: Option<&'static str>,
    /// The head that the response begins with.
    head: Option<Response<()>>,
    /// Once the response has begun.
    response: Option<SendStream<Bytes>>,
    waiting: Bytes,
    is_last: bool,
    sent: u64,
}

impl Http2 {
    /// The client's side of a stream, and the request's head.
    pub(in crate::serve) fn new(stream: Stream, most_trailers: usize) -> (Self, Parts) {
        let Stream { head, body, respond, faults } = stream;
        let client = Self {
            has_body: !body.is_end_stream(),
            is_head_request: head.method == Method::HEAD,
            is_bodiless: false,
            body,
            received: 0,
            trailers: None,
            most_trailers,
            respond,
            faults,
            fault: None,
            head: None,
            response: None,
            waiting: Bytes::new(),
            is_last: false,
            sent: 0,
        };
        (client, head)
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        match &mut self.response {
            Some(response) => response.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        }
    }
}

/// How the client has broken HTTP/2, if the codec has reset the stream or ended the connection for that.
fn breach(error: &h2::Error) -> Option<&'static str> {
    match error.reason() {
        // Too much of what is allowed.
        None | Some(Reason::NO_ERROR | Reason::ENHANCE_YOUR_CALM) => None,
        _ if !error.is_library() => None,
        _ if error.is_go_away() => Some("the client broke HTTP/2 on the connection"),
        _ => error.is_reset().then_some("reset by the HTTP/2 codec"),
    }
}

impl ClientSide for Http2 {
    fn has_body(&self) -> bool {
        self.has_body
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, _: bool) -> Poll<Result<Option<Piece>, Why>> {
        let failed = |error: h2::Error| match breach(&error) {
            Some(_) => Why::Malformed,
            None => Why::ClientAborted,
        };
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(bytes)) => {
                // It is asked for only when it can be sent on.
                let _ = self.body.flow_control().release_capacity(bytes.len());
                self.received += bytes.len() as u64;
                Poll::Ready(Ok(Some(Piece::Bytes(bytes))))
            }
            Some(Err(error)) => Poll::Ready(Err(failed(error))),
            None => {
                self.trailers = ready!(self.body.poll_trailers(cx)).map_err(failed)?;
                if self.trailers.is_some() {
                    self.fault = self.faults.take();
                    if self.fault.is_some() {
                        return Poll::Ready(Err(Why::Malformed));
                    }
                }
                if self.trailers.as_ref().is_some_and(|trailers| list_size(trailers) > self.most_trailers) {
                    return Poll::Ready(Err(Why::HeadersTooLarge));
                }
                Poll::Ready(Ok(None))
            }
        }
    }

    fn received(&self) -> u64 {
        self.received
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// The codec tells the client so when the stream is let go.
    fn refuse_body(&mut self) {}

    /// Where streams begin is beyond doubt.
    fn end_with_answer(&mut self) {}

    fn takes_chunks(&self) -> bool {
        false
    }

    fn interim(&mut self, head: &ResponseView<'_>, edits: &Edits<'_>) {
        if let Some(response) = http2(head, edits) {
            // A client that has gone is noticed by what comes next.
            let _ = self.respond.send_informational(response);
        }
    }

    fn begin(&mut self, head: &ResponseView<'_>, edits: &Edits<'_>) -> Result<(), Why> {
        self.head = Some(http2(head, edits).ok_or(Why::ServerMalformed)?);
        self.is_bodiless = head.is_bodiless(self.is_head_request);
        Ok(())
    }

    fn withdraw(&mut self) {
        self.head = None;
    }

    fn commit(&mut self, is_over: bool) -> Result<(), Why> {
        let head = self.head.take().ok_or(Why::Internal)?;
        let response = self.respond.send_response(head, is_over);
        self.response = Some(response.map_err(|_| Why::ClientAborted)?);
        Ok(())
    }

    fn send(&mut self, piece: Piece, _: u64, is_last: bool) {
        let bytes = if self.is_bodiless { Bytes::new() } else { piece.into_bytes() };
        (self.waiting, self.is_last) = (bytes, is_last);
        if self.waiting.is_empty() && is_last {
            // A client that has gone is noticed by what comes next.
            let _ = self.end(None);
        }
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Why> {
        let Some(response) = &mut self.response else { return Err(Why::Internal) };
        let ended = match trailers {
            Some(trailers) => response.send_trailers(trailers),
            None => response.send_data(Bytes::new(), true),
        };
        ended.map_err(|_| Why::ClientAborted)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Why>> {
        let Some(response) = &mut self.response else { return Poll::Ready(Ok(())) };
        while !self.waiting.is_empty() {
            response.reserve_capacity(self.waiting.len());
            let room = match response.capacity() {
                0 => ready!(response.poll_capacity(cx)).and_then(Result::ok).ok_or(Why::ClientAborted)?,
                room => room,
            };
            if room == 0 {
                // The window has shrunk again; the next look waits.
                continue;
            }
            let most = if self.waiting.len() > FRAME { RECORD } else { FRAME };
            let part = self.waiting.split_to(room.min(self.waiting.len()).min(most));
            self.sent += part.len() as u64;
            let is_last = self.is_last && self.waiting.is_empty();
            response.send_data(part, is_last).map_err(|_| Why::ClientAborted)?;
        }
        Poll::Ready(Ok(()))
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_reset(cx).map(drop)
    }

    fn poll_left_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_left(cx)
    }

    fn has_left_waiting(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_left(cx).is_ready()
    }

    fn breach(&mut self) -> Option<&'static str> {
        if self.fault.is_some() {
            return self.fault;
        }
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_reset(&mut cx) {
            Poll::Pending => return None,
            Poll::Ready(Err(error)) if error.is_go_away() => return breach(&error),
            Poll::Ready(_) => {}
        }
        // Why it was reset stands behind what had come of the body.
        let error = loop {
            match self.body.poll_data(&mut cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => break Some(error),
                Poll::Ready(None) => match self.body.poll_trailers(&mut cx) {
                    Poll::Ready(Err(error)) => break Some(error),
                    Poll::Ready(Ok(_)) | Poll::Pending => break None,
                },
                Poll::Pending => break None,
            }
        };
        error.and_then(|error| breach(&error))
    }

    fn cut(&mut self) {
        let reason = if self.fault.is_some() { Reason::PROTOCOL_ERROR } else { Reason::INTERNAL_ERROR };
        match &mut self.response {
            Some(response) => response.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    fn switch(&mut self) -> Option<(&mut Conn, Vec<u8>)> {
        None
    }

    fn switched(&mut self, _: AfterRequest) {}
}
