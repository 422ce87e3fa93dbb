//! What pseudo-fields an HTTP/2 connection's header blocks have, found without decoding them.

use evenkeel::fuzzing::{BlockFound, header_blocks};
use loona_hpack::Decoder;

/// What we let others' tables have (RFC 7541 section 4.2).
const TABLE: usize = 4096;

/// In whatever pieces the blocks come, the same is found; and as long as a decoder takes them, it is what that finds.
///
/// The first byte says how long the pieces are. The blocks follow, each behind a byte that says how long it is.
pub(crate) fn of_header_blocks(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let blocks = blocks(bytes);
    let found = header_blocks(blocks.iter().map(|block| [*block]));
    assert_eq!(header_blocks(blocks.iter().map(|block| block.chunks(1))), found, "byte by byte");
    let size = usize::from(*size).max(1);
    assert_eq!(header_blocks(blocks.iter().map(|block| block.chunks(size))), found, "in pieces of {size}");

    let mut decoder = Decoder::new();
    decoder.set_max_allowed_table_size(TABLE);
    // The codec ends a connection with the first that is no header block.
    for (n, (block, found)) in blocks.iter().zip(found).enumerate() {
        let Ok(fields) = decoder.decode(block) else { break };
        assert_eq!(found, in_fields(&fields), "block {n} with {fields:?}");
    }
}

/// Those before other fields; the codec refuses what is behind them, and whatever begins like `:status` and is another.
fn in_fields(fields: &[(Vec<u8>, Vec<u8>)]) -> BlockFound {
    let mut found = BlockFound::default();
    for (name, _) in fields.iter().take_while(|(name, _)| name.starts_with(b":")) {
        match name.starts_with(b":st") {
            true => found.has_status = true,
            false => found.has_others = true,
        }
    }
    found
}

fn blocks(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut blocks = Vec::new();
    while let [length, rest @ ..] = bytes {
        let (block, after) = rest.split_at(usize::from(*length).min(rest.len()));
        blocks.push(block);
        bytes = after;
    }
    blocks
}
