//! HTTP as it lies on the wire, as pure functions of bytes: judges of heads, bodies and frames.

pub(crate) mod abuse;
pub(crate) mod chunked;
pub(crate) mod fuzzed;
pub(crate) mod http2_frames;
pub(crate) mod http2_head;
pub(crate) mod request_head;
