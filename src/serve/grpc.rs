//! What gRPC puts into HTTP's fields ("gRPC over HTTP2", the protocol's document). Pure.

use crate::access_log::Why;
use crate::fields::FieldList;
use crate::wire::local_reply::LocalReply;
use crate::wire::request::RequestView;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use std::time::Duration;

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Whether an HTTP/2 request is a call.
pub(super) fn is_call(fields: FieldList<'_>) -> bool {
    is_kind(fields, b"application/grpc")
}

/// The type of the messages of a call by gRPC-Web ("gRPC Web", the protocol's document), which browsers make over any version
/// of HTTP: an answer is of the same.
pub(super) fn web_call(fields: FieldList<'_>) -> Option<&str> {
    let is_web = |kind| is_kind(fields, kind);
    fields
        .text(&header::CONTENT_TYPE)
        .filter(|_| is_web(b"application/grpc-web") || is_web(b"application/grpc-web-text"))
}

/// The type of the answer that whoever makes a call reads; `None` of a request that is no call.
pub(super) fn answered_as<'a>(request: &RequestView<'a>) -> Option<&'a str> {
    match request.version == Version::HTTP_2 && is_call(request.fields) {
        true => Some("application/grpc"),
        false => web_call(request.fields),
    }
}

/// What a call is told in place of this status, if these are a call's fields.
pub(super) fn status_of_refusal(fields: FieldList<'_>, status: u16) -> Option<u8> {
    (is_call(fields) || web_call(fields).is_some()).then(|| status_for(status))
}

fn is_kind(fields: FieldList<'_>, kind: &[u8]) -> bool {
    fields
        .first(&header::CONTENT_TYPE)
        // Its case makes no difference (RFC 9110 section 8.3.1).
        .and_then(|have| have.split_at_checked(kind.len()))
        .and_then(|(have, rest)| have.eq_ignore_ascii_case(kind).then_some(rest))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How long its client waits for it: a whole number of at most eight digits, and a unit.
pub(super) fn timeout(fields: FieldList<'_>) -> Option<Duration> {
    let text = fields.text(&GRPC_TIMEOUT)?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// What a call ended with; a number that is none of theirs is told as such.
pub(super) fn status(fields: FieldList<'_>) -> Option<u8> {
    let status = std::str::from_utf8(fields.first(&GRPC_STATUS)?).ok();
    Some(status.and_then(|status| status.parse().ok()).unwrap_or(u8::MAX))
}

/// What a call ended with that does not say it, as its clients have it.
pub(super) const UNKNOWN: u8 = 2;
/// The client's own deadline has passed.
pub(super) const DEADLINE_EXCEEDED: u8 = 4;

/// Whether a call that may take so long was over, or as good as that, after this time. Who is told what is left of a deadline
/// may be early by a tenth of it, or by some milliseconds of a short one.
pub(super) fn is_out_of_time(within: Duration, took: Duration) -> bool {
    const CLOCKS: Duration = Duration::from_millis(5);
    took + (within / 10).max(CLOCKS).min(within / 2) >= within
}

/// An HTTP status in gRPC's words, as its document "HTTP to gRPC Status Code Mapping" has it.
pub(super) fn status_for(status: u16) -> u8 {
    match status {
        400 | 414 | 431 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The fields that tell a client so, at the end of a call or in place of it.
pub(super) fn trailers(status: u8, message: &str) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(4);
    fields.insert(&GRPC_STATUS, HeaderValue::from(u16::from(status)));
    if let Ok(message) = HeaderValue::try_from(format!("evenkeel: {message}")) {
        fields.insert(&GRPC_MESSAGE, message);
    }
    fields
}

/// The answer to a gRPC call in place of this status, of the call's own type: a head alone, which is its trailers too.
pub(super) fn local_reply((status, why): (u16, Why), kind: &str, is_given_up: bool) -> LocalReply {
    let grpc_status = match is_given_up {
        true => DEADLINE_EXCEEDED,
        false => status_for(status),
    };
    let mut fields = trailers(grpc_status, why.as_str());
    if let Ok(kind) = HeaderValue::from_str(kind) {
        fields.insert(header::CONTENT_TYPE, kind);
    }
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    LocalReply { status: StatusCode::OK, fields, body: Bytes::new(), grpc_status: Some(grpc_status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_call_is_known_by_its_content_type() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_call(FieldList::Map(&fields("content-type", kind))), is, "{kind}");
        }
        assert!(!is_call(FieldList::Map(&HeaderMap::new())));
        for (kind, is) in [
            ("application/grpc-web", true),
            ("application/grpc-web+proto", true),
            ("application/grpc-web-text+proto", true),
            ("application/grpc-website", false),
            ("application/grpc", false),
        ] {
            assert_eq!(web_call(FieldList::Map(&fields("content-type", kind))), Some(kind).filter(|_| is));
        }
    }

    #[test]
    fn a_clients_deadline_is_read_and_nonsense_is_none() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("5n", Some(Duration::from_nanos(5))),
            ("100000000S", None),
            ("S", None),
            ("5", None),
            ("-5S", None),
            ("5s", None),
            ("", None),
        ] {
            assert_eq!(timeout(FieldList::Map(&fields("grpc-timeout", text))), expected, "{text}");
        }
    }

    #[test]
    fn a_server_may_keep_a_calls_deadline_a_little_early() {
        for (within, took, is) in [
            (100.0, 95.0, true),
            (100.0, 90.0, true),
            (100.0, 89.9, false),
            (100.0, 130.0, true),
            (1000.0, 899.0, false),
            (20.0, 15.0, true),
            (20.0, 14.0, false),
            // At once is no deadline.
            (4.0, 1.9, false),
            (4.0, 2.0, true),
        ] {
            let [within, took] = [within, took].map(|ms: f64| Duration::from_secs_f64(ms / 1000.0));
            assert_eq!(is_out_of_time(within, took), is, "{took:?} of {within:?}");
        }
    }

    #[test]
    fn a_status_is_read_and_written() {
        assert_eq!(status(FieldList::Map(&trailers(14, "all_full"))), Some(14));
        assert_eq!(trailers(4, "x").get("grpc-message").unwrap(), "evenkeel: x");
        assert_eq!(status(FieldList::Map(&fields("grpc-status", "999"))), Some(u8::MAX));
        assert_eq!(status(FieldList::Map(&HeaderMap::new())), None);
        assert_eq!([404, 503, 500].map(status_for), [12, 14, 2]);
    }

    #[test]
    fn a_call_is_told_in_its_own_words() {
        let answer = local_reply((404, Why::NoRoute), "application/grpc-web+proto", false);
        assert_eq!((answer.status, answer.grpc_status), (StatusCode::OK, Some(12)));
        assert_eq!(answer.fields["content-type"], "application/grpc-web+proto");
        assert_eq!(answer.fields["grpc-status"], "12");
        assert_eq!(answer.fields["grpc-message"], "evenkeel: no_route");
        assert_eq!(local_reply((504, Why::RequestTimeout), "application/grpc", true).grpc_status, Some(4));
    }
}
