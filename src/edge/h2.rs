//! One HTTP/2 connection: its requests, each a task with a watch of its own, and the ways it ends.
//!
//! The codec (the h2 crate under Pingora) keeps the protocol. What it leaves open is here: how long a connection may
//! be idle, how long a client may take for what it has begun, how many exchanges there may be when their
//! streams are gone already (CVE-2023-44487), and what is to be done when the judge of frames has had enough.

use super::conn::{Conn, RequestFraming};
use super::judged_frames::{JudgedFrames, StreamFaults};
use super::listener_state::ListenerState;
use super::request_state::{Client, RequestState};
use super::watch::{self, Watch, Watched};
use super::{Addresses, EdgeAnswer, EdgeObserver, LongHeadOf, LongHeadPermit, NoLongHead, Rejection, Serve};
use crate::access_log::{CLOSED, Why};
use crate::config::plan;
use crate::fields::FieldList;
use crate::wire::LONGEST_HEAD;
use crate::wire::abuse::Abuse;
use crate::wire::frame_judge::Tally;
use crate::wire::http2_head;
use crate::wire::request::RequestView;
use crate::wire::request_head::{HALF_A_HEAD, Refusal, TOO_LONG, TOO_LONG_FOR_PURGE, TOO_MANY_LONG};
use crate::wire::response_head::http2;
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::{Method, header};
use pingora::protocols::Stream as PingoraStream;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options, handshake};
use pingora::server::ShutdownWatch;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long a client has to take our last word and leave.
const LINGER: Duration = Duration::from_secs(2);
/// How long a client that was told to go somewhere else may take until it is idle.
const FAREWELL: Duration = Duration::from_secs(5);
/// Tasks for each stream that may be open: those beyond one wait for exchanges whose streams were reset. Go's
/// server has the same bound.
const TASKS_FOR_EACH_STREAM: usize = 4;
/// What one stream's response may take of memory while the client does not read (CVE-2019-9517).
const SEND_BUFFER: usize = 64 * 1024;
/// So many times `limits.request_headers` are read of a head, to answer 431.
const READ_FOR_431: u64 = 4;
/// As much is read of every head: in the middle of a field the codec takes no more than that of one that is too long, and ends the
/// connection. A frame has up to a quarter of it.
const LEAST_READ: u64 = 64 << 10;
/// As much is read of one by a client that may purge.
const READ_OF_PURGE: u64 = 2 * LONGEST_HEAD as u64;
/// Streams reset because of errors in a connection's life. The codec counts no other way.
const ERRORS: usize = 4096;
/// How much smaller than 256 bytes each, in all, DATA frames may be that no exchange has read yet: 4,000 messages of
/// a few bytes, which is what fits a window. The codec's own figure is 100, which a burst of a gRPC stream has.
const SMALL_DATA: usize = 1 << 20;

/// One request of a client: a stream of its connection.
pub(crate) struct Stream {
    pub(crate) head: Parts,
    pub(crate) body: RecvStream,
    pub(crate) respond: SendResponse<Bytes>,
    pub(crate) faults: StreamFaults,
}

