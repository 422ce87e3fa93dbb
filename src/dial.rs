//! Opens connections to servers, for requests and probes alike: the socket, bytes of our own (a PROXY header), TLS. And
//! tells what is a server's fault from what is ours.

use crate::files::connect_unix;
use crate::units::Address;
use rustix::io::Errno;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A socket that is connected to a server.
#[derive(Debug)]
pub(crate) enum Dialed {
    Inet(TcpStream),
    Unix(UnixStream),
}

/// How a connection to a server is secured, and whom the server must prove to be.
pub(crate) type Secured = (Arc<ClientConfig>, ServerName<'static>);

/// How far a connection has got.
#[derive(Debug)]
pub(crate) enum DialStage<'a> {
    Connecting,
    Connected { address: &'a Address, dialed: &'a Dialed },
    SendingProxyHeader,
    ProxyHeaderSent(&'a [u8]),
    Securing(&'a ServerName<'static>),
    Secured(&'a ClientConnection),
}

/// Hears of each stage that a connection reaches.
pub(crate) trait Progress {
    fn reached(&self, stage: DialStage<'_>);
}

/// Nobody does.
impl Progress for () {
    fn reached(&self, _: DialStage<'_>) {}
}

/// Opens a connection and sends `proxy_header`.
///
/// # Errors
/// What the kernel says; [`own_resource`] tells whose fault it is.
pub(crate) async fn open(
    address: &Address,
    proxy_header: Option<&[u8]>,
    progress: &impl Progress,
) -> io::Result<Dialed> {
    progress.reached(DialStage::Connecting);
    let mut dialed = connect(address).await?;
    progress.reached(DialStage::Connected { address, dialed: &dialed });
    if let Some(bytes) = proxy_header {
        progress.reached(DialStage::SendingProxyHeader);
        match &mut dialed {
            Dialed::Inet(socket) => socket.write_all(bytes).await?,
            Dialed::Unix(socket) => socket.write_all(bytes).await?,
        }
        progress.reached(DialStage::ProxyHeaderSent(bytes));
    }
    Ok(dialed)
}

/// Shakes hands on a connection.
///
/// # Errors
/// What the kernel or TLS says; [`tls_failure`] puts it into words.
pub(crate) async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    (config, name): Secured,
    progress: &impl Progress,
) -> io::Result<TlsStream<S>> {
    progress.reached(DialStage::Securing(&name));
    let stream = TlsConnector::from(config).connect(name, socket).await?;
    progress.reached(DialStage::Secured(stream.get_ref().1));
    Ok(stream)
}

async fn connect(address: &Address) -> io::Result<Dialed> {
    match address {
        Address::Inet(address) => {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(Dialed::Inet(socket))
        }
        Address::Unix(path) => connect_unix(path).await.map(Dialed::Unix),
    }
}

/// What of our own has run out, if that is what an error of opening a socket says: no server is at fault then.
pub(crate) fn own_resource(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE) => Some("open files"),
        Some(Errno::NOBUFS | Errno::NOMEM) => Some("memory for sockets"),
        Some(Errno::ADDRNOTAVAIL) => Some("local ports"),
        _ => None,
    }
}

/// Whether a server has refused all that it was offered to speak (RFC 7301 section 3.2).
pub(crate) fn is_of_alpn(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)))
}

/// What the log says of a failed handshake with a server.
pub(crate) fn tls_failure(error: &io::Error) -> &'static str {
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
