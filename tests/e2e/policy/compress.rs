//! Compressed responses, the same by every version of HTTP.

use crate::support::app::{App, Latch, Request, Then, send};
use crate::support::client::{Client, Response};
use crate::support::ways::{Asked, Way, Ways};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Text of many KiB that is not the same all over.
fn text() -> String {
    (0..12_000).map(|n| format!("{n} bottles of beer, {}\n", n * 7919 % 1009)).collect()
}

fn shop(app: &App, compress: &str, rules: &str) -> Ways {
    let rest = format!(
        "routes:\n  shop:\n{rules}    - {{ name: all, compress: {compress}, pool: app }}\n\
         pools:\n  app: {{ servers: [{{ name: s1, address: {} }}], retries: {{ max: 0 }} }}\n  \
         dead: {{ servers: [{{ address: 127.0.0.1:1, drain: true }}] }}\n",
        app.address
    );
    Ways::start("routes: shop", &rest)
}

/// What a body is in plain bytes.
#[track_caller]
pub(crate) fn decoded(response: &Response) -> Vec<u8> {
    let mut out = Vec::new();
    let body = &response.body[..];
    match response.field("content-encoding").as_str() {
        "" => out.extend_from_slice(body),
        "gzip" => _ = flate2::read::GzDecoder::new(body).read_to_end(&mut out).expect("gzip"),
        "br" => _ = brotli::Decompressor::new(body, 4096).read_to_end(&mut out).expect("brotli"),
        "zstd" => {
            out.reserve(1 << 22);
            zstd_safe::DCtx::create().decompress(&mut out, body).expect("zstd");
        }
        other => panic!("{other}"),
    }
    out
}

fn with_head(stream: &mut TcpStream, head: &str, body: &[u8]) -> Then {
    let _ = write!(stream, "HTTP/1.1 {head}\r\n\r\n");
    let _ = stream.write_all(body);
    Then::Keep
}

/// The body in the way that the path names, with the fields that the query is.
fn serve(request: &Request, stream: &mut TcpStream) -> Then {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let body = if path == "/small" { "small".to_owned() } else { text() };
    let (status, media_type) = match path {
        "/part" => ("206 Partial Content", "text/plain"),
        "/gone" => ("410 Gone", "text/html; charset=utf-8"),
        "/picture" => ("200 OK", "image/png"),
        "/call" => ("200 OK", "application/grpc-web+proto"),
        "/events" => ("200 OK", "text/event-stream"),
        _ => ("200 OK", "text/html; charset=utf-8"),
    };
    let fields: String = query
        .split('&')
        .filter(|field| !field.is_empty())
        .map(|field| {
            let (name, value) = field.split_once('=').expect("a name and a value");
            format!("\r\n{name}: {}", value.replace('+', " "))
        })
        .collect();
    let head =
        format!("{status}\r\nContent-Type: {media_type}\r\nETag: \"x\"\r\nAccept-Ranges: bytes{fields}");
    let body = if request.method == "HEAD" { "" } else { &body };
    match path {
        "/chunked" => {
            let mut framed = Vec::new();
            for chunk in body.as_bytes().chunks(5000) {
                let _ = write!(framed, "{:x}\r\n", chunk.len());
                framed.extend_from_slice(chunk);
                framed.extend_from_slice(b"\r\n");
            }
            // A response to HEAD has no chunks, the last one neither.
            if !body.is_empty() {
                framed.extend_from_slice(b"0\r\n\r\n");
            }
            with_head(stream, &format!("{head}\r\nTransfer-Encoding: chunked"), &framed)
        }
        "/close" => {
            with_head(stream, &format!("{head}\r\nConnection: close"), body.as_bytes());
            Then::Close
        }
        _ => {
            let length = if path == "/small" { 5 } else { text().len() };
            with_head(stream, &format!("{head}\r\nContent-Length: {length}"), body.as_bytes())
        }
    }
}

