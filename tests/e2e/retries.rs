//! Requests whose server lets their time pass, and where they go then.

use crate::support::app::{App, Latch, Then, say};
use crate::support::balancer::{Balancer, plain};
use crate::support::{client::Client, h2, wait_until};
use std::time::{Duration, Instant};

/// Answers nothing until the latch is open.
fn hanging(latch: &Latch) -> App {
    let latch = latch.clone();
    App::new(move |_, stream| -> Then {
        latch.wait();
        say(stream, "late")
    })
}

const CUT: &str = "balance: round_robin, retries: { on: [connect, reset, timeout], per_try: 200ms }";

#[test]
fn a_server_that_hangs_costs_its_requests_no_more_than_a_try() {
    let latch = Latch::default();
    let (hangs, good) = (hanging(&latch), App::saying("good"));
    let balancer = Balancer::start(&plain(&[hangs.address, good.address], "", CUT));
    let mut client = balancer.client();
    for _ in 0..6 {
        assert_eq!(client.get("/page").text(), "good");
    }
    assert_eq!(balancer.metric("evenkeel_retries_total", &[("pool", "app"), ("reason", "timeout")]), 6.0);
    assert_eq!((hangs.hits(), good.hits()), (6, 6), "a try takes a turn");
    let record = balancer.record_where("a request that was tried twice", |record| record["tries"] == 2);
    assert_eq!((&record["why"], &record["status"]), (&"ok".into(), &200.into()));
    // Over HTTP/2 as well.
    let mut client = h2::Connection::new(balancer.address("web"));
    for stream in [1, 3] {
        client.request(stream, "GET", "/page", true);
        assert_eq!(client.response(stream), (200, b"good".to_vec()));
    }
    latch.open();
}

#[test]
fn what_may_not_be_repeated_and_the_last_try_have_all_their_time() {
    let latch = Latch::default();
    let (one, two) = (hanging(&latch), hanging(&latch));
    let balancer = Balancer::start(&plain(&[one.address, two.address], "", CUT));
    let mut posting = balancer.client();
    posting.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    let mut getting = balancer.client();
    getting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the second try of the one is under way", || one.hits() + two.hits() == 3);
    let begun = Instant::now();
    wait_until("more than a try's time is over", || begun.elapsed() > Duration::from_millis(500));
    assert_eq!(one.hits() + two.hits(), 3, "none was cut");
    latch.open();
    assert_eq!([posting.response().text(), getting.response().text()], ["late", "late"]);
}

#[test]
fn a_try_that_is_cut_for_a_server_that_has_gone_goes_on() {
    let latch = Latch::default();
    let (hangs, good) = (hanging(&latch), App::saying("good"));
    let pool = "balance: round_robin, retries: { on: [timeout], per_try: 3s }";
    let balancer = Balancer::start(&plain(&[hangs.address, good.address], "", pool));
    let mut client = balancer.client();
    client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the request is with the first server", || hangs.hits() == 1);
    let begun = Instant::now();
    assert_eq!(balancer.command(&["maint", "app/s2"]).0, Some(0));
    wait_until("more than a try's time is over", || begun.elapsed() > Duration::from_millis(3300));
    latch.open();
    assert_eq!(client.response().text(), "late");
    assert_eq!((balancer.outcome("/cut"), good.hits()), ((200, "ok".to_owned()), 0));
}

#[test]
fn a_response_that_does_not_come_is_told_as_before_where_there_is_no_other_server() {
    let latch = Latch::default();
    let hangs = hanging(&latch);
    let pool = "retries: { on: [timeout], per_try: 50ms }, timeouts: { response_header: 400ms }";
    let balancer = Balancer::start(&plain(&[hangs.address], "", pool));
    let mut client: Client = balancer.client();
    assert_eq!(client.get("/alone").status, 504);
    assert_eq!(balancer.outcome("/alone"), (504, "response_header_timeout".to_owned()));
    assert_eq!(hangs.hits(), 1);
    latch.open();
}
