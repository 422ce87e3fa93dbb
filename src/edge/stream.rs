//! A socket's bytes without an engine around them, for what is passed on as it is.
//!
//! Readiness is asked of the runtime first, and a read or write that falls short tells it that nothing is left:
//! a byte back and forth costs one read and one write for each direction, and no look in vain.

use super::conn::Socket;
use crate::units::Address;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
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

impl Socket {
    /// Opens a connection to a server.
    ///
    /// # Errors
    /// What the kernel says; `TimedOut` when `within` has passed.
    pub(crate) async fn connect(address: &Address, within: Duration) -> io::Result<Self> {
        let connecting = async {
            match address {
                Address::Inet(address) => {
                    let socket = TcpStream::connect(address).await?;
                    socket.set_nodelay(true)?;
                    Ok(Self::Tcp(socket))
                }
                Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            }
        };
        tokio::time::timeout(within, connecting).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Reads what is there; nothing read is the end.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
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
            std::task::ready!(self.poll_receive(cx, &mut buf))?;
            bytes.extend_from_slice(buf.filled());
            Poll::Ready(Ok(buf.filled().len()))
        })
    }

    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
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
            let ready = match (self, interest.is_readable()) {
                (Self::Tcp(socket), true) => socket.poll_read_ready(cx),
                (Self::Tcp(socket), false) => socket.poll_write_ready(cx),
                (Self::Unix(socket), true) => socket.poll_read_ready(cx),
                (Self::Unix(socket), false) => socket.poll_write_ready(cx),
            };
            std::task::ready!(ready)?;
            let done = match self {
                Self::Tcp(socket) => socket.try_io(interest, &mut io),
                Self::Unix(socket) => socket.try_io(interest, &mut io),
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// What the client connected to; `None` for a unix socket.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Has the other side see a reset instead of an end when the socket is closed: what it got is not all.
    pub(super) fn end_with_reset(&self) {
        // A socket that is gone already needs no reset.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}
