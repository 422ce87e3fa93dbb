//! Buffers that a core lends to whatever has bytes to move just now.
//!
//! An exchange holds one only while it has bytes in hand: most responses come and go within one wake-up, so
//! thousands of exchanges under way share a few buffers, which stay warm in the cache.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

/// Holds a large response's share of a socket's receive buffer, and most responses whole.
const SIZE: usize = 64 * 1024;
/// Spare buffers that a core keeps.
const SPARE: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer on loan.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty one.
    pub(crate) fn take() -> Self {
        let bytes = FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
        Self { bytes, start: 0, end: 0 }
    }

    /// Read and not yet consumed.
    pub(crate) fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether nothing more fits in.
    pub(crate) fn is_full(&self) -> bool {
        self.data().len() == self.bytes.len()
    }

    /// Has room for more, up to `most` bytes in all; false if it has as many already. It is not lent again then.
    pub(crate) fn grow(&mut self, most: usize) -> bool {
        let size = self.bytes.len();
        if size >= most {
            return false;
        }
        let mut bytes = vec![0; (2 * size).min(most)].into_boxed_slice();
        let end = self.data().len();
        bytes[..end].copy_from_slice(self.data());
        *self = Self { bytes, start: 0, end };
        true
    }

    /// The first `n` bytes are done with.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
    }

    /// What lies beyond the first `n` bytes is dropped.
    pub(crate) fn truncate(&mut self, n: usize) {
        self.end = self.start + n;
    }

    /// Adds what `read` brings, and says how much that was.
    pub(crate) fn fill(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start.., 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(read(cx, &mut room))?;
        let n = room.filled().len();
        self.end += n;
        Poll::Ready(Ok(n))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // A thread that is ending has no list any more.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < SPARE && bytes.len() == SIZE {
                free.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_lent_again() {
        let first = Buffer::take();
        let place = first.bytes.as_ptr();
        drop(first);
        assert_eq!(Buffer::take().bytes.as_ptr(), place);
        drop((0..2 * SPARE).map(|_| Buffer::take()).collect::<Vec<_>>());
        assert_eq!(FREE.with_borrow(Vec::len), SPARE);
    }

    #[test]
    fn a_buffer_that_has_grown_has_what_it_had_and_is_not_lent_again() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut buffer = Buffer::take();
        let mut fill = |buffer: &mut Buffer, byte| {
            let read = buffer.fill(&mut cx, |_, buf| {
                let n = buf.remaining();
                buf.put_slice(&vec![byte; n]);
                Poll::Ready(Ok(()))
            });
            assert!(read.is_ready());
        };
        fill(&mut buffer, 1);
        buffer.consume(1);
        let most = 3 * SIZE;
        let sizes: Vec<_> = std::iter::from_fn(|| buffer.grow(most).then_some(buffer.bytes.len())).collect();
        assert_eq!(sizes, [2 * SIZE, most]);
        fill(&mut buffer, 2);
        assert_eq!((buffer.data().len(), buffer.is_full()), (most, true));
        assert!(buffer.data()[..SIZE - 1].iter().all(|byte| *byte == 1) && buffer.data()[SIZE - 1] == 2);
        drop(buffer);
        assert!(FREE.with_borrow(|free| free.iter().all(|bytes| bytes.len() == SIZE)));
    }

    #[test]
    fn what_is_read_is_consumed_in_order() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut buffer = Buffer::take();
        for part in ["abc", "de"] {
            let read = buffer.fill(&mut cx, |_, buf| {
                buf.put_slice(part.as_bytes());
                Poll::Ready(Ok(()))
            });
            assert!(matches!(read, Poll::Ready(Ok(n)) if n == part.len()));
        }
        assert_eq!(buffer.data(), b"abcde");
        buffer.consume(2);
        buffer.truncate(2);
        assert_eq!(buffer.data(), b"cd");
        buffer.consume(2);
        assert!(buffer.is_empty());
    }

    #[test]
    fn the_room_of_what_was_consumed_is_used_again() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut buffer = Buffer::take();
        let mut fill = |buffer: &mut Buffer| {
            let read = buffer.fill(&mut cx, |_, buf| {
                let n = buf.remaining();
                buf.put_slice(&vec![1; n]);
                Poll::Ready(Ok(()))
            });
            let Poll::Ready(Ok(n)) = read else { panic!("{read:?}") };
            n
        };
        assert_eq!((fill(&mut buffer), buffer.is_full()), (SIZE, true));
        buffer.consume(10);
        assert_eq!((buffer.is_full(), fill(&mut buffer), buffer.is_full()), (false, 10, true));
        buffer.consume(SIZE);
        assert_eq!(fill(&mut buffer), SIZE);
    }
}
