//! Answers of our own, as HTTP/1.1 and HTTP/2 have them.

use super::grpc;
use crate::access_log::Why;
use crate::edge::date;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::time::SystemTime;

/// The text that goes with a status.
pub(super) fn body(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    format!("{status} {}\n", reason.unwrap_or("Error"))
}

/// What an answer of ours says beyond its status.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said<'a> {
    /// Where the client is sent instead.
    pub(super) location: Option<&'a str>,
    /// What it is told of TLS.
    pub(super) hsts: Option<&'a str>,
    /// The body, where it is not the status in words.
    pub(super) proof: Option<&'a str>,
}

impl Said<'_> {
    /// Nothing beyond the status matters to whoever reads it.
    pub(super) fn is_plain(self) -> bool {
        self.location.is_none() && self.proof.is_none()
    }
}

/// The fields of an answer whose body has this length.
pub(super) fn fields(status: u16, said: Said<'_>, length: usize, now: SystemTime) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(8);
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::DATE, date(now));
    for (name, value) in [(header::LOCATION, said.location), (header::STRICT_TRANSPORT_SECURITY, said.hsts)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            fields.insert(name, value);
        }
    }
    if status == 503 {
        fields.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    fields
}

/// What becomes of the client's connection after an HTTP/1 response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    Stays,
    /// HTTP/1.0 must be told (RFC 9112 section 9.3).
    StaysOpenly,
    Ends,
}

impl Persistence {
    pub(super) fn of(goes_on: bool, is_http_11: bool) -> Self {
        match (goes_on, is_http_11) {
            (false, _) => Self::Ends,
            (true, true) => Self::Stays,
            (true, false) => Self::StaysOpenly,
        }
    }

    /// The field that says so, of a response that has an Upgrade field or not.
    pub(super) fn field(self, has_upgrade: bool) -> &'static str {
        match (self, has_upgrade) {
            (Self::Stays, false) => "",
            (Self::Stays, true) => "Connection: Upgrade\r\n",
            (Self::StaysOpenly, false) => "Connection: keep-alive\r\n",
            (Self::StaysOpenly, true) => "Connection: keep-alive, Upgrade\r\n",
            (Self::Ends, false) => "Connection: close\r\n",
            (Self::Ends, true) => "Connection: close, Upgrade\r\n",
        }
    }
}

/// Writes the answer to a request that ended for this reason, and says how long its body is.
pub(super) fn write(
    why: Why,
    said: Said<'_>,
    head_request: bool,
    persistence: Persistence,
    now: SystemTime,
    out: &mut Vec<u8>,
) -> u64 {
    let status = why.status();
    let words = body(status);
    let body = said.proof.unwrap_or(&words);
    let (line, length) = (words.trim_end(), body.len());
    let retry = if status == 503 { "Retry-After: 1\r\n" } else { "" };
    let location = said.location.map(|location| format!("Location: {location}\r\n")).unwrap_or_default();
    let hsts = said.hsts.map(|value| format!("Strict-Transport-Security: {value}\r\n")).unwrap_or_default();
    let connection = persistence.field(false);
    let sent = if head_request { "" } else { body };
    let answer = format!(
        "HTTP/1.1 {line}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\n{location}{retry}{hsts}Date: {}\r\n{connection}\r\n{sent}",
        date(now).to_str().unwrap_or_default()
    );
    out.extend_from_slice(answer.as_bytes());
    sent.len() as u64
}

/// Writes the answer to a call by gRPC-Web that ended for this reason, as this type: a head that is its trailers too.
pub(super) fn write_call(
    why: Why,
    kind: &str,
    persistence: Persistence,
    now: SystemTime,
    out: &mut Vec<u8>,
) -> u8 {
    let status = grpc::status_for(why.status());
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 0\r\nCache-Control: no-store\r\nGrpc-Status: {status}\r\n\
         Grpc-Message: evenkeel: {}\r\nDate: {}\r\n{}\r\n",
        why.as_str(),
        date(now).to_str().unwrap_or_default(),
        persistence.field(false)
    );
    out.extend_from_slice(answer.as_bytes());
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn an_answer_says_what_it_is_and_whether_to_try_again() {
        let mut out = Vec::new();
        assert_eq!(write(Why::AllFull, Said::default(), false, Persistence::Ends, UNIX_EPOCH, &mut out), 24);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 24\r\n\
             Cache-Control: no-store\r\nRetry-After: 1\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: close\r\n\r\n503 Service Unavailable\n"
        );
        let mut out = Vec::new();
        let said = Said { hsts: Some("max-age=1"), ..Said::default() };
        assert_eq!(write(Why::NoRoute, said, true, Persistence::Stays, UNIX_EPOCH, &mut out), 0);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("no-store\r\nStrict-Transport-Security: max-age=1\r\nDate: "));
    }
}
