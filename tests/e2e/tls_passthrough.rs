//! `protocol: tls_passthrough`: the server is chosen by what the client's hello says, and gets it byte for byte.

use crate::support::balancer::{Balancer, outcome};
use crate::support::tcp::{End, Server, connect, connect_from};
use crate::support::tls::Certificate;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

/// A ClientHello with this name and these protocols, and so many bytes of padding.
fn hello(name: Option<&str>, alpn: &[&str], padding: usize) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut extension = |kind: u8, value: &[u8]| {
        extensions.extend([0, kind]);
        extensions.extend(with_length(value));
    };
    if let Some(name) = name {
        extension(0, &with_length(&[&[0][..], &with_length(name.as_bytes())].concat()));
    }
    if !alpn.is_empty() {
        let one = |name: &&str| [&[name.len() as u8][..], name.as_bytes()].concat();
        extension(16, &with_length(&alpn.iter().flat_map(one).collect::<Vec<_>>()));
    }
    extension(21, &vec![0; padding]);
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(with_length(&extensions));
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

/// In records of so many bytes.
fn records(message: &[u8], of: usize) -> Vec<u8> {
    message.chunks(of).flat_map(|part| [&[22, 3, 1][..], &with_length(part)].concat()).collect()
}

fn client_hello(name: &str) -> Vec<u8> {
    records(&hello(Some(name), &["h2", "http/1.1"], 0), 16_384)
}

/// Answers with its name and all it got, once its client has ended.
fn mirror(name: &'static str) -> Server {
    Server::new(move |mut stream| {
        let mut bytes = name.as_bytes().to_vec();
        let _ = stream.read_to_end(&mut bytes);
        let _ = stream.write_all(&bytes);
    })
}

const NAMES: [&str; 4] = ["exact ", "below ", "mysql ", "other "];

