//! What policies do with requests, the same by each version of HTTP.

mod answers;
mod bandwidth;
pub(crate) mod compress;
mod fields;
mod filters;
mod geo;
mod limits;
mod maintenance;
mod matchers;
mod recipes;
mod reloads;
