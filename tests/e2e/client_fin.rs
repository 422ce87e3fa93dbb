//! Clients that close their half of the connection, with or before the response: `client_fin` says whether that cancels
//! their requests, and the same becomes of them every time.

use crate::support::app::{App, Latch, say, send, wait_for_the_end};
use crate::support::balancer::{Balancer, plain};
use crate::support::client::{Client, Wire};
use crate::support::tls::{Certificate, Shop, Speaker};
use crate::support::{h2, wait_until};
use std::io::Write;

/// Servers that speak HTTP/1.1, and another evenkeel in front of them that is spoken HTTP/2 to.
fn each_kind(app: &App, listener: &str, check: impl Fn(&Balancer, &str)) {
    check(&Balancer::start(&plain(&[app.address], listener, "")), "http1");
    let second = Balancer::start(&plain(&[app.address], "", ""));
    check(&Balancer::start(&plain(&[second.address("web")], listener, "protocol: h2")), "h2");
}

/// Has a client send this and its FIN at once, so often that chance would show.
fn finished(balancer: &Balancer, requests: &str) -> Vec<String> {
    let answers = (0..60).map(|_| {
        let mut client = balancer.client();
        client.send(requests);
        client.finish_sending();
        client.read_to_end().0
    });
    answers.collect()
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_fin_before_the_response_cancels() {
    // Later than the FIN, which comes behind the request at once.
    let app = App::new(|_, stream| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        say(stream, "hello")
    });
    each_kind(&app, "", |balancer, kind| {
        for requests in [GET, &GET.repeat(3), "GET /x HTTP/1.0\r\n\r\n"] {
            let answers = finished(balancer, requests);
            assert!(answers.iter().all(String::is_empty), "{kind} {requests:?}: {answers:?}");
        }
        balancer.wait_for_in_flight(0.0);
        assert!(balancer.records().iter().all(|record| record["why"] == "client_aborted"), "{kind}");
    });
}

#[test]
fn where_it_is_to_be_served_it_is_every_time() {
    let app = App::saying("hello");
    each_kind(&app, "client_fin: serve", |balancer, kind| {
        for (requests, n) in [(GET, 1), (&GET.repeat(3), 3), ("GET /x HTTP/1.0\r\n\r\n", 1)] {
            for answer in finished(balancer, requests) {
                assert_eq!(answer.matches("hello").count(), n, "{kind} {requests:?}: {answer:?}");
            }
        }
        assert!(balancer.records().iter().all(|record| record["why"] == "ok"), "{kind}");
    });
}

#[test]
fn a_reset_cancels_all_the_same() {
    let app = App::new(|_, stream| wait_for_the_end(stream));
    each_kind(&app, "client_fin: serve", |balancer, kind| {
        let mut client = balancer.client();
        client.send(GET);
        balancer.wait_for_in_flight(1.0);
        client.reset();
        balancer.wait_for_in_flight(0.0);
        assert_eq!(balancer.outcome("/x"), (499, "client_aborted".to_owned()), "{kind}");
    });
}

#[test]
fn a_body_that_a_fin_cuts_short_is_not_served() {
    let app = App::saying("hello");
    each_kind(&app, "client_fin: serve", |balancer, kind| {
        let mut client = balancer.client();
        client.send("POST /part HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        client.finish_sending();
        assert_eq!(client.read_to_end().0, "", "{kind}");
        assert_eq!(balancer.outcome("/part"), (499, "client_aborted".to_owned()), "{kind}");
    });
}

#[test]
fn a_response_that_has_begun_goes_on() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |_, stream| {
        send(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        held.wait();
        send(stream, "5\r\nafter\r\n0\r\n\r\n")
    });
    let two = [Balancer::start(&plain(&[app.address], "", ""))];
    let second = Balancer::start(&plain(&[app.address], "", ""));
    let h2 = Balancer::start(&plain(&[second.address("web")], "", "protocol: h2"));
    let mut clients: Vec<Client> = two.iter().chain([&h2]).map(Balancer::client).collect();
    for client in &mut clients {
        client.send(GET);
        client.response_to_head();
        assert_eq!(client.bytes(8), b"5\r\nfirst");
        client.finish_sending();
    }
    // A request of the next client is served after the FINs have come.
    for balancer in two.iter().chain([&h2]) {
        wait_until("it is in flight", || balancer.metric("evenkeel_server_in_flight", &[]) == 1.0);
    }
    latch.open();
    for mut client in clients {
        assert!(client.read_to_end().0.contains("after"));
    }
}

/// Answers with a beginning, and says nothing more.
fn stalling(head: &'static str) -> App {
    App::new(move |_, stream| {
        send(stream, head);
        wait_for_the_end(stream)
    })
}

const PART: &str = "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nhi";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n";

/// A client that has had the beginning of a response leaves, and its server's place is free at once.
fn check_left(head: &'static str, listener: &str, leave: fn(&Balancer)) {
    each_kind(&stalling(head), listener, |balancer, kind| {
        leave(balancer);
        balancer.wait_for_in_flight(0.0);
        assert_eq!(balancer.outcome("/x"), (200, "client_aborted".to_owned()), "{kind}");
    });
}

/// A client that has read all there is so far.
fn listening<S: Wire>(mut client: Client<S>, balancer: &Balancer) -> Client<S> {
    client.send(GET);
    assert_eq!(client.response_to_head().status, 200);
    balancer.wait_for_in_flight(1.0);
    client
}

