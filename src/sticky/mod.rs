//! Sticky sessions: what a cookie says of the server that its client is bound to, and the secrets by which nobody else can
//! say it.

pub mod keys;
pub mod table;
pub mod token;

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
