//! App servers that do exactly what a test tells them, down to the bytes.

use super::{DEADLINE, wait_for};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as it came, body decoded.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The number of the connection it came on, from 1.
    pub(crate) connection: usize,
}

impl Request {
    /// The field's values, joined by `|`; the empty text if there is none.
    pub(crate) fn field(&self, name: &str) -> String {
        let values: Vec<_> = self.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        values.join("|")
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(n, _)| n == name)
    }
}

/// What becomes of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    Close,
    /// RST instead of FIN.
    Reset,
}

type Answer = Box<dyn Fn(&Request, &mut TcpStream) -> Then + Send + Sync>;

struct Shared {
    answer: Answer,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    /// Of them.
    ended: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

/// An app server on a port of the kernel's choice; ends when dropped.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl App {
    /// Calls `answer` for each request, body read.
    pub(crate) fn new(answer: impl Fn(&Request, &mut TcpStream) -> Then + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", answer)
    }

    pub(crate) fn on(
        address: &str,
        answer: impl Fn(&Request, &mut TcpStream) -> Then + Send + Sync + 'static,
    ) -> Self {
        let listener = wait_for("an address for the app server", || TcpListener::bind(address).ok());
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            open: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let all = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if all.stopped.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = all.connections.fetch_add(1, SeqCst) + 1;
                let shared = Arc::clone(&all);
                std::thread::spawn(move || {
                    shared.serve(stream, number);
                    shared.ended.fetch_add(1, SeqCst);
                });
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Answers each request with 200 and this body.
    pub(crate) fn saying(body: &'static str) -> Self {
        Self::new(move |_, stream| say(stream, body))
    }

    /// What has arrived so far.
    /// Says what was asked for, and what came with it.
    pub(crate) fn echo() -> Self {
        Self::new(|request, stream| {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            say(stream, &format!("{} {} {body}", request.method, request.target))
        })
    }

    /// Says its name; to a request for `/held` only once the latch is open.
    pub(crate) fn holding(name: &'static str, latch: &Latch) -> Self {
        let latch = latch.clone();
        Self::new(move |request, stream| {
            if request.target == "/held" {
                latch.wait();
            }
            say(stream, name)
        })
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no test thread panics with it").clone()
    }

    pub(crate) fn hits(&self) -> usize {
        self.requests().len()
    }

    pub(crate) fn last(&self) -> Request {
        self.requests().pop().expect("a request has arrived")
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// Connections that are open now.
    pub(crate) fn open_connections(&self) -> usize {
        let ended = self.shared.ended.load(SeqCst);
        self.connections() - ended
    }

    /// Closes every connection that is open now.
    pub(crate) fn close_connections(&self) {
        for stream in self.shared.open.lock().expect("no test thread panics with it").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        let woken = TcpStream::connect(self.address);
        // Its listener is closed then: nobody's connection is taken by the kernel to be reset.
        if let (Ok(_), Some(accepting)) = (woken, self.accepting.take()) {
            let _ = accepting.join();
        }
        self.close_connections();
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream, connection: usize) {
        let _ = stream.set_nodelay(true);
        if let Ok(copy) = stream.try_clone() {
            self.open.lock().expect("no test thread panics with it").push(copy);
        }
        let Ok(copy) = stream.try_clone() else { return };
        let mut reader = BufReader::new(copy);
        while let Some(request) = read_request(&mut reader, connection) {
            self.requests.lock().expect("no test thread panics with it").push(request.clone());
            match (self.answer)(&request, &mut stream) {
                Then::Keep => {}
                Then::Close => break,
                Then::Reset => {
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    self.open.lock().expect("no test thread panics with it").clear();
                    return;
                }
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn read_request(reader: &mut BufReader<TcpStream>, connection: usize) -> Option<Request> {
    let (first, fields) = read_head(reader)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let value = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    if value("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let body = if value("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        read_chunks(reader)?
    } else {
        let length = value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        body
    };
    Some(Request { method, target, fields, body, connection })
}

/// The first line and the fields of a head; `None` at the connection's end.
pub(crate) fn read_head(reader: &mut impl BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut lines = std::iter::from_fn(|| {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        Some(line.trim_end().to_owned())
    });
    let first = lines.next()?;
    let mut fields = Vec::new();
    loop {
        let line = lines.next()?;
        if line.is_empty() {
            return Some((first, fields));
        }
        let (name, value) = line.split_once(':')?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// The body of a chunked message, trailers skipped; `None` if it breaks off.
pub(crate) fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim_end().split(';').next()?, 16).ok()?;
        if length == 0 {
            loop {
                line.clear();
                reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
                if line == "\r\n" {
                    return Some(body);
                }
            }
        }
        let start = body.len();
        body.resize(start + length, 0);
        reader.read_exact(&mut body[start..]).ok()?;
        line.clear();
        reader.read_line(&mut line).ok()?;
    }
}

/// Answers 200 and keeps the connection.
pub(crate) fn say(stream: &mut TcpStream, body: &str) -> Then {
    status(stream, "200 OK", body)
}

/// Answers and keeps the connection.
pub(crate) fn status(stream: &mut TcpStream, status: &str, body: &str) -> Then {
    send(stream, &format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// Writes these bytes and keeps the connection.
pub(crate) fn send(stream: &mut TcpStream, bytes: &str) -> Then {
    match stream.write_all(bytes.as_bytes()) {
        Ok(()) => Then::Keep,
        Err(_) => Then::Close,
    }
}

/// Waits until the other side is gone.
pub(crate) fn wait_for_the_end(stream: &mut TcpStream) -> Then {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
    Then::Close
}

/// Holds threads until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    pub(crate) fn open(&self) {
        *self.0.0.lock().expect("no test thread panics with it") = true;
        self.0.1.notify_all();
    }

    /// Holds whoever comes from now on.
    pub(crate) fn close(&self) {
        *self.0.0.lock().expect("no test thread panics with it") = false;
    }

    /// Waits until it is open, or until a test has surely failed.
    pub(crate) fn wait(&self) {
        let open = self.0.0.lock().expect("no test thread panics with it");
        let _ = self.0.1.wait_timeout_while(open, DEADLINE, |open| !*open);
    }
}

/// A port that stays ours and refuses connections: bound, not listened on.
pub(crate) struct Refusing {
    pub(crate) address: SocketAddr,
    _socket: Socket,
}

impl Refusing {
    pub(crate) fn new() -> Self {
        let socket = bound_socket();
        let address = local_address(&socket);
        Self { address, _socket: socket }
    }
}

/// A port whose queue is full, so that connecting to it takes for ever.
pub(crate) struct Silent {
    pub(crate) address: SocketAddr,
    _sockets: Vec<Socket>,
}

impl Silent {
    pub(crate) fn new() -> Self {
        let listening = bound_socket();
        let address = local_address(&listening);
        listening.listen(0).expect("a bound socket can be listened on");
        let mut sockets = vec![listening];
        for _ in 0..4 {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            filler.set_nonblocking(true).expect("a socket can be non-blocking");
            let _ = filler.connect(&SockAddr::from(address));
            sockets.push(filler);
        }
        Self { address, _sockets: sockets }
    }
}

fn bound_socket() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&SockAddr::from(any)).expect("the kernel has a port");
    socket
}

fn local_address(socket: &Socket) -> SocketAddr {
    socket.local_addr().ok().and_then(|address| address.as_socket()).expect("a bound socket has an address")
}
