//! Servers and clients of datagrams. A datagram may be lost, so clients ask again, as real ones do.

use super::DEADLINE;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// After so long without an answer a client asks again.
const AGAIN: Duration = Duration::from_millis(500);
const LONGEST: usize = 65_535;

/// A server that answers each datagram with its name and the datagram; ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    received: Arc<AtomicUsize>,
    /// The addresses that wrote to it, each once.
    senders: Arc<Mutex<Vec<SocketAddr>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn echo(name: &'static str) -> Self {
        Self::at("127.0.0.1:0", name)
    }

    pub(crate) fn at(address: &str, name: &'static str) -> Self {
        Self::answering(address, move |question| [name.as_bytes(), question].concat())
    }

    pub(crate) fn answering(address: &str, answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> Self {
        let socket = UdpSocket::bind(address).expect("the kernel has a port");
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).expect("a socket takes its options");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket takes its options");
        let mut server = Self {
            address: socket.local_addr().expect("a bound socket has an address"),
            received: Arc::default(),
            senders: Arc::default(),
            stopped: Arc::default(),
            thread: None,
        };
        let (received, senders) = (Arc::clone(&server.received), Arc::clone(&server.senders));
        let stopped = Arc::clone(&server.stopped);
        server.thread = Some(std::thread::spawn(move || {
            let mut buffer = vec![0; LONGEST];
            while !stopped.load(SeqCst) {
                let Ok((length, sender)) = socket.recv_from(&mut buffer) else { continue };
                let mut senders = senders.lock().expect("no test thread panics with it");
                if !senders.contains(&sender) {
                    senders.push(sender);
                }
                drop(senders);
                received.fetch_add(1, SeqCst);
                let _ = socket.send_to(&answer(&buffer[..length]), sender);
            }
        }));
        server
    }

    /// Datagrams so far.
    pub(crate) fn received(&self) -> usize {
        self.received.load(SeqCst)
    }

    /// Sockets that wrote to it so far.
    pub(crate) fn senders(&self) -> usize {
        self.senders.lock().expect("no test thread panics with it").len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        // The port is closed when this returns.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A client with a port of its own.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    to: SocketAddr,
}

impl Client {
    pub(crate) fn new(to: SocketAddr) -> Self {
        let any = if to.is_ipv4() { "127.0.0.1" } else { "::1" };
        Self::bound(any.parse().expect("an address"), to)
    }

    /// It writes from this address of the loopback network.
    pub(crate) fn from(address: [u8; 4], to: SocketAddr) -> Self {
        Self::bound(address.into(), to)
    }

    fn bound(from: std::net::IpAddr, to: SocketAddr) -> Self {
        let socket = UdpSocket::bind((from, 0)).expect("loopback has many addresses");
        // Connected, it takes answers from nowhere else.
        socket.connect(to).expect("there is a way");
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).expect("a socket takes its options");
        Self { socket, to }
    }

    /// One datagram, and no answer is waited for.
    pub(crate) fn tell(&self, bytes: &[u8]) {
        // A closed port may have been heard of before.
        if self.socket.send(bytes).is_err() {
            self.socket.send(bytes).expect("it can be sent");
        }
    }

    /// The next datagram, if one comes within `within`.
    pub(crate) fn hear(&self, within: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(within)).expect("a socket takes its options");
        let mut buffer = vec![0; LONGEST];
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                Some(buffer)
            }
            Err(error) => {
                let none = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::ConnectionRefused];
                assert!(none.contains(&error.kind()), "{} cannot be heard: {error}", self.to);
                None
            }
        }
    }

    /// Asks until there is an answer that ends with the question, and gives what stands before it.
    #[track_caller]
    pub(crate) fn ask(&self, question: &[u8]) -> Vec<u8> {
        let since = Instant::now();
        while since.elapsed() < DEADLINE {
            self.tell(question);
            while let Some(answer) = self.hear(AGAIN) {
                if let Some(name) = answer.strip_suffix(question) {
                    return name.to_vec();
                }
            }
        }
        panic!("no answer from {} within {DEADLINE:?}", self.to);
    }
}
