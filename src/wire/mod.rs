//! HTTP as it lies on the wire, as pure functions of bytes: heads, bodies and frames judged; heads written, with what
//! filters change of them.

pub(crate) mod abuse;
pub(crate) mod chunked;
pub(crate) mod edit;
mod field_text;
pub(crate) mod frame_judge;
pub(crate) mod fuzzed;
pub(crate) mod head_scan;
pub(crate) mod header_blocks;
pub(crate) mod http2_frames;
pub(crate) mod http2_head;
pub(crate) mod http2_response;
pub(crate) mod local_reply;
pub(crate) mod request;
pub(crate) mod request_head;
pub(crate) mod response_head;
mod title;

/// Bytes that a head has at most: a response's, and a request's that names what is to be purged. Those of other requests are bounded by
/// their listener (`limits.request_headers`). Tags of Magento's pages have more than 64 KiB
/// (<https://github.com/magento/magento2/issues/6401>).
pub(crate) const LONGEST_HEAD: usize = 256 << 10;
/// Of a response's head beyond that.
pub(crate) const RESPONSE_TOO_LONG: &str = "response head longer than 256 KiB";
/// All fields of a response's trailers.
pub(crate) const MOST_TRAILERS: usize = 64 * 1024;
/// Of trailers beyond that.
pub(crate) const TRAILERS_TOO_LONG: &str = "trailers too large";
