//! Connections that switch to another protocol: to what their rule lists, and to nothing else.

use crate::support::app::{App, Request, Then, say, send};
use crate::support::balancer::{Balancer, plain};
use crate::support::client::Client;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Switches to what it was asked for first, and says back what it hears, a farewell when that ends.
fn switching() -> App {
    App::new(|request: &Request, stream: &mut TcpStream| {
        let asked = request.field("upgrade");
        let Some(first) = asked.split(',').next().filter(|first| !first.is_empty()) else {
            return say(stream, "no upgrade");
        };
        send(
            stream,
            &format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {first}\r\n\r\n"),
        );
        let mut bytes = [0; 100];
        while let Ok(n @ 1..) = stream.read(&mut bytes) {
            let _ = stream.write_all(&bytes[..n]);
        }
        let _ = stream.write_all(b"farewell");
        Then::Close
    })
}

fn balancer(app: &App, upgrades: &str, pool: &str) -> Balancer {
    Balancer::start(&format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: all }}\nroutes:\n  all:\n    - {{ pool: app, {upgrades} }}\n\
         pools:\n  app: {{ servers: [{}], {pool} }}\n",
        app.address
    ))
}

fn ask(balancer: &Balancer, method: &str, upgrade: &str) -> Client {
    let mut client = balancer.client();
    client.send(format!(
        "{method} /attach HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
    ));
    client
}

#[test]
fn a_connection_switches_to_what_its_rule_lists() {
    let app = switching();
    let upgrades = "upgrades: [websocket, tcp, SPDY/3.1]";
    for pool in ["", "protocol: auto", "proxy_protocol: null"] {
        let balancer = balancer(&app, upgrades, pool);
        for (method, asked, reached) in [
            ("POST", "tcp", "tcp"),
            ("POST", "spdy/3.1", "SPDY/3.1"),
            ("GET", "h2c, tcp", "tcp"),
            ("GET", "WebSocket", "websocket"),
        ] {
            let mut client = ask(&balancer, method, asked);
            let response = client.response_to_head();
            assert_eq!(
                (response.status, response.field("upgrade").as_str()),
                (101, reached),
                "{asked} {pool}"
            );
            client.send("hello");
            assert_eq!(client.bytes(5), b"hello");
            balancer.wait_for_in_flight(1.0);
            if reached != "websocket" {
                // `docker attach` ends its input and reads on.
                client.finish_sending();
                assert_eq!(client.read_to_end(), ("farewell".to_owned(), true), "{asked} {pool}");
            }
            drop(client);
            balancer.wait_for_in_flight(0.0);
        }
        assert_eq!(balancer.outcome("/attach"), (101, "ok".to_owned()));
    }
}

#[test]
fn what_is_not_listed_is_not_asked_for() {
    let app = switching();
    for (upgrades, asked, body) in [
        ("", "tcp", "no upgrade"),
        ("upgrades: []", "websocket", "no upgrade"),
        ("upgrades: [tcp]", "websocket", "no upgrade"),
    ] {
        let balancer = balancer(&app, upgrades, "");
        assert_eq!(ask(&balancer, "GET", asked).response().text(), body, "{upgrades}");
    }
    // A listener that names its pool has no rule.
    let balancer = Balancer::start(&plain(&[app.address], "", ""));
    assert_eq!(ask(&balancer, "GET", "tcp").response().text(), "no upgrade");
    assert_eq!(ask(&balancer, "GET", "websocket").response_to_head().status, 101);
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.response().text(), "no upgrade", "a request with a body");
}

#[test]
fn a_server_that_switches_to_something_else_is_not_believed() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tls\r\n\r\n")
    });
    let balancer = balancer(&app, "upgrades: [tcp]", "");
    assert_eq!(ask(&balancer, "GET", "tcp").response().status, 502);
    assert_eq!(balancer.record("/attach")["detail"], "an upgrade nobody asked for");
}

#[test]
fn a_reload_changes_what_the_next_connection_may_switch_to() {
    let app = switching();
    let balancer = balancer(&app, "upgrades: [tcp]", "");
    let mut open = ask(&balancer, "GET", "tcp");
    assert_eq!(open.response_to_head().status, 101);
    balancer.reload(&format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, routes: all }}\nroutes:\n  all:\n    - {{ pool: app }}\n\
         pools:\n  app: {{ servers: [{}] }}\n",
        app.address
    ));
    assert_eq!(ask(&balancer, "GET", "tcp").response().text(), "no upgrade");
    open.send("still");
    assert_eq!(open.bytes(5), b"still");
}
