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
        let Some(secured) = &self.secured else {
            let opened = dial::open(&address, self.proxy_header.as_deref(), &self.steps).await;
            return match opened {
                Ok(Dialed::Inet(socket)) => Ok(Stream::from(socket)),
                Ok(Dialed::Unix(socket)) => Ok(Stream::from(socket)),
                Err(error) => {
                    Err(Error::because(ErrorType::ConnectError, "cannot connect", ProbeFailure::from(error)))
                }
            };
        };
        let wire = shake_hands(&address, self.proxy_header.as_deref(), secured.clone(), &self.steps).await;
        let wire = wire.map_err(|failure| {
            let kind = match failure {
                ProbeFailure::Tls(_) => ErrorType::TLSHandshakeFailure,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "cannot connect", failure)
        })?;
        Ok(Stream::from(VirtualSocketStream::new(Box::new(AsSocket(wire)))))
    }
}

/// A secured connection, as Pingora takes it.
struct AsSocket(Box<dyn AnyStream>);

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
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for AsSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}
