//! A connection whose TLS ends here, a client's or one to a server, and the handshake it begins with.
//!
//! What is written may wait in the session after a write has taken it, so a read sends it first, and a connection that
//! ends flushes ([`Secure::poll_flush`]). Nothing here waits by itself: deadlines are the watch's, as everywhere.

use super::Rejection;
use super::handshake_limit::{HandshakeLimit, HandshakePermit};
use super::lingering_close;
use super::preface::{self, Ended};
use super::socket::Socket;
use super::watch::Watched;
use crate::access_log::Why;
use crate::tls::{ACME_TLS, Identity, Termination};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, HandshakeKind, InvalidMessage};
use tokio_rustls::rustls::{PeerIncompatible, ProtocolVersion, ServerConnection};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// What TLS begins with: a record of the kind `handshake` (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// A connection after its handshake.
pub(crate) struct Secure {
    stream: TlsStream<Socket>,
    /// Nothing more is sent, so that what was sent does not look whole.
    is_cut: bool,
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secure").field(self.wire()).finish()
    }
}

/// A handshake that did not fail.
#[derive(Debug)]
pub(super) struct Shaken {
    pub(super) socket: Socket,
    /// By a session of before.
    pub(super) is_resumed: bool,
    /// Who the client is by its certificate, if it has shown one.
    pub(super) identity: Option<Arc<Identity>>,
}

/// Whether a connection begins as HTTP/1 does: with a method, of which there may be only a part so far. Methods are in
/// capitals (RFC 9110 section 9.1), and no TLS record begins so.
fn begins_with_method(first: &[u8]) -> bool {
    /// As many letters as the longest of those that are registered.
    const LONGEST: usize = 17;
    let word = first.split(|byte| *byte == b' ').next().unwrap_or_default();
    (1..=LONGEST).contains(&word.len()) && word.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
}

/// Shakes hands. `first` is what was read of the connection already; what came of a handshake that fails is left there.
pub(super) async fn handshake(
    mut socket: Socket,
    watch: &Watched,
    first: &mut Vec<u8>,
    tls: &Termination,
    handshake_limit: &HandshakeLimit,
) -> Result<Shaken, Ended> {
    const INCOMPLETE: &str = "TLS handshake incomplete";
    if first.is_empty() {
        // Who sends nothing costs nothing yet.
        preface::arrive(&mut socket, watch, first, INCOMPLETE).await.map_err(unanswered)?;
    }
    if first[0] != HANDSHAKE {
        if begins_with_method(first) {
            lingering_close::answer_plain_http(socket).await;
            return Err(Some(Rejection { status: 400, ..rejection(Why::TlsHandshake, "plain HTTP") }));
        }
        return Err(Some(rejection(Why::TlsHandshake, "not TLS")));
    }
    let turn = wait_for(handshake_limit, watch).await?;
    let mut refused = Ok(());
    let accepting = TlsAcceptor::from(Arc::clone(&tls.config)).accept_with(socket, |session| {
        let mut rest = &first[..];
        while !rest.is_empty() && refused.is_ok() {
            refused = match session.read_tls(&mut rest) {
                Ok(1..) => session.process_new_packets().map(drop),
                Ok(0) | Err(_) => Err(rustls::Error::HandshakeNotComplete),
            };
        }
    });
    let mut accepting = accepting.into_fallible();
    if let Err(error) = refused {
        // The client is told, if it takes that at once.
        poll_fn(|cx| Poll::Ready(Pin::new(&mut accepting).poll(cx).is_ready())).await;
        return Err(Some(failure(&error)));
    }
    let shaken = poll_fn(|cx| {
        watch.wake_by(cx.waker());
        if let Some(why) = watch.interrupted() {
            return Poll::Ready(Err((rejection(why, INCOMPLETE), None)));
        }
        Poll::Ready(ready!(Pin::new(&mut accepting).poll(cx)).map_err(|(error, socket)| {
            let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
            match error {
                None => (rejection(Why::ClientAborted, INCOMPLETE), None),
                Some(error) => (failure(error), Some(socket)),
            }
        }))
    });
    let shaken = shaken.await;
    drop(turn);
    let stream = match shaken {
        Ok(stream) => stream,
        Err((rejection, told)) => {
            // It has been told why, and with TLS 1.3 may have sent its first request already.
            if let Some(socket) = told {
                lingering_close::close(socket).await;
            }
            return Err(Some(rejection));
        }
    };
    let session = stream.get_ref().1;
    let is_resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    let identity = identity(session).map_err(|detail| {
        if is_resumed {
            tls.forget_sessions();
        }
        rejection(Why::ClientCertificate, detail)
    })?;
    let socket = Socket::from(Secure { stream: stream.into(), is_cut: false });
    Ok(Shaken { socket, is_resumed, identity })
}

