//! A socket without an engine around it.
//!
//! Readiness is asked of the runtime first, and a read or write that falls short tells it that nothing is left:
//! a byte back and forth costs one read and one write for each direction, and no look in vain.

use super::connection_limit::ConnectionPermit;
use super::secure::Secure;
use crate::dial::{self, Dialed};
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
pub(crate) struct Socket {
    kind: Kind,
    /// Of a connection to a server: its place among those that there may be.
    permit: Option<ConnectionPermit>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A connection whose TLS ends here, a client's or one to a server.
    Tls(Box<Secure>),
}

impl From<TcpStream> for Socket {
    fn from(socket: TcpStream) -> Self {
        Self { kind: Kind::Tcp(socket), permit: None }
    }
}

impl From<UnixStream> for Socket {
    fn from(socket: UnixStream) -> Self {
        Self { kind: Kind::Unix(socket), permit: None }
    }
}

impl From<Secure> for Socket {
    /// What is below has the permit.
    fn from(secure: Secure) -> Self {
        Self { kind: Kind::Tls(Box::new(secure)), permit: None }
    }
}

impl Socket {
    /// Opens a connection to a server.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) async fn connect(address: &Address, permit: ConnectionPermit) -> io::Result<Self> {
        let kind = match dial::connect(address).await? {
            Dialed::Inet(socket) => Kind::Tcp(socket),
            Dialed::Unix(socket) => Kind::Unix(socket),
        };
        Ok(Self { kind, permit: Some(permit) })
    }

    /// Whether somebody waits for the place of this connection to a server.
    pub(crate) fn is_waited_for(&self) -> bool {
        match (&self.permit, &self.kind) {
            (Some(permit), _) => permit.is_waited_for(),
            (None, Kind::Tls(secure)) => secure.wire().is_waited_for(),
            (None, _) => false,
        }
    }

    /// What TLS there is, if it ends here.
    pub(super) fn secure_mut(&mut self) -> Option<&mut Secure> {
        match &mut self.kind {
            Kind::Tls(secure) => Some(secure),
            Kind::Tcp(_) | Kind::Unix(_) => None,
        }
    }

    /// Whether the two ends have agreed on HTTP/2 (ALPN).
    pub(crate) fn speaks_h2(&self) -> bool {
        match &self.kind {
            Kind::Tls(secure) => secure.speaks_h2(),
            Kind::Tcp(_) | Kind::Unix(_) => false,
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        match &self.kind {
            Kind::Tcp(socket) => socket.as_raw_fd(),
            Kind::Unix(socket) => socket.as_raw_fd(),
            Kind::Tls(secure) => secure.wire().fd(),
        }
    }

    /// Whether the kernel's bytes are those that are passed on, so that splice(2) may move them.
    pub(crate) fn is_plain(&self) -> bool {
        !matches!(self.kind, Kind::Tls(_))
    }

    /// The TLS version, if there is TLS.
    pub(super) fn tls(&self) -> Option<&'static str> {
        match &self.kind {
            Kind::Tls(secure) => Some(secure.version()),
            Kind::Tcp(_) | Kind::Unix(_) => None,
        }
    }

    /// Whether nothing has come, not even its end. It costs no system call as long as the runtime has heard
    /// of nothing.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let read = match &mut self.kind {
            Kind::Tcp(socket) => socket.try_read(&mut byte),
            Kind::Unix(socket) => socket.try_read(&mut byte),
            // New session tickets are no news: reading them brings nothing.
            Kind::Tls(secure) => {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                return secure.poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending();
            }
        };
        matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Tcp(socket) => socket.try_write(bytes),
            Kind::Unix(socket) => socket.try_write(bytes),
            Kind::Tls(secure) => secure.try_write(bytes),
        }
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        if let Kind::Tls(secure) = &mut self.kind {
            secure.say_the_end();
        }
        socket2::SockRef::from(&*self).shutdown(std::net::Shutdown::Write)
    }

    /// Sends what was written and not sent. The kernel does so by itself.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Tcp(_) | Kind::Unix(_) => Poll::Ready(Ok(())),
            Kind::Tls(secure) => secure.poll_flush(cx),
        }
    }

    /// The last word on a connection that ends as it should; a TLS client tells by it that it has everything.
    pub(super) fn part(&mut self) {
        if let Kind::Tls(secure) = &mut self.kind {
            secure.say_the_end();
        }
    }

    /// A read that fills less than `buf` tells the runtime that nothing is left, so the next one waits
    /// without asking the kernel (unlike `try_read`).
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Kind::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            Kind::Tls(secure) => secure.poll_read(cx, buf),
        }
    }

    /// Ready when the other side's FIN has come, after a read has brought the end of what it says: of TLS that is a
    /// matter inside the session.
    pub(super) fn poll_fin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Tcp(_) | Kind::Unix(_) => Poll::Ready(Ok(())),
            Kind::Tls(secure) => secure.poll_fin(cx),
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
            Kind::Tls(secure) => secure.poll_write(cx, bytes),
        }
    }

    pub(crate) fn poll_write_parts(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Kind::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Kind::Tls(secure) => secure.poll_write_parts(cx, parts),
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
        match &mut self.kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Kind::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Kind::Tls(secure) => secure.poll_shutdown(cx),
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
                // See `is_plain`.
                (Kind::Tls(_), _) => return Poll::Ready(Err(ErrorKind::Unsupported.into())),
            };
            std::task::ready!(ready)?;
            let done = match &self.kind {
                Kind::Tcp(socket) => socket.try_io(interest, &mut io),
                Kind::Unix(socket) => socket.try_io(interest, &mut io),
                Kind::Tls(_) => Err(ErrorKind::Unsupported.into()),
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// What the client connected to; `None` for a unix socket.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(socket) => socket.local_addr().ok(),
            Kind::Unix(_) => None,
            Kind::Tls(secure) => secure.wire().local_address(),
        }
    }

    /// Has the other side see a reset instead of an end when the socket is closed: what it got is not all.
    pub(crate) fn end_with_reset(&mut self) {
        if let Kind::Tls(secure) = &mut self.kind {
            secure.cut();
        }
        // A socket that is gone already needs no reset.
        let _ = socket2::SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(socket) => socket.as_fd(),
            Kind::Unix(socket) => socket.as_fd(),
            Kind::Tls(secure) => secure.wire().as_fd(),
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