/// Serves an HTTP/2 connection, whose preface has arrived, until it ends.
pub(super) async fn serve_connection<S: Serve>(
    mut conn: Box<Conn>,
    listener_state: Arc<ListenerState>,
    service: Arc<S>,
    observer: Arc<dyn EdgeObserver>,
    goaway: ShutdownWatch,
) {
    let plan = listener_state.plan.load_full();
    // The connection's own watch is for its shutdown only: deadlines belong to its streams and to `Session`.
    conn.state.watch.no_deadline();
    conn.allow(RequestFraming::Open);
    let passing = Arc::new(JudgedFrames::new());
    conn.show(Arc::clone(&passing));
    let client = Arc::clone(&conn.state.client);
    let streams = plan.http2.max_concurrent_streams as usize;
    let long_heads = observer.long_head(&client, LongHeadOf::Connection).ok();
    let session = Session {
        max_tasks: streams.saturating_mul(TASKS_FOR_EACH_STREAM),
        room: Arc::new(Semaphore::new(streams)),
        passing,
        client,
        addresses: conn.addresses(),
        service,
        observer,
        goaway,
        tasks: JoinSet::new(),
        age: plan.http2.max_age.map(|age| {
            let watch = Watched::new(Watch::new(listener_state.id));
            // A tenth either way, so that what connected together does not come back together.
            watch.deadline(age.mul_f64(0.9 + 0.2 * fastrand::f64()), Why::Ok);
            watch
        }),
        pace: Watched::new(Watch::new(listener_state.id)),
        requests_left: plan.http2.max_requests.map_or(u32::MAX, |most| most.get()),
        long_heads,
        idle_since: watch::now(),
        accepted: 0,
        told: Tally::default(),
        stage: Stage::Open,
        is_cut: false,
        plan,
    };
    let Ok(mut h2) = handshake(conn as PingoraStream, Some(session.options())).await else { return };
    session.run(&mut h2).await;
}

/// How near its end a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The client was told to open no more streams; those that are open go on. Since then.
    Draining(u64),
    /// The last word is said, or about to be.
    Closing,
}

/// What happens on a connection. There is one at a time, so its size is of no account.
#[allow(clippy::large_enum_variant)]
enum Event {
    Request(Stream),
    /// The codec is done.
    Over,
    /// The client has had what it may have of this connection, or is to go elsewhere.
    Drain,
    Abuse(Abuse),
    /// Too slow, or idle.
    Late(Why),
}

struct Session<S> {
    plan: Arc<plan::ListenerPlan>,
    service: Arc<S>,
    observer: Arc<dyn EdgeObserver>,
    client: Arc<Client>,
    addresses: Addresses,
    passing: Arc<JudgedFrames>,
    goaway: ShutdownWatch,
    /// One for each request. They end with the connection, but for what others wait for.
    tasks: JoinSet<()>,
    max_tasks: usize,
    /// For exchanges, as many as streams may be open.
    room: Arc<Semaphore>,
    pace: Watched,
    age: Option<Watched>,
    requests_left: u32,
    /// Its codec reads heads of PURGE that are longer than others may be.
    long_heads: Option<LongHeadPermit>,
    idle_since: u64,
    /// Requests that the codec has handed out.
    accepted: u64,
    /// What became of the others, as far as it was told.
    told: Tally,
    stage: Stage,
    /// It was told what for.
    is_cut: bool,
}

impl<S: Serve> Session<S> {
    fn options(&self) -> H2Options {
        let http2 = &self.plan.http2;
        // The table's ranges keep them below 2^31.
        let size = |bytes: u64| u32::try_from(bytes).unwrap_or(i32::MAX as u32);
        let mut read = self.plan.limits.request_headers.saturating_mul(READ_FOR_431).max(LEAST_READ);
        if self.long_heads.is_some() {
            read = read.max(READ_OF_PURGE);
        }
        let mut options = default_h2_options();
        options
            .max_concurrent_streams(http2.max_concurrent_streams)
            // Those beyond the limit are answered here: the codec's own 431 says nothing of TLS, is followed by an error
            // while a body is still to come, and has no record that tells what was asked for.
            .max_header_list_size(size(read))
            .initial_window_size(size(http2.stream_window))
            .initial_connection_window_size(size(http2.connection_window))
            .max_send_buffer_size(SEND_BUFFER)
            .data_frame_budget(SMALL_DATA)
            // Reset before they were handed out: all that may be open may be given up at once.
            .max_pending_accept_reset_streams(self.room.available_permits().max(20))
            // The judge of frames weighs these with time, when they are written. Until then they take memory, which a
            // client that does not read must not fill (CVE-2019-9514).
            .max_local_error_reset_streams(Some(ERRORS));
        options
    }

