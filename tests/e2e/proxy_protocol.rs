//! The PROXY protocol: read from those who must send it and from nobody else, and written for servers that want it.

use crate::support::app::App;
use crate::support::balancer::{Balancer, outcome, plain};
use crate::support::client::Client;
use crate::support::tcp::{End, Server, bytes, connect, connect_from};
use crate::support::{wait_for, wait_until};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    [V2, &[command, family], &length, body].concat()
}

/// 203.0.113.9:4000 to 198.51.100.1:443.
fn v2_of_a_client() -> Vec<u8> {
    v2(0x21, 0x11, &[203, 0, 113, 9, 198, 51, 100, 1, 0x0f, 0xa0, 0x01, 0xbb])
}

const V1_OF_A_CLIENT: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 4000 443\r\n";

/// Keeps all that its connections bring to their end, and then says `ok`.
struct Listening {
    server: Server,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Listening {
    fn new() -> Self {
        let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let hearing = Arc::clone(&heard);
        let server = Server::new(move |mut stream| {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            hearing.lock().expect("no panic").push(bytes);
            let _ = stream.write_all(b"ok");
        });
        Self { server, heard }
    }

    #[track_caller]
    fn first(&self) -> Vec<u8> {
        wait_for("a connection", || self.heard.lock().expect("no panic").first().cloned())
    }
}

fn tcp(server: SocketAddr, listener: &str, pool: &str) -> String {
    plain(&[server], &format!("protocol: tcp, {listener}"), pool)
}

const FROM_LOOPBACK: &str = "proxy_protocol: { from: [127.0.0.0/8] }";

/// Sends these bytes and ends; what comes back.
fn exchange(balancer: &Balancer, bytes: &[u8]) -> End {
    let mut client = connect(balancer.address("web"));
    client.write_all(bytes).expect("taken");
    let _ = client.shutdown(Shutdown::Write);
    End::of(&mut client)
}

#[test]
fn a_header_says_who_the_client_is_and_the_server_gets_the_rest() {
    for (header, client) in [
        (V1_OF_A_CLIENT.to_vec(), "203.0.113.9"),
        (v2_of_a_client(), "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::9 ::1 4000 443\r\n".to_vec(), "2001:db8::9"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0x20, 0, b""), "127.0.0.1"),
        (v2(0x21, 0, b""), "127.0.0.1"),
        (v2(0x21, 0x31, &[0; 216]), "unix"),
    ] {
        let listening = Listening::new();
        let balancer = Balancer::start(&tcp(listening.server.address, FROM_LOOPBACK, ""));
        let said = exchange(&balancer, &[&header, &b"the bytes themselves"[..]].concat());
        assert_eq!(said, End::Closed(b"ok".to_vec()), "{client}");
        assert_eq!(listening.first(), b"the bytes themselves");
        let record = balancer.record_where("of the connection", |_| true);
        assert_eq!((&record["client"], &record["why"]), (&client.into(), &"ok".into()), "{record}");
        assert_eq!(record["bytes_in"], 20, "the header is no part of what was passed on");
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    for header in [V1_OF_A_CLIENT.to_vec(), v2_of_a_client()] {
        let listening = Listening::new();
        let balancer = Balancer::start(&tcp(listening.server.address, FROM_LOOPBACK, ""));
        let mut client = connect(balancer.address("web"));
        for byte in &header {
            client.write_all(&[*byte]).expect("taken");
        }
        client.write_all(b"rest").expect("taken");
        let _ = client.shutdown(Shutdown::Write);
        assert_eq!(End::of(&mut client), End::Closed(b"ok".to_vec()));
        assert_eq!(listening.first(), b"rest");
        assert_eq!(balancer.record_where("", |_| true)["client"], "203.0.113.9");
    }
}

#[test]
fn who_must_send_a_header_and_does_not_is_refused_and_counted() {
    let server = Server::echo("");
    for (sent, detail) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "no PROXY header"),
        (b"PROXY TCP4 1.2.3.4\r\n", "malformed PROXY header"),
        (&v2(0x21, 0x11, b"short"), "PROXY header shorter than its addresses"),
        (&[b'P'; 200], "no PROXY header"),
    ] {
        let text = tcp(server.address, FROM_LOOPBACK, "");
        for text in [text.clone(), text.replace("protocol: tcp,", "")] {
            let is_tcp = text.contains("tcp");
            let balancer = Balancer::start(&text);
            assert!(exchange(&balancer, sent).is_end());
            let record = balancer.record_where("of the connection", |_| true);
            // An HTTP client is told nothing.
            let status = if is_tcp { 400 } else { 0 };
            assert_eq!(outcome(&record), (status, "proxy_header".to_owned()));
            assert_eq!((&record["detail"], &record["client"]), (&detail.into(), &"127.0.0.1".into()));
            let counter =
                if is_tcp { "evenkeel_tcp_connections_total" } else { "evenkeel_http_failures_total" };
            assert_eq!(balancer.metric(counter, &[("why", "proxy_header"), ("listener", "web")]), 1.0);
            balancer.wait_for_metric("evenkeel_connections", &[], 0.0);
        }
    }
    assert_eq!(server.accepted(), 0);
}

