//! A core's thread: its runtime, its accept loops, its connections.

use super::connection_limit::ConnectionLimit;
use super::handshake::ConnectionAcceptor;
use super::order::{Accept, WorkerCommand};
use super::plain_socket::PlainSocket;
use super::raw::ServeRaw;
use super::udp::{self, DatagramListeners, ServeUdp};
use super::watch::{self, TICK};
use super::{EdgeObserver, Serve};
use crate::access_log::Why;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch as channel};
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

/// Ticks between two looks for memory that a burst of connections has left.
const LOOK_FOR_BURSTS: u32 = 128;
/// After an error that is not one connection's fault (no more open files), accepting rests this long.
const BREATHER: Duration = Duration::from_millis(50);
/// Accepted from a closing listener's queue at most, so that closing ends.
const LAST_ORDERS: usize = 4096;

/// The threads that serve clients.
#[derive(Debug)]
pub(crate) struct Workers {
    orders: Vec<mpsc::UnboundedSender<WorkerCommand>>,
    done: mpsc::Receiver<()>,
}

impl Workers {
    /// Starts `count` threads; `service` makes what each serves requests with, and `raw_service` has what is not HTTP.
    ///
    /// # Errors
    /// No thread or runtime could be had.
    pub(crate) fn start<S: Serve>(
        count: usize,
        connection_limit: &Arc<ConnectionLimit>,
        observer: &Arc<dyn EdgeObserver>,
        raw_service: &Arc<dyn ServeRaw>,
        service: &(dyn Fn() -> S + Sync),
    ) -> io::Result<Self> {
        let (finished, done) = mpsc::channel(1);
        let mut orders = Vec::with_capacity(count);
        for number in 0..count {
            let (order, inbox) = mpsc::unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let tracker = TaskTracker::new();
            let worker = Worker {
                fronts: DatagramListeners::new(
                    connection_limit,
                    Arc::clone(raw_service) as Arc<dyn ServeUdp>,
                    &tracker,
                ),
                service: Arc::new(service()),
                connection_limit: Arc::clone(connection_limit),
                observer: Arc::clone(observer),
                raw_service: Arc::clone(raw_service),
                tracker,
                accepting: HashMap::new(),
            };
            let (finished, observer) = (finished.clone(), Arc::clone(observer));
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                runtime.block_on(worker.run(inbox));
                // What did not end by itself ends here, and writes its record.
                drop(runtime);
                observer.tick();
                drop(finished);
            })?;
            orders.push(order);
        }
        Ok(Self { orders, done })
    }

    pub(crate) fn count(&self) -> usize {
        self.orders.len()
    }

    /// Tells one worker; a worker that has ended needs no telling.
    pub(crate) fn order(&self, worker: usize, order: WorkerCommand) {
        let _ = self.orders[worker].send(order);
    }

    pub(crate) fn tell_all(&self, order: impl Fn() -> WorkerCommand) {
        for worker in &self.orders {
            let _ = worker.send(order());
        }
    }

    /// Waits until every worker has ended.
    pub(crate) async fn ended(&mut self) {
        while self.done.recv().await.is_some() {}
    }
}

struct Worker<S> {
    service: Arc<S>,
    connection_limit: Arc<ConnectionLimit>,
    observer: Arc<dyn EdgeObserver>,
    raw_service: Arc<dyn ServeRaw>,
    tracker: TaskTracker,
    /// By place. `true` stops the loop and sends GOAWAY to the socket's HTTP/2 connections.
    accepting: HashMap<u64, channel::Sender<bool>>,
    /// The sockets for datagrams.
    fronts: DatagramListeners,
}

