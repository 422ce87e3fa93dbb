//! One response's encoder, whichever its coding.

use super::br::Br;
use super::gzip::Gzip;
use super::zstd::Zstd;
use crate::config::plan::compress::Encoding;

/// What compresses one response after the other. `None` of its methods is a fault of the codec's, after which it is of no use.
#[derive(Debug)]
pub(crate) struct Encoder {
    encoding: Encoding,
    level: u8,
    codec: Codec,
}

#[derive(Debug)]
enum Codec {
    Gzip(Gzip),
    Br(Box<Br>),
    Zstd(Zstd),
}

impl Encoder {
    /// `None` where there is no memory for it.
    pub(crate) fn new(encoding: Encoding, level: u8) -> Option<Self> {
        let codec = match encoding {
            Encoding::Gzip => Codec::Gzip(Gzip::new(level)),
            Encoding::Br => Codec::Br(Box::new(Br::new(level))),
            Encoding::Zstd => Codec::Zstd(Zstd::new(level)?),
        };
        Some(Self { encoding, level, codec })
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(crate) fn level(&self) -> u8 {
        self.level
    }

    /// Memory that one has while it compresses, with what waits to be sent of it and what the allocator adds: as processes with many
    /// of them were found to grow, rounded up.
    pub(crate) const fn memory(encoding: Encoding, level: u8) -> usize {
        match (encoding, level) {
            (Encoding::Gzip, _) => 576 * 1024,
            (Encoding::Zstd, _) => 1088 * 1024,
            (Encoding::Br, ..5) => 2304 * 1024,
            (Encoding::Br, _) => 4608 * 1024,
        }
    }

    /// Takes more of the body; what comes of it is added to `out`.
    pub(crate) fn put(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match &mut self.codec {
            Codec::Gzip(codec) => codec.put(input, out),
            Codec::Br(codec) => codec.put(input, out),
            Codec::Zstd(codec) => codec.put(input, out),
        }
    }

    /// Gives out all that it was given, so that whoever reads it has that.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> Option<()> {
        match &mut self.codec {
            Codec::Gzip(codec) => codec.flush(out),
            Codec::Br(codec) => codec.flush(out),
            Codec::Zstd(codec) => codec.flush(out),
        }
    }

    /// Gives out the rest, and what says that it is all.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Option<()> {
        match &mut self.codec {
            Codec::Gzip(codec) => codec.finish(out),
            Codec::Br(codec) => codec.finish(out),
            Codec::Zstd(codec) => codec.finish(out),
        }
    }

    /// Whether it can begin another response, and does.
    pub(crate) fn reset(&mut self) -> bool {
        match &mut self.codec {
            Codec::Gzip(codec) => {
                codec.reset();
                true
            }
            Codec::Br(_) => false,
            Codec::Zstd(codec) => codec.reset(),
        }
    }
}
