//! HTTP/2 connections to servers, which many requests use at once. Each core has its own, as of those that one request
//! uses at a time (`kept`).

use super::kept::ConnectionKey;
use crate::control::Live;
use crate::edge::Socket;
use crate::pool::Server;
use crate::wire::header_blocks::BlockFacts;
use crate::wire::http2_frames::{HeaderBlock, ServerFrames};
use bytes::Bytes;
use foldhash::fast::FixedState;
use h2::client::{Builder, SendRequest};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// Requests on one connection at a time; as many as most servers allow, whose own limit is kept to.
const STREAMS: usize = 100;
/// What a server may send of a response before its client has taken what came: enough for 1 Gbit/s at 1 ms.
const STREAM_WINDOW: u32 = 128 * 1024;
/// So that clients that do not read hold up nobody else on the connection.
const CONNECTION_WINDOW: u32 = STREAMS as u32 * STREAM_WINDOW;
/// What one stream's request may take of memory while the server does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// So much is read of a head, of which only the stream is to end: beyond four times that the codec ends the connection, and
/// with it all that are on it.
const FIELDS: u32 = 1 << 20;
/// How much smaller than 256 bytes each, in all, DATA frames may be that no exchange has read yet, as clients may.
const SMALL_DATA: usize = 1 << 20;
/// How often what is too old is looked for.
const SWEEP: Duration = Duration::from_secs(1);

thread_local! {
    static SHARED: RefCell<Shared> = RefCell::new(Shared::default());
}

/// The connections of one core.
#[derive(Default)]
struct Shared {
    connections: HashMap<ConnectionKey, Vec<Connection>, FixedState>,
    /// Those that are being opened: whoever needs one too waits for what becomes of it.
    opening: HashMap<ConnectionKey, watch::Receiver<Option<bool>>, FixedState>,
    next_sweep: Option<Instant>,
    /// What had changed for them when they were last looked through.
    reviewed: u64,
}

struct Connection {
    requests: SendRequest<Bytes>,
    state: Arc<State>,
    until: Instant,
    server: Weak<Server>,
}

#[derive(Debug, Default)]
struct State {
    streams: AtomicUsize,
    /// It takes no more requests.
    is_retired: AtomicBool,
    /// Heads and parts of bodies that have come of all streams.
    activity: AtomicUsize,
    /// One task has the connection and others its streams, all of one core: the lock is never waited for, and is there because the
    /// codec's types must be able to change threads.
    blocks: Mutex<Blocks>,
}

impl State {
    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of header blocks, which the codec has decoded, and is still to be asked for.
#[derive(Debug, Default)]
struct Blocks {
    /// The streams that somebody asks for.
    streams: Vec<u32>,
    /// In the order in which they came.
    came: Vec<HeaderBlock>,
}

/// A place for one request on a connection.
#[derive(Debug)]
pub(super) struct StreamPermit {
    pub(super) requests: SendRequest<Bytes>,
    state: Arc<State>,
    /// What had come when this place was taken.
    activity_before: usize,
    /// The stream that has it.
    stream: Option<u32>,
    key: ConnectionKey,
    keepalive: Duration,
}

impl StreamPermit {
    fn new(
        requests: SendRequest<Bytes>,
        state: &Arc<State>,
        key: ConnectionKey,
        keepalive: Duration,
    ) -> Self {
        state.streams.fetch_add(1, Relaxed);
        let activity_before = state.activity.load(Relaxed);
        Self { requests, state: Arc::clone(state), activity_before, stream: None, key, keepalive }
    }

    /// A stream has the place.
    pub(super) fn begin(&mut self, stream: u32) {
        self.stream = Some(stream);
        self.state.blocks().streams.push(stream);
    }

    /// What the next header block of the stream has. To be asked for each block, once the codec has given it.
    pub(super) fn next_block(&self) -> BlockFacts {
        let mut blocks = self.state.blocks();
        let next = blocks.came.iter().position(|block| Some(block.stream) == self.stream);
        next.map(|at| blocks.came.remove(at).facts).unwrap_or_default()
    }

    /// Whether the connection takes a request; waits until the server allows one.
    pub(super) async fn is_ready(&mut self) -> bool {
        let is_ready = poll_fn(|cx| self.requests.poll_ready(cx)).await.is_ok();
        if !is_ready {
            self.retire();
        }
        is_ready
    }

    /// Something came from the server.
    pub(super) fn note_activity(&self) {
        self.state.activity.fetch_add(1, Relaxed);
    }

    /// Whether anything came, of whichever stream, since this place was taken.
    pub(super) fn had_activity(&self) -> bool {
        self.state.activity.load(Relaxed) != self.activity_before
    }

