//! Opens the sockets we accept on: one per core and TCP address, so that the kernel spreads
//! connections and no core waits for another.

use super::bound::{Bound, SocketFile};
use crate::config::plan::Transport;
use crate::units::Address;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// The queue of connections the kernel has accepted and we have not; capped by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Opens `address` for `workers` workers.
///
/// # Errors
/// What the kernel says; `AddrInUse` also when a live process answers on a unix socket.
pub(crate) fn bind(address: &Address, transport: Transport, workers: usize) -> io::Result<Bound> {
    match address {
        Address::Inet(address) if transport == Transport::Datagram => super::udp::bind(*address, workers),
        Address::Inet(address) => bind_inet(*address, workers),
        Address::Unix(path) => bind_unix(path, workers),
    }
}

/// The same where sockets of our own overlap that are about to be closed: that nobody else has the address can then be
/// found out only as far as others do not share it.
///
/// # Errors
/// As of [`bind`].
pub(crate) fn bind_beside_own(address: &Address, transport: Transport, workers: usize) -> io::Result<Bound> {
    match address {
        Address::Inet(address) if transport == Transport::Datagram => super::udp::open(*address, workers),
        Address::Inet(address) => open_inet(*address, workers),
        Address::Unix(path) => bind_unix(path, workers),
    }
}

fn bind_inet(address: std::net::SocketAddr, workers: usize) -> io::Result<Bound> {
    // SO_REUSEPORT lets any process of ours join an address silently; a first socket without it
    // finds out whether the address is taken. Closed again at once, it never accepted anything.
    if address.port() != 0 {
        let probe = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        prepare(&probe, address)?;
        probe.bind(&SockAddr::from(address))?;
    }
    open_inet(address, workers)
}

fn open_inet(address: std::net::SocketAddr, workers: usize) -> io::Result<Bound> {
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

fn prepare(socket: &Socket, address: std::net::SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]:80` and `0.0.0.0:80` are two addresses, and can be two listeners.
        socket.set_only_v6(true)?;
    }
    Ok(())
}

fn bind_unix(path: &Path, workers: usize) -> io::Result<Bound> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let address = SockAddr::unix(path)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse || !is_abandoned(path, &address) {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    let file = SocketFile::at(path);
    socket.listen(BACKLOG)?;
    let sockets =
        (0..workers).map(|_| Ok(socket.try_clone()?.into())).collect::<io::Result<Vec<OwnedFd>>>()?;
    Ok(Bound { address: Address::Unix(path.to_owned()), sockets, file: Some(file) })
}

/// A socket file that nobody answers on was left by a process that died.
fn is_abandoned(path: &Path, address: &SockAddr) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    // Without waiting: a queue that is full is somebody's.
    let nobody_answers = Socket::new(Domain::UNIX, Type::STREAM, None)
        .and_then(|socket| socket.set_nonblocking(true).and_then(|()| socket.connect(address)))
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    is_socket && nobody_answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_an_error_even_with_reuse_port() {
        let any: Address = "127.0.0.1:0".parse().unwrap();
        let first = bind(&any, Transport::Stream, 2).unwrap();
        assert_eq!(first.sockets.len(), 2);
        assert_ne!(first.address, any);
        assert_eq!(bind(&first.address, Transport::Stream, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_unix_socket_left_behind_is_taken_over_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("evenkeel-listen-{}.sock", std::process::id()));
        let address = Address::Unix(path.clone());
        let first = bind(&address, Transport::Stream, 1).unwrap();
        assert_eq!(bind(&address, Transport::Stream, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let Bound { file, sockets, .. } = first;
        std::mem::forget(file);
        drop(sockets);
        assert!(path.exists());
        drop(bind(&address, Transport::Stream, 1).unwrap());
        assert!(!path.exists());
    }
}
