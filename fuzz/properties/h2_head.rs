//! Heads of HTTP/2 requests.

use super::message::Head;
use evenkeel::fuzzing::{Judged, h2_head, h2_head_for_http1, request_head};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

/// What the codec has refused before the judge sees it: fields that are HTTP/1's.
const HTTP1: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Whatever may go on is a head to the letter when it is written for HTTP/1.1, and our own judge of those lets it pass and
/// reads the same in it. The bytes are lines: method and URI, then the fields.
pub(crate) fn of_an_h2_head(bytes: &[u8]) {
    let Some((method, uri, fields)) = head(bytes) else { return };
    if h2_head(&method, &uri, &fields).is_some() || HTTP1.iter().any(|name| fields.contains_key(*name)) {
        return;
    }
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let (host, cookie) = h2_head_for_http1(&uri, &fields);
    let mut written = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    let own = [("host", &host), ("cookie", &cookie)];
    let is_replaced = |name: &str| own.iter().any(|(own, value)| name == *own && value.is_some());
    let kept = fields.iter().filter(|(name, _)| !is_replaced(name.as_str()));
    let own = own.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let lines: Vec<_> = own.chain(kept.map(|(name, value)| (name.as_str(), value))).collect();
    for (name, value) in &lines {
        let line = [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"];
        line.iter().for_each(|part| written.extend_from_slice(part));
    }
    written.extend_from_slice(b"\r\n");

    let head = Head::read(&written).expect("it is one to the letter");
    let values: Vec<_> = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    assert_eq!(head.fields, values);
    assert_eq!(head.all("host").len(), 1, "one host");
    assert!(head.all("cookie").len() <= 1, "one cookie field");
    if lines.len() > 256 {
        return;
    }
    match request_head(&written, written.len()) {
        Judged::Complete(judged) => {
            assert_eq!((judged.length, &judged.method), (written.len(), &method));
            assert_eq!((judged.path_and_query.as_str(), judged.is_absolute), (target, false));
            let length = fields.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
            assert_eq!(judged.body, Some(length.unwrap_or(0)));
            if let Some(authority) = uri.authority() {
                assert_eq!(head.all("host"), [authority.as_str().as_bytes()]);
            }
        }
        other => panic!("HTTP/1.1's judge says {other:?}"),
    }
}

/// What the codec could have read.
fn head(bytes: &[u8]) -> Option<(Method, Uri, HeaderMap)> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&first[..space]).ok()?;
    let uri = Uri::try_from(&first[space + 1..]).ok()?;
    let mut fields = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        fields.append(name, HeaderValue::from_bytes(&line[colon + 1..]).ok()?);
    }
    Some((method, uri, fields))
}