    /// The connection gets no more requests; those under way go on.
    pub(super) fn retire(&self) {
        self.state.is_retired.store(true, Relaxed);
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        if let Some(stream) = self.stream {
            let mut blocks = self.state.blocks();
            blocks.streams.retain(|other| *other != stream);
            blocks.came.retain(|block| block.stream != stream);
        }
        if self.state.streams.fetch_sub(1, Relaxed) > 1 {
            return;
        }
        // A thread that is ending has no table any more.
        let _ = SHARED.try_with(|shared| {
            let Ok(mut shared) = shared.try_borrow_mut() else { return };
            let connections = shared.connections.get_mut(&self.key).into_iter().flatten();
            for connection in connections.filter(|connection| Arc::ptr_eq(&connection.state, &self.state)) {
                connection.until = Instant::now() + self.keepalive;
            }
        });
    }
}

/// A place on a connection like this, if there is one with room.
pub(super) fn take(key: ConnectionKey, keepalive: Duration) -> Option<StreamPermit> {
    SHARED.with_borrow_mut(|shared| {
        let connections = shared.connections.get_mut(&key)?;
        connections.retain(|connection| !connection.state.is_retired.load(Relaxed));
        // The oldest first, so that the others may become idle and end.
        let connection = connections.iter().find(|connection| {
            let most = STREAMS.min(connection.requests.current_max_send_streams());
            connection.state.streams.load(Relaxed) < most
        })?;
        Some(StreamPermit::new(connection.requests.clone(), &connection.state, key, keepalive))
    })
}

/// Closes a connection that has no requests; whether there was one.
pub(super) fn evict() -> bool {
    SHARED.with_borrow_mut(|shared| {
        let is_idle = |connection: &Connection| connection.state.streams.load(Relaxed) == 0;
        shared.connections.values_mut().any(|connections| {
            let idle = connections.iter().position(is_idle);
            idle.map(|at| connections.remove(at)).is_some()
        })
    })
}

/// Who is to open a connection.
pub(super) enum Opener {
    /// Whoever has this; it tells the others.
    ThisRequest(Opening),
    /// Somebody else does.
    Another(watch::Receiver<Option<bool>>),
}

/// A connection that is being opened.
#[derive(Debug)]
pub(super) struct Opening {
    key: ConnectionKey,
    done: watch::Sender<Option<bool>>,
    is_open: bool,
}

impl Drop for Opening {
    fn drop(&mut self) {
        let _ = SHARED.try_with(|shared| {
            if let Ok(mut shared) = shared.try_borrow_mut() {
                shared.opening.remove(&self.key);
            }
        });
        self.done.send_replace(Some(self.is_open));
    }
}

/// Finds out who is to open a connection.
pub(super) fn opener(key: ConnectionKey) -> Opener {
    SHARED.with_borrow_mut(|shared| match shared.opening.get(&key) {
        Some(opening) => Opener::Another(opening.clone()),
        None => {
            let (done, opening) = watch::channel(None);
            shared.opening.insert(key, opening);
            Opener::ThisRequest(Opening { key, done, is_open: false })
        }
    })
}

/// Whether the connection that somebody else opens came to be.
pub(super) async fn is_opened(mut opening: watch::Receiver<Option<bool>>) -> bool {
    opening.wait_for(Option::is_some).await.is_ok_and(|opened| *opened == Some(true))
}

/// Shares a connection whose server speaks HTTP/2, and takes the first place on it.
pub(super) async fn open(
    socket: Socket,
    (key, server): (ConnectionKey, &Arc<Server>),
    keepalive: Duration,
    opening: Option<Opening>,
) -> Result<StreamPermit, h2::Error> {
    let state = Arc::new(State::default());
    let wire = Wire { socket, frames: ServerFrames::new(), state: Arc::clone(&state) };
    let (requests, connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(FIELDS)
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(SMALL_DATA)
        .handshake::<_, Bytes>(wire)
        .await?;
    let permit = StreamPermit::new(requests.clone(), &state, key, keepalive);
    let end = Arc::clone(&state);
    tokio::spawn(async move {
        // Those that have streams on it hear of it too.
        let _ = connection.await;
        end.is_retired.store(true, Relaxed);
    });
    SHARED.with_borrow_mut(|shared| {
        let until = Instant::now() + keepalive;
        shared.connections.entry(key).or_default().push(Connection {
            requests,
            state,
            until,
            server: Arc::downgrade(server),
        });
    });
    if let Some(mut opening) = opening {
        opening.is_open = true;
    }
    Ok(permit)
}

/// A connection as its codec reads and writes it. What comes is looked at before the codec has it, and what
/// it would end the connection for is replaced, where one stream is at fault. A frame's head and its data
/// are written at once; a TLS session gathers by itself.
struct Wire {
    socket: Socket,
    frames: ServerFrames,
    state: Arc<State>,
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { socket, frames, state } = self.get_mut();
        let before = buf.filled().len();
        let read = socket.poll_read(cx, buf);
        frames.read(&mut buf.filled_mut()[before..], |block| {
            let mut blocks = state.blocks();
            // Of those that nobody waits for any more there might be any number.
            if blocks.streams.contains(&block.stream) {
                blocks.came.push(block);
            }
        });
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_write_parts(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Lets go of what is too old, of what its server has closed, and of what is idle at a server that is of no use any more or
/// while the process ends. Cheap to call often.
pub(super) fn sweep(live: &Live) {
    let review = live.idle_review();
    SHARED.with_borrow_mut(|shared| {
        let now = Instant::now();
        if review == shared.reviewed && shared.next_sweep.is_some_and(|next| now < next) {
            return;
        }
        shared.next_sweep = Some(now + SWEEP);
        shared.reviewed = review;
        let is_draining = live.is_draining();
        shared.connections.retain(|_, connections| {
            connections.retain(|Connection { state, until, server, .. }| {
                let may_rest = || !is_draining && server.upgrade().is_some_and(|server| server.keeps_idle());
                let is_busy = state.streams.load(Relaxed) > 0;
                !state.is_retired.load(Relaxed) && (is_busy || now < *until && may_rest())
            });
            !connections.is_empty()
        });
    });
}
