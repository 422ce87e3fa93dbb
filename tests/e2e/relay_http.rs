//! What the HTTP/1.1 relay promises beyond what any HTTP path does: bodies sent again whole, servers free early,
//! bounded memory for what nobody reads.

use crate::support::app::{App, Then, say, send};
use crate::support::balancer::{Balancer, plain};
use crate::support::client::Client;
use crate::support::h2;
use std::io::{Read, Write};
use std::net::TcpListener;

/// One core, so that there is one set of connections to servers.
const ONE_CORE: &str = "process: { threads: 1 }\n";

#[test]
fn a_body_is_sent_again_whole_if_it_is_small_and_the_request_harmless() {
    for (size, chunked, sent) in [(10, false, 2), (50_000, false, 2), (50_000, true, 2), (200_000, false, 1)]
    {
        let body: String = (0..size).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
        let bad = App::new(|_, _| Then::Reset);
        let good = App::new(|request, stream| say(stream, &String::from_utf8_lossy(&request.body)));
        // The bad one first: a pick among equals goes round in their order.
        let pool = "balance: round_robin";
        let balancer = Balancer::start(&plain(&[bad.address, good.address], "", pool));
        let mut client = balancer.client();
        client.send(match chunked {
            true => format!(
                "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"
            ),
            false => format!("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}"),
        });
        let response = client.response();
        let record = balancer.record("/x");
        assert_eq!(record["tries"], sent, "{size}");
        if sent == 2 {
            assert_eq!((response.status, response.text() == body), (200, true), "{size}");
            assert_eq!(record["bytes_in"], size, "{size}");
        } else {
            assert_eq!(response.status, 502, "{size}");
        }
    }
}

#[test]
fn a_request_that_follows_at_once_finds_the_place_of_the_last() {
    let app = App::saying("hello");
    let text = format!(
        "{ONE_CORE}listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\n\
         pools:\n  app: {{ servers: [{{ address: {}, max_connections: 1 }}] }}\n",
        app.address
    );
    let balancer = Balancer::start(&text);
    let mut clients = [balancer.client(), balancer.client()];
    for n in 0..200 {
        assert_eq!(clients[n % 2].get("/").status, 200, "request {n}");
    }
    assert_eq!(app.connections(), 1, "and its connection");
}

#[test]
fn an_answer_of_our_own_leaves_the_connection_open_unless_a_body_is_still_to_come() {
    let app = App::saying("hello");
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, pool: app }}\n\
         pools:\n  app: {{ servers: [{{ address: {}, drain: true }}] }}\n",
        app.address
    );
    let balancer = Balancer::start(&text);
    let mut client = balancer.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").status, 503);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nall of it");
        assert_eq!(client.response().status, 503);
    }
    client.send("POST /part HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhal");
    let response = client.response();
    assert_eq!((response.status, response.field("connection").as_str()), (503, "close"));
    assert!(client.is_closed());
}

#[test]
fn interim_responses_without_end_are_not_collected_for_a_client_that_reads_none() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    let flood = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("a connection");
        let _ = stream.read(&mut [0; 1024]);
        let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(4000));
        let mut sent = 0_u64;
        while stream.write_all(hint.as_bytes()).is_ok() {
            sent += hint.len() as u64;
            assert!(sent < 1 << 30, "a gigabyte was taken");
        }
    });
    let balancer = Balancer::start(&plain(&[address], "", ""));
    let mut client = balancer.client();
    client.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    flood.join().expect("the server is cut off");
    let record = balancer.record("/flood");
    assert_eq!(
        (&record["why"], &record["detail"]),
        (&"server_malformed".into(), &"interim responses of more than 64 KiB".into(),)
    );
}

#[test]
fn interim_responses_without_end_are_cut_off_although_the_client_reads() {
    let app = App::new(|_, stream| {
        while send(stream, "HTTP/1.1 103 Early Hints\r\n\r\n") == Then::Keep {}
        Then::Close
    });
    for pool in ["", "protocol: auto"] {
        let balancer = Balancer::start(&plain(&[app.address], "", pool));
        let mut client = balancer.client();
        client.send("GET /flood HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let statuses: Vec<_> = std::iter::from_fn(|| client.try_response()).map(|r| r.status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 103).count(), 64, "{pool}");
        assert_eq!(statuses.last(), Some(&502), "{pool}");
        assert_eq!(balancer.record("/flood")["detail"], "more than 64 interim responses", "{pool}");
    }
}

#[test]
fn interim_responses_have_one_bound_whatever_their_client_speaks() {
    // Of 4 KiB each; 15 of them are fewer than 64 KiB, and 17 are not.
    let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(4086));
    let app = App::new(move |request, stream| {
        let n = request.target[1..].parse().unwrap_or_default();
        send(stream, &hint.repeat(n));
        say(stream, "hello")
    });
    let second = Balancer::start(&plain(&[app.address], "", ""));
    for (server, protocol) in [(app.address, "http1"), (second.address("web"), "h2")] {
        let balancer = Balancer::start(&plain(&[server], "", &format!("protocol: {protocol}")));
        for (n, status) in [(15, 200), (17, 502)] {
            for version in ["1.0", "1.1"] {
                let mut client = balancer.client();
                client.send(format!("GET /{n} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"));
                let last =
                    std::iter::from_fn(|| client.try_response()).last().map(|response| response.status);
                assert_eq!(last, Some(status), "{protocol} {n} {version}");
            }
            let mut client = h2::Connection::new(balancer.address("web"));
            client.request(1, "GET", &format!("/{n}"), true);
            let last = std::iter::from_fn(|| client.next().filter(|frame| frame.kind != h2::DATA))
                .filter(|frame| frame.kind == h2::HEADERS)
                .last();
            assert_eq!(last.map(|frame| h2::status(&frame.payload)), Some(status), "{protocol} {n}");
        }
    }
}

#[test]
fn heads_come_through_in_their_order_and_with_their_capitals() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    let seen = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        send(&mut stream, "HTTP/1.1 200 Fine\r\nX-b: 1\r\nx-A: 2\r\ndate: x\r\nContent-LENGTH: 0\r\n\r\n");
        String::from_utf8(head).expect("text")
    });
    let balancer = Balancer::start(&plain(&[address], "", ""));
    let mut client: Client = balancer.client();
    client.send("GET /%7Ea?b=%20 HTTP/1.1\r\nhOST: a\r\nX-b: 1\r\nx-A: 2\r\nAccept:  */*\r\n\r\n");
    let expected = "HTTP/1.1 200 Fine\r\nX-b: 1\r\nx-A: 2\r\ndate: x\r\nContent-LENGTH: 0\r\n\r\n";
    assert_eq!(String::from_utf8(client.bytes(expected.len())).expect("text"), expected);
    let head = seen.join().expect("a head");
    let own = "GET /%7Ea?b=%20 HTTP/1.1\r\nhOST: a\r\nX-b: 1\r\nx-A: 2\r\nAccept: */*\r\nX-Forwarded-For: 127.0.0.1\r\n";
    assert!(head.starts_with(own), "{head}");
}

#[test]
fn connections_to_a_server_are_used_again_while_it_keeps_them() {
    let app = App::saying("hello");
    let balancer = Balancer::start(&format!("{ONE_CORE}{}", plain(&[app.address], "", "")));
    for _ in 0..20 {
        assert_eq!(balancer.get("/").text(), "hello");
    }
    assert_eq!(app.connections(), 1);
    // Not one of them fails when they are all closed under it.
    app.close_connections();
    for _ in 0..20 {
        assert_eq!(balancer.get("/").text(), "hello");
    }
    assert_eq!(app.connections(), 2);
}