#[test]
fn what_a_client_takes_is_sent_and_reads_as_what_the_server_sent() {
    let app = App::new(serve);
    let shop = shop(&app, "{}", "");
    for target in ["/length", "/chunked", "/close", "/gone"] {
        for (accept, encoding) in [
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip;q=1, br;q=0.5", "gzip"),
            ("br", "br"),
            ("*;q=0.1, gzip;q=0", "zstd"),
        ] {
            let fields = [("accept-encoding", accept)];
            shop.each(Asked { fields: &fields, ..Asked::get(target) }, |way, response| {
                let told = format!("{target} {accept} {way:?}");
                let field = |name| response.field(name);
                assert_eq!(
                    (field("content-encoding").as_str(), field("vary").as_str()),
                    (encoding, "Accept-Encoding"),
                    "{told}"
                );
                assert_eq!(
                    (field("etag").as_str(), field("accept-ranges"), field("content-length")),
                    ("W/\"x\"", String::new(), String::new()),
                    "{told}"
                );
                assert!(response.complete && response.body.len() < text().len() / 2, "{told}");
                assert!(decoded(response) == text().as_bytes(), "{told}");
                let chunks = if matches!(way, Way::Http11 | Way::Http11Tls) { "chunked" } else { "" };
                assert_eq!(field("transfer-encoding"), chunks, "{told}");
            });
        }
    }
    let record = shop.balancer.record("/length");
    assert_eq!(record["bytes_plain"], text().len());
    let sent = record["bytes_out"].as_u64().expect("a number");
    assert!(sent > 1000 && sent < text().len() as u64 / 2, "{sent}");
    assert_eq!(record["encoding"], "zstd");
    let plain =
        shop.balancer.metric("evenkeel_compress_bytes_total", &[("encoding", "br"), ("direction", "in")]);
    assert_eq!(plain, (4 * Way::ALL.len() * text().len()) as f64);
    assert_eq!(app.last().field("accept-encoding"), "*;q=0.1, gzip;q=0", "servers hear what clients take");
    // A connection goes on behind a compressed response.
    let mut client = shop.balancer.client();
    for _ in 0..3 {
        client.send("GET /length HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
        assert!(decoded(&client.response()) == text().as_bytes());
    }
}

#[test]
fn what_may_not_be_compressed_stays_as_it_is() {
    let app = App::new(serve);
    let shop = shop(&app, "{}", "");
    let gzip = ("accept-encoding", "gzip");
    for (target, fields, vary, reason) in [
        ("/length", &[][..], "Accept-Encoding", "not_accepted"),
        ("/length", &[("accept-encoding", "identity, gzip;q=0.5")], "Accept-Encoding", "not_accepted"),
        ("/length?Vary=Origin", &[("accept-encoding", "deflate")], "Origin|Accept-Encoding", "not_accepted"),
        (
            "/length?Vary=accept-encoding",
            &[("accept-encoding", "deflate")],
            "accept-encoding",
            "not_accepted",
        ),
        ("/small", &[gzip], "", "small"),
        ("/picture", &[gzip], "", "type"),
        ("/part", &[gzip], "Accept-Encoding", "range"),
        ("/length", &[gzip, ("range", "bytes=0-9")], "Accept-Encoding", "range"),
        ("/length?Content-Encoding=br", &[gzip], "", "encoded"),
        ("/length?Cache-Control=no-store,+no-transform", &[gzip], "", "no_transform"),
        ("/length", &[gzip, ("cache-control", "no-transform")], "", "no_transform"),
        ("/length?Content-Digest=sha-256=:x:", &[gzip], "", "digest"),
        ("/length?Repr-Digest=sha-256=:x:", &[gzip], "", "digest"),
        ("/call", &[gzip], "", "grpc"),
        ("/events", &[gzip], "", "stream"),
    ] {
        let skipped = || shop.balancer.metric("evenkeel_compress_skipped_total", &[("reason", reason)]);
        let before = skipped();
        shop.each(Asked { fields, ..Asked::get(target) }, |way, response| {
            let told = format!("{target} {fields:?} {way:?}");
            assert_eq!(response.field("vary"), vary, "{told}");
            assert_eq!(
                (response.field("etag").as_str(), response.field("accept-ranges").as_str()),
                ("\"x\"", "bytes"),
                "{told}"
            );
            let whole = if target == "/small" { "small".to_owned() } else { text() };
            assert!(response.body == whole.as_bytes(), "{told}");
            assert!(!response.field("content-length").is_empty(), "{told}");
        });
        assert_eq!(skipped() - before, Way::ALL.len() as f64, "{target} {fields:?}");
    }
    // A server that compresses itself has the last word.
    let ours =
        shop.ask(Way::Http11, Asked { fields: &[gzip], ..Asked::get("/length?Content-Encoding=identity") });
    assert_eq!(ours.field("content-encoding"), "gzip");
}

#[test]
fn a_head_request_is_told_what_a_get_would_be() {
    let app = App::new(serve);
    let shop = shop(&app, "{}", "");
    for target in ["/length", "/chunked"] {
        let asked =
            Asked { method: "HEAD", fields: &[("accept-encoding", "br, gzip")], ..Asked::get(target) };
        shop.each(asked, |way, response| {
            let field = |name| response.field(name);
            assert_eq!(
                (response.status, field("content-encoding").as_str(), field("vary").as_str()),
                (200, "br", "Accept-Encoding"),
                "{way:?}"
            );
            assert_eq!(
                (field("etag").as_str(), field("content-length").as_str(), response.body.len()),
                ("W/\"x\"", "", 0),
                "{way:?}"
            );
        });
    }
    let small = Asked { method: "HEAD", fields: &[("accept-encoding", "gzip")], ..Asked::get("/small") };
    shop.each(small, |way, response| {
        assert_eq!(
            (response.field("content-encoding").as_str(), response.field("content-length").as_str()),
            ("", "5"),
            "{way:?}"
        );
    });
}

#[test]
fn a_copy_that_a_client_has_is_known_to_a_server_that_compares_strictly() {
    let app = App::new(|request, stream| {
        let asked = request.field("if-none-match");
        match asked.split(", ").any(|tag| tag == "\"x\"") {
            true => send(stream, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
            false => serve(request, stream),
        }
    });
    let shop = shop(&app, "{}", "    - { match: { path: /plain }, pool: app }\n");
    let weak = [("accept-encoding", "gzip"), ("if-none-match", "W/\"x\"")];
    for method in ["GET", "HEAD"] {
        shop.each(Asked { method, fields: &weak, ..Asked::get("/length") }, |way, response| {
            assert_eq!(
                (response.status, response.field("etag").as_str(), response.field("vary").as_str()),
                (304, "W/\"x\"", "Accept-Encoding"),
                "{method} {way:?}"
            );
            assert_eq!(app.last().field("if-none-match"), "W/\"x\", \"x\"", "{method} {way:?}");
            assert!(
                response.body.is_empty() && response.field("content-encoding").is_empty(),
                "{method} {way:?}"
            );
        });
    }
    let strong = [("accept-encoding", "gzip"), ("if-none-match", "\"x\"")];
    shop.each(Asked { fields: &strong, ..Asked::get("/length") }, |way, response| {
        assert_eq!((response.status, response.field("etag").as_str()), (304, "\"x\""), "{way:?}");
        assert_eq!(app.last().field("if-none-match"), "\"x\"", "{way:?}");
    });
    shop.each(Asked { fields: &weak, ..Asked::get("/plain") }, |way, response| {
        assert_eq!(
            (response.status, app.last().field("if-none-match").as_str()),
            (200, "W/\"x\""),
            "{way:?}"
        );
    });
}

#[test]
fn answers_of_our_own_are_compressed_as_servers_are() {
    let app = App::new(serve);
    let directory = crate::support::balancer::Directory::new();
    let page = directory.0.join("page.html");
    let long = text().split_off(text().len() - 100_000);
    std::fs::write(&page, &long).expect("it can be written");
    let page = page.display();
    let shop = shop(
        &app,
        "{}",
        &format!(
            "    - {{ match: {{ path: /own }}, compress: {{ min: 0B, encodings: [gzip] }}, respond: {{ file: {page} }} }}\n    \
             - {{ match: {{ path: /words }}, compress: {{ min: 0B }}, respond: {{ body: hello }} }}\n    \
             - {{ match: {{ path: /dead }}, compress: {{}}, errors: {{ '503': {{ html: {page} }} }}, pool: dead }}\n"
        ),
    );
    let fields = [("accept-encoding", "gzip, br")];
    for (target, status, encoding) in [("/own", 200, "gzip"), ("/dead", 503, "br")] {
        shop.each(Asked { fields: &fields, ..Asked::get(target) }, |way, response| {
            assert_eq!(
                (response.status, response.field("content-encoding").as_str()),
                (status, encoding),
                "{target} {way:?}"
            );
            assert!(response.complete && decoded(response) == long.as_bytes(), "{target} {way:?}");
        });
    }
    shop.each(Asked { fields: &fields, ..Asked::get("/words") }, |way, response| {
        assert_eq!(
            (response.field("content-encoding").as_str(), decoded(response)),
            ("br", b"hello".to_vec()),
            "{way:?}"
        );
    });
}

/// What there is of a chunked response's body when so many bytes of it can be read in plain.
fn read_until(client: &mut Client, stream: &mut Vec<u8>, n: usize) -> Vec<u8> {
    loop {
        let mut plain = vec![0; 1 << 20];
        let mut decoder = flate2::Decompress::new_gzip(15);
        let _ = decoder.decompress(stream, &mut plain, flate2::FlushDecompress::Sync);
        plain.truncate(usize::try_from(decoder.total_out()).expect("it fits"));
        if plain.len() >= n {
            return plain;
        }
        let mut length = Vec::new();
        while !length.ends_with(b"\r\n") {
            length.extend(client.bytes(1));
        }
        let length = std::str::from_utf8(length.trim_ascii()).expect("text");
        let length = usize::from_str_radix(length, 16).expect("a length");
        stream.extend(client.bytes(length));
        client.bytes(2);
    }
}

#[test]
fn a_server_that_pauses_has_said_what_it_has_said() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |request, stream| {
        let media_type = if request.target == "/events" { "text/event-stream" } else { "text/html" };
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let _ = stream.write_all(b"b\r\ndata: one\n\n\r\n");
        held.wait();
        let _ = stream.write_all(b"b\r\ndata: two\n\n\r\n0\r\n\r\n");
        Then::Keep
    });
    let shop = shop(&app, "{ streams: true }", "");
    let mut waiting = Vec::new();
    for target in ["/page", "/events"] {
        let mut client = shop.balancer.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"));
        let head = client.head().expect("a head");
        assert_eq!(head.field("content-encoding"), "gzip", "{target}");
        let mut stream = Vec::new();
        assert_eq!(read_until(&mut client, &mut stream, 11), b"data: one\n\n", "{target}");
        waiting.push((client, stream));
    }
    latch.open();
    for (mut client, mut stream) in waiting {
        assert_eq!(read_until(&mut client, &mut stream, 22), b"data: one\n\ndata: two\n\n");
    }
}

