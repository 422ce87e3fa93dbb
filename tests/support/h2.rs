//! HTTP/2 by hand: frames as they are, so that a test can send those that no library would.

use super::DEADLINE;
use super::client::Wire;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// RFC 9113 section 4.1.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// An HTTP/2 connection by prior knowledge.
pub(crate) struct Connection {
    stream: Box<dyn Wire>,
}

impl Connection {
    #[track_caller]
    pub(crate) fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the listener takes connections");
        stream.set_nodelay(true).expect("a socket takes its options");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes its options");
        Self::over(stream)
    }

    #[track_caller]
    pub(crate) fn over(stream: impl Wire + 'static) -> Self {
        let mut connection = Self { stream: Box::new(stream) };
        connection.stream.write_all(PREFACE).expect("the other side takes what is sent");
        // No dynamic table (RFC 9113 section 6.5.2), so that each header block can be read by itself.
        connection.frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        connection
    }

    #[track_caller]
    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(&frame(kind, flags, stream, payload));
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the other side takes what is sent");
    }

    /// Sends what the other side may no longer take.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A request's head; `last` ends the stream.
    #[track_caller]
    pub(crate) fn request(&mut self, stream: u32, method: &str, path: &str, last: bool) {
        let fields = [(":method", method), (":scheme", "http"), (":authority", "test"), (":path", path)];
        self.fields(stream, &fields, last);
    }

    #[track_caller]
    pub(crate) fn fields(&mut self, stream: u32, fields: &[(&str, &str)], last: bool) {
        self.frame(HEADERS, END_HEADERS | u8::from(last), stream, &block(fields));
    }

    #[track_caller]
    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8], last: bool) {
        self.frame(DATA, u8::from(last), stream, bytes);
    }

    #[track_caller]
    pub(crate) fn reset(&mut self, stream: u32) {
        const CANCEL: u32 = 8;
        self.frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }

    /// Whether the connection still answers a PING.
    pub(crate) fn is_alive(&mut self) -> bool {
        if self.try_send(&frame(PING, 0, 0, b"is alive")).is_err() {
            return false;
        }
        loop {
            match self.any() {
                Some(frame) if frame.kind == PING && frame.flags & ACK != 0 => return true,
                Some(frame) if frame.kind == SETTINGS && frame.flags & ACK == 0 => {
                    self.frame(SETTINGS, ACK, 0, &[]);
                }
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// The next frame; `None` at the end.
    pub(crate) fn any(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that is not the connection's own business; `None` at its end.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any()?;
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK != 0 => {}
                SETTINGS => self.frame(SETTINGS, ACK, 0, &[]),
                PING => self.frame(PING, ACK, 0, &frame.payload.clone()),
                WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    /// Status and body of a stream's response; the status is 0 if it was reset.
    #[track_caller]
    pub(crate) fn response(&mut self, stream: u32) -> (u16, Vec<u8>) {
        let (mut answer, mut body) = (0, Vec::new());
        loop {
            let frame = self.next().expect("the connection goes on");
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                HEADERS if answer == 0 => answer = status(&frame.payload),
                DATA => body.extend_from_slice(&frame.payload),
                RST_STREAM => return (0, body),
                _ => {}
            }
            if frame.ends_stream() {
                return (answer, body);
            }
        }
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Fields as literals that are not indexed, with new names (RFC 7541 section 6.2.2).
pub(crate) fn block(fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            // An integer with a prefix of seven bits (section 5.1).
            match text.len() {
                short @ 0..127 => block.push(short as u8),
                long => {
                    block.push(127);
                    let mut rest = long - 127;
                    while rest >= 128 {
                        block.push(rest as u8 | 0x80);
                        rest >>= 7;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend_from_slice(text);
        }
    }
    block
}

/// `:status` at the beginning of a header block (RFC 7541, the first with that status on a connection).
pub(crate) fn status(block: &[u8]) -> u16 {
    let block = match block {
        // A change of the dynamic table's size comes first.
        [first, rest @ ..] if first & 0xe0 == 0x20 => rest,
        block => block,
    };
    match block {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        // A literal, its name from the static table, its value of three digits.
        [0x48 | 0x08, 3, digits @ ..] => digits[..3].iter().fold(0, |n, d| n * 10 + u16::from(d - b'0')),
        [0x48 | 0x08, length, digits @ ..] if length & 0x80 != 0 => {
            let length = usize::from(length & 0x7f);
            let bits = digits[..length].iter().fold(0_u32, |n, byte| n << 8 | u32::from(*byte));
            let mut left = 8 * u32::try_from(length).expect("a short text");
            let mut take = |n: u32| {
                left -= n;
                bits >> left & ((1 << n) - 1)
            };
            // RFC 7541 appendix B: 0, 1 and 2 have five bits, the other digits six.
            (0..3).fold(0, |number, _| {
                let five = take(5);
                let digit = if five <= 2 { five } else { (five << 1 | take(1)) - 0b01_1001 + 3 };
                number * 10 + u16::try_from(digit).expect("a digit")
            })
        }
        other => panic!("no status in {other:?}"),
    }
}

/// A server of HTTP/2 alone that answers every request with these frames, of stream 1 on a connection.
pub(crate) fn answering(frames: Vec<u8>) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let frames = frames.clone();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[]));
                // The preface and SETTINGS come first; the request's HEADERS (type 1) on stream 1 is what counts.
                let mut got = Vec::new();
                while let Ok(n @ 1..) = stream.read(&mut bytes) {
                    got.extend_from_slice(&bytes[..n]);
                    if got.windows(6).any(|part| part[0] == HEADERS && part[2..] == [0, 0, 0, 1]) {
                        got.clear();
                        let _ = stream.write_all(&frames);
                    }
                }
            });
        }
    });
    address
}

/// What a gRPC server's health service answers: 1 is SERVING, 2 NOT_SERVING.
pub(crate) fn health(status: u8) -> Vec<u8> {
    let head = block(&[(":status", "200"), ("content-type", "application/grpc")]);
    let head = frame(HEADERS, END_HEADERS, 1, &head);
    let data = frame(DATA, 0, 1, &[0, 0, 0, 0, 2, 8, status]);
    let last = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("grpc-status", "0")]));
    [head, data, last].concat()
}
