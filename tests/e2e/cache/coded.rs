//! What is kept is compressed once, and goes out so from then on.

use super::{get, sections};
use crate::policy::compress::decoded;
use crate::support::app::{App, Then, send};
use crate::support::balancer::Balancer;
use crate::support::client::Response;
use crate::support::ways::{Asked, Way, Ways};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A page of this edition, long and not the same all over.
fn page(edition: usize) -> String {
    (0..9000).map(|n| format!("edition {edition}: {n} bottles, {}\n", n * 7919 % 1009)).collect()
}

/// An app that has the page in the edition that is out, for as long as the path says.
fn press(edition: &Arc<AtomicUsize>) -> App {
    let edition = Arc::clone(edition);
    App::new(move |request, stream| {
        let edition = edition.load(SeqCst);
        let (etag, body) = (format!("\"e{edition}\""), page(edition));
        let control = if request.target == "/asked" { "no-cache" } else { "max-age=600" };
        if request.field("if-none-match").contains(&etag) {
            return send(
                stream,
                &format!("HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\nCache-Control: {control}\r\n\r\n"),
            );
        }
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: {etag}\r\nCache-Control: {control}");
        send(stream, &format!("{head}\r\nCache-Tag: t\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        Then::Keep
    })
}

fn start(app: &App, more: &str) -> Ways {
    let rules = "    - { name: all, cache: {}, compress: {}, pool: app }\n";
    Ways::start("routes: shop", &format!("{more}{}", sections(app, rules)))
}

/// Those that were made to be kept, with this result.
fn made(balancer: &Balancer, encoding: &str, result: &str) -> f64 {
    balancer.metric("evenkeel_cache_compressions_total", &[("encoding", encoding), ("result", result)])
}

/// Has it kept in a coding.
#[track_caller]
fn warm(shop: &Ways, target: &str, encoding: &str, kept: f64) {
    for _ in 0..3 {
        shop.ask(Way::Http11, get(target, &[("accept-encoding", encoding)]));
    }
    let labels = [("encoding", encoding), ("result", "kept")];
    shop.balancer.wait_for_metric("evenkeel_cache_compressions_total", &labels, kept);
}

/// Whether it left as it is kept: those have a length.
#[track_caller]
fn is_kept(response: &Response, encoding: &str, edition: usize) -> bool {
    assert_eq!((response.status, response.field("content-encoding").as_str()), (200, encoding));
    assert!(response.complete && decoded(response) == page(edition).as_bytes());
    assert_eq!(
        (response.field("etag"), response.field("accept-ranges")),
        (format!("W/\"e{edition}\""), String::new())
    );
    assert_eq!(response.field("vary"), "Accept-Encoding");
    let length = response.field("content-length");
    assert!(length.is_empty() || length == response.body.len().to_string(), "{length}");
    !length.is_empty()
}

#[test]
fn after_three_clients_nobody_has_it_compressed_again() {
    let (edition, encodings) = (Arc::default(), ["gzip", "br", "zstd"]);
    let app = press(&edition);
    let shop = start(&app, "");
    for way in [Way::Http11, Way::Http11Tls] {
        shop.ask(way, Asked::get("/"));
    }
    let cleartext = [Way::Http10, Way::Http11, Way::H2];
    let plain = |encoding| {
        shop.balancer.metric("evenkeel_compress_bytes_total", &[("encoding", encoding), ("direction", "in")])
    };
    let weight = || shop.balancer.metric("evenkeel_cache_bytes", &[("tier", "memory")]);
    for encoding in encodings {
        let (accept, before) = ([("accept-encoding", encoding)], weight());
        let responses = cleartext.map(|way| shop.ask(way, get("/", &accept)));
        assert!(responses.iter().all(|response| !is_kept(response, encoding, 0)), "{encoding}");
        let labels = [("encoding", encoding), ("result", "kept")];
        shop.balancer.wait_for_metric("evenkeel_cache_compressions_total", &labels, 1.0);
        shop.balancer.wait_for_metric(
            "evenkeel_compress_bytes_total",
            &[("encoding", encoding), ("direction", "in")],
            (3 * page(0).len()) as f64,
        );
        for round in 1..=2 {
            for way in cleartext {
                let response = shop.ask(way, get("/", &accept));
                assert!(is_kept(&response, encoding, 0), "{encoding} {way:?}");
                assert!(response.body.len() <= responses[0].body.len(), "it is made harder");
            }
            let reused = [("encoding", encoding)];
            shop.balancer.wait_for_metric("evenkeel_compress_reused_total", &reused, f64::from(round) * 3.0);
        }
        assert_eq!(plain(encoding), (3 * page(0).len()) as f64, "{encoding}: once for each of three");
        let kept = shop.ask(Way::Http11, get("/", &accept)).body.len() as f64;
        assert!((kept..kept * 1.05 + 5000.0).contains(&(weight() - before)), "{encoding}: it counts");
    }
    // What is for another scheme is another response.
    assert!(!is_kept(&shop.ask(Way::H2Tls, get("/", &[("accept-encoding", "br")])), "br", 0));
    assert_eq!(app.hits(), 2);
    let record = shop
        .balancer
        .record_where("one", |record| record["encoding"] == "zstd" && record["protocol"] == "HTTP/2.0");
    assert_eq!(record["bytes_plain"], page(0).len());
    // A client's own order stands, and who takes none gets plain bytes.
    let liked = shop.ask(Way::H2, get("/", &[("accept-encoding", "zstd;q=0.5, br")]));
    assert!(is_kept(&liked, "br", 0));
    assert_eq!(shop.ask(Way::Http11, Asked::get("/")).text(), page(0));
    let url = ["explain", "http://shop.example/", "--listener", "web"];
    let told = shop.balancer.command_json(&url)["cache"]["stored"][0]["compressed"].to_string();
    assert!(encodings.iter().all(|encoding| told.contains(&format!("\"{encoding}: "))), "{told}");
    assert!(shop.balancer.command(&url).1.contains("; compressed zstd: "));
}

#[test]
fn heads_parts_and_conditions_are_answered_as_before() {
    let edition = Arc::default();
    let app = press(&edition);
    let shop = start(&app, "");
    const GZIP: (&str, &str) = ("accept-encoding", "gzip");
    let more: [(&str, &[(&str, &str)]); 7] = [
        ("HEAD", &[GZIP]),
        ("GET", &[GZIP, ("range", "bytes=10-19")]),
        ("GET", &[GZIP, ("range", "bytes=10-19"), ("if-range", "\"e0\"")]),
        ("GET", &[GZIP, ("range", "bytes=10-19"), ("if-range", "W/\"e0\"")]),
        ("GET", &[GZIP, ("if-none-match", "W/\"e0\"")]),
        ("GET", &[GZIP, ("if-none-match", "\"e0\"")]),
        ("GET", &[GZIP, ("cache-control", "no-transform")]),
    ];
    let asked = more.map(|(method, fields)| Asked { method, ..get("/", fields) });
    shop.ask(Way::Http11, Asked::get("/"));
    let ask = || {
        let ways = [Way::Http11, Way::H2];
        let of = |response: Response| {
            let names = ["etag", "vary", "content-encoding", "content-length", "content-range"];
            (response.status, response.body.clone(), names.map(|name| response.field(name)))
        };
        asked.iter().flat_map(|asked| ways.map(|way| of(shop.ask(way, *asked)))).collect::<Vec<_>>()
    };
    let before = ask();
    warm(&shop, "/", "gzip", 1.0);
    assert!(is_kept(&shop.ask(Way::Http11, get("/", &[GZIP])), "gzip", 0));
    for (asked, (before, after)) in before.iter().zip(ask()).enumerate() {
        assert_eq!((before.0, &before.2), (after.0, &after.2), "{asked}");
        assert!(before.1 == after.1, "{asked}");
    }
    let statuses: Vec<u16> = before.iter().step_by(2).map(|one| one.0).collect();
    assert_eq!(statuses, [200, 206, 206, 200, 304, 304, 200]);
    assert_eq!(app.hits(), 1);
}

#[test]
fn a_compressed_form_goes_with_its_response() {
    let edition: Arc<AtomicUsize> = Arc::default();
    let app = press(&edition);
    let shop = start(&app, "");
    let br = [("accept-encoding", "br")];
    let ask = |target: &str| shop.ask(Way::H2, get(target, &br));
    for target in ["/", "/asked"] {
        ask(target);
    }
    warm(&shop, "/", "br", 1.0);
    warm(&shop, "/asked", "br", 2.0);
    let weight = || shop.balancer.metric("evenkeel_cache_bytes", &[("tier", "memory")]);
    // What still holds is the same bytes, and nobody compresses them again.
    for _ in 0..5 {
        assert!(is_kept(&ask("/asked"), "br", 0));
    }
    assert_eq!(shop.balancer.command(&["purge", "--tag", "t"]).0, Some(0));
    let before = (app.hits(), weight());
    assert!(is_kept(&ask("/"), "br", 0));
    assert_eq!((app.hits(), made(&shop.balancer, "br", "kept")), (before.0 + 1, 2.0));
    assert_eq!(weight(), before.1);
    // What does not is gone, in whichever form.
    edition.store(1, SeqCst);
    assert!(is_kept(&ask("/"), "br", 0));
    assert!(!is_kept(&ask("/asked"), "br", 1));
    for target in ["/", "/asked"] {
        let url = format!("http://shop.example{target}");
        assert_eq!(shop.balancer.command(&["purge", &url, "--hard"]).0, Some(0));
        assert!(!is_kept(&ask(target), "br", 1), "{target}");
    }
    warm(&shop, "/", "br", 3.0);
    assert!(is_kept(&ask("/"), "br", 1));
}

#[test]
fn a_small_cache_gives_the_forms_up_with_their_responses() {
    let edition = Arc::default();
    let app = press(&edition);
    let shop = start(&app, "cache: { memory: 4MiB }\n");
    for n in 0..40 {
        let target = format!("/{n}");
        for _ in 0..5 {
            shop.ask(Way::Http11, get(&target, &[("accept-encoding", "gzip")]));
        }
        assert!(shop.balancer.metric("evenkeel_cache_bytes", &[("tier", "memory")]) <= f64::from(4 << 20));
    }
    assert!(shop.balancer.metric("evenkeel_cache_evictions_total", &[("tier", "memory")]) > 5.0);
    // Whatever there was no room for, or had gone, goes on as it was.
    for n in 0..40 {
        let response = shop.ask(Way::H2, get(&format!("/{n}"), &[("accept-encoding", "gzip")]));
        is_kept(&response, "gzip", 0);
    }
}
