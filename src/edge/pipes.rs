//! Pipes for splice(2): bytes go from socket to socket without a copy into our memory.
//!
//! A pipe is two open files and up to 256 KiB of the kernel's memory, so a connection has one only while bytes are in
//! it; a few empty ones are kept for each core.

use super::socket::Socket;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};
use tokio::io::Interest;

/// Four times what a pipe holds unless told otherwise (pipe(7)): it has a place for each piece of a socket's data,
/// however small, so a small pipe is full long before its bytes say so. Measured: 0.48 s of CPU for each GiB with
/// 64 KiB, 0.41 with 256 KiB, 0.42 with 1 MiB.
const CAPACITY: usize = 256 * 1024;
/// Empty pipes that each core keeps.
const KEPT: usize = 64;

thread_local! {
    static EMPTY: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe between two sockets; goes back to its core when it is empty.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// `None` if the process has no more files to open.
    pub(super) fn take() -> Option<Self> {
        let ends = match EMPTY.with_borrow_mut(Vec::pop) {
            Some(ends) => ends,
            None => {
                let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
                // Beyond the user's share of pipe memory it stays as small as it is.
                let _ = fcntl_setpipe_size(&write, CAPACITY);
                Ends { read, write }
            }
        };
        Some(Self { ends: Some(ends), held: 0 })
    }

    /// Bytes in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes what a socket has, at `most` so much (not 0); 0 is its end. Only an empty pipe may be filled: a full one could not be told from
    /// a socket that has nothing.
    pub(super) fn poll_fill(
        &mut self,
        from: &Socket,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let filled = from.poll_io(cx, Interest::READABLE, || {
            Ok(splice(
                from.as_fd(),
                None,
                &ends.write,
                None,
                CAPACITY.min(most),
                SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
            )?)
        });
        if let Poll::Ready(Ok(n)) = filled {
            self.held += n;
        }
        filled
    }

    /// Gives a socket all there is.
    pub(super) fn poll_drain(&mut self, to: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        while self.held > 0 {
            let held = self.held;
            let n = std::task::ready!(to.poll_io(cx, Interest::WRITABLE, || {
                Ok(splice(
                    &ends.read,
                    None,
                    to.as_fd(),
                    None,
                    held,
                    SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
                )?)
            }))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held -= n;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // One with bytes in it is closed: they are another connection's business never.
        if let Some(ends) = self.ends.take().filter(|_| self.held == 0) {
            let _ = EMPTY.try_with(|empty| {
                if let Ok(mut empty) = empty.try_borrow_mut()
                    && empty.len() < KEPT
                {
                    empty.push(ends);
                }
            });
        }
    }
}
