//! Heads up to 256 KiB both ways: tags of responses, and what PURGE names. Nobody else's are longer than they were.

use super::{get, sections};
use crate::support::app::{App, send};
use crate::support::balancer::{Balancer, outcome};
use crate::support::client::Client;
use crate::support::ways::{Asked, Way, Ways};
use crate::support::{wait_for, wait_until};

const LIMIT: usize = 256 << 10;
/// What listeners let requests have by default.
const ORDINARY: usize = 32 << 10;

const WAYS: [Way; 4] = [Way::Http11, Way::H2, Way::Http11Tls, Way::H2Tls];

/// An app whose responses' heads have as many bytes as the path says, `/head/N`, and tags `t0`, `t1` and so on, as many as fit.
fn tagging() -> App {
    App::new(|request, stream| {
        let wanted: usize = request.target.rsplit('/').next().and_then(|n| n.parse().ok()).expect("a number");
        let beginning =
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\nX-Magento-Tags: ";
        let mut head = beginning.to_owned();
        let mut n = 0;
        while head.len() + 20 < wanted {
            head += &format!("t{n},");
            n += 1;
        }
        head += &"x".repeat(wanted - head.len() - 4);
        head += "\r\n\r\n";
        assert_eq!(head.len(), wanted);
        send(stream, &format!("{head}hello"))
    })
}

/// One rule that keeps and does not send tags, one that sends them, and one without a cache.
fn shop(app: &App, cache: &str) -> Ways {
    let rules = "    - { name: sent, match: { path: /sent/* }, cache: { tags: { send: true } }, pool: app }\n    \
                 - { name: plain, match: { path: /plain/* }, pool: app }\n    \
                 - { name: kept, cache: {}, pool: app }\n";
    Ways::start("routes: shop", &format!("cache: {{ {cache} }}\n{}", sections(app, rules)))
}

#[test]
fn tags_of_a_response_may_have_256_kib() {
    let app = tagging();
    let shop = shop(&app, "memory: 64MiB");
    for way in WAYS {
        for (size, status) in
            [(200 << 10, 200), (LIMIT - 1, 200), (LIMIT, 200), (LIMIT + 1, 502), (2 * LIMIT, 502)]
        {
            for (path, is_sent) in [("kept", false), ("sent", true), ("plain", true)] {
                // A key of its own for each.
                let target = format!("/{path}/{way:?}/{size}");
                let response = shop.ask(way, Asked::get(&target));
                assert_eq!(response.status, status, "{target}");
                if status == 200 {
                    assert_eq!(response.text(), "hello", "{target}");
                    let tags = response.field("x-magento-tags");
                    let is_whole = if is_sent { tags.len() > size - 300 } else { tags.is_empty() };
                    assert!(is_whole, "{target}: {} bytes", tags.len());
                    continue;
                }
                let record = shop.balancer.record(&target);
                assert_eq!(outcome(&record), (502, "server_malformed".to_owned()));
                assert_eq!(record["detail"], "response head longer than 256 KiB");
            }
        }
    }
    // What is kept has them all: any of them purges it, and what has fewer only its own.
    let target = "/sent/Http11/262144";
    for (tag, is_purged) in [("t1", true), ("t20000", true), ("t1", true)] {
        shop.ask(Way::Http11, Asked::get(target));
        let before = app.hits();
        let again = shop.ask(Way::Http11, Asked::get(target));
        assert_eq!((app.hits(), again.field("x-magento-tags").len() > LIMIT - 300), (before, true));
        assert_eq!(shop.balancer.command(&["purge", "--hard", "--tag", tag]).0, Some(0));
        shop.ask(Way::Http11, Asked::get(target));
        assert_eq!(app.hits() > before, is_purged, "{tag}");
    }
    let few = "/kept/4000";
    shop.ask(Way::Http11, Asked::get(few));
    let before = app.hits();
    for (tag, is_purged) in [("t20000", false), ("t3", true)] {
        assert_eq!(shop.balancer.command(&["purge", "--hard", "--tag", tag]).0, Some(0));
        shop.ask(Way::Http11, Asked::get(few));
        assert_eq!(app.hits() > before, is_purged, "{tag}");
    }
}

