//! Passes bytes both ways between a client and a server until both have ended.
//!
//! One task for both directions. No buffer belongs to a connection at rest: bytes are read into one that all
//! connections of the core share and written at once; only what the other side does not take is kept, and then
//! nothing more is read until it has gone. So a slow reader costs one buffer and slows its sender down.
//!
//! An end of one side is passed on as an end of that direction alone (half-close). A failed write ends its direction
//! too, as what the other side has sent is still to be delivered; a failed read ends the connection, and whoever
//! misses bytes by it gets a reset, so that a stream cut short never looks whole.

use super::pipes::Pipe;
use super::plain_socket::with_scratch;
use super::socket::Socket;
use super::watch::{Watch, Watched};
use crate::access_log::Why;
use crate::metrics::{BytesPassed, TcpSeries};
use crate::websocket::{self, Frames};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

/// From a read of so many bytes on, they are moved within the kernel (splice(2)), which takes a third of the CPU for
/// each GiB: 0.35 s where copying took 1.02 s and HAProxy's splicing 0.38 s. Small pieces cost less when copied.
const SPLICE_FROM: usize = 16 * 1024;
/// Until they come in pieces smaller than this. Lower, so that a flow does not change its way at every read.
const SPLICE_UNTIL: usize = 4 * 1024;
/// An end that is no fault of either side (RFC 6455 section 7.4.1).
const GOING_AWAY: u16 = 1001;

/// Both directions between a client and a server.
#[derive(Debug)]
pub(crate) struct Duplex {
    /// From the client to the server.
    up: Flow,
    down: Flow,
    /// The end of one direction is the other's too, once what was read of that is written: a protocol like WebSocket
    /// knows no half-closed connections, and half of one would only take up a place until it times out.
    ends_together: bool,
}

/// A client and its server.
#[derive(Debug)]
pub(crate) struct RawRelay {
    client: Socket,
    server: Socket,
    duplex: Duplex,
    watch: Watched,
    series: Arc<TcpSeries>,
}

/// One direction.
#[derive(Debug)]
struct Flow {
    /// Read and not yet written.
    waiting: Vec<u8>,
    at: usize,
    /// Bytes come in large pieces, so a pipe takes them.
    is_bulk: bool,
    /// Only while there is something in it.
    pipe: Option<Pipe>,
    stage: FlowStage,
    read: u64,
    /// Read and never to be written.
    lost: u64,
    /// A WebSocket's, of what was read.
    frames: Option<Frames>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlowStage {
    Open,
    /// Its sender has ended; what waits goes first.
    Ending,
    Ended,
    /// Its receiver takes no more.
    Broken,
}

impl RawRelay {
    /// `first` goes to the server before anything the client's socket brings; the last `read` bytes of it are the
    /// client's, what is before them is not counted.
    pub(crate) fn new(
        (client, server): (Socket, Socket),
        (first, read): (Vec<u8>, u64),
        watch: Watched,
        series: Arc<TcpSeries>,
    ) -> Self {
        series.received(read);
        Self { client, server, duplex: Duplex::new((first, read), (Vec::new(), 0)), watch, series }
    }

    /// Bytes that reached the server, and the client.
    pub(crate) fn passed(&self) -> BytesPassed {
        let (to_server, to_client) = self.duplex.passed();
        BytesPassed { to_server, to_client }
    }

    /// Moves what can be moved; ready with the reason once the connection is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Why> {
        let before = (self.duplex.up.read, self.duplex.down.read);
        let polled = self.duplex.poll(&mut self.client, &mut self.server, &self.watch, cx);
        self.series.received(self.duplex.up.read - before.0);
        self.series.sent(self.duplex.down.read - before.1);
        polled
    }
}

impl Duplex {
    /// What goes to the server, and to the client, before anything their sockets bring; and how many bytes of it
    /// each has sent itself.
    pub(crate) fn new(up: (Vec<u8>, u64), down: (Vec<u8>, u64)) -> Self {
        Self { up: Flow::new(up.0, up.1), down: Flow::new(down.0, down.1), ends_together: false }
    }

    /// What passes is a WebSocket's: ended from our side, it ends with a close frame to both, as far as frames of
    /// theirs are not cut by that.
    pub(crate) fn of_websocket(mut self) -> Self {
        self.up.follow_frames();
        self.down.follow_frames();
        Self { ends_together: true, ..self }
    }

    /// Bytes that reached the server, and the client.
    pub(crate) fn passed(&self) -> (u64, u64) {
        (self.up.passed(), self.down.passed())
    }

    /// Whether the server has ended it first, and neither side has said a word.
    pub(crate) fn has_ended_mute(&self) -> bool {
        let is_over = |flow: &Flow| matches!(flow.stage, FlowStage::Ending | FlowStage::Ended);
        is_over(&self.down) && !is_over(&self.up) && self.up.read + self.down.read == 0
    }

