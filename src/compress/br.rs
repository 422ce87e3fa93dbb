//! Brotli. Its encoder cannot begin again: each response has one of its own, whose memory is the allocator's to keep.

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{
    BrotliEncoderCompressStream, BrotliEncoderCreateInstance, BrotliEncoderDestroyInstance,
    BrotliEncoderHasMoreOutput, BrotliEncoderOperation as Operation, BrotliEncoderParameter as Parameter,
    BrotliEncoderSetParameter, BrotliEncoderStateStruct, BrotliEncoderTakeOutput,
};

/// 256 KiB.
const WINDOW_BITS: u32 = 18;
/// What an encoder has collected is given out so often: of a whole window's commands it would take another 3 MiB and keep a core for
/// ten times as long at once, and save 1 %.
const META_BLOCK: usize = 16 * 1024;

pub(super) struct Br {
    state: BrotliEncoderStateStruct<StandardAlloc>,
    /// Bytes since it was last made to give out what it has.
    collected: usize,
}

impl std::fmt::Debug for Br {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Br").finish_non_exhaustive()
    }
}

impl Br {
    pub(super) fn new(level: u8) -> Self {
        let mut state = BrotliEncoderCreateInstance(StandardAlloc::default());
        BrotliEncoderSetParameter(&mut state, Parameter::BROTLI_PARAM_QUALITY, level.into());
        BrotliEncoderSetParameter(&mut state, Parameter::BROTLI_PARAM_LGWIN, WINDOW_BITS);
        Self { state, collected: 0 }
    }

    pub(super) fn put(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<()> {
        for part in input.chunks(META_BLOCK) {
            self.collected += part.len();
            match self.collected >= META_BLOCK {
                true => self.give_out(part, out)?,
                false => self.step(Operation::BROTLI_OPERATION_PROCESS, part, out)?,
            }
        }
        Some(())
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.give_out(&[], out)
    }

    fn give_out(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.collected = 0;
        self.step(Operation::BROTLI_OPERATION_FLUSH, input, out)
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.step(Operation::BROTLI_OPERATION_FINISH, &[], out)
    }

    fn step(&mut self, operation: Operation, input: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (mut left, mut at) = (input.len(), 0);
        loop {
            // It has memory of its own for what comes, which is taken from there.
            let done = BrotliEncoderCompressStream(
                &mut self.state,
                operation,
                &mut left,
                input,
                &mut at,
                &mut 0,
                &mut [],
                &mut 0,
                &mut None,
                &mut |_, _, _, _| (),
            );
            if done == 0 {
                return None;
            }
            let mut size = 0;
            let given = BrotliEncoderTakeOutput(&mut self.state, &mut size);
            out.extend_from_slice(given.get(..size)?);
            if left == 0 && BrotliEncoderHasMoreOutput(&self.state) == 0 {
                return Some(());
            }
        }
    }
}

impl Drop for Br {
    fn drop(&mut self) {
        BrotliEncoderDestroyInstance(&mut self.state);
    }
}
