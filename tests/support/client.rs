//! A client that sees every byte, and none that it did not ask for.

use super::DEADLINE;
use super::app::{read_chunks, read_head};
use super::tls::TlsStream;
use socket2::SockRef;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A response, body decoded.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body came to its end as its head announced.
    pub(crate) complete: bool,
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> String {
        let values: Vec<_> = self.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        values.join("|")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Either kind of socket.
pub(crate) trait Wire: Read + Write {}
impl Wire for TcpStream {}
impl Wire for UnixStream {}
impl Wire for TlsStream {}

/// A connection to a listener.
pub(crate) struct Client<S = TcpStream> {
    reader: BufReader<S>,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the listener takes connections"))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket takes its options");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes its options");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket takes its options");
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Says that nothing more comes, and goes on listening.
    pub(crate) fn finish_sending(&self) {
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Goes away with a RST.
    pub(crate) fn reset(self) {
        let _ = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }
}

impl Client<UnixStream> {
    #[track_caller]
    pub(crate) fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the listener takes connections");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes its options");
        Self { reader: BufReader::new(stream) }
    }
}

impl Client<TlsStream> {
    pub(crate) fn over_tls(stream: TlsStream) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    /// Says within TLS that nothing more comes; the socket stays as it is.
    pub(crate) fn say_no_more(&mut self) {
        let stream = self.reader.get_mut();
        stream.conn.send_close_notify();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock).expect("the other side takes what is sent");
        }
    }

    pub(crate) fn tls(&self) -> &TlsStream {
        self.reader.get_ref()
    }
}

impl<S: Wire> Client<S> {
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).expect("the other side takes what is sent");
    }

    /// Sends what the other side may no longer take.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// A request without a body on this connection, and its response.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response()
    }

    /// `None` if the connection is closed instead.
    pub(crate) fn try_get(&mut self, path: &str) -> Option<Response> {
        self.try_send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).ok()?;
        self.try_response()
    }

    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Response {
        let length = body.len();
        self.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}"));
        self.response()
    }

    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response().expect("a response")
    }

    /// The response to a request with this method.
    #[track_caller]
    pub(crate) fn response_to(&mut self, method: &str) -> Response {
        if method == "HEAD" { self.response_to_head() } else { self.response() }
    }

    #[track_caller]
    pub(crate) fn response_to_head(&mut self) -> Response {
        self.head().expect("a response")
    }

    /// `None` if the connection ends before a head.
    pub(crate) fn try_response(&mut self) -> Option<Response> {
        let mut response = self.head()?;
        if response.status < 200 || matches!(response.status, 204 | 304) {
            return Some(response);
        }
        let length: Option<u64> = response.field("content-length").parse().ok();
        (response.body, response.complete) = match length {
            _ if response.field("transfer-encoding").eq_ignore_ascii_case("chunked") => {
                match read_chunks(&mut self.reader) {
                    Some(body) => (body, true),
                    None => (Vec::new(), false),
                }
            }
            Some(length) => {
                let mut body = Vec::new();
                let _ = (&mut self.reader).take(length).read_to_end(&mut body);
                let complete = body.len() as u64 == length;
                (body, complete)
            }
            None => {
                let mut body = Vec::new();
                let ended = self.reader.read_to_end(&mut body).is_ok();
                (body, ended)
            }
        };
        Some(response)
    }

    /// A response's head; the body stays where it is.
    pub(crate) fn head(&mut self) -> Option<Response> {
        let (first, fields) = read_head(&mut self.reader)?;
        let status = first.split(' ').nth(1)?.parse().ok()?;
        Some(Response { status, fields, body: Vec::new(), complete: true })
    }

    /// So many bytes, as they come.
    #[track_caller]
    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.reader.read_exact(&mut bytes).expect("that many bytes");
        bytes
    }

    /// All that comes until the connection ends, and whether it ended as it should: with a FIN, over TLS with a
    /// close_notify.
    pub(crate) fn read_to_end(&mut self) -> (String, bool) {
        let mut bytes = Vec::new();
        let ended = self.reader.read_to_end(&mut bytes);
        (String::from_utf8_lossy(&bytes).into_owned(), ended.is_ok())
    }

    /// The other side has closed or closes now, without another byte.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.reader.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            Err(_) => true,
        }
    }
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    let mut client = Client::connect(address);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
    client.response()
}
