//! A client's session: one server, a socket towards it, and the count of what passed.

use super::lately;
use super::socket::{self, ReceivedDatagrams, SendResult, SendTarget};
use crate::access_log::Why;
use crate::edge::request_state::Client;
use crate::edge::watch::Watched;
use crate::metrics::{BytesPassed, Dropped, UdpSeries};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{Interest, Ready};
use tokio::net::UdpSocket;
use tracing::debug;

/// Batches that one session passes on before others have their turn.
const ROUNDS: usize = 4;
/// When the process stops, a session that has been silent for this long is taken to be over,
const SILENCE: Duration = Duration::from_secs(1);
/// and one whose client waits for an answer when it is later than clients wait: resolvers and RADIUS clients ask again after 5 s at most.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);
/// Servers that so many datagrams were sent to and none came from answer nothing (syslog).
const ONE_WAY: u64 = 100;
/// An ICMP message makes no socket readable.
const ANSWER: Interest = Interest::READABLE.add(Interest::ERROR);

/// Who writes: a client's address and port, and which of our addresses it wrote to where that can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DatagramPeer {
    pub(super) address: SocketAddr,
    pub(super) wrote_to: Option<IpAddr>,
}

/// A client that has no session yet.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub(crate) client: Arc<Client>,
    pub(crate) watch: Watched,
    pub(super) peer: DatagramPeer,
    /// Answers leave by it.
    pub(super) front: Arc<UdpSocket>,
}

/// What a newcomer is led to.
#[derive(Debug)]
pub(crate) struct SessionTarget {
    /// A socket connected to the server, its id and its address.
    pub(crate) socket: UdpSocket,
    pub(crate) server: u32,
    pub(crate) address: SocketAddr,
    pub(crate) series: Arc<UdpSeries>,
    /// How long the session may go on once its listener is gone.
    pub(crate) drain_timeout: Duration,
}

/// A session. It is shared by the socket's task, which has the client's datagrams, and its own, which has the
/// server's.
#[derive(Debug)]
pub(crate) struct DatagramSession {
    new: NewSession,
    led: SessionTarget,
    /// Bytes that went to the server, and to the client.
    passed: (AtomicU64, AtomicU64),
    /// The last datagram was the client's.
    is_awaited: AtomicBool,
    /// The process stops.
    is_stopping: AtomicBool,
}

impl DatagramSession {
    pub(crate) fn new(new: NewSession, led: SessionTarget) -> Arc<Self> {
        new.watch.leased_to(led.server);
        Arc::new(Self {
            new,
            led,
            passed: (AtomicU64::new(0), AtomicU64::new(0)),
            is_awaited: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Bytes that were sent to the server, and to the client.
    pub(crate) fn passed(&self) -> BytesPassed {
        BytesPassed { to_server: self.passed.0.load(Relaxed), to_client: self.passed.1.load(Relaxed) }
    }

    /// Who has it.
    pub(super) fn peer(&self) -> &DatagramPeer {
        &self.new.peer
    }

    /// It ends as soon as its task comes to it.
    pub(super) fn is_over(&self) -> bool {
        self.new.watch.interrupted().is_some()
    }

    /// Its listener is gone.
    pub(super) fn leave(&self) {
        self.new.watch.deadline(self.led.drain_timeout, Why::Drained);
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.new.watch.interrupt(Why::Drained);
    }

    /// Ends it once it is silent, and nobody waits for an answer any more.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Relaxed);
        self.end_when_silent();
    }

    /// Others have its client's datagrams from now on: it ends at once, unless its server has one to answer.
    pub(super) fn finish(&self) {
        if self.is_awaited() {
            self.leave();
            self.stop();
        } else {
            self.end();
        }
    }

    fn end_when_silent(&self) {
        self.new.watch.quiet(if self.is_awaited() { ANSWER_WITHIN } else { SILENCE }, Why::Ok);
    }

    /// Its client waits for an answer, as far as one can know.
    fn is_awaited(&self) -> bool {
        self.is_awaited.load(Relaxed) && !self.led.series.is_one_way(ONE_WAY)
    }

    /// A datagram has passed.
    fn passes(&self, is_clients: bool) {
        self.is_awaited.store(is_clients, Relaxed);
        match self.is_stopping.load(Relaxed) {
            true => self.end_when_silent(),
            false => self.new.watch.touch(),
        }
    }

    /// Sends what the client wrote to the server. An error gives back what is left: nobody is there, and the
    /// session is over.
    pub(super) fn pass_up<'a>(&self, arrival: ReceivedDatagrams<'a>) -> Result<(), ReceivedDatagrams<'a>> {
        let toward = SendTarget { address: self.led.address, connected: true, from: None };
        let sent = socket::send(&self.led.socket, toward, arrival);
        self.passes(true);
        self.led.series.received(sent.datagrams, sent.bytes);
        self.passed.0.fetch_add(sent.bytes, Relaxed);
        match &sent.error {
            Some(error) if socket::is_final(error) => {
                self.new.watch.interrupt(self.nobody_there(error));
                let done = usize::try_from(sent.bytes).unwrap_or(usize::MAX).min(arrival.bytes.len());
                Err(ReceivedDatagrams { bytes: &arrival.bytes[done..], ..arrival })
            }
            _ => {
                self.count_dropped(&sent, arrival, Dropped::ServerBusy);
                Ok(())
            }
        }
    }

