//! Compressed forms of a response that is kept: each is made once, when clients have asked for it a few times, and goes where the
//! response goes. What counts as its weight is set where it is added, under the lock of its key (`Store::keep_coded`).

use super::weight::pieces;
use crate::config::plan::compress::Encoding;
use bytes::Bytes;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// So often a response is compressed for a client before that is worth keeping.
const HITS: u8 = 3;
/// What a form takes beside its bytes.
const OWN: u64 = 128;

/// A body in a coding.
#[derive(Clone, Debug)]
pub(crate) struct CodedBody {
    pub(crate) pieces: Arc<[Bytes]>,
    /// Bytes of them all.
    pub(crate) length: u64,
}

/// The forms of one response, whatever its head.
#[derive(Debug, Default)]
pub(crate) struct Coded {
    hits: [AtomicU8; Encoding::ALL.len()],
    /// Most responses have none.
    bodies: OnceLock<Box<[OnceLock<CodedBody>; Encoding::ALL.len()]>>,
}

impl Coded {
    /// The form in a coding, if there is one.
    pub(crate) fn body(&self, encoding: Encoding) -> Option<&CodedBody> {
        self.bodies.get()?[encoding as usize].get()
    }

    /// Notes that the response is compressed for a client. Whether it is to be done once more, to be kept: it is so for one only.
    pub(crate) fn is_due(&self, encoding: Encoding) -> bool {
        let more = |hits: u8| (hits < HITS).then_some(hits + 1);
        self.hits[encoding as usize].fetch_update(Relaxed, Relaxed, more) == Ok(HITS - 1)
    }

    /// It came to nothing this time: as many are to ask before it is tried again.
    pub(crate) fn count_anew(&self, encoding: Encoding) {
        self.hits[encoding as usize].store(0, Relaxed);
    }

    pub(super) fn keep(&self, encoding: Encoding, body: CodedBody) {
        let _ = self.bodies.get_or_init(Box::default)[encoding as usize].set(body);
    }

    /// The codings that there are, with how many bytes each has.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Encoding, u64)> {
        Encoding::ALL.into_iter().filter_map(|encoding| Some((encoding, self.body(encoding)?.length)))
    }

    pub(super) fn weight(&self) -> u64 {
        Encoding::ALL
            .into_iter()
            .filter_map(|one| self.body(one))
            .map(|body| OWN + pieces(&body.pieces))
            .sum()
    }
}

/// What has become of a compression that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodedResult {
    Kept,
    /// It is no shorter than what it was made of.
    NotShorter,
    /// Longer than is compressed for that.
    TooLong,
    /// What is on its way into the cache left it no room.
    NoRoom,
    /// The response has gone, or another has taken its place.
    Gone,
    /// Too many waited for it.
    Busy,
    /// The codec, or its thread.
    Failed,
}

impl CodedResult {
    pub const ALL: [Self; 7] =
        [Self::Kept, Self::NotShorter, Self::TooLong, Self::NoRoom, Self::Gone, Self::Busy, Self::Failed];

    /// As metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::NotShorter => "not_shorter",
            Self::TooLong => "too_long",
            Self::NoRoom => "no_room",
            Self::Gone => "gone",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }

    /// Whether the next time may come to more.
    pub(crate) fn may_pass(self) -> bool {
        matches!(self, Self::NoRoom | Self::Gone | Self::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::super::weight::PIECE;
    use super::*;

    #[test]
    fn the_third_client_in_a_coding_has_it_kept_and_no_other() {
        let coded = Coded::default();
        let due = |encoding| (0..5).map(|_| coded.is_due(encoding)).collect::<Vec<_>>();
        assert_eq!(due(Encoding::Gzip), [false, false, true, false, false]);
        assert_eq!(due(Encoding::Br), [false, false, true, false, false]);
        coded.count_anew(Encoding::Br);
        assert_eq!((due(Encoding::Br)[2], due(Encoding::Gzip)), (true, vec![false; 5]));
    }

    #[test]
    fn a_form_is_kept_once_and_weighs_what_it_is() {
        let coded = Coded::default();
        assert_eq!((coded.weight(), coded.each().count()), (0, 0));
        for (encoding, length) in [(Encoding::Gzip, 7), (Encoding::Zstd, 5), (Encoding::Gzip, 9)] {
            let pieces = Arc::from([Bytes::from(vec![b'x'; length])]);
            coded.keep(encoding, CodedBody { pieces, length: length as u64 });
        }
        assert_eq!(coded.each().collect::<Vec<_>>(), [(Encoding::Zstd, 5), (Encoding::Gzip, 7)]);
        assert_eq!(coded.weight(), 2 * (OWN + PIECE) + 12);
        assert!(coded.body(Encoding::Br).is_none());
    }
}
