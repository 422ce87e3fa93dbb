//! HTTP/2's part of the table: frames by hand, fields as literals, so that no library corrects them.

use crate::cases::Outcome::{Answer, ConnectionError, Passed, StreamBroken, StreamError};
use crate::cases::{Case, Outcome, Wire};
use crate::support::h2::{self, END_HEADERS, END_STREAM, block, frame};

/// Id, RFC, rule and example.
type Row = [&'static str; 4];
type Field = (&'static str, &'static [u8]);

const BASE: [Field; 4] = [(":method", b"GET"), (":scheme", b"http"), (":authority", b"a"), (":path", b"/")];
const POST: [Field; 4] =
    [(":method", b"POST"), (":scheme", b"http"), (":authority", b"a"), (":path", b"/broken")];

/// GET with one pseudo-field changed.
fn but(name: &'static str, value: &'static [u8]) -> Vec<Field> {
    BASE.iter().map(|field| if field.0 == name { (name, value) } else { *field }).collect()
}

fn without(name: &str) -> Vec<Field> {
    BASE.iter().copied().filter(|field| field.0 != name).collect()
}

fn with(base: &[Field], more: &[Field]) -> Vec<Field> {
    [base, more].concat()
}

fn head(fields: &[Field], last: bool) -> Vec<u8> {
    frame(h2::HEADERS, END_HEADERS | u8::from(last), 1, &block(fields))
}

fn data(bytes: &[u8], last: bool) -> Vec<u8> {
    frame(h2::DATA, u8::from(last), 1, bytes)
}

fn trailers(fields: &[Field]) -> Vec<u8> {
    head(fields, true)
}

// One line for each, to be read as a table.
#[rustfmt::skip]
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Heads that are all there is.
    let heads: Vec<(&'static str, &'static str, &'static str, Vec<Field>, Outcome)> = vec![
        // Pseudo-fields.
        ("h2-method-none", "9113 8.3.1", "has no `:method`", without(":method"), StreamError),
        ("h2-scheme-none", "9113 8.3.1", "has no `:scheme`", without(":scheme"), StreamError),
        ("h2-path-none", "9113 8.3.1", "has no `:path`", without(":path"), StreamError),
        ("h2-authority-none", "9113 8.3.1", "has neither `:authority` nor Host", without(":authority"), Answer(400)),
        ("h2-authority-host", "9113 8.3.1", "has Host in place of `:authority`, as it may", with(&without(":authority"), &[("host", b"a")]), Passed),
        ("h2-authority-twice", "9113 8.3", "has `:authority` twice", with(&BASE, &[(":authority", b"a")]), StreamError),
        ("h2-path-twice", "9113 8.3", "has `:path` twice", with(&BASE, &[(":path", b"/b")]), StreamError),
        ("h2-method-twice", "9113 8.3", "has `:method` twice", with(&BASE, &[(":method", b"GET")]), StreamError),
        ("h2-pseudo-late", "9113 8.3", "has a pseudo-field after a field", vec![BASE[0], BASE[1], BASE[2], ("x", b"1"), BASE[3]], StreamError),
        ("h2-pseudo-unknown", "9113 8.3", "has an unknown pseudo-field", with(&BASE, &[(":x", b"1")]), StreamError),
        ("h2-pseudo-status", "9113 8.3", "has a response's pseudo-field", with(&BASE, &[(":status", b"200")]), StreamError),
        ("h2-method-space", "9110 9.1", "has a space in its method", but(":method", b"GE T"), ConnectionError),
        ("h2-method-line", "9110 9.1", "has a line break in its method", but(":method", b"GET / HTTP/1.1\r\nX: 1"), ConnectionError),
        ("h2-method-empty", "9110 9.1", "has an empty method", but(":method", b""), ConnectionError),
        ("h2-connect", "9113 8.5", "is CONNECT, which is not proxied", vec![(":method", b"CONNECT"), (":authority", b"a:443")], Answer(405)),
        ("h2-connect-path", "9113 8.5", "is CONNECT with a path", but(":method", b"CONNECT"), StreamError),
        ("h2-connect-extended", "8441 4", "is extended CONNECT, which was not offered", with(&but(":method", b"CONNECT"), &[(":protocol", b"websocket")]), StreamError),
        ("h2-protocol-get", "8441 4", "has `:protocol` with another method", with(&BASE, &[(":protocol", b"websocket")]), StreamError),
        ("h2-scheme-other", "9113 8.3.1", "has another scheme than http and https", but(":scheme", b"ftp"), Answer(400)),
        ("h2-scheme-line", "9113 8.3.1", "has a line break in its scheme", but(":scheme", b"http\r\n"), StreamError),
        ("h2-path-empty", "9113 8.3.1", "has an empty `:path`", but(":path", b""), StreamError),
        ("h2-path-relative", "9113 8.3.1", "has a path without a slash", but(":path", b"a"), StreamError),
        ("h2-path-query", "9113 8.3.1", "has a query and no path", but(":path", b"?a"), Answer(400)),
        ("h2-path-absolute", "9113 8.3.1", "has an absolute target for a path", but(":path", b"http://b/"), StreamError),
        ("h2-path-asterisk", "9113 8.3.1", "has `*` with another method than OPTIONS", but(":path", b"*"), Answer(400)),
        ("h2-path-options", "9113 8.3.1", "has `*` with OPTIONS, as it may", vec![(":method", b"OPTIONS"), BASE[1], BASE[2], (":path", b"*")], Passed),
        ("h2-path-fragment", "9113 8.3.1", "has a fragment, which is not passed on", but(":path", b"/#x"), Passed),
        ("h2-path-space", "3986 2", "has a space in its path", but(":path", b"/ HTTP/1.1"), StreamError),
        ("h2-path-line", "9113 10.3", "has a request in its path", but(":path", b"/ HTTP/1.1\r\nHost: b\r\n\r\nGET /"), StreamError),
        ("h2-path-nul", "3986 2", "has NUL in its path", but(":path", b"/\0"), StreamError),
        ("h2-path-high", "3986 2", "has a byte beyond ASCII in its path", but(":path", "/\u{e4}".as_bytes()), Answer(400)),
        ("h2-path-unescaped", "3986 2", "has visible characters in its path that the codec has no form for", but(":path", b"/<x>"), StreamError),
        ("h2-query-unescaped", "3986 2", "has them in its query", but(":path", b"/?q=\"x\""), StreamError),
        ("h2-path-unescaped-others", "3986 2", "has others that must be percent-encoded, as many clients write them", but(":path", b"/\"{a}|\\^?q={b}|"), Passed),
        ("h2-authority-userinfo", "9113 8.3.1", "has a user's name in `:authority`", but(":authority", b"u@a"), Answer(400)),
        ("h2-authority-empty", "9113 8.3.1", "has an empty `:authority`", but(":authority", b""), StreamError),
        ("h2-authority-empty-port", "9110 4.2.1", "has a port and no host in `:authority`", but(":authority", b":80"), Answer(400)),
        ("h2-authority-dot", "1035 2.3.1", "has a dot for `:authority`", but(":authority", b"."), Answer(400)),
        ("h2-authority-dots", "1035 2.3.1", "has two dots behind each other in `:authority`", but(":authority", b"a.."), Answer(400)),
        ("h2-authority-percent", "3986 3.2.2", "has `%` in `:authority`, which the codec has no form for", but(":authority", b"a%41"), StreamError),
        ("h2-authority-path", "3986 3.2", "has a path in `:authority`", but(":authority", b"a/b"), StreamError),
        ("h2-authority-port", "3986 3.2.3", "has a port that is no number", but(":authority", b"a:x"), Answer(400)),
        ("h2-authority-space", "3986 3.2.2", "has a space in `:authority`", but(":authority", b"a b"), StreamError),
        ("h2-authority-list", "3986 3.2.2", "has a list for `:authority`", but(":authority", b"a,b"), Answer(400)),
        ("h2-authority-line", "9113 10.3", "has a line break in `:authority`", but(":authority", b"a\r\nX: 1"), StreamError),
        ("h2-host-disagrees", "9113 8.3.1", "has a Host that is not `:authority`", with(&BASE, &[("host", b"b")]), Answer(400)),
        ("h2-host-agrees", "9113 8.3.1", "has the same Host too, as it may", with(&BASE, &[("host", b"a")]), Passed),
        ("h2-host-case", "9113 8.3.1", "has it in other letters", with(&BASE, &[("host", b"A")]), Passed),
        ("h2-host-default-port", "9110 4.2.3", "has it with the scheme's port", with(&BASE, &[("host", b"a:80")]), Passed),
        ("h2-host-other-port", "9113 8.3.1", "has it with another port", with(&BASE, &[("host", b"a:443")]), Answer(400)),
        ("h2-host-twice", "9110 7.2", "has Host twice", with(&BASE, &[("host", b"a"), ("host", b"a")]), Answer(400)),
        ("h2-host-bad", "9110 7.2", "has a Host that is none", with(&without(":authority"), &[("host", b"a b")]), Answer(400)),
        ("h2-host-empty", "9110 4.2.1", "has an empty Host and no `:authority`", with(&without(":authority"), &[("host", b"")]), Answer(400)),
        // Fields.
        ("h2-field-connection", "9113 8.2.2", "has Connection", with(&BASE, &[("connection", b"close")]), StreamError),
        ("h2-field-keep-alive", "9113 8.2.2", "has Keep-Alive", with(&BASE, &[("keep-alive", b"5")]), StreamError),
        ("h2-field-proxy-connection", "9113 8.2.2", "has Proxy-Connection", with(&BASE, &[("proxy-connection", b"x")]), StreamError),
        ("h2-field-upgrade", "9113 8.2.2", "has Upgrade", with(&BASE, &[("upgrade", b"websocket")]), StreamError),
        ("h2-field-transfer-encoding", "9113 8.2.2", "has Transfer-Encoding", with(&POST, &[("transfer-encoding", b"chunked")]), StreamError),
        ("h2-field-te", "9113 8.2.2", "has a TE that is not `trailers`", with(&BASE, &[("te", b"gzip")]), StreamError),
        ("h2-field-te-trailers", "9113 8.2.2", "has TE with `trailers`, as it may", with(&BASE, &[("te", b"trailers")]), Passed),
        ("h2-field-capital", "9113 8.2", "has a capital letter in a name", with(&BASE, &[("X", b"1")]), StreamError),
        ("h2-field-no-name", "9113 8.2.1", "has an empty name", with(&BASE, &[("", b"1")]), ConnectionError),
        ("h2-field-name-space", "9113 8.2.1", "has a space in a name", with(&BASE, &[("x y", b"1")]), StreamError),
        ("h2-field-name-colon", "9113 8.2.1", "has a colon in a name", with(&BASE, &[("x:y", b"1")]), StreamError),
        ("h2-field-name-line", "9113 10.3", "has a field in a name", with(&BASE, &[("x: 1\r\ntransfer-encoding", b"chunked")]), StreamError),
        ("h2-field-name-high", "9113 8.2.1", "has a byte beyond ASCII in a name", with(&BASE, &[("x\u{e4}", b"1")]), StreamError),
        ("h2-field-value-nul", "9113 8.2.1", "has NUL in a value", with(&BASE, &[("x", b"1\x002")]), StreamError),
        ("h2-field-value-cr", "9113 8.2.1", "has CR in a value", with(&BASE, &[("x", b"1\r2")]), StreamError),
        ("h2-field-value-lf", "9113 8.2.1", "has a field in a value", with(&BASE, &[("x", b"1\r\nY: 2")]), StreamError),
        ("h2-field-value-space", "9113 8.2.1", "has a space before a value", with(&BASE, &[("x", b" 1")]), Answer(400)),
        ("h2-field-value-tab", "9113 8.2.1", "has a tab after a value", with(&BASE, &[("x", b"1\t")]), Answer(400)),
        ("h2-field-value-empty", "9110 5.5", "has an empty value, as it may", with(&BASE, &[("x", b"")]), Passed),
        ("h2-cookies", "9113 8.2.3", "has several Cookie fields, which become one", with(&BASE, &[("cookie", b"a=1"), ("cookie", b"b=2")]), Passed),
        ("h2-length-list", "9110 8.6", "has a list for Content-Length", with(&POST, &[("content-length", b"0, 0")]), StreamError),
        ("h2-length-twice", "9110 8.6", "has Content-Length twice, the same", with(&POST, &[("content-length", b"0"), ("content-length", b"0")]), Answer(400)),
        ("h2-length-two", "9110 8.6", "has two Content-Lengths", with(&POST, &[("content-length", b"0"), ("content-length", b"4")]), StreamError),
        ("h2-length-plus", "9110 8.6", "has a sign before Content-Length's digits", with(&POST, &[("content-length", b"+0")]), StreamError),
        ("h2-length-words", "9110 8.6", "has a Content-Length that is no number", with(&POST, &[("content-length", b"x")]), StreamError),
        ("h2-length-no-body", "9113 8.1.1", "has a Content-Length and no body", with(&POST, &[("content-length", b"4")]), StreamError),
        ("h2-limit-fields", "6585 5", "has more fields than `limits.request_headers` has room for, with 32 bytes for each", with(&BASE, &[("x", b"1".as_slice()); 200]), Answer(431)),
    ];
    for (id, rfc, rule, fields, outcome) in heads {
        let example = example(&fields);
        let bytes = head(&fields, true);
        cases.push(Case { id, rfc, rule, wire: Wire::H2 { bytes, example }, outcome });
    }
    // Heads that more frames follow.
    let length_4 = head(&with(&POST, &[("content-length", b"4")]), false);
    let post = head(&POST, false);
    let priority = |on: u8| frame(h2::HEADERS, END_HEADERS | END_STREAM | 0x20, 1, &[&[0, 0, 0, on, 0], &block(&BASE)[..]].concat());
    let more: Vec<(Row, Vec<Vec<u8>>, Outcome)> = vec![
        (["h2-data-over", "9113 8.1.1", "has more DATA than its Content-Length", "content-length: 4, DATA of 5"], vec![length_4.clone(), data(b"bodyx", true)], StreamBroken),
        (["h2-data-over-later", "9113 8.1.1", "has it in a second frame", "content-length: 4, DATA of 4 and 1"], vec![length_4.clone(), data(b"body", false), data(b"x", true)], StreamBroken),
        (["h2-data-under", "9113 8.1.1", "has less DATA than its Content-Length", "content-length: 4, DATA of 3"], vec![length_4.clone(), data(b"bod", true)], StreamBroken),
        (["h2-data-under-trailers", "9113 8.1.1", "has less and then trailers", "content-length: 4, DATA of 3, trailers"], vec![length_4.clone(), data(b"bod", false), trailers(&[("x", b"1")])], StreamBroken),
        (["h2-data-exact", "9113 8.1.1", "has as much DATA as its Content-Length", "content-length: 4, DATA of 4"], vec![length_4.clone(), data(b"body", true)], Passed),
        (["h2-data-empty-end", "9113 6.1", "ends with empty DATA, as it may", "content-length: 4, DATA of 4 and 0"], vec![length_4, data(b"body", false), data(b"", true)], Passed),
        (["h2-data-empty-between", "9113 6.1", "has empty DATA in between", "DATA of 2, 0 and 2"], vec![post.clone(), data(b"bo", false), data(b"", false), data(b"dy", true)], Passed),
        (["h2-data-chunks", "9113 8.1.1", "has what looks like chunks for a body", "DATA of 0\\r\\n\\r\\nGET / HTTP/1.1…"], vec![post.clone(), data(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", true)], Passed),
        (["h2-data-padding", "9113 6.1", "has padding longer than its DATA", "DATA with 9 bytes of padding in 4"], vec![post.clone(), frame(h2::DATA, 8 | END_STREAM, 1, &[9, 0, 0, 0])], ConnectionError),
        (["h2-data-idle", "9113 5.1", "is DATA without a request", "DATA on stream 1"], vec![data(b"x", true)], ConnectionError),
        (["h2-trailers", "9113 8.1", "has trailers, which are not passed on", "DATA, trailers x: 1"], vec![post.clone(), data(b"body", false), trailers(&[("x", b"1")])], Passed),
        (["h2-trailers-pseudo", "9113 8.1", "has a pseudo-field in its trailers", "DATA, trailers :path: /x"], vec![post.clone(), data(b"body", false), trailers(&[(":path", b"/x")])], StreamBroken),
        (["h2-trailers-length", "9110 6.5.1", "has Content-Length in its trailers", "DATA, trailers content-length: 9"], vec![post.clone(), data(b"body", false), trailers(&[("content-length", b"9")])], Passed),
        (["h2-trailers-no-end", "9113 8.1", "has trailers that do not end the stream", "DATA, trailers without END_STREAM"], vec![post.clone(), data(b"body", false), head(&[("x", b"1")], false)], StreamBroken),
        (["h2-trailers-connection", "9113 8.2.2", "has a connection's field in its trailers", "DATA, trailers transfer-encoding: chunked"], vec![post.clone(), data(b"body", false), trailers(&[("transfer-encoding", b"chunked")])], StreamBroken),
        (["h2-trailers-capital", "9113 8.2", "has a capital letter in a trailer's name", "DATA, trailers X: 1"], vec![post, data(b"body", false), trailers(&[("X", b"1")])], StreamBroken),
        (["h2-stream-even", "9113 5.1.1", "is on a stream with an even number", "HEADERS on stream 2"], vec![frame(h2::HEADERS, END_HEADERS | END_STREAM, 2, &block(&BASE))], ConnectionError),
        (["h2-stream-zero", "9113 6.2", "is on stream 0", "HEADERS on stream 0"], vec![frame(h2::HEADERS, END_HEADERS | END_STREAM, 0, &block(&BASE))], ConnectionError),
        (["h2-depends-on-itself", "9113 5.3.1", "has a stream that depends on itself", "HEADERS with PRIORITY on stream 1 for stream 1"], vec![priority(1)], StreamError),
        (["h2-depends", "9113 5.3.2", "has a priority, which is ignored", "HEADERS with PRIORITY on stream 3 for stream 1"], vec![priority(3)], Passed),
        (["h2-block-interrupted", "9113 6.10", "has another frame within its header block", "HEADERS without END_HEADERS, PING"], vec![frame(h2::HEADERS, END_STREAM, 1, &block(&BASE)), frame(h2::PING, 0, 0, &[0; 8])], ConnectionError),
        (["h2-block-other-stream", "9113 6.10", "goes on on another stream", "HEADERS on stream 1, CONTINUATION on stream 3"], vec![frame(h2::HEADERS, END_STREAM, 1, &block(&BASE)), frame(h2::CONTINUATION, END_HEADERS, 3, b"")], ConnectionError),
        (["h2-block-in-two", "9113 6.10", "comes in two pieces, as it may", "HEADERS, CONTINUATION"], vec![frame(h2::HEADERS, END_STREAM, 1, &block(&BASE)[..20]), frame(h2::CONTINUATION, END_HEADERS, 1, &block(&BASE)[20..])], Passed),
        (["h2-hpack-index", "7541 2.3.3", "refers to a field that is not there", "index 70"], vec![frame(h2::HEADERS, END_HEADERS | END_STREAM, 1, &[0xc6])], ConnectionError),
        (["h2-hpack-zero", "7541 6.1", "refers to field 0", "index 0"], vec![frame(h2::HEADERS, END_HEADERS | END_STREAM, 1, &[0x80])], ConnectionError),
        (["h2-hpack-cut", "7541 4.1", "has a field cut off", "a value of 5 bytes, 1 there"], vec![frame(h2::HEADERS, END_HEADERS | END_STREAM, 1, &[0, 1, b'x', 5, b'1'])], ConnectionError),
        (["h2-hpack-table", "7541 6.3", "makes the table larger than allowed", "a table of 64 KiB"], vec![frame(h2::HEADERS, END_HEADERS | END_STREAM, 1, &[&[0x3f, 0xe1, 0xff, 0x03], &block(&BASE)[..]].concat())], ConnectionError),
        (["h2-settings-ack-long", "9113 6.5", "has SETTINGS with ACK and a payload", "SETTINGS with ACK of 6 bytes"], vec![frame(h2::SETTINGS, 1, 0, &[0; 6])], ConnectionError),
        (["h2-settings-length", "9113 6.5", "has SETTINGS of an odd length", "SETTINGS of 5 bytes"], vec![frame(h2::SETTINGS, 0, 0, &[0; 5])], ConnectionError),
        (["h2-settings-window", "9113 6.5.2", "sets a window beyond 2^31-1", "SETTINGS_INITIAL_WINDOW_SIZE of 2^31"], vec![frame(h2::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])], ConnectionError),
        (["h2-settings-stream", "9113 6.5", "has SETTINGS on a stream", "SETTINGS on stream 1"], vec![frame(h2::SETTINGS, 0, 1, &[])], ConnectionError),
        (["h2-ping-length", "9113 6.7", "has a PING of another length", "PING of 7 bytes"], vec![frame(h2::PING, 0, 0, &[0; 7])], ConnectionError),
        (["h2-push", "9113 8.4", "is PUSH_PROMISE, which clients do not send", "PUSH_PROMISE"], vec![frame(h2::PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])], ConnectionError),
    ];
    for ([id, rfc, rule, example], frames, outcome) in more {
        let wire = Wire::H2 { bytes: frames.concat(), example: example.to_owned() };
        cases.push(Case { id, rfc, rule, wire, outcome });
    }
    cases
}

/// What distinguishes these fields from an ordinary request's.
fn example(fields: &[Field]) -> String {
    let mut rest: Vec<_> = BASE.to_vec();
    let mut shown = Vec::new();
    for field in fields {
        match rest.iter().position(|known| known == field) {
            Some(at) => drop(rest.remove(at)),
            None => {
                rest.retain(|known| known.0 != field.0);
                let name = field.0.escape_default().to_string();
                shown.push(format!("{name}: {}", field.1.escape_ascii()));
            }
        }
    }
    shown.truncate(6);
    shown.extend(rest.iter().map(|(name, _)| format!("no {name}")));
    match shown.is_empty() {
        true => "x: 1, :path: /".to_owned(),
        false => shown.join(", "),
    }
}
