//! evenkeel: a layer-4/7 load balancer with health checking.

pub mod access_log;
pub mod acme;
mod admin;
pub mod api;
mod cache;
pub mod cli;
pub mod client_hello;
pub mod compress;
pub mod config;
mod control;
pub mod cookie;
mod dial;
pub mod discover;
mod disk;
mod edge;
pub mod events;
pub mod explain;
pub mod fields;
pub mod files;
mod filter;
pub mod geo;
mod geo_files;
pub mod guard;
pub mod history;
pub mod host;
pub mod limit;
pub mod log;
pub mod memory;
pub mod metrics;
mod network_files;
pub mod networks;
pub mod operate;
pub mod origination;
mod page_files;
pub mod policy;
pub mod pool;
pub mod preview;
pub mod probe;
pub mod proxy_header;
mod purge_nodes;
pub mod route;
pub mod select;
mod serve;
mod server;
pub mod snapshot;
pub mod sticky;
mod sticky_files;
pub mod store;
pub mod template;
pub mod text;
mod tls;
mod token;
mod token_files;
pub mod top;
pub mod units;
pub mod websocket;
mod wire;

/// What the fuzz targets (`fuzz/`) and `tests/fuzz_corpus.rs` call of the private rooms. For nobody else.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::config::fuzzed::*;
    pub use crate::serve::fuzzed::*;
    pub use crate::wire::fuzzed::*;
}
