//! What is kept in place of a server: a response whose body lies in memory.

use super::{Failure, Part, ResponseStart};
use crate::serve::piece::Piece;
use crate::store::StoredResponse;
use crate::wire::response_head::{BodyKind, ResponseView};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

/// One response on its way to one client.
#[derive(Debug)]
pub(in crate::serve) struct Stored {
    status: StatusCode,
    fields: StoredFields,
    body: StoredBody,
    /// Pieces of the body that have gone.
    gone: usize,
}

#[derive(Debug)]
enum StoredFields {
    /// As they are kept.
    Kept(Arc<StoredResponse>),
    /// Made for this client.
    Own(HeaderMap),
}

#[derive(Debug)]
enum StoredBody {
    Kept(Arc<[Bytes]>),
    Own(Vec<Bytes>),
}

impl Stored {
    /// All of a response.
    pub(in crate::serve) fn whole(kept: &Arc<StoredResponse>) -> Self {
        Self {
            status: kept.status,
            fields: StoredFields::Kept(Arc::clone(kept)),
            body: StoredBody::Kept(Arc::clone(&kept.body)),
            gone: 0,
        }
    }

    /// Another response that is made of one.
    pub(in crate::serve) fn made(status: StatusCode, fields: HeaderMap, body: Vec<Bytes>) -> Self {
        Self { status, fields: StoredFields::Own(fields), body: StoredBody::Own(body), gone: 0 }
    }

    fn pieces(&self) -> &[Bytes] {
        match &self.body {
            StoredBody::Kept(pieces) => pieces,
            StoredBody::Own(pieces) => pieces,
        }
    }

    pub(in crate::serve) fn start(&self, is_head_request: bool) -> ResponseStart {
        ResponseStart {
            status: self.status.as_u16(),
            is_interim: false,
            is_over: is_head_request || self.pieces().is_empty(),
            is_websocket: false,
            is_chunked: false,
            hint: None,
        }
    }

    pub(super) fn head(&self) -> ResponseView<'_> {
        let fields = match &self.fields {
            StoredFields::Kept(kept) => &kept.fields,
            StoredFields::Own(fields) => fields,
        };
        let body = if self.pieces().is_empty() { BodyKind::Empty } else { BodyKind::Length };
        ResponseView::of_map(self.status, fields, body)
    }

    /// The next piece, which is not copied.
    pub(super) fn part(&mut self) -> Result<Part, Failure> {
        let pieces = self.pieces();
        let Some(piece) = pieces.get(self.gone) else { return Ok(Part::End(None)) };
        let (length, is_last) = (piece.len() as u64, self.gone + 1 == pieces.len());
        let piece = Piece::Bytes(piece.clone());
        self.gone += 1;
        Ok(Part::Data { piece, length, is_last })
    }
}
