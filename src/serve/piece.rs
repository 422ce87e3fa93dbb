//! A part of a body on its way.

use crate::edge::Buffer;
use bytes::Bytes;

/// Bytes of a body, in whichever form they came: a core's buffer, or an HTTP/2 frame's data.
#[derive(Debug)]
pub(super) enum Piece {
    Buffer(Buffer),
    Bytes(Bytes),
}

impl Piece {
    pub(super) fn data(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer) => buffer.data(),
            Self::Bytes(bytes) => bytes,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data().is_empty()
    }

    /// The first `n` bytes are done with.
    pub(super) fn consume(&mut self, n: usize) {
        match self {
            Self::Buffer(buffer) => buffer.consume(n),
            Self::Bytes(bytes) => drop(bytes.split_to(n)),
        }
    }

    /// The same, so that it can be held for as long as it takes.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Buffer(buffer) => Bytes::copy_from_slice(buffer.data()),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// The data of a piece there may be.
pub(super) fn data_of(piece: Option<&Piece>) -> &[u8] {
    piece.map_or(&[], Piece::data)
}
