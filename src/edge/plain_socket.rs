//! A stream socket as the kernel has it.
//!
//! Readiness is asked of the runtime first, and a read or write that falls short tells it that nothing is left:
//! a byte back and forth costs one read and one write for each direction, and no look in vain.

use super::connection_limit::{ConnectionPermit, ServerPermits};
use crate::dial::Dialed;
use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// What one read takes at most: as much as a socket's own buffers usually hold.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    /// One buffer for all connections of a core; none holds it across a wait.
    static PASSING: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// Lends the core's buffer.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    PASSING.with_borrow_mut(|scratch| work(scratch))
}

/// A stream socket of a client, or to a server.
#[derive(Debug)]
pub(crate) struct PlainSocket {
    kind: Kind,
    /// Of a connection to a server: its places among those that there may be.
    permits: Option<ServerPermits>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for PlainSocket {
    fn from(socket: TcpStream) -> Self {
        Self { kind: Kind::Tcp(socket), permits: None }
    }
}

impl From<UnixStream> for PlainSocket {
    fn from(socket: UnixStream) -> Self {
        Self { kind: Kind::Unix(socket), permits: None }
    }
}

impl PlainSocket {
    /// A connection to a server.
    pub(super) fn to_server(dialed: Dialed, permits: ServerPermits) -> Self {
        let kind = match dialed {
            Dialed::Inet(socket) => Kind::Tcp(socket),
            Dialed::Unix(socket) => Kind::Unix(socket),
        };
        Self { kind, permits: Some(permits) }
    }

    /// Whether somebody waits for a place that this connection to a server has.
    pub(super) fn is_waited_for(&self) -> bool {
        self.permits.as_ref().is_some_and(|permits| permits.process.waiting() > 0) || self.waited_for() > 0
    }

    /// How many wait for a place among its server's connections.
    pub(super) fn waited_for(&self) -> u32 {
        self.server_permit().map_or(0, ConnectionPermit::waiting)
    }

    /// How many connections its server has, where that had a limit as it was opened.
    pub(super) fn open_at_server(&self) -> Option<u32> {
        self.server_permit().map(ConnectionPermit::in_use)
    }

    fn server_permit(&self) -> Option<&ConnectionPermit> {
        self.permits.as_ref()?.server.as_ref()
    }

    pub(super) fn fd(&self) -> RawFd {
        match &self.kind {
            Kind::Tcp(socket) => socket.as_raw_fd(),
            Kind::Unix(socket) => socket.as_raw_fd(),
        }
    }

    /// Whether nothing has come, not even its end. It costs no system call as long as the runtime has heard
    /// of nothing.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = match &self.kind {
            Kind::Tcp(socket) => socket.try_read(&mut byte),
            Kind::Unix(socket) => socket.try_read(&mut byte),
        };
        matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Tcp(socket) => socket.try_write(bytes),
            Kind::Unix(socket) => socket.try_write(bytes),
        }
    }

    /// A read that fills less than `buf` tells the runtime that nothing is left, so the next one waits
    /// without asking the kernel (unlike `try_read`).
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Kind::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }

    /// Appends what is there; 0 is the end.
    pub(super) fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        with_scratch(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            std::task::ready!(self.poll_read(cx, &mut buf))?;
            bytes.extend_from_slice(buf.filled());
            Poll::Ready(Ok(buf.filled().len()))
        })
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Kind::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    pub(super) fn poll_write_parts(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Kind::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Kind::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }

    /// Calls `io` while the socket is ready; its `WouldBlock` means that it is so no longer.
    pub(super) fn poll_io<T>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut io: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let ready = match (&self.kind, interest.is_readable()) {
                (Kind::Tcp(socket), true) => socket.poll_read_ready(cx),
                (Kind::Tcp(socket), false) => socket.poll_write_ready(cx),
                (Kind::Unix(socket), true) => socket.poll_read_ready(cx),
                (Kind::Unix(socket), false) => socket.poll_write_ready(cx),
            };
            std::task::ready!(ready)?;
            let done = match &self.kind {
                Kind::Tcp(socket) => socket.try_io(interest, &mut io),
                Kind::Unix(socket) => socket.try_io(interest, &mut io),
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// What the client connected to; `None` for a unix socket.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(socket) => socket.local_addr().ok(),
            Kind::Unix(_) => None,
        }
    }
}

impl AsFd for PlainSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(socket) => socket.as_fd(),
            Kind::Unix(socket) => socket.as_fd(),
        }
    }
}

/// For what is written for the runtime's own traits: TLS.
impl AsyncRead for PlainSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::poll_read(self.get_mut(), cx, buf)
    }
}

impl AsyncWrite for PlainSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_parts(cx, parts)
    }

    /// Records that wait leave with one call.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The kernel sends by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self.get_mut(), cx)
    }
}
