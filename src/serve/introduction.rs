//! PROXY headers on the connections of HTTP pools.
//!
//! A header holds for its whole connection, so such a connection serves one client: none is kept and shared.

/// Tells the server that nothing follows this request on its connection: `head` ends with its empty line.
pub(super) fn end_after_this(head: &mut Vec<u8>) {
    head.truncate(head.len() - 2);
    head.extend_from_slice(b"Connection: close\r\n\r\n");
}
