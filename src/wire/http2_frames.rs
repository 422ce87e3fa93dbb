//! Finds HTTP/2 frames in bytes that pass by, of which none is kept but a frame's head, and looks into header blocks.

use crate::wire::header_blocks::{BlockFacts, HeaderBlocks, Sender};

/// A frame's head (RFC 9113 section 4.1).
const HEAD: usize = 9;
/// What is looked at after it: RST_STREAM's code, and GOAWAY's with the beginning of its debug data.
const RESET: usize = 4;
const FAREWELL_CODE: usize = 8;
const FAREWELL: usize = FAREWELL_CODE + 16;
/// What may stand before a header block: the length of padding, and a priority.
const PAD_LENGTH: usize = 1;
const PRIORITY_FIELDS: usize = 5;
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITIZED: u8 = 0x20;

/// What is judged of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// Of RST_STREAM and GOAWAY.
    pub(super) code: u32,
    /// Of DATA: bytes of padding, with their number.
    pub(super) padding: u32,
}

/// A header block that has passed, CONTINUATION and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderBlock {
    pub(crate) stream: u32,
    pub(crate) facts: BlockFacts,
}

/// What is found.
pub(super) enum Found {
    /// A frame's head; the rest of it is still to come.
    Frame(Frame),
    /// A header block's end.
    Block(HeaderBlock),
}

/// Finds frames in a stream of bytes.
#[derive(Debug)]
pub(super) struct Scanner {
    head: [u8; HEAD + FAREWELL],
    have: usize,
    skip: u32,
    /// Looks into header blocks, if somebody wants to know what they have.
    blocks: Option<HeaderBlocks>,
    /// The stream whose block comes, and how much of what is skipped belongs to it.
    block_stream: u32,
    block_bytes: u32,
    /// The present frame ends the block.
    ends_block: bool,
}

impl Scanner {
    pub(super) fn after(skip: u32, blocks: Option<HeaderBlocks>) -> Self {
        let head = [0; HEAD + FAREWELL];
        Self { head, have: 0, skip, blocks, block_stream: 0, block_bytes: 0, ends_block: false }
    }

    /// How the debug data of the GOAWAY that was just found begins.
    pub(super) fn debug_data(&self) -> &[u8] {
        &self.head[HEAD + FAREWELL_CODE..]
    }

    /// How much stands before the header block in the frame whose head is there.
    fn before_block(&self) -> usize {
        let flags = self.head[4];
        let has = |flag: u8, length: usize| if flags & flag != 0 { length } else { 0 };
        has(PADDED, PAD_LENGTH) + has(PRIORITIZED, PRIORITY_FIELDS)
    }

    /// How much is needed of the frame whose head is there.
    fn need(&self) -> usize {
        if self.have < HEAD {
            return HEAD;
        }
        let length = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize;
        HEAD + match self.head[3] {
            RST_STREAM => length.min(RESET),
            GOAWAY => length.min(FAREWELL),
            HEADERS => length.min(self.before_block()),
            DATA if self.head[4] & PADDED != 0 => length.min(1),
            _ => 0,
        }
    }

    /// Passes over what is left of a frame: how many bytes that took.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let skipped = bytes.len().min(self.skip as usize);
        self.skip -= skipped as u32;
        let of_block = skipped.min(self.block_bytes as usize);
        self.block_bytes -= of_block as u32;
        if let Some(blocks) = &mut self.blocks {
            blocks.read(&bytes[..of_block]);
        }
        skipped
    }

    /// The same as `next`, and what the codec would end the connection for is changed.
    pub(super) fn next_mended(&mut self, bytes: &mut [u8]) -> (usize, Option<Found>) {
        let next = self.next(bytes);
        let mends = self.blocks.as_ref().map_or(&[][..], HeaderBlocks::mends);
        mends.iter().for_each(|mend| mend.apply(bytes));
        next
    }

    /// Notes a frame that a header block is in, of whose head `before` bytes have passed.
    fn enter_block(&mut self, frame: &Frame, before: usize) {
        let Some(blocks) = &mut self.blocks else { return };
        let mut padding = 0;
        if frame.kind == HEADERS {
            blocks.begin();
            self.block_stream = frame.stream;
            if frame.flags & PADDED != 0 && before > 0 {
                padding = u32::from(self.head[HEAD]);
            }
        }
        self.block_bytes = (frame.length - before as u32).saturating_sub(padding);
        self.ends_block = frame.flags & END_HEADERS != 0;
    }

    /// The next frame whose head is complete or the end of the header block before it, and how many bytes that took.
    pub(super) fn next(&mut self, bytes: &[u8]) -> (usize, Option<Found>) {
        let mut at = self.pass(bytes);
        if self.skip == 0
            && std::mem::take(&mut self.ends_block)
            && let Some(blocks) = &self.blocks
        {
            return (
                at,
                Some(Found::Block(HeaderBlock { stream: self.block_stream, facts: blocks.found() })),
            );
        }
        loop {
            let need = self.need();
            if self.have == need {
                break;
            }
            let n = (need - self.have).min(bytes.len() - at);
            if n == 0 {
                return (at, None);
            }
            self.head[self.have..self.have + n].copy_from_slice(&bytes[at..at + n]);
            self.have += n;
            at += n;
        }
        let word = |at: usize| {
            u32::from_be_bytes([self.head[at], self.head[at + 1], self.head[at + 2], self.head[at + 3]])
        };
        let length = word(0) >> 8;
        let (kind, flags) = (self.head[3], self.head[4]);
        let code = match (kind, length) {
            (RST_STREAM, 4) => word(HEAD),
            (GOAWAY, 8..) => word(HEAD + 4),
            _ => 0,
        };
        let padding = match kind {
            DATA if flags & PADDED != 0 && length > 0 => 1 + u32::from(self.head[HEAD]),
            _ => 0,
        };
        let frame = Frame { length, kind, flags, stream: word(5) & 0x7fff_ffff, code, padding };
        let have = self.have - HEAD;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.enter_block(&frame, have);
        }
        self.skip = length - have as u32;
        self.have = 0;
        (at, Some(Found::Frame(frame)))
    }
}

/// What a server sends.
#[derive(Debug)]
pub(crate) struct ServerFrames {
    frames: Scanner,
}

impl ServerFrames {
    /// For a connection whose first byte is still to come.
    pub(crate) fn new() -> Self {
        Self { frames: Scanner::after(0, Some(HeaderBlocks::new(Sender::Server))) }
    }

    /// Bytes from the server, and who is told of the header blocks that end among them. What the codec would end the connection
    /// for is changed: the block's facts tell of it.
    pub(crate) fn read(&mut self, mut bytes: &mut [u8], mut end_of_block: impl FnMut(HeaderBlock)) {
        loop {
            let (n, found) = self.frames.next_mended(bytes);
            bytes = &mut bytes[n..];
            match found {
                Some(Found::Block(block)) => end_of_block(block),
                Some(Found::Frame(_)) => {}
                None => return,
            }
        }
    }
}
