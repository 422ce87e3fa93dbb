//! What is read of a connection before it is served: a PROXY header that says who the client is, a ClientHello that
//! says which name it asks for.
//!
//! One deadline holds for all of it, so a trickle ends like silence does.

use super::Rejection;
use super::plain_socket::PlainSocket;
use super::watch::Watched;
use crate::access_log::Why;
use crate::client_hello::{self, Hello};
use crate::proxy_header::{self, Origin};
use std::future::poll_fn;
use std::task::{Poll, ready};

/// Why nothing follows; `None` when the client has left without a word.
pub(super) type PrefaceEnd = Option<Rejection>;

/// Reads a PROXY header, and takes it from `bytes`. What came along with it stays there.
pub(super) async fn header(
    socket: &mut PlainSocket,
    watch: &Watched,
    bytes: &mut Vec<u8>,
) -> Result<Origin, PrefaceEnd> {
    loop {
        arrive(socket, watch, bytes, "PROXY header incomplete").await?;
        match proxy_header::parse(bytes) {
            proxy_header::ProxyHeaderVerdict::Partial => {}
            proxy_header::ProxyHeaderVerdict::Complete { length, origin } => {
                bytes.drain(..length);
                return Ok(origin);
            }
            proxy_header::ProxyHeaderVerdict::Refused(detail) => {
                return Err(Some(rejection(Why::ProxyHeader, detail)));
            }
        }
    }
}

/// Reads a ClientHello. It stays in `bytes`: the server is to have it too.
pub(super) async fn hello(
    socket: &mut PlainSocket,
    watch: &Watched,
    bytes: &mut Vec<u8>,
) -> Result<Hello, PrefaceEnd> {
    loop {
        if !bytes.is_empty() {
            match client_hello::parse(bytes) {
                client_hello::HelloVerdict::Partial => {}
                client_hello::HelloVerdict::Complete(hello) => return Ok(hello),
                client_hello::HelloVerdict::Refused(detail) => {
                    return Err(Some(rejection(Why::ClientHello, detail)));
                }
            }
        }
        arrive(socket, watch, bytes, "ClientHello incomplete").await?;
    }
}

/// Waits for more bytes.
pub(super) async fn arrive(
    socket: &mut PlainSocket,
    watch: &Watched,
    bytes: &mut Vec<u8>,
    incomplete: &'static str,
) -> Result<(), PrefaceEnd> {
    let begun = !bytes.is_empty();
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
    arrived.await.map_err(|why| (begun || why != Why::ClientAborted).then(|| rejection(why, incomplete)))
}

fn rejection(why: Why, detail: &'static str) -> Rejection {
    Rejection { status: why.status(), why, detail: Some(detail) }
}
