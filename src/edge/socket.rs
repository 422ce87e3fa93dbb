//! A connection, plain or with TLS that ends here.

use super::plain_socket::PlainSocket;
use super::secure::Secure;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A client's connection, or one to a server.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(PlainSocket),
    Tls(Box<Secure>),
}

impl<S: Into<PlainSocket>> From<S> for Socket {
    fn from(socket: S) -> Self {
        Self::Plain(socket.into())
    }
}

impl From<Secure> for Socket {
    fn from(secure: Secure) -> Self {
        Self::Tls(Box::new(secure))
    }
}

impl Socket {
    /// The socket that the kernel knows.
    fn wire(&self) -> &PlainSocket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(secure) => secure.wire(),
        }
    }

    /// Whether somebody waits for a place that this connection to a server has.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.wire().is_waited_for()
    }

    /// How many wait for a place among its server's connections.
    pub(crate) fn waited_for(&self) -> u32 {
        self.wire().waited_for()
    }

    /// How many connections its server has, where that had a limit as it was opened.
    pub(crate) fn open_at_server(&self) -> Option<u32> {
        self.wire().open_at_server()
    }

    /// Whether the two ends have agreed on HTTP/2 (ALPN).
    pub(crate) fn speaks_h2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(secure) => secure.speaks_h2(),
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.wire().fd()
    }

    /// Whether the kernel's bytes are those that are passed on, so that splice(2) may move them.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// The TLS version, if there is TLS.
    pub(super) fn tls(&self) -> Option<&'static str> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(secure) => Some(secure.version()),
        }
    }

    /// Whether nothing has come, not even its end. It costs no system call as long as the runtime has heard
    /// of nothing.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            // New session tickets are no news: reading them brings nothing.
            Self::Tls(secure) => {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                secure.poll_read(&mut cx, &mut ReadBuf::new(&mut [0])).is_pending()
            }
        }
    }

    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(secure) => secure.try_write(bytes),
        }
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        self.part();
        socket2::SockRef::from(&*self).shutdown(std::net::Shutdown::Write)
    }

    /// Sends what was written and not sent. The kernel does so by itself.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
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
            Self::Plain(socket) => socket.poll_read(cx, buf),
            Self::Tls(secure) => secure.poll_read(cx, buf),
        }
    }

    /// Ready when the other side's FIN has come, after a read has brought the end of what it says: of TLS that is a
    /// matter inside the session.
    pub(super) fn poll_fin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(secure) => secure.poll_fin(cx),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_write(cx, bytes),
            Self::Tls(secure) => secure.poll_write(cx, bytes),
        }
    }

    pub(crate) fn poll_write_parts(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_write_parts(cx, parts),
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
            Self::Plain(socket) => socket.poll_shutdown(cx),
            Self::Tls(secure) => secure.poll_shutdown(cx),
        }
    }

    /// Calls `io` while the socket is ready; its `WouldBlock` means that it is so no longer.
    pub(super) fn poll_io<T>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        io: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        match self {
            Self::Plain(socket) => socket.poll_io(cx, interest, io),
            // See `is_plain`.
            Self::Tls(_) => Poll::Ready(Err(ErrorKind::Unsupported.into())),
        }
    }

    /// What the client connected to; `None` for a unix socket.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.wire().local_address()
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
        self.wire().as_fd()
    }
}

/// For what is written for the runtime's own traits: HTTP/2's codec.
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