    /// Whether all that was read has been written.
    pub(crate) fn is_delivered(&self) -> bool {
        self.up.left() + self.down.left() == 0
    }

    /// Moves what can be moved; ready with the reason once both directions are over, or the watch interrupts.
    pub(crate) fn poll(
        &mut self,
        client: &mut Socket,
        server: &mut Socket,
        watch: &Watch,
        cx: &mut Context<'_>,
    ) -> Poll<Why> {
        watch.wake_by(cx.waker());
        if let Some(why) = watch.interrupted() {
            self.cut(client, server, why);
            return Poll::Ready(why);
        }
        let before = (self.up.read, self.down.read, self.up.left() + self.down.left());
        let stages = (self.up.stage, self.down.stage);
        let up = self.up.poll(client, server, cx);
        let down = self.down.poll(server, client, cx);
        // The end of one direction is passed on; that of both is when the sockets are closed. A receiver that is
        // gone needs no telling.
        match (self.up.stage, self.down.stage) {
            (FlowStage::Ended, FlowStage::Ended) => {}
            (FlowStage::Ended, _) if stages.0 != FlowStage::Ended => drop(server.shutdown_write()),
            (_, FlowStage::Ended) if stages.1 != FlowStage::Ended => drop(client.shutdown_write()),
            _ => {}
        }
        if (self.up.read, self.down.read, self.up.left() + self.down.left()) != before {
            watch.touch();
        }
        if up.is_err() {
            server.end_with_reset();
            return Poll::Ready(Why::ClientAborted);
        }
        if down.is_err() {
            client.end_with_reset();
            return Poll::Ready(Why::ServerReset);
        }
        match (self.up.stage, self.down.stage) {
            (FlowStage::Ended, FlowStage::Ended) => Poll::Ready(Why::Ok),
            (FlowStage::Ended, _) | (_, FlowStage::Ended) if self.ends_together && self.is_delivered() => {
                Poll::Ready(Why::Ok)
            }
            (FlowStage::Broken, FlowStage::Ended | FlowStage::Broken) => Poll::Ready(Why::ServerReset),
            (FlowStage::Ended, FlowStage::Broken) => Poll::Ready(Why::ClientAborted),
            _ => Poll::Pending,
        }
    }

    /// Ends it from our side.
    fn cut(&self, client: &mut Socket, server: &mut Socket, why: Why) {
        self.up.cut(server, why, Some(fastrand::u32(..).to_ne_bytes()));
        self.down.cut(client, why, None);
    }
}

impl Flow {
    fn new(waiting: Vec<u8>, read: u64) -> Self {
        Self {
            waiting,
            at: 0,
            is_bulk: false,
            pipe: None,
            stage: FlowStage::Open,
            read,
            lost: 0,
            frames: None,
        }
    }

    fn follow_frames(&mut self) {
        let mut frames = Frames::default();
        let before = self.waiting.len().saturating_sub(self.read as usize);
        frames.pass(&self.waiting[before..]);
        self.frames = Some(frames);
    }

    /// Ends the direction from our side: a stream cut short must not look whole.
    fn cut(&self, to: &mut Socket, why: Why, mask: Option<[u8; 4]>) {
        if self.left() > 0 {
            to.end_with_reset();
        } else if self.stage == FlowStage::Open && self.frames.as_ref().is_some_and(Frames::is_between) {
            // It fits any send buffer; who does not even take that has no use for it.
            let _ = to.try_write(&websocket::close(GOING_AWAY, why.as_str(), mask));
        }
    }

    /// How many bytes may be moved without a look at them.
    fn may_pass_unseen(&self) -> usize {
        let left = |frames: &Frames| usize::try_from(frames.left()).unwrap_or(usize::MAX);
        self.frames.as_ref().map_or(usize::MAX, left)
    }

    /// Bytes read and not yet written.
    fn left(&self) -> usize {
        self.waiting.len() - self.at + self.pipe.as_ref().map_or(0, Pipe::held)
    }

    fn passed(&self) -> u64 {
        self.read.saturating_sub(self.left() as u64 + self.lost)
    }

