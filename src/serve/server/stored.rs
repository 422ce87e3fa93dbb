//! What is kept in place of a server: a response whose body lies in memory, or is read from a disk as the client takes it.

use super::{Failure, Part, ResponseStart};
use crate::access_log::Why;
use crate::cache;
use crate::serve::piece::Piece;
use crate::store::{BodySource, BrokenOff, CodedBody, StoredBody, StoredResponse};
use crate::wire::response_head::{BodyKind, ResponseView};
use bytes::Bytes;
use futures_channel::oneshot;
use http::{HeaderMap, StatusCode};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// One response on its way to one client.
#[derive(Debug)]
pub(in crate::serve) struct Stored {
    status: StatusCode,
    fields: StoredFields,
    body: KeptBody,
    /// Pieces of the body that have gone.
    gone: usize,
    /// What is being read.
    reading: Option<oneshot::Receiver<Bytes>>,
}

#[derive(Debug)]
enum StoredFields {
    /// As they are kept.
    Kept(Arc<StoredResponse>),
    /// Made for this client.
    Own(HeaderMap),
}

#[derive(Debug)]
enum KeptBody {
    Kept(Arc<[Bytes]>),
    Own(Vec<StoredPiece>),
}

/// Bytes of a body, or where they are.
#[derive(Clone, Debug)]
pub(in crate::serve) enum StoredPiece {
    Here(Bytes),
    Elsewhere(Arc<dyn BodySource>, Range<u64>),
}

impl From<Bytes> for StoredPiece {
    fn from(bytes: Bytes) -> Self {
        Self::Here(bytes)
    }
}

impl StoredPiece {
    /// The bytes of a response's body between these places.
    pub(in crate::serve) fn of(response: &StoredResponse, part: &Range<u64>) -> Vec<Self> {
        match &response.body {
            StoredBody::Memory(body) => cache::slice(body, part).into_iter().map(Self::Here).collect(),
            StoredBody::Elsewhere(_) if part.is_empty() => Vec::new(),
            StoredBody::Elsewhere(source) => vec![Self::Elsewhere(Arc::clone(source), part.clone())],
        }
    }

    pub(in crate::serve) fn length(&self) -> u64 {
        match self {
            Self::Here(bytes) => bytes.len() as u64,
            Self::Elsewhere(_, part) => part.end - part.start,
        }
    }
}

impl Stored {
    /// All of a response.
    pub(in crate::serve) fn whole(kept: &Arc<StoredResponse>) -> Self {
        let body = match &kept.body {
            StoredBody::Memory(body) => KeptBody::Kept(Arc::clone(body)),
            StoredBody::Elsewhere(_) => KeptBody::Own(StoredPiece::of(kept, &(0..kept.length))),
        };
        Self {
            status: kept.status,
            fields: StoredFields::Kept(Arc::clone(kept)),
            body,
            gone: 0,
            reading: None,
        }
    }

    /// Another response that is made of one.
    pub(in crate::serve) fn made(status: StatusCode, fields: HeaderMap, body: Vec<StoredPiece>) -> Self {
        Self { status, fields: StoredFields::Own(fields), body: KeptBody::Own(body), gone: 0, reading: None }
    }

    /// What is left of a response whose head the client has, as it comes.
    pub(in crate::serve) fn rest(source: Arc<dyn BodySource>, part: Range<u64>) -> Self {
        let pieces = if part.is_empty() { Vec::new() } else { vec![StoredPiece::Elsewhere(source, part)] };
        Self::made(StatusCode::OK, HeaderMap::new(), pieces)
    }

    /// The response, if this is all of one that lies in memory.
    pub(in crate::serve) fn kept(&self) -> Option<&Arc<StoredResponse>> {
        match (&self.fields, &self.body) {
            (StoredFields::Kept(kept), KeptBody::Kept(_)) => Some(kept),
            _ => None,
        }
    }

    /// Has the body in another form, if there is one, behind a head that was edited for that.
    pub(in crate::serve) fn recode(&mut self, coded: Option<CodedBody>) {
        if let Some(coded) = coded {
            self.body = KeptBody::Kept(coded.pieces);
        }
    }

