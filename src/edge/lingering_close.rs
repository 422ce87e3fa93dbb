//! The end of a connection that is refused before its protocol begins. The client may still be sending: closing at once
//! would reset the connection, and take our last words with it.

use super::date::HttpDate;
use super::plain_socket::with_scratch;
use super::socket::Socket;
use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime};
use tokio::io::ReadBuf;

/// So long and so much is read of what nobody wants.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

/// The body of the answer to a request in plain text where TLS was expected.
pub(super) const PLAIN_HTTP: &str = "400 Bad Request\nThis port speaks TLS: ask with https://\n";

/// Answers a request that has come in plain text where TLS was expected, and parts.
pub(super) async fn answer_plain_http(mut socket: Socket) {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nDate: {}\r\nConnection: close\r\n\r\n{PLAIN_HTTP}",
        PLAIN_HTTP.len(),
        HttpDate::of(SystemTime::now()).as_str()
    );
    // It fits any send buffer; a client that does not even take that has no use for it.
    if socket.try_write(answer.as_bytes()).is_ok() {
        close(socket).await;
    }
}

/// Says that nothing more comes, and reads on until the client has heard it.
pub(super) async fn close(mut socket: Socket) {
    if socket.shutdown_write().is_err() {
        return;
    }
    let mut left = LINGER_BYTES;
    let ended = poll_fn(|cx| {
        loop {
            let read = with_scratch(|scratch| {
                let mut buf = ReadBuf::new(scratch);
                ready!(socket.poll_read(cx, &mut buf)).ok();
                Poll::Ready(buf.filled().len())
            });
            let n = ready!(read);
            if n == 0 || n >= left {
                return Poll::Ready(());
            }
            left -= n;
        }
    });
    // Who does not hear it in time does not hear it.
    let _ = tokio::time::timeout(LINGER, ended).await;
}