    /// Moves what can be moved. An error is the sender's: a receiver that takes no more is a stage.
    fn poll(&mut self, from: &mut Socket, to: &mut Socket, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            if self.left() > 0 {
                match self.poll_rest(to, cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => {
                        self.give_up();
                        return Ok(());
                    }
                    Poll::Pending => return Ok(()),
                }
            }
            match self.stage {
                FlowStage::Ended | FlowStage::Broken => return Ok(()),
                FlowStage::Open | FlowStage::Ending => {}
            }
            // What TLS still has to send goes on while nothing comes.
            let flushed = to.poll_flush(cx);
            if let Poll::Ready(Err(_)) = flushed {
                self.give_up();
                return Ok(());
            }
            match self.stage {
                FlowStage::Open => {}
                FlowStage::Ending if flushed.is_pending() => return Ok(()),
                FlowStage::Ending => {
                    self.stage = FlowStage::Ended;
                    return Ok(());
                }
                FlowStage::Ended | FlowStage::Broken => return Ok(()),
            }
            let passed = match self.is_bulk {
                true => self.poll_fill(from, cx),
                false => self.poll_pass(from, to, cx),
            };
            match passed {
                Poll::Ready(Ok(0)) => {
                    self.stage = FlowStage::Ending;
                    // Before the flush: in a buffer that is full there is no room for it afterwards.
                    to.part();
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Takes what is there into a pipe.
    fn poll_fill(&mut self, from: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(mut pipe) = Pipe::take() else {
            // No more files to open: copying needs none.
            self.is_bulk = false;
            return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
        };
        let n = std::task::ready!(pipe.poll_fill(from, self.may_pass_unseen(), cx))?;
        self.read += n as u64;
        if let Some(frames) = &mut self.frames {
            frames.skip(n as u64);
        }
        self.is_bulk = n >= SPLICE_UNTIL && self.may_pass_unseen() >= SPLICE_UNTIL;
        // At the end there is nothing to drain; a pipe that stayed would be two open files for as long as the other
        // direction lasts.
        self.pipe = Some(pipe).filter(|pipe| pipe.held() > 0);
        Poll::Ready(Ok(n))
    }

    /// Reads once and writes what was read, as far as it is taken.
    fn poll_pass(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        with_scratch(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            std::task::ready!(from.poll_read(cx, &mut buf))?;
            let bytes = buf.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok(0));
            }
            self.read += bytes.len() as u64;
            if let Some(frames) = &mut self.frames {
                frames.pass(bytes);
            }
            let n = match to.poll_write(cx, bytes) {
                Poll::Ready(Ok(n)) => n,
                // The next write fails as well.
                Poll::Ready(Err(_)) | Poll::Pending => 0,
            };
            if n < bytes.len() {
                self.waiting = bytes[n..].to_vec();
            }
            let large = bytes.len().min(self.may_pass_unseen()) >= SPLICE_FROM;
            self.is_bulk = large && from.is_plain() && to.is_plain();
            Poll::Ready(Ok(bytes.len()))
        })
    }

    /// Writes what waits.
    fn poll_rest(&mut self, to: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.at < self.waiting.len() {
            match std::task::ready!(to.poll_write(cx, &self.waiting[self.at..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.at += n,
            }
        }
        self.waiting = Vec::new();
        self.at = 0;
        if let Some(pipe) = &mut self.pipe {
            std::task::ready!(pipe.poll_drain(to, cx))?;
            self.pipe = None;
        }
        Poll::Ready(Ok(()))
    }

    fn give_up(&mut self) {
        self.stage = FlowStage::Broken;
        self.lost = self.left() as u64;
        self.waiting = Vec::new();
        self.at = 0;
        self.pipe = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    /// Sends 3 MiB each way at once in pieces of this size, each after a small one, through sockets that hold far less.
    async fn check(piece: usize) {
        let bytes: Vec<u8> = (0..3_u32 << 18).flat_map(u32::to_le_bytes).collect();
        let ((client, near), (far, server)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let talk = async |stream: UnixStream, reverse: bool| {
            let mut sent = bytes.clone();
            if reverse {
                sent.reverse();
            }
            let (mut reads, mut writes) = stream.into_split();
            let sending = async move {
                for (n, piece) in sent.chunks(piece).enumerate() {
                    let (small, rest) = piece.split_at((n % 7).min(piece.len()));
                    writes.write_all(small).await.unwrap();
                    writes.write_all(rest).await.unwrap();
                }
                writes.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (_, read) = tokio::join!(sending, reads.read_to_end(&mut got));
            read.unwrap();
            got
        };
        let relay = async {
            let (mut near, mut far) = (Socket::from(near), Socket::from(far));
            let mut duplex = Duplex::new((b"first".to_vec(), 0), (Vec::new(), 0));
            let watch = Watch::new(1);
            let why = poll_fn(|cx| duplex.poll(&mut near, &mut far, &watch, cx)).await;
            (why, duplex.passed())
        };
        let (down, up, (why, passed)) = tokio::join!(talk(client, false), talk(server, true), relay);
        assert_eq!((why, passed), (Why::Ok, (bytes.len() as u64, bytes.len() as u64)));
        assert!(up.strip_prefix(b"first") == Some(&bytes), "what the server got, in pieces of {piece}");
        assert!(down.iter().eq(bytes.iter().rev()), "what the client got, in pieces of {piece}");
    }

    #[tokio::test]
    async fn bytes_arrive_as_they_are_by_either_means() {
        for piece in [3_000, SPLICE_UNTIL, SPLICE_FROM, 100_000] {
            check(piece).await;
        }
    }
}
