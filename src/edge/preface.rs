//! What a connection brings before its own protocol: a PROXY header that says who the client is.
//!
//! One deadline holds for all of it, so a trickle ends like silence does.

use super::Trouble;
use super::socket::Socket;
use super::watch::Watched;
use crate::access_log::Why;
use crate::proxy_header::{self, Origin, Verdict};
use std::future::poll_fn;
use std::task::{Poll, ready};

/// What was read ahead.
#[derive(Debug)]
pub(super) struct Preface {
    pub(super) origin: Origin,
    /// The first bytes of the protocol itself, as far as they came along.
    pub(super) rest: Vec<u8>,
}

/// Reads a PROXY header, and as little beyond as the kernel allows.
pub(super) async fn read(socket: &mut Socket, watch: &Watched) -> Result<Preface, Trouble> {
    let mut bytes = Vec::new();
    loop {
        arrive(socket, watch, &mut bytes, "PROXY header incomplete").await?;
        match proxy_header::parse(&bytes) {
            Verdict::Partial => {}
            Verdict::Complete { length, origin } => {
                bytes.drain(..length);
                return Ok(Preface { origin, rest: bytes });
            }
            Verdict::Refused(detail) => return Err(trouble(Why::ProxyHeader, detail)),
        }
    }
}

/// Waits for more bytes.
async fn arrive(
    socket: &mut Socket,
    watch: &Watched,
    bytes: &mut Vec<u8>,
    incomplete: &'static str,
) -> Result<(), Trouble> {
    let arrived = poll_fn(|cx| {
        watch.wake_by(cx.waker());
        if let Some(why) = watch.interrupted() {
            return Poll::Ready(Err(why));
        }
        Poll::Ready(match ready!(socket.poll_gather(cx, bytes)) {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(Why::ClientAborted),
        })
    });
    arrived.await.map_err(|why| trouble(why, incomplete))
}

fn trouble(why: Why, detail: &'static str) -> Trouble {
    Trouble { status: why.status(), why, detail: Some(detail) }
}
