//! Servers and clients of bare connections, and streams whose every byte says where it belongs.

use super::DEADLINE;
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

/// A server that does with each connection what a test says; ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn new(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the kernel has a port");
        let mut server = Self {
            address: listener.local_addr().expect("a bound socket has an address"),
            accepted: Arc::default(),
            stopped: Arc::default(),
            accepting: None,
        };
        let (accepted, stopped) = (Arc::clone(&server.accepted), Arc::clone(&server.stopped));
        let handle = Arc::new(handle);
        server.accepting = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                accepted.fetch_add(1, SeqCst);
                patient(&stream);
                let handle = Arc::clone(&handle);
                std::thread::spawn(move || handle(stream));
            }
        }));
        server
    }

    /// Sends back what it gets, with its name before it.
    pub(crate) fn echo(name: &'static str) -> Self {
        Self::new(move |mut stream| {
            let _ = stream.write_all(name.as_bytes());
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..n]).is_err() {
                    return;
                }
            }
            let _ = stream.shutdown(Shutdown::Write);
        })
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        let woken = TcpStream::connect(self.address);
        // Its listener is closed then: nobody's connection is taken by the kernel to be reset.
        if let (Ok(_), Some(accepting)) = (woken, self.accepting.take()) {
            let _ = accepting.join();
        }
    }
}

fn patient(stream: &TcpStream) {
    stream.set_nodelay(true).expect("a socket takes its options");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes its options");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket takes its options");
}

/// A connection to a listener.
#[track_caller]
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the listener takes connections");
    patient(&stream);
    stream
}

/// A connection to a listener that comes from this address of the loopback network.
#[track_caller]
pub(crate) fn connect_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("loopback has many addresses");
    socket.connect(&to.into()).expect("the listener takes connections");
    let stream = TcpStream::from(socket);
    patient(&stream);
    stream
}

/// So many bytes, as they come.
#[track_caller]
pub(crate) fn bytes(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).expect("that many bytes");
    bytes
}

/// How a stream ended, and what came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed(Vec<u8>),
    Reset(Vec<u8>),
    /// Not within the deadline.
    Open,
}

impl End {
    /// Reads to the end.
    pub(crate) fn of(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Ok(_) => Self::Closed(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Self::Open,
            Err(_) => Self::Reset(bytes),
        }
    }

    pub(crate) fn is_end(&self) -> bool {
        *self != Self::Open
    }
}

/// Goes away with a RST.
pub(crate) fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

const PIECE: usize = 32 * 1024;

/// The bytes of a stream from `at` on: each depends on its place, so none can be lost, doubled or moved unseen.
fn piece(seed: u64, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut word = at / 8;
    while bytes.len() < length {
        let mut x = word.wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x ^= x >> 29;
        bytes.extend_from_slice(&x.wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes());
        word += 1;
    }
    bytes.truncate(length);
    bytes
}

/// Sends a stream of this length and ends.
pub(crate) fn send_stream(stream: &mut TcpStream, seed: u64, length: u64) -> std::io::Result<()> {
    let mut at = 0;
    while at < length {
        let n = usize::try_from(length - at).map_or(PIECE, |left| left.min(PIECE));
        stream.write_all(&piece(seed, at, n))?;
        at += n as u64;
    }
    stream.shutdown(Shutdown::Write)
}

/// Reads a stream to its end, and says what is wrong with it. `pace` is called before each read.
pub(crate) fn check_stream(
    stream: &mut TcpStream,
    seed: u64,
    length: u64,
    mut pace: impl FnMut(),
) -> Result<(), String> {
    let (mut at, mut buffer, mut held) = (0, vec![0; PIECE], 0);
    loop {
        pace();
        let n = stream.read(&mut buffer[held..]).map_err(|error| format!("after {at}: {error}"))?;
        held += n;
        if held == PIECE || n == 0 {
            if buffer[..held] != piece(seed, at, held) {
                return Err(format!("other bytes than were sent within {at} and {}", at + held as u64));
            }
            at += held as u64;
            held = 0;
        }
        if n == 0 {
            return if at == length { Ok(()) } else { Err(format!("ends at {at} of {length}")) };
        }
    }
}
