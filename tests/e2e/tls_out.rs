//! TLS towards servers: whom they must prove to be, what they are shown, and which connections may be used again. The
//! servers are evenkeel's own TLS listeners, whose handshakes and log have their own tests.

use crate::support::app::{App, Then, say, send};
use crate::support::balancer::{Balancer, Reloaded, evenkeel, plain, value};
use crate::support::client::Client;
use crate::support::tls::{Authority, Certificate, Shop, Speaker};
use crate::support::{client, h2, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;

/// A server that speaks TLS with this certificate, in front of an app.
struct Server {
    files: Shop,
    balancer: Balancer,
}

impl Server {
    fn new(app: &App, certificate: &Certificate, tls: &str) -> Self {
        let files = Shop::new(&[("server", certificate)]);
        let text = plain(&[app.address], &files.tls(&["server"], tls), "");
        Self { balancer: Balancer::start(&text), files }
    }

    fn address(&self) -> std::net::SocketAddr {
        self.balancer.address("web")
    }

    /// The certificate, which is its own authority.
    fn ca(&self) -> String {
        self.files.path("server.pem").display().to_string()
    }

    fn handshakes(&self, result: &str) -> f64 {
        self.balancer.metric("evenkeel_tls_handshakes_total", &[("result", result)])
    }
}

fn app_certificate() -> Certificate {
    Certificate::named(&["app.internal"])
}

/// In front of these servers, with this `tls`.
fn front(servers: &[&Server], tls: &str, pool: &str) -> String {
    let addresses: Vec<_> = servers.iter().map(|server| server.address()).collect();
    plain(&addresses, "", &format!("tls: {{ {tls} }}, {pool}"))
}

#[test]
fn requests_reach_a_server_that_proves_who_it_is() {
    let app = App::saying("hello");
    let server = Server::new(&app, &app_certificate(), "");
    let balancer =
        Balancer::start(&front(&[&server], &format!("server_name: app.internal, ca: {}", server.ca()), ""));
    let mut client = balancer.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "hello");
    }
    assert_eq!(server.handshakes("full"), 1.0, "the connection is kept");
    assert_eq!(app.last().field("x-forwarded-proto"), "https");
    // The engine's own way, for HTTP/2 and HTTP/1.0.
    let mut h2 = h2::Connection::new(balancer.address("web"));
    h2.request(1, "GET", "/h2", true);
    assert_eq!(h2.response(1), (200, b"hello".to_vec()));
    let mut old = TcpStream::connect(balancer.address("web")).expect("it connects");
    old.write_all(b"GET /old HTTP/1.0\r\nHost: a\r\n\r\n").expect("it is written");
    let mut answer = String::new();
    old.read_to_string(&mut answer).expect("it is answered");
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(server.handshakes("failed"), 0.0);
}

#[test]
fn a_server_that_does_not_prove_who_it_is_gets_no_request() {
    let app = App::saying("hello");
    let server = Server::new(&app, &app_certificate(), "");
    let other = server.files.path("other.pem");
    std::fs::write(&other, Authority::root("another").pem()).expect("it can be written");
    for (tls, detail) in [
        (
            format!("server_name: app.internal, ca: {}", other.display()),
            "certificate of an unknown authority",
        ),
        (format!("server_name: shop.internal, ca: {}", server.ca()), "certificate for another name"),
        (format!("ca: {}", server.ca()), "certificate for another name"),
    ] {
        let balancer = Balancer::start(&front(&[&server], &tls, "retries: { max: 0 }"));
        assert_eq!(balancer.get("/h1").status, 502);
        assert_eq!(balancer.outcome("/h1"), (502, "server_tls".to_owned()));
        assert_eq!(balancer.record("/h1")["detail"], detail);
        let mut h2 = h2::Connection::new(balancer.address("web"));
        h2.request(1, "GET", "/h2", true);
        assert_eq!(h2.response(1).0, 502);
        assert_eq!(balancer.outcome("/h2"), (502, "server_tls".to_owned()));
        balancer.wait_for_failures("server_tls", 2.0);
    }
    assert_eq!(app.hits(), 0);
}

#[test]
fn another_server_is_tried_where_one_does_not_prove_who_it_is() {
    let app = App::saying("hello");
    let good = Server::new(&app, &app_certificate(), "");
    let bad = Server::new(&app, &app_certificate(), "");
    let tls = format!("server_name: app.internal, ca: {}", good.ca());
    let balancer = Balancer::start(&front(&[&bad, &good], &tls, "balance: round_robin"));
    for _ in 0..4 {
        // POST too: no byte of it was sent.
        let mut client = balancer.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.response().status, 200);
    }
    assert!(balancer.metric("evenkeel_retries_total", &[("reason", "connect")]) >= 1.0);
    assert_eq!(bad.balancer.records().iter().filter(|record| record["status"] == 200).count(), 0);
}

