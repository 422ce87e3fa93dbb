//! Where clients come in: one thread and runtime per core, accept loops that a reload can start and
//! stop, limits and deadlines that hold before HTTP does.
//!
//! Pingora's own listeners are fixed once started, keep 86 KiB per idle connection and have no total
//! deadline for a head; so the accept loop is ours.

mod arrivals;
mod bound;
mod buffer;
mod conn;
mod connection_limit;
mod date;
mod h1;
mod h2;
mod handshake;
mod handshake_limit;
mod hang_up;
mod inherited;
mod judged_frames;
mod lingering_close;
mod listen;
mod listener_state;
mod long_heads;
mod order;
mod pipes;
mod plain_socket;
mod preface;
mod raw;
mod reach;
mod relay;
mod request_state;
mod secure;
mod socket;
mod socket_files;
mod tls_handshake;
pub(crate) mod udp;
mod watch;
mod worker;

pub(crate) use bound::Bound;
pub(crate) use buffer::Buffer;
pub(crate) use conn::Conn;
pub(crate) use connection_limit::{ConnectionLimit, ConnectionPermit, ServerLimits, ServerPermits};
pub(crate) use date::HttpDate;
pub(crate) use h2::Stream;
pub(crate) use hang_up::{ClientClose, close_of};
pub(crate) use inherited::{BEFORE, Inherited};
pub(crate) use judged_frames::StreamFaults;
pub(crate) use listen::{bind, bind_beside_own, bind_unix, bind_unix_with_mode};
pub(crate) use listener_state::ListenerState;
pub(crate) use long_heads::{LongHeadOf, LongHeadPermit, LongHeads, NoLongHead};
pub(crate) use order::{Accept, WorkerCommand};
pub(crate) use raw::{RawConnection, ServeRaw};
pub(crate) use reach::{Unreached, reach};
pub(crate) use relay::{Duplex, RawRelay};
pub(crate) use request_state::{Client, ConnectionServers, RequestState};
pub(crate) use socket::Socket;
pub(crate) use socket_files::{SocketFile, SocketFiles};
pub(crate) use watch::{Watch, Watched, last_tick};
pub(crate) use worker::Workers;

use crate::access_log::Why;
use crate::fields::FieldList;
use crate::wire::edit::Edits;
use crate::wire::request::RequestView;
use crate::wire::request_head::Head;
use crate::wire::response_head::ResponseView;
use bytes::Bytes;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

/// What serves the requests that the edge lets in.
pub(crate) trait Serve: Send + Sync + 'static {
    /// Serves one HTTP/1 request. Its body, if it has one, is still to be read from `conn`.
    fn serve(&self, conn: &mut Conn, head: Head) -> impl Future<Output = AfterRequest> + Send;

    /// Serves one HTTP/2 request.
    fn serve_stream(
        &self,
        state: Arc<RequestState>,
        stream: Stream,
        addresses: Addresses,
    ) -> impl Future<Output = ()> + Send;
}

/// Where a connection comes from and where it went, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) source: Option<SocketAddr>,
    pub(crate) destination: Option<SocketAddr>,
}

/// Serves a connection or a session to its end.
pub(crate) type ConnectionTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What becomes of a client's connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterRequest {
    /// The next request.
    KeepAlive,
    /// Its end, once the client had a chance to read the answer: it may still be sending.
    LingeringClose,
    /// Its end.
    Close,
}

/// What ended a request before it was served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rejection {
    /// 0 when nothing could be answered.
    pub(crate) status: u16,
    pub(crate) why: Why,
    pub(crate) detail: Option<&'static str>,
}

/// What a client gets whose request ended before it was served.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EdgeAnswer<'a> {
    /// What it is told that its request is called.
    pub(crate) request_id: Option<&'a str>,
    /// Of the answer's body.
    pub(crate) body_bytes: u64,
}

/// Writes an answer of our own: its head, what changes of that, its body.
pub(crate) type WriteAnswer<'a> = dyn FnMut(&ResponseView<'_>, &Edits<'_>, &Bytes) + 'a;

/// Hears of what the edge decides on its own, to log and count it, and says what clients are told then.
pub(crate) trait EdgeObserver: Send + Sync {
    /// What a request with these fields is called.
    fn request_id(&self, fields: FieldList<'_>) -> String;
    /// A request was refused, or broke off; of its head there is what had arrived and what could be read of its fields, `answer` is
    /// what its client gets.
    fn refused(
        &self,
        client: &Client,
        head: (&[u8], FieldList<'_>),
        rejection: Rejection,
        answer: EdgeAnswer<'_>,
    );
    /// What its client is answered, with what the request is called; `request` is what it has asked for, as far as that could be
    /// read.
    fn answer(
        &self,
        client: &Client,
        of: (Rejection, &str),
        request: Option<RequestView<'_>>,
        write: &mut WriteAnswer<'_>,
    );
    /// Lets a client have a longer head than its listener lets others have, if it may purge.
    ///
    /// # Errors
    /// It may not, or too many have one.
    fn long_head(&self, client: &Client, of: LongHeadOf) -> Result<LongHeadPermit, NoLongHead>;
    /// A connection ended before its protocol began.
    fn turned_away(&self, client: &Client, rejection: Rejection);
    /// Called on every core at every tick.
    fn tick(&self);
}
