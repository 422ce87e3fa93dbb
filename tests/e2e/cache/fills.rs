//! Responses on their way into the cache.

use super::{get, shop};
use crate::support::app::{App, Latch, Then, send};
use crate::support::balancer::Balancer;
use crate::support::h2::{Connection, DATA};
use crate::support::wait_for;
use crate::support::ways::{Asked, Way, Ways};
use std::io::{Read, Write};

const LENGTH: usize = 300_000;

fn body() -> String {
    (0..LENGTH).map(|n| char::from(b'a' + (n % 26) as u8)).collect()
}

#[test]
fn a_body_is_kept_whichever_way_it_comes() {
    let app = App::new(|request, stream| {
        let (head, body) = ("HTTP/1.1 200 OK\r\nCache-Control: max-age=60", body());
        match request.target.as_str() {
            "/chunked" => {
                let chunks: String = body
                    .as_bytes()
                    .chunks(70_000)
                    .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
                    .collect();
                send(
                    stream,
                    &format!(
                        "{head}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n{chunks}0\r\nX-Sum: 1\r\n\r\n"
                    ),
                )
            }
            "/close" => {
                send(stream, &format!("{head}\r\nConnection: close\r\n\r\n{body}"));
                Then::Close
            }
            "/empty" => send(stream, &format!("{head}\r\nContent-Length: 0\r\n\r\n")),
            "/none" => send(stream, "HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\n\r\n"),
            _ => send(stream, &format!("{head}\r\nContent-Length: {LENGTH}\r\n\r\n{body}")),
        }
    });
    let shop = shop(&app, "{}");
    let body = body();
    for target in ["/length", "/chunked", "/close", "/empty", "/none"] {
        let is_empty = matches!(target, "/empty" | "/none");
        for first in Way::ALL {
            // Each way fills once, by a host of its own.
            let host = format!("{first:?}.example").to_lowercase();
            let asked = Asked { host: &host, ..Asked::get(target) };
            let before = app.hits();
            let filled = shop.ask(first, asked);
            assert!(
                filled.complete && filled.text() == if is_empty { "" } else { &body },
                "{target} {first:?}"
            );
            // Whether what has no length is kept is known at its end.
            let is_said = !matches!(target, "/chunked" | "/close");
            let stored = if is_said { "; stored" } else { "" };
            assert_eq!(filled.field("cache-status"), format!("evenkeel; fwd=uri-miss{stored}"), "{target}");
            let is_same_scheme = |way: &Way| way.scheme() == first.scheme();
            for way in Way::ALL.into_iter().filter(is_same_scheme) {
                let hit = shop.ask(way, asked);
                assert!(hit.complete && hit.body == filled.body, "{target} {first:?} {way:?}");
                let length = if target == "/none" { String::new() } else { filled.body.len().to_string() };
                assert_eq!(hit.field("content-length"), length, "{target} {first:?} {way:?}");
            }
            assert_eq!(app.hits(), before + 1, "{target} {first:?}");
        }
    }
    wait_for("room for others", || {
        (shop.balancer.metric("evenkeel_cache_filling_bytes", &[]) == 0.0).then_some(())
    });
}

/// A client that reads as soon as there is something reads all of a small response at once, where head and body leave by one system
/// call.
#[test]
fn a_hit_leaves_whole() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\nhello")
    });
    let shop = shop(&app, "{}");
    shop.ask(Way::Http11, Asked::get("/"));
    let mut client = std::net::TcpStream::connect(shop.balancer.address("web")).expect("a connection");
    let mut buffer = [0; 4096];
    for turn in 0..200 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").expect("a request");
        let n = client.read(&mut buffer).expect("a response");
        let response = String::from_utf8_lossy(&buffer[..n]);
        assert!(response.contains("; hit; ") && response.ends_with("\r\n\r\nhello"), "{turn}: {response}");
    }
}

#[test]
fn what_breaks_off_is_not_kept_and_nobody_is_told_that_it_is_whole() {
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let app = App::new(move |_, stream| {
            send(
                stream,
                &format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{head}\r\n\r\n5\r\nhello\r\n"),
            );
            Then::Reset
        });
        let shop = shop(&app, "{ stale_if_error: 1h }");
        for (n, way) in Way::ALL.into_iter().enumerate() {
            if way != Way::Http10 || head.starts_with("Content") {
                let response = shop.ask(way, Asked::get("/"));
                assert!(!response.complete || response.status == 502, "{head} {way:?}: {response:?}");
            } else {
                shop.ask(way, Asked::get("/"));
            }
            assert_eq!(app.hits(), n + 1, "{head} {way:?}");
        }
        assert_eq!(shop.balancer.metric("evenkeel_cache_objects", &[("tier", "memory")]), 0.0);
        // The way that ends with the connection has come whole as far as anybody can tell.
        let told = shop.balancer.record_where("of what broke off", |record| {
            record["why"] == "server_reset" || record["why"] == "server_malformed"
        });
        assert_eq!((&told["cache"], &told["cache_reason"]), (&"miss".into(), &told["why"]));
        // Nor is a part made of what there is.
        let part = shop.ask(Way::Http11, get("/", &[("range", "bytes=0-1")]));
        assert_ne!(part.status, 206, "{head}");
    }
}

