use super::*;

const PLAIN: To<'_> = To { head_request: false, upgrade: None, is_http_11: true, may_go_on: true };

/// Who gets a response.
#[derive(Clone, Copy)]
struct To<'a> {
    head_request: bool,
    upgrade: Option<&'a str>,
    is_http_11: bool,
    may_go_on: bool,
}

fn read(text: &str, to: To<'_>) -> ResponseHeadVerdict {
    read_fields(text, to).0
}

fn read_fields(text: &str, to: To<'_>) -> (ResponseHeadVerdict, FieldSpans) {
    let mut fields = FieldSpans::new();
    let to = ResponseTo { is_head_request: to.head_request, upgrade: to.upgrade };
    (judge(text.as_bytes(), to, &mut fields), fields)
}

/// What the head says, whether the client's connection goes on, and what is written.
fn check(text: &str, to: To<'_>) -> (ResponseHeadForm, bool, String) {
    let (ResponseHeadVerdict::Complete(form), fields) = read_fields(text, to) else {
        panic!("{text:?} is refused")
    };
    let view = form.view(text.as_bytes(), &fields);
    let framing = Framing::of(&view, to.head_request, to.is_http_11);
    let may_go_on = to.may_go_on && framing != Framing::UntilClose;
    let mut out = Vec::new();
    let terms = Http1Terms { is_http_11: to.is_http_11, framing, may_go_on };
    write_http1(&view, &Edits::default(), terms, &mut out);
    (form, may_go_on, String::from_utf8(out).expect("text"))
}

#[test]
fn a_head_without_edits_leaves_as_it_came() {
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\n\r\n",
        "HTTP/1.1 200 Fine by me\r\nTransfer-Encoding: Chunked\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 \r\nX: \r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
    ] {
        assert_eq!(check(text, PLAIN).2, text);
    }
}

#[test]
fn what_a_head_says_is_known() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nKeep-Alive: max=9, timeout=7\r\n\r\nhello";
    let (form, ..) = check(text, PLAIN);
    assert_eq!((form.length, form.status, form.body), (text.len() - 5, 200, ResponseBodyEnd::Length(5)));
    assert_eq!((form.keeps, form.is_websocket, form.hint), (true, false, Some(7)));
}

