//! The response's way: its head and its body, from the server to the client.

use super::Relay;
use super::caching::Unkept;
use super::compress::{self, Chosen};
use crate::access_log::Why;
use crate::edge::HttpDate;
use crate::fields::Field;
use crate::filter::sticky::StickyCookie;
use crate::filter::{self, ResponseFacts, trailers};
use crate::metrics::RequestOutcome;
use crate::serve::client::ClientSide;
use crate::serve::exchange::LeasedServer;
use crate::serve::grpc;
use crate::serve::piece::Piece;
use crate::serve::server::{Failure, Part, ResponseStart, ServerSide, Trailers};
use crate::store::{CodedBody, StoredResponse};
use crate::wire::response_head::{MOST_INTERIMS, ResponseView};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Nor do so many bytes of their heads. Those who do not read would have them collected here.
const MOST_INTERIM: usize = 64 * 1024;

impl<C: ClientSide> Relay<'_, C> {
    /// Sends the request and reads the response's head.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut ServerSide,
    ) -> Poll<Result<ResponseStart, Failure>> {
        self.state.watch.heed_now(cx)?;
        self.upload(cx, server)?;
        loop {
            match server.poll_head(cx) {
                Poll::Ready(Ok(start)) => {
                    self.state.watch.touch();
                    if !start.is_interim {
                        // One who leaves as the response comes has left before it every time.
                        return Poll::Ready(match self.client.poll_left(cx) {
                            Poll::Ready(()) if !self.is_awaited() => Err(Why::ClientAborted.into()),
                            Poll::Ready(()) | Poll::Pending => Ok(start),
                        });
                    }
                    self.pass_interim(server)?;
                }
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => break,
            }
        }
        if self.interims > 0
            && let Poll::Ready(Err(why)) = self.client.poll_flush(cx)
        {
            return Poll::Ready(Err(self.state.watch.interrupted().unwrap_or(why).into()));
        }
        match self.client.poll_left(cx) {
            Poll::Ready(()) if !self.is_awaited() => Poll::Ready(Err(Why::ClientAborted.into())),
            Poll::Ready(()) | Poll::Pending => Poll::Pending,
        }
    }

    /// Passes on a response.
    pub(super) async fn pass_on(
        &mut self,
        mut server: ServerSide,
        start: ResponseStart,
        leased: &LeasedServer,
    ) {
        self.body.forget();
        self.exchange.answered(start.status, start.hint);
        // Its head waits for what has come of the body along with it: if that is broken, there is still an answer.
        let first = match self.begin(&server) {
            Ok(()) => self.first_part(&mut server, start).await,
            Err(failure) => Err(failure),
        };
        let first = match first {
            Ok(first) => first,
            Err(failure) => {
                self.not_kept(Unkept::BrokenOff(failure));
                self.client.withdraw();
                self.exchange.detail = failure.detail.or(self.exchange.detail);
                // The client has none of it.
                self.exchange.first_byte = None;
                self.exchange.grpc_status = None;
                drop(server);
                return self.reply(failure.why).await;
            }
        };
        if !self.is_grpc {
            self.exchange.judge();
        }
        self.limit(self.call_due);
        let server = self.share_rest(server, first.as_ref());
        self.deliver(server, first, start, Some(leased)).await;
    }

    /// Has the client get a response whose head it was given.
    pub(super) async fn deliver(
        &mut self,
        server: ServerSide,
        first: Option<Part>,
        start: ResponseStart,
        leased: Option<&LeasedServer>,
    ) {
        self.status = start.status;
        if !start.is_over {
            self.pace();
        }
        // Until it has no more to do.
        let mut server = Some(server);
        if start.is_over {
            self.kept();
            self.release(&mut server, leased);
        }
        let begun = self.client.commit(start.is_over).map_err(Failure::from);
        let passed = match begun
            .and_then(|()| first.map_or(Ok(()), |first| self.pass_part(first, &mut server, leased)))
        {
            Ok(()) => poll_fn(|cx| self.poll_body(cx, &mut server, start, leased)).await,
            Err(failure) => Err(failure),
        };
        if passed.is_err() {
            // What the client was sent leaves before it is told that no more comes: a reset takes what waits with it.
            tokio::task::yield_now().await;
        }
        self.bytes_out = self.client.sent();
        if passed.as_ref().is_err_and(|failure| failure.why == Why::ClientAborted) && self.is_filling() {
            // Others will ask for it.
            server = self.feeding.take().or(server);
            let _ = self.keep_rest(&mut server, leased).await;
        }
        self.state.watch.may_be_quiet();
        self.state.watch.no_deadline();
        if let Err(failure) = passed {
            self.feeding = None;
            self.not_kept(Unkept::BrokenOff(failure));
            let why = self.blamed(failure.why);
            self.exchange.detail = failure.detail.or(self.exchange.detail);
            self.exchange.fail(why);
            drop(server);
            self.exchange.give_back();
            if self.is_given_up(failure.why) {
                self.exchange.is_given_up = true;
                // The call has come to nothing but a head.
                let is_in_vain = self.waits_for_part && self.bytes_out == 0;
                self.exchange.silence = is_in_vain.then(|| self.state.watch.quiet_for());
                self.exchange.grpc_status = Some(grpc::DEADLINE_EXCEEDED);
                let trailers = grpc::trailers(grpc::DEADLINE_EXCEEDED, "the call's deadline has passed");
                if self.client.end(Some(trailers)).is_ok() {
                    return;
                }
            }
            self.client.cut();
        }
    }

    /// Hands the client the head that has come, as filters have it.
    pub(super) fn begin(&mut self, server: &ServerSide) -> Result<(), Failure> {
        let head = server.head().ok_or(Why::Internal)?;
        #[cfg(debug_assertions)]
        drill(&head);
        // An answer without a body says it here.
        self.exchange.grpc_status = grpc::status(head.fields);
        self.exchange.declared(head.fields);
        let sticky = self.exchange.sticky_cookie(&self.request, &head);
        self.takes_chunks_apart = head.is_chunked && self.is_filling();
        Ok(self.begin_with(&head, sticky.as_ref())?)
    }

    /// Hands the client a head, as filters have it.
    pub(super) fn begin_with(
        &mut self,
        head: &ResponseView<'_>,
        sticky: Option<&StickyCookie>,
    ) -> Result<(), Why> {
        self.begin_kept(head, sticky, None).map(drop)
    }

    /// The same for one that lies in memory as it is. What comes is its body, if that goes in a form that is kept, too.
    pub(super) fn begin_kept(
        &mut self,
        head: &ResponseView<'_>,
        sticky: Option<&StickyCookie>,
        kept: Option<&Arc<StoredResponse>>,
    ) -> Result<Option<CodedBody>, Why> {
        self.exchange.charge(head.status);
        let date = HttpDate::of(self.exchange.response_time());
        let (request, hsts) = (Some(self.request), self.exchange.hsts());
        let applied = self.exchange.applied_policy(&self.request);
        let facts = ResponseFacts {
            request,
            hsts,
            sticky,
            date: date.as_bytes(),
            cache: Some(&self.cache_fields),
            rate_limit: self.exchange.rate_limit_fields(),
            policy: applied.as_ref(),
        };
        let mut edits = filter::response(head, &facts);
        let dropped = edits.dropped();
        let compress = applied.as_ref().and_then(|applied| applied.policy.plan.compress.get());
        let is_compressed = compress.is_some();
        let known = (head, kept, self.cache_fields.is_compressible);
        let chosen = compress.map_or(Chosen::Plain, |plan| {
            compress::choose(&self.exchange, plan, &self.request, known, &mut edits)
        });
        let begun = match &chosen {
            Chosen::Plain if !self.takes_chunks_apart => self.client.begin(head, &edits),
            Chosen::Plain | Chosen::HeadOnly | Chosen::Compressed(_) => {
                self.client.begin(&compress::recoded(head, None), &edits)
            }
            Chosen::Kept(_, body) => self.client.begin(&compress::recoded(head, Some(body.length)), &edits),
        };
        drop(edits);
        self.exchange.dropped_fields += dropped;
        let coded = if is_compressed { self.compress(chosen, kept) } else { None };
        begun.map(|()| coded)
    }

    /// Hands the client an interim response, as filters have it.
    fn pass_interim(&mut self, server: &ServerSide) -> Result<(), Failure> {
        let head = server.head().ok_or(Why::Internal)?;
        self.interims += 1;
        if head.status == 100 && !self.is_uploaded {
            self.exchange.turn(true);
        }
        if self.interims > MOST_INTERIMS {
            return Err(Failure::malformed("more than 64 interim responses"));
        }
        let size = |field: Field<'_>| field.name_length() + field.value().len() + 4;
        self.interim_bytes += head.fields.each().map(size).sum::<usize>();
        if self.interim_bytes > MOST_INTERIM {
            return Err(Failure::malformed("interim responses of more than 64 KiB"));
        }
        // RFC 8297.
        let hints = self.exchange.policy().and_then(|policy| policy.plan.early_hints.get());
        if head.status == 103 && hints.is_some_and(|hints| !hints.pass) {
            return Ok(());
        }
        let facts = ResponseFacts { request: Some(self.request), ..ResponseFacts::default() };
        self.client.interim(&head, &filter::response(&head, &facts));
        Ok(())
    }

    /// What is there of the response's body behind its head.
    pub(super) async fn first_part(
        &self,
        server: &mut ServerSide,
        start: ResponseStart,
    ) -> Result<Option<Part>, Failure> {
        if start.is_over {
            return Ok(None);
        }
        let keeps_chunks = self.keeps_chunks_of(start);
        match poll_fn(|cx| Poll::Ready(server.poll_part(cx, keeps_chunks))).await {
            Poll::Ready(part) => part.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Whether the response's chunks go on as they are.
    fn keeps_chunks_of(&self, start: ResponseStart) -> bool {
        start.is_chunked
            && self.client.takes_chunks()
            && self.compression.is_none()
            && !self.takes_chunks_apart
    }

    /// Moves the response's body to its end.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut Option<ServerSide>,
        start: ResponseStart,
        leased: Option<&LeasedServer>,
    ) -> Poll<Result<(), Failure>> {
        let keeps_chunks = self.keeps_chunks_of(start);
        if let Err(why) = self.state.watch.heed_now(cx) {
            self.exchange.has_stalled = why == Why::StreamIdle && self.waits_for_part;
            return Poll::Ready(Err(why.into()));
        }
        self.waits_for_part = false;
        self.feed(cx, leased);
        if let Some(server) = server {
            self.upload(cx, server)?;
        }
        loop {
            // Nothing more is read while the client has not taken what was, unless it costs nothing to hold.
            let gathers = self.broken_off.is_none() && self.gathers(server.as_ref());
            if !gathers {
                match self.poll_sent(cx) {
                    Poll::Ready(sent) => sent?,
                    Poll::Pending => {
                        self.let_others_go_on(cx, server, leased);
                        return Poll::Pending;
                    }
                }
            }
            if self.holds_back() {
                if self.poll_pace(cx).is_pending() {
                    self.let_others_go_on(cx, server, leased);
                    ready!(self.client.poll_left(cx));
                    return Poll::Ready(Err(Why::ClientAborted.into()));
                }
                continue;
            }
            if let Some(failure) = self.broken_off.take() {
                return Poll::Ready(Err(failure));
            }
            if server.is_none() && self.compression.is_none() {
                return Poll::Ready(Ok(()));
            }
            if !self.is_fed && self.poll_keeping(cx).is_pending() {
                ready!(self.client.poll_left(cx));
                return Poll::Ready(Err(Why::ClientAborted.into()));
            }
            if self.compression.is_some() && ready!(self.poll_compress(cx))? {
                continue;
            }
            let Some(sending) = server else { return Poll::Ready(Ok(())) };
            match sending.poll_part(cx, keeps_chunks) {
                Poll::Ready(Ok(part)) => self.pass_part(part, server, leased)?,
                Poll::Ready(Err(failure)) => {
                    if gathers {
                        ready!(self.poll_sent(cx))?;
                    }
                    return Poll::Ready(Err(failure));
                }
                Poll::Pending if self.give_out()? => {}
                Poll::Pending => {
                    if gathers {
                        ready!(self.poll_sent(cx))?;
                    }
                    break;
                }
            }
        }
        // A server may also wait for what its client still sends.
        self.waits_for_part = self.is_uploaded;
        let left = self.client.poll_left(cx);
        let says_more = self.waits_for_part && server.as_ref().is_some_and(ServerSide::has_length);
        let silence = || self.state.watch.quiet_for();
        if left.is_pending() {
            if says_more && !self.exchange.may_have_left && self.client.may_have_left() {
                self.exchange.seems_left(silence());
            }
            return Poll::Pending;
        }
        if says_more {
            self.exchange.silence = Some(silence());
            self.exchange.has_stalled = silence() >= RequestOutcome::PATIENCE;
        }
        Poll::Ready(Err(Why::ClientAborted.into()))
    }

    /// Whether more of what is kept in memory may be put behind what waits to be sent.
    fn gathers(&self, server: Option<&ServerSide>) -> bool {
        server.is_some_and(ServerSide::is_in_memory)
            && self.compression.is_none()
            && self.pacing.is_none()
            && self.client.takes_more()
    }

    /// Ready when the client has taken everything.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let before = self.client.sent();
        let flushed = self.client.poll_flush(cx);
        if self.client.sent() != before {
            self.state.watch.touch();
        }
        flushed.map_err(|why| self.state.watch.interrupted().unwrap_or(why).into())
    }

    /// All of the response has come, unless it comes by another way.
    fn finish_keeping(&mut self) {
        if !self.is_fed {
            self.kept();
        }
    }

    /// Takes what came of the response's body.
    fn pass_part(
        &mut self,
        part: Part,
        server: &mut Option<ServerSide>,
        leased: Option<&LeasedServer>,
    ) -> Result<(), Failure> {
        match part {
            Part::Data { piece, length, is_last } => {
                // A frame without data is no progress.
                if !piece.is_empty() {
                    self.state.watch.touch();
                }
                if !self.is_fed {
                    self.keep(piece.data());
                }
                if is_last {
                    self.finish_keeping();
                    self.release(server, leased);
                }
                match &mut self.compression {
                    None => self.send_body(piece, length, is_last),
                    Some(compression) => compression.put(piece, is_last),
                }
            }
            Part::End(trailers) => {
                let policy = self.exchange.policy();
                let hidden = self.cache_fields.hidden.as_ref().map_or(&[][..], |plan| &plan.tags.fields);
                let (map, lines) = match trailers {
                    None => (None, None),
                    Some(Trailers::Lines(lines)) => {
                        (None, Some(trailers::kept_lines(&lines, policy, hidden)))
                    }
                    Some(Trailers::Map(mut map)) => {
                        let status = grpc::status(crate::fields::FieldList::Map(&map));
                        trailers::strip_response(&mut map, policy, hidden);
                        self.exchange.grpc_status = status.or(self.exchange.grpc_status);
                        (Some(map), None)
                    }
                };
                self.finish_keeping();
                self.release(server, leased);
                match (&mut self.compression, lines) {
                    (Some(compression), _) => compression.end(map),
                    (None, None) => self.client.end(map)?,
                    (None, Some(mut lines)) => {
                        lines.extend_from_slice(b"\r\n");
                        self.send_body(Piece::Bytes(lines.into()), 0, true);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A fault of our own on request, so that a test can see what becomes of it; not in release builds.
#[cfg(debug_assertions)]
fn drill(head: &ResponseView<'_>) {
    assert!(!head.fields.each().any(|field| field.is("x-evenkeel-drill")), "a drill");
}
