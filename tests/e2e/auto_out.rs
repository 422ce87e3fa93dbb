//! `protocol: auto`: each server is spoken to as it has agreed by ALPN. Servers are evenkeel's own plain listeners, which
//! speak both, behind ends of TLS whose choice the tests make.

use crate::support::app::{App, Then, say, send};
use crate::support::balancer::{Balancer, Reloaded, plain};
use crate::support::h2;
use crate::support::tls::{Certificate, Shop};
use crate::support::wait_until;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Ends TLS in front of a server.
struct Front {
    address: SocketAddr,
    config: watch::Sender<Arc<ServerConfig>>,
    /// Held by each connection too.
    open: Arc<()>,
    certificate: Certificate,
    _runtime: tokio::runtime::Runtime,
}

fn config(certificate: &Certificate, protocols: &[&str]) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&certificate.server_config());
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

impl Front {
    fn new(certificate: Certificate, server: SocketAddr, protocols: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, receiver) = watch::channel(config(&certificate, protocols));
        let open = Arc::new(());
        let held = Arc::downgrade(&open);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (mut receiver, held) = (receiver.clone(), held.upgrade());
                tokio::spawn(async move {
                    let config = Arc::clone(&receiver.borrow_and_update());
                    let Ok(mut client) = TlsAcceptor::from(config).accept(socket).await else { return };
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = receiver.changed() => {}
                    }
                    drop((client, server, held));
                });
            }
        });
        Self { address, config: sender, open, certificate, _runtime: runtime }
    }

    /// As a restart with other settings: what is open ends.
    fn restart(&self, protocols: &[&str]) {
        self.config.send_replace(config(&self.certificate, protocols));
        wait_until("connections have ended", || Arc::strong_count(&self.open) == 1);
    }
}

const BOTH: &[&str] = &["h2", "http/1.1"];
const HTTP1: &[&str] = &["http/1.1"];
const H2: &[&str] = &["h2"];
const AUTO: &str = "protocol: auto, tls: { verify: false }, balance: round_robin";

fn certificate() -> Certificate {
    Certificate::named(&["app.internal"])
}

