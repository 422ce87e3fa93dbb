use super::*;
use crate::edge::{AfterRequest, Conn};
use crate::wire::edit::Edits;
use crate::wire::response_head::ResponseView;
use http::HeaderMap;
use std::collections::VecDeque;

/// A client that sends what it is told to, and takes nothing.
#[derive(Debug)]
struct Scripted {
    parts: VecDeque<Bytes>,
    received: u64,
}

impl Scripted {
    fn sending(parts: &[&[u8]]) -> Self {
        let parts = parts.iter().map(|part| Bytes::copy_from_slice(part)).collect();
        Self { parts, received: 0 }
    }
}

impl ClientSide for Scripted {
    fn has_body(&self) -> bool {
        true
    }

    fn poll_body(&mut self, _: &mut Context<'_>, _: bool) -> Poll<Result<Option<Piece>, Why>> {
        let part = self.parts.pop_front();
        self.received += part.as_ref().map_or(0, Bytes::len) as u64;
        Poll::Ready(Ok(part.map(Piece::Bytes)))
    }

    fn received(&self) -> u64 {
        self.received
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
        Err(Why::Internal)
    }

    fn withdraw(&mut self) {}

    fn commit(&mut self, _: bool) -> Result<(), Why> {
        Err(Why::Internal)
    }

    fn send(&mut self, _: Piece, _: u64, _: bool) {}

    fn end(&mut self, _: Option<HeaderMap>) -> Result<(), Why> {
        Err(Why::Internal)
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

fn read(body: &mut RepeatableBody, client: &mut Scripted, limit: u64) -> Result<Vec<u8>, Why> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut all = Vec::new();
    loop {
        match body.poll_next(&mut cx, client, false, limit) {
            Poll::Ready(Ok(Some(piece))) => all.extend_from_slice(piece.data()),
            Poll::Ready(Ok(None)) => return Ok(all),
            Poll::Ready(Err(why)) => return Err(why),
            Poll::Pending => panic!("it has more"),
        }
    }
}

/// Of a request that may be sent again.
fn repeatable() -> RepeatableBody {
    let mut body = RepeatableBody::new(false);
    body.begin(true);
    body
}

#[test]
fn a_small_body_can_be_sent_again() {
    let mut client = Scripted::sending(&[b"ab", b"", b"c"]);
    let mut body = repeatable();
    assert_eq!(read(&mut body, &mut client, 3), Ok(b"abc".to_vec()));
    body.rewind();
    assert_eq!(read(&mut body, &mut client, 3), Ok(b"abc".to_vec()));
    assert!(body.is_repeatable && body.is_over);
}

#[test]
fn what_is_larger_is_not_kept() {
    let large = vec![b'x'; REPEATABLE];
    let mut client = Scripted::sending(&[b"ab", &large, b"c"]);
    let mut body = repeatable();
    assert_eq!(read(&mut body, &mut client, u64::MAX).map(|all| all.len()), Ok(REPEATABLE + 3));
    assert!(!body.is_repeatable && body.kept.is_empty());
}

#[test]
fn the_limit_counts_all_of_it() {
    let mut client = Scripted::sending(&[b"ab", b"c"]);
    assert_eq!(read(&mut repeatable(), &mut client, 2), Err(Why::BodyTooLarge));
}
