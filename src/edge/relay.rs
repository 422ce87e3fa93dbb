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
use super::socket::{Socket, with_scratch};
use super::watch::Watched;
use crate::access_log::Why;
use crate::metrics::TcpSeries;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;

/// From a read of so many bytes on, they are moved within the kernel (splice(2)) until they come in smaller pieces;
/// `None` is never.
const SPLICE_FROM: Option<usize> = None;

/// A client and its server.
#[derive(Debug)]
pub(crate) struct Relay {
    client: Socket,
    server: Socket,
    /// From the client to the server.
    up: Flow,
    down: Flow,
    watch: Watched,
    series: Arc<TcpSeries>,
}

/// One direction.
#[derive(Debug)]
struct Flow {
    /// Read and not yet written.
    waiting: Vec<u8>,
    at: usize,
    pipe: Option<Pipe>,
    stage: Stage,
    read: u64,
    /// Read and never to be written.
    lost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// Its sender has ended; what waits goes first.
    Ending,
    Ended,
    /// Its receiver takes no more.
    Broken,
}

impl Relay {
    /// `first` goes to the server before anything the client's socket brings; the last `read` bytes of it are the
    /// client's, what is before them is not counted.
    pub(crate) fn new(
        (client, server): (Socket, Socket),
        (first, read): (Vec<u8>, u64),
        watch: Watched,
        series: Arc<TcpSeries>,
    ) -> Self {
        series.received(read);
        Self { client, server, up: Flow::new(first, read), down: Flow::new(Vec::new(), 0), watch, series }
    }

    /// Bytes that reached the server, and the client.
    pub(crate) fn passed(&self) -> (u64, u64) {
        (self.up.passed(), self.down.passed())
    }

    /// Moves what can be moved; ready with the reason once the connection is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Why> {
        self.watch.wake_by(cx.waker());
        if let Some(why) = self.watch.interrupted() {
            self.cut();
            return Poll::Ready(why);
        }
        let before = (self.up.read, self.down.read, self.up.left() + self.down.left());
        let up = self.up.poll(&mut self.client, &mut self.server, cx);
        let down = self.down.poll(&mut self.server, &mut self.client, cx);
        self.series.received(self.up.read - before.0);
        self.series.sent(self.down.read - before.1);
        if (self.up.read, self.down.read, self.up.left() + self.down.left()) != before {
            self.watch.touch();
        }
        if up.is_err() {
            self.server.end_with_reset();
            return Poll::Ready(Why::ClientAborted);
        }
        if down.is_err() {
            self.client.end_with_reset();
            return Poll::Ready(Why::ServerReset);
        }
        match (self.up.stage, self.down.stage) {
            (Stage::Ended, Stage::Ended) => Poll::Ready(Why::Ok),
            (Stage::Broken, Stage::Ended | Stage::Broken) => Poll::Ready(Why::ServerReset),
            (Stage::Ended, Stage::Broken) => Poll::Ready(Why::ClientAborted),
            _ => Poll::Pending,
        }
    }

    /// Ends it from our side.
    fn cut(&mut self) {
        if self.up.left() > 0 {
            self.server.end_with_reset();
        }
        if self.down.left() > 0 {
            self.client.end_with_reset();
        }
    }
}

impl Flow {
    fn new(waiting: Vec<u8>, read: u64) -> Self {
        Self { waiting, at: 0, pipe: None, stage: Stage::Open, read, lost: 0 }
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
                Stage::Open => {}
                Stage::Ending => {
                    // A receiver that is gone needs no telling.
                    let _ = to.shutdown_write();
                    self.stage = Stage::Ended;
                    return Ok(());
                }
                Stage::Ended | Stage::Broken => return Ok(()),
            }
            let passed = match &mut self.pipe {
                Some(pipe) => {
                    let filled = pipe.poll_fill(from, cx);
                    if let Poll::Ready(Ok(n)) = filled {
                        self.read += n as u64;
                    }
                    let bulk = matches!(&filled, Poll::Ready(Ok(n)) if *n >= SPLICE_FROM.unwrap_or(0));
                    if !bulk && pipe.held() == 0 {
                        self.pipe = None;
                    }
                    filled
                }
                None => self.poll_pass(from, to, cx),
            };
            match passed {
                Poll::Ready(Ok(0)) => self.stage = Stage::Ending,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
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
            let n = match to.poll_write(cx, bytes) {
                Poll::Ready(Ok(n)) => n,
                // The next write fails as well.
                Poll::Ready(Err(_)) | Poll::Pending => 0,
            };
            if n < bytes.len() {
                self.waiting = bytes[n..].to_vec();
            }
            if SPLICE_FROM.is_some_and(|from| bytes.len() >= from) {
                self.pipe = Pipe::take();
            }
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
        match &mut self.pipe {
            Some(pipe) => pipe.poll_drain(to, cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn give_up(&mut self) {
        self.stage = Stage::Broken;
        self.lost = self.left() as u64;
        self.waiting = Vec::new();
        self.at = 0;
        self.pipe = None;
    }
}
