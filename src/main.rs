//! The binary: an allocator that gives memory back, and the command line.
//!
//! An allocator is the one thing here that needs `unsafe`: each of its functions passes on to mimalloc what
//! the caller has promised, and adds nothing.
#![allow(unsafe_code)]

use libmimalloc_sys as mimalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// mimalloc by its short way. The crate's own adapter takes the way for unusual alignments for every
/// allocation; a proxied request makes 90 of them.
struct Allocator;

/// mimalloc aligns every block to this at least.
const USUAL: usize = 8;

// SAFETY: mimalloc keeps `GlobalAlloc`'s contract; sizes and alignments are passed on as they are.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= USUAL {
            unsafe { mimalloc::mi_malloc(layout.size()).cast() }
        } else {
            unsafe { mimalloc::mi_malloc_aligned(layout.size(), layout.align()).cast() }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { mimalloc::mi_zalloc_aligned(layout.size(), layout.align()).cast() }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        unsafe { mimalloc::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= USUAL {
            unsafe { mimalloc::mi_realloc(block.cast(), size).cast() }
        } else {
            unsafe { mimalloc::mi_realloc_aligned(block.cast(), size, layout.align()).cast() }
        }
    }
}

fn give_back() {
    // SAFETY: it has no preconditions; it looks at the calling thread's own free memory.
    unsafe { mimalloc::mi_collect(true) }
}

fn main() -> ExitCode {
    evenkeel::memory::give_back_by(give_back);
    evenkeel::cli::main()
}
