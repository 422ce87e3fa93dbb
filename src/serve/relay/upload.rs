//! The request's way: its body, from the client to the server; as much of it kept as may have to be sent again.

use super::Relay;
use crate::access_log::Why;
use crate::fields::has_token;
use crate::filter::trailers;
use crate::serve::client::ClientSide;
use crate::serve::piece::Piece;
use crate::serve::server::ServerSide;
use crate::wire::edit::Edits;
use crate::wire::response_head::{BodyKind, ResponseView};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use std::future::poll_fn;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

/// As much of a body is kept as may have to be sent again.
const REPEATABLE: usize = 64 * 1024;

/// What was read of a body.
#[derive(Debug)]
pub(super) struct RepeatableBody {
    /// All of it so far, if `is_repeatable`.
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// How many of those this try has sent.
    sent: usize,
    /// All that was read of it is kept.
    pub(super) is_repeatable: bool,
    /// All of it was read.
    is_over: bool,
}

impl RepeatableBody {
    pub(super) fn new(is_over: bool) -> Self {
        Self { kept: Vec::new(), kept_bytes: 0, sent: 0, is_repeatable: false, is_over }
    }

    /// The request may be sent again, or not; what was read before anybody got it is there in either case.
    pub(super) fn begin(&mut self, may_be_repeated: bool) {
        self.is_repeatable = may_be_repeated && self.kept_bytes <= REPEATABLE;
    }

    /// Whether some of it was read before its server was asked for.
    pub(super) fn is_held(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Reads it before anybody gets it: to its end, or until so much of it is held.
    pub(super) fn poll_hold(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut impl ClientSide,
        (most, limit): (u64, u64),
    ) -> Poll<Result<bool, Why>> {
        while !self.is_over && (self.kept_bytes as u64) < most {
            let Some(piece) = ready!(client.poll_body(cx, false))? else {
                self.is_over = true;
                break;
            };
            if client.received() > limit {
                return Poll::Ready(Err(Why::BodyTooLarge));
            }
            self.kept_bytes += piece.data().len();
            self.kept.push(piece.into_bytes());
        }
        Poll::Ready(Ok(self.is_over))
    }

    /// The next of it for the present try; `None` is its end.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut impl ClientSide,
        keeps_chunks: bool,
        limit: u64,
    ) -> Poll<Result<Option<Piece>, Why>> {
        if let Some(bytes) = self.kept.get(self.sent) {
            self.sent += 1;
            return Poll::Ready(Ok(Some(Piece::Bytes(bytes.clone()))));
        }
        if self.is_over {
            return Poll::Ready(Ok(None));
        }
        let Some(piece) = ready!(client.poll_body(cx, keeps_chunks))? else {
            self.is_over = true;
            return Poll::Ready(Ok(None));
        };
        if client.received() > limit {
            return Poll::Ready(Err(Why::BodyTooLarge));
        }
        self.kept_bytes += piece.data().len();
        self.is_repeatable &= self.kept_bytes <= REPEATABLE;
        if !self.is_repeatable {
            self.kept = Vec::new();
            self.sent = 0;
            return Poll::Ready(Ok(Some(piece)));
        }
        let bytes = piece.into_bytes();
        self.kept.push(bytes.clone());
        self.sent += 1;
        Poll::Ready(Ok(Some(Piece::Bytes(bytes))))
    }

    /// The next try begins at the beginning.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// The request will not be sent again.
    pub(super) fn forget(&mut self) {
        self.is_repeatable = false;
    }
}

/// That the body may come (RFC 9110 section 15.2.1).
static CONTINUE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

