//! One socket that clients write to: finds each datagram's session, or opens one within the limits.

use super::ServeUdp;
use super::session::{DatagramPeer, DatagramSession, NewSession, rest};
use super::socket::{self, ReceivedDatagrams};
use crate::access_log::Why;
use crate::edge::connection_limit::ConnectionLimit;
use crate::edge::listener_state::ListenerState;
use crate::edge::request_state::{Client, ConnectionServers};
use crate::edge::watch::{Watch, Watched};
use crate::metrics::Dropped;
use crate::units::Address;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use std::time::Instant;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// Batches that are passed on before others have their turn.
const ROUNDS: usize = 4;
/// After an error that is not one datagram's fault, reading rests this long.
const BREATHER: Duration = Duration::from_millis(50);
/// The table gives memory back when it was so much larger.
const SHRINK: usize = 1024;

/// One core's socket of an address. It outlives its listener while there are sessions.
#[derive(Debug)]
pub(super) struct DatagramListener {
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    /// Only this core locks it.
    state: Mutex<DatagramListenerState>,
    changed: Notify,
    /// Tells control that the socket is in use.
    _held: Arc<()>,
}

#[derive(Debug)]
struct DatagramListenerState {
    /// Where new sessions are taken; none once it is closed.
    place: Option<u64>,
    /// The listener's, or the last one's.
    listener_state: Arc<ListenerState>,
    sessions: HashMap<DatagramPeer, Arc<DatagramSession>>,
    /// Others that overlap it have its clients.
    has_moved: bool,
    /// Another process reads what clients send: what we took from the queue would be lost to it.
    is_left: bool,
}

/// What new sessions need.
pub(super) struct NewSessionNeeds {
    pub(super) connection_limit: Arc<ConnectionLimit>,
    pub(super) service: Arc<dyn ServeUdp>,
    pub(super) tracker: TaskTracker,
    pub(super) fronts: Fronts,
}

/// A core's sockets. Those that are over are gone: their socket is closed by then.
#[derive(Clone, Debug, Default)]
pub(super) struct Fronts(Arc<Mutex<Vec<Weak<DatagramListener>>>>);

impl Fronts {
    pub(super) fn add(&self, front: &Arc<DatagramListener>) {
        let mut fronts = self.fronts();
        fronts.retain(|front| front.strong_count() > 0);
        fronts.push(Arc::downgrade(front));
    }

    pub(super) fn live(&self) -> Vec<Arc<DatagramListener>> {
        self.fronts().iter().filter_map(Weak::upgrade).collect()
    }

    /// Which one takes what is sent to this address; the kernel prefers the narrower of two.
    fn open_for(&self, address: SocketAddr) -> Option<Arc<DatagramListener>> {
        let is_wide = |front: &Arc<DatagramListener>| front.address.ip().is_unspecified();
        let takes = |front: &Arc<DatagramListener>| {
            front.state().place.is_some() && Address::Inet(front.address).overlaps(&Address::Inet(address))
        };
        self.live().into_iter().filter(takes).min_by_key(is_wide)
    }

