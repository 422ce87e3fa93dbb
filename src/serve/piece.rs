//! A part of a body on its way.

use crate::edge::Buffer;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

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

/// As many slices go out by one system call.
pub(super) const MOST_SLICES: usize = 96;
/// As many bytes of a body wait for that, when no more has to be waited for.
const GATHERED: usize = 1 << 20;

/// What waits to be written to a connection: heads and what else is made here, and behind it pieces of a body, which are not
/// copied.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) bytes: Vec<u8>,
    /// How many of them the connection has taken.
    taken: usize,
    piece: Option<Piece>,
    /// What comes behind it.
    more: VecDeque<Piece>,
    /// The bytes of all pieces.
    waiting_pieces: usize,
}

impl Outgoing {
    /// Waits behind a head.
    pub(super) fn new(head: Vec<u8>) -> Self {
        Self { bytes: head, ..Self::default() }
    }

    /// Waits behind what waits already. What is made here goes before all pieces.
    pub(super) fn push(&mut self, piece: Piece) {
        self.waiting_pieces += piece.data().len();
        match self.piece {
            None => self.piece = Some(piece),
            Some(_) => self.more.push_back(piece),
        }
    }

    /// Whether another piece goes out by the same system call.
    pub(super) fn takes_more(&self) -> bool {
        self.waiting_pieces < GATHERED && self.more.len() < MOST_SLICES - 2
    }

    /// What is next to be written, one behind the other.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [&self.bytes[self.taken..], self.piece.as_ref().map_or(&[], Piece::data)]
    }

    /// Whether that is not all.
    pub(super) fn is_gathered(&self) -> bool {
        !self.more.is_empty()
    }

    /// All that is to be written. Returns how many of the slices it takes.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MOST_SLICES]) -> usize {
        let made = Some(&self.bytes[self.taken..]).filter(|made| !made.is_empty());
        let pieces = self.piece.iter().chain(&self.more).map(Piece::data);
        let all = slices.iter_mut().zip(made.into_iter().chain(pieces));
        all.map(|(slice, bytes)| *slice = IoSlice::new(bytes)).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting_pieces == 0 && self.waiting() == 0
    }

    pub(super) fn has_piece(&self) -> bool {
        self.piece.is_some()
    }

    /// How many of the bytes made here still wait.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// The connection has taken the first `n`.
    pub(super) fn take(&mut self, n: usize) {
        let of_bytes = n.min(self.waiting());
        self.taken += of_bytes;
        let mut left = n - of_bytes;
        self.waiting_pieces -= left;
        while left > 0
            && let Some(piece) = &mut self.piece
        {
            let of_piece = left.min(piece.data().len());
            piece.consume(of_piece);
            left -= of_piece;
            if piece.is_empty() {
                self.piece = self.more.pop_front();
            }
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
        for (step, n) in (1..12).flat_map(|step| (0..4).map(move |n| (step, n))) {
            let mut outgoing = Outgoing::new(b"head".to_vec());
            (0..n).for_each(|_| outgoing.push(Piece::Bytes(Bytes::from_static(b"body"))));
            let mut written = Vec::new();
            while !outgoing.is_empty() {
                let mut slices = [IoSlice::new(&[]); MOST_SLICES];
                let count = outgoing.slices(&mut slices);
                assert!(slices[..count].iter().all(|slice| !slice.is_empty()), "{step} {n}");
                let waiting: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                let parts = outgoing.parts().concat();
                assert!(waiting.starts_with(&parts), "{step} {n}");
                assert_eq!(parts.len() < waiting.len(), outgoing.is_gathered(), "{step} {n}");
                let taken = step.min(waiting.len());
                written.extend_from_slice(&waiting[..taken]);
                outgoing.take(taken);
            }
            assert_eq!(written, ["head", &"body".repeat(n)].concat().as_bytes(), "{step} at a time");
            assert!(outgoing.piece.is_none() && outgoing.bytes.is_empty() && outgoing.waiting() == 0);
        }
        let mut outgoing = Outgoing::new(b"head".to_vec());
        outgoing.take(1);
        assert_eq!((outgoing.waiting(), outgoing.into_bytes()), (3, b"ead".to_vec()));
    }

    #[test]
    fn no_more_is_gathered_than_one_system_call_takes() {
        for (size, most) in [(1, MOST_SLICES - 1), (GATHERED / 4, 4), (GATHERED * 2, 1)] {
            let mut outgoing = Outgoing::new(b"head".to_vec());
            let mut n = 0;
            while outgoing.takes_more() {
                outgoing.push(Piece::Bytes(Bytes::from(vec![b'x'; size])));
                n += 1;
            }
            assert_eq!(n, most, "{size}");
            let mut slices = [IoSlice::new(&[]); MOST_SLICES];
            assert_eq!(outgoing.slices(&mut slices), n + 1, "{size}");
        }
    }
}
