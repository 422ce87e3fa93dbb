//! The server's side of an exchange: where the request goes to and the response comes from.

mod http1;
mod http2;
mod stored;

pub(super) use http1::{Http1, RequestTerms};
pub(super) use http2::Http2;
pub(super) use stored::{Stored, StoredPiece};

use super::piece::Piece;
use crate::access_log::Why;
use crate::pool::Server;
use crate::store::BrokenOff;
use crate::wire::response_head::ResponseView;
use http::HeaderMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A head that a server has sent, in short.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseStart {
    pub(super) status: u16,
    /// Another response follows.
    pub(super) is_interim: bool,
    /// Nothing follows.
    pub(super) is_over: bool,
    /// Of a 101: what follows is a WebSocket's.
    pub(super) is_websocket: bool,
    /// The body comes in chunks.
    pub(super) is_chunked: bool,
    /// Seconds for which the server keeps the connection, if it says so.
    pub(super) hint: Option<u32>,
}

/// What follows a head.
#[derive(Debug)]
pub(super) enum Part {
    Data {
        piece: Piece,
        /// Without its framing.
        length: u64,
        is_last: bool,
    },
    End(Option<Trailers>),
}

/// What came behind a response's body.
#[derive(Debug)]
pub(super) enum Trailers {
    Map(HeaderMap),
    /// As they lie behind the last chunk, each with its line's end.
    Lines(Vec<u8>),
}

/// Why a server's side ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: Why,
    pub(super) detail: Option<&'static str>,
    /// The server has said that it has done nothing for the request: it does no harm elsewhere.
    pub(super) is_untouched: bool,
}

impl Failure {
    pub(super) fn malformed(detail: &'static str) -> Self {
        Self { why: Why::ServerMalformed, detail: Some(detail), is_untouched: false }
    }
}

impl From<Failure> for BrokenOff {
    fn from(failure: Failure) -> Self {
        Self { why: Some(failure.why as u8), detail: failure.detail }
    }
}

impl From<Why> for Failure {
    fn from(why: Why) -> Self {
        Self { why, detail: None, is_untouched: false }
    }
}

/// One exchange with a server, whichever version of HTTP it speaks.
#[derive(Debug)]
pub(super) enum ServerSide {
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    /// No server: what is kept of one.
    Stored(Box<Stored>),
}

impl ServerSide {
    /// Whether more of the request's body may be put.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::Http1(server) => server.has_room(),
            Self::Http2(server) => server.has_room(),
            Self::Stored(_) => false,
        }
    }

    /// Takes more of the request's body, to be sent by `poll_flush`.
    pub(super) fn put(&mut self, piece: Piece) {
        match self {
            Self::Http1(server) => server.put(piece),
            Self::Http2(server) => server.put(piece),
            Self::Stored(_) => {}
        }
    }

    /// The request is whole.
    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) {
        match self {
            // They may be dropped where nobody has said that they are understood (RFC 9110 section 6.5.1).
            Self::Http1(server) => server.finish(),
            Self::Http2(server) => server.finish(trailers),
            Self::Stored(_) => {}
        }
    }

    /// Ready when the connection has taken what was put.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match self {
            Self::Http1(server) => server.poll_flush(cx),
            Self::Http2(server) => server.poll_flush(cx),
            Self::Stored(_) => Poll::Ready(Ok(())),
        }
    }

    /// Bytes of the request that the connection has taken.
    pub(super) fn taken(&self) -> u64 {
        match self {
            Self::Http1(server) => server.taken(),
            Self::Http2(server) => server.taken(),
            Self::Stored(_) => 0,
        }
    }

    /// All of the request was taken.
    pub(super) fn uploaded(&mut self) {
        if let Self::Http1(server) = self {
            server.uploaded();
        }
    }

    /// Ready when a head has come; `head` has it until more is asked for.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseStart, Failure>> {
        match self {
            Self::Http1(server) => server.poll_head(cx),
            Self::Http2(server) => server.poll_head(cx),
            Self::Stored(server) => Poll::Ready(Ok(server.start(false))),
        }
    }

    /// The head that has come.
    pub(super) fn head(&self) -> Option<ResponseView<'_>> {
        match self {
            Self::Http1(server) => server.head(),
            Self::Http2(server) => server.head(),
            Self::Stored(server) => Some(server.head()),
        }
    }

    /// Whether the response has said how long it is: silence in the middle of it is none of its own then.
    pub(super) fn has_length(&self) -> bool {
        match self {
            Self::Http1(server) => server.has_length(),
            Self::Http2(server) => server.has_length(),
            Self::Stored(_) => true,
        }
    }

    /// Whether what comes next is kept in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self, Self::Stored(server) if server.is_in_memory())
    }

    /// The next of the response's body. Chunks come as they are if `keeps_chunks`, or else their data.
    pub(super) fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        keeps_chunks: bool,
    ) -> Poll<Result<Part, Failure>> {
        match self {
            Self::Http1(server) => server.poll_part(cx, keeps_chunks),
            Self::Http2(server) => server.poll_part(cx),
            Self::Stored(server) => server.poll_part(cx),
        }
    }

    /// The response is whole: the connection is for others, who may come within this time.
    pub(super) fn done(self, at: &Arc<Server>, keepalive: Duration) {
        if let Self::Http1(server) = self {
            server.done(at, keepalive);
        }
    }

    /// The server has not answered in time.
    pub(super) fn retire_if_silent(&self) {
        if let Self::Http2(server) = self {
            server.retire_if_silent();
        }
    }
}