/// Shakes hands with a server.
pub(super) async fn originate(
    socket: Socket,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<Socket> {
    let stream = TlsConnector::from(config).connect(name, socket).await?;
    Ok(Socket::from(Secure { stream: stream.into(), is_cut: false }))
}

/// What the log says of a failed handshake with a server.
pub(super) fn server_failure(error: &io::Error) -> &'static str {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match error {
        None => "handshake incomplete",
        Some(rustls::Error::InvalidCertificate(error)) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "certificate not valid yet"
            }
            CertificateError::UnknownIssuer => "certificate of an unknown authority",
            CertificateError::BadSignature => "certificate not signed by its authority",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "certificate for another name"
            }
            _ => "certificate refused",
        },
        Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => "asks for a certificate",
        Some(rustls::Error::AlertReceived(_)) => "server gave up with an alert",
        Some(rustls::Error::InvalidMessage(_)) => "not TLS",
        Some(_) => "handshake failed",
    }
}

/// Waits until there is room for one more handshake.
async fn wait_for(
    handshake_limit: &HandshakeLimit,
    watch: &Watched,
) -> Result<Option<HandshakePermit>, Ended> {
    watch
        .heed(handshake_limit.take())
        .await
        .map_err(|why| Some(rejection(why, "waited for other handshakes")))
}

/// Who the client is by its certificate, be it of this handshake or of the session's first.
fn identity(session: &ServerConnection) -> Result<Option<Arc<Identity>>, &'static str> {
    let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) else { return Ok(None) };
    let identity = Identity::of(certificate).ok_or("certificate unreadable")?;
    match identity.is_over(SystemTime::now()) {
        true => Err("certificate expired"),
        false => Ok(Some(Arc::new(identity))),
    }
}

/// No status reaches a client of TLS before the handshake.
fn rejection(why: Why, detail: &'static str) -> Rejection {
    Rejection { status: 0, why, detail: Some(detail) }
}

fn unanswered(ended: Ended) -> Ended {
    ended.map(|rejection| Rejection { status: 0, ..rejection })
}

/// What the log says of a failed handshake.
fn failure(error: &rustls::Error) -> Rejection {
    match error {
        rustls::Error::NoCertificatesPresented => rejection(Why::ClientCertificate, "no certificate"),
        rustls::Error::InvalidCertificate(error) => rejection(
            Why::ClientCertificate,
            match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate expired",
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "certificate not valid yet"
                }
                CertificateError::UnknownIssuer => "certificate of an unknown authority",
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                    "certificate not for clients"
                }
                CertificateError::BadEncoding => "certificate malformed",
                CertificateError::BadSignature => "certificate with a bad signature",
                _ => "certificate refused",
            },
        ),
        error => rejection(Why::TlsHandshake, reason(error)),
    }
}

fn reason(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => "not TLS",
        rustls::Error::InvalidMessage(_) => "malformed message",
        rustls::Error::PeerIncompatible(incompatible) => match incompatible {
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired => "no version in common",
            PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite in common",
            PeerIncompatible::NoKxGroupsInCommon => "no key exchange in common",
            PeerIncompatible::NoSignatureSchemesInCommon => "no signature algorithm in common",
            _ => "client incompatible",
        },
        // What rustls says of a resolver that has none.
        rustls::Error::General(text) if text.contains("certificate") => "no certificate for that name yet",
        rustls::Error::NoApplicationProtocol => "no protocol (ALPN) in common",
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA => "client refuses the certificate",
            _ => "client gave up with an alert",
        },
        rustls::Error::PeerMisbehaved(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. }
        | rustls::Error::DecryptError
        | rustls::Error::PeerSentOversizedRecord => "client broke the protocol",
        _ => "handshake failed",
    }
}

impl Secure {
    pub(super) fn wire(&self) -> &Socket {
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
struct AtOnce<'a>(&'a mut Socket);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_method() {
        for (first, is_request) in [
            (&b"GET / HTTP/1.1\r\n"[..], true),
            (b"G", true),
            (b"PRI * HTTP/2.0\r\n", true),
            (b"BASELINE-CONTROL /", true),
            (b"VERSION-CONTROLLERS /", false),
            (b"get / HTTP/1.1\r\n", false),
            (b"SSH-2.0-OpenSSH_9\r\n", false),
            (b" GET", false),
            (b"\x80\x2e\x01", false),
            (b"", false),
        ] {
            assert_eq!(begins_with_method(first), is_request, "{first:?}");
        }
    }
}