    /// Passes on the server's answers until the session is over, and says why it is.
    pub(crate) async fn run(&self) -> Why {
        loop {
            let mut ready = pin!(self.led.socket.ready(ANSWER));
            let awaited = poll_fn(|cx| {
                self.new.watch.wake_by(cx.waker());
                match self.new.watch.interrupted() {
                    Some(why) => Poll::Ready(Err(why)),
                    None => ready.as_mut().poll(cx).map(|ready| Ok(of_what(&ready))),
                }
            });
            let interest = match awaited.await {
                Ok(interest) => interest,
                Err(why) => return why,
            };
            for _ in 0..ROUNDS {
                match self.pass_down(interest) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(why) => return why,
                }
            }
            // More of it waits for its turn like everything else.
            tokio::task::yield_now().await;
        }
    }

    /// Passes on what has arrived; whether there may be more.
    fn pass_down(&self, interest: Interest) -> Result<bool, Why> {
        let socket = &self.led.socket;
        let received = socket.try_io(interest, || socket::receive(socket, |arrival| self.send_down(arrival)));
        match received {
            Ok(true) => Ok(true),
            Ok(false) => {
                rest(socket, interest);
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock || socket::is_full(&error) => Ok(false),
            Err(error) => Err(self.nobody_there(&error)),
        }
    }

    fn send_down(&self, arrival: ReceivedDatagrams<'_>) {
        let DatagramPeer { address, wrote_to } = self.new.peer;
        // RFC 768: who writes from port 0 expects no answer.
        if address.port() == 0 {
            return self.new.client.listener_state.drops.count(Dropped::Error, arrival.datagrams());
        }
        let toward = SendTarget { address, connected: false, from: wrote_to };
        let sent = socket::send(&self.new.front, toward, arrival);
        self.passes(false);
        self.led.series.sent(sent.datagrams, sent.bytes);
        self.passed.1.fetch_add(sent.bytes, Relaxed);
        self.count_dropped(&sent, arrival, Dropped::ClientBusy);
    }

    fn count_dropped(&self, sent: &SendResult, arrival: ReceivedDatagrams<'_>, when_full: Dropped) {
        let Some(error) = &sent.error else { return };
        let why = match () {
            () if socket::is_full(error) => when_full,
            () if socket::is_too_large(error) => Dropped::TooLarge,
            () => Dropped::Error,
        };
        let client = &self.new.client;
        client.listener_state.drops.count(why, arrival.datagrams() - sent.datagrams);
        debug!(listener = %client.listener_state.name, client = %client.text, %error, "a datagram is dropped");
    }

    /// The server's port is closed, or it cannot be reached.
    fn nobody_there(&self, error: &io::Error) -> Why {
        lately::note(self.led.server);
        debug!(server = %self.led.address, %error, "the server takes no datagrams");
        if self.passed.1.load(Relaxed) > 0 { Why::ServerReset } else { Why::ConnectFailed }
    }
}

/// What the socket is ready for; the runtime takes one word at a time from there on.
fn of_what(ready: &io::Result<Ready>) -> Interest {
    match ready {
        Ok(ready) if !ready.is_readable() => Interest::ERROR,
        _ => Interest::READABLE,
    }
}

/// Nothing is left to read, so the runtime need not have us ask again. (What has arrived since is still to be heard
/// of from the kernel, and makes the socket ready again.)
pub(super) fn rest(socket: &UdpSocket, interest: Interest) {
    let _ = socket.try_io(interest, || io::Result::<()>::Err(ErrorKind::WouldBlock.into()));
}