#[test]
fn what_is_too_long_is_passed_on_alone() {
    let app = App::new(|request, stream| {
        let (head, body) = ("HTTP/1.1 200 OK\r\nCache-Control: max-age=60", body());
        match request.target.as_str() {
            "/close" => {
                send(stream, &format!("{head}\r\nConnection: close\r\n\r\n{body}"));
                Then::Close
            }
            _ => send(stream, &format!("{head}\r\nContent-Length: {LENGTH}\r\n\r\n{body}")),
        }
    });
    let rest = format!(
        "cache: {{ memory: 4MiB, max_object: 200KiB }}\nroutes:\n  shop: [{{ name: all, cache: {{}}, pool: app }}]\n\
         pools:\n  app: {{ servers: ['{}'] }}\n",
        app.address
    );
    let shop = Ways::start("routes: shop", &rest);
    for target in ["/length", "/close"] {
        for way in Way::ALL {
            let before = app.hits();
            let response = shop.ask(way, Asked::get(target));
            assert!(response.complete && response.text() == body(), "{target} {way:?}");
            assert_eq!(app.hits(), before + 1, "{target} {way:?}");
        }
    }
    for target in ["/length", "/close"] {
        let record = shop.balancer.record(target);
        let told = (&record["cache"], &record["cache_reason"]);
        assert_eq!(told, (&"uncacheable".into(), &"max_object".into()), "{target}");
        let url = format!("http://shop.example{target}");
        let explained = shop.balancer.command_json(&["explain", &url, "--listener", "web"]);
        assert_eq!(explained["cache"]["reason"], "max_object", "{target}");
    }
    let bytes = shop.balancer.metric("evenkeel_cache_bytes", &[("tier", "memory")]);
    assert!(bytes < 10_000.0, "{bytes}");
}

#[test]
fn a_client_that_leaves_does_not_end_what_others_will_ask_for() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |_, stream| {
        let body = body();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {LENGTH}\r\n\r\n{}",
            &body[..1000]
        );
        held.wait();
        send(stream, &body[1000..])
    });
    let balancer = Balancer::start(&format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, routes: shop }} }}\nroutes: {{ shop: [{{ cache: {{}}, pool: app }}] }}\n\
         pools: {{ app: {{ servers: ['{}'] }} }}\n",
        app.address
    ));
    let mut client = balancer.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().map(|head| head.status), Some(200));
    client.bytes(100);
    client.reset();
    // Another by HTTP/2, whose connection ends.
    let mut connection = Connection::new(balancer.address("web"));
    connection.request(1, "GET", "/2", true);
    while connection.next().expect("its response").kind != DATA {}
    drop(connection);
    // The other's is held until what it fetches is there.
    balancer.wait_for_metric("evenkeel_connections", &[("listener", "web")], 1.0);
    latch.open();
    balancer.wait_for_metric("evenkeel_cache_objects", &[("tier", "memory")], 2.0);
    for (host, target) in [("a", "/"), ("test", "/2")] {
        let mut client = balancer.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(client.response().text() == body());
    }
    assert_eq!(app.hits(), 2);
    let record = balancer.record_where("the one who left", |record| record["why"] == "client_aborted");
    assert_eq!(record["cache"], "miss");
}

#[test]
fn what_becomes_of_what_is_fetched_is_counted() {
    let app = App::new(|request, stream| {
        let kept = "HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\nETag: \"a\"";
        match (request.target.as_str(), request.has("if-none-match")) {
            ("/page", true) => send(stream, "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
            ("/page" | "/cut", false) => send(stream, &format!("{kept}\r\nContent-Length: 1\r\n\r\na")),
            ("/own", _) => {
                send(stream, "HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 1\r\n\r\na")
            }
            ("/short", _) => {
                send(stream, &format!("{kept}\r\nContent-Length: 9\r\n\r\na"));
                Then::Reset
            }
            ("/cut", true) => send(stream, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
            _ => Then::Reset,
        }
    });
    let shop = shop(&app, "{ stale_if_error: 1h }");
    for target in ["/page", "/page", "/own", "/own", "/cut", "/cut", "/short", "/gone"] {
        shop.ask(Way::Http11, Asked::get(target));
    }
    let count = |end| shop.balancer.metric("evenkeel_cache_fills_total", &[("end", end)]);
    for (end, expected) in [("stored", 2.0), ("renewed", 1.0), ("private", 2.0), ("failed", 1.0)] {
        assert_eq!(count(end), expected, "{end}");
    }
    assert_eq!(count("server_reset") + count("server_malformed"), 2.0);
}