#[test]
fn a_header_that_does_not_come_is_waited_for_no_longer_than_allowed() {
    let server = Server::echo("");
    let text = tcp(server.address, &format!("{FROM_LOOPBACK}, timeouts: {{ tls_handshake: 200ms }}"), "");
    for sent in [&b""[..], b"PROXY TCP4 ", V2] {
        let balancer = Balancer::start(&text);
        let mut client = connect(balancer.address("web"));
        client.write_all(sent).expect("taken");
        assert!(End::of(&mut client).is_end());
        let record = balancer.record_where("of the connection", |_| true);
        assert_eq!(outcome(&record), (408, "handshake_timeout".to_owned()));
        assert_eq!(record["detail"], "PROXY header incomplete");
    }
    assert_eq!(server.accepted(), 0);
}

#[test]
fn from_others_no_header_is_looked_for() {
    let listening = Listening::new();
    let text = tcp(listening.server.address, "proxy_protocol: { from: [10.0.0.0/8, 127.0.0.9] }", "");
    let balancer = Balancer::start(&text);
    assert_eq!(exchange(&balancer, V1_OF_A_CLIENT), End::Closed(b"ok".to_vec()));
    assert_eq!(listening.first(), V1_OF_A_CLIENT, "a client cannot choose its address");
    assert_eq!(balancer.record_where("", |_| true)["client"], "127.0.0.1");
    let mut proxied = connect_from([127, 0, 0, 9], balancer.address("web"));
    proxied.write_all(V1_OF_A_CLIENT).expect("taken");
    let _ = proxied.shutdown(Shutdown::Write);
    assert_eq!(End::of(&mut proxied), End::Closed(b"ok".to_vec()));
    balancer.record_where("of the client behind the proxy", |record| record["client"] == "203.0.113.9");
}

/// A connection through a proxy, from this client.
fn from(balancer: &Balancer, client: &str) -> TcpStream {
    let mut stream = connect(balancer.address("web"));
    write!(stream, "PROXY TCP4 {client} 198.51.100.1 4000 443\r\n").expect("taken");
    stream
}

#[test]
fn limits_and_hashing_go_by_the_real_client() {
    let servers = [Server::echo("1"), Server::echo("2"), Server::echo("3")];
    let addresses = servers.each_ref().map(|server| server.address);
    let listener = format!("protocol: tcp, {FROM_LOOPBACK}, limits: {{ connections_per_client: 2 }}");
    let balancer = Balancer::start(&plain(&addresses, &listener, "balance: consistent_hash"));
    let mut met = std::collections::BTreeSet::new();
    let mut held = Vec::new();
    for last in 1..=9 {
        let client = format!("192.0.2.{last}");
        let names = [(); 2].map(|()| {
            let mut stream = from(&balancer, &client);
            let name = bytes(&mut stream, 1);
            held.push(stream);
            name
        });
        assert_eq!(names[0], names[1], "{client}");
        met.extend(names);
        assert!(End::of(&mut from(&balancer, &client)).is_end(), "a third one of {client}");
    }
    assert!(met.len() > 1, "nine clients and one server");
    assert_eq!(balancer.metric("evenkeel_connections_refused_total", &[]), 9.0);
}

