//! What is kept beyond its time: asked about, and used where servers fail.

use super::{answer, app, get, shop};
use crate::support::app::{App, Then, send, status};
use crate::support::client::Response;
use crate::support::ways::{Asked, Way};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

#[test]
fn what_is_over_is_asked_about_and_renewed() {
    let app = app();
    let shop = shop(&app, "{}");
    let target = "/with/cache-control:no-cache&etag:%22x%22&content-type:text/plain";
    let first = shop.ask(Way::Http11, Asked::get(target));
    assert_eq!((first.text().as_str(), app.last().has("if-none-match")), ("answer 1", false));
    for (count, way) in [(2, Way::Http11), (3, Way::H2), (4, Way::Http10)] {
        let response = shop.ask(way, Asked::get(target));
        assert_eq!(
            (response.status, response.text(), response.complete),
            (200, "answer 1".to_owned(), true),
            "{way:?}"
        );
        // Its head says what the 304 has said.
        let fields = ["x-count", "content-type", "content-length"].map(|name| response.field(name));
        assert_eq!(fields, [count.to_string().as_str(), "text/plain", "8"], "{way:?}");
        assert_eq!(app.last().field("if-none-match"), "\"x\"");
        assert_eq!(response.field("cache-status"), "evenkeel; fwd=stale; fwd-status=304; stored; ttl=0");
    }
    // A client's own condition is not passed on, and is answered by what is kept.
    let response = shop.ask(Way::Http11, get(target, &[("if-none-match", "\"x\"")]));
    assert_eq!((response.status, response.text()), (304, String::new()));
    assert_eq!(app.last().field("if-none-match"), "\"x\"");
    let response = shop.ask(Way::Http11, get(target, &[("if-none-match", "\"y\""), ("range", "bytes=0-1")]));
    assert_eq!((response.status, response.text()), (206, "an".to_owned()));
    assert_eq!((app.last().field("if-none-match").as_str(), app.last().has("range")), ("\"x\"", false));
    shop.balancer.wait_for_metric("evenkeel_cache_requests_total", &[("result", "revalidated")], 5.0);
}

/// As with a whole response: who has caused it gets it, and nobody else.
#[test]
fn what_a_304_has_for_its_own_client_goes_to_that_client() {
    let app = app();
    let shop = shop(&app, "{ drop_set_cookie: true }");
    for (control, fields) in [("max-age=0", 1), ("max-age=0,+no-cache=%22x-own%22", 2)] {
        let names = ["set-cookie", "x-own"];
        let target = format!("/with/cache-control:{control}&etag:%22x%22&set-cookie:a=b&x-own:c");
        let own =
            |response: &Response| names[..fields].iter().map(|name| response.field(name)).collect::<Vec<_>>();
        for way in Way::ALL {
            let response = shop.ask(way, Asked::get(&target));
            assert_eq!(own(&response), ["a=b", "c"][..fields], "{way:?} {control}");
        }
    }
    let condition = get(
        "/with/cache-control:max-age=0&etag:%22x%22&set-cookie:a=b&x-own:c",
        &[("if-none-match", "\"x\"")],
    );
    let response = shop.ask(Way::Http11, condition);
    assert_eq!((response.status, response.field("set-cookie").as_str()), (304, "a=b"));
    shop.balancer.wait_for_metric("evenkeel_cache_requests_total", &[("result", "revalidated")], 7.0);
}

#[test]
fn a_304_of_something_else_is_asked_again_without_conditions() {
    let app = App::new(|request, stream| match request.has("if-none-match") {
        true => send(stream, "HTTP/1.1 304 Not Modified\r\nETag: \"other\"\r\n\r\n"),
        false => send(
            stream,
            "HTTP/1.1 200 OK\r\nCache-Control: no-cache\r\nETag: \"x\"\r\nContent-Length: 4\r\n\r\nbody",
        ),
    });
    let shop = shop(&app, "{}");
    for way in Way::ALL {
        let response = shop.ask(way, Asked::get("/"));
        assert_eq!((response.status, response.text()), (200, "body".to_owned()), "{way:?}");
    }
}

