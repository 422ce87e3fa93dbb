//! Sockets for datagrams: opened as we need them, read many datagrams at a time, and written to without waiting.

use super::super::bound::Bound;
use crate::units::Address;
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use tokio::net::UdpSocket;

/// No datagram is longer, and the kernel never joins several to more (GRO stops below 64 KiB), so nothing that is
/// read is ever cut short.
const LONGEST: usize = 65_535;
/// Datagrams up to this size can be left to the kernel to take apart (GSO): it refuses those that do not fit the way,
/// and these fit an Ethernet.
const LONGEST_JOINED: usize = 1452;
/// After the kernel could not take a piece apart, so many are sent one by one before it is asked again.
const PIECES_APART: u32 = 1000;
/// The kernel's queue in front of us, as far as `net.core.rmem_max` allows: it takes the bursts.
const QUEUE: usize = 4 << 20;

/// A core's room for what arrives. The memory is touched only as far as datagrams fill it.
struct Arriving {
    buffers: Vec<Box<[u8]>>,
    meta: [RecvMeta; BATCH_SIZE],
}

thread_local! {
    static ARRIVING: RefCell<Arriving> = RefCell::new(Arriving {
        buffers: (0..BATCH_SIZE).map(|_| vec![0; LONGEST].into_boxed_slice()).collect(),
        meta: [RecvMeta::default(); BATCH_SIZE],
    });
    /// What sending found out about the kernel; for all of a core's sockets.
    static KERNEL: OnceCell<UdpSocketState> = const { OnceCell::new() };
    /// Pieces still to be sent one datagram at a time.
    static APART: Cell<u32> = const { Cell::new(0) };
}

/// One datagram, or several of one sender that came together: all of `size` but the last, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceivedDatagrams<'a> {
    pub(super) from: SocketAddr,
    /// The address it was sent to, if the socket was asked to say.
    pub(super) to: Option<IpAddr>,
    pub(super) bytes: &'a [u8],
    pub(super) size: usize,
}

impl<'a> ReceivedDatagrams<'a> {
    pub(super) fn datagrams(&self) -> u64 {
        // An empty datagram is one.
        self.bytes.len().div_ceil(self.size.max(1)).max(1) as u64
    }

    /// The first datagram, and the others.
    fn split(self) -> (Self, Option<Self>) {
        if self.bytes.len() <= self.size {
            return (self, None);
        }
        let (first, rest) = self.bytes.split_at(self.size);
        (Self { bytes: first, ..self }, Some(Self { bytes: rest, ..self }))
    }
}

/// Opens `address` for `workers` workers.
///
/// # Errors
/// What the kernel says.
pub(in crate::edge) fn bind(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    // As with streams, a socket that shares with nobody finds out whether the address is taken. There is no
    // SO_REUSEADDR here: with it two processes would share the address in silence.
    if address.port() != 0 {
        new(&address)?.bind(&SockAddr::from(address))?;
    }
    open(address, workers)
}

/// The same without finding that out.
pub(in crate::edge) fn open(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    let mut address = address;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = new(&address)?;
        socket.set_reuse_port(true)?;
        tune(&socket, address)?;
        socket.bind(&SockAddr::from(address))?;
        if let Some(chosen) = socket.local_addr()?.as_socket() {
            address = chosen;
        }
        sockets.push(socket.into());
    }
    Ok(Bound { address: Address::Inet(address), sockets, file: None })
}

/// Sets what we need of a socket that takes datagrams for a listener, whoever opened it.
pub(in crate::edge) fn tune(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    let options = SockRef::from(socket);
    // A smaller queue is no reason to stay closed.
    let _ = options.set_recv_buffer_size(QUEUE);
    let _ = options.set_send_buffer_size(QUEUE);
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    join(socket);
    Ok(())
}

/// The kernel knows which kind it is.
pub(in crate::edge) fn is_datagram(socket: &OwnedFd) -> bool {
    SockRef::from(socket).r#type().is_ok_and(|kind| kind == Type::DGRAM)
}

/// Takes a bound socket into the runtime.
pub(super) fn front(socket: OwnedFd) -> io::Result<UdpSocket> {
    // Made here, where there is someone to tell when it fails.
    KERNEL.with(|kernel| {
        if kernel.get().is_none() {
            // It sets options that forbid fragments, so it gets a socket of its own.
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            let _ = kernel.set(UdpSocketState::new((&socket).into())?);
        }
        io::Result::Ok(())
    })?;
    UdpSocket::from_std(Socket::from(socket).into())
}

/// Has the kernel give what is sent to its address from now on to others that have it too, though the socket stays open:
/// nobody writes from our own address to itself. What has come already stays in the queue, and sending goes on as before.
pub(super) fn turn_away(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    let itself = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SockRef::from(socket).connect(&SockAddr::from(SocketAddr::new(itself, address.port())))
}

/// Opens a socket towards a server; its answers alone are let in.
///
/// # Errors
/// What the kernel says: there is no way to the address, or no more files.
pub(crate) fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = new(&server)?;
    join(&socket);
    socket.connect(&SockAddr::from(server))?;
    UdpSocket::from_std(socket.into())
}

