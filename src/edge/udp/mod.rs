//! Datagrams: one socket for each core and address, and a session for each client that writes to it.
//!
//! The kernel keeps a client's datagrams on one core's socket. There a session leads to one server over a connected
//! socket of its own, so that answers find their way back and a closed port is heard of. Nothing is queued: what
//! cannot be sent at once is dropped and counted, as a network would.

mod lately;
mod listener;
mod session;
mod socket;

pub(crate) use lately::refused_lately;
pub(crate) use session::{DatagramSession, NewSession, SessionTarget};
pub(crate) use socket::connect;
pub(super) use socket::{bind, is_datagram, open, tune};

use super::ConnectionTask;
use super::connection_limit::ConnectionLimit;
use super::order::Accept;
use listener::{DatagramListener, Fronts, NewSessionNeeds};
use std::io;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// Finds servers for sessions.
pub(crate) trait ServeUdp: Send + Sync {
    /// A session with a server, and what runs until it has ended; `None` if there is no server, which is on
    /// record then.
    fn open_session(&self, new: NewSession) -> Option<(Arc<DatagramSession>, ConnectionTask)>;
}

/// A core's sockets for datagrams.
pub(super) struct DatagramListeners {
    fronts: Fronts,
    connection_limit: Arc<ConnectionLimit>,
    service: Arc<dyn ServeUdp>,
    tracker: TaskTracker,
}

impl DatagramListeners {
    pub(super) fn new(
        connection_limit: &Arc<ConnectionLimit>,
        service: Arc<dyn ServeUdp>,
        tracker: &TaskTracker,
    ) -> Self {
        let (connection_limit, tracker) = (Arc::clone(connection_limit), tracker.clone());
        Self { fronts: Fronts::default(), connection_limit, service, tracker }
    }

    /// Takes new sessions on a socket.
    pub(super) fn accept(&mut self, accept: Accept) -> io::Result<()> {
        let Accept { place, socket, listener_state, held } = accept;
        let socket = socket::front(socket)?;
        let address = socket.local_addr()?;
        // The same socket, of a listener that has gone: its sessions go on.
        let is_it = |front: &Arc<DatagramListener>| {
            front.address() == address && !front.is_over() && !front.has_moved()
        };
        if let Some(front) = self.live().find(is_it) {
            front.open(place, listener_state);
            return Ok(());
        }
        let front = DatagramListener::new(socket, address, (place, listener_state, held));
        self.fronts.add(&front);
        let needs = NewSessionNeeds {
            connection_limit: Arc::clone(&self.connection_limit),
            service: Arc::clone(&self.service),
            tracker: self.tracker.clone(),
            fronts: self.fronts.clone(),
        };
        self.tracker.spawn(front.run(needs));
        Ok(())
    }

    /// No new sessions at a place; whether it is one of ours. Those there are have their pool's `drain_timeout`.
    pub(super) fn close(&self, place: u64) -> bool {
        let front = self.live().find(|front| front.is_open_at(place));
        front.inspect(|front| front.close()).is_some()
    }

    /// Those that overlap a place have its clients from now on.
    pub(super) fn move_away(&self, place: u64) {
        if let Some(front) = self.live().find(|front| front.is_open_at(place)) {
            front.move_away();
        }
    }

    /// Another process reads what clients send.
    pub(super) fn leave(&self) {
        self.live().for_each(|front| front.leave());
    }

    /// No new sessions anywhere, and the end of all that have nothing to say.
    pub(super) fn drain(&self) {
        self.live().for_each(|front| front.drain());
    }

    fn live(&self) -> impl Iterator<Item = Arc<DatagramListener>> {
        self.fronts.live().into_iter()
    }
}
