//! Answers of our own: in HTTP's words, or in gRPC's to a call.

use super::Relay;
use crate::access_log::{CLOSED, Why};
use crate::limit::TarpitPermit;
use crate::serve::client::ClientSide;
use crate::serve::exchange::LeasedServer;
use crate::serve::grpc;
use crate::serve::keepalive;
use crate::serve::piece::Piece;
use crate::serve::server::{Part, ResponseStart, ServerSide};
use crate::wire::local_reply::{self, LocalReply};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

/// How long a client has to take an answer of ours.
const LINGER: Duration = Duration::from_secs(2);

impl<C: ClientSide> Relay<'_, C> {
    /// Whether the client has given its call up by now, if this is the reason for its end.
    pub(super) fn is_given_up(&self, why: Why) -> bool {
        let is_first = |call_due| self.exchange.due.is_none_or(|due| call_due <= due);
        why == Why::RequestTimeout && self.call_due.is_some_and(is_first)
    }

    /// Answers with a status of our own, for the first reason there was. In a box: most requests need no room for it.
    pub(super) fn reply(&mut self, why: Why) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.reply_now(why))
    }

    async fn reply_now(&mut self, why: Why) {
        let why = self.blamed(why);
        self.exchange.fail(why);
        self.exchange.is_given_up |= self.is_given_up(why);
        self.exchange.give_back();
        self.state.watch.no_deadline();
        self.state.watch.may_be_quiet();
        let why = self.exchange.why;
        if why == Why::ClientAborted || self.status == CLOSED {
            return self.client.cut();
        }
        if let Some(state) = self.exchange.limits.as_deref_mut() {
            if state.closes {
                self.status = CLOSED;
                return self.client.cut();
            }
            if let Some((within, permit)) = state.tarpit.take()
                && !self.hold_in_tarpit(within, permit).await
            {
                return self.client.cut();
            }
        }
        self.state.answered.store(true, Relaxed);
        self.client.refuse_body();
        if matches!(why, Why::Malformed | Why::HeadersTooLarge) {
            // As after one whose head the edge refuses, so that whoever reads along needs one rule only.
            self.client.end_with_answer();
        }
        let mut response = match self.exchange.reply.take() {
            Some(reply) => *reply,
            None => {
                let mut response = self.local_reply(why);
                if why.is_of_queue()
                    && let Some(pool) = self.exchange.pool()
                {
                    response.ask_again_after(pool.queue.retry_after(Instant::now(), fastrand::u64(..)));
                }
                self.exchange.dress(why, &mut response, &self.request);
                response
            }
        };
        if let Some(seconds) = self.exchange.retry_after() {
            response.ask_again_after(u32::try_from(seconds).unwrap_or(u32::MAX));
        }
        self.send(response).await;
    }

    /// Has a page in place of a server's response, with its status.
    pub(super) fn intercept<'a>(
        &'a mut self,
        server: ServerSide,
        start: ResponseStart,
        leased: &'a LeasedServer,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            self.exchange.answered(start.status, start.hint);
            self.exchange.judge();
            let kept = kept_fields(&server);
            keep_if_whole(server, start, leased);
            self.exchange.give_back();
            self.state.watch.no_deadline();
            self.state.watch.may_be_quiet();
            self.client.refuse_body();
            let mut response = local_reply::with_status(start.status, None, None);
            response.fields.extend(kept);
            self.exchange.dress(Why::Ok, &mut response, &self.request);
            self.send(response).await;
        })
    }

    /// The reason as it is: who seems to have left may have been sent away by the codec, which says nothing of it.
    pub(super) fn blamed(&mut self, why: Why) -> Why {
        if !matches!(why, Why::ClientAborted | Why::Malformed) {
            return why;
        }
        let Some(fault) = self.client.breach() else { return why };
        self.exchange.detail = Some(fault);
        if self.status == 0 {
            self.status = CLOSED;
        }
        Why::Malformed
    }

    async fn send(&mut self, response: LocalReply) {
        self.status = response.status.as_u16();
        self.exchange.grpc_status = response.grpc_status;
        let is_over = response.body.is_empty() || self.request.method == Method::HEAD;
        let begun = self.begin_with(&response.head(), None).and_then(|()| self.client.commit(is_over));
        if begun.is_err() {
            return;
        }
        if !is_over {
            let length = response.body.len() as u64;
            let body = Piece::Bytes(response.body);
            match &mut self.compression {
                None => self.client.send(body, length, true),
                Some(compression) => compression.put(body, true),
            }
        }
        if !self.flush_own().await {
            self.client.cut();
        }
        self.bytes_out = self.client.sent();
    }

    /// Lets a client wait that is refused anyway; false if it has left.
    async fn hold_in_tarpit(&mut self, within: Duration, permit: TarpitPermit) -> bool {
        let _permit = permit;
        self.hold(within).await.is_ok()
    }

    fn local_reply(&self, why: Why) -> LocalReply {
        // Whoever makes a call reads no other answer.
        let (status, told) = self.exchange.told(why);
        match grpc::answered_as(&self.request) {
            Some(kind) => grpc::local_reply((status, told), kind, self.is_given_up(why)),
            None => local_reply::with_status(status, None, None),
        }
    }

    /// Whether the client has taken everything.
    async fn flush_own(&mut self) -> bool {
        // Most have room for it at once, and need no timer.
        if let Poll::Ready(flushed) = poll_fn(|cx| Poll::Ready(self.poll_own(cx))).await {
            return flushed.is_ok();
        }
        let flushed = tokio::time::timeout(LINGER, poll_fn(|cx| self.poll_own(cx))).await;
        matches!(flushed, Ok(Ok(())))
    }

    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Why>> {
        loop {
            ready!(self.client.poll_flush(cx))?;
            if !ready!(self.poll_compress(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Without which a status says nothing: how to be let in, what else is allowed, when to come again (RFC 9110 sections 15.5.2, 15.5.6
/// and 10.2.3).
static OF_STATUS: [HeaderName; 3] = [header::WWW_AUTHENTICATE, header::ALLOW, header::RETRY_AFTER];

/// What a page in place of a server's response has of that.
fn kept_fields(server: &ServerSide) -> HeaderMap {
    let mut kept = HeaderMap::new();
    let Some(head) = server.head() else { return kept };
    for name in &OF_STATUS {
        for value in head.fields.all(name).filter_map(|value| HeaderValue::from_bytes(value).ok()) {
            kept.append(name, value);
        }
    }
    kept
}

/// Keeps the connection of a response that nobody wants, if all of it has come; errors are short, and come along with their heads.
pub(super) fn keep_if_whole(mut server: ServerSide, start: ResponseStart, leased: &LeasedServer) {
    /// More is not read for that.
    const MOST: usize = 64 * 1024;
    let mut cx = Context::from_waker(Waker::noop());
    let (mut is_over, mut read) = (start.is_over, 0);
    while !is_over && read < MOST {
        match server.poll_part(&mut cx, false) {
            Poll::Ready(Ok(Part::Data { piece, is_last, .. })) => {
                read += piece.data().len();
                is_over = is_last;
            }
            Poll::Ready(Ok(Part::End(_))) => is_over = true,
            Poll::Ready(Err(_)) | Poll::Pending => return,
        }
    }
    if is_over {
        server.done(&leased.server, keepalive(&leased.pool.plan.timeouts, &leased.server));
    }
}
