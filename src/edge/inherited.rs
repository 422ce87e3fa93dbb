//! Sockets that were open before us: passed by systemd (socket activation) or by the process that we take over from.
//!
//! The protocol is systemd's (sd_listen_fds(3)): `LISTEN_FDS` files from 3 on, their names in `LISTEN_FDNAMES`. They are
//! known by the address they are bound to; a name is needed only for an address whose port the kernel chose.

use super::bound::Bound;
use crate::config::plan::Transport;
use crate::units::Address;
use listenfd::ListenFd;
use socket2::SockRef;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use tracing::warn;

/// The name of the connection to the process before us.
pub(crate) const BEFORE: &str = "evenkeel-before";

/// What was passed to us and nobody has claimed yet. A copy has the same sockets, so that they can be claimed and the
/// claims forgotten.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inherited {
    sockets: Vec<Arc<PassedSocket>>,
}

#[derive(Debug)]
struct PassedSocket {
    name: String,
    address: Address,
    transport: Transport,
    socket: OwnedFd,
}

impl Inherited {
    /// What this process was started with, and the connection to the process that it takes over from, if there is one. To
    /// be asked once, before there are threads: the environment is changed, so that no program that we start believes
    /// these files to be its own.
    pub(crate) fn from_environment() -> (Self, Option<UnixStream>) {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let (mut inherited, mut before) = (Self::default(), None);
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            if name == BEFORE {
                // A listener is what it can be taken as; what it is does not matter there.
                let socket = passed.take_unix_listener(index).ok().flatten();
                before = socket.map(|socket| UnixStream::from(OwnedFd::from(socket)));
                continue;
            }
            match take(&mut passed, index, name) {
                Ok(socket) => inherited.sockets.push(Arc::new(socket)),
                Err(error) => eprintln_unusable(index, name, &error),
            }
        }
        (inherited, before)
    }

    /// The sockets of an address, at least one for each worker; `None` if none was passed.
    ///
    /// # Errors
    /// A socket can be neither set up nor duplicated.
    pub(crate) fn claim(
        &mut self,
        listener: &str,
        wanted: &Address,
        transport: Transport,
        workers: usize,
    ) -> io::Result<Option<Bound>> {
        let is_it = |passed: &PassedSocket| passed.transport == transport && passed.is_for(listener, wanted);
        let Some(address) =
            self.sockets.iter().find(|passed| is_it(passed)).map(|passed| passed.address.clone())
        else {
            return Ok(None);
        };
        let mut sockets: Vec<OwnedFd> = self
            .sockets
            .extract_if(.., |passed| passed.transport == transport && passed.address == address)
            .map(|passed| passed.socket.try_clone())
            .collect::<io::Result<_>>()?;
        for socket in &sockets {
            SockRef::from(socket).set_nonblocking(true)?;
            match (&address, transport) {
                (Address::Inet(_), Transport::Stream) => SockRef::from(socket).set_tcp_nodelay(true)?,
                (Address::Inet(address), Transport::Datagram) => super::udp::tune(socket, *address)?,
                (Address::Unix(_), _) => {}
            }
        }
        // One socket for all, as systemd passes it, is accepted on by every worker.
        for n in 0..workers.saturating_sub(sockets.len()) {
            sockets.push(sockets[n].try_clone()?);
        }
        // A unix socket's file is somebody else's until we are ready.
        Ok(Some(Bound { address, sockets, file: None }))
    }

    /// Whether something that nobody has claimed yet overlaps this address.
    pub(crate) fn overlaps(&self, wanted: &Address, transport: Transport) -> bool {
        self.sockets.iter().any(|passed| passed.transport == transport && passed.address.overlaps(wanted))
    }

    /// Closes what no listener has claimed. Clients that wait in such a queue are refused now, not left hanging.
    pub(crate) fn close_rest(&mut self) {
        for passed in self.sockets.drain(..) {
            warn!(name = passed.name, address = %passed.address,
                "a socket was passed that no listener has; closing it");
        }
    }
}

impl PassedSocket {
    /// Whether a listener of this name that wants this address means this socket.
    fn is_for(&self, listener: &str, wanted: &Address) -> bool {
        match (wanted, &self.address) {
            (Address::Inet(wanted), Address::Inet(address)) if wanted.port() == 0 => {
                self.name == listener && wanted.ip() == address.ip()
            }
            (wanted, address) => wanted == address,
        }
    }
}

fn take(passed: &mut ListenFd, index: usize, name: &str) -> io::Result<PassedSocket> {
    let (transport, socket): (_, OwnedFd) = match passed.take_tcp_listener(index) {
        Ok(Some(listener)) => (Transport::Stream, listener.into()),
        _ => match passed.take_unix_listener(index) {
            Ok(Some(listener)) => (Transport::Stream, listener.into()),
            _ => match passed.take_udp_socket(index)? {
                Some(socket) => (Transport::Datagram, socket.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            },
        },
    };
    let address = SockRef::from(&socket).local_addr()?;
    let address = match (address.as_socket(), address.as_pathname()) {
        (Some(address), _) => Address::Inet(address),
        (None, Some(path)) => Address::Unix(path.to_owned()),
        (None, None) => return Err(io::Error::other("its address is neither IP nor a path")),
    };
    Ok(PassedSocket { name: name.to_owned(), address, transport, socket })
}

/// There is no log yet when the environment is read.
fn eprintln_unusable(index: usize, name: &str, error: &io::Error) {
    use std::io::Write;
    let _ = writeln!(
        io::stderr(),
        "evenkeel: the passed socket {index} ({name:?}) is of no use: {error}; permit TCP, UDP or unix stream sockets"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(name: &str, text: &str) -> (PassedSocket, Address) {
        let socket = std::net::TcpListener::bind(text).unwrap();
        let address = Address::Inet(socket.local_addr().unwrap());
        let passed = PassedSocket {
            name: name.to_owned(),
            address: address.clone(),
            transport: Transport::Stream,
            socket: socket.into(),
        };
        (passed, address)
    }

    #[test]
    fn a_socket_is_known_by_its_address_and_one_of_any_port_by_its_name() {
        let any: Address = "127.0.0.1:0".parse().unwrap();
        for (listener, wanted, expected) in
            [("other", None, true), ("web", Some(&any), true), ("other", Some(&any), false)]
        {
            let (passed, address) = passed("web", "127.0.0.1:0");
            let mut inherited = Inherited { sockets: vec![Arc::new(passed)] };
            let wanted = wanted.unwrap_or(&address);
            assert!(inherited.claim(listener, wanted, Transport::Datagram, 2).unwrap().is_none());
            let bound = inherited.claim(listener, wanted, Transport::Stream, 2).unwrap();
            assert_eq!(bound.is_some(), expected, "{listener} {wanted}");
            if let Some(bound) = bound {
                assert_eq!((&bound.address, bound.sockets.len()), (&address, 2));
                assert!(inherited.claim(listener, wanted, Transport::Stream, 2).unwrap().is_none());
            }
        }
    }
}
