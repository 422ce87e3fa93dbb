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

/// What waits to be written to a connection: heads and what else is made here, and behind it a piece of a body, which is not
/// copied.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) bytes: Vec<u8>,
    /// How many of them the connection has taken.
    taken: usize,
    pub(super) piece: Option<Piece>,
}

impl Outgoing {
    /// Waits behind a head.
    pub(super) fn new(head: Vec<u8>) -> Self {
        Self { bytes: head, taken: 0, piece: None }
    }

    /// What is next to be written, one behind the other.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [&self.bytes[self.taken..], self.piece.as_ref().map_or(&[], Piece::data)]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts() == [b"", b""]
    }

    /// How many of the bytes made here still wait.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// The connection has taken the first `n`.
    pub(super) fn take(&mut self, n: usize) {
        let of_bytes = n.min(self.waiting());
        self.taken += of_bytes;
        if let Some(piece) = &mut self.piece {
            piece.consume(n - of_bytes);
        }
        if self.is_empty() {
            self.piece = None;
            self.bytes.clear();
            self.taken = 0;
        }
    }

    /// The bytes made here that still wait.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.split_off(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_before_the_piece_however_much_is_taken_at_a_time() {
        for step in 1..8 {
            let mut outgoing = Outgoing::new(b"head".to_vec());
            outgoing.piece = Some(Piece::Bytes(Bytes::from_static(b"body")));
            let mut written = Vec::new();
            while !outgoing.is_empty() {
                let waiting: Vec<u8> = outgoing.parts().concat();
                let n = step.min(waiting.len());
                written.extend_from_slice(&waiting[..n]);
                outgoing.take(n);
            }
            assert_eq!(written, b"headbody", "{step} at a time");
            assert!(outgoing.piece.is_none() && outgoing.bytes.is_empty() && outgoing.waiting() == 0);
        }
        let mut outgoing = Outgoing::new(b"head".to_vec());
        outgoing.take(1);
        assert_eq!((outgoing.waiting(), outgoing.into_bytes()), (3, b"ead".to_vec()));
    }
}