#[test]
fn any_certificate_will_do_where_nothing_is_verified() {
    let app = App::saying("hello");
    let server = Server::new(&app, &app_certificate(), "");
    let balancer = Balancer::start(&front(&[&server], "verify: false", ""));
    assert_eq!(balancer.get("/").status, 200);
    balancer.log.wait_for("anybody between here and the servers can read and change what passes");
}

#[test]
fn a_server_is_shown_the_pools_certificate() {
    let app = App::saying("hello");
    let authority = Authority::root("clients");
    let balancer_certificate = authority.client("balancer", (2020, 2100));
    let files = Shop::new(&[("balancer", &balancer_certificate)]);
    let ca = files.path("clients.pem");
    std::fs::write(&ca, authority.pem()).expect("it can be written");
    let server = Server::new(&app, &app_certificate(), &format!("client_ca: {}", ca.display()));
    let identity = format!(
        "cert: {}, key: {}",
        files.path("balancer.pem").display(),
        files.path("balancer.key").display()
    );
    let tls = format!("server_name: app.internal, ca: {}", server.ca());
    let balancer = Balancer::start(&front(&[&server], &format!("{tls}, {identity}"), ""));
    assert_eq!(balancer.get("/shown").status, 200);
    assert!(
        server.balancer.record("/shown")["client_cert"]
            .as_str()
            .is_some_and(|name| name.contains("balancer"))
    );
    assert_eq!(balancer.reload(&front(&[&server], &tls, "retries: { max: 0 }")), Reloaded::Taken);
    let answer = balancer.get("/unshown");
    assert_eq!(answer.status, 502, "and a connection that has shown one is not used");
}

