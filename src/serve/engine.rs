//! The engine's words in ours: the connection it is to open, what it may do again, what its errors mean.

use super::exchange::is_idempotent;
use crate::access_log::Why;
use crate::config::plan;
use crate::origination::Origination;
use crate::pool::Server;
use crate::units::Address;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use std::sync::Arc;

/// The engine's word for broken chunked framing; it exports no name for it.
const INVALID_CHUNK: &str = "InvalidChunk";

/// The connection a server is to be reached by.
pub(super) fn peer(
    server: &Server,
    pool: &plan::Pool,
    has_body: bool,
    origination: Option<&Arc<Origination>>,
) -> Result<Box<HttpPeer>> {
    let timeouts = &pool.timeouts;
    let mut peer = match server.address() {
        Address::Inet(address) => HttpPeer::new(address, false, String::new()),
        Address::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())?,
    };
    // One set of connections for each server: another pool's timeouts and another life of the same
    // address are another matter.
    let secured = origination.map_or(0, |origination| origination.id);
    peer.group_key = u64::from(secured) << 32 | u64::from(server.id());
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    if has_body {
        options.write_timeout = Some(timeouts.stream_idle);
    }
    options.idle_timeout = Some(super::keepalive(timeouts, server));
    Ok(Box::new(peer))
}

/// Changes a request's fields in place. The engine's own way parses each name again and keeps a second
/// table of how names were capitalized; this drops that table, so servers see `Content-Type` for
/// whatever the client wrote.
pub(super) fn change_headers(session: &mut Session, change: impl FnOnce(&mut http::HeaderMap)) {
    let nothing = RequestHeader::from(http::Request::new(()).into_parts().0);
    let header = std::mem::replace(session.req_header_mut(), nothing);
    let mut parts = http::request::Parts::from(header);
    change(&mut parts.headers);
    *session.req_header_mut() = RequestHeader::from(parts);
}

/// `timeout=5` of a Keep-Alive field, in seconds.
pub(super) fn keepalive_hint(response: &ResponseHeader) -> Option<u32> {
    super::h1::timeout(response.headers.get("keep-alive")?.as_bytes())
}

/// RFC 9110 section 9.2.2: only what does no harm twice, and only with its body still at hand.
pub(super) fn can_be_repeated(session: &Session) -> bool {
    is_idempotent(&session.req_header().method) && !session.as_ref().retry_buffer_truncated()
}

/// What an error of Pingora's means in our words.
pub(super) fn reason(error: &Error) -> Why {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(413)) => Why::BodyTooLarge,
        (_, ErrorType::HTTPStatus(_)) => Why::AllTried,
        (_, ErrorType::ConnectTimedout) => Why::ConnectTimeout,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Why::RequestBodyTimeout,
        (ErrorSource::Downstream, ErrorType::WriteTimedout) => Why::StreamIdle,
        (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader | ErrorType::Custom(INVALID_CHUNK)) => {
            Why::Malformed
        }
        (ErrorSource::Downstream, _) => Why::ClientAborted,
        (ErrorSource::Upstream, ErrorType::ReadTimedout) => Why::ResponseHeaderTimeout,
        (ErrorSource::Upstream, ErrorType::WriteTimedout) => Why::StreamIdle,
        (ErrorSource::Upstream, ErrorType::InvalidHTTPHeader | ErrorType::Custom(INVALID_CHUNK)) => {
            Why::ServerMalformed
        }
        (
            ErrorSource::Upstream,
            ErrorType::ConnectError | ErrorType::ConnectRefused | ErrorType::ConnectNoRoute,
        ) => Why::ConnectFailed,
        (ErrorSource::Upstream, _) => Why::ServerReset,
        (ErrorSource::Internal | ErrorSource::Unset, _) => Why::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_keep_alive_hint_is_read() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        assert_eq!(keepalive_hint(&response), None);
        response.insert_header("Keep-Alive", "max=100, timeout=5").unwrap();
        assert_eq!(keepalive_hint(&response), Some(5));
    }
}