impl<C: ClientSide> Relay<'_, C> {
    /// Reads the body before a server is asked for, up to so much of it: a slow client then holds a buffer, and no server.
    pub(super) async fn hold_upload(&mut self, most: u64) -> Result<(), Why> {
        let Some(listener) = &self.exchange.listener else { return Err(Why::Shutdown) };
        let limit = listener.plan.limits.request_body;
        self.state.watch.quiet(listener.plan.timeouts.request_body, Why::RequestBodyTimeout);
        self.exchange.is_held = true;
        if has_token(self.request.fields.all(&header::EXPECT), "100-continue") {
            let head = ResponseView::of_map(StatusCode::CONTINUE, &CONTINUE, BodyKind::Empty);
            self.client.interim(&head, &Edits::default());
            self.is_asked_for = true;
        }
        let held = poll_fn(|cx| {
            self.state.watch.heed_now(cx)?;
            ready!(self.client.poll_flush(cx))?;
            let before = self.client.received();
            let held = self.body.poll_hold(cx, &mut self.client, (most, limit));
            if self.client.received() != before {
                self.state.watch.touch();
            }
            held
        });
        let held = held.await.map_err(|why| self.state.watch.interrupted().unwrap_or(why));
        self.state.watch.may_be_quiet();
        held.map(|_| self.exchange.is_held = false)
    }

    /// Moves as much of the request as moves now.
    pub(super) fn upload(&mut self, cx: &mut Context<'_>, server: &mut ServerSide) -> Result<(), Why> {
        if self.is_uploaded || self.is_refused {
            return Ok(());
        }
        let limit = self.exchange.listener.as_ref().map_or(0, |listener| listener.plan.limits.request_body);
        let mut has_moved = false;
        loop {
            // What is here of the body goes out with the head.
            let mut waits_for_client = false;
            while !self.is_put && server.has_room() {
                match self.body.poll_next(cx, &mut self.client, self.keeps_chunks, limit) {
                    Poll::Ready(Ok(Some(piece))) => {
                        // A frame without data is no progress.
                        if !piece.is_empty() {
                            self.state.watch.touch();
                        }
                        server.put(piece);
                    }
                    Poll::Ready(Ok(None)) => {
                        let mut trailers = self.client.take_trailers();
                        if let Some(trailers) = &mut trailers {
                            trailers::strip_request(trailers, self.exchange.policy());
                        }
                        server.finish(trailers);
                        self.is_put = true;
                    }
                    Poll::Ready(Err(why)) => {
                        self.exchange.turn(true);
                        return Err(self.state.watch.interrupted().unwrap_or(why));
                    }
                    Poll::Pending => {
                        waits_for_client = true;
                        break;
                    }
                }
            }
            let before = server.taken();
            let flushed = server.poll_flush(cx);
            if server.taken() != before {
                self.state.watch.touch();
                has_moved = true;
            }
            match flushed {
                Poll::Ready(Ok(())) if self.is_put => {
                    server.uploaded();
                    self.uploaded();
                    return Ok(());
                }
                Poll::Ready(Ok(())) if waits_for_client => {
                    self.waits_for(false);
                    match self.status {
                        0 if self.awaits_continue() => self.exchange.turn(false),
                        0 => self.exchange.passed_on(has_moved),
                        _ => {}
                    }
                    return Ok(());
                }
                Poll::Ready(Ok(())) => {}
                // It may have answered before it closed.
                Poll::Ready(Err(_)) => {
                    self.is_refused = true;
                    self.exchange.turn(false);
                    return Ok(());
                }
                Poll::Pending => {
                    self.waits_for(true);
                    return Ok(());
                }
            }
        }
    }

    /// Whether the client waits to be told to go on with its body, and nobody has done so.
    fn awaits_continue(&self) -> bool {
        self.client.received() == 0
            && self.interims == 0
            && !self.is_asked_for
            && has_token(self.request.fields.all(&header::EXPECT), "100-continue")
    }

    /// Which side is to move next, and how long that may take.
    fn waits_for(&mut self, server: bool) {
        if self.status != 0 {
            return self.exchange.turn(!server);
        }
        if self.waits_for_server == server {
            return;
        }
        self.waits_for_server = server;
        self.exchange.upload_waits(server);
    }

    /// The request is with the server, which is now to answer.
    fn uploaded(&mut self) {
        self.is_uploaded = true;
        self.waits_for_server = false;
        if self.status != 0 {
            return self.exchange.turn(false);
        }
        let may_be_repeated = self.can_be_repeated();
        self.exchange.expect_head(self.call_due, may_be_repeated);
    }
}

#[cfg(test)]
mod tests;
