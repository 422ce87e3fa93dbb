//! Opens a connection that begins with bytes of its own, for probes of servers that expect a PROXY header.

use crate::units::Address;
use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType, Result};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Either kind of socket.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Opens a connection and sends `introduction`.
pub(super) async fn dial(address: &Address, introduction: Option<&[u8]>) -> io::Result<Box<dyn Wire>> {
    let mut wire: Box<dyn Wire> = match address {
        Address::Inet(address) => Box::new(TcpStream::connect(address).await?),
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
    };
    wire.write_all(introduction.unwrap_or_default()).await?;
    Ok(wire)
}

/// The same for the HTTP engine.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) introduction: Vec<u8>,
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, address: &PingoraAddr) -> Result<Stream> {
        let wrong = |error: io::Error| Error::because(ErrorType::ConnectError, "cannot connect", error);
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
