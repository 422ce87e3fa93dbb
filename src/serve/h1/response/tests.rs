use super::*;

const PLAIN: To<'_> = To {
    head_request: false,
    upgrade: None,
    is_http_11: true,
    may_go_on: true,
    hsts: None,
    now: SystemTime::UNIX_EPOCH,
};
const DATE: &str = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";

fn check(text: &str, to: To<'_>) -> (Form, String) {
    let mut out = Vec::new();
    match read(text.as_bytes(), to, &mut out) {
        Verdict::Complete(form) => (form, String::from_utf8(out).unwrap()),
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[test]
fn a_head_goes_on_without_what_is_about_the_servers_connection() {
    let text = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
                Keep-Alive: max=9, timeout=7\r\nX-B: 1\r\nX-A: 2\r\n\r\nhello";
    let (form, out) = check(text, PLAIN);
    assert_eq!(out, format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-B: 1\r\nX-A: 2\r\n{DATE}\r\n"));
    let length = text.len() - 5;
    let expected = Form {
        length,
        status: 200,
        body: Body::Length(5),
        keeps: true,
        goes_on: true,
        is_websocket: false,
        hint: Some(7),
    };
    assert_eq!(form, expected);
}

#[test]
fn a_body_ends_as_the_head_says() {
    let chunked = Body::Chunked(Chunks::new());
    for (head, body, keeps) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", chunked, true),
        ("HTTP/1.1 200 OK\r\n\r\n", Body::UntilClose, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", Body::Length(0), true),
        ("HTTP/1.1 999 Denied\r\nContent-Length: 5\r\n\r\n", Body::Length(5), true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Body::Length(0), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\n", Body::Length(5), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Body::Length(5), false),
        ("HTTP/1.0 200\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", Body::Length(5), true),
    ] {
        let (form, _) = check(head, PLAIN);
        assert_eq!((form.body, form.keeps), (body, keeps), "{head:?}");
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(check(head, To { head_request: true, ..PLAIN }).0.body, Body::Length(0));
}

#[test]
fn a_client_is_told_when_its_connection_ends() {
    let closes = To { may_go_on: false, ..PLAIN };
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert!(check(head, closes).1.ends_with("\r\nConnection: close\r\n\r\n"));
    assert!(check("HTTP/1.1 200 OK\r\n\r\n", PLAIN).1.ends_with("\r\nConnection: close\r\n\r\n"));
    assert!(!check("HTTP/1.1 100 Continue\r\n\r\n", closes).1.contains("close"));
}

#[test]
fn an_http_1_0_client_gets_nothing_that_it_does_not_know() {
    let older = To { is_http_11: false, ..PLAIN };
    for (head, to, goes_on, written) in [
        ("Content-Length: 5\r\n", older, true, "Content-Length: 5\r\nConnection: keep-alive\r\n"),
        (
            "Content-Length: 5\r\n",
            To { may_go_on: false, ..older },
            false,
            "Content-Length: 5\r\nConnection: close\r\n",
        ),
        ("Transfer-Encoding: chunked\r\nX: 1\r\n", older, false, "X: 1\r\nConnection: close\r\n"),
        (
            "Transfer-Encoding: chunked\r\nX: 1\r\n",
            To { head_request: true, ..older },
            true,
            "X: 1\r\nConnection: keep-alive\r\n",
        ),
        ("X: 1\r\n", older, false, "X: 1\r\nConnection: close\r\n"),
    ] {
        let (form, out) = check(&format!("HTTP/1.1 200 OK\r\n{head}\r\n"), to);
        let (fields, connection) = written.split_once("Connection").unwrap();
        let expected = format!("HTTP/1.1 200 OK\r\n{fields}{DATE}Connection{connection}\r\n");
        assert_eq!((form.goes_on, out), (goes_on, expected), "{head:?}");
    }
    assert_eq!(check("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", older).1, "");
}

#[test]
fn a_server_that_speaks_of_its_transport_is_not_contradicted() {
    let to = To { hsts: Some("max-age=1"), ..PLAIN };
    let written =
        |fields: &str, to| check(&format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"), to).1;
    assert!(written("", to).contains("\r\nStrict-Transport-Security: max-age=1\r\n"));
    let own = written("strict-transport-security: max-age=2\r\n", to);
    assert!(own.contains("max-age=2") && !own.contains("max-age=1"));
    assert!(!written("", PLAIN).contains("Transport"));
    assert!(!check("HTTP/1.1 100 Continue\r\n\r\n", to).1.contains("Transport"));
}

#[test]
fn a_websocket_begins_where_one_was_asked_for() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let (form, out) = check(head, To { upgrade: Some("websocket"), ..PLAIN });
    assert!(!form.is_interim() && form.is_websocket);
    assert_eq!(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
}

#[test]
fn a_connection_switches_to_what_was_asked_for() {
    for (asked, upgrade, passes, is_websocket) in [
        ("tcp", "Upgrade: tcp\r\n", true, false),
        ("tcp", "Upgrade: TCP\r\n", true, false),
        ("tcp", "", true, false),
        ("websocket", "", true, true),
        ("tcp", "Upgrade: websocket\r\n", false, false),
        ("tcp, websocket", "Upgrade: websocket\r\n", true, true),
        ("tcp, websocket", "", false, false),
    ] {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}Connection: upgrade\r\n\r\n");
        let read = read(head.as_bytes(), To { upgrade: Some(asked), ..PLAIN }, &mut Vec::new());
        match read {
            Verdict::Complete(form) => {
                assert!(passes && form.is_websocket == is_websocket, "{asked} {upgrade}")
            }
            _ => assert!(!passes, "{asked} {upgrade}"),
        }
    }
}

#[test]
fn a_response_without_a_body_has_no_framing() {
    let length = "Content-Length: 5\r\n";
    let chunks = "Transfer-Encoding: chunked\r\n";
    for (status, fields, stays) in [
        (204, length, ""),
        (204, chunks, ""),
        (103, length, ""),
        (103, chunks, ""),
        (304, length, length),
        (304, chunks, ""),
    ] {
        let (form, out) = check(&format!("HTTP/1.1 {status} X\r\n{fields}\r\n"), PLAIN);
        assert_eq!(form.body, Body::Length(0), "{status} {fields}");
        let date = if status < 200 { "" } else { DATE };
        assert_eq!(out, format!("HTTP/1.1 {status} X\r\n{stays}{date}\r\n"));
    }
}

#[test]
fn an_upgrade_is_named_where_it_is_asked_for_only() {
    let written = |status: u16, connection: &str, to| {
        let head = format!(
            "HTTP/1.1 {status} X\r\nDate: x\r\nUpgrade: h2c\r\n{connection}Content-Length: 0\r\n\r\n"
        );
        let (_, out) = check(&head, to);
        out.split_once("Date: x\r\n").unwrap().1.replace("Content-Length: 0\r\n", "")
    };
    let closes = To { may_go_on: false, ..PLAIN };
    for nominated in ["", "Connection: Upgrade\r\n"] {
        assert_eq!(written(426, nominated, PLAIN), "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n");
        assert_eq!(written(426, nominated, closes), "Upgrade: h2c\r\nConnection: close, Upgrade\r\n\r\n");
        // A browser must not be told of its server's protocols.
        assert_eq!(written(200, nominated, PLAIN), "\r\n");
    }
}

#[test]
fn a_date_is_added_where_there_is_none() {
    assert!(check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", PLAIN).1.contains(DATE));
    let own = check("HTTP/1.1 200 OK\r\ndate: x\r\nContent-Length: 0\r\n\r\n", PLAIN).1;
    assert!(own.contains("date: x\r\n") && !own.contains("Date"));
    assert!(!check("HTTP/1.1 100 Continue\r\n\r\n", PLAIN).1.contains("Date"));
}

#[test]
fn a_length_beside_chunks_goes_no_further() {
    let (form, out) =
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", PLAIN);
    assert_eq!(form.body, Body::Chunked(Chunks::new()));
    assert_eq!(out, format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{DATE}\r\n"));
}

#[test]
fn a_response_that_can_be_read_two_ways_is_refused() {
    let options = format!("HTTP/1.1 200 OK\r\nConnection: {}\r\n\r\n", ",".repeat(MOST_OPTIONS));
    for text in [
        &options,
        "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "not HTTP at all\r\n\r\n",
        "HTTP/1.1 099 Odd\r\n\r\n",
        "HTTP/1.1 1000 Odd\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert!(matches!(read(text.as_bytes(), PLAIN, &mut Vec::new()), Verdict::Refused(_)), "{text:?}");
    }
    assert_eq!(read(b"HTTP/1.1 200 OK\r\nX:", PLAIN, &mut Vec::new()), Verdict::Partial);
}
