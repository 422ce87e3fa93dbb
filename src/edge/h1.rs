//! One client's connection from its opening to its end: wait for a request without buffers, judge
//! its head, have it served, and so on.

use super::conn::{Conn, RequestFraming};
use super::listener_state::ListenerState;
use super::{
    AfterRequest, EdgeAnswer, EdgeObserver, LongHeadOf, LongHeadPermit, NoLongHead, Rejection, Serve, h2,
};
use crate::access_log::Why;
use crate::fields::FieldList;
use crate::wire::LONGEST_HEAD;
use crate::wire::chunked::Chunks;
use crate::wire::head_scan::HeadScan;
use crate::wire::request_head::{
    self as head, HALF_A_HEAD, Head, Refusal, RequestBodyLength, RequestHeadForm, RequestHeadVerdict,
    TOO_LONG, TOO_LONG_FOR_PURGE, TOO_MANY_LONG,
};
use crate::wire::response_head::{Framing, Http1Terms, write_http1};
use pingora::server::ShutdownWatch;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// After a refusal the client may still be sending: closing at once would reset the connection
/// and take our answer with it. So we read on, this long and this much.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

/// What a connection brings next.
enum Arrival {
    /// With what lets its head be longer than others, if it is.
    Request(RequestHeadForm, Option<LongHeadPermit>),
    H2,
    /// Nothing more.
    Gone,
    /// An answer of ours, and the end.
    Refused(Refusal, Why),
}

/// Serves one connection until it ends.
pub(crate) async fn serve_connection<S: Serve>(
    mut conn: Box<Conn>,
    listener_state: Arc<ListenerState>,
    service: Arc<S>,
    observer: Arc<dyn EdgeObserver>,
    goaway: ShutdownWatch,
) {
    let state = Arc::clone(&conn.state);
    // A new connection has as long for its first head as a request has.
    state.watch.rouse(listener_state.plan.load().timeouts.request_header);
    loop {
        let (form, long) = match next_request(&mut conn, &listener_state, &*observer).await {
            Arrival::Request(form, long) => (form, long),
            // In a box too: it is much larger than a connection at rest.
            Arrival::H2 => {
                return Box::pin(h2::serve_connection(conn, listener_state, service, observer, goaway)).await;
            }
            Arrival::Gone => return,
            Arrival::Refused(refusal, why) => {
                let rejection = Rejection { status: refusal.status, why, detail: Some(refusal.detail) };
                return Box::pin(refuse(conn, rejection, &*observer)).await;
            }
        };
        state.watch.no_deadline();
        state.renew();
        if long.is_some() {
            state.has_long_head.store(true, Relaxed);
        }
        // In a box, so that a connection at rest has no room for it; made there, for it is long to move.
        let after = Box::into_pin(Box::write(Box::new_uninit(), serve_h1(&mut conn, form, &*service))).await;
        if long.is_some() {
            state.has_long_head.store(false, Relaxed);
        }
        match after {
            AfterRequest::KeepAlive
                if state.watch.interrupted().is_none() && !listener_state.is_closing() =>
            {
                conn.rest()
            }
            AfterRequest::LingeringClose => return Box::pin(close_lingering(conn, b"")).await,
            AfterRequest::KeepAlive | AfterRequest::Close => {
                return Box::pin(leave(conn, &listener_state)).await;
            }
        }
    }
}

/// What a request's head has to keep to.
struct HeadTerms {
    /// Bytes of it at most.
    limit: usize,
    within: Duration,
    /// How long it is waited for.
    idle: Duration,
}

impl HeadTerms {
    /// Those in force. They are copied: a count of who has the plan would be written to by all cores.
    fn of(listener_state: &ListenerState) -> Self {
        let plan = listener_state.plan.load();
        Self {
            limit: usize::try_from(plan.limits.request_headers).unwrap_or(usize::MAX),
            within: plan.timeouts.request_header,
            idle: plan.timeouts.idle,
        }
    }
}

