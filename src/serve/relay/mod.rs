//! The one driver of an HTTP exchange, whichever version either side speaks: the request goes from the client's side to the
//! server's, the response back, by one future. Decisions are made in [`Exchange`].
//!
//! Pingora's proxy loop does this too, at two and a half times the instructions: it takes heads apart into maps and
//! puts them together again, moves bodies through channels between two halves, and keeps a task for each idle
//! connection. Here heads go from bytes to bytes where both sides speak HTTP/1, one future drives both directions, buffers
//! are held only while there are bytes in them, and connections to servers are the core's own.

mod bandwidth;
mod cache;
mod caching;
mod compress;
mod connect;
mod download;
mod fill;
mod kept;
mod local_reply;
mod purge;
mod recall;
mod refresh;
mod share;
mod tunnel;
mod upload;

use super::client::ClientSide;
use super::exchange::{AfterTimeout, Exchange, LeasedServer, is_idempotent};
use super::server::{Failure, ServerSide};
use super::{grpc, keepalive};
use crate::access_log::Why;
use crate::cache::NotStored;
use crate::config::plan::ServerProtocol;
use crate::edge::{Addresses, RequestState};
use crate::filter::cache::CacheFields;
use crate::pool::Pool;
use crate::wire::request::RequestView;
use bandwidth::Pacing;
use caching::{Caching, Unkept};
use compress::Compression;
use fill::Answer;
use http::Version;
use local_reply::keep_if_whole;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use upload::RepeatableBody;

/// A try that has begun.
struct ServerExchange {
    side: ServerSide,
    /// Its connection was used before.
    is_reused: bool,
}

/// One request under way.
pub(super) struct Relay<'a, C: ClientSide> {
    state: Arc<RequestState>,
    /// Of the client's connection, as its server may be told.
    addresses: Addresses,
    pub(super) client: C,
    /// The request.
    request: RequestView<'a>,
    exchange: Exchange,
    /// What the connection may switch to.
    upgrade: Option<String>,
    /// The server that was to be asked for that speaks HTTP/2 alone.
    has_no_upgrades: bool,
    body: RepeatableBody,
    /// The body's chunks go on as they are, for its server can only be one of HTTP/1.
    keeps_chunks: bool,
    is_uploaded: bool,
    /// The server takes nothing more of the request; it may have answered.
    is_refused: bool,
    /// The client was told to go on with its body: nobody else is to tell it so.
    is_asked_for: bool,
    /// All of the request was put.
    is_put: bool,
    /// The request waits for the server to read, not for the client to write.
    waits_for_server: bool,
    is_grpc: bool,
    /// When a gRPC client gives its call up.
    call_due: Option<Instant>,
    /// What compresses the response's body.
    compression: Option<Box<Compression>>,
    /// What holds it back.
    pacing: Option<Box<Pacing>>,
    /// What the cache has to do with it.
    caching: Option<Box<Caching>>,
    /// The server whose response is kept as it comes, however slowly the client takes it: that is served from what is kept already.
    feeding: Option<ServerSide>,
    is_fed: bool,
    /// Why no more comes that way.
    broken_off: Option<Failure>,
    /// What the client is told of that.
    cache_fields: CacheFields,
    /// The response's chunks are taken apart, for their data is kept.
    takes_chunks_apart: bool,
    /// The next of the response is up to the server, and not to a client that does not read.
    waits_for_part: bool,
    /// Interim responses so far.
    interims: u32,
    /// Of their fields.
    interim_bytes: usize,
    status: u16,
    bytes_in: u64,
    bytes_out: u64,
}

