//! A client's connection, and what we keep of it between two requests.
//!
//! Reads come from a buffer that already holds the judged head, and end where the request ends, so
//! that a pipelined request waits its turn here. Between requests there are no buffers at all.

mod codec;

use super::hang_up::{ClientClose, HangUpWatch, close_of};
use super::judged_frames::JudgedFrames;
use super::request_state::RequestState;
use super::socket::Socket;
use crate::access_log::Why;
use crate::wire::chunked::Chunks;
use pingora::protocols::SocketDigest;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

/// How much of a pipelined request is read while the one before it is served.
const AHEAD: usize = 64 * 1024;
/// One read between requests; a head that is larger takes several.
const SCRATCH: usize = 16 * 1024;

thread_local! {
    /// Shared by all connections of a core; none holds it across a wait.
    static ARRIVING: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// How much of what arrives belongs to the request being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFraming {
    Exact(u64),
    /// Up to the body's last chunk.
    Chunked(Chunks),
    Open,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Conn {
    socket: Socket,
    pub(crate) state: Arc<RequestState>,
    /// Read and not yet handed on.
    arrived: Vec<u8>,
    at: usize,
    /// The client has sent its FIN.
    has_finished: bool,
    /// While more has come than is read ahead.
    hang_up: HangUpWatch,
    framing: RequestFraming,
    chunk_data: u64,
    /// Written and not yet sent.
    leaving: Vec<u8>,
    sent: usize,
    digest: Arc<SocketDigest>,
    /// Sees what passes, if it is HTTP/2.
    passing: Option<Arc<JudgedFrames>>,
}

impl Conn {
    pub(crate) fn new(socket: Socket, state: Arc<RequestState>, peer: Option<std::net::SocketAddr>) -> Self {
        let digest = SocketDigest::from_raw_fd(socket.fd());
        // Filled here so that nobody need ask the kernel again.
        let _ = digest.peer_addr.set(peer.map(PingoraAddr::Inet));
        Self {
            socket,
            state,
            arrived: Vec::new(),
            at: 0,
            has_finished: false,
            hang_up: HangUpWatch::default(),
            framing: RequestFraming::Open,
            chunk_data: 0,
            leaving: Vec::new(),
            sent: 0,
            digest: Arc::new(digest),
            passing: None,
        }
    }

    /// Has `passing` see all that is read and written from now on.
    pub(super) fn show(&mut self, passing: Arc<JudgedFrames>) {
        self.passing = Some(passing);
    }

    /// What is known of the connection before it speaks HTTP: bytes that were read already, and where a proxy says
    /// that it went.
    pub(crate) fn begin_with(&mut self, bytes: Vec<u8>, destination: Option<std::net::SocketAddr>) {
        self.arrived = bytes;
        if let Some(destination) = destination {
            let _ = self.digest.local_addr.set(Some(PingoraAddr::Inet(destination)));
        }
    }

    /// Where it comes from and where it went, as far as that is known.
    pub(crate) fn addresses(&self) -> super::Addresses {
        let inet = |address: &PingoraAddr| address.as_inet().copied();
        super::Addresses {
            source: self.digest.peer_addr().and_then(inet),
            destination: self.digest.local_addr().and_then(inet),
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// What has arrived and was not handed on.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.arrived[self.at..]
    }

    /// Reads what is there into this connection's buffer, through one that all connections of the core
    /// share: a connection at rest has none. 0 is the end.
    pub(crate) fn poll_arrive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ARRIVING.with_borrow_mut(|arriving| {
            let mut read = ReadBuf::new(arriving);
            ready!(self.socket.poll_read(cx, &mut read))?;
            let bytes = read.filled();
            if self.at == self.arrived.len() {
                self.arrived.clear();
                self.at = 0;
            }
            self.arrived.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        })
    }

    /// Takes a judged head out of what has arrived.
    pub(crate) fn take_head(&mut self, length: usize) -> Vec<u8> {
        if self.at == 0 && self.arrived.len() == length {
            return std::mem::take(&mut self.arrived);
        }
        let head = self.arrived[self.at..self.at + length].to_vec();
        self.at += length;
        if self.at == self.arrived.len() {
            self.forget();
        }
        head
    }

    /// Takes all that has arrived.
    pub(crate) fn take_arrived(&mut self) -> Vec<u8> {
        let arrived = self.arrived.split_off(self.at);
        self.forget();
        arrived
    }

    /// Whether the request's last byte was read.
    pub(crate) fn is_request_over(&self) -> bool {
        self.framing == RequestFraming::Exact(0)
    }

    /// Whether it is known that the client will send nothing more.
    pub(crate) fn has_finished(&self) -> bool {
        self.has_finished
    }

    /// Bytes of a chunked body so far, without their framing.
    pub(crate) fn chunk_data(&self) -> u64 {
        self.chunk_data
    }

    /// Reads the next of the request's body.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_arrival(cx, buf)
    }

    /// Ready when the client has left, or will send nothing more. To be called when its request is over: what comes
    /// now is the next one, or its leaving.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<ClientClose> {
        while !self.has_finished {
            if self.arrived.len() - self.at >= AHEAD {
                return self.hang_up.poll(cx, &self.socket);
            }
            match ready!(self.poll_arrive(cx)) {
                Ok(1..) => {}
                // Of TLS this is close_notify, which a FIN follows, or not.
                Ok(0) => match ready!(self.socket.poll_fin(cx)) {
                    Ok(()) => self.has_finished = true,
                    Err(_) => return Poll::Ready(ClientClose::Reset),
                },
                // A FIN without close_notify.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.has_finished = true,
                Err(_) => return Poll::Ready(ClientClose::Reset),
            }
        }
        Poll::Ready(ClientClose::Fin)
    }

    /// How the client has gone by now, though nothing has told us yet.
    pub(crate) fn close_by_now(&self) -> Option<ClientClose> {
        close_of(&self.socket)
    }

    /// Writes as much of both as the socket takes, one after the other.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, both: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        let n = ready!(self.socket.poll_send(cx, both))?;
        self.wrote(n)?;
        Poll::Ready(Ok(n))
    }

    /// The same of several.
    pub(crate) fn poll_send_slices(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.socket.poll_write_parts(cx, slices))?;
        self.wrote(n)?;
        Poll::Ready(Ok(n))
    }

    /// Drops what has arrived.
    pub(crate) fn forget(&mut self) {
        self.arrived.clear();
        self.at = 0;
    }

    /// Lets this much be read.
    pub(crate) fn allow(&mut self, framing: RequestFraming) {
        self.framing = framing;
        self.chunk_data = 0;
    }

    /// Drops the buffers a connection at rest does not need.
    pub(crate) fn rest(&mut self) {
        if self.at == self.arrived.len() {
            self.arrived = Vec::new();
            self.at = 0;
        }
        if self.leaving.is_empty() {
            self.leaving = Vec::new();
        }
        self.framing = RequestFraming::Exact(0);
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.leaving.len() {
            let n = ready!(self.socket.poll_write(cx, &self.leaving[self.sent..]))?;
            self.wrote(n)?;
            self.sent += n;
        }
        self.leaving.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    fn wrote(&self, n: usize) -> io::Result<()> {
        if n == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        self.state.watch.touch();
        Ok(())
    }

    /// An interruption ends reading at once. Writing goes on until the answer to it is out, unless a
    /// response was already on its way: that one can only be cut.
    fn cut(&self) -> io::Result<()> {
        match self.state.watch.interrupted() {
            Some(why) if self.state.answered.load(Relaxed) => {
                Err(io::Error::new(ErrorKind::TimedOut, why.as_str()))
            }
            _ => Ok(()),
        }
    }

    /// Takes up to the allowed portion from what has arrived.
    fn take(&mut self, buf: &mut ReadBuf<'_>) {
        let n = buf.remaining().min(self.arrived.len() - self.at);
        let (n, kept) = match &mut self.framing {
            RequestFraming::Open => (n, n),
            RequestFraming::Exact(left) => {
                let n = n.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                (n, n)
            }
            RequestFraming::Chunked(chunks) => {
                let taken = chunks.take_without_trailers(&mut self.arrived[self.at..self.at + n]);
                self.chunk_data = chunks.data();
                if chunks.is_over() {
                    self.framing = RequestFraming::Exact(0);
                } else if chunks.is_broken() {
                    // What follows is not handed on; the next read says why.
                    self.state.watch.interrupt(Why::Malformed);
                }
                taken
            }
        };
        buf.put_slice(&self.arrived[self.at..self.at + kept]);
        self.at += n;
        if self.at == self.arrived.len() {
            self.arrived.clear();
            self.at = 0;
            if self.arrived.capacity() > AHEAD {
                self.arrived = Vec::new();
            }
        }
    }
}

