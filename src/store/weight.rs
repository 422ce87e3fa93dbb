//! What bodies take of the memory, as the allocator has it.

use bytes::Bytes;

/// What a piece of a body takes beside its bytes.
pub(super) const PIECE: u64 = 96;

/// What an allocation of so many bytes takes: the allocator has four sizes between a power of two and the next.
fn allocated(bytes: u64) -> u64 {
    match bytes.checked_sub(1).and_then(u64::checked_ilog2) {
        Some(bits @ 2..) => bytes.next_multiple_of(1 << (bits - 2)),
        _ => bytes,
    }
}

/// What the pieces of a body take.
pub(super) fn pieces(body: &[Bytes]) -> u64 {
    body.iter().map(|piece| PIECE + allocated(piece.len() as u64)).sum()
}

#[cfg(test)]
mod tests {
    use super::allocated;

    #[test]
    fn what_is_allocated_is_a_quarter_more_at_most() {
        for (bytes, taken) in [
            (0, 0),
            (1, 1),
            (5, 5),
            (8, 8),
            (9, 10),
            (17, 20),
            (100, 112),
            (16_384, 16_384),
            (16_385, 20_480),
            (20_481, 24_576),
        ] {
            assert_eq!(allocated(bytes), taken, "{bytes}");
        }
        for bytes in 8..100_000 {
            let taken = allocated(bytes);
            assert!(taken >= bytes && taken <= bytes + bytes / 4 + 1, "{bytes}: {taken}");
        }
    }
}
