//! HTTP/1.1's part of the table: bytes as they are.

use crate::cases::Outcome::{Answer, Broken, Left, Passed, Then};
use crate::cases::{Case, Outcome, Wire};

// One line for each, to be read as a table.
#[rustfmt::skip]
pub(crate) fn cases() -> Vec<Case> {
    let many_fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(300));
    let long_field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(5000));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long_extension = format!("{chunked}4;{}\r\nbody\r\n0\r\n\r\n", "x".repeat(20_000));
    let many_options = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}close\r\n\r\n", ", ".repeat(100));
    let many_zeros = format!("{chunked}{}4\r\nbody\r\n0\r\n\r\n", "0".repeat(20_000));
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(5000));
    let table: &[(&str, &str, &str, &[u8], Outcome)] = &[
        // The request line.
        ("h1-line-two-spaces", "9112 3", "has two spaces in its line", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-line-split-method", "9112 3.1", "has a space in its method", b"GE T / HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-line-tab", "9112 3", "has a tab for a space", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-line-leading-space", "9112 3", "begins with a space", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-line-trailing-space", "9112 3", "has a space after its version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-line-more-words", "9112 3", "has a fourth word in its line", b"GET / HTTP/1.1 x\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-line-bare-cr", "9112 2.2", "ends a line with CR alone", b"GET / HTTP/1.1\rHost: a\r\n\r\n", Answer(400)),
        ("h1-line-bare-lf", "9112 2.2", "ends its line with LF alone", b"GET / HTTP/1.1\nHost: a\r\n\r\n", Answer(400)),
        ("h1-all-bare-lf", "9112 2.2", "has LF alone everywhere", b"GET / HTTP/1.1\nHost: a\n\n", Answer(400)),
        ("h1-line-empty-before", "9112 2.2", "has an empty line before it", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Passed),
        ("h1-line-09", "1945 4.1", "is of HTTP/0.9", b"GET /\r\n\r\n", Answer(400)),
        ("h1-method-no-token", "9110 9.1", "has a method that is no token", b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-method-nul", "9110 9.1", "has NUL in its method", b"GET\0 / HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-method-connect", "9110 9.3.6", "is CONNECT, which is not proxied", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Answer(405)),
        ("h1-version-lower", "9112 2.3", "has its version in small letters", b"GET / http/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-version-12", "9110 2.5", "is of HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Answer(505)),
        ("h1-version-2", "9110 15.6.6", "is of HTTP/2.0 without the preface", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Answer(505)),
        ("h1-version-3", "9110 15.6.6", "is of HTTP/3.0", b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", Answer(505)),
        ("h1-version-long", "9112 2.3", "has a version of two digits", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-version-other", "9112 2.3", "is of another protocol", b"GET / RTSP/1.0\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-preface-broken", "9113 3.4", "has half of HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Answer(400)),
        ("h1-tls", "9112 3", "is a TLS ClientHello", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", Answer(400)),
        ("h1-words", "9112 3", "is no request at all", b"hello\r\n\r\n", Answer(400)),
        // The target.
        ("h1-target-relative", "9112 3.2.1", "has a target without a slash", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-asterisk", "9112 3.2.4", "has `*` with another method than OPTIONS", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-options", "9112 3.2.4", "has `*` with OPTIONS, as it may", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Passed),
        ("h1-target-authority", "9112 3.2.3", "has an authority with GET", b"GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", Answer(400)),
        ("h1-target-fragment", "9112 3.2.1", "has a fragment", b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-control", "3986 2", "has a control character in its target", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-nul", "3986 2", "has NUL in its target", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-delete", "3986 2", "has DEL in its target", b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-high", "3986 2", "has a byte beyond ASCII in its target", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-unescaped", "3986 2", "has visible characters in its target that must be percent-encoded, as many clients write them", b"GET /<a>|\\^{b}?q=\"c\" HTTP/1.1\r\nHost: a\r\n\r\n", Passed),
        ("h1-target-backslash", "9112 3.2.1", "begins its target with a backslash", b"GET \\ HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-scheme", "9110 4.2", "is absolute with another scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-absolute", "9112 3.2.2", "is absolute, as it may be", b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", Passed),
        ("h1-target-disagrees", "9112 3.2.2", "is absolute for another host", b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Answer(400)),
        ("h1-target-userinfo", "9110 4.2.4", "has a user's name in its target", b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-userinfo-both", "9110 4.2.4", "has it in Host too", b"GET http://u@a/ HTTP/1.1\r\nHost: u@a\r\n\r\n", Answer(400)),
        ("h1-target-agrees", "9110 4.2.3", "is absolute for the same host in another spelling, as it may", b"GET http://A.:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Passed),
        ("h1-target-other-port", "9112 3.2.2", "is absolute for another port", b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-other-scheme", "9110 4.2.3", "is absolute for the port of another scheme", b"GET https://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-target-no-host", "9110 4.2.1", "is absolute with an empty host", b"GET http:///x HTTP/1.1\r\nHost:\r\n\r\n", Answer(400)),
        ("h1-target-encoded-nul", "3986 2.1", "has NUL percent-encoded, which is the server's to judge", b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", Passed),
        // Host.
        ("h1-host-none", "9112 3.2", "has no Host", b"GET / HTTP/1.1\r\n\r\n", Answer(400)),
        ("h1-host-empty", "9110 4.2.1", "has an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", Answer(400)),
        ("h1-host-empty-port", "9110 4.2.1", "has a port and no host in Host", b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", Answer(400)),
        ("h1-host-empty-bracket", "3986 3.2.2", "has brackets without an address in Host", b"GET / HTTP/1.1\r\nHost: []\r\n\r\n", Answer(400)),
        ("h1-host-10-empty", "9110 4.2.1", "is of HTTP/1.0 with an empty Host", b"GET / HTTP/1.0\r\nHost:\r\n\r\n", Answer(400)),
        ("h1-host-10-none", "9112 3.2", "is of HTTP/1.0 without Host, as it may", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Passed),
        ("h1-host-twice", "9112 3.2", "has Host twice, the same", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-host-two", "9112 3.2", "has two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", Answer(400)),
        ("h1-host-list", "9110 7.2", "has a list for Host", b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Answer(400)),
        ("h1-host-space", "9110 7.2", "has a space in Host", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Answer(400)),
        ("h1-host-slash", "9110 7.2", "has a path in Host", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Answer(400)),
        ("h1-host-userinfo", "9110 4.2.4", "has a user's name in Host", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Answer(400)),
        ("h1-host-port", "9110 7.2", "has a port that is no number", b"GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", Answer(400)),
        ("h1-host-port-long", "9110 7.2", "has a port of six digits", b"GET / HTTP/1.1\r\nHost: a:100000\r\n\r\n", Answer(400)),
        ("h1-host-bracket", "3986 3.2.2", "has an open bracket in Host", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Answer(400)),
        ("h1-host-fragment", "9110 7.2", "has a fragment in Host", b"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", Answer(400)),
        ("h1-host-query", "9110 7.2", "has a query in Host", b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", Answer(400)),
        ("h1-host-high", "9110 7.2", "has a byte beyond ASCII in Host", b"GET / HTTP/1.1\r\nHost: \xe4\r\n\r\n", Answer(400)),
        ("h1-host-10-twice", "9112 3.2", "is of HTTP/1.0 with two Hosts", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Answer(400)),
        ("h1-host-nominated", "9110 7.6.1", "names Host in Connection, which keeps it all the same", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", Passed),
        // Fields.
        ("h1-field-space-colon", "9112 5.1", "has a space before a colon", b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", Answer(400)),
        ("h1-field-te-space-colon", "9112 5.1", "hides Transfer-Encoding behind such a space", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", Answer(400)),
        ("h1-field-no-colon", "9112 5", "has a line without a colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Answer(400)),
        ("h1-field-no-name", "9112 5", "has a field without a name", b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", Answer(400)),
        ("h1-field-name-space", "9110 5.1", "has a space in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n", Answer(400)),
        ("h1-field-name-paren", "9110 5.1", "has a parenthesis in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX(: 1\r\n\r\n", Answer(400)),
        ("h1-field-name-high", "9110 5.1", "has a byte beyond ASCII in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\xe4: 1\r\n\r\n", Answer(400)),
        ("h1-field-name-nul", "9110 5.1", "has NUL in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\0: 1\r\n\r\n", Answer(400)),
        ("h1-field-fold", "9112 5.2", "folds a field", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", Answer(400)),
        ("h1-field-fold-tab", "9112 5.2", "folds a field with a tab", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\t2\r\n\r\n", Answer(400)),
        ("h1-field-fold-first", "9112 2.2", "has white space before its first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Answer(400)),
        ("h1-field-te-fold", "9112 5.2", "folds Transfer-Encoding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Answer(400)),
        ("h1-field-value-nul", "9110 5.5", "has NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\x002\r\n\r\n", Answer(400)),
        ("h1-field-value-cr", "9110 5.5", "has CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n", Answer(400)),
        ("h1-field-value-lf", "9112 2.2", "has LF alone after a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\nY: 2\r\n\r\n", Answer(400)),
        ("h1-field-value-control", "9110 5.5", "has a control character in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", Answer(400)),
        ("h1-field-value-high", "9110 5.5", "has bytes beyond ASCII in a value, as it may", b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\r\n\r\n", Passed),
        ("h1-field-other-hop", "9110 7.6.1", "has fields that are for this connection only", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\nX: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", Passed),
        // Body lengths.
        ("h1-length-and-chunked", "9112 6.3", "has Content-Length and Transfer-Encoding", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Answer(400)),
        ("h1-chunked-and-length", "9112 6.3", "has them the other way round", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", Answer(400)),
        ("h1-length-twice", "9110 8.6", "has Content-Length twice, the same", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody", Answer(400)),
        ("h1-length-two", "9112 6.3", "has two Content-Lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\ncontent-length: 5\r\n\r\nbody", Answer(400)),
        ("h1-length-list", "9110 8.6", "has a list for Content-Length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nbody", Answer(400)),
        ("h1-length-plus", "9110 8.6", "has a sign before Content-Length's digits", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nbody", Answer(400)),
        ("h1-length-minus", "9110 8.6", "has a negative Content-Length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -4\r\n\r\nbody", Answer(400)),
        ("h1-length-hex", "9110 8.6", "has a hexadecimal Content-Length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\nbody", Answer(400)),
        ("h1-length-empty", "9110 8.6", "has an empty Content-Length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nbody", Answer(400)),
        ("h1-length-space", "9110 8.6", "has a space in Content-Length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4 4\r\n\r\nbody", Answer(400)),
        ("h1-length-decimal", "9110 8.6", "has a decimal point in Content-Length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4.0\r\n\r\nbody", Answer(400)),
        ("h1-length-underscore", "9110 8.6", "has an underscore in Content-Length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0_4\r\n\r\nbody", Answer(400)),
        ("h1-length-huge", "9110 8.6", "has a Content-Length beyond 64 bits", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551620\r\n\r\nbody", Answer(400)),
        ("h1-length-nominated", "9110 7.6.1", "names Content-Length in Connection, which keeps it all the same", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: content-length\r\n\r\nbody", Passed),
        ("h1-length-short", "9112 8", "ends before its Content-Length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nbody", Left),
        ("h1-length-over", "9112 9.3", "has more after its body, which is no request", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodybody\r\n\r\n", Then(400)),
        ("h1-get-and-more", "9112 9.3", "has more after its head, which is no request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r\n", Then(400)),
        ("h1-coding-identity", "9112 6.1", "has the transfer coding identity", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", Answer(501)),
        ("h1-coding-gzip", "9112 6.1", "has another transfer coding too", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Answer(501)),
        ("h1-coding-not-last", "9112 6.3", "has one after chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", Answer(501)),
        ("h1-coding-twice", "9112 6.1", "is chunked twice", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Answer(501)),
        ("h1-coding-two", "9112 6.1", "has Transfer-Encoding twice", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Answer(400)),
        ("h1-coding-hidden", "9112 6.1", "has a second one that is unknown", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Answer(501)),
        ("h1-coding-empty", "9112 6.1", "has an empty Transfer-Encoding", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", Answer(501)),
        ("h1-coding-comma", "9112 6.1", "has a comma after chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", Answer(501)),
        ("h1-coding-parameter", "9112 7", "has a parameter after chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", Answer(501)),
        ("h1-coding-vertical-tab", "9110 5.5", "has a vertical tab before chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", Answer(400)),
        ("h1-coding-quoted", "9112 6.1", "has chunked in quotes", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Answer(501)),
        ("h1-coding-10", "9112 6.1", "is chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Answer(400)),
        ("h1-coding-nominated", "9110 7.6.1", "names Transfer-Encoding in Connection, which keeps it all the same", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n\r\n4\r\nbody\r\n0\r\n\r\n", Passed),
        // Chunks.
        ("h1-chunk-size-words", "9112 7.1", "has a chunk size that is no number", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-size-empty", "9112 7.1", "has an empty chunk size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-size-minus", "9112 7.1", "has a negative chunk size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-size-plus", "9112 7.1", "has a sign before a chunk size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-size-prefix", "9112 7.1", "has 0x before a chunk size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-size-huge", "9112 7.1", "has a chunk size beyond 64 bits", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nx\r\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-longer", "9112 7.1", "has a chunk longer than its size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbody\r\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-shorter", "9112 7.1", "has a chunk shorter than its size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbody\r\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-bare-lf", "9112 2.2", "has LF alone after a chunk size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\nbody\r\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-data-bare-lf", "9112 7.1", "has LF alone after a chunk", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-extension-lf", "9112 7.1.1", "has LF alone after a chunk extension", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;x\nbody\r\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-extension", "9112 7.1.1", "has a chunk extension, as it may", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nbody\r\n0\r\n\r\n", Passed),
        ("h1-chunk-trailers", "9112 7.1.2", "has trailers, which go no further", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\r\n", Passed),
        ("h1-chunk-cut", "9112 8", "ends within its chunks", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbo", Left),
        ("h1-chunk-size-space", "9112 7.1", "has a second number after a chunk size", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4 5\r\nbody\r\n0\r\n\r\n", Broken(400)),
        ("h1-chunk-extension-long", "9112 7.1.1", "has more extension than data", long_extension.as_bytes(), Broken(400)),
        ("h1-chunk-trailer-no-colon", "9112 7.1.2", "has a trailer without a colon", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n\r\n", Broken(400)),
        ("h1-chunk-trailer-fold", "9112 5.2", "folds a trailer", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n 2\r\n\r\n", Broken(400)),
        // What could go on without end.
        ("h1-line-empty-two", "9112 2.2", "has two empty lines before it", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Answer(400)),
        ("h1-connection-empty", "9110 5.6.1.2", "has a long list of nothing in Connection", many_options.as_bytes(), Answer(400)),
        ("h1-chunk-size-zeros", "9112 7.1", "has zeros without end before a chunk size", many_zeros.as_bytes(), Broken(400)),
        // Limits.
        ("h1-limit-fields", "6585 5", "has more than 256 fields", many_fields.as_bytes(), Answer(431)),
        ("h1-limit-field", "6585 5", "has a field larger than `limits.request_headers`", long_field.as_bytes(), Answer(431)),
        ("h1-limit-target", "6585 5", "has a target larger than that", long_target.as_bytes(), Answer(431)),
    ];
    let case = |(id, rfc, rule, bytes, outcome): &(&'static str, &'static str, &'static str, &[u8], Outcome)| {
        let text = bytes.escape_ascii().to_string();
        // What comes late of it at the server is known by its path.
        let bytes = match (outcome, bytes.strip_prefix(b"POST / ")) {
            (Broken(_) | Left, Some(rest)) => [b"POST /broken ", rest].concat(),
            (Broken(_) | Left, None) => panic!("{text} has no path of its own"),
            _ => bytes.to_vec(),
        };
        Case { id, rfc, rule, wire: Wire::H1(bytes), outcome: outcome.clone() }
    };
    table.iter().map(case).collect()
}
