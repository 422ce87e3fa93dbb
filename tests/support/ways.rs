//! The ways to ask a listener: the same request by each version of HTTP, in clear and over TLS.

use super::balancer::Balancer;
use super::client::{Client, Response};
use super::tls::{Certificate, Shop, Speaker};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Http10,
    Http11,
    H2,
    Http11Tls,
    H2Tls,
}

impl Way {
    pub(crate) const ALL: [Self; 5] = [Self::Http10, Self::Http11, Self::H2, Self::Http11Tls, Self::H2Tls];

    fn is_tls(self) -> bool {
        matches!(self, Self::Http11Tls | Self::H2Tls)
    }

    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::H2 | Self::H2Tls)
    }

    /// The scheme that clients come by.
    pub(crate) fn scheme(self) -> &'static str {
        if self.is_tls() { "https" } else { "http" }
    }
}

/// A balancer with the listeners `web` and `tls`, which are the same but for TLS.
pub(crate) struct Ways {
    pub(crate) balancer: Balancer,
    files: Shop,
}

/// A request to be asked each way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) target: &'a str,
    pub(crate) fields: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

impl<'a> Asked<'a> {
    pub(crate) fn get(target: &'a str) -> Self {
        Self { method: "GET", host: "shop.example", target, fields: &[], body: b"" }
    }
}

impl Ways {
    /// `listener` is what both listeners have, `rest` the file's other sections.
    #[track_caller]
    pub(crate) fn start(listener: &str, rest: &str) -> Self {
        let files = Shop::new(&[("shop", &Certificate::named(&["shop.example"]))]);
        let balancer = Balancer::start(&Self::text(&files, listener, rest));
        Self { balancer, files }
    }

    /// The configuration with other settings, for a reload.
    pub(crate) fn configuration(&self, listener: &str, rest: &str) -> String {
        Self::text(&self.files, listener, rest)
    }

    fn text(files: &Shop, listener: &str, rest: &str) -> String {
        let tls = files.tls(&["shop"], "");
        format!(
            "listeners:\n  web: {{ address: 127.0.0.1:0, {listener} }}\n  tls: {{ address: 127.0.0.1:0, {tls}, {listener} }}\n{rest}"
        )
    }

    /// The response to a request that goes this way, on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, way: Way, asked: Asked<'_>) -> Response {
        let address = self.balancer.address(if way.is_tls() { "tls" } else { "web" });
        match way {
            Way::Http10 => {
                let mut client = Client::connect(address);
                client.send(head(asked, "HTTP/1.0"));
                client.response_to(asked.method)
            }
            Way::Http11 => {
                let mut client = Client::connect(address);
                client.send(head(asked, "HTTP/1.1"));
                client.response_to(asked.method)
            }
            Way::Http11Tls => {
                let stream = Speaker::new().connect(address, "shop.example").expect("the handshake succeeds");
                let mut client = Client::over_tls(stream);
                client.send(head(asked, "HTTP/1.1"));
                client.response_to(asked.method)
            }
            Way::H2 | Way::H2Tls => by_http2(address, way, asked),
        }
    }

    /// Asks every way.
    #[track_caller]
    pub(crate) fn each(&self, asked: Asked<'_>, check: impl Fn(Way, &Response)) {
        for way in Way::ALL {
            check(way, &self.ask(way, asked));
        }
    }
}

fn head(asked: Asked<'_>, version: &str) -> Vec<u8> {
    let mut head = format!("{} {} {version}\r\nHost: {}\r\n", asked.method, asked.target, asked.host);
    for (name, value) in asked.fields {
        head += &format!("{name}: {value}\r\n");
    }
    if !asked.body.is_empty() {
        head += &format!("Content-Length: {}\r\n", asked.body.len());
    }
    [head.as_bytes(), b"\r\n", asked.body].concat()
}

#[track_caller]
fn by_http2(address: SocketAddr, way: Way, asked: Asked<'_>) -> Response {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        if !way.is_tls() {
            return exchange(stream, way, asked).await;
        }
        let config = Arc::new(Speaker::new().offering(&["h2"]).config());
        let name = ServerName::try_from("shop.example").expect("a name");
        let stream = TlsConnector::from(config).connect(name, stream).await.expect("the handshake succeeds");
        exchange(stream, way, asked).await
    })
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    way: Way,
    asked: Asked<'_>,
) -> Response {
    let (requests, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let mut requests = requests.ready().await.expect("there is room");
    let uri = format!("{}://{}{}", way.scheme(), asked.host, asked.target);
    let mut request = http::Request::builder().method(asked.method).uri(uri);
    for (name, value) in asked.fields {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    let (response, mut body) = requests.send_request(request, asked.body.is_empty()).expect("there is room");
    if !asked.body.is_empty() {
        body.send_data(asked.body.to_vec().into(), true).expect("there is room");
    }
    let (head, mut body) = response.await.expect("a response").into_parts();
    let (mut read, mut complete) = (Vec::new(), true);
    while let Some(data) = body.data().await {
        let Ok(data) = data else {
            complete = false;
            break;
        };
        let _ = body.flow_control().release_capacity(data.len());
        read.extend_from_slice(&data);
    }
    drop(requests);
    connection.abort();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Response {
        status: head.status.as_u16(),
        fields: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: read,
        complete,
    }
}
