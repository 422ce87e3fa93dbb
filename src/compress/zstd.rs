//! Zstandard.

use zstd_safe::zstd_sys::ZSTD_EndDirective as Directive;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

/// 128 KiB; decoders must have room for 8 MiB (RFC 9659).
const WINDOW_BITS: u32 = 17;
/// Tables that stay in a core's cache: with those of level 3 it takes 0.7 MiB more, is a fifth slower, and saves 1 % more.
const HASH_BITS: u32 = 14;
const CHAIN_BITS: u32 = 13;
/// Room for what comes of one call.
const ROOM: usize = 16 * 1024;

pub(super) struct Zstd(CCtx<'static>);

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zstd").finish_non_exhaustive()
    }
}

impl Zstd {
    /// `None` where there is no memory for it.
    pub(super) fn new(level: u8) -> Option<Self> {
        let mut context = CCtx::try_create()?;
        let parameters = [
            CParameter::CompressionLevel(level.into()),
            CParameter::WindowLog(WINDOW_BITS),
            CParameter::HashLog(HASH_BITS),
            CParameter::ChainLog(CHAIN_BITS),
        ];
        for parameter in parameters {
            context.set_parameter(parameter).ok()?;
        }
        Some(Self(context))
    }

    pub(super) fn put(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut input = InBuffer::around(input);
        while input.pos < input.src.len() {
            self.step(&mut input, out, Directive::ZSTD_e_continue)?;
        }
        Some(())
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Option<()> {
        while self.step(&mut InBuffer::around(&[]), out, Directive::ZSTD_e_flush)? > 0 {}
        Some(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Option<()> {
        while self.step(&mut InBuffer::around(&[]), out, Directive::ZSTD_e_end)? > 0 {}
        Some(())
    }

    /// Returns how much still waits to be given out, at least.
    fn step(&mut self, input: &mut InBuffer<'_>, out: &mut Vec<u8>, directive: Directive) -> Option<usize> {
        out.reserve(ROOM);
        let at = out.len();
        self.0.compress_stream2(&mut OutBuffer::around_pos(out, at), input, directive).ok()
    }

    /// Whether it can be used again.
    pub(super) fn reset(&mut self) -> bool {
        self.0.reset(ResetDirective::SessionOnly).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::Encoder;
    use crate::config::plan::compress::Encoding;

    #[test]
    fn it_takes_no_more_memory_than_it_is_counted_with() {
        for level in 1..=12 {
            let mut zstd = Zstd::new(level).expect("there is memory");
            for _ in 0..100 {
                zstd.put(&[1; 16 * 1024], &mut Vec::new()).expect("it takes it");
            }
            assert!(
                zstd.0.sizeof() + 32 * 1024 <= Encoder::memory(Encoding::Zstd, level),
                "{level}: {}",
                zstd.0.sizeof()
            );
        }
    }
}