#[test]
fn a_body_ends_as_the_head_says() {
    let chunked = ResponseBodyEnd::Chunked(Chunks::of_response());
    for (head, body, keeps) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", chunked, true),
        ("HTTP/1.1 200 OK\r\n\r\n", ResponseBodyEnd::UntilClose, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", ResponseBodyEnd::Length(0), true),
        ("HTTP/1.1 999 Denied\r\nContent-Length: 5\r\n\r\n", ResponseBodyEnd::Length(5), true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", ResponseBodyEnd::Length(0), true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\n",
            ResponseBodyEnd::Length(5),
            false,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", ResponseBodyEnd::Length(5), false),
        (
            "HTTP/1.0 200\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
            ResponseBodyEnd::Length(5),
            true,
        ),
    ] {
        let (form, ..) = check(head, PLAIN);
        assert_eq!((form.body, form.keeps), (body, keeps), "{head:?}");
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(check(head, To { head_request: true, ..PLAIN }).0.body, ResponseBodyEnd::Length(0));
}

#[test]
fn a_client_is_told_when_its_connection_ends() {
    let closes = To { may_go_on: false, ..PLAIN };
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert!(check(head, closes).2.ends_with("\r\nConnection: close\r\n\r\n"));
    assert!(check("HTTP/1.1 200 OK\r\n\r\n", PLAIN).2.ends_with("\r\nConnection: close\r\n\r\n"));
    assert!(!check("HTTP/1.1 100 Continue\r\n\r\n", closes).2.contains("close"));
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
        let (_, may_go_on, out) = check(&format!("HTTP/1.1 200 OK\r\n{head}\r\n"), to);
        assert_eq!((may_go_on, out), (goes_on, format!("HTTP/1.1 200 OK\r\n{written}\r\n")), "{head:?}");
    }
}

#[test]
fn a_websocket_begins_where_one_was_asked_for() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let (form, ..) = check(head, To { upgrade: Some("websocket"), ..PLAIN });
    assert!(!form.is_interim() && form.is_websocket);
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
        let read = read(&head, To { upgrade: Some(asked), ..PLAIN });
        match read {
            ResponseHeadVerdict::Complete(form) => {
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
        let (form, _, out) = check(&format!("HTTP/1.1 {status} X\r\n{fields}\r\n"), PLAIN);
        assert_eq!(form.body, ResponseBodyEnd::Length(0), "{status} {fields}");
        assert_eq!(out, format!("HTTP/1.1 {status} X\r\n{stays}\r\n"));
    }
}

#[test]
fn a_length_beside_chunks_goes_no_further() {
    let (form, _, out) =
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", PLAIN);
    assert_eq!(form.body, ResponseBodyEnd::Chunked(Chunks::of_response()));
    assert_eq!(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
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
        assert!(matches!(read(text, PLAIN), ResponseHeadVerdict::Refused(_)), "{text:?}");
    }
    assert_eq!(read("HTTP/1.1 200 OK\r\nX:", PLAIN), ResponseHeadVerdict::Partial);
}

#[test]
fn a_connection_that_ends_says_what_could_be_spoken_on_it() {
    let head = "HTTP/1.1 426 X\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n";
    let ends = To { may_go_on: false, ..PLAIN };
    assert!(check(head, PLAIN).2.ends_with("Connection: Upgrade\r\n\r\n"));
    assert!(check(head, ends).2.ends_with("Connection: close, Upgrade\r\n\r\n"));
}

#[test]
fn a_response_of_http2_is_framed_for_http1() {
    let map = |fields: &[(&'static str, &'static str)]| {
        let field =
            |(name, value): &(&'static str, &'static str)| (name.parse().unwrap(), value.parse().unwrap());
        fields.iter().map(field).collect::<HeaderMap>()
    };
    for (status, fields, body, is_http_11, expected) in [
        (200, &[("x-a", "1")][..], BodyKind::Streamed, true, "X-A: 1\r\nTransfer-Encoding: chunked\r\n"),
        (200, &[], BodyKind::Streamed, false, "Connection: close\r\n"),
        (200, &[("content-length", "5")], BodyKind::Streamed, true, "Content-Length: 5\r\n"),
        (200, &[], BodyKind::Empty, true, "Content-Length: 0\r\n"),
        (204, &[("content-length", "5")], BodyKind::Empty, true, ""),
        (304, &[("content-length", "5")], BodyKind::Empty, true, "Content-Length: 5\r\n"),
    ] {
        let (status, map) = (StatusCode::from_u16(status).unwrap(), map(fields));
        let view = ResponseView::of_map(status, &map, body);
        let framing = Framing::of(&view, false, is_http_11);
        let terms = Http1Terms { is_http_11, framing, may_go_on: framing != Framing::UntilClose };
        let mut out = Vec::new();
        write_http1(&view, &Edits::default(), terms, &mut out);
        let reason = status.canonical_reason().unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("HTTP/1.1 {} {reason}\r\n{expected}\r\n", status.as_u16())
        );
    }
}

#[test]
fn a_response_goes_by_http2_without_what_frames_it_in_http1() {
    let written = |text: &str| {
        let (ResponseHeadVerdict::Complete(form), fields) = read_fields(text, PLAIN) else {
            panic!("{text:?} is refused")
        };
        let response = http2(&form.view(text.as_bytes(), &fields), &Edits::default()).expect("it has a form");
        let names: Vec<_> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
        (response.status().as_u16(), names.join(" "))
    };
    let chunks = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n";
    assert_eq!(written(chunks), (200, "x-a".to_owned()));
    assert_eq!(written("HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n"), (204, String::new()));
    assert_eq!(written("HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n"), (304, "content-length".to_owned()));
    assert_eq!(written("HTTP/1.1 426 X\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n").1, "content-length");
}
