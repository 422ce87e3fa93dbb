//! A connection whose TLS ends here, a client's or one to a server, after its handshake.
//!
//! What is written may wait in the session after a write has taken it, so a read sends it first, and a connection that
//! ends flushes ([`Secure::poll_flush`]). Nothing here waits by itself: deadlines are the watch's, as everywhere.

use super::plain_socket::PlainSocket;
use crate::tls::ACME_TLS;
use std::fmt;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;
use tokio_rustls::rustls::ProtocolVersion;

/// A connection after its handshake.
pub(crate) struct Secure {
    stream: TlsStream<PlainSocket>,
    /// Nothing more is sent, so that what was sent does not look whole.
    is_cut: bool,
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secure").field(self.wire()).finish()
    }
}

impl Secure {
    pub(super) fn new(stream: impl Into<TlsStream<PlainSocket>>) -> Self {
        Self { stream: stream.into(), is_cut: false }
    }

    pub(super) fn wire(&self) -> &PlainSocket {
        self.stream.get_ref().0
    }

    /// Whether an authority has had its answer by the handshake and nothing else is to follow (RFC 8737 section 4).
    pub(super) fn is_challenge(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(ACME_TLS)
    }

    pub(super) fn speaks_h2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    pub(super) fn version(&self) -> &'static str {
        match self.stream.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.stream.get_ref().1.wants_write() {
            // It goes on while we wait; a client that takes nothing may still send.
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.stream.get_ref().1.wants_write() {
            // What the session has to say to what it read, such as an alert to a renegotiation (RFC 5746 section 4.5), must not
            // wait for a response that may not come.
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
        }
        read
    }

    /// Ready with the FIN below the session, once that is over. What comes before is for nobody.
    pub(super) fn poll_fin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = match &mut self.stream {
            TlsStream::Server(stream) => stream.get_mut().0,
            TlsStream::Client(stream) => stream.get_mut().0,
        };
        loop {
            let mut ignored = [0; 256];
            let mut buf = ReadBuf::new(&mut ignored);
            ready!(wire.poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    pub(super) fn poll_write_parts(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Sends what was written, that nothing more comes, and the end.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Writes what the socket takes at once.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match &mut self.stream {
            TlsStream::Server(stream) => stream.get_mut().1.writer().write(bytes)?,
            TlsStream::Client(stream) => stream.get_mut().1.writer().write(bytes)?,
        };
        self.try_flush()?;
        Ok(n)
    }

    fn try_flush(&mut self) -> io::Result<()> {
        while self.stream.get_ref().1.wants_write() {
            match &mut self.stream {
                TlsStream::Server(stream) => {
                    let (wire, session) = stream.get_mut();
                    session.write_tls(&mut AtOnce(wire))?;
                }
                TlsStream::Client(stream) => {
                    let (wire, session) = stream.get_mut();
                    session.write_tls(&mut AtOnce(wire))?;
                }
            }
        }
        Ok(())
    }

    /// Tells the client that nothing more comes (RFC 8446 section 6.1), if it takes that at once.
    pub(super) fn say_the_end(&mut self) {
        if !self.is_cut {
            self.stream.get_mut().1.send_close_notify();
            let _ = self.try_flush();
        }
    }

    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }
}

/// Writes what a socket takes without waiting.
struct AtOnce<'a>(&'a mut PlainSocket);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