/// Which protocol requests of every client have reached a server by that agrees on these.
#[track_caller]
fn check(protocols: &[&str], expected: &str) {
    let app = App::echo();
    let server = Balancer::start(&plain(&[app.address], "", ""));
    let front = Front::new(certificate(), server.address("web"), protocols);
    let balancer = Balancer::start(&plain(&[front.address], "", AUTO));
    let mut client = balancer.client();
    for n in 0..4 {
        let path = format!("/h1-{n}");
        assert_eq!(client.get(&path).text(), format!("GET {path} "));
        assert_eq!(server.protocol(&path), expected);
    }
    client.send(
        "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert_eq!(client.response().text(), "POST /chunks hello");
    assert_eq!(server.protocol("/chunks"), expected);
    let mut client = h2::Connection::new(balancer.address("web"));
    client.request(1, "POST", "/h2", false);
    client.data(1, b"all of it", true);
    assert_eq!(client.response(1), (200, b"POST /h2 all of it".to_vec()));
    assert_eq!(server.protocol("/h2"), expected);
    assert_eq!(balancer.record("/h1-0")["tries"], 1, "a wrong guess is no try");
    balancer.wait_for_in_flight(0.0);
}

#[test]
fn a_server_that_speaks_both_gets_its_choice() {
    check(BOTH, "HTTP/2.0");
    check(&["http/1.1", "h2"], "HTTP/1.1");
}

#[test]
fn a_server_of_one_protocol_gets_that() {
    check(HTTP1, "HTTP/1.1");
    check(H2, "HTTP/2.0");
}

#[test]
fn a_server_that_chooses_nothing_gets_http1() {
    check(&[], "HTTP/1.1");
}

#[test]
fn servers_of_one_pool_may_differ() {
    let app = App::echo();
    let servers = [(); 2].map(|()| Balancer::start(&plain(&[app.address], "", "")));
    let fronts =
        [(0, HTTP1), (1, BOTH)].map(|(at, all)| Front::new(certificate(), servers[at].address("web"), all));
    let balancer = Balancer::start(&plain(&fronts.each_ref().map(|front| front.address), "", AUTO));
    let mut client = balancer.client();
    for n in 0..8 {
        assert_eq!(client.get(&format!("/{n}")).status, 200);
    }
    for n in 0..8 {
        let path = format!("/{n}");
        let (at, expected) =
            if balancer.record(&path)["server"] == "s1" { (0, "HTTP/1.1") } else { (1, "HTTP/2.0") };
        assert_eq!(servers[at].protocol(&path), expected);
    }
}

#[test]
fn a_server_that_changes_its_mind_is_followed() {
    let app = App::echo();
    let server = Balancer::start(&plain(&[app.address], "", ""));
    let front = Front::new(certificate(), server.address("web"), BOTH);
    let balancer = Balancer::start(&plain(&[front.address], "", AUTO));
    let mut client = balancer.client();
    for (n, (protocols, expected)) in
        [(BOTH, "HTTP/2.0"), (HTTP1, "HTTP/1.1"), (H2, "HTTP/2.0"), (HTTP1, "HTTP/1.1")]
            .into_iter()
            .enumerate()
    {
        front.restart(protocols);
        let path = format!("/{n}");
        assert_eq!(client.get(&path).status, 200);
        assert_eq!(server.protocol(&path), expected);
    }
}

#[test]
fn websockets_go_by_http1_whatever_else_goes_by_http2() {
    let app = App::new(|request, stream| match request.target.as_str() {
        "/ws" => {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            send(stream, head);
            send(stream, "hi");
            Then::Close
        }
        _ => say(stream, "plain"),
    });
    let server = Balancer::start(&plain(&[app.address], "", ""));
    let front = Front::new(certificate(), server.address("web"), BOTH);
    let balancer = Balancer::start(&plain(&[front.address], "", AUTO));
    assert_eq!(balancer.get("/before").text(), "plain");
    let mut client = balancer.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response_to_head().status, 101);
    assert_eq!(client.bytes(2), b"hi");
    assert_eq!(balancer.get("/after").text(), "plain");
    assert_eq!(server.protocol("/before"), "HTTP/2.0");
    assert_eq!(server.protocol("/ws"), "HTTP/1.1");
    assert_eq!(server.protocol("/after"), "HTTP/2.0");
}