/// A response's head that comes in pieces, of which most end within a line.
#[test]
fn a_long_head_may_come_in_pieces() {
    let app = App::new(|_, stream| {
        let field = format!("X-Magento-Tags: {}\r\n", "cat_p_1,".repeat(8_000));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{field}{field}{field}\r\nhello");
        for piece in head.as_bytes().chunks(1_500) {
            if std::io::Write::write_all(stream, piece).is_err() {
                break;
            }
        }
        crate::support::app::Then::Keep
    });
    let shop = shop(&app, "memory: 64MiB");
    // Cores have connections to servers of their own.
    let mut client = shop.balancer.client();
    for _ in 0..2 {
        let response = client.get("/plain/");
        assert_eq!((response.status, response.text()), (200, "hello".to_owned()));
    }
    assert_eq!(app.connections(), 1, "the connection is kept");
}

/// A field of a PURGE whose head has so many bytes, as the version counts: `p1` and tags that nothing has.
fn tags_for(way: Way, size: usize) -> String {
    let name = "surrogate-key".len();
    let around = match way {
        Way::H2 | Way::H2Tls => name + 32 + "/".len(),
        _ => "PURGE / HTTP/1.1\r\nHost: shop.example\r\n: \r\n\r\n".len() + name,
    };
    let mut tags = "p1 ".to_owned();
    let wanted = size - around;
    while tags.len() + 10 < wanted {
        tags += &format!("q{} ", tags.len());
    }
    tags += &"x".repeat(wanted - tags.len());
    tags
}

#[test]
fn a_purge_of_who_may_may_have_256_kib() {
    let app = super::app();
    let shop = shop(&app, "purge_from: [127.0.0.1]");
    let tagged = "/with/cache-control:max-age=60&surrogate-key:p1";
    for way in WAYS {
        for (size, status) in [
            (ORDINARY + 1, 200),
            (200 << 10, 200),
            (LIMIT - 1, 200),
            (LIMIT, 200),
            (LIMIT + 1, 431),
            (LIMIT + 5000, 431),
        ] {
            shop.ask(way, Asked::get(tagged));
            let before = app.hits();
            let tags = tags_for(way, size);
            let fields = [("surrogate-key", &*tags)];
            let purged = shop.ask(way, Asked { method: "PURGE", ..get("/", &fields) });
            assert_eq!(
                purged.status,
                status,
                "{way:?} {size}: {}",
                purged.text().get(..200).unwrap_or_default()
            );
            shop.ask(way, Asked::get(tagged));
            assert_eq!(app.hits() > before, status == 200, "{way:?} {size}");
        }
    }
    let detail = "a PURGE's head longer than 256 KiB; name fewer tags, or use the API";
    let record = shop.balancer.record_where("of one too long", |record| record["status"] == 431);
    assert_eq!((&record["detail"], &record["why"]), (&detail.into(), &"headers_too_large".into()));
    // Magento's own.
    let pattern: Vec<_> = (0..9_000).map(|n| format!("((^|,)cat_p_{n}(,|$))")).collect();
    let pattern = format!("{}|((^|,)p1(,|$))", pattern.join("|"));
    assert!(pattern.len() > 200 << 10, "{}", pattern.len());
    for way in WAYS {
        shop.ask(way, Asked::get(tagged));
        let before = app.hits();
        let fields = [("x-magento-tags-pattern", &*pattern)];
        let purged = shop.ask(way, Asked { method: "PURGE", ..get("/", &fields) });
        assert_eq!(purged.status, 200, "{way:?}");
        assert!(purged.text().starts_with("{\"purges\":9001,"), "{}", purged.text());
        shop.ask(way, Asked::get(tagged));
        assert_eq!(app.hits(), before + 1, "{way:?}");
    }
}

