//! A connection as HTTP/2's codec reads and writes it: writes are gathered, so that a small response is one system call, and
//! frames are judged as they pass. Pingora's handshake asks for some traits more.

use super::Conn;
use crate::edge::judged_frames::JudgedFrames;
use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Small writes are gathered up to this; a larger one goes out at once, together with them.
const GATHER: usize = 8 * 1024;

impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(passing) = &this.passing
            && passing.is_condemned()
        {
            // What else it sends is not read: the connection's task is to end it.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let mut read = this.poll_arrival(cx, buf);
        if let (Some(passing), Poll::Ready(Ok(()))) = (&this.passing, &read)
            && buf.filled().len() == before
        {
            // Of TLS this is close_notify, which ends nothing but what the client has to say.
            read = this.socket.poll_fin(cx);
            if read.is_pending() {
                passing.client_has_said_all();
            }
        }
        if let (Some(passing), Poll::Ready(Ok(()))) = (&this.passing, &read) {
            passing.read(&mut buf.filled_mut()[before..]);
        }
        if read.is_pending() && !this.leaving.is_empty() {
            // Nothing moves for now, so what was gathered goes out: a response may pause for as long as it
            // likes, and its beginning must not wait for its end.
            if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
                return Poll::Ready(Err(error));
            }
        }
        read
    }
}

impl Conn {
    /// These bytes count as written.
    fn note(&self, bytes: &[u8]) {
        if let Some(passing) = &self.passing {
            passing.written(bytes);
        }
    }

    /// Says that nothing more comes and reads on until the client has left: closing at once with bytes unread would
    /// reset the connection, and take the GOAWAY with it. Whoever waits for it sets the time.
    fn poll_part(&mut self, cx: &mut Context<'_>, passing: &JudgedFrames) -> Poll<io::Result<()>> {
        if !passing.is_parting() {
            ready!(self.socket.poll_shutdown(cx))?;
            passing.part();
        }
        loop {
            self.forget();
            match ready!(self.poll_arrive(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.leaving.len() + bytes.len() <= GATHER {
            this.cut()?;
            this.leaving.extend_from_slice(bytes);
            this.note(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        this.state.watch.wake_by(cx.waker());
        this.cut()?;
        let n = loop {
            if this.sent == this.leaving.len() {
                break ready!(this.socket.poll_write(cx, bytes))?;
            }
            let waiting = this.leaving.len() - this.sent;
            let both = [IoSlice::new(&this.leaving[this.sent..]), IoSlice::new(bytes)];
            let n = ready!(this.socket.poll_write_parts(cx, &both))?;
            if n > waiting {
                this.sent = this.leaving.len();
                break n - waiting;
            }
            this.wrote(n)?;
            this.sent += n;
        };
        this.leaving.clear();
        this.sent = 0;
        this.wrote(n)?;
        this.note(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.leaving.is_empty() && this.socket.is_plain() {
            return Poll::Ready(Ok(()));
        }
        this.state.watch.wake_by(cx.waker());
        this.cut()?;
        ready!(this.poll_drain(cx))?;
        this.socket.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        match this.passing.clone() {
            Some(passing) => this.poll_part(cx, &passing),
            None => this.socket.poll_shutdown(cx),
        }
    }
}

#[async_trait]
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        let _ = tokio::io::AsyncWriteExt::shutdown(self).await;
    }
}

#[async_trait]
impl Peek for Conn {
    /// The edge has read the whole preface before the codec looks for it.
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        let pending = self.pending();
        let n = buf.len().min(pending.len());
        buf[..n].copy_from_slice(&pending[..n]);
        Ok(n == buf.len())
    }
}

impl UniqueID for Conn {
    fn id(&self) -> UniqueIDType {
        self.socket.fd()
    }
}

impl Ssl for Conn {}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}