    fn fronts(&self) -> MutexGuard<'_, Vec<Weak<DatagramListener>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DatagramListener {
    /// A socket that takes sessions.
    pub(super) fn new(
        socket: UdpSocket,
        address: SocketAddr,
        accept: (u64, Arc<ListenerState>, Arc<()>),
    ) -> Arc<Self> {
        let (place, listener_state, held) = accept;
        Arc::new(Self {
            socket: Arc::new(socket),
            address,
            state: Mutex::new(DatagramListenerState {
                place: Some(place),
                listener_state,
                sessions: HashMap::new(),
                has_moved: false,
                is_left: false,
            }),
            changed: Notify::new(),
            _held: held,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// It takes sessions again, for another listener.
    pub(super) fn open(&self, place: u64, listener_state: Arc<ListenerState>) {
        let mut state = self.state();
        state.place = Some(place);
        state.listener_state = listener_state;
    }

    pub(super) fn is_open_at(&self, place: u64) -> bool {
        self.state().place == Some(place)
    }

    /// Its listener is gone.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.place = None;
        state.sessions.values().for_each(|session| session.leave());
        self.changed.notify_one();
    }

    /// Another process has the socket too, and takes the clients from now on.
    pub(super) fn leave(&self) {
        self.state().is_left = true;
        self.changed.notify_one();
    }

    /// Others take its clients from now on. They have what has come already too; answers to what has gone on still leave.
    pub(super) fn move_away(&self) {
        let mut state = self.state();
        (state.place, state.has_moved) = (None, true);
        state.sessions.values().for_each(|session| session.finish());
        // As long as it is open the kernel would give it some of what is theirs.
        if let Err(error) = socket::turn_away(&self.socket, self.address) {
            warn!(address = %self.address, %error, "answers that are under way cannot be waited for");
            state.sessions.values().for_each(|session| session.end());
        }
        self.changed.notify_one();
    }

    pub(super) fn has_moved(&self) -> bool {
        self.state().has_moved
    }

    fn is_left(&self) -> bool {
        self.state().is_left
    }

    /// The process stops.
    pub(super) fn drain(&self) {
        let mut state = self.state();
        state.place = None;
        state.sessions.values().for_each(|session| session.stop());
        self.changed.notify_one();
    }

    /// Closed, and without sessions.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        state.place.is_none() && state.sessions.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, DatagramListenerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until it is over.
    pub(super) async fn run(self: Arc<Self>, opening: NewSessionNeeds) {
        while !self.is_over() {
            if self.is_left() {
                self.changed.notified().await;
                continue;
            }
            tokio::select! {
                biased;
                () = self.changed.notified() => continue,
                ready = self.socket.readable() => if let Err(error) = ready {
                    warn!(address = %self.address, %error, "no more datagrams can be read");
                    return;
                },
            }
            for _ in 0..ROUNDS {
                let read = self.socket.try_io(Interest::READABLE, || {
                    socket::receive(&self.socket, |arrival| self.pass(&opening, arrival))
                });
                match read {
                    Ok(true) => {}
                    Ok(false) => {
                        rest(&self.socket, Interest::READABLE);
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => {
                        warn!(address = %self.address, %error, "cannot read datagrams");
                        tokio::time::sleep(BREATHER).await;
                        break;
                    }
                }
            }
            tokio::task::yield_now().await;
        }
        if self.has_moved() {
            // The runtime may not know yet of what has come since.
            let pass = |arrival: ReceivedDatagrams<'_>| self.pass(&opening, arrival);
            while matches!(socket::receive(&self.socket, pass), Ok(true)) {}
        }
    }

    /// Sends a client's datagrams to the server of its session, which may be a new one.
    fn pass(self: &Arc<Self>, opening: &NewSessionNeeds, arrival: ReceivedDatagrams<'_>) {
        let wrote_to = arrival.to.filter(|_| self.address.ip().is_unspecified());
        let peer = DatagramPeer { address: arrival.from, wrote_to };
        let known = self.state().sessions.get(&peer).filter(|session| !session.is_over()).cloned();
        let mut left = arrival;
        if let Some(session) = known {
            match session.pass_up(left) {
                Ok(()) => return,
                // The server has told us, and not the client: another one takes it.
                Err(rest) => left = rest,
            }
        }
        let to = left.to.or(Some(self.address.ip()).filter(|ip| !ip.is_unspecified()));
        if self.has_moved()
            && let Some(to) = to
            && let Some(other) = opening.fronts.open_for(SocketAddr::new(to, self.address.port()))
        {
            // It finds or opens a session there, which answers from the address that the client wrote to.
            return other.pass(opening, ReceivedDatagrams { to: Some(to), ..left });
        }
        match self.session(opening, peer) {
            Ok(session) => {
                if let Err(rest) = session.pass_up(left) {
                    self.drop_datagrams(Dropped::NoServer, rest);
                }
            }
            Err(why) => self.drop_datagrams(why, left),
        }
    }

    fn drop_datagrams(&self, why: Dropped, arrival: ReceivedDatagrams<'_>) {
        self.state().listener_state.drops.count(why, arrival.datagrams());
    }

    /// Opens a session.
    fn session(
        self: &Arc<Self>,
        opening: &NewSessionNeeds,
        peer: DatagramPeer,
    ) -> Result<Arc<DatagramSession>, Dropped> {
        let listener_state = {
            let state = self.state();
            state.place.ok_or(Dropped::Closing)?;
            Arc::clone(&state.listener_state)
        };
        let plan = listener_state.plan.load();
        let ip = peer.address.ip().to_canonical();
        let place = listener_state.connection_limit.try_acquire().ok_or(Dropped::ListenerLimit)?;
        let client_permit = listener_state.admit(ip, Instant::now()).map_err(|limit| {
            debug!(listener = %listener_state.name, client = %ip, limit, "too many sessions of one client");
            Dropped::ClientLimit
        })?;
        let permits =
            (place, opening.connection_limit.try_acquire().ok_or(Dropped::ProcessLimit)?, client_permit);
        let watch = Watched::new(Watch::new(listener_state.id));
        watch.quiet(plan.timeouts.idle, Why::Ok);
        let client = Client {
            listener: listener_state.id,
            listener_state: Arc::clone(&listener_state),
            ip: Some(ip),
            text: ip.to_string(),
            tls: None,
            identity: None,
            servers: ConnectionServers::default(),
        };
        let new = NewSession { client: Arc::new(client), watch, peer, front: Arc::clone(&self.socket) };
        let (session, carried) = opening.service.open_session(new).ok_or(Dropped::NoServer)?;
        listener_state.accepted.fetch_add(1, Relaxed);
        self.state().sessions.insert(peer, Arc::clone(&session));
        let kept = (permits, Entry { front: Arc::clone(self), session: Arc::clone(&session) });
        // Dropped at the end and not named before, it has one place in the task and not two.
        opening.tracker.spawn(async move {
            carried.await;
            drop(kept);
        });
        Ok(session)
    }
}

/// A session's line in the table; gone with it, whatever ends it.
struct Entry {
    front: Arc<DatagramListener>,
    session: Arc<DatagramSession>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.front.state();
        let sessions = &mut state.sessions;
        // The client may have another one by now.
        if sessions.get(self.session.peer()).is_some_and(|session| Arc::ptr_eq(session, &self.session)) {
            sessions.remove(self.session.peer());
        }
        if sessions.capacity() > SHRINK && sessions.len() < sessions.capacity() / 8 {
            let room = 2 * sessions.len();
            sessions.shrink_to(room);
        }
        if state.place.is_none() && state.sessions.is_empty() {
            self.front.changed.notify_one();
        }
    }
}