/// An app that says what it is told to, or fails as `how` says: 0 not at all, 1 by 503, 2 by closing.
fn failing(how: &Arc<AtomicUsize>) -> App {
    let (how, asked) = (Arc::clone(how), AtomicUsize::new(0));
    App::new(move |request, stream| match how.load(SeqCst) {
        0 => answer(request, stream, asked.fetch_add(1, SeqCst) + 1),
        1 => status(stream, "503 Service Unavailable", "broken"),
        _ => Then::Close,
    })
}

#[test]
fn a_304_without_a_date_is_of_the_moment_it_came() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let app = App::new(move |request, stream| {
        count.fetch_add(1, SeqCst);
        match request.has("if-none-match") {
            true => {
                send(stream, "HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=600\r\nETag: \"x\"\r\n\r\n")
            }
            // It has been on its way for so long that it is over.
            false => send(
                stream,
                "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nCache-Control: max-age=600\r\nETag: \"x\"\r\n\
                 Content-Length: 4\r\n\r\nbody",
            ),
        }
    });
    let shop = shop(&app, "{}");
    for (asked_by_then, status) in
        [(1, "fwd=uri-miss; stored"), (2, "fwd=stale; fwd-status=304; stored"), (2, "hit"), (2, "hit")]
    {
        let response = shop.ask(Way::Http11, Asked::get("/"));
        let told = response.field("cache-status");
        assert!(response.text() == "body" && told.starts_with(&format!("evenkeel; {status}")), "{told}");
        assert_eq!(asked.load(SeqCst), asked_by_then, "{told}");
        assert!(asked_by_then == 1 || told.contains("ttl=600") || told.contains("ttl=599"), "{told}");
    }
}

#[test]
fn what_is_over_is_kept_until_what_takes_its_place_is_whole() {
    // 0 serves, 1 breaks off in the middle, 2 closes, 3 serves what may not be kept.
    for way in [Way::Http11, Way::H2] {
        let how = Arc::new(AtomicUsize::new(0));
        let says = Arc::clone(&how);
        let app = App::new(move |_, stream| {
            let head = |control: &str, length: usize| {
                format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: {length}\r\n\r\nbody")
            };
            match says.load(SeqCst) {
                0 => send(stream, &head("max-age=0, stale-if-error=600", 4)),
                1 => {
                    let _ = send(stream, &head("max-age=0, stale-if-error=600", 1000));
                    Then::Close
                }
                2 => Then::Close,
                _ => send(stream, &head("no-store", 4)),
            }
        });
        let shop = shop(&app, "{}");
        let ask = |state: usize| {
            how.store(state, SeqCst);
            let response = shop.ask(way, Asked::get("/"));
            (response.status, response.complete)
        };
        assert_eq!(ask(0), (200, true));
        assert_eq!(ask(2), (200, true), "{way:?}: what is over");
        assert!(!ask(1).1, "{way:?}: its own client has a part");
        assert_eq!(ask(2), (200, true), "{way:?}: what is over still");
        assert_eq!(ask(3), (200, true));
        assert_eq!(ask(2).0, 502, "{way:?}: it is not there any more");
    }
}

