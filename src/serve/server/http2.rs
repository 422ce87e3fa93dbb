//! A server that speaks HTTP/2.

use super::{Failure, Part, ResponseStart, Trailers};
use crate::access_log::Why;
use crate::serve::piece::Piece;
use crate::serve::shared::StreamPermit;
use crate::wire::http2_response::{judge_head, judge_trailers};
use crate::wire::response_head::{BodyKind, ResponseView};
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode, header};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// One exchange: a stream of a connection that others have streams on.
#[derive(Debug)]
pub(in crate::serve) struct Http2 {
    permit: StreamPermit,
    send: SendStream<Bytes>,
    response: ResponseFuture,
    /// The head that came last.
    head: Option<Head>,
    body: Option<RecvStream>,
    /// Of the request's body, and not yet sent.
    waiting: Bytes,
    taken: u64,
    is_finished: bool,
}

impl Http2 {
    /// Begins an exchange with the request's head.
    pub(in crate::serve) fn new(
        mut permit: StreamPermit,
        request: Request<()>,
        has_body: bool,
    ) -> Result<Self, Failure> {
        let begun = permit.requests.send_request(request, !has_body);
        let (response, send) = begun.map_err(|error| {
            permit.retire();
            failure(&error, None)
        })?;
        permit.begin(response.stream_id().as_u32());
        Ok(Self {
            permit,
            send,
            response,
            head: None,
            body: None,
            waiting: Bytes::new(),
            taken: 0,
            is_finished: !has_body,
        })
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn put(&mut self, piece: Piece) {
        self.waiting = piece.into_bytes();
    }

    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) {
        if std::mem::replace(&mut self.is_finished, true) {
            return;
        }
        // A server that has given up meanwhile says so where its response is read.
        let _ = match trailers {
            Some(trailers) => self.send.send_trailers(trailers),
            None => self.send.send_data(Bytes::new(), true),
        };
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while !self.waiting.is_empty() {
            self.send.reserve_capacity(self.waiting.len());
            let room = match self.send.capacity() {
                0 => match ready!(self.send.poll_capacity(cx)) {
                    Some(Ok(room)) => room,
                    Some(Err(error)) => return Poll::Ready(Err(self.failed(&error))),
                    None => return Poll::Ready(Err(Why::ServerReset.into())),
                },
                room => room,
            };
            if room == 0 {
                // The window has shrunk again; the next look waits.
                continue;
            }
            let part = self.waiting.split_to(room.min(self.waiting.len()));
            self.taken += part.len() as u64;
            self.send.send_data(part, false).map_err(|error| self.failed(&error))?;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseStart, Failure>> {
        if let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
            let (head, ()) = interim.map_err(|error| self.failed(&error))?.into_parts();
            return Poll::Ready(self.take_head(head.status, head.headers, false));
        }
        let response = ready!(Pin::new(&mut self.response).poll(cx)).map_err(|error| self.failed(&error))?;
        self.permit.note_activity();
        let (head, body) = response.into_parts();
        let is_over = body.is_end_stream();
        self.body = Some(body);
        Poll::Ready(self.take_head(head.status, head.headers, is_over))
    }

    fn take_head(
        &mut self,
        status: StatusCode,
        fields: HeaderMap,
        is_over: bool,
    ) -> Result<ResponseStart, Failure> {
        judge_head(status, &fields, self.permit.next_block()).map_err(Failure::malformed)?;
        self.head = Some(Head { status, fields, is_over });
        Ok(ResponseStart {
            status: status.as_u16(),
            is_interim: status.is_informational(),
            is_over,
            is_websocket: false,
            is_chunked: false,
            hint: None,
        })
    }

    pub(super) fn has_length(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.fields.contains_key(header::CONTENT_LENGTH))
    }

    pub(super) fn head(&self) -> Option<ResponseView<'_>> {
        let Head { status, fields, is_over } = self.head.as_ref()?;
        let body = if *is_over { BodyKind::Empty } else { BodyKind::Streamed };
        Some(ResponseView::of_map(*status, fields, body))
    }

    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Failure>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(Part::End(None))) };
        match ready!(body.poll_data(cx)) {
            Some(Ok(bytes)) => {
                // It is asked for only when there is room for it with the client.
                let _ = body.flow_control().release_capacity(bytes.len());
                self.permit.note_activity();
                let (length, is_last) = (bytes.len() as u64, body.is_end_stream());
                Poll::Ready(Ok(Part::Data { piece: Piece::Bytes(bytes), length, is_last }))
            }
            Some(Err(error)) => Poll::Ready(Err(self.failed(&error))),
            None => {
                let trailers = ready!(body.poll_trailers(cx)).map_err(|error| self.failed(&error))?;
                if let Some(trailers) = &trailers {
                    judge_trailers(trailers, self.permit.next_block()).map_err(Failure::malformed)?;
                }
                Poll::Ready(Ok(Part::End(trailers.map(Trailers::Map))))
            }
        }
    }

    /// What an error of the stream means. The header block that comes next is what the codec stumbled over, if it is at fault.
    fn failed(&self, error: &h2::Error) -> Failure {
        failure(error, error.is_library().then(|| self.permit.next_block().fault).flatten())
    }

    /// The server did not answer in time: perhaps nobody is there any more.
    pub(super) fn retire_if_silent(&self) {
        if !self.permit.had_activity() {
            self.permit.retire();
        }
    }
}

/// A response's head.
#[derive(Debug)]
struct Head {
    status: StatusCode,
    fields: HeaderMap,
    is_over: bool,
}

/// What an error of a stream means whose next header block has this fault.
fn failure(error: &h2::Error, fault: Option<&'static str>) -> Failure {
    // RFC 9113 sections 6.8 and 8.7: the server has done nothing for this request.
    let is_untouched =
        error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
    let (why, detail) = match (fault, error.is_library()) {
        (Some(fault), _) => (Why::ServerMalformed, Some(fault)),
        (None, true) if error.is_reset() => (Why::ServerMalformed, Some("refused by the HTTP/2 codec")),
        (None, true) if error.is_go_away() => {
            (Why::ServerReset, Some("the server broke HTTP/2 on the connection"))
        }
        (None, _) => (Why::ServerReset, None),
    };
    Failure { why, detail, is_untouched }
}
