//! Requests for the same wait for one that fetches it, and for no longer than need be.

use super::{app, get, shop, with_rules};
use crate::support::app::{App, Latch, Then, say, send, status};
use crate::support::balancer::Balancer;
use crate::support::client::Client;
use crate::support::ways::{Asked, Way};
use crate::support::{wait_for, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

fn balancer(app: &App, cache: &str) -> Balancer {
    Balancer::start(&format!(
        "listeners: {{ web: {{ address: 127.0.0.1:0, routes: shop }} }}\n\
         routes: {{ shop: [{{ name: all, cache: {cache}, pool: app }}] }}\n\
         pools: {{ app: {{ servers: ['{}'], retries: {{ max: 0 }} }} }}\n",
        app.address
    ))
}

/// So many clients that have asked for the same.
fn asking(balancer: &Balancer, n: usize, fields: &str) -> Vec<Client> {
    let ask = |_| {
        let mut client = balancer.client();
        client.send(format!("GET /page HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        client
    };
    (0..n).map(ask).collect()
}

fn counted(balancer: &Balancer, result: &str) -> f64 {
    balancer.metric("evenkeel_cache_requests_total", &[("result", result)])
}

#[test]
fn one_request_fetches_what_many_wait_for() {
    for framing in
        ["Content-Length: 4\r\n\r\npage", "Transfer-Encoding: chunked\r\n\r\n4\r\npage\r\n0\r\n\r\n"]
    {
        let latch = Latch::default();
        let held = latch.clone();
        let app = App::new(move |_, stream| {
            held.wait();
            send(stream, &format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{framing}"))
        });
        let balancer = balancer(&app, "{ coalesce: 60s }");
        let mut first = asking(&balancer, 1, "");
        wait_for("the fetch", || (app.hits() == 1).then_some(()));
        assert_eq!(balancer.metric("evenkeel_cache_fills", &[]), 1.0);
        let mut others = asking(&balancer, 50, "");
        // Whoever has left is not missed.
        for client in others.drain(..10) {
            client.reset();
        }
        balancer.wait_for_metric("evenkeel_http_failures_total", &[("why", "client_aborted")], 10.0);
        latch.open();
        for client in first.iter_mut().chain(&mut others) {
            let response = client.response();
            assert_eq!((response.status, response.text(), response.complete), (200, "page".to_owned(), true));
        }
        assert_eq!(others[0].get("/page").status, 200);
        assert_eq!(app.hits(), 2, "another host's page is another");
        // Clients may have their responses before these are counted.
        wait_until("all are counted", || counted(&balancer, "coalesced") + counted(&balancer, "hit") == 40.0);
        balancer.wait_for_metric("evenkeel_cache_fills", &[], 0.0);
    }
}

#[test]
fn what_is_not_kept_lets_all_go_at_once() {
    for answer in [
        "200 OK\r\nCache-Control: private",
        "500 Oh no\r\nX-A: 1",
        "200 OK\r\nCache-Control: max-age=60\r\nVary: *",
    ] {
        let (latch, asked) = (Latch::default(), Arc::new(AtomicUsize::new(0)));
        let (held, count) = (latch.clone(), Arc::clone(&asked));
        let app = App::new(move |_, stream| {
            // The first waits, and then all others for the last of them.
            if count.fetch_add(1, SeqCst) == 0 {
                held.wait();
            } else {
                wait_for("all of them", || (count.load(SeqCst) == 21).then_some(()));
            }
            send(stream, &format!("HTTP/1.1 {answer}\r\nContent-Length: 4\r\n\r\npage"))
        });
        let balancer = balancer(&app, "{ coalesce: 60s }");
        let mut first = asking(&balancer, 1, "");
        wait_for("the fetch", || (app.hits() == 1).then_some(()));
        let mut others = asking(&balancer, 20, "");
        balancer.wait_for_metric("evenkeel_connections", &[("listener", "web")], 21.0);
        latch.open();
        for client in first.iter_mut().chain(&mut others) {
            assert_eq!(client.response().text(), "page", "{answer}");
        }
        assert_eq!(app.hits(), 21, "{answer}");
    }
}

#[test]
fn nobody_waits_for_what_was_not_kept_of_late() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |request, stream| {
        if request.has("x-wait") {
            held.wait();
        }
        match request.has("if-none-match") {
            true => send(stream, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
            false => send(
                stream,
                "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nCache-Control: private\r\nContent-Length: 4\r\n\r\npage",
            ),
        }
    });
    let balancer = balancer(&app, "{ coalesce: 60s }");
    assert_eq!(asking(&balancer, 1, "")[0].response().text(), "page");
    let mut waiting = asking(&balancer, 1, "X-Wait: 1\r\n");
    wait_for("the fetch", || (app.hits() == 2).then_some(()));
    assert_eq!(asking(&balancer, 1, "")[0].response().text(), "page", "it waits for nobody");
    assert_eq!(
        asking(&balancer, 1, "If-None-Match: \"x\"\r\n")[0].response().status,
        304,
        "conditions go along"
    );
    latch.open();
    assert_eq!(waiting[0].response().text(), "page");
    // Each core writes its records by itself: the one with the condition may come first.
    let is_whole = |record: &serde_json::Value| record["cache"] == "uncacheable" && record["status"] == 200;
    assert_eq!(balancer.record_where("of a whole page", is_whole)["cache_reason"], "private");
}

#[test]
fn who_waits_too_long_or_for_somebody_who_leaves_goes_on() {
    let (latch, asked) = (Latch::default(), AtomicUsize::new(0));
    let held = latch.clone();
    let app = App::new(move |_, stream| {
        if asked.fetch_add(1, SeqCst) == 0 {
            held.wait();
        }
        send(stream, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\npage")
    });
    let balancer = balancer(&app, "{ coalesce: 100ms }");
    let mut first = asking(&balancer, 1, "");
    wait_for("the fetch", || (app.hits() == 1).then_some(()));
    assert_eq!(asking(&balancer, 1, "")[0].response().text(), "page");
    latch.open();
    assert_eq!(first[0].response().text(), "page");
    assert_eq!(app.hits(), 2);
}

#[test]
fn a_fetch_goes_on_for_those_who_wait_though_its_client_leaves() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |_, stream| {
        held.wait();
        send(stream, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\npage")
    });
    let balancer = balancer(&app, "{ coalesce: 60s }");
    let first = asking(&balancer, 1, "").remove(0);
    wait_for("the fetch", || (app.hits() == 1).then_some(()));
    let mut other = asking(&balancer, 1, "").remove(0);
    balancer.wait_for_metric("evenkeel_connections", &[("listener", "web")], 2.0);
    wait_for("the other to wait", || {
        // A third sees that two are there: it waits, and leaves again.
        (balancer.metric("evenkeel_cache_fills", &[]) == 1.0).then_some(())
    });
    first.reset();
    latch.open();
    assert_eq!(other.response().text(), "page");
}

#[test]
fn variants_are_fetched_each_by_its_own() {
    let app = app();
    let shop = shop(&app, "{}");
    let target = "/with/cache-control:max-age=60&vary:Foo";
    for (foo, body) in [("1", "answer 1"), ("2", "answer 2"), ("1", "answer 1"), ("2", "answer 2")] {
        assert_eq!(shop.ask(Way::H2, get(target, &[("foo", foo)])).text(), body);
    }
}

#[test]
fn what_is_asked_for_once_is_not_kept_where_it_takes_more() {
    let app = app();
    let shop = with_rules(&app, "    - { name: all, cache: { min_uses: 3 }, pool: app }\n");
    let target = "/with/cache-control:max-age=60";
    let bodies = [0; 5].map(|_| shop.ask(Way::Http11, Asked::get(target)).text());
    assert_eq!(bodies, ["answer 1", "answer 2", "answer 3", "answer 3", "answer 3"]);
    shop.balancer.record_where("the first", |record| record["cache_reason"] == "min_uses");
    // One that is sent twice, for it wants a part and not all that is not kept, is one.
    let target = "/with/cache-control:max-age=60&part";
    let parts = [("range", "bytes=0-1")];
    for _ in 0..2 {
        assert_eq!(shop.ask(Way::Http11, super::get(target, &parts)).status, 200);
    }
    let hits = app.hits();
    shop.ask(Way::Http11, Asked::get(target));
    shop.ask(Way::Http11, Asked::get(target));
    assert_eq!(app.hits(), hits + 1, "the third is kept");
}

#[test]
fn what_is_stale_goes_out_while_one_request_renews_it() {
    for control in ["max-age=0, stale-while-revalidate=60", "max-age=0"] {
        let (latch, asked) = (Latch::default(), AtomicUsize::new(0));
        let held = latch.clone();
        let app = App::new(move |request, stream| {
            let count = asked.fetch_add(1, SeqCst);
            if count > 0 {
                held.wait();
            }
            let control = if count == 0 { control } else { "max-age=60" };
            match request.target.as_str() {
                "/gone" if count > 0 => status(stream, "404 Not Found", "gone"),
                _ => send(
                    stream,
                    &format!(
                        "HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nETag: \"{count}\"\r\nContent-Length: 6\r\n\r\npage {count}"
                    ),
                ),
            }
        });
        let shop = shop(&app, "{ stale_while_revalidate: 60s }");
        assert_eq!(shop.ask(Way::Http11, Asked::get("/")).text(), "page 0");
        // Nobody waits, however many come.
        for way in [Way::Http11, Way::H2, Way::Http10] {
            let response = shop.ask(way, Asked::get("/"));
            assert_eq!(response.text(), "page 0", "{way:?}");
            assert!(response.field("cache-status").starts_with("evenkeel; hit; ttl="), "{way:?}");
        }
        wait_for("the one request", || (app.hits() == 2).then_some(()));
        let asked = app.last();
        let told = (asked.field("if-none-match"), asked.field("host"), asked.has("x-forwarded-for"));
        assert_eq!(told, ("\"0\"".to_owned(), "shop.example".to_owned(), true));
        latch.open();
        wait_for("what is new", || (shop.ask(Way::Http11, Asked::get("/")).text() == "page 1").then_some(()));
        assert_eq!(app.hits(), 2, "{control}");
        wait_until("they are counted", || counted(&shop.balancer, "stale") >= 3.0);
    }
}

#[test]
fn what_forbids_it_is_not_used_beyond_its_time() {
    for control in ["max-age=0, must-revalidate", "s-maxage=0", "no-cache", "max-age=0, proxy-revalidate"] {
        let app = App::new(move |_, stream| {
            send(
                stream,
                &format!(
                    "HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nETag: \"x\"\r\nContent-Length: 4\r\n\r\npage"
                ),
            )
        });
        let shop = shop(&app, "{ stale_while_revalidate: 60s }");
        for n in 1..4 {
            shop.ask(Way::Http11, Asked::get("/"));
            assert_eq!(app.hits(), n, "{control}");
        }
    }
}

#[test]
fn a_renewal_that_fails_leaves_what_is_there() {
    let asked = AtomicUsize::new(0);
    let app = App::new(move |_, stream| match asked.fetch_add(1, SeqCst) {
        0 => send(stream, "HTTP/1.1 200 OK\r\nCache-Control: max-age=0\r\nContent-Length: 4\r\n\r\npage"),
        1 => Then::Close,
        2 => status(stream, "503 No", "broken"),
        _ => say(stream, "new"),
    });
    let shop = shop(&app, "{ stale_while_revalidate: 60s }");
    for hits in 1..4 {
        assert_eq!(shop.ask(Way::Http11, Asked::get("/")).text(), "page");
        // The one that it has begun ends before the next may.
        wait_for("the renewal", || (app.hits() >= hits).then_some(()));
        wait_for("its end", || (shop.balancer.metric("evenkeel_cache_fills", &[]) == 0.0).then_some(()));
    }
}

/// What a client has read so far of its response to a request for `/page`.
struct Reading(TcpStream, Vec<u8>);

impl Reading {
    fn begin(balancer: &Balancer, fields: &str) -> Self {
        let mut stream = TcpStream::connect(balancer.address("web")).expect("the listener takes connections");
        write!(stream, "GET /page HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n")
            .expect("it is sent");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket takes its options");
        Self(stream, Vec::new())
    }

    fn has(&self, text: &str) -> bool {
        self.1.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[track_caller]
    fn until(&mut self, text: &str) {
        let mut piece = [0; 4096];
        while !self.has(text) {
            let read = self.0.read(&mut piece).expect("more comes");
            assert!(read > 0, "it ends before {text:?}");
            self.1.extend_from_slice(&piece[..read]);
        }
    }

    /// Reads to the end, and says how many bytes the body has.
    fn rest(mut self) -> usize {
        let _ = self.0.read_to_end(&mut self.1);
        let end = self.1.windows(4).position(|window| window == b"\r\n\r\n").expect("there is a head");
        self.1.len() - end - 4
    }
}

/// An app whose page begins, and goes on once a latch is open.
fn halves(latch: &Latch, then: impl Fn(&mut TcpStream) -> Then + Send + Sync + 'static) -> App {
    let held = latch.clone();
    App::new(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nVary: X-Kind\r\nContent-Length: 100000";
        send(stream, &format!("{head}\r\n\r\nbegin{}half", "x".repeat(49_991)));
        held.wait();
        then(stream)
    })
}

#[test]
fn what_has_said_its_length_goes_to_all_who_wait_as_it_comes() {
    let latch = Latch::default();
    let app = halves(&latch, |stream| send(stream, &format!("{}end", "y".repeat(49_997))));
    let balancer = balancer(&app, "{ coalesce: 60s }");
    let mut all: Vec<_> = (0..5).map(|_| Reading::begin(&balancer, "")).collect();
    all.iter_mut().for_each(|client| client.until("half"));
    // Nor do those wait who come only now.
    all.extend((0..5).map(|_| Reading::begin(&balancer, "")));
    all.iter_mut().for_each(|client| client.until("half"));
    assert!(all.iter().all(|client| !client.has("yyyy")));
    // What it varies by is another request's: one of those fetches for the others of its kind.
    let mut others: Vec<_> = (0..5).map(|_| Reading::begin(&balancer, "X-Kind: b\r\n")).collect();
    others.iter_mut().for_each(|client| client.until("half"));
    assert_eq!(app.hits(), 2);
    latch.open();
    for mut client in all.into_iter().chain(others) {
        client.until("end");
        assert_eq!(client.rest(), 100_000);
    }
    assert_eq!(app.hits(), 2);
    wait_until("all are counted", || counted(&balancer, "coalesced") == 13.0);
}

#[test]
fn what_is_purged_as_it_comes_is_fetched_by_one_of_those_who_come_then() {
    let ways: [fn(&Balancer); 2] = [
        |balancer| assert_eq!(balancer.command(&["purge", "--all", "--hard"]).0, Some(0)),
        |balancer| {
            let mut client = balancer.client();
            client.send("POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(client.response().status, 204);
        },
    ];
    for change in ways {
        let latch = Latch::default();
        let held = latch.clone();
        let app = App::new(move |request, stream| {
            if request.method == "POST" {
                return send(stream, "HTTP/1.1 204 No Content\r\n\r\n");
            }
            let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100000";
            send(stream, &format!("{head}\r\n\r\nbegin{}half", "x".repeat(49_991)));
            held.wait();
            send(stream, &format!("{}end", "y".repeat(49_997)))
        });
        let balancer = balancer(&app, "{ coalesce: 60s }");
        let mut all: Vec<_> = (0..3).map(|_| Reading::begin(&balancer, "")).collect();
        all.iter_mut().for_each(|client| client.until("half"));
        assert_eq!(app.hits(), 1);
        change(&balancer);
        let before = app.hits();
        all.extend((0..20).map(|_| Reading::begin(&balancer, "")));
        all.iter_mut().for_each(|client| client.until("half"));
        assert_eq!(app.hits(), before + 1, "one fetches what is there now, for all who have come since");
        latch.open();
        for mut client in all {
            client.until("end");
            assert_eq!(client.rest(), 100_000);
        }
        assert!(get_page(&balancer).starts_with("evenkeel; hit"));
        assert_eq!(app.hits(), before + 1);
    }
}

/// What is said of the page by who asks for it now.
fn get_page(balancer: &Balancer) -> String {
    let mut client = balancer.client();
    client.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response().field("cache-status").to_owned()
}

#[test]
fn a_server_that_dies_in_the_middle_has_told_nobody_that_it_was_whole() {
    let latch = Latch::default();
    let app = halves(&latch, |_| Then::Reset);
    let balancer = balancer(&app, "{ coalesce: 60s, stale_if_error: 1h }");
    let mut all: Vec<_> = (0..5).map(|_| Reading::begin(&balancer, "")).collect();
    all.iter_mut().for_each(|client| client.until("half"));
    assert_eq!(app.hits(), 1);
    latch.open();
    all.into_iter().for_each(|client| assert!(client.rest() < 100_000));
    balancer.wait_for_metric("evenkeel_cache_fills", &[], 0.0);
    balancer.wait_for_metric("evenkeel_cache_filling_bytes", &[], 0.0);
    let again = Reading::begin(&balancer, "").rest();
    assert!(again < 100_000 && app.hits() == 2, "{again}");
}

#[test]
fn who_follows_what_breaks_off_before_its_first_byte_is_answered_as_who_fetches_it() {
    const CLIENTS: usize = 24;
    let gate = Arc::new(AtomicUsize::new(0));
    let opened = Arc::clone(&gate);
    let app = App::new(move |request, stream| {
        let round: usize = request.field("x-round").parse().expect("a number");
        wait_for("the gate", || (opened.load(SeqCst) > round).then_some(()));
        send(stream, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1000\r\n\r\n");
        // As its head is on its way to those who wait: sooner, and later.
        let until = std::time::Instant::now() + Duration::from_micros(20 * (round as u64 % 15));
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        Then::Close
    });
    let balancer = balancer(&app, "{ coalesce: 60s }");
    for round in 0..30 {
        let mut all = asking(&balancer, CLIENTS, &format!("X-Round: {round}\r\nConnection: close\r\n"));
        balancer.wait_for_metric("evenkeel_connections", &[("listener", "web")], CLIENTS as f64);
        gate.store(round + 1, SeqCst);
        for client in &mut all {
            let response = client.response();
            let is_cut = response.status == 200 && !response.complete;
            assert!(is_cut || response.status == 502, "{round}: {response:?}");
            assert!(is_cut || response.field("age").is_empty(), "{response:?}");
        }
        balancer.wait_for_metric("evenkeel_connections", &[("listener", "web")], 0.0);
    }
    let failures = |why| balancer.metric("evenkeel_http_failures_total", &[("why", why)]);
    wait_until("all are counted", || failures("server_reset") == (30 * CLIENTS) as f64);
    assert_eq!(failures("internal"), 0.0);
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_else() {
    const LENGTH: usize = 8 << 20;
    let app = App::new(|_, stream| {
        let head =
            format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {LENGTH}\r\n\r\n");
        send(stream, &(head + &"x".repeat(LENGTH)))
    });
    let balancer = balancer(&app, "{ coalesce: 60s }");
    let mut first = Reading::begin(&balancer, "");
    first.until("xxxx");
    // It reads no more, and what it has is far from all.
    for _ in 0..2 {
        assert_eq!(Reading::begin(&balancer, "").rest(), LENGTH);
    }
    assert_eq!(app.hits(), 1);
    assert_eq!(first.rest(), LENGTH);
}
