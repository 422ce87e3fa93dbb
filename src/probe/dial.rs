//! Opens connections for probes, whose steps are noted, and for Pingora's connector, which is told that what it gets is a
//! socket.

use super::{ProbeFailure, Steps};
use crate::api::probe::StepKind;
use crate::dial::{self, DialStage, Dialed, Progress, Secured};
use crate::units::Address;
use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType, Result};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Any kind of connection.
pub(super) trait AnyStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> AnyStream for T {}

impl Progress for Steps {
    fn reached(&self, stage: DialStage<'_>) {
        match stage {
            DialStage::Connecting => self.begin(StepKind::Connect),
            DialStage::Connected { address, dialed } => self.found(|| match dialed {
                Dialed::Inet(socket) => match socket.local_addr() {
                    Ok(from) => format!("to {address} from {from}"),
                    Err(_) => format!("to {address}"),
                },
                Dialed::Unix(_) => format!("to {}", address.to_string().trim_start_matches("unix:")),
            }),
            DialStage::SendingProxyHeader => self.begin(StepKind::ProxyHeader),
            DialStage::ProxyHeaderSent(proxy_header) => self.found(|| told(proxy_header)),
            DialStage::Securing(name) => {
                self.begin(StepKind::Tls);
                self.found(|| format!("expects {}", name.to_str()));
            }
            DialStage::Secured(session) => self.agreed(session),
        }
    }
}

/// A PROXY header in words. Version 1 is text already.
fn told(proxy_header: &[u8]) -> String {
    match proxy_header.strip_suffix(b"\r\n") {
        Some(line) if line.starts_with(b"PROXY ") => format!("version 1: {}", line.escape_ascii()),
        _ => format!("version 2, {} bytes: the connection is our own (LOCAL)", proxy_header.len()),
    }
}

/// Opens a connection and sends `proxy_header`.
pub(super) async fn dial(
    address: &Address,
    proxy_header: Option<&[u8]>,
    steps: &Steps,
) -> io::Result<Box<dyn AnyStream>> {
    Ok(match dial::open(address, proxy_header, steps).await? {
        Dialed::Inet(socket) => Box::new(socket),
        Dialed::Unix(socket) => Box::new(socket),
    })
}

/// The same, and shakes hands if it is to be secured.
pub(super) async fn dial_secured(
    address: &Address,
    proxy_header: Option<&[u8]>,
    secured: Option<Secured>,
    steps: &Steps,
) -> std::result::Result<Box<dyn AnyStream>, ProbeFailure> {
    match secured {
        None => dial(address, proxy_header, steps).await.map_err(ProbeFailure::from),
        Some(secured) => shake_hands(address, proxy_header, secured, steps).await,
    }
}

/// A secured connection.
async fn shake_hands(
    address: &Address,
    proxy_header: Option<&[u8]>,
    secured: Secured,
    steps: &Steps,
) -> std::result::Result<Box<dyn AnyStream>, ProbeFailure> {
    let wire = dial(address, proxy_header, steps).await.map_err(ProbeFailure::from)?;
    let needs_h2 = *secured.0.alpn_protocols == [b"h2"];
    let stream = dial::secure(wire, secured, steps).await;
    let stream = stream.map_err(|error| ProbeFailure::Tls(error.to_string()))?;
    if needs_h2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(ProbeFailure::Tls("the server does not agree on h2 (ALPN)".to_owned()));
    }
    Ok(Box::new(stream))
}

/// The same for Pingora's connector.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) proxy_header: Option<Vec<u8>>,
    pub(crate) secured: Option<Secured>,
    pub(crate) steps: Steps,
    /// Has what comes, too.
    pub(crate) heard: Heard,
}

/// What a server has said on a connection, so that it is read as that of any other is (`wire::response_head`) beside Pingora.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Option<Vec<u8>>>>);

impl Heard {
    /// From the beginning on.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(Vec::new()))))
    }

    /// What was heard and not taken yet.
    pub(crate) fn with<T>(&self, take: impl FnOnce(&mut Vec<u8>) -> T) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(take)
    }

    /// The rest is of no account.
    pub(crate) fn stop(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, address: &PingoraAddr) -> Result<Stream> {
        let address = match address {
            PingoraAddr::Inet(address) => Address::Inet(*address),
            PingoraAddr::Unix(address) => {
                Address::Unix(address.as_pathname().map(Into::into).unwrap_or_default())
            }
        };
        let proxy_header = self.proxy_header.as_deref();
        let wire = dial_secured(&address, proxy_header, self.secured.clone(), &self.steps).await;
        let wire = wire.map_err(|failure| {
            let kind = match failure {
                ProbeFailure::Tls(_) => ErrorType::TLSHandshakeFailure,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "cannot connect", failure)
        })?;
        let socket = AsSocket { wire, heard: self.heard.clone() };
        Ok(Stream::from(VirtualSocketStream::new(Box::new(socket))))
    }
}

/// A connection, as Pingora takes it.
struct AsSocket {
    wire: Box<dyn AnyStream>,
    heard: Heard,
}

impl fmt::Debug for AsSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsSocket")
    }
}

impl VirtualSocket for AsSocket {
    /// What there is to set was set when it was opened.
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for AsSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut *self.wire).poll_read(cx, buf);
        self.heard.with(|heard| heard.extend_from_slice(&buf.filled()[before..]));
        read
    }
}

impl AsyncWrite for AsSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.wire).poll_shutdown(cx)
    }
}
