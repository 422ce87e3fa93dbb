//! Compression of responses: which may be, by what their client takes; and the codings, whose memory is bounded and which give
//! out what they have when they are told to.

mod accept;
mod br;
mod encoder;
mod gzip;
mod verdict;
mod zstd;

pub(crate) use accept::{acceptable, weight};
pub(crate) use encoder::Encoder;
pub use verdict::SkipReason;
pub(crate) use verdict::{DIGESTS, Verdict, has_events, judge};

#[cfg(test)]
mod tests;