    async fn run(mut self, h2: &mut Connection<PingoraStream, Bytes>) {
        let mut goaway = self.goaway.clone();
        let mut told_to_go = pin!(async move { drop(goaway.wait_for(|closing| *closing).await) });
        loop {
            let event = poll_fn(|cx| {
                if self.stage == Stage::Open && told_to_go.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Drain);
                }
                if let Poll::Ready(event) = self.poll_condition(cx) {
                    return Poll::Ready(event);
                }
                match h2.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        let (head, body) = request.into_parts();
                        let faults = StreamFaults::new(&self.passing, respond.stream_id().as_u32());
                        Poll::Ready(Event::Request(Stream { head, body, respond, faults }))
                    }
                    Poll::Ready(None | Some(Err(_))) => Poll::Ready(Event::Over),
                    Poll::Pending => {
                        self.tell_refused();
                        // It may have read, and so changed what is waited for.
                        self.poll_condition(cx)
                    }
                }
            });
            match event.await {
                Event::Request(stream) => {
                    self.accepted += 1;
                    if self.tasks.len() >= self.max_tasks {
                        self.cut(h2, Abuse::Resets);
                        continue;
                    }
                    match stream.faults.take() {
                        Some(fault) => self.reset(stream, fault),
                        None => self.serve(stream),
                    }
                    self.requests_left = self.requests_left.saturating_sub(1);
                    if self.requests_left == 0 && self.stage == Stage::Open {
                        self.drain(h2);
                    }
                }
                Event::Drain => self.drain(h2),
                Event::Abuse(abuse) => self.cut(h2, abuse),
                Event::Late(_) if self.stage == Stage::Closing => return self.tell_end(),
                Event::Late(why) => {
                    // Otherwise it was idle, or the process stops.
                    if why == Why::RequestHeaderTimeout {
                        self.refused(0, why, "a header block or SETTINGS incomplete");
                    }
                    self.close(h2, Reason::NO_ERROR);
                }
                Event::Over => {
                    if self.stage != Stage::Closing && self.passing.has_half_a_head() {
                        self.refused(Why::ClientAborted.status(), Why::ClientAborted, HALF_A_HEAD);
                    }
                    // Each finds out by itself that its client has left, and one that fetches what others wait for goes on.
                    self.tasks.detach_all();
                    return self.tell_end();
                }
            }
        }
    }

    /// Ready when the connection's time is up, or the client's credit.
    fn poll_condition(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let had_tasks = !self.tasks.is_empty();
        while let Poll::Ready(Some(_)) = self.tasks.poll_join_next(cx) {}
        if had_tasks && self.tasks.is_empty() {
            self.idle_since = watch::now();
        }
        if self.stage != Stage::Closing
            && let Some(abuse) = self.passing.verdict()
        {
            return Poll::Ready(Event::Abuse(abuse));
        }
        if self.stage == Stage::Open && self.passing.has_client_said_all() {
            return Poll::Ready(Event::Drain);
        }
        if let Some(age) = &self.age {
            age.wake_by(cx.waker());
            if age.interrupted().is_some() {
                self.age = None;
                if self.stage == Stage::Open {
                    return Poll::Ready(Event::Drain);
                }
            }
        }
        self.set_pace();
        self.pace.wake_by(cx.waker());
        match self.pace.interrupted() {
            Some(why) => Poll::Ready(Event::Late(why)),
            None => Poll::Pending,
        }
    }

    /// Sets the next deadline: for what the client owes us, or for having no request.
    fn set_pace(&mut self) {
        if self.stage == Stage::Closing {
            return;
        }
        if self.passing.is_parting() {
            // The codec ends the connection by itself, because of an error or because all is done.
            self.stage = Stage::Closing;
            return self.pace.deadline(LINGER, Why::Ok);
        }
        let timeouts = &self.plan.timeouts;
        let (owed_since, _) = self.passing.state();
        let owed = owed_since.map(|since| (due(since, timeouts.request_header), Why::RequestHeaderTimeout));
        let idle = self.tasks.is_empty().then(|| match self.stage {
            Stage::Draining(since) => due(since.max(self.idle_since), FAREWELL.min(timeouts.idle)),
            _ => due(self.idle_since, timeouts.idle),
        });
        match owed.into_iter().chain(idle.map(|idle| (idle, Why::Ok))).min_by_key(|(due, _)| *due) {
            Some((within, why)) => self.pace.deadline(within, why),
            None => self.pace.no_deadline(),
        }
    }

    /// Lets the client finish what it has begun, and open no more.
    fn drain(&mut self, h2: &mut Connection<PingoraStream, Bytes>) {
        self.stage = Stage::Draining(watch::now());
        h2.graceful_shutdown();
    }

    /// Ends the connection now.
    fn close(&mut self, h2: &mut Connection<PingoraStream, Bytes>, reason: Reason) {
        self.stage = Stage::Closing;
        self.pace = Watched::new(Watch::new(self.client.listener));
        self.pace.deadline(LINGER, Why::Ok);
        h2.abrupt_shutdown(reason);
    }

    fn cut(&mut self, h2: &mut Connection<PingoraStream, Bytes>, abuse: Abuse) {
        self.is_cut = true;
        self.tell_abuse(abuse);
        // Servers have nothing more to do for it.
        self.tasks.abort_all();
        self.close(
            h2,
            match abuse {
                Abuse::Protocol => Reason::PROTOCOL_ERROR,
                _ => Reason::ENHANCE_YOUR_CALM,
            },
        );
    }

    /// Tells of a connection that the codec has ended because of the client.
    fn tell_end(&self) {
        if let Some(abuse) = self.passing.blame()
            && !self.is_cut
        {
            self.tell_abuse(abuse);
        }
    }

    fn tell_abuse(&self, abuse: Abuse) {
        self.client.listener_state.abuse.count(abuse);
        let why = if abuse == Abuse::Protocol { Why::Malformed } else { Why::Http2Abuse };
        self.refused(0, why, abuse.label());
    }

    fn refused(&self, status: u16, why: Why, detail: &'static str) {
        self.observer.refused(
            &self.client,
            (b"", FieldList::NONE),
            Rejection { status, why, detail: Some(detail) },
            EdgeAnswer::default(),
        );
    }

    /// Tells of requests that the codec has refused by itself. Once it waits for bytes it has handed out all that it
    /// will: what a client opened and we did not get was refused.
    fn tell_refused(&mut self) {
        let (_, tally) = self.passing.state();
        let errors = tally.errors - self.told.errors;
        self.told.errors = tally.errors;
        if self.stage != Stage::Open {
            return;
        }
        let refused = tally.opened.saturating_sub(self.accepted + tally.refused + self.told.opened);
        self.told.opened += refused;
        if refused > 0 && self.passing.blame().is_some() {
            // The codec has read no further: what ends the connection is told.
            return;
        }
        if refused > 0 && !self.passing.refused(refused) {
            // It is cut off, which is told.
            return;
        }
        for n in 0..refused {
            // Only fields that are too large are answered and not reset.
            match n < errors {
                true => self.refused(0, Why::Malformed, "refused by the HTTP/2 codec"),
                false => self.refused(431, Why::HeadersTooLarge, TOO_LONG.detail),
            }
        }
    }

    /// Resets a malformed request whose head the codec has let pass (RFC 9113 section 8.1.1), or whose trailers have come with it.
    fn reset(&self, mut stream: Stream, fault: &'static str) {
        let line = format!("{} {} HTTP/2.0", stream.head.method, http2_head::target(&stream.head.uri));
        self.observer.refused(
            &self.client,
            (line.as_bytes(), FieldList::Map(&stream.head.headers)),
            Rejection { status: CLOSED, why: Why::Malformed, detail: Some(fault) },
            EdgeAnswer::default(),
        );
        stream.respond.send_reset(Reason::PROTOCOL_ERROR);
    }

    fn serve(&mut self, mut stream: Stream) {
        let (client, service, addresses) =
            (Arc::clone(&self.client), Arc::clone(&self.service), self.addresses);
        let (room, observer) = (Arc::clone(&self.room), Arc::clone(&self.observer));
        let mut limit = usize::try_from(self.plan.limits.request_headers).unwrap_or(usize::MAX);
        let reads_long = self.long_heads.is_some();
        self.tasks.spawn(async move {
            // There is room, but for exchanges that go on after their streams were reset.
            let room = match room.clone().try_acquire_owned() {
                Ok(room) => room,
                Err(_) => tokio::select! {
                    biased;
                    _ = poll_fn(|cx| stream.respond.poll_reset(cx)) => {
                        let rejection = Rejection { status: 0, why: Why::ClientAborted, detail: None };
                        observer.refused(&client, (b"", FieldList::NONE), rejection, EdgeAnswer::default());
                        return;
                    }
                    Ok(room) = room.acquire_owned() => room,
                },
            };
            let head = &mut stream.head;
            let mut long = None;
            if reads_long && is_long_purge(head, limit) {
                match observer.long_head(&client, LongHeadOf::Request) {
                    Ok(permit) => (long, limit) = (Some(permit), LONGEST_HEAD),
                    Err(NoLongHead::TooMany) => return refuse(stream, TOO_MANY_LONG, &client, &*observer),
                    Err(NoLongHead::NotTheirs) => {}
                }
            }
            if long.is_some() && http2_head::size(&head.uri, &head.headers) > limit {
                return refuse(stream, TOO_LONG_FOR_PURGE, &client, &*observer);
            }
            if let Some(refusal) = http2_head::judge(&head.method, &head.uri, &head.headers, limit) {
                return refuse(stream, refusal, &client, &*observer);
            }
            let host = http2_head::missing_host(&head.uri, &head.headers);
            let cookies = http2_head::joined_cookies(&head.headers);
            for (name, value) in [(header::HOST, host), (header::COOKIE, cookies)] {
                if let Some(value) = value {
                    head.headers.insert(name, value);
                }
            }
            let state =
                Arc::new(RequestState::new(client.clone(), Watched::new(Watch::new(client.listener))));
            state.has_long_head.store(long.is_some(), Relaxed);
            service.serve_stream(state, stream, addresses).await;
            drop((room, long));
        });
    }
}