#[test]
fn http_behind_a_header_sees_the_real_client() {
    let app = App::saying("hello");
    let listener = format!("{FROM_LOOPBACK}, trusted_proxies: [203.0.113.0/24]");
    let balancer = Balancer::start(&plain(&[app.address], &listener, ""));
    let mut client = Client::over(from(&balancer, "192.0.2.7"));
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert_eq!(client.get("/2").status, 200, "the connection goes on");
    let mut client = Client::over(from(&balancer, "203.0.113.9"));
    client.send("GET /3 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let seen: Vec<_> = app.requests().iter().map(|request| request.field("x-forwarded-for")).collect();
    assert_eq!(seen, ["192.0.2.7", "192.0.2.7", "1.1.1.1, 203.0.113.9"]);
    let clients = ["/1", "/2", "/3"].map(|path| balancer.record(path)["client"].clone());
    assert_eq!(clients, ["192.0.2.7", "192.0.2.7", "1.1.1.1"]);
    // Header and request in one piece.
    let mut stream = connect(balancer.address("web"));
    stream
        .write_all(&[&v2_of_a_client(), &b"GET /4 HTTP/1.1\r\nHost: a\r\n\r\n"[..]].concat())
        .expect("taken");
    assert_eq!(Client::over(stream).response().status, 200);
}

#[test]
fn servers_that_want_a_header_get_one_before_anything_else() {
    for version in ["v1", "v2"] {
        let listening = Listening::new();
        let pool = format!("proxy_protocol: {version}");
        let balancer = Balancer::start(&tcp(listening.server.address, "", &pool));
        let web = balancer.address("web");
        let mut client = connect(web);
        let ours = client.local_addr().expect("connected");
        client.write_all(b"hello").expect("taken");
        let _ = client.shutdown(Shutdown::Write);
        assert_eq!(End::of(&mut client), End::Closed(b"ok".to_vec()));
        let expected = if version == "v1" {
            format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello", ours.port(), web.port()).into_bytes()
        } else {
            let ports = [ours.port().to_be_bytes(), web.port().to_be_bytes()].concat();
            [v2(0x21, 0x11, &[&[127, 0, 0, 1, 127, 0, 0, 1], &ports[..]].concat()), b"hello".to_vec()]
                .concat()
        };
        assert_eq!(listening.first(), expected);
        assert_eq!(balancer.record_where("", |_| true)["bytes_in"], 5);
    }
}

#[test]
fn a_header_is_not_held_back_until_the_client_speaks() {
    let server = Server::new(|mut stream| {
        let header = bytes(&mut stream, 28);
        let _ = stream.write_all(&header[..12]);
    });
    let balancer = Balancer::start(&tcp(server.address, "", "proxy_protocol: v2"));
    assert_eq!(End::of(&mut connect(balancer.address("web"))), End::Closed(V2.to_vec()));
}

#[test]
fn a_chain_of_proxies_passes_the_first_client_on() {
    let listening = Listening::new();
    let text = tcp(listening.server.address, FROM_LOOPBACK, "proxy_protocol: v2");
    let balancer = Balancer::start(&text);
    assert!(exchange(&balancer, &[V1_OF_A_CLIENT, b"x"].concat()).is_end());
    assert_eq!(listening.first(), [v2_of_a_client(), b"x".to_vec()].concat());
}

#[test]
fn each_http_request_to_a_pool_with_headers_has_a_connection_of_its_own() {
    // Answers requests that have a header before them, and says which.
    let server = Server::new(|stream| {
        let mut reader = std::io::BufReader::new(stream);
        let mut lines = String::new();
        while !lines.ends_with("\r\n\r\n") {
            if std::io::BufRead::read_line(&mut reader, &mut lines).is_ok_and(|n| n == 0) {
                return;
            }
        }
        let header = lines.lines().next().unwrap_or_default().to_owned();
        let keeps = !lines.to_ascii_lowercase().contains("connection: close");
        let body = format!("{header} {keeps}");
        let stream = reader.get_mut();
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.read(&mut [0]);
    });
    let balancer = Balancer::start(&plain(&[server.address], FROM_LOOPBACK, "proxy_protocol: v1"));
    for (at, client) in ["192.0.2.1", "192.0.2.2"].into_iter().enumerate() {
        let mut connection = Client::over(from(&balancer, client));
        for request in 1..=3 {
            let response = connection.get("/");
            assert_eq!(response.text(), format!("PROXY TCP4 {client} 198.51.100.1 4000 443 false"));
            assert_eq!(server.accepted(), at * 3 + request);
        }
    }
    // The same rule holds for older clients.
    for client in ["192.0.2.3", "192.0.2.4"] {
        let mut connection = Client::over(from(&balancer, client));
        connection.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        let response = connection.response();
        assert_eq!(response.text(), format!("PROXY TCP4 {client} 198.51.100.1 4000 443 false"));
    }
    assert_eq!(server.accepted(), 8);
}

#[test]
fn probes_say_that_they_are_our_own() {
    let app_like = |introduction: &'static [u8]| {
        Server::new(move |mut stream| {
            if bytes(&mut stream, introduction.len()) != introduction {
                return;
            }
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok_and(|n| request[..n].starts_with(b"GET /up HTTP/1.1\r\n")) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        })
    };
    let local: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    for (version, introduction) in [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", local)] {
        let server = app_like(introduction);
        let pool = format!("proxy_protocol: {version}, health: {{ http: /up, interval: 1s, rise: 1 }}");
        let balancer = Balancer::start(&plain(&[server.address], "", &pool));
        balancer.wait_for_metric("evenkeel_server_up", &[], 1.0);

        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        let hearing = Arc::clone(&heard);
        let server = Server::new(move |mut stream| {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            *hearing.lock().expect("no panic") = bytes;
        });
        let pool = format!("proxy_protocol: {version}, health: {{ tcp: {{}}, interval: 1s, rise: 1 }}");
        let balancer = Balancer::start(&plain(&[server.address], "", &pool));
        balancer.wait_for_metric("evenkeel_server_up", &[], 1.0);
        wait_until("the probe's header", || *heard.lock().expect("no panic") == introduction);
    }
}

#[test]
fn a_websocket_to_a_pool_with_headers_begins_with_one() {
    let server = Server::new(|mut stream| {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.extend(bytes(&mut stream, 1));
        }
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if text.starts_with("proxy tcp4 192.0.2.7 ") && text.contains("connection: upgrade\r\n") {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            let echoed = bytes(&mut stream, 5);
            let _ = stream.write_all(&echoed);
        }
    });
    let balancer = Balancer::start(&plain(&[server.address], FROM_LOOPBACK, "proxy_protocol: v1"));
    let mut client = Client::over(from(&balancer, "192.0.2.7"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response_to_head().status, 101);
    client.send("hello");
    assert_eq!(client.bytes(5), b"hello");
}
