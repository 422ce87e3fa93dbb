//! Sticky sessions: what a cookie says of the server that its client is bound to, and the secrets by which nobody else can
//! say it.

use std::time::Duration;

pub mod keys;
pub mod table;
pub mod token;

/// So long after the beginning of 1970, in whole minutes.
pub fn minute(since_1970: Duration) -> u32 {
    u32::try_from(since_1970.as_secs() / 60).unwrap_or(u32::MAX)
}

/// Between an application's value and ours.
pub const SUFFIX_MARK: u8 = b'~';

/// The two parts of a value that ends with something of the form of our cookies.
pub fn split_suffix(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = value.len().checked_sub(token::LENGTH + 1)?;
    let (own, marked) = value.split_at(at);
    let token = marked.strip_prefix(&[SUFFIX_MARK])?;
    token::has_form(token).then_some((own, token))
}

pub use keys::{KeyFault, Secret, StickyKeys};
pub use table::{Binding, StickyTable};
