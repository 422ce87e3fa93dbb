//! Opens the sockets we accept on: one per core and TCP address, so that the kernel spreads
//! connections and no core waits for another.

use super::bound::Bound;
use super::socket_files::SocketFiles;
use crate::config::plan::Transport;
use crate::units::Address;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// The queue of connections the kernel has accepted and we have not; capped by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

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

/// Opens a unix socket for `workers` workers. It takes as long as the file system does: not to be called where others wait.
///
/// # Errors
/// What the kernel says; `AddrInUse` also when a live process answers there.
pub(crate) fn bind_unix(files: &SocketFiles, path: &Path, workers: usize) -> io::Result<Bound> {
    let _made = files.begin(path);
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
    let file = files.at(path);
    socket.listen(BACKLOG)?;
    let sockets =
        (0..workers).map(|_| Ok(socket.try_clone()?.into())).collect::<io::Result<Vec<OwnedFd>>>()?;
    Ok(Bound { address: Address::Unix(path.to_owned()), sockets, file: Some(file) })
}

/// The same for those whom `mode` lets; the directory is made if there is none.
///
/// # Errors
/// As of [`bind_unix`], and of the file system.
pub(crate) fn bind_unix_with_mode(
    files: &SocketFiles,
    path: &Path,
    workers: usize,
    mode: u32,
) -> io::Result<Bound> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory)?;
    }
    let bound = bind_unix(files, path, workers)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(bound)
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
    use std::path::PathBuf;
    use std::time::Duration;

    #[test]
    fn an_address_in_use_is_an_error_even_with_reuse_port() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let first = bind(any, Transport::Stream, 2).unwrap();
        assert_eq!(first.sockets.len(), 2);
        let Address::Inet(given) = first.address else { panic!("{first:?}") };
        assert_ne!(given, any);
        assert_eq!(bind(given, Transport::Stream, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("evenkeel-{name}-{}.sock", std::process::id()))
    }

    fn settle(files: &SocketFiles) {
        assert_eq!(files.settle(Duration::from_secs(15)), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_unix_socket_left_behind_is_taken_over_and_a_live_one_is_not() {
        let (files, path) = (SocketFiles::default(), path("listen"));
        let Bound { file, sockets, .. } = bind_unix(&files, &path, 1).unwrap();
        assert_eq!(bind_unix(&files, &path, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        file.unwrap().leave();
        drop(sockets);
        settle(&files);
        assert!(path.exists());
        drop(bind_unix(&files, &path, 1).unwrap());
        settle(&files);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_is_taken_again_once_it_is_free() {
        let (files, path) = (SocketFiles::default(), path("again"));
        for _ in 0..100 {
            drop(bind_unix(&files, &path, 1).unwrap());
        }
        // What is removed late must not be the next one's.
        let bound = bind_unix(&files, &path, 1).unwrap();
        settle(&files);
        assert!(path.exists());
        drop(bound);
        settle(&files);
    }
}
