//! What a core compresses with. Encoders are large and take long to make: some are kept, and there are only as many at once as
//! the process has room for.

use crate::compress::Encoder;
use crate::config::plan::compress::{CompressPlan, Encoding};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Memory that all have together, for each that a core may have.
const MEMORY_EACH: usize = 256 * 1024;
/// However few there may be, there is room for one of any coding.
const LEAST_MEMORY: usize = 2 * Encoder::memory(Encoding::Br, u8::MAX);
/// Memory of those that a core keeps while nobody has them. To make one anew takes as long as to compress some KiB, and responses come in
/// bursts.
const KEPT: usize = 8 << 20;

thread_local! {
    static FREE: RefCell<Vec<Encoder>> = const { RefCell::new(Vec::new()) };
    /// By this core.
    static LENT: Cell<u32> = const { Cell::new(0) };
}

/// Of the encoders lent, by all cores.
static MEMORY: AtomicUsize = AtomicUsize::new(0);

/// An encoder on loan to one response.
#[derive(Debug)]
pub(super) struct Compressor {
    /// `None` once it is broken.
    encoder: Option<Encoder>,
    encoding: Encoding,
    memory: usize,
}

impl Compressor {
    /// The first of these codings that there is room for; `most` is `process.compressors`.
    pub(super) fn take(encodings: &[Encoding], plan: &CompressPlan, most: u32) -> Option<Self> {
        if LENT.get() >= most {
            return None;
        }
        let (encoding, memory) = encodings.iter().find_map(|encoding| {
            let memory = Encoder::memory(*encoding, plan.level.of(*encoding));
            reserve(*encoding, memory, most as usize).then_some((*encoding, memory))
        })?;
        LENT.set(LENT.get() + 1);
        let mut compressor = Self { encoder: None, encoding, memory };
        compressor.encoder = free(encoding, plan.level.of(encoding));
        // Where it could not be made, dropping it gives its room back.
        compressor.encoder.is_some().then_some(compressor)
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(super) fn encoder(&mut self) -> Option<&mut Encoder> {
        self.encoder.as_mut()
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        LENT.set(LENT.get().saturating_sub(1));
        MEMORY.fetch_sub(self.memory, Relaxed);
        if let Some(mut encoder) = self.encoder.take()
            && encoder.reset()
        {
            // A thread that is ending has no list any more.
            let _ = FREE.try_with(|free| {
                let mut free = free.borrow_mut();
                free.push(encoder);
                while memory_of(&free) > KEPT {
                    free.remove(0);
                }
            });
        }
    }
}

fn memory_of(encoders: &[Encoder]) -> usize {
    encoders.iter().map(|encoder| Encoder::memory(encoder.encoding(), encoder.level())).sum()
}

/// One that was kept, or a new one.
fn free(encoding: Encoding, level: u8) -> Option<Encoder> {
    FREE.with_borrow_mut(|free| {
        let fits = |encoder: &Encoder| (encoder.encoding(), encoder.level()) == (encoding, level);
        free.iter().rposition(fits).map(|at| free.remove(at))
    })
    .or_else(|| Encoder::new(encoding, level))
}

/// Takes the memory that one has, if there is so much. Those that have most leave half of it to gzip, which every client takes.
fn reserve(encoding: Encoding, memory: usize, most: usize) -> bool {
    let room = (most * MEMORY_EACH).max(LEAST_MEMORY);
    let room = if encoding == Encoding::Gzip { room } else { room / 2 };
    let with_it = |taken| Some(taken + memory).filter(|taken| *taken <= room);
    MEMORY.fetch_update(Relaxed, Relaxed, with_it).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::compress::CompressLevels;

    /// What is lent of these codings while there is room, in one test as all share the memory.
    fn lent(encodings: &[Encoding], most: u32) -> Vec<Compressor> {
        let plan = CompressPlan {
            encodings: Vec::new(),
            min: 0,
            types: Vec::new(),
            level: CompressLevels { gzip: 4, br: 4, zstd: 3 },
            streams: false,
        };
        std::iter::from_fn(|| Compressor::take(encodings, &plan, most)).collect()
    }

    #[test]
    fn memory_is_bounded_and_a_smaller_coding_takes_what_a_larger_one_leaves() {
        let count =
            |lent: &[Compressor], encoding| lent.iter().filter(|one| one.encoding() == encoding).count();
        let of_64_mib = |encoding| (64 << 20) / Encoder::memory(encoding, 4);
        assert_eq!(lent(&[Encoding::Gzip], 256).len(), of_64_mib(Encoding::Gzip));
        assert_eq!(lent(&[Encoding::Br], 256).len(), of_64_mib(Encoding::Br) / 2);
        let all = lent(&Encoding::ALL, 256);
        assert_eq!(count(&all, Encoding::Zstd), of_64_mib(Encoding::Zstd) / 2);
        assert!(count(&all, Encoding::Gzip) >= of_64_mib(Encoding::Gzip) / 2);
        assert!(MEMORY.load(Relaxed) <= 64 << 20);
        drop(all);
        for encoding in Encoding::ALL {
            assert_eq!(lent(&[encoding], 1).len(), 1, "{encoding:?}");
        }
        assert_eq!(lent(&[Encoding::Gzip], 3).len(), 3);
        assert!(lent(&Encoding::ALL, 0).is_empty());
        assert_eq!((MEMORY.load(Relaxed), LENT.get()), (0, 0));
        let kept = FREE.with_borrow(|free| memory_of(free));
        assert!(kept <= KEPT && kept > KEPT - (2 << 20), "{kept}");
    }
}