#[test]
fn connections_and_sessions_are_used_again_only_under_the_same_settings() {
    let app = App::saying("hello");
    let server = Server::new(&app, &app_certificate(), "");
    let other = Server::new(&app, &Certificate::named(&["app.internal"]), "");
    let tls = format!("server_name: app.internal, ca: {}", server.ca());
    let text = front(&[&server], &tls, "timeouts: { keepalive: 60s }");
    let balancer = Balancer::start(&text);
    // One client, so one core of the balancer.
    let mut client = balancer.client();
    let mut h2 = h2::Connection::new(balancer.address("web"));
    assert_eq!(client.get("/").status, 200);
    h2.request(1, "GET", "/", true);
    assert_eq!(h2.response(1).0, 200);
    // The same settings: the connection is used on.
    let before = server.balancer.metric("evenkeel_connections_total", &[]);
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    assert_eq!(client.get("/").status, 200);
    assert_eq!(server.balancer.metric("evenkeel_connections_total", &[]), before);
    // Another authority: what was verified by the old one is not used, however good the connection is.
    let elsewhere = format!("server_name: app.internal, ca: {}", other.ca());
    assert_eq!(
        balancer.reload(&front(&[&server], &elsewhere, "timeouts: { keepalive: 60s }")),
        Reloaded::Taken
    );
    assert_eq!(client.get("/").status, 502);
    h2.request(3, "GET", "/", true);
    assert_eq!(h2.response(3).0, 502);
    // And back: anew, with a session of its own.
    assert_eq!(balancer.reload(&text), Reloaded::Taken);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn sessions_are_resumed() {
    let app = App::new(|_, stream| {
        send(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        Then::Close
    });
    let server = Server::new(&app, &app_certificate(), "");
    let tls = format!("server_name: app.internal, ca: {}", server.ca());
    // Kept for no time at all: each request has a connection of its own.
    let balancer = Balancer::start(&front(&[&server], &tls, "timeouts: { keepalive: 1ms }"));
    wait_until("a session is resumed", || {
        assert_eq!(balancer.get("/").status, 200);
        server.handshakes("resumed") > 0.0
    });
}

#[test]
fn probes_go_over_tls_as_requests_do() {
    let app = App::saying("hello");
    let server = Server::new(&app, &app_certificate(), "");
    let tls = format!("server_name: app.internal, ca: {}", server.ca());
    for probe in ["http: /healthz", "tcp: {}"] {
        let health = format!("health: {{ {probe}, interval: 100ms, rise: 1, fall: 1 }}");
        let balancer = Balancer::start(&front(&[&server], &tls, &health));
        balancer.wait_for_metric("evenkeel_server_up", &[], 1.0);
        let wrong = format!("server_name: shop.internal, ca: {}", server.ca());
        assert_eq!(balancer.reload(&front(&[&server], &wrong, &health)), Reloaded::Taken);
        balancer.wait_for_metric("evenkeel_server_up", &[], 0.0);
        let line = balancer.log.wait_for("server down");
        assert!(line.contains("no TLS"), "{line}");
        assert!(balancer.metric("evenkeel_probes_total", &[("result", "tls")]) >= 1.0);
        assert!(!value(&line, "server").is_empty());
    }
}

#[test]
fn a_websocket_and_large_bodies_pass_both_ways() {
    let app = App::new(|request, stream| {
        if request.has("upgrade") {
            send(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            );
            let mut bytes = [0; 4];
            let _ = stream.read_exact(&mut bytes);
            let _ = stream.write_all(&bytes);
            return Then::Close;
        }
        say(stream, &"x".repeat(request.body.len()))
    });
    let server = Server::new(&app, &app_certificate(), "");
    let tls = format!("server_name: app.internal, ca: {}", server.ca());
    let balancer = Balancer::start(&front(&[&server], &tls, ""));
    let mut client = balancer.client();
    let body = "b".repeat(3 << 20);
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(client.response().body.len(), body.len());
    let mut socket = TcpStream::connect(balancer.address("web")).expect("it connects");
    let asked = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    socket.write_all(asked.as_bytes()).expect("it is written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("the head comes");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    socket.write_all(b"\x81\x02hi").expect("it is written");
    let mut back = [0; 4];
    socket.read_exact(&mut back).expect("it comes back");
    assert_eq!(&back, b"\x81\x02hi");
}

#[test]
fn a_tcp_listener_speaks_tls_to_its_servers() {
    let server = app_certificate();
    let files = Shop::new(&[("server", &server)]);
    let running = server.serve();
    let text = |proxy: &str| {
        plain(
            &[running.address],
            "protocol: tcp",
            &format!(
                "tls: {{ server_name: app.internal, ca: {} }}{proxy}",
                files.path("server.pem").display()
            ),
        )
    };
    let balancer = Balancer::start(&text(""));
    let mut socket = TcpStream::connect(balancer.address("web")).expect("it connects");
    let mut greeting = [0; 13];
    socket.read_exact(&mut greeting).expect("the server greets by the name it was asked for by");
    assert_eq!(&greeting, b"app.internal\n");
    socket.write_all(b"and back").expect("it is written");
    let mut back = [0; 8];
    socket.read_exact(&mut back).expect("it comes back");
    assert_eq!(&back, b"and back");
}

#[test]
fn the_servers_proxy_header_comes_before_tls() {
    let app = App::saying("hello");
    let files = Shop::new(&[("server", &app_certificate())]);
    let listener = format!("{}, proxy_protocol: {{ from: [127.0.0.0/8] }}", files.tls(&["server"], ""));
    let server = Balancer::start(&plain(&[app.address], &listener, ""));
    let tls = format!("server_name: app.internal, ca: {}", files.path("server.pem").display());
    let text = |listener: &str| {
        plain(&[server.address("web")], listener, &format!("proxy_protocol: v2, tls: {{ {tls} }}"))
    };
    let balancer = Balancer::start(&text(""));
    assert_eq!(balancer.get("/h1").status, 200);
    let mut h2 = h2::Connection::new(balancer.address("web"));
    h2.request(1, "GET", "/h2", true);
    assert_eq!(h2.response(1).0, 200);
    // TLS all the way through, with the header in between.
    let balancer = Balancer::start(&text("protocol: tcp"));
    assert_eq!(client::get(balancer.address("web"), "/tcp").status, 200);
}

#[test]
fn bad_files_are_refused_and_found_by_check() {
    let app = App::saying("hello");
    let server = Server::new(&app, &app_certificate(), "");
    let good = front(&[&server], &format!("server_name: app.internal, ca: {}", server.ca()), "");
    let balancer = Balancer::start(&good);
    let address = balancer.address("web");
    let other = Shop::new(&[("other", &app_certificate())]);
    let (cert, key) = (server.ca(), other.path("other.key").display().to_string());
    for (tls, said) in [
        ("ca: nowhere.pem".to_owned(), "pools.app.tls.ca: nowhere.pem is not there"),
        (format!("ca: {key}"), "holds no certificate"),
        (format!("cert: {cert}, key: {key}"), "is not the key of the first certificate"),
        (format!("cert: {cert}"), "is given without `key`"),
        ("verify: false, ca: a.pem".to_owned(), "is of no use with `verify: false`"),
        ("server_name: https://app".to_owned(), "is not a server name"),
    ] {
        balancer.log.clear();
        let text = front(&[&server], &tls, "");
        assert_eq!(balancer.reload(&text), Reloaded::Refused, "{tls}");
        balancer.log.wait_for(said);
        assert_eq!(client::get(address, "/").status, 200);
        let check = evenkeel().arg("check").arg(balancer.path("evenkeel.yaml")).output().expect("it runs");
        assert!(
            String::from_utf8_lossy(&check.stdout).contains(said.trim_start_matches("pools.app.tls.ca: "))
        );
    }
}

#[test]
fn tls_goes_on_at_both_ends() {
    let app = App::saying("hello");
    let server = Server::new(&app, &app_certificate(), "");
    let files = Shop::new(&[("shop", &Certificate::named(&["shop.example"]))]);
    let pool = format!("tls: {{ server_name: app.internal, ca: {} }}", server.ca());
    let text = plain(&[server.address()], &files.tls(&["shop"], ""), &pool);
    let balancer = Balancer::start(&text);
    let stream =
        Speaker::new().connect(balancer.address("web"), "shop.example").expect("the handshake succeeds");
    assert_eq!(Client::over_tls(stream).get("/").text(), "hello");
}
