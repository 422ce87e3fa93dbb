//! Whether a client has gone that has sent more than is read of it for now. A read would find its end only behind all that; the
//! kernel tells of it at once, but wakes nobody who has not read everything. So it is asked now and then.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

const EVERY: Duration = Duration::from_millis(250);

/// How a client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientClose {
    /// It sends nothing more (FIN); it may still read.
    Fin,
    /// It is gone (RST).
    Reset,
}

#[derive(Debug, Default)]
pub(super) struct HangUpWatch {
    /// None before the first look, which is at once.
    next: Option<Pin<Box<Sleep>>>,
}

impl HangUpWatch {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, socket: &impl AsFd) -> Poll<ClientClose> {
        loop {
            if let Some(next) = &mut self.next {
                ready!(next.as_mut().poll(cx));
            }
            if let Some(close) = close_of(socket) {
                return Poll::Ready(close);
            }
            self.next = Some(Box::pin(tokio::time::sleep(EVERY)));
        }
    }
}

/// How a client has gone by now, whatever of it is not read yet.
pub(crate) fn close_of(socket: &impl AsFd) -> Option<ClientClose> {
    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    poll(&mut asked, Some(&Timespec::default())).ok()?;
    let told = asked[0].revents();
    if told.intersects(PollFlags::HUP | PollFlags::ERR) {
        return Some(ClientClose::Reset);
    }
    told.contains(PollFlags::RDHUP).then_some(ClientClose::Fin)
}
