//! Opens the sockets we accept on: one per core and TCP address, so that the kernel spreads
//! connections and no core waits for another.

use super::bound::Bound;
use crate::config::plan::Transport;
use crate::units::Address;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;

/// The queue of connections the kernel has accepted and we have not; capped by `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// Opens `address` for `workers` workers.
///
/// # Errors
/// What the kernel says.
pub(crate) fn bind(address: SocketAddr, transport: Transport, workers: usize) -> io::Result<Bound> {
    match transport {
        Transport::Datagram => super::udp::bind(address, workers),
        Transport::Stream => bind_inet(address, workers),
    }
}

/// The same where sockets of our own overlap that are about to be closed: that nobody else has the address can then be
/// found out only as far as others do not share it.
///
/// # Errors
/// As of [`bind`].
pub(crate) fn bind_beside_own(
    address: SocketAddr,
    transport: Transport,
    workers: usize,
) -> io::Result<Bound> {
    match transport {
        Transport::Datagram => super::udp::open(address, workers),
        Transport::Stream => open_inet(address, workers),
    }
}

fn bind_inet(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    // SO_REUSEPORT lets any process of ours join an address silently; a first socket without it
    // finds out whether the address is taken. Closed again at once, it never accepted anything.
    if address.port() != 0 {
        let probe = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        prepare(&probe, address)?;
        probe.bind(&SockAddr::from(address))?;
    }
    open_inet(address, workers)
}

fn open_inet(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    let mut address = address;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        prepare(&socket, address)?;
        socket.set_reuse_port(true)?;
        // Accepted sockets inherit it: no system call per connection.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SockAddr::from(address))?;
        if let Some(chosen) = socket.local_addr()?.as_socket() {
            address = chosen;
        }
        socket.listen(BACKLOG)?;
        sockets.push(socket.into());
    }
    Ok(Bound { address: Address::Inet(address), sockets, file: None })
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]:80` and `0.0.0.0:80` are two addresses, and can be two listeners.
        socket.set_only_v6(true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_an_error_even_with_reuse_port() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let first = bind(any, Transport::Stream, 2).unwrap();
        assert_eq!(first.sockets.len(), 2);
        let Address::Inet(given) = first.address else { panic!("{first:?}") };
        assert_ne!(given, any);
        assert_eq!(bind(given, Transport::Stream, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
