//! Sticky sessions: what a cookie says of the server that its client is bound to, and the secrets by which nobody else can
//! say it.

pub mod keys;
pub mod table;
pub mod token;

pub use keys::{KeyFault, Secret, StickyKeys};
pub use table::{Binding, StickyTable};
