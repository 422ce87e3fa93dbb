//! What workers are told: control speaks, a core's thread does it.

use super::listener_state::ListenerState;
use crate::access_log::Why;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What a worker is told to do.
#[derive(Debug)]
pub(crate) enum WorkerCommand {
    Accept(Accept),
    /// Stop accepting at a place; what waits in its queue is still served.
    Close {
        place: u64,
    },
    /// Close what waits for a request on a listener that is gone.
    CloseIdle {
        listener: u32,
    },
    /// Cut what is leased to a server.
    CloseLeased {
        server: u32,
        why: Why,
    },
    /// Leave a place for datagrams to the sockets that overlap it.
    MoveDatagrams {
        place: u64,
    },
    /// Another process reads the sockets for datagrams from now on. Sessions go on with what servers answer.
    LeaveDatagrams,
    /// Stop accepting, finish what is in flight, end.
    Drain,
    /// End now.
    Abort,
}

/// A socket to accept on.
#[derive(Debug)]
pub(crate) struct Accept {
    /// Names the socket in a later `Close`; the same for all workers' sockets of one address.
    pub(crate) place: u64,
    pub(crate) socket: OwnedFd,
    pub(crate) listener_state: Arc<ListenerState>,
    /// Kept for as long as the socket is in use.
    pub(crate) held: Arc<()>,
}
