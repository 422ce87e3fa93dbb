//! The TLS handshake of a client, and what is said of one that fails.

use super::Rejection;
use super::handshake_limit::{HandshakeLimit, HandshakePermit};
use super::lingering_close;
use super::plain_socket::PlainSocket;
use super::preface::{self, PrefaceEnd};
use super::secure::Secure;
use super::watch::Watched;
use crate::access_log::Why;
use crate::tls::{ClientIdentity, Termination};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::SystemTime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, HandshakeKind, InvalidMessage};
use tokio_rustls::rustls::{PeerIncompatible, ServerConnection};

/// What TLS begins with: a record of the kind `handshake` (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// A handshake that did not fail.
#[derive(Debug)]
pub(super) struct CompletedHandshake {
    pub(super) secure: Secure,
    /// By a session of before.
    pub(super) is_resumed: bool,
    /// Who the client is by its certificate, if it has shown one.
    pub(super) identity: Option<Arc<ClientIdentity>>,
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
pub(super) async fn accept(
    mut socket: PlainSocket,
    watch: &Watched,
    first: &mut Vec<u8>,
    tls: &Termination,
    handshake_limit: &HandshakeLimit,
) -> Result<CompletedHandshake, PrefaceEnd> {
    const INCOMPLETE: &str = "TLS handshake incomplete";
    if first.is_empty() {
        // Who sends nothing costs nothing yet.
        preface::arrive(&mut socket, watch, first, INCOMPLETE).await.map_err(unanswered)?;
    }
    if first[0] != HANDSHAKE {
        if begins_with_method(first) {
            lingering_close::answer_plain_http(socket.into()).await;
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
                lingering_close::close(socket.into()).await;
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
    Ok(CompletedHandshake { secure: Secure::new(stream), is_resumed, identity })
}

/// Waits until there is room for one more handshake.
async fn wait_for(
    handshake_limit: &HandshakeLimit,
    watch: &Watched,
) -> Result<Option<HandshakePermit>, PrefaceEnd> {
    watch
        .heed(handshake_limit.take())
        .await
        .map_err(|why| Some(rejection(why, "waited for other handshakes")))
}

/// Who the client is by its certificate, be it of this handshake or of the session's first.
fn identity(session: &ServerConnection) -> Result<Option<Arc<ClientIdentity>>, &'static str> {
    let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) else { return Ok(None) };
    let identity = ClientIdentity::of(certificate).ok_or("certificate unreadable")?;
    match identity.is_over(SystemTime::now()) {
        true => Err("certificate expired"),
        false => Ok(Some(Arc::new(identity))),
    }
}

/// No status reaches a client of TLS before the handshake.
fn rejection(why: Why, detail: &'static str) -> Rejection {
    Rejection { status: 0, why, detail: Some(detail) }
}

fn unanswered(ended: PrefaceEnd) -> PrefaceEnd {
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
