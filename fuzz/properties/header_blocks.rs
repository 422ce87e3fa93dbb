//! What an HTTP/2 connection's header blocks have, found without a table of their fields.

use evenkeel::fuzzing::{BlockFound, header_blocks};
use loona_hpack::Decoder;

/// What we let others' tables have (RFC 7541 section 4.2).
const TABLE: usize = 4096;

/// Those that HTTP/2 has (RFC 9113 section 8.3, RFC 8441 section 4).
const KNOWN: [&[u8]; 6] = [b"method", b"scheme", b"authority", b"path", b"protocol", b"status"];

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

/// Those before other fields; what is behind them is a fault.
fn in_fields(fields: &[(Vec<u8>, Vec<u8>)]) -> BlockFound {
    let mut found = BlockFound::default();
    for (name, _) in fields.iter().take_while(|(name, _)| name.starts_with(b":")) {
        match name == b":status" {
            true => found.has_status = true,
            false => found.has_others = true,
        }
    }
    let mut has_regular = false;
    found.is_malformed = fields.iter().any(|(name, value)| {
        let is_pseudo = name.starts_with(b":");
        has_regular |= !is_pseudo;
        let is_of_name = |byte: &u8| !byte.is_ascii_uppercase() && (is_token(*byte) || *byte == b'"');
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        match &name[usize::from(is_pseudo)..] {
            b"" if !is_pseudo => true,
            rest if is_pseudo && !KNOWN.contains(&rest) => true,
            rest if !rest.iter().all(is_of_name) => true,
            _ if is_pseudo && has_regular => true,
            b"status" if is_pseudo && value == b"101" => true,
            b"status" if is_pseudo => !matches!(value[..], [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9']),
            _ => !is_pseudo && value.iter().any(is_control),
        }
    });
    found
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
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
