//! Requests that are none: hyper answers them by itself, with a status alone, and nothing of ours sees them. What
//! it writes then is put in JSON here, as every other refusal is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// hyper's answers have no body, and ours that are refusals always have one.
const NO_BODY: &str = "content-length: 0";

/// A connection on which such answers have a body.
#[derive(Debug)]
pub(super) struct JsonErrors<S> {
    stream: S,
    /// What is still to be written of one.
    left: Vec<u8>,
}

impl<S> JsonErrors<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, left: Vec::new() }
    }
}

/// The whole answer in the place of hyper's, if it is one.
fn worded(written: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
    let (first, fields) = head.split_once("\r\n")?;
    let status: u16 = first.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let is_engines = !fields.contains("content-type:") && fields.split("\r\n").any(|field| field == NO_BODY);
    if !(400..600).contains(&status) || !is_engines {
        return None;
    }
    let (message, help) = match status {
        431 => ("the request's head is too long", "send fewer or shorter fields"),
        414 => ("the request's target is too long", "send what is long in the body"),
        _ => ("this is no HTTP/1.1 request", "percent-encode what is not ASCII in the path"),
    };
    let body = format!("{{\"error\":{{\"message\":\"{message}\",\"help\":\"{help}\"}}}}");
    let length = format!("content-type: application/json\r\ncontent-length: {}", body.len());
    Some(format!("{first}\r\n{}\r\n\r\n{body}", fields.replace(NO_BODY, &length)).into_bytes())
}

impl<S: AsyncWrite + Unpin> JsonErrors<S> {
    /// Writes what is left.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.left.is_empty() {
            let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &self.left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.left.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for JsonErrors<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for JsonErrors<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(this.drain(cx))?;
        match worded(bytes) {
            Some(answer) => {
                this.left = answer;
                Poll::Ready(Ok(bytes.len()))
            }
            None => Pin::new(&mut this.stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.drain(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.drain(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
