//! What a probe by HTTP/2 is answered, read as responses to requests are (`wire::http2_response`) beside the codec.

use super::ProbeFailure;
use super::dial::AnyStream;
use crate::wire::header_blocks::BlockFacts;
use crate::wire::http2_frames::ServerFrames;
use crate::wire::http2_response::{judge_head, judge_trailers};
use crate::wire::response_head::MOST_INTERIMS;
use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Connection, ResponseFuture, SendRequest};
use http::response::Parts;
use http::{HeaderMap, Response};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream of a connection's first request.
const FIRST_STREAM: u32 = 1;

/// Shakes hands on a connection for one request.
pub(super) async fn handshake(
    wire: Box<dyn AnyStream>,
) -> Result<(Asking, Connection<JudgedWire, Bytes>), ProbeFailure> {
    let blocks = Blocks::default();
    let wire = JudgedWire { wire, frames: ServerFrames::new(), blocks: blocks.clone() };
    let (sender, connection) = h2::client::handshake(wire).await.map_err(wrong)?;
    Ok((Asking { sender, blocks }, connection))
}

/// For one request, and what answers it.
pub(super) struct Asking {
    sender: SendRequest<Bytes>,
    blocks: Blocks,
}

impl Asking {
    /// Ready when the request may be sent.
    pub(super) async fn ready(self) -> Result<(SendRequest<Bytes>, Answer), ProbeFailure> {
        let sender = self.sender.ready().await.map_err(wrong)?;
        Ok((sender, Answer { blocks: self.blocks }))
    }
}

/// Judges what answers the request.
pub(super) struct Answer {
    blocks: Blocks,
}

impl Answer {
    /// The head behind interim ones.
    pub(super) async fn head(
        &self,
        response: &mut ResponseFuture,
    ) -> Result<(Parts, RecvStream), ProbeFailure> {
        for _ in 0..=MOST_INTERIMS {
            let (head, body) = poll_fn(|cx| poll_next(response, cx)).await.map_err(wrong)?.into_parts();
            judge_head(head.status, &head.headers, self.blocks.next()).map_err(malformed)?;
            if let Some(body) = body {
                return Ok((head, body));
            }
        }
        Err(ProbeFailure::Protocol(format!("more than {MOST_INTERIMS} interim responses")))
    }

    /// What follows the body.
    pub(super) async fn trailers(&self, body: &mut RecvStream) -> Result<Option<HeaderMap>, ProbeFailure> {
        let trailers = body.trailers().await.map_err(wrong)?;
        if let Some(trailers) = &trailers {
            judge_trailers(trailers, self.blocks.next()).map_err(malformed)?;
        }
        Ok(trailers)
    }
}

/// The next head; an interim one has no body.
fn poll_next(
    response: &mut ResponseFuture,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<Option<RecvStream>>, h2::Error>> {
    match response.poll_informational(cx) {
        Poll::Ready(Some(interim)) => Poll::Ready(interim.map(|interim| interim.map(|()| None))),
        Poll::Ready(None) | Poll::Pending => {
            Pin::new(response).poll(cx).map_ok(|response| response.map(Some))
        }
    }
}

pub(super) fn wrong(error: h2::Error) -> ProbeFailure {
    ProbeFailure::Protocol(error.to_string())
}

fn malformed(detail: &'static str) -> ProbeFailure {
    ProbeFailure::Protocol(detail.to_owned())
}

/// What the header blocks have that came and were not asked for yet.
#[derive(Clone, Debug, Default)]
struct Blocks(Arc<Mutex<VecDeque<BlockFacts>>>);

impl Blocks {
    /// Of the next one, once the codec has given it.
    fn next(&self) -> BlockFacts {
        self.with(VecDeque::pop_front).unwrap_or_default()
    }

    fn with<T>(&self, change: impl FnOnce(&mut VecDeque<BlockFacts>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection on which header blocks are looked at before the codec has them.
pub(super) struct JudgedWire {
    wire: Box<dyn AnyStream>,
    frames: ServerFrames,
    blocks: Blocks,
}

impl AsyncRead for JudgedWire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { wire, frames, blocks } = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(wire).poll_read(cx, buf);
        frames.read(&mut buf.filled_mut()[before..], |block| {
            if block.stream == FIRST_STREAM {
                blocks.with(|blocks| blocks.push_back(block.facts));
            }
        });
        read
    }
}

impl AsyncWrite for JudgedWire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
