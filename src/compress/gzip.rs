//! gzip, by zlib-ng.

use flate2::{Compress, Compression, FlushCompress, Status};

/// The whole window that deflate has: half of it takes a tenth from what is saved, and saves a fifth of the memory.
const WINDOW_BITS: u8 = 15;
/// Room for what comes of one call; more than the few bytes of a flush, which would come twice otherwise.
const ROOM: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct Gzip(Compress);

impl Gzip {
    pub(super) fn new(level: u8) -> Self {
        Self(Compress::new_gzip(Compression::new(level.into()), WINDOW_BITS))
    }

    pub(super) fn put(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Option<()> {
        while !input.is_empty() {
            let before = self.0.total_in();
            self.step(input, out, FlushCompress::None)?;
            input = &input[usize::try_from(self.0.total_in() - before).ok()?..];
        }
        Some(())
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Option<()> {
        loop {
            self.step(&[], out, FlushCompress::Sync)?;
            if out.len() < out.capacity() {
                return Some(());
            }
        }
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Option<()> {
        while self.step(&[], out, FlushCompress::Finish)? != Status::StreamEnd {}
        Some(())
    }

    fn step(&mut self, input: &[u8], out: &mut Vec<u8>, flush: FlushCompress) -> Option<Status> {
        out.reserve(ROOM);
        self.0.compress_vec(input, out, flush).ok()
    }

    pub(super) fn reset(&mut self) {
        self.0.reset();
    }
}
