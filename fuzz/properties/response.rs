//! Heads of HTTP/1 responses.

use super::message::{Framing, Head, cuts};
use evenkeel::fuzzing::{Judged, Recipient, ResponseBody, ResponseHead, response_fields, response_head};

/// About the connection of whoever wrote them: no recipient gets a server's own.
const ONE_HOP: [&str; 2] = ["keep-alive", "proxy-connection"];

/// What came first decides, and no beginning of a head is one. What its recipient gets is a head to the letter; it says of
/// the body what we go by, and read and written once more it is the same. The first byte says who the recipient is.
pub(crate) fn of_a_response_head(bytes: &[u8]) {
    let Some((who, bytes)) = bytes.split_first() else { return };
    let to = Recipient {
        has_sent_head: who & 1 != 0,
        upgrade: (who & 2 != 0).then_some("websocket, tcp"),
        may_go_on: who & 4 != 0,
        is_http_11: who & 16 == 0,
        hsts: (who & 8 != 0).then_some("max-age=1"),
    };
    let judged = response_head(bytes, to);
    let more = [bytes, b"a: b\r\n\r\n"].concat();
    match &judged {
        Judged::Complete(head) => {
            assert!(head.length <= bytes.len());
            assert_eq!(response_head(&more, to), judged);
            assert_eq!(response_head(&bytes[..head.length], to), judged);
            for cut in cuts(head.length) {
                assert_eq!(response_head(&bytes[..cut], to), Judged::Partial, "its first {cut} bytes");
            }
            is_written_well(head, to);
            is_the_same_in_http2(bytes, head, to);
        }
        Judged::Partial | Judged::Http2 => {}
        Judged::Refused(_) => {
            assert!(matches!(response_head(&more, to), Judged::Refused(_)), "refused, and then not");
        }
    }
}

fn is_written_well(judged: &ResponseHead, to: Recipient) {
    let is_interim = judged.status < 200 && judged.status != 101;
    if is_interim && !to.is_http_11 {
        // HTTP/1.0 knows none.
        assert!(judged.written.is_empty());
        return;
    }
    let head = Head::read(&judged.written).expect("it is one to the letter");
    let line = format!("HTTP/1.1 {:03} ", judged.status);
    assert!(head.start.starts_with(line.as_bytes()));
    for name in ONE_HOP {
        assert_eq!(head.all(name).len(), 0, "{name}");
    }
    let framing = head.framing();
    let has_no_body = to.has_sent_head || judged.status < 200 || judged.status == 204 || judged.status == 304;
    if judged.status < 200 || judged.status == 204 {
        assert_eq!(framing, Some(Framing::Unsaid), "there is nothing to frame");
    }
    match judged.body {
        ResponseBody::Length(0) if has_no_body => {}
        _ if has_no_body => panic!("{:?} where there is no body", judged.body),
        ResponseBody::Length(length) => assert_eq!(framing, Some(Framing::Length(length))),
        // HTTP/1.0 knows no chunks.
        ResponseBody::Chunked if !to.is_http_11 => assert_eq!(framing, Some(Framing::Unsaid)),
        ResponseBody::Chunked => assert_eq!(framing, Some(Framing::Chunked)),
        ResponseBody::UntilClose => assert_eq!(framing, Some(Framing::Unsaid)),
    }
    let connection = head.all("connection");
    let has_end = framing != Some(Framing::Unsaid) || has_no_body;
    match judged.status {
        101 => assert_eq!(connection, [b"Upgrade"]),
        _ if is_interim => assert!(connection.is_empty()),
        _ => {
            assert_eq!(judged.goes_on, to.may_go_on && has_end);
            let said = match (judged.goes_on, to.is_http_11) {
                (false, _) => Some("close"),
                (true, true) => None,
                (true, false) => Some("keep-alive"),
            };
            // Which protocols a server would rather speak (RFC 9110 section 15.5.22) is nobody's business otherwise.
            let has_upgrade = !head.all("upgrade").is_empty();
            assert!(!has_upgrade || judged.status == 426);
            let said: Vec<_> = said.into_iter().chain(has_upgrade.then_some("Upgrade")).collect();
            assert_eq!(connection.join(&b", "[..]), said.join(", ").as_bytes());
            assert!(!head.all("date").is_empty(), "when was it made?");
        }
    }
    match response_head(&judged.written, to) {
        Judged::Complete(again) => {
            assert_eq!(again.written, judged.written);
            assert_eq!((again.status, again.goes_on), (judged.status, judged.goes_on));
            assert!(again.body == judged.body || !to.is_http_11);
        }
        // With what we have added there are.
        Judged::Refused("too many fields") if head.fields.len() > 256 => {}
        other => panic!("what was written is {other:?}"),
    }
}

/// An HTTP/2 client gets the same fields, but for those that frame a body or speak of the connection.
fn is_the_same_in_http2(bytes: &[u8], judged: &ResponseHead, to: Recipient) {
    if judged.status == 101 {
        // There is none in HTTP/2, and a client that speaks it can ask for none.
        return;
    }
    let fields = response_fields(bytes, to).expect("it is judged the same");
    let plain = Recipient { is_http_11: true, may_go_on: true, ..to };
    let Judged::Complete(head) = response_head(bytes, plain) else { panic!("it is judged the same") };
    let head = Head::read(&head.written).expect("it is one to the letter");
    let is_http1s = |name: &[u8]| {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        is("connection") || is("transfer-encoding") || is("upgrade")
    };
    let mut expected: Vec<_> = head
        .fields
        .iter()
        .filter(|(name, _)| !is_http1s(name))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()))
        .collect();
    let mut got: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    // The order of different names is nobody's business.
    expected.sort();
    got.sort();
    assert_eq!(got, expected);
}
