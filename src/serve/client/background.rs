//! Nobody: what is fetched for the cache alone has a client that takes everything and asks for nothing.

use super::ClientSide;
use crate::access_log::Why;
use crate::edge::{AfterRequest, Conn};
use crate::serve::piece::Piece;
use crate::wire::edit::Edits;
use crate::wire::response_head::ResponseView;
use http::HeaderMap;
use std::task::{Context, Poll};

/// The client's side of an exchange that has no client.
#[derive(Debug)]
pub(in crate::serve) struct Background;

impl ClientSide for Background {
    fn has_body(&self) -> bool {
        false
    }

    fn poll_body(&mut self, _: &mut Context<'_>, _: bool) -> Poll<Result<Option<Piece>, Why>> {
        Poll::Ready(Ok(None))
    }

    fn received(&self) -> u64 {
        0
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        None
    }

    fn refuse_body(&mut self) {}

    fn end_with_answer(&mut self) {}

    fn takes_chunks(&self) -> bool {
        false
    }

    fn interim(&mut self, _: &ResponseView<'_>, _: &Edits<'_>) {}

    fn begin(&mut self, _: &ResponseView<'_>, _: &Edits<'_>) -> Result<(), Why> {
        Ok(())
    }

    fn withdraw(&mut self) {}

    fn commit(&mut self, _: bool) -> Result<(), Why> {
        Ok(())
    }

    fn send(&mut self, _: Piece, _: u64, _: bool) {}

    fn end(&mut self, _: Option<HeaderMap>) -> Result<(), Why> {
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Why>> {
        Poll::Ready(Ok(()))
    }

    fn sent(&self) -> u64 {
        0
    }

    fn poll_left(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_left_waiting(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn has_left_waiting(&mut self, _: &mut Context<'_>) -> bool {
        false
    }

    fn cut(&mut self) {}

    fn switch(&mut self) -> Option<(&mut Conn, Vec<u8>)> {
        None
    }

    fn switched(&mut self, _: AfterRequest) {}
}
