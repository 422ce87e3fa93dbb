use super::*;
use crate::wire::request_head::{RequestHeadVerdict, sample_head};
use http::HeaderMap;

fn written(text: &str) -> String {
    let head = sample_head(text);
    let mut out = Vec::new();
    write_http1(&RequestView::from(&head), &Edits::default(), "10.0.0.1:80", &mut out);
    String::from_utf8(out).expect("text")
}

fn parts(method: &str, uri: &str, fields: &[(&'static str, &str)]) -> Parts {
    let request = Request::builder().method(method).uri(uri).version(Version::HTTP_2);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).expect("a request").into_parts().0
}

fn written_parts(head: &Parts, has_body: bool) -> String {
    let mut out = Vec::new();
    write_http1(&RequestView::of_parts(head, has_body), &Edits::default(), "", &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn a_head_without_edits_leaves_as_it_came() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /b?c HTTP/1.1\r\nhost: a\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\nContent-Length: 2\r\n\r\n",
        "PUT /%20 HTTP/1.1\r\nX: \r\nHOST: a:80\r\ntransfer-encoding: Chunked\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(written(text), text);
    }
}

#[test]
fn an_absolute_target_goes_on_as_a_path_and_a_host() {
    for (target, path) in [("http://a/b?c", "/b?c"), ("http://a", "/"), ("http://a?c", "/?c")] {
        let written = written(&format!("GET {target} HTTP/1.1\r\nX: 1\r\nhost: a\r\n\r\n"));
        assert_eq!(written, format!("GET {path} HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n"));
    }
}

#[test]
fn a_request_that_names_no_host_gets_one() {
    for (head, expected) in [
        ("GET /a HTTP/1.0\r\nX: 1\r\n\r\n", "GET /a HTTP/1.1\r\nHost: 10.0.0.1:80\r\nX: 1\r\n\r\n"),
        ("GET /a HTTP/1.0\r\nhost: b\r\n\r\n", "GET /a HTTP/1.1\r\nhost: b\r\n\r\n"),
        ("GET http://c/a HTTP/1.0\r\n\r\n", "GET /a HTTP/1.1\r\nHost: c\r\n\r\n"),
    ] {
        assert_eq!(written(head), expected);
    }
}

#[test]
fn a_head_of_http2_is_written_as_http1_has_it() {
    let head = parts(
        "POST",
        "https://a.example/b?c",
        &[("host", "a.example"), ("x-request-id", "r-1"), ("te", "trailers")],
    );
    assert_eq!(
        written_parts(&head, true),
        "POST /b?c HTTP/1.1\r\nHost: a.example\r\nX-Request-Id: r-1\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let head = parts("POST", "https://a/", &[("content-length", "5")]);
    assert_eq!(written_parts(&head, true), "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
}

#[test]
fn a_request_that_might_have_a_body_says_that_it_has_none() {
    for (method, length, expected) in [
        ("POST", None, "Content-Length: 0\r\n"),
        ("PUT", None, "Content-Length: 0\r\n"),
        ("PATCH", None, "Content-Length: 0\r\n"),
        ("POST", Some("0"), "Content-Length: 0\r\n"),
        ("GET", None, ""),
        ("DELETE", None, ""),
    ] {
        let fields: Vec<_> = length.into_iter().map(|length| ("content-length", length)).collect();
        let head = parts(method, "http://a/", &fields);
        assert_eq!(written_parts(&head, false), format!("{method} / HTTP/1.1\r\n{expected}\r\n"));
    }
}

fn fields(request: &Request<()>) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
    request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

#[test]
fn a_head_goes_by_http2_without_what_frames_it_in_http1() {
    let head = sample_head(
        "POST http://b?d HTTP/1.1\r\nHost: b\r\nX-A: 1\r\ntransfer-encoding: chunked\r\nX-A: 2\r\n\r\n",
    );
    let request = http2(&RequestView::from(&head), &Edits::default(), "", true).expect("it has a form");
    assert_eq!((request.method(), request.uri().to_string()), (&Method::POST, "https://b/?d".to_owned()));
    let expected = [("x-a", "1"), ("x-a", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(fields(&request), expected);
}

#[test]
fn a_host_will_do_for_an_authority() {
    for (text, uri) in [
        ("GET /b HTTP/1.1\r\nHost: a:80\r\n\r\n", "http://a:80/b"),
        ("GET /b HTTP/1.0\r\n\r\n", "http://10.0.0.1:80/b"),
    ] {
        let head = sample_head(text);
        let request = http2(&RequestView::from(&head), &Edits::default(), "10.0.0.1:80", false);
        assert_eq!(request.expect("it has a form").uri(), uri);
    }
    let head = parts("GET", "http://a.example/b?c", &[("host", "a.example"), ("te", "trailers")]);
    let request = http2(&RequestView::of_parts(&head, false), &Edits::default(), "", true).expect("a form");
    assert_eq!(request.uri(), "https://a.example/b?c");
    assert_eq!(request.headers().keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["te"]);
    let no_host = sample_head("GET /b HTTP/1.0\r\n\r\n");
    let missing = http2(&RequestView::from(&no_host), &Edits::default(), "", false).err();
    assert_eq!(missing, Some(NoHttp2Form::Host));
}

/// What is found out by bytes is what the codec's own types say.
#[test]
fn a_head_misses_a_form_in_http2_exactly_where_none_can_be_made() {
    let visible = || (0x21..=0x7e).map(char::from).filter(|byte| *byte != '#');
    let targets =
        visible().flat_map(|byte| [format!("/a{byte}b"), format!("/a?b{byte}c"), format!("/{byte}")]);
    let hosts = visible().flat_map(|byte| [format!("a{byte}b"), format!("{byte}"), format!("[{byte}]:80")]);
    let long = |n: usize| format!("/{}", "x".repeat(n));
    let other_hosts =
        ["a:", "a:99999", "[::1]", "[::1]:", "[1:2:3:4:5:6:7:8:9:a]", "a%41", "%41:80", "[fe80::1%25e]"];
    let heads = targets
        .chain([long(65_533), long(65_534), "*".to_owned(), "http://a?b".to_owned(), "http://a".to_owned()])
        .map(|target| (target, "a".to_owned()))
        .chain(hosts.chain(other_hosts.map(str::to_owned)).map(|host| ("/".to_owned(), host)));
    let (mut with, mut without) = (0, Vec::new());
    for (target, host) in heads {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        let text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        // What is no head at all does not come so far.
        let RequestHeadVerdict::Complete(form) = request_head::judge(text.as_bytes(), 1 << 20) else {
            continue;
        };
        let head = Head::new(text.into(), form);
        let view = RequestView::from(&head);
        let made = http2(&view, &Edits::default(), "", false);
        assert_eq!(
            misses_http2_form(&view),
            made.as_ref().err().copied(),
            "{} {host}",
            &target[..target.len().min(9)]
        );
        match made {
            Ok(_) => with += 1,
            Err(_) => without.push(if host == "a" { target } else { host }),
        }
    }
    assert!(with > 400, "{with}");
    without.retain(|part| part.len() < 80);
    for part in ["/a<b", "/a>b", "/a`b", "/a?b\"c", "/a?b<c", "a%b", "a%41", "[1:2:3:4:5:6:7:8:9:a]"] {
        assert!(without.iter().any(|one| one == part), "{part}: {without:?}");
    }
}

#[test]
fn a_target_of_which_nothing_is_left_is_a_slash() {
    let head = sample_head("GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n");
    let view = RequestView { path_and_query: "", ..RequestView::from(&head) };
    let mut out = Vec::new();
    write_http1(&view, &Edits::default(), "", &mut out);
    assert_eq!(String::from_utf8(out).expect("text"), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(http2(&view, &Edits::default(), "", false).expect("a form").uri(), "http://a/");
}

#[test]
fn its_parts_are_the_same_in_both_forms() {
    let raw = sample_head("GET /a/b?c=d HTTP/1.1\r\nHost: h\r\nX: 1\r\nContent-Length: 7\r\n\r\n");
    let map = parts("GET", "http://h/a/b?c=d", &[("host", "h"), ("x", "1"), ("content-length", "7")]);
    let (raw, map) = (RequestView::from(&raw), RequestView::of_parts(&map, true));
    for view in [raw, map] {
        assert_eq!((view.method, view.host, view.path), (&Method::GET, Some("h"), "/a/b"));
        assert_eq!((view.path_and_query, view.query, view.length()), ("/a/b?c=d", "c=d", Some(7)));
    }
    assert_eq!((raw.protocol(), map.protocol()), ("HTTP/1.1", "HTTP/2.0"));
    let mut from_raw = HeaderMap::new();
    raw.fields.each().for_each(|field| field.append_to(&mut from_raw));
    assert_eq!(FieldList::Map(&from_raw).count(), map.fields.count());
}

#[test]
fn an_upgrade_is_asked_for_by_two_fields() {
    for (fields, asks) in [
        ("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n", true),
        ("Connection: Upgrade\r\n", false),
        ("Connection: keep-alive\r\nUpgrade: websocket\r\n", false),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n", false),
    ] {
        let head = sample_head(&format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        assert_eq!(RequestView::from(&head).asks_for_upgrade(), asks, "{fields}");
    }
}

#[test]
fn where_a_body_is_usual_its_absence_is_told_whatever_the_client_speaks() {
    for (method, told) in [("POST", true), ("PUT", true), ("PATCH", true), ("GET", false), ("DELETE", false)]
    {
        for version in ["1.0", "1.1"] {
            let sent = written(&format!("{method} / HTTP/{version}\r\nHost: a\r\n\r\n"));
            assert_eq!(sent.contains("\r\nContent-Length: 0\r\n"), told, "{method} {version}");
        }
    }
}