async fn next_request(
    conn: &mut Conn,
    listener_state: &ListenerState,
    observer: &dyn EdgeObserver,
) -> Arrival {
    let mut terms = HeadTerms::of(listener_state);
    let mut long = None;
    let mut scan = HeadScan::default();
    let mut fresh = !conn.pending().is_empty();
    if has_begun(conn) {
        conn.state.watch.rouse(terms.within);
    } else if conn.state.taken.load(Relaxed) {
        conn.state.watch.rest(terms.idle);
        if listener_state.is_closing() {
            return Arrival::Gone;
        }
    }
    loop {
        // A trickle is not parsed at every byte, nor a long head at every line.
        if fresh {
            match head::judge(conn.pending(), terms.limit) {
                RequestHeadVerdict::Partial => {}
                RequestHeadVerdict::H2 => return Arrival::H2,
                // RFC 9113 section 3.4.
                RequestHeadVerdict::Complete(_) if conn.socket().speaks_h2() => {
                    return Arrival::Refused(NOT_AS_AGREED, Why::Malformed);
                }
                RequestHeadVerdict::Complete(form) => return Arrival::Request(form, long),
                RequestHeadVerdict::Refused(TOO_LONG)
                    if long.is_none()
                        && head::has_method(conn.pending(), b"PURGE")
                        && terms.limit < LONGEST_HEAD =>
                {
                    match observer.long_head(&conn.state.client, LongHeadOf::Request) {
                        Ok(permit) => {
                            (long, terms.limit) = (Some(permit), LONGEST_HEAD);
                            continue;
                        }
                        Err(NoLongHead::TooMany) => {
                            return Arrival::Refused(TOO_MANY_LONG, Why::HeadersTooLarge);
                        }
                        Err(NoLongHead::NotTheirs) => {
                            return Arrival::Refused(TOO_LONG, Why::HeadersTooLarge);
                        }
                    }
                }
                RequestHeadVerdict::Refused(TOO_LONG) if long.is_some() => {
                    return Arrival::Refused(TOO_LONG_FOR_PURGE, Why::HeadersTooLarge);
                }
                RequestHeadVerdict::Refused(refusal) => {
                    let why = if refusal.status == 431 { Why::HeadersTooLarge } else { Why::Malformed };
                    return Arrival::Refused(refusal, why);
                }
            }
        }
        let (before, had_begun) = (conn.pending().len(), has_begun(conn));
        match arrive(conn).await {
            Ok(0) => return left(conn, observer, Why::ClientAborted),
            Ok(_) => {
                if !had_begun && has_begun(conn) {
                    // There may have been a reload while it waited.
                    terms = HeadTerms::of(listener_state);
                    conn.state.watch.rouse(terms.within);
                }
                let pending = conn.pending();
                // No request begins with bytes like a TLS client's, which would wait for an answer.
                let is_alien = before == 0 && !pending[0].is_ascii_graphic();
                fresh = scan.is_due(pending) || pending.len() >= terms.limit || is_alien;
            }
            Err(why) if why == Why::RequestHeaderTimeout && had_begun => {
                let refusal = Refusal { status: why.status(), detail: HALF_A_HEAD };
                return Arrival::Refused(refusal, why);
            }
            Err(why) => return left(conn, observer, why),
        }
    }
}

/// Whether anything of a request has come. The empty line that may stand before one is none yet: some clients end a body by it
/// (RFC 9112 section 2.2).
fn has_begun(conn: &Conn) -> bool {
    !b"\r\n".starts_with(conn.pending())
}

/// Nothing more comes: of a request that has begun is told.
fn left(conn: &Conn, observer: &dyn EdgeObserver, why: Why) -> Arrival {
    if why != Why::Ok && has_begun(conn) {
        let status = if why == Why::ClientAborted { why.status() } else { 0 };
        let rejection = Rejection { status, why, detail: Some(HALF_A_HEAD) };
        observer.refused(
            &conn.state.client,
            (conn.pending(), FieldList::NONE),
            rejection,
            EdgeAnswer::default(),
        );
    }
    Arrival::Gone
}

