//! Opens connections to servers: the socket, a PROXY header if there is one, TLS if the pool has it, within one limit.

use super::connection_limit::ServerPermits;
use super::plain_socket::PlainSocket;
use super::secure::Secure;
use super::socket::Socket;
use crate::access_log::Why;
use crate::dial::{self, Secured, own_resource};
use crate::units::Address;
use std::io;
use std::time::Duration;

/// Why a server could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreached {
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Connect(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("out of {0}")]
    OwnResources(&'static str),
}

impl From<io::Error> for Unreached {
    fn from(error: io::Error) -> Self {
        own_resource(&error).map_or(Self::Connect(error), Self::OwnResources)
    }
}

impl Unreached {
    pub(crate) fn why(&self) -> Why {
        match self {
            Self::Timeout(_) => Why::ConnectTimeout,
            Self::Connect(_) => Why::ConnectFailed,
            Self::Tls(_) => Why::ServerTls,
            Self::OwnResources(_) => Why::OwnResources,
        }
    }

    /// Whether the server has refused all that it was offered to speak.
    pub(crate) fn is_of_alpn(&self) -> bool {
        matches!(self, Self::Tls(error) if dial::is_of_alpn(error))
    }

    /// What the access log says beside that.
    pub(crate) fn detail(&self) -> Option<&'static str> {
        match self {
            Self::Tls(error) => Some(dial::tls_failure(error)),
            Self::OwnResources(what) => Some(what),
            Self::Timeout(_) | Self::Connect(_) => None,
        }
    }
}

/// Opens a connection to a server. `proxy_header` goes first; `permits` are its places among those that there may be.
///
/// # Errors
/// What the kernel or TLS says, or that `within` has passed.
pub(crate) async fn reach(
    address: &Address,
    permits: ServerPermits,
    within: Duration,
    proxy_header: Option<&[u8]>,
    secured: Option<Secured>,
) -> Result<Socket, Unreached> {
    let reaching = async {
        let socket = PlainSocket::to_server(dial::open(address, proxy_header, &()).await?, permits);
        match secured {
            None => Ok(Socket::from(socket)),
            Some(secured) => {
                let stream = dial::secure(socket, secured, &()).await.map_err(Unreached::Tls)?;
                Ok(Socket::from(Secure::new(stream)))
            }
        }
    };
    tokio::time::timeout(within, reaching).await.unwrap_or(Err(Unreached::Timeout(within)))
}
