//! Opens connections as a pool's servers expect them: bytes of our own first (a PROXY header), then TLS. For probes, and
//! for the HTTP engine, which is told that what it gets is a socket.

use super::Failure;
use crate::units::Address;
use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType, Result};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Any kind of connection.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}

/// How a connection is secured, and whom the server must prove to be.
pub(super) type Secured = (Arc<ClientConfig>, ServerName<'static>);

/// Opens a connection and sends `introduction`.
pub(super) async fn dial(address: &Address, introduction: Option<&[u8]>) -> io::Result<Box<dyn Wire>> {
    let mut wire: Box<dyn Wire> = match address {
        Address::Inet(address) => {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Box::new(socket)
        }
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
    };
    wire.write_all(introduction.unwrap_or_default()).await?;
    Ok(wire)
}

/// The same, and shakes hands if it is to be secured.
pub(super) async fn dial_secured(
    address: &Address,
    introduction: Option<&[u8]>,
    secured: Option<Secured>,
) -> std::result::Result<Box<dyn Wire>, Failure> {
    match secured {
        None => dial(address, introduction).await.map_err(|error| Failure::Connect(error.to_string())),
        Some(secured) => shake_hands(address, introduction, secured).await,
    }
}

/// A secured connection.
async fn shake_hands(
    address: &Address,
    introduction: Option<&[u8]>,
    (config, name): Secured,
) -> std::result::Result<Box<dyn Wire>, Failure> {
    let wire = dial(address, introduction).await.map_err(|error| Failure::Connect(error.to_string()))?;
    let needs_h2 = *config.alpn_protocols == [b"h2"];
    let stream = TlsConnector::from(config).connect(name, wire).await;
    let stream = stream.map_err(|error| Failure::Tls(error.to_string()))?;
    if needs_h2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Failure::Tls("the server does not agree on h2 (ALPN)".to_owned()));
    }
    Ok(Box::new(stream))
}

/// The same for the HTTP engine.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) introduction: Vec<u8>,
    pub(crate) secured: Option<Secured>,
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, address: &PingoraAddr) -> Result<Stream> {
        let wrong = |error: io::Error| Error::because(ErrorType::ConnectError, "cannot connect", error);
        if let Some(secured) = &self.secured {
            let address = match address {
                PingoraAddr::Inet(address) => Address::Inet(*address),
                PingoraAddr::Unix(address) => {
                    Address::Unix(address.as_pathname().map(Into::into).unwrap_or_default())
                }
            };
            let wire = shake_hands(&address, Some(&self.introduction), secured.clone()).await;
            let wire = wire.map_err(|failure| {
                let kind = match failure {
                    Failure::Tls(_) => ErrorType::TLSHandshakeFailure,
                    _ => ErrorType::ConnectError,
                };
                Error::because(kind, "cannot connect", failure)
            })?;
            return Ok(Stream::from(VirtualSocketStream::new(Box::new(Dialed(wire)))));
        }
        Ok(match address {
            PingoraAddr::Inet(address) => {
                let mut socket = TcpStream::connect(address).await.map_err(wrong)?;
                socket.set_nodelay(true).map_err(wrong)?;
                socket.write_all(&self.introduction).await.map_err(wrong)?;
                Stream::from(socket)
            }
            PingoraAddr::Unix(address) => {
                let path = address.as_pathname().unwrap_or_else(|| std::path::Path::new(""));
                let mut socket = UnixStream::connect(path).await.map_err(wrong)?;
                socket.write_all(&self.introduction).await.map_err(wrong)?;
                Stream::from(socket)
            }
        })
    }
}

/// A secured connection, as the engine takes it.
struct Dialed(Box<dyn Wire>);

impl fmt::Debug for Dialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialed")
    }
}

impl VirtualSocket for Dialed {
    /// What there is to set was set when it was opened.
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Dialed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Dialed {
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
