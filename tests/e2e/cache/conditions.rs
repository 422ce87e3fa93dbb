//! Conditions and parts, answered from what is kept whole.

use super::{app, get, sections, shop};
use crate::support::app::{App, send};
use crate::support::ways::{Asked, Way, Ways};

const TARGET: &str = "/with/cache-control:max-age=60&etag:%22x%22&last-modified:Sun,+06+Nov+1994+08:49:37+GMT&content-type:text/plain";

#[test]
fn what_a_client_has_already_it_is_told_so() {
    let app = app();
    let shop = shop(&app, "{}");
    for way in [Way::Http11, Way::Http11Tls] {
        shop.ask(way, Asked::get(TARGET));
    }
    for (fields, status) in [
        (&[("if-none-match", "\"x\"")][..], 304),
        (&[("if-none-match", "W/\"x\"")], 304),
        (&[("if-none-match", "\"a\", \"x\"")], 304),
        (&[("if-none-match", "\"a\"")], 200),
        (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], 304),
        (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], 200),
        (&[("if-none-match", "\"a\""), ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], 200),
    ] {
        for method in ["GET", "HEAD"] {
            shop.each(Asked { method, ..get(TARGET, fields) }, |way, response| {
                assert_eq!(response.status, status, "{way:?} {fields:?}");
                assert_eq!(response.field("etag"), "\"x\"", "{way:?} {fields:?}");
                if status == 304 {
                    assert_eq!(
                        (response.text(), response.field("content-length")),
                        (String::new(), String::new())
                    );
                }
            });
        }
    }
    assert_eq!(app.hits(), 2);
}

#[test]
fn parts_are_made_of_the_whole() {
    let app = app();
    let shop = shop(&app, "{}");
    for way in [Way::Http11, Way::Http11Tls] {
        // A part is asked for whole, too.
        let first = shop.ask(way, get(TARGET, &[("range", "bytes=0-1")]));
        assert_eq!(
            (first.status, first.text(), first.field("content-range")),
            (206, "an".into(), "bytes 0-1/8".into())
        );
        assert!(!app.last().has("range"));
    }
    let only_if_x = ("if-range", "\"x\"");
    let only_if_y = ("if-range", "\"y\"");
    for (fields, status, body, content_range) in [
        (&[("range", "bytes=0-1")][..], 206, "an", "bytes 0-1/8"),
        (&[("range", "bytes=7-")], 206, if false { "" } else { "?" }, "bytes 7-7/8"),
        (&[("range", "bytes=-8")], 206, "answer ?", "bytes 0-7/8"),
        (&[("range", "bytes=8-")], 416, "", "bytes */8"),
        (&[("range", "bytes=1-0")], 200, "answer ?", ""),
        (&[("range", "lines=1-2")], 200, "answer ?", ""),
        (&[("range", "bytes=0-1"), only_if_x], 206, "an", "bytes 0-1/8"),
        (&[("range", "bytes=0-1"), only_if_y], 200, "answer ?", ""),
        (&[("range", "bytes=0-1"), ("if-none-match", "\"x\"")], 304, "", ""),
    ] {
        shop.each(get(TARGET, fields), |way, response| {
            let count = if matches!(way, Way::Http11Tls | Way::H2Tls) { "2" } else { "1" };
            let got = (response.status, response.text(), response.field("content-range"));
            assert_eq!(
                got,
                (status, body.replace('?', count), content_range.to_owned()),
                "{way:?} {fields:?}"
            );
            assert!(response.complete, "{way:?} {fields:?}");
        });
    }
    shop.each(get(TARGET, &[("range", "bytes=0-0, 2-2, -1")]), |way, response| {
        let content_type = response.field("content-type");
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
        let count = if matches!(way, Way::Http11Tls | Way::H2Tls) { "2" } else { "1" };
        let part = |range: &str, body: &str| {
            format!(
                "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/8\r\n\r\n{body}"
            )
        };
        let parts =
            [part("0-0", "a"), part("2-2", "s"), part("7-7", count), format!("\r\n--{boundary}--\r\n")];
        assert_eq!((response.status, response.text()), (206, parts.concat()), "{way:?}");
    });
    assert_eq!(app.hits(), 2);
}

#[test]
fn a_part_of_what_is_not_kept_is_asked_for_as_a_part() {
    let app = App::new(|request, stream| match request.field("range").as_str() {
        "" => send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall of it"),
        _ => send(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nall",
        ),
    });
    let shop = shop(&app, "{}");
    for way in Way::ALL {
        let response = shop.ask(way, get("/", &[("range", "bytes=0-2")]));
        assert_eq!((response.status, response.text()), (206, "all".to_owned()), "{way:?}");
    }
}

#[test]
fn what_answers_one_clients_own_parts_conditions_and_mistakes_is_kept_for_nobody() {
    // As servers do that say for each answer for how long it is good.
    let app = App::new(|request, stream| {
        let head = |status: &str, control: &str, body: &str| {
            let length = body.len();
            format!("HTTP/1.1 {status}\r\nCache-Control: {control}\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        let answer = match &*request.target {
            _ if request.field("range") == "bytes=99-" => {
                head("416 Range Not Satisfiable", "max-age=3600", "")
            }
            _ if request.has("if-none-match") => head("412 Precondition Failed", "max-age=3600", ""),
            _ if request.field("x-long").len() > 5000 => head("400 Bad Request", "max-age=3600", ""),
            "/private" => head("200 OK", "private", "own"),
            _ => head("200 OK", "max-age=3600", &"long".repeat(10_000)),
        };
        send(stream, &answer)
    });
    let long = "x".repeat(6000);
    let rules = "    - { name: twice, match: { path: /twice/* }, cache: { min_uses: 2 }, pool: app }\n    - { name: all, cache: {}, pool: app }\n";
    let shop =
        Ways::start("routes: shop", &format!("cache: {{ max_object: 10KiB }}\n{}", sections(&app, rules)));
    for target in ["/long", "/private", "/twice/long"] {
        let part = ("range", "bytes=99-");
        for asked in [part, ("x-long", &*long), part, ("if-none-match", "\"z\"")] {
            shop.ask(Way::Http11, get(target, &[asked]));
            let after = shop.ask(Way::Http11, Asked::get(target));
            assert_eq!(after.status, 200, "{target} {}", asked.0);
        }
    }
}
