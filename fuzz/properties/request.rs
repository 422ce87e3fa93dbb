//! Heads of HTTP/1 requests.

use super::message::{Framing, Head, cuts};
use evenkeel::fuzzing::{Judged, RequestHead, request_head};
use std::net::Ipv6Addr;

const LIMIT: usize = 4 << 10;

/// What came first decides, however much follows; no beginning of a head is one; and whatever may go on is read the same
/// by a reader that is strict to the letter.
pub(crate) fn of_a_request_head(bytes: &[u8]) {
    let judged = request_head(bytes, LIMIT);
    let more = [bytes, b"a: b\r\n\r\n"].concat();
    match &judged {
        Judged::Complete(head) => {
            assert!(head.length <= bytes.len().min(LIMIT));
            assert_eq!(request_head(&more, LIMIT), judged);
            assert_eq!(request_head(&bytes[..head.length], LIMIT), judged);
            for cut in cuts(head.length) {
                assert_eq!(request_head(&bytes[..cut], LIMIT), Judged::Partial, "its first {cut} bytes");
            }
            assert_eq!(
                request_head(bytes, head.length - 1),
                Judged::Refused("a head longer than limits.request_headers")
            );
            is_read_the_same(&bytes[..head.length], head);
        }
        Judged::Partial => assert!(bytes.len() < LIMIT),
        Judged::Http2 => assert!(bytes.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
        Judged::Refused(_) => {
            assert!(matches!(request_head(&more, LIMIT), Judged::Refused(_)), "refused, and then not");
        }
    }
}

fn is_read_the_same(bytes: &[u8], judged: &RequestHead) {
    // One empty line before it is forgiven (RFC 9112 section 2.2).
    let head = Head::read(bytes.strip_prefix(b"\r\n").unwrap_or(bytes)).expect("it is one to the letter");
    let fields: Vec<_> = judged.fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    assert_eq!(head.fields, fields);

    let words: Vec<&[u8]> = head.start.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { panic!("a request line has three words") };
    let version_read: &[u8] = if judged.is_http_11 { b"HTTP/1.1" } else { b"HTTP/1.0" };
    assert_eq!((method, version), (judged.method.as_str().as_bytes(), version_read));
    let target = std::str::from_utf8(target).expect("a target is ASCII");
    assert!(target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
    let path = judged.path_and_query.as_str();
    match judged.is_absolute {
        false => assert_eq!(path, target),
        true => {
            let scheme = if target.as_bytes()[4] == b':' { "http://" } else { "https://" };
            assert!(target[..scheme.len()].eq_ignore_ascii_case(scheme));
            let end = if target.ends_with(path) { target.len() - path.len() } else { target.len() };
            let authority = &target[scheme.len()..end];
            assert!(!authority.is_empty() && !authority.contains(['/', '?', '@', ',', '\\']), "{authority}");
            for host in head.all("host") {
                let host = std::str::from_utf8(host).expect("a host is ASCII");
                assert_eq!(place(host, scheme), place(authority, scheme), "target and Host name two hosts");
            }
        }
    }
    assert!(path.starts_with(['/', '?']) || path == "*" && method == b"OPTIONS", "{path}");
    assert!(judged.path.starts_with('/') || path == "*");
    assert!(path.ends_with(&judged.query));

    let hosts = head.all("host").len();
    assert!(hosts == 1 || hosts == 0 && !judged.is_http_11, "{hosts} hosts");
    match (head.framing().expect("nobody can read its framing otherwise"), judged.body) {
        (Framing::Unsaid, Some(0)) => {}
        (Framing::Length(length), Some(judged)) => assert_eq!(length, judged),
        (Framing::Chunked, None) => assert!(judged.is_http_11),
        (framing, body) => panic!("{framing:?} was judged {body:?}"),
    }
}

/// The host that an authority names, and its port.
fn place(authority: &str, scheme: &str) -> (String, u16) {
    let end = authority.rfind(']').unwrap_or(0);
    let colon = authority[end..].find(':').map_or(authority.len(), |at| end + at);
    let (host, port) = (&authority[..colon], authority[colon..].trim_start_matches(':'));
    let default = if scheme.eq_ignore_ascii_case("https://") { 443 } else { 80 };
    let port = if port.is_empty() { default } else { port.parse().expect("a port is a number") };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')?.parse::<Ipv6Addr>().ok());
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    (address.map_or(host, |address| address.to_string()), port)
}
