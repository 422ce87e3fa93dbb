//! HTTP as it lies on the wire, as pure functions of bytes: heads, bodies and frames judged; heads written, with what
//! filters change of them.

pub(crate) mod abuse;
pub(crate) mod chunked;
pub(crate) mod edit;
pub(crate) mod fuzzed;
pub(crate) mod http2_frames;
pub(crate) mod http2_head;
pub(crate) mod local_reply;
pub(crate) mod request;
pub(crate) mod request_head;
pub(crate) mod response_head;
mod title;