impl<'a, C: ClientSide> Relay<'a, C> {
    // Made where it is to be, for it is long to move.
    #[inline]
    pub(super) fn new(
        mut exchange: Exchange,
        state: Arc<RequestState>,
        addresses: Addresses,
        request: RequestView<'a>,
        client: C,
    ) -> Self {
        let is_grpc = request.version == Version::HTTP_2 && grpc::is_call(request.fields);
        if is_grpc {
            exchange.call_within = grpc::timeout(request.fields);
        }
        let call_due = exchange.call_within.and_then(|within| exchange.started.checked_add(within));
        Self {
            state,
            addresses,
            body: RepeatableBody::new(!client.has_body()),
            client,
            request,
            exchange,
            upgrade: None,
            has_no_upgrades: false,
            keeps_chunks: false,
            is_uploaded: false,
            is_refused: false,
            is_asked_for: false,
            is_put: false,
            waits_for_server: false,
            is_grpc,
            call_due,
            compression: None,
            pacing: None,
            caching: None,
            feeding: None,
            is_fed: false,
            broken_off: None,
            cache_fields: CacheFields::default(),
            takes_chunks_apart: false,
            waits_for_part: false,
            interims: 0,
            interim_bytes: 0,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Serves the request, and records it.
    pub(super) async fn run(&mut self) {
        self.serve().await;
        self.record();
    }

    async fn serve(&mut self) {
        // It passes whatever the call waits for.
        self.limit(self.call_due);
        let decided = self.exchange.decide(&self.request);
        if let Some(delay) = self.exchange.delay.take() {
            self.exchange.is_held = true;
            if let Err(why) = Box::pin(self.hold(delay)).await {
                return self.reply(why).await;
            }
            self.exchange.is_held = false;
        }
        if let Err(why) = decided {
            return self.reply(why).await;
        }
        if let Some(rule) = self.exchange.cache()
            && Box::pin(self.serve_from_store(rule)).await
        {
            return;
        }
        if self.exchange.has_long_head {
            self.exchange.detail = Some("a PURGE with a long head by a rule that has no cache");
            return self.reply(Why::HeadersTooLarge).await;
        }
        self.fetch().await;
    }

    /// Has a server answer the request.
    pub(super) async fn fetch(&mut self) {
        if self.client.has_body()
            && let Some(most) = self.exchange.holds_uploads()
            && let Err(why) = Box::pin(self.hold_upload(most)).await
        {
            return self.reply(why).await;
        }
        let mut leased = match self.admit().await {
            Ok(leased) => leased,
            Err(why) => return Box::pin(self.fail(why)).await,
        };
        self.prepare(&leased.pool);
        'tries: loop {
            let mut begun = match self.connect(&leased).await {
                Ok(begun) => begun,
                Err(_) if std::mem::take(&mut self.has_no_upgrades) => {
                    let next = Box::pin(self.exchange.lease_for_upgrade());
                    leased = match unless_left(&mut self.client, next).await {
                        Ok(next) => next,
                        Err(why) => return Box::pin(self.fail(why)).await,
                    };
                    continue;
                }
                Err(why) => {
                    // What is wrong with the request is wrong everywhere.
                    let is_of_request = matches!(why, Why::Malformed | Why::UriTooLong | Why::Internal);
                    if is_of_request || self.state.watch.interrupted().is_some() {
                        return Box::pin(self.fail(why)).await;
                    }
                    let next = Box::pin(self.exchange.connect_failed(why));
                    match unless_left(&mut self.client, next).await {
                        Ok(Some(next)) => leased = next,
                        Ok(None) => return Box::pin(self.fail(why)).await,
                        Err(why) => return Box::pin(self.fail(why)).await,
                    }
                    continue;
                }
            };
            let failure = loop {
                match poll_fn(|cx| self.poll_head(cx, &mut begun.side)).await {
                    Ok(start) => {
                        if self.can_be_repeated()
                            && let Some(next) = self.exchange.status_is_retried(start.status).await
                        {
                            leased = next;
                            self.rewind();
                            continue 'tries;
                        }
                        let answer = match self.concerns_store().then(|| begun.side.head()).flatten() {
                            Some(head) if start.status != 101 => self.judge_answer(&head),
                            _ => Answer::PassOn,
                        };
                        match answer {
                            Answer::PassOn => {}
                            Answer::PassWhole => {
                                return Box::pin(self.serve_when_whole(begun.side, start, &leased)).await;
                            }
                            Answer::Stored(kept) => {
                                return Box::pin(self.serve_instead(begun.side, start, &leased, *kept)).await;
                            }
                            Answer::Again => {
                                keep_if_whole(begun.side, start, &leased);
                                self.rewind();
                                continue 'tries;
                            }
                        }
                        if !self.is_grpc && self.exchange.intercepts(start.status) {
                            self.not_kept(Unkept::NotStored(NotStored::Intercepted));
                            return self.intercept(begun.side, start, &leased).await;
                        }
                        return match start.status {
                            101 => Box::pin(self.tunnel(begun.side, start, leased)).await,
                            _ => self.pass_on(begun.side, start, &leased).await,
                        };
                    }
                    Err(failure) if failure.why == Why::ResponseHeaderTimeout && self.can_be_repeated() => {
                        match self.exchange.timed_out(failure.why).await {
                            AfterTimeout::SentAgain(next) => {
                                begun.side.retire_if_silent();
                                leased = next;
                                self.rewind();
                                continue 'tries;
                            }
                            AfterTimeout::GoesOn => {}
                            AfterTimeout::IsOver => break failure,
                        }
                    }
                    Err(failure) => break failure,
                }
            };
            let may_be_sent_again = match failure.why {
                Why::ServerReset if failure.is_untouched => self.body.is_repeatable,
                Why::ServerReset => self.can_be_repeated(),
                _ => false,
            };
            let is_reused = begun.is_reused;
            if matches!(failure.why, Why::ResponseHeaderTimeout | Why::RequestTimeout) {
                begun.side.retire_if_silent();
            }
            drop(begun);
            if may_be_sent_again
                && let Some(next) = self.exchange.send_again(is_reused, failure.is_untouched).await
            {
                leased = next;
                self.rewind();
                continue;
            }
            self.exchange.detail = failure.detail.or(self.exchange.detail);
            return Box::pin(self.fail(failure.why)).await;
        }
    }

    /// Lets the request wait, unless its client leaves or it is to end.
    pub(super) async fn hold(&mut self, delay: Duration) -> Result<(), Why> {
        let waited = pin!(self.state.watch.heed(tokio::time::sleep(delay)));
        unless_left(&mut self.client, waited).await
    }

    /// Leases a server, and waits for one if it must.
    async fn admit(&mut self) -> Result<LeasedServer, Why> {
        let target = self.caching.as_ref().and_then(|caching| caching.target.as_deref());
        let admitted = pin!(self.exchange.admit(&self.request, target, self.call_due));
        unless_left(&mut self.client, admitted).await
    }

    /// Sets the first limits, now that it is known where the request goes.
    fn prepare(&mut self, pool: &Pool) {
        let is_http1 = pool.plan.protocol == ServerProtocol::Http1;
        if pool.plan.protocol != ServerProtocol::H2 {
            self.upgrade = self.exchange.upgrade(&self.request);
        }
        // Of what was read before its chunks are gone.
        self.keeps_chunks = is_http1 && !self.body.is_held();
        let has_body = self.client.has_body();
        // A server that speaks HTTP/2 may say that it has not touched a request, whatever the method.
        self.body.begin(is_idempotent(self.request.method) || !is_http1);
        if has_body {
            // A call's deadline counts from its beginning, `timeouts.request` once the body is there.
            self.exchange.watch_upload(false);
            self.limit(self.call_due);
        } else {
            let due = self.exchange.started + pool.plan.timeouts.request;
            self.exchange.due = Some(self.call_due.map_or(due, |call_due| call_due.min(due)));
            self.limit(self.exchange.due);
        }
    }

    /// The exchange is to be over by then.
    fn limit(&self, due: Option<Instant>) {
        if let Some(due) = due {
            self.state.watch.deadline_at(due, Why::RequestTimeout);
        }
    }

    /// The next try begins at the beginning.
    fn rewind(&mut self) {
        self.body.rewind();
        self.is_uploaded = false;
        self.is_refused = false;
        self.is_put = false;
        self.exchange.begin_again();
    }

    /// RFC 9110 section 9.2.2: only what does no harm twice, and only with its body still at hand.
    pub(super) fn can_be_repeated(&self) -> bool {
        is_idempotent(self.request.method) && self.body.is_repeatable
    }

    /// The server has no more to do: its lease ends and its connection is free before the client has the last
    /// byte, so that the client's next request finds both.
    fn release(&mut self, server: &mut Option<ServerSide>, leased: Option<&LeasedServer>) {
        if let (Some(server), Some(leased)) = (server.take(), leased) {
            server.done(&leased.server, keepalive(&leased.pool.plan.timeouts, &leased.server));
        }
        // Whatever the client still sends of its request has no taker.
        self.is_refused = true;
        self.exchange.give_back();
    }

    fn record(&mut self) {
        let status = if self.status == 0 { self.exchange.why.status() } else { self.status };
        let exchange = &mut self.exchange;
        if self.is_grpc && status == 200 && exchange.why == Why::Ok && exchange.grpc_status.is_none() {
            // It looks well to nobody but HTTP.
            exchange.grpc_status = Some(grpc::UNKNOWN);
            exchange.detail = Some("the call ended without grpc-status");
        }
        let bytes_in = self.client.received() + self.bytes_in;
        self.exchange.record(status, Some(&self.request), (bytes_in, self.bytes_out));
    }
}

/// Does what may take long, unless the client leaves meanwhile.
pub(super) async fn unless_left<T>(
    client: &mut impl ClientSide,
    mut work: impl Future<Output = Result<T, Why>> + Unpin,
) -> Result<T, Why> {
    let mut has_waited = false;
    poll_fn(|cx| match Pin::new(&mut work).poll(cx) {
        Poll::Pending => {
            has_waited = true;
            client.poll_left_waiting(cx).map(|()| Err(Why::ClientAborted))
        }
        // Its turn may come just after it has left.
        Poll::Ready(Ok(_)) if has_waited && client.has_left_waiting(cx) => {
            Poll::Ready(Err(Why::ClientAborted))
        }
        done => done,
    })
    .await
}

impl<C: ClientSide> Drop for Relay<'_, C> {
    /// What ends in the middle: a panic, a stopped runtime.
    fn drop(&mut self) {
        if self.exchange.broke_off() {
            self.bytes_out = self.client.sent();
            self.record();
        }
    }
}
