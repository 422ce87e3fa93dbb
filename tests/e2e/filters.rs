//! A filter reaches every head, whichever versions of HTTP the two sides speak: the one that debug builds have for this.

use crate::support::app::{App, send};
use crate::support::balancer::{Balancer, plain};
use std::net::SocketAddr;

const DRILL: &str = "x-evenkeel-filter-drill";

/// Servers of both protocols in turn: one that answers so itself, and another evenkeel in front of it that takes HTTP/2.
fn each_kind(app: &App, check: impl Fn(&Balancer, &str)) {
    check(&Balancer::start(&plain(&[app.address], "", "")), "http1");
    let second = Balancer::start(&plain(&[app.address], "", ""));
    check(&Balancer::start(&plain(&[second.address("web")], "", "protocol: h2")), "h2");
}

/// The status that a request by HTTP/2 is answered with, and what the response says of the drill.
fn drilled_by_http2(address: SocketAddr, path: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        let (mut requests, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
        let connection = tokio::spawn(connection);
        let request = http::Request::builder().uri(format!("http://a{path}")).header(DRILL, "1");
        let request = request.body(()).expect("a request");
        let (response, _) = requests.send_request(request, true).expect("there is room");
        let response = response.await.expect("a response");
        let said = response.headers().get(DRILL).map(|value| value.to_str().expect("text").to_owned());
        drop(requests);
        connection.abort();
        (response.status().as_u16(), said.unwrap_or_default())
    })
}

#[test]
fn a_filter_reaches_each_request_and_each_response() {
    let app = App::new(|_, stream| {
        let early = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        send(stream, &format!("{early}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    });
    each_kind(&app, |balancer, kind| {
        let mut client = balancer.client();
        client.send(format!("GET /1.1 HTTP/1.1\r\nHost: a\r\n{DRILL}: 1\r\n\r\n"));
        for status in [103, 200] {
            let response = client.response();
            assert_eq!((response.status, response.field(DRILL).as_str()), (status, "response"), "{kind}");
        }
        assert_eq!(app.last().field(DRILL), "request", "{kind}");
        let mut client = balancer.client();
        client.send(format!("GET /1.0 HTTP/1.0\r\nHost: a\r\n{DRILL}: 1\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.field(DRILL).as_str()), (200, "response"), "{kind}");
        assert_eq!(app.last().field(DRILL), "request", "{kind}");
        let said = drilled_by_http2(balancer.address("web"), "/2");
        assert_eq!(said, (200, "response".to_owned()), "{kind}");
        assert_eq!(app.last().field(DRILL), "request", "{kind}");
        // Who does not ask for it sees nothing of it.
        let mut client = balancer.client();
        client.send("GET /none HTTP/1.0\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().field(DRILL), "", "{kind}");
        assert_eq!(app.last().field(DRILL), "", "{kind}");
    });
}

#[test]
fn a_filter_reaches_our_own_answers() {
    let balancer = Balancer::start(
        "listeners:\n  web: { address: 127.0.0.1:0, pool: app }\n\
         pools:\n  app: { servers: [{ address: 127.0.0.1:1, drain: true }] }\n",
    );
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let mut client = balancer.client();
        client.send(format!("GET / {version}\r\nHost: a\r\n{DRILL}: 1\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.field(DRILL).as_str()), (503, "response"), "{version}");
    }
    assert_eq!(drilled_by_http2(balancer.address("web"), "/"), (503, "response".to_owned()));
}