impl<S: Serve> Worker<S> {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<WorkerCommand>) {
        watch::tick();
        let observer = Arc::clone(&self.observer);
        let ticking = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            let mut count = 0_u32;
            loop {
                ticks.tick().await;
                watch::tick();
                observer.tick();
                count = count.wrapping_add(1);
                if count.is_multiple_of(LOOK_FOR_BURSTS) && watch::shrink() {
                    crate::memory::give_back();
                }
            }
        });
        let mut aborting = false;
        while let Some(order) = inbox.recv().await {
            match order {
                WorkerCommand::Accept(accept) => self.accept(accept),
                WorkerCommand::Close { place } => {
                    if !self.fronts.close(place)
                        && let Some(closing) = self.accepting.remove(&place)
                    {
                        let _ = closing.send(true);
                    }
                }
                WorkerCommand::CloseIdle { listener } => watch::close_idle(Some(listener)),
                WorkerCommand::CloseLeased { server, why } => watch::close_leased(server, why),
                WorkerCommand::MoveDatagrams { place } => self.fronts.move_away(place),
                WorkerCommand::LeaveDatagrams => self.fronts.leave(),
                WorkerCommand::Drain => break,
                WorkerCommand::Abort => {
                    aborting = true;
                    break;
                }
            }
        }
        for (_, closing) in self.accepting.drain() {
            let _ = closing.send(true);
        }
        self.fronts.drain();
        watch::close_idle(None);
        self.tracker.close();
        let aborted = async {
            let mut next = if aborting { Some(WorkerCommand::Abort) } else { inbox.recv().await };
            loop {
                match next {
                    Some(WorkerCommand::CloseLeased { server, why }) => watch::close_leased(server, why),
                    Some(WorkerCommand::Abort) => break,
                    Some(_) => {}
                    None => std::future::pending().await,
                }
                next = inbox.recv().await;
            }
            watch::close_all(Why::Shutdown);
        };
        tokio::select! {
            () = self.tracker.wait() => {}
            () = aborted => {
                // Those that can still answer do.
                let _ = tokio::time::timeout(Duration::from_millis(500), self.tracker.wait()).await;
            }
        }
        ticking.abort();
    }

    fn accept(&mut self, accept: Accept) {
        if udp::is_datagram(&accept.socket) {
            let listener_state = Arc::clone(&accept.listener_state);
            if let Err(error) = self.fronts.accept(accept) {
                error!(listener = %listener_state.name, %error, "cannot read datagrams");
            }
            return;
        }
        let Accept { place, socket, listener_state, .. } = accept;
        let listening = match Listening::new(socket) {
            Ok(listening) => listening,
            Err(error) => return error!(listener = %listener_state.name, %error, "cannot accept"),
        };
        let (closing, goaway) = channel::channel(false);
        let acceptor = ConnectionAcceptor {
            listener_state,
            service: Arc::clone(&self.service),
            observer: Arc::clone(&self.observer),
            raw_service: Arc::clone(&self.raw_service),
            tracker: self.tracker.clone(),
            goaway,
        };
        let doorman =
            AcceptLoop { listening, connection_limit: Arc::clone(&self.connection_limit), acceptor };
        self.accepting.insert(place, closing);
        self.tracker.spawn(doorman.run());
    }
}

/// A socket that is listened on.
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        // The kernel knows which kind it is.
        let socket = socket2::Socket::from(socket);
        if socket.domain()? == socket2::Domain::UNIX {
            UnixListener::from_std(socket.into()).map(Self::Unix)
        } else {
            TcpListener::from_std(socket.into()).map(Self::Tcp)
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(PlainSocket, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener) => {
                listener.poll_accept(cx).map_ok(|(socket, peer)| (PlainSocket::from(socket), Some(peer)))
            }
            Self::Unix(listener) => {
                listener.poll_accept(cx).map_ok(|(socket, _)| (PlainSocket::from(socket), None))
            }
        }
    }

    async fn accept(&self) -> io::Result<(PlainSocket, Option<SocketAddr>)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The next connection, if one waits already.
    async fn accept_waiting(&self) -> Option<(PlainSocket, Option<SocketAddr>)> {
        poll_fn(|cx| match self.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}

/// Accepts on one socket.
struct AcceptLoop<S> {
    listening: Listening,
    connection_limit: Arc<ConnectionLimit>,
    acceptor: ConnectionAcceptor<S>,
}

impl<S: Serve> AcceptLoop<S> {
    async fn run(self) {
        let acceptor = &self.acceptor;
        let listener_state = &acceptor.listener_state;
        let mut goaway = acceptor.goaway.clone();
        let closing = async move { drop(goaway.wait_for(|closing| *closing).await) };
        tokio::pin!(closing);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut closing => break,
                accepted = self.listening.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    // At a limit, one connection waits here for each loop, and the rest in the kernel's
                    // queue. In this order everywhere, so that no two wait for each other.
                    let permits = tokio::select! {
                        biased;
                        permits = async { (listener_state.connection_limit.acquire().await, self.connection_limit.acquire().await) } => permits,
                        () = &mut closing => {
                            acceptor.accept(socket, peer, (listener_state.connection_limit.acquire_beyond_limit(), self.connection_limit.acquire_beyond_limit()));
                            break;
                        }
                    };
                    acceptor.accept(socket, peer, permits);
                }
                // The client left before we came (accept(2): try again).
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!(listener = %listener_state.name, %error, "cannot accept a connection");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
        // The kernel has answered these clients in our name already.
        for _ in 0..LAST_ORDERS {
            let Some((socket, peer)) = self.listening.accept_waiting().await else { break };
            acceptor.accept(
                socket,
                peer,
                (
                    listener_state.connection_limit.acquire_beyond_limit(),
                    self.connection_limit.acquire_beyond_limit(),
                ),
            );
        }
    }
}
