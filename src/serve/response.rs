//! A server's response head before it goes on: judged as strictly as a client's request, and rid of what is
//! about the server's own connection.

use http::{HeaderName, header};
use pingora::http::ResponseHeader;

/// Whether two readers could disagree on where the body ends (RFC 9112 section 6). Pingora refuses numbers
/// that are none and lengths that differ.
pub(super) fn is_ambiguous(response: &ResponseHeader) -> bool {
    let mut codings = response.headers.get_all(header::TRANSFER_ENCODING).iter();
    let unknown = codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let repeated = codings.next().is_some();
    let lengths = response.headers.get_all(header::CONTENT_LENGTH).iter().count();
    unknown || repeated || lengths > 1
}

/// Takes out of a response what is about the server's own connection (RFC 9110 section 7.6.1).
pub(super) fn end_servers_hop(response: &mut ResponseHeader) {
    response.remove_header("Keep-Alive");
    response.remove_header("Proxy-Connection");
    let is_framing =
        |name: &HeaderName| *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING;
    let nominated: Vec<HeaderName> = response
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|option| !option.eq_ignore_ascii_case("close") && !option.eq_ignore_ascii_case("keep-alive"))
        .filter_map(|option| option.parse().ok())
        .filter(|name| !is_framing(name))
        .collect();
    for name in nominated {
        response.remove_header(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(fields: &[(&'static str, &'static str)]) -> ResponseHeader {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in fields {
            response.append_header(*name, *value).unwrap();
        }
        response
    }

    #[test]
    fn a_body_has_one_end() {
        for (fields, ambiguous) in [
            (&[][..], false),
            (&[("Content-Length", "5")], false),
            (&[("Transfer-Encoding", "Chunked")], false),
            (&[("Transfer-Encoding", "gzip, chunked")], true),
            (&[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], true),
            (&[("Content-Length", "5"), ("Content-Length", "5")], true),
        ] {
            assert_eq!(is_ambiguous(&response(fields)), ambiguous, "{fields:?}");
        }
    }

    #[test]
    fn what_the_servers_connection_nominates_ends_there() {
        let mut response = response(&[
            ("Connection", "close, X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Content-Length", "5"),
            ("X-End", "1"),
        ]);
        end_servers_hop(&mut response);
        let left: Vec<_> = response.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["connection", "content-length", "x-end"]);
    }
}
