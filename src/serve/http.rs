//! The adapter: each of Pingora's hooks asks the core and does what it says. No decision is made here
//! that could be made in a pure room.

use super::answer::{self, Said};
use super::asked::Asked;
use super::engine::{can_be_repeated, change_headers, keepalive_hint, peer, reason};
use super::exchange::{Exchange, remaining};
use super::forwarding;
use super::introduction::{introduce, tell_engine_to_end};
use super::response::{end_servers_hop, is_ambiguous};
use crate::access_log::Why;
use crate::control::Live;
use crate::edge::SEAT;
use crate::probe::{Dial, Steps};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tracing::debug;

/// How long the rest of a refused body is read, so that the client gets to read our answer.
const DRAIN_BODY: Duration = Duration::from_secs(2);
/// A try given up on purpose, to be made again elsewhere.
const TRY_ELSEWHERE: ErrorType = ErrorType::Custom("TryElsewhere");

/// One core's HTTP proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    live: Arc<Live>,
}

impl Proxy {
    pub(crate) fn new(live: Arc<Live>) -> Self {
        Self { live }
    }

    /// Answers with a status of our own. The connection stays open where its state is known.
    async fn answer(session: &mut Session, exchange: &mut Exchange, why: Why) -> Result<bool> {
        exchange.fail(why);
        if let Some(seat) = &exchange.seat {
            seat.watch.no_deadline();
            if seat.client.door.is_closing() {
                session.set_keepalive(None);
            }
        }
        write_answer(session, why, exchange.said()).await?;
        Ok(true)
    }
}