/// Says 101 to who asks to switch.
fn switching() -> App {
    App::new(|request, stream| match request.field("upgrade").as_str() {
        "" => say(stream, "plain"),
        _ => {
            send(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            send(stream, "hi");
            Then::Close
        }
    })
}

fn ask_to_switch(balancer: &Balancer, path: &str) -> u16 {
    let mut client = balancer.client();
    client
        .send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
    client.response_to_head().status
}

/// Nothing of it counts against servers.
#[track_caller]
fn check_nobody_is_blamed(balancer: &Balancer) {
    balancer.wait_for_in_flight(0.0);
    assert_eq!(balancer.metric("evenkeel_http_requests_failed_total", &[]), 0.0);
    assert_eq!(balancer.metric("evenkeel_http_failures_total", &[("pool", "app")]), 0.0);
    assert_eq!(balancer.metric("evenkeel_retries_total", &[]), 0.0);
    assert_eq!(balancer.metric("evenkeel_server_ejected", &[]), 0.0);
}

#[test]
fn a_server_of_http2_alone_is_not_asked_to_switch_and_not_blamed() {
    let app = switching();
    let server = Balancer::start(&plain(&[app.address], "", ""));
    let front = Front::new(certificate(), server.address("web"), H2);
    let eager = format!("{AUTO}, outlier: {{ consecutive_errors: 1 }}");
    let balancer = Balancer::start(&plain(&[front.address; 2], "", &eager));
    // Before it is known of each, and after that.
    for n in 0..4 {
        let path = format!("/{n}");
        assert_eq!(ask_to_switch(&balancer, &path), 200, "as if it had not been asked");
        let record = balancer.record(&path);
        assert_eq!((&record["why"], &record["pool"]), (&"ok".into(), &"app".into()), "{record}");
        assert_eq!(record["detail"], "no upgrade: the server speaks HTTP/2 alone", "{record}");
        assert_eq!(server.protocol(&path), "HTTP/2.0");
    }
    assert_eq!(balancer.get("/plain").text(), "plain");
    check_nobody_is_blamed(&balancer);
}

#[test]
fn upgrades_go_to_the_servers_of_a_pool_that_have_them() {
    let app = switching();
    let servers = [(); 2].map(|()| Balancer::start(&plain(&[app.address], "", "")));
    let fronts =
        [(0, H2), (1, BOTH)].map(|(at, all)| Front::new(certificate(), servers[at].address("web"), all));
    let eager = format!("{AUTO}, outlier: {{ consecutive_errors: 1 }}");
    let balancer = Balancer::start(&plain(&fronts.each_ref().map(|front| front.address), "", &eager));
    for n in 0..6 {
        let path = format!("/{n}");
        assert_eq!(ask_to_switch(&balancer, &path), 101);
        assert_eq!(balancer.record(&path)["server"], "s2");
    }
    check_nobody_is_blamed(&balancer);
}

#[test]
fn a_server_that_is_not_trusted_gets_nothing() {
    let app = App::echo();
    let files = Shop::new(&[("other", &Certificate::named(&["app.internal"]))]);
    let front = Front::new(certificate(), app.address, BOTH);
    let tls = format!(
        "protocol: auto, tls: {{ server_name: app.internal, ca: {} }}",
        files.path("other.pem").display()
    );
    let balancer = Balancer::start(&plain(&[front.address], "", &tls));
    assert_eq!(balancer.get("/").status, 502);
    assert_eq!(balancer.outcome("/"), (502, "server_tls".to_owned()));
}

#[test]
fn without_tls_there_is_nothing_to_agree_by() {
    let app = App::echo();
    let server = Balancer::start(&plain(&[app.address], "", ""));
    let balancer = Balancer::start(&plain(&[server.address("web")], "", "protocol: auto"));
    assert_eq!(balancer.get("/plain").status, 200);
    assert_eq!(server.protocol("/plain"), "HTTP/1.1");
    // A reload that brings TLS brings the choice with it.
    let front = Front::new(certificate(), server.address("web"), BOTH);
    assert_eq!(balancer.reload(&plain(&[front.address], "", AUTO)), Reloaded::Taken);
    assert_eq!(balancer.get("/secured").status, 200);
    assert_eq!(server.protocol("/secured"), "HTTP/2.0");
}

/// The pool's other servers, of HTTP/1.1, have a place for it.
#[test]
fn a_head_that_http2_has_no_form_for_is_nobodys_fault_where_http2_is_chosen() {
    let app = App::echo();
    let server = Balancer::start(&plain(&[app.address], "", ""));
    for (protocols, status) in [(BOTH, 400), (H2, 400), (HTTP1, 200)] {
        let front = Front::new(certificate(), server.address("web"), protocols);
        let balancer = Balancer::start(&plain(&[front.address; 2], "", AUTO));
        // With a connection that is there, and without.
        for path in ["/first", "/second"] {
            let mut client = balancer.client();
            client.send(format!("GET {path}?q=\"x\" HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(client.response().status, status, "{protocols:?}");
            let record = balancer.record(&format!("{path}?q=\"x\""));
            let why = if status == 400 { "malformed" } else { "ok" };
            assert_eq!(record["why"], why, "{record}");
            assert_eq!(record["pool"].is_null(), status == 400, "{record}");
            assert_eq!(balancer.get(path).status, 200);
        }
        assert_eq!(balancer.metric("evenkeel_http_requests_failed_total", &[]), 0.0);
        assert_eq!(balancer.metric("evenkeel_http_failures_total", &[("pool", "app")]), 0.0);
        assert_eq!(balancer.metric("evenkeel_retries_total", &[]), 0.0);
        balancer.wait_for_in_flight(0.0);
    }
}
