//! How fast responses leave.

use crate::support::app::{App, say, send};
use crate::support::client::Client;
use crate::support::wait_until;
use crate::support::ways::{Asked, Way, Ways};
use std::time::{Duration, Instant};

/// Answers with so many bytes as the path says, after a length or in chunks.
fn downloads() -> App {
    App::new(|request, stream| {
        let size: usize = request.target.rsplit('/').next().and_then(|size| size.parse().ok()).unwrap_or(0);
        let body = "x".repeat(size);
        match request.target.contains("chunked") {
            true => send(
                stream,
                &format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"
                ),
            ),
            false => say(stream, &body),
        }
    })
}

fn shop(app: &App, bandwidth: &str) -> Ways {
    let rest = format!(
        "routes:\n  shop:\n    - {{ match: {{ path: /slow/* }}, bandwidth: {bandwidth}, pool: app }}\n    - {{ pool: app }}\n\
         pools: {{ app: {{ servers: [{}] }} }}\n",
        app.address
    );
    Ways::start("routes: shop", &rest)
}

#[test]
fn a_response_leaves_no_faster_than_it_may() {
    let app = downloads();
    let shop = shop(&app, "{ rate: 200KiB/s, after: 50KiB }");
    for target in ["/slow/150000", "/slow/chunked/150000"] {
        shop.each(Asked::get(target), |way, response| {
            assert_eq!((response.status, response.text().len()), (200, 150_000), "{target} {way:?}");
        });
    }
    let paced = |route| shop.balancer.metric("evenkeel_bandwidth_paced_total", &[("route", route)]);
    let began = Instant::now();
    shop.each(Asked::get("/slow/150000"), |_, _| ());
    // A lower bound, which no machine can be too slow for: 100,000 bytes beyond, less the last piece, at 204,800 a second.
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    assert!(paced("shop/1") >= 3.0, "each way was held back");
    shop.each(Asked::get("/fast/150000"), |_, response| assert_eq!(response.text().len(), 150_000));
    shop.each(Asked::get("/slow/50000"), |_, response| assert_eq!(response.text().len(), 50_000));
    assert_eq!(shop.balancer.series("evenkeel_bandwidth_paced_total", &[("route", "shop/2")]), [0.0; 0]);
    let told = shop.balancer.command(&["explain", "http://shop.example/slow/1"]).1;
    assert!(told.contains("200KiB a second, after 50KiB"), "{told}");
}

#[test]
fn all_that_a_client_has_leaves_together_no_faster_than_it_may() {
    let app = downloads();
    let shop = shop(&app, "{ per: client, rate: 200KiB/s, after: 0B }");
    let client = || Client::connect(shop.balancer.address("web"));
    // Lower bounds, which no machine can be too slow for.
    let began = Instant::now();
    let mut one = client();
    for _ in 0..4 {
        assert_eq!(one.get("/slow/50000").text().len(), 50_000);
    }
    assert!(
        began.elapsed() >= Duration::from_millis(600),
        "three wait for 50,000 bytes each: {:?}",
        began.elapsed()
    );
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(client().get("/slow/150000").text().len(), 150_000));
        }
    });
    assert!(
        began.elapsed() >= Duration::from_millis(1000),
        "all but their first pieces: {:?}",
        began.elapsed()
    );
}

#[test]
fn no_byte_leaves_before_its_time() {
    const RATE: f64 = 8192.0;
    let app = downloads();
    std::thread::scope(|scope| {
        for per in ["response", "client"] {
            for target in ["/slow/40000", "/slow/chunked/40000", "/slow/9000", "/slow/5000000"] {
                let app = &app;
                scope.spawn(move || {
                    let shop = shop(app, &format!("{{ per: {per}, rate: 8KiB/s, after: 0B }}"));
                    let mut client = Client::connect(shop.balancer.address("web"));
                    let began = Instant::now();
                    client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
                    // The head, and the framing of chunks.
                    let mut came = -1024.0;
                    for _ in 0..40 {
                        came += client.bytes(200).len() as f64;
                        // However slow the machine is, that only leaves more time; 1 KiB may be ahead.
                        let may = 1024.0 + RATE * began.elapsed().as_secs_f64();
                        assert!(came <= may, "{target} {per}: {came} bytes where {may} may be there");
                    }
                    client.reset();
                });
            }
        }
    });
}

#[test]
fn short_responses_are_held_back_by_every_way() {
    let app = downloads();
    let shop = shop(&app, "{ rate: 16KiB/s, after: 0B }");
    std::thread::scope(|scope| {
        for way in Way::ALL {
            let shop = &shop;
            scope.spawn(move || {
                for target in ["/slow/12000", "/slow/chunked/12000"] {
                    let began = Instant::now();
                    let response = shop.ask(way, Asked::get(target));
                    assert_eq!(
                        (response.text().len(), response.complete),
                        (12_000, true),
                        "{target} {way:?}"
                    );
                    // All but what may be ahead of its time, at 16,384 a second.
                    assert!(
                        began.elapsed() >= Duration::from_millis(600),
                        "{target} {way:?} {:?}",
                        began.elapsed()
                    );
                }
            });
        }
    });
}

#[test]
fn a_client_that_leaves_while_its_response_is_held_back_is_let_go() {
    for per in ["response", "client"] {
        let app = downloads();
        let shop = shop(&app, &format!("{{ per: {per}, rate: 1KiB/s, after: 0B }}"));
        let ask = || {
            let mut client = Client::connect(shop.balancer.address("web"));
            client.send("GET /slow/5000000 HTTP/1.1\r\nHost: shop.example\r\n\r\n");
            client
        };
        // What may be ahead of its time has left, and of a client's next response only the head has.
        let mut first = ask();
        assert_eq!(first.bytes(500).len(), 500, "it has begun");
        let clients = [first, ask()];
        wait_until("the other one is under way", || app.hits() == 2);
        // A FIN would say nothing: who half-closes may still read.
        clients.into_iter().for_each(Client::reset);
        shop.balancer.wait_for_in_flight(0.0);
    }
}
