//! A server that takes nothing for granted: what comes is one request after the other, each in the one form that cannot
//! be read in two ways, or it is nonsense.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What came.
#[derive(Clone, Debug)]
pub(crate) enum Saw {
    /// A whole request, its bytes.
    Request(String),
    /// Bytes that no strict reader would take, and why.
    Nonsense(#[allow(dead_code)] &'static str, #[allow(dead_code)] String),
    /// A request that was broken off.
    Part(String),
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    saw: Arc<Mutex<Vec<Saw>>>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the kernel has a port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let saw = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&saw);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let saw = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &saw));
            }
        });
        Self { address, saw }
    }

    /// What came since the last call.
    pub(crate) fn take(&self) -> Vec<Saw> {
        std::mem::take(&mut self.saw.lock().expect("no test thread panics with it"))
    }
}

fn serve(mut stream: TcpStream, saw: &Mutex<Vec<Saw>>) {
    let mut bytes = Vec::new();
    let note = |seen| saw.lock().expect("no test thread panics with it").push(seen);
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    loop {
        match read(&bytes) {
            Ok(Some(length)) => {
                note(Saw::Request(text(&bytes[..length])));
                bytes.drain(..length);
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                    return;
                }
            }
            Ok(None) => {
                let mut more = [0; 4096];
                match stream.read(&mut more) {
                    Ok(n @ 1..) => bytes.extend_from_slice(&more[..n]),
                    _ => {
                        if !bytes.is_empty() {
                            note(Saw::Part(text(&bytes)));
                        }
                        return;
                    }
                }
            }
            Err(why) => return note(Saw::Nonsense(why, text(&bytes))),
        }
    }
}

/// The length of the request that `bytes` begin with, if it is whole.
fn read(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..end];
    if head.iter().enumerate().any(|(at, byte)| match byte {
        b'\n' => at == 0 || head[at - 1] != b'\r',
        b'\r' => head.get(at + 1) != Some(&b'\n'),
        0..=31 if *byte != b'\t' => true,
        127 => true,
        _ => false,
    }) {
        return Err("a control character in the head");
    }
    let head = String::from_utf8_lossy(head).into_owned();
    let mut lines = head.split("\r\n");
    let words: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else { return Err("a request line not of three words") };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err("a method that is no token");
    }
    if !(target.starts_with('/') || target == "*" && method == "OPTIONS") || target.contains('#') {
        return Err("a target that is no path");
    }
    if version != "HTTP/1.1" {
        return Err("another version");
    }
    let (mut hosts, mut lengths, mut chunked) = (0, Vec::new(), 0);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a line without a colon")?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err("a name that is no token");
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value.trim().to_owned()),
            "transfer-encoding" if value.trim() == "chunked" => chunked += 1,
            "transfer-encoding" => return Err("an unknown transfer coding"),
            "keep-alive" | "proxy-connection" | "upgrade" | "http2-settings" => {
                return Err("a field of another hop");
            }
            _ => {}
        }
    }
    if hosts != 1 {
        return Err("not one Host");
    }
    let body = &bytes[end + 4..];
    let length = match (&lengths[..], chunked) {
        ([], 0) => Some(0),
        ([], 1) => chunks(body)?,
        ([digits], 0) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = digits.parse().map_err(|_| "a length that is no number")?;
            (body.len() >= length).then_some(length)
        }
        _ => return Err("a body that could have two ends"),
    };
    Ok(length.map(|length| end + 4 + length))
}

fn chunks(body: &[u8]) -> Result<Option<usize>, &'static str> {
    let mut at = 0;
    loop {
        let Some(line) = find(&body[at..], b"\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(&body[at..at + line]).unwrap_or_default();
        let (digits, extension) = text.split_once(';').unwrap_or((text, ""));
        if !extension.bytes().all(|byte| is_token(byte) || b"=;".contains(&byte)) {
            return Err("an extension that is no token");
        }
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("a chunk size that is no number");
        }
        let size = usize::from_str_radix(digits, 16).map_err(|_| "a chunk size that is too large")?;
        at += line + 2;
        if size == 0 {
            // Trailers are no fields, whatever their names: they are skipped.
            loop {
                let Some(line) = find(&body[at..], b"\r\n") else { return Ok(None) };
                let trailer = &body[at..at + line];
                at += line + 2;
                if trailer.is_empty() {
                    return Ok(Some(at));
                }
                let name = trailer.iter().position(|byte| *byte == b':').unwrap_or(0);
                if name == 0 || !trailer[..name].iter().copied().all(is_token) {
                    return Err("a trailer without a name");
                }
            }
        }
        match body.get(at + size..at + size + 2) {
            Some(b"\r\n") => at += size + 2,
            Some(_) => return Err("a chunk that does not end where it should"),
            None => return Ok(None),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