#[test]
fn what_is_over_is_used_while_servers_fail_where_nobody_forbids_it() {
    for (cache, control, is_used) in [
        ("{ stale_if_error: 1h }", "max-age=0", true),
        ("{}", "max-age=0,stale-if-error=60", true),
        ("{}", "max-age=0", false),
        ("{ stale_if_error: 1h }", "max-age=0,must-revalidate", false),
        ("{ stale_if_error: 1h }", "max-age=0,proxy-revalidate", false),
        ("{ stale_if_error: 1h }", "s-maxage=0", false),
        ("{ stale_if_error: 1h }", "no-cache", false),
    ] {
        let how = Arc::default();
        let app = failing(&how);
        let shop = shop(&app, cache);
        let target = format!("/with/cache-control:{control}&etag:%22x%22");
        for way in [Way::Http11, Way::Http11Tls] {
            assert_eq!(shop.ask(way, Asked::get(&target)).status, 200);
        }
        for (state, failed, reason) in [(1, 503, "fwd-status=503"), (2, 502, "detail=\"server_reset\"")] {
            how.store(state, SeqCst);
            shop.each(Asked::get(&target), |way, response| {
                let expected = if is_used { 200 } else { failed };
                assert_eq!(
                    (response.status, response.complete),
                    (expected, true),
                    "{control} {state} {way:?}"
                );
                let told = response.field("cache-status").contains(reason);
                assert!(
                    !is_used || told && response.text().starts_with("answer"),
                    "{control} {state} {way:?}"
                );
            });
        }
        if is_used {
            let record = shop.balancer.record_where("stale", |record| record["cache"] == "stale");
            assert_eq!((&record["why"], &record["status"]), (&"ok".into(), &200.into()));
        }
        drop(app);
        shop.each(Asked::get(&target), |way, response| {
            let expected = if is_used { 200 } else { 502 };
            assert_eq!(response.status, expected, "{control} {way:?}: nobody is there");
        });
    }
}

/// A client that has asked wrongly is told so, and nobody else loses what is kept for the day when servers fail.
#[test]
fn what_is_kept_is_no_worse_for_a_client_that_asks_wrongly() {
    for status in ["400 Bad Request", "429 Too Many Requests", "431 Request Header Fields Too Large"] {
        let has_failed = Arc::new(AtomicBool::new(false));
        let app = App::new({
            let has_failed = Arc::clone(&has_failed);
            move |request, stream| {
                let head = match (has_failed.load(SeqCst), request.has("x-wrong")) {
                    (true, _) => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4".to_owned(),
                    (false, true) => format!("HTTP/1.1 {status}\r\nContent-Length: 4"),
                    (false, false) => {
                        "HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\nContent-Length: 4".to_owned()
                    }
                };
                send(stream, &format!("{head}\r\n\r\nbody"))
            }
        });
        let shop = shop(&app, "{ stale_if_error: 1h }");
        assert_eq!(shop.ask(Way::Http11, Asked::get("/")).status, 200);
        let wrong = shop.ask(Way::Http11, get("/", &[("X-Wrong", "1")]));
        assert_eq!(wrong.status.to_string(), status[..3], "it has its own answer");
        has_failed.store(true, SeqCst);
        for way in [Way::Http10, Way::Http11, Way::H2] {
            let response = shop.ask(way, Asked::get("/"));
            assert_eq!((response.status, response.text()), (200, "body".to_owned()), "{status} {way:?}");
        }
    }
}

#[test]
fn a_client_that_is_obeyed_has_its_way_and_others_have_not() {
    let target = "/with/cache-control:max-age=60&etag:%22x%22";
    for (cache, said, hits) in [
        ("{}", "no-cache", 1),
        ("{}", "no-store", 1),
        ("{ obey_client: true }", "no-cache", 2),
        ("{ obey_client: true }", "max-age=0", 2),
        ("{ obey_client: true }", "min-fresh=90", 2),
        ("{ obey_client: true }", "no-store", 2),
    ] {
        let app = app();
        let shop = shop(&app, cache);
        shop.ask(Way::Http11, Asked::get(target));
        let response = shop.ask(Way::Http11, get(target, &[("cache-control", said)]));
        assert_eq!((response.status, app.hits()), (200, hits), "{cache} {said}");
    }
    let app = app();
    let shop = shop(&app, "{}");
    let only = [("cache-control", "only-if-cached")];
    shop.each(get(target, &only), |way, response| assert_eq!(response.status, 504, "{way:?}"));
    assert_eq!(app.hits(), 0);
    shop.ask(Way::Http11, Asked::get(target));
    assert_eq!(shop.ask(Way::H2, get(target, &only)).text(), "answer 1");
}
