//! Opens sockets to servers, for requests and probes alike, and tells what is a server's fault from what is ours.

use crate::units::Address;
use rustix::io::Errno;
use std::io;
use tokio::net::{TcpStream, UnixStream};

/// A socket that is connected to a server.
#[derive(Debug)]
pub(crate) enum Dialed {
    Inet(TcpStream),
    Unix(UnixStream),
}

/// Opens a connection.
///
/// # Errors
/// What the kernel says; [`own_resource`] tells whose fault it is.
pub(crate) async fn connect(address: &Address) -> io::Result<Dialed> {
    match address {
        Address::Inet(address) => {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(Dialed::Inet(socket))
        }
        Address::Unix(path) => UnixStream::connect(path).await.map(Dialed::Unix),
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