/// Whether it is a PURGE with a head beyond what other requests may have.
fn is_long_purge(head: &Parts, limit: usize) -> bool {
    limit < LONGEST_HEAD
        && head.method.as_str() == "PURGE"
        && http2_head::size(&head.uri, &head.headers) > limit
}

/// Answers a request that must not go on.
fn refuse(mut stream: Stream, refusal: Refusal, client: &Client, observer: &dyn EdgeObserver) {
    let Refusal { status, detail } = refusal;
    let why = if status == 431 { Why::HeadersTooLarge } else { Why::Malformed };
    let head = &stream.head;
    let line = format!("{} {} HTTP/2.0", head.method, http2_head::target(&head.uri));
    let rejection = Rejection { status, why, detail: Some(detail) };
    let id = observer.request_id(FieldList::Map(&head.headers));
    let (is_head, mut answer) = (head.method == Method::HEAD, None);
    let request = Some(RequestView::of_parts(head, false));
    observer.answer(client, (rejection, &id), request, &mut |head, edits, body| {
        answer = http2(head, edits).zip(Some(body.clone()));
    });
    let body_bytes = answer.as_ref().map_or(0, |(_, content)| if is_head { 0 } else { content.len() as u64 });
    observer.refused(
        client,
        (line.as_bytes(), FieldList::Map(&stream.head.headers)),
        rejection,
        EdgeAnswer { request_id: Some(&id), body_bytes },
    );
    let Some((answer, content)) = answer else { return };
    // A call's is a head alone.
    let is_over = is_head || content.is_empty();
    // A client that has gone meanwhile needs no answer.
    if let Ok(mut body) = stream.respond.send_response(answer, is_over)
        && !is_over
    {
        let _ = body.send_data(content, true);
    }
}

/// How long it is until `limit` has passed since then.
fn due(since: u64, limit: Duration) -> Duration {
    limit.saturating_sub(Duration::from_millis(watch::now().saturating_sub(since)))
}