impl Conn {
    fn poll_arrival(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.at < self.arrived.len() && self.framing != RequestFraming::Exact(0) {
            let before = buf.filled().len();
            self.take(buf);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        self.state.watch.wake_by(cx.waker());
        if let Some(why) = self.state.watch.interrupted() {
            return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, why.as_str())));
        }
        match &mut self.framing {
            RequestFraming::Open => {
                let before = buf.filled().len();
                ready!(self.socket.poll_read(cx, buf))?;
                if buf.filled().len() > before {
                    self.state.watch.touch();
                }
                Poll::Ready(Ok(()))
            }
            RequestFraming::Chunked(chunks) => loop {
                let before = buf.filled().len();
                ready!(self.socket.poll_read(cx, buf))?;
                let came = &mut buf.filled_mut()[before..];
                let is_end = came.is_empty();
                let (n, kept) = chunks.take_without_trailers(came);
                self.chunk_data = chunks.data();
                if !is_end {
                    self.state.watch.touch();
                }
                if chunks.is_broken() {
                    self.state.watch.interrupt(Why::Malformed);
                    buf.set_filled(before);
                    return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, Why::Malformed.as_str())));
                }
                if chunks.is_over() {
                    // The next request came along.
                    self.arrived.extend_from_slice(&came[n..]);
                    buf.set_filled(before + kept);
                    self.framing = RequestFraming::Exact(0);
                    return Poll::Ready(Ok(()));
                }
                buf.set_filled(before + kept);
                // Of trailers alone nothing is left.
                if kept > 0 || is_end {
                    return Poll::Ready(Ok(()));
                }
            },
            RequestFraming::Exact(0) => Poll::Ready(Ok(())),
            RequestFraming::Exact(left) => {
                let room = buf.remaining().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
                ready!(self.socket.poll_read(cx, &mut part))?;
                let n = part.filled().len();
                *left -= n as u64;
                buf.advance(n);
                if n > 0 {
                    self.state.watch.touch();
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if self.cut().is_err() {
            return;
        }
        // What was written and not flushed.
        if self.sent < self.leaving.len() {
            let _ = self.socket.try_write(&self.leaving[self.sent..]);
        }
        self.socket.part();
    }
}
