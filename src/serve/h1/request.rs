//! A client's request head as its server gets it.

use crate::fields::{Fields, tokens};
use crate::serve::forwarding::{Tell, Telling};
use crate::wire::request_head::Head;
use http::header;

/// Fields that are about the client's own connection (RFC 9110 section 7.6.1) or its proxy (section 11.7.2).
const ONE_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
    "proxy-authorization",
    "http2-settings",
];

/// Writes the head to `out`, with what a server is told of the request's way. Fields keep their order and the
/// capitalization they came with. `host` is for a request that names none, `upgrade` what it may
/// ask to switch to.
pub(super) fn write(
    head: &Head,
    host: Option<&str>,
    telling: &Telling<'_>,
    upgrade: Option<&str>,
    out: &mut Vec<u8>,
) {
    for part in [head.method.as_str(), " "] {
        out.extend_from_slice(part.as_bytes());
    }
    let target = head.path_and_query();
    if target.starts_with('?') {
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if head.is_absolute() {
        // RFC 9112 section 3.2.2: made anew from the target.
        field(b"Host", head.host().unwrap_or_default().as_bytes(), out);
    } else if let Some(host) = host {
        field(b"Host", host.as_bytes(), out);
    }
    let has_nominated = head.first(&header::CONNECTION).is_some();
    for (name, value) in head.fields() {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let is_nominated = || {
            has_nominated
                && tokens(head.all(&header::CONNECTION)).any(|token| token.eq_ignore_ascii_case(name))
                && !is("host")
                && !is("content-length")
                && !is("transfer-encoding")
        };
        // Nobody waits for a 100 in HTTP/1.0 (RFC 9110 section 10.1.1).
        let is_idle_wish = !head.is_http_11() && is("expect");
        let stays = !is_idle_wish && !ONE_HOP.into_iter().any(is) && !is_nominated() && telling.keeps(name);
        if stays && !(head.is_absolute() && is("host")) {
            field(name, value, out);
        }
    }
    for told in &telling.told {
        if let Tell::Set(value) = &told.tell {
            field(told.title.as_bytes(), value.as_bytes(), out);
        }
    }
    if let Some(upgrade) = upgrade {
        field(b"Connection", b"Upgrade", out);
        field(b"Upgrade", upgrade.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
}

pub(super) fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::forwarding::{Peer, tell};
    use crate::wire::request_head::sample_head;

    fn written(text: &str) -> String {
        written_with(text, None)
    }

    fn written_with(text: &str, upgrade: Option<&str>) -> String {
        let head = sample_head(text);
        let ip = Some("192.0.2.7".parse().unwrap());
        let peer = Peer { ip, text: "192.0.2.7", is_secure: false, identity: None };
        let mut out = Vec::new();
        let host = Some("10.0.0.1:80").filter(|_| head.host().is_none());
        write(&head, host, &tell(&head, head.host(), peer, &[], "r-1"), upgrade, &mut out);
        String::from_utf8(out).unwrap()
    }

    const TOLD: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\
                        Forwarded: for=192.0.2.7;host=a;proto=http\r\nX-Request-Id: r-1\r\n\r\n";

    #[test]
    fn a_head_keeps_its_order_and_its_capitals() {
        let head = "POST /b?c HTTP/1.1\r\nhost: a\r\nX-B: 1\r\nx-a:  2 \r\nX-B: 3\r\nContent-Length: 2\r\n";
        assert_eq!(written(&format!("{head}\r\n")), format!("{}{TOLD}", head.replace("x-a:  2 ", "x-a: 2")),);
    }

    #[test]
    fn what_is_about_the_clients_connection_ends_here() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop, Host\r\nX-Hop: 1\r\nTE: trailers\r\n\
                    Keep-Alive: 5\r\nForwarded: for=6.6.6.6\r\nX-REQUEST-ID: a b\r\nClient-Cert: :AA==:\r\n\
                    CLIENT_CERT: x\r\n\r\n";
        assert_eq!(written(head), format!("GET / HTTP/1.1\r\nHost: a\r\n{TOLD}"));
    }

    #[test]
    fn an_http_1_0_head_goes_on_as_http_1_1() {
        for (head, start) in [
            (
                "GET /a HTTP/1.0\r\nX: 1\r\nExpect: 100-continue\r\n",
                "GET /a HTTP/1.1\r\nHost: 10.0.0.1:80\r\nX: 1\r\nX-F",
            ),
            ("GET /a HTTP/1.0\r\nhost: b\r\nConnection: keep-alive\r\n", "GET /a HTTP/1.1\r\nhost: b\r\nX-F"),
            ("GET http://c/a HTTP/1.0\r\n", "GET /a HTTP/1.1\r\nHost: c\r\nX-F"),
        ] {
            let written = written(&format!("{head}\r\n"));
            assert!(written.starts_with(start), "{written}");
        }
    }

    #[test]
    fn an_upgrade_is_asked_for_as_it_may_be() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c, WebSocket\r\n\r\n";
        let written = |upgrade| written_with(head, upgrade);
        assert!(
            written(Some("websocket")).ends_with("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        );
        assert!(!written(None).contains("pgrade"));
    }

    #[test]
    fn an_absolute_target_goes_on_as_a_path_and_a_host() {
        for (target, path) in [("http://a/b?c", "/b?c"), ("http://a", "/"), ("http://a?c", "/?c")] {
            let written = written(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(
                written.starts_with(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For")),
                "{written}"
            );
        }
    }
}