#[test]
fn a_reset_in_the_middle_of_a_response_gives_the_place_back_though_the_server_is_silent() {
    let certificate = Certificate::named(&["a.example"]);
    let shop = Shop::new(&[("a", &certificate)]);
    for head in [PART, EVENTS] {
        check_left(head, "", |balancer| listening(balancer.client(), balancer).reset());
        check_left(head, &shop.tls(&["a"], ""), |balancer| {
            let stream = Speaker::new().connect(balancer.address("web"), "a.example").expect("a handshake");
            let client = listening(Client::over_tls(stream), balancer);
            let socket = client.tls().sock.try_clone().expect("a socket has handles");
            socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
            drop((client, socket));
        });
        // HTTP/2's ways of leaving: a stream's reset, and the connection's end or reset.
        check_left(head, "", |balancer| {
            let mut client = h2::Connection::new(balancer.address("web"));
            client.request(1, "GET", "/x", true);
            while client.next().is_some_and(|frame| frame.kind != h2::DATA) {}
            client.reset(1);
            assert!(client.is_alive());
        });
        check_left(head, "", |balancer| {
            let mut client = h2::Connection::new(balancer.address("web"));
            client.request(1, "GET", "/x", true);
            while client.next().is_some_and(|frame| frame.kind != h2::DATA) {}
        });
    }
}

#[test]
fn where_a_fin_is_a_close_it_gives_the_place_back_though_the_server_is_silent() {
    let certificate = Certificate::named(&["a.example"]);
    let shop = Shop::new(&[("a", &certificate)]);
    for head in [PART, EVENTS] {
        check_left(head, "client_fin: close", |balancer| {
            drop(listening(balancer.client(), balancer));
        });
        check_left(head, &format!("client_fin: close, {}", shop.tls(&["a"], "")), |balancer| {
            let stream = Speaker::new().connect(balancer.address("web"), "a.example").expect("a handshake");
            let mut client = listening(Client::over_tls(stream), balancer);
            client.say_no_more();
        });
    }
    // Before the response it cancels too, and what the server has sent to its end goes out.
    let app = App::saying("hello");
    each_kind(&app, "client_fin: close", |balancer, kind| {
        let mut client = balancer.client();
        client.send(GET);
        assert_eq!(client.response_to_head().status, 200);
        client.finish_sending();
        assert_eq!(client.read_to_end().0, "hello", "{kind}");
    });
}

#[test]
fn close_notify_alone_is_no_fin() {
    let latch = Latch::default();
    let held = latch.clone();
    let app = App::new(move |request, stream| {
        if request.target == "/first" {
            held.wait();
        }
        say(stream, "hello")
    });
    let certificate = Certificate::named(&["a.example"]);
    let shop = Shop::new(&[("a", &certificate)]);
    each_kind(&app, &shop.tls(&["a"], ""), |balancer, kind| {
        for speaker in [Speaker::tls12(), Speaker::tls13()] {
            let stream = speaker.connect(balancer.address("web"), "a.example").expect("a handshake");
            let mut client = Client::over_tls(stream);
            client.send(GET);
            client.say_no_more();
            assert!(client.read_to_end().0.ends_with("hello"), "{kind}");
        }
        // With a FIN below it is one.
        let stream = Speaker::new().connect(balancer.address("web"), "a.example").expect("a handshake");
        let mut client = Client::over_tls(stream);
        client.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
        balancer.wait_for_in_flight(1.0);
        client.say_no_more();
        client.tls().sock.shutdown(std::net::Shutdown::Write).expect("a socket");
        balancer.wait_for_in_flight(0.0);
        assert_eq!(balancer.outcome("/first"), (499, "client_aborted".to_owned()), "{kind}");
    });
    latch.open();
}

#[test]
fn a_websocket_has_no_half_that_a_fin_could_leave() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let _ = stream.write_all(b"hello");
        wait_for_the_end(stream)
    });
    let balancer = Balancer::start(&plain(&[app.address], "client_fin: serve", ""));
    let mut client = balancer.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response_to_head().status, 101);
    assert_eq!(client.bytes(5), b"hello");
    client.finish_sending();
    assert!(client.is_closed());
    assert_eq!(balancer.outcome("/ws"), (101, "ok".to_owned()));
}

#[test]
fn close_notify_alone_ends_no_http2_connection_that_has_requests() {
    let app = App::new(|_, stream| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        say(stream, "hello")
    });
    let certificate = Certificate::named(&["a.example"]);
    let shop = Shop::new(&[("a", &certificate)]);
    let balancer = Balancer::start(&plain(&[app.address], &shop.tls(&["a"], ""), ""));
    let stream = Speaker::new().offering(&["h2"]).connect(balancer.address("web"), "a.example");
    let mut client = Client::over_tls(stream.expect("a handshake"));
    let head =
        h2::block(&[(":method", "GET"), (":scheme", "https"), (":path", "/x"), (":authority", "a.example")]);
    client.send(h2::PREFACE);
    client.send(h2::frame(h2::SETTINGS, 0, 0, &[]));
    client.send(h2::frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &head));
    client.say_no_more();
    assert_eq!(balancer.outcome("/x"), (200, "ok".to_owned()));
    // And then it does: nothing more can be asked.
    assert!(client.read_to_end().0.contains("hello"));
}