async fn write_answer(session: &mut Session, why: Why, said: Said<'_>) -> Result<()> {
    let status = why.status();
    let body = said.proof.map_or_else(|| answer::body(status), str::to_owned);
    let mut response = ResponseHeader::build(status, Some(5))?;
    for (name, value) in &answer::fields(status, said, body.len()) {
        response.insert_header(name, value)?;
    }
    let bodiless = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(response), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(Bytes::from(body)), true).await?;
    }
    Ok(())
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::new(&self.live)
    }

    /// No compression module: bodies pass as they are.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
        let seat = SEAT
            .try_with(Arc::clone)
            .map_err(|_| Error::explain(ErrorType::InternalError, "a request without a connection"))?;
        seat.taken.store(true, Relaxed);
        exchange.seat = Some(seat);
        exchange.find_listener();
        if let Some(listener) = &exchange.listener {
            session.set_read_timeout(Some(listener.plan.timeouts.request_body));
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let (Some(seat), Some(listener)) = (exchange.seat.clone(), exchange.listener.clone()) else {
            // The listener went, and a reload later the connection brings its first request.
            session.set_keepalive(None);
            return Self::answer(session, exchange, Why::Shutdown).await;
        };
        let admitted = exchange.admit(&Asked::from(session.req_header()));
        if let Err(why) = admitted {
            let is_body_refused = why == Why::BodyTooLarge;
            if is_body_refused {
                session.set_keepalive(None);
            }
            Self::answer(session, exchange, why).await?;
            if is_body_refused {
                session.set_read_timeout(Some(DRAIN_BODY));
                let _ = tokio::time::timeout(DRAIN_BODY, session.drain_request_body()).await;
            }
            return Ok(true);
        }
        if let Some(id) = &exchange.request_id {
            let peer = forwarding::Peer::from(&*seat.client);
            change_headers(session, |headers| {
                forwarding::tell_map(headers, peer, &listener.plan.trusted_proxies, id);
            });
        }
        let Some(pool) = exchange.pool().cloned() else { return Ok(false) };
        let timeouts = &pool.plan.timeouts;
        if session.is_body_empty() {
            exchange.body_complete = true;
            exchange.due = Some(exchange.started + timeouts.request);
            seat.watch.deadline(timeouts.request, Why::RequestTimeout);
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        let leased = exchange.destination.as_ref().is_some_and(|destination| destination.lease.is_some());
        if !leased && let Err(why) = exchange.pick() {
            exchange.fail(why);
            return Error::e_explain(ErrorType::HTTPStatus(why.status()), why.as_str());
        }
        let lease = exchange.destination.as_ref().and_then(|d| d.lease.as_ref().map(|lease| (d, lease)));
        let Some((destination, lease)) = lease else {
            return Error::e_explain(ErrorType::InternalError, "a pick without a lease");
        };
        let has_body = !session.is_body_empty();
        let origination = destination.pool.origination.load_full();
        let plan = &destination.pool.plan;
        let mut peer = peer(lease.server(), plan, has_body, origination.as_ref())?;
        let secured = origination.map(|origination| {
            (Arc::clone(&origination.http), origination.server_name(lease.server().address()))
        });
        if let Some(version) = destination.pool.plan.proxy_protocol {
            introduce(&mut peer, version, session.client_addr(), session.server_addr(), secured);
        } else if secured.is_some() {
            peer.options.custom_l4 =
                Some(Arc::new(Dial { introduction: Vec::new(), secured, steps: Steps::default() }));
        }
        Ok(peer)
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if exchange.pool().is_some_and(|pool| pool.plan.proxy_protocol.is_some()) {
            tell_engine_to_end(request)?;
        }
        Ok(())
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: std::os::unix::io::RawFd,
        _: Option<&Digest>,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if !reused && let Some(destination) = &exchange.destination {
            exchange.connect = Some(destination.try_started.elapsed());
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let why = match error.etype() {
            ErrorType::ConnectTimedout => Why::ConnectTimeout,
            ErrorType::TLSHandshakeFailure => Why::ServerTls,
            _ => Why::ConnectFailed,
        };
        let interrupted = exchange.seat.as_ref().and_then(|seat| seat.watch.interrupted());
        let retry = match interrupted {
            Some(why) => {
                exchange.fail(why);
                exchange.give_back();
                false
            }
            None => exchange.connect_failed(why),
        };
        debug!(%error, retry, "cannot connect");
        error.set_retry(retry);
        error
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        _: &mut Option<Bytes>,
        end_of_stream: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let (Some(seat), Some(listener)) = (&exchange.seat, &exchange.listener) else { return Ok(()) };
        seat.watch.touch();
        if session.body_bytes_read() as u64 > listener.plan.limits.request_body {
            exchange.fail(Why::BodyTooLarge);
            return Error::e_explain(ErrorType::HTTPStatus(413), "request body too large");
        }
        if !end_of_stream {
            return Ok(());
        }
        let Some(destination) = &exchange.destination else { return Ok(()) };
        let timeouts = &destination.pool.plan.timeouts;
        if !exchange.body_complete {
            exchange.body_complete = true;
            exchange.due = Some(Instant::now() + timeouts.request);
        }
        if exchange.first_byte.is_none() {
            seat.watch.may_be_quiet();
            let (within, why) = remaining(exchange.due, timeouts.response_header);
            seat.watch.deadline(within, why);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let status = response.status.as_u16();
        if response.status.is_informational() && status != 101 {
            return Ok(());
        }
        #[cfg(debug_assertions)]
        drill(response);
        if is_ambiguous(response) {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "a body with two ends").into_up());
        }
        if status == 101 {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "an upgrade nobody asked for").into_up());
        }
        if let Some(hint) = keepalive_hint(response)
            && let Some(server) = exchange.destination.as_ref().and_then(|d| d.server.as_ref())
        {
            server.keepalive_hint.store(hint.max(1), Relaxed);
        }
        if can_be_repeated(session) && exchange.status_is_retried(status) {
            return Error::e_explain(TRY_ELSEWHERE, "a status that is retried");
        }
        exchange.first_byte.get_or_insert_with(|| exchange.started.elapsed());
        if let (Some(seat), Some(pool)) = (&exchange.seat, exchange.pool()) {
            let timeouts = &pool.plan.timeouts;
            seat.watch.no_deadline();
            seat.watch.quiet(timeouts.stream_idle, Why::StreamIdle);
        }
        end_servers_hop(response);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let Some(seat) = &exchange.seat else { return Ok(()) };
        if response.status.is_informational() {
            return Ok(());
        }
        seat.answered.store(true, Relaxed);
        if let Some(hsts) = exchange.hsts()
            && !response.headers.contains_key(header::STRICT_TRANSPORT_SECURITY)
        {
            response.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
        }
        if session.req_header().version == Version::HTTP_10 {
            // Such a client knows no chunks (RFC 9112 section 6.1): without a length, the body ends with the
            // connection.
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        if seat.client.door.is_closing() {
            // Said in the response, so that the client does not send another request to find out.
            session.set_keepalive(None);
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Exchange,
        reused: bool,
    ) -> Box<Error> {
        error.set_retry(false);
        if let Some(why) = exchange.seat.as_ref().and_then(|seat| seat.watch.interrupted()) {
            exchange.fail(why);
            return error;
        }
        if *error.etype() == TRY_ELSEWHERE {
            error.set_retry(true);
        } else {
            let why = reason(&error);
            let untouched = session.response_written().is_none() && can_be_repeated(session);
            if why == Why::ServerReset && untouched {
                error.set_retry(exchange.send_again(reused));
            }
            if !error.retry() {
                exchange.fail(why);
            }
        }
        if !error.retry() {
            exchange.give_back();
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        if let Some(why) = exchange.seat.as_ref().and_then(|seat| seat.watch.interrupted()) {
            exchange.fail(why);
        }
        exchange.fail(reason(error));
        exchange.give_back();
        let why = exchange.why;
        let begun = session.response_written().is_some_and(|response| !response.status.is_informational());
        let error_code = if begun || why == Why::ClientAborted { 0 } else { why.status() };
        if error_code > 0 {
            session.set_keepalive(None);
            let said = Said { hsts: exchange.hsts(), ..Said::default() };
            if let Err(error) = write_answer(session, why, said).await {
                debug!(%error, "cannot answer");
            } else if why == Why::BodyTooLarge {
                session.set_read_timeout(Some(DRAIN_BODY));
                let _ = tokio::time::timeout(DRAIN_BODY, session.drain_request_body()).await;
            }
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        if let Some(error) = error {
            exchange.fail(reason(error));
        }
        let status = session
            .response_written()
            .map_or_else(|| exchange.why.status(), |response| response.status.as_u16());
        let bytes = (session.body_bytes_read() as u64, session.body_bytes_sent() as u64);
        exchange.record(status, Some(&Asked::from(session.req_header())), bytes);
    }

    /// Failures are in the access log and the metrics, with their reason.
    fn suppress_error_log(&self, _: &Session, exchange: &Exchange, error: &Error) -> bool {
        debug!(why = exchange.why.as_str(), %error, "request failed");
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Exchange, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}

/// A fault of our own on request, so that a test can see what becomes of it; not in release builds.
#[cfg(debug_assertions)]
fn drill(response: &ResponseHeader) {
    assert!(!response.headers.contains_key("x-evenkeel-drill"), "a drill");
}