    /// Pieces that have not gone.
    fn left(&self) -> usize {
        let all = match &self.body {
            KeptBody::Kept(pieces) => pieces.len(),
            KeptBody::Own(pieces) => pieces.len(),
        };
        all - self.gone
    }

    pub(in crate::serve) fn start(&self, is_head_request: bool) -> ResponseStart {
        ResponseStart {
            status: self.status.as_u16(),
            is_interim: false,
            is_over: is_head_request || self.left() == 0,
            is_websocket: false,
            is_chunked: false,
            hint: None,
        }
    }

    pub(in crate::serve) fn head(&self) -> ResponseView<'_> {
        let fields = match &self.fields {
            StoredFields::Kept(kept) => &kept.fields,
            StoredFields::Own(fields) => fields,
        };
        let body = if self.left() == 0 { BodyKind::Empty } else { BodyKind::Length };
        ResponseView::of_map(self.status, fields, body)
    }

    /// Whether the next piece lies in memory, so that it may be held while others before it are on their way.
    pub(super) fn is_in_memory(&self) -> bool {
        match &self.body {
            KeptBody::Kept(_) => true,
            KeptBody::Own(pieces) => pieces.get(self.gone).is_some_and(|piece| match piece {
                StoredPiece::Here(_) => true,
                StoredPiece::Elsewhere(source, _) => source.is_in_memory(),
            }),
        }
    }

    /// The next piece, which is not copied.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Failure>> {
        let left = self.left();
        if left == 0 {
            return Poll::Ready(Ok(Part::End(None)));
        }
        let (bytes, is_done) = match &mut self.body {
            KeptBody::Kept(pieces) => (pieces[self.gone].clone(), true),
            KeptBody::Own(pieces) => match &mut pieces[self.gone] {
                StoredPiece::Here(bytes) => (bytes.clone(), true),
                StoredPiece::Elsewhere(source, part) => {
                    let reading = self.reading.get_or_insert_with(|| source.read(part.start));
                    let read = ready!(Pin::new(reading).poll(cx));
                    self.reading = None;
                    // Its client is told that there should be more.
                    let Ok(mut bytes) = read else { return Poll::Ready(Err(failure(source.broken_off()))) };
                    let wanted = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
                    bytes.truncate(wanted);
                    part.start += bytes.len() as u64;
                    (bytes, part.start == part.end)
                }
            },
        };
        self.gone += usize::from(is_done);
        let (length, is_last) = (bytes.len() as u64, is_done && left == 1);
        Poll::Ready(Ok(Part::Data { piece: Piece::Bytes(bytes), length, is_last }))
    }
}

/// What a body that has broken off is to whoever has it from where it is kept: what it is to whoever fetches it.
fn failure(broken: BrokenOff) -> Failure {
    let why = broken.why.map_or(Why::Internal, Why::from_u8);
    Failure { detail: broken.detail, ..why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreSize};
    use std::task::Waker;

    #[test]
    fn who_follows_what_breaks_off_is_told_what_its_fetcher_is_told() {
        let store = Store::new(StoreSize { memory: 8 << 20, max_object: 1 << 20, has_disk: false }, 0);
        let broken = Failure { detail: Some("why"), ..Why::ServerMalformed.into() };
        for (begun, failure) in
            [(0, Some(broken)), (2, Some(broken)), (0, None), (2, Some(Why::RequestTimeout.into()))]
        {
            let mut writer = store.writer(Some(10));
            let mut followers: Vec<_> = (0..3).map(|_| Stored::rest(writer.source(), 0..10)).collect();
            let mut cx = Context::from_waker(Waker::noop());
            writer.push(&b"ab"[..begun]).expect("there is room");
            for follower in &mut followers[..2] {
                let first = follower.poll_part(&mut cx);
                assert_eq!(matches!(first, Poll::Ready(Ok(Part::Data { length: 2, .. }))), begun > 0);
                assert!(begun == 0 || follower.poll_part(&mut cx).is_pending());
            }
            match failure {
                Some(failure) => writer.break_off(failure.into()),
                None => drop(writer),
            }
            let expected = failure.unwrap_or(Why::Internal.into());
            for follower in &mut followers {
                let Poll::Ready(Err(told)) = follower.poll_part(&mut cx) else { panic!("{expected:?}") };
                assert_eq!(told, expected);
            }
        }
    }
}