fn new(address: &SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(*address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // `[::]:53` and `0.0.0.0:53` are two addresses, and can be two listeners.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Has datagrams of one sender that arrive together handed over together (GRO); kernels before 5.0 cannot.
fn join(socket: &impl AsFd) {
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &true);
}

/// Reads what has arrived, at most `BATCH` pieces of it, and shows each; true if there may be more.
pub(super) fn receive(socket: &UdpSocket, mut see: impl FnMut(ReceivedDatagrams<'_>)) -> io::Result<bool> {
    ARRIVING.with_borrow_mut(|arriving| {
        let Arriving { buffers, meta } = arriving;
        let mut slices = buffers.iter_mut();
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(slices.next().map_or(&mut [], |buffer| &mut buffer[..])));
        let received = with_kernel(|kernel| kernel.recv(socket.into(), &mut slices, meta))?;
        for (meta, buffer) in meta.iter().zip(&slices).take(received) {
            let bytes = &buffer[..meta.len];
            see(ReceivedDatagrams { from: meta.addr, to: meta.dst_ip, bytes, size: meta.stride });
        }
        Ok(received == BATCH_SIZE)
    })
}

/// Where something is sent to.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendTarget {
    pub(super) address: SocketAddr,
    /// The socket is connected to it.
    pub(super) connected: bool,
    /// The address to send it from, where the socket has several.
    pub(super) from: Option<IpAddr>,
}

/// What became of an arrival that was sent on.
#[derive(Debug, Default)]
pub(super) struct SendResult {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    /// Why the rest was not.
    pub(super) error: Option<io::Error>,
}

/// Sends it without waiting, together if the kernel can take it apart. It stops at an error that says something of
/// the other side, and goes on after one of a single datagram.
pub(super) fn send(socket: &UdpSocket, toward: SendTarget, arrival: ReceivedDatagrams<'_>) -> SendResult {
    let mut sent = SendResult::default();
    let count = arrival.datagrams();
    let length = arrival.bytes.len() as u64;
    if count > 1 && arrival.size <= LONGEST_JOINED && may_join() {
        match transmit(socket, toward, arrival.bytes, Some(arrival.size)) {
            Ok(()) => return SendResult { datagrams: count, bytes: length, error: None },
            Err(error) if is_final(&error) || is_full(&error) => {
                return SendResult { error: Some(error), ..sent };
            }
            // A device that cannot, or a narrower way: one by one.
            Err(_) => APART.set(PIECES_APART),
        }
    }
    let mut rest = Some(arrival);
    while let Some((one, others)) = rest.map(ReceivedDatagrams::split) {
        let done = match toward.connected {
            true => SockRef::from(socket).send(one.bytes).map(drop),
            false => transmit(socket, toward, one.bytes, None),
        };
        match done {
            Ok(()) => {
                sent.datagrams += 1;
                sent.bytes += one.bytes.len() as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                let stop = is_final(&error) || is_full(&error);
                sent.error = Some(error);
                if stop {
                    return sent;
                }
            }
        }
        rest = others;
    }
    sent
}

fn transmit(
    socket: &UdpSocket,
    toward: SendTarget,
    contents: &[u8],
    segment_size: Option<usize>,
) -> io::Result<()> {
    let SendTarget { address: destination, from: src_ip, .. } = toward;
    let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip };
    with_kernel(|kernel| kernel.try_send(socket.into(), &transmit))
}

/// Whether the kernel is trusted to take pieces apart. After a failure it is not, for a while.
fn may_join() -> bool {
    let apart = APART.get();
    APART.set(apart.saturating_sub(1));
    apart == 0
}

fn with_kernel<T>(work: impl FnOnce(&UdpSocketState) -> io::Result<T>) -> io::Result<T> {
    KERNEL.with(|kernel| kernel.get().map_or_else(|| Err(ErrorKind::Unsupported.into()), work))
}

/// Nobody is there: the port is closed (an ICMP message said so), or there is no way to it.
pub(super) fn is_final(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

/// There is no room just now.
pub(super) fn is_full(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32)
}

/// The way does not take datagrams of this size.
pub(super) fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::EMSGSIZE as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the datagrams that `bytes` in pieces of `size` are, and how many are counted.
    fn check(bytes: usize, size: usize, lengths: &[usize]) {
        let bytes = vec![7; bytes];
        let mut rest =
            Some(ReceivedDatagrams { from: ([127, 0, 0, 1], 1).into(), to: None, bytes: &bytes, size });
        assert_eq!(rest.map(|arrival| arrival.datagrams()), Some(lengths.len() as u64));
        let mut found = Vec::new();
        while let Some((one, others)) = rest.map(ReceivedDatagrams::split) {
            found.push(one.bytes.len());
            rest = others;
        }
        assert_eq!(found, lengths);
    }

    #[test]
    fn what_came_together_comes_apart_where_it_was_joined() {
        check(0, 0, &[0]);
        check(5, 5, &[5]);
        check(6, 3, &[3, 3]);
        check(7, 3, &[3, 3, 1]);
    }

    #[tokio::test]
    async fn a_piece_arrives_as_the_datagrams_it_was() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let address = server.local_addr().unwrap();
        front(bind(([127, 0, 0, 1], 0).into(), 1).unwrap().sockets.remove(0)).unwrap();
        let socket = connect(address).unwrap();
        // Joined for the kernel to take apart, and too large for that.
        for size in [LONGEST_JOINED, LONGEST_JOINED + 1] {
            let bytes = vec![7; 2 * size + 1];
            let arrival = ReceivedDatagrams { from: address, to: None, bytes: &bytes, size };
            let toward = SendTarget { address, connected: true, from: None };
            let sent = send(&socket, toward, arrival);
            assert!(sent.error.is_none(), "{sent:?}");
            assert_eq!((sent.datagrams, sent.bytes), (3, bytes.len() as u64));
            let mut buffer = vec![0; LONGEST];
            assert_eq!([(); 3].map(|()| server.recv(&mut buffer).unwrap()), [size, size, 1]);
        }
    }
}