/// Waits for bytes or for an interruption.
async fn arrive(conn: &mut Conn) -> Result<usize, Why> {
    poll_fn(|cx| {
        conn.state.watch.wake_by(cx.waker());
        if let Some(why) = conn.state.watch.interrupted() {
            return Poll::Ready(Err(why));
        }
        conn.poll_arrive(cx).map_err(|_| Why::ClientAborted)
    })
    .await
}

/// Has a request served whose head is the next that has arrived.
async fn serve_h1<S: Serve>(conn: &mut Conn, form: RequestHeadForm, service: &S) -> AfterRequest {
    let body = form.body;
    let head = Head::new(conn.take_head(form.length), form);
    conn.allow(match body {
        RequestBodyLength::Length(n) => RequestFraming::Exact(n),
        RequestBodyLength::Chunked => RequestFraming::Chunked(Chunks::new()),
    });
    service.serve(conn, head).await
}

const NOT_AS_AGREED: Refusal = Refusal { status: 400, detail: "HTTP/1 after HTTP/2 was agreed on" };

/// Empty SETTINGS, which are a server's preface, and GOAWAY with PROTOCOL_ERROR: the answer to a client that agreed on
/// HTTP/2 and speaks something else, or that speaks no HTTP at all (RFC 9113 sections 3.4 and 5.4.1).
const NO_HTTP2: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
                          \0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";

/// Answers with a status of our own and parts.
async fn refuse(conn: Box<Conn>, rejection: Rejection, observer: &dyn EdgeObserver) {
    let client = &conn.state.client;
    if conn.socket().speaks_h2() || head::is_of_no_http(conn.pending()) {
        // It is told no status.
        let rejection = Rejection { status: 0, ..rejection };
        observer.refused(client, (conn.pending(), FieldList::NONE), rejection, EdgeAnswer::default());
        return close_lingering(conn, NO_HTTP2).await;
    }
    let id = observer.request_id(FieldList::NONE);
    let (mut bytes, mut body_bytes) = (Vec::with_capacity(512), 0);
    let is_head = head::has_method(conn.pending(), b"HEAD");
    observer.answer(client, (rejection, &id), None, &mut |head, edits, body| {
        let terms = Http1Terms { is_http_11: true, framing: Framing::Length, may_go_on: false };
        write_http1(head, edits, terms, &mut bytes);
        // RFC 9110 section 9.3.2.
        if !is_head {
            bytes.extend_from_slice(body);
            body_bytes = body.len() as u64;
        }
    });
    let answer = EdgeAnswer { request_id: Some(&id), body_bytes };
    observer.refused(client, (conn.pending(), FieldList::NONE), rejection, answer);
    close_lingering(conn, &bytes).await;
}

/// Ends a connection that has its answer. The kernel goes on sending what it was given, for as long as the client takes
/// to read; what TLS has not given it yet is given that time here.
async fn leave(mut conn: Box<Conn>, listener_state: &ListenerState) {
    if conn.socket().is_plain() || conn.state.watch.interrupted().is_some() {
        return;
    }
    conn.state.watch.deadline(listener_state.plan.load().timeouts.idle, Why::Ok);
    poll_fn(|cx| {
        conn.state.watch.wake_by(cx.waker());
        if conn.state.watch.interrupted().is_some() {
            return Poll::Ready(());
        }
        conn.socket_mut().poll_shutdown(cx).map(drop)
    })
    .await;
}

/// Has a last word, and parts in a way that lets the client read it.
async fn close_lingering(mut conn: Box<Conn>, last: &[u8]) {
    let _ = tokio::time::timeout(LINGER, async {
        if conn.socket_mut().write_all(last).await.is_err() {
            return;
        }
        let flushed = poll_fn(|cx| conn.socket_mut().poll_flush(cx)).await;
        if flushed.is_err() || conn.socket_mut().shutdown_write().is_err() {
            return;
        }
        conn.forget();
        let mut left = LINGER_BYTES;
        while let Ok(n @ 1..) = poll_fn(|cx| conn.poll_arrive(cx)).await {
            left = left.saturating_sub(n);
            if left == 0 {
                break;
            }
            conn.forget();
        }
    })
    .await;
}
