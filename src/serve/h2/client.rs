//! The client's side of an exchange: where the request's body comes from and the response goes to.

use crate::access_log::Why;
use crate::edge::Stream;
use crate::fields::list_size;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode, header};
use std::task::{Context, Poll, ready};

/// What one frame carries at most, as long as a client asks for no more (RFC 9113 section 4.2).
const FRAME: usize = 16 * 1024;
/// With its head it is one record of TLS (RFC 8446 section 5.1), where a full one would be a record and nine bytes.
const RECORD: usize = FRAME - 9;

/// What an exchange asks of a client.
pub(super) trait Client: Send {
    /// The next of the request's body; `None` is its end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Why>>;

    /// What came behind the body.
    fn take_trailers(&mut self) -> Option<HeaderMap>;

    /// Nothing more of the body is wanted.
    fn refuse_body(&mut self);

    /// Sends a response that another one follows.
    fn interim(&mut self, status: StatusCode, fields: HeaderMap);

    /// Sends the response's head, behind which nothing comes if it `is_over`.
    fn begin(&mut self, status: StatusCode, fields: HeaderMap, is_over: bool) -> Result<(), Why>;

    /// Takes the next of the response's body, to be sent when there is room.
    fn send(&mut self, bytes: Bytes, is_last: bool);

    /// Ends the response.
    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Why>;

    /// Ready when everything was sent.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Why>>;

    /// Bytes of the response's body that were sent.
    fn sent(&self) -> u64;

    /// Ready when the client has given up.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ends the response so that it does not look whole.
    fn cut(&mut self);
}

/// A stream of an HTTP/2 connection.
pub(super) struct Http2 {
    body: RecvStream,
    trailers: Option<HeaderMap>,
    /// What they may have.
    most_trailers: usize,
    respond: SendResponse<Bytes>,
    /// Once the response has begun.
    response: Option<SendStream<Bytes>>,
    waiting: Bytes,
    is_last: bool,
    sent: u64,
}

impl Http2 {
    /// The client's side of a stream, and the request's head.
    pub(super) fn new(stream: Stream, most_trailers: usize) -> (Self, Parts) {
        let Stream { head, body, respond } = stream;
        let waiting = Bytes::new();
        let client = Self {
            body,
            trailers: None,
            most_trailers,
            respond,
            response: None,
            waiting,
            is_last: false,
            sent: 0,
        };
        (client, head)
    }

    /// Whether there is a body.
    pub(super) fn has_body(&self) -> bool {
        !self.body.is_end_stream()
    }
}

impl Client for Http2 {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Why>> {
        let failed = |error: h2::Error| match error.is_library() {
            // The codec has reset the stream: the body is not as long as was said.
            true => Why::Malformed,
            false => Why::ClientAborted,
        };
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(bytes)) => {
                // It is asked for only when it can be sent on.
                let _ = self.body.flow_control().release_capacity(bytes.len());
                Poll::Ready(Ok(Some(bytes)))
            }
            Some(Err(error)) => Poll::Ready(Err(failed(error))),
            None => {
                self.trailers = ready!(self.body.poll_trailers(cx)).map_err(failed)?;
                if self.trailers.as_ref().is_some_and(|trailers| list_size(trailers) > self.most_trailers) {
                    return Poll::Ready(Err(Why::HeadersTooLarge));
                }
                Poll::Ready(Ok(None))
            }
        }
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// The codec tells the client so when the stream is let go.
    fn refuse_body(&mut self) {}

    fn interim(&mut self, status: StatusCode, fields: HeaderMap) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        // A client that has gone is noticed by what comes next.
        let _ = self.respond.send_informational(response);
    }

    fn begin(&mut self, status: StatusCode, mut fields: HeaderMap, is_over: bool) -> Result<(), Why> {
        // HTTP/2 has none (RFC 9113 section 8.6).
        fields.remove(header::UPGRADE);
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        let response = self.respond.send_response(response, is_over);
        self.response = Some(response.map_err(|_| Why::ClientAborted)?);
        Ok(())
    }

    fn send(&mut self, bytes: Bytes, is_last: bool) {
        (self.waiting, self.is_last) = (bytes, is_last);
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
        match &mut self.response {
            Some(response) => response.poll_reset(cx).map(drop),
            None => self.respond.poll_reset(cx).map(drop),
        }
    }

    fn cut(&mut self) {
        match &mut self.response {
            Some(response) => response.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A client that sends what it is told to, and takes nothing.
    #[derive(Debug)]
    pub(in super::super) struct Scripted(VecDeque<Bytes>);

    impl Scripted {
        pub(in super::super) fn sending(parts: &[&[u8]]) -> Self {
            Self(parts.iter().map(|part| Bytes::copy_from_slice(part)).collect())
        }
    }

    impl Client for Scripted {
        fn poll_body(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Why>> {
            Poll::Ready(Ok(self.0.pop_front()))
        }

        fn take_trailers(&mut self) -> Option<HeaderMap> {
            None
        }

        fn refuse_body(&mut self) {}

        fn interim(&mut self, _: StatusCode, _: HeaderMap) {}

        fn begin(&mut self, _: StatusCode, _: HeaderMap, _: bool) -> Result<(), Why> {
            Err(Why::Internal)
        }

        fn send(&mut self, _: Bytes, _: bool) {}

        fn end(&mut self, _: Option<HeaderMap>) -> Result<(), Why> {
            Err(Why::Internal)
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Why>> {
            Poll::Ready(Ok(()))
        }

        fn sent(&self) -> u64 {
            0
        }

        fn poll_left(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }

        fn cut(&mut self) {}
    }
}