#[test]
fn nobody_else_may_have_a_longer_head_than_before() {
    let app = super::app();
    let trusted = shop(&app, "purge_from: [127.0.0.1]");
    let strange = shop(&app, "purge_from: [192.0.2.0/24]");
    for way in WAYS {
        for (size, line_fits, fits) in [
            (15 << 10, true, true),
            // One field longer than `limits.header_line`.
            (ORDINARY - 1, false, true),
            (ORDINARY, false, true),
            (ORDINARY + 1, false, false),
            (100 << 10, false, false),
        ] {
            let tags = tags_for(way, size);
            let fields = [("surrogate-key", &*tags)];
            let ask = |shop: &Ways, method: &'static str, target: &'static str| {
                shop.ask(way, Asked { method, ..get(target, &fields) }).status
            };
            let what = format!("{way:?} {size} {line_fits} {fits}");
            assert_eq!(ask(&strange, "PURGE", "/"), if line_fits { 405 } else { 431 }, "{what}");
            // A method as long.
            assert_eq!(ask(&trusted, "FETCH", "/"), if line_fits { 200 } else { 431 }, "{what}");
            assert_eq!(ask(&trusted, "PURGE", "/"), 200, "{what}");
            // Without a cache it would be a server's.
            assert_eq!(ask(&trusted, "PURGE", "/plain/"), if line_fits { 200 } else { 431 }, "{what}");
        }
    }
    let details = |shop: &Ways| {
        let records = shop.balancer.records();
        let mut details: Vec<_> =
            records.iter().filter_map(|record| record["detail"].as_str()).map(str::to_owned).collect();
        details.sort();
        details.dedup();
        details
    };
    let ordinary = ["a field longer than limits.header_line", "a head longer than limits.request_headers"];
    wait_until("the strangers' are recorded", || details(&strange) == ordinary);
    wait_until("the others' are", || {
        let mut expected = ordinary.to_vec();
        expected.insert(0, "a PURGE with a long head by a rule that has no cache");
        details(&trusted) == expected
    });
    assert!(app.requests().iter().all(|request| request.field("surrogate-key").len() <= 16 << 10));
}

#[test]
fn the_next_request_of_a_connection_is_bounded_as_others_are() {
    let app = super::app();
    let shop = shop(&app, "purge_from: [127.0.0.1]");
    let mut client = shop.balancer.client();
    let purge = |size| {
        let tags = tags_for(Way::Http11, size);
        format!("PURGE / HTTP/1.1\r\nHost: shop.example\r\nsurrogate-key: {tags}\r\n\r\n")
    };
    // In pieces, with an empty line before it that is passed over, and the next two behind it.
    let first = format!("\r\n{}", purge(LIMIT - 2));
    for piece in first.as_bytes().chunks(10_000) {
        client.send(piece);
    }
    assert_eq!(client.response().status, 200);
    client.send(format!("{}GET /with/ HTTP/1.1\r\nHost: a\r\n\r\n", purge(100 << 10)));
    assert_eq!([client.response().status, client.response().status], [200, 200]);
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n", "x".repeat(ORDINARY)));
    assert_eq!(client.response().status, 431);
    assert!(client.is_closed());
}

/// Heads that are long and never end are few, whoever sends them, and end in time.
#[test]
fn there_are_never_many_long_heads_at_once() {
    let app = super::app();
    let shop = shop(&app, "purge_from: [127.0.0.1]");
    let begin = |balancer: &Balancer| {
        let mut client = balancer.client();
        client.send(format!("PURGE / HTTP/1.1\r\nHost: a\r\nCache-Tag: {}", "a ".repeat(20_000)));
        client
    };
    let held: Vec<Client> = (0..70).map(|_| begin(&shop.balancer)).collect();
    let is_refused = |record: &serde_json::Value| {
        record["detail"] == "too many PURGE requests with heads longer than limits.request_headers"
    };
    let refused = || shop.balancer.records().into_iter().filter(is_refused).count();
    wait_until("all but 64 are refused", || refused() == 6);
    // Those that are under way go on, whichever they are.
    let finish = |mut client: Client| {
        client.try_send("\r\n\r\n").ok()?;
        client.try_response()
    };
    let statuses: Vec<u16> = held.into_iter().filter_map(finish).map(|response| response.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 64, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 431)), "{statuses:?}");
    assert_eq!(refused(), 6);
    let beyond = |balancer: &Balancer| finish(begin(balancer));
    wait_for("there is room again", || beyond(&shop.balancer).filter(|response| response.status == 200));
}