#[test]
fn a_response_that_breaks_off_does_not_look_whole() {
    let app = App::new(|_, stream| {
        let body = text();
        let length = 2 * body.len();
        with_head(
            stream,
            &format!("200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}"),
            body.as_bytes(),
        );
        Then::Close
    });
    let shop = shop(&app, "{}", "");
    for encoding in ["gzip", "br", "zstd"] {
        let fields = [("accept-encoding", encoding)];
        shop.each(Asked { fields: &fields, ..Asked::get("/") }, |way, response| {
            assert!(!response.complete, "{encoding} {way:?}");
        });
        let mut client = shop.balancer.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {encoding}\r\n\r\n"));
        let (all, _) = client.read_to_end();
        assert!(!all.ends_with("0\r\n\r\n"), "{encoding}: no last chunk");
    }
    assert_eq!(shop.balancer.outcome("/"), (200, "server_reset".to_owned()));
}

#[test]
fn more_than_a_core_may_compress_at_once_goes_plain() {
    let app = App::new(serve);
    let rest = format!(
        "process: {{ compressors: 0 }}\npolicies: {{ all: {{ compress: {{}} }} }}\npools: {{ app: {{ servers: ['{}'] }} }}\n",
        app.address
    );
    let shop = Ways::start("pool: app, policy: all", &rest);
    let fields = [("accept-encoding", "gzip")];
    shop.each(Asked { fields: &fields, ..Asked::get("/length") }, |way, response| {
        let told = (response.field("content-encoding"), response.field("vary"), response.field("etag"));
        assert_eq!(told, (String::new(), "Accept-Encoding".to_owned(), "\"x\"".to_owned()), "{way:?}");
        assert!(response.body == text().as_bytes(), "{way:?}");
    });
    let busy = shop.balancer.metric("evenkeel_compress_skipped_total", &[("reason", "busy")]);
    assert_eq!(busy, Way::ALL.len() as f64);
}
