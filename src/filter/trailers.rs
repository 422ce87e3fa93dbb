//! What of trailers goes on, in either direction and whichever versions of HTTP meet: some receivers join them to the head, so
//! that they say nothing that is decided by that (RFC 9110 section 6.5.1), nor what is said or taken away there.

use super::{cache, field_rules, forwarding};
use crate::fields::is_respelt;
use crate::policy::Policy;
use http::{HeaderMap, HeaderName};

/// Fields that frame, route or modify a message, say who sends it, control what becomes of a response, or have its content taken for
/// something else; the groups of that section, in its order. What is not among them may be a trailer: digests, validators, timings, what gRPC says of a call.
static OF_HEADS: &[&str] = &[
    // Framing, and the connection's own fields.
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "http2-settings",
    "te",
    "trailer",
    // Routing.
    "host",
    "max-forwards",
    // Authentication. Authentication-Info may be a trailer (RFC 9110 section 11.6.3).
    "authorization",
    "proxy-authorization",
    "www-authenticate",
    "proxy-authenticate",
    "cookie",
    "set-cookie",
    // Request modifiers.
    "cache-control",
    "expect",
    "pragma",
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    // Response control data.
    "age",
    "cdn-cache-control",
    "surrogate-control",
    "date",
    "expires",
    "location",
    "refresh",
    "retry-after",
    "vary",
    "warning",
    // Content processing.
    "content-encoding",
    "content-type",
    "content-range",
    "content-location",
    "content-disposition",
];

/// Takes out of a request's trailers what does not go on.
pub(crate) fn strip_request(trailers: &mut HeaderMap, policy: Option<&Policy>) {
    strip(trailers, |name| {
        is_of_heads(name)
            || forwarding::is_told(name)
            || policy.is_some_and(|policy| {
                cache::is_told(policy, name) || field_rules::replaces(&policy.request_fields, name)
            })
    });
}

/// Takes out of a response's trailers what does not go on; these names are not for clients.
pub(crate) fn strip_response(trailers: &mut HeaderMap, policy: Option<&Policy>, hidden: &[HeaderName]) {
    strip(trailers, |name| is_not_for_clients(name, policy, hidden));
}

/// The same of trailers as they lie in HTTP/1's chunks: whole lines, each of which begins with a name and a colon.
pub(crate) fn kept_lines(lines: &[u8], policy: Option<&Policy>, hidden: &[HeaderName]) -> Vec<u8> {
    let goes_on = |line: &&[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        !is_not_for_clients(name, policy, hidden)
    };
    lines.split_inclusive(|byte| *byte == b'\n').filter(goes_on).flatten().copied().collect()
}

fn is_not_for_clients(name: &[u8], policy: Option<&Policy>, hidden: &[HeaderName]) -> bool {
    is_of_heads(name)
        || hidden.iter().any(|hidden| is_respelt(name, hidden.as_str()))
        || policy.is_some_and(|policy| {
            cache::is_told(policy, name) || field_rules::replaces(&policy.response_fields, name)
        })
}

/// In whichever spelling: application servers make one variable of all.
fn is_of_heads(name: &[u8]) -> bool {
    OF_HEADS.iter().any(|of_heads| is_respelt(name, of_heads))
}

fn strip(trailers: &mut HeaderMap, goes: impl Fn(&[u8]) -> bool) {
    let gone: Vec<HeaderName> =
        trailers.keys().filter(|name| goes(name.as_str().as_bytes())).cloned().collect();
    for name in &gone {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const STAY: [&str; 10] = [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "x-custom-bin",
        "server-timing",
        "digest",
        "content-digest",
        "repr-digest",
        "etag",
        "authentication-info",
    ];

    fn of(names: &[&str]) -> HeaderMap {
        let name =
            |name: &&str| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
        names.iter().map(name).collect()
    }

    #[test]
    fn nothing_that_is_decided_by_a_head_goes_on_in_either_direction() {
        for name in OF_HEADS {
            for spelling in [name.to_string(), name.replace('-', "_"), name.replace('-', ".")] {
                let names = [&[&*spelling][..], &STAY].concat();
                let (mut up, mut down) = (of(&names), of(&names));
                strip_request(&mut up, None);
                strip_response(&mut down, None, &[]);
                assert_eq!((up, down), (of(&STAY), of(&STAY)), "{spelling}");
                let lines = format!("{}: 1\r\nX-Sum: 1\r\n", spelling.to_uppercase());
                assert_eq!(kept_lines(lines.as_bytes(), None, &[]), b"X-Sum: 1\r\n", "{spelling}");
            }
        }
    }

    #[test]
    fn lines_keep_their_order_and_letters() {
        let lines = b"X-A: 1\r\nHost: b\r\nx-b:\r\nX-A: a:b\r\n";
        assert_eq!(kept_lines(lines, None, &[]), b"X-A: 1\r\nx-b:\r\nX-A: a:b\r\n");
        let hidden = [HeaderName::from_static("x-a")];
        assert_eq!(kept_lines(lines, None, &hidden), b"x-b:\r\n");
        assert_eq!(kept_lines(b"", None, &hidden), b"");
    }
}
