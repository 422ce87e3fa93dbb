//! What has come of a body on its way to the disk and is not there yet, in pieces: a part of them is written at once. Whoever follows
//! the body reads from here what the disk has not.

use super::format::PIECE;
use bytes::{Bytes, BytesMut};
use futures_channel::oneshot;

const PIECE_BYTES: usize = PIECE as usize;
/// Pieces of a part.
const PIECES: usize = 4;
/// What is written at once.
pub(super) const PART: usize = PIECES * PIECE_BYTES;

/// Pieces that follow each other, whole ones but for the body's last.
#[derive(Clone, Debug)]
pub(super) struct BodyPart {
    /// Where the first of them stands in the body.
    pub(super) from: u64,
    pub(super) pieces: Vec<Bytes>,
}

impl BodyPart {
    pub(super) fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// What it has from this place of the body on, within one piece.
    fn read(&self, from: u64) -> Option<Bytes> {
        let at = usize::try_from(from.checked_sub(self.from)?).ok()?;
        let piece = self.pieces.get(at / PIECE_BYTES)?;
        Some(piece.slice((at % PIECE_BYTES).min(piece.len())..)).filter(|bytes| !bytes.is_empty())
    }
}

/// What has come, and who waits for more.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// Bytes of the body so far.
    length: u64,
    /// What is being collected for the next part: whole pieces, and the beginning of one.
    next: Vec<Bytes>,
    tail: BytesMut,
    /// Parts that are being written.
    writing: Vec<BodyPart>,
    /// Who waits for what comes from this place on.
    waiting: Vec<(u64, oneshot::Sender<Bytes>)>,
    /// No more comes.
    is_over: bool,
}

impl Arrived {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Adds as much as belongs to the next part, and returns the others.
    pub(super) fn push<'a>(&mut self, mut data: &'a [u8]) -> &'a [u8] {
        while !data.is_empty() && !self.is_part() {
            if self.tail.capacity() == 0 {
                self.tail.reserve(PIECE_BYTES);
            }
            let (now, later) = data.split_at(data.len().min(PIECE_BYTES - self.tail.len()));
            self.tail.extend_from_slice(now);
            self.length += now.len() as u64;
            data = later;
            if self.tail.len() == PIECE_BYTES {
                self.next.push(std::mem::take(&mut self.tail).freeze());
            }
        }
        self.hand_out();
        data
    }

    /// Whether a part is there.
    pub(super) fn is_part(&self) -> bool {
        self.next.len() == PIECES
    }

    /// Takes what has come and is not being written yet.
    pub(super) fn take(&mut self) -> BodyPart {
        if !self.tail.is_empty() {
            self.next.push(std::mem::take(&mut self.tail).freeze());
        }
        let pieces = std::mem::take(&mut self.next);
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let part = BodyPart { from: self.length - length, pieces };
        self.writing.push(part.clone());
        part
    }

    /// The part that begins there is on the disk, or will never be.
    pub(super) fn written(&mut self, from: u64) {
        self.writing.retain(|part| part.from != from);
    }

    /// What stands there, or else whether it is on the disk; who is to wait for it does.
    pub(super) fn read(
        &mut self,
        from: u64,
        sender: oneshot::Sender<Bytes>,
    ) -> Option<oneshot::Sender<Bytes>> {
        match self.find(from) {
            Some(bytes) => _ = sender.send(bytes),
            None if from < self.length => return Some(sender),
            // Dropped, it says that no more comes.
            None if self.is_over => {}
            None => {
                // Those who have left take no room. Looked for only before more is taken.
                if self.waiting.len() == self.waiting.capacity() {
                    self.waiting.retain(|(_, sender)| !sender.is_canceled());
                }
                self.waiting.push((from, sender));
            }
        }
        None
    }

    /// Whether anybody waits for more.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.iter().any(|(_, sender)| !sender.is_canceled())
    }

    /// No more comes: who waits for it is told.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.waiting = Vec::new();
    }

    fn find(&self, from: u64) -> Option<Bytes> {
        if let Some(bytes) = self.writing.iter().find_map(|part| part.read(from)) {
            return Some(bytes);
        }
        let whole = self.next.len() as u64 * PIECE;
        let begin = self.length - whole - self.tail.len() as u64;
        let at = usize::try_from(from.checked_sub(begin)?).ok()?;
        match self.next.get(at / PIECE_BYTES) {
            Some(piece) => Some(piece.slice(at % PIECE_BYTES..)),
            None if at / PIECE_BYTES == self.next.len() => {
                let rest = self.tail.get(at % PIECE_BYTES..).filter(|rest| !rest.is_empty())?;
                Some(Bytes::copy_from_slice(rest))
            }
            None => None,
        }
    }

    /// Gives what has come to those who wait for it.
    fn hand_out(&mut self) {
        // Most wait for the same: what is copied is so once for all of them.
        let mut last: Option<(u64, Bytes)> = None;
        for (from, sender) in std::mem::take(&mut self.waiting) {
            let known = last.as_ref().filter(|(place, _)| *place == from).map(|(_, bytes)| bytes.clone());
            match known.or_else(|| self.find(from)) {
                Some(bytes) => {
                    last = Some((from, bytes.clone()));
                    let _ = sender.send(bytes);
                }
                // It cannot be on the disk yet.
                None => self.waiting.push((from, sender)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arrived: &mut Arrived, from: u64) -> Option<Bytes> {
        let (sender, mut receiver) = oneshot::channel();
        assert!(arrived.read(from, sender).is_none(), "it is not on the disk");
        receiver.try_recv().ok().flatten()
    }

    #[test]
    fn what_has_come_is_read_from_wherever_it_is_until_the_disk_has_it() {
        let body: Vec<u8> = (0..PART + PIECE_BYTES + 100).map(|n| (n / 7) as u8).collect();
        let mut arrived = Arrived::default();
        let (sender, mut waits) = oneshot::channel();
        assert!(arrived.read(5, sender).is_none() && arrived.is_awaited());
        assert!(arrived.push(&body[..5]).is_empty());
        assert!(waits.try_recv().is_ok_and(|came| came.is_none()), "not yet");
        assert!(arrived.push(&body[5..20]).is_empty());
        assert_eq!(waits.try_recv().ok().flatten().as_deref(), Some(&body[5..20]));
        let rest = arrived.push(&body[20..]);
        assert!(rest == &body[PART..] && arrived.is_part(), "a part at a time");
        let part = arrived.take();
        assert_eq!((part.from, part.length(), arrived.writing.len()), (0, PART as u64, 1));
        assert!(arrived.push(rest).is_empty() && !arrived.is_part());
        for from in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PART - 1, PART, PART + PIECE_BYTES, body.len() - 1] {
            let bytes = read(&mut arrived, from as u64).expect("it has come");
            assert!(body[from..].starts_with(&bytes) && bytes.len() <= PIECE_BYTES, "{from}");
        }
        arrived.written(0);
        let (sender, _receiver) = oneshot::channel();
        assert!(arrived.read(PART as u64 - 1, sender).is_some(), "the disk has it");
        assert!(read(&mut arrived, PART as u64).is_some());
        let last = arrived.take();
        assert_eq!((last.from, last.length()), (PART as u64, (PIECE_BYTES + 100) as u64));
        assert_eq!(
            read(&mut arrived, (PART + PIECE_BYTES + 99) as u64).as_deref(),
            Some(&body[body.len() - 1..])
        );
        let (sender, mut waits) = oneshot::channel();
        assert!(arrived.read(body.len() as u64, sender).is_none());
        arrived.end();
        assert!(waits.try_recv().is_err(), "no more comes");
    }
}