/// One server for each name, and the configuration that leads to them.
fn routed(listener: &str, fallback: &str) -> (Vec<Server>, String) {
    let servers: Vec<_> = NAMES.into_iter().map(mirror).collect();
    let pools: String = NAMES
        .into_iter()
        .zip(&servers)
        .map(|(name, server)| format!("  {name}: {{ servers: [{}] }}\n", server.address))
        .collect();
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, protocol: tls_passthrough, routes: names, {listener} }}\n\
         routes:\n  names:\n    - {{ match: {{ host: shop.example }}, pool: exact }}\n    \
         - {{ match: {{ host: \"*.shop.example\" }}, pool: below }}\n    \
         - {{ name: db, match: {{ alpn: [mysql, postgresql] }}, pool: mysql }}\n{fallback}\
         pools:\n{pools}"
    );
    (servers, text)
}

const FALLBACK: &str = "    - pool: other\n";

fn exchange(client: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    client.write_all(bytes).expect("taken");
    let _ = client.shutdown(Shutdown::Write);
    match End::of(client) {
        End::Closed(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_server_is_chosen_by_name_and_protocol_and_gets_every_byte() {
    let (_servers, text) = routed("", FALLBACK);
    let balancer = Balancer::start(&text);
    for (name, alpn, expected, route) in [
        (Some("shop.example"), &["h2"][..], "exact ", "names/1"),
        (Some("SHOP.example"), &["mysql"], "exact ", "names/1"),
        (Some("a.b.shop.example"), &[], "below ", "names/2"),
        (Some("db.example"), &["postgresql"], "mysql ", "db"),
        (None, &["mysql"], "mysql ", "db"),
        (Some("db.example"), &["h2"], "other ", "names/4"),
        (None, &[], "other ", "names/4"),
    ] {
        for of in [16_384, 7] {
            let sent = [records(&hello(name, alpn, 0), of), b"and what follows".to_vec()].concat();
            let got = exchange(&mut connect(balancer.address("web")), &sent);
            assert_eq!(got, [expected.as_bytes(), &sent].concat(), "{name:?} {alpn:?}");
        }
        let record = balancer.record_where("with this name", |record| {
            record["host"] == serde_json::json!(name) && record["route"] == route
        });
        assert_eq!((&record["protocol"], &record["why"]), (&"TLS".into(), &"ok".into()), "{record}");
        assert_eq!(record["pool"], expected.trim_end(), "{record}");
        // And it can be explained.
        let Some(name) = name else { continue };
        let url = format!("https://{name}/");
        let offered = alpn.iter().flat_map(|protocol| ["--alpn", protocol]);
        let arguments: Vec<_> = ["explain", &url].into_iter().chain(offered).collect();
        assert_eq!(balancer.command_json(&arguments)["pool"], expected.trim_end(), "{arguments:?}");
    }
    assert_eq!(balancer.metric("evenkeel_tcp_connections_total", &[("route", "db"), ("why", "ok")]), 4.0);
}

#[test]
fn a_hello_that_trickles_in_is_put_together() {
    let (_servers, text) = routed("", FALLBACK);
    let balancer = Balancer::start(&text);
    let mut client = connect(balancer.address("web"));
    let sent = client_hello("www.shop.example");
    for byte in &sent {
        client.write_all(&[*byte]).expect("taken");
    }
    assert_eq!(exchange(&mut client, b""), [b"below ", &sent[..]].concat());
}

#[test]
fn a_large_hello_passes_and_a_larger_one_does_not() {
    let (_servers, text) = routed("", FALLBACK);
    let balancer = Balancer::start(&text);
    let large = records(&hello(Some("shop.example"), &["h2"], 15_000), 4_000);
    assert_eq!(exchange(&mut connect(balancer.address("web")), &large).len(), large.len() + 6);
}

/// The one connection's record and that nothing is left of it.
#[track_caller]
fn refused(balancer: &Balancer, status: u64, why: &str, detail: &str) {
    let record = balancer.record_where("of the connection", |_| true);
    assert_eq!((outcome(&record), &record["detail"]), ((status, why.to_owned()), &detail.into()), "{record}");
    assert_eq!(record["protocol"], "TLS");
    assert_eq!(balancer.metric("evenkeel_tcp_connections_total", &[("why", why), ("listener", "web")]), 1.0);
    balancer.wait_for_metric("evenkeel_connections", &[], 0.0);
}

#[test]
fn what_cannot_be_routed_is_closed_counted_and_logged() {
    let (servers, text) = routed("timeouts: { tls_handshake: 300ms }", "");
    for (sent, status, why, detail) in [
        (b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n".to_vec(), 400, "client_hello", "not TLS"),
        (b"\x16\x03\x01\x00\x05\x02".to_vec(), 400, "client_hello", "TLS, but no ClientHello"),
        (records(&hello(None, &[], 20_000), 9_000), 400, "client_hello", "ClientHello longer than 16 KiB"),
        (
            records(&hello(Some("bad name"), &[], 0), 9_000),
            400,
            "client_hello",
            "malformed server name in the ClientHello",
        ),
        (client_hello("x.example")[..20].to_vec(), 408, "handshake_timeout", "ClientHello incomplete"),
        (Vec::new(), 408, "handshake_timeout", "ClientHello incomplete"),
        (records(&hello(None, &["h2"], 0), 9_000), 404, "no_route", "no server name"),
    ] {
        let balancer = Balancer::start(&text);
        let mut client = connect(balancer.address("web"));
        client.write_all(&sent).expect("taken");
        assert!(End::of(&mut client).is_end(), "{detail}");
        refused(&balancer, status, why, detail);
    }
    let balancer = Balancer::start(&text);
    let mut client = connect(balancer.address("web"));
    client.write_all(&client_hello("elsewhere.example")).expect("taken");
    assert!(End::of(&mut client).is_end());
    let record = balancer.record_where("of the connection", |_| true);
    assert_eq!((outcome(&record).1.as_str(), &record["host"]), ("no_route", &"elsewhere.example".into()));
    assert!(servers.iter().all(|server| server.accepted() == 0));
}

#[test]
fn who_leaves_within_the_hello_is_logged_and_who_says_nothing_is_not() {
    let (_servers, text) = routed("", "");
    let balancer = Balancer::start(&text);
    drop(connect(balancer.address("web")));
    balancer.wait_for_metric("evenkeel_connections_total", &[], 1.0);
    balancer.wait_for_metric("evenkeel_connections", &[], 0.0);
    let mut client = connect(balancer.address("web"));
    client.write_all(&client_hello("shop.example")[..30]).expect("taken");
    drop(client);
    refused(&balancer, 499, "client_aborted", "ClientHello incomplete");
    assert_eq!(balancer.records().len(), 1);
}

#[test]
fn one_pool_without_routes_takes_any_hello() {
    let server = mirror("app ");
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, protocol: tls_passthrough, pool: app }}\n\
         pools:\n  app: {{ servers: [{}], proxy_protocol: v1 }}\n",
        server.address
    );
    let balancer = Balancer::start(&text);
    let web = balancer.address("web");
    let mut client = connect(web);
    let port = client.local_addr().expect("connected").port();
    let sent = client_hello("any.example");
    let header = format!("app PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\n", web.port());
    assert_eq!(exchange(&mut client, &sent), [header.as_bytes(), &sent].concat());
    let record = balancer.record_where("of the connection", |_| true);
    assert_eq!((&record["host"], &record["bytes_in"]), (&"any.example".into(), &sent.len().into()));
}

#[test]
fn a_hello_after_a_proxy_header_is_read_too() {
    let (_servers, text) = routed("proxy_protocol: { from: [127.0.0.1] }", FALLBACK);
    let balancer = Balancer::start(&text);
    let sent = client_hello("shop.example");
    let with_header = [b"PROXY TCP4 192.0.2.7 198.51.100.1 1 443\r\n", &sent[..]].concat();
    let got = exchange(&mut connect(balancer.address("web")), &with_header);
    assert_eq!(got, [b"exact ", &sent[..]].concat());
    assert_eq!(balancer.record_where("of the connection", |_| true)["client"], "192.0.2.7");
    // Nobody waits in a listener's limit with half a hello under another's address.
    let got = exchange(&mut connect_from([127, 0, 0, 2], balancer.address("web")), &sent);
    assert_eq!(got, [b"exact ", &sent[..]].concat());
}

#[test]
fn real_tls_ends_at_the_server_with_the_servers_certificate() {
    let (shop, other) =
        (Certificate::until("shop.example", 2040), Certificate::until("www.other.example", 2040));
    let (shop_server, other_server) = (shop.serve(), other.serve());
    let text = format!(
        "listeners:\n  web: {{ address: 127.0.0.1:0, protocol: tls_passthrough, routes: names }}\n\
         routes:\n  names:\n    - {{ match: {{ host: shop.example }}, pool: shop }}\n    \
         - {{ match: {{ host: \"*.other.example\" }}, pool: other }}\n\
         pools:\n  shop: {{ servers: [{}] }}\n  other: {{ servers: [{}] }}\n",
        shop_server.address, other_server.address
    );
    let balancer = Balancer::start(&text);
    for (certificate, name) in [(&shop, "shop.example"), (&other, "www.other.example")] {
        let mut client = certificate.connect(connect(balancer.address("web")), name);
        let mut greeting = vec![0; name.len() + 1];
        client.read_exact(&mut greeting).expect("the server's greeting");
        assert_eq!(greeting, format!("{name}\n").as_bytes());
        let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut back = vec![0; sent.len()];
        for (sent, back) in sent.chunks(50_000).zip(back.chunks_mut(50_000)) {
            client.write_all(sent).expect("taken");
            client.read_exact(back).expect("said back");
        }
        assert_eq!(back, sent);
    }
}
