//! A socket without an engine around it.
//!
//! Readiness is asked of the runtime first, and a read or write that falls short tells it that nothing is left:
//! a byte back and forth costs one read and one write for each direction, and no look in vain.

use super::secure::Secure;
use crate::units::Address;
use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
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

/// A stream socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A connection whose TLS ends here, a client's or one to a server.
    Tls(Box<Secure>),
}

impl Socket {
    /// Opens a connection to a server.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Inet(address) => {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                Ok(Self::Tcp(socket))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }

    /// Whether the two ends have agreed on HTTP/2 (ALPN).
    pub(crate) fn speaks_h2(&self) -> bool {
        match self {
            Self::Tls(secure) => secure.speaks_h2(),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(socket) => socket.as_raw_fd(),
            Self::Unix(socket) => socket.as_raw_fd(),
            Self::Tls(secure) => secure.wire().fd(),
        }
    }

    /// Whether the kernel's bytes are those that are passed on, so that splice(2) may move them.
    pub(crate) fn is_plain(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }

    /// The TLS version, if there is TLS.
    pub(super) fn tls(&self) -> Option<&'static str> {
        match self {
            Self::Tls(secure) => Some(secure.version()),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Whether nothing has come, not even its end. It costs no system call as long as the runtime has heard
    /// of nothing.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Tcp(socket) => socket.try_read(&mut byte),
            Self::Unix(socket) => socket.try_read(&mut byte),
            // New session tickets are no news: reading them brings nothing.
            Self::Tls(secure) => {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                return secure.poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending();
            }
        };
        matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write(bytes),
            Self::Unix(socket) => socket.try_write(bytes),
            Self::Tls(secure) => secure.try_write(bytes),
        }
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        if let Self::Tls(secure) = self {
            secure.say_the_end();
        }
        socket2::SockRef::from(&*self).shutdown(std::net::Shutdown::Write)
    }

    /// Sends what was written and not sent. The kernel does so by itself.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(secure) => secure.poll_flush(cx),
        }
    }

    /// The last word on a connection that ends as it should; a TLS client tells by it that it has everything.
    pub(super) fn part(&mut self) {
        if let Self::Tls(secure) = self {
            secure.say_the_end();
        }
    }

    /// A read that fills less than `buf` tells the runtime that nothing is left, so the next one waits
    /// without asking the kernel (unlike `try_read`).
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(secure) => secure.poll_read(cx, buf),
        }
    }

    /// Ready when the other side's FIN has come, after a read has brought the end of what it says: of TLS that is a
    /// matter inside the session.
    pub(super) fn poll_fin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(secure) => secure.poll_fin(cx),
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
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(secure) => secure.poll_write(cx, bytes),
        }
    }

    pub(crate) fn poll_write_parts(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Self::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Self::Tls(secure) => secure.poll_write_parts(cx, parts),
        }
    }

    /// Writes as much of both as the socket takes, one after the other.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, both: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        match both {
            [one, []] | [[], one] => self.poll_write(cx, one),
            both => self.poll_write_parts(cx, &both.map(IoSlice::new)),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(secure) => secure.poll_shutdown(cx),
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
                // See `is_plain`.
                (Self::Tls(_), _) => return Poll::Ready(Err(ErrorKind::Unsupported.into())),
            };
            std::task::ready!(ready)?;
            let done = match self {
                Self::Tcp(socket) => socket.try_io(interest, &mut io),
                Self::Unix(socket) => socket.try_io(interest, &mut io),
                Self::Tls(_) => Err(ErrorKind::Unsupported.into()),
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
            Self::Tls(secure) => secure.wire().local_address(),
        }
    }

    /// Has the other side see a reset instead of an end when the socket is closed: what it got is not all.
    pub(crate) fn end_with_reset(&mut self) {
        if let Self::Tls(secure) = self {
            secure.cut();
        }
        // A socket that is gone already needs no reset.
        let _ = socket2::SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
            Self::Tls(secure) => secure.wire().as_fd(),
        }
    }
}

/// For what is written for the runtime's own traits: TLS.
impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::poll_read(self.get_mut(), cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(self.get_mut(), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self.get_mut(), cx)
    }
}
