//! The client's side of an exchange: where the request's body comes from and the response goes to.

mod background;
mod http1;
mod http2;

pub(super) use background::Background;
pub(super) use http1::Http1;
pub(super) use http2::Http2;

use super::piece::Piece;
use crate::access_log::Why;
use crate::edge::{AfterRequest, Conn};
use crate::wire::edit::Edits;
use crate::wire::response_head::ResponseView;
use http::HeaderMap;
use std::task::{Context, Poll};

/// What an exchange asks of a client, whichever version of HTTP it speaks.
pub(super) trait ClientSide: Send {
    /// Whether the request has a body.
    fn has_body(&self) -> bool;

    /// The next of the request's body; `None` is its end. Chunks come as they are if `keeps_chunks`, or else their data.
    fn poll_body(&mut self, cx: &mut Context<'_>, keeps_chunks: bool) -> Poll<Result<Option<Piece>, Why>>;

    /// Bytes of the body so far, without framing.
    fn received(&self) -> u64;

    /// What came behind the body, where that may be passed on.
    fn take_trailers(&mut self) -> Option<HeaderMap>;

    /// Nothing more of the body is wanted.
    fn refuse_body(&mut self);

    /// Nothing that may follow the request on its connection is to be read.
    fn end_with_answer(&mut self);

    /// Whether a response's chunks may come as they are.
    fn takes_chunks(&self) -> bool;

    /// Sends a response that another one follows.
    fn interim(&mut self, head: &ResponseView<'_>, edits: &Edits<'_>);

    /// Takes the response's head. It is not sent before `commit`.
    fn begin(&mut self, head: &ResponseView<'_>, edits: &Edits<'_>) -> Result<(), Why>;

    /// Drops the head that it was begun with: another response comes in its place.
    fn withdraw(&mut self);

    /// The head may be sent; nothing comes behind it if it `is_over`.
    fn commit(&mut self, is_over: bool) -> Result<(), Why>;

    /// Takes the next of the response's body, `length` bytes without their framing, to be sent when there is room. Asked
    /// only when everything before it was sent, but for the head, or while it `takes_more`.
    fn send(&mut self, piece: Piece, length: u64, is_last: bool);

    /// Ends the response.
    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Why>;

    /// Whether what is there of a body already may be put behind what waits to be sent.
    fn takes_more(&self) -> bool {
        false
    }

    /// Ready when everything was sent.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Why>>;

    /// Bytes of the response's body so far, without framing.
    fn sent(&self) -> u64;

    /// Ready when the client has given up.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// The same while the request waits and nothing of its body was asked for: what comes meanwhile is kept, up to a bound.
    fn poll_left_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether it has given up while the request waited, though nothing has told us yet. Costs a system call.
    fn has_left_waiting(&mut self, cx: &mut Context<'_>) -> bool;

    /// Whether it has ended its side meanwhile, which most do when they leave and some do who stay.
    fn may_have_left(&self) -> bool {
        false
    }

    /// How the client has broken HTTP/2, if that is why the stream or the connection is reset: it is told by that, and is told nothing
    /// more. To be asked once nothing more is wanted of the request.
    fn breach(&mut self) -> Option<&'static str> {
        None
    }

    /// Ends the response so that it does not look whole.
    fn cut(&mut self);

    /// The connection, if it can become one that is not HTTP's any more, and what is still to be written to it.
    fn switch(&mut self) -> Option<(&mut Conn, Vec<u8>)>;

    /// What becomes of a connection that has switched.
    fn switched(&mut self, after: AfterRequest);
}
