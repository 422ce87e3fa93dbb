//! Datagrams: one socket for each core and address, and a session for each client that writes to it.
//!
//! The kernel keeps a client's datagrams on one core's socket. There a session leads to one server over a connected
//! socket of its own, so that answers find their way back and a closed port is heard of. Nothing is queued: what
//! cannot be sent at once is dropped and counted, as a network would.

mod front;
mod lately;
mod session;
mod socket;

pub(crate) use lately::refused_lately;
pub(crate) use session::{Led, Newcomer, Session};
pub(crate) use socket::connect;
pub(super) use socket::{bind, is_datagram, open, tune};

use super::carry::{Carried, Carry};
use super::gate::Gate;
use super::worker::Accept;
use front::Front;
use std::io;
use std::sync::{Arc, Weak};
use tokio_util::task::TaskTracker;

/// Finds servers for sessions.
pub(crate) trait Host {
    /// A session with a server, and what runs until it has ended; `None` if there is no server, which is on
    /// record then.
    fn host(&self, newcomer: Newcomer) -> Option<(Arc<Session>, Carried)>;
}

/// A core's sockets for datagrams.
pub(super) struct Fronts {
    /// Those that are over are gone: their socket is closed by then.
    fronts: Vec<Weak<Front>>,
    gate: Arc<Gate>,
    carry: Arc<dyn Carry>,
    tracker: TaskTracker,
}

impl Fronts {
    pub(super) fn new(gate: &Arc<Gate>, carry: &Arc<dyn Carry>, tracker: &TaskTracker) -> Self {
        let (gate, carry, tracker) = (Arc::clone(gate), Arc::clone(carry), tracker.clone());
        Self { fronts: Vec::new(), gate, carry, tracker }
    }

    /// Takes new sessions on a socket.
    pub(super) fn accept(&mut self, accept: Accept) -> io::Result<()> {
        let Accept { place, socket, door, held } = accept;
        let socket = socket::front(socket)?;
        let address = socket.local_addr()?;
        self.fronts.retain(|front| front.strong_count() > 0);
        // The same socket, of a listener that has gone: its sessions go on.
        if let Some(front) = self.live().find(|front| front.address() == address && !front.is_over()) {
            front.open(place, door);
            return Ok(());
        }
        let front = Front::new(socket, address, (place, door, held));
        self.fronts.push(Arc::downgrade(&front));
        let (gate, carry) = (Arc::clone(&self.gate), Arc::clone(&self.carry));
        self.tracker.spawn(front.run(gate, carry, self.tracker.clone()));
        Ok(())
    }

    /// No new sessions at a place; whether it is one of ours. Those there are have their pool's `drain_timeout`.
    pub(super) fn close(&self, place: u64) -> bool {
        let front = self.live().find(|front| front.is_open_at(place));
        front.inspect(|front| front.close()).is_some()
    }

    /// The end of a place and of its sessions: another socket takes its clients' datagrams, if this one is closed.
    pub(super) fn end(&self, place: u64) {
        if let Some(front) = self.live().find(|front| front.is_open_at(place)) {
            front.end();
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

    fn live(&self) -> impl Iterator<Item = Arc<Front>> + '_ {
        self.fronts.iter().filter_map(Weak::upgrade)
    }
}
